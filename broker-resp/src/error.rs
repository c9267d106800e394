//! What goes wrong on a link: with a call, with a try to connect, with a connection.

use std::{io, time::Duration};

use crate::{DecodeError, ServerError};

/// Why a call has no answer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The command did not leave this process: sending it again, here or elsewhere, is safe.
    #[error("not sent: {0}")]
    NotSent(NotSent),
    /// The command may have left this process, and no answer came: whether it took effect is not known.
    #[error("sent, and no answer: {0}")]
    Unknown(NoAnswer),
    /// The server answered with an error.
    #[error("the server refused: {0}")]
    Refused(ServerError),
    /// Too much waits to be written or answered: [`Options::queue_max_bytes`](crate::Options::queue_max_bytes) or
    /// [`Options::calls_max`](crate::Options::calls_max) is reached. The command was not sent.
    #[error("not sent: too much waits for the server already")]
    Overloaded,
}

/// Why a command was not sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NotSent {
    /// There is no connection.
    #[error("there is no connection")]
    Disconnected,
    /// The connection was lost before the command was written.
    #[error("the connection was lost before")]
    Lost,
    /// The time was over before the command was written.
    #[error("the time was over before")]
    TimedOut,
    /// The link is closed.
    #[error("the link is closed")]
    Closed,
}

/// Why there is no answer to a command that was sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NoAnswer {
    /// The connection was lost.
    #[error("the connection was lost")]
    Lost,
    /// The time was over. An answer that comes later is dropped.
    #[error("the time was over")]
    TimedOut,
    /// The link was closed.
    #[error("the link was closed")]
    Closed,
}

/// Why a try to connect failed. The next try follows in any case.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The name does not lead to an address.
    #[error("the name cannot be looked up: {0}")]
    LookUp(String),
    /// No connection: nobody listens, no way there.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// Not done within [`Options::connect_timeout`](crate::Options::connect_timeout).
    #[error("not connected within {0:?}")]
    TimedOut(Duration),
    /// TLS failed.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// The connection ended before the server's hello was complete.
    #[error("the connection ended during the hello: {0}")]
    Broken(String),
    /// The server wants a password and none is configured (`NOAUTH`).
    #[error("the server wants a user or password")]
    NeedsPassword,
    /// The user or the password is wrong, or the user is disabled (`WRONGPASS`).
    #[error("the server refuses the user or the password")]
    WrongPassword,
    /// The user lacks the right to a command that each link needs (`NOPERM`).
    #[error("the user needs the rights +hello, +ping, +echo, +select and +client|setname: {0}")]
    NeedsRights(ServerError),
    /// The server does not speak RESP3: Redis before 6.0.
    #[error("the server does not speak RESP3, which Redis does since 6.0: {0}")]
    TooOld(ServerError),
    /// There is no such database, or this is a cluster.
    #[error("the database cannot be selected: {0}")]
    Database(ServerError),
    /// The server is reading its data (`LOADING`).
    #[error("the server is still loading its data")]
    Loading,
    /// Another error to the hello, such as too many clients.
    #[error("the server refused: {0}")]
    Refused(ServerError),
    /// What came is no RESP, or not an answer to a hello.
    #[error("this is no server that speaks RESP: {0}")]
    Protocol(String),
}

/// Why a connection ended.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// The server closed it.
    #[error("the server closed the connection")]
    ClosedByServer,
    /// The operating system reported an error.
    #[error("the connection broke: {}", io::Error::from(*.0))]
    Broken(io::ErrorKind),
    /// The server owed an answer for too long, see [`Options::ping_timeout`](crate::Options::ping_timeout).
    #[error("the server did not answer for {0:?}")]
    Silent(Duration),
    /// What came is no RESP, or above the bounds.
    #[error("unreadable: {0}")]
    Unreadable(DecodeError),
    /// An answer came that nothing asked for, so answers can be told apart no longer.
    #[error("answers and commands do not match")]
    OutOfStep,
    /// [`Link::reconnect`](crate::Link::reconnect) was called.
    #[error("a reconnect was asked for")]
    Asked,
}
