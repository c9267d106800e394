//! Why a session ended, and who ended it.

use std::{borrow::Cow, time::Duration};

use crate::Refusal;

/// Why a connection ended. Numbers on the wire are the protocols' business.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The client closed, with this code and text of its own. Not an error.
    ClientLeft {
        /// The code in the client's close frame, if it sent one.
        code: Option<u16>,
    },
    /// The transport broke: reset, end of stream without a close, write error.
    TransportBroke(Cow<'static, str>),
    /// The client broke the transport's rules: a bad header, a fragment out of order.
    TransportViolation(Cow<'static, str>),
    /// Text that is not UTF-8.
    NotUtf8,
    /// A message or frame longer than allowed.
    TooLarge {
        /// The bound, in bytes.
        max_bytes: usize,
    },
    /// This node shuts down or drains.
    Shutdown {
        /// How long the client should wait before it connects again.
        reconnect_after: Option<Duration>,
    },
    /// Something failed here: a panic, a hook. The client may come back.
    ServerError(Cow<'static, str>),
    /// The credentials are past their end.
    CredentialsExpired,
    /// The credentials of a subscription that the server made are past their end.
    SubscriptionExpired,
    /// The client has renewed its credentials with those of another user, and comes back as that one.
    IdentityChanged,
    /// The credentials were revoked.
    Revoked,
    /// The server API or the host ended it, with a code and text of theirs.
    Ordered {
        /// The code; 3000 to 4999.
        code: u16,
        /// The text, at most 123 bytes reach the client.
        reason: Cow<'static, str>,
        /// How long the client should wait before it connects again.
        reconnect_after: Option<Duration>,
    },
    /// The client did not read fast enough for its backlog's bound.
    SlowConsumer {
        /// Bytes that waited.
        backlog_bytes: usize,
    },
    /// Positions were lost and the client must resume anew.
    InsufficientState,
    /// The client should connect again, perhaps elsewhere.
    ForceReconnect,
    /// Nothing was received within the pong deadline.
    NoPong,
    /// Over a rate that closes.
    TooManyRequests,
    /// Credentials that cannot be trusted.
    InvalidCredentials(Cow<'static, str>),
    /// What came cannot be read as a command, or came in a wrong order, and no id to answer to could be read.
    BadRequest(Cow<'static, str>),
    /// No connect command within its deadline.
    NeverConnected,
    /// The application or an operator ended it.
    ForceDisconnect,
    /// More connections than allowed.
    ConnectionLimit,
    /// More subscriptions than allowed.
    SubscriptionLimit,
    /// The client's protocol does not fit.
    InappropriateProtocol,
    /// A one-way command, or the URL's topics, are not allowed.
    PermissionDenied(Cow<'static, str>),
    /// What was asked does not exist here.
    NotAvailable(Cow<'static, str>),
    /// Too many mistakes in a minute.
    TooManyMistakes,
    /// A code and text of the application's own; 4000 to 4999.
    Application {
        /// The code.
        code: u16,
        /// The text, at most 123 bytes reach the client.
        reason: Cow<'static, str>,
    },
    /// The opening of the session was refused, and says so before it closes.
    Refused(Box<Refusal>),
}

impl CloseReason {
    /// The stable name of the cause, for logs and metrics.
    pub fn cause(&self) -> &'static str {
        match self {
            Self::ClientLeft { .. } => "client_left",
            Self::TransportBroke(_) => "transport_broke",
            Self::TransportViolation(_) => "transport_violation",
            Self::NotUtf8 => "not_utf8",
            Self::TooLarge { .. } => "too_large",
            Self::Shutdown { .. } => "shutdown",
            Self::ServerError(_) => "server_error",
            Self::CredentialsExpired => "credentials_expired",
            Self::SubscriptionExpired => "subscription_expired",
            Self::IdentityChanged => "identity_changed",
            Self::Revoked => "revoked",
            Self::Ordered { .. } => "ordered",
            Self::SlowConsumer { .. } => "slow_consumer",
            Self::InsufficientState => "insufficient_state",
            Self::ForceReconnect => "force_reconnect",
            Self::NoPong => "no_pong",
            Self::TooManyRequests => "too_many_requests",
            Self::InvalidCredentials(_) => "invalid_credentials",
            Self::BadRequest(_) => "bad_request",
            Self::NeverConnected => "never_connected",
            Self::ForceDisconnect => "force_disconnect",
            Self::ConnectionLimit => "connection_limit",
            Self::SubscriptionLimit => "subscription_limit",
            Self::InappropriateProtocol => "inappropriate_protocol",
            Self::PermissionDenied(_) => "permission_denied",
            Self::NotAvailable(_) => "not_available",
            Self::TooManyMistakes => "too_many_mistakes",
            Self::Application { .. } => "application",
            Self::Refused(_) => "refused",
        }
    }

    /// Every name that [`CloseReason::cause`] can give, for metrics that start at zero.
    pub const CAUSES: [&'static str; 29] = [
        "client_left",
        "transport_broke",
        "transport_violation",
        "not_utf8",
        "too_large",
        "shutdown",
        "server_error",
        "credentials_expired",
        "subscription_expired",
        "identity_changed",
        "revoked",
        "ordered",
        "slow_consumer",
        "insufficient_state",
        "force_reconnect",
        "no_pong",
        "too_many_requests",
        "invalid_credentials",
        "bad_request",
        "never_connected",
        "force_disconnect",
        "connection_limit",
        "subscription_limit",
        "inappropriate_protocol",
        "permission_denied",
        "not_available",
        "too_many_mistakes",
        "application",
        "refused",
    ];

    /// Who ended the connection, for the log line of its end.
    pub fn closed_by(&self) -> &'static str {
        match self {
            Self::ClientLeft { .. } => "client",
            Self::TransportBroke(_) => "network",
            _ => "server",
        }
    }
}
