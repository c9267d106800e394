//! The options of topics, chosen by the first part of their names.

use std::{collections::HashMap, sync::Arc, time::Duration};

use crate::{Topic, Verb, Verbs};

/// The options of all topics that share the text before the first `:`.
///
/// ```
/// use std::time::Duration;
/// use broker_core::{Namespace, Verb};
///
/// let chat = Namespace::default().history(100, Duration::from_secs(3600)).allow(Verb::Subscribe);
/// assert!(chat.keeps_history());
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Namespace {
    /// Most publications kept per topic; 0 keeps none. Default: 0.
    pub history_size: usize,
    /// Most bytes of them; the oldest go first, the newest one stays whatever it weighs. Default: 16 MiB.
    pub history_bytes: usize,
    /// How long a publication is kept after the topic's last one. Default: 10 min.
    pub history_ttl: Duration,
    /// Whether the newest publication of each key is kept beside the history, as the state that new subscribers get. Needs a history; with
    /// it a subscription resumes from the history, or from the state where that does not reach back, whatever `recovery` says between
    /// stream and cache. Default: no.
    pub keyed: bool,
    /// Most keys in the state of a topic; a new one beyond is refused. Default: 10,000.
    pub state_size: usize,
    /// Most bytes of the state of a topic; what would be more is refused. Default: 16 MiB.
    pub state_bytes: usize,
    /// How long the state is kept after the topic's last publication, while nobody listens. Default: 24 h.
    pub state_ttl: Duration,
    /// Most bytes that this process keeps of all topics of the namespace; a publish that would be more is refused. Default: 1 GiB.
    pub memory_max: usize,
    /// How a subscription resumes. Default: [`Recovery::Stream`], which needs a history.
    pub recovery: Recovery,
    /// Whether who listens can be asked. Default: no.
    pub presence: bool,
    /// Whether subscribers are told who comes and goes. Default: no.
    pub join_leave: bool,
    /// What happens when a subscriber does not read fast enough. Default: [`SlowConsumer::Disconnect`].
    pub slow_consumer: SlowConsumer,
    /// Whether subscribers may ask for a part of the publications by their tags. Default: no.
    pub filter: bool,
    /// Whether publications here overtake others that wait for the same connection. Default: [`Priority::Normal`].
    pub priority: Priority,
    /// What everybody who is connected may do here. Default: nothing.
    pub allow: Verbs,
    /// Whether `allow` holds for anonymous sessions too. Default: no.
    pub allow_anonymous: bool,
}

impl Default for Namespace {
    fn default() -> Self {
        Self {
            history_size: 0,
            history_bytes: 16 << 20,
            history_ttl: Duration::from_secs(600),
            keyed: false,
            state_size: 10_000,
            state_bytes: 16 << 20,
            state_ttl: Duration::from_secs(24 * 3600),
            memory_max: 1 << 30,
            recovery: Recovery::Stream,
            presence: false,
            join_leave: false,
            slow_consumer: SlowConsumer::Disconnect,
            filter: false,
            priority: Priority::Normal,
            allow: Verbs::NONE,
            allow_anonymous: false,
        }
    }
}

impl Namespace {
    /// The options of dev mode: everybody may do everything, with history and presence.
    pub fn open() -> Self {
        Self {
            history_size: 300,
            history_ttl: Duration::from_secs(600),
            presence: true,
            join_leave: true,
            allow: Verbs::ALL,
            allow_anonymous: true,
            ..Self::default()
        }
    }

    /// Keeps the newest `size` publications for `ttl`.
    pub fn history(mut self, size: usize, ttl: Duration) -> Self {
        self.history_size = size;
        self.history_ttl = ttl;
        self
    }

    /// Sets the most bytes of the history of a topic.
    pub fn history_bytes(mut self, bytes: usize) -> Self {
        self.history_bytes = bytes;
        self
    }

    /// Keeps the newest publication of each key as the state that new subscribers get; with a history of 300 where none is set.
    pub fn keyed(mut self) -> Self {
        self.keyed = true;
        if self.history_size == 0 {
            self.history_size = 300;
        }
        self
    }

    /// Sets the bounds of the state of a topic: keys, and bytes of their publications.
    pub fn state_max(mut self, keys: usize, bytes: usize) -> Self {
        self.state_size = keys;
        self.state_bytes = bytes;
        self
    }

    /// Sets how long the state is kept after the topic's last publication, while nobody listens.
    pub fn state_ttl(mut self, ttl: Duration) -> Self {
        self.state_ttl = ttl;
        self
    }

    /// Sets the most bytes that this process keeps of the namespace.
    pub fn memory_max(mut self, bytes: usize) -> Self {
        self.memory_max = bytes;
        self
    }

    /// Sets how a subscription resumes.
    pub fn recovery(mut self, recovery: Recovery) -> Self {
        self.recovery = recovery;
        self
    }

    /// Lets who listens be asked.
    pub fn presence(mut self) -> Self {
        self.presence = true;
        self
    }

