//! The lesson's checks, counted from the cells.

use std::collections::BTreeMap;

use signalbox_api::cell::{Cell, Outcome};
use signalbox_api::state::EndpointKind;

use super::directory::Directory;

/// How many of the demo script's connections are open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Open ones; a host with several ports counts once, and only if all of them are open.
    pub open: usize,
    /// All of them.
    pub all: usize,
    /// Those whose facts disagree.
    pub disagree: usize,
    /// Those that were not tried yet, or of which nothing is known.
    pub unknown: usize,
}

/// Pods to Services, pods to the outside, the outside to Services.
pub fn tally<'a>(directory: &Directory, cells: impl Iterator<Item = &'a Cell>) -> Tally {
    let mut checks: BTreeMap<(&str, &str), (bool, bool, bool)> = BTreeMap::new();
    for cell in cells {
        let Some(from) = directory.get(&cell.key.from) else { continue };
        let Some(to) = directory.get(&cell.key.to) else { continue };
        let counts = match (from.kind, to.kind) {
            (EndpointKind::Pod, EndpointKind::Service | EndpointKind::Outside) => true,
            (EndpointKind::Outside, EndpointKind::Service) => true,
            (EndpointKind::Pod | EndpointKind::Service | EndpointKind::Outside, _) => false,
        };
        if !counts {
            continue;
        }
        let outcome = cell.probe.as_ref().map(|probe| probe.outcome);
        let check = checks.entry((from.id.as_str(), to.id.as_str())).or_insert((true, false, false));
        check.0 &= outcome == Some(Outcome::Open);
        check.1 |= cell.agreement == signalbox_api::cell::Agreement::Disagree;
        check.2 |= outcome.is_none_or(|outcome| outcome.decision().is_none());
    }
    Tally {
        open: checks.values().filter(|check| check.0).count(),
        all: checks.len(),
        disagree: checks.values().filter(|check| check.1).count(),
        unknown: checks.values().filter(|check| check.2).count(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sample;
    use signalbox_api::state::Snapshot;
    use std::sync::Arc;

    fn count(snapshot: Snapshot) -> Tally {
        tally(&Directory::new(Arc::new(snapshot.endpoints)), snapshot.cells.iter())
    }

    #[test]
    fn lesson_one_has_eighteen_checks() {
        assert_eq!(count(sample::wide_open()), Tally { open: 18, all: 18, disagree: 0, unknown: 0 });
        assert_eq!(count(sample::zero_trust()), Tally { open: 0, all: 18, disagree: 0, unknown: 0 });
    }

    #[test]
    fn a_host_is_open_only_with_all_its_ports() {
        let mut snapshot = sample::wide_open();
        let cell = snapshot.cells.iter_mut().find(|cell| cell.key.to == "outside:internet").expect("there is one");
        cell.probe = None;
        assert_eq!(count(snapshot), Tally { open: 17, all: 18, disagree: 0, unknown: 1 });
    }
}
