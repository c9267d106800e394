//! The client over real sockets, against a server that does what each test says.

#![allow(clippy::large_futures, reason = "a test's future is moved once")]

mod calls;
mod fake;
mod pressure;
mod reconnect;
mod terminal;

use std::{future::Future, time::Duration};

use broker_client::{ClientConfig, Event, Publication, Subscribed, Subscription};

/// Waits of a few milliseconds instead of seconds.
fn fast() -> ClientConfig {
    ClientConfig::default().backoff(Duration::from_millis(1), Duration::from_millis(20))
}

/// What a test waits for comes at once; this bound only ends tests that fail.
async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it takes too long")
}

async fn next(subscription: &mut Subscription) -> Event {
    soon(subscription.next()).await.expect("the subscription goes on")
}

async fn subscribed(subscription: &mut Subscription) -> Subscribed {
    match next(subscription).await {
        Event::Subscribed(subscribed) => subscribed,
        other => panic!("not subscribed but {other:?}"),
    }
}

async fn publication(subscription: &mut Subscription) -> Publication {
    match next(subscription).await {
        Event::Publication(publication) => publication,
        other => panic!("not a publication but {other:?}"),
    }
}
