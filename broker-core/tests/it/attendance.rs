//! Who is told of users who come and go: once per user, and not of reloads and lost networks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use broker_core::{
    Arrival, Departure, Engine, EngineBuilder, MemoryPresence, Namespace, Presence, PresenceStats, Request, SessionId, SessionInfo, Topic,
    Unavailable, testing::Client,
};

use crate::{
    delivering::{open_engine, topic},
    except::{connect, engine_with_users},
    identity::{authenticate, until},
};

/// Longer than anything that is done at once takes, shorter than the delay of a leave.
const SOON: Duration = Duration::from_millis(100);

/// Whose clients need not answer pings while time flies.
fn patient() -> EngineBuilder {
    engine_with_users().with_settings(|settings| settings.ping_interval = Duration::from_secs(3600))
}

async fn in_room(engine: &Engine, user: &str) -> Client {
    let mut client = connect(engine, user).await;
    client.subscribe("room");
    assert_eq!(client.next().await, "subscribed room at 0");
    client
}

/// Somebody who is told, and has heard of itself.
async fn witness(engine: &Engine) -> Client {
    let mut client = in_room(engine, "witness").await;
    assert_eq!(client.next().await, "join room witness");
    client
}

/// What is told within a time, except pings.
async fn told_within(witness: &mut Client, time: Duration) -> Vec<String> {
    tokio::time::sleep(time).await;
    let lines = std::iter::from_fn(|| witness.try_next());
    let lines = lines.inspect(|line| assert_ne!(line, "finished", "the witness must stay"));
    lines.filter(|line| line != "ping").collect()
}

