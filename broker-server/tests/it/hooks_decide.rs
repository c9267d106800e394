//! Who is believed first: tokens where there are keys, then tickets, then the application; and what decides about a subscribe.

use broker_auth::{Claims, HmacTokens, SubscriptionClaims, TokenOptions};
use serde_json::{Value, json};

use crate::{
    application::{Application, Call, Talk, in_seconds},
    serving::Running,
};

const SECRET: &str = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6";
const KEY: &str = "a1B2c3D4e5F6g7H8";
const ROUTE: &str = "[[routes]]\npath = \"/ws/app\"\n";

fn tokens() -> HmacTokens {
    HmacTokens::new(SECRET, TokenOptions::default()).unwrap()
}

/// Every visitor is the user `visitor`, and may listen to `asked:open`.
fn answer(call: &Call) -> Value {
    match (call.path.as_str(), call.body["channel"].as_str()) {
        ("/connect", _) => json!({"result": {"user": "visitor"}}),
        ("/subscribe", Some("asked:open")) => json!({"result": {}}),
        _ => json!({"error": {"code": 1003, "message": "not yours"}}),
    }
}

fn with_keys(application: &Application) -> String {
    format!(
        "[client.token]\nhmac_secret = \"{SECRET}\"\n[api]\nkey = \"{KEY}\"\n{}[namespaces.asked]\nhooks = [\"subscribe\"]\n{ROUTE}",
        application.hooks(&["connect", "subscribe"])
    )
}

