//! A backplane that does not answer: every call of it ends, what must succeed is tried again, and what may have happened says so.

use std::{
    future::pending,
    pin::pin,
    sync::{
        Arc, Mutex, Weak,
        mpsc::{Receiver, Sender, channel},
    },
    task::{Context, Poll, Wake},
    time::Duration,
};

use broker_core::{
    Announcement, Backplane, Capabilities, Engine, EngineBuilder, HistoryQuery, Keep, LogPage, LogQuery, MemoryBackplane, Publish,
    PublishError, PublishFailed, Published, RefusalKind, Request, Since, Sink, StatePage, StateQuery, StateRequest, StreamItem, Topic,
    Unavailable, testing::Client,
};
use tokio::time::{Instant, advance, timeout};

use crate::delivering::{json, open_engine, quiet, topic};

/// A call of the backplane.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Call {
    Publish,
    Interest,
    History,
    State,
}

/// A memory backplane of which some calls never answer; a publish is taken all the same.
#[derive(Default)]
struct Hanging {
    inner: MemoryBackplane,
    calls: Mutex<Vec<Call>>,
    /// How long a read of the history takes.
    read_time: Mutex<Duration>,
    sink: Mutex<Option<Weak<dyn Sink>>>,
}

impl Hanging {
    fn hang(&self, calls: &[Call]) {
        *self.calls.lock().unwrap() = calls.to_vec();
    }

    async fn answers(&self, call: Call) {
        let hangs = self.calls.lock().unwrap().contains(&call);
        if hangs {
            pending::<()>().await;
        }
    }

    fn link_restored(&self) {
        let sink = self.sink.lock().unwrap().as_ref().and_then(Weak::upgrade);
        sink.expect("the engine has started it").link_restored();
    }
}

