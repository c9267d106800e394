//! Snapshots that are not there, and older ones that stand in while the application is down: never missed, perhaps reflected already.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use broker_core::{Engine, Payload, Position, Since, SnapshotFailed, Subscribe, testing::Client};
use tokio::{sync::watch, time::advance};

use crate::delivering::{json, open_engine, topic};

/// What the application does when it is asked.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Mood {
    /// Its snapshot is the number of the call.
    Answers,
    /// It has no snapshot.
    Empty,
    Fails,
    /// It does not answer within the hook timeout.
    Hangs,
}

struct Application {
    mood: watch::Sender<Mood>,
    calls: Arc<AtomicUsize>,
}

impl Application {
    /// An engine whose topics in `quiet` and `plain` have snapshots, the last of which may stand in so long.
    fn behind(stale_max: Duration) -> (Self, Engine) {
        let (mood, seen) = watch::channel(Mood::Answers);
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let hook = move |_| {
            let (mut seen, counted) = (seen.clone(), counted.clone());
            async move {
                let call = counted.fetch_add(1, Relaxed) + 1;
                // Whoever hangs does so until another mood comes.
                let mood = *seen.wait_for(|mood| *mood != Mood::Hangs).await.map_err(|_| SnapshotFailed::new("gone"))?;
                match mood {
                    Mood::Answers => Ok(Some(Payload::json(format!("{{\"call\":{call}}}")))),
                    Mood::Empty => Ok(None),
                    Mood::Fails | Mood::Hangs => Err(SnapshotFailed::new("no database")),
                }
            }
        };
        let engine = open_engine()
            .with_settings(|settings| settings.snapshot_stale_max = stale_max)
            .snapshot("quiet", hook.clone())
            .snapshot("plain", hook)
            .build()
            .unwrap();
        (Self { mood, calls }, engine)
    }

