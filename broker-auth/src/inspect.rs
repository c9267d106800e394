//! What a token says, for people: taken apart, explained, and believed in nothing.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use broker_core::{Identity, Refusal};
use serde_json::Value;

use crate::{
    Algorithm, TokenOptions,
    claims::{self, Checks},
    key,
    token::{Header, Parts, decode, known_algorithm},
};

/// What a token holds, and what would speak against it whatever the key. Its signature was not looked at.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Inspected {
    /// The header as JSON.
    pub header: Value,
    /// The claims as JSON.
    pub claims: Value,
    /// The algorithm that it names, where one is known.
    pub algorithm: Option<Algorithm>,
    /// Whom it would make of its bearer; `Err`: why it opens no connection.
    pub identity: Result<Identity, Refusal>,
    /// Why it would be refused, in sentences.
    pub mistakes: Vec<String>,
    /// What is unusual and may hurt, in sentences.
    pub remarks: Vec<String>,
}

/// Takes a token apart without verifying it. `Err`: it is no token.
pub fn inspect(token: &str, options: &TokenOptions, now: SystemTime) -> Result<Inspected, Refusal> {
    let parts = Parts::split(token, options.token_max_bytes, options.section)?;
    let (header_json, claims_json) = (decode("header is", parts.header)?, decode("claims are", parts.claims)?);
    let header = Header::read(&header_json)?;
    let claims: Value = serde_json::from_slice(&claims_json).map_err(|_| Refusal::unauthorized("the token's claims are not JSON"))?;
    let algorithm = Algorithm::named(&header.alg);
    let mut mistakes = Vec::new();
    let mut remarks = Vec::new();
    if algorithm.is_none() {
        mistakes.push(match known_algorithm(&header.alg) {
            Some("none") => "it is not signed (`alg` is none): anybody could have written it".to_owned(),
            Some(name) if name == header.alg => format!("its algorithm {name} is not supported"),
            Some(name) => format!("its algorithm must be written {name}"),
            None => "its algorithm is not known".to_owned(),
        });
    }
    if header.crit {
        mistakes.push("its header has `crit`: it demands extensions that are not supported".to_owned());
    }
    let id = header.kid.as_ref().map(|id| id.as_str().filter(|id| key::is_legal_id(id)));
    if id == Some(None) {
        mistakes.push("its `kid` is not a string of 1 to 128 printable ASCII bytes".to_owned());
    }
    let checks = Checks {
        now,
        leeway: options.leeway,
        issuer: options.issuer.as_deref(),
        audience: &options.audience,
        user_claim: &options.user_claim,
        section: options.section,
    };
    let identity = claims::read(&claims_json, &checks);
    let is_of_subscription = claims.get("channel").is_some_and(|channel| !channel.is_null());
    let verdict = if is_of_subscription { claims::subscription::check(&claims_json, &checks) } else { identity.clone().map(drop) };
    if let Err(refusal) = &verdict {
        mistakes.push(match &refusal.hint {
            Some(hint) => format!("{refusal} ({hint})"),
            None => refusal.to_string(),
        });
    }
    if is_of_subscription {
        remarks.push("`channel`: it is the token of a subscription, not of a connection, and goes with the subscribe".to_owned());
    }
    remark(&claims, options, now, &mut remarks);
    let header = serde_json::from_slice(&header_json).map_err(|_| Refusal::unauthorized("the token's header is not JSON"))?;
    Ok(Inspected { header, claims, algorithm, identity, mistakes, remarks })
}

/// What is allowed and seldom meant.
fn remark(claims: &Value, options: &TokenOptions, now: SystemTime, remarks: &mut Vec<String>) {
    let seconds = |name: &str| claims.get(name).and_then(Value::as_f64);
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    if claims.get(&options.user_claim).and_then(Value::as_str).is_none_or(str::is_empty) {
        remarks.push(format!("no `{}`: its bearer is anonymous", options.user_claim));
    }
    match seconds("exp") {
        None => remarks.push("no `exp`: it holds for ever, and whoever steals it has it for ever".to_owned()),
        Some(exp) if exp > now => {
            remarks.push(format!("it ends in {}", readable(exp - now)));
            if exp - now > 90.0 * 86_400.0 {
                remarks.push("it holds for more than 90 days; short tokens that are renewed do less harm when they leak".to_owned());
            }
        }
        Some(_) => {}
    }
    match seconds("iat") {
        None => remarks.push("no `iat`: every revocation of its user means it, earlier ones too".to_owned()),
        Some(iat) if iat > now + 60.0 => remarks.push(format!("`iat` is {} to come: compare the clocks", readable(iat - now))),
        Some(_) => {}
    }
    if let Some(0.0) = seconds("expire_at") {
        remarks.push("`expire_at` is 0: its connections have no end".to_owned());
    }
    if claims.get("jti").is_none() {
        remarks.push("no `jti`: it cannot be revoked alone".to_owned());
    }
}

fn readable(seconds: f64) -> String {
    let seconds = Duration::try_from_secs_f64(seconds).map_or(u64::MAX, |left| left.as_secs());
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
