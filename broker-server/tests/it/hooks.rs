//! A standalone server and a small application behind it: a file is all that joins them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    application::{Application, Call, Talk},
    serving::{Running, get},
    support::{load, shown},
};

const KEY: &str = "a1B2c3D4e5F6g7H8";
const SECRET: &str = "hunter2-hook";

/// The application: its users have a cookie, and its frames are its own.
fn answer(Call { path, headers, body }: &Call) -> Value {
    let cookie = headers.get("cookie").and_then(|cookie| cookie.to_str().ok());
    match path.as_str() {
        "/connect" if cookie == Some("session=kim") => json!({"result": {"user": "kim", "meta": {"ward": 7}}}),
        "/connect" => json!({"error": {"code": 1001, "message": "sign in first"}}),
        "/message" => {
            let topic = format!("spc:product.{}", body["data"]["product_id"]);
            json!({"result": {"actions": [
                {"reply": {"data": {"type": "subscribed", "product_id": body["data"]["product_id"]}}},
                {"subscribe": {"channel": topic}},
            ]}})
        }
        "/subscribe" if body["channel"] == "asked:mine" => json!({"result": {}}),
        _ => json!({"error": {"code": 403, "message": "not yours"}}),
    }
}

fn config(application: &Application) -> String {
    format!(
        "[api]\nkey = \"{KEY}\"\n[hooks]\nheaders = [\"X-Hook-Key: {SECRET}\"]\npass_headers = [\"cookie\"]\n{}[namespaces.spc]\n\
         allow = [\"sub\"]\n[namespaces.asked]\nallow = [\"pub\"]\nhooks = [\"subscribe\"]\n[[routes]]\npath = \"/ws/spc\"\n",
        application.hooks(&["connect", "message", "subscribe", "disconnect"])
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standalone_server_serves_an_applications_own_frames() {
    let application = Application::start(answer).await;
    let mut server = Running::start(&config(&application), &[]);
    let refused = server.upgrade("/ws/spc");
    assert!(refused.starts_with("HTTP/1.1 403") && refused.contains("\"code\":1001") && refused.contains("sign in first"), "{refused}");

    let mut client = Talk::plain(server.listen, "/ws/spc", &[("cookie", "session=kim")]).await;
    client.say(json!({"type": "subscribe_product", "product_id": 1})).await;
    let mut frames = BTreeMap::new();
    while !["own", "subscribed"].into_iter().all(|kind| frames.contains_key(kind)) {
        let frame = client.hear().await;
        frames.insert(frame["broker"].as_str().unwrap_or("own").to_owned(), frame);
    }
    assert_eq!(frames["own"], json!({"type": "subscribed", "product_id": 1}));
    assert_eq!(frames["subscribed"]["topic"], "spc:product.1");
    assert!(server.publish(KEY, "spc:product.1").contains("{\"result\":{"));
    let publication = client.hear().await;
    assert_eq!((&publication["broker"], &publication["data"]), (&json!("publication"), &json!(1)));

    let subscribe = |topic: &str| json!({"broker": "subscribe", "id": 1, "topic": topic});
    assert_eq!(client.ask(subscribe("asked:mine")).await["broker"], "subscribed");
    assert_eq!(client.ask(subscribe("asked:theirs")).await["code"], 403);

    let metrics = get(server.internal, "/metrics");
    for line in ["broker_hook_calls_total{hook=\"connect\"} 2", "broker_hook_circuit_open{hook=\"subscribe\"} 0"] {
        assert!(metrics.lines().any(|one| one == line), "{line} is missing in\n{metrics}");
    }
    #[cfg(unix)]
    assert_eq!(tokio::task::block_in_place(|| server.terminate()), Some(0));
    #[cfg(unix)]
    {
        let end = &application.calls("/disconnect", 1).await[0];
        let told = (&end.body["user"], &end.body["cause"], &end.headers["x-hook-key"]);
        assert_eq!(told, (&json!("kim"), &json!("shutdown"), &SECRET.parse().unwrap()));
        let message = &application.called("/message")[0];
        let told = (&message.body["path"], &message.body["meta"], message.headers.get("cookie"));
        assert_eq!(told, (&json!("/ws/spc"), &json!({"ward": 7}), None));
    }
    let printed = server.started.clone() + &server.log();
    assert!(!printed.contains(SECRET) && !printed.contains("session=kim"), "{printed}");
}

#[test]
fn what_is_wrong_with_hooks_is_told_with_its_place_and_headers_are_never_shown() {
    let check = |text: &str, expected: &str| {
        let told = shown(&load(text, |_| {}));
        assert!(told.contains(expected), "{expected} is missing in\n{told}");
    };
    check("[hooks.connect]\nurl = \"app:3000/x\"\n", "hooks.connect.url");
    check("[hooks.connect]\nurl = \"grpc://app:3000\"\n", "this has a scheme other than http and https");
    check("[hooks.connect]\nurl = \"http://key@app:3000\"\n", "put the secret into hooks.headers");
    check("[hooks]\npass_headers = [\"Host\"]\n", "this header is the broker's own");
    check("[hooks]\nheaders = [\"X-Key\"]\n", "this has no `:` between name and value");
    check("[hooks.conect]\nurl = \"http://app\"\n", "did you mean `connect`?");
    check("[namespaces.a]\nhooks = [\"sub\"]\n", "did you mean \"subscribe\"?");
    check("[namespaces.a]\nhooks = [\"subscribe\"]\n", "nobody could subscribe there");
    check("[hooks.publish]\nurl = \"http://app/publish\"\n", "`hooks.publish.url` has no effect: no namespace asks");
    let loaded = load("[hooks]\nheaders = [\"X-Key: hunter2\"]\n[hooks.rpc]\nurl = \"http://app/rpc\"\n", |_| {});
    let show = loaded.show();
    assert!(
        show.contains("headers = [\"x-key: ********\"]") && show.contains("url = \"http://app/rpc\"") && !show.contains("hunter2"),
        "{show}"
    );
    assert!(format!("{loaded:?}").contains("x-key: ********") && !format!("{:?}", loaded.config).contains("hunter2"));
    let variable = ("BROKER_HOOKS__CONNECT__URL".to_owned(), "http://app/connect".to_owned());
    let loaded = load("", |inputs| inputs.variables.push(variable));
    assert!(loaded.config.hooks.has(broker_auth::Hook::Connect), "{}", shown(&loaded));
}
