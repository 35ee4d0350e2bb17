//! One container's state, and when it starts again. No clock and no process: both are told.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::channel::End;

/// How long a container stays down at the least, as where a kubelet looks at its containers once a second: so that who tries
/// to reach it meanwhile sees that it was down.
const NOTICED: Duration = Duration::from_millis(500);
/// The longest wait before a container starts again.
const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// A run as long as this makes the failures before it forgotten.
const STEADY: Duration = Duration::from_secs(60);

/// A pod's `restartPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

impl RestartPolicy {
    /// The API's word; the API's default where there is none.
    pub(super) fn parse(word: Option<&str>) -> Self {
        match word {
            Some("Never") => Self::Never,
            Some("OnFailure") => Self::OnFailure,
            _ => Self::Always,
        }
    }
}

/// A run that has ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Run {
    pub(super) started: Timestamp,
    pub(super) finished: Timestamp,
    pub(super) end: End,
    pub(super) id: String,
}

impl Run {
    /// As shells and container runtimes count it: 128 and the signal's number.
    pub(super) fn exit_code(&self) -> i32 {
        match self.end {
            End::Code(code) => code,
            End::Signal(signal) => 128 + signal,
        }
    }
}

/// What a container does now.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Now {
    /// It has not started, and will when it is due.
    Waiting { reason: &'static str, message: String },
    /// It runs.
    Running { since: Timestamp, id: String },
    /// It has ended for good.
    Ended(Run),
}

/// A container's state.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) now: Now,
    pub(super) last: Option<Run>,
    pub(super) restarts: i32,
    pub(super) ready: bool,
    failures: u32,
    started: Option<Instant>,
    /// When it is to start.
    pub(super) due: Option<Instant>,
}

impl Container {
    /// About to start.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            now: Now::Waiting { reason: "ContainerCreating", message: String::new() },
            last: None,
            restarts: 0,
            ready: false,
            failures: 0,
            started: None,
            due: Some(now),
        }
    }

    /// It runs.
    pub(super) fn started(&mut self, id: String, at: Timestamp, now: Instant) {
        if self.last.is_some() {
            self.restarts += 1;
        }
        self.now = Now::Running { since: at, id };
        self.started = Some(now);
        self.due = None;
        self.ready = false;
    }

    /// It could not be started; it is tried again later.
    pub(super) fn failed_to_start(&mut self, reason: &'static str, message: String, now: Instant) {
        self.now = Now::Waiting { reason, message };
        self.ready = false;
        self.failures += 1;
        self.due = Some(now + self.backoff().max(Duration::from_secs(1)));
    }

    /// It ended. Returns how long it is held back before it starts again, not at all the first time; `None` if it does not.
    pub(super) fn ended(&mut self, end: End, policy: RestartPolicy, at: Timestamp, now: Instant) -> Option<Duration> {
        let Now::Running { since, id } = &self.now else { return None };
        let run = Run { started: *since, finished: at, end, id: id.clone() };
        self.ready = false;
        if self.started.is_some_and(|started| now.saturating_duration_since(started) >= STEADY) {
            self.failures = 0;
        }
        let again = match policy {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => run.exit_code() != 0,
            RestartPolicy::Never => false,
        };
        if !again {
            self.now = Now::Ended(run);
            return None;
        }
        let wait = self.backoff();
        self.failures += 1;
        self.now = Now::Waiting {
            reason: if wait.is_zero() { "ContainerCreating" } else { "CrashLoopBackOff" },
            message: if wait.is_zero() {
                String::new()
            } else {
                format!("back-off {}ms restarting failed container", wait.as_millis())
            },
        };
        self.last = Some(run);
        self.due = Some(now + wait.max(NOTICED));
        Some(wait)
    }

    /// Not at all the first time, then half a second, doubling.
    fn backoff(&self) -> Duration {
        match self.failures {
            0 => Duration::ZERO,
            failures => Duration::from_millis(500).saturating_mul(1 << (failures - 1).min(8)).min(MAX_BACKOFF),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_as_soon_as_noticed_then_slower_then_capped() {
        let (at, mut now) = (Timestamp::now(), Instant::now());
        let mut container = Container::new(now);
        let mut waits = Vec::new();
        for _ in 0..8 {
            container.started("x".to_owned(), at, now);
            let wait = container.ended(End::Signal(9), RestartPolicy::Always, at, now).expect("restarts");
            let down = container.due.expect("restarts") - now;
            waits.push((wait.as_millis(), down.as_millis()));
        }
        let held_back = [500, 1000, 2000, 4000, 8000, 10000, 10000].map(|wait| (wait, wait));
        assert_eq!(waits[0], (0, 500));
        assert_eq!(waits[1..], held_back);
        assert_eq!((container.restarts, container.last.as_ref().map(Run::exit_code)), (7, Some(137)));
        container.started("x".to_owned(), at, now);
        now += STEADY;
        assert_eq!(container.ended(End::Code(1), RestartPolicy::Always, at, now), Some(Duration::ZERO));
    }

    #[test]
    fn policies() {
        let cases = [
            (RestartPolicy::Always, End::Code(0), true),
            (RestartPolicy::OnFailure, End::Code(0), false),
            (RestartPolicy::OnFailure, End::Code(3), true),
            (RestartPolicy::OnFailure, End::Signal(15), true),
            (RestartPolicy::Never, End::Code(3), false),
        ];
        for (policy, end, again) in cases {
            let (at, now) = (Timestamp::now(), Instant::now());
            let mut container = Container::new(now);
            container.started("x".to_owned(), at, now);
            assert_eq!(container.ended(end, policy, at, now).is_some(), again, "{policy:?} {end:?}");
        }
    }
}
