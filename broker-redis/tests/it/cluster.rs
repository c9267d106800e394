//! A cluster: what every backplane must do, and what it notices of slots that move and servers that go.

use std::{sync::Arc, time::Duration};

use broker_core::{
    Backplane, GapReason, Revocation, Revoked, Topic,
    testing::{backplane_suite, presence_suite, registry_suite},
};
use broker_redis::{Options, RedisBackplane, Servers};
use broker_resp::{
    Command, Target,
    testing::{Cluster, ClusterShape, Proxy, Server},
};
use tokio::time::Instant;

use crate::{
    load::{Load, Outcome},
    nodes::{Fellow, reads},
    sentinel::until_links,
    world::{backplane_on, until},
};

const QUICK: ClusterShape = ClusterShape { primaries: 3, replicas: 0, node_timeout: Duration::from_secs(1) };
const REPLICATED: ClusterShape = ClusterShape { primaries: 3, replicas: 1, node_timeout: Duration::from_secs(1) };

fn servers(cluster: &Cluster) -> Servers {
    Servers::Cluster(cluster.servers.iter().take(2).map(Server::target).collect())
}

/// So many topics whose slots a server has.
async fn topics_of(cluster: &Cluster, server: usize, count: usize) -> Vec<Topic> {
    let mut topics = Vec::new();
    for n in 0.. {
        if topics.len() == count {
            break;
        }
        if cluster.owner(&format!("{{t:{n}}}")).await == server {
            topics.push(format!("t:{n}").parse().expect("a legal topic"));
        }
    }
    topics
}

/// Nothing is lost, nothing is kept twice, everything is in order.
fn all_kept_once(outcomes: &[Outcome]) {
    for outcome in outcomes {
        assert_eq!(outcome.kept, outcome.published, "{}", outcome.topic);
        assert!(outcome.longest < Duration::from_secs(5), "a publish to {} took {:?}", outcome.topic, outcome.longest);
        let told = outcome.gaps.iter().all(|reason| *reason == GapReason::Epoch);
        assert!(told, "{}: {:?}", outcome.topic, outcome.gaps);
        assert!(outcome.received == outcome.published.len() || !outcome.gaps.is_empty(), "{}", outcome.topic);
    }
}

async fn cluster_call(server: &Server, words: &[&str]) -> String {
    server.call(&Command::new("CLUSTER").args(words)).await.text().unwrap_or_default().to_owned()
}

/// Moves a slot as an operator's tool does.
async fn move_slot(cluster: &Cluster, slot: u16, from: usize, to: usize, held_open: Duration) {
    let (source, target) = (&cluster.servers[from], &cluster.servers[to]);
    let (source_id, target_id) = (cluster_call(source, &["MYID"]).await, cluster_call(target, &["MYID"]).await);
    let slot = slot.to_string();
    cluster_call(target, &["SETSLOT", &slot, "IMPORTING", &source_id]).await;
    cluster_call(source, &["SETSLOT", &slot, "MIGRATING", &target_id]).await;
    tokio::time::sleep(held_open).await;
    loop {
        let keys = source.call(&Command::new("CLUSTER").arg("GETKEYSINSLOT").arg(&slot).arg(100)).await.into_values().unwrap_or_default();
        if keys.is_empty() {
            break;
        }
        let keys = keys.into_iter().filter_map(broker_resp::Value::into_bytes);
        let migrate = Command::new("MIGRATE").arg("127.0.0.1").arg(target.port()).arg("").arg(0).arg(5000).arg("KEYS");
        source.call(&migrate.args(keys)).await;
    }
    for server in [target, source] {
        cluster_call(server, &["SETSLOT", &slot, "NODE", &target_id]).await;
    }
}

