//! Presence of one node, in memory.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use async_trait::async_trait;
use dashmap::DashMap;

use crate::{Presence, PresenceStats, SessionId, SessionInfo, Topic, Unavailable};

/// Who listens, on one node. It goes with the process.
#[derive(Debug, Default)]
pub struct MemoryPresence(DashMap<Topic, HashMap<SessionId, Arc<SessionInfo>>>);

impl MemoryPresence {
    /// Nobody listens.
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl Presence for MemoryPresence {
    async fn upsert(&self, topic: &Topic, info: Arc<SessionInfo>) -> Result<(), Unavailable> {
        self.0.entry(topic.clone()).or_default().insert(info.session, info);
        Ok(())
    }

    async fn remove(&self, topic: &Topic, session: SessionId) -> Result<(), Unavailable> {
        if let Some(mut sessions) = self.0.get_mut(topic) {
            sessions.remove(&session);
        }
        self.0.remove_if(topic, |_, sessions| sessions.is_empty());
        Ok(())
    }

    async fn list(&self, topic: &Topic) -> Result<Vec<Arc<SessionInfo>>, Unavailable> {
        Ok(self.0.get(topic).map(|sessions| sessions.values().cloned().collect()).unwrap_or_default())
    }

    async fn count(&self, topic: &Topic) -> Result<PresenceStats, Unavailable> {
        let Some(sessions) = self.0.get(topic) else { return Ok(PresenceStats::default()) };
        let users: HashSet<_> = sessions.values().map(|info| &info.user).collect();
        Ok(PresenceStats { sessions: sessions.len(), users: users.len() })
    }
}
