//! The only way to take the programs off a node: nothing else detaches what is pinned.

use std::{fmt, path::PathBuf};

use crate::{config::Config, error::Error, links, netns::Netns, pins};

/// What an uninstallation removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Programs and qdiscs that stood on interfaces, one phrase each.
    pub detached: Vec<String>,
    /// Folders and files of pins.
    pub pins: Vec<PathBuf>,
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.detached.is_empty() && self.pins.is_empty() {
            return writeln!(out, "nothing was installed");
        }
        self.detached.iter().try_for_each(|what| writeln!(out, "detached: {what}"))?;
        self.pins.iter().try_for_each(|path| writeln!(out, "removed: {}", path.display()))
    }
}

/// Takes all programs off the node's interfaces and removes the pins of every schema. Policies are not enforced any more.
/// `config` names the node's namespace and the folder of the pins, [`Config::PINS`] where it names none.
///
/// # Errors
///
/// When an agent still runs, or the kernel refuses. What was removed by then stays removed: call it again.
pub fn uninstall(config: &Config) -> Result<Report, Error> {
    let root = config.pins.clone().unwrap_or_else(|| PathBuf::from(Config::PINS));
    let netns = Netns::open(config.netns.as_deref())?;
    let _lock = pins::lock(&root)?;
    let sets = pins::sets(&root);
    let detached = links::remove_all(&netns, &sets)?;
    let mut gone = sets;
    gone.extend(pins::flows(&root));
    gone.iter().try_for_each(|path| pins::remove(path))?;
    pins::remove(&root)?;
    Ok(Report { detached, pins: gone })
}
