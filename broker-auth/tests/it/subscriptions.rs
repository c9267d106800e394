//! Tokens that let one user listen to one topic.

use std::sync::Arc;

use broker_auth::{HmacTokens, Key, SubscriptionClaims, SubscriptionTokens, TokenOptions, Tokens};
use broker_core::{Authorizer, Decision, Grant, Identity, Namespace, Refusal, RefusalKind, SessionId, Subject, Topic, Verb};

use super::{HEADER, NOW, SECRET, at, signed, signed_with};

fn subject(identity: Identity) -> Subject {
    Subject::new(SessionId::from_random(1), &identity)
}

fn topic(name: &str) -> Topic {
    name.parse().unwrap()
}

async fn grant(identity: Identity, name: &str, token: &str) -> Result<Grant, Refusal> {
    let tokens = Tokens::new(TokenOptions::default()).key(Key::secret(SECRET).unwrap());
    tokens.verify_subscription(token, &subject(identity), &topic(name), at(NOW)).await
}

#[track_caller]
fn is_denied(verdict: Result<Grant, Refusal>, expected: &str) {
    let refusal = verdict.unwrap_err();
    assert_eq!((refusal.kind, &*refusal.message), (RefusalKind::PermissionDenied, expected));
}

#[tokio::test]
async fn a_token_for_this_user_and_topic_grants() {
    let token = signed(HEADER, format!(r#"{{"sub":"ris1","channel":"orders:7","exp":{},"info":{{"role":"x"}}}}"#, NOW + 60));
    let granted = grant(Identity::user("ris1"), "orders:7", &token).await.unwrap();
    assert_eq!(granted.topic_info.unwrap(), r#"{"role":"x"}"#);
    assert_eq!(granted.expires_at, Some(at(NOW + 60)));
    let token = signed(HEADER, format!(r#"{{"channel":"orders:7","exp":{},"expire_at":0}}"#, NOW + 60));
    assert_eq!(grant(Identity::anonymous(), "orders:7", &token).await.unwrap().expires_at, None);
}

#[tokio::test]
async fn a_token_of_another_user_or_topic_denies() {
    let token = signed(HEADER, r#"{"sub":"ris1","channel":"orders:7"}"#);
    is_denied(grant(Identity::user("ris2"), "orders:7", &token).await, "the token's claim `sub` is not the user of this connection");
    is_denied(grant(Identity::anonymous(), "orders:7", &token).await, "the token's claim `sub` is not the user of this connection");
    is_denied(
        grant(Identity::user("ris1"), "orders:8", &token).await,
        "the token's claim `channel` is not the topic that is subscribed to",
    );
    let connection = signed(HEADER, r#"{"sub":"ris1"}"#);
    is_denied(grant(Identity::user("ris1"), "orders:7", &connection).await, "the token's claim `channel` is missing");
    let number = signed(HEADER, r#"{"sub":"ris1","channel":7}"#);
    is_denied(grant(Identity::user("ris1"), "orders:7", &number).await, "the token's claim `channel` must be a string, it is a number");
}

#[tokio::test]
async fn inside_a_tenant_a_token_names_the_tenant_and_the_local_topic() {
    let acme = || Identity::user("ris1").tenant("acme".parse().unwrap());
    let other = || Identity::user("ris1").tenant("other".parse().unwrap());
    let of_acme = signed(HEADER, r#"{"sub":"ris1","tenant":"acme","channel":"orders:7"}"#);
    let of_none = signed(HEADER, r#"{"sub":"ris1","channel":"orders:7"}"#);
    assert!(grant(acme(), "tenant:acme/orders:7", &of_acme).await.is_ok());
    assert!(grant(Identity::user("ris1"), "orders:7", &of_none).await.is_ok());
    // The same user and topic elsewhere are others.
    let denied = "the token's claim `tenant` is not the tenant of this connection";
    is_denied(grant(acme(), "tenant:acme/orders:7", &of_none).await, denied);
    is_denied(grant(other(), "tenant:other/orders:7", &of_acme).await, denied);
    is_denied(grant(Identity::user("ris1"), "orders:7", &of_acme).await, denied);
    let denied = "the token's claim `channel` is not the topic that is subscribed to";
    is_denied(grant(acme(), "tenant:other/orders:7", &of_acme).await, denied);
    is_denied(grant(acme(), "orders:7", &of_acme).await, denied);
    is_denied(grant(Identity::user("ris1"), "tenant:acme/orders:7", &of_none).await, denied);
}

#[tokio::test]
async fn an_ended_token_is_told_apart_so_that_the_client_fetches_another() {
    let token = signed(HEADER, r#"{"sub":"ris1","channel":"orders:7","exp":1}"#);
    assert_eq!(grant(Identity::user("ris1"), "orders:7", &token).await.unwrap_err().kind, RefusalKind::TokenExpired);
    let forged = signed_with(b"another secret that is long enough", HEADER, r#"{"sub":"ris1","channel":"orders:7","exp":1}"#);
    is_denied(grant(Identity::user("ris1"), "orders:7", &forged).await, "the token's signature does not match");
    is_denied(grant(Identity::user("ris1"), "orders:7", "").await, "the token is empty");
}

#[tokio::test]
async fn with_a_token_it_decides_and_without_one_the_namespace_does() {
    let tokens = HmacTokens::new(SECRET, TokenOptions::default()).unwrap();
    let authorizer = SubscriptionTokens::new(Arc::new(tokens.verifier().clone()));
    let (subject, topic) = (subject(Identity::user("ris1")), topic("orders:7"));
    let closed = Namespace::default();
    assert!(matches!(authorizer.decide(&subject, Verb::Subscribe, &topic, &closed), Decision::Deny(_)));
    assert!(matches!(authorizer.decide(&subject, Verb::Subscribe, &topic, &closed.allow(Verb::Subscribe)), Decision::Allow));
    let token = tokens.create_for_subscription(&SubscriptionClaims::new("ris1", "orders:7"));
    assert!(authorizer.redeem(&subject, &topic, &token).await.unwrap().is_ok());
    assert!(authorizer.redeem(&subject, &topic, "x").await.unwrap().is_err());
}

#[tokio::test]
async fn a_token_of_a_subscription_opens_no_connection() {
    let token = signed(HEADER, r#"{"sub":"ris1","channel":"orders:7"}"#);
    let tokens = Tokens::new(TokenOptions::default()).key(Key::secret(SECRET).unwrap());
    let refusal = tokens.verify(&token, at(NOW)).await.unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Unauthorized);
    assert!(refusal.message.contains("the token of a subscription, not of a connection") && refusal.hint.is_some(), "{refusal:?}");
    let null = signed(HEADER, r#"{"sub":"ris1","channel":null}"#);
    assert_eq!(tokens.verify(&null, at(NOW)).await.unwrap().user.as_str(), "ris1");
}
