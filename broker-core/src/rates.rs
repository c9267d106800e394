//! How often clients may do what costs something. How that is counted lives in the hub.

use std::time::Duration;

/// So many in a time, in the long run, and so many at once after a rest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    count: u32,
    per: Duration,
    burst: u32,
}

impl Rate {
    /// `count`, at least 1, in each `per`; as many at once.
    pub const fn new(count: u32, per: Duration) -> Self {
        let count = if count == 0 { 1 } else { count };
        Self { count, per, burst: count }
    }

    /// `count`, at least 1, in each second; as many at once.
    pub const fn per_second(count: u32) -> Self {
        Self::new(count, Duration::from_secs(1))
    }

    /// Sets how many may come at once; at least 1.
    pub const fn burst(mut self, burst: u32) -> Self {
        self.burst = if burst == 0 { 1 } else { burst };
        self
    }

    /// How many, in each [`Rate::per`].
    pub const fn count(self) -> u32 {
        self.count
    }

    /// The time in which they come.
    pub const fn per(self) -> Duration {
        self.per
    }

    /// How many may come at once.
    pub const fn at_once(self) -> u32 {
        self.burst
    }

    /// So many times as often, and at once.
    const fn times(self, factor: u32) -> Self {
        Self { count: self.count.saturating_mul(factor), per: self.per, burst: self.burst.saturating_mul(factor) }
    }

    /// The time in which so many come back, in nanoseconds.
    pub(crate) fn nanos(self, units: u64) -> u64 {
        let nanos = u128::from(units) * self.per.as_nanos() / u128::from(self.count);
        u64::try_from(nanos).unwrap_or(u64::MAX / 4)
    }

    /// The time in which everything comes back, in nanoseconds.
    pub(crate) fn burst_nanos(self) -> u64 {
        self.nanos(self.burst.into())
    }
}

/// What is counted, and how often it may happen; `None`: as often as it likes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct RateSet {
    /// Commands of every kind but connect, refresh and pong.
    pub commands: Option<Rate>,
    /// Publishes.
    pub publishes: Option<Rate>,
    /// Subscribes.
    pub subscribes: Option<Rate>,
    /// Bytes received. What begins within the rate may end over it.
    pub bytes: Option<Rate>,
    /// Commands that were refused for anything but a rate.
    pub errors: Option<Rate>,
}

impl RateSet {
    /// Nothing is counted.
    pub const OFF: Self = Self { commands: None, publishes: None, subscribes: None, bytes: None, errors: None };

    const SESSION: Self = Self {
        commands: Some(Rate::per_second(200).burst(400)),
        publishes: Some(Rate::per_second(100).burst(200)),
        // A client subscribes to all its topics at once when it connects again.
        subscribes: Some(Rate::per_second(100).burst(300)),
        bytes: Some(Rate::per_second(1 << 20).burst(4 << 20)),
        errors: Some(Rate::per_second(50).burst(300)),
    };

    const fn times(self, factor: u32) -> Self {
        const fn times(rate: Option<Rate>, factor: u32) -> Option<Rate> {
            match rate {
                Some(rate) => Some(rate.times(factor)),
                None => None,
            }
        }
        Self {
            commands: times(self.commands, factor),
            publishes: times(self.publishes, factor),
            subscribes: times(self.subscribes, factor),
            bytes: times(self.bytes, factor),
            errors: times(self.errors, factor),
        }
    }
}

/// How often clients may do what costs something. A command over a rate is refused with the time after which it may come again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Rates {
    /// Of each session. Default: 200 commands a second and 400 at once, 100 publishes (200), 100 subscribes (300), 1 MiB (4 MiB), 50
    /// errors (300).
    pub session: RateSet,
    /// Of all sessions of a user on this node together; anonymous sessions have none. Default: five times as much.
    pub user: RateSet,
}

impl Rates {
    /// Nothing is counted.
    pub const OFF: Self = Self { session: RateSet::OFF, user: RateSet::OFF };
}

impl Default for Rates {
    fn default() -> Self {
        Self { session: RateSet::SESSION, user: RateSet::SESSION.times(5) }
    }
}
