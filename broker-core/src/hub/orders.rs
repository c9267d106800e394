//! How a shard finds the sessions that the server means, and does with them what it wants.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::SystemTime,
};

use tokio::time::Instant;

use super::{
    backlog::Backlog,
    conn::{Conn, Occupant},
    control::{Errand, Order},
    inbox::SlotRef,
    shard::Shard,
};
use crate::{
    Act, CloseReason, Publication, Publish, Revocation, Revoked, SessionId, SessionReport, Subject, Target, TargetSet, Tenant, Topic,
    UserId, session::Completion,
};

/// Which sessions of a shard are whose.
#[derive(Debug, Default)]
pub(super) struct Whose {
    sessions: HashMap<SessionId, u32>,
    users: HashMap<(UserId, Option<Tenant>), Vec<u32>>,
}

impl Whose {
    pub(super) fn add(&mut self, slot: u32, subject: &Subject) {
        self.sessions.insert(subject.session, slot);
        if !subject.user.is_anonymous() {
            let slots = self.users.entry((subject.user.clone(), subject.tenant().cloned())).or_default();
            if slots.capacity() == 0 {
                // Most users have one session: the default first allocation is four.
                slots.reserve_exact(1);
            }
            slots.push(slot);
        }
    }

    pub(super) fn remove(&mut self, slot: u32, subject: &Subject) {
        self.sessions.remove(&subject.session);
        let key = (subject.user.clone(), subject.tenant().cloned());
        if let Some(slots) = self.users.get_mut(&key) {
            slots.retain(|of| *of != slot);
            if slots.is_empty() {
                self.users.remove(&key);
            }
        }
    }
}

impl Shard {
    /// Does what every shard is ordered to do.
    pub(super) fn obey(&mut self, errand: &Arc<Errand>, now: Instant) {
        match &errand.order {
            Order::Act(target, act) => {
                for at in self.meant(target) {
                    self.act(at, target, act, errand, now);
                }
            }
            Order::Revoke(revocation) => {
                for at in self.revoked(revocation) {
                    errand.count();
                    self.cut(at, now);
                }
            }
            Order::Report(target) => {
                for at in self.meant(target) {
                    if !errand.has_room() {
                        break;
                    }
                    if let Some(report) = self.report(at) {
                        errand.report(report);
                    }
                }
            }
            Order::Groups => {
                let members = self.names.iter().filter_map(|(topic, id)| Some((topic, self.topics.get(id)?)));
                let members = members.flat_map(|(topic, members)| members.slots().map(move |slot| (topic, slot)));
                for (topic, slot) in members.chain(self.not_yet_members()).filter(|(topic, _)| topic.as_group().is_some()) {
                    if let Some(conn) = self.connected(slot) {
                        errand.group(topic, conn.session.info().user.clone());
                    }
                }
            }
        }
    }

    fn act(&mut self, at: SlotRef, target: &Target, act: &Act, errand: &Arc<Errand>, now: Instant) {
        let completion = || Completion(errand.clone());
        match act {
            Act::Count => errand.count(),
            Act::Send(publish) => {
                let Some(conn) = self.connected(at.slot) else { return };
                let info = conn.session.info();
                let Some(topic) = meaning(target, conn).filter(|_| publish.except.as_ref().is_none_or(|except| !except.means(info))) else {
                    return;
                };
                errand.count();
                self.send(at, topic, publish, now);
            }
            Act::Subscribe { subscription, since } => {
                let (subscription, since, errand) = (subscription.clone(), *since, errand.clone());
                let completion = completion();
                self.converse(at, now, |session, _, effects| {
                    if session.order_subscribe(subscription, since, completion, effects) {
                        errand.count();
                    }
                });
            }
            Act::Unsubscribe(topic) => {
                let errand = errand.clone();
                self.converse(at, now, |session, now, effects| {
                    if session.order_unsubscribe(topic, now, effects) {
                        errand.count();
                    }
                });
            }
            Act::Disconnect { code, reason, reconnect_after, whitelist } => {
                if self.connected(at.slot).is_some_and(|conn| whitelist.contains(&conn.session.info().session)) {
                    return;
                }
                errand.count();
                let reason = CloseReason::Ordered { code: *code, reason: reason.clone(), reconnect_after: *reconnect_after };
                self.converse(at, now, |session, _, effects| session.order_close(reason, effects));
            }
            Act::Refresh { expires_at } => {
                errand.count();
                let ttl = expires_at.map(|at| at.duration_since(SystemTime::now()).unwrap_or_default());
                self.converse(at, now, |session, now, effects| session.order_refresh(ttl, now, effects));
            }
            Act::Expire => {
                errand.count();
                self.converse(at, now, |session, _, effects| session.order_close(CloseReason::CredentialsExpired, effects));
            }
            Act::ChangeIdentity(identity) => {
                errand.count();
                let (identity, completion) = (identity.clone(), completion());
                self.converse(at, now, |session, _, effects| session.order_identity(identity, completion, effects));
            }
        }
    }

