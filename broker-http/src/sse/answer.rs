//! The head of an answer that is a stream of events.

use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{
        ACCEPT, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_MAX_AGE, ALLOW, CACHE_CONTROL, CONTENT_TYPE,
        HeaderName,
    },
};

/// Tells a proxy to pass every event on at once.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The answer around a stream of events.
///
/// ```
/// let response = broker_http::sse_response(());
/// assert_eq!(response.headers()["content-type"], "text/event-stream");
/// ```
pub fn sse_response<B>(body: B) -> Response<B> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

/// Whether a client says that it wants events, as `EventSource` does.
pub fn is_sse_asked_for(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    accepted.map(|kind| kind.split(';').next().unwrap_or_default().trim()).any(|kind| kind.eq_ignore_ascii_case("text/event-stream"))
}

/// The answer to `OPTIONS`; to a browser's preflight where a page of its origin may ask, for clients that send headers of their own.
pub fn preflight<B: Default>(is_page: bool) -> Response<B> {
    let mut response = Response::new(B::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static("GET, OPTIONS"));
    if is_page {
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET"));
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("Authorization, Cache-Control, Last-Event-ID"));
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_accepts_events_asks_for_them() {
        check(&[], false);
        check(&["*/*"], false);
        check(&["text/event-stream"], true);
        check(&["text/html, Text/Event-Stream;q=0.9"], true);
        check(&["text/html", "text/event-stream"], true);
    }

    #[track_caller]
    fn check(accept: &[&'static str], expected: bool) {
        let headers: HeaderMap = accept.iter().map(|value| (ACCEPT, HeaderValue::from_static(value))).collect();
        assert_eq!(is_sse_asked_for(&headers), expected, "{accept:?}");
    }
}
