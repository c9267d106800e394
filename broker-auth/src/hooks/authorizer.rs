//! Who decides where: the hooks in the namespaces that name them, another authorizer everywhere else. What is asked does not live here.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use async_trait::async_trait;
use broker_core::{Authorizer, Decision, Grant, Namespace, Refusal, Subject, Topic, Verb, Verbs};

use super::{Inner, options::Hook};

/// In which namespaces the application is asked what: about two verbs, subscribe and publish, and for snapshots.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HookedNamespaces {
    default: Verbs,
    named: HashMap<Box<str>, Verbs>,
    snapshots: BTreeSet<Box<str>>,
}

impl HookedNamespaces {
    /// Sets what is asked about topics without a namespace.
    pub fn set_default(&mut self, verbs: Verbs) {
        self.default = verbs;
    }

    /// Sets what is asked about the topics of a namespace.
    pub fn set(&mut self, namespace: impl Into<Box<str>>, verbs: Verbs) {
        self.named.insert(namespace.into(), verbs);
    }

    /// Has the snapshots of a namespace's topics asked for; the empty name means topics without a namespace.
    pub fn set_snapshot(&mut self, namespace: impl Into<Box<str>>) {
        self.snapshots.insert(namespace.into());
    }

    /// The namespaces with snapshots, in the order of their names: under these [`HttpHooks::on_snapshot`](super::HttpHooks::on_snapshot) belongs into
    /// a builder.
    pub fn with_snapshot(&self) -> impl Iterator<Item = &str> {
        self.snapshots.iter().map(|name| &**name)
    }

    /// Whether the application is asked.
    pub fn asks(&self, verb: Verb, topic: &Topic) -> bool {
        match topic.namespace() {
            Some(name) => self.named.get(name).is_some_and(|verbs| verbs.has(verb)),
            None => self.default.has(verb),
        }
    }
}

/// The hooks as an [`Authorizer`], around another one that decides what they are not asked; made by [`HttpHooks::authorizer`](super::HttpHooks::authorizer).
///
/// Where a namespace names a hook, its answer alone decides, whatever the namespace allows. It decides in [`HttpHooks::on_subscribe`](super::HttpHooks::on_subscribe)
/// and [`HttpHooks::on_publish`](super::HttpHooks::on_publish), which see what the client sent; until those are taken, nothing is allowed there.
#[derive(Debug)]
pub struct HookAuthorizer<A> {
    pub(super) hooks: Arc<Inner>,
    pub(super) otherwise: A,
}

impl<A> HookAuthorizer<A> {
    /// Whether the application is asked; not about topics whose listeners the server chooses.
    fn asks(&self, verb: Verb, topic: &Topic) -> bool {
        self.hooks.namespaces.asks(verb, topic) && !topic.is_of_the_server()
    }
}

#[async_trait]
impl<A: Authorizer> Authorizer for HookAuthorizer<A> {
    fn decide(&self, subject: &Subject, verb: Verb, topic: &Topic, namespace: &Namespace) -> Decision {
        if !self.asks(verb, topic) {
            return self.otherwise.decide(subject, verb, topic, namespace);
        }
        let hook = if verb == Verb::Publish { Hook::Publish } else { Hook::Subscribe };
        if !self.hooks.is_asked(hook) {
            let refusal = Refusal::permission_denied(format!("{} {} is not allowed", verb.gerund(), topic.local()));
            return Decision::Deny(
                refusal.rule(format!("the application decides this, and there is no hook {hook}: set hooks.{hook}.url")),
            );
        }
        Decision::Ask
    }

    async fn ask(&self, subject: &Subject, verb: Verb, topic: &Topic, namespace: &Namespace) -> Result<(), Refusal> {
        // The hook follows, with what the client sent.
        if self.asks(verb, topic) { Ok(()) } else { self.otherwise.ask(subject, verb, topic, namespace).await }
    }

    async fn redeem(&self, subject: &Subject, topic: &Topic, token: &str) -> Option<Result<Grant, Refusal>> {
        self.otherwise.redeem(subject, topic, token).await
    }
}
