//! The hook `connect`: who is this? Request and answer are Centrifugo's, with `groups`, `tenant` and `caps` in the answer.

use broker_core::{Capability, ConnectRequest, Identity, Refusal, ServerSubscription, Topic, TopicPattern, Verb};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;

use super::{
    answer::{Malformed, Object},
    ask::{Data, Pipe, body},
    decided,
    endpoint::Endpoint,
    options::PassedHeader,
};

// spec: Centrifugo proxies, "ConnectRequest".
#[derive(Serialize)]
struct Request<'a> {
    client: String,
    #[serde(flatten)]
    pipe: Pipe,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    #[serde(flatten)]
    data: Data<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    channels: Vec<&'a str>,
}

/// Asks who a client is. `renews`: the server asks for renewals itself.
pub(super) async fn ask(endpoint: &Endpoint, pass: &[PassedHeader], request: ConnectRequest, renews: bool) -> Result<Identity, Refusal> {
    let connect = &request.connect;
    let written = body(&Request {
        client: request.session.to_string(),
        pipe: Pipe::of(request.transport, request.protocol),
        name: connect.name.as_deref(),
        version: connect.version.as_deref(),
        data: Data::of_any(connect.data.as_ref()),
        channels: connect.resume.iter().map(|(topic, _)| topic.local()).collect(),
    });
    decided(endpoint, written, passed(pass, &request), |result| identity(result, renews).map(Ok)).await
}

/// The headers of the client's request that the application wants to see; those of a name are joined as HTTP joins them.
fn passed(pass: &[PassedHeader], request: &ConnectRequest) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in &request.head.headers {
        let is_wanted = pass.iter().any(|wanted| wanted.name().as_str() == name);
        if let (true, Ok(name), Ok(value)) = (is_wanted, HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            headers.append(name, value);
        }
    }
    headers
}

// spec: Centrifugo proxies, "ConnectResult".
fn identity(result: &Object<'_>, renews: bool) -> Result<Identity, Malformed> {
    let mut identity = Identity::user(result.text("user")?.unwrap_or_default()).rule("connect hook");
    if let Some(at) = result.moment("expire_at")? {
        identity = identity.expires_at(at);
        identity.renewed_by_server = renews;
    }
    identity.info = result.json("info", "b64info")?;
    identity.data = result.payload()?;
    identity.meta = result.json("meta", "b64meta")?;
    if let Some(tenant) = result.text("tenant")? {
        identity.tenant = Some(tenant.parse().map_err(|error| result.malformed("tenant", format!("is no tenant: {error}")))?);
    }
    for (index, group) in result.texts("groups")?.into_iter().enumerate() {
        let name = format!("groups[{index}]");
        Topic::group(&group).map_err(|error| result.malformed(&name, format!("is no group: {error}")))?;
        identity.groups.push(group.into());
    }
    for (index, channel) in result.texts("channels")?.into_iter().enumerate() {
        let topic = topic(result, &format!("channels[{index}]"), &channel)?;
        identity.subscriptions.push(ServerSubscription::new(topic));
    }
    if let Some(subs) = result.object("subs")? {
        for channel in subs.names() {
            let options = subs.object(channel)?.unwrap_or_default();
            let mut subscription = ServerSubscription::new(topic(&subs, channel, channel)?);
            subscription.topic_info = options.json("info", "b64info")?;
            subscription.data = options.payload()?;
            identity.subscriptions.retain(|other| other.topic != subscription.topic);
            identity.subscriptions.push(subscription);
        }
    }
    for caps in result.objects("caps")? {
        identity.capabilities.push(capability(&caps)?);
    }
    Ok(identity)
}

fn topic(object: &Object<'_>, name: &str, channel: &str) -> Result<Topic, Malformed> {
    channel.parse().map_err(|error| object.malformed(name, format!("is no channel: {error}")))
}

/// A right: `{"channels":["chat:*"],"match":"wildcard","allow":["sub","pub","hst","prs"]}`.
fn capability(caps: &Object<'_>) -> Result<Capability, Malformed> {
    let is_pattern = match caps.text("match")?.as_deref() {
        None | Some("" | "exact") => false,
        Some("wildcard") => true,
        Some(_) => return Err(caps.malformed("match", "must be \"wildcard\", or left out for exact names")),
    };
    let mut topics = Vec::new();
    for (index, channel) in caps.texts("channels")?.into_iter().enumerate() {
        let name = format!("channels[{index}]");
        topics.push(if is_pattern {
            channel.parse().map_err(|error| caps.malformed(&name, format!("is no pattern: {error}")))?
        } else {
            TopicPattern::exactly(&topic(caps, &name, &channel)?)
        });
    }
    let word = |(index, word): (usize, String)| {
        let known = Verb::ALL.into_iter().find(|verb| verb.word() == word);
        known.ok_or_else(|| caps.malformed(&format!("allow[{index}]"), "must be \"sub\", \"pub\", \"hst\" or \"prs\""))
    };
    let allow = caps.texts("allow")?.into_iter().enumerate().map(word).collect::<Result<_, _>>()?;
    Ok(Capability { topics, allow })
}
