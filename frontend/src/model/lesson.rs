//! Which step is in force, and the lesson's checks counted from the cells.

use std::collections::BTreeMap;

use signalbox_api::cell::{Cell, Outcome};
use signalbox_api::flow::Protocol;
use signalbox_api::state::{EndpointKind, LessonStep, PolicyInfo};

use super::directory::Directory;

/// Where the lesson's policies are.
pub const NAMESPACES: [&str; 2] = ["backend", "frontend"];

/// The step that is in force: the last that is applied. Step 0 applies nothing, and is in force only where no policy is that could shut
/// its cells; `None` where policies are that no step has.
pub fn current(steps: &[LessonStep], policies: &[PolicyInfo]) -> Option<u32> {
    let step = steps.iter().rev().find(|step| step.applied)?;
    // A policy of the cluster has no namespace.
    let touches = |policy: &PolicyInfo| policy.namespace.is_empty() || NAMESPACES.contains(&policy.namespace.as_str());
    let is_true = !step.yaml.trim().is_empty() || !policies.iter().any(touches);
    is_true.then_some(step.number)
}

/// How many of the demo script's connections are open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Open ones.
    pub open: usize,
    /// All of them.
    pub all: usize,
    /// Those whose facts disagree.
    pub disagree: usize,
    /// Those that were not tried yet, or of which nothing is known.
    pub unknown: usize,
}

/// Names a check: workload, destination, port.
type Name<'a> = (&'a str, &'a str, u16, Protocol);

/// Pods to Services, pods to the outside, the outside to Services: the same checks as those of `signalbox test`. A
/// workload counts once, whatever the number of its pods, and is open only if it is so from all of them; a host outside
/// counts by its first port.
pub fn tally<'a>(directory: &Directory, cells: impl Iterator<Item = &'a Cell>) -> Tally {
    let mut checks: BTreeMap<Name, (bool, bool, bool)> = BTreeMap::new();
    for cell in cells {
        let Some(from) = directory.get(&cell.key.from) else { continue };
        let Some(to) = directory.get(&cell.key.to) else { continue };
        let counts = match (from.kind, to.kind) {
            (EndpointKind::Pod, EndpointKind::Service | EndpointKind::Outside) => true,
            (EndpointKind::Outside, EndpointKind::Service) => true,
            (EndpointKind::Pod | EndpointKind::Service | EndpointKind::Outside, _) => false,
        };
        let other_port = to.kind == EndpointKind::Outside
            && to.ports.first().is_some_and(|first| (first.port, first.protocol) != (cell.key.port, cell.key.protocol));
        if !counts || other_port {
            continue;
        }
        let outcome = cell.probe.as_ref().map(|probe| probe.outcome);
        let key = (from.workload.as_str(), to.id.as_str(), cell.key.port, cell.key.protocol);
        let check = checks.entry(key).or_insert((true, false, false));
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

    /// The bar said "0 Wide open, in force" while policies of no step shut cells.
    #[test]
    fn what_no_step_equals_is_not_called_wide_open() {
        let step = |number: u32, yaml: &str, applied: bool| LessonStep {
            number,
            title: String::new(),
            text: String::new(),
            yaml: yaml.to_owned(),
            applied,
        };
        let at = |applied: [bool; 2]| vec![step(0, "", true), step(1, "a", applied[0]), step(2, "b", applied[1])];
        let own = sample::zero_trust().policies;
        assert_eq!(current(&at([false, false]), &[]), Some(0));
        assert_eq!(current(&at([false, false]), &own), None);
        assert_eq!(current(&at([true, false]), &own), Some(1));
        assert_eq!(current(&at([true, true]), &own), Some(2));
        let elsewhere = |namespace: &str| PolicyInfo { namespace: namespace.to_owned(), ..own[0].clone() };
        assert_eq!(current(&at([false, false]), &[elsewhere("shop")]), Some(0), "it touches none of the lesson's pods");
        assert_eq!(current(&at([false, false]), &[elsewhere("")]), None, "a policy of the whole cluster");
        assert_eq!(current(&[], &own), None);
    }

    #[test]
    fn a_host_counts_by_its_first_port() {
        for (port, open, unknown) in [(80, 17, 1), (443, 18, 0)] {
            let mut snapshot = sample::wide_open();
            let mut cells = snapshot.cells.iter_mut();
            let cell = cells.find(|cell| cell.key.to == "outside:internet" && cell.key.port == port);
            cell.expect("there is one").probe = None;
            assert_eq!(count(snapshot), Tally { open, all: 18, disagree: 0, unknown }, "{port}");
        }
    }

    #[test]
    fn a_workload_counts_once_and_only_with_all_its_pods() {
        let mut snapshot = sample::wide_open();
        let web =
            |one: &&signalbox_api::state::Endpoint| one.workload == "frontend/web" && one.kind == EndpointKind::Pod;
        let mut second = snapshot.endpoints.iter().find(web).expect("web has a pod").clone();
        let first = std::mem::replace(&mut second.id, "pod:frontend/web-second".to_owned());
        let own: Vec<_> = snapshot.cells.iter().filter(|cell| cell.key.from == first).cloned().collect();
        for mut cell in own {
            cell.key.from.clone_from(&second.id);
            snapshot.cells.push(cell);
        }
        snapshot.endpoints.push(second);
        assert_eq!(count(snapshot.clone()), Tally { open: 18, all: 18, disagree: 0, unknown: 0 });
        let mut own = snapshot.cells.iter_mut().filter(|cell| cell.key.from.ends_with("-second"));
        let cell = own.find(|cell| cell.key.to == "outside:database").expect("it tries the database");
        cell.probe.as_mut().expect("it is probed").outcome = Outcome::Dropped;
        assert_eq!(count(snapshot), Tally { open: 17, all: 18, disagree: 0, unknown: 0 });
    }
}
