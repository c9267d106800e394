//! What goes wrong, and when: one function for each fault, named after it.

use std::{future::Future, pin::Pin, time::Duration};

use anyhow::Result;
use broker_resp::{
    Command, Push,
    testing::{Chances, Direction, Fate},
};

use crate::world::{Shape, World};

/// One kind of fault.
pub(crate) struct Schedule {
    pub(crate) name: &'static str,
    /// Which rows of docs/failures it shows.
    pub(crate) shows: &'static str,
    pub(crate) shape: Shape,
    pub(crate) run: for<'a> fn(&'a mut World) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>,
    /// Whether clients must be told of a loss: nothing else would be true.
    pub(crate) must_signal: bool,
    /// Whether nobody may be told of a loss: nothing is lost.
    pub(crate) must_not_signal: bool,
    /// Clients must have something again this long after the cure, 99 of 100.
    pub(crate) heal_max: Option<Duration>,
    /// Part of the short run.
    pub(crate) is_short: bool,
}

const SECOND: Duration = Duration::from_secs(1);

macro_rules! schedule {
    ($name:ident, $shows:literal, $run:expr $(, $field:ident = $value:expr)*) => {{
        #[allow(unused_mut)]
        let mut schedule = Schedule {
            name: stringify!($name),
            shows: $shows,
            shape: Shape::default(),
            run: |world| Box::pin($run(world)),
            must_signal: false,
            must_not_signal: false,
            heal_max: None,
            is_short: false,
        };
        $(schedule.$field = $value;)*
        schedule
    }};
}

/// All of them.
pub(crate) fn all() -> Vec<Schedule> {
    let replica = Shape { replica: true, ..Shape::default() };
    let durable = Shape { redis: &["--appendonly", "yes", "--appendfsync", "always"], durable: true, replica: false };
    let small = Shape { redis: &["--maxmemory", "4mb", "--maxmemory-policy", "allkeys-lru"], ..Shape::default() };
    vec![
        schedule!(calm, "nothing goes wrong", calm, must_not_signal = true),
        schedule!(kill_redis, "F4", kill_redis),
        schedule!(restart_redis, "F5", restart_redis, shape = durable, must_not_signal = true),
        schedule!(rollback, "F6", rollback, must_signal = true, is_short = true),
        schedule!(rollback_trap, "F6", rollback_trap, must_signal = true),
        schedule!(failover, "F7", failover, shape = replica, must_signal = true),
        schedule!(failover_lag, "F7", failover_lag, shape = replica, must_signal = true),
        schedule!(there_and_back, "F7: A, B, A", there_and_back, shape = replica, must_signal = true),
        schedule!(dataloss, "F8", dataloss, must_signal = true),
        schedule!(script_flush, "F8", script_flush, must_not_signal = true),
        schedule!(eviction, "F8", eviction, shape = small),
        schedule!(cut_backplane, "F9", cut_backplane, must_not_signal = true, heal_max = Some(Duration::from_millis(500))),
        schedule!(blackhole_backplane, "F2, F9", blackhole_backplane, must_not_signal = true, heal_max = Some(5 * SECOND)),
        schedule!(kill_node, "F10", kill_node, must_not_signal = true, heal_max = Some(Duration::from_millis(500)), is_short = true),
        schedule!(stop_node, "F10", stop_node, must_not_signal = true),
        schedule!(drop_pubsub, "F11", drop_pubsub, must_not_signal = true, is_short = true),
        schedule!(dup_pubsub, "F11", dup_pubsub, must_not_signal = true),
        schedule!(lose_last, "F12", lose_last, must_not_signal = true, heal_max = Some(2 * SECOND)),
        schedule!(deaf_bus, "F13", deaf_bus, must_not_signal = true),
        schedule!(cut_clients, "F14", cut_clients, must_not_signal = true),
        schedule!(blackhole_clients, "F2", blackhole_clients, must_not_signal = true),
        schedule!(rolling, "F16", rolling, must_not_signal = true),
        schedule!(slow_backplane, "F26", slow_backplane, must_not_signal = true),
    ]
}

async fn calm(world: &mut World) -> Result<()> {
    world.wait(5 * SECOND).await;
    Ok(())
}

async fn kill_redis(world: &mut World) -> Result<()> {
    world.wait_about(2 * SECOND).await;
    world.redis.kill();
    world.wait(30 * SECOND).await;
    world.redis.restart().await;
    world.heard.mark();
    world.wait(5 * SECOND).await;
    Ok(())
}

