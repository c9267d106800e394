//! What a topic remembers of publishes: idempotency keys, and the newest version of each key.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use crate::{Published, Version};

/// How long a retry with the same idempotency key is stored once.
pub(super) const IDEMPOTENCY_TTL: Duration = Duration::from_secs(300);
/// Idempotency keys kept per topic; the oldest go first.
const IDEMPOTENCY_MAX: usize = 10_000;
/// Bytes of an idempotency key in both places, its text apart.
const IDEMPOTENCY_BYTES: usize = 176;
/// Bytes of a version, its texts apart.
const VERSION_BYTES: usize = 112;

/// What was published with an idempotency key.
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
        if self.in_order.len() > IDEMPOTENCY_MAX {
            self.forget_oldest();
        }
    }

    pub(super) fn expire(&mut self, now: Instant) {
        while self.in_order.front().is_some_and(|(at, _)| *at + IDEMPOTENCY_TTL <= now) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.in_order.pop_front() {
            self.bytes -= Self::weight_of(&key);
            self.first.remove(&key);
        }
    }
}

/// The newest version of each key of a topic, and of the topic where a publication has no key.
#[derive(Default)]
pub(super) struct Versions {
    of_keys: HashMap<Option<Box<str>>, Newest>,
    bytes: usize,
    next_expiry: Option<Instant>,
}

struct Newest {
    version: Version,
    expires_at: Instant,
}

impl Versions {
    /// Bytes that are added by this version at most.
    pub(super) fn weight_of(key: Option<&str>, version: &Version) -> usize {
        VERSION_BYTES + key.map_or(0, str::len) + version.epoch.as_ref().map_or(0, |epoch| epoch.len())
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether this one or a newer one was taken.
    pub(super) fn has(&self, key: &Option<Box<str>>, version: &Version) -> bool {
        self.of_keys.get(key).is_some_and(|newest| !version.follows(&newest.version))
    }

    pub(super) fn remember(&mut self, key: Option<Box<str>>, version: Version, expires_at: Instant) {
        let of = key.as_deref().map(str::len);
        self.bytes += Self::weight_of(key.as_deref(), &version);
        self.next_expiry = Some(self.next_expiry.map_or(expires_at, |at| at.min(expires_at)));
        if let Some(before) = self.of_keys.insert(key, Newest { version, expires_at }) {
            self.bytes -= VERSION_BYTES + of.unwrap_or(0) + before.version.epoch.map_or(0, |epoch| epoch.len());
        }
    }

    /// Forgets those whose time is over, except of keys that `stays` names: what is in the state must not be followed by something older.
    pub(super) fn expire(&mut self, now: Instant, again_at: Instant, stays: impl Fn(&str) -> bool) {
        if self.next_expiry.is_none_or(|at| at > now) {
            return;
        }
        let mut next = None;
        let mut gone = 0;
        self.of_keys.retain(|key, newest| {
            if newest.expires_at <= now && key.as_deref().is_some_and(&stays) {
                newest.expires_at = again_at;
            }
            let is_over = newest.expires_at <= now;
            if is_over {
                gone += Self::weight_of(key.as_deref(), &newest.version);
            } else {
                next = Some(next.map_or(newest.expires_at, |at: Instant| at.min(newest.expires_at)));
            }
            !is_over
        });
        self.bytes -= gone;
        self.next_expiry = next;
        if self.of_keys.is_empty() {
            self.of_keys = HashMap::new();
        }
    }
}
