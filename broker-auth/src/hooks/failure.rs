//! Why a hook gave no answer, as the client, the log and the counters are told. Calls are not made here.

use std::time::Duration;

use broker_core::{Refusal, SnapshotFailed};
use http::StatusCode;

use super::{answer::Malformed, options::Hook};

/// Why a call of a hook gave no answer. None of them allows anything.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum CallFailed {
    #[error("as many calls as may wait for their turn, wait")]
    Overloaded,
    #[error("no call goes out after too many failures in a row, until a probe is answered")]
    Open { retry_after: Duration },
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    #[error("{0}")]
    Transport(String),
    #[error("the answer has status {0}")]
    Status(StatusCode),
    #[error("the answer is a redirect ({0}), and redirects are not followed")]
    Redirect(StatusCode),
    #[error("the answer is longer than {max_bytes} bytes")]
    TooLarge { max_bytes: usize },
    #[error("{0}")]
    Malformed(Malformed),
}

impl CallFailed {
    /// The name of the cause, for metrics and logs.
    pub(super) fn cause(&self) -> &'static str {
        match self {
            Self::Overloaded => "overloaded",
            Self::Open { .. } => "circuit_open",
            Self::TimedOut(_) => "timeout",
            Self::Transport(_) => "transport",
            Self::Status(_) => "status",
            Self::Redirect(_) => "redirect",
            Self::TooLarge { .. } => "too_large",
            Self::Malformed(_) => "malformed",
        }
    }

    /// Whether it says that the endpoint is not well.
    pub(super) fn is_of_the_endpoint(&self) -> bool {
        match self {
            Self::TimedOut(_) | Self::Transport(_) => true,
            Self::Status(status) => status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS,
            _ => false,
        }
    }

    /// Whether the same call may be answered later.
    pub(super) fn is_temporary(&self) -> bool {
        self.is_of_the_endpoint() || matches!(self, Self::Overloaded | Self::Open { .. })
    }

    /// The refusal that the client is told; its rule is for the operator.
    pub(super) fn refusal(&self, hook: Hook) -> Refusal {
        let refusal = match self {
            Self::Status(StatusCode::UNAUTHORIZED) => Refusal::unauthorized("the application does not know these credentials"),
            Self::Status(StatusCode::FORBIDDEN) => Refusal::permission_denied("the application does not allow this"),
            _ => Refusal::unavailable(format!("the application did not answer ({hook}), try again")),
        };
        let refusal = match self {
            Self::Overloaded => refusal.retry_after(Duration::from_secs(1)),
            Self::Open { retry_after } => refusal.retry_after(*retry_after),
            _ => refusal,
        };
        refusal.rule(self.rule(hook))
    }

    /// What those are told who wait for a snapshot: whatever the cause, another time may be better.
    pub(super) fn no_snapshot(&self, hook: Hook) -> SnapshotFailed {
        let failed = SnapshotFailed::new(self.rule(hook));
        match self {
            Self::Open { retry_after } => failed.retry_after(*retry_after),
            _ => failed,
        }
    }

    fn rule(&self, hook: Hook) -> String {
        format!("hook {hook}: {self}; see hooks.{hook}")
    }

    /// How the operator puts it right.
    pub(super) fn cure(&self, hook: Hook) -> String {
        match self {
            Self::Overloaded => format!("raise hooks.{hook}.concurrency, or let the application answer faster"),
            Self::TimedOut(_) => format!("let the application answer faster, or raise hooks.{hook}.timeout"),
            Self::Transport(_) => format!("see that the application listens at hooks.{hook}.url"),
            Self::Redirect(_) => format!("put the address that it leads to into hooks.{hook}.url"),
            Self::TooLarge { .. } => "let the application answer less, or raise hooks.answer_max".to_owned(),
            Self::Malformed(_) => "see docs/protocols/hooks.md for what an answer holds".to_owned(),
            Self::Status(_) | Self::Open { .. } => format!("see what the application logs about {hook}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker_core::RefusalKind;

    #[test]
    fn only_a_status_that_says_so_is_final_for_the_client() {
        let kind = |status: u16| CallFailed::Status(StatusCode::from_u16(status).unwrap()).refusal(Hook::Subscribe).kind;
        assert_eq!(kind(401), RefusalKind::Unauthorized);
        assert_eq!(kind(403), RefusalKind::PermissionDenied);
        for status in [400, 404, 422, 429, 500, 502, 503] {
            assert_eq!(kind(status), RefusalKind::Unavailable, "{status}");
        }
    }
}
