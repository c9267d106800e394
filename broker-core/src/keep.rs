//! What is kept of topics: how much, how long, and what it takes when there is no room for more.

use std::{fmt, time::Duration};

/// What is kept of a topic, and the bounds of it.
///
/// ```
/// use std::time::Duration;
/// use broker_core::Keep;
///
/// let keep = Keep::history(300, Duration::from_secs(600));
/// assert!(!keep.is_nothing() && keep.state.is_none());
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Keep {
    /// Most publications; 0: none.
    pub size: usize,
    /// Most bytes of them; the oldest go first, the newest one stays whatever it weighs.
    pub bytes: usize,
    /// How long after the topic's last publication.
    pub ttl: Duration,
    /// Whether the newest publication of each key is kept, and how much of that.
    pub state: Option<KeepState>,
    /// Most bytes of everything that is kept in this process of all topics of the namespace.
    pub memory_max: usize,
}

/// What is kept of the state of a topic.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KeepState {
    /// Most keys.
    pub size: usize,
    /// Most bytes of their publications.
    pub bytes: usize,
    /// How long after the topic's last publication, while nobody listens.
    pub ttl: Duration,
}

impl Keep {
    /// Nothing.
    pub const NOTHING: Self = Self::history(0, Duration::ZERO);

    /// The newest `size` publications for `ttl`; without bounds in bytes.
    pub const fn history(size: usize, ttl: Duration) -> Self {
        Self { size, bytes: usize::MAX, ttl, state: None, memory_max: usize::MAX }
    }

    /// Sets the most bytes of the history.
    pub const fn bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// Keeps the newest publication of each key too.
    pub const fn state(mut self, state: KeepState) -> Self {
        self.state = Some(state);
        self
    }

    /// Sets the most bytes of everything in the namespace.
    pub const fn memory_max(mut self, bytes: usize) -> Self {
        self.memory_max = bytes;
        self
    }

    /// Whether publications have no position.
    pub const fn is_nothing(&self) -> bool {
        self.size == 0
    }
}

/// Why there is no room for a publish.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Full {
    /// Which bound it is.
    pub bound: Bound,
    /// What it is set to: bytes, or keys.
    pub max: usize,
    /// The namespace of the topic, the text before the first `:`; `None`: the topic has none.
    pub namespace: Option<Box<str>>,
}

/// A bound of what is kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Bound {
    /// Bytes of everything on this node.
    Node,
    /// Bytes of everything in a namespace.
    Namespace,
    /// Keys in the state of one topic.
    StateSize,
    /// Bytes of the state of one topic.
    StateBytes,
    /// Versions that are remembered of one topic, one for each key.
    Versions,
}

impl Full {
    /// The setting that is the bound, as the configuration calls it.
    pub fn setting(&self) -> String {
        let key = match self.bound {
            Bound::Node => return "server.memory_max".to_owned(),
            Bound::Namespace => "memory_max",
            Bound::StateSize => "state_size",
            Bound::StateBytes => "state_bytes",
            Bound::Versions => return "backplane.versions_max".to_owned(),
        };
        match &self.namespace {
            Some(namespace) => format!("namespaces.{namespace}.{key}"),
            None => format!("default.{key}"),
        }
    }
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let max = self.max;
        match self.bound {
            Bound::Node => write!(f, "this node keeps as much as it may, {max} bytes"),
            Bound::Namespace => write!(f, "as much is kept in this namespace as may be, {max} bytes"),
            Bound::StateSize => write!(f, "the state of this topic has as many keys as it may, {max}"),
            Bound::StateBytes => write!(f, "the state of this topic is as large as it may be, {max} bytes"),
            Bound::Versions => write!(f, "as many versions of keys are remembered of this topic as may be, {max}"),
        }
    }
}

impl std::error::Error for Full {}

/// Bytes that are kept in this process: history, state, idempotency keys, versions, and what stands around them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Kept {
    /// Everything.
    pub bytes: usize,
    /// By namespace, in no order; the topics without one under an empty name.
    pub namespaces: Vec<(Box<str>, usize)>,
}
