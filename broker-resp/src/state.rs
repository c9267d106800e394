//! What can be seen of a link from outside: its phase and its counters.

use std::time::{Instant, SystemTime};

use crate::{ConnectError, DisconnectReason};

/// A link at one moment, for health checks, logs and metrics.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LinkState {
    /// What it is doing.
    pub phase: Phase,
    /// Why the last try to connect failed; `None` where the last one worked.
    pub connect_error: Option<ConnectError>,
    /// Why the last connection ended, and when; `None`: none has ended.
    pub last_disconnect: Option<(DisconnectReason, SystemTime)>,
    /// What it has counted since it was opened.
    pub counters: Counters,
}

/// What a link is doing.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Phase {
    /// It connects or waits for the next try.
    Connecting {
        /// Since when there is no connection.
        since: Instant,
        /// Tries that failed since then.
        failures: u32,
    },
    /// It has a connection.
    Connected {
        /// Which one, see [`Event::Connected`](crate::Event::Connected).
        generation: u64,
        /// Since when.
        since: Instant,
    },
    /// It was closed.
    Closed,
}

/// What a link has counted since it was opened.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Counters {
    /// Connections, the first one too.
    pub connects: u64,
    /// Tries to connect that failed.
    pub connect_failures: u64,
    /// Calls that were taken.
    pub calls: u64,
    /// Calls that were refused as overloaded.
    pub overloaded: u64,
    /// Calls whose time was over before their answer.
    pub timed_out: u64,
    /// Pushes that came.
    pub pushes: u64,
    /// Pushes that were dropped since [`Events`](crate::Events) were not read fast enough.
    pub pushes_dropped: u64,
    /// Bytes read.
    pub bytes_in: u64,
    /// Bytes written.
    pub bytes_out: u64,
    /// Writes; `calls / writes` says how well they are batched.
    pub writes: u64,
    /// Calls that wait to be written or answered at this moment.
    pub calls_waiting: usize,
    /// Bytes of calls that wait to be written at this moment.
    pub queue_bytes: usize,
    /// Bytes of pushes that wait to be read at this moment.
    pub events_bytes: usize,
}

impl LinkState {
    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Connected { .. })
    }

    /// Why there is no connection, in words; `None` where there is one, or nothing has gone wrong yet.
    pub fn trouble(&self) -> Option<String> {
        if self.is_connected() {
            return None;
        }
        let lost = self.last_disconnect.as_ref().map(|(reason, _)| reason.to_string());
        self.connect_error.as_ref().map(ToString::to_string).or(lost)
    }
}
