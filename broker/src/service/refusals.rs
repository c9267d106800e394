//! How the opening of a connection is refused: as an HTTP answer, or over the socket where a page's script could not read that.

use broker_core::{CloseReason, FrameWriter, Framing, Protocol, Push, Refusal};
use broker_protocol::codes;
use broker_ws::WebSocketFraming;
use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER},
};
use serde_json::{Map, Value};

use super::body::ResponseBody;

/// A refusal as the broker itself answers one over HTTP: status, `{"error":{..}}` with code, word, message and hint, and `Retry-After` where it applies. For the host's
/// own handlers, so that a client reads the same from all of them. Which rule refused is not told.
///
/// ```
/// use broker::{Refusal, refusal_response};
///
/// let response = refusal_response(&Refusal::permission_denied("this order is not yours").hint("ask its owner"));
/// assert_eq!(response.status(), 403);
/// assert!(response.body().starts_with(b"{\"error\":{\"code\":103,\"error\":\"permission_denied\""));
/// ```
pub fn refusal_response(refusal: &Refusal) -> Response<Bytes> {
    response(refusal, false)
}

/// The refusal as an HTTP answer; the connection ends with it. `dev`: the client is told which rule refused.
pub(crate) fn as_http(refusal: &Refusal, dev: bool) -> Response<ResponseBody> {
    let mut response = response(refusal, dev).map(ResponseBody::from);
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn response(refusal: &Refusal, dev: bool) -> Response<Bytes> {
    let code = codes::of(refusal);
    let mut error = Map::new();
    error.insert("code".to_owned(), code.number.into());
    error.insert("error".to_owned(), code.word.into());
    error.insert("message".to_owned(), refusal.message.as_ref().into());
    let hint = refusal.hint.iter().chain(refusal.rule.iter().filter(|_| dev)).map(AsRef::as_ref).collect::<Vec<_>>().join("; ");
    if !hint.is_empty() {
        error.insert("hint".to_owned(), hint.into());
    }
    if let Some(after) = refusal.retry_after {
        error.insert("retry_after_ms".to_owned(), (after.as_millis() as u64).into());
    }
    let body = Value::from_iter([("error", Value::Object(error))]).to_string();
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = StatusCode::from_u16(code.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(after) = refusal.retry_after {
        // The header counts whole seconds; early is worse than late.
        headers.insert(RETRY_AFTER, HeaderValue::from(after.as_millis().div_ceil(1_000) as u64));
    }
    response
}

/// The refusal as the first and last bytes of a WebSocket: an error frame, then the close.
pub(crate) fn as_frames(refusal: Refusal, protocol: &dyn Protocol) -> Bytes {
    let mut frames = Vec::new();
    let close = protocol.close_frame(&CloseReason::Refused(Box::new(refusal.clone())));
    protocol.encode_push(&Push::Refused(refusal), &mut FrameWriter::new(&WebSocketFraming, &mut frames));
    WebSocketFraming.close(&close, &mut frames);
    frames.into()
}

/// A foreign page learns nothing.
pub(crate) fn foreign_origin() -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::default());
    *response.status_mut() = StatusCode::FORBIDDEN;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use broker_protocol::Plain;

    use super::*;

    #[test]
    fn a_refusal_has_its_status_and_says_why_in_json() {
        let refusal = Refusal::unavailable("not \"now\"").retry_after(Duration::from_millis(1_500)).rule("set x = true");
        let response = as_http(&refusal, false);
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["retry-after"], "2");
        let body = r#"{"error":{"code":100,"error":"unavailable","message":"not \"now\"","retry_after_ms":1500}}"#;
        assert_eq!(body_of(response), body.parse::<Value>().unwrap());
        assert_eq!(body_of(as_http(&refusal, true))["error"]["hint"], "set x = true");
    }

    #[test]
    fn over_the_socket_the_error_frame_comes_before_the_close() {
        let frames = as_frames(Refusal::permission_denied("no"), &Plain::default());
        let text = String::from_utf8_lossy(&frames);
        assert!(text.contains(r#"{"broker":"error","#) && text.contains(r#""error":"permission_denied""#), "{text}");
        let close = frames.windows(2).position(|pair| pair == 3507_u16.to_be_bytes());
        assert!(close.is_some_and(|at| frames[at - 2] == 0x88), "{frames:?}");
    }

    fn body_of(response: Response<ResponseBody>) -> Value {
        serde_json::from_slice(&response.into_body().into_bytes()).unwrap()
    }
}
