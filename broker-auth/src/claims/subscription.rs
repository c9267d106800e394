//! What the token of a subscription says: one user may listen to one topic.

use broker_core::{Grant, Refusal, Subject, Topic};

use super::{
    Checks, ReadClaims,
    times::Times,
    value::{Place, json_or_base64, text},
};

const CHANNEL: Place<'_> = Place::Claim("channel");

/// Reads the claims of a subscription token whose signature was found good, for this subject and topic.
// spec: centrifuge, "Subscription token": `sub` must be the connection's user, `channel` the one that is subscribed to.
pub(crate) fn read(json: &[u8], subject: &Subject, topic: &Topic, checks: &Checks<'_>) -> Result<Grant, Refusal> {
    let claims = ReadClaims::parse(json)?;
    let times = Times::read(&claims, checks)?;
    claims.check_parties(checks)?;
    if claims.user(json, checks)? != subject.user {
        return Err(Place::Claim(checks.user_claim).refusal("is not the user of this connection").hint("ask for a token for this user"));
    }
    // S21: two tenants may have users and topics of the same names, and one token for all of them would open each other's doors.
    if claims.tenant()?.as_ref() != subject.tenant() {
        return Err(Place::Claim("tenant").refusal("is not the tenant of this connection").hint("ask for a token for this tenant"));
    }
    let channel = channel(&claims)?;
    // Inside a tenant topics go by their local names, and only its own are there.
    let is_meant = match subject.tenant() {
        Some(tenant) => topic.tenant() == Some(tenant.as_str()) && channel == topic.local(),
        None => channel == topic.as_str(),
    };
    if !is_meant {
        return Err(CHANNEL.refusal("is not the topic that is subscribed to").hint("ask for a token for this topic"));
    }
    let mut grant = Grant::plain();
    grant.topic_info = json_or_base64(claims.info, claims.b64info, Place::Claim("b64info"))?;
    grant.expires_at = times.ends_at;
    Ok(grant)
}

/// Checks what can be checked without the connection that it is for.
pub(crate) fn check(json: &[u8], checks: &Checks<'_>) -> Result<(), Refusal> {
    let claims = ReadClaims::parse(json)?;
    Times::read(&claims, checks)?;
    claims.check_parties(checks)?;
    claims.user(json, checks)?;
    channel(&claims).map(drop)
}

fn channel(claims: &ReadClaims<'_>) -> Result<String, Refusal> {
    text(CHANNEL, claims.channel.ok_or_else(|| CHANNEL.refusal("is missing").hint("this may be a connection's token"))?)
}