#[async_trait::async_trait]
impl Backplane for Hanging {
    fn start(&self, sink: Weak<dyn Sink>) {
        *self.sink.lock().unwrap() = Some(sink.clone());
        self.inner.start(sink);
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn publish(&self, topic: &Topic, publish: Publish, keep: Keep) -> Result<Published, PublishFailed> {
        let published = self.inner.publish(topic, publish, keep).await;
        self.answers(Call::Publish).await;
        published
    }

    async fn announce(&self, topic: &Topic, announcement: Announcement) -> Result<(), Unavailable> {
        self.inner.announce(topic, announcement).await
    }

    async fn interest(&self, changes: &[(Topic, bool)]) -> Result<(), Unavailable> {
        self.answers(Call::Interest).await;
        self.inner.interest(changes).await
    }

    async fn history(&self, topic: &Topic, query: LogQuery, keep: Keep) -> Result<LogPage, Unavailable> {
        self.answers(Call::History).await;
        let read_time = *self.read_time.lock().unwrap();
        tokio::time::sleep(read_time).await;
        self.inner.history(topic, query, keep).await
    }

    async fn remove_history(&self, topic: &Topic) -> Result<(), Unavailable> {
        self.inner.remove_history(topic).await
    }

    async fn state(&self, topic: &Topic, query: StateQuery, keep: Keep) -> Result<StatePage, Unavailable> {
        self.answers(Call::State).await;
        self.inner.state(topic, query, keep).await
    }
}

fn hanging(calls: &[Call]) -> (Arc<Hanging>, EngineBuilder) {
    let backplane = Arc::new(Hanging::default());
    backplane.hang(calls);
    let builder = open_engine().namespace("rows", quiet(10).keyed()).backplane(backplane.clone());
    // Nobody answers pings while time flies.
    (backplane, builder.with_settings(|settings| settings.ping_interval = Duration::from_secs(3600)))
}

#[tokio::test(start_paused = true)]
async fn a_publish_that_is_not_answered_may_have_happened_and_a_retry_is_stored_once() {
    let (backplane, builder) = hanging(&[Call::Publish]);
    let engine = builder.build().unwrap();
    let mut listener = Client::connect(&engine).await;
    listener.subscribe("quiet:a");
    listener.next().await;
    let started = Instant::now();
    let publish = || json("1").idempotency_key("k");
    let error = engine.publish(&topic("quiet:a"), publish()).await.unwrap_err();
    assert_eq!(started.elapsed(), engine.settings().publish_timeout);
    assert!(matches!(&error, PublishError::Backplane(PublishFailed::Unconfirmed(_))), "{error:?}");
    let refusal = error.into_refusal();
    assert_eq!(refusal.kind, RefusalKind::Unavailable);
    assert!(refusal.hint.is_some_and(|hint| hint.contains("idempotency key")) && refusal.retry_after.is_some());
    assert_eq!((engine.stats().publishes_failed.value(), engine.stats().backplane_timeouts.value()), (1, 1));
    backplane.hang(&[]);
    assert!(!engine.publish(&topic("quiet:a"), publish()).await.unwrap().is_new());
    engine.publish(&topic("quiet:a"), json("2")).await.unwrap();
    assert_eq!(listener.take(2).await, ["quiet:a 1:1", "quiet:a 2:2"]);
}

/// Each page has a deadline of its own: a long history on a slow backplane takes its time, and what is published meanwhile comes behind it.
#[tokio::test(start_paused = true)]
async fn a_long_history_is_read_however_slow_the_backplane_is() {
    let (backplane, builder) = hanging(&[]);
    let engine = builder.namespace("long", quiet(5_000)).build().unwrap();
    for n in 1..=3_500 {
        engine.publish(&topic("long:a"), json(&n.to_string())).await.unwrap();
    }
    let almost = engine.settings().backplane_timeout * 49 / 50;
    *backplane.read_time.lock().unwrap() = almost;
    let started = Instant::now();
    let mut stream = engine.subscribe_since(&topic("long:a"), Some(Since::Beginning)).unwrap();
    let publish = async {
        tokio::time::sleep(almost + Duration::from_secs(1)).await;
        engine.publish(&topic("long:a"), json("3501")).await.unwrap();
    };
    let read = async {
        let mut heard = 0;
        while heard < 3_501 {
            match stream.next().await.unwrap() {
                StreamItem::Publication(publication) => {
                    heard += 1;
                    assert_eq!(publication.position.map(|position| position.offset), Some(heard));
                }
                StreamItem::Gap(gap) => panic!("nothing is missing: {gap:?}"),
                _ => {}
            }
        }
    };
    tokio::join!(publish, read);
    assert_eq!(started.elapsed(), 4 * almost, "four pages");
    assert_eq!(engine.stats().backplane_timeouts.value(), 0);
}

/// Nobody runs after the top of a history for ever: what could not be read is told as missing, and the stream goes on from there.
#[tokio::test(start_paused = true)]
async fn a_history_that_grows_faster_than_it_is_read_is_told_as_a_gap() {
    const ROUNDS: u32 = 60;
    let (backplane, builder) = hanging(&[]);
    let engine = builder.namespace("long", quiet(5_000)).build().unwrap();
    let publish_many = async |count: u32| {
        for n in 0..count {
            engine.publish(&topic("long:a"), json(&n.to_string())).await.unwrap();
        }
    };
    publish_many(5_000).await;
    let almost = engine.settings().backplane_timeout * 49 / 50;
    *backplane.read_time.lock().unwrap() = almost;
    let started = Instant::now();
    let mut stream = engine.subscribe_since(&topic("long:a"), Some(Since::Beginning)).unwrap();
    let publish = async {
        for _ in 0..ROUNDS {
            tokio::time::sleep(almost).await;
            publish_many(1_500).await;
        }
    };
    let read = async {
        let (mut heard, mut first_gap) = (0, None);
        while heard < u64::from(5_000 + ROUNDS * 1_500) {
            match stream.next().await.unwrap() {
                StreamItem::Publication(publication) => {
                    heard += 1;
                    assert_eq!(publication.position.map(|position| position.offset), Some(heard), "nothing is missing that was not told");
                }
                StreamItem::Gap(gap) => {
                    first_gap.get_or_insert_with(|| started.elapsed());
                    heard = gap.to.expect("the end of the gap is known").offset;
                }
                _ => {}
            }
        }
        first_gap
    };
    let ((), first_gap) = tokio::join!(publish, read);
    let first_gap = first_gap.expect("it cannot be read");
    assert!(first_gap < almost * ROUNDS / 2, "it is told while it still grows: after {first_gap:?} of {:?}", almost * ROUNDS);
}

/// What a busy topic forgets after a page of it was read is in hand.
#[tokio::test(start_paused = true)]
async fn what_is_trimmed_after_it_was_read_is_no_loss() {
    let (backplane, builder) = hanging(&[]);
    let engine = builder.namespace("long", quiet(2_000)).build().unwrap();
    for n in 1..=2_000 {
        engine.publish(&topic("long:a"), json(&n.to_string())).await.unwrap();
    }
    let almost = engine.settings().backplane_timeout * 49 / 50;
    *backplane.read_time.lock().unwrap() = almost;
    let mut stream = engine.subscribe_since(&topic("long:a"), Some(Since::Beginning)).unwrap();
    let publish = async {
        tokio::time::sleep(almost + Duration::from_secs(1)).await;
        for n in 2_001..=2_010 {
            engine.publish(&topic("long:a"), json(&n.to_string())).await.unwrap();
        }
    };
    let read = async {
        let mut heard = 0;
        while heard < 2_010 {
            match stream.next().await.unwrap() {
                StreamItem::Publication(publication) => {
                    heard += 1;
                    assert_eq!(publication.position.map(|position| position.offset), Some(heard));
                }
                StreamItem::Gap(gap) => panic!("nothing is missing: {gap:?}"),
                _ => {}
            }
        }
    };
    tokio::join!(publish, read);
}

#[tokio::test(start_paused = true)]
async fn commands_of_clients_are_refused_for_now_and_their_sessions_go_on() {
    let (backplane, builder) = hanging(&[Call::Publish, Call::History]);
    let engine = builder.build().unwrap();
    for (request, wait) in [
        (Request::Publish { topic: topic("quiet:a"), data: json("1").data, key: None, removed: false, idempotency_key: None }, 10),
        (Request::History { topic: topic("quiet:a"), since: None, limit: Some(1), reverse: false }, 5),
    ] {
        let mut client = Client::connect(&engine).await;
        let started = Instant::now();
        client.send(request);
        let answer = client.next().await;
        assert!(answer.starts_with("refused Unavailable"), "{answer}");
        assert_eq!(started.elapsed(), Duration::from_secs(wait), "{answer}");
        client.subscribe("plain:a");
        assert_eq!(client.next().await, "subscribed plain:a");
    }
    let started = Instant::now();
    assert!(engine.history(&topic("quiet:a"), HistoryQuery::default()).await.is_err_and(|error| error.is_temporary()));
    assert_eq!(started.elapsed(), engine.settings().backplane_timeout);
    backplane.hang(&[Call::State]);
    assert!(engine.state(&topic("rows:a"), StateRequest::default()).await.is_err_and(|error| error.is_temporary()));
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_whose_read_hangs_is_refused_for_now_or_served_when_it_answers_again() {
    for (calls, name) in [(Call::History, "quiet:a"), (Call::State, "rows:a"), (Call::Interest, "quiet:b"), (Call::Interest, "plain:a")] {
        let (backplane, builder) = hanging(&[calls]);
        let engine = builder.build().unwrap();
        let mut client = Client::connect(&engine).await;
        client.subscribe(name);
        let refused = timeout(Duration::from_secs(20), client.next()).await.unwrap_or_else(|_| panic!("{name} waits for {calls:?}"));
        assert!(refused.starts_with("refused Unavailable"), "{refused}");
        engine.publish(&topic(name), json("1").key("k")).await.unwrap();
        client.subscribe(name);
        advance(Duration::from_secs(1)).await;
        backplane.hang(&[]);
        let answer = timeout(Duration::from_secs(10), client.next()).await.unwrap_or_else(|_| panic!("{name} is not served"));
        assert!(answer.starts_with(&format!("subscribed {name}")), "{answer}");
        if name == "rows:a" {
            assert_eq!(client.next().await, "rows:a 1:1");
        }
        engine.publish(&topic(name), json("2")).await.unwrap();
        assert!(client.next().await.ends_with('2'));
        client.unsubscribe(name);
        client.next().await;
        assert_eq!((engine.topics().await.len(), engine.stats().subscriptions.value()), (0, 0), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn members_whose_topic_is_read_again_get_everything_once_when_the_read_answers() {
    let (backplane, builder) = hanging(&[]);
    let engine = builder.build().unwrap();
    let mut client = Client::connect(&engine).await;
    client.subscribe("quiet:a");
    client.next().await;
    backplane.hang(&[Call::History]);
    backplane.link_restored();
    for n in 1..=3 {
        engine.publish(&topic("quiet:a"), json(&n.to_string())).await.unwrap();
    }
    assert_eq!(client.take(3).await, ["quiet:a 1:1", "quiet:a 2:2", "quiet:a 3:3"], "delivery does not wait for the read");
    advance(Duration::from_secs(12)).await;
    backplane.hang(&[]);
    let mut late = Client::connect(&engine).await;
    late.subscribe("quiet:a");
    assert_eq!(timeout(Duration::from_secs(10), late.next()).await.as_deref(), Ok("subscribed quiet:a at 3"));
    engine.publish(&topic("quiet:a"), json("4")).await.unwrap();
    assert_eq!((client.next().await, late.next().await), ("quiet:a 4:4".to_owned(), "quiet:a 4:4".to_owned()));
}

/// Wakes whoever polls outside every runtime.
struct Poke(Sender<()>);

impl Wake for Poke {
    fn wake(self: Arc<Self>) {
        // Nobody polls any more.
        let _ = self.0.send(());
    }
}

fn block_on<T>(future: impl Future<Output = T>, poked: &Receiver<()>, poke: Sender<()>) -> T {
    let waker = Arc::new(Poke(poke)).into();
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => poked.recv().expect("the waker lives as long as the loop"),
        }
    }
}

#[test]
fn outside_every_runtime_a_publish_ends_as_well() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (_backplane, builder) = hanging(&[Call::Publish]);
    let builder = builder.with_settings(|settings| settings.publish_timeout = Duration::from_millis(20));
    let engine: Engine = builder.shards_on(runtime.handle().clone()).build().unwrap();
    let (poke, poked) = channel();
    let error = block_on(engine.publish(&topic("quiet:a"), json("1")), &poked, poke).unwrap_err();
    assert!(matches!(error, PublishError::Backplane(PublishFailed::Unconfirmed(_))), "{error:?}");
}
