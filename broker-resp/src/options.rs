//! The settings of a link. Where it goes lives in `target`.

use std::time::Duration;

use crate::Bounds;

/// How a link behaves. The defaults suit a server in the same data centre.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Time for one try to connect: look-up, TCP, TLS and the server's hello. Default: 3 s.
    pub connect_timeout: Duration,
    /// The first wait after a failed try, at most; it doubles with each failure. Each wait is chance between half of this and this. Default: 20 ms.
    pub backoff_min: Duration,
    /// The longest wait between tries. Default: 2 s.
    pub backoff_max: Duration,
    /// A server that answered nothing for so long is pinged. Default: 1 s.
    pub ping_interval: Duration,
    /// A server that owes an answer and has sent no byte for so long is given up; where bytes come but no answer, after three times as long.
    /// So a half-open connection is found after `ping_interval` and this, and no command may keep the server busy for longer.
    /// Default: 2 s.
    pub ping_timeout: Duration,
    /// Bytes of calls that may wait to be written; what comes on top is refused as [`CallError::Overloaded`](crate::CallError). Default: 16 MiB.
    pub queue_max_bytes: usize,
    /// Answers that may be owed and calls that may wait, together. Default: 65,536.
    pub calls_max: usize,
    /// Bytes of pushes that may wait in [`Events`](crate::Events), see [`Push::cost_bytes`](crate::Push::cost_bytes). Default: 32 MiB.
    pub events_max_bytes: usize,
    /// What the server may send at once. Default: see [`Bounds`].
    pub bounds: Bounds,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            backoff_min: Duration::from_millis(20),
            backoff_max: Duration::from_secs(2),
            ping_interval: Duration::from_secs(1),
            ping_timeout: Duration::from_secs(2),
            queue_max_bytes: 16 << 20,
            calls_max: 65_536,
            events_max_bytes: 32 << 20,
            bounds: Bounds::default(),
        }
    }
}

/// How long a call may take, and whether it may wait for a connection. A [`Duration`] is the former alone.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    pub(crate) timeout: Duration,
    pub(crate) for_link: bool,
}

impl Wait {
    /// Fails at once while there is no connection.
    pub fn at_most(timeout: Duration) -> Self {
        Self { timeout, for_link: false }
    }

    /// Waits for a connection where there is none; the time for that is part of the timeout.
    pub fn for_link(self) -> Self {
        Self { for_link: true, ..self }
    }
}

impl From<Duration> for Wait {
    fn from(timeout: Duration) -> Self {
        Self::at_most(timeout)
    }
}
