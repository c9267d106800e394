//! Which pages may open a connection: a browser tells the page's origin, and a foreign one is refused.

use std::net::IpAddr;

use http::{
    HeaderMap, HeaderValue,
    header::{HOST, ORIGIN},
};

use super::foreign::{ForeignLog, Refused};

/// The header that an answer's own headers depend on, of a request whose others are not needed any more.
pub(crate) fn only_origin(headers: &HeaderMap) -> HeaderMap {
    headers.get(ORIGIN).map(|origin| (ORIGIN, origin.clone())).into_iter().collect()
}

/// The rules about origins.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    allowed: Vec<Pattern>,
    any: bool,
    loopback: bool,
    log: ForeignLog,
}

/// What the rules say about a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// No browser page asks.
    NoOrigin,
    /// A page asks that may by its name, or because it is the broker's own.
    Allowed,
    /// A page asks that may because every page may.
    AnyAllowed,
    /// A page asks that may not.
    Foreign,
}

impl Verdict {
    /// Whether a page asks that may.
    pub(crate) fn is_page(self) -> bool {
        matches!(self, Self::Allowed | Self::AnyAllowed)
    }
}

impl Origins {
    /// Allows one more origin: `https://app.example.com`, `https://*.example.com` for every host below, or `*` for all.
    pub(crate) fn allow(&mut self, origin: &str) -> Result<(), InvalidOrigin> {
        if origin == "*" {
            tracing::warn!("every web page may open connections: allowed origins contain `*`");
            self.any = true;
            return Ok(());
        }
        let (is_suffix, plain) = match origin.split_once("://*.") {
            Some((scheme, host)) => (true, format!("{scheme}://{host}")),
            None => (false, origin.to_owned()),
        };
        let origin = Origin::parse(&plain).filter(|origin| !origin.host.contains('*')).ok_or_else(|| InvalidOrigin(origin.to_owned()))?;
        self.allowed.push(Pattern { origin, is_suffix });
        Ok(())
    }

    /// Allows pages from this machine: for development, and for servers that listen on loopback only.
    pub(crate) fn allow_loopback(&mut self) {
        self.loopback = true;
    }

    /// Judges a request by its headers; `is_over_tls`: this process itself ended TLS.
    pub(crate) fn judge(&self, headers: &HeaderMap, listens_on_loopback: bool, is_over_tls: bool) -> Verdict {
        let mut sent = headers.get_all(ORIGIN).iter();
        let Some(first) = sent.next() else { return Verdict::NoOrigin };
        let text = String::from_utf8_lossy(first.as_bytes());
        let origin = Origin::parse(&text).filter(|_| sent.next().is_none());
        if origin.as_ref().is_some_and(|origin| self.allows(origin, headers.get(HOST), listens_on_loopback, is_over_tls)) {
            return Verdict::Allowed;
        }
        if self.any {
            return Verdict::AnyAllowed;
        }
        self.log.refused(match origin {
            Some(_) => Refused::Origin(&text),
            None if text == "null" => Refused::Null,
            None => Refused::Unreadable(&text),
        });
        Verdict::Foreign
    }

    /// Whether the list has this origin, whatever host the request goes to.
    pub(crate) fn lets_in(&self, origin: &str, listens_on_loopback: bool) -> bool {
        self.any || Origin::parse(origin).is_some_and(|origin| self.allows(&origin, None, listens_on_loopback, false))
    }

    fn allows(&self, origin: &Origin, host: Option<&HeaderValue>, listens_on_loopback: bool, is_over_tls: bool) -> bool {
        let is_same_host = || {
            let host = host.and_then(|host| Origin::parse(&format!("{}://{}", origin.scheme, host.to_str().ok()?)));
            // A page that came in the clear may have been changed on the way: behind TLS it is not the broker's own.
            host.is_some_and(|host| host == *origin) && (!is_over_tls || origin.scheme == "https")
        };
        let only_this_machine = self.loopback || listens_on_loopback;
        // A name of somebody else may lead to loopback (DNS rebinding): where only this machine is let in, such a page is not the broker's own.
        let own = if only_this_machine { origin.is_loopback() } else { is_same_host() };
        own || self.allowed.iter().any(|pattern| pattern.matches(origin))
    }
}

/// The text is no origin.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not an origin; write scheme and host, as in `https://app.example.com`, with the port where it is not the usual one")]
pub struct InvalidOrigin(String);

#[derive(Debug)]
struct Pattern {
    origin: Origin,
    is_suffix: bool,
}

impl Pattern {
    fn matches(&self, origin: &Origin) -> bool {
        let host = if self.is_suffix {
            origin.host.strip_suffix(&self.origin.host).is_some_and(|below| below.len() > 1 && below.ends_with('.'))
        } else {
            origin.host == self.origin.host
        };
        host && origin.scheme == self.origin.scheme && origin.port == self.origin.port
    }
}

/// Scheme, host and port, in lower case.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Origin {
    scheme: String,
    host: String,
    port: Option<u16>,
}

