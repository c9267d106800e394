//! How a request is refused: an HTTP status, and the same error object everywhere.

use std::time::Duration;

use broker_core::{Refusal, RefusalKind};
use broker_protocol::codes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde::Serialize;

use crate::body::{ResponseBody, json};

/// Why there is no result.
///
/// A decision of the broker or the application is told with status 200, a trouble of the transport with one of its own.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    refusal: Refusal,
}

impl Failure {
    /// A trouble of the transport.
    pub(crate) fn transport(status: StatusCode, refusal: Refusal) -> Self {
        Self { status, refusal }
    }

    /// For the log.
    pub(crate) fn refusal(&self) -> &Refusal {
        &self.refusal
    }

    /// The answer; in dev mode it says which setting would allow what was refused.
    pub(crate) fn into_response(self, dev: bool) -> Response<ResponseBody> {
        let mut out = br#"{"error":"#.to_vec();
        write_error(&self.refusal, dev, &mut out);
        out.push(b'}');
        let mut response = json(self.status, out);
        if let Some(after) = self.refusal.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(whole_seconds(after)));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("apikey"));
        }
        response
    }
}

impl From<Refusal> for Failure {
    fn from(mut refusal: Refusal) -> Self {
        let status = match refusal.kind {
            RefusalKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            RefusalKind::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            _ => return Self { status: StatusCode::OK, refusal },
        };
        refusal.retry_after.get_or_insert(Duration::from_secs(1));
        Self { status, refusal }
    }
}

/// Writes the error object: `{"code":102,"message":"..","error":"unknown_topic",..}`.
///
/// Which setting would allow what was refused stands in the hint in dev mode only; otherwise it is for the log.
pub(crate) fn write_error(refusal: &Refusal, dev: bool, out: &mut Vec<u8>) {
    let code = codes::of(refusal);
    let hints = [refusal.hint.as_deref(), refusal.rule.as_deref().filter(|_| dev)];
    let hint = hints.into_iter().flatten().collect::<Vec<_>>().join("; ");
    let error = ErrorObject {
        code: code.number,
        message: &refusal.message,
        error: code.word,
        at: refusal.at,
        hint: Some(&*hint).filter(|hint| !hint.is_empty()),
        retry_after_ms: refusal.retry_after.map(|after| after.as_millis() as u64),
    };
    serde_json::to_writer(out, &error).expect("texts and numbers can always be written to memory");
}

#[derive(Serialize)]
struct ErrorObject<'a> {
    code: u32,
    message: &'a str,
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

/// Rounded up: who comes back a moment too early is refused again.
fn whole_seconds(after: Duration) -> u64 {
    after.as_secs() + u64::from(after.subsec_nanos() > 0)
}
