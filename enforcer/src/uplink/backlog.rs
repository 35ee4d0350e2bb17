//! Verdicts that wait for the server. Bounded: what finds no room is counted, exactly, and so is what falls while there is no stream. What a
//! server would be told later is of no use to it: it matches verdicts with probes that it has just sent.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use signalbox_api::kernel::FlowEvent;
use tokio::sync::Notify;

/// Verdicts that may wait.
const ROOM: usize = 16_384;

/// All that wait. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Backlog {
    inner: Arc<Mutex<Inner>>,
    news: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Inner {
    /// There is a stream.
    is_open: bool,
    events: VecDeque<FlowEvent>,
    /// Verdicts that fell, whatever became of them; those that wait are the newest of them.
    fallen: u64,
    /// Those that were never handed out.
    left_out: u64,
    /// What the server has to be told of: verdicts that are in no frame.
    is_gap: bool,
}

/// What the server is told next.
#[derive(Debug, PartialEq)]
pub struct Batch {
    /// How many fell before them.
    pub before: u64,
    /// Verdicts, in order.
    pub events: Vec<FlowEvent>,
}

impl Backlog {
    /// A verdict fell.
    pub fn push(&self, event: FlowEvent) {
        let mut inner = self.lock();
        inner.fallen += 1;
        if !inner.is_open {
            inner.left_out += 1;
            inner.is_gap = true;
            return;
        }
        if inner.events.len() >= ROOM {
            // The newest ones are those that somebody waits for; and what waits stays without gaps.
            inner.events.pop_front();
            inner.left_out += 1;
            inner.is_gap = true;
        }
        inner.events.push_back(event);
        drop(inner);
        self.news.notify_one();
    }

    /// Verdicts fell that could not be read in time.
    pub fn missed(&self, count: u64) {
        let mut inner = self.lock();
        // What waits fell before them: it would be counted wrongly after.
        let waited = inner.events.len() as u64;
        inner.events.clear();
        inner.fallen += count;
        inner.left_out += count + waited;
        inner.is_gap = true;
        drop(inner);
        self.news.notify_one();
    }

    /// There is a stream from now on: verdicts wait for it.
    pub fn open(&self) {
        self.lock().is_open = true;
    }

    /// There is none any more: what waits is left out.
    pub fn close(&self) {
        let mut inner = self.lock();
        inner.is_open = false;
        let waited = inner.events.len() as u64;
        inner.events.clear();
        inner.left_out += waited;
        inner.is_gap |= waited > 0;
    }

    /// Takes what is to be told, `most` verdicts of it; `None`: nothing.
    pub fn take(&self, most: usize) -> Option<Batch> {
        let mut inner = self.lock();
        let before = inner.fallen - inner.events.len() as u64;
        if inner.events.is_empty() && !std::mem::take(&mut inner.is_gap) {
            return None;
        }
        inner.is_gap = false;
        let count = inner.events.len().min(most);
        Some(Batch { before, events: inner.events.drain(..count).collect() })
    }

    /// Waits until there may be something to take.
    pub async fn changed(&self) {
        self.news.notified().await;
    }

    /// How many wait.
    pub fn waiting(&self) -> u64 {
        self.lock().events.len() as u64
    }

    /// How many were never handed out.
    pub fn left_out(&self) -> u64 {
        self.lock().left_out
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use signalbox_api::flow::{Decision, Protocol};

    use super::*;

    fn event(port: u16) -> FlowEvent {
        let address = std::net::SocketAddr::from(([10, 244, 0, 5], port));
        FlowEvent {
            node: "n".to_owned(),
            decision: Decision::Allowed,
            direction: None,
            protocol: Protocol::Tcp.into(),
            source: address,
            destination: address,
            source_pod: None,
            destination_pod: None,
            rule: None,
            isolated_by: Vec::new(),
            reason: None,
            generation: 1,
            at_us: 0,
        }
    }

    fn ports(batch: &Batch) -> Vec<u16> {
        batch.events.iter().map(|event| event.source.port()).collect()
    }

    #[test]
    fn what_falls_without_a_stream_is_counted_and_told_as_a_gap() {
        let backlog = Backlog::default();
        (1..=3).for_each(|port| backlog.push(event(port)));
        assert_eq!((backlog.left_out(), backlog.waiting()), (3, 0));
        backlog.open();
        assert_eq!(backlog.take(10), Some(Batch { before: 3, events: Vec::new() }), "the gap is told at once");
        assert_eq!(backlog.take(10), None);
        (4..=6).for_each(|port| backlog.push(event(port)));
        let first = backlog.take(2).expect("two");
        assert_eq!((first.before, ports(&first)), (3, vec![4, 5]));
        let second = backlog.take(2).expect("one");
        assert_eq!((second.before, ports(&second)), (5, vec![6]));
        assert_eq!(backlog.left_out(), 3);
    }

    #[test]
    fn what_finds_no_room_makes_room_for_the_newest_and_is_counted() {
        let backlog = Backlog::default();
        backlog.open();
        for number in 0..ROOM + 7 {
            backlog.push(event(u16::try_from(number % 60_000).expect("a port")));
        }
        assert_eq!((backlog.left_out(), backlog.waiting()), (7, ROOM as u64));
        let batch = backlog.take(1).expect("one");
        assert_eq!((batch.before, ports(&batch)), (7, vec![7]));
    }

    #[test]
    fn every_verdict_is_in_a_batch_or_left_out_whatever_happens() {
        let backlog = Backlog::default();
        let (mut fallen, mut told, mut position, mut gaps) = (0_u64, 0_u64, 0_u64, 0_u64);
        let mut step = 7_u64;
        for _ in 0..5_000 {
            step = step.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            match (step >> 33) % 10 {
                0 => backlog.open(),
                1 => backlog.close(),
                2 => {
                    backlog.missed(3);
                    fallen += 3;
                }
                3 | 4 => {
                    if let Some(batch) = backlog.take(2) {
                        gaps += batch.before - position;
                        position = batch.before + batch.events.len() as u64;
                        told += batch.events.len() as u64;
                    }
                }
                _ => {
                    backlog.push(event(1));
                    fallen += 1;
                }
            }
        }
        backlog.close();
        backlog.push(event(1));
        fallen += 1;
        if let Some(batch) = backlog.take(1) {
            gaps += batch.before - position;
        }
        assert_eq!(told + backlog.left_out(), fallen, "what it says itself");
        assert_eq!(told + gaps, fallen, "what the server can tell from the frames");
    }
}
