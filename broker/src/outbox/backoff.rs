//! How long to wait after attempts that failed: at random up to a bound that doubles, so that nodes do not come all at once. Pure but for chance.

use std::time::Duration;

#[derive(Debug)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    pub(super) fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, failures: 0 }
    }

    /// The bound of the pause after so many failures in a row.
    fn bound(&self) -> Duration {
        let doubled = self.min.saturating_mul(1_u32.checked_shl(self.failures.saturating_sub(1)).unwrap_or(u32::MAX));
        doubled.min(self.max)
    }

    /// One more failure: how long to wait now. Never less than half of `min`, so that a failing store is not asked in a tight loop.
    pub(super) fn failed(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.bound().mul_f64(fastrand::f64()).max(self.min / 2)
    }

    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_bound_and_begin_anew_after_a_success() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(2));
        let mut backoff = Backoff::new(min, max);
        for bound_ms in [100, 200, 400, 800, 1600, 2000, 2000] {
            let pause = backoff.failed();
            assert_eq!(backoff.bound(), Duration::from_millis(bound_ms));
            assert!(pause >= min / 2 && pause <= backoff.bound(), "{pause:?}");
        }
        for _ in 0..100 {
            assert!(backoff.failed() <= max);
        }
        backoff.succeeded();
        assert!(backoff.failed() <= min);
    }
}
