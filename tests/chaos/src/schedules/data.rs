//! Redis goes, comes back with its data, with older data or with none, or is another server.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use broker_resp::Command;

use super::SECOND;
use crate::world::World;

pub(super) async fn kill_redis(world: &mut World) -> Result<()> {
    world.wait_about(2 * SECOND).await;
    world.redis.kill();
    world.wait(30 * SECOND).await;
    world.are_not_ready(&[0, 1]).await?;
    world.redis.restart().await;
    world.cured(&[0, 1]);
    world.wait(6 * SECOND).await;
    Ok(())
}

pub(super) async fn restart_redis(world: &mut World) -> Result<()> {
    for _ in 0..3 {
        world.wait_about(2 * SECOND).await;
        world.redis.kill();
        world.wait_about(SECOND).await;
        world.redis.restart().await;
        world.cured(&[0, 1]);
    }
    world.wait(4 * SECOND).await;
    Ok(())
}

pub(super) async fn shutdown_save(world: &mut World) -> Result<()> {
    for _ in 0..2 {
        world.wait_about(2 * SECOND).await;
        world.redis.shut_down().await;
        world.wait_about(SECOND).await;
        world.redis.restart().await;
    }
    world.wait(2 * SECOND).await;
    Ok(())
}

/// The kernel has what Redis wrote, so that only a machine that crashes loses the end of the file: it is cut off by hand, anywhere, also in the middle of a command.
pub(super) async fn aof_tail(world: &mut World) -> Result<()> {
    for _ in 0..2 {
        world.wait_about(3 * SECOND).await;
        world.redis.kill();
        let folder = world.redis.folder().join("appendonlydir");
        let newest =
            folder.read_dir()?.flatten().map(|entry| entry.path()).filter(|path| path.to_string_lossy().ends_with(".incr.aof")).max();
        let file = std::fs::OpenOptions::new().write(true).open(newest.context("no file of appended commands")?)?;
        let len = file.metadata()?.len();
        file.set_len(len - world.random.u64(1..=len / 3))?;
        world.redis.restart().await;
    }
    world.wait(2 * SECOND).await;
    Ok(())
}

pub(super) async fn rollback(world: &mut World) -> Result<()> {
    world.wait_about(2 * SECOND).await;
    world.tell_redis(&["SAVE"]).await;
    world.wait_about(2 * SECOND).await;
    world.redis.kill();
    world.redis.restart().await;
    world.wait(3 * SECOND).await;
    Ok(())
}

/// While Redis is gone nobody publishes; then as many are published as were lost, so that the old positions would be named again.
pub(super) async fn rollback_trap(world: &mut World) -> Result<()> {
    for _ in 0..2 {
        world.wait_about(2 * SECOND).await;
        world.tell_redis(&["SAVE"]).await;
        let lost = Duration::from_millis(1 + world.random.u64(1..2000));
        world.wait(lost).await;
        for link in &world.links {
            link.refuse(true);
            link.cut();
        }
        world.redis.kill();
        world.redis.restart().await;
        for link in &world.links {
            link.cure();
        }
        world.wait(lost).await;
        for front in &world.fronts {
            front.cut();
        }
    }
    world.wait(3 * SECOND).await;
    Ok(())
}

pub(super) async fn failover(world: &mut World) -> Result<()> {
    world.wait_about(3 * SECOND).await;
    world.redis.kill();
    promote_replica(world).await?;
    world.wait(3 * SECOND).await;
    Ok(())
}

/// The replica hears nothing for two seconds before it is promoted.
pub(super) async fn failover_lag(world: &mut World) -> Result<()> {
    world.wait_about(2 * SECOND).await;
    let replica = world.replica.as_ref().context("no replica")?;
    replica.call(&Command::new("REPLICAOF").arg("127.0.0.1").arg(1)).await;
    world.wait(2 * SECOND).await;
    world.redis.kill();
    promote_replica(world).await?;
    world.wait(3 * SECOND).await;
    Ok(())
}

/// The primary waits for its replica and hands over; nodes are led to the new one.
pub(super) async fn failover_planned(world: &mut World) -> Result<()> {
    world.wait_about(2 * SECOND).await;
    world.tell_redis(&["FAILOVER"]).await;
    follows(world).await?;
    lead_to(world, true)?;
    world.wait(3 * SECOND).await;
    Ok(())
}

/// The replica is promoted with a lag, the old primary follows it, and is promoted again: the same process, with other data.
pub(super) async fn there_and_back(world: &mut World) -> Result<()> {
    world.wait_about(2 * SECOND).await;
    part(world).await?;
    world.wait_about(SECOND).await;
    follow_and_promote(world).await?;
    world.wait(3 * SECOND).await;
    Ok(())
}

pub(super) async fn there_and_back_followed(world: &mut World) -> Result<()> {
    world.wait_about(2 * SECOND).await;
    part(world).await?;
    world.wait_about(SECOND).await;
    lead_to(world, true)?;
    world.wait_about(2 * SECOND).await;
    follow_and_promote(world).await?;
    lead_to(world, false)?;
    world.wait(3 * SECOND).await;
    Ok(())
}

