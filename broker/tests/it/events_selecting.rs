//! Streams of events that get less than everything: by rate, by filter; and those that take nothing.

use std::time::Duration;

use broker::{Broker, Builder, Namespace, Payload, Publish};
use serde_json::json;

use crate::{
    client::{Client, Server},
    events::{publish, with_history},
    events_client::Events,
};

fn filtering() -> Builder {
    let mut namespace = Namespace::open().history(100, Duration::from_secs(600));
    namespace.filter = true;
    Broker::builder().anonymous().default_namespace(namespace)
}

async fn tagged(server: &Server, n: u64, priority: &str) {
    let tags = [("priority".to_owned(), priority.to_owned())].into_iter().collect();
    server.broker.publish(&"news".parse().unwrap(), Publish::new(Payload::json(n.to_string())).tags(tags)).await.unwrap();
}

/// `{"key":"priority","cmp":"eq","val":"high"}`, as it stands in a URL.
const HIGH: &str = "%7B%22key%22%3A%22priority%22%2C%22cmp%22%3A%22eq%22%2C%22val%22%3A%22high%22%7D";

#[tokio::test(start_paused = true)]
async fn a_rate_lets_the_first_and_the_newest_through() {
    let server = Server::start(with_history()).await;
    let mut slow = Events::open(server.addr, "/sse/news?rate=0.5", &[]).await;
    let mut quick = Events::open(server.addr, "/sse/news", &[]).await;
    slow.first_id().await;
    let began = tokio::time::Instant::now();
    for n in 1..=50 {
        publish(&server, "news", json!(n)).await;
        assert_eq!(quick.data().await, n.to_string());
    }
    assert_eq!(slow.data().await, "1");
    assert_eq!(slow.data().await, "50", "the newest, and nothing between");
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    // The id is that of the newest: what was left out on purpose is not sent by a resume, and is no gap.
    let mut again = Events::open(server.addr, "/sse/news?rate=0.5", &[("Last-Event-ID", &slow.last_event_id)]).await;
    publish(&server, "news", json!(51)).await;
    assert_eq!(again.data().await, "51");
    assert!(!again.raw.contains("gap"), "{}", again.raw);
}

#[tokio::test]
async fn a_filter_holds_live_and_in_a_resume_and_leaves_no_gap() {
    let server = Server::start(filtering()).await;
    let path = format!("/sse/news?filter={HIGH}");
    let mut events = Events::open(server.addr, &path, &[]).await;
    events.first_id().await;
    for (n, priority) in [(1, "low"), (2, "high"), (3, "low")] {
        tagged(&server, n, priority).await;
    }
    assert_eq!(events.data().await, "2");
    let id = events.last_event_id.clone();
    drop(events);
    for (n, priority) in [(4, "high"), (5, "low"), (6, "high")] {
        tagged(&server, n, priority).await;
    }
    let mut events = Events::open(server.addr, &path, &[("Last-Event-ID", &id)]).await;
    assert_eq!([events.data().await, events.data().await], ["4", "6"]);
    tagged(&server, 7, "low").await;
    tagged(&server, 8, "high").await;
    assert_eq!(events.data().await, "8");
    assert!(!events.raw.contains("gap"), "{}", events.raw);
}

#[tokio::test]
async fn a_filter_of_a_url_holds_over_a_websocket_too() {
    let server = Server::start(filtering()).await;
    let mut client = server.open(&format!("/ws/news?filter={HIGH}")).await;
    tagged(&server, 1, "low").await;
    tagged(&server, 2, "high").await;
    assert_eq!(client.text().await, "2");
}

#[tokio::test]
async fn a_filter_that_is_none_or_not_allowed_is_refused_with_a_way_out() {
    let server = Server::start(with_history()).await;
    for (filter, word) in [(HIGH, "not_available"), ("priority", "bad_request"), ("%7B%22op%22%3A%22xor%22%7D", "bad_request")] {
        let path = format!("/sse/news?filter={filter}");
        let (status, _, body) = Events::refused(server.addr, &path, &[]).await;
        assert_eq!((status, body["error"]["error"].as_str()), (400, Some(word)), "{filter}: {body}");
    }
}

/// The bound is that of the whole connection: a peer that takes nothing for so long is given up, and costs nothing any more.
#[tokio::test(start_paused = true)]
async fn a_reader_that_stops_is_gone_after_the_write_timeout() {
    let builder = Broker::builder().anonymous().default_namespace(Namespace::open());
    let server = Server::start(builder.settings(|settings| settings.backlog_max_bytes = 64 << 20)).await;
    let mut stopped = Events::open(server.addr, "/sse/news", &[]).await;
    stopped.first_id().await;
    let began = tokio::time::Instant::now();
    // What the kernel and the queue take, and more.
    let data = Payload::text("x".repeat(256 * 1024));
    for _ in 0..60 {
        while server.broker.publish(&"news".parse().unwrap(), Publish::new(data.clone())).await.is_err() {
            // The shard has more than enough; it must have its turn.
            tokio::task::yield_now().await;
        }
    }
    while server.broker.stats().connections.value() > 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(began.elapsed() < Duration::from_secs(120), "nobody gave it up");
    }
    assert!(began.elapsed() >= Duration::from_secs(29), "{:?}", began.elapsed());
    assert_eq!((server.broker.stats().subscriptions.value(), server.broker.stats().backlog_bytes.value()), (0, 0));
    let mut other = Client::open(server.addr, "/ws/news", &[]).await.unwrap();
    publish(&server, "news", json!(1)).await;
    assert_eq!(other.text().await, "1");
}
