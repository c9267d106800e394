//! What the publish script does with batches, where something in them is known, refused or cannot be done, and what it remembers.

use std::{sync::Arc, time::Duration};

use broker_core::{
    Backplane, Bound, Engine, HistoryQuery, Keep, KeepState, LogQuery, Namespace, Payload, Publish, PublishFailed, Published, Request,
    StreamItem, Topic, Version, testing::Client,
};
use broker_redis::{Options, RedisBackplane, Servers};
use broker_resp::{
    Command, Target,
    testing::{Direction, Proxy, Server},
};
use futures_util::future::join_all;
use tokio::time::timeout;

use crate::world::{LONG, backplane, until};

const KEEP: Keep = Keep::history(100, Duration::from_secs(600));
const KEYED: Keep = KEEP.state(KeepState { size: 10, bytes: 100_000, ttl: Duration::from_secs(600) });

fn topic() -> Topic {
    "t:1".parse().expect("a legal topic")
}

fn publish(number: u64) -> Publish {
    Publish::new(Payload::json(number.to_string()))
}

/// A backplane that tries for as long as a busy machine may need.
async fn patient(target: Target) -> RedisBackplane {
    let mut options = Options::new(Servers::Standalone(target));
    (options.publish_timeout, options.read_timeout) = (LONG, LONG);
    let redis = RedisBackplane::connect(options).expect("a legal prefix");
    until("Redis is reached", || redis.health().troubles.is_empty()).await;
    redis
}

/// Cuts all connections before anything that is held back on them goes on.
async fn lose_what_is_held(proxy: &Proxy) {
    proxy.refuse(true);
    proxy.cut();
    proxy.has_connections(0).await;
    proxy.cure();
}

async fn set(server: &Server, name: &str, value: &str) {
    server.call(&Command::new("CONFIG").arg("SET").arg(name).arg(value)).await;
}

/// Redis says that its data is of another life, as after a restart or a promotion that lost nothing.
async fn begin_another_life(server: &Server) {
    server.call(&Command::new("HSET").arg("broker:{t:1}:m").arg("g").arg("of-before")).await;
}

async fn stays_for_ms(server: &Server, suffix: &str) -> i64 {
    let answer = server.call(&Command::new("PTTL").arg(format!("broker:{{t:1}}:{suffix}"))).await;
    answer.integer().expect("a number")
}

async fn stays_at_most(server: &Server, suffix: &str, ms: u64) {
    server.call(&Command::new("PEXPIRE").arg(format!("broker:{{t:1}}:{suffix}")).arg(ms)).await;
}

/// All at once: the first goes alone, the others wait for it and go together. The answers, in order.
async fn together(redis: &RedisBackplane, keep: Keep, all: Vec<Publish>) -> Vec<Result<Published, PublishFailed>> {
    join_all(all.into_iter().map(|publish| async move { redis.publish(&topic(), publish, keep).await })).await
}

