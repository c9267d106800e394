//! Links between nodes and Redis break, hang, are slow, or deliver too little or too much; Redis is well.

use anyhow::Result;
use broker_resp::{
    Push,
    testing::{Direction, Fate},
};
use std::time::Duration;

use super::SECOND;
use crate::world::World;

pub(super) async fn cut_backplane(world: &mut World) -> Result<()> {
    world.wait_about(2 * SECOND).await;
    let node = world.random.usize(0..2);
    cut(world, &[node]).await
}

pub(super) async fn cut_backplane_both(world: &mut World) -> Result<()> {
    world.wait_about(2 * SECOND).await;
    cut(world, &[0, 1]).await
}

async fn cut(world: &mut World, nodes: &[usize]) -> Result<()> {
    for node in nodes {
        world.links[*node].refuse(true);
        world.links[*node].cut();
    }
    world.wait(2 * SECOND).await;
    world.wait_about(3 * SECOND).await;
    world.are_not_ready(nodes).await?;
    for node in nodes {
        world.links[*node].cure();
    }
    world.cured(nodes);
    world.wait(4 * SECOND).await;
    Ok(())
}

pub(super) async fn blackhole_backplane(world: &mut World) -> Result<()> {
    world.wait_about(2 * SECOND).await;
    let node = world.random.usize(0..2);
    let direction = [Direction::Both, Direction::ToServer, Direction::ToClient][world.random.usize(0..3)];
    black_hole(world, &[node], direction, 12 * SECOND).await
}

pub(super) async fn blackhole_backplane_both(world: &mut World) -> Result<()> {
    world.wait_about(2 * SECOND).await;
    black_hole(world, &[0, 1], Direction::Both, 60 * SECOND).await
}

async fn black_hole(world: &mut World, nodes: &[usize], direction: Direction, time: Duration) -> Result<()> {
    for node in nodes {
        world.links[*node].black_hole(direction);
    }
    world.wait(time).await;
    world.are_not_ready(nodes).await?;
    for node in nodes {
        world.links[*node].cure();
    }
    world.cured(nodes);
    world.wait(6 * SECOND).await;
    Ok(())
}

pub(super) async fn slow_backplane(world: &mut World) -> Result<()> {
    world.wait_about(2 * SECOND).await;
    for link in &world.links {
        link.delay(Duration::from_millis(250));
    }
    world.wait(6 * SECOND).await;
    for link in &world.links {
        link.cure();
    }
    world.wait(2 * SECOND).await;
    Ok(())
}

pub(super) async fn drop_pubsub(world: &mut World) -> Result<()> {
    let probability = 0.05 + world.random.f64() * 0.15;
    draw(world, probability, Fate::Drop).await
}

pub(super) async fn dup_pubsub(world: &mut World) -> Result<()> {
    draw(world, 0.3, Fate::Double).await
}

async fn draw(world: &mut World, probability: f64, fate: Fate) -> Result<()> {
    for node in 0..world.links.len() {
        let mut random = world.random.fork();
        world.judge_messages(node, move || if random.f64() < probability { fate } else { Fate::Pass });
    }
    world.wait(8 * SECOND).await;
    Ok(())
}

/// The last publication of every topic is lost on the way to one node, and nothing follows: it can only be noticed by looking.
pub(super) async fn lose_last(world: &mut World) -> Result<()> {
    world.wait_about(2 * SECOND).await;
    world.end_publishing().await?;
    for _ in 0..3 {
        world.wait_about(SECOND).await;
        world.judge_messages(1, || Fate::Drop);
        world.watch(&[1]);
        world.publish_all().await?;
        world.wait(3 * SECOND).await;
        world.links[1].pass_pushes();
    }
    Ok(())
}

/// Nothing arrives on the link that listens, probes neither, and it stays open.
pub(super) async fn deaf_bus(world: &mut World) -> Result<()> {
    world.wait_about(2 * SECOND).await;
    let node = world.random.usize(0..2);
    world.links[node].judge_pushes(|push| if matches!(push, Push::Message { .. }) { Fate::Drop } else { Fate::Pass });
    // What is published meanwhile is read from the history.
    world.watch(&[node]);
    world.wait(8 * SECOND).await;
    world.are_not_ready(&[node]).await?;
    world.links[node].pass_pushes();
    world.cured(&[node]);
    world.wait(5 * SECOND).await;
    Ok(())
}
