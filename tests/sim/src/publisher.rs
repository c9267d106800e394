//! Those who publish numbered data: with and without history, with retries of the same key, and not for everybody.

use std::{sync::Arc, time::Duration};

use broker_core::{Except, Payload, Publish, PublishError, Published, Topic};
use fastrand::Rng;
use tokio::time::sleep;

use crate::{
    client::{USERS, any_key, payload},
    follower::Promise,
    wants::{CLASSES, TAG},
    world::{Phase, World},
};

/// Times that one publication is tried.
const TRIES_MAX: usize = 4;

/// Publishes until the storm is over.
pub(crate) async fn publish_until_calm(name: usize, world: Arc<World>, mut rng: Rng) {
    let mut number = 0;
    while world.phase() == Phase::Storm {
        // Bursts, so that inboxes and backlogs fill.
        let burst = if rng.u8(0..12) == 0 { rng.usize(5..20) } else { 1 };
        for _ in 0..burst {
            number += 1;
            let (topic, promise) = world.any_topic(&mut rng);
            publish(&world, &topic, promise, &format!("p{name}n{number}"), &mut rng).await;
        }
        sleep(Duration::from_millis(rng.u64(1..50))).await;
    }
}

/// Publishes once to every topic, when faults are over.
pub(crate) async fn publish_to_all(world: &World, name: &str) {
    let Some(engine) = world.engine() else { return };
    for (topic, promise) in &world.topics {
        let data = Payload::json(format!(r#"{{"n":"{name}","pad":"","t":"{topic}"}}"#));
        let publish = if promise.keyed { Publish::new(data).key("k0") } else { Publish::new(data) };
        if let Err(error) = engine.publish(topic, publish).await {
            world.violated(format!("{topic}: a publish failed without faults: {error}"));
        }
    }
}

async fn publish(world: &World, topic: &Topic, promise: Promise, name: &str, rng: &mut Rng) {
    let (mut publish, data) = if promise.keyed { row(topic, name, rng) } else { plain(topic, name, rng) };
    if rng.u8(0..3) > 0 {
        publish = publish.tags([(TAG.to_owned(), CLASSES[rng.usize(0..CLASSES.len())].to_owned())].into());
    }
    if rng.u8(0..15) == 0 {
        publish = publish.ttl(Duration::from_millis(rng.u64(50..3_000)));
    }
    if rng.u8(0..10) == 0 {
        let session = world.any_session(rng).map(|session| Except::nobody().session(session));
        let user = Except::nobody().user(USERS[rng.usize(0..USERS.len())]);
        publish = publish.except(session.filter(|_| rng.bool()).unwrap_or(user));
    }
    // What is not kept is no row, and a client that keeps rows could not tell.
    let is_kept = !promise.bare && (promise.keyed || rng.u8(0..20) > 0);
    if !is_kept {
        publish = publish.skip_history();
    }
    // A key is remembered as long as the log is: without a position it could not be said whether a double is one.
    let has_key = is_kept && rng.u8(0..3) == 0;
    if has_key {
        publish = publish.idempotency_key(name);
    }
    let again = has_key && rng.u8(0..4) == 0;
    let mut first: Option<Published> = None;
    for _ in 0..TRIES_MAX {
        let Some(engine) = world.engine() else { return };
        let published = engine.publish(topic, publish.clone()).await;
        drop(engine);
        world.trace(|| format!("{name} to {topic}: {published:?}"));
        match published {
            Ok(published) => {
                check(world, topic, &data, published, first);
                if !again || first.is_some() {
                    return;
                }
                first = Some(published);
            }
            // Without a key a retry would be another publication.
            Err(PublishError::Backplane(_) | PublishError::Overloaded) if has_key => sleep(Duration::from_millis(rng.u64(1..30))).await,
            Err(_) => return,
        }
    }
}

fn plain(topic: &Topic, name: &str, rng: &mut Rng) -> (Publish, String) {
    let data = payload(topic, name, rng);
    (Publish::new(Payload::json(data.clone())), data)
}

/// A row of a keyed topic, its end with or without a word, or what is no row.
fn row(topic: &Topic, name: &str, rng: &mut Rng) -> (Publish, String) {
    let (publish, data) = plain(topic, name, rng);
    match rng.u8(0..20) {
        0 => (publish, data),
        1..4 => (publish.key(any_key(rng)).removed(), data),
        4..6 => (Publish::remove(any_key(rng)), String::new()),
        _ => (publish.key(any_key(rng)), data),
    }
}

/// What is acknowledged stands where the answer says.
fn check(world: &World, topic: &Topic, data: &str, published: Published, first: Option<Published>) {
    if let Some(position) = published.position
        && world.truth.at(topic, position).is_none_or(|entry| entry.payload != data)
    {
        world.violated(format!("{topic}: {data} was acknowledged at {position}, and is not there"));
    }
    if let (Some(position), Some(first)) = (published.position, first.and_then(|first| first.position))
        && position.epoch == first.epoch
        && position != first
    {
        world.violated(format!("{topic}: {data} with one key is stored at {first} and at {position}"));
    }
}
