//! Two nodes on one Redis, each behind a proxy of its own, witnesses that listen on both, and what was really published.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use broker_core::{Engine, Epoch, GapReason, Namespace, Payload, Position, Publish, StreamItem, Topic, TopicStream};
use broker_redis::{Options, RedisBackplane, Servers};
use broker_resp::{
    Target,
    testing::{Proxy, Server},
};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};

/// Nothing that must happen takes longer.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// A backplane that has reached its server.
pub(crate) async fn backplane(target: Target) -> RedisBackplane {
    backplane_on(Servers::Standalone(target)).await
}

/// A backplane that has reached its servers.
pub(crate) async fn backplane_on(servers: Servers) -> RedisBackplane {
    let redis = RedisBackplane::connect(Options::new(servers)).expect("a legal prefix");
    until("Redis is reached", || redis.health().troubles.is_empty()).await;
    redis
}

/// Waits for what must happen.
pub(crate) async fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !happened() {
        assert!(begun.elapsed() < LONG, "it does not happen: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// What was published, and every promise that was broken about it.
#[derive(Default)]
pub(crate) struct Truth {
    /// What a position named first, by an answer to a publish or to a witness.
    named: Mutex<HashMap<(Epoch, u64), u64>>,
    broken: Mutex<Vec<String>>,
    next: AtomicU64,
}

impl Truth {
    fn name(&self, position: Position, number: u64) {
        let mut named = self.named.lock();
        let first = *named.entry((position.epoch, position.offset)).or_insert(number);
        if first != number {
            self.broken.lock().push(format!("{position} names {first} and {number}"));
        }
    }

    fn broken(&self, what: String) {
        self.broken.lock().push(what);
    }

    /// Ends a test: no promise was broken.
    pub(crate) fn check(&self) {
        let broken = self.broken.lock();
        assert!(broken.is_empty(), "{broken:#?}");
    }
}

/// One node.
pub(crate) struct Node {
    pub(crate) engine: Engine,
    pub(crate) redis: RedisBackplane,
    pub(crate) proxy: Proxy,
}

/// Two nodes and their Redis.
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) nodes: Vec<Node>,
    pub(crate) truth: Arc<Truth>,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(&[]).await
    }

    /// With these settings of the server.
    pub(crate) async fn with(settings: &[&str]) -> Self {
        let server = Server::start_with(settings).await;
        let mut nodes = Vec::new();
        for _ in 0..2 {
            let proxy = Proxy::start(server.address()).await;
            let redis = backplane(proxy.target()).await;
            let namespace = Namespace::default().history(1_000, Duration::from_secs(600));
            let engine = Engine::builder().backplane(Arc::new(redis.clone())).namespace("t", namespace).build().expect("it starts");
            nodes.push(Node { engine, redis, proxy });
        }
        Self { server, nodes, truth: Arc::default() }
    }

    /// Publishes the next number on a node, again and again with the same key until that is answered. The number.
    pub(crate) async fn publish(&self, node: usize, topic: &Topic) -> u64 {
        self.truth.publish(&self.nodes[node].engine, topic).await
    }

    /// Somebody listens on a node.
    pub(crate) async fn witness(&self, node: usize, topic: &Topic) -> Witness {
        let stream = self.nodes[node].engine.subscribe(topic).expect("it is allowed");
        Witness::new(stream, self.truth.clone(), format!("witness of {topic} on node {node}")).await
    }
}

impl Truth {
    /// Publishes the next number, again and again with the same key until that is answered. The number.
    pub(crate) async fn publish(&self, engine: &Engine, topic: &Topic) -> u64 {
        let number = self.next.fetch_add(1, Relaxed);
        let publish = Publish::new(Payload::json(number.to_string())).idempotency_key(number.to_string());
        let begun = Instant::now();
        loop {
            match engine.publish(topic, publish.clone()).await {
                Ok(published) => {
                    self.name(published.position.expect("it is kept"), number);
                    return number;
                }
                Err(error) => assert!(begun.elapsed() < LONG, "a publish is never taken: {error}"),
            }
            sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Somebody who listens, and compares.
pub(crate) struct Witness {
    stream: TopicStream,
    truth: Arc<Truth>,
    name: String,
    pub(crate) last: Position,
    /// Gaps that were told, by why.
    pub(crate) gaps: Vec<GapReason>,
    pub(crate) received: usize,
}

impl Witness {
    pub(crate) async fn new(mut stream: TopicStream, truth: Arc<Truth>, name: String) -> Self {
        let first = timeout(LONG, stream.next()).await.expect("it is live in time");
        let Some(StreamItem::Live { position: Some(last) }) = first else { panic!("{name} begins with {first:?}") };
        Self { stream, truth, name, last, gaps: Vec::new(), received: 0 }
    }

    /// Reads until this number has come, or a gap that it may be in.
    pub(crate) async fn reads(&mut self, number: u64) {
        let name = self.name.clone();
        timeout(LONG, async { while self.read_one().await.is_none_or(|read| read < number) {} }).await.unwrap_or_else(|_| {
            panic!("{name} never gets {number}, it stands at {}", self.last);
        });
    }

    /// Reads until a gap is told.
    pub(crate) async fn reads_gap(&mut self) {
        let before = self.gaps.len();
        timeout(LONG, async {
            while self.gaps.len() == before {
                self.read_one().await;
            }
        })
        .await
        .unwrap_or_else(|_| panic!("{} is told of no gap, it stands at {}", self.name, self.last));
    }

    /// The number of a publication; `None`: a gap.
    pub(crate) async fn read_one(&mut self) -> Option<u64> {
        match self.stream.next().await.expect("the stream goes on") {
            StreamItem::Publication(publication) => {
                let position = publication.position.expect("it is kept");
                let number = std::str::from_utf8(publication.data.bytes()).ok().and_then(|text| text.parse().ok()).expect("a number");
                self.truth.name(position, number);
                if position.epoch != self.last.epoch || position.offset != self.last.offset + 1 {
                    self.truth.broken(format!("{}: {position} comes behind {}", self.name, self.last));
                }
                self.last = position;
                self.received += 1;
                Some(number)
            }
            StreamItem::Gap(gap) => {
                self.last = gap.to.expect("a gap says where it ends");
                self.gaps.push(gap.reason);
                None
            }
            other => panic!("{}: {other:?}", self.name),
        }
    }
}
