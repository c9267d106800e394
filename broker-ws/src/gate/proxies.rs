//! Whom a proxy brings: the addresses in its headers, believed only where the proxy is trusted.

use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use ipnet::IpNet;

use super::address::{ClientAddress, Source};

/// Most hops of one request that are looked at.
const HOPS_MAX: usize = 32;

/// The proxies whose word about a client's address is taken. The default trusts nobody.
///
/// Headers are read from right to left: the last address was written by the proxy next to this server. As long as an address is that of a trusted
/// proxy, the one to its left is believed too; the first that is not is the client's. What stands further left anybody may have written.
///
/// ```
/// use broker_ws::TrustedProxies;
///
/// let proxies = TrustedProxies::parse(["10.0.0.0/8", "2001:db8::1"])?;
/// let headers = [("x-forwarded-for".to_owned(), "6.6.6.6, 203.0.113.7, 10.0.0.2".to_owned())];
/// let client = proxies.client("10.0.0.1:50000".parse().unwrap(), &headers);
/// assert_eq!(client.ip().to_string(), "203.0.113.7");
/// let spoofed = proxies.client("203.0.113.9:50000".parse().unwrap(), &headers);
/// assert_eq!(spoofed.ip().to_string(), "203.0.113.9");
/// # Ok::<(), broker_ws::InvalidProxy>(())
/// ```
#[derive(Clone, Debug)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    headers: Vec<ForwardedHeader>,
}

/// A header in which proxies name the client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ForwardedHeader {
    /// `X-Forwarded-For: 203.0.113.7, 10.0.0.2`
    XForwardedFor,
    /// `Forwarded: for=203.0.113.7;proto=https, for="[2001:db8::1]:4711"`
    Forwarded,
    /// `X-Real-IP: 203.0.113.7`
    XRealIp,
}

impl ForwardedHeader {
    /// All there are, in the order in which they are looked for by default.
    pub const ALL: [Self; 3] = [Self::XForwardedFor, Self::Forwarded, Self::XRealIp];

    /// The header's name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
            Self::XRealIp => "x-real-ip",
        }
    }
}

/// The text is neither an address nor a network.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is neither an address nor a network; write it like `10.0.0.5`, `10.0.0.0/8` or `2001:db8::/32`")]
pub struct InvalidProxy(String);

impl Default for TrustedProxies {
    fn default() -> Self {
        Self { networks: Vec::new(), headers: ForwardedHeader::ALL.to_vec() }
    }
}

impl TrustedProxies {
    /// Trusts these addresses (`10.0.0.5`) and networks (`10.0.0.0/8`), of IPv4 and IPv6.
    pub fn parse<T: AsRef<str>>(networks: impl IntoIterator<Item = T>) -> Result<Self, InvalidProxy> {
        let networks = networks.into_iter().map(|text| network(text.as_ref()).ok_or_else(|| InvalidProxy(text.as_ref().to_owned())));
        Ok(Self { networks: networks.collect::<Result<_, _>>()?, ..Self::default() })
    }

    /// Sets which headers are read: the first of these that a request has. Name only what the proxy sets or removes itself: the others come from
    /// whoever wants to be somebody else.
    pub fn headers(mut self, headers: impl IntoIterator<Item = ForwardedHeader>) -> Self {
        self.headers = headers.into_iter().collect();
        self
    }

    /// Who a request comes from; names of headers in lower case.
    pub fn client(&self, peer: SocketAddr, headers: &[(String, String)]) -> ClientAddress {
        let peer = canonical(peer);
        if !self.trusts(peer.ip()) {
            return ClientAddress { address: peer, source: Source::Peer };
        }
        let values =
            |header: ForwardedHeader| headers.iter().filter(move |(name, _)| name == header.name()).map(|(_, value)| value.as_str());
        let found = self.headers.iter().find(|header| values(**header).next().is_some());
        match found.and_then(|header| self.walk(&hops(*header, values(*header)))) {
            Some(address) => ClientAddress { address, source: Source::Forwarded },
            None => ClientAddress { address: peer, source: Source::Proxy },
        }
    }

    /// From the nearest hop to the first that is no trusted proxy, or cannot be read.
    fn walk(&self, hops: &[Option<SocketAddr>]) -> Option<SocketAddr> {
        let mut client = None;
        for hop in hops.iter().rev().take(HOPS_MAX).map_while(|hop| *hop) {
            client = Some(hop);
            if !self.trusts(hop.ip()) {
                break;
            }
        }
        client
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }
}

fn network(text: &str) -> Option<IpNet> {
    let network = text.parse().or_else(|_| IpAddr::from_str(text).map(|address| IpNet::from(address.to_canonical())));
    network.ok()
}

/// The addresses of a header, the farthest first; `None` for what is no address.
fn hops<'a>(header: ForwardedHeader, values: impl Iterator<Item = &'a str>) -> Vec<Option<SocketAddr>> {
    match header {
        ForwardedHeader::XForwardedFor | ForwardedHeader::XRealIp => values.flat_map(|value| value.split(',')).map(node).collect(),
        ForwardedHeader::Forwarded => values.flat_map(|value| split(value, ',')).map(forwarded).collect(),
    }
}

