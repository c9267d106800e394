//! What a connection token says: reading its claims into an identity, and writing them. Signatures do not live here.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use broker_core::{Identity, Refusal, RefusalKind};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// The last second that a claim of time may name, the end of the year 9999: what lies beyond was meant as milliseconds.
const LAST_SECOND: f64 = 253_402_300_799.0;

const NO_OBJECT: &str = "the token's claims are not an object that has each name once";

/// What a new token says; the argument of [`HmacTokens::create`](crate::HmacTokens::create).
///
/// ```
/// # use std::time::{Duration, SystemTime};
/// use broker_auth::Claims;
///
/// let claims = Claims::user("ris1").expires_at(SystemTime::now() + Duration::from_secs(600)).info(r#"{"name":"Kim"}"#)?;
/// # Ok::<(), broker_auth::InvalidInfo>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Claims {
    /// `sub`: the user; empty for an anonymous one.
    pub user: String,
    /// `exp`: when the token ends, cut to whole seconds; `None`: it does not.
    pub expires_at: Option<SystemTime>,
    /// `iat`: when it was made, cut to whole seconds.
    pub issued_at: Option<SystemTime>,
    /// `nbf`: when it begins to hold, cut to whole seconds.
    pub not_before: Option<SystemTime>,
    info: Option<Box<RawValue>>,
}

impl Claims {
    /// Names only the user.
    pub fn user(user: impl Into<String>) -> Self {
        Self { user: user.into(), expires_at: None, issued_at: None, not_before: None, info: None }
    }

    /// Sets when the token ends.
    pub fn expires_at(mut self, at: SystemTime) -> Self {
        self.expires_at = Some(at);
        self
    }

    /// Sets when the token was made.
    pub fn issued_at(mut self, at: SystemTime) -> Self {
        self.issued_at = Some(at);
        self
    }

    /// Sets when the token begins to hold.
    pub fn not_before(mut self, at: SystemTime) -> Self {
        self.not_before = Some(at);
        self
    }

    /// Sets what others see of the user: one JSON value.
    pub fn info(mut self, json: &str) -> Result<Self, InvalidInfo> {
        self.info = Some(serde_json::from_str(json).map_err(|error| InvalidInfo { column: error.column() })?);
        Ok(self)
    }

    /// The claims as JSON.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        let seconds = |at: Option<SystemTime>| at.map(|at| at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()));
        let written = WrittenClaims {
            sub: &self.user,
            exp: seconds(self.expires_at),
            iat: seconds(self.issued_at),
            nbf: seconds(self.not_before),
            info: self.info.as_deref(),
        };
        serde_json::to_vec(&written).expect("texts, numbers and checked JSON can always be written")
    }
}

/// The info of a token is not one JSON value.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the info of a token must be one JSON value; the mistake is at column {column}")]
pub struct InvalidInfo {
    /// Where reading stopped; counted from 1.
    pub column: usize,
}

#[derive(Serialize)]
struct WrittenClaims<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iat: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nbf: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<&'a RawValue>,
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
    info: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    b64info: Option<&'a RawValue>,
}

