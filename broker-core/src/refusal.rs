//! Why a command failed although the session goes on.

use std::{borrow::Cow, time::Duration};

/// Why a command was refused. The session goes on.
///
/// Three readers: the client gets kind, message, `at` and `hint`; the operator also gets `rule` in the log.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct Refusal {
    /// What went wrong, one of a stable list.
    pub kind: RefusalKind,
    /// For people: which command, which value, what is wrong with it. A lower-case sentence.
    pub message: Cow<'static, str>,
    /// Byte offset of the mistake in the client's frame, where one is known.
    pub at: Option<usize>,
    /// How the client puts it right.
    pub hint: Option<Cow<'static, str>>,
    /// When trying again can help.
    pub retry_after: Option<Duration>,
    /// Which rule refused, and which setting would allow it: for the log, and for the client in dev mode only.
    pub rule: Option<Cow<'static, str>>,
}

impl Refusal {
    /// A refusal of this kind.
    pub fn new(kind: RefusalKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), at: None, hint: None, retry_after: None, rule: None }
    }

    /// The command is malformed: [`RefusalKind::BadRequest`].
    pub fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(RefusalKind::BadRequest, message)
    }

    /// The subject may not do this: [`RefusalKind::PermissionDenied`].
    pub fn permission_denied(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(RefusalKind::PermissionDenied, message)
    }

    /// No, bad or revoked credentials: [`RefusalKind::Unauthorized`].
    pub fn unauthorized(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(RefusalKind::Unauthorized, message)
    }

    /// Something did not answer, trying again can help: [`RefusalKind::Unavailable`].
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(RefusalKind::Unavailable, message)
    }

    /// Whether the same command may work later without a change. An error of the application's own says so with the time to wait.
    pub fn is_temporary(&self) -> bool {
        self.kind.is_temporary() || matches!(self.kind, RefusalKind::Application(_)) && self.retry_after.is_some()
    }

    /// Sets the byte offset of the mistake in the client's frame.
    pub fn at(mut self, at: usize) -> Self {
        self.at = Some(at);
        self
    }

    /// Sets how the client puts it right.
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Sets when trying again can help.
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Sets which rule refused and which setting would allow it.
    pub fn rule(mut self, rule: impl Into<Cow<'static, str>>) -> Self {
        self.rule = Some(rule.into());
        self
    }
}

/// What went wrong with a command. Numbers and words on the wire are the protocols' business.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum RefusalKind {
    /// The broker, its backplane or the application did not answer; temporary.
    Unavailable,
    /// No, bad or revoked credentials.
    Unauthorized,
    /// No such namespace, or no such route.
    UnknownTopic,
    /// The subject may not do this there.
    PermissionDenied,
    /// No such command or method.
    UnknownAction,
    /// The session is subscribed to this topic.
    AlreadySubscribed,
    /// Subscriptions, sizes.
    LimitExceeded,
    /// A malformed topic, frame or value.
    BadRequest,
    /// History, presence or calls are off there.
    NotAvailable,
    /// The credentials are past their end.
    TokenExpired,
    /// The subscription is past its end.
    Expired,
    /// Over a rate; `retry_after` says how long to wait.
    TooManyRequests,
    /// The position cannot be recovered, and the client asked to be refused then.
    UnrecoverablePosition,
    /// An error of the application's own, with its number.
    Application(u32),
    /// The application ends the session with this code, 4000 to 4999, and the message as its text: the client is told nothing else.
    Close(u16),
}

impl RefusalKind {
    /// Whether the same command may work later without a change, whatever else a refusal says: see [`Refusal::is_temporary`].
    pub fn is_temporary(self) -> bool {
        matches!(self, Self::Unavailable | Self::TooManyRequests)
    }
}
