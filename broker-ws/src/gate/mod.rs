//! Who may come in, before anything is known but an address: trusted proxies, connects per address, connections that have not said who they are.
//! What a request asks for does not live here.

mod address;
mod pending;
mod proxies;
mod rate;
mod storm;

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use broker_core::{Refusal, RefusalKind};
use parking_lot::Mutex;
use tokio::time::Instant;

pub use self::{
    address::ClientAddress,
    pending::Pending,
    proxies::{ForwardedHeader, InvalidProxy, TrustedProxies},
    rate::ConnectRate,
};
use self::{pending::Places, rate::Rates, storm::Storm};
use crate::WsLimits;

/// When somebody who was refused for want of places may try again.
const PLACES_AFTER: Duration = Duration::from_secs(5);

/// Refusals are logged once in this time, with their number.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// Lets connections in by where they come from. One gate stands before everything that a process serves to clients.
///
/// Loopback peers that are no trusted proxies are not counted by address: nobody but this machine can be one. Every other address has its own
/// rate and places, and IPv6 addresses share those of their /64, which one customer has.
#[derive(Debug)]
pub struct Gate {
    proxies: TrustedProxies,
    rates: Option<Rates>,
    storm: Option<Storm>,
    places: Places,
    told: Mutex<Option<Instant>>,
    /// Refusals since the last line of the log.
    refused: AtomicU64,
    counts: Counts,
}

/// Refusals since the start, by cause.
#[derive(Debug, Default)]
struct Counts {
    rate: AtomicU64,
    storm: AtomicU64,
    address_crowded: AtomicU64,
    crowded: AtomicU64,
}

/// Why a connection may not come in.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAdmitted {
    /// The address connects more often than its rate.
    #[error("too many connects from this address")]
    TooFast {
        /// When the next one is let in.
        retry_after: Duration,
    },
    /// More clients connect to this node than it lets in at a time.
    #[error("too many clients connect at once")]
    Storm {
        /// When this one is let in.
        retry_after: Duration,
    },
    /// Too many connections of the address have not said who they are.
    #[error("too many connections from this address have not said who they are")]
    AddressCrowded,
    /// Too many connections altogether have not said who they are.
    #[error("too many connections have not said who they are")]
    Crowded,
}

impl NotAdmitted {
    /// When trying again can help.
    pub fn retry_after(self) -> Duration {
        match self {
            Self::TooFast { retry_after } | Self::Storm { retry_after } => retry_after,
            Self::AddressCrowded | Self::Crowded => PLACES_AFTER,
        }
    }

    /// Which setting refused.
    pub fn rule(self) -> &'static str {
        match self {
            Self::TooFast { .. } => "over client.rate.connects_per_address",
            Self::Storm { .. } => "over client.rate.connects_of_node",
            Self::AddressCrowded => "over client.pending_max_per_address",
            Self::Crowded => "over client.pending_max",
        }
    }
}

impl From<NotAdmitted> for Refusal {
    fn from(why: NotAdmitted) -> Self {
        let kind = match why {
            // Where the whole node is crowded, no one client is to blame.
            NotAdmitted::Crowded | NotAdmitted::Storm { .. } => RefusalKind::Unavailable,
            NotAdmitted::TooFast { .. } | NotAdmitted::AddressCrowded => RefusalKind::TooManyRequests,
        };
        Self::new(kind, why.to_string()).retry_after(why.retry_after()).rule(why.rule())
    }
}

impl Gate {
    /// A gate with the rates and places of these limits. Nobody's word about an address is taken but that of `proxies`.
    pub fn new(limits: &WsLimits, proxies: TrustedProxies) -> Self {
        Self {
            proxies,
            rates: limits.connects_per_address.map(Rates::new),
            storm: limits.connects_of_node.map(Storm::new),
            places: Places::new(limits.pending_max, limits.pending_max_per_address),
            told: Mutex::default(),
            refused: AtomicU64::new(0),
            counts: Counts::default(),
        }
    }

