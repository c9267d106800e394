//! A call as an HTTP request: a POST of JSON, answered with JSON. When calls are made does not live here.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use http_body_util::Full;

use super::failure::CallFailed;
use crate::http_client::{ExchangeFailed, HttpClient};

/// Posts JSON and reads the answer. Cancel-safe: the connection of a call that is dropped is closed.
pub(super) async fn post(
    client: &HttpClient,
    uri: Uri,
    headers: HeaderMap,
    body: Vec<u8>,
    answer_max_bytes: usize,
) -> Result<Bytes, CallFailed> {
    let mut request = Request::new(Full::from(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    let json = HeaderValue::from_static("application/json");
    request.headers_mut().insert(header::CONTENT_TYPE, json.clone());
    request.headers_mut().insert(header::ACCEPT, json);
    client.send(request, answer_max_bytes).await.map_err(|failed| match failed {
        ExchangeFailed::Transport(error) => CallFailed::Transport(error),
        ExchangeFailed::Status(status) => CallFailed::Status(status),
        ExchangeFailed::Redirect(status) => CallFailed::Redirect(status),
        ExchangeFailed::TooLarge { max_bytes } => CallFailed::TooLarge { max_bytes },
    })
}
