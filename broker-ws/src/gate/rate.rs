//! How often one address may connect: a token bucket for each address that came lately, in a table that cannot grow.

use std::{collections::HashMap, mem, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{NotAdmitted, address::Bucket};

/// Most addresses of one generation. A full bucket says nothing, so forgetting an address that did not come for a generation costs nothing;
/// one that is in debt is forgotten early only where so many others came within seconds.
const GENERATION_MAX: usize = 1 << 16;

/// The most connects of one address, or of all: so many in a time, and a burst of them at once.
///
/// ```
/// use std::time::Duration;
/// use broker_ws::ConnectRate;
///
/// let slow = ConnectRate::new(10, Duration::from_secs(60)).burst(5);
/// assert_eq!(ConnectRate::per_second(50), ConnectRate::new(50, Duration::from_secs(1)));
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ConnectRate {
    /// Time after which one more may come.
    interval: Duration,
    burst: u32,
}

impl ConnectRate {
    /// So many connects in this time, one at a time. Zero counts as one.
    pub fn new(connects: u32, time: Duration) -> Self {
        Self { interval: time / connects.max(1), burst: 1 }
    }

    /// So many connects a second, one at a time. Zero counts as one.
    pub fn per_second(connects: u32) -> Self {
        Self::new(connects, Duration::from_secs(1))
    }

    /// Time after which one more may come, and the time in which a whole burst comes back.
    pub(super) fn interval_and_burst(self) -> (Duration, Duration) {
        (self.interval, self.interval * self.burst)
    }

    /// Sets how many may come at once after a silence. Zero counts as one.
    pub fn burst(mut self, connects: u32) -> Self {
        self.burst = connects.max(1);
        self
    }
}

/// One bucket for each address.
#[derive(Debug)]
pub(super) struct Rates {
    rate: ConnectRate,
    addresses: Mutex<Addresses>,
}

/// When the bucket of an address is full again (its "theoretical arrival time"), for those that came lately.
#[derive(Debug, Default)]
struct Addresses {
    young: HashMap<Bucket, Instant>,
    old: HashMap<Bucket, Instant>,
}

impl Rates {
    pub(super) fn new(rate: ConnectRate) -> Self {
        Self { rate, addresses: Mutex::default() }
    }

    /// Takes one token, or says when there will be one.
    pub(super) fn count(&self, bucket: Bucket, now: Instant) -> Result<(), NotAdmitted> {
        let (interval, tolerated) = self.rate.interval_and_burst();
        let mut addresses = self.addresses.lock();
        let full_at = addresses.full_at(bucket).map_or(now, |at| at.max(now)) + interval;
        let ahead = full_at - now;
        if ahead > tolerated {
            return Err(NotAdmitted::TooFast { retry_after: ahead.saturating_sub(tolerated) });
        }
        addresses.remember(bucket, full_at);
        Ok(())
    }
}

impl Addresses {
    fn full_at(&self, bucket: Bucket) -> Option<Instant> {
        self.young.get(&bucket).or_else(|| self.old.get(&bucket)).copied()
    }

    fn remember(&mut self, bucket: Bucket, full_at: Instant) {
        if self.young.len() >= GENERATION_MAX && !self.young.contains_key(&bucket) {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(bucket, full_at);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::{TrustedProxies, gate::address::ClientAddress};

    #[test]
    fn the_table_is_bounded_and_keeps_who_came_last() {
        let rates = Rates::new(ConnectRate::new(1, Duration::from_secs(3600)));
        let now = Instant::now();
        let address = |n: usize| bucket(Ipv4Addr::from_bits(0x0b00_0000 + n as u32));
        for n in 0..3 * GENERATION_MAX {
            assert!(rates.count(address(n), now).is_ok());
        }
        let held = |addresses: &Addresses| addresses.young.len() + addresses.old.len();
        assert!(held(&rates.addresses.lock()) <= 2 * GENERATION_MAX);
        assert!(rates.count(address(3 * GENERATION_MAX - 1), now).is_err());
        assert!(rates.count(address(0), now).is_ok(), "the first ones are forgotten");
    }

    fn bucket(ip: Ipv4Addr) -> Bucket {
        let client: ClientAddress = TrustedProxies::default().client((ip, 1).into(), &[]);
        client.bucket().unwrap()
    }
}
