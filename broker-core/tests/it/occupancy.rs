//! What the application is told of topics that get listeners and lose them, however slow it is.

use std::{sync::Arc, time::Duration};

use broker_core::{Engine, Topic, testing::Client};
use tokio::{
    sync::{Semaphore, mpsc},
    time::timeout,
};

use crate::delivering::open_engine;

/// An engine, what it tells, and the permits that each call takes before it ends.
fn engine() -> (Engine, mpsc::UnboundedReceiver<(String, bool)>, Arc<Semaphore>) {
    let (tell, told) = mpsc::unbounded_channel();
    let permits = Arc::new(Semaphore::new(0));
    let hook = |occupied: bool| {
        let (tell, permits) = (tell.clone(), permits.clone());
        move |topic: Topic| {
            let (tell, permits) = (tell.clone(), permits.clone());
            async move {
                tell.send((topic.as_str().to_owned(), occupied)).unwrap();
                permits.acquire().await.unwrap().forget();
            }
        }
    };
    let slow = |settings: &mut broker_core::Settings| {
        settings.hook_timeout = Duration::from_secs(3600);
        settings.rates = broker_core::Rates::OFF;
    };
    let engine = open_engine().with_settings(slow).on_occupied(hook(true)).on_vacated(hook(false)).build().unwrap();
    (engine, told, permits)
}

async fn listens(client: &mut Client, topic: &str) {
    client.subscribe(topic);
    assert!(client.next().await.starts_with("subscribed"));
}

async fn leaves(client: &mut Client, topic: &str) {
    client.unsubscribe(topic);
    assert_eq!(client.next().await, format!("unsubscribed {topic}"));
}

#[tokio::test]
async fn behind_a_slow_call_only_what_is_still_so_is_told() {
    let (engine, mut told, permits) = engine();
    let mut client = Client::connect(&engine).await;
    listens(&mut client, "quiet:first").await;
    assert_eq!(told.recv().await, Some(("quiet:first".to_owned(), true)));
    for n in 0..500 {
        let passing = format!("quiet:{n}");
        listens(&mut client, &passing).await;
        leaves(&mut client, &passing).await;
    }
    listens(&mut client, "quiet:second").await;
    leaves(&mut client, "quiet:first").await;
    for _ in 0..5 {
        listens(&mut client, "quiet:first").await;
        leaves(&mut client, "quiet:first").await;
    }
    permits.add_permits(100);
    assert_eq!(told.recv().await, Some(("quiet:second".to_owned(), true)));
    assert_eq!(told.recv().await, Some(("quiet:first".to_owned(), false)));
    listens(&mut client, "quiet:last").await;
    assert_eq!(told.recv().await, Some(("quiet:last".to_owned(), true)), "nothing else waited");
}

#[tokio::test]
async fn the_last_call_about_a_topic_is_its_present_state() {
    let (engine, mut told, permits) = engine();
    permits.add_permits(1000);
    let mut client = Client::connect(&engine).await;
    for _ in 0..50 {
        listens(&mut client, "quiet:a").await;
        leaves(&mut client, "quiet:a").await;
    }
    listens(&mut client, "quiet:a").await;
    let mut last = false;
    while let Ok(Some((_, occupied))) = timeout(Duration::from_millis(200), told.recv()).await {
        assert_ne!(occupied, last, "beginnings and ends alternate");
        last = occupied;
    }
    assert!(last);
}

#[tokio::test]
async fn an_engine_that_is_dropped_ends_the_calls_too() {
    let (engine, mut told, permits) = engine();
    permits.add_permits(10);
    let mut client = Client::connect(&engine).await;
    listens(&mut client, "quiet:a").await;
    assert_eq!(told.recv().await, Some(("quiet:a".to_owned(), true)));
    drop((client, engine));
    let ended = timeout(Duration::from_secs(5), async { while told.recv().await.is_some() {} });
    ended.await.expect("the hooks are dropped with the engine");
}
