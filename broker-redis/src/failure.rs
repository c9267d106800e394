//! Why Redis did not do something, in the terms that matter here: may it be tried again, and did it happen?

use broker_core::{PublishFailed, Unavailable};
use broker_resp::{CallError, ServerError};

/// Why a call failed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Failure {
    /// It did not happen: the server was not reached, or said that it cannot now.
    #[error("{0}")]
    NotDone(String),
    /// It may have happened.
    #[error("{0}")]
    Unknown(String),
    /// The server refused, and will again.
    #[error("Redis refused: {0}")]
    Refused(ServerError),
    /// What was answered is not what the script answers.
    #[error("Redis answered something unexpected: {0}")]
    Unexpected(&'static str),
}

impl Failure {
    /// How the reason begins where no server was asked.
    pub(crate) const NOT_SENT: &str = "Redis: ";

    /// Whether the same call may work in a moment, on this server or another one.
    pub(crate) fn is_passing(error: &ServerError) -> bool {
        matches!(error.code(), "LOADING" | "READONLY" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "MOVED" | "ASK" | "BUSY" | "NOREPLICAS")
    }

    /// Whether a server refused because it is a replica.
    pub(crate) fn is_of_a_replica(&self) -> bool {
        matches!(self, Self::NotDone(why) if why.starts_with("READONLY"))
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Unknown(why) => Self::Unknown(format!("Redis did not answer: {why}")),
            // The scripts refuse these before they write anything.
            CallError::Refused(error) if Self::is_passing(&error) => Self::NotDone(error.to_string()),
            CallError::Refused(error) => Self::Refused(error),
            not_sent => Self::NotDone(format!("{}{not_sent}", Self::NOT_SENT)),
        }
    }
}

impl From<Failure> for Unavailable {
    fn from(failure: Failure) -> Self {
        Self(failure.to_string())
    }
}

impl From<Failure> for PublishFailed {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unknown(_) | Failure::Unexpected(_) => Self::Unconfirmed(failure.to_string()),
            Failure::NotDone(_) | Failure::Refused(_) => Self::NotSent(failure.to_string()),
        }
    }
}
