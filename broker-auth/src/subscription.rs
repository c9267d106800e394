//! An authorizer that lets the tokens of subscriptions decide. What they claim lives in `claims`.

use std::{sync::Arc, time::SystemTime};

use async_trait::async_trait;
use broker_core::{Authorizer, ByNamespace, Decision, Grant, Namespace, Refusal, Subject, Topic, Verb};

use crate::Tokens;

/// Lets the token that comes with a subscribe decide about it; everything else is decided by another authorizer, [`ByNamespace`] by default.
///
/// A bad token is refused with `PermissionDenied`, an ended one with `TokenExpired`; the connection stays. Called *subscription JWT* in Centrifugo.
#[derive(Clone, Debug)]
pub struct SubscriptionTokens<A = ByNamespace> {
    tokens: Arc<Tokens>,
    otherwise: A,
}

impl SubscriptionTokens {
    /// Tokens verified with these keys; what has none is decided by the namespace.
    pub fn new(tokens: Arc<Tokens>) -> Self {
        Self { tokens, otherwise: ByNamespace }
    }
}

impl<A> SubscriptionTokens<A> {
    /// Lets this one decide where there is no token.
    pub fn otherwise<B: Authorizer>(self, otherwise: B) -> SubscriptionTokens<B> {
        SubscriptionTokens { tokens: self.tokens, otherwise }
    }
}

#[async_trait]
impl<A: Authorizer> Authorizer for SubscriptionTokens<A> {
    fn decide(&self, subject: &Subject, verb: Verb, topic: &Topic, namespace: &Namespace) -> Decision {
        self.otherwise.decide(subject, verb, topic, namespace)
    }

    async fn ask(&self, subject: &Subject, verb: Verb, topic: &Topic, namespace: &Namespace) -> Result<(), Refusal> {
        self.otherwise.ask(subject, verb, topic, namespace).await
    }

    async fn redeem(&self, subject: &Subject, topic: &Topic, token: &str) -> Option<Result<Grant, Refusal>> {
        Some(self.tokens.verify_subscription(token, subject, topic, SystemTime::now()).await)
    }
}