impl Origin {
    fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let (scheme, authority) = text.split_once("://")?;
        if !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')) || scheme.is_empty() {
            return None;
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().ok()?)),
            _ => (authority, None),
        };
        let is_address = host.starts_with('[') && host.ends_with(']');
        let is_legal = |byte: u8| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'*') || (is_address && matches!(byte, b'[' | b']' | b':'))
        };
        if host.is_empty() || !host.bytes().all(is_legal) {
            return None;
        }
        let usual = match scheme {
            "http" | "ws" => Some(80),
            "https" | "wss" => Some(443),
            _ => None,
        };
        Some(Self { scheme: scheme.to_owned(), host: host.to_owned(), port: port.or(usual) })
    }

    fn is_loopback(&self) -> bool {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.ends_with(".localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_origin_no_page_asks() {
        assert_eq!(Origins::default().judge(&HeaderMap::new(), false, false), Verdict::NoOrigin);
    }

    #[test]
    fn only_listed_origins_and_the_own_host_are_let_in() {
        let mut origins = Origins::default();
        for origin in ["https://app.example.com", "https://*.example.org", "http://dev:8080"] {
            origins.allow(origin).unwrap();
        }
        for (origin, expected) in [
            ("https://app.example.com", true),
            ("https://APP.example.com", true),
            ("https://app.example.com:443", true),
            ("https://app.example.com.evil", false),
            ("https://evil-app.example.com", false),
            ("https://app.example.com:8443", false),
            ("http://app.example.com", false),
            ("https://a.example.org", true),
            ("https://a.b.example.org", true),
            ("https://example.org", false),
            ("https://.example.org", false),
            ("https://evilexample.org", false),
            ("https://example.org.evil", false),
            ("http://dev:8080", true),
            ("http://dev", false),
            ("http://broker.test:9000", true),
            ("http://broker.test", false),
            ("http://localhost:3000", false),
            ("null", false),
            ("", false),
            ("https://", false),
            ("https://app.example.com/path", false),
            ("https://user@app.example.com", false),
        ] {
            check(&origins, origin, false, expected);
        }
    }

    #[test]
    fn pages_of_this_machine_are_let_in_where_that_is_wanted() {
        let origins = Origins::default();
        for origin in ["http://localhost:3000", "http://127.0.0.1:5173", "https://[::1]", "http://app.localhost"] {
            check(&origins, origin, true, true);
            check(&origins, origin, false, false);
        }
        assert!(origins.lets_in("http://localhost:3000", true) && !origins.lets_in("http://localhost:3000", false));
        check(&origins, "http://localhost.evil", true, false);
        // The host that the request names, which a page may have led here.
        check(&origins, "http://broker.test:9000", true, false);
        check(&origins, "http://broker.test:9000", false, true);
        check(&origins, "null", true, false);
    }

    #[test]
    fn behind_tls_a_page_in_the_clear_is_not_the_brokers_own() {
        let origins = Origins::default();
        for (origin, is_over_tls, expected) in [
            ("https://broker.test", true, Verdict::Allowed),
            ("http://broker.test", true, Verdict::Foreign),
            ("http://broker.test", false, Verdict::Allowed),
            // A proxy in front may have ended TLS.
            ("https://broker.test", false, Verdict::Allowed),
        ] {
            assert_eq!(origins.judge(&headers(&[origin], "broker.test"), false, is_over_tls), expected, "{origin} {is_over_tls}");
        }
    }

    #[test]
    fn everybody_may_come_where_that_is_said_and_nobody_comes_with_two_origins() {
        let mut origins = Origins::default();
        origins.allow("https://app.test").unwrap();
        let two = headers(&["https://app.test", "https://app.test"], "x");
        assert_eq!(origins.judge(&two, false, false), Verdict::Foreign);
        origins.allow("*").unwrap();
        assert_eq!(origins.judge(&headers(&["https://evil.test"], "x"), false, false), Verdict::AnyAllowed);
        assert_eq!(origins.judge(&headers(&["null"], "x"), false, false), Verdict::AnyAllowed);
        assert_eq!(origins.judge(&headers(&["https://app.test"], "x"), false, false), Verdict::Allowed);
    }

    fn headers(origins: &[&str], host: &str) -> HeaderMap {
        let mut headers: HeaderMap = origins.iter().map(|origin| (ORIGIN, origin.parse().unwrap())).collect();
        headers.insert(HOST, host.parse().unwrap());
        headers
    }

    #[test]
    fn what_is_no_origin_cannot_be_allowed() {
        for text in ["", "app.example.com", "https://a/b", "https://*", "https://a.*.com"] {
            assert!(Origins::default().allow(text).is_err(), "{text}");
        }
    }

    #[track_caller]
    fn check(origins: &Origins, origin: &str, listens_on_loopback: bool, expected: bool) {
        let verdict = origins.judge(&headers(&[origin], "broker.test:9000"), listens_on_loopback, false);
        assert_eq!(verdict, if expected { Verdict::Allowed } else { Verdict::Foreign }, "{origin}");
    }
}
