//! The Rust client against the real broker, through a pipe that is cut.

use std::{net::SocketAddr, time::Duration};

use broker::{Broker, Namespace, Payload, Publish, Topic, Verb};
use broker_client::{CallError, Client, ClientConfig, Event, GapReason, HistoryQuery, Since, SubscribeConfig, Subscription, Unsubscribed};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::broadcast,
};

const WAIT: Duration = Duration::from_secs(30);

/// Waits of a few milliseconds instead of seconds.
fn fast() -> ClientConfig {
    ClientConfig::default().backoff(Duration::from_millis(1), Duration::from_millis(20))
}

async fn bound() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

fn open(broker: Broker, listener: TcpListener) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move { broker.serve(listener).await })
}

async fn next(subscription: &mut Subscription) -> Event {
    tokio::time::timeout(WAIT, subscription.next()).await.expect("it takes too long").expect("the subscription goes on")
}

fn json(text: &str) -> broker_client::Payload {
    text.parse().unwrap()
}

/// A pipe to the server, all of whose connections can be cut at once.
struct Pipe {
    addr: SocketAddr,
    cut: broadcast::Sender<()>,
}

impl Pipe {
    async fn to(server: SocketAddr) -> Self {
        let (listener, addr) = bound().await;
        let cut = broadcast::Sender::new(1);
        let cuts = cut.clone();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut cut = cuts.subscribe();
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(server).await.unwrap();
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                        _ = cut.recv() => {}
                    }
                });
            }
        });
        Self { addr, cut }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_publications_over_many_cuts_arrive_once_and_in_order() {
    const PUBLICATIONS: u64 = 1_000;
    let numbers = Namespace::default().history(2_000, Duration::from_secs(600)).allow(Verb::Subscribe).allow_anonymous();
    let broker = Broker::builder().anonymous().namespace("n", numbers).build().unwrap();
    let (listener, addr) = bound().await;
    open(broker.clone(), listener);
    let pipe = Pipe::to(addr).await;
    let client = Client::connect(&format!("ws://{}", pipe.addr), fast()).unwrap();
    let mut numbers = client.subscribe("n:1", SubscribeConfig::default()).unwrap();
    assert!(matches!(next(&mut numbers).await, Event::Subscribed(_)));

    let topic: Topic = "n:1".parse().unwrap();
    let mut expected = 0;
    let mut sent = 0;
    while expected < PUBLICATIONS {
        // A burst, of which the client has seen some when it is cut.
        for _ in 0..50.min(PUBLICATIONS - sent) {
            broker.publish(&topic, Publish::new(Payload::json(sent.to_string()))).await.unwrap();
            sent += 1;
        }
        let seen_before_cut = expected + (sent - expected) / 2;
        let mut cut = false;
        while expected < sent {
            match next(&mut numbers).await {
                Event::Publication(publication) => {
                    assert_eq!(publication.data.read::<u64>().unwrap(), expected);
                    expected += 1;
                }
                Event::Subscribed(subscribed) => assert_eq!(subscribed.recovered, Some(true)),
                other => panic!("{other:?}"),
            }
            if expected >= seen_before_cut && !cut {
                cut = true;
                // Where the client is still on its way back there is nothing to cut.
                let _ = pipe.cut.send(());
            }
        }
    }
    assert_eq!(numbers.position().unwrap().offset, PUBLICATIONS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_broker_is_told_as_a_gap_and_the_client_goes_on() {
    let start = || Broker::builder().dev().build().unwrap();
    let broker = start();
    let (listener, addr) = bound().await;
    let serving = open(broker.clone(), listener);
    let client = Client::connect(&format!("ws://{addr}"), fast()).unwrap();
    let mut news = client.subscribe("news", SubscribeConfig::default()).unwrap();
    assert!(matches!(next(&mut news).await, Event::Subscribed(_)));
    client.publish("news", json("1")).await.unwrap();
    assert!(matches!(next(&mut news).await, Event::Publication(_)));

    broker.drain(Duration::from_millis(100)).await;
    serving.abort();
    let _ = serving.await;
    let listener = TcpListener::bind(addr).await.unwrap();
    open(start(), listener);
    let Event::Subscribed(subscribed) = next(&mut news).await else { panic!("not subscribed") };
    assert_eq!(subscribed.recovered, Some(false));
    assert!(matches!(next(&mut news).await, Event::Gap(gap) if gap.reason == GapReason::NotRecovered));
    client.publish("news", json("2")).await.unwrap();
    assert!(matches!(next(&mut news).await, Event::Publication(publication) if publication.data.as_str() == "2"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_presence_calls_and_refusals() {
    let broker = Broker::builder()
        .dev()
        .on_rpc(
            |call| async move { if call.method == "echo" { Ok(call.data) } else { Err(broker::Refusal::permission_denied("not you")) } },
        )
        .build()
        .unwrap();
    let (listener, addr) = bound().await;
    open(broker.clone(), listener);
    let client = Client::connect(&format!("ws://{addr}"), fast()).unwrap();
    for number in 1..=3 {
        client.publish("t", broker_client::Payload::of(&number).unwrap()).await.unwrap();
    }
    let page = client.history("t", HistoryQuery::newest(2)).await.unwrap();
    assert_eq!(page.position.offset, 3);
    assert_eq!(page.publications.iter().map(|publication| publication.data.as_str()).collect::<Vec<_>>(), ["3", "2"]);

    let since = Since::Position(page.publications[1].position.clone().unwrap());
    let mut watched = client.subscribe("t", SubscribeConfig::default().since(since).join_leave()).unwrap();
    assert!(matches!(next(&mut watched).await, Event::Subscribed(subscribed) if subscribed.recovered == Some(true)));
    assert!(matches!(next(&mut watched).await, Event::Publication(publication) if publication.data.as_str() == "3"));
    assert_eq!(client.presence("t").await.unwrap().len(), 1);
    assert_eq!(client.presence_stats("t").await.unwrap().sessions, 1);

    assert_eq!(client.call("echo", json(r#"{"a":1}"#)).await.unwrap().as_str(), r#"{"a":1}"#);
    assert!(matches!(client.call("other", json("1")).await, Err(CallError::Refused(refusal)) if refusal.code == 103));
    let mut refused = client.subscribe("group:staff", SubscribeConfig::default()).unwrap();
    assert!(matches!(next(&mut refused).await, Event::Unsubscribed(Unsubscribed::Refused(_))));
    client.close().await;
    while let Some(event) = watched.next().await {
        assert!(matches!(event, Event::Join(_) | Event::Unsubscribed(Unsubscribed::Closed(_))), "{event:?}");
    }
}
