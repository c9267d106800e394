//! What a topic remembers of publishes: idempotency keys, and the newest version of each key.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use crate::{Published, Version};

/// How long a retry with the same idempotency key is stored once.
pub(super) const IDEMPOTENCY_TTL: Duration = Duration::from_secs(300);
/// Below so many idempotency keys, room that they took is kept for the next ones.
const ROOM_MIN: usize = 64;
/// Bytes of an idempotency key in both places, its text apart.
const IDEMPOTENCY_BYTES: usize = 176;
/// Bytes of a version, its texts apart.
const VERSION_BYTES: usize = 112;

/// What was published with an idempotency key. Each is kept for its time: what bounds them is counted in bytes, and refuses.
#[derive(Default)]
pub(super) struct Retries {
    first: HashMap<Box<str>, Published>,
    in_order: VecDeque<(Instant, Box<str>)>,
    bytes: usize,
}

impl Retries {
    pub(super) fn weight_of(key: &str) -> usize {
        IDEMPOTENCY_BYTES + 2 * key.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The first answer to this key.
    pub(super) fn first(&self, key: &str) -> Option<Published> {
        self.first.get(key).copied()
    }

    pub(super) fn remember(&mut self, key: &str, published: Published, now: Instant) {
        self.first.insert(key.into(), published);
        self.in_order.push_back((now, key.into()));
        self.bytes += Self::weight_of(key);
    }

    pub(super) fn expire(&mut self, now: Instant) {
        while self.in_order.front().is_some_and(|(at, _)| *at + IDEMPOTENCY_TTL <= now) {
            self.forget_oldest();
        }
        // A busy time leaves no empty room behind, which nobody would count.
        let len = self.in_order.len();
        if self.in_order.capacity() > ROOM_MIN.max(len * 4) {
            self.in_order.shrink_to(len * 2);
            self.first.shrink_to(len * 2);
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.in_order.pop_front() {
            self.bytes -= Self::weight_of(&key);
            self.first.remove(&key);
        }
    }
}

/// The newest version of each key of a topic, and of the topic itself for publications without a key.
#[derive(Default)]
pub(super) struct Versions {
    of_topic: Option<Newest>,
    of_keys: HashMap<Box<str>, Newest>,
    bytes: usize,
    next_expiry: Option<Instant>,
}

struct Newest {
    version: Version,
    expires_at: Instant,
}

impl Versions {
    /// Bytes of a version.
    pub(super) fn weight_of(key: Option<&str>, version: &Version) -> usize {
        VERSION_BYTES + key.map_or(0, str::len) + version.epoch.as_ref().map_or(0, |epoch| epoch.len())
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether this one or a newer one was taken.
    pub(super) fn has(&self, key: Option<&str>, version: &Version) -> bool {
        let newest = key.map_or(self.of_topic.as_ref(), |key| self.of_keys.get(key));
        newest.is_some_and(|newest| !version.follows(&newest.version))
    }

    pub(super) fn remember(&mut self, key: Option<&str>, version: Version, expires_at: Instant) {
        self.bytes += Self::weight_of(key, &version);
        self.next_expiry = Some(self.next_expiry.map_or(expires_at, |at| at.min(expires_at)));
        let newest = Newest { version, expires_at };
        let before = match key {
            None => self.of_topic.replace(newest),
            Some(key) => self.of_keys.insert(key.into(), newest),
        };
        if let Some(before) = before {
            self.bytes -= Self::weight_of(key, &before.version);
        }
    }

    /// Forgets those whose time is over, except of keys that `stays` names: what is in the state must not be followed by something older.
    pub(super) fn expire(&mut self, now: Instant, again_at: Instant, stays: impl Fn(&str) -> bool) {
        if self.next_expiry.is_none_or(|at| at > now) {
            return;
        }
        if let Some(over) = self.of_topic.take_if(|newest| newest.expires_at <= now) {
            self.bytes -= Self::weight_of(None, &over.version);
        }
        self.of_keys.retain(|key, newest| {
            if newest.expires_at > now {
                return true;
            }
            newest.expires_at = again_at;
            let is_kept = stays(key);
            self.bytes -= if is_kept { 0 } else { Self::weight_of(Some(key), &newest.version) };
            is_kept
        });
        if self.of_keys.is_empty() {
            self.of_keys = HashMap::new();
        }
        self.next_expiry = self.of_keys.values().chain(&self.of_topic).map(|newest| newest.expires_at).min();
    }
}
