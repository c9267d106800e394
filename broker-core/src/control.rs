//! What nodes tell and ask each other besides publications: the trait, the questions, the answers.

use std::{
    borrow::Cow,
    net::SocketAddr,
    sync::{Arc, Weak},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;

use crate::{Identity, Publish, Revocation, ServerSubscription, SessionId, Since, Target, Topic, UserId};

/// What nodes tell and ask each other besides publications.
#[async_trait]
pub trait ControlBus: Send + Sync + 'static {
    /// Begins to hand what other nodes ask to `node`. Called once. The node goes when the engine's last handle does.
    fn start(&self, node: Weak<dyn ControlNode>);

    /// The nodes that are known, this one too, by their ids; empty: there is only this one. Answers at once.
    fn known_nodes(&self) -> Vec<Arc<str>> {
        Vec::new()
    }

    /// What keeps this node from being one with the others at the moment, in words for whoever operates it; empty: nothing. Answers at once.
    fn troubles(&self) -> Vec<String> {
        Vec::new()
    }

    /// Asks every node, this one included, and waits at most `deadline` for their answers.
    async fn ask(&self, question: ControlQuestion, deadline: Duration) -> ControlAnswers;
}

/// The answers of all nodes to one question.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ControlAnswers {
    /// One of each node that answered in time.
    pub answers: Vec<ControlAnswer>,
    /// Nodes that are known and did not answer, by their ids.
    pub silent: Vec<Arc<str>>,
}

impl ControlAnswers {
    /// Every node answered.
    pub fn whole(answers: Vec<ControlAnswer>) -> Self {
        Self { answers, silent: Vec::new() }
    }

    /// Sets which nodes are known and did not answer.
    pub fn silent(mut self, nodes: Vec<Arc<str>>) -> Self {
        self.silent = nodes;
        self
    }
}

/// A node that answers.
#[async_trait]
pub trait ControlNode: Send + Sync {
    /// Answers when it is done on this node. Cancelled, it goes on.
    async fn answer(&self, question: ControlQuestion) -> ControlAnswer;
}

/// What a node may be asked.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ControlQuestion {
    /// Who are you, and how much do you hold?
    Info,
    /// Which topics have listeners with you?
    Topics,
    /// Which groups have sessions with you, and whose?
    Groups,
    /// Do this with your sessions that are meant. Answered when it is done.
    Act(Target, Act),
    /// Refuse these credentials and end their sessions. Answered when nothing more is written to them.
    Revoke(Revocation),
    /// Which of your sessions are meant?
    Sessions {
        /// Who.
        target: Target,
        /// Most sessions in the answer.
        limit: usize,
    },
    /// Publish a probe, and say whose probes you heard.
    Probe {
        /// The name of this look, as no other has it.
        name: Box<str>,
        /// How long it lasts; at most 10 s.
        time: Duration,
    },
}

/// What is done with sessions.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Act {
    /// Nothing but counting them.
    Count,
    /// Send them this, each once, without history. Each gets it in the topic by which it is meant.
    Send(Arc<Publish>),
    /// Subscribe them.
    Subscribe {
        /// To this, by its local name where a session has a tenant.
        subscription: ServerSubscription,
        /// From here.
        since: Option<Since>,
    },
    /// End their subscription to a topic, by its full name, or by its local one where a session has a tenant.
    Unsubscribe(Topic),
    /// Close their connections.
    Disconnect {
        /// The code: 3000 to 4999.
        code: u16,
        /// The text.
        reason: Cow<'static, str>,
        /// How long a client should wait before it connects again, where the code lets it.
        reconnect_after: Option<Duration>,
        /// Sessions that stay.
        whitelist: Vec<SessionId>,
    },
    /// Set when their credentials end; `None`: never.
    Refresh {
        /// The end.
        expires_at: Option<SystemTime>,
    },
    /// Close them as expired.
    Expire,
    /// Give them another identity, in one step.
    ChangeIdentity(Box<Identity>),
}

