//! What a connection token says: its claims, read into an identity. Signatures do not live here, writing lives in `written`.

mod caps;
pub(crate) mod subscription;
mod times;
mod value;
mod written;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use broker_core::{Identity, Payload, Refusal, ServerSubscription, Tenant, Topic, UserId};
use serde::Deserialize;
use serde_json::value::RawValue;

pub use self::written::{Claims, InvalidInfo, SubscriptionClaims};
use self::{
    times::Times,
    value::{Entries, Place, json_or_base64, list, object, present, text},
};

/// Most groups of one token.
const GROUPS_MAX: usize = 128;

/// Most topics of `channels` and of `subs`, each; the session's own bound comes after.
const CHANNELS_MAX: usize = 1024;

/// What is asked of every token.
pub(crate) struct Checks<'a> {
    pub(crate) now: SystemTime,
    pub(crate) leeway: Duration,
    /// What `iss` must be; `None`: anything.
    pub(crate) issuer: Option<&'a str>,
    /// What `aud` must hold, one of these; empty: anything.
    pub(crate) audience: &'a [String],
    pub(crate) user_claim: &'a str,
    /// The section of the configuration, for the operator.
    pub(crate) section: &'a str,
}

/// Claims as they stand in the token; each is looked at alone, so that a mistake can be named. Others are ignored.
#[derive(Deserialize)]
struct ReadClaims<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    sub: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    exp: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    iat: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    nbf: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    expire_at: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    iss: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    aud: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    jti: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    info: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    b64info: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    meta: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    tenant: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    groups: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    channels: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    subs: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    caps: Option<&'a RawValue>,
    /// The topic, in the token of a subscription.
    #[serde(borrow, default, deserialize_with = "present")]
    channel: Option<&'a RawValue>,
}

/// What one entry of `subs` says; `override` is the namespace's business here.
#[derive(Deserialize)]
struct ReadSubscription<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    info: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    b64info: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    b64data: Option<&'a RawValue>,
}

impl<'a> ReadClaims<'a> {
    fn parse(json: &'a [u8]) -> Result<Self, Refusal> {
        const NO_OBJECT: &str = "the token's claims are not an object that has each name once";
        let claims = serde_json::from_slice(json).map_err(|error| {
            // Not the error's own text: it may quote the token.
            Refusal::unauthorized(if error.is_data() { NO_OBJECT } else { "the token's claims are not JSON" })
        })?;
        // An array would be read as the fields in their order.
        if !json.trim_ascii_start().starts_with(b"{") {
            return Err(Refusal::unauthorized(NO_OBJECT));
        }
        Ok(claims)
    }

    /// The user, from the claim that is configured to name it; empty for an anonymous one.
    fn user(&self, json: &[u8], checks: &Checks<'_>) -> Result<UserId, Refusal> {
        let place = Place::Claim(checks.user_claim);
        let user = match checks.user_claim {
            "sub" => self.sub.map(|sub| text(place, sub)).transpose()?,
            name => {
                let entries: Entries<'_> = serde_json::from_slice(json).map_err(|_| place.refusal("stands twice"))?;
                entries.0.into_iter().find(|(other, _)| other == name).map(|(_, value)| text(place, value)).transpose()?
            }
        };
        let user = UserId::from(user.unwrap_or_default());
        match Topic::of_user(&user) {
            Some(Err(error)) => Err(place.refusal(format_args!("is no user that has a topic: {error}"))),
            _ => Ok(user),
        }
    }

    /// Checks who made the token, and for whom.
    fn check_parties(&self, checks: &Checks<'_>) -> Result<(), Refusal> {
        let issuer = self.iss.map(|iss| text(Place::Claim("iss"), iss)).transpose()?;
        if let Some(expected) = checks.issuer.filter(|expected| issuer.as_deref() != Some(*expected)) {
            let what = if issuer.is_some() { "is another issuer's" } else { "is missing" };
            return Err(Place::Claim("iss").refusal(what).rule(format!("{}.issuer is {expected:?}", checks.section)));
        }
        let audience = self.aud.map(audience).transpose()?;
        if checks.audience.is_empty() || audience.iter().flatten().any(|one| checks.audience.contains(one)) {
            return Ok(());
        }
        let what = if audience.is_some() { "is another audience" } else { "is missing" };
        Err(Place::Claim("aud").refusal(what).rule(format!("{}.audience is {:?}", checks.section, checks.audience)))
    }

    fn tenant(&self) -> Result<Option<Tenant>, Refusal> {
        let place = Place::Claim("tenant");
        let parse = |value| text(place, value)?.parse().map_err(|error| place.refusal(format_args!("is no tenant: {error}")));
        self.tenant.map(parse).transpose()
    }
}

/// One audience or a list of them.
// spec: RFC 7519 section 4.1.3.
fn audience(value: &RawValue) -> Result<Vec<String>, Refusal> {
    let place = Place::Claim("aud");
    if !value.get().starts_with('[') {
        return Ok(vec![text(place, value)?]);
    }
    let elements = list(place, value, GROUPS_MAX)?;
    elements.into_iter().enumerate().map(|(index, element)| text(Place::Element(&place, index), element)).collect()
}

