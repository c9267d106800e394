//! What the engine counts. Plain atomics: whoever exports them chooses the format.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use crate::CloseReason;

/// A number that goes up, and for gauges also down.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// The present value.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }

    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub(crate) fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Relaxed);
    }
}

/// What the engine counts since it started. Gauges say so; everything else only grows.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Gauge: connections, their session connected or not.
    pub connections: Count,
    /// Gauge: sessions that are connected.
    pub sessions: Count,
    /// Gauge: subscriptions of sessions, those to the topics of their own users left out.
    pub subscriptions: Count,
    /// Gauge: bytes that wait in backlogs because a connection did not take them.
    pub backlog_bytes: Count,
    /// Connections that were opened.
    pub connections_opened: Count,
    /// Connections refused because of a bound.
    pub connections_refused: Count,
    /// Commands of clients.
    pub commands: Count,
    /// Commands that were refused.
    pub commands_refused: Count,
    /// Publishes that the backplane took.
    pub publishes: Count,
    /// Publishes that failed or were refused after they were allowed.
    pub publishes_failed: Count,
    /// Publishes refused because as much is kept as may be; among `publishes_failed`.
    pub publishes_without_room: Count,
    /// Publishes that were not newer than what was taken before; among `publishes`.
    pub publishes_outdated: Count,
    /// Publications handed to a connection's backlog.
    pub deliveries: Count,
    /// Calls of an outlet that took bytes.
    pub writes: Count,
    /// Bytes that outlets took.
    pub bytes_written: Count,
    /// Publications taken out of a backlog because its connection was too slow.
    pub dropped_slow_consumer: Count,
    /// Publications taken out of a backlog because a newer one of their key took their place.
    pub conflated: Count,
    /// Times that a subscription let publications go by, to read them from the history later.
    pub catch_ups: Count,
    /// Times that a topic left out a shard because the shard's inbox was full; each is closed by a refill or a gap.
    pub lags: Count,
    /// Gaps that subscribers were told.
    pub gaps: Count,
    /// Resumes that recovered everything.
    pub resumes_recovered: Count,
    /// Resumes that could not.
    pub resumes_failed: Count,
    /// Subscriptions that got what they missed, or the state, in more than one page.
    pub resumes_paged: Count,
    /// Calls of snapshot hooks.
    pub snapshot_calls: Count,
    /// Calls of the backplane, presence and the registry that did not answer in time.
    pub backplane_timeouts: Count,
    /// Panics of hooks and codecs that were caught.
    pub panics: Count,
    closes: Causes,
    /// How long hooks took.
    pub hook_latency: Latency,
    /// How long a shard's tick took: long ones mean that something blocks the runtime.
    pub tick_latency: Latency,
}

impl Stats {
    /// Ends of connections by cause, in the order of [`CloseReason::CAUSES`].
    pub fn closes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        CloseReason::CAUSES.iter().zip(&self.closes.0).map(|(cause, count)| (*cause, count.value()))
    }

    pub(crate) fn closed(&self, reason: &CloseReason) {
        let cause = reason.cause();
        if let Some(at) = CloseReason::CAUSES.iter().position(|known| *known == cause) {
            self.closes.0[at].add(1);
        }
    }
}

#[derive(Debug, Default)]
struct Causes([Count; CloseReason::CAUSES.len()]);

/// A histogram of durations.
#[derive(Debug, Default)]
pub struct Latency {
    buckets: [Count; Latency::BOUNDS_MICROS.len() + 1],
    sum_micros: Count,
}

impl Latency {
    /// Upper bounds of the buckets, in microseconds; one more bucket takes the rest.
    pub const BOUNDS_MICROS: [u64; 12] = [10, 50, 100, 500, 1_000, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 5_000_000];

    /// Number of durations in each bucket, not cumulated.
    pub fn buckets(&self) -> [u64; Self::BOUNDS_MICROS.len() + 1] {
        std::array::from_fn(|at| self.buckets[at].value())
    }

    /// All durations together, in microseconds.
    pub fn sum_micros(&self) -> u64 {
        self.sum_micros.value()
    }

    pub(crate) fn record(&self, duration: Duration) {
        let micros = duration.as_micros() as u64;
        let at = Self::BOUNDS_MICROS.iter().position(|bound| micros <= *bound).unwrap_or(Self::BOUNDS_MICROS.len());
        self.buckets[at].add(1);
        self.sum_micros.add(micros);
    }
}