async fn restart_redis(world: &mut World) -> Result<()> {
    for _ in 0..3 {
        world.wait_about(2 * SECOND).await;
        world.redis.kill();
        world.wait_about(SECOND).await;
        world.redis.restart().await;
    }
    world.wait(2 * SECOND).await;
    Ok(())
}

async fn rollback(world: &mut World) -> Result<()> {
    world.wait_about(2 * SECOND).await;
    world.tell_redis(&["SAVE"]).await;
    world.wait_about(2 * SECOND).await;
    world.redis.kill();
    world.redis.restart().await;
    world.wait(3 * SECOND).await;
    Ok(())
}

/// While Redis is gone nobody publishes; then as many are published as were lost, so that the old positions would be named again.
async fn rollback_trap(world: &mut World) -> Result<()> {
    for _ in 0..2 {
        world.wait_about(2 * SECOND).await;
        world.tell_redis(&["SAVE"]).await;
        let lost = 1 + world.random.u64(1..2000);
        world.wait(Duration::from_millis(lost)).await;
        for link in &world.links {
            link.refuse(true);
            link.cut();
        }
        world.redis.kill();
        world.redis.restart().await;
        for link in &world.links {
            link.cure();
        }
        world.wait(Duration::from_millis(lost)).await;
        for front in &world.fronts {
            front.cut();
        }
    }
    world.wait(3 * SECOND).await;
    Ok(())
}

async fn promote(world: &mut World) {
    let Some(replica) = &world.replica else { return };
    replica.call(&Command::new("REPLICAOF").arg("NO").arg("ONE")).await;
    for link in &world.links {
        link.point_to(replica.address());
        link.cut();
    }
}

async fn failover(world: &mut World) -> Result<()> {
    world.wait_about(3 * SECOND).await;
    world.redis.kill();
    promote(world).await;
    world.wait(3 * SECOND).await;
    Ok(())
}

/// The replica hears nothing for two seconds before it is promoted.
async fn failover_lag(world: &mut World) -> Result<()> {
    world.wait_about(2 * SECOND).await;
    let Some(replica) = &world.replica else { return Ok(()) };
    replica.call(&Command::new("REPLICAOF").arg("127.0.0.1").arg(1)).await;
    world.wait(2 * SECOND).await;
    world.redis.kill();
    promote(world).await;
    world.wait(3 * SECOND).await;
    Ok(())
}

/// The replica is promoted with a lag, the old primary follows it, and is promoted again: the same process, with other data.
async fn there_and_back(world: &mut World) -> Result<()> {
    world.wait_about(2 * SECOND).await;
    let Some(replica) = &world.replica else { return Ok(()) };
    replica.call(&Command::new("REPLICAOF").arg("NO").arg("ONE")).await;
    let port = replica.port();
    world.wait_about(SECOND).await;
    world.redis.call(&Command::new("REPLICAOF").arg("127.0.0.1").arg(port)).await;
    for _ in 0..1_000 {
        let info = world.redis.call(&Command::new("INFO").arg("replication")).await;
        if info.text().is_some_and(|text| text.contains("master_link_status:up")) {
            break;
        }
        world.wait(Duration::from_millis(10)).await;
    }
    world.redis.call(&Command::new("REPLICAOF").arg("NO").arg("ONE")).await;
    world.wait(3 * SECOND).await;
    Ok(())
}

async fn dataloss(world: &mut World) -> Result<()> {
    for _ in 0..3 {
        world.wait_about(2 * SECOND).await;
        world.tell_redis(&["FLUSHALL"]).await;
    }
    world.wait(2 * SECOND).await;
    Ok(())
}

async fn script_flush(world: &mut World) -> Result<()> {
    for _ in 0..20 {
        world.wait_about(SECOND / 2).await;
        world.tell_redis(&["SCRIPT", "FLUSH"]).await;
    }
    Ok(())
}

