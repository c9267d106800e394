//! Why something did not work: one type per operation.

use std::sync::Arc;

/// The server's no to one command; the connection goes on.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[error("{message} ({code})")]
pub struct Refusal {
    /// The number on the wire, for example 103: permission denied.
    pub code: u32,
    /// For people.
    pub message: Arc<str>,
    /// Whether the same command may work later without a change.
    pub temporary: bool,
}

/// Why a call has no answer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The server said no.
    #[error("the server refused: {0}")]
    Refused(Refusal),
    /// The connection ended before the answer. The server may have done what was asked; nothing is sent again by itself.
    #[error("the connection ended before the answer; it may have been done: {0}")]
    Cut(Arc<str>),
    /// No answer in time. `sent`: the server may have done what was asked; otherwise there was no connection, and nothing was done.
    #[error("{}", if *.sent { "no answer in time; it may have been done" } else { "no connection in time; nothing was sent" })]
    TimedOut {
        /// Whether the command was written to a connection.
        sent: bool,
    },
    /// The command is longer than the server reads; it was not sent.
    #[error("the command has {len} bytes, at most {max} can be sent")]
    TooLarge {
        /// Length of the command, in bytes.
        len: usize,
        /// [`ClientConfig::frame_max_bytes`](crate::ClientConfig::frame_max_bytes).
        max: usize,
    },
    /// The client is closed for good.
    #[error("the client is closed: {0}")]
    Closed(Closed),
    /// The server's answer does not have the shape the protocol gives it.
    #[error("the server's answer cannot be read")]
    Unreadable,
}

impl From<Refusal> for CallError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl CallError {
    /// Whether trying the same again can help.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.temporary,
            Self::Cut(_) | Self::TimedOut { .. } => true,
            Self::TooLarge { .. } | Self::Closed(_) | Self::Unreadable => false,
        }
    }

    /// Whether the server may have done what was asked, so that a retry can do it twice.
    pub fn may_have_happened(&self) -> bool {
        matches!(self, Self::Cut(_) | Self::TimedOut { sent: true } | Self::Unreadable)
    }
}

/// How a client ended for good.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[error("{reason} ({code})")]
pub struct Closed {
    /// The server's close code or error code; 0 when this side closed.
    pub code: u16,
    /// For people.
    pub reason: Arc<str>,
}

/// The address is not one a client can connect to.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidUrl {
    /// Not a URL.
    #[error("{url:?} is not a URL such as ws://127.0.0.1:8000")]
    Malformed {
        /// What was given.
        url: String,
    },
    /// The scheme is not `ws`, `http`, `wss` or `https`.
    #[error("{url:?} does not start with ws:// or http://")]
    Scheme {
        /// What was given.
        url: String,
    },
    /// `wss` and `https` need TLS, which this build does not have.
    #[error("{url:?} needs TLS, which this build does not have; use ws:// through a proxy that ends TLS")]
    Tls {
        /// What was given.
        url: String,
    },
}

/// Why a subscription cannot start.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// This client listens to the topic; drop that subscription first.
    #[error("this client has a subscription to {topic:?}; drop it first, or share it")]
    AlreadySubscribed {
        /// The topic.
        topic: Arc<str>,
    },
    /// A topic has 1 to 255 bytes of printable ASCII.
    #[error("{topic:?} is not a topic: 1 to 255 bytes of printable ASCII without spaces")]
    InvalidTopic {
        /// What was given.
        topic: Arc<str>,
    },
    /// The client is closed for good.
    #[error("the client is closed: {0}")]
    Closed(Closed),
}
