//! The current state of topics, from an application behind the real binary: one call for many, older snapshots, and none.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{
    application::{Application, Call, Talk, hooks_at},
    serving::{Running, get},
};

const KEY: &str = "a1B2c3D4e5F6g7H8";

/// What `/snapshot` is answered.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Mood {
    Answers,
    Fails,
}

fn config(hooks: &str, rest: &str) -> String {
    format!(
        "[client]\nanonymous = true\n[api]\nkey = \"{KEY}\"\n[hooks]\nfailures_max = 2\n{hooks}{rest}[namespaces.state]\nallow = [\"sub\"]\n\
         allow_anonymous = true\nhistory_size = 10\nhooks = [\"snapshot\"]\n[[routes]]\npath = \"/ws/app\"\n[[routes]]\n\
         path = \"/ws/raw\"\ntopic = \"state:raw\"\nformat = \"raw\"\n"
    )
}

fn subscribe(topic: &str) -> Value {
    json!({"id": 2, "subscribe": {"channel": topic}})
}

async fn sdk(server: &Running) -> Talk {
    Talk::centrifuge(server.listen, json!({})).await.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hundred_subscribers_cost_one_call_and_each_protocol_gets_the_snapshot_first() {
    let application = Application::start(|call: &Call| json!({"result": {"data": {"of": call.body["channel"]}}})).await;
    let server = Running::start(&config(&application.hooks(&["snapshot"]), ""), &[]);
    let mut clients = join_all((0..300).map(|_| sdk(&server))).await;
    let answers = join_all(clients.iter_mut().map(|client| client.ask(subscribe("state:a")))).await;
    for answer in &answers {
        assert_eq!(answer["subscribe"]["data"], json!({"of": "state:a"}), "{answer}");
    }
    let calls = application.called("/snapshot");
    assert_eq!(calls.iter().map(|call| &call.body).collect::<Vec<_>>(), [&json!({"channel": "state:a"})], "one call for all");

    let mut envelope = Talk::plain(server.listen, "/ws/app", &[]).await;
    envelope.say(json!({"broker": "subscribe", "id": 1, "topic": "state:b"})).await;
    let frames = [envelope.hear().await, envelope.hear().await];
    assert_eq!((&frames[0]["broker"], &frames[1]["broker"]), (&json!("subscribed"), &json!("snapshot")));
    assert_eq!((&frames[1]["topic"], &frames[1]["data"]), (&json!("state:b"), &json!({"of": "state:b"})));
    let mut raw = Talk::open(server.listen, "/ws/raw", &[]).await;
    assert_eq!(raw.hear().await, json!({"of": "state:raw"}));
    assert!(server.publish(KEY, "state:raw").contains("{\"result\":{"));
    assert_eq!(raw.hear().await, json!(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_snapshot_stands_in_while_the_application_is_down_and_then_nothing() {
    let (mood, seen) = watch::channel(Mood::Answers);
    let application = Application::start(move |_| match *seen.borrow() {
        Mood::Answers => json!({"result": {"b64data": "eyJzdGF0ZSI6MX0="}}),
        Mood::Fails => json!({"error": {"code": 100, "message": "no database"}}),
    })
    .await;
    // One client asks again and again until something changes.
    let rates = "commands = \"100000/s\"\ncommands_burst = 100000\nsubscribes = \"100000/s\"\nsubscribes_burst = 100000\n";
    let rest = format!("stale = \"4s\"\n[client.rate]\n{rates}");
    let server = Running::start(&config(&application.hooks(&["snapshot"]), &rest), &[]);
    let mut first = sdk(&server).await;
    assert_eq!(first.ask(subscribe("state:a")).await["subscribe"]["data"], json!({"state": 1}));
    assert!(server.publish(KEY, "state:a").contains("{\"result\":{"));
    assert_eq!(first.hear().await["push"]["pub"]["data"], 1);
    mood.send_replace(Mood::Fails);
    // The second for which a snapshot serves without a call passes; the application is asked, fails, and the snapshot stands in.
    let (mut plain, mut stood_in) = (Talk::plain(server.listen, "/ws/app", &[]).await, 0);
    loop {
        let answer = plain.ask(json!({"broker": "subscribe", "id": 1, "topic": "state:a"})).await;
        if answer["broker"] == "error" {
            assert_eq!((&answer["error"], answer["retry_after_ms"].is_u64()), (&json!("unavailable"), true), "{answer}");
            break;
        }
        let frames = [plain.hear().await, plain.hear().await];
        assert_eq!((&frames[0]["broker"], &frames[0]["data"]), (&json!("snapshot"), &json!({"state": 1})));
        assert_eq!((&frames[1]["broker"], &frames[1]["data"]), (&json!("publication"), &json!(1)), "with what was published since");
        stood_in += usize::from(application.called("/snapshot").len() > 1);
        plain.ask(json!({"broker": "unsubscribe", "id": 2, "topic": "state:a"})).await;
    }
    assert!(stood_in > 0, "the snapshot never stood in");
    let log = server.log();
    assert!(log.contains("no database") && log.contains("the snapshot hook fails"), "{log}");
    mood.send_replace(Mood::Answers);
    let mut last = sdk(&server).await;
    assert_eq!(last.ask(subscribe("state:a")).await["subscribe"]["data"], json!({"state": 1}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_that_is_gone_is_left_alone_and_refuses_for_a_time() {
    let gone = tokio::net::TcpSocket::new_v4().unwrap();
    gone.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let server = Running::start(&config(&hooks_at(gone.local_addr().unwrap(), &["snapshot"]), ""), &[]);
    let mut client = sdk(&server).await;
    for topic in ["state:a", "state:b", "state:c"] {
        let refused = client.ask(subscribe(topic)).await;
        assert_eq!((&refused["error"]["code"], &refused["error"]["temporary"]), (&json!(100), &json!(true)), "{refused}");
    }
    let metrics = get(server.internal, "/metrics");
    for line in [
        "broker_hook_calls_total{hook=\"snapshot\"} 3",
        "broker_hook_failures_total{hook=\"snapshot\",cause=\"circuit_open\"} 1",
        "broker_hook_circuit_open{hook=\"snapshot\"} 1",
    ] {
        assert!(metrics.lines().any(|one| one == line), "{line} is missing in\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_snapshot_or_a_namespace_that_asks_a_subscribe_goes_on() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let application = Application::start(move |_| {
        counted.fetch_add(1, Relaxed);
        json!({"result": {}})
    })
    .await;
    let others = "[default]\nallow = [\"sub\"]\nallow_anonymous = true\nhooks = [\"snapshot\"]\n[namespaces.other]\nallow = [\"sub\"]\nallow_anonymous = true\n";
    let server = Running::start(&config(&application.hooks(&["snapshot"]), others), &[]);
    let mut client = sdk(&server).await;
    for (topic, asked) in [("state:a", 1), ("news", 2), ("other:a", 2)] {
        let answer = client.ask(subscribe(topic)).await;
        assert!(answer["subscribe"].is_object() && answer["subscribe"]["data"].is_null(), "{answer}");
        assert_eq!(calls.load(Relaxed), asked, "{topic}");
    }
    assert!(server.publish(KEY, "state:a").contains("{\"result\":{"));
    let push = tokio::time::timeout(Duration::from_secs(10), client.hear()).await.unwrap();
    assert_eq!(push["push"]["pub"]["data"], 1);
}
