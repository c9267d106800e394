//! What the network does to the bus and the links, and what the listeners notice of it: nothing, but for the time.

use std::{sync::Arc, time::Duration};

use broker_core::{Engine, Namespace, Payload, Publish, Since, StreamItem, Topic};
use broker_resp::{
    Command, Push,
    testing::{Chances, Direction, Fate, Proxy, Server},
};
use tokio::time::{Instant, timeout};

use crate::world::{LONG, World, backplane, until};

fn topic() -> Topic {
    "t:1".parse().expect("a legal topic")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_message_of_a_burst_is_noticed_within_two_seconds() {
    let world = World::new().await;
    let mut witness = world.witness(1, &topic()).await;
    for _ in 0..5 {
        let number = world.publish(0, &topic()).await;
        witness.reads(number).await;
        world.nodes[1].proxy.judge_pushes(|push| {
            if matches!(push, Push::Message { channel, .. } if channel.ends_with(b"t:1}")) { Fate::Drop } else { Fate::Pass }
        });
        let number = world.publish(0, &topic()).await;
        let begun = Instant::now();
        witness.reads(number).await;
        assert!(begun.elapsed() <= Duration::from_secs(2), "noticed after {:?}", begun.elapsed());
        world.nodes[1].proxy.pass_pushes();
    }
    assert_eq!((witness.gaps.len(), witness.received), (0, 10));
    assert_eq!(world.nodes[1].redis.health().tops_missed, 5);
    world.truth.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_bus_loses_and_doubles_is_read_and_passed_over() {
    let world = World::new().await;
    let mut witnesses = [world.witness(0, &topic()).await, world.witness(1, &topic()).await];
    for node in &world.nodes {
        node.proxy.draw_fates(Chances { seed: 7, drop: 0.2, double: 0.2, withhold: 0.0 });
    }
    let mut number = 0;
    for n in 0..300 {
        number = world.publish(n % 2, &topic()).await;
    }
    for witness in &mut witnesses {
        witness.reads(number).await;
        assert_eq!((witness.gaps.len(), witness.received), (0, 300));
    }
    world.truth.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deaf_bus_is_noticed_and_replaced() {
    let world = World::new().await;
    let mut witness = world.witness(1, &topic()).await;
    world.nodes[1].proxy.judge_pushes(|push| if matches!(push, Push::Message { .. }) { Fate::Drop } else { Fate::Pass });
    let begun = Instant::now();
    until("the node says that its bus is deaf", || !world.nodes[1].redis.health().troubles.is_empty()).await;
    assert!(begun.elapsed() <= Duration::from_secs(5), "noticed after {:?}", begun.elapsed());
    // The new connection is as deaf: what is published comes by the comparison of tops.
    let number = world.publish(0, &topic()).await;
    witness.reads(number).await;
    world.nodes[1].proxy.pass_pushes();
    until("the bus is well again", || world.nodes[1].redis.health().troubles.is_empty()).await;
    let number = world.publish(0, &topic()).await;
    witness.reads(number).await;
    assert_eq!(witness.gaps.len(), 0);
    world.truth.check();
}

/// F13: however the probes fall, within five seconds.
#[tokio::test(flavor = "multi_thread")]
async fn twenty_deaf_buses_are_each_noticed_in_time() {
    let server = Server::start().await;
    let mut nodes = Vec::new();
    for _ in 0..20 {
        let proxy = Proxy::start(server.address()).await;
        nodes.push((backplane(proxy.target()).await, proxy));
        // Their probes are not in step.
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..100))).await;
    }
    let became_deaf = Instant::now();
    for (_, proxy) in &nodes {
        proxy.judge_pushes(|push| if matches!(push, Push::Message { .. }) { Fate::Drop } else { Fate::Pass });
    }
    for (redis, _) in &nodes {
        until("each says that its bus is deaf", || redis.health().troubles.iter().any(|trouble| trouble.contains("delivers nothing")))
            .await;
        assert!(redis.health().deaf > 0);
    }
    assert!(became_deaf.elapsed() <= Duration::from_secs(5), "the last one was noticed after {:?}", became_deaf.elapsed());
    for (_, proxy) in &nodes {
        proxy.pass_pushes();
    }
    let cured = Instant::now();
    for (redis, _) in &nodes {
        until("each is well again", || redis.health().troubles.is_empty()).await;
    }
    assert!(cured.elapsed() <= Duration::from_secs(5), "the last one was well after {:?}", cured.elapsed());
}