    fn is(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    fn calls(&self) -> usize {
        self.calls.load(Relaxed)
    }
}

const REFUSED: &str = "refused Unavailable: the current state is not available, try again";

/// What a new subscriber is told first.
async fn joins(engine: &Engine, to: &str, lines: usize) -> (Client, Vec<String>) {
    let mut client = Client::connect(engine).await;
    client.subscribe(to);
    let lines = client.take(lines).await;
    (client, lines)
}

async fn publish(engine: &Engine, to: &str, numbers: std::ops::RangeInclusive<u64>) {
    for n in numbers {
        engine.publish(&topic(to), json(&n.to_string())).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_snapshot_stands_in_with_everything_that_was_published_since() {
    for mood in [Mood::Fails, Mood::Hangs] {
        let (application, engine) = Application::behind(Duration::from_secs(10));
        let (mut first, lines) = joins(&engine, "quiet:a", 2).await;
        assert_eq!(lines, ["subscribed quiet:a at 0", "snapshot quiet:a {\"call\":1}"]);
        publish(&engine, "quiet:a", 1..=2).await;
        assert_eq!(first.take(2).await, ["quiet:a 1:1", "quiet:a 2:2"]);
        advance(Duration::from_secs(4)).await;
        application.is(mood);
        let (mut second, lines) = joins(&engine, "quiet:a", 4).await;
        assert_eq!(lines, ["subscribed quiet:a at 2", "snapshot quiet:a {\"call\":1}", "quiet:a 1:1", "quiet:a 2:2"]);
        assert_eq!(application.calls(), 2);
        // What stood in serves for a while without another call.
        publish(&engine, "quiet:a", 3..=3).await;
        let (_third, lines) = joins(&engine, "quiet:a", 5).await;
        assert_eq!(lines[3..], ["quiet:a 2:2", "quiet:a 3:3"]);
        assert_eq!(application.calls(), 2);
        assert_eq!(second.next().await, "quiet:a 3:3", "whoever joined with it is a member like any other");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_published_while_a_call_fails_is_not_missed() {
    let (application, engine) = Application::behind(Duration::from_secs(10));
    let (_first, _) = joins(&engine, "plain:a", 2).await;
    publish(&engine, "plain:a", 1..=1).await;
    advance(Duration::from_secs(2)).await;
    application.is(Mood::Hangs);
    let mut second = Client::connect(&engine).await;
    second.subscribe("plain:a");
    while application.calls() < 2 {
        tokio::task::yield_now().await;
    }
    publish(&engine, "plain:a", 2..=2).await;
    application.is(Mood::Fails);
    assert_eq!(second.take(4).await, ["subscribed plain:a", "snapshot plain:a {\"call\":1}", "plain:a 1", "plain:a 2"]);
    publish(&engine, "plain:a", 3..=3).await;
    assert_eq!(second.next().await, "plain:a 3");
}

#[tokio::test(start_paused = true)]
async fn an_older_snapshot_is_refused_until_the_application_answers_again() {
    let (application, engine) = Application::behind(Duration::from_secs(10));
    let (_first, _) = joins(&engine, "quiet:a", 2).await;
    publish(&engine, "quiet:a", 1..=1).await;
    application.is(Mood::Fails);
    advance(Duration::from_millis(10_001)).await;
    let (mut second, lines) = joins(&engine, "quiet:a", 1).await;
    assert_eq!(lines, [REFUSED]);
    application.is(Mood::Answers);
    second.subscribe("quiet:a");
    assert_eq!(second.take(2).await, ["subscribed quiet:a at 1", "snapshot quiet:a {\"call\":3}"], "what is new begins anew");
}

#[tokio::test(start_paused = true)]
async fn without_everything_since_nothing_stands_in() {
    let (application, engine) = Application::behind(Duration::from_secs(10));
    let (_first, _) = joins(&engine, "quiet:a", 2).await;
    publish(&engine, "quiet:a", 1..=256).await;
    advance(Duration::from_secs(2)).await;
    application.is(Mood::Fails);
    let (_second, lines) = joins(&engine, "quiet:a", 258).await;
    assert_eq!((lines[2].as_str(), lines[257].as_str()), ("quiet:a 1:1", "quiet:a 256:256"));
    publish(&engine, "quiet:a", 257..=257).await;
    advance(Duration::from_secs(2)).await;
    let (_third, lines) = joins(&engine, "quiet:a", 1).await;
    assert_eq!(lines, [REFUSED]);
}

#[tokio::test(start_paused = true)]
async fn unless_it_is_allowed_no_older_snapshot_stands_in() {
    let (application, engine) = Application::behind(Duration::ZERO);
    let (_first, _) = joins(&engine, "quiet:a", 2).await;
    application.is(Mood::Fails);
    // While it is fresh it serves: nobody is asked.
    assert_eq!(joins(&engine, "quiet:a", 2).await.1[1], "snapshot quiet:a {\"call\":1}");
    advance(Duration::from_secs(1)).await;
    assert_eq!(joins(&engine, "quiet:a", 1).await.1, [REFUSED]);
}

#[tokio::test(start_paused = true)]
async fn without_a_snapshot_a_subscriber_begins_where_the_others_stand() {
    let (application, engine) = Application::behind(Duration::from_secs(10));
    application.is(Mood::Empty);
    let (mut first, lines) = joins(&engine, "quiet:a", 1).await;
    assert_eq!(lines, ["subscribed quiet:a at 0"]);
    publish(&engine, "quiet:a", 1..=1).await;
    assert_eq!(first.next().await, "quiet:a 1:1");
    // Also within the second that an answer serves: something was published, so there may be a state now.
    application.is(Mood::Answers);
    let (mut second, lines) = joins(&engine, "quiet:a", 2).await;
    assert_eq!((lines, application.calls()), (vec!["subscribed quiet:a at 1".to_owned(), "snapshot quiet:a {\"call\":2}".to_owned()], 2));
    publish(&engine, "quiet:a", 2..=2).await;
    assert_eq!(second.next().await, "quiet:a 2:2");
}

#[tokio::test(start_paused = true)]
async fn that_there_is_no_snapshot_serves_all_who_come_before_something_is_published() {
    let (application, engine) = Application::behind(Duration::from_secs(10));
    application.is(Mood::Empty);
    let mut members = Vec::new();
    for _ in 0..3 {
        let (member, lines) = joins(&engine, "quiet:a", 1).await;
        assert_eq!((lines, application.calls()), (vec!["subscribed quiet:a at 0".to_owned()], 1));
        members.push(member);
    }
}

#[tokio::test(start_paused = true)]
async fn a_resume_that_failed_without_a_snapshot_is_told_of_everything_that_it_missed() {
    let (application, engine) = Application::behind(Duration::ZERO);
    publish(&engine, "quiet:a", 1..=200).await;
    application.is(Mood::Hangs);
    let mut client = Client::connect(&engine).await;
    let epoch = engine.history(&topic("quiet:a"), broker_core::HistoryQuery::default()).await.unwrap().position.epoch;
    let since = Since::Position(Position { offset: 1, epoch });
    client.send(broker_core::Request::Subscribe(Subscribe::new(topic("quiet:a")).since(since)));
    while application.calls() < 1 {
        tokio::task::yield_now().await;
    }
    publish(&engine, "quiet:a", 201..=202).await;
    application.is(Mood::Empty);
    let told = client.next().await;
    assert_eq!(told, "subscribed quiet:a at 202 not recovered");
    publish(&engine, "quiet:a", 203..=203).await;
    assert_eq!(client.next().await, "quiet:a 203:203");
}

#[tokio::test]
async fn publications_without_a_position_behind_a_snapshot_come_each_in_its_page() {
    let (go, gone) = watch::channel(false);
    let hook = move |_| {
        let mut gone = gone.clone();
        async move {
            gone.wait_for(|gone| *gone).await.map_err(|_| SnapshotFailed::new("gone"))?;
            Ok(Payload::json("0"))
        }
    };
    let engine = open_engine().with_settings(|settings| settings.backlog_max_bytes = 500).snapshot("quiet", hook).build().unwrap();
    let mut client = Client::connect(&engine).await;
    client.subscribe("quiet:a");
    while engine.stats().snapshot_calls.value() == 0 {
        tokio::task::yield_now().await;
    }
    for n in 1..=4 {
        let long = json(&format!("\"{n}{}\"", "x".repeat(200)));
        engine.publish(&topic("quiet:a"), long.skip_history()).await.unwrap();
    }
    go.send_replace(true);
    assert!(client.next().await.starts_with("subscribed quiet:a"));
    assert_eq!(client.next().await, "snapshot quiet:a 0");
    let mut heard = Vec::new();
    for _ in 1..=4 {
        heard.push(client.next().await.chars().filter(char::is_ascii_digit).collect::<String>());
    }
    assert_eq!(heard, ["1", "2", "3", "4"], "with the number of nobody's page twice");
}