    fn send(&mut self, at: SlotRef, topic: Topic, publish: &Publish, now: Instant) {
        let publication = Arc::new(Publication::new(topic, publish.clone()));
        self.converse(at, now, |session, _, effects| session.order_send(publication, effects));
        // What is sent stands in no history: a client that does not read it is cut, and learns by that what it misses.
        let max = self.hub.rules.settings.backlog_max_bytes;
        let Some(Occupant::Connection(conn)) = self.slots.get_mut(at.slot as usize).and_then(|slot| slot.occupant.as_mut()) else { return };
        if conn.backlog.bytes() > max {
            super::writing::write(conn, &mut self.chunks, &mut self.tally);
            let backlog_bytes = conn.backlog.bytes();
            if backlog_bytes > max {
                self.converse(at, now, |session, _, effects| session.close(CloseReason::SlowConsumer { backlog_bytes }, effects));
            }
        }
    }

    /// Ends a session whose credentials are revoked: of what waits for it nothing more is written but the close.
    fn cut(&mut self, at: SlotRef, now: Instant) {
        self.converse(at, now, |session, _, effects| session.order_close(CloseReason::Revoked, effects));
        let Some(Occupant::Connection(conn)) = self.slots.get_mut(at.slot as usize).and_then(|slot| slot.occupant.as_mut()) else { return };
        // Without an outlet yet, nothing but the close waits for it.
        if let Some(mut outlet) = conn.outlet.take() {
            conn.backlog.chunks(usize::MAX, &mut self.chunks);
            outlet.cut(&self.chunks);
            self.chunks.clear();
            conn.backlog = Backlog::default();
            conn.finished = true;
        }
    }

    /// The connected sessions that a target means; each once.
    fn meant(&self, target: &Target) -> Vec<SlotRef> {
        let mut slots = self.candidates(target);
        slots.sort_unstable();
        slots.dedup();
        slots.retain(|slot| self.connected(*slot).is_some_and(|conn| meaning(target, conn).is_some()));
        slots.into_iter().map(|slot| self.at(slot)).collect()
    }

    /// Slots among which are all that the target means.
    fn candidates(&self, target: &Target) -> Vec<u32> {
        match target {
            Target::User { user, tenant } => self.whose.users.get(&(user.clone(), tenant.clone())).cloned().unwrap_or_default(),
            Target::Session(session) => self.whose.sessions.get(session).copied().into_iter().collect(),
            Target::Topic(topic) => {
                if let Some(session) = session_of(topic) {
                    return self.whose.sessions.get(&session).copied().into_iter().collect();
                }
                let members = self.topic_of(topic).and_then(|id| self.topics.get(&id));
                let others = self.not_yet_members().filter(|(of, _)| *of == topic).map(|(_, slot)| slot);
                members.into_iter().flat_map(|members| members.slots()).chain(others).collect()
            }
            Target::Set(TargetSet { any, all, .. }) if any.is_empty() => {
                all.first().map(|first| self.candidates(first)).unwrap_or_default()
            }
            Target::Set(TargetSet { any, .. }) => any.iter().flat_map(|target| self.candidates(target)).collect(),
        }
    }

