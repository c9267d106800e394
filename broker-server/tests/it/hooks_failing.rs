//! An application that is not there: what clients are told, what the operator sees, and who is not disturbed.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpSocket;

use broker_auth::{Claims, HmacTokens, TokenOptions};

use crate::{
    application::{Application, Talk, hooks_at, in_seconds},
    serving::{Running, get},
};

const SECRET: &str = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6";
const KEY: &str = "a1B2c3D4e5F6g7H8";

/// Everything but connecting with a token is the application's.
fn config(hooks: &str) -> String {
    format!(
        "[client.token]\nhmac_secret = \"{SECRET}\"\n[api]\nkey = \"{KEY}\"\n[hooks]\nfailures_max = 3\n{hooks}[namespaces.news]\nallow = [\"sub\"]\n[[routes]]\npath = \"/ws/app\"\n"
    )
}

fn bearer(user: &str) -> String {
    HmacTokens::new(SECRET, TokenOptions::default()).unwrap().create(&Claims::user(user))
}

/// A namespace in which the application decides.
const ASKED: &str = "[namespaces.asked]\nhooks = [\"subscribe\", \"publish\"]\n";

/// An address where nobody listens, and nobody else will while this is held.
fn nobody() -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    socket
}

fn has(text: &str, wanted: &str) {
    assert!(text.contains(wanted), "{wanted} is missing in\n{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_hook_of_an_application_that_is_down_is_a_temporary_refusal_that_disturbs_nobody_else() {
    let down = nobody();
    let hooks = hooks_at(down.local_addr().unwrap(), &["connect", "subscribe", "publish", "rpc", "message", "disconnect"]);
    let server = Running::start(&config(&(hooks + ASKED)), &[]);
    let (mut canary, _) = Talk::centrifuge(server.listen, json!({"token": bearer("canary")})).await;
    assert!(canary.ask(json!({"id": 2, "subscribe": {"channel": "news:1"}})).await["subscribe"].is_object());

    let (mut sdk, _) = Talk::centrifuge(server.listen, json!({"token": bearer("sdk")})).await;
    let header = format!("Bearer {}", bearer("plain"));
    let mut plain = Talk::plain(server.listen, "/ws/app", &[("authorization", &header)]).await;
    for (hook, in_sdk, in_plain) in [
        ("subscribe", json!({"subscribe": {"channel": "asked:1"}}), json!({"broker": "subscribe", "topic": "asked:1"})),
        ("publish", json!({"publish": {"channel": "asked:1", "data": 1}}), json!({"broker": "publish", "topic": "asked:1", "data": 1})),
        ("rpc", json!({"rpc": {"method": "m"}}), json!({"broker": "call", "method": "m"})),
    ] {
        let told = format!("the application did not answer ({hook}), try again");
        let with_id = |mut command: Value| {
            command["id"] = json!(7);
            command
        };
        let refused = sdk.ask(with_id(in_sdk)).await;
        assert_eq!(refused["error"], json!({"code": 100, "message": told, "temporary": true}), "{hook}");
        let refused = plain.ask(with_id(in_plain)).await;
        assert_eq!((&refused["error"], &refused["message"]), (&json!("unavailable"), &json!(told)), "{hook}");
    }
    plain.say(json!({"type": "theirs"})).await;
    let refused = plain.hear_where(|frame| frame["broker"] == "error").await;
    assert_eq!((&refused["error"], &refused["code"]), (&json!("unavailable"), &json!(100)));
    // A `send` has no answer, and costs its client nothing: the log says what became of it.
    sdk.say(json!({"send": {"data": {"type": "theirs"}}})).await;
    let refused = sdk.ask(json!({"id": 8, "rpc": {"method": "m"}})).await;
    assert_eq!(refused["error"]["code"], 100);
    let refused = server.upgrade("/ws/app");
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("the application did not answer (connect), try again"), "{refused}");

    assert!(server.publish(KEY, "news:1").contains("{\"result\":{"));
    assert_eq!(canary.hear().await["push"]["pub"]["data"], 1);
    let log = server.log();
    for hook in ["connect", "subscribe", "publish", "rpc", "message"] {
        has(&log, &format!("see that the application listens at hooks.{hook}.url"));
        has(&get(server.internal, "/metrics"), &format!("\nbroker_hook_failures_total{{hook=\"{hook}\",cause=\"transport\"}} "));
    }
    has(&log, "see hooks.subscribe");
    let dropped = log.lines().filter(|line| line.contains("the application did not answer (message)")).count();
    assert_eq!(dropped, 2, "one of each protocol\n{log}");
    for secret in [SECRET, &bearer("sdk")[..20], &header[..20]] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_failures_in_a_row_nothing_is_called_until_the_application_is_back() {
    let down = nobody();
    let address = down.local_addr().unwrap();
    let server = Running::start(&config(&(hooks_at(address, &["connect", "subscribe", "publish"]) + ASKED)), &[]);
    let mut client = Talk::plain(server.listen, "/ws/app", &[("authorization", &format!("Bearer {}", bearer("ris1")))]).await;
    let subscribe = json!({"broker": "subscribe", "id": 2, "topic": "asked:1"});
    for _ in 0..4 {
        assert_eq!(client.ask(subscribe.clone()).await["error"], "unavailable");
    }
    let metrics = get(server.internal, "/metrics");
    for line in [
        "broker_hook_calls_total{hook=\"subscribe\"} 4",
        "broker_hook_failures_total{hook=\"subscribe\",cause=\"transport\"} 3",
        "broker_hook_failures_total{hook=\"subscribe\",cause=\"circuit_open\"} 1",
        "broker_hook_circuit_open{hook=\"subscribe\"} 1",
        "broker_hook_circuit_open{hook=\"publish\"} 0",
    ] {
        has(&metrics, &format!("\n{line}\n"));
    }
    has(&server.log(), "the application does not answer: its hook is not called for a while");

    let application = Application::listen(down.listen(16).unwrap(), |_| json!({"result": {}}));
    // The client waits for as long as it is told to.
    let back = loop {
        let answer = client.ask(subscribe.clone()).await;
        let Some(pause) = answer["retry_after_ms"].as_u64() else { break answer };
        assert!((1..=1250).contains(&pause), "{answer}");
        tokio::time::sleep(Duration::from_millis(pause)).await;
    };
    assert_eq!(back["broker"], "subscribed");
    assert_eq!(application.called("/subscribe").len(), 1, "one call tries");
    has(&server.log(), "the application answers again");
    has(&get(server.internal, "/metrics"), "\nbroker_hook_circuit_open{hook=\"subscribe\"} 0\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_that_gets_no_answer_is_asked_again_and_the_old_end_stands() {
    let down = nobody();
    let application = Application::start(|_| json!({"result": {"user": "kim", "expire_at": in_seconds(5)}})).await;
    let hooks = application.hooks(&["connect"]) + &hooks_at(down.local_addr().unwrap(), &["refresh"]);
    let server = Running::start(&config(&hooks), &[]);
    let mut client = Talk::plain(server.listen, "/ws/app", &[]).await;
    assert_eq!(client.closed().await.0, 3005);
    let metrics = get(server.internal, "/metrics");
    let failures = metrics.split("\nbroker_hook_failures_total{hook=\"refresh\",cause=\"transport\"} ").nth(1).unwrap();
    assert!(failures.lines().next().unwrap().parse::<u32>().unwrap() >= 2, "asked once only: {metrics}");
    has(&server.log(), "see that the application listens at hooks.refresh.url");
}
