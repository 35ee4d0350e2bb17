//! The time that this thread has had a core for: what other processes do meanwhile does not count.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Since the thread began.
pub fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("a thread's time is not negative")
}
