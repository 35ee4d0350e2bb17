//! Refused, or nobody listening? The peer's own agent tells.

use std::collections::HashMap;

use signalbox_api::cell::{Outcome, ProbeFact};

use super::flights::ProbeId;

/// How long a peer's agent may take.
const WAIT_MS: u64 = 500;

/// A refusal that waits for the peers' word.
#[derive(Clone, Debug)]
struct Waiting {
    fact: ProbeFact,
    open: usize,
    until: u64,
}

/// Refusals that wait for word of who listens.
#[derive(Debug, Default)]
pub struct Controls {
    waiting: HashMap<ProbeId, Waiting>,
    /// By request: the refusal, and who was asked.
    asked: HashMap<u64, (ProbeId, String)>,
}

impl Controls {
    /// The refusal of `probe` waits for the answers to these requests, each from the endpoint beside it.
    pub fn wait(&mut self, probe: ProbeId, fact: ProbeFact, asked: Vec<(u64, String)>, now: u64) {
        self.waiting.insert(probe, Waiting { fact, open: asked.len(), until: now + WAIT_MS });
        self.asked.extend(asked.into_iter().map(|(request, at)| (request, (probe, at))));
    }

    /// The endpoint `at` told. Gives back the refusal, finished, once it is known what it was.
    pub fn told(&mut self, request: u64, at: &str, listens: bool) -> Option<(ProbeId, ProbeFact)> {
        self.asked.get(&request).filter(|(_, asked)| asked == at)?;
        let (probe, _) = self.asked.remove(&request)?;
        let waiting = self.waiting.get_mut(&probe)?;
        waiting.open = waiting.open.saturating_sub(1);
        if !listens && waiting.open > 0 {
            return None;
        }
        let mut waiting = self.waiting.remove(&probe)?;
        if !listens {
            waiting.fact.outcome = Outcome::NoListener;
            waiting.fact.detail = Some("nobody listens on that port".to_owned());
        }
        Some((probe, waiting.fact))
    }

    /// Refusals that have waited long enough, as they are.
    pub fn overdue(&mut self, now: u64) -> Vec<(ProbeId, ProbeFact)> {
        let late: Vec<ProbeId> =
            self.waiting.iter().filter(|(_, waiting)| waiting.until <= now).map(|(id, _)| *id).collect();
        self.asked.retain(|_, (probe, _)| !late.contains(probe));
        late.into_iter().filter_map(|id| self.waiting.remove(&id).map(|waiting| (id, waiting.fact))).collect()
    }

    /// The next moment at which something is overdue.
    pub fn next_deadline(&self) -> Option<u64> {
        self.waiting.values().map(|waiting| waiting.until).min()
    }
}

#[cfg(test)]
mod tests {
    use signalbox_api::cell::Evidence;

    use super::*;

    fn refused() -> ProbeFact {
        ProbeFact {
            outcome: Outcome::Refused,
            evidence: Evidence::Answer,
            latency_us: None,
            seen_source: None,
            backend: None,
            detail: None,
            at_ms: 0,
        }
    }

    #[test]
    fn one_listener_among_the_backends_makes_it_a_refusal() {
        let cases: [(&[bool], Outcome); 4] = [
            (&[false], Outcome::NoListener),
            (&[true], Outcome::Refused),
            (&[false, false], Outcome::NoListener),
            (&[false, true], Outcome::Refused),
        ];
        for (answers, expected) in cases {
            let mut controls = Controls::default();
            let asked: Vec<(u64, String)> = (0..answers.len() as u64).map(|id| (id, format!("pod:a/{id}"))).collect();
            controls.wait(ProbeId(9), refused(), asked.clone(), 0);
            let told = answers.iter().zip(asked).find_map(|(listens, (id, at))| controls.told(id, &at, *listens));
            assert_eq!(told.map(|(_, fact)| fact.outcome), Some(expected), "{answers:?}");
        }
    }

    #[test]
    fn a_silent_peer_does_not_hold_the_cell_up() {
        let mut controls = Controls::default();
        controls.wait(ProbeId(9), refused(), vec![(1, "pod:a/y".to_owned())], 0);
        assert!(controls.overdue(WAIT_MS - 1).is_empty());
        let late = controls.overdue(WAIT_MS);
        assert_eq!(late.len(), 1);
        assert_eq!(late[0].1.outcome, Outcome::Refused);
        assert_eq!(controls.told(1, "pod:a/y", false), None);
    }
}
