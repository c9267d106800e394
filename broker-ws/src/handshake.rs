//! The HTTP side of a WebSocket: is a request an upgrade, and what is answered. What happens after the 101 lives in `upgrade`.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{
        ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
        SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
    },
};
use tungstenite::handshake::derive_accept_key;

/// The version of the WebSocket protocol that is spoken.
const VERSION: &str = "13";

/// A legal request for a WebSocket, not answered yet.
///
/// ```
/// use broker_ws::Handshake;
/// use http::Request;
///
/// let request = Request::get("/ws/news")
///     .header("connection", "keep-alive, Upgrade")
///     .header("upgrade", "websocket")
///     .header("sec-websocket-version", "13")
///     .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
///     .body(())
///     .unwrap();
/// let answer = Handshake::of(&request).unwrap().accept(None);
/// assert_eq!(answer.status(), 101);
/// assert_eq!(answer.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
/// ```
#[derive(Clone, Debug)]
pub struct Handshake {
    accept_key: HeaderValue,
}

impl Handshake {
    /// Reads a request's head.
    ///
    /// spec: RFC 6455, section 4.2.1
    pub fn of<B>(request: &Request<B>) -> Result<Self, HandshakeError> {
        let headers = request.headers();
        if !has_token(headers, &UPGRADE, "websocket") || !has_token(headers, &CONNECTION, "upgrade") {
            return Err(HandshakeError::NoUpgrade);
        }
        if request.version() != Version::HTTP_11 {
            return Err(HandshakeError::HttpVersion);
        }
        if request.method() != Method::GET {
            return Err(HandshakeError::Method);
        }
        let has_body = headers.contains_key(TRANSFER_ENCODING) || headers.get(CONTENT_LENGTH).is_some_and(|len| len != "0");
        if has_body {
            return Err(HandshakeError::Body);
        }
        if only(headers, &SEC_WEBSOCKET_VERSION).is_none_or(|version| version != VERSION) {
            return Err(HandshakeError::Version);
        }
        let key = only(headers, &SEC_WEBSOCKET_KEY).filter(|key| is_key(key.as_bytes())).ok_or(HandshakeError::Key)?;
        let accept_key = derive_accept_key(key.as_bytes());
        Ok(Self { accept_key: accept_key.parse().expect("base64 is a legal header value") })
    }

    /// The answer that switches protocols, naming the chosen subprotocol.
    pub fn accept(self, subprotocol: Option<&str>) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, self.accept_key);
        if let Some(subprotocol) = subprotocol.and_then(|name| HeaderValue::from_str(name).ok()) {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, subprotocol);
        }
        response
    }
}

/// Why a request is not answered with a WebSocket.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// Plain HTTP.
    #[error("this address speaks WebSocket; the request asks for no upgrade")]
    NoUpgrade,
    /// A WebSocket upgrade exists in HTTP/1.1 only.
    #[error("a WebSocket upgrade needs HTTP/1.1")]
    HttpVersion,
    /// Another method than GET.
    #[error("a WebSocket upgrade is a GET")]
    Method,
    /// A body, which an upgrade does not have.
    #[error("a WebSocket upgrade has no body")]
    Body,
    /// Another version of the WebSocket protocol.
    #[error("only version 13 of the WebSocket protocol is spoken")]
    Version,
    /// The key is missing, not 16 bytes in base64, or there are several.
    #[error("Sec-WebSocket-Key must be 16 bytes in base64, once")]
    Key,
}

impl HandshakeError {
    /// The status that says so.
    pub fn status(self) -> StatusCode {
        match self {
            Self::NoUpgrade | Self::Version => StatusCode::UPGRADE_REQUIRED,
            Self::HttpVersion => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Body | Self::Key => StatusCode::BAD_REQUEST,
        }
    }

    /// How the client puts it right.
    pub fn hint(self) -> &'static str {
        match self {
            Self::NoUpgrade => {
                "open it with new WebSocket(url), or see that every proxy on the way passes on the headers Upgrade and Connection"
            }
            Self::HttpVersion => "let the proxy use HTTP/1.1 towards this server",
            Self::Method | Self::Body | Self::Key => "use a WebSocket client",
            Self::Version => "use a client of RFC 6455",
        }
    }

    /// The whole answer; the connection is closed after it.
    pub fn response(self) -> Response<Bytes> {
        let (message, hint) = (self, self.hint());
        let body = format!(r#"{{"error":{{"code":107,"error":"bad_request","message":"{message}","hint":"{hint}"}}}}"#);
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        if self.status() == StatusCode::UPGRADE_REQUIRED {
            headers.insert(CONNECTION, HeaderValue::from_static("close, upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION));
        }
        if self == Self::Method {
            headers.insert(ALLOW, HeaderValue::from_static("GET"));
        }
        response
    }
}

/// The header's value where it stands exactly once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|found| found.eq_ignore_ascii_case(token))
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

/// 16 bytes in base64: 22 digits and two fillers.
fn is_key(key: &[u8]) -> bool {
    let Some((digits, b"==")) = key.split_at_checked(22) else { return false };
    digits.iter().all(|digit| digit.is_ascii_alphanumeric() || matches!(digit, b'+' | b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_legal_upgrade_is_accepted_whatever_the_case_and_order_of_its_words() {
        check(|_| {}, None);
        check(|request| set(request, "connection", "keep-alive,  UPGRADE"), None);
        check(|request| set(request, "upgrade", "h2c, WebSocket"), None);
        check(|request| set(request, "content-length", "0"), None);
    }

    #[test]
    fn everything_else_is_refused_with_the_status_that_fits() {
        check(|request| drop(request.headers_mut().remove("upgrade")), Some((HandshakeError::NoUpgrade, 426)));
        check(|request| set(request, "connection", "keep-alive"), Some((HandshakeError::NoUpgrade, 426)));
        check(|request| *request.version_mut() = Version::HTTP_10, Some((HandshakeError::HttpVersion, 505)));
        check(|request| *request.method_mut() = Method::POST, Some((HandshakeError::Method, 405)));
        check(|request| set(request, "content-length", "5"), Some((HandshakeError::Body, 400)));
        check(|request| set(request, "transfer-encoding", "chunked"), Some((HandshakeError::Body, 400)));
        check(|request| set(request, "sec-websocket-version", "8"), Some((HandshakeError::Version, 426)));
        check(|request| drop(request.headers_mut().remove("sec-websocket-version")), Some((HandshakeError::Version, 426)));
        for key in ["", "abc", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25j!Q==", "dGhlIHNhbXBsZSBub25jZQ==x"] {
            check(|request| set(request, "sec-websocket-key", key), Some((HandshakeError::Key, 400)));
        }
        let twice = |request: &mut Request<()>| {
            request.headers_mut().append("sec-websocket-key", HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        };
        check(twice, Some((HandshakeError::Key, 400)));
    }

    #[test]
    fn a_refusal_names_the_version_and_closes() {
        let answer = HandshakeError::NoUpgrade.response();
        assert_eq!(answer.headers()["sec-websocket-version"], "13");
        assert_eq!(answer.headers()["connection"], "close, upgrade");
        assert!(answer.body().starts_with(br#"{"error":{"code":107,"#));
    }

    #[track_caller]
    fn check(change: impl Fn(&mut Request<()>), expected: Option<(HandshakeError, u16)>) {
        let mut request = Request::get("/ws/x")
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .body(())
            .unwrap();
        change(&mut request);
        let refused = Handshake::of(&request).err();
        assert_eq!(refused.map(|error| (error, error.status().as_u16())), expected);
    }

    fn set(request: &mut Request<()>, name: &'static str, value: &str) {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
}
