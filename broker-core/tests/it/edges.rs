//! Where ends, slow answers and other people's code meet: nothing is lost in silence, nothing stays behind, nobody else notices.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use broker_core::{
    Action, Arrival, Authorizer, Backplane, Capabilities, Decision, Departure, GapReason, Grant, Identity, Keep, LogPage, LogQuery,
    MemoryBackplane, MemoryPresence, Namespace, Payload, Position, Presence, PresenceStats, Publish, PublishFailed, Published, Rates,
    Recovery, Request, SessionId, SessionInfo, Since, Sink, SnapshotFailed, StreamItem, Subject, Subscribe, Topic, Unavailable, Verb,
    testing::{Client, LineProtocol},
};
use tokio::sync::Notify;

use crate::delivering::{json, open_engine, quiet, topic};

/// What comes within a second of the test's clock, or nothing.
async fn soon<T>(future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(Duration::from_secs(1), future).await.ok()
}

#[tokio::test(start_paused = true)]
async fn a_command_between_ping_and_pong_does_not_make_the_pong_a_mistake() {
    let engine = open_engine().build().unwrap();
    let mut client = Client::connect(&engine).await;
    assert_eq!(client.next().await, "ping");
    client.send_all([Request::Ping { bare: false }, Request::Pong]);
    assert_eq!(client.next().await, "pong");
    assert_eq!(client.next().await, "ping");
    client.send_all([Request::Pong, Request::Pong]);
    assert_eq!(client.next().await, "closed bad_request", "one ping has one pong");
}

#[tokio::test(start_paused = true)]
async fn a_command_that_waits_for_a_void_answer_is_handled_when_it_comes() {
    let gate = Arc::new(Notify::new());
    let hook = gate.clone();
    let engine = open_engine()
        .on_subscribe(move |_| {
            let gate = hook.clone();
            async move {
                gate.notified().await;
                Ok(Grant::plain())
            }
        })
        .build()
        .unwrap();
    let mut client = Client::connect(&engine).await;
    client.subscribe("plain:a");
    client.unsubscribe("plain:a");
    client.subscribe("plain:a");
    assert!(client.next().await.starts_with("refused Unavailable"));
    assert_eq!(client.next().await, "unsubscribed plain:a");
    gate.notify_one();
    tokio::time::sleep(Duration::from_millis(10)).await;
    gate.notify_one();
    assert_eq!(soon(client.next()).await.as_deref(), Some("subscribed plain:a"));
}

