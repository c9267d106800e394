//! Calls about one session in one topic, one after the other: who comes and goes twice while presence is slow is there or not as it was last.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    task::Poll,
};

use super::{Hub, errands::poll_once};
use crate::{SessionId, Topic, hooks::BoxFuture, panics, sync::Mutex};

/// What waits behind a call that is not answered yet. Sessions and topics without one are not in here.
#[derive(Default)]
pub(super) struct InOrder(Mutex<HashMap<Key, Calls>>);

type Key = (SessionId, Topic);
type Calls = VecDeque<BoxFuture<()>>;

impl Hub {
    /// Runs a call after the earlier ones about the same session and topic. Called by the session's shard only.
    pub(super) fn go_on_in_order(self: &Arc<Self>, session: SessionId, topic: &Topic, mut call: BoxFuture<()>) {
        let key = (session, topic.clone());
        if let Some(waiting) = self.in_order.0.lock().get_mut(&key) {
            return waiting.push_back(call);
        }
        // A call that panicked is counted and logged, and over.
        if !matches!(panics::catch(&self.stats, "presence", || poll_once(&mut call)), Ok(Poll::Pending)) {
            return;
        }
        let Some(runtime) = &self.runtime else { return };
        self.in_order.0.lock().insert(key.clone(), VecDeque::new());
        let hub = self.clone();
        runtime.spawn(async move {
            let mut next = Some(call);
            while let Some(call) = next {
                // What went wrong is counted and logged by the guard; the next one has its turn.
                let _ = panics::guard(&hub.stats, call, hub.rules.settings.hook_timeout).await;
                hub.run_errands();
                next = hub.next_in_order(&key);
            }
        });
    }

    /// The next call of a session and topic; without one, they are forgotten.
    fn next_in_order(&self, key: &Key) -> Option<BoxFuture<()>> {
        let mut all = self.in_order.0.lock();
        let next = all.get_mut(key).and_then(VecDeque::pop_front);
        if next.is_none() {
            all.remove(key);
        }
        next
    }
}
