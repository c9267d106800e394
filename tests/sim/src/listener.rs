//! A listener inside the process: a stream of one topic, read as slowly as it likes, compared with the truth like every client.

use std::{sync::Arc, time::Duration};

use broker_core::{StreamItem, Topic, TopicStream};
use fastrand::Rng;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    follower::{Answer, Follower, Promise},
    truth::Who,
    wants::Wants,
    world::{Phase, World},
};

/// Time without a word after which a stream has nothing more for now.
const SILENCE: Duration = Duration::from_millis(5);

/// Listens to one topic after the other until the simulation is over; to the last one until then.
pub(crate) async fn listen(world: Arc<World>, mut rng: Rng) {
    let known: Vec<(Topic, Promise)> = world.topics.iter().filter(|(_, promise)| !promise.keyed && !promise.snapshot).cloned().collect();
    let Some((mut topic, mut promise)) = rng.choice(&known).cloned() else { return };
    while world.phase() != Phase::Over {
        let stream = world.engine().and_then(|engine| engine.subscribe(&topic).ok());
        if let Some(stream) = stream {
            follow(&world, &topic, promise, stream, &mut rng).await;
        }
        sleep(Duration::from_millis(rng.u64(1..50))).await;
        if world.phase() == Phase::Storm
            && let Some(next) = rng.choice(&known)
        {
            (topic, promise) = next.clone();
        }
    }
}

/// Follows a stream until it has heard enough, or the node has gone.
async fn follow(world: &World, topic: &Topic, promise: Promise, mut stream: TopicStream, rng: &mut Rng) {
    let mut follower = Follower::new(topic.clone(), promise);
    let enough_at = Instant::now() + Duration::from_millis(rng.u64(50..2_000));
    while world.phase() != Phase::Over && (world.phase() != Phase::Storm || Instant::now() < enough_at) {
        for _ in 0..rng.usize(1..20) {
            match timeout(SILENCE, stream.next()).await {
                Ok(Some(item)) => hear(world, topic, &mut follower, &item),
                Ok(None) => return,
                Err(_) => break,
            }
        }
        sleep(Duration::from_millis(rng.u64(1..60))).await;
    }
    if world.phase() == Phase::Over {
        while let Ok(Some(item)) = timeout(SILENCE, stream.next()).await {
            hear(world, topic, &mut follower, &item);
        }
        let bus = world.bus();
        let top = bus.top(topic).await.filter(|_| bus.is_heard(topic));
        if let Some(top) = top
            && let Err(error) = follower.at_head(&world.truth, &Who::default(), Some(top).filter(|_| !promise.bare))
        {
            world.violated(format!("a stream of {topic} at the end: {error}"));
        }
    }
}

fn hear(world: &World, topic: &Topic, follower: &mut Follower, item: &StreamItem) {
    world.trace(|| {
        // Times of the wall clock are left out.
        let what = match item {
            StreamItem::Publication(heard) => format!("{:?} {}", heard.position, String::from_utf8_lossy(heard.data.bytes())),
            item => format!("{item:?}"),
        };
        format!("a stream of {topic} hears {what}")
    });
    let (truth, who) = (&world.truth, Who::default());
    let checked = match item {
        StreamItem::Live { position } => {
            let wants = Wants::default();
            let asked_at = Instant::now();
            let answer = Answer { position: *position, since: None, recovered: None, gap_follows: false, reach: 0, wants, asked_at };
            follower.subscribed(truth, &answer)
        }
        StreamItem::Publication(publication) => {
            let payload = String::from_utf8_lossy(publication.data.bytes());
            follower.publication(truth, &who, publication.position, &payload)
        }
        StreamItem::Gap(gap) => follower.gap(truth, &who, gap.from, gap.to),
        _ => Ok(()),
    };
    if let Err(error) = checked {
        world.violated(format!("a stream of {topic}: {error}"));
    }
}
