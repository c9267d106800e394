//! Whom the server means: a user, a session, a topic's listeners, or a set of those. How they are found lives in the hub.

use crate::{SessionId, SessionInfo, Tenant, Topic, UserId};

/// Whom the server means. Each session is meant once, however many members of a set name it.
///
/// ```
/// use broker_core::Target;
///
/// let roles = Target::any([Target::group("ocs_ris")?, Target::group("ocs_lis")?]).except([Target::user("ris1")]);
/// # Ok::<(), broker_core::InvalidTopic>(())
/// ```
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Target {
    /// All sessions of a user, within a tenant or outside of all.
    User {
        /// The user.
        user: UserId,
        /// Whose user it is; `None`: of no tenant.
        tenant: Option<Tenant>,
    },
    /// One session.
    Session(SessionId),
    /// All sessions that listen to a topic; those of a group listen to the group's topic.
    Topic(Topic),
    /// A set of others.
    Set(TargetSet),
}

/// A set of targets: who is meant by one of `any`, and by each of `all`, and by none of `except`.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct TargetSet {
    /// At least one of these means the session; empty: `all` alone decides.
    pub any: Vec<Target>,
    /// Each of these means the session.
    pub all: Vec<Target>,
    /// None of these means the session.
    pub except: Vec<Target>,
}

impl Target {
    /// Most targets in one set, those of sets within it included.
    pub const SET_MAX_LEN: usize = 256;

    /// All sessions of a user that belongs to no tenant.
    pub fn user(user: impl Into<UserId>) -> Self {
        Self::User { user: user.into(), tenant: None }
    }

    /// All sessions of a group that belongs to no tenant.
    pub fn group(name: &str) -> Result<Self, crate::InvalidTopic> {
        Topic::group(name).map(Self::Topic)
    }

    /// Who is meant by at least one of these.
    pub fn any(targets: impl IntoIterator<Item = Self>) -> Self {
        Self::Set(TargetSet { any: targets.into_iter().collect(), ..TargetSet::default() })
    }

    /// Who is meant by each of these.
    pub fn all(targets: impl IntoIterator<Item = Self>) -> Self {
        Self::Set(TargetSet { all: targets.into_iter().collect(), ..TargetSet::default() })
    }

    /// The same without whom these mean.
    pub fn except(self, targets: impl IntoIterator<Item = Self>) -> Self {
        let mut set = match self {
            Self::Set(set) => set,
            other => TargetSet { any: vec![other], ..TargetSet::default() },
        };
        set.except.extend(targets);
        Self::Set(set)
    }

    /// Number of targets in it, sets and what stands in them included.
    pub fn len(&self) -> usize {
        match self {
            Self::Set(set) => 1 + [&set.any, &set.all, &set.except].into_iter().flatten().map(Self::len).sum::<usize>(),
            _ => 1,
        }
    }

    /// Whether nobody can be meant: a set that names nobody.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Set(set) if set.any.is_empty() && set.all.is_empty())
    }
}

/// Who does not get a publication although they listen: whoever caused it, as a rule.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Except {
    /// Users, by their ids.
    pub users: Vec<UserId>,
    /// Sessions.
    pub sessions: Vec<SessionId>,
}

impl Except {
    /// Everybody gets it.
    pub fn nobody() -> Self {
        Self::default()
    }

    /// Not this user.
    pub fn user(mut self, user: impl Into<UserId>) -> Self {
        self.users.push(user.into());
        self
    }

    /// Not this session.
    pub fn session(mut self, session: SessionId) -> Self {
        self.sessions.push(session);
        self
    }

    /// Whether nobody is left out.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.sessions.is_empty()
    }

    /// Whether this session is left out.
    pub fn means(&self, who: &SessionInfo) -> bool {
        self.sessions.contains(&who.session) || self.users.contains(&who.user)
    }
}