/// The address of one element of `Forwarded`.
/// spec: RFC 7239, section 4
fn forwarded(element: &str) -> Option<SocketAddr> {
    let pairs = split(element, ';').into_iter().filter_map(|pair| pair.split_once('='));
    let mut named = pairs.filter(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
    let (_, value) = named.next()?;
    let value = value.trim();
    let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    node(&quoted.map_or_else(|| value.to_owned(), |value| value.replace('\\', "")))
}

/// Splits at a character that does not stand between quotes.
fn split(text: &str, at: char) -> Vec<&str> {
    let (mut parts, mut from) = (Vec::new(), 0);
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (index, letter) in text.char_indices() {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            letter if letter == at && !is_quoted => {
                parts.push(&text[from..index]);
                from = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

/// An address with or without a port, IPv6 with or without brackets.
fn node(text: &str) -> Option<SocketAddr> {
    let text = text.trim();
    let without_port = || {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        bare.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, 0))
    };
    text.parse().ok().or_else(without_port).map(canonical)
}

/// An IPv4 peer of a socket for both families has an IPv6 address, which no list would hold.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRUSTED: [&str; 3] = ["10.0.0.0/8", "2001:db8:1::/48", "192.0.2.1"];

    #[test]
    fn only_a_trusted_proxy_is_believed_and_only_as_far_as_trust_reaches() {
        let xff = |value| ("x-forwarded-for", value);
        check("203.0.113.9:1", &[xff("1.2.3.4")], "203.0.113.9:1");
        check("10.0.0.1:1", &[], "10.0.0.1:1");
        check("10.0.0.1:1", &[xff("1.2.3.4")], "1.2.3.4:0");
        check("[::ffff:10.0.0.1]:1", &[xff("::ffff:1.2.3.4")], "1.2.3.4:0");
        check("10.0.0.1:1", &[xff("6.6.6.6, 1.2.3.4")], "1.2.3.4:0");
        check("10.0.0.1:1", &[xff("6.6.6.6, 1.2.3.4, 10.9.9.9,192.0.2.1")], "1.2.3.4:0");
        check("10.0.0.1:1", &[xff("6.6.6.6"), xff("1.2.3.4")], "1.2.3.4:0");
        check("10.0.0.1:1", &[xff("10.0.0.3, 10.0.0.2")], "10.0.0.3:0");
        check("192.0.2.2:1", &[xff("1.2.3.4")], "192.0.2.2:1");
        check("[2001:db8:1::5]:1", &[xff("2001:db8:2::1")], "[2001:db8:2::1]:0");
        check("10.0.0.1:1", &[xff("[2001:db8:2::1]:99")], "[2001:db8:2::1]:99");
        check("10.0.0.1:1", &[xff("1.2.3.4:5678")], "1.2.3.4:5678");
    }

    #[test]
    fn what_is_no_address_ends_the_walk() {
        let xff = |value| ("x-forwarded-for", value);
        check("10.0.0.1:1", &[xff("1.2.3.4, unknown")], "10.0.0.1:1");
        check("10.0.0.1:1", &[xff("1.2.3.4, <script>, 10.0.0.2")], "10.0.0.2:0");
        check("10.0.0.1:1", &[xff("")], "10.0.0.1:1");
        let long = "10.0.0.2,".repeat(HOPS_MAX) + "10.0.0.3";
        check("10.0.0.1:1", &[xff(&("1.2.3.4,".to_owned() + &long))], "10.0.0.2:0");
    }

    #[test]
    fn the_standard_header_is_read_with_its_quotes() {
        let forwarded = |value| ("forwarded", value);
        check("10.0.0.1:1", &[forwarded("for=1.2.3.4;proto=https;by=10.0.0.1")], "1.2.3.4:0");
        check("10.0.0.1:1", &[forwarded("proto=https; FOR=\"1.2.3.4:99\"")], "1.2.3.4:99");
        check("10.0.0.1:1", &[forwarded("for=6.6.6.6, for=\"[2001:db8:2::1]:4711\"")], "[2001:db8:2::1]:4711");
        check("10.0.0.1:1", &[forwarded("for=\"a,b\";by=\"x;y\", for=1.2.3.4, for=10.0.0.7")], "1.2.3.4:0");
        check("10.0.0.1:1", &[forwarded("for=1.2.3.4, proto=http")], "10.0.0.1:1");
        check("10.0.0.1:1", &[forwarded("for=_hidden")], "10.0.0.1:1");
        check("10.0.0.1:1", &[forwarded("for=\"1.2.3.4")], "10.0.0.1:1");
    }

    #[test]
    fn the_first_header_that_is_there_is_read_and_no_other() {
        let all = [("x-real-ip", "3.3.3.3"), ("forwarded", "for=2.2.2.2"), ("x-forwarded-for", "1.1.1.1")];
        check("10.0.0.1:1", &all, "1.1.1.1:0");
        check("10.0.0.1:1", &all[..2], "2.2.2.2:0");
        check("10.0.0.1:1", &all[..1], "3.3.3.3:0");
        let only_real_ip = TrustedProxies::parse(TRUSTED).unwrap().headers([ForwardedHeader::XRealIp]);
        check_with(&only_real_ip, "10.0.0.1:1", &all, "3.3.3.3:0");
        check_with(&only_real_ip, "10.0.0.1:1", &all[1..], "10.0.0.1:1");
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "10.0.0", "10.0.0.0/33", "example.com", "10.0.0.1:80", "*"] {
            assert!(TrustedProxies::parse([text]).is_err(), "{text}");
        }
    }

    #[track_caller]
    fn check(peer: &str, headers: &[(&str, &str)], expected: &str) {
        check_with(&TrustedProxies::parse(TRUSTED).unwrap(), peer, headers, expected);
    }

    #[track_caller]
    fn check_with(proxies: &TrustedProxies, peer: &str, headers: &[(&str, &str)], expected: &str) {
        let headers: Vec<_> = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let client = proxies.client(peer.parse().unwrap(), &headers);
        assert_eq!(client.socket_addr().to_string(), expected, "{peer} {headers:?}");
    }
}
