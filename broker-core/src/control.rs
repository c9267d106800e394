//! What nodes tell and ask each other besides publications: the trait.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;

use crate::Topic;

/// What nodes tell and ask each other besides publications.
#[async_trait]
pub trait ControlBus: Send + Sync + 'static {
    /// Begins to hand what other nodes ask to `node`. Called once. The node goes when the engine's last handle does.
    fn start(&self, node: Weak<dyn ControlNode>);

    /// Asks every node, this one included, and waits at most `deadline` for their answers.
    async fn ask(&self, question: ControlQuestion, deadline: Duration) -> Vec<ControlAnswer>;
}

/// A node that answers.
pub trait ControlNode: Send + Sync {
    /// Answers from what this node knows; no I/O.
    fn answer(&self, question: &ControlQuestion) -> ControlAnswer;
}

/// What a node may be asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ControlQuestion {
    /// Who are you, and how much do you hold?
    Info,
    /// Which topics have listeners with you?
    Topics,
}

/// A node's answer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ControlAnswer {
    /// To [`ControlQuestion::Info`].
    Info(NodeInfo),
    /// To [`ControlQuestion::Topics`].
    Topics(Vec<TopicCount>),
}

/// One node.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct NodeInfo {
    /// Its id, made at random when it starts.
    pub id: Arc<str>,
    /// Its name, for people.
    pub name: Arc<str>,
    /// Its version.
    pub version: &'static str,
    /// Time since it started.
    pub uptime: Duration,
    /// Sessions that are connected.
    pub sessions: usize,
    /// Different users among them.
    pub users: usize,
    /// Subscriptions of sessions.
    pub subscriptions: usize,
    /// Topics with listeners.
    pub topics: usize,
}

/// A topic and how many sessions listen to it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TopicCount {
    /// The topic.
    pub topic: Topic,
    /// Sessions that listen.
    pub sessions: usize,
}
