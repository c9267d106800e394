//! How streams of events end: by the client, by the server, by what the client does not take.

use std::time::Duration;

use broker::{Broker, Identity, Namespace, Payload, Publish, Revocation, Revoked, SlowConsumer, Target, UserId, Verb};
use serde_json::json;
use tokio::net::TcpStream;

use crate::{client::Server, events::publish, events_client::Events};

#[tokio::test]
async fn a_drain_says_closing_with_when_to_come_back_and_ends_the_server() {
    let server = Server::dev().await;
    let mut events = Events::open(server.addr, "/sse/news", &[]).await;
    let reading = async {
        let closing = events.notice().await;
        (closing, events.retry, events.next().await)
    };
    let ((), (closing, retry, after)) = tokio::join!(server.broker.drain(Duration::from_secs(20)), reading);
    assert_eq!((&closing["broker"], &closing["code"], &closing["reason"]), (&json!("closing"), &json!(3001), &json!("shutdown")));
    assert_eq!(closing["reconnect_after_ms"].as_u64(), retry);
    assert_eq!(after, None);
    server.task.await.unwrap();
    assert!(TcpStream::connect(server.addr).await.is_err());
}

#[tokio::test]
async fn a_draining_server_refuses_with_a_status_and_a_time() {
    let server = Server::beyond_loopback(Broker::builder().dev()).await;
    server.broker.drain(Duration::from_secs(1)).await;
    let (status, head, body) = Events::refused(server.addr, "/sse/news", &[]).await;
    assert_eq!((status, &body["error"]["error"]), (503, &json!("unavailable")));
    assert!(head.contains("retry-after: 1"), "{head}");
}