    /// Tells subscribers who comes and goes.
    pub fn join_leave(mut self) -> Self {
        self.join_leave = true;
        self
    }

    /// Sets what happens when a subscriber does not read fast enough.
    pub fn slow_consumer(mut self, policy: SlowConsumer) -> Self {
        self.slow_consumer = policy;
        self
    }

    /// Lets subscribers ask for a part of the publications by their tags.
    pub fn filter(mut self) -> Self {
        self.filter = true;
        self
    }

    /// Sets whether publications overtake others that wait for the same connection.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Lets everybody who is connected with credentials do this.
    pub fn allow(mut self, verb: Verb) -> Self {
        self.allow = self.allow.with(verb);
        self
    }

    /// Lets anonymous sessions do what `allow` names.
    pub fn allow_anonymous(mut self) -> Self {
        self.allow_anonymous = true;
        self
    }

    /// The section of the configuration that a topic's options stand in.
    pub(crate) fn section(topic: &Topic) -> String {
        topic.namespace().map_or_else(|| "default".to_owned(), |name| format!("namespaces.{name}"))
    }

    /// Whether publications have positions here.
    pub fn keeps_history(&self) -> bool {
        self.history_size > 0
    }

    /// Whether the newest publication of each key is kept here.
    pub fn keeps_state(&self) -> bool {
        self.keyed && self.keeps_history()
    }
}

/// How a subscription resumes after a break.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Recovery {
    /// Not at all.
    Off,
    /// With every publication since the position.
    #[default]
    Stream,
    /// With the newest publication only.
    Cache,
}

/// What happens when a subscriber does not read fast enough for its backlog's bound.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum SlowConsumer {
    /// The connection is closed; it resumes from its position.
    #[default]
    Disconnect,
    /// The oldest publications go, and a gap tells which.
    DropOldest,
    /// Of what waits, only the newest of each key is kept, and the newest without a key: for topics whose publications say all there is to
    /// know. That is no gap. Acts as soon as a connection does not keep up, long before the bound.
    Latest,
    /// What waits goes, and is read from the history once the connection has taken the rest; a gap only where the history does not reach back.
    /// Without a history as [`SlowConsumer::DropOldest`].
    CatchUp,
}

/// Whether publications overtake others that wait for the same connection. The order within a topic always holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Priority {
    /// They wait for their turn.
    #[default]
    Normal,
    /// They go before those of other topics: alarms, calls.
    High,
}

/// Which topic has which options.
#[derive(Clone, Debug, Default)]
pub struct Namespaces {
    default: Option<Arc<Namespace>>,
    named: HashMap<Box<str>, Arc<Namespace>>,
    fallback: Option<Arc<Namespace>>,
    /// The options of `group`, `user` and `session` where they are not named.
    of_the_server: Arc<Namespace>,
}

impl Namespaces {
    /// No namespace at all: every topic is unknown.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the options of topics without a namespace.
    pub fn set_default(&mut self, namespace: Namespace) {
        self.default = Some(Arc::new(namespace));
    }

    /// Sets the options of one namespace.
    pub fn set(&mut self, name: impl Into<Box<str>>, namespace: Namespace) {
        self.named.insert(name.into(), Arc::new(namespace));
    }

    /// Sets the options of every namespace that is not named; `group`, `user` and `session` excepted, whose members the server
    /// chooses, and which have the default options unless they are named.
    pub fn set_fallback(&mut self, namespace: Namespace) {
        self.fallback = Some(Arc::new(namespace));
    }

    /// The options of a topic; `None`: no such namespace.
    pub fn of(&self, topic: &Topic) -> Option<&Arc<Namespace>> {
        let Some(name) = topic.namespace() else { return self.default.as_ref() };
        self.named.get(name).or(match name {
            "group" | "user" | "session" => Some(&self.of_the_server),
            "tenant" => None,
            _ => self.fallback.as_ref(),
        })
    }

    /// The names that could be meant: for "did you mean".
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.named.keys().map(|name| &**name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_before_the_colon_selects_the_options() {
        let mut namespaces = Namespaces::new();
        namespaces.set("chat", Namespace::default().history(5, Duration::from_secs(1)));
        let size = |namespaces: &Namespaces, topic: &str| namespaces.of(&topic.parse().unwrap()).map(|namespace| namespace.history_size);
        assert_eq!(size(&namespaces, "chat:1"), Some(5));
        assert_eq!(size(&namespaces, "chat"), None);
        assert_eq!(size(&namespaces, "other:1"), None);
        namespaces.set_fallback(Namespace::open());
        namespaces.set_default(Namespace::default());
        assert_eq!(size(&namespaces, "other:1"), Some(300));
        assert_eq!(size(&namespaces, "chat"), Some(0));
        assert_eq!(size(&namespaces, "group:ocs_ris"), Some(0), "the fallback does not open the server's own topics");
        assert_eq!(size(&namespaces, "tenant:acme/chat:1"), Some(5), "a tenant's topics have the options of their local names");
        assert_eq!(size(&namespaces, "tenant:acme"), None);
    }
}
