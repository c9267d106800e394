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
    /// What the client publishes about.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    /// The client takes the key out of the topic's state; then there may be no data.
    #[serde(skip_serializing_if = "is_false")]
    removed: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference over")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// Asks; what is published is what the client sent, with what the answer changes.
pub(super) async fn ask(endpoint: &Endpoint, request: PublishRequest) -> Result<Publish, Refusal> {
    let PublishRequest { subject, topic, publish, .. } = &request;
    let has_data = !(publish.removed && publish.data.is_empty());
    let written = body(&Request {
        who: Who::of(subject),
        channel: topic.local(),
        data: Data::of_any(has_data.then_some(&publish.data)),
        key: publish.key.as_deref(),
        removed: publish.removed,
    });
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