    fn revoked(&self, revocation: &Revocation) -> Vec<SlotRef> {
        let slots: BTreeSet<u32> = match &revocation.whose {
            Revoked::User(user) => {
                self.whose.users.get(&(user.clone(), revocation.tenant.clone())).into_iter().flatten().copied().collect()
            }
            Revoked::Token(_) | Revoked::Group(_) => self.whose.sessions.values().copied().collect(),
        };
        let now = SystemTime::now();
        let is_meant = |slot: &u32| self.connected(*slot).is_some_and(|conn| revocation.means_session(conn.session.subject(), now));
        slots.into_iter().filter(is_meant).map(|slot| self.at(slot)).collect()
    }

    /// The connection in a slot, if its session is somebody.
    fn connected(&self, slot: u32) -> Option<&Conn> {
        match &self.slots.get(slot as usize)?.occupant {
            Some(Occupant::Connection(conn)) if conn.life.user.is_some() => Some(conn),
            _ => None,
        }
    }

    fn report(&self, at: SlotRef) -> Option<SessionReport> {
        let conn = self.connected(at.slot)?;
        let subject = conn.session.subject();
        Some(SessionReport {
            session: subject.session,
            user: subject.user.clone(),
            rule: subject.rule.clone(),
            since: SystemTime::now() - conn.life.opened_at.elapsed(),
            address: conn.life.peer,
            transport: conn.life.transport.into(),
            protocol: conn.codec.protocol.name().into(),
            groups: subject.groups().to_vec(),
            topics: conn.session.topics().cloned().collect(),
            backlog_bytes: conn.backlog.bytes(),
            node: self.hub.node_id(),
        })
    }
}

/// The topic by which a session is meant; `None`: it is not. Where a set names several, the first of them.
fn meaning(target: &Target, conn: &Conn) -> Option<Topic> {
    let subject = conn.session.subject();
    match target {
        Target::User { user, tenant } => {
            let is_meant = !user.is_anonymous() && subject.user == *user && subject.tenant() == tenant.as_ref();
            is_meant.then(|| topic_of_user(conn))
        }
        Target::Session(session) => (subject.session == *session).then(|| Topic::of_session(*session)),
        Target::Topic(topic) => match session_of(topic) {
            Some(session) => {
                let is_meant = subject.session == session && topic.tenant() == subject.tenant().map(Tenant::as_str);
                is_meant.then(|| topic.clone())
            }
            None => conn.session.is_live_in(topic).then(|| topic.clone()),
        },
        Target::Set(TargetSet { any, all, except }) => {
            let by_any = any.iter().find_map(|target| meaning(target, conn));
            if !any.is_empty() && by_any.is_none() {
                return None;
            }
            let mut by_all = None;
            for target in all {
                let by = meaning(target, conn)?;
                by_all.get_or_insert(by);
            }
            if except.iter().any(|target| meaning(target, conn).is_some()) {
                return None;
            }
            by_any.or(by_all)
        }
    }
}

/// The topic in which a session hears what its user is sent: the user's, or its own where there is none.
fn topic_of_user(conn: &Conn) -> Topic {
    let subject = conn.session.subject();
    let of_user = Topic::of_user(&subject.user).and_then(Result::ok).and_then(|topic| match subject.tenant() {
        Some(tenant) => topic.in_tenant(tenant).ok(),
        None => Some(topic),
    });
    of_user.filter(|topic| conn.session.is_live_in(topic)).unwrap_or_else(|| Topic::of_session(subject.session))
}

/// The session whose own topic this is.
fn session_of(topic: &Topic) -> Option<SessionId> {
    topic.local().strip_prefix("session:")?.parse().ok()
}
