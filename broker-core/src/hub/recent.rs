//! What the server has said of users in the last minutes, for those who are looked up meanwhile: an order finds only sessions that are somebody.
//! What is said for longer lives in the registry.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{Act, Member, Revocation, Revoked, Subject, Target, Tenant, Topic, session::AsOf};

/// What is said is kept at least so long.
const KEPT_MIN: Duration = Duration::from_secs(120);
/// Answers of the application, each within twice its timeout, between the look at the registry and the session that is somebody; and as much
/// again for the way.
const HOOK_TIMEOUTS: u32 = 8;
/// Entries before those are forgotten that are past their time.
const ENTRIES_MIN: usize = 1024;

/// What the server has said of users in the last minutes.
pub(crate) struct Recent {
    kept: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The latest moment up to which credentials are revoked.
    revocations: Timed<(Option<Tenant>, Revoked), Option<SystemTime>>,
    moves: Timed<Member, Vec<Move>>,
    last: AsOf,
}

struct Move {
    at: Instant,
    number: AsOf,
    moved: Moved,
}

/// A user was joined to a group, or taken out of it.
#[derive(Clone)]
pub(super) struct Moved {
    /// The group's topic, by its local name.
    pub(super) topic: Topic,
    pub(super) is_in: bool,
}

/// Entries by when they were last touched; those past their time go when the map has doubled since it was last looked through.
struct Timed<K, V> {
    entries: HashMap<K, (Instant, V)>,
    sweep_at_len: usize,
}

impl<K, V> Default for Timed<K, V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), sweep_at_len: ENTRIES_MIN }
    }
}

impl<K: Eq + Hash, V: Default> Timed<K, V> {
    fn touch(&mut self, key: K, kept: Duration) -> &mut V {
        let now = Instant::now();
        if self.entries.len() >= self.sweep_at_len {
            self.entries.retain(|_, (at, _)| *at + kept > now);
            self.sweep_at_len = (self.entries.len() * 2).max(ENTRIES_MIN);
        }
        let (at, value) = self.entries.entry(key).or_insert_with(|| (now, V::default()));
        *at = now;
        value
    }
}

impl Recent {
    pub(super) fn new(hook_timeout: Duration) -> Self {
        Self { kept: KEPT_MIN.max(hook_timeout * HOOK_TIMEOUTS), state: Mutex::default() }
    }

    pub(super) fn revoke(&self, Revocation { whose, tenant, before }: Revocation) {
        let mut state = self.state.lock();
        let latest = state.revocations.touch((tenant, whose), self.kept);
        *latest = (*latest).max(Some(before));
    }

    /// Whether one of the revocations means this subject.
    pub(super) fn revoked(&self, subject: &Subject) -> bool {
        let state = self.state.lock();
        if state.revocations.entries.is_empty() {
            return false;
        }
        Revoked::naming(subject).any(|whose| {
            let key = (subject.tenant().cloned(), whose);
            let before = state.revocations.entries.get(&key).and_then(|(_, before)| *before);
            before.is_some_and(|before| Revocation { whose: key.1, tenant: key.0, before }.means(subject))
        })
    }

    /// Notes an order that joins a user to a group or takes it out of one; others concern only sessions that are somebody.
    pub(super) fn act(&self, target: &Target, act: &Act) {
        let Target::User { user, tenant } = target else { return };
        let (topic, is_in) = match act {
            Act::Subscribe { subscription, .. } => (&subscription.topic, true),
            Act::Unsubscribe(topic) => (topic, false),
            _ => return,
        };
        if topic.tenant().is_some() && topic.tenant() != tenant.as_ref().map(Tenant::as_str) {
            return;
        }
        let Some(Ok(topic)) = topic.as_group().map(Topic::group) else { return };
        let mut state = self.state.lock();
        state.last.0 += 1;
        let (at, number) = (Instant::now(), state.last);
        let moves = state.moves.touch(Member { user: user.clone(), tenant: tenant.clone() }, self.kept);
        moves.retain(|earlier| earlier.at + self.kept > at && earlier.moved.topic != topic);
        moves.push(Move { at, number, moved: Moved { topic, is_in } });
    }

    /// What whoever asks the registry from here on knows of memberships.
    pub(super) fn as_of(&self) -> AsOf {
        self.state.lock().last
    }

    /// How memberships of the subject's user were changed since.
    pub(super) fn moved_since(&self, as_of: AsOf, subject: &Subject) -> Vec<Moved> {
        let state = self.state.lock();
        if state.last == as_of {
            return Vec::new();
        }
        let member = Member { user: subject.user.clone(), tenant: subject.tenant().cloned() };
        let moves = state.moves.entries.get(&member).map(|(_, moves)| moves).into_iter().flatten();
        moves.filter(|entry| entry.number > as_of).map(|entry| entry.moved.clone()).collect()
    }
}