/// Redis has less memory than is published, and throws out what was not used for long.
async fn eviction(world: &mut World) -> Result<()> {
    for n in 0..200 {
        let filler = "x".repeat(20_000);
        world.redis.call(&Command::new("SET").arg(format!("filler{n}")).arg(filler)).await;
        world.wait(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn cut_backplane(world: &mut World) -> Result<()> {
    world.wait_about(2 * SECOND).await;
    world.links[0].refuse(true);
    world.links[0].cut();
    world.wait_about(4 * SECOND).await;
    world.links[0].cure();
    // A link tries again after two seconds at most.
    world.heard.mark();
    world.wait(3 * SECOND).await;
    Ok(())
}

async fn blackhole_backplane(world: &mut World) -> Result<()> {
    world.wait_about(2 * SECOND).await;
    world.links[1].black_hole(Direction::Both);
    world.wait(60 * SECOND).await;
    world.links[1].cure();
    world.heard.mark();
    world.wait(6 * SECOND).await;
    Ok(())
}

async fn kill_node(world: &mut World) -> Result<()> {
    world.wait_about(2 * SECOND).await;
    world.nodes[0].kill().await?;
    world.send_clients(0, 1);
    world.heard.mark();
    world.wait_about(3 * SECOND).await;
    world.nodes[0].run().await?;
    world.wait(2 * SECOND).await;
    Ok(())
}

async fn stop_node(world: &mut World) -> Result<()> {
    world.wait_about(2 * SECOND).await;
    world.nodes[0].pause(true)?;
    world.wait_about(10 * SECOND).await;
    world.nodes[0].pause(false)?;
    world.wait(4 * SECOND).await;
    Ok(())
}

async fn drop_pubsub(world: &mut World) -> Result<()> {
    for link in &world.links {
        link.draw_fates(Chances { seed: world.random.u64(..), drop: 0.05 + world.random.f64() * 0.15, double: 0.0, withhold: 0.0 });
    }
    world.wait(8 * SECOND).await;
    Ok(())
}

async fn dup_pubsub(world: &mut World) -> Result<()> {
    for link in &world.links {
        link.draw_fates(Chances { seed: world.random.u64(..), drop: 0.0, double: 0.3, withhold: 0.0 });
    }
    world.wait(8 * SECOND).await;
    Ok(())
}

/// The last publication of every topic is lost on the way to one node.
async fn lose_last(world: &mut World) -> Result<()> {
    world.wait_about(3 * SECOND).await;
    world.links[1].judge_pushes(|push| match push {
        Push::Message { channel, .. } if channel.windows(6).any(|part| part == b"chaos:") => Fate::Drop,
        _ => Fate::Pass,
    });
    world.publisher.goes_on.store(false, std::sync::atomic::Ordering::Relaxed);
    world.heard.mark();
    world.wait(3 * SECOND).await;
    world.links[1].pass_pushes();
    Ok(())
}

async fn deaf_bus(world: &mut World) -> Result<()> {
    world.wait_about(2 * SECOND).await;
    world.links[1].judge_pushes(|push| if matches!(push, Push::Message { .. }) { Fate::Drop } else { Fate::Pass });
    world.wait(8 * SECOND).await;
    world.links[1].pass_pushes();
    world.heard.mark();
    world.wait(4 * SECOND).await;
    Ok(())
}

async fn cut_clients(world: &mut World) -> Result<()> {
    for _ in 0..10 {
        world.wait_about(SECOND).await;
        for front in &world.fronts {
            front.cut();
        }
    }
    world.wait(2 * SECOND).await;
    Ok(())
}

async fn blackhole_clients(world: &mut World) -> Result<()> {
    for _ in 0..2 {
        world.wait_about(2 * SECOND).await;
        world.fronts[0].black_hole(Direction::Both);
        world.wait_about(6 * SECOND).await;
        world.fronts[0].cure();
    }
    world.heard.mark();
    world.wait(5 * SECOND).await;
    Ok(())
}

async fn rolling(world: &mut World) -> Result<()> {
    for n in 0..2 {
        world.wait_about(2 * SECOND).await;
        world.send_clients(n, 1 - n);
        world.nodes[n].terminate().await?;
        world.nodes[n].run().await?;
        world.send_clients(n, n);
    }
    world.wait(3 * SECOND).await;
    Ok(())
}

async fn slow_backplane(world: &mut World) -> Result<()> {
    world.wait_about(2 * SECOND).await;
    for link in &world.links {
        link.delay(Duration::from_millis(250));
    }
    world.wait(8 * SECOND).await;
    for link in &world.links {
        link.cure();
    }
    world.wait(2 * SECOND).await;
    Ok(())
}
