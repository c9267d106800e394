//! When statistics are worth telling: at the topic's pace, and sooner when something changed. Pure.

use std::time::Duration;

use crate::statistics::Statistics;

/// Statistics are told at least this often, also when nothing changed: a page that hears nothing for longer knows that
/// something is wrong.
pub const PACE: Duration = Duration::from_secs(5);
/// Statistics are told at most this often, whatever changes.
pub const INTERVAL_MIN: Duration = Duration::from_secs(1);

/// Slack for timers that fire a little early.
const SLACK: Duration = Duration::from_millis(50);

/// Whether to tell these statistics, given what was told last and how long ago.
pub fn is_due(told: &Statistics, now: &Statistics, since_told: Duration) -> bool {
    let since_told = since_told + SLACK;
    since_told >= PACE || (since_told >= INTERVAL_MIN && is_significant(told, now))
}

/// Whether someone who watches would want to know.
pub fn is_significant(told: &Statistics, now: &Statistics) -> bool {
    let cores = now.cpu.cores.len().max(1) as f64;
    moved(told.cpu.percent, now.cpu.percent, 10.0)
        || moved(told.memory.percent(), now.memory.percent(), 2.0)
        || moved(told.load[0], now.load[0], 0.5 * cores)
        || jumped(told.network.received_per_s, now.network.received_per_s)
        || jumped(told.network.sent_per_s, now.network.sent_per_s)
        || told.disks.len() != now.disks.len()
}

fn moved(before: f64, after: f64, by: f64) -> bool {
    (after - before).abs() >= by
}

/// A rate that doubled or halved, where it is more than background noise.
fn jumped(before: f64, after: f64) -> bool {
    const NOISE: f64 = 256.0 * 1024.0;
    let (low, high) = if before < after { (before, after) } else { (after, before) };
    high - low >= NOISE && high >= 2.0 * low
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statistics(cpu: f64, used_bytes: u64, received: f64) -> Statistics {
        let mut statistics = Statistics::default();
        statistics.cpu.percent = cpu;
        statistics.memory.total_bytes = 1000;
        statistics.memory.used_bytes = used_bytes;
        statistics.network.received_per_s = received;
        statistics
    }

    #[track_caller]
    fn check(now: &Statistics, since_told_ms: u64, expected: bool) {
        let told = statistics(20.0, 500, 1e6);
        assert_eq!(is_due(&told, now, Duration::from_millis(since_told_ms)), expected);
    }

    #[test]
    fn what_changed_is_told_within_a_second_and_everything_after_five() {
        let same = statistics(20.0, 500, 1e6);
        check(&same, 4900, false);
        check(&same, 5000, true);
        check(&statistics(31.0, 500, 1e6), 1000, true);
        check(&statistics(9.0, 500, 1e6), 1000, true);
        check(&statistics(31.0, 500, 1e6), 500, false);
        check(&statistics(29.0, 500, 1e6), 1000, false);
        check(&statistics(20.0, 521, 1e6), 1000, true);
        check(&statistics(20.0, 510, 1e6), 1000, false);
        check(&statistics(20.0, 500, 2.1e6), 1000, true);
        check(&statistics(20.0, 500, 1.5e6), 1000, false);
        check(&statistics(20.0, 500, 0.0), 1000, true);
    }

    #[test]
    fn noise_on_a_quiet_network_is_no_news() {
        assert!(!is_significant(&statistics(0.0, 0, 100.0), &statistics(0.0, 0, 9000.0)));
    }
}
