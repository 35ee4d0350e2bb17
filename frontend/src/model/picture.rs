//! The state that the page shows, and how an event changes it.

use std::collections::HashMap;
use std::sync::Arc;

use signalbox_api::cell::{Cell, CellKey};
use signalbox_api::kernel::EnforcerStatus;
use signalbox_api::session::Viewer;
use signalbox_api::state::{
    DnsFact, Endpoint, Enforcement, Event, FlowPulse, LessonStep, NamespaceInfo, PolicyInfo, RoundInfo, Snapshot,
};

/// A cell, and how often it changed under the reader's eyes.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The cell.
    pub cell: Cell,
    /// Changes of outcome or decision since the page was opened.
    pub changes: u32,
    /// When the last of them arrived, by the browser's clock; 0 before the first.
    pub changed_at_ms: f64,
}

/// What the server calls itself, and what it lets this client do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Station {
    /// `lab` or the cluster's name.
    pub cluster: String,
    /// Signalbox's version.
    pub version: String,
    /// This client may change things.
    pub writable: bool,
    /// Whom the server takes the reader for; absent where it tells no users apart.
    pub viewer: Option<Viewer>,
}

/// The whole state.
#[derive(Clone, Debug, Default)]
pub struct Picture {
    /// Who serves it.
    pub station: Station,
    /// Namespaces.
    pub namespaces: Arc<Vec<NamespaceInfo>>,
    /// Endpoints.
    pub endpoints: Arc<Vec<Endpoint>>,
    /// Policies, by namespace and name.
    pub policies: Arc<Vec<PolicyInfo>>,
    /// DNS facts.
    pub dns: Arc<Vec<DnsFact>>,
    /// The round.
    pub round: Arc<RoundInfo>,
    /// Enforcers.
    pub enforcers: Arc<Vec<EnforcerStatus>>,
    /// Whether anybody enforces.
    pub enforcement: Enforcement,
    /// The lesson.
    pub lesson: Arc<Vec<LessonStep>>,
    /// What is wrong with the server's sight.
    pub problems: Arc<Vec<String>>,
    /// Cells.
    pub cells: HashMap<CellKey, Arc<Entry>>,
}

/// A part of the picture that is replaced as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// [`Picture::station`].
    Station,
    /// [`Picture::namespaces`].
    Namespaces,
    /// [`Picture::endpoints`].
    Endpoints,
    /// [`Picture::policies`].
    Policies,
    /// [`Picture::dns`].
    Dns,
    /// [`Picture::round`].
    Round,
    /// [`Picture::enforcers`].
    Enforcers,
    /// [`Picture::enforcement`].
    Enforcement,
    /// [`Picture::lesson`].
    Lesson,
    /// [`Picture::problems`].
    Problems,
}

/// What an event changed: only that need be drawn again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// Parts with a new content.
    pub parts: Vec<Part>,
    /// Cells that are new, changed or gone.
    pub cells: Vec<CellKey>,
    /// There are other cells than before, so rows or columns may be others.
    pub shape: bool,
    /// Connections that were just tried.
    pub flows: Vec<FlowPulse>,
}

impl Picture {
    /// Takes an event in. `now_ms` is the browser's clock.
    pub fn apply(&mut self, event: Event, now_ms: f64) -> Changes {
        let mut changes = Changes::default();
        match event {
            Event::Snapshot(snapshot) => self.restart(*snapshot, now_ms, &mut changes),
            Event::Cells(cells) => {
                for cell in cells {
                    self.put_cell(cell, now_ms, &mut changes);
                }
            }
            Event::CellsGone(keys) => {
                for key in keys {
                    self.drop_cell(key, &mut changes);
                }
            }
            Event::Flows(flows) => changes.flows = flows,
            Event::Endpoints(new) => put(&mut self.endpoints, new, Part::Endpoints, &mut changes),
            Event::Namespaces(new) => put(&mut self.namespaces, new, Part::Namespaces, &mut changes),
            Event::Policies(new) => self.put_policies(new, &mut changes),
            Event::Dns(new) => put(&mut self.dns, new, Part::Dns, &mut changes),
            Event::Round(new) => put(&mut self.round, new, Part::Round, &mut changes),
            Event::Enforcers(new) => put(&mut self.enforcers, new, Part::Enforcers, &mut changes),
            Event::Enforcement(new) => self.put_enforcement(new, &mut changes),
            Event::Lesson(new) => put(&mut self.lesson, new, Part::Lesson, &mut changes),
            Event::Problems(new) => put(&mut self.problems, new, Part::Problems, &mut changes),
        }
        changes
    }

    fn put_enforcement(&mut self, new: Enforcement, changes: &mut Changes) {
        if std::mem::replace(&mut self.enforcement, new) != new {
            changes.parts.push(Part::Enforcement);
        }
    }