fn without_keys(application: &Application, settings: &str) -> String {
    format!("[hooks]\n{settings}\n{}[namespaces.asked]\nhooks = [\"subscribe\"]\n{ROUTE}", application.hooks(&["connect", "subscribe"]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_application_is_asked_about_clients_that_bring_no_credentials_and_about_no_others() {
    let application = Application::start(answer).await;
    let server = Running::start(&with_keys(&application), &[]);
    let bearer = tokens().create(&Claims::user("ris1"));
    let forged = format!("{}AAAAAAAA", &bearer[..bearer.len() - 8]);

    let (_bearer, connected) = Talk::centrifuge(server.listen, json!({"token": bearer})).await;
    assert!(connected["connect"]["client"].is_string(), "{connected}");
    let mut plain = Talk::open(server.listen, "/ws/app?format=envelope", &[("authorization", &format!("Bearer {bearer}"))]).await;
    assert_eq!(plain.hear().await["user"], "ris1");
    // A bad token is refused, and the application is no second way in.
    let mut forger = Talk::open(server.listen, "/connection/websocket", &[]).await;
    forger.say(json!({"id": 1, "connect": {"token": forged}})).await;
    assert_eq!(forger.closed().await.0, 3500);
    assert!(server.upgrade_with("/ws/app", &format!("Authorization: Bearer {forged}\r\n")).starts_with("HTTP/1.1 401"));
    let made = server.call(KEY, "ticket", r#"{"user":"ris2"}"#);
    let ticket = made.split("\"ticket\":\"").nth(1).unwrap_or_else(|| panic!("{made}")).split('"').next().unwrap();
    let mut holder = Talk::open(server.listen, &format!("/ws/app?format=envelope&ticket={ticket}"), &[]).await;
    assert_eq!(holder.hear().await["user"], "ris2");
    assert!(application.called("/connect").is_empty());

    let mut visitor = Talk::open(server.listen, "/ws/app?format=envelope", &[]).await;
    assert_eq!(visitor.hear().await["user"], "visitor");
    let (_visitor, connected) = Talk::centrifuge(server.listen, json!({"data": {"lang": "de"}})).await;
    assert!(connected["connect"]["client"].is_string(), "{connected}");
    let calls = application.called("/connect");
    assert_eq!((calls.len(), &calls[1].body["data"]), (2, &json!({"lang": "de"})));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_key_a_token_is_the_applications_to_read_from_the_headers_that_are_passed() {
    let application = Application::start(answer).await;
    let server = Running::start(&without_keys(&application, "pass_headers = [\"authorization\"]"), &[]);
    assert!(!server.started.contains("hmac_secret"), "a secret was made that nobody needs:\n{}", server.started);
    let bearer = tokens().create(&Claims::user("ris1"));

    let _plain = Talk::plain(server.listen, "/ws/app", &[("authorization", &format!("Bearer {bearer}"))]).await;
    let call = &application.calls("/connect", 1).await[0];
    assert_eq!(call.headers["authorization"], format!("Bearer {bearer}"));
    // What is in no header does not reach the application.
    let (_sdk, connected) = Talk::centrifuge(server.listen, json!({"token": bearer})).await;
    assert!(connected["connect"]["client"].is_string(), "{connected}");
    let _query = Talk::open(server.listen, &format!("/ws/app?token={bearer}"), &[]).await;
    let calls = application.calls("/connect", 3).await;
    for call in &calls[1..] {
        assert!(!format!("{call:?}").contains(&bearer[..20]), "{call:?}");
    }
    let printed = server.started.clone() + &server.log();
    assert!(!printed.contains(&bearer[..20]), "{printed}");

    let unasked = Application::start(answer).await;
    let server = Running::start(&without_keys(&unasked, ""), &[]);
    let _plain = Talk::plain(server.listen, "/ws/app", &[("authorization", &format!("Bearer {bearer}"))]).await;
    assert_eq!(unasked.calls("/connect", 1).await[0].headers.get("authorization"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_a_subscription_decides_alone_and_the_application_where_there_is_none() {
    let application = Application::start(answer).await;
    let server = Running::start(&with_keys(&application), &[]);
    let (mut client, _) = Talk::centrifuge(server.listen, json!({"token": tokens().create(&Claims::user("ris1"))})).await;
    let for_topic = |user: &str, topic: &str| tokens().create_for_subscription(&SubscriptionClaims::new(user, topic));
    let mut subscribe = async |id: u64, channel: &str, token: Option<String>| {
        client.ask(json!({"id": id, "subscribe": {"channel": channel, "token": token.unwrap_or_default()}})).await
    };

    // A topic that the application would refuse.
    let opened = subscribe(2, "asked:closed", Some(for_topic("ris1", "asked:closed"))).await;
    assert!(opened["subscribe"].is_object(), "{opened}");
    // A topic that the application would open, and a token that does not hold for it.
    for (id, token) in [(3, for_topic("ris2", "asked:open")), (4, for_topic("ris1", "asked:closed")), (5, "x".to_owned())] {
        let refused = subscribe(id, "asked:open", Some(token)).await;
        assert_eq!(refused["error"]["code"], 103, "{refused}");
    }
    assert!(application.called("/subscribe").is_empty());

    let opened = subscribe(6, "asked:open", None).await;
    assert!(opened["subscribe"].is_object(), "{opened}");
    let refused = subscribe(7, "asked:theirs", None).await;
    assert_eq!(refused["error"]["code"], 1003, "{refused}");
    assert_eq!(application.called("/subscribe").len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_key_the_token_of_a_subscription_goes_to_the_application() {
    let application = Application::start(answer).await;
    let server = Running::start(&without_keys(&application, ""), &[]);
    let (mut client, _) = Talk::centrifuge(server.listen, json!({})).await;
    let opened = client.ask(json!({"id": 2, "subscribe": {"channel": "asked:open", "token": "theirs"}})).await;
    assert!(opened["subscribe"].is_object(), "{opened}");
    let call = &application.called("/subscribe")[0].body;
    assert_eq!((&call["token"], &call["user"], &call["channel"]), (&json!("theirs"), &json!("visitor"), &json!("asked:open")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_library_is_not_asked_to_renew_what_the_application_grants() {
    let application = Application::start(|call| match call.path.as_str() {
        "/connect" => json!({"result": {"user": "kim"}}),
        _ => json!({"result": {"expire_at": in_seconds(600)}}),
    })
    .await;
    let config = format!("{}[namespaces.asked]\nhooks = [\"subscribe\"]\n", application.hooks(&["connect", "subscribe"]));
    let server = Running::start(&config, &[]);
    let (mut sdk, _) = Talk::centrifuge(server.listen, json!({})).await;
    let subscribed = sdk.ask(json!({"id": 2, "subscribe": {"channel": "asked:a"}})).await;
    assert_eq!(subscribed, json!({"id": 2, "subscribe": {}}), "a ttl makes it look for a token, and give up without one");
}
