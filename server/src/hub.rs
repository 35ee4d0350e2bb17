//! The picture as browsers see it, and the events that changed it last.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use signalbox_api::cell::{Cell, CellKey};
use signalbox_api::state::{Event, Snapshot};
use tokio::sync::watch;

use crate::matrix::core::Counts;

/// Events that are kept for those who lost the connection.
const KEPT_EVENTS: usize = 4_096;
/// Bytes that they may take together.
const KEPT_BYTES: usize = 8 * 1024 * 1024;

/// The picture. Written by one task, read by every browser's.
pub struct Hub {
    inner: Mutex<Inner>,
    seq: watch::Sender<u64>,
}

/// One event, ready to be sent.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its number.
    pub seq: u64,
    /// The event as JSON.
    pub json: Arc<str>,
    /// The event itself, for those who see a part of it.
    pub event: Arc<Event>,
}

struct Inner {
    /// Everything but the cells.
    picture: Snapshot,
    cells: BTreeMap<CellKey, Cell>,
    kept: VecDeque<Kept>,
    bytes: usize,
    counts: Counts,
}

impl Hub {
    /// Starts to number after `first`: a number that no earlier server of this cluster has given.
    pub fn new(cluster: String, first: u64) -> Self {
        let picture =
            Snapshot { seq: first, cluster, version: env!("CARGO_PKG_VERSION").to_owned(), ..Snapshot::default() };
        let inner =
            Inner { picture, cells: BTreeMap::new(), kept: VecDeque::new(), bytes: 0, counts: Counts::default() };
        Self { inner: Mutex::new(inner), seq: watch::channel(first).0 }
    }

    /// Takes events over into the picture and passes them on.
    pub fn publish(&self, events: Vec<Event>, counts: &Counts) {
        let mut inner = self.lock();
        if inner.counts != *counts {
            inner.counts.clone_from(counts);
        }
        if events.is_empty() {
            return;
        }
        for event in events {
            let event = Arc::new(event);
            inner.keep(&event);
            inner.apply(Arc::unwrap_or_clone(event));
        }
        let seq = inner.picture.seq;
        drop(inner);
        self.seq.send_replace(seq);
    }

    /// The whole picture, as one client may see it.
    pub fn snapshot(&self, writable: bool) -> Snapshot {
        let inner = self.lock();
        let mut snapshot = inner.picture.clone();
        snapshot.cells = inner.cells.values().cloned().collect();
        snapshot.writable = writable;
        snapshot
    }

    /// What is wrong with the server's sight.
    pub fn problems(&self) -> Vec<String> {
        self.lock().picture.problems.clone()
    }

    /// The names of the cluster's namespaces.
    pub fn namespaces(&self) -> BTreeSet<String> {
        self.lock().picture.namespaces.iter().map(|namespace| namespace.name.clone()).collect()
    }

    /// How many cells there are of those that are wanted.
    pub fn count_cells(&self, wanted: impl Fn(&CellKey) -> bool) -> u32 {
        let count = self.lock().cells.keys().filter(|key| wanted(key)).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// The events after `seq`; `None` where they are no longer, or not yet, known.
    pub fn after(&self, seq: u64) -> Option<Vec<Kept>> {
        let inner = self.lock();
        if seq > inner.picture.seq {
            return None;
        }
        let oldest = inner.kept.front().map_or(inner.picture.seq + 1, |kept| kept.seq);
        if seq + 1 < oldest {
            return None;
        }
        Some(inner.kept.iter().filter(|kept| kept.seq > seq).cloned().collect())
    }

    /// Tells when there is something new.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.seq.subscribe()
    }

    /// Whether the cluster is the lesson's.
    pub fn has_lesson(&self) -> bool {
        !self.lock().picture.lesson.is_empty()
    }

    /// Numbers for `/metrics`.
    pub fn counts(&self) -> Counts {
        self.lock().counts.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics half-way through a change that matters more than going on.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn keep(&mut self, event: &Arc<Event>) {
        let json: Arc<str> = match serde_json::to_string(&**event) {
            Ok(json) => json.into(),
            Err(error) => {
                tracing::error!(%error, "an event cannot be written as JSON");
                return;
            }
        };
        self.picture.seq += 1;
        self.bytes += json.len();
        self.kept.push_back(Kept { seq: self.picture.seq, json, event: event.clone() });
        while self.kept.len() > KEPT_EVENTS || (self.bytes > KEPT_BYTES && self.kept.len() > 1) {
            if let Some(oldest) = self.kept.pop_front() {
                self.bytes -= oldest.json.len();
            }
        }
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Snapshot(snapshot) => self.picture = *snapshot,
            Event::Cells(cells) => self.cells.extend(cells.into_iter().map(|cell| (cell.key.clone(), cell))),
            Event::CellsGone(keys) => keys.iter().for_each(|key| {
                self.cells.remove(key);
            }),
            Event::Flows(_) => {}
            Event::Endpoints(endpoints) => self.picture.endpoints = endpoints,
            Event::Namespaces(namespaces) => self.picture.namespaces = namespaces,
            Event::Policies(policies) => self.picture.policies = policies,
            Event::Dns(dns) => self.picture.dns = dns,
            Event::Round(round) => self.picture.round = round,
            Event::Enforcers(enforcers) => self.picture.enforcers = enforcers,
            Event::Enforcement(enforcement) => self.picture.enforcement = enforcement,
            Event::Lesson(lesson) => self.picture.lesson = lesson,
            Event::Problems(problems) => self.picture.problems = problems,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(hub: &Hub, problem: &str) {
        hub.publish(vec![Event::Problems(vec![problem.to_owned()])], &Counts::default());
    }

    #[test]
    fn who_lost_the_connection_gets_what_was_missed_or_starts_anew() {
        let hub = Hub::new("lab".to_owned(), 1_000);
        publish(&hub, "one");
        publish(&hub, "two");
        let missed = |seq| hub.after(seq).map(|events| events.iter().map(|kept| kept.seq).collect::<Vec<_>>());
        let cases = [
            (999, None),
            (1_000, Some(vec![1_001, 1_002])),
            (1_001, Some(vec![1_002])),
            (1_002, Some(vec![])),
            (1_003, None),
        ];
        for (seq, expected) in cases {
            assert_eq!(missed(seq), expected, "{seq}");
        }
        assert_eq!(hub.snapshot(false).problems, ["two"]);
        assert_eq!(hub.snapshot(true).seq, 1_002);
    }

    #[test]
    fn the_window_is_bounded() {
        let hub = Hub::new("lab".to_owned(), 0);
        for _ in 0..KEPT_EVENTS + 5 {
            publish(&hub, "x");
        }
        assert!(hub.after(4).is_none());
        assert_eq!(hub.after(5).map(|events| events.len()), Some(KEPT_EVENTS));
    }
}
