//! When the next round starts, and why.

use std::collections::{BTreeMap, BTreeSet};

use signalbox_api::cell::CellKey;

/// How long changes are gathered before they start a round.
const GATHER_MS: u64 = 3;
/// How long a round that was asked for waits for changes made just before to arrive by the watches.
const ASKED_MS: u64 = 20;
/// How long a round waits for the enforcer to have caught up with a policy.
const CATCH_UP_MS: u64 = 500;
/// The same for a policy that is gone: not every enforcer tells when it has seen that.
const CATCH_UP_GONE_MS: u64 = 150;
/// Pods change in flocks: rounds for them keep this distance.
const POD_DISTANCE_MS: u64 = 100;
/// How soon contradicting cells are tried again while a change settles.
const FOLLOW_UPS_MS: [u64; 5] = [20, 40, 80, 160, 320];

/// Why a round runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// It is time again.
    Interval,
    /// Someone asked.
    Asked,
    /// A pod, a Service, a namespace or a host changed.
    PodChange,
    /// A policy changed.
    PolicyChange,
    /// The first.
    Start,
}

impl Cause {
    /// As [`signalbox_api::state::RoundInfo::cause`] has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Interval => "interval",
            Self::Asked => "asked",
            Self::PodChange => "pod-change",
            Self::PolicyChange => "policy-change",
            Self::Start => "start",
        }
    }
}

/// Which cells a round tries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All.
    All,
    /// These: not announced as a round.
    Some(BTreeSet<CellKey>),
}

/// What the enforcers have to have done before a round makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Catch {
    /// Hold this version of the policies.
    Version(u64),
    /// Hold this version, or at least another generation than this one of their node.
    Gone(u64, BTreeMap<String, u32>),
}

/// A round that is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Why.
    pub cause: Cause,
    /// Which cells.
    pub scope: Scope,
    not_before: u64,
    catch: Option<(Catch, u64)>,
}

/// The schedule.
#[derive(Debug, Default)]
pub struct Schedule {
    pending: Option<Pending>,
    pod_round: Option<u64>,
    follow_ups: usize,
}

impl Schedule {
    /// A change asks for a round. The enforcer has to catch up with `catch` before.
    pub fn changed(&mut self, cause: Cause, catch: Option<Catch>, now: u64) {
        self.follow_ups = 0;
        let not_before = match cause {
            Cause::PodChange => self.pod_round.map_or(0, |at| at + POD_DISTANCE_MS).max(now + GATHER_MS),
            Cause::Asked => now + ASKED_MS,
            Cause::Interval | Cause::PolicyChange | Cause::Start => now + GATHER_MS,
        };
        let catch = catch.map(|catch| {
            let patience = match catch {
                Catch::Version(_) => CATCH_UP_MS,
                Catch::Gone(..) => CATCH_UP_GONE_MS,
            };
            (catch, now + patience)
        });
        self.merge(Pending { cause, scope: Scope::All, not_before, catch });
    }

    /// Some cells are to be tried, at once.
    pub fn some(&mut self, cause: Cause, cells: BTreeSet<CellKey>, now: u64) {
        if !cells.is_empty() {
            self.merge(Pending { cause, scope: Scope::Some(cells), not_before: now + GATHER_MS, catch: None });
        }
    }

    /// Some cells contradict each other while a change settles: they are tried again, less and less soon.
    pub fn follow_up(&mut self, cells: BTreeSet<CellKey>, now: u64) {
        if cells.is_empty() || self.pending.is_some() {
            return;
        }
        let wait = FOLLOW_UPS_MS[self.follow_ups.min(FOLLOW_UPS_MS.len() - 1)];
        self.follow_ups += 1;
        let scope = Scope::Some(cells);
        self.pending = Some(Pending { cause: Cause::PolicyChange, scope, not_before: now + wait, catch: None });
    }

