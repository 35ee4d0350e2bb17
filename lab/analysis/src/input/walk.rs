//! Folders, from top to bottom.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// How many manifests one folder may hold.
const MAX_FILES: usize = 200_000;

/// How deep folders may lie in each other. It bounds what no real folder reaches.
const MAX_DEPTH: usize = 64;

/// All manifests in a folder and those in it, sorted by path. A folder that several links lead to is read once, so that a
/// loop of links ends.
pub(super) fn manifests(root: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    let mut seen = HashSet::new();
    let mut open = vec![(root.to_owned(), 0_usize)];
    while let Some((folder, depth)) = open.pop() {
        let read = |source| Error::Read { path: folder.clone(), source };
        if depth > MAX_DEPTH || !seen.insert(folder.canonicalize().map_err(read)?) {
            continue;
        }
        for entry in std::fs::read_dir(&folder).map_err(read)? {
            let path = entry.map_err(read)?.path();
            // A link that leads nowhere is no manifest.
            let Ok(about) = std::fs::metadata(&path) else { continue };
            if about.is_dir() && !is_hidden(&path) {
                open.push((path, depth + 1));
            } else if about.is_file() && is_manifest(&path) {
                files.push(path);
            }
            if files.len() > MAX_FILES {
                return Err(Error::TooManyFiles { path: root.to_owned(), max: MAX_FILES });
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Version control and editors keep their own things in hidden folders.
fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    extension.is_some_and(|extension| ["yaml", "yml", "json"].contains(&extension.as_str()))
}
