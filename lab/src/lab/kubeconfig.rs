//! The kubeconfig file that the lab writes for `kubectl`.

use std::fs;
use std::io;
use std::path::Path;

use kube::config::Kubeconfig;

use super::error::Error;
use super::state::write_private;
use crate::entry::ServerEntry;

/// Refuses a file that somebody else has written.
pub(crate) fn check_ours(path: &Path) -> Result<(), Error> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(source) if source.kind() == io::ErrorKind::NotFound => {
            // Without its folder it could never be written: told before anything is made.
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            return match folder {
                Some(folder) if !folder.is_dir() => Err(Error::Kubeconfig { path: path.to_owned(), source }),
                Some(_) | None => Ok(()),
            };
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(Error::ForeignKubeconfig(path.to_owned()));
        }
        Err(source) => return Err(Error::Kubeconfig { path: path.to_owned(), source }),
    };
    let ours = Kubeconfig::from_yaml(&text).is_ok_and(|kubeconfig| ServerEntry::find(&kubeconfig).is_some());
    if ours || text.trim().is_empty() { Ok(()) } else { Err(Error::ForeignKubeconfig(path.to_owned())) }
}

/// Writes it in one step, for the owner's eyes only.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), Error> {
    write_private(path, text.as_bytes()).map_err(|source| Error::Kubeconfig { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts:\n- name: a\n  context:\n    cluster: a\n    user: a\n    extensions:\n    - name: signalbox.dev\n      extension: {server: 'http://127.0.0.1:1', token: t}\n";

    #[test]
    fn only_our_own_file_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let cases: &[(&str, Option<&str>, bool)] = &[
            ("no file", None, true),
            ("an empty one", Some(""), true),
            ("ours", Some(OURS), true),
            ("somebody's kubeconfig", Some("apiVersion: v1\nkind: Config\nclusters: []\n"), false),
            ("no kubeconfig at all", Some("dear diary: [\n"), false),
        ];
        for (name, text, allowed) in cases {
            let path = folder.path().join(name);
            if let Some(text) = text {
                fs::write(&path, text).unwrap();
            }
            assert_eq!(check_ours(&path).is_ok(), *allowed, "{name}");
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_told_before_anything_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let message = check_ours(&folder.path().join("nowhere/kubeconfig")).unwrap_err().to_string();
        assert!(message.contains("choose a file in a folder that is there"), "{message}");
    }
}
