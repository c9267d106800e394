//! Claims that are written into a token. Reading them lives above.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::value::RawValue;

/// What a new connection token says; the argument of [`HmacTokens::create`](crate::HmacTokens::create) and [`Tickets::create`](crate::Tickets::create).
///
/// ```
/// # use std::time::{Duration, SystemTime};
/// use broker_auth::Claims;
///
/// let claims = Claims::user("ris1").expires_at(SystemTime::now() + Duration::from_secs(600)).info(r#"{"name":"Kim"}"#)?;
/// let claims = claims.group("ocs_ris").channel("news").capabilities(r#"[{"channels":["chat:*"],"match":"wildcard","allow":["pub"]}]"#)?;
/// # Ok::<(), broker_auth::InvalidInfo>(())
/// ```
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Claims {
    /// `sub`: the user; empty for an anonymous one.
    #[serde(rename = "sub", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `exp`: when the token ends, cut to whole seconds; `None`: it does not.
    #[serde(rename = "exp", skip_serializing_if = "Option::is_none", serialize_with = "seconds")]
    pub expires_at: Option<SystemTime>,
    /// `iat`: when it was made, cut to whole seconds.
    #[serde(rename = "iat", skip_serializing_if = "Option::is_none", serialize_with = "seconds")]
    pub issued_at: Option<SystemTime>,
    /// `nbf`: when it begins to hold, cut to whole seconds.
    #[serde(rename = "nbf", skip_serializing_if = "Option::is_none", serialize_with = "seconds")]
    pub not_before: Option<SystemTime>,
    /// `expire_at`: when the connection ends, in place of `exp`; 1970 stands for never.
    #[serde(rename = "expire_at", skip_serializing_if = "Option::is_none", serialize_with = "seconds")]
    pub connection_ends_at: Option<SystemTime>,
    /// `jti`: the token's id, by which it can be revoked.
    #[serde(rename = "jti", skip_serializing_if = "Option::is_none")]
    pub token_id: Option<String>,
    /// `iss`: who made it.
    #[serde(rename = "iss", skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// `aud`: for whom.
    #[serde(rename = "aud", skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// `tenant`: the tenant that everything else is inside of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// `groups`: the groups that the session joins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// `channels`: the topics that the session is subscribed to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    caps: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subs: Option<Box<RawValue>>,
}

impl Claims {
    /// Names only the user.
    pub fn user(user: impl Into<String>) -> Self {
        Self {
            user: user.into(),
            expires_at: None,
            issued_at: None,
            not_before: None,
            connection_ends_at: None,
            token_id: None,
            issuer: None,
            audience: None,
            tenant: None,
            groups: Vec::new(),
            channels: Vec::new(),
            info: None,
            meta: None,
            caps: None,
            subs: None,
        }
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

    /// Sets when the connection ends, whatever the token's end; `None`: never.
    pub fn connection_ends_at(mut self, at: Option<SystemTime>) -> Self {
        self.connection_ends_at = Some(at.unwrap_or(UNIX_EPOCH));
        self
    }

    /// Sets the token's id.
    pub fn token_id(mut self, id: impl Into<String>) -> Self {
        self.token_id = Some(id.into());
        self
    }

    /// Sets who makes the token.
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// Sets whom the token is for.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// Sets the tenant.
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// Adds a group, by its name.
    pub fn group(mut self, name: impl Into<String>) -> Self {
        self.groups.push(name.into());
        self
    }

    /// Adds a topic that the session is subscribed to.
    pub fn channel(mut self, topic: impl Into<String>) -> Self {
        self.channels.push(topic.into());
        self
    }

    /// Sets what others see of the user: one JSON value.
    pub fn info(mut self, json: &str) -> Result<Self, InvalidInfo> {
        self.info = Some(value(json)?);
        Ok(self)
    }

    /// Sets the application's own data, which clients never see: one JSON value.
    pub fn meta(mut self, json: &str) -> Result<Self, InvalidInfo> {
        self.meta = Some(value(json)?);
        Ok(self)
    }

    /// Sets `caps`: a JSON list of rights beyond what namespaces allow.
    pub fn capabilities(mut self, json: &str) -> Result<Self, InvalidInfo> {
        self.caps = Some(value(json)?);
        Ok(self)
    }

    /// Sets `subs`: a JSON object of topics that the session is subscribed to, with what it is told of each.
    pub fn subscriptions(mut self, json: &str) -> Result<Self, InvalidInfo> {
        self.subs = Some(value(json)?);
        Ok(self)
    }

    /// The claims as JSON.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts, numbers and checked JSON can always be written")
    }
}

/// What a new subscription token says; the argument of
/// [`HmacTokens::create_for_subscription`](crate::HmacTokens::create_for_subscription).
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct SubscriptionClaims {
    /// `sub`: the user of the connection.
    #[serde(rename = "sub", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `channel`: the topic, by its local name where the user has a tenant.
    #[serde(rename = "channel")]
    pub topic: String,
    /// `tenant`: the user's tenant; must be there where the user has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// `exp`: when the token ends, cut to whole seconds; the subscription ends with it.
    #[serde(rename = "exp", skip_serializing_if = "Option::is_none", serialize_with = "seconds")]
    pub expires_at: Option<SystemTime>,
    /// `expire_at`: when the subscription ends, in place of `exp`; 1970 stands for never.
    #[serde(rename = "expire_at", skip_serializing_if = "Option::is_none", serialize_with = "seconds")]
    pub subscription_ends_at: Option<SystemTime>,
    /// `iss`: who made it.
    #[serde(rename = "iss", skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// `aud`: for whom.
    #[serde(rename = "aud", skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<Box<RawValue>>,
}

impl SubscriptionClaims {
    /// This user may listen to this topic.
    pub fn new(user: impl Into<String>, topic: impl Into<String>) -> Self {
        Self {
            user: user.into(),
            topic: topic.into(),
            tenant: None,
            expires_at: None,
            subscription_ends_at: None,
            issuer: None,
            audience: None,
            info: None,
        }
    }

    /// Sets the tenant of the user.
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// Sets when the token ends.
    pub fn expires_at(mut self, at: SystemTime) -> Self {
        self.expires_at = Some(at);
        self
    }

    /// Sets when the subscription ends, whatever the token's end; `None`: never.
    pub fn subscription_ends_at(mut self, at: Option<SystemTime>) -> Self {
        self.subscription_ends_at = Some(at.unwrap_or(UNIX_EPOCH));
        self
    }

    /// Sets what others see beside the session in this topic: one JSON value.
    pub fn info(mut self, json: &str) -> Result<Self, InvalidInfo> {
        self.info = Some(value(json)?);
        Ok(self)
    }

    /// The claims as JSON.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts, numbers and checked JSON can always be written")
    }
}

/// A part of a token is not one JSON value.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("this must be one JSON value; the mistake is at column {column}")]
pub struct InvalidInfo {
    /// Where reading stopped; counted from 1.
    pub column: usize,
}

fn value(json: &str) -> Result<Box<RawValue>, InvalidInfo> {
    serde_json::from_str(json).map_err(|error| InvalidInfo { column: error.column() })
}

/// Whole seconds since 1970.
#[allow(clippy::ref_option, reason = "serde hands the field over like this")]
fn seconds<S: serde::Serializer>(at: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
    at.map(|at| at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())).serialize(serializer)
}
