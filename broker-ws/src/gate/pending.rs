//! Places for connections that have not said who they are: so many altogether, so many of one address.

use std::{collections::HashMap, fmt, sync::Arc};

use parking_lot::Mutex;

use super::{NotAdmitted, address::Bucket};

/// The places. The table holds only addresses that have one, so it is as bounded as they are.
#[derive(Debug)]
pub(super) struct Places {
    taken: Arc<Mutex<Taken>>,
    max: usize,
    max_per_address: usize,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    by_address: HashMap<Bucket, usize>,
}

impl Places {
    pub(super) fn new(max: usize, max_per_address: usize) -> Self {
        Self { taken: Arc::default(), max, max_per_address }
    }

    pub(super) fn taken(&self) -> u64 {
        self.taken.lock().total as u64
    }

    /// A place; without an address only the sum is counted.
    pub(super) fn take(&self, bucket: Option<Bucket>) -> Result<Pending, NotAdmitted> {
        let mut taken = self.taken.lock();
        if let Some(bucket) = bucket {
            let of_address = taken.by_address.get(&bucket).copied().unwrap_or(0);
            if of_address >= self.max_per_address {
                return Err(NotAdmitted::AddressCrowded);
            }
        }
        if taken.total >= self.max {
            return Err(NotAdmitted::Crowded);
        }
        taken.total += 1;
        if let Some(bucket) = bucket {
            *taken.by_address.entry(bucket).or_default() += 1;
        }
        drop(taken);
        Ok(Pending(Arc::new(Place { taken: Arc::clone(&self.taken), bucket })))
    }
}

/// The place of a connection that has not said who it is: free again when the last clone is dropped.
///
/// It travels in the request's extensions, past any framework, and then in the head until the session is connected.
#[derive(Clone)]
pub struct Pending(Arc<Place>);

impl Pending {
    pub(super) fn bucket(&self) -> Option<Bucket> {
        self.0.bucket
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("bucket", &self.0.bucket).finish_non_exhaustive()
    }
}

struct Place {
    taken: Arc<Mutex<Taken>>,
    bucket: Option<Bucket>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock();
        taken.total -= 1;
        let Some(bucket) = self.bucket else { return };
        if let Some(of_address) = taken.by_address.get_mut(&bucket) {
            *of_address -= 1;
            if *of_address == 0 {
                taken.by_address.remove(&bucket);
            }
        }
    }
}
