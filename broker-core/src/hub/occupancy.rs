//! Which topics the application is to be told have listeners, or none any more: in order for each topic, coalesced where it is slow.
//!
//! Noted under the lock of the topic, so that two lives of a topic cannot overtake one another. A change and its opposite that both wait are no
//! news: what waits are topics that have listeners or were told of.

use std::{
    collections::{BTreeMap, HashMap},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use tokio::sync::Notify;

use crate::{Topic, sync::Mutex};

/// What the application is still to be told.
#[derive(Default)]
pub(crate) struct Occupancy {
    /// Somebody wants to know.
    is_heard: bool,
    waiting: Mutex<Waiting>,
    /// Something waits, or nothing will any more.
    changed: Notify,
    closed: AtomicBool,
}

#[derive(Default)]
struct Waiting {
    last_number: u64,
    /// In the order in which they are told.
    changes: BTreeMap<u64, (Topic, bool)>,
    numbers: HashMap<Topic, u64>,
}

impl Occupancy {
    pub(crate) fn new(is_heard: bool) -> Self {
        Self { is_heard, ..Self::default() }
    }

    /// A topic got its first listener, or lost its last.
    pub(super) fn note(&self, topic: &Topic, occupied: bool) {
        if self.is_heard && !topic.is_of_a_user() {
            self.waiting.lock().note(topic, occupied);
            self.changed.notify_one();
        }
    }

    /// The next change; `None`: there will be no more. Cancel-safe.
    pub(crate) async fn next(&self) -> Option<(Topic, bool)> {
        while !self.closed.load(Relaxed) {
            let next = self.waiting.lock().take();
            if next.is_some() {
                return next;
            }
            self.changed.notified().await;
        }
        None
    }

    /// Nobody is told of anything any more.
    pub(super) fn close(&self) {
        self.closed.store(true, Relaxed);
        self.changed.notify_one();
    }
}

impl Waiting {
    fn note(&mut self, topic: &Topic, occupied: bool) {
        // Changes of a topic alternate: what waits is the opposite.
        if let Some(number) = self.numbers.remove(topic) {
            self.changes.remove(&number);
            return;
        }
        self.last_number += 1;
        self.changes.insert(self.last_number, (topic.clone(), occupied));
        self.numbers.insert(topic.clone(), self.last_number);
    }

    fn take(&mut self) -> Option<(Topic, bool)> {
        let (_, (topic, occupied)) = self.changes.pop_first()?;
        self.numbers.remove(&topic);
        if self.numbers.is_empty() {
            self.numbers = HashMap::new();
        }
        Some((topic, occupied))
    }
}

#[cfg(all(test, not(broker_model)))]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_told_in_order_and_a_change_and_its_opposite_are_no_news() {
        let mut waiting = Waiting::default();
        let topic = |name: &str| -> Topic { name.parse().unwrap() };
        for n in 0..1_000 {
            let passing = topic(&format!("passing:{n}"));
            waiting.note(&passing, true);
            waiting.note(&passing, false);
        }
        for name in ["a", "b", "c"] {
            waiting.note(&topic(name), true);
        }
        assert_eq!((waiting.changes.len(), waiting.numbers.len()), (3, 3));
        waiting.note(&topic("b"), false);
        assert_eq!(waiting.take(), Some((topic("a"), true)));
        waiting.note(&topic("a"), false);
        assert_eq!(waiting.take(), Some((topic("c"), true)));
        assert_eq!(waiting.take(), Some((topic("a"), false)));
        assert_eq!(waiting.take(), None);
    }
}
