//! Lines for `kubectl logs`: few, and never at the price of an answer.

use std::io::Write;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Lines that wait for a slow reader. What comes on top is counted, not kept.
const WAITING: usize = 256;

/// Lines per second that are worth reading.
const RATE: u32 = 20;

/// Writes lines to standard output from a thread of its own: a reader that stalls must not stall the listeners.
pub struct Journal {
    lines: SyncSender<String>,
    budget: Budget,
    left_out: u64,
}

impl Journal {
    /// Starts the thread.
    pub fn new() -> std::io::Result<Self> {
        let (lines, receiver) = sync_channel::<String>(WAITING);
        std::thread::Builder::new().name("journal".into()).stack_size(64 * 1024).spawn(move || {
            for line in receiver {
                // Nobody reads the log: then nobody misses the line.
                let _ = writeln!(std::io::stdout().lock(), "{line}");
            }
        })?;
        Ok(Self { lines, budget: Budget::new(RATE, Instant::now()), left_out: 0 })
    }

    /// Writes a line, or counts it where there were too many of late.
    pub fn line(&mut self, text: impl FnOnce() -> String) {
        if !self.budget.take(Instant::now()) {
            self.left_out += 1;
            return;
        }
        let mut line = text();
        if self.left_out > 0 {
            line.push_str(&format!(" ({} more before this were not logged)", self.left_out));
        }
        match self.lines.try_send(line) {
            Ok(()) => self.left_out = 0,
            Err(_) => self.left_out += 1,
        }
    }
}

/// A token bucket that holds one second's worth.
struct Budget {
    per_second: u32,
    tokens: f64,
    refilled: Instant,
}

impl Budget {
    fn new(per_second: u32, now: Instant) -> Self {
        Self { per_second, tokens: f64::from(per_second), refilled: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        let passed: Duration = now.saturating_duration_since(self.refilled);
        let most = f64::from(self.per_second);
        self.tokens = (self.tokens + passed.as_secs_f64() * most).min(most);
        self.refilled = now;
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_cut_and_time_refills() {
        let start = Instant::now();
        let mut budget = Budget::new(5, start);
        assert_eq!((0..100).filter(|_| budget.take(start)).count(), 5);
        assert_eq!((0..100).filter(|_| budget.take(start + Duration::from_millis(400))).count(), 2);
        assert_eq!((0..100).filter(|_| budget.take(start + Duration::from_secs(60))).count(), 5);
    }
}
