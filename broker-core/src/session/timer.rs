//! The deadlines of a session.

use std::time::Instant;

/// The deadlines of a session; each is set or not.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    /// The client must have said who it is.
    pub(crate) connect_at: Option<Instant>,
    /// The next ping of the server.
    pub(crate) ping_at: Option<Instant>,
    /// Something must have been received.
    pub(crate) pong_at: Option<Instant>,
    /// The client is told that its credentials end.
    pub(crate) expiring_at: Option<Instant>,
    /// The credentials end.
    pub(crate) expires_at: Option<Instant>,
    /// The credentials of a subscription end, the earliest.
    pub(crate) subscription_ends_at: Option<Instant>,
}

impl Timers {
    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        [self.connect_at, self.ping_at, self.pong_at, self.expiring_at, self.expires_at, self.subscription_ends_at]
            .into_iter()
            .flatten()
            .min()
    }
}

/// Takes a deadline that is due.
pub(crate) fn due(deadline: &mut Option<Instant>, now: Instant) -> bool {
    deadline.take_if(|at| *at <= now).is_some()
}
