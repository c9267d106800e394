//! Who keeps how many bytes: the node, each namespace, and each topic's share in both.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use crate::{Bound, Full, Kept, Topic, sync::Mutex};

/// The bytes of a node and its namespaces.
pub(super) struct Ledger {
    max: usize,
    node: Arc<AtomicUsize>,
    namespaces: Mutex<HashMap<Box<str>, Weak<AtomicUsize>>>,
}

/// What one topic keeps. Dropped, it gives everything back.
pub(super) struct Share {
    namespace: Option<Box<str>>,
    of_namespace: Arc<AtomicUsize>,
    of_node: Arc<AtomicUsize>,
    node_max: usize,
    bytes: usize,
}

impl Ledger {
    pub(super) fn new(max: usize) -> Self {
        Self { max, node: Arc::default(), namespaces: Mutex::default() }
    }

    /// The share of a topic, empty.
    pub(super) fn share(&self, topic: &Topic) -> Share {
        let name = topic.namespace().unwrap_or_default();
        let mut namespaces = self.namespaces.lock();
        let of_namespace = namespaces.get(name).and_then(Weak::upgrade).unwrap_or_else(|| {
            let fresh = Arc::default();
            namespaces.insert(name.into(), Arc::downgrade(&fresh));
            fresh
        });
        Share { namespace: topic.namespace().map(Into::into), of_namespace, of_node: self.node.clone(), node_max: self.max, bytes: 0 }
    }

    /// Forgets namespaces of which nothing is kept.
    pub(super) fn sweep(&self) {
        self.namespaces.lock().retain(|_, bytes| bytes.strong_count() > 0);
    }

    pub(super) fn kept(&self) -> Kept {
        let namespaces = self.namespaces.lock();
        let each = namespaces.iter().filter_map(|(name, bytes)| Some((name.clone(), bytes.upgrade()?.load(Relaxed))));
        Kept { bytes: self.node.load(Relaxed), namespaces: each.collect() }
    }
}

impl Share {
    /// Takes what is missing up to `bytes`, or nothing where that is too much.
    pub(super) fn grow_to(&mut self, bytes: usize, namespace_max: usize) -> Result<(), Full> {
        let Some(more) = bytes.checked_sub(self.bytes).filter(|more| *more > 0) else { return Ok(()) };
        take(&self.of_namespace, more, namespace_max).map_err(|max| self.full(Bound::Namespace, max))?;
        if let Err(max) = take(&self.of_node, more, self.node_max) {
            self.of_namespace.fetch_sub(more, Relaxed);
            return Err(self.full(Bound::Node, max));
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Says how many bytes there are, whatever the bounds are.
    pub(super) fn set(&mut self, bytes: usize) {
        if let Some(less) = self.bytes.checked_sub(bytes) {
            if less > 0 {
                self.of_namespace.fetch_sub(less, Relaxed);
                self.of_node.fetch_sub(less, Relaxed);
            }
        } else {
            self.of_namespace.fetch_add(bytes - self.bytes, Relaxed);
            self.of_node.fetch_add(bytes - self.bytes, Relaxed);
        }
        self.bytes = bytes;
    }

    pub(super) fn full(&self, bound: Bound, max: usize) -> Full {
        Full { bound, max, namespace: self.namespace.clone() }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Adds within a bound; gives the bound where that is passed.
fn take(bytes: &AtomicUsize, more: usize, max: usize) -> Result<(), usize> {
    let before = bytes.fetch_add(more, Relaxed);
    if before.saturating_add(more) <= max {
        return Ok(());
    }
    bytes.fetch_sub(more, Relaxed);
    Err(max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_changes_nothing_and_what_goes_is_given_back() {
        let ledger = Ledger::new(100);
        let chat: Topic = "chat:1".parse().unwrap();
        let mut share = ledger.share(&chat);
        let mut other = ledger.share(&"news".parse().unwrap());
        assert_eq!(share.grow_to(60, 50).unwrap_err(), Full { bound: Bound::Namespace, max: 50, namespace: Some("chat".into()) });
        share.grow_to(50, 50).unwrap();
        assert_eq!(other.grow_to(51, 1000).unwrap_err(), Full { bound: Bound::Node, max: 100, namespace: None });
        other.grow_to(50, 1000).unwrap();
        share.grow_to(20, 10).unwrap();
        assert_eq!(ledger.kept().bytes, 100, "what is there already needs no room");
        share.set(20);
        assert_eq!(ledger.kept().bytes, 70);
        drop((share, other));
        assert_eq!(ledger.kept().bytes, 0);
        ledger.sweep();
        assert_eq!(ledger.kept(), Kept::default());
    }
}
