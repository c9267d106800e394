//! How many mistakes a session may make.

use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(60);

/// Counts mistakes within a minute that begins with the first one.
#[derive(Debug, Default)]
pub(crate) struct Mistakes {
    window_from: Option<Instant>,
    count: u32,
}

impl Mistakes {
    /// One more; whether that is too many.
    pub(crate) fn add(&mut self, now: Instant, max: u32) -> bool {
        if self.window_from.is_none_or(|from| now >= from + WINDOW) {
            *self = Self { window_from: Some(now), count: 0 };
        }
        self.count += 1;
        self.count > max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_more_than_allowed_within_a_minute_is_too_many() {
        let from = Instant::now();
        let mut mistakes = Mistakes::default();
        assert!(!mistakes.add(from, 2));
        assert!(!mistakes.add(from + Duration::from_secs(59), 2));
        assert!(mistakes.add(from + Duration::from_secs(59), 2));
        assert!(!mistakes.add(from + Duration::from_secs(60), 2));
    }
}
