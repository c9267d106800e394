//! Nodes that know each other: engines on one Redis, each behind a proxy of its own, with clients.

use std::{sync::Arc, time::Duration};

use broker_core::{Engine, Identity, Namespace, Refusal, Topic, testing::Client, testing::LineProtocol};
use broker_redis::{AboutNode, NodeOptions, RedisBackplane, RedisNode, Standing};
use broker_resp::testing::{Proxy, Server};
use tokio::time::timeout;

use crate::world::{LONG, backplane, until};

/// One node.
pub(crate) struct Fellow {
    pub(crate) engine: Engine,
    pub(crate) node: RedisNode,
    pub(crate) proxy: Proxy,
}

/// Two nodes and their Redis.
pub(crate) struct Two {
    pub(crate) server: Server,
    pub(crate) a: Fellow,
    pub(crate) b: Fellow,
}

/// Leases of tests: short, and long enough for a busy machine.
fn options() -> NodeOptions {
    let mut options = NodeOptions::default();
    options.heartbeat_interval = Duration::from_millis(150);
    options.lease = Duration::from_millis(1500);
    options
}

impl Fellow {
    pub(crate) async fn new(server: &Server, name: &str) -> Self {
        let proxy = Proxy::start(server.address()).await;
        Self::with(backplane(proxy.target()).await, proxy, name).await
    }

    /// A node on any servers; the proxy is in front of one of them.
    pub(crate) async fn with(redis: RedisBackplane, proxy: Proxy, name: &str) -> Self {
        let node = redis.join(AboutNode::new(name, "1.0.0", "same"), options());
        let mut lively = Namespace::open();
        lively.presence = true;
        lively.join_leave = true;
        let engine = Engine::builder()
            .node_id(node.about().id.clone())
            .node(name, "1.0.0")
            .backplane(Arc::new(redis))
            .control(node.control())
            .presence(node.presence())
            .registry(node.registry())
            .namespace("t", lively)
            .with_settings(|settings| settings.leave_delay = Duration::ZERO)
            // A token is the name of a user.
            .on_connect(|request| async move {
                let user = request.connect.token.ok_or_else(|| Refusal::unauthorized("a name is wanted"))?;
                Ok(Identity::user(user).issued_at(std::time::SystemTime::UNIX_EPOCH))
            })
            .build()
            .expect("it starts");
        until("the node is there", || node.is_back()).await;
        Self { engine, node, proxy }
    }

    pub(crate) fn id(&self) -> Arc<str> {
        self.node.about().id.clone()
    }

    /// Cuts it from Redis.
    pub(crate) fn cut(&self) {
        self.proxy.refuse(true);
        self.proxy.cut();
    }

    /// Lets it reach Redis again, and waits until it is back.
    pub(crate) async fn cure(&self) {
        self.proxy.refuse(false);
        until("the node is back", || self.node.is_back() && self.node.trouble().is_none()).await;
    }

    /// A client of this user.
    pub(crate) async fn client(&self, user: &str) -> Client {
        Client::connect_as(&self.engine, LineProtocol::default(), Some(user)).await
    }

    /// A client of this user that listens to a topic.
    pub(crate) async fn listener(&self, user: &str, topic: &str) -> Client {
        let mut client = self.client(user).await;
        client.subscribe(topic);
        reads(&mut client, &format!("subscribed {topic}")).await;
        client
    }

    /// Who listens to a topic, as this node sees it.
    pub(crate) async fn users(&self, topic: &str) -> Vec<String> {
        let topic: Topic = topic.parse().expect("a legal topic");
        let Ok(infos) = self.engine.presence(&topic).await else { return vec!["nobody knows".to_owned()] };
        let mut users: Vec<String> = infos.iter().map(|info| info.user.to_string()).collect();
        users.sort_unstable();
        users
    }

    /// Waits until these users listen, as this node sees it.
    pub(crate) async fn sees(&self, topic: &str, users: &[&str]) {
        let waits = async {
            while self.users(topic).await != users {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let are_seen = timeout(LONG, waits).await.is_ok();
        assert!(are_seen, "not {users:?}, but {:?}", self.users(topic).await);
    }
}

impl Two {
    pub(crate) async fn new() -> Self {
        let server = Server::start().await;
        let (a, b) = (Fellow::new(&server, "a").await, Fellow::new(&server, "b").await);
        until("they know each other", || a.node.known().len() == 2 && b.node.known().len() == 2).await;
        Self { server, a, b }
    }

    /// Waits until B's lease is over, as A knows it.
    pub(crate) async fn b_is_lost(&self) {
        let is_b_lost = || self.a.node.known().iter().any(|node| node.about.id == self.b.id() && node.is_lost);
        until("B is lost", is_b_lost).await;
    }
}

/// Reads up to and with the first line that begins so.
pub(crate) async fn reads(client: &mut Client, beginning: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let reading = async {
        loop {
            lines.push(client.next().await);
            if lines.last().is_some_and(|line| line.starts_with(beginning) || line == "finished") {
                return;
            }
        }
    };
    assert!(timeout(LONG, reading).await.is_ok(), "no {beginning} in {lines:?}");
    assert!(lines.last().is_some_and(|line| line.starts_with(beginning)), "no {beginning} in {lines:?}");
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_know_each_other_until_they_say_goodbye() {
    let two = Two::new().await;
    let known = two.a.node.known();
    let b = known.iter().find(|node| node.about.id == two.b.id()).expect("it is known");
    assert_eq!((&*b.about.name, &*b.about.version, &*b.about.settings, b.is_lost), ("b", "1.0.0", "same", false));
    two.b.node.leave().await;
    until("B is known no more", || two.a.node.known().len() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_say_goodbye_is_known_as_lost_and_learns_it() {
    let two = Two::new().await;
    two.b.cut();
    two.b_is_lost().await;
    until("B knows that it is cut off", || two.b.node.standing() == Standing::CutOff).await;
    assert!(two.b.node.trouble().is_some() && !two.b.node.is_back());
    two.b.cure().await;
    until("B is known", || two.a.node.known().iter().all(|node| !node.is_lost)).await;
}