/// A node's answer.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ControlAnswer {
    /// To [`ControlQuestion::Info`].
    Info(NodeInfo),
    /// To [`ControlQuestion::Topics`].
    Topics(Vec<TopicCount>),
    /// To [`ControlQuestion::Act`] and [`ControlQuestion::Revoke`]: how many sessions it was done with.
    Done {
        /// Sessions.
        sessions: usize,
    },
    /// To [`ControlQuestion::Sessions`].
    Sessions(Vec<SessionReport>),
    /// To [`ControlQuestion::Groups`]: each group's topic, with the users of its sessions, one for each session.
    Groups(Vec<(Topic, Vec<UserId>)>),
    /// To [`ControlQuestion::Probe`].
    Probe(Box<NodeProbe>),
}

/// One node.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct NodeInfo {
    /// Its id: [`EngineBuilder::node_id`](crate::EngineBuilder::node_id), or made at random when it starts.
    pub id: Arc<str>,
    /// Its name, for people.
    pub name: Arc<str>,
    /// Its version.
    pub version: Cow<'static, str>,
    /// Time since it started.
    pub uptime: Duration,
    /// Sessions that are connected.
    pub sessions: usize,
    /// Different users among them.
    pub users: usize,
    /// Subscriptions of sessions, those to the topics of their own users left out.
    pub subscriptions: usize,
    /// Topics with listeners, those of users left out.
    pub topics: usize,
    /// What keeps it from its work, in words ([`Engine::troubles`](crate::Engine::troubles)); empty: nothing.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Vec::is_empty"))]
    pub troubles: Vec<String>,
}

/// What one node found when all looked at the ways between them.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NodeProbe {
    /// The node.
    pub node: NodeInfo,
    /// Whose probes it heard, by their ids; its own among them.
    pub heard: Vec<Arc<str>>,
    /// Why it could not listen or publish its own; `None`: it could.
    pub trouble: Option<Box<str>>,
    /// Its clock when it was asked, in milliseconds of Unix time.
    pub clock_ms: u64,
    /// The nodes that it knows, by their ids.
    pub knows: Vec<Arc<str>>,
    /// Whether its backplane is shared with other nodes.
    pub is_shared: bool,
    /// Fingerprints of the settings that must be the same on all nodes: name and fingerprint, as
    /// [`EngineBuilder::shared_settings`](crate::EngineBuilder::shared_settings) set them.
    pub settings: Vec<(Box<str>, Box<str>)>,
}

/// What all nodes found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct NodeProbes {
    /// Of each node that answered, in the order of their names.
    pub nodes: Vec<NodeProbe>,
    /// Nodes that are known and did not answer, by their ids.
    pub silent: Vec<Arc<str>>,
}

impl NodeProbes {
    /// The ways on which nothing came: from, to.
    pub fn broken_ways(&self) -> Vec<(&NodeProbe, &NodeProbe)> {
        let pairs = self.nodes.iter().flat_map(|from| self.nodes.iter().map(move |to| (from, to)));
        pairs.filter(|(from, to)| !to.heard.contains(&from.node.id)).collect()
    }
}

/// A topic and how many sessions listen to it.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct TopicCount {
    /// The topic.
    pub topic: Topic,
    /// Sessions that listen.
    pub sessions: usize,
}

impl TopicCount {
    /// So many sessions listen to this topic.
    pub fn new(topic: Topic, sessions: usize) -> Self {
        Self { topic, sessions }
    }
}

/// One session as the operator sees it.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionReport {
    /// The session.
    pub session: SessionId,
    /// Its user.
    pub user: UserId,
    /// Which rule made its identity.
    pub rule: Cow<'static, str>,
    /// When it was opened.
    pub since: SystemTime,
    /// Where the client connected from, as far as the transport knows.
    pub address: Option<SocketAddr>,
    /// The kind of pipe: `websocket`.
    pub transport: Cow<'static, str>,
    /// The name of the protocol: `plain-raw`.
    pub protocol: Cow<'static, str>,
    /// The groups it is in, by their names.
    pub groups: Vec<Box<str>>,
    /// The topics it listens to, those of groups, user and session included.
    pub topics: Vec<Topic>,
    /// Bytes that wait for the client.
    pub backlog_bytes: usize,
    /// The id of its node.
    pub node: Arc<str>,
}
