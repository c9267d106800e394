//! How often anybody may connect to this node: one token bucket for all, and a time of its own for each that it refuses.
//!
//! When a node dies, its clients come to the others at once. Those beyond the rate are told to come back one after the other, at the pace at which they can be
//! served, and not all together in the next second.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::ConnectRate;

/// The longest time that somebody is sent away for; later ones share it.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// One bucket for the whole node.
#[derive(Debug)]
pub(super) struct Storm {
    rate: ConnectRate,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the bucket is full again.
    full_at: Option<Instant>,
    /// Until when those who were refused have a time to come.
    promised_until: Option<Instant>,
}

impl Storm {
    pub(super) fn new(rate: ConnectRate) -> Self {
        Self { rate, state: Mutex::default() }
    }

    /// Takes one token, or gives the time after which there is one for this client.
    pub(super) fn count(&self, now: Instant) -> Result<(), Duration> {
        let (interval, tolerated) = self.rate.interval_and_burst();
        let mut state = self.state.lock();
        let full_at = state.full_at.map_or(now, |at| at.max(now)) + interval;
        let late = full_at.saturating_duration_since(now).saturating_sub(tolerated);
        if late.is_zero() {
            state.full_at = Some(full_at);
            return Ok(());
        }
        let slot = state.promised_until.map_or(now + late, |until| until.max(now + late));
        let wait = slot.saturating_duration_since(now);
        if wait < WAIT_MAX {
            state.promised_until = Some(slot + interval);
        }
        Err(wait.min(WAIT_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_is_refused_gets_a_time_of_its_own_and_is_let_in_then() {
        let storm = Storm::new(ConnectRate::per_second(100).burst(10));
        let refused: Vec<Duration> = (0..110).filter_map(|_| storm.count(Instant::now()).err()).collect();
        assert_eq!(refused.len(), 100);
        assert_eq!((refused[0], refused[99]), (Duration::from_millis(10), Duration::from_secs(1)));
        let mut slept = Duration::ZERO;
        for wait in refused {
            tokio::time::advance(wait.saturating_sub(slept)).await;
            slept = wait;
            assert_eq!(storm.count(Instant::now()), Ok(()), "after {wait:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_sent_away_for_longer_than_a_minute() {
        let storm = Storm::new(ConnectRate::per_second(1).burst(1));
        let longest = (0..1_000).filter_map(|_| storm.count(Instant::now()).err()).max();
        assert_eq!(longest, Some(WAIT_MAX));
    }
}
