//! `signalbox plugin`: the same program as a plugin of `kubectl`, which finds its plugins by their names.

use std::path::PathBuf;
use std::process::ExitCode;

use super::complain;

/// What `kubectl signalbox` runs.
pub(super) const NAME: &str = "kubectl-signalbox";

const EXAMPLES: &str = "\
Examples:
  sudo signalbox plugin install /usr/local/bin
  kubectl signalbox why frontend/web backend/dbsvc:9000
  kubectl signalbox watch -n backend";

/// Make this program a plugin of kubectl
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Put a link `kubectl-signalbox` to this program into a folder of $PATH
    Install {
        /// The folder
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

/// Why it is no plugin.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot tell where this program lies: {0}")]
    Whereabouts(std::io::Error),
    #[error("{} is there already, and no link of Signalbox's: remove it, or choose another folder", .0.display())]
    Taken(PathBuf),
    #[error("cannot make the link {}: {source}; choose a folder that is there and that you may write to", path.display())]
    Link { path: PathBuf, source: std::io::Error },
}

pub(super) fn run(args: &Args) -> ExitCode {
    let Action::Install { folder } = &args.action;
    match install(folder) {
        Ok(path) => {
            println!("{}", path.display());
            let found =
                std::env::var_os("PATH").is_some_and(|all| std::env::split_paths(&all).any(|one| one == *folder));
            if !found {
                eprintln!("note: {} is not in $PATH: kubectl finds the plugin once it is", folder.display());
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn install(folder: &std::path::Path) -> Result<PathBuf, Error> {
    let program = std::env::current_exe().map_err(Error::Whereabouts)?;
    let path = folder.join(NAME);
    match std::fs::symlink_metadata(&path) {
        Ok(found) if found.is_symlink() => {
            std::fs::remove_file(&path).map_err(|source| Error::Link { path: path.clone(), source })?;
        }
        Ok(_) => return Err(Error::Taken(path)),
        Err(_missing) => {}
    }
    std::os::unix::fs::symlink(program, &path).map_err(|source| Error::Link { path: path.clone(), source })?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_made_and_renewed_and_nobody_elses_file_is_touched() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let path = install(folder.path()).unwrap();
            assert_eq!(std::fs::read_link(path).unwrap(), std::env::current_exe().unwrap());
        }
        std::fs::remove_file(folder.path().join(NAME)).unwrap();
        std::fs::write(folder.path().join(NAME), "mine").unwrap();
        assert!(matches!(install(folder.path()), Err(Error::Taken(_))));
        assert!(matches!(install(&folder.path().join("nowhere")), Err(Error::Link { .. })));
    }
}