#[tokio::test]
async fn credentials_that_end_are_announced_and_then_end_the_stream() {
    let server = Server::start(
        Broker::builder()
            .on_connect(|_| async { Ok(Identity::user("kim").expires_at(std::time::SystemTime::now() + Duration::from_millis(1_500))) })
            .default_namespace(Namespace::default().allow(Verb::Subscribe))
            .settings(|settings| settings.expiring_notice = Duration::from_secs(1)),
    )
    .await;
    let mut events = Events::open(server.addr, "/sse/news", &[]).await;
    let expiring = events.notice().await;
    assert_eq!(expiring["broker"], "expiring");
    assert!(expiring["in_ms"].as_u64().unwrap() <= 1_000);
    let closing = events.notice().await;
    assert_eq!((&closing["broker"], &closing["code"]), (&json!("closing"), &json!(3005)));
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn one_stream_is_one_session_that_can_be_found_ended_and_revoked() {
    let server = Server::start(
        Broker::builder()
            .on_connect(|request| async move { Ok(Identity::user(request.connect.token.unwrap_or_default())) })
            .default_namespace(Namespace::default().allow(Verb::Subscribe).presence()),
    )
    .await;
    let mut kim = Events::open(server.addr, "/sse/news?token=kim", &[]).await;
    let mut ann = Events::open(server.addr, "/sse/news?token=ann", &[]).await;
    let present = server.broker.presence(&"news".parse().unwrap()).await.unwrap();
    let mut users: Vec<String> = present.iter().map(|who| who.user.to_string()).collect();
    users.sort();
    assert_eq!(users, ["ann", "kim"]);

    let target = Target::User { user: UserId::from("kim"), tenant: None };
    assert_eq!(server.broker.sessions(target).disconnect(4_123, "go").await.unwrap(), 1);
    assert_eq!(kim.notice().await["broker"], "closing");
    assert_eq!(kim.next().await, None);

    publish(&server, "news", json!("for ann")).await;
    assert_eq!(ann.data().await, r#""for ann""#);
    assert_eq!(server.broker.revoke(Revocation::now(Revoked::User(UserId::from("ann")))).await.unwrap(), 1);
    publish(&server, "news", json!("for nobody")).await;
    assert_eq!(ann.notice().await["code"], 3500);
    assert_eq!(ann.next().await, None);
    assert!(!ann.raw.contains("for nobody"));
    while server.broker.stats().connections.value() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_http_holds_for_a_peer_that_takes_nothing_does_not_go_out_after_a_revocation() {
    let server = Server::start(
        Broker::builder()
            .on_connect(|_| async { Ok(Identity::user("kim")) })
            .default_namespace(Namespace::default().allow(Verb::Subscribe))
            .settings(|settings| settings.backlog_max_bytes = 64 << 20),
    )
    .await;
    let mut events = Events::open(server.addr, "/sse/news", &[]).await;
    events.first_id().await;
    fill(&server).await;
    publish(&server, "news", json!("the last secret")).await;
    server.broker.revoke(Revocation::now(Revoked::User(UserId::from("kim")))).await.unwrap();
    while events.next().await.is_some() {}
    assert!(!events.raw.contains("the last secret"));
    // The pipe is broken off within what HTTP held; a stream that ends in order says so.
    assert!(!events.raw.contains("closing"));
}

#[tokio::test]
async fn a_client_that_does_not_read_is_a_slow_consumer_and_costs_no_more_than_its_bound() {
    for policy in [SlowConsumer::Disconnect, SlowConsumer::DropOldest] {
        let server = Server::start(
            Broker::builder()
                .anonymous()
                .default_namespace(Namespace::open().slow_consumer(policy))
                .settings(|settings| settings.backlog_max_bytes = 256 * 1024),
        )
        .await;
        let mut slow = Events::open(server.addr, "/sse/news", &[]).await;
        let mut quick = Events::open(server.addr, "/sse/news", &[]).await;
        slow.first_id().await;
        let data = "x".repeat(64 * 1024);
        // What the kernel and the queue take, and much more.
        for n in 0..300 {
            publish(&server, "news", json!({"n": n, "data": data})).await;
            assert_eq!(quick.next().await.unwrap().json()["n"], n);
            let waiting = server.broker.stats().backlog_bytes.value();
            assert!(waiting <= 2 * 256 * 1024, "{waiting}");
        }
        match policy {
            SlowConsumer::Disconnect => {
                while slow.next().await.is_some() {}
                while server.broker.stats().connections.value() > 1 {
                    tokio::task::yield_now().await;
                }
            }
            _ => loop {
                let event = slow.next().await.expect("the stream goes on");
                if event.kind == "broker" {
                    assert_eq!(event.json()["reason"], "slow_consumer");
                    break;
                }
            },
        }
    }
}

#[tokio::test]
async fn a_client_that_goes_is_noticed_without_a_word_of_it() {
    let server = Server::dev().await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(Events::open(server.addr, "/sse/news", &[]).await);
    }
    assert_eq!(server.broker.stats().connections.value(), 20);
    assert!(streams[0].pipe().peer_addr().is_ok());
    drop(streams);
    while server.broker.stats().connections.value() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.broker.stats().subscriptions.value(), 0);
}

#[tokio::test]
async fn what_a_client_sends_on_is_not_read_as_commands() {
    use tokio::io::AsyncWriteExt;
    let server = Server::dev().await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream.write_all(b"GET /sse/news HTTP/1.1\r\nhost: x\r\n\r\n{\"broker\":\"publish\",\"topic\":\"news\",\"data\":1}").await.unwrap();
    let mut quick = Events::open(server.addr, "/sse/news", &[]).await;
    publish(&server, "news", json!("only this")).await;
    assert_eq!(quick.data().await, r#""only this""#);
}

/// Publishes until a client that does not read has everything full that can be.
async fn fill(server: &Server) {
    let data = Payload::text("x".repeat(256 * 1024));
    for _ in 0..60 {
        while server.broker.publish(&"news".parse().unwrap(), Publish::new(data.clone())).await.is_err() {
            // The shard has more than enough; it must have its turn.
            tokio::task::yield_now().await;
        }
    }
}