#[tokio::test(start_paused = true)]
async fn the_last_of_many_subscribes_and_unsubscribes_wins() {
    let gate = Arc::new(Notify::new());
    let hook = gate.clone();
    let engine = open_engine()
        .on_subscribe(move |_| {
            let gate = hook.clone();
            async move {
                gate.notified().await;
                Ok(Grant::plain())
            }
        })
        .build()
        .unwrap();
    let mut client = Client::connect(&engine).await;
    for _ in 0..2 {
        client.subscribe("plain:a");
        client.unsubscribe("plain:a");
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    gate.notify_one();
    tokio::time::sleep(Duration::from_millis(10)).await;
    gate.notify_one();
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(engine.topics().await, []);
    let mut lines: Vec<String> = client.take(4).await;
    lines.sort();
    assert!(lines[0].starts_with("refused Unavailable") && lines[1].starts_with("refused Unavailable"), "{lines:?}");
    assert_eq!(lines[2..], ["unsubscribed plain:a", "unsubscribed plain:a"]);
}

#[tokio::test(start_paused = true)]
async fn an_unsubscribe_sent_before_the_connect_is_answered_waits_for_it() {
    let gate = Arc::new(Notify::new());
    let hook = gate.clone();
    let engine = open_engine()
        .on_connect(move |_| {
            let gate = hook.clone();
            async move {
                gate.notified().await;
                Ok(Identity::user("ann"))
            }
        })
        .build()
        .unwrap();
    let mut client = Client::open(&engine);
    client.send_all([
        Request::Connect(broker_core::Connect::default()),
        Request::Subscribe(Subscribe::new(topic("plain:a"))),
        Request::Unsubscribe { topic: topic("plain:a") },
    ]);
    tokio::time::sleep(Duration::from_millis(10)).await;
    gate.notify_one();
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(engine.topics().await.iter().all(|count| count.topic.as_str() == "user:ann"));
    assert_eq!(client.next().await, "connected ann");
}

#[tokio::test(start_paused = true)]
async fn a_command_behind_a_join_goes_on_when_the_client_unsubscribes() {
    let gate = Arc::new(Notify::new());
    let hook = gate.clone();
    let engine = open_engine()
        .snapshot("plain", move |_| {
            let gate = hook.clone();
            async move {
                gate.notified().await;
                Err::<Payload, _>(SnapshotFailed::new("no"))
            }
        })
        .build()
        .unwrap();
    let mut client = Client::connect(&engine).await;
    client.subscribe("plain:a");
    client.publish("plain:a", "1");
    client.unsubscribe("plain:a");
    let mut lines = client.take(2).await;
    lines.sort();
    assert!(lines[0].starts_with("refused Unavailable"), "{lines:?}");
    assert_eq!(lines[1], "unsubscribed plain:a");
    assert_eq!(soon(client.next()).await.as_deref(), Some("published plain:a"));
}

#[tokio::test]
async fn actions_behind_a_close_are_not_done() {
    let engine = open_engine()
        .with_settings(|settings| settings.shards = 1)
        .on_message(|_| async { Ok(vec![Action::Close { code: 4000, reason: "bye".into() }, Action::Subscribe(topic("plain:secret"))]) })
        .build()
        .unwrap();
    let mut client = Client::connect(&engine).await;
    client.send(Request::Message { data: Payload::json("1") });
    while client.next().await != "finished" {}
    drop(client);
    // Takes the slot over.
    let mut other = Client::connect(&engine).await;
    engine.publish(&topic("plain:secret"), json("1")).await.unwrap();
    other.send(Request::Ping { bare: false });
    assert_eq!(other.next().await, "pong", "nothing that another client subscribed to");
    assert_eq!((engine.stats().subscriptions.value(), engine.topics().await.len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_dropped_ends_its_connections_and_streams() {
    let engine = open_engine().build().unwrap();
    let mut client = Client::connect(&engine).await;
    let mut stream = engine.subscribe(&topic("plain:a")).unwrap();
    assert!(matches!(stream.next().await, Some(StreamItem::Live { .. })));
    // The shards sleep.
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(engine);
    assert_eq!(soon(client.next()).await.as_deref(), Some("finished"));
    assert!(matches!(soon(stream.next()).await, Some(None)));
}

#[tokio::test(start_paused = true)]
async fn what_an_ended_shard_has_not_opened_yet_ends_too() {
    let engine = open_engine().build().unwrap();
    let mut stream = engine.subscribe(&topic("plain:a")).unwrap();
    let mut client = Client::open(&engine);
    drop(engine);
    assert_eq!(soon(client.next()).await.as_deref(), Some("finished"));
    assert!(matches!(soon(stream.next()).await, Some(None)));
}

#[tokio::test(start_paused = true)]
async fn the_greatest_offset_that_a_client_can_send_is_a_position_like_others() {
    let engine = open_engine().build().unwrap();
    let position = Position { offset: u64::MAX, epoch: broker_core::Epoch::from_random(1) };
    let mut client = Client::connect(&engine).await;
    client.resume("quiet:a", Since::Position(position));
    assert_eq!(soon(client.next()).await.as_deref(), Some("subscribed quiet:a at 0 not recovered"));
}

#[tokio::test]
async fn the_newest_publication_is_recovered_across_a_restart() {
    let state = Namespace::open().history(1, Duration::from_secs(60)).recovery(Recovery::Cache);
    let engine = open_engine().namespace("state", state).build().unwrap();
    engine.publish(&topic("state:a"), json("\"new\"")).await.unwrap();
    let before = Position { offset: 100, epoch: broker_core::Epoch::from_random(1) };
    for _ in 0..2 {
        let mut client = Client::connect(&engine).await;
        let mut subscribe = Subscribe::new(topic("state:a")).since(Since::Position(before));
        subscribe.join_leave = false;
        client.send(Request::Subscribe(subscribe));
        assert_eq!(client.take(2).await, ["subscribed state:a at 1 recovered", "state:a 1:\"new\""]);
    }
}

#[tokio::test]
async fn a_newest_publication_that_is_gone_is_not_recovered() {
    let state = Namespace::open().history(1, Duration::from_secs(60)).recovery(Recovery::Cache);
    let engine = open_engine().namespace("state", state).build().unwrap();
    let published = engine.publish(&topic("state:a"), json("1")).await.unwrap();
    engine.publish(&topic("state:a"), json("2")).await.unwrap();
    engine.remove_history(&topic("state:a")).await.unwrap();
    let mut client = Client::connect(&engine).await;
    client.resume("state:a", Since::Position(published.position.unwrap()));
    assert_eq!(client.next().await, "subscribed state:a at 2 not recovered");
}

#[tokio::test(start_paused = true)]
async fn the_first_publication_after_hours_of_silence_is_delivered() {
    let engine = open_engine().build().unwrap();
    let mut stream = engine.subscribe(&topic("quiet:alerts")).unwrap();
    assert!(matches!(stream.next().await, Some(StreamItem::Live { .. })));
    tokio::time::sleep(Duration::from_secs(3 * 3600)).await;
    engine.publish(&topic("quiet:alerts"), json("1")).await.unwrap();
    let next = stream.next().await;
    assert!(matches!(next, Some(StreamItem::Publication(_))), "{next:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_position_cannot_be_resumed_begins_with_a_gap() {
    let engine = open_engine().namespace("short", quiet(2)).build().unwrap();
    let mut first = None;
    for n in 1..=5 {
        let published = engine.publish(&topic("short:a"), json(&n.to_string())).await.unwrap();
        first = first.or(published.position);
    }
    let mut stream = engine.subscribe_since(&topic("short:a"), first.map(Since::Position)).unwrap();
    assert!(matches!(stream.next().await, Some(StreamItem::Live { .. })));
    let Some(Some(StreamItem::Gap(gap))) = soon(stream.next()).await else { panic!("2 to 5 are missing") };
    assert_eq!((gap.from.map(|at| at.offset), gap.to.map(|at| at.offset), gap.reason), (Some(2), Some(5), GapReason::Trimmed));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_cannot_be_made_live_ends() {
    let engine = open_engine().backplane(Arc::new(Broken::default())).build().unwrap();
    let mut stream = engine.subscribe(&topic("quiet:a")).unwrap();
    let next = tokio::time::timeout(Duration::from_secs(60), stream.next()).await;
    assert!(matches!(next, Ok(None)), "{next:?}");
    drop(stream);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(engine.info().await[0].topics, 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_asks_for_no_snapshot_and_keeps_its_first_item() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let engine = open_engine()
        .with_settings(|settings| settings.stream_max_len = 2)
        .snapshot("quiet", move |_| {
            counted.fetch_add(1, Relaxed);
            async { Err::<Payload, _>(SnapshotFailed::new("no")) }
        })
        .build()
        .unwrap();
    let mut stream = engine.subscribe(&topic("quiet:a")).unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    for n in 1..=5 {
        engine.publish(&topic("quiet:a"), json(&n.to_string())).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(matches!(soon(stream.next()).await, Some(Some(StreamItem::Live { .. }))));
    let Some(Some(StreamItem::Gap(gap))) = soon(stream.next()).await else { panic!("the oldest are gone") };
    assert_eq!(gap.from.map(|at| at.offset), Some(1));
    assert_eq!(calls.load(Relaxed), 0);
}

/// A backplane whose history cannot be read, and whose interest cannot be changed so many times.
#[derive(Default)]
struct Broken {
    inner: MemoryBackplane,
    deaf: bool,
}

#[async_trait::async_trait]
impl Backplane for Broken {
    fn start(&self, sink: std::sync::Weak<dyn Sink>) {
        self.inner.start(sink);
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn publish(&self, topic: &Topic, publish: Publish, keep: Keep) -> Result<Published, PublishFailed> {
        self.inner.publish(topic, publish, keep).await
    }

    async fn announce(&self, topic: &Topic, announcement: broker_core::Announcement) -> Result<(), Unavailable> {
        self.inner.announce(topic, announcement).await
    }

    async fn interest(&self, _changes: &[(Topic, bool)]) -> Result<(), Unavailable> {
        if self.deaf { Err(Unavailable("planted".to_owned())) } else { Ok(()) }
    }

    async fn history(&self, _topic: &Topic, _query: LogQuery, _keep: Keep) -> Result<LogPage, Unavailable> {
        Err(Unavailable("planted".to_owned()))
    }

    async fn remove_history(&self, topic: &Topic) -> Result<(), Unavailable> {
        self.inner.remove_history(topic).await
    }
}

/// Panics for one topic.
struct Trap;

#[async_trait::async_trait]
impl Authorizer for Trap {
    fn decide(&self, _subject: &Subject, _verb: Verb, topic: &Topic, _namespace: &Namespace) -> Decision {
        assert_ne!(topic.as_str(), "plain:trap", "planted");
        Decision::Allow
    }
}

#[tokio::test(start_paused = true)]
async fn an_authorizer_that_panics_costs_one_connection() {
    let engine = open_engine().authorizer(Trap).with_settings(|settings| settings.shards = 1).build().unwrap();
    let mut healthy = Client::connect(&engine).await;
    let mut trapped = Client::connect(&engine).await;
    trapped.subscribe("plain:trap");
    assert_eq!(soon(trapped.next()).await.as_deref(), Some("closed server_error"));
    healthy.subscribe("plain:a");
    assert_eq!(soon(healthy.next()).await.as_deref(), Some("subscribed plain:a"));
}

/// Presence whose first upsert takes its time.
#[derive(Default)]
struct Slow {
    inner: MemoryPresence,
    gate: Notify,
}

#[async_trait::async_trait]
impl Presence for Slow {
    async fn upsert(&self, topic: &Topic, info: Arc<SessionInfo>) -> Result<Arrival, Unavailable> {
        self.gate.notified().await;
        self.inner.upsert(topic, info).await
    }

    async fn remove(&self, topic: &Topic, session: SessionId, linger: Duration) -> Result<Departure, Unavailable> {
        self.inner.remove(topic, session, linger).await
    }

    async fn settle(&self, topic: &Topic, who: &SessionInfo) -> Result<bool, Unavailable> {
        self.inner.settle(topic, who).await
    }

    async fn list(&self, topic: &Topic) -> Result<Vec<Arc<SessionInfo>>, Unavailable> {
        self.inner.list(topic).await
    }

    async fn count(&self, topic: &Topic) -> Result<PresenceStats, Unavailable> {
        self.inner.count(topic).await
    }
}

#[tokio::test(start_paused = true)]
async fn who_leaves_while_presence_is_slow_is_not_left_behind_there() {
    let presence = Arc::new(Slow::default());
    let engine = open_engine().presence(presence.clone()).build().unwrap();
    let mut client = Client::connect(&engine).await;
    let mut witness = engine.subscribe(&topic("room")).unwrap();
    witness.next().await;
    client.subscribe("room");
    assert_eq!(client.next().await, "subscribed room at 0");
    client.unsubscribe("room");
    while client.next().await != "unsubscribed room" {}
    presence.gate.notify_one();
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(engine.presence_stats(&topic("room")).await.unwrap().sessions, 0);
}

#[tokio::test]
async fn whoever_asks_to_resume_is_told_how_it_went_also_where_nothing_can_be() {
    let mut off = quiet(10);
    off.recovery = Recovery::Off;
    for asked in [false, true] {
        let engine = open_engine().namespace("off", off.clone());
        let engine = if asked { engine.on_subscribe(|_| async { Ok(Grant::plain()) }) } else { engine };
        let engine = engine.build().unwrap();
        let published = engine.publish(&topic("off:a"), json("1")).await.unwrap();
        let since = Since::Position(published.position.unwrap());
        engine.publish(&topic("off:a"), json("2")).await.unwrap();
        let mut client = Client::connect(&engine).await;
        client.resume("off:a", since);
        assert_eq!(client.next().await, "subscribed off:a at 2 not recovered");
        client.resume("plain:a", since);
        assert_eq!(client.next().await, "subscribed plain:a not recovered");
        let mut strict = Subscribe::new(topic("plain:b")).since(since);
        strict.refuse_unrecovered = true;
        client.send(Request::Subscribe(strict));
        assert!(client.next().await.starts_with("refused UnrecoverablePosition"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscribe_that_the_backplane_does_not_take_is_refused() {
    let engine = open_engine().backplane(Arc::new(Broken { deaf: true, ..Broken::default() })).build().unwrap();
    let mut client = Client::connect(&engine).await;
    client.subscribe("plain:a");
    let answer = tokio::time::timeout(Duration::from_secs(10), client.next()).await;
    assert!(answer.as_ref().is_ok_and(|line| line.starts_with("refused Unavailable")), "{answer:?}");
}

#[tokio::test]
async fn what_one_codec_cannot_encode_ends_nothing_for_another() {
    let engine = open_engine().with_settings(|settings| settings.shards = 1).build().unwrap();
    let poisoned = LineProtocol { poison: Some("2"), ..LineProtocol::default() };
    let mut clients = Vec::new();
    for protocol in [poisoned, LineProtocol { gap_ends: true, ..LineProtocol::default() }] {
        let mut client = Client::connect_as(&engine, protocol, None).await;
        client.subscribe("quiet:a");
        client.next().await;
        clients.push(client);
    }
    for n in 1..=2 {
        engine.publish(&topic("quiet:a"), json(&n.to_string())).await.unwrap();
    }
    assert_eq!(clients[0].take(2).await, ["quiet:a 1:1", "gap quiet:a 2-2 Unreadable"]);
    assert_eq!(clients[1].take(2).await, ["quiet:a 1:1", "quiet:a 2:2"]);
    engine.publish(&topic("quiet:a"), json("3")).await.unwrap();
    clients[1].send(Request::Ping { bare: false });
    let mut lines = clients[1].take(2).await;
    lines.sort();
    assert_eq!(lines, ["pong", "quiet:a 3:3"]);
}

#[tokio::test(start_paused = true)]
async fn answers_that_a_client_does_not_read_are_bounded() {
    let engine = open_engine()
        .with_settings(|settings| {
            settings.backlog_max_bytes = 10_000;
            settings.rates = Rates::OFF;
        })
        .build()
        .unwrap();
    for _ in 0..10 {
        engine.publish(&topic("quiet:a"), json(&format!("\"{}\"", "x".repeat(1000)))).await.unwrap();
    }
    let mut client = Client::connect(&engine).await;
    client.set_capacity(Some(0));
    for _ in 0..1000 {
        client.send(Request::History { topic: topic("quiet:a"), since: None, limit: Some(10), reverse: false });
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    let waiting = engine.stats().backlog_bytes.value();
    assert!(waiting < 40_000, "{waiting} bytes wait");
    client.set_capacity(None);
    for _ in 0..1000 {
        assert!(soon(client.next()).await.unwrap().starts_with("history quiet:a at 10"), "every command is answered");
    }
}

#[tokio::test(start_paused = true)]
async fn who_comes_and_goes_does_not_fill_the_backlog_of_a_slow_client() {
    let engine = open_engine()
        .with_settings(|settings| {
            settings.backlog_max_bytes = 1_000;
            settings.rates = Rates::OFF;
        })
        .build()
        .unwrap();
    let mut slow = Client::connect(&engine).await;
    slow.subscribe("room");
    slow.take(2).await;
    slow.set_capacity(Some(0));
    let mut other = Client::connect(&engine).await;
    for _ in 0..500 {
        other.subscribe("room");
        while !other.next().await.starts_with("subscribed") {}
        other.unsubscribe("room");
        while !other.next().await.starts_with("unsubscribed") {}
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(engine.stats().backlog_bytes.value() < 2_000, "{}", engine.stats().backlog_bytes.value());
}

#[tokio::test(start_paused = true)]
async fn a_thread_without_a_runtime_may_listen() {
    let engine = open_engine().backplane(Arc::new(Broken { deaf: true, ..Broken::default() })).build().unwrap();
    let other = engine.clone();
    let listening = std::thread::spawn(move || other.subscribe(&topic("plain:a")).is_ok());
    assert!(listening.join().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_topic_lingers_from_the_moment_its_last_listener_left() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let engine = open_engine()
        .with_settings(|settings| settings.linger = Duration::from_secs(10))
        .on_vacated(move |_| {
            let _ = tell.send(tokio::time::Instant::now());
            async {}
        })
        .build()
        .unwrap();
    for pause in [6, 0] {
        let mut stream = engine.subscribe(&topic("plain:a")).unwrap();
        stream.next().await;
        drop(stream);
        tokio::time::sleep(Duration::from_secs(pause)).await;
    }
    let left = tokio::time::Instant::now();
    let after = told.recv().await.unwrap() - left;
    assert!(after >= Duration::from_secs(10), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn nothing_follows_the_close_frame() {
    let engine = open_engine().build().unwrap();
    let mut client = Client::connect(&engine).await;
    client.set_capacity(Some(0));
    client.connection().close(broker_core::CloseReason::ForceDisconnect);
    client.connection().ping(bytes::Bytes::from_static(b"x"));
    tokio::time::sleep(Duration::from_millis(10)).await;
    client.set_capacity(None);
    assert!(client.next().await.starts_with("closed"));
    assert_eq!(client.next().await, "finished");
}

/// Is broken from the first write on that offers more bytes than this.
struct BreaksWhenFull(usize);

impl broker_core::Outlet for BreaksWhenFull {
    fn try_write(&mut self, chunks: &[bytes::Bytes]) -> std::io::Result<usize> {
        let offered: usize = chunks.iter().map(bytes::Bytes::len).sum();
        if offered > self.0 {
            self.0 = 0;
            return Err(std::io::ErrorKind::ConnectionReset.into());
        }
        Ok(offered)
    }

    fn finish(&mut self) {}
}

#[tokio::test(start_paused = true)]
async fn a_pipe_that_breaks_while_room_is_made_ends_the_session() {
    let engine = open_engine()
        .namespace("slow", quiet(10).slow_consumer(broker_core::SlowConsumer::DropOldest))
        .with_settings(|settings| settings.backlog_max_bytes = 100)
        .build()
        .unwrap();
    let start =
        broker_core::Start::AtOnce { connect: broker_core::Connect::default(), subscriptions: vec![Subscribe::new(topic("slow:a"))] };
    let mut client = Client::open_with(&engine, LineProtocol::default(), start);
    client.connection().opened().await.unwrap();
    client.connection().attach(Box::new(BreaksWhenFull(100)));
    tokio::time::sleep(Duration::from_millis(1)).await;
    engine.publish(&topic("slow:a"), json(&format!("\"{}\"", "x".repeat(200)))).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(engine.stats().sessions.value(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_drain_leaves_the_topics_empty_and_every_gauge_at_0() {
    let engine = open_engine().build().unwrap();
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = Client::connect(&engine).await;
        client.subscribe("room");
        client.next().await;
        clients.push(tokio::spawn(async move { while client.next().await != "finished" {} }));
    }
    engine.drain(Duration::from_secs(10)).await;
    let stats = engine.stats();
    let gauges = [&stats.connections, &stats.sessions, &stats.subscriptions, &stats.backlog_bytes].map(broker_core::Count::value);
    assert_eq!((gauges, engine.presence_stats(&topic("room")).await.unwrap().sessions), ([0; 4], 0));
    while engine.info().await[0].topics > 0 {
        tokio::task::yield_now().await;
    }
}
