//! Which topics have listeners: the map from names to entries. Hands out owned pointers; no guard leaves this file.
//!
//! Lock order: backplane, directory, topic, then inbox or command queue.

use std::sync::Arc;

use super::topic_entry::TopicEntry;
use crate::Topic;

/// Which topics have listeners on this node.
pub(crate) struct Directory(imp::Map);

impl Directory {
    pub(crate) fn new() -> Self {
        Self(imp::Map::default())
    }

    pub(crate) fn find(&self, topic: &Topic) -> Option<Arc<TopicEntry>> {
        imp::find(&self.0, topic)
    }

    /// The entry of the topic, made if there is none. `make` runs under the directory's lock.
    pub(crate) fn find_or_make(&self, topic: &Topic, make: impl FnOnce() -> Arc<TopicEntry>) -> Arc<TopicEntry> {
        imp::find_or_make(&self.0, topic, make)
    }

    /// Removes this entry if `dead` says so, which runs under the directory's lock.
    pub(crate) fn remove_if(&self, entry: &Arc<TopicEntry>, dead: impl FnOnce() -> bool) -> bool {
        imp::remove_if(&self.0, entry, dead)
    }

    /// Every entry, in the order in which they were made: what follows from going through them can be had again.
    pub(crate) fn all(&self) -> Vec<Arc<TopicEntry>> {
        let mut all = imp::all(&self.0);
        all.sort_unstable_by_key(|entry| entry.incarnation);
        all
    }
}

#[cfg(not(broker_model))]
mod imp {
    use super::{Arc, Topic, TopicEntry};

    pub(super) type Map = dashmap::DashMap<Topic, Arc<TopicEntry>>;

    pub(super) fn find(map: &Map, topic: &Topic) -> Option<Arc<TopicEntry>> {
        map.get(topic).map(|entry| entry.clone())
    }

    pub(super) fn find_or_make(map: &Map, topic: &Topic, make: impl FnOnce() -> Arc<TopicEntry>) -> Arc<TopicEntry> {
        find(map, topic).unwrap_or_else(|| map.entry(topic.clone()).or_insert_with(make).clone())
    }

    pub(super) fn remove_if(map: &Map, entry: &Arc<TopicEntry>, dead: impl FnOnce() -> bool) -> bool {
        map.remove_if(&entry.topic, |_, found| Arc::ptr_eq(found, entry) && dead()).is_some()
    }

    pub(super) fn all(map: &Map) -> Vec<Arc<TopicEntry>> {
        map.iter().map(|entry| entry.clone()).collect()
    }
}

#[cfg(broker_model)]
mod imp {
    use std::collections::HashMap;

    use super::{Arc, Topic, TopicEntry};
    use crate::sync::Mutex;

    pub(super) type Map = Mutex<HashMap<Topic, Arc<TopicEntry>>>;

    pub(super) fn find(map: &Map, topic: &Topic) -> Option<Arc<TopicEntry>> {
        map.lock().get(topic).cloned()
    }

    pub(super) fn find_or_make(map: &Map, topic: &Topic, make: impl FnOnce() -> Arc<TopicEntry>) -> Arc<TopicEntry> {
        map.lock().entry(topic.clone()).or_insert_with(make).clone()
    }

    pub(super) fn remove_if(map: &Map, entry: &Arc<TopicEntry>, dead: impl FnOnce() -> bool) -> bool {
        let mut map = map.lock();
        let same = map.get(&entry.topic).is_some_and(|found| Arc::ptr_eq(found, entry));
        if same && dead() {
            map.remove(&entry.topic);
            return true;
        }
        false
    }

    pub(super) fn all(map: &Map) -> Vec<Arc<TopicEntry>> {
        map.lock().values().cloned().collect()
    }
}
