//! What the server has said of users and tokens, for as long as it holds: memberships in groups, revocations, tickets. The trait.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Subject, Tenant, UserId, backplane::Unavailable, unix_ms};

/// A revocation up to a moment that is not longer ago is one of the present: the way to all sessions takes its time.
const PRESENT: Duration = Duration::from_secs(1);

/// Remembers what the server has said of users and tokens, for all nodes.
///
/// Asked when a session connects, renews or changes its identity. Every implementation passes the suite in [`testing`](crate::testing).
#[async_trait]
pub trait Registry: Send + Sync + 'static {
    /// The user's sessions join the group when they connect, for so long. A repetition begins the time anew.
    async fn join(&self, member: &Member, group: &str, keep: Duration) -> Result<(), Unavailable>;

    /// The user's sessions join the group no more.
    async fn leave(&self, member: &Member, group: &str) -> Result<(), Unavailable>;

    /// The groups that the user was joined to, in no order.
    async fn groups_of(&self, member: &Member) -> Result<Vec<Box<str>>, Unavailable>;

    /// Credentials that the revocation means are refused from here on, for so long.
    async fn revoke(&self, revocation: &Revocation, keep: Duration) -> Result<(), Unavailable>;

    /// The revocation that means this subject, if there is one.
    async fn revocation_of(&self, subject: &Subject) -> Result<Option<Revocation>, Unavailable>;

    /// Keeps what a ticket stands for until it is taken, but no longer than this.
    async fn put_ticket(&self, ticket: &str, content: Bytes, keep: Duration) -> Result<(), Unavailable>;

    /// What the ticket stands for, the first time it is asked; then, and after its time, `None`.
    async fn take_ticket(&self, ticket: &str) -> Result<Option<Bytes>, Unavailable>;
}

/// A user, within a tenant or outside of all.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Member {
    /// The user.
    pub user: UserId,
    /// Whose user it is.
    pub tenant: Option<Tenant>,
}

/// Credentials that hold no more: those of a user, one token, or those that name a group; if they were issued at or before a moment.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Revocation {
    /// Whose.
    pub whose: Revoked,
    /// The tenant of the user or group; `None`: of no tenant.
    pub tenant: Option<Tenant>,
    /// Credentials that were issued in this second or before it.
    pub before: SystemTime,
}

/// Whose credentials a [`Revocation`] means.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Revoked {
    /// The user's.
    User(UserId),
    /// The token with this id (`jti`), whenever it was issued.
    Token(Box<str>),
    /// Of all who are in the group.
    Group(Box<str>),
}

impl Revoked {
    /// Under all that a revocation may name to mean this subject.
    pub fn naming(subject: &Subject) -> impl Iterator<Item = Self> + '_ {
        let token = subject.token_id().map(|id| Self::Token(id.into()));
        let groups = subject.groups().iter().map(|group| Self::Group(group.clone()));
        std::iter::once(Self::User(subject.user.clone())).chain(token).chain(groups)
    }
}

impl Revocation {
    /// What was issued up to now.
    pub fn now(whose: Revoked) -> Self {
        Self { whose, tenant: None, before: SystemTime::now() }
    }

    /// Sets the moment.
    pub fn before(mut self, moment: SystemTime) -> Self {
        self.before = moment;
        self
    }

    /// Sets the tenant.
    pub fn tenant(mut self, tenant: Option<Tenant>) -> Self {
        self.tenant = tenant;
        self
    }

    /// Whether it means the credentials of a session that is here.
    ///
    /// Who is here cannot have been let in later than now. A date that says so is of a clock that is ahead, or was when the session came and has been
    /// set right since; a revocation of the present means such a session too.
    pub(crate) fn means_session(&self, subject: &Subject, now: SystemTime) -> bool {
        let is_of_now = now.duration_since(self.before).is_ok_and(|ago| ago <= PRESENT) || self.before >= now;
        let is_ahead = || is_of_now && subject.issued_at > now && self.clone().before(subject.issued_at).means(subject);
        self.means(subject) || is_ahead()
    }

    /// Whether it means the subject's credentials.
    ///
    /// Tokens tell whole seconds: what was issued in the second of `before` is meant, what was issued in a later one is not.
    pub fn means(&self, subject: &Subject) -> bool {
        if self.tenant.as_ref() != subject.tenant() {
            return false;
        }
        let is_older = || match unix_ms(subject.issued_at) {
            whole if whole.is_multiple_of(1000) => whole / 1000 <= unix_ms(self.before) / 1000,
            issued_at => issued_at <= unix_ms(self.before),
        };
        match &self.whose {
            Revoked::Token(id) => subject.token_id() == Some(id),
            Revoked::User(user) => *user == subject.user && is_older(),
            Revoked::Group(group) => subject.groups().contains(group) && is_older(),
        }
    }
}
