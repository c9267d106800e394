//! Who listens to a topic: the trait.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{SessionId, SessionInfo, Topic, backplane::Unavailable};

/// Who listens to a topic, on all nodes. Every implementation passes the suite in [`testing`](crate::testing).
#[async_trait]
pub trait Presence: Send + Sync + 'static {
    /// The session listens to the topic. Repeated calls replace what was said.
    async fn upsert(&self, topic: &Topic, info: Arc<SessionInfo>) -> Result<(), Unavailable>;

    /// The session listens no more.
    async fn remove(&self, topic: &Topic, session: SessionId) -> Result<(), Unavailable>;

    /// Who listens, in no order.
    async fn list(&self, topic: &Topic) -> Result<Vec<Arc<SessionInfo>>, Unavailable>;

    /// How many listen.
    async fn count(&self, topic: &Topic) -> Result<PresenceStats, Unavailable>;
}

/// How many listen to a topic.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PresenceStats {
    /// Sessions.
    pub sessions: usize,
    /// Different users among them.
    pub users: usize,
}
