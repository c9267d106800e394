//! Nodes on many servers, with publishers and witnesses that are busy while something happens to the servers. What is compared lives in `world`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use broker_core::{Backplane, Engine, GapReason, Keep, LogQuery, Namespace, Topic};
use broker_redis::{RedisBackplane, Servers};
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout},
};

use crate::world::{LONG, Truth, Witness, backplane_on};

const KEEP: Keep = Keep::history(50_000, Duration::from_secs(600));

/// Two nodes, and somebody who publishes to each topic on one and somebody who listens on the other.
pub(crate) struct Load {
    pub(crate) nodes: Vec<(Engine, RedisBackplane)>,
    truth: Arc<Truth>,
    topics: Vec<Busy>,
    stop: Arc<AtomicBool>,
}

struct Busy {
    topic: Topic,
    publisher: JoinHandle<(Vec<u64>, Duration)>,
    witness: JoinHandle<Witness>,
    published: Arc<AtomicU64>,
    /// The witness is at its end behind this number.
    end: Arc<AtomicU64>,
}

/// What became of one topic.
pub(crate) struct Outcome {
    pub(crate) topic: Topic,
    /// What was acknowledged, in order.
    pub(crate) published: Vec<u64>,
    /// The longest that one of them took, all its tries together.
    pub(crate) longest: Duration,
    /// What is kept in the end, in order.
    pub(crate) kept: Vec<u64>,
    pub(crate) gaps: Vec<GapReason>,
    pub(crate) received: usize,
}

impl Load {
    pub(crate) async fn start(servers: &Servers, topics: &[Topic]) -> Self {
        let mut nodes = Vec::new();
        for _ in 0..2 {
            let redis = backplane_on(servers.clone()).await;
            let namespace = Namespace::default().history(KEEP.size, KEEP.ttl);
            let engine = Engine::builder().backplane(Arc::new(redis.clone())).namespace("t", namespace).build().expect("it starts");
            nodes.push((engine, redis));
        }
        let mut load = Self { nodes, truth: Arc::default(), topics: Vec::new(), stop: Arc::default() };
        for (n, topic) in topics.iter().enumerate() {
            let busy = load.busy(topic, n % 2).await;
            load.topics.push(busy);
        }
        load.goes_on().await;
        load
    }

    async fn busy(&self, topic: &Topic, node: usize) -> Busy {
        let (published, end) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(u64::MAX)));
        let stream = self.nodes[1 - node].0.subscribe(topic).expect("it is allowed");
        let mut witness = Witness::new(stream, self.truth.clone(), format!("witness of {topic}")).await;
        let witness = tokio::spawn({
            let end = end.clone();
            async move {
                while witness.read_one().await.is_none_or(|number| number <= end.load(Relaxed)) {}
                witness
            }
        });
        let publisher = tokio::spawn({
            let (truth, engine, topic, stop, published) =
                (self.truth.clone(), self.nodes[node].0.clone(), topic.clone(), self.stop.clone(), published.clone());
            async move {
                let (mut numbers, mut longest) = (Vec::new(), Duration::ZERO);
                while !stop.load(Relaxed) {
                    let begun = Instant::now();
                    numbers.push(truth.publish(&engine, &topic).await);
                    longest = longest.max(begun.elapsed());
                    published.fetch_add(1, Relaxed);
                }
                (numbers, longest)
            }
        });
        Busy { topic: topic.clone(), publisher, witness, published, end }
    }

    /// Waits until each topic has had a hundred more publications.
    pub(crate) async fn goes_on(&self) {
        for busy in &self.topics {
            let enough = busy.published.load(Relaxed) + 100;
            crate::world::until(&format!("{} is published to", busy.topic), || busy.published.load(Relaxed) >= enough).await;
        }
    }

    /// Ends it: the witnesses get what comes last. No position names two publications, and each comes behind the one before or a gap was told.
    pub(crate) async fn end(self) -> Vec<Outcome> {
        self.stop.store(true, Relaxed);
        let mut outcomes = Vec::new();
        for busy in self.topics {
            let (mut published, longest) = busy.publisher.await.expect("the publisher is well");
            let last = self.truth.publish(&self.nodes[0].0, &busy.topic).await;
            busy.end.store(last, Relaxed);
            published.extend([last, self.truth.publish(&self.nodes[1].0, &busy.topic).await]);
            let witness = timeout(LONG, busy.witness).await.unwrap_or_else(|_| panic!("the witness of {} does not get {last}", busy.topic));
            let witness = witness.expect("the witness is well");
            let page = self.nodes[0].1.history(&busy.topic, LogQuery::default(), KEEP).await.expect("it is read");
            let number = |bytes: &[u8]| std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()).expect("a number");
            let kept: Vec<u64> = page.publications.iter().map(|publication| number(publication.data.bytes())).collect();
            outcomes.push(Outcome { topic: busy.topic, published, longest, kept, gaps: witness.gaps.clone(), received: witness.received });
        }
        self.truth.check();
        outcomes
    }
}
