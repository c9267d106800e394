//! Who listens to a topic, on all nodes: entries that belong to nodes, and live as long as the node's lease. What each change means for users
//! is decided by the scripts; what Redis may have missed or lost is said again by `repair`.

mod calls;
mod entry;
mod repair;
mod said;
mod scripts;

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use broker_core::{Announcement, Arrival, Backplane, Departure, Presence, PresenceStats, SessionId, SessionInfo, Topic, Unavailable};
use broker_resp::{Command, Value};
use futures_util::future::try_join;

use self::{calls::Calls, said::Said};
use crate::{
    failure::Failure,
    keys::Keys,
    nodes::Nodes,
    servers::{Lane, Servers},
};

/// Most sessions in one list.
const LIST_MAX: usize = 100_000;
/// Sessions in one read of a list: Redis does nothing else meanwhile.
const PAGE_LEN: usize = 500;

/// Who listens to a topic, on all nodes.
pub struct RedisPresence {
    inner: Arc<Inner>,
}

struct Inner {
    calls: Calls,
    nodes: Nodes,
    said: Said,
    /// Tells of users who leave with their node.
    backplane: OnceLock<Arc<dyn Backplane>>,
}

impl RedisPresence {
    /// Begins to keep what this node says of its sessions, and to clear away what lost nodes said.
    pub(crate) fn open(servers: Servers, keys: Keys, nodes: Nodes, timeout: Duration) -> Self {
        let inner = Arc::new(Inner { calls: Calls { servers, keys, timeout }, nodes, said: Said::default(), backplane: OnceLock::new() });
        tokio::spawn(repair::run(Arc::downgrade(&inner)));
        Self { inner }
    }

    /// Tells listeners through this backplane of users who leave with their node. Until then, and in topics that do not tell who comes and
    /// goes, nobody is told. The first call counts.
    pub fn announce_through(&self, backplane: Arc<dyn Backplane>) {
        let _ = self.inner.backplane.set(backplane);
    }
}

impl Inner {
    async fn announce(&self, topic: &Topic, announcement: Announcement) {
        if let Some(backplane) = self.backplane.get() {
            // What is not told is corrected by the next presence.
            let _ = backplane.announce(topic, announcement).await;
        }
    }

    /// Lists a topic as one that has entries of this owner, before it has one: whoever clears away looks there.
    async fn list(&self, topic: &Topic, owner: &Arc<str>, again: bool) -> Result<(), Failure> {
        if again || !self.said.is_listed(topic, owner) {
            self.calls.list_topics(owner, std::slice::from_ref(topic), true).await?;
            self.said.listed(topic, owner);
        }
        Ok(())
    }

    async fn upsert(&self, topic: &Topic, info: Arc<SessionInfo>) -> Result<Arrival, Failure> {
        let owner = self.nodes.owner();
        self.list(topic, &owner, false).await?;
        let arrivals = self.calls.upsert(topic, &owner, &[info]).await?;
        if self.nodes.owner() != owner {
            // The lease was lost under way: what was said is a former owner's.
            self.said.doubt(topic);
        }
        arrivals.first().copied().ok_or(Failure::Unexpected("no arrival"))
    }
}

#[async_trait]
impl Presence for RedisPresence {
    async fn upsert(&self, topic: &Topic, info: Arc<SessionInfo>) -> Result<Arrival, Unavailable> {
        self.inner.said.put(topic, info.clone());
        let arrival = self.inner.upsert(topic, info).await;
        if arrival.is_err() {
            self.inner.said.doubt(topic);
        }
        Ok(arrival?)
    }

    async fn remove(&self, topic: &Topic, session: SessionId, linger: Duration) -> Result<Departure, Unavailable> {
        let who = self.inner.said.remove(topic, session);
        let departure = self.inner.calls.remove(topic, session, linger).await;
        if departure.is_err() {
            self.inner.said.doubt_removal(topic, session, who);
        }
        Ok(departure?)
    }

    async fn settle(&self, topic: &Topic, who: &SessionInfo) -> Result<bool, Unavailable> {
        Ok(self.inner.calls.settle(topic, who).await?)
    }

    async fn list(&self, topic: &Topic) -> Result<Vec<Arc<SessionInfo>>, Unavailable> {
        let Calls { servers, keys, timeout } = &self.inner.calls;
        let group = keys.topic(topic);
        let [sessions, ..] = calls::names(&group);
        let lost: Vec<_> = self.inner.nodes.view().nodes.iter().filter(|node| node.is_lost).map(|node| node.owner.clone()).collect();
        let mut found = HashMap::new();
        let mut not_understood = 0;
        let mut cursor = String::from("0");
        loop {
            let command = Command::new("HSCAN").arg(&sessions).arg(&cursor).arg("COUNT").arg(PAGE_LEN);
            let answer = servers.call(Lane::Read, &group, &command, *timeout).await?;
            let Some([next, entries]) = answer.values() else { return Err(Failure::Unexpected("no page of sessions").into()) };
            for pair in entries.values().unwrap_or_default().chunks_exact(2) {
                let read = pair[0].text().zip(pair[1].bytes()).and_then(|(session, entry)| entry::decode(session, entry));
                match read {
                    // Their node's lease is over, and they are about to be cleared away.
                    Some((owner, _)) if lost.contains(&owner) => {}
                    Some((_, info)) => _ = found.insert(info.session, Arc::new(info)),
                    None => not_understood += 1,
                }
            }
            if found.len() > LIST_MAX {
                return Err(Unavailable(format!("more than {LIST_MAX} sessions listen to {}: ask how many instead", topic.local())));
            }
            match next.text() {
                Some("0") => break,
                Some(next) => next.clone_into(&mut cursor),
                None => return Err(Failure::Unexpected("no cursor").into()),
            }
        }
        if not_understood > 0 {
            tracing::error!(%topic, not_understood, "sessions were listed that another version of the broker wrote, and are left out");
        }
        Ok(found.into_values().collect())
    }

    /// Sessions of a lost node are counted until they are cleared away.
    async fn count(&self, topic: &Topic) -> Result<PresenceStats, Unavailable> {
        let Calls { servers, keys, timeout } = &self.inner.calls;
        let group = keys.topic(topic);
        let [sessions, people, ..] = calls::names(&group);
        let [sessions, people] = [sessions, people].map(|name| Command::new("HLEN").arg(name));
        let count = |command| servers.call(Lane::Read, &group, command, *timeout);
        let (sessions, users) = try_join(count(&sessions), count(&people)).await?;
        let number = |answer: &Value| answer.integer().ok_or(Failure::Unexpected("no count"));
        let (sessions, users) = (number(&sessions)?, number(&users)?);
        Ok(PresenceStats { sessions: sessions as usize, users: users as usize })
    }
}