    fn merge(&mut self, new: Pending) {
        let Some(old) = self.pending.take() else {
            self.pending = Some(new);
            return;
        };
        let scope = match (old.scope, new.scope) {
            (Scope::Some(mut one), Scope::Some(other)) => {
                one.extend(other);
                Scope::Some(one)
            }
            (Scope::All, _) | (_, Scope::All) => Scope::All,
        };
        self.pending = Some(Pending {
            cause: old.cause.max(new.cause),
            scope,
            not_before: old.not_before.min(new.not_before).max(self.earliest(new.cause)),
            // The newer change is what the enforcer holds last.
            catch: new.catch.or(old.catch),
        });
    }

    fn earliest(&self, cause: Cause) -> u64 {
        match cause {
            Cause::PodChange => self.pod_round.map_or(0, |at| at + POD_DISTANCE_MS),
            Cause::Interval | Cause::Asked | Cause::PolicyChange | Cause::Start => 0,
        }
    }

    /// Whether a round waits.
    pub fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Takes the round that is due. One for some cells waits while another runs.
    pub fn due(&mut self, now: u64, running: bool, caught_up: impl FnOnce(&Catch) -> bool) -> Option<Pending> {
        let pending = self.pending.as_ref()?;
        if now < pending.not_before || (running && pending.scope != Scope::All) {
            return None;
        }
        if let Some((catch, until)) = &pending.catch
            && now < *until
            && !caught_up(catch)
        {
            return None;
        }
        let due = self.pending.take();
        if due.as_ref().is_some_and(|due| due.cause == Cause::PodChange) {
            self.pod_round = Some(now);
        }
        due
    }

    /// When to look again, if nothing else happens.
    pub fn next_look(&self, now: u64) -> Option<u64> {
        let pending = self.pending.as_ref()?;
        if now < pending.not_before {
            return Some(pending.not_before);
        }
        pending.catch.as_ref().map(|(_, until)| *until).filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_change_waits_for_the_enforcers_but_not_for_ever() {
        let cases = [
            ("gathering", 2, true, false),
            ("caught up", 3, true, true),
            ("behind", 3, false, false),
            ("behind for too long", CATCH_UP_MS, false, true),
        ];
        for (what, now, caught_up, due) in cases {
            let mut schedule = Schedule::default();
            schedule.changed(Cause::PolicyChange, Some(Catch::Version(7)), 0);
            assert_eq!(schedule.due(now, true, |_| caught_up).is_some(), due, "{what}");
        }
    }

    #[test]
    fn changes_that_come_together_are_one_round_with_the_stronger_cause() {
        let mut schedule = Schedule::default();
        schedule.changed(Cause::PodChange, None, 0);
        schedule.changed(Cause::PolicyChange, None, 1);
        let due = schedule.due(4, false, |_| true).expect("a round");
        assert_eq!((due.cause, due.scope), (Cause::PolicyChange, Scope::All));
        assert!(!schedule.is_pending());
    }

    #[test]
    fn pods_that_change_in_flocks_do_not_start_a_round_each() {
        let mut schedule = Schedule::default();
        schedule.changed(Cause::PodChange, None, 0);
        assert!(schedule.due(3, false, |_| true).is_some());
        schedule.changed(Cause::PodChange, None, 4);
        assert!(schedule.due(50, false, |_| true).is_none());
        assert!(schedule.due(3 + POD_DISTANCE_MS, false, |_| true).is_some());
    }

    #[test]
    fn a_round_for_some_cells_waits_for_the_one_that_runs() {
        let key = CellKey {
            from: "pod:a/x".to_owned(),
            to: "pod:a/y".to_owned(),
            port: 1,
            protocol: signalbox_api::flow::Protocol::Tcp,
        };
        let mut schedule = Schedule::default();
        schedule.follow_up(BTreeSet::from([key]), 0);
        assert_eq!(schedule.next_look(0), Some(20));
        assert!(schedule.due(20, true, |_| true).is_none());
        assert!(schedule.due(20, false, |_| true).is_some());
    }
}
