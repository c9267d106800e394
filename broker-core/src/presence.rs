//! Who listens to a topic: the trait, and what it says of users who come and go.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{SessionId, SessionInfo, Topic, UserId, backplane::Unavailable};

/// Who listens to a topic, on all nodes. Every implementation passes the suite in [`testing`](crate::testing).
///
/// Sessions are listed, users are counted: a user is there with its first session and gone with its last. Each anonymous session is somebody
/// of its own. What the calls answer of users must be decided in one step with the change itself, since sessions of a user come and go on
/// several nodes at a time.
#[async_trait]
pub trait Presence: Send + Sync + 'static {
    /// The session listens to the topic. Repeated calls replace what was said, also who the session is.
    async fn upsert(&self, topic: &Topic, info: Arc<SessionInfo>) -> Result<Arrival, Unavailable>;

    /// The session listens no more, and is not listed from here on. Its user, if this was the last session, counts as there for about
    /// `linger` more: until [`settle`](Self::settle), or longer where the node that would call it has ended.
    async fn remove(&self, topic: &Topic, session: SessionId, linger: Duration) -> Result<Departure, Unavailable>;

    /// The time of a user whose session answered [`Departure::Lingers`] is over. `true`, once: no session of the user has come since
    /// `who` left, so the user has left too.
    async fn settle(&self, topic: &Topic, who: &SessionInfo) -> Result<bool, Unavailable>;

    /// Who listens, in no order.
    async fn list(&self, topic: &Topic) -> Result<Vec<Arc<SessionInfo>>, Unavailable>;

    /// How many listen.
    async fn count(&self, topic: &Topic) -> Result<PresenceStats, Unavailable>;
}

/// What a session's coming means for users.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Arrival {
    /// The user has no other session there, and does not linger.
    pub joined: bool,
    /// The session was another user's until here, who has no other session there.
    pub left: bool,
}

/// What a session's going means for its user.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Departure {
    /// Nothing: the user has other sessions there, or the session was not there.
    Unnoticed,
    /// The user has left.
    Left,
    /// The user has left unless a session of its comes before this is settled.
    Lingers,
}

/// Who counts as one among those who listen.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Person {
    User(UserId),
    /// Without a user, every session is somebody.
    Session(SessionId),
}

impl Person {
    pub(crate) fn of(who: &SessionInfo) -> Self {
        if who.user.is_anonymous() { Self::Session(who.session) } else { Self::User(who.user.clone()) }
    }
}

/// How many listen to a topic.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PresenceStats {
    /// Sessions.
    pub sessions: usize,
    /// Different users among them; each anonymous session is one.
    pub users: usize,
}