async fn users(engine: &Engine) -> PresenceStats {
    engine.presence_stats(&topic("room")).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_user_with_many_tabs_comes_and_goes_once() {
    let engine = patient().build().unwrap();
    let mut witness = witness(&engine).await;
    let mut tabs = Vec::new();
    for _ in 0..5 {
        tabs.push(in_room(&engine, "ann").await);
    }
    assert_eq!(told_within(&mut witness, SOON).await, ["join room ann"]);
    assert_eq!(users(&engine).await, PresenceStats { sessions: 6, users: 2 });
    tabs.truncate(1);
    assert_eq!(told_within(&mut witness, Duration::from_secs(10)).await, [""; 0]);
    tabs.clear();
    assert_eq!(told_within(&mut witness, Duration::from_millis(4900)).await, [""; 0]);
    assert_eq!(users(&engine).await, PresenceStats { sessions: 1, users: 1 }, "presence does not wait");
    assert_eq!(told_within(&mut witness, Duration::from_millis(200)).await, ["leave room ann"]);
}

#[tokio::test(start_paused = true)]
async fn a_reload_is_nobodys_news() {
    let engine = patient().build().unwrap();
    let mut witness = witness(&engine).await;
    let ann = in_room(&engine, "ann").await;
    assert_eq!(told_within(&mut witness, SOON).await, ["join room ann"]);
    drop(ann);
    tokio::time::sleep(Duration::from_secs(4)).await;
    let ann = in_room(&engine, "ann").await;
    assert_eq!(told_within(&mut witness, Duration::from_secs(20)).await, [""; 0]);
    drop(ann);
    tokio::time::sleep(Duration::from_secs(3)).await;
    // Gone again, three seconds after the first time would be over.
    drop(in_room(&engine, "ann").await);
    assert_eq!(told_within(&mut witness, Duration::from_millis(4900)).await, [""; 0], "the time begins with the last leave");
    assert_eq!(told_within(&mut witness, Duration::from_millis(200)).await, ["leave room ann"]);
    let _ann = in_room(&engine, "ann").await;
    assert_eq!(told_within(&mut witness, SOON).await, ["join room ann"]);
}

#[tokio::test(start_paused = true)]
async fn who_unsubscribes_has_left_at_once() {
    let engine = patient().build().unwrap();
    let mut witness = witness(&engine).await;
    let (first, second) = (in_room(&engine, "ann").await, in_room(&engine, "ann").await);
    assert_eq!(told_within(&mut witness, SOON).await, ["join room ann"]);
    first.unsubscribe("room");
    assert_eq!(told_within(&mut witness, SOON).await, [""; 0]);
    second.unsubscribe("room");
    assert_eq!(told_within(&mut witness, SOON).await, ["leave room ann"]);
    drop((first, second));
    assert_eq!(told_within(&mut witness, Duration::from_secs(10)).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_as_somebody_else_has_left_at_once() {
    let engine = patient().build().unwrap();
    let mut witness = witness(&engine).await;
    let changing = in_room(&engine, "ann").await;
    let other = in_room(&engine, "bob").await;
    assert_eq!(told_within(&mut witness, SOON).await, ["join room ann", "join room bob"]);
    authenticate(&changing, "bob");
    assert_eq!(told_within(&mut witness, SOON).await, ["leave room ann"], "bob was there");
    authenticate(&changing, "cid");
    assert_eq!(told_within(&mut witness, SOON).await, ["join room cid"], "bob is there still");
    assert_eq!(users(&engine).await, PresenceStats { sessions: 3, users: 3 });
    drop((changing, other));
    let mut told = told_within(&mut witness, Duration::from_secs(6)).await;
    told.sort();
    assert_eq!(told, ["leave room bob", "leave room cid"]);
}

#[tokio::test(start_paused = true)]
async fn an_anonymous_session_is_somebody_of_its_own() {
    let engine = open_engine().build().unwrap();
    let mut witness = in_room(&engine, "").await;
    assert_eq!(witness.next().await, "join room ");
    let both = (in_room(&engine, "").await, in_room(&engine, "").await);
    assert_eq!(told_within(&mut witness, SOON).await, ["join room ", "join room "]);
    assert_eq!(users(&engine).await, PresenceStats { sessions: 3, users: 3 });
    drop(both);
    assert_eq!(told_within(&mut witness, SOON).await, ["leave room ", "leave room "]);
}

#[tokio::test(start_paused = true)]
async fn users_are_counted_also_where_presence_is_off() {
    let mut told = Namespace::open();
    told.presence = false;
    let engine = patient().namespace("told", told).build().unwrap();
    let mut clients = Vec::new();
    for user in ["witness", "ann", "ann"] {
        let mut client = connect(&engine, user).await;
        client.subscribe("told:a");
        assert!(client.next().await.starts_with("subscribed told:a"));
        clients.push(client);
    }
    let mut witness = clients.remove(0);
    assert_eq!(told_within(&mut witness, SOON).await, ["join told:a witness", "join told:a ann"]);
    witness.send(Request::Presence { topic: topic("told:a") });
    assert!(witness.next().await.starts_with("refused NotAvailable"));
    assert!(engine.presence_stats(&topic("told:a")).await.is_err());
    clients.clear();
    assert_eq!(told_within(&mut witness, Duration::from_secs(6)).await, ["leave told:a ann"]);
}

#[tokio::test(start_paused = true)]
async fn a_user_that_comes_back_on_another_node_has_not_left() {
    let presence = Arc::new(MemoryPresence::new());
    let node = || patient().presence(presence.clone()).build().unwrap();
    let (first, second) = (node(), node());
    let mut witness = witness(&first).await;
    let mut other = in_room(&second, "other").await;
    let ann = in_room(&first, "ann").await;
    assert_eq!(told_within(&mut witness, SOON).await, ["join room ann"]);
    drop(ann);
    let ann = in_room(&second, "ann").await;
    assert_eq!(told_within(&mut witness, Duration::from_secs(10)).await, [""; 0]);
    assert_eq!(told_within(&mut other, SOON).await, ["join room other"]);
    drop(ann);
    assert_eq!(told_within(&mut other, Duration::from_secs(6)).await, ["leave room ann"]);
}

/// Presence that takes its time, and counts how often it settles at once.
#[derive(Default)]
struct Busy {
    inner: MemoryPresence,
    settling: AtomicUsize,
    settling_most: AtomicUsize,
}

#[async_trait::async_trait]
impl Presence for Busy {
    async fn upsert(&self, topic: &Topic, info: Arc<SessionInfo>) -> Result<Arrival, Unavailable> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.inner.upsert(topic, info).await
    }

    async fn remove(&self, topic: &Topic, session: SessionId, linger: Duration) -> Result<Departure, Unavailable> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.inner.remove(topic, session, linger).await
    }

    async fn settle(&self, topic: &Topic, who: &SessionInfo) -> Result<bool, Unavailable> {
        self.settling_most.fetch_max(self.settling.fetch_add(1, Relaxed) + 1, Relaxed);
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.settling.fetch_sub(1, Relaxed);
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
async fn sessions_of_a_user_are_told_in_the_order_in_which_presence_knew_them() {
    let engine = patient().presence(Arc::new(Busy::default())).build().unwrap();
    let mut witness = witness(&engine).await;
    let mut clients = [connect(&engine, "ann").await, connect(&engine, "ann").await];
    for _ in 0..20 {
        for client in &mut clients {
            // Presence answers later than the client goes on.
            client.subscribe("room");
            until(client, "subscribed").await;
            client.unsubscribe("room");
        }
    }
    let told = told_within(&mut witness, SOON).await;
    assert!(told.len() >= 2, "{told:?}");
    for (line, n) in told.iter().zip(0..) {
        assert_eq!(line, if n % 2 == 0 { "join room ann" } else { "leave room ann" }, "{told:?}");
    }
    assert_eq!(told.len() % 2, 0, "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_connections_of_a_draining_node_neither_hang_nor_burst() {
    let presence = Arc::new(Busy::default());
    let engine = patient().presence(presence.clone()).build().unwrap();
    let mut clients = Vec::new();
    for n in 0..10_000 {
        let mut client = connect(&engine, &format!("user{n}")).await;
        // The witnesses of each other are few: nobody is told ten thousand times ten thousand lines.
        client.subscribe(&format!("room{}", n / 10));
        assert!(client.next().await.starts_with("subscribed"));
        clients.push(client);
    }
    let drained = tokio::time::timeout(Duration::from_secs(30), async {
        let drain = tokio::spawn({
            let engine = engine.clone();
            async move { engine.drain(Duration::from_secs(20)).await }
        });
        for mut client in clients {
            while client.next().await != "finished" {}
        }
        drain.await.unwrap();
    });
    drained.await.expect("it does not hang");
    tokio::time::sleep(Duration::from_secs(6)).await;
    let most = presence.settling_most.load(Relaxed);
    assert!((1..=64).contains(&most), "{most} at a time");
    assert_eq!(presence.inner.count(&topic("room0")).await.unwrap(), PresenceStats::default());
    assert_eq!(format!("{:?}", presence.inner), format!("{:?}", MemoryPresence::new()), "nobody lingers on");
}
