//! Who asks: the session as others see it, and what only the broker knows of it. Deciding does not live here.

use std::{borrow::Cow, ops::Deref, sync::Arc, time::SystemTime};

use bytes::Bytes;

use crate::{Identity, SessionId, SessionInfo, Tenant, Topic, TopicPattern, Verb, Verbs};

/// A right to do something with certain topics, from the `caps` of a token or from a hook.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Capability {
    /// Which topics; any of these.
    pub topics: Vec<TopicPattern>,
    /// What may be done with them.
    pub allow: Verbs,
}

impl Capability {
    /// Whether this allows the verb there.
    pub fn allows(&self, verb: Verb, topic: &Topic) -> bool {
        self.allow.has(verb) && self.topics.iter().any(|pattern| pattern.matches(topic))
    }
}

/// Who asks: the argument of every decision and hook. What others may see of the session is found through it directly, as `subject.user`.
///
/// A change of the session's identity makes a new one; cloning copies the pointers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Subject {
    /// The session as others see it.
    pub info: Arc<SessionInfo>,
    /// Which rule made the identity: `"hs256 token"`, `"anonymous"`.
    pub rule: Cow<'static, str>,
    /// When the credentials were issued; where they do not say, when they were first seen.
    pub issued_at: SystemTime,
    /// The kind of pipe that the session is connected through: `websocket`. Empty where there is none.
    pub transport: &'static str,
    /// The name of the protocol that the client speaks: `plain-raw`. Empty where there is none.
    pub protocol: &'static str,
    /// What only the broker and the application know; `None` where there is nothing.
    private: Option<Arc<Private>>,
}

#[derive(Clone, Debug, Default)]
struct Private {
    capabilities: Vec<Capability>,
    groups: Vec<Box<str>>,
    meta: Option<Bytes>,
    tenant: Option<Tenant>,
    token_id: Option<Box<str>>,
}

impl Subject {
    /// The subject of a session that has this identity.
    pub fn new(session: SessionId, identity: &Identity) -> Self {
        let issued_at = identity.issued_at.unwrap_or_else(SystemTime::now);
        let info = SessionInfo { session, user: identity.user.clone(), info: identity.info.clone(), topic_info: None };
        let private = Private {
            capabilities: identity.capabilities.clone(),
            groups: identity.groups.clone(),
            meta: identity.meta.clone(),
            tenant: identity.tenant.clone(),
            token_id: identity.token_id.clone(),
        };
        let private = (!private.is_empty()).then(|| Arc::new(private));
        Self { info: Arc::new(info), rule: identity.rule.clone(), issued_at, transport: "", protocol: "", private }
    }

    /// Sets how the session is connected.
    pub fn over(mut self, transport: &'static str, protocol: &'static str) -> Self {
        self.transport = transport;
        self.protocol = protocol;
        self
    }

    /// The same subject in this group, or in it no more.
    pub(crate) fn with_group(&self, name: &str, is_in: bool) -> Self {
        let mut private = self.private.as_deref().cloned().unwrap_or_default();
        private.groups.retain(|group| **group != *name);
        if is_in {
            private.groups.push(name.into());
        }
        Self { private: (!private.is_empty()).then(|| Arc::new(private)), ..self.clone() }
    }

    /// What the session may do beyond what its topics' namespaces allow.
    pub fn capabilities(&self) -> &[Capability] {
        self.private.as_ref().map_or(&[], |private| &private.capabilities)
    }

    /// The groups that the session is in, by name.
    pub fn groups(&self) -> &[Box<str>] {
        self.private.as_ref().map_or(&[], |private| &private.groups)
    }

    /// Whether this is the topic of one of the subject's groups, of its user or of its session.
    pub fn is_in(&self, topic: &Topic) -> bool {
        if topic.tenant() != self.tenant().map(Tenant::as_str) {
            return false;
        }
        match topic.local().split_once(':') {
            Some(("group", name)) => self.groups().iter().any(|group| **group == *name),
            Some(("user", id)) => !self.user.is_anonymous() && Topic::encode_level(self.user.as_str()) == id,
            Some(("session", id)) => id.parse() == Ok(self.session),
            _ => false,
        }
    }

    /// The application's own data about the session, which clients never see: one JSON value.
    pub fn meta(&self) -> Option<&Bytes> {
        self.private.as_ref()?.meta.as_ref()
    }

    /// The tenant that everything the session names is inside of.
    pub fn tenant(&self) -> Option<&Tenant> {
        self.private.as_ref()?.tenant.as_ref()
    }

    /// The id of the token that the identity was read from.
    pub fn token_id(&self) -> Option<&str> {
        self.private.as_ref()?.token_id.as_deref()
    }
}

impl Deref for Subject {
    type Target = SessionInfo;

    fn deref(&self) -> &SessionInfo {
        &self.info
    }
}

impl Private {
    fn is_empty(&self) -> bool {
        let Self { capabilities, groups, meta, tenant, token_id } = self;
        capabilities.is_empty() && groups.is_empty() && meta.is_none() && tenant.is_none() && token_id.is_none()
    }
}