async fn kept(redis: &RedisBackplane) -> Vec<String> {
    let page = redis.history(&topic(), LogQuery::default(), KEEP).await.expect("it is read");
    page.publications.iter().map(|publication| String::from_utf8_lossy(publication.data.bytes()).into_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_is_stored_once_also_where_an_epoch_began_in_between() {
    let server = Server::start().await;
    let redis = backplane(server.target()).await;
    let first = redis.publish(&topic(), publish(1).idempotency_key("k"), KEEP).await.expect("it is taken");
    begin_another_life(&server).await;
    let again = redis.publish(&topic(), publish(1).idempotency_key("k"), KEEP).await.expect("it is answered");
    let (first, again_at) = (first.position.expect("kept"), again.position.expect("kept"));
    assert!(again.duplicate && first.offset == again_at.offset && first.epoch != again_at.epoch, "{first} {again_at}");
    assert_eq!(kept(&redis).await, ["1"]);
    // Where nothing is known of the offsets, nothing is known of what stood at them.
    server.call(&Command::new("DEL").arg("broker:{t:1}:m")).await;
    let anew = redis.publish(&topic(), publish(1).idempotency_key("k"), KEEP).await.expect("it is taken");
    assert!(anew.is_new() && anew.position.is_some_and(|position| position.offset == 1));
}

/// The answer to a batch is lost, and another life of the data begins before it is tried again.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_without_an_answer_is_stored_once_also_in_another_epoch() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.address()).await;
    let redis = patient(proxy.target()).await;
    redis.publish(&topic(), publish(1), KEEP).await.expect("it is taken");
    proxy.black_hole(Direction::ToClient);
    let going = tokio::spawn({
        let redis = redis.clone();
        async move { redis.publish(&topic(), publish(2), KEEP).await }
    });
    let length = || async { server.call(&Command::new("LLEN").arg("broker:{t:1}:l")).await.integer() };
    while length().await != Some(2) {}
    begin_another_life(&server).await;
    lose_what_is_held(&proxy).await;
    let published = going.await.expect("no panic").expect("it is taken");
    assert_eq!(published.position.map(|position| position.offset), Some(2));
    assert_eq!(kept(&redis).await, ["1", "2"]);
}

/// The answer to a read is lost, and so is the data: the second try must not give the new life the name of the first.
#[tokio::test(flavor = "multi_thread")]
async fn each_try_of_a_read_offers_an_epoch_of_its_own() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.address()).await;
    let redis = patient(proxy.target()).await;
    kept(&redis).await;
    server.call(&Command::new("FLUSHALL")).await;
    proxy.black_hole(Direction::ToClient);
    let going = tokio::spawn({
        let redis = redis.clone();
        async move { redis.history(&topic(), LogQuery::top(), KEEP).await }
    });
    let epoch = || async { server.call(&Command::new("HGET").arg("broker:{t:1}:m").arg("e")).await.text().map(str::to_owned) };
    let first = loop {
        if let Some(epoch) = epoch().await {
            break epoch;
        }
    };
    server.call(&Command::new("FLUSHALL")).await;
    lose_what_is_held(&proxy).await;
    let page = going.await.expect("no panic").expect("it is read");
    assert_ne!(page.top.epoch.as_str(), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_a_caller_counts_once_within_a_batch() {
    let server = Server::start().await;
    let redis = backplane(server.target()).await;
    let all = (0..10).map(|n| publish(n).idempotency_key(if n % 2 == 0 { "even" } else { "odd" })).collect();
    let answers = together(&redis, KEEP, all).await;
    let at: Vec<_> = answers.into_iter().map(|answer| answer.expect("it is answered")).collect();
    assert_eq!(at.iter().map(|published| published.duplicate).collect::<Vec<_>>(), [[false; 2].as_slice(), &[true; 8]].concat());
    for (n, published) in at.iter().enumerate() {
        assert_eq!(published.position.map(|position| position.offset), Some(n as u64 % 2 + 1));
    }
    assert_eq!(kept(&redis).await, ["0", "1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_in_a_batch_leaves_the_others_in_order() {
    let server = Server::start().await;
    let redis = backplane(server.target()).await;
    let keep = KEEP.state(KeepState { size: 2, bytes: 100_000, ttl: Duration::from_secs(600) });
    let all = vec![
        publish(0),
        publish(1).key("a").version(Version::new(2)),
        publish(2).key("b"),
        // No room for a third key, until one of them is removed.
        publish(3).key("c").idempotency_key("k"),
        publish(4).key("a").version(Version::new(1)),
        Publish::remove("b"),
        publish(5).key("c").idempotency_key("k"),
        publish(6).skip_history(),
    ];
    let answers = together(&redis, keep, all).await;
    let offset = |n: usize| answers[n].as_ref().expect("it is answered").position.map(|position| position.offset);
    assert_eq!([0, 1, 2, 5, 6, 7].map(offset), [Some(1), Some(2), Some(3), Some(4), Some(5), None]);
    assert!(matches!(&answers[3], Err(PublishFailed::Full(full)) if full.bound == Bound::StateSize), "{:?}", answers[3]);
    assert!(answers[4].as_ref().is_ok_and(|published| published.outdated));
    assert!(answers[6].as_ref().is_ok_and(Published::is_new), "what was refused is not remembered");
    assert_eq!(kept(&redis).await, ["0", "1", "2", "", "5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_bounded_within_a_batch_too() {
    let server = Server::start().await;
    let mut options = Options::new(Servers::Standalone(server.target()));
    options.versions_max = 3;
    let redis = RedisBackplane::connect(options).expect("a legal prefix");
    until("Redis is reached", || redis.health().troubles.is_empty()).await;
    let all = (0..6).map(|n| publish(n).key(format!("k{n}")).version(Version::new(1))).collect();
    let answers = together(&redis, KEEP, all).await;
    let is_full =
        |answer: &Result<Published, PublishFailed>| matches!(answer, Err(PublishFailed::Full(full)) if full.bound == Bound::Versions);
    assert_eq!(answers.iter().map(is_full).collect::<Vec<_>>(), [false, false, false, true, true, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_memory_nothing_is_half_done_and_reads_go_on() {
    let server = Server::start().await;
    let redis = backplane(server.target()).await;
    let namespace = Namespace::default().history(KEEP.size, KEEP.ttl);
    let engine = Engine::builder().backplane(Arc::new(redis.clone())).namespace("t", namespace).build().expect("it starts");
    let mut stream = engine.subscribe(&topic()).expect("it is allowed");
    assert!(matches!(stream.next().await, Some(StreamItem::Live { .. })));
    redis.publish(&topic(), publish(0), KEEP).await.expect("it is taken");
    set(&server, "maxmemory", "1").await;
    let refused = [
        publish(1),
        publish(2).skip_history(),
        publish(3).idempotency_key("k"),
        publish(4).skip_history().version(Version::new(1)),
        publish(5).key("a").ttl(Duration::from_secs(5)),
    ];
    for publish in &refused {
        let answer = redis.publish(&topic(), publish.clone(), KEYED).await;
        assert!(matches!(&answer, Err(PublishFailed::NotSent(why)) if why.contains("OOM")), "{answer:?}");
    }
    let unknown: Topic = "t:unknown".parse().expect("legal");
    assert!(redis.publish(&unknown, publish(1), KEEP).await.is_err());
    let page = redis.history(&unknown, LogQuery::top(), KEEP).await.expect("whoever listens is let in");
    assert_eq!(page.top.offset, 0);
    set(&server, "maxmemory", "0").await;
    begin_another_life(&server).await;
    set(&server, "maxmemory", "1").await;
    assert_eq!(kept(&redis).await, ["0"], "also where an epoch begins");
    let mut next = async || timeout(LONG, stream.next()).await.expect("in time").expect("it goes on");
    assert!(matches!(next().await, StreamItem::Publication(_)));
    let told = next().await;
    assert!(matches!(told, StreamItem::Gap(_)), "nothing of what was refused came: {told:?}");
    set(&server, "maxmemory", "0").await;
    for publish in refused {
        assert!(redis.publish(&topic(), publish, KEEP).await.expect("it is taken").is_new());
    }
    assert_eq!(kept(&redis).await, ["0", "1", "3", "5"]);
    let mut came = Vec::new();
    while came.last().is_none_or(|last| last != "5") {
        let StreamItem::Publication(publication) = next().await else { panic!("nothing is lost") };
        came.push(String::from_utf8_lossy(publication.data.bytes()).into_owned());
    }
    assert_eq!(came, ["1", "2", "3", "4", "5"], "each once");
}

/// A user who may not send: what is kept is there, what is only sent has not happened.
#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_sent_is_not_half_done() {
    let server = Server::start().await;
    let setuser = ["w", "on", ">pw", "~*", "+@all", "resetchannels"];
    server.call(&Command::new("ACL").arg("SETUSER").args(setuser)).await;
    let all = backplane(server.target()).await;
    let mute = RedisBackplane::connect(Options::new(Servers::Standalone(server.target().user("w", "pw")))).expect("a legal prefix");
    let namespace = Namespace::default().history(KEEP.size, KEEP.ttl);
    let engine = Engine::builder().backplane(Arc::new(all.clone())).namespace("t", namespace).build().expect("it starts");
    let mut stream = engine.subscribe(&topic()).expect("it is allowed");
    assert!(matches!(stream.next().await, Some(StreamItem::Live { .. })));
    let may_publish = || mute.health().links.iter().any(|(name, state)| name == "publishes" && state.is_connected());
    until("Redis is reached", may_publish).await;
    let failed = mute.publish(&topic(), publish(1).skip_history().idempotency_key("k"), KEEP).await;
    assert!(matches!(&failed, Err(PublishFailed::NotSent(_))), "{failed:?}");
    mute.publish(&topic(), publish(2), KEEP).await.expect("it is kept");
    let item = timeout(LONG, stream.next()).await.expect("it is found by comparing tops").expect("it goes on");
    let StreamItem::Publication(publication) = item else { panic!("{item:?}") };
    assert_eq!(&publication.data.bytes()[..], b"2");
    let again = all.publish(&topic(), publish(1).skip_history().idempotency_key("k"), KEEP).await.expect("it is sent");
    assert!(again.is_new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_remembered_without_a_history_stays_for_its_time() {
    let server = Server::start().await;
    let redis = backplane(server.target()).await;
    let versioned = |number| publish(number).version(Version::new(number));
    redis.publish(&topic(), versioned(1), Keep::NOTHING).await.expect("it is taken");
    stays_at_most(&server, "m", 5_000).await;
    redis.publish(&topic(), versioned(2), Keep::NOTHING).await.expect("it is taken");
    assert!(stays_for_ms(&server, "m").await > 1_000_000, "versions are void without it");
    redis.publish(&topic(), versioned(3).skip_history(), KEEP).await.expect("it is taken");
    kept(&redis).await;
    assert!(stays_for_ms(&server, "m").await > 1_000_000, "a read takes nothing away");
    redis.remove_history(&topic()).await.expect("it is removed");
    let unknown: Topic = "t:2".parse().expect("legal");
    redis.history(&unknown, LogQuery::top(), KEEP).await.expect("it is read");
    let answer = server.call(&Command::new("PTTL").arg("broker:{t:2}:m")).await;
    assert!(answer.integer().is_some_and(|ms| ms <= 300_000), "whoever only reads leaves little behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_outlive_publications_without_a_key() {
    let server = Server::start().await;
    let redis = backplane(server.target()).await;
    redis.publish(&topic(), publish(1).key("a"), KEYED).await.expect("it is taken");
    stays_at_most(&server, "s", 5_000).await;
    stays_at_most(&server, "z", 5_000).await;
    redis.publish(&topic(), publish(2), KEYED).await.expect("it is taken");
    for suffix in ["s", "z"] {
        assert!(stays_for_ms(&server, suffix).await > stays_for_ms(&server, "m").await, "{suffix}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shifted_or_foreign_log_is_forgotten_and_read_to_its_end() {
    let server = Server::start().await;
    let redis = backplane(server.target()).await;
    for n in 1..=3 {
        redis.publish(&topic(), publish(n), KEEP).await.expect("it is taken");
    }
    server.call(&Command::new("LSET").arg("broker:{t:1}:l").arg("1").arg("foreign")).await;
    let page = redis.history(&topic(), LogQuery::default(), KEEP).await.expect("it is read");
    assert_eq!((page.kept_from, page.publications.len(), page.top.offset), (2, 2, 3));
    server.call(&Command::new("LPOP").arg("broker:{t:1}:l")).await;
    server.call(&Command::new("RPUSH").arg("broker:{t:1}:l").arg("foreign")).await;
    for reverse in [false, true] {
        let query = LogQuery { reverse, ..LogQuery::default() };
        let page = timeout(LONG, redis.history(&topic(), query, KEEP)).await.expect("it ends").expect("it is read");
        assert_eq!((page.kept_from, page.publications.len()), (3, 0), "nothing stands where it says");
    }
    assert!(redis.health().unreadable > 0);
}

/// State that goes sooner than anybody looks every minute: it stays while somebody listens.
#[tokio::test(flavor = "multi_thread")]
async fn a_state_of_seconds_stays_while_somebody_listens() {
    let server = Server::start().await;
    let redis = backplane(server.target()).await;
    let state = KeepState { size: 10, bytes: 100_000, ttl: Duration::from_secs(4) };
    let keep = Keep::history(10, Duration::from_secs(1)).state(state);
    let namespace = Namespace::default().history(keep.size, keep.ttl).keyed().state_ttl(state.ttl);
    let engine = Engine::builder().backplane(Arc::new(redis.clone())).namespace("t", namespace).build().expect("it starts");
    let mut stream = engine.subscribe(&topic()).expect("it is allowed");
    assert!(matches!(stream.next().await, Some(StreamItem::Live { .. })));
    engine.publish(&topic(), publish(1).key("a")).await.expect("it is taken");
    let epoch = redis.history(&topic(), LogQuery::top(), keep).await.expect("it is read").top.epoch;
    let (mut last, mut prolonged, begun) = (stays_for_ms(&server, "m").await, 0, std::time::Instant::now());
    while prolonged < 3 {
        let stays = stays_for_ms(&server, "m").await;
        prolonged += i32::from(stays > last + 300);
        last = stays;
        assert!(begun.elapsed() < LONG, "nobody keeps it alive");
    }
    let state = redis.state(&topic(), broker_core::StateQuery::default(), keep).await.expect("it is read");
    assert_eq!((state.rows.len(), state.top.epoch), (1, epoch));
}

/// What one client sends in one write is few calls, in its order, and answered in it.
#[tokio::test(flavor = "multi_thread")]
async fn publishes_of_one_session_go_together() {
    let server = Server::start().await;
    let redis = patient(server.target()).await;
    let namespace = Namespace::open().history(100, Duration::from_secs(600));
    let engine = Engine::builder().backplane(Arc::new(redis)).namespace("t", namespace);
    let engine = engine.with_settings(|settings| settings.anonymous = true).build().expect("it starts");
    let mut client = Client::connect(&engine).await;
    // The script is known from here on.
    client.publish("t:1", "0");
    client.next().await;
    server.call(&Command::new("CONFIG").arg("RESETSTAT")).await;
    let requests = (1..=16).map(|n| Request::Publish {
        topic: topic(),
        data: Payload::json(n.to_string()),
        key: None,
        idempotency_key: None,
        removed: false,
    });
    client.send_all(requests);
    let answers = timeout(LONG, client.take(16)).await.expect("all are answered");
    let expected: Vec<String> = (2..=17).map(|offset| format!("published t:1 at {offset}")).collect();
    assert_eq!(answers, expected);
    let stats = server.call(&Command::new("INFO").arg("commandstats")).await;
    let stats = stats.text().expect("INFO is text");
    let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_publish:calls=")?.split(',').next()?.parse::<u32>().ok());
    assert!(calls.is_some_and(|calls| calls <= 4), "16 publications went in {calls:?} messages");
    let page = engine.history(&topic(), HistoryQuery { limit: 100, ..HistoryQuery::default() }).await.expect("it is read");
    let kept: Vec<String> = page.publications.iter().map(|kept| String::from_utf8_lossy(kept.data.bytes()).into_owned()).collect();
    assert_eq!(kept, (0..=16).map(|n| n.to_string()).collect::<Vec<_>>());
}
