//! What the network does to the bus and the links, and what the listeners notice of it: nothing, but for the time.

use std::time::Duration;

use broker_core::Topic;
use broker_resp::{
    Push,
    testing::{Chances, Direction, Fate},
};
use tokio::time::Instant;

use crate::world::{World, until};

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
