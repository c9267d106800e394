//! The worker with a store in memory and time that is paused: batches, refusals, order, the end.

use std::time::Duration;

use broker::{
    Broker, Namespace, Payload, Publish, StreamItem, Topic, TopicStream,
    outbox::{Outbox, OutboxOptions, testing::MemoryOutbox},
};

/// What comes on a topic.
pub(crate) struct Heard(TopicStream);

impl Heard {
    pub(crate) async fn of(broker: &Broker, topic: &Topic) -> Self {
        let mut stream = broker.subscribe(topic).unwrap();
        assert!(matches!(stream.next().await, Some(StreamItem::Live { .. })));
        Self(stream)
    }

    pub(crate) async fn next(&mut self) -> String {
        let next = tokio::time::timeout(Duration::from_secs(60), self.0.next());
        match next.await.expect("it takes too long") {
            Some(StreamItem::Publication(publication)) => String::from_utf8(publication.data.bytes().to_vec()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// What has come and was not read.
    pub(crate) fn waiting(&mut self) -> Vec<String> {
        use futures_util::FutureExt;
        std::iter::from_fn(|| self.next().now_or_never()).collect()
    }
}

pub(crate) fn broker() -> Broker {
    Broker::builder().namespace("news", Namespace::default().history(1000, Duration::from_secs(600))).build().unwrap()
}

pub(crate) fn json(text: &str) -> Publish {
    Publish::new(Payload::json(text.to_owned()))
}

#[tokio::test(start_paused = true)]
async fn what_is_staged_is_published_in_order_when_it_is_woken() {
    let (broker, store) = (broker(), MemoryOutbox::new());
    let topic: Topic = "news:1".parse().unwrap();
    let mut heard = Heard::of(&broker, &topic).await;
    let outbox = Outbox::start_with(&broker, store.clone(), OutboxOptions::default().poll_interval(Duration::from_secs(3600)));
    for number in 0..200 {
        store.stage(&topic, json(&number.to_string())).unwrap();
    }
    let woken = tokio::time::Instant::now();
    outbox.wake();
    for number in 0..200 {
        assert_eq!(heard.next().await, number.to_string());
    }
    assert!(woken.elapsed() < Duration::from_secs(1));
    outbox.drain(Duration::from_secs(5)).await;
    assert_eq!(outbox.status().await.unwrap().published, 200);
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_for_good_is_put_aside_with_its_reason_and_the_rest_goes_on() {
    let (broker, store) = (broker(), MemoryOutbox::new());
    let topic: Topic = "news:1".parse().unwrap();
    let mut heard = Heard::of(&broker, &topic).await;
    let nowhere = store.stage(&"weather:1".parse().unwrap(), json("1")).unwrap();
    let reserved = store.stage(&topic, json(r#"{"broker":1}"#)).unwrap();
    store.stage(&topic, json("3")).unwrap();
    let outbox = Outbox::start(&broker, store);
    assert_eq!(heard.next().await, "3");
    let refused = loop {
        let refused = outbox.refused(10).await.unwrap();
        if refused.len() == 2 {
            break refused;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((refused[0].id, refused[1].id), (nowhere, reserved));
    assert!(refused[0].reason.contains("weather"), "{}", refused[0].reason);
    assert!(refused[1].reason.contains("reserved"), "{}", refused[1].reason);
    assert_eq!(outbox.retry(None).await.unwrap(), 2);
    outbox.drain(Duration::from_secs(5)).await;
    assert_eq!(outbox.status().await.unwrap().counts.refused, 2, "they were tried again, and are no better");
    assert!(outbox.discard(nowhere).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_drain_publishes_what_is_left_and_ends_the_task() {
    let (broker, store) = (broker(), MemoryOutbox::new());
    let topic: Topic = "news:1".parse().unwrap();
    let mut heard = Heard::of(&broker, &topic).await;
    let outbox = Outbox::start(&broker, store.clone());
    store.stage(&topic, json("1")).unwrap();
    outbox.drain(Duration::from_secs(5)).await;
    assert_eq!(heard.waiting(), ["1"]);
    store.stage(&topic, json("2")).unwrap();
    outbox.wake();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(heard.waiting(), [""; 0], "it has ended");
    outbox.drain(Duration::from_secs(5)).await;
    assert_eq!(outbox.pending().await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_application_is_told_of_each_row_that_was_published() {
    let (broker, store) = (broker(), MemoryOutbox::new());
    let topic: Topic = "news:1".parse().unwrap();
    let row = store.stage(&topic, json("1")).unwrap();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let options = OutboxOptions::default().on_published(move |row, published| {
        tell.send((row.id, published.position.map(|position| position.offset))).unwrap();
    });
    let _outbox = Outbox::start_with(&broker, store, options);
    assert_eq!(told.recv().await, Some((row, Some(1))));
}