    fn restart(&mut self, snapshot: Snapshot, now_ms: f64, changes: &mut Changes) {
        let Snapshot {
            seq: _,
            cluster,
            version,
            writable,
            viewer,
            namespaces,
            endpoints,
            cells,
            policies,
            dns,
            round,
            enforcers,
            enforcement,
            lesson,
            problems,
        } = snapshot;
        let station = Station { cluster, version, writable, viewer };
        if self.station != station {
            self.station = station;
            changes.parts.push(Part::Station);
        }
        put(&mut self.namespaces, namespaces, Part::Namespaces, changes);
        put(&mut self.endpoints, endpoints, Part::Endpoints, changes);
        self.put_policies(policies, changes);
        put(&mut self.dns, dns, Part::Dns, changes);
        put(&mut self.round, round, Part::Round, changes);
        put(&mut self.enforcers, enforcers, Part::Enforcers, changes);
        self.put_enforcement(enforcement, changes);
        put(&mut self.lesson, lesson, Part::Lesson, changes);
        put(&mut self.problems, problems, Part::Problems, changes);

        let kept: std::collections::HashSet<CellKey> = cells.iter().map(|cell| cell.key.clone()).collect();
        let gone: Vec<CellKey> = self.cells.keys().filter(|key| !kept.contains(*key)).cloned().collect();
        for key in gone {
            self.drop_cell(key, changes);
        }
        for cell in cells {
            self.put_cell(cell, now_ms, changes);
        }
    }

    fn put_policies(&mut self, mut new: Vec<PolicyInfo>, changes: &mut Changes) {
        new.sort_by(|a, b| (&a.namespace, &a.name, &a.kind).cmp(&(&b.namespace, &b.name, &b.kind)));
        put(&mut self.policies, new, Part::Policies, changes);
    }

    fn put_cell(&mut self, cell: Cell, now_ms: f64, changes: &mut Changes) {
        let key = cell.key.clone();
        let entry = match self.cells.get(&key) {
            None => {
                changes.shape = true;
                Entry { cell, changes: 0, changed_at_ms: 0.0 }
            }
            Some(old) if old.cell == cell => return,
            Some(old) if face(&old.cell) == face(&cell) => {
                Entry { cell, changes: old.changes, changed_at_ms: old.changed_at_ms }
            }
            Some(old) => Entry { cell, changes: old.changes.wrapping_add(1), changed_at_ms: now_ms },
        };
        self.cells.insert(key.clone(), Arc::new(entry));
        changes.cells.push(key);
    }

    fn drop_cell(&mut self, key: CellKey, changes: &mut Changes) {
        if self.cells.remove(&key).is_some() {
            changes.shape = true;
            changes.cells.push(key);
        }
    }
}

/// What of a cell is worth a reader's glance when it changes.
fn face(cell: &Cell) -> impl PartialEq + use<> {
    (
        cell.probe.as_ref().map(|probe| probe.outcome),
        super::look::shut(cell).map(|shut| (shut.direction, shut.policies)),
        cell.agreement == signalbox_api::cell::Agreement::Disagree,
    )
}

fn put<T: PartialEq>(old: &mut Arc<T>, new: T, part: Part, changes: &mut Changes) {
    if **old != new {
        *old = Arc::new(new);
        changes.parts.push(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sample;

    #[test]
    fn a_snapshot_after_a_gap_changes_only_what_differs() {
        let mut picture = Picture::default();
        let first = picture.apply(Event::Snapshot(Box::new(sample::zero_trust())), 1.0);
        assert!(first.shape);
        assert!(first.parts.contains(&Part::Endpoints));

        let again = picture.apply(Event::Snapshot(Box::new(sample::zero_trust())), 2.0);
        assert_eq!(again, Changes::default());

        let mut later = sample::zero_trust();
        let gone = later.cells.remove(0).key;
        later.cells[0].agreement = signalbox_api::cell::Agreement::Disagree;
        let moved = later.cells[0].key.clone();
        let third = picture.apply(Event::Snapshot(Box::new(later)), 3.0);
        assert_eq!(third.cells, vec![gone.clone(), moved.clone()]);
        assert!(third.shape);
        assert!(!picture.cells.contains_key(&gone));
        assert_eq!(picture.cells[&moved].changes, 1);
        assert_eq!(picture.cells[&moved].changed_at_ms, 3.0);
    }

    #[test]
    fn a_new_latency_is_no_change_of_the_face() {
        let mut picture = Picture::default();
        picture.apply(Event::Snapshot(Box::new(sample::wide_open())), 1.0);
        let mut cell = sample::wide_open().cells[0].clone();
        cell.probe.as_mut().expect("the sample is probed").latency_us = Some(77);
        let changes = picture.apply(Event::Cells(vec![cell.clone()]), 5.0);
        assert_eq!(changes.cells, vec![cell.key.clone()]);
        assert!(!changes.shape);
        assert_eq!(picture.cells[&cell.key].changes, 0);
    }

    #[test]
    fn flows_pass_through_and_change_nothing() {
        let mut picture = Picture::default();
        picture.apply(Event::Snapshot(Box::new(sample::wide_open())), 1.0);
        let key = sample::wide_open().cells[0].key.clone();
        let pulse = FlowPulse { key, outcome: signalbox_api::cell::Outcome::Open, stopped_at: None };
        let changes = picture.apply(Event::Flows(vec![pulse.clone()]), 2.0);
        assert_eq!(changes, Changes { flows: vec![pulse], ..Changes::default() });
    }

    #[test]
    fn policies_are_kept_in_order() {
        let mut picture = Picture::default();
        let mut policies = sample::zero_trust().policies;
        policies.reverse();
        picture.apply(Event::Policies(policies), 1.0);
        let names: Vec<_> = picture.policies.iter().map(|policy| policy.namespace.as_str()).collect();
        assert_eq!(names, ["backend", "frontend"]);
    }
}
