//! What every session of an engine goes by: options of topics, who may do what, bounds, which hooks there are.

use std::sync::Arc;

use crate::{Authorizer, Decision, Namespace, Namespaces, Payload, Refusal, RefusalKind, Settings, Subject, Topic, Verb};

/// Looks at data before it is published, and may refuse it.
pub(crate) type PayloadCheck = fn(&Payload) -> Result<(), Refusal>;

/// What every session of an engine goes by.
pub(crate) struct Rules {
    pub(crate) settings: Settings,
    pub(crate) namespaces: Namespaces,
    pub(crate) authorizer: Arc<dyn Authorizer>,
    pub(crate) payload_check: Option<PayloadCheck>,
    pub(crate) hears_subscribe: bool,
    pub(crate) hears_message: bool,
    pub(crate) hears_call: bool,
    pub(crate) renews: bool,
}

impl Rules {
    /// The options of a topic, or the refusal that names it.
    pub(crate) fn namespace(&self, topic: &Topic) -> Result<&Arc<Namespace>, Refusal> {
        self.namespaces.of(topic).ok_or_else(|| unknown_topic(topic))
    }

    /// Whether the subject may do this: `Ok(true)` must be asked.
    pub(crate) fn decide(&self, subject: &Subject, verb: Verb, topic: &Topic, namespace: &Namespace) -> Result<bool, Refusal> {
        match self.authorizer.decide(subject, verb, topic, namespace) {
            Decision::Allow => Ok(false),
            Decision::Ask => Ok(true),
            Decision::Deny(refusal) => Err(refusal),
        }
    }

    /// The options of a topic and whether a decision must be asked for, or the refusal.
    pub(crate) fn admit(&self, subject: &Subject, verb: Verb, topic: &Topic) -> Result<(Arc<Namespace>, bool), Refusal> {
        let namespace = self.namespace(topic)?;
        let ask = self.decide(subject, verb, topic, namespace)?;
        Ok((namespace.clone(), ask))
    }

    /// Whether the data may be published.
    pub(crate) fn check_payload(&self, data: &Payload) -> Result<(), Refusal> {
        self.payload_check.map_or(Ok(()), |check| check(data))
    }
}

/// A name with the prefix of a tenant, from a client that belongs to `own`. Whether there is such a tenant is not said.
pub(super) fn named_from_outside(topic: &Topic, own: Option<&str>) -> Refusal {
    let (local, of) = (topic.local(), topic.tenant());
    let (what, hint) = match own {
        Some(own) if of == Some(own) => ("with the prefix of its tenant", format!("call it {local}: inside a tenant names have no prefix")),
        Some(_) => ("of another tenant", "a session has the topics of its own tenant, named without a prefix, and no others".to_owned()),
        None => (
            "of a tenant, and this session has none",
            format!("bring a token that names the tenant in `tenant`, and call the topic {local}"),
        ),
    };
    Refusal::new(RefusalKind::UnknownTopic, format!("{topic} names a topic {what}"))
        .hint(hint)
        .rule("give the session its tenant, by its token or a hook")
}

pub(super) fn unknown_topic(topic: &Topic) -> Refusal {
    let (what, rule) = match topic.namespace() {
        Some("tenant") => {
            let text = format!("{topic} is in no namespace: names that begin with `tenant:` are those of topics inside tenants");
            let refusal = Refusal::new(RefusalKind::UnknownTopic, text).hint("name the topic without `tenant:`");
            return refusal.rule("give the session its tenant, by its token or a hook");
        }
        Some(name) => (format!("there is no namespace `{name}` for {}", topic.local()), format!("add [namespaces.{name}]")),
        None => (format!("{} has no namespace, and topics without one are not configured", topic.local()), "add [default]".to_owned()),
    };
    Refusal::new(RefusalKind::UnknownTopic, what).rule(rule)
}

/// What is off in a namespace.
pub(crate) fn not_available(what: &str, topic: &Topic, setting: &str) -> Refusal {
    let section = Namespace::section(topic);
    Refusal::new(RefusalKind::NotAvailable, format!("{what} is off for {}", topic.local())).rule(format!("set {section}.{setting}"))
}