/// The first replica makes Redis keep a backlog, under a new generation.
pub(super) async fn first_replica(world: &mut World) -> Result<()> {
    world.wait_about(2 * SECOND).await;
    world.attach_replica().await;
    world.wait(3 * SECOND).await;
    Ok(())
}

pub(super) async fn dataloss(world: &mut World) -> Result<()> {
    for _ in 0..3 {
        world.wait_about(2 * SECOND).await;
        world.tell_redis(&["FLUSHALL"]).await;
    }
    world.wait(2 * SECOND).await;
    Ok(())
}

pub(super) async fn meta_evicted(world: &mut World) -> Result<()> {
    for _ in 0..3 {
        world.wait_about(2 * SECOND).await;
        world.evict(":m").await?;
    }
    world.wait(2 * SECOND).await;
    Ok(())
}

/// Only who needs what is gone may be told: clients are away for a moment, and it goes meanwhile.
pub(super) async fn log_evicted(world: &mut World) -> Result<()> {
    for _ in 0..3 {
        world.wait_about(2 * SECOND).await;
        world.fronts[0].refuse(true);
        world.fronts[0].cut();
        world.wait_about(SECOND).await;
        world.evict(":l").await?;
        world.fronts[0].cure();
    }
    world.wait(3 * SECOND).await;
    Ok(())
}

/// Redis has less memory than is published, and throws something out: what was not used for long, anything, or what ends soonest.
pub(super) async fn eviction(world: &mut World) -> Result<()> {
    for policy in ["allkeys-lru", "allkeys-random", "volatile-lru", "volatile-ttl"] {
        world.redis.call(&Command::new("CONFIG").arg("SET").arg("maxmemory-policy").arg(policy)).await;
        for n in 0..60 {
            let filler = "x".repeat(60_000);
            let set = Command::new("SET").arg(format!("filler:{policy}:{n}")).arg(filler).arg("EX").arg(1 + world.random.u64(1..600));
            // With nothing left to throw out it is refused, as publishes are.
            let _ = world.redis.try_call(&set).await;
            world.wait(Duration::from_millis(30)).await;
        }
    }
    let evicted = world.tell_redis(&["INFO", "stats"]).await;
    let evicted = evicted.text().and_then(|text| text.lines().find_map(|line| line.strip_prefix("evicted_keys:").map(str::to_owned)));
    ensure!(evicted.is_some_and(|number| number.trim() != "0"), "nothing was evicted");
    // What is published at the end needs memory too.
    world.redis.call(&Command::new("CONFIG").arg("SET").arg("maxmemory").arg(0)).await;
    Ok(())
}

pub(super) async fn script_flush(world: &mut World) -> Result<()> {
    for _ in 0..20 {
        world.wait_about(SECOND / 2).await;
        world.tell_redis(&["SCRIPT", "FLUSH"]).await;
    }
    Ok(())
}

/// Redis saves its data and loads it again, in one step.
pub(super) async fn debug_reload(world: &mut World) -> Result<()> {
    for _ in 0..3 {
        world.wait_about(2 * SECOND).await;
        world.tell_redis(&["DEBUG", "RELOAD"]).await;
    }
    world.wait(SECOND).await;
    Ok(())
}

/// The replica becomes primary and no longer hears the old one.
async fn part(world: &World) -> Result<()> {
    let replica = world.replica.as_ref().context("no replica")?;
    replica.call(&Command::new("REPLICAOF").arg("NO").arg("ONE")).await;
    Ok(())
}

async fn promote_replica(world: &World) -> Result<()> {
    part(world).await?;
    lead_to(world, true)
}

/// Nodes find the other server behind the same address, as behind a proxy or a name.
fn lead_to(world: &World, to_replica: bool) -> Result<()> {
    let server = if to_replica { world.replica.as_ref().context("no replica")? } else { &world.redis };
    for link in &world.links {
        link.point_to(server.address());
        link.cut();
    }
    Ok(())
}

/// The first server takes over the data of the second one, and is primary again.
async fn follow_and_promote(world: &World) -> Result<()> {
    let port = world.replica.as_ref().context("no replica")?.port();
    world.redis.call(&Command::new("REPLICAOF").arg("127.0.0.1").arg(port)).await;
    follows(world).await?;
    world.redis.call(&Command::new("REPLICAOF").arg("NO").arg("ONE")).await;
    Ok(())
}

/// Waits until the first server follows the second one.
async fn follows(world: &World) -> Result<()> {
    for _ in 0..1_000 {
        let info = world.redis.call(&Command::new("INFO").arg("replication")).await;
        if info.text().is_some_and(|text| text.contains("role:slave") && text.contains("master_link_status:up")) {
            return Ok(());
        }
        world.wait(Duration::from_millis(10)).await;
    }
    anyhow::bail!("the old primary does not follow the new one")
}
