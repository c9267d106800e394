//! The hook `publish`: may this session publish, and what is published instead?

use broker_core::{Publish, PublishRequest, Refusal};
use http::HeaderMap;
use serde::Serialize;

use super::{
    answer::{Malformed, Object},
    ask::{Data, Who, body},
    decided,
    endpoint::Endpoint,
};

// spec: Centrifugo proxies, "PublishRequest".
#[derive(Serialize)]
struct Request<'a> {
    #[serde(flatten)]
    who: Who<'a>,
    channel: &'a str,
    #[serde(flatten)]
    data: Data<'a>,
}

/// Asks; what is published is what the client sent, with what the answer changes.
pub(super) async fn ask(endpoint: &Endpoint, request: PublishRequest) -> Result<Publish, Refusal> {
    let PublishRequest { subject, topic, publish, .. } = &request;
    let written = body(&Request { who: Who::of(subject), channel: topic.local(), data: Data::of(&publish.data) });
    decided(endpoint, written, HeaderMap::new(), |result| changed(result, publish.clone()).map(Ok)).await
}

/// What an answer says about a publication.
// spec: Centrifugo proxies, "PublishResult".
pub(super) fn changed(result: &Object<'_>, mut publish: Publish) -> Result<Publish, Malformed> {
    if let Some(data) = result.payload()? {
        publish.data = data;
    }
    let tags = result.tags("tags")?;
    if !tags.is_empty() {
        publish = publish.tags(tags);
    }
    if let Some(key) = result.text("idempotency_key")? {
        publish = publish.idempotency_key(key);
    }
    Ok(if result.flag("skip_history")? { publish.skip_history() } else { publish })
}