async fn slot_of(cluster: &Cluster, topic: &Topic) -> u16 {
    let slot = cluster.servers[0].call(&Command::new("CLUSTER").arg("KEYSLOT").arg(format!("broker:{{{topic}}}"))).await;
    slot.integer().and_then(|slot| u16::try_from(slot).ok()).expect("a slot")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_passes_and_ten_thousand_topics_take_one_link_to_each_primary() {
    let cluster = Cluster::start(QUICK).await;
    backplane_suite(Arc::new(backplane_on(servers(&cluster)).await)).await;
    // Somebody who may do everything, but is not the default user.
    for server in &cluster.servers {
        server.call(&Command::new("ACL").arg("SETUSER").args(["app", "on", ">secret", "~*", "&*", "+@all"])).await;
    }
    let targets = cluster.servers.iter().map(|server: &Server| -> Target { server.target().user("app", "secret") });
    let redis = backplane_on(Servers::Cluster(targets.collect())).await;
    let topics: Vec<(Topic, bool)> = (0..10_000).map(|n| (format!("t:{n}").parse().expect("a legal topic"), true)).collect();
    redis.interest(&topics).await.expect("all are heard");
    let mut heard = 0;
    for server in &cluster.servers {
        let list = server.call(&Command::new("CLIENT").arg("LIST")).await;
        let links: Vec<&str> = list.text().unwrap_or_default().lines().filter(|line| line.contains("name=broker-bus ")).collect();
        let own = links.iter().filter(|line| line.contains("user=app")).count();
        assert_eq!(own, 1, "{links:#?}");
        let channels = server.call(&Command::new("PUBSUB").arg("SHARDCHANNELS").arg("broker:{t:*")).await;
        heard += channels.values().map_or(0, <[_]>::len);
    }
    assert_eq!(heard, 10_000);
    let others: Vec<(Topic, bool)> = topics.into_iter().map(|(topic, _)| (topic, false)).collect();
    redis.interest(&others).await.expect("all are given up");
    for server in &cluster.servers {
        let channels = server.call(&Command::new("PUBSUB").arg("SHARDCHANNELS").arg("broker:{t:*")).await;
        assert_eq!(channels.values().map(<[_]>::len), Some(0));
    }
    assert_eq!(redis.health().troubles, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_know_and_ask_each_other() {
    let cluster = Cluster::start(QUICK).await;
    let mut nodes = Vec::new();
    for name in ["a", "b"] {
        let unused = Proxy::start(cluster.servers[0].address()).await;
        nodes.push(Fellow::with(backplane_on(servers(&cluster)).await, unused, name).await);
    }
    until("they know each other", || nodes.iter().all(|node| node.node.known().len() == 2)).await;
    let mut client = nodes[1].client("ris1").await;
    let gone = nodes[0].engine.revoke(Revocation::now(Revoked::User("ris1".into()))).await;
    assert_eq!(gone.expect("all answer"), 1);
    reads(&mut client, "finished").await;
    presence_suite(&*nodes[0].node.presence()).await;
    registry_suite(&*nodes[0].node.registry()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_that_move_under_load_cost_nobody_a_publication() {
    let cluster = Cluster::start(QUICK).await;
    let topics = topics_of(&cluster, 0, 4).await;
    let load = Load::start(&servers(&cluster), &topics).await;
    for (n, topic) in topics.iter().enumerate() {
        let slot = slot_of(&cluster, topic).await;
        // Held open for a moment, nothing can be published; and back again.
        move_slot(&cluster, slot, 0, 1, Duration::from_millis(if n == 0 { 500 } else { 0 })).await;
        load.goes_on().await;
        if n == 1 {
            move_slot(&cluster, slot, 1, 0, Duration::ZERO).await;
            load.goes_on().await;
        }
    }
    let troubles: Vec<_> = load.nodes.iter().flat_map(|(_, redis)| redis.health().troubles).collect();
    assert_eq!(troubles, [""; 0]);
    let outcomes = load.end().await;
    all_kept_once(&outcomes);
    assert!(outcomes.iter().all(|outcome| !outcome.gaps.is_empty()), "a history on another server is a new epoch");
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_are_replaced_are_followed() {
    let mut cluster = Cluster::start(REPLICATED).await;
    let mut topics = topics_of(&cluster, 0, 2).await;
    topics.extend(topics_of(&cluster, 1, 2).await);
    let load = Load::start(&servers(&cluster), &topics).await;

    // A planned one.
    cluster_call(&cluster.servers[3], &["FAILOVER"]).await;
    let key = |topic: &Topic| format!("{{{topic}}}");
    until_owner(&cluster, &key(&topics[0]), 3).await;
    load.goes_on().await;
    for (_, redis) in &load.nodes {
        until("nothing is wrong", || redis.health().troubles.is_empty()).await;
    }
    until_links(&cluster.servers[3], 2).await;
    // Links to servers that have no slots are given up.
    until_links(&cluster.servers[0], 0).await;

    // A crash. Nobody was told, so nobody may believe that nothing was lost.
    cluster.servers[1].kill();
    load.goes_on().await;
    let outcomes = load.end().await;
    all_kept_once(&outcomes[..2]);
    for outcome in &outcomes[2..] {
        assert!(outcome.longest < Duration::from_secs(15), "published again after {:?}", outcome.longest);
        assert!(!outcome.gaps.is_empty(), "{}", outcome.topic);
        // What the replica had not got is lost, and told; what is there is in order.
        assert!(outcome.kept.is_sorted(), "{}", outcome.topic);
    }
}

async fn until_owner(cluster: &Cluster, key: &str, server: usize) {
    let begun = Instant::now();
    while cluster.owner(key).await != server {
        assert!(begun.elapsed() < Duration::from_secs(20), "nobody takes over");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_server_is_no_cluster_and_a_cluster_no_single_server() {
    let server = Server::start_with(&["--cluster-enabled", "yes"]).await;
    let redis = RedisBackplane::connect(Options::new(Servers::Standalone(server.target()))).expect("a legal prefix");
    until("it is told", || redis.health().troubles.iter().any(|trouble| trouble.contains("redis+cluster://"))).await;
    let server = Server::start().await;
    let redis = RedisBackplane::connect(Options::new(Servers::Cluster(vec![server.target()]))).expect("a legal prefix");
    until("it is told", || redis.health().troubles.iter().any(|trouble| trouble.contains("no part of a cluster"))).await;
}
