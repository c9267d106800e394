//! Keys of `[client]` about where clients come from: proxies, connects per address, connections that have not said who they are.

use std::time::Duration;

use broker::{ConnectRate, ForwardedHeader, TrustedProxies, WsLimits};

use super::{
    field::{Complaint, count, rate, texts},
    quantity::Rate,
    suggest,
    visit::Visitor,
};

/// How the header names look that `proxy_headers` knows.
const HEADERS: [(&str, ForwardedHeader); 3] = [
    ("X-Forwarded-For", ForwardedHeader::XForwardedFor),
    ("Forwarded", ForwardedHeader::Forwarded),
    ("X-Real-IP", ForwardedHeader::XRealIp),
];

/// Where clients come from, and how many may come from there.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Addresses {
    /// Addresses and networks of proxies whose word about a client's address is taken. Default: none.
    pub trusted_proxies: Vec<String>,
    /// Headers in which they name it; the first that a request has is read. Default: all that are known.
    pub proxy_headers: Vec<String>,
    /// How often one address may connect; `None`: as often as it likes. Default: 50 a second.
    pub connects_per_address: Option<Rate>,
    /// How often it may connect at once. Default: 200.
    pub connects_burst: usize,
    /// How often anybody may connect to this node; `None`: as often as they like. Default: 5,000 a second.
    pub connects_of_node: Option<Rate>,
    /// How many may connect to it at once. Default: 20,000.
    pub connects_of_node_burst: usize,
    /// Most connections of one address that have not said who they are. Default: 1,000.
    pub pending_max_per_address: usize,
    /// Most connections altogether that have not said who they are. Default: 20,000.
    pub pending_max: usize,
}

impl Default for Addresses {
    fn default() -> Self {
        Self {
            trusted_proxies: Vec::new(),
            proxy_headers: HEADERS.map(|(name, _)| name.to_owned()).to_vec(),
            connects_per_address: Some(Rate { count: 50, per: Duration::from_secs(1) }),
            connects_burst: 200,
            connects_of_node: Some(Rate { count: 5_000, per: Duration::from_secs(1) }),
            connects_of_node_burst: 20_000,
            pending_max_per_address: 1_000,
            pending_max: 20_000,
        }
    }
}

impl Addresses {
    /// Sets what a listener takes of these.
    pub fn apply(&self, limits: WsLimits) -> WsLimits {
        let rate = |rate: Option<Rate>, burst: usize| {
            rate.map(|rate| ConnectRate::new(rate.count, rate.per).burst(u32::try_from(burst).unwrap_or(u32::MAX)))
        };
        limits
            .connects_per_address(rate(self.connects_per_address, self.connects_burst))
            .connects_of_node(rate(self.connects_of_node, self.connects_of_node_burst))
            .pending_max_per_address(self.pending_max_per_address)
            .pending_max(self.pending_max)
    }

    /// The proxies, as the facade takes them. What is no network or header was refused when it was read, and is left out.
    pub fn proxies(&self) -> TrustedProxies {
        let headers = self.proxy_headers.iter().filter_map(|name| header(name));
        TrustedProxies::parse(&self.trusted_proxies).unwrap_or_default().headers(headers)
    }

    /// The keys that stand in `[client]` itself.
    pub(super) fn keys(&mut self, keys: &mut dyn Visitor) {
        keys.key(
            "trusted_proxies",
            "Proxies in front of this server that are believed when they say which address a client has. Anybody else's word about that is not read.",
            &mut texts(&mut self.trusted_proxies, "a list of addresses and networks such as \"10.0.0.5\" or \"10.0.0.0/8\"", proxy),
        );
        keys.key(
            "proxy_headers",
            "Headers in which trusted proxies name the client; the first of these that a request has is read. Keep only those that the proxy sets.",
            &mut texts(&mut self.proxy_headers, "a list of \"X-Forwarded-For\", \"Forwarded\" and \"X-Real-IP\"", known_header),
        );
        keys.key(
            "pending_max_per_address",
            "Most connections of one address that have not said who they are.",
            &mut count(&mut self.pending_max_per_address, 1..=10_000_000),
        );
        keys.key(
            "pending_max",
            "Most connections altogether that have not said who they are.",
            &mut count(&mut self.pending_max, 1..=10_000_000),
        );
    }

    /// The keys of `[client.rate]`.
    pub(super) fn rate_keys(&mut self, keys: &mut dyn Visitor) {
        keys.key(
            "connects_per_address",
            "How often one address may connect, in the long run; IPv6 addresses count by their /64, loopback is not counted.",
            &mut rate(&mut self.connects_per_address),
        );
        keys.key("connects_burst", "How often it may connect at once.", &mut count(&mut self.connects_burst, 1..=1_000_000));
        keys.key(
            "connects_of_node",
            "How many clients may connect to this node, in the long run; those beyond are told when to come back, one after the other.",
            &mut rate(&mut self.connects_of_node),
        );
        keys.key(
            "connects_of_node_burst",
            "How many may connect to it at once.",
            &mut count(&mut self.connects_of_node_burst, 1..=10_000_000),
        );
    }
}

fn header(name: &str) -> Option<ForwardedHeader> {
    HEADERS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, header)| *header)
}

fn known_header(text: &str) -> Result<(), Complaint> {
    if header(text).is_some() {
        return Ok(());
    }
    let meant = suggest::nearest(text, HEADERS.map(|(name, _)| name));
    Err(("no proxy names clients there".to_owned(), meant.map(|meant| format!("did you mean \"{meant}\"?"))))
}

fn proxy(text: &str) -> Result<(), Complaint> {
    if TrustedProxies::parse([text]).is_ok() {
        return Ok(());
    }
    let help = match text.split_once('/') {
        None if text.parse::<std::net::SocketAddr>().is_ok() => "write the address without a port".to_owned(),
        None if text == "*" => "name the proxies: whoever is believed may claim any address".to_owned(),
        None if text.contains(|c: char| c.is_ascii_alphabetic()) && !text.contains(':') => {
            "write its address: names are not looked up".to_owned()
        }
        Some((address, _)) if address.parse::<std::net::IpAddr>().is_ok() => {
            "a network ends in the number of its fixed bits: up to /32 for IPv4, /128 for IPv6".to_owned()
        }
        _ => "write it like \"10.0.0.5\", \"10.0.0.0/8\" or \"2001:db8::/32\"".to_owned(),
    };
    Err(("this is neither an address nor a network".to_owned(), Some(help)))
}
