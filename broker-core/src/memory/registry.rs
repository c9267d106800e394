//! What the server has said of users and tokens, in the memory of one node.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{Member, Registry, Revocation, Revoked, Subject, Tenant, Unavailable};

/// Most memberships, revocations and tickets, each. A further one is refused: what was promised is never forgotten before its time.
const ENTRIES_MAX: usize = 1_000_000;

/// What the server has said of users and tokens. It goes with the process.
#[derive(Debug, Default)]
pub struct MemoryRegistry(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    memberships: Expiring<Member, HashMap<Box<str>, Instant>>,
    revocations: Expiring<(Option<Tenant>, Revoked), Vec<Moment>>,
    tickets: Expiring<Box<str>, (Bytes, Instant)>,
}

/// Up to when credentials are revoked, and how long that is kept.
type Moment = (SystemTime, Instant);

/// Entries with ends of their own; those past them go when the map has doubled since it was last looked through.
#[derive(Debug)]
struct Expiring<K, V> {
    entries: HashMap<K, V>,
    sweep_at_len: usize,
}

impl<K, V> Default for Expiring<K, V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), sweep_at_len: 1024 }
    }
}

impl<K: Eq + Hash, V> Expiring<K, V> {
    /// Makes room for one more, where there is none after `keeps` has said which entries stay.
    fn make_room(&mut self, keeps: impl FnMut(&K, &mut V) -> bool) -> Result<(), Unavailable> {
        if self.entries.len() >= self.sweep_at_len {
            self.entries.retain(keeps);
            self.sweep_at_len = (self.entries.len() * 2).clamp(1024, ENTRIES_MAX);
        }
        if self.entries.len() >= ENTRIES_MAX {
            return Err(Unavailable(format!("{ENTRIES_MAX} entries are kept already")));
        }
        Ok(())
    }
}

impl MemoryRegistry {
    /// Nothing was said.
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl Registry for MemoryRegistry {
    async fn join(&self, member: &Member, group: &str, keep: Duration) -> Result<(), Unavailable> {
        let (mut state, now) = (self.0.lock(), Instant::now());
        state.memberships.make_room(|_, groups| {
            groups.retain(|_, until| *until > now);
            !groups.is_empty()
        })?;
        state.memberships.entries.entry(member.clone()).or_default().insert(group.into(), now + keep);
        Ok(())
    }

    async fn leave(&self, member: &Member, group: &str) -> Result<(), Unavailable> {
        let mut state = self.0.lock();
        if let Some(groups) = state.memberships.entries.get_mut(member) {
            groups.remove(group);
            if groups.is_empty() {
                state.memberships.entries.remove(member);
            }
        }
        Ok(())
    }

    async fn groups_of(&self, member: &Member) -> Result<Vec<Box<str>>, Unavailable> {
        let (state, now) = (self.0.lock(), Instant::now());
        let groups = state.memberships.entries.get(member).into_iter().flatten();
        Ok(groups.filter(|(_, until)| **until > now).map(|(group, _)| group.clone()).collect())
    }

    async fn revoke(&self, revocation: &Revocation, keep: Duration) -> Result<(), Unavailable> {
        let (mut state, now) = (self.0.lock(), Instant::now());
        state.revocations.make_room(|_, moments| {
            moments.retain(|(_, until)| *until > now);
            !moments.is_empty()
        })?;
        let key = (revocation.tenant.clone(), revocation.whose.clone());
        let moments = state.revocations.entries.entry(key).or_default();
        // An older moment that is not kept longer says nothing more.
        moments.retain(|(before, until)| *until > now && (*before > revocation.before || *until > now + keep));
        moments.push((revocation.before, now + keep));
        Ok(())
    }

    async fn revocation_of(&self, subject: &Subject) -> Result<Option<Revocation>, Unavailable> {
        let (state, now) = (self.0.lock(), Instant::now());
        if state.revocations.entries.is_empty() {
            return Ok(None);
        }
        for whose in Revoked::naming(subject) {
            let key = (subject.tenant().cloned(), whose);
            for (before, until) in state.revocations.entries.get(&key).into_iter().flatten() {
                let revocation = Revocation { whose: key.1.clone(), tenant: key.0.clone(), before: *before };
                if *until > now && revocation.means(subject) {
                    return Ok(Some(revocation));
                }
            }
        }
        Ok(None)
    }

    async fn put_ticket(&self, ticket: &str, content: Bytes, keep: Duration) -> Result<(), Unavailable> {
        let (mut state, now) = (self.0.lock(), Instant::now());
        state.tickets.make_room(|_, (_, until)| *until > now)?;
        state.tickets.entries.insert(ticket.into(), (content, now + keep));
        Ok(())
    }

    async fn take_ticket(&self, ticket: &str) -> Result<Option<Bytes>, Unavailable> {
        let taken = self.0.lock().tickets.entries.remove(ticket);
        Ok(taken.filter(|(_, until)| *until > Instant::now()).map(|(content, _)| content))
    }
}