/// Who the token says that it is from, before anything of it is believed.
pub(crate) fn issuer(json: &[u8]) -> Result<Option<String>, Refusal> {
    ReadClaims::parse(json)?.iss.map(|iss| text(Place::Claim("iss"), iss)).transpose()
}

/// Reads the claims of a connection token whose signature was found good.
///
/// A token holds while `nbf - leeway <= now < exp + leeway`.
// spec: RFC 7519 section 4.1.4, "on or after which the JWT MUST NOT be accepted".
pub(crate) fn read(json: &[u8], checks: &Checks<'_>) -> Result<Identity, Refusal> {
    let claims = ReadClaims::parse(json)?;
    let times = Times::read(&claims, checks)?;
    claims.check_parties(checks)?;
    if claims.channel.is_some_and(|channel| channel.get() != "null") {
        // It was made to open one topic: with the same keys it would otherwise open whatever its user may.
        let refusal = Place::Claim("channel").refusal("makes it the token of a subscription, not of a connection");
        return Err(refusal.hint("send it with the subscribe, and connect with a token that has no `channel`"));
    }
    let mut identity = Identity::user(claims.user(json, checks)?);
    identity.expires_at = times.ends_at;
    // A token that does not say when it was made cannot be newer than a revocation.
    identity.issued_at = Some(times.issued_at.unwrap_or(UNIX_EPOCH));
    identity.token_id = claims.jti.map(|jti| text(Place::Claim("jti"), jti)).transpose()?.map(Into::into);
    identity.info = json_or_base64(claims.info, claims.b64info, Place::Claim("b64info"))?;
    identity.meta = claims.meta.and_then(value::json);
    identity.tenant = claims.tenant()?;
    let tenant = identity.tenant.as_ref();
    identity.groups = claims.groups.map_or_else(|| Ok(Vec::new()), |value| groups(value, tenant))?;
    identity.subscriptions = subscriptions(claims.channels, claims.subs, tenant)?;
    identity.capabilities = claims.caps.map_or_else(|| Ok(Vec::new()), caps::read)?;
    Ok(identity)
}

fn groups(value: &RawValue, tenant: Option<&Tenant>) -> Result<Vec<Box<str>>, Refusal> {
    let place = Place::Claim("groups");
    let mut groups: Vec<Box<str>> = Vec::new();
    for (index, element) in list(place, value, GROUPS_MAX)?.into_iter().enumerate() {
        let place = Place::Element(&place, index);
        let name = text(place, element)?;
        Topic::group(&name)
            .and_then(|topic| tenant.map_or(Ok(topic.clone()), |tenant| topic.in_tenant(tenant)))
            .map_err(|error| place.refusal(format_args!("is no name of a group: {error}")))?;
        if name.is_empty() {
            return Err(place.refusal("is empty"));
        }
        if !groups.iter().any(|other| **other == *name) {
            groups.push(name.into());
        }
    }
    Ok(groups)
}

/// The topics of `channels` and `subs`; one that stands in both is what `subs` says.
fn subscriptions(
    channels: Option<&RawValue>,
    subs: Option<&RawValue>,
    tenant: Option<&Tenant>,
) -> Result<Vec<ServerSubscription>, Refusal> {
    let mut made: Vec<ServerSubscription> = Vec::new();
    if let Some(value) = subs {
        let place = Place::Claim("subs");
        let entries: Entries<'_> = object(place, value)?;
        if entries.0.len() > CHANNELS_MAX {
            return Err(place.refusal(format_args!("has {} entries, at most {CHANNELS_MAX} are allowed", entries.0.len())));
        }
        for (index, (name, value)) in entries.0.into_iter().enumerate() {
            let place = Place::Element(&place, index);
            made.push(subscription(place, topic(place, &name, tenant)?, value)?);
        }
    }
    if let Some(value) = channels {
        let place = Place::Claim("channels");
        for (index, element) in list(place, value, CHANNELS_MAX)?.into_iter().enumerate() {
            let place = Place::Element(&place, index);
            let topic = topic(place, &text(place, element)?, tenant)?;
            if !made.iter().any(|subscription| subscription.topic == topic) {
                made.push(ServerSubscription::new(topic));
            }
        }
    }
    Ok(made)
}

fn subscription(place: Place<'_>, topic: Topic, value: &RawValue) -> Result<ServerSubscription, Refusal> {
    let said: ReadSubscription<'_> = object(place, value)?;
    let mut subscription = ServerSubscription::new(topic);
    subscription.topic_info = json_or_base64(said.info, said.b64info, Place::Field(&place, "b64info"))?;
    subscription.data = json_or_base64(said.data, said.b64data, Place::Field(&place, "b64data"))?.map(Payload::json);
    Ok(subscription)
}

/// A topic by its local name; a token names no tenant but by its claim.
fn topic(place: Place<'_>, name: &str, tenant: Option<&Tenant>) -> Result<Topic, Refusal> {
    let refused = |error| place.refusal(format_args!("is no name of a topic: {error}"));
    let topic: Topic = name.parse().map_err(refused)?;
    if topic.namespace() == Some("tenant") || topic.tenant().is_some() {
        return Err(place.refusal("is inside a tenant").hint("name the tenant in the claim `tenant`, and topics without it"));
    }
    match tenant {
        // The full name must fit as well.
        Some(tenant) => topic.in_tenant(tenant).map(|_| topic).map_err(refused),
        None => Ok(topic),
    }
}
