//! What the server does with sessions that are open, on all nodes: the handle of a target. How it is done lives in the hub.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration, time::SystemTime};

use crate::{
    Act, ControlAnswer, ControlAnswers, ControlQuestion, Engine, Identity, Position, Publish, PublishError, Refusal, ServerSubscription,
    SessionId, SessionReport, Since, Target, Topic, UserId,
};

/// The sessions that a [`Target`] means, on all nodes, whenever something is done with them.
///
/// Every method answers when it is done on every node; the number is that of the sessions it was done with. Cancelled, it goes on.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use broker_core::{Engine, Target};
///
/// let engine = Engine::builder().build()?;
/// assert_eq!(engine.sessions(Target::user("ris1")).disconnect(4001, "logged out").await?, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Sessions {
    engine: Engine,
    target: Target,
}

impl Sessions {
    pub(crate) fn new(engine: Engine, target: Target) -> Self {
        Self { engine, target }
    }

    /// How many there are.
    pub async fn count(&self) -> Result<usize, ControlError> {
        self.act(Act::Count).await
    }

    /// Sends to them, each once. What means one topic is published to it, with its history; a set or a session has none.
    pub async fn send(&self, publish: Publish) -> Result<Sent, ControlError> {
        self.engine.check(&publish)?;
        let Some(topic) = self.engine.topic_of(&self.target)? else {
            if publish.removed {
                return Err(Refusal::bad_request("only a topic has a state to remove a key from").hint("publish to the topic").into());
            }
            let sessions = self.act(Act::Send(Arc::new(publish))).await?;
            return Ok(Sent { sessions, topic: None, position: None });
        };
        let published = self.engine.publish(&topic, publish).await?;
        let sessions = self.count().await?;
        Ok(Sent { sessions, topic: Some(topic), position: published.position })
    }

    /// Subscribes them to a topic, from a position where one is given. Answers when they are live there.
    pub async fn subscribe(&self, subscription: ServerSubscription, since: Option<Since>) -> Result<usize, ControlError> {
        self.engine.has_namespace(&subscription.topic)?;
        self.act(Act::Subscribe { subscription, since }).await
    }

    /// Ends their subscription to a topic, named in full or as the session names it. Answers when nothing that is published later reaches them.
    pub async fn unsubscribe(&self, topic: &Topic) -> Result<usize, ControlError> {
        self.act(Act::Unsubscribe(topic.clone())).await
    }

    /// Closes their connections with a code, 3000 to 4999, and a text.
    pub async fn disconnect(&self, code: u16, reason: impl Into<Cow<'static, str>>) -> Result<usize, ControlError> {
        self.disconnect_except(code, reason, None, Vec::new()).await
    }

    /// The same, with advice when to come back, and without these sessions.
    pub async fn disconnect_except(
        &self,
        code: u16,
        reason: impl Into<Cow<'static, str>>,
        reconnect_after: Option<Duration>,
        whitelist: Vec<SessionId>,
    ) -> Result<usize, ControlError> {
        if !(3000..=4999).contains(&code) {
            return Err(Refusal::bad_request(format!("{code} is no close code of the server's, they are 3000 to 4999")).into());
        }
        self.act(Act::Disconnect { code, reason: reason.into(), reconnect_after, whitelist }).await
    }

    /// Sets when their credentials end; `None`: never.
    pub async fn refresh(&self, expires_at: Option<SystemTime>) -> Result<usize, ControlError> {
        self.act(Act::Refresh { expires_at }).await
    }

    /// Closes them as expired.
    pub async fn expire(&self) -> Result<usize, ControlError> {
        self.act(Act::Expire).await
    }

    /// Gives them another identity: what only the old one may hear ends, what the new one hears begins, in one step.
    pub async fn change_identity(&self, mut identity: Identity) -> Result<usize, ControlError> {
        identity.issued_at.get_or_insert_with(SystemTime::now);
        self.act(Act::ChangeIdentity(Box::new(identity))).await
    }

