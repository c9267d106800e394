//! What this node has said of its sessions, and what of it Redis may not know. Saying it lives in `calls`, saying it again in `repair`.

use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::Arc,
};

use broker_core::{SessionId, SessionInfo, Topic};
use parking_lot::Mutex;

/// Removals that may wait for Redis. With more, the node says all its sessions again under another owner, and clears the former one away.
const GONE_MAX: usize = 1 << 18;

/// What was said, by topic.
#[derive(Default)]
pub(super) struct Said {
    state: Mutex<State>,
}

/// A session in a topic.
type InTopic = (Topic, SessionId);
/// Who a session was, where that is known.
type Who = Option<Arc<SessionInfo>>;

#[derive(Default)]
struct State {
    topics: HashMap<Topic, Sessions>,
    /// Topics of which Redis may know something else than was said.
    doubtful: HashSet<Topic>,
    /// Sessions that listen no more, of which Redis may not know it.
    gone: HashMap<InTopic, Who>,
    overflowed: bool,
}

#[derive(Default)]
struct Sessions {
    sessions: HashMap<SessionId, Arc<SessionInfo>>,
    /// The owner under which the topic is listed as one that has entries.
    listed: Option<Arc<str>>,
}

impl Said {
    pub(super) fn put(&self, topic: &Topic, info: Arc<SessionInfo>) {
        let mut state = self.state.lock();
        state.gone.remove(&(topic.clone(), info.session));
        state.topics.entry(topic.clone()).or_default().sessions.insert(info.session, info);
    }

    /// Who it was, where that is known.
    pub(super) fn remove(&self, topic: &Topic, session: SessionId) -> Option<Arc<SessionInfo>> {
        self.state.lock().topics.get_mut(topic)?.sessions.remove(&session)
    }

    /// Whether the topic is listed under this owner.
    pub(super) fn is_listed(&self, topic: &Topic, owner: &str) -> bool {
        self.state.lock().topics.get(topic).is_some_and(|sessions| sessions.listed.as_deref() == Some(owner))
    }

    pub(super) fn listed(&self, topic: &Topic, owner: &Arc<str>) {
        self.state.lock().topics.entry(topic.clone()).or_default().listed = Some(owner.clone());
    }

    /// Redis may know something else of this topic.
    pub(super) fn doubt(&self, topic: &Topic) {
        self.state.lock().doubtful.insert(topic.clone());
    }

    /// Redis may know something else of every topic.
    pub(super) fn doubt_all(&self) {
        let mut state = self.state.lock();
        let State { topics, doubtful, .. } = &mut *state;
        doubtful.extend(topics.iter().filter(|(_, sessions)| !sessions.sessions.is_empty()).map(|(topic, _)| topic.clone()));
    }

    /// Redis may not know that a session went.
    pub(super) fn doubt_removal(&self, topic: &Topic, session: SessionId, who: Who) {
        let mut state = self.state.lock();
        if state.gone.len() < GONE_MAX {
            state.gone.insert((topic.clone(), session), who);
        } else {
            state.overflowed = true;
        }
    }

    pub(super) fn take_doubtful(&self) -> Vec<Topic> {
        mem::take(&mut self.state.lock().doubtful).into_iter().collect()
    }

    pub(super) fn take_gone(&self) -> Vec<(InTopic, Who)> {
        mem::take(&mut self.state.lock().gone).into_iter().collect()
    }

    /// Whether removals were forgotten.
    pub(super) fn take_overflowed(&self) -> bool {
        mem::take(&mut self.state.lock().overflowed)
    }

    /// The sessions of a topic.
    pub(super) fn sessions_of(&self, topic: &Topic) -> Vec<Arc<SessionInfo>> {
        self.state.lock().topics.get(topic).map(|sessions| sessions.sessions.values().cloned().collect()).unwrap_or_default()
    }

    /// What is said of a session at this moment.
    pub(super) fn session(&self, topic: &Topic, session: SessionId) -> Option<Arc<SessionInfo>> {
        self.state.lock().topics.get(topic)?.sessions.get(&session).cloned()
    }

    /// Forgets topics without sessions, and answers under which owner they are listed.
    pub(super) fn sweep(&self) -> Vec<(Topic, Arc<str>)> {
        let mut state = self.state.lock();
        let mut empty = Vec::new();
        state.topics.retain(|topic, sessions| {
            if sessions.sessions.is_empty() {
                empty.extend(sessions.listed.take().map(|owner| (topic.clone(), owner)));
            }
            !sessions.sessions.is_empty()
        });
        if state.topics.capacity() > 4 * state.topics.len() {
            state.topics.shrink_to_fit();
        }
        empty
    }

    /// Whether a topic has sessions.
    pub(super) fn has(&self, topic: &Topic) -> bool {
        self.state.lock().topics.get(topic).is_some_and(|sessions| !sessions.sessions.is_empty())
    }
}