    /// Who a request comes from: the peer, or whom a trusted proxy names in the headers (names in lower case).
    pub fn client(&self, peer: SocketAddr, headers: &[(String, String)]) -> ClientAddress {
        self.proxies.client(peer, headers)
    }

    /// A place for a connection of which only the peer is known. The place of one that a proxy brings is not its own.
    pub fn enter(&self, peer: SocketAddr) -> Result<Pending, NotAdmitted> {
        let client = self.proxies.client(peer, &[]);
        let bucket = client.bucket().filter(|_| !client.is_proxy());
        self.places.take(bucket).inspect_err(|why| self.refused(Some(client), *why))
    }

    /// Connections that have not said who they are.
    pub fn pending(&self) -> u64 {
        self.places.taken()
    }

    /// Connections that were refused since the start, by cause.
    pub fn refusals(&self) -> [(&'static str, u64); 4] {
        let Counts { rate, storm, address_crowded, crowded } = &self.counts;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [("rate", count(rate)), ("storm", count(storm)), ("pending_per_address", count(address_crowded)), ("pending", count(crowded))]
    }

    /// Lets a request in that asks for a connection: counts it, and gives it its place until it has said who it is.
    ///
    /// `entered` is the place from [`Gate::enter`], where there is one. Where the address is not known, only the places of all are counted.
    pub fn admit(&self, client: Option<ClientAddress>, entered: Option<Pending>) -> Result<Pending, NotAdmitted> {
        let bucket = client.and_then(ClientAddress::bucket);
        let admitted = match (&self.rates, bucket) {
            (Some(rates), Some(bucket)) => rates.count(bucket, Instant::now()),
            _ => Ok(()),
        };
        let of_node = || self.storm.as_ref().map_or(Ok(()), |storm| storm.count(Instant::now()));
        let admitted = admitted.and_then(|()| of_node().map_err(|retry_after| NotAdmitted::Storm { retry_after }));
        let admitted = admitted.and_then(|()| match entered {
            Some(pending) if pending.bucket() == bucket => Ok(pending),
            other => {
                drop(other);
                self.places.take(bucket)
            }
        });
        admitted.inspect_err(|why| self.refused(client, *why))
    }

    fn refused(&self, client: Option<ClientAddress>, why: NotAdmitted) {
        let counter = match why {
            NotAdmitted::TooFast { .. } => &self.counts.rate,
            NotAdmitted::Storm { .. } => &self.counts.storm,
            NotAdmitted::AddressCrowded => &self.counts.address_crowded,
            NotAdmitted::Crowded => &self.counts.crowded,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if let Some(client) = client {
            self.tell(client, why);
        }
    }

    /// Says in the log who was refused and which setting did it; not each time, because whoever is refused comes often.
    fn tell(&self, client: ClientAddress, why: NotAdmitted) {
        let refused = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
        let now = Instant::now();
        let mut told = self.told.lock();
        if told.is_some_and(|told| now.duration_since(told) < TOLD_EVERY) {
            return;
        }
        *told = Some(now);
        drop(told);
        self.refused.fetch_sub(refused, Ordering::Relaxed);
        let hint = if matches!(why, NotAdmitted::Storm { .. } | NotAdmitted::Crowded) {
            "clients come back by themselves; raise the setting if this node can take more at once"
        } else if client.is_proxy() {
            "the proxy names no client: let it set X-Forwarded-For"
        } else {
            "where this address is a proxy, add it to client.trusted_proxies; else raise the setting if its clients are welcome"
        };
        tracing::warn!(client = %client.ip(), refused, rule = why.rule(), hint, "connections were refused: {why}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAR: &str = "203.0.113.7:4000";

    #[tokio::test(start_paused = true)]
    async fn an_address_over_its_rate_waits_and_others_do_not() {
        let gate = gate(WsLimits::default().connects_per_address(ConnectRate::per_second(1).burst(2)), &[]);
        for expected in [None, None, Some(Duration::from_secs(1))] {
            check(&gate, FAR, &[], expected);
        }
        check(&gate, "203.0.113.8:4000", &[], None);
        tokio::time::advance(Duration::from_millis(400)).await;
        check(&gate, FAR, &[], Some(Duration::from_millis(600)));
        tokio::time::advance(Duration::from_millis(600)).await;
        check(&gate, FAR, &[], None);
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_of_one_ipv6_network_share_their_rate() {
        let gate = gate(WsLimits::default().connects_per_address(ConnectRate::per_second(1).burst(1)), &[]);
        check(&gate, "[2001:db8::1]:1", &[], None);
        check(&gate, "[2001:db8::ffff:2]:1", &[], Some(Duration::from_secs(1)));
        check(&gate, "[2001:db8:0:1::1]:1", &[], None);
        check(&gate, "203.0.113.7:1", &[], None);
        check(&gate, "[::ffff:203.0.113.7]:1", &[], Some(Duration::from_secs(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn loopback_is_not_counted_unless_it_is_a_proxy() {
        let limits = WsLimits::default().connects_per_address(ConnectRate::per_second(1).burst(1)).pending_max_per_address(1);
        let open = gate(limits.clone(), &[]);
        for _ in 0..5 {
            check(&open, "127.0.0.1:1", &[("x-forwarded-for", "203.0.113.7")], None);
        }
        let behind = gate(limits, &["127.0.0.1"]);
        check(&behind, "127.0.0.1:1", &[("x-forwarded-for", "127.0.0.1")], None);
        check(&behind, "127.0.0.1:1", &[("x-forwarded-for", "127.0.0.1")], Some(Duration::from_secs(1)));
        check(&behind, "127.0.0.1:1", &[("x-forwarded-for", "203.0.113.7")], None);
    }

    #[test]
    fn a_place_moves_from_the_proxy_to_the_client_and_is_free_again_when_it_is_dropped() {
        let gate = gate(WsLimits::default().pending_max(3).pending_max_per_address(1), &["10.0.0.0/8"]);
        let proxy: SocketAddr = "10.0.0.1:1".parse().unwrap();
        let client = |text: &str| Some(gate.client(proxy, &[("x-forwarded-for".to_owned(), text.to_owned())]));
        let (first, second) = (gate.enter(proxy).unwrap(), gate.enter(proxy).unwrap());
        let first = gate.admit(client("203.0.113.7"), Some(first)).unwrap();
        assert_eq!(gate.admit(client("203.0.113.7"), Some(second)).unwrap_err(), NotAdmitted::AddressCrowded);
        let _second = gate.admit(client("203.0.113.8"), None).unwrap();
        let third = gate.enter(proxy).unwrap();
        assert_eq!(gate.enter(proxy).unwrap_err(), NotAdmitted::Crowded);
        assert_eq!((gate.pending(), gate.refusals()), (3, [("rate", 0), ("storm", 0), ("pending_per_address", 1), ("pending", 1)]));
        drop((first, third));
        assert_eq!(gate.pending(), 1);
        assert!(gate.admit(client("203.0.113.7"), None).is_ok());
    }

    #[test]
    fn a_refusal_says_what_when_and_which_setting() {
        let refusal = Refusal::from(NotAdmitted::TooFast { retry_after: Duration::from_millis(20) });
        assert_eq!((refusal.kind, refusal.retry_after), (RefusalKind::TooManyRequests, Some(Duration::from_millis(20))));
        assert_eq!(refusal.rule.as_deref(), Some("over client.rate.connects_per_address"));
        assert_eq!(Refusal::from(NotAdmitted::Crowded).kind, RefusalKind::Unavailable);
    }

    fn gate(limits: WsLimits, proxies: &[&str]) -> Gate {
        Gate::new(&limits, TrustedProxies::parse(proxies).unwrap())
    }

    /// Lets one connection in that says at once who it is.
    #[track_caller]
    fn check(gate: &Gate, peer: &str, headers: &[(&str, &str)], expected: Option<Duration>) {
        let headers: Vec<_> = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let client = gate.client(peer.parse().unwrap(), &headers);
        let refused = gate.admit(Some(client), None).err();
        assert_eq!(refused, expected.map(|retry_after| NotAdmitted::TooFast { retry_after }), "{peer} {headers:?}");
    }
}
