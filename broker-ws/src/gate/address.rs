//! Where a connection comes from, and which addresses are counted together. Nothing is read or counted here.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Bits of an IPv6 address that tell customers apart: whoever has one address of a /64 has all of them.
const NETWORK_BITS: u32 = 64;

/// Who a connection comes from, as far as it can be believed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ClientAddress {
    pub(super) address: SocketAddr,
    pub(super) source: Source,
}

/// How an address is known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Source {
    /// It is the peer's, who is no trusted proxy.
    Peer,
    /// It is a trusted proxy's own, which named nobody else.
    Proxy,
    /// A trusted proxy named it.
    Forwarded,
}

impl ClientAddress {
    /// Address and port; the port is 0 where a proxy did not tell it. IPv4 addresses are never mapped into IPv6.
    pub fn socket_addr(self) -> SocketAddr {
        self.address
    }

    /// The address.
    pub fn ip(self) -> IpAddr {
        self.address.ip()
    }

    /// Whether a trusted proxy named this address.
    pub fn is_forwarded(self) -> bool {
        self.source == Source::Forwarded
    }

    pub(super) fn is_proxy(self) -> bool {
        self.source == Source::Proxy
    }

    /// What the address is counted under; `None`: it is not counted.
    pub(super) fn bucket(self) -> Option<Bucket> {
        let is_this_machine = self.source == Source::Peer && self.ip().is_loopback();
        (!is_this_machine).then(|| Bucket::of(self.ip()))
    }
}

/// Addresses that are counted together.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Bucket(IpAddr);

impl Bucket {
    fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << (u128::BITS - NETWORK_BITS))).into(),
            address @ IpAddr::V4(_) => address,
        })
    }
}
