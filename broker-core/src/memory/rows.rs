//! The state of one topic: the newest publication of each key, in the order of their offsets.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
};

use tokio::time::Instant;

use crate::{Publication, StateQuery};

/// Bytes of a row around its publication.
const ROW_BYTES: usize = 112;

#[derive(Default)]
pub(super) struct Rows {
    offsets: HashMap<Box<str>, u64>,
    rows: BTreeMap<u64, Arc<Publication>>,
    bytes: usize,
    /// When the first row goes by its own ttl.
    next_expiry: Option<Instant>,
}

impl Rows {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.offsets.contains_key(key)
    }

    /// Bytes of the row of a key.
    pub(super) fn bytes_of(&self, key: &str) -> usize {
        self.offsets.get(key).and_then(|offset| self.rows.get(offset)).map_or(0, |row| weight(row))
    }

    /// Bytes of a row with this publication.
    pub(super) fn weight_of(publication: &Publication) -> usize {
        weight(publication)
    }

    /// Takes over a publication that stands at `offset`: as the row of its key, or as its end.
    pub(super) fn apply(&mut self, offset: u64, publication: &Arc<Publication>) {
        let Some(key) = &publication.key else { return };
        self.remove(key);
        if !publication.removed {
            self.offsets.insert(key.clone(), offset);
            self.rows.insert(offset, publication.clone());
            self.bytes += weight(publication);
            self.next_expiry = [self.next_expiry, publication.expires_at].into_iter().flatten().min();
        }
    }

    fn remove(&mut self, key: &str) {
        if let Some(row) = self.offsets.remove(key).and_then(|offset| self.rows.remove(&offset)) {
            self.bytes -= weight(&row);
        }
    }

    /// Takes out rows whose own time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.next_expiry.is_none_or(|at| at > now) {
            return;
        }
        let over: Vec<Arc<Publication>> = self.rows.values().filter(|row| row.is_expired(now)).cloned().collect();
        for row in over {
            self.remove(row.key.as_deref().unwrap_or_default());
        }
        self.next_expiry = self.rows.values().filter_map(|row| row.expires_at).min();
    }

    /// One page, and where the next one begins.
    pub(super) fn read(&self, query: StateQuery) -> (Vec<Arc<Publication>>, Option<u64>) {
        let mut rows: Vec<Arc<Publication>> = Vec::new();
        let mut last = query.after;
        let mut bytes = 0_usize;
        let start = query.after.map_or(Unbounded, Excluded);
        for (offset, row) in self.rows.range((start, Unbounded)) {
            bytes = bytes.saturating_add(row.weight_bytes());
            let is_full =
                query.limit.is_some_and(|limit| rows.len() >= limit) || !rows.is_empty() && query.bytes.is_some_and(|max| bytes > max);
            if is_full {
                return (rows, Some(last.unwrap_or(0)));
            }
            rows.push(row.clone());
            last = Some(*offset);
        }
        (rows, None)
    }
}

fn weight(publication: &Publication) -> usize {
    ROW_BYTES + publication.weight_bytes() + publication.key.as_ref().map_or(0, |key| key.len())
}