/// A claim that is there, `null` too: `"exp": null` must not pass for a token without an end.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Reads the claims of a token whose signature was found good.
///
/// A token holds while `nbf - leeway <= now < exp + leeway`.
// spec: RFC 7519 section 4.1.4, "on or after which the JWT MUST NOT be accepted".
pub(crate) fn read(json: &[u8], now: SystemTime, leeway: Duration) -> Result<Identity, Refusal> {
    let claims: ReadClaims<'_> = serde_json::from_slice(json).map_err(|error| {
        // Not the error's own text: it may quote the token.
        Refusal::unauthorized(if error.is_data() { NO_OBJECT } else { "the token's claims are not JSON" })
    })?;
    // An array would be read as the fields in their order.
    if !json.trim_ascii_start().starts_with(b"{") {
        return Err(Refusal::unauthorized(NO_OBJECT));
    }
    let expires_at = claims.exp.map(|exp| moment("exp", exp)).transpose()?;
    let not_before = claims.nbf.map(|nbf| moment("nbf", nbf)).transpose()?;
    claims.iat.map(|iat| moment("iat", iat)).transpose()?;
    // The year 9999 and any leeway of this century fit; what does not, never ends.
    let ends = expires_at.and_then(|at| at.checked_add(leeway));
    if let Some(late) = ends.and_then(|ends| now.duration_since(ends).ok()) {
        return Err(expired(late, leeway));
    }
    if let Some(early) = not_before.and_then(|begins| begins.duration_since(now).ok()).filter(|early| *early > leeway) {
        return Err(too_early(early, leeway));
    }
    let user = claims.sub.map_or(Ok(String::new()), |sub| text("sub", sub))?;
    let info = match claims.b64info {
        Some(encoded) => Some(decoded_info(encoded)?),
        None => claims.info.filter(|info| info.get() != "null").map(|info| info.get().to_owned().into_bytes()),
    };
    let mut identity = Identity::user(user).rule("hs256 token");
    if let Some(json) = info {
        identity = identity.info(json);
    }
    if let Some(at) = expires_at {
        identity = identity.expires_at(at);
    }
    Ok(identity)
}

fn expired(late: Duration, leeway: Duration) -> Refusal {
    Refusal::new(RefusalKind::TokenExpired, format!("the token ended {} s ago", late.as_secs()))
        .hint("ask the application for a new token")
        .rule(format!("claim exp is past; client.token.leeway is {} s", leeway.as_secs()))
}

fn too_early(early: Duration, leeway: Duration) -> Refusal {
    let seconds = early.as_secs() + u64::from(early.subsec_nanos() > 0);
    Refusal::unauthorized(format!("the token holds only in {seconds} s"))
        .hint("compare the clocks of the two servers")
        .rule(format!("claim nbf is to come; client.token.leeway is {} s", leeway.as_secs()))
}

/// A claim that must be text.
fn text(claim: &str, value: &RawValue) -> Result<String, Refusal> {
    serde_json::from_str(value.get()).map_err(|_| {
        let refusal = Refusal::unauthorized(format!("the token's claim `{claim}` must be a string, it is {}", kind_of(value)));
        match value.get() {
            "null" => refusal.hint(format!("leave `{claim}` out, or send an empty string")),
            _ => refusal.hint("write the value in quotes"),
        }
    })
}

/// A claim of time: seconds since 1970, a fraction allowed.
// spec: RFC 7519 section 2, "NumericDate".
fn moment(claim: &str, value: &RawValue) -> Result<SystemTime, Refusal> {
    let refused = |what: &str| Refusal::unauthorized(format!("the token's claim `{claim}` {what}"));
    let seconds: f64 = serde_json::from_str(value.get())
        .map_err(|_| refused(&format!("must be a number of seconds since 1970, it is {}", kind_of(value))))?;
    if seconds > LAST_SECOND {
        return Err(refused("lies beyond the year 9999").hint(format!("`{claim}` counts seconds, not milliseconds")));
    }
    let since = Duration::try_from_secs_f64(seconds).map_err(|_| refused("lies before 1970"))?;
    UNIX_EPOCH.checked_add(since).ok_or_else(|| refused("is beyond what this machine's clock can tell"))
}

/// `b64info`: one JSON value in base64.
fn decoded_info(encoded: &RawValue) -> Result<Vec<u8>, Refusal> {
    let decoded = STANDARD
        .decode(text("b64info", encoded)?)
        .map_err(|_| Refusal::unauthorized("the token's claim `b64info` is not base64 with its standard alphabet and padding"))?;
    match serde_json::from_slice::<&RawValue>(&decoded) {
        Ok(_) => Ok(decoded),
        Err(_) => Err(Refusal::unauthorized("the token's claim `b64info` does not decode to one JSON value")),
    }
}

fn kind_of(value: &RawValue) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}
