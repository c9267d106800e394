//! What happens to Redis' data, and that everybody is told what it means. The scenarios are those of docs/decisions/0019-redis.md.

use broker_core::{GapReason, Topic};
use broker_resp::Command;

use crate::world::{Witness, World};

fn topics() -> [Topic; 3] {
    ["t:busy", "t:quiet", "t:untouched"].map(|name| name.parse().expect("a legal topic"))
}

/// Publishes so many to a topic from both nodes; all witnesses of it have the last one.
async fn publish(world: &World, topic: &Topic, count: usize, witnesses: &mut [Witness]) {
    for n in 0..count {
        let number = world.publish(n % 2, topic).await;
        if n + 1 == count {
            for witness in &mut *witnesses {
                witness.reads(number).await;
            }
        }
    }
}

async fn witnesses(world: &World, topic: &Topic) -> [Witness; 2] {
    [world.witness(0, topic).await, world.witness(1, topic).await]
}

/// Each is told once, and of nothing else.
async fn are_told_of_a_new_epoch(witnesses: impl Iterator<Item = &mut Witness>) {
    for witness in witnesses {
        witness.reads_gap().await;
        assert_eq!(witness.gaps, [GapReason::Epoch]);
    }
}

async fn save(world: &World) {
    world.server.call(&Command::new("SAVE")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_that_comes_back_older_is_a_new_epoch_for_everybody() {
    let mut world = World::new().await;
    let [busy, quiet, untouched] = topics();
    let (mut of_busy, mut of_quiet, mut of_untouched) =
        (witnesses(&world, &busy).await, witnesses(&world, &quiet).await, witnesses(&world, &untouched).await);
    publish(&world, &busy, 10, &mut of_busy).await;
    publish(&world, &quiet, 10, &mut of_quiet).await;
    publish(&world, &untouched, 10, &mut of_untouched).await;
    save(&world).await;
    publish(&world, &busy, 5, &mut of_busy).await;
    publish(&world, &quiet, 5, &mut of_quiet).await;
    world.server.kill();
    world.server.restart().await;
    // As many as were lost: the trap, since without a new epoch the positions would be named again.
    publish(&world, &busy, 5, &mut []).await;
    are_told_of_a_new_epoch(of_busy.iter_mut().chain(&mut of_quiet).chain(&mut of_untouched)).await;
    publish(&world, &busy, 3, &mut of_busy).await;
    publish(&world, &quiet, 3, &mut of_quiet).await;
    world.truth.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_data_is_a_new_epoch_for_everybody() {
    let world = World::new().await;
    let [busy, quiet, _] = topics();
    let (mut of_busy, mut of_quiet) = (witnesses(&world, &busy).await, witnesses(&world, &quiet).await);
    publish(&world, &busy, 10, &mut of_busy).await;
    publish(&world, &quiet, 10, &mut of_quiet).await;
    world.server.call(&Command::new("FLUSHALL")).await;
    publish(&world, &busy, 1, &mut []).await;
    are_told_of_a_new_epoch(of_busy.iter_mut().chain(&mut of_quiet)).await;
    publish(&world, &busy, 3, &mut of_busy).await;
    publish(&world, &quiet, 3, &mut of_quiet).await;
    world.truth.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn forgotten_scripts_are_nobodys_business() {
    let world = World::new().await;
    let [busy, ..] = topics();
    let mut witnesses = witnesses(&world, &busy).await;
    for _ in 0..5 {
        publish(&world, &busy, 10, &mut witnesses).await;
        world.server.call(&Command::new("SCRIPT").arg("FLUSH")).await;
    }
    publish(&world, &busy, 1, &mut witnesses).await;
    assert!(witnesses.iter().all(|witness| witness.gaps.is_empty() && witness.received == 51));
    world.truth.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_log_refuses_only_what_needed_it() {
    let world = World::new().await;
    let [busy, ..] = topics();
    let mut witnesses = witnesses(&world, &busy).await;
    publish(&world, &busy, 10, &mut witnesses).await;
    world.server.call(&Command::new("DEL").arg("broker:{t:busy}:l")).await;
    publish(&world, &busy, 3, &mut witnesses).await;
    assert!(witnesses.iter().all(|witness| witness.gaps.is_empty()));
    world.truth.check();
}

/// A becomes a replica of B, which lags, and then the primary again: the process is the same, and so may be the connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_was_a_replica_meanwhile_is_a_new_epoch() {
    let world = World::new().await;
    let [busy, _, untouched] = topics();
    let (mut of_busy, mut of_untouched) = (witnesses(&world, &busy).await, witnesses(&world, &untouched).await);
    publish(&world, &busy, 10, &mut of_busy).await;
    publish(&world, &untouched, 10, &mut of_untouched).await;
    let port = world.server.port().to_string();
    let other = broker_resp::testing::Server::start_with(&["--replicaof", "127.0.0.1", &port]).await;
    until_link_is_up(&other).await;
    let become_primary = Command::new("REPLICAOF").arg("NO").arg("ONE");
    other.call(&become_primary).await;
    // Only A has these: they are lost when it follows B.
    publish(&world, &busy, 5, &mut of_busy).await;
    publish(&world, &untouched, 5, &mut of_untouched).await;
    world.server.call(&Command::new("REPLICAOF").arg("127.0.0.1").arg(other.port())).await;
    until_link_is_up(&world.server).await;
    world.server.call(&become_primary).await;
    publish(&world, &busy, 5, &mut []).await;
    for witness in of_busy.iter_mut().chain(&mut of_untouched) {
        witness.reads_gap().await;
        assert!(witness.gaps.iter().all(|reason| *reason == GapReason::Epoch), "{:?}", witness.gaps);
    }
    publish(&world, &busy, 3, &mut of_busy).await;
    publish(&world, &untouched, 3, &mut of_untouched).await;
    world.truth.check();
}

async fn until_link_is_up(replica: &broker_resp::testing::Server) {
    for _ in 0..2_000 {
        let info = replica.call(&Command::new("INFO").arg("replication")).await;
        if info.text().is_some_and(|text| text.contains("master_link_status:up")) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("the replica does not catch up");
}
