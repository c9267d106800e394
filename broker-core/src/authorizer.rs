//! Who may do what where: one decision function for every path.

use async_trait::async_trait;

use crate::{Grant, Namespace, Refusal, Subject, Topic};

/// What a subject wants to do with a topic.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Verb {
    /// Listen: `sub` in the configuration.
    Subscribe,
    /// Send: `pub`.
    Publish,
    /// Read what was sent: `hst`.
    History,
    /// Ask who listens: `prs`.
    Presence,
}

impl Verb {
    /// All verbs, in the order of their declaration.
    pub const ALL: [Self; 4] = [Self::Subscribe, Self::Publish, Self::History, Self::Presence];

    /// The word in configuration, claims and hints.
    pub fn word(self) -> &'static str {
        match self {
            Self::Subscribe => "sub",
            Self::Publish => "pub",
            Self::History => "hst",
            Self::Presence => "prs",
        }
    }

    /// For people: "subscribing to".
    pub fn gerund(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribing to",
            Self::Publish => "publishing to",
            Self::History => "reading the history of",
            Self::Presence => "reading the presence of",
        }
    }
}

/// A set of verbs.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Verbs(u8);

impl Verbs {
    /// No verb.
    pub const NONE: Self = Self(0);
    /// Every verb.
    pub const ALL: Self = Self(0b1111);

    /// This set and one verb more.
    #[must_use]
    pub const fn with(self, verb: Verb) -> Self {
        Self(self.0 | 1 << verb as u8)
    }

    /// Whether the verb is in the set.
    pub const fn has(self, verb: Verb) -> bool {
        self.0 & (1 << verb as u8) != 0
    }
}

impl FromIterator<Verb> for Verbs {
    fn from_iter<I: IntoIterator<Item = Verb>>(verbs: I) -> Self {
        verbs.into_iter().fold(Self::NONE, Self::with)
    }
}

/// What an [`Authorizer`] decides.
#[derive(Clone, Debug)]
pub enum Decision {
    /// Yes.
    Allow,
    /// No, and this is what the client is told.
    Deny(Refusal),
    /// Cannot be said at once: [`Authorizer::ask`] will.
    Ask,
}

/// Decides who may do what where. Asked on every path of clients: subscribe, publish, history, presence, recovery, plain URLs, and which
/// subscriptions outlive a change of identity. What the server itself subscribes a session to is not asked.
///
/// Topics are given by their full names; see [`Topic::local`].
#[async_trait]
pub trait Authorizer: Send + Sync + 'static {
    /// Decides at once, or says that it must ask. Called per command: no I/O, no waiting.
    fn decide(&self, subject: &Subject, verb: Verb, topic: &Topic, namespace: &Namespace) -> Decision;

    /// Decides what [`Authorizer::decide`] answered with [`Decision::Ask`].
    ///
    /// Cancel-safe: dropped when the session ends.
    async fn ask(&self, subject: &Subject, verb: Verb, topic: &Topic, namespace: &Namespace) -> Result<(), Refusal> {
        match self.decide(subject, verb, topic, namespace) {
            Decision::Allow => Ok(()),
            Decision::Deny(refusal) => Err(refusal),
            Decision::Ask => Err(Refusal::permission_denied("nobody could decide")),
        }
    }

    /// What a token grants that came with a subscribe or a renewal of a subscription; it stands in place of [`Authorizer::decide`].
    ///
    /// `None`: tokens mean nothing here, the subject alone decides. Cancel-safe.
    async fn redeem(&self, _subject: &Subject, _topic: &Topic, _token: &str) -> Option<Result<Grant, Refusal>> {
        None
    }
}

/// Decides by the subject's [capabilities](Subject::capabilities), then by [`Namespace::allow`] and [`Namespace::allow_anonymous`]. The default.
///
/// In the topics of groups, users and sessions `allow` holds for those who are in them, and nobody subscribes to them by a command of its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByNamespace;

#[async_trait]
impl Authorizer for ByNamespace {
    fn decide(&self, subject: &Subject, verb: Verb, topic: &Topic, namespace: &Namespace) -> Decision {
        if subject.capabilities().iter().any(|capability| capability.allows(verb, topic)) {
            return Decision::Allow;
        }
        if topic.is_of_the_server() && (verb == Verb::Subscribe || !subject.is_in(topic)) {
            let refusal = Refusal::permission_denied(format!("{} {} is not allowed", verb.gerund(), topic.local()));
            return Decision::Deny(
                refusal.rule("the server decides who is in groups, users and sessions: join the group, or give a capability"),
            );
        }
        let section = Namespace::section(topic);
        if !namespace.allow.has(verb) {
            let refusal = Refusal::permission_denied(format!("{} {} is not allowed", verb.gerund(), topic.local()));
            return Decision::Deny(refusal.rule(format!("add \"{}\" to {section}.allow", verb.word())));
        }
        if subject.user.is_anonymous() && !namespace.allow_anonymous {
            let refusal =
                Refusal::permission_denied(format!("{} {} needs a user, this session is anonymous", verb.gerund(), topic.local()));
            return Decision::Deny(
                refusal.hint("connect with a token that has a `sub`").rule(format!("set {section}.allow_anonymous = true")),
            );
        }
        Decision::Allow
    }
}