    /// What is known of them, at most so many, in no order.
    pub async fn list(&self, limit: usize) -> Result<Vec<SessionReport>, ControlError> {
        self.check_target()?;
        let question = ControlQuestion::Sessions { target: self.target.clone(), limit };
        let ControlAnswers { answers, silent } = self.engine.ask_nodes(question).await;
        let mut reports = Vec::new();
        for answer in answers {
            if let ControlAnswer::Sessions(of_node) = answer {
                reports.extend(of_node);
            }
        }
        reports.truncate(limit);
        if silent.is_empty() { Ok(reports) } else { Err(ControlError::Silent { nodes: silent, sessions: reports.len() }) }
    }

    async fn act(&self, act: Act) -> Result<usize, ControlError> {
        self.check_target()?;
        done(self.engine.ask_nodes(ControlQuestion::Act(self.target.clone(), act)).await)
    }

    fn check_target(&self) -> Result<(), Refusal> {
        if self.target.len() > Target::SET_MAX_LEN {
            let text = format!("the target names {} others, at most {} are allowed", self.target.len(), Target::SET_MAX_LEN);
            return Err(Refusal::bad_request(text).hint("join them to a group, and name the group"));
        }
        if self.target.is_empty() {
            return Err(Refusal::bad_request("the target names nobody").hint("put a target into `any` or `all`"));
        }
        Ok(())
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("target", &self.target).finish_non_exhaustive()
    }
}

/// How many sessions it was done with, if every node did it.
pub(crate) fn done(answers: ControlAnswers) -> Result<usize, ControlError> {
    let sessions = answers.answers.iter().map(|answer| if let ControlAnswer::Done { sessions } = answer { *sessions } else { 0 }).sum();
    if answers.silent.is_empty() { Ok(sessions) } else { Err(ControlError::Silent { nodes: answers.silent, sessions }) }
}

/// What became of a [`Sessions::send`].
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Sent {
    /// Sessions that it went to.
    pub sessions: usize,
    /// The topic it was published to; `None`: it went to the sessions, and is in no history.
    pub topic: Option<Topic>,
    /// Where it stands in the topic's history.
    pub position: Option<Position>,
}

/// A user and the sessions of that user.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct UserSessions {
    /// The user.
    pub user: UserId,
    /// The sessions, in no order.
    pub sessions: Vec<SessionId>,
}

/// Sessions by their users, in the order of the users' ids.
pub(crate) fn by_user(reports: Vec<SessionReport>) -> Vec<UserSessions> {
    let mut users = std::collections::BTreeMap::<UserId, Vec<SessionId>>::new();
    for report in reports {
        users.entry(report.user).or_default().push(report.session);
    }
    users.into_iter().map(|(user, sessions)| UserSessions { user, sessions }).collect()
}

/// A group and who is in it.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct GroupCount {
    /// The group's topic.
    pub topic: Topic,
    /// Sessions in it.
    pub sessions: usize,
    /// Different users among them.
    pub users: usize,
}

/// Why something was not done with sessions.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// It is malformed, or not possible.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// Nothing says that these nodes did it; the others did.
    #[error("{} of the nodes did not answer: {}", .nodes.len(), .nodes.join(", "))]
    Silent {
        /// Nodes without an answer, by their ids.
        nodes: Vec<Arc<str>>,
        /// Sessions of the other nodes with which it was done.
        sessions: usize,
    },
}

impl ControlError {
    /// The refusal that the caller of the server API is told.
    pub fn into_refusal(self) -> Refusal {
        match self {
            Self::Refused(refusal) => refusal,
            Self::Silent { .. } => Refusal::unavailable(self.to_string()).retry_after(Duration::from_secs(1)),
        }
    }
}

impl From<Refusal> for ControlError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<PublishError> for ControlError {
    fn from(error: PublishError) -> Self {
        Self::Refused(error.into_refusal())
    }
}
