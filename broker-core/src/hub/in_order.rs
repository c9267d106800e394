//! Calls about one person in one topic, one after the other: who comes and goes while presence is slow is there or not as it was last, and
//! is told in that order, whichever of the person's sessions it was.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::Arc,
    task::Poll,
};

use tokio::sync::oneshot;

use super::{Hub, errands::poll_once};
use crate::{SessionInfo, Topic, hooks::BoxFuture, panics, presence::Person, sync::Mutex};

/// What waits behind a call that is not done yet. People and topics without one are not in here.
#[derive(Default)]
pub(super) struct InOrder(Mutex<HashMap<Key, Calls>>);

type Key = (Person, Topic);
type Calls = VecDeque<BoxFuture<()>>;

impl Hub {
    /// Runs a call after the earlier ones about the same person and topic.
    pub(super) fn go_on_in_order(self: &Arc<Self>, who: &SessionInfo, topic: &Topic, call: BoxFuture<()>) {
        let key = (Person::of(who), topic.clone());
        let call = enter(&mut self.in_order.0.lock(), &key, call);
        self.begin(key, call);
    }

    /// Runs a call after the earlier ones about two people, and before the later ones about either.
    pub(super) fn go_on_in_order_of_both(self: &Arc<Self>, first: &SessionInfo, second: &SessionInfo, topic: &Topic, call: BoxFuture<()>) {
        let keys = [first, second].map(|who| (Person::of(who), topic.clone()));
        if keys[0] == keys[1] {
            return self.go_on_in_order(first, topic, call);
        }
        let (its_turn, turn_of_second) = oneshot::channel::<()>();
        let (done, is_done) = oneshot::channel::<()>();
        let call: BoxFuture<()> = Box::pin(async move {
            // An error is as good: the other place is gone, as after a timeout.
            let _ = turn_of_second.await;
            call.await;
            drop(done);
        });
        let place: BoxFuture<()> = Box::pin(async move {
            drop(its_turn);
            let _ = is_done.await;
        });
        let [first, second] = keys;
        // Both in one step: two such calls stand in the same order for both people, and never wait for each other.
        let mut all = self.in_order.0.lock();
        let (call, place) = (enter(&mut all, &first, call), enter(&mut all, &second, place));
        drop(all);
        self.begin(second, place);
        self.begin(first, call);
    }

    /// Runs what is first, and what has come after it meanwhile.
    fn begin(self: &Arc<Self>, key: Key, mut next: Option<BoxFuture<()>>) {
        while let Some(mut call) = next {
            // A call that panicked is counted and logged, and over.
            if matches!(panics::catch(&self.stats, "presence", || poll_once(&mut call)), Ok(Poll::Pending))
                && let Some(runtime) = &self.runtime
            {
                runtime.spawn(self.clone().finish(key, call));
                return;
            }
            next = self.next_in_order(&key);
        }
    }

    async fn finish(self: Arc<Self>, key: Key, call: BoxFuture<()>) {
        let mut next = Some(call);
        while let Some(call) = next {
            // What went wrong is counted and logged by the guard; the next one has its turn.
            let _ = panics::guard(&self.stats, call, self.rules.settings.hook_timeout).await;
            self.run_errands();
            next = self.next_in_order(&key);
        }
    }

    /// The next call about a person and topic; without one, they are forgotten.
    fn next_in_order(&self, key: &Key) -> Option<BoxFuture<()>> {
        let mut all = self.in_order.0.lock();
        let next = all.get_mut(key).and_then(VecDeque::pop_front);
        if next.is_none() {
            all.remove(key);
        }
        next
    }
}

/// Gives the call back if nothing stands before it; what comes later then waits for it.
fn enter(all: &mut HashMap<Key, Calls>, key: &Key, call: BoxFuture<()>) -> Option<BoxFuture<()>> {
    match all.entry(key.clone()) {
        Entry::Occupied(mut calls) => {
            calls.get_mut().push_back(call);
            None
        }
        Entry::Vacant(calls) => {
            calls.insert(Calls::new());
            Some(call)
        }
    }
}