/// A long history takes its time where each way there and back does: no deadline is for all of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_history_is_read_over_a_slow_way() {
    const COUNT: u64 = 20_000;
    let server = Server::start().await;
    let proxy = Proxy::start(server.address()).await;
    let redis = Arc::new(backplane(proxy.target()).await);
    let namespace = Namespace::default().history(50_000, Duration::from_secs(600));
    let engine = Engine::builder().backplane(redis).namespace("t", namespace);
    let engine = engine.with_settings(|settings| settings.backplane_timeout = Duration::from_secs(1)).build().expect("it starts");
    // Each waits for its own answer, so not all at once: the last ones would wait for all before them.
    for first in (1..=COUNT).step_by(1_000) {
        let publishes = (first..first + 1_000).map(|n| {
            let engine = engine.clone();
            async move { engine.publish(&topic(), Publish::new(Payload::json(n.to_string()))).await.map(drop) }
        });
        futures_util::future::try_join_all(publishes).await.expect("all are taken");
    }
    proxy.delay(Duration::from_millis(40));
    let begun = Instant::now();
    let mut stream = engine.subscribe_since(&topic(), Some(Since::Beginning)).expect("it is allowed");
    let mut expected = 1;
    while expected <= COUNT {
        match timeout(LONG, stream.next()).await.expect("it goes on in time").expect("it does not end") {
            StreamItem::Publication(publication) => {
                assert_eq!(publication.position.map(|position| position.offset), Some(expected));
                expected += 1;
            }
            StreamItem::Gap(gap) => panic!("nothing is missing: {gap:?}"),
            _ => {}
        }
    }
    assert!(begun.elapsed() > Duration::from_secs(2), "the way was not slow: {:?}", begun.elapsed());
    assert_eq!(engine.stats().backplane_timeouts.value(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_node_reads_what_it_missed() {
    let world = World::new().await;
    let mut witness = world.witness(1, &topic()).await;
    for _ in 0..5 {
        world.nodes[1].proxy.refuse(true);
        world.nodes[1].proxy.cut();
        for _ in 0..20 {
            world.publish(0, &topic()).await;
        }
        world.nodes[1].proxy.cure();
        let begun = Instant::now();
        let number = world.publish(0, &topic()).await;
        witness.reads(number).await;
        assert!(begun.elapsed() < Duration::from_secs(5), "back after {:?}", begun.elapsed());
    }
    assert_eq!((witness.gaps.len(), witness.received), (0, 105));
    world.truth.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_open_link_is_dropped_and_replaced() {
    let world = World::new().await;
    let mut witness = world.witness(1, &topic()).await;
    world.nodes[1].proxy.black_hole(Direction::Both);
    for _ in 0..20 {
        world.publish(0, &topic()).await;
    }
    until("the node notices", || world.nodes[1].redis.health().troubles.len() >= 3).await;
    world.nodes[1].proxy.cure();
    let begun = Instant::now();
    let number = world.publish(1, &topic()).await;
    witness.reads(number).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "back after {:?}", begun.elapsed());
    assert_eq!((witness.gaps.len(), witness.received), (0, 21));
    world.truth.check();
}

/// What skips the history says where the log stands: it must not hide that something before it was lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_loss_before_something_without_a_position_is_noticed() {
    let world = World::new().await;
    let mut stream = world.nodes[1].engine.subscribe(&topic()).expect("it is allowed");
    let mut next = async || timeout(LONG, stream.next()).await.expect("it comes in time").expect("it goes on");
    assert!(matches!(next().await, StreamItem::Live { .. }));
    world.publish(0, &topic()).await;
    assert!(matches!(next().await, StreamItem::Publication(one) if one.position.is_some_and(|position| position.offset == 1)));
    let mut is_lost = false;
    world.nodes[1].proxy.judge_pushes(move |push| match push {
        Push::Message { channel, .. } if channel.ends_with(b"t:1}") && !std::mem::replace(&mut is_lost, true) => Fate::Drop,
        _ => Fate::Pass,
    });
    world.publish(0, &topic()).await;
    let typing = Publish::new(Payload::json("\"typing\"")).skip_history();
    world.nodes[0].engine.publish(&topic(), typing).await.expect("it is sent");
    let mut came = Vec::new();
    for _ in 0..2 {
        let StreamItem::Publication(publication) = next().await else { panic!("nothing is lost") };
        came.push(publication.position.map(|position| position.offset));
    }
    came.sort_unstable();
    assert_eq!(came, [None, Some(2)]);
}

/// A connection that is back: topics of which nothing was missed cost a look, not a read.
#[tokio::test(flavor = "multi_thread")]
async fn only_topics_that_missed_something_are_read_when_the_bus_is_back() {
    let world = World::new().await;
    let quiet: Vec<Topic> = (0..1_000).map(|n| format!("t:quiet{n}").parse().expect("legal")).collect();
    let mut streams: Vec<_> = quiet.iter().map(|topic| world.nodes[1].engine.subscribe(topic).expect("it is allowed")).collect();
    for stream in &mut streams {
        assert!(matches!(timeout(LONG, stream.next()).await, Ok(Some(StreamItem::Live { .. }))));
    }
    let mut witness = world.witness(1, &topic()).await;
    world.server.call(&Command::new("CONFIG").arg("RESETSTAT")).await;
    world.nodes[1].proxy.refuse(true);
    world.nodes[1].proxy.cut();
    let number = world.publish(0, &topic()).await;
    world.nodes[1].proxy.cure();
    witness.reads(number).await;
    until("the node is well", || world.nodes[1].redis.health().troubles.is_empty()).await;
    let begun = Instant::now();
    while calls(&world, "hmget").await < 1_001 {
        assert!(begun.elapsed() < LONG, "all are looked at: {}", calls(&world, "hmget").await);
    }
    let scripts = calls(&world, "evalsha").await;
    assert!(calls(&world, "lrange").await < 100 && scripts < 100, "{scripts} scripts");
    assert_eq!(witness.gaps.len(), 0);
    world.truth.check();
}

/// How often the server has done a command since it was asked to count anew.
async fn calls(world: &World, name: &str) -> usize {
    let stats = world.server.call(&Command::new("INFO").arg("commandstats")).await;
    let line = stats.text().and_then(|text| text.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:calls="))));
    line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or_default()
}

/// The data of many topics begins another life: each listener is told, and Redis is asked twice for each topic.
#[tokio::test(flavor = "multi_thread")]
async fn every_topic_is_told_of_another_epoch_for_two_commands() {
    let world = World::new().await;
    let topics: Vec<Topic> = (0..500).map(|n| format!("t:{n}").parse().expect("legal")).collect();
    let mut streams: Vec<_> = topics.iter().map(|topic| world.nodes[1].engine.subscribe(topic).expect("it is allowed")).collect();
    for stream in &mut streams {
        assert!(matches!(timeout(LONG, stream.next()).await, Ok(Some(StreamItem::Live { .. }))));
    }
    world.server.call(&Command::new("CONFIG").arg("RESETSTAT")).await;
    world.server.call(&Command::new("FLUSHALL")).await;
    for stream in &mut streams {
        assert!(matches!(timeout(LONG, stream.next()).await, Ok(Some(StreamItem::Gap(_)))));
    }
    let stats = world.server.call(&Command::new("INFO").arg("commandstats")).await;
    let line = stats.text().and_then(|text| text.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls=")));
    let calls: usize = line.and_then(|line| line.split(',').next()?.parse().ok()).expect("there were some");
    assert!((500..600).contains(&calls), "{calls} scripts");
}

/// Who wants to listen while Redis is gone is refused for now; who listens goes on by itself, and is told.
#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_gone_nobody_is_let_in_and_nobody_is_forgotten() {
    let mut world = World::new().await;
    let other: Topic = "t:2".parse().expect("legal");
    let mut witness = world.witness(1, &topic()).await;
    let number = world.publish(0, &topic()).await;
    witness.reads(number).await;
    world.server.kill();
    let mut refused = world.nodes[1].engine.subscribe(&other).expect("it is allowed");
    assert!(timeout(LONG, refused.next()).await.expect("it is not left waiting").is_none());
    world.server.restart().await;
    witness.reads_gap().await;
    let mut let_in = world.nodes[1].engine.subscribe(&other).expect("it is allowed");
    assert!(matches!(timeout(LONG, let_in.next()).await, Ok(Some(StreamItem::Live { position: Some(_) }))));
    let number = world.publish(0, &topic()).await;
    witness.reads(number).await;
    world.truth.check();
}
