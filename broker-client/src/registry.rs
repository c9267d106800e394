//! Which topics a client listens to, so that nobody subscribes twice.

use std::{
    collections::{HashMap, hash_map},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::machine::SubscriptionId;

/// Topics with a subscription, shared by the handles and the driver.
#[derive(Debug, Default)]
pub(crate) struct Registry(Mutex<HashMap<Arc<str>, SubscriptionId>>);

impl Registry {
    /// Enters a subscription; false when the topic has one.
    pub(crate) fn insert(&self, topic: &Arc<str>, id: SubscriptionId) -> bool {
        match self.lock().entry(topic.clone()) {
            hash_map::Entry::Occupied(_) => false,
            hash_map::Entry::Vacant(free) => {
                free.insert(id);
                true
            }
        }
    }

    /// Removes this subscription, and no later one to the same topic.
    pub(crate) fn remove(&self, topic: &str, id: SubscriptionId) {
        let mut topics = self.lock();
        if topics.get(topic) == Some(&id) {
            topics.remove(topic);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, SubscriptionId>> {
        // A map operation does not panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
