//! Why the application says no, to whoever asked, by socket and by REST alike: one list, told as the broker tells its own refusals.

use std::time::Duration;

use broker::{Refusal, RefusalKind};

use crate::store::StoreError;

/// What was refused, and why. As a [`Refusal`] it has a code and says how to put it right.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refused {
    /// Neither token nor ticket nor cookie.
    #[error("this needs a login")]
    NoCredentials,
    /// The login that the credentials belong to has ended.
    #[error("this login has ended")]
    LoginEnded,
    /// No such name, or not its password: which of them is nobody's business.
    #[error("the name or the password is wrong")]
    WrongPassword,
    /// Somebody has the name.
    #[error("the name \"{0}\" is taken")]
    NameTaken(String),
    /// A value is not what it has to be.
    #[error("{what} {why}")]
    Invalid {
        /// Which value.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A frame of a socket that belongs to no session does not name one.
    #[error("the frame does not say to which session")]
    NoSession,
    /// There is no session with this id.
    #[error("there is no session with this id")]
    UnknownSession,
    /// The session is there, for others.
    #[error("you are not a member of this session")]
    NotMember,
    /// The code of a share link that leads nowhere.
    #[error("this share link leads nowhere")]
    UnknownInvite,
    /// So many and no more.
    #[error("at most {max} {what} are possible")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        max: i64,
    },
    /// It could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Refused {
    fn kind(&self) -> RefusalKind {
        match self {
            Self::NoCredentials | Self::LoginEnded | Self::WrongPassword => RefusalKind::Unauthorized,
            Self::NameTaken(_) | Self::Invalid { .. } | Self::NoSession => RefusalKind::BadRequest,
            Self::UnknownSession | Self::UnknownInvite => RefusalKind::UnknownTopic,
            Self::NotMember => RefusalKind::PermissionDenied,
            Self::TooMany { .. } => RefusalKind::LimitExceeded,
            Self::Store(_) => RefusalKind::Unavailable,
        }
    }

    fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::NoCredentials => {
                "POST /api/login answers with a token for ?token=..; the page's \"Connect another client\" gives a one-use ?ticket=.."
            }
            Self::LoginEnded => "log in again",
            Self::WrongPassword => "try again, or sign up",
            Self::NameTaken(_) => "log in if it is yours, or take another name",
            Self::NoSession => "connect to /ws/chat?sessionId=.., or put \"sessionId\" into the frame",
            Self::UnknownSession => "check sessionId: GET /api/sessions lists yours; the code of a share link is not the id of its session",
            Self::NotMember => "open the session's share link once, or POST /api/invites/<code>",
            Self::UnknownInvite => "ask a member for the link again",
            Self::Store(_) => "try again with the same clientId: what was stored is not stored twice",
            Self::Invalid { .. } | Self::TooMany { .. } => return None,
        })
    }
}

impl From<rusqlite::Error> for Refused {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        let text = match &refused {
            // What the database says is for the operator.
            Refused::Store(_) => "this cannot be stored or read at the moment".to_owned(),
            other => other.to_string(),
        };
        let mut refusal = Self::new(refused.kind(), text);
        if let Some(hint) = refused.hint() {
            refusal = refusal.hint(hint);
        }
        match refused {
            Refused::Store(error) => refusal.rule(error.to_string()).retry_after(Duration::from_secs(1)),
            Refused::NotMember => refusal.rule("the table `members` has no row for this user and session"),
            _ => refusal,
        }
    }
}
