//! Notices clients that come with positions of another node's histories: two nodes with their own memory behind one balancer. Pure.

use std::time::Duration;

use crate::sync::Mutex;

/// So long after the start of a node clients come back with positions from before it, as they should.
const RESTART: Duration = Duration::from_secs(300);
/// So many within [`WINDOW`] are no client that slept through a restart.
const MANY: u32 = 5;
/// The time in which they are counted, and the time between two warnings.
const WINDOW: Duration = Duration::from_secs(600);

/// Resumes from positions that this node never gave out.
#[derive(Default)]
pub(super) struct Foreign(Mutex<State>);

#[derive(Default)]
struct State {
    window_from: Duration,
    seen: u32,
    warned_at: Option<Duration>,
}

impl Foreign {
    /// There was one more, so long after the start of the node. Whether somebody should be told.
    pub(super) fn seen(&self, uptime: Duration) -> bool {
        if uptime < RESTART {
            return false;
        }
        let mut state = self.0.lock();
        if uptime >= state.window_from + WINDOW {
            (state.window_from, state.seen) = (uptime, 0);
        }
        state.seen += 1;
        let is_due = state.seen >= MANY && state.warned_at.is_none_or(|at| uptime >= at + WINDOW);
        if is_due {
            state.warned_at = Some(uptime);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_is_no_second_node_and_a_second_node_is_told_now_and_then() {
        let foreign = Foreign::default();
        let seen = |s: u64| foreign.seen(Duration::from_secs(s));
        assert!((0..299).all(|s| !seen(s)), "a thousand clients come back after a restart");
        assert!((300..304).all(|s| !seen(s)), "a few have slept");
        assert!(seen(304));
        assert!((305..904).all(|s| !seen(s)));
        assert!((904..1600).any(seen));
    }
}
