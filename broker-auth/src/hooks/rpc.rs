//! The hook `rpc`: a call of a client, answered by the application.

use broker_core::{CallRequest, Payload, Refusal};
use http::HeaderMap;
use serde::Serialize;

use super::{
    ask::{Data, Who, body},
    decided,
    endpoint::Endpoint,
};

// spec: Centrifugo proxies, "RPCRequest".
#[derive(Serialize)]
struct Request<'a> {
    #[serde(flatten)]
    who: Who<'a>,
    #[serde(skip_serializing_if = "str::is_empty")]
    method: &'a str,
    #[serde(flatten)]
    data: Data<'a>,
}

/// Asks; an answer without data is `null`.
pub(super) async fn ask(endpoint: &Endpoint, request: CallRequest) -> Result<Payload, Refusal> {
    let CallRequest { subject, method, data, .. } = &request;
    let written = body(&Request { who: Who::of(subject), method, data: Data::of(data) });
    decided(endpoint, written, HeaderMap::new(), |result| Ok(Ok(result.payload()?.unwrap_or_else(|| Payload::json("null"))))).await
}
