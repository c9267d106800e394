//! How long to wait before the next try. What is tried does not live here.

use std::time::Duration;

/// Full jitter: a wait is chance between zero and an upper end that doubles with each failure.
///
/// Thousands of clients that one restart cut off thus return spread out, not in waves.
#[derive(Debug)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(min: Duration, max: Duration) -> Self {
        Self { min, max: max.max(min), failures: 0 }
    }

    /// The next wait. `chance` is in `0.0..1.0`.
    pub(crate) fn next(&mut self, chance: f64) -> Duration {
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        self.min.saturating_mul(factor).min(self.max).mul_f64(chance)
    }

    /// The last try worked.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upper_end_doubles_to_the_maximum_and_stays_there() {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(20));
        let ends: Vec<_> = (0..8).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(ends, [500, 1000, 2000, 4000, 8000, 16000, 20000, 20000]);
        assert_eq!((0..1000).map(|_| backoff.next(1.0)).max(), Some(Duration::from_secs(20)));
        assert_eq!(backoff.next(0.0), Duration::ZERO);
        backoff.reset();
        assert_eq!(backoff.next(0.5), Duration::from_millis(250));
    }
}
