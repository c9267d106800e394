//! Nodes are killed, stand still or are replaced, and connections of clients break; Redis and the links to it are well.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use broker_resp::testing::Direction;
use serde_json::json;

use super::SECOND;
use crate::{
    heard::crowding,
    node::DRAIN_TIMEOUT,
    world::{QUIET_TOPIC, World},
};

pub(super) async fn calm(world: &mut World) -> Result<()> {
    world.wait(3 * SECOND).await;
    Ok(())
}

pub(super) async fn kill_node(world: &mut World) -> Result<()> {
    for node in 0..2 {
        world.wait_about(2 * SECOND).await;
        world.nodes[node].kill().await?;
        world.send_clients(node, 1 - node);
        world.watch(&[node]);
        world.wait_about(2 * SECOND).await;
        world.nodes[node].run().await?;
        world.send_clients(node, node);
    }
    world.wait(SECOND).await;
    Ok(())
}

/// A node says nothing for so long before the others take it for lost, and what it left is cleared away a little later.
const LOST_WITHIN: Duration = Duration::from_secs(40);

/// Clients of a killed node cannot come back, so that everybody there has gone. Presence must say so, and `revoke` that one node did not answer.
pub(super) async fn lost_node(world: &mut World) -> Result<()> {
    world.wait_about(SECOND).await;
    let all = present(world).await?;
    let gone = world.random.usize(0..2);
    let here = 1 - gone;
    let both = nodes_of(world, here).await?;
    ensure!(both.len() == 2, "the nodes do not know each other: {both:?}");
    world.fronts[gone].refuse(true);
    world.nodes[gone].kill().await?;
    let (status, answer) = world.publisher.ask("revoke", &json!({"user": "nobody"}), here).await.map_err(anyhow::Error::msg)?;
    let text = answer.to_string();
    let begun = Instant::now();
    while present(world).await? != all / 2 {
        ensure!(begun.elapsed() < LOST_WITHIN, "presence still has sessions of the lost node");
        world.wait(SECOND / 5).await;
    }
    let survivors = nodes_of(world, here).await?;
    ensure!(survivors.len() == 1, "the lost node is still one of {survivors:?}");
    let names_the_lost = both.iter().all(|node| text.contains(node.as_str()) != survivors.contains(node));
    ensure!(status == 503 && names_the_lost, "revoke beside a lost node is answered {status} {text}");
    world.nodes[gone].run().await?;
    world.fronts[gone].cure();
    while present(world).await? != all {
        ensure!(begun.elapsed() < 2 * LOST_WITHIN, "presence does not have everybody again");
        world.wait(SECOND / 5).await;
    }
    Ok(())
}

/// The nodes that a node knows.
async fn nodes_of(world: &World, node: usize) -> Result<Vec<String>> {
    let (_, answer) = world.publisher.ask("info", &json!({}), node).await.map_err(anyhow::Error::msg)?;
    let nodes = answer["result"]["nodes"].as_array().context("no list of nodes")?;
    Ok(nodes.iter().filter_map(|node| node["uid"].as_str()).map(str::to_owned).collect())
}

/// How many sessions listen to a topic, as a node that runs says.
async fn present(world: &World) -> Result<u64> {
    for node in 0..world.nodes.len() {
        if let Ok((200, answer)) = world.publisher.ask("presence_stats", &json!({"channel": crate::world::FIRST_TOPIC}), node).await {
            return answer["result"]["num_clients"].as_u64().context("no number of sessions");
        }
    }
    bail!("no node says who is present")
}

pub(super) async fn stop_node(world: &mut World) -> Result<()> {
    world.wait_about(2 * SECOND).await;
    world.nodes[0].pause(true)?;
    world.wait_about(10 * SECOND).await;
    world.nodes[0].pause(false)?;
    world.wait(4 * SECOND).await;
    Ok(())
}

/// A node that drains sends a client away each millisecond, over half of its time at most.
const SENT_AWAY_EVERY: Duration = Duration::from_millis(1);
/// All clients of a drained node are back after so long.
const BACK_WITHIN: Duration = Duration::from_secs(10);

pub(super) async fn rolling(world: &mut World) -> Result<()> {
    for node in 0..2 {
        world.wait_about(2 * SECOND).await;
        world.send_clients(node, 1 - node);
        let begun = Instant::now();
        world.nodes[node].terminate().await?;
        spread(world, begun).await?;
        world.nodes[node].run().await?;
        world.send_clients(node, node);
        // They go home, so that the other node drains as many.
        world.fronts[node].cut();
        world.wait(SECOND).await;
    }
    world.wait(3 * SECOND).await;
    Ok(())
}

/// Clients come back to the other node as evenly as a node sends them away: at most twice as many in a tenth of a second as if it were even.
async fn spread(world: &World, begun: Instant) -> Result<()> {
    let returned = || -> Vec<Instant> {
        let subscribed = world.heard.subscribed.lock();
        subscribed.iter().filter(|(at, topic)| *at >= begun && topic == QUIET_TOPIC).map(|(at, _)| *at).collect()
    };
    while returned().len() < world.crowd && begun.elapsed() < BACK_WITHIN {
        world.wait(SECOND / 10).await;
    }
    let moments = returned();
    let (most, tenths) = crowding(&moments);
    let sent_away = (DRAIN_TIMEOUT / 2).min(SENT_AWAY_EVERY * u32::try_from(moments.len())?);
    let even = moments.len() as f64 / (sent_away.as_secs_f64() * 10.0);
    eprintln!("{} came back within {tenths} tenths of a second, {most} in one of them, {even:.0} if it were even", moments.len());
    ensure!(moments.len() >= world.crowd, "only {} came back", moments.len());
    ensure!(most as f64 <= 2.0 * even, "{most} came back in a tenth of a second, {even:.0} if it were even");
    Ok(())
}

pub(super) async fn cut_clients(world: &mut World) -> Result<()> {
    for _ in 0..10 {
        world.wait_about(SECOND).await;
        for front in &world.fronts {
            front.cut();
        }
    }
    world.wait(2 * SECOND).await;
    Ok(())
}

pub(super) async fn blackhole_clients(world: &mut World) -> Result<()> {
    for _ in 0..2 {
        world.wait_about(2 * SECOND).await;
        world.fronts[0].black_hole(Direction::Both);
        world.wait_about(6 * SECOND).await;
        world.fronts[0].cure();
    }
    world.wait(4 * SECOND).await;
    Ok(())
}
