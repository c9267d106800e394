//! What counts against the bound of the node: bytes that wait for connections, each once, with what lists and the allocator need beside them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use bytes::Bytes;

/// Bytes that the allocator adds to an allocation: its own, and those up to the next length that it has.
const ALLOCATION: usize = 16;
/// Bytes beside those that are counted: their owner, and what `Bytes` keeps with it.
const OWNER: usize = size_of::<Counted>() + 3 * size_of::<usize>() + 2 * ALLOCATION;

/// Bytes that this node holds for its connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held(Arc<AtomicUsize>);

/// Bytes that are counted as long as they are in memory.
struct Counted {
    bytes: Box<[u8]>,
    weight: usize,
    held: Held,
}

impl Held {
    pub(crate) fn bytes(&self) -> usize {
        self.0.load(Relaxed)
    }

    /// Counts these bytes until the last handle to any part of them is dropped, and so many more that are there as long as they are.
    pub(crate) fn counted(&self, bytes: Vec<u8>, beside: usize) -> Bytes {
        let weight = bytes.len() + OWNER + beside;
        self.add(weight);
        Bytes::from_owner(Counted { bytes: bytes.into(), weight, held: self.clone() })
    }

    pub(crate) fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn sub(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Relaxed);
    }
}

/// What so many values take in an allocation of their own; the reference counts of an [`Arc`] are two words more.
pub(crate) const fn allocated<T>(values: usize) -> usize {
    if values == 0 { 0 } else { values * size_of::<T>() + ALLOCATION }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.held.sub(self.weight);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_count_until_the_last_part_of_them_goes() {
        let held = Held::default();
        let bytes = held.counted(vec![b'.'; 1000], 200);
        let weight = held.bytes();
        assert!((1200..1400).contains(&weight), "{weight}");
        let part = bytes.slice(10..20);
        drop(bytes);
        assert_eq!((held.bytes(), &part[..]), (weight, &b".........."[..]));
        drop(part);
        assert_eq!(held.bytes(), 0);
    }
}
