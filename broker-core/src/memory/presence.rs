//! Presence of one node, in memory.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use dashmap::DashMap;
use tokio::time::Instant;

use crate::{
    Presence, PresenceStats, SessionId, SessionInfo, Topic, Unavailable,
    presence::{Arrival, Departure, Person},
};

/// Who listens, on one node. It goes with the process.
#[derive(Debug, Default)]
pub struct MemoryPresence(DashMap<Topic, Listeners>);

/// Who listens to one topic.
#[derive(Debug, Default)]
struct Listeners {
    sessions: HashMap<SessionId, Arc<SessionInfo>>,
    people: HashMap<Person, Stay>,
}

/// How somebody is there.
#[derive(Clone, Copy, Debug)]
enum Stay {
    /// With so many sessions.
    Here(usize),
    /// Since this session left; without anybody who settles it, until then.
    Lingers { last: SessionId, until: Instant },
}

impl MemoryPresence {
    /// Nobody listens.
    pub fn new() -> Self {
        Self::default()
    }

    fn forget_if_empty(&self, topic: &Topic) {
        self.0.remove_if(topic, |_, listeners| listeners.people.is_empty());
    }
}

impl Listeners {
    fn upsert(&mut self, info: Arc<SessionInfo>) -> Arrival {
        let person = Person::of(&info);
        let before = self.sessions.insert(info.session, info).map(|before| Person::of(&before));
        if before.as_ref() == Some(&person) {
            return Arrival::default();
        }
        let left = before.is_some_and(|before| self.one_less(&before));
        let stay = self.people.entry(person).or_insert(Stay::Here(0));
        let joined = match *stay {
            Stay::Here(sessions) => sessions == 0,
            Stay::Lingers { until, .. } => until < Instant::now(),
        };
        *stay = Stay::Here(if let Stay::Here(sessions) = *stay { sessions + 1 } else { 1 });
        Arrival { joined, left }
    }

    fn remove(&mut self, session: SessionId, linger: Duration) -> Departure {
        let Some(person) = self.sessions.remove(&session).map(|info| Person::of(&info)) else { return Departure::Unnoticed };
        if !self.one_less(&person) {
            return Departure::Unnoticed;
        }
        if linger.is_zero() || matches!(person, Person::Session(_)) {
            return Departure::Left;
        }
        // Twice the time: whoever settles it may be late.
        self.people.insert(person, Stay::Lingers { last: session, until: Instant::now() + linger * 2 });
        Departure::Lingers
    }

    /// Takes one session from somebody; whether that was the last.
    fn one_less(&mut self, person: &Person) -> bool {
        match self.people.get_mut(person) {
            Some(Stay::Here(sessions)) if *sessions > 1 => {
                *sessions -= 1;
                false
            }
            _ => self.people.remove(person).is_some(),
        }
    }

    fn settle(&mut self, who: &SessionInfo) -> bool {
        let person = Person::of(who);
        let is_due = matches!(self.people.get(&person), Some(Stay::Lingers { last, .. }) if *last == who.session);
        is_due && self.people.remove(&person).is_some()
    }
}

#[async_trait]
impl Presence for MemoryPresence {
    async fn upsert(&self, topic: &Topic, info: Arc<SessionInfo>) -> Result<Arrival, Unavailable> {
        Ok(self.0.entry(topic.clone()).or_default().upsert(info))
    }

    async fn remove(&self, topic: &Topic, session: SessionId, linger: Duration) -> Result<Departure, Unavailable> {
        let departure = self.0.get_mut(topic).map_or(Departure::Unnoticed, |mut listeners| listeners.remove(session, linger));
        self.forget_if_empty(topic);
        Ok(departure)
    }

    async fn settle(&self, topic: &Topic, who: &SessionInfo) -> Result<bool, Unavailable> {
        let has_left = self.0.get_mut(topic).is_some_and(|mut listeners| listeners.settle(who));
        self.forget_if_empty(topic);
        Ok(has_left)
    }

    async fn list(&self, topic: &Topic) -> Result<Vec<Arc<SessionInfo>>, Unavailable> {
        Ok(self.0.get(topic).map(|listeners| listeners.sessions.values().cloned().collect()).unwrap_or_default())
    }

    async fn count(&self, topic: &Topic) -> Result<PresenceStats, Unavailable> {
        let Some(listeners) = self.0.get(topic) else { return Ok(PresenceStats::default()) };
        let users = listeners.people.values().filter(|stay| matches!(stay, Stay::Here(_))).count();
        Ok(PresenceStats { sessions: listeners.sessions.len(), users })
    }
}
