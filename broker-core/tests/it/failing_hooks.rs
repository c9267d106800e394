//! Hooks of the application that panic or never answer: they cost their own connection a refusal, and nobody else anything.

use std::{future::pending, time::Duration};

use broker_core::{Grant, Request, testing::Client};
use tokio::time::Instant;

use crate::delivering::{json, open_engine, topic};

const EACH: usize = 100;

#[tokio::test(start_paused = true)]
async fn hooks_that_panic_or_hang_cost_nobody_else_anything() {
    let engine = open_engine()
        .on_rpc(|request| async move {
            assert_ne!(request.method, "panics", "planted");
            if request.method == "hangs" {
                pending::<()>().await;
            }
            Ok(request.data)
        })
        .on_subscribe(|request| async move {
            assert!(!request.subscribe.topic.as_str().ends_with("panics"), "planted");
            if request.subscribe.topic.as_str().ends_with("hangs") {
                pending::<()>().await;
            }
            Ok(Grant::plain())
        })
        .build()
        .unwrap();
    let mut healthy = Client::connect(&engine).await;
    healthy.subscribe("quiet:news");
    healthy.next().await;
    let mut others = Vec::new();
    for n in 0..EACH {
        let client = Client::connect(&engine).await;
        let how = if n % 2 == 0 { "panics" } else { "hangs" };
        client.send(Request::Call { method: how.to_owned(), data: json("1").data });
        client.subscribe(&format!("quiet:{how}"));
        others.push((client, how));
    }
    let started = Instant::now();
    for n in 1..=EACH {
        engine.publish(&topic("quiet:news"), json(&n.to_string())).await.unwrap();
        assert_eq!(healthy.next().await, format!("quiet:news {n}:{n}"));
    }
    // Virtual time moves only while everybody waits: nobody waited for a hook.
    assert_eq!(started.elapsed(), Duration::ZERO);
    for (client, how) in &mut others {
        let mut answers = client.take(2).await;
        answers.sort();
        assert!(
            answers.iter().all(|answer| answer.starts_with("refused Unavailable") || answer.starts_with("refused Internal")),
            "{how}: {answers:?}"
        );
        client.subscribe("quiet:news");
        assert!(client.next().await.starts_with("subscribed quiet:news at"), "{how}: the session goes on");
    }
    assert_eq!(engine.stats().panics.value(), EACH as u64);
}
