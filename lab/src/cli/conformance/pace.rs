//! When it is looked at what policies have changed. Pure.

use std::time::Duration;

/// Policies are left so long to arrive at the nodes before the first look: one that comes too early costs another round of time-outs. On
/// a busy cluster it becomes more, up to [`LATEST`].
const ARRIVAL: Duration = Duration::from_millis(150);
const LATEST: Duration = Duration::from_millis(900);
/// Where a case shuts nothing it takes at least so long.
const LEAST_WAIT: Duration = Duration::from_secs(1);

/// How long changes take here, as far as it has been seen.
pub(super) struct Pace {
    /// Until the first look at a change.
    pub arrival: Duration,
    /// The longest that a change has taken to be in force; `None` before the first.
    slowest: Option<Duration>,
    /// What changes may take at most.
    settle: Duration,
}

impl Pace {
    pub(super) const fn new(settle: Duration) -> Self {
        Self { arrival: ARRIVAL, slowest: None, settle }
    }

    /// A change was in force after so long at most.
    pub(super) fn took(&mut self, after: Duration) {
        self.slowest = self.slowest.max(Some(after));
    }

    /// It took so many looks to see a change.
    pub(super) fn looked(&mut self, looks: u32) {
        let arrival = if looks > 1 { self.arrival * 3 / 2 } else { self.arrival * 9 / 10 };
        self.arrival = arrival.clamp(ARRIVAL, LATEST);
    }

    /// After how long it counts that nothing has changed: twice as long as any change has taken.
    pub(super) fn patience(&self) -> Duration {
        LEAST_WAIT.max(self.slowest.map_or(self.settle, |slowest| 2 * slowest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn patience_is_twice_the_slowest_change_and_before_the_first_what_changes_may_take() {
        let mut pace = Pace::new(millis(5_000));
        assert_eq!(pace.patience(), millis(5_000));
        pace.took(millis(200));
        assert_eq!(pace.patience(), LEAST_WAIT);
        pace.took(millis(900));
        pace.took(millis(300));
        assert_eq!(pace.patience(), millis(1_800));
        assert_eq!(Pace::new(Duration::ZERO).patience(), LEAST_WAIT, "nothing counts at once");
    }

    #[test]
    fn looks_that_came_too_early_put_the_next_ones_off_up_to_a_bound_and_soon_no_more() {
        let mut pace = Pace::new(millis(2_000));
        pace.looked(1);
        assert_eq!(pace.arrival, ARRIVAL);
        pace.looked(3);
        assert_eq!(pace.arrival, millis(225));
        for _ in 0..20 {
            pace.looked(2);
        }
        assert_eq!(pace.arrival, LATEST);
        for _ in 0..20 {
            pace.looked(1);
        }
        assert_eq!(pace.arrival, ARRIVAL);
    }
}
