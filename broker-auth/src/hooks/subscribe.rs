//! The hook `subscribe`: may this session subscribe, and what is added?

use broker_core::{Grant, Payload, Refusal, Subject, Tenant, Topic};
use http::HeaderMap;
use serde::Serialize;

use super::{
    answer::{Malformed, Object},
    ask::{Data, Who, body},
    decided,
    endpoint::Endpoint,
};

// spec: Centrifugo proxies, "SubscribeRequest".
#[derive(Serialize)]
struct Request<'a> {
    #[serde(flatten)]
    who: Who<'a>,
    channel: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    #[serde(flatten)]
    data: Data<'a>,
}

/// Asks; a token and data go along where the client sent them.
pub(super) async fn ask(
    endpoint: &Endpoint,
    subject: &Subject,
    topic: &Topic,
    token: Option<&str>,
    data: Option<&Payload>,
) -> Result<Grant, Refusal> {
    let channel = if subject.tenant().map(Tenant::as_str) == topic.tenant() { topic.local() } else { topic.as_str() };
    let written = body(&Request { who: Who::of(subject), channel, token, data: Data::of_any(data) });
    decided(endpoint, written, HeaderMap::new(), |result| grant(result).map(Ok)).await
}

// spec: Centrifugo proxies, "SubscribeResult". `override` is not taken over: options are the namespace's.
fn grant(result: &Object<'_>) -> Result<Grant, Malformed> {
    let mut grant = Grant::plain();
    grant.topic_info = result.json("info", "b64info")?;
    grant.data = result.payload()?;
    grant.expires_at = result.moment("expire_at")?;
    Ok(grant)
}
