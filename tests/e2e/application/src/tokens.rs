//! Tokens that a test writes itself: JSON, believed as it stands.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use broker::{Authorizer, ByNamespace, Decision, Grant, Identity, Namespace, Refusal, Subject, Topic, Verb};
use serde::Deserialize;

/// `{"user":"ris1","groups":["night"],"ttl":2}`: who comes, in which groups, for how many seconds.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Token {
    user: String,
    groups: Vec<String>,
    ttl: Option<u64>,
}

/// Who a token says that the client is; without one nobody.
pub(crate) fn identity(token: Option<&str>) -> Result<Identity, Refusal> {
    let Some(token) = token else { return Ok(Identity::anonymous()) };
    let Token { user, groups, ttl } = read(token)?;
    let identity = groups.into_iter().fold(Identity::user(user), Identity::group);
    Ok(match ttl {
        Some(seconds) => identity.expires_at(SystemTime::now() + Duration::from_secs(seconds)),
        None => identity,
    })
}

/// Decides by namespaces, and lets a token `{"ttl":2}` of a subscription say how long that lasts.
pub(crate) struct SubscriptionTokens;

#[async_trait]
impl Authorizer for SubscriptionTokens {
    fn decide(&self, subject: &Subject, verb: Verb, topic: &Topic, namespace: &Namespace) -> Decision {
        ByNamespace.decide(subject, verb, topic, namespace)
    }

    async fn redeem(&self, _: &Subject, _: &Topic, token: &str) -> Option<Result<Grant, Refusal>> {
        let granted = read(token).map(|Token { ttl, .. }| match ttl {
            Some(seconds) => Grant::plain().expires_at(SystemTime::now() + Duration::from_secs(seconds)),
            None => Grant::plain(),
        });
        Some(granted)
    }
}

fn read(token: &str) -> Result<Token, Refusal> {
    serde_json::from_str(token).map_err(|error| Refusal::unauthorized(format!("the token cannot be read: {error}")))
}
