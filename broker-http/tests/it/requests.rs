//! Requests that fail before anything is decided: keys, paths, bodies, origins.

use std::{sync::Arc, time::Duration};

use broker_http::{ApiKeys, ApiOptions, Origins};
use http::{Request, StatusCode};

use super::server::{Broken, Server, Stalled, engine_on};

fn post(path: &str) -> http::request::Builder {
    Request::post(path).header("x-api-key", "k")
}

#[tokio::test]
async fn without_the_key_nothing_is_answered() {
    let server = Server::start();
    for request in [
        Request::post("/api/publish"),
        Request::post("/api/publish").header("x-api-key", "K"),
        Request::post("/api/publish").header("authorization", "Bearer k"),
        Request::post("/api/publish?api_key=k"),
        Request::post("/api/nope"),
        Request::get("/api/publish"),
    ] {
        let answer = server.send(request, r#"{"channel":"chat:1","data":1}"#).await;
        assert_eq!((answer.status, answer.header("www-authenticate")), (StatusCode::UNAUTHORIZED, Some("apikey")));
        assert!(answer.body.starts_with(r#"{"error":{"code":101,"#), "{}", answer.body);
    }
    let answer = server.send(Request::post("/api/info").header("authorization", "apikey k"), "{}").await;
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn where_no_key_is_configured_nobody_may() {
    let server = Server::with(ApiOptions::default().keys(ApiKeys::one("")));
    let answer = server.send(Request::post("/api/info").header("x-api-key", ""), "").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.body.contains("no key is configured"), "{}", answer.body);
}

#[tokio::test]
async fn a_path_that_is_no_method_says_which_was_meant() {
    let server = Server::start();
    let check = async |path: &str, start: &str, hint: &str| {
        let answer = server.send(post(path), "{}").await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert!(answer.body.starts_with(&format!(r#"{{"error":{{"code":104,"message":"{start}"#)), "{}", answer.body);
        assert!(answer.body.contains(&format!(r#""hint":"{hint}"#)), "{}", answer.body);
    };
    check("/api/publsh", "there is no method publsh", "did you mean publish?").await;
    check("/api/group-join", "there is no method group-join", "did you mean group_join?").await;
    check("/api", "the path names no method", "the methods are").await;
    check("/api/publish/extra", "there is no method publish/extra", "").await;
    let long = format!("/api/{}", "x".repeat(5000));
    let answer = server.send(post(&long), "{}").await;
    assert!(answer.body.len() < 500, "what the caller wrote comes back cut");
}

#[tokio::test]
async fn only_post_asks() {
    let server = Server::start();
    for request in [Request::get("/api/info"), Request::put("/api/info"), Request::delete("/api/info")] {
        let answer = server.send(request.header("x-api-key", "k"), "").await;
        assert_eq!((answer.status, answer.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, Some("POST, OPTIONS")));
    }
}

#[tokio::test]
async fn a_body_that_is_not_a_json_object_is_told_with_the_byte() {
    let server = Server::start();
    for (body, at) in [
        (&b"{\"channel\":\n nope}"[..], 14),
        (b"channel=a&data=b", 0),
        (b"{\"channel\":\"\xff\"}", 12),
        (b"{}{}", 2),
        (b"", 0),
        (b" []", 1),
    ] {
        let answer = server.send(post("/api/publish"), body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert!(answer.body.starts_with(r#"{"error":{"code":107,"#), "{}", answer.body);
        assert!(answer.body.contains(&format!(r#""at":{at}"#)), "{at}: {}", answer.body);
    }
}

#[tokio::test]
async fn a_body_has_a_bound_announced_or_not() {
    let server = Server::with(ApiOptions::default().keys(ApiKeys::one("k")).body_max_bytes(100));
    let body = |len: usize| format!(r#"{{"channel":"live:1","data":"{}"}}"#, "x".repeat(len - 30));
    let fits = server.send(post("/api/publish"), body(100)).await;
    assert_eq!((fits.status, &*fits.body), (StatusCode::OK, r#"{"result":{}}"#));
    for answer in [server.send(post("/api/publish"), body(101)).await, server.send_in_pieces(post("/api/publish"), body(101)).await] {
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert!(answer.body.starts_with(r#"{"error":{"code":106,"message":"the body has more than 100 bytes""#), "{}", answer.body);
    }
    assert_eq!(server.send_in_pieces(post("/api/publish"), body(100)).await.status, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_arrive_is_given_up() {
    let server = Server::start();
    let began = tokio::time::Instant::now();
    let answer = server.send_body(post("/api/publish"), Stalled).await;
    assert_eq!((answer.status, began.elapsed()), (StatusCode::REQUEST_TIMEOUT, Duration::from_secs(10)));
}

#[tokio::test]
async fn what_the_backplane_does_not_take_may_be_retried() {
    let server = Server::on(engine_on(Arc::new(Broken)), ApiOptions::default().keys(ApiKeys::one("k")));
    let publish = r#"{"channel":"chat:1","data":1}"#;
    for (method, body) in
        [("publish", publish), ("history", r#"{"channel":"chat:1","limit":1}"#), ("history_remove", r#"{"channel":"chat:1"}"#)]
    {
        let answer = server.send(post(&format!("/api/{method}")), body).await;
        assert_eq!((answer.status, answer.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, Some("1")), "{method}");
        assert!(answer.body.starts_with(r#"{"error":{"code":100,"#), "{}", answer.body);
        assert!(answer.body.contains(r#""retry_after_ms":"#), "{}", answer.body);
    }
    let hint = r#""hint":"it may have happened: try again with the same idempotency_key""#;
    assert!(server.send(post("/api/publish"), publish).await.body.contains(hint));
    let batch = server.ask("batch", &format!(r#"{{"commands":[{{"publish":{publish}}},{{"info":{{}}}}]}}"#)).await;
    assert!(batch.starts_with(r#"{"replies":[{"error":{"code":100,"#) && batch.contains(r#"},{"info":{"nodes":["#), "{batch}");
}

#[tokio::test]
async fn pages_of_allowed_origins_may_read_answers() {
    let origins = Origins::by(|origin| origin == "https://app.example.com");
    let server = Server::with(ApiOptions::default().keys(ApiKeys::one("k")).origins(origins));
    let allowed = "access-control-allow-origin";
    let answer = server.send(post("/api/info").header("origin", "https://app.example.com"), "{}").await;
    assert_eq!(
        (answer.status, answer.header(allowed), answer.header("vary")),
        (StatusCode::OK, Some("https://app.example.com"), Some("Origin"))
    );
    let refused = server.send(Request::post("/api/info").header("origin", "https://app.example.com"), "{}").await;
    assert_eq!((refused.status, refused.header(allowed)), (StatusCode::UNAUTHORIZED, Some("https://app.example.com")));
    for origin in ["https://app.example.com.evil.example", "http://app.example.com", "null", ""] {
        let answer = server.send(post("/api/info").header("origin", origin), "{}").await;
        assert_eq!((answer.header(allowed), answer.header("vary")), (None, Some("Origin")), "{origin}");
    }
    let two = post("/api/info").header("origin", "https://app.example.com").header("origin", "https://evil.example");
    assert_eq!(server.send(two, "{}").await.header(allowed), None, "no browser sends two");
}

#[tokio::test]
async fn no_page_asks_with_its_visitors_cookies() {
    let origins = Origins::by(|_| true);
    let server = Server::with(ApiOptions::default().keys(ApiKeys::one("k")).origins(origins));
    let credentials = "access-control-allow-credentials";
    assert_eq!(server.send(post("/api/info").header("origin", "https://any.test"), "{}").await.header(credentials), None);
    let preflight = Request::options("/api/info").header("origin", "https://any.test").header("access-control-request-method", "POST");
    let answer = server.send(preflight, "").await;
    assert_eq!((answer.header(credentials), answer.header("vary")), (None, Some("Origin")));
}

#[tokio::test]
async fn a_preflight_is_answered_without_the_key() {
    let origins = Origins::by(|origin| origin == "https://app.example.com");
    let server = Server::with(ApiOptions::default().keys(ApiKeys::one("k")).origins(origins));
    let preflight =
        |origin: &str| Request::options("/api/publish").header("origin", origin).header("access-control-request-method", "POST");
    let answer = server.send(preflight("https://app.example.com"), "").await;
    assert_eq!((answer.status, &*answer.body), (StatusCode::NO_CONTENT, ""));
    assert_eq!(answer.header("access-control-allow-methods"), Some("POST"));
    assert_eq!(answer.header("access-control-allow-headers"), Some("Content-Type, X-API-Key, Authorization"));
    let foreign = server.send(preflight("https://evil.example"), "").await;
    assert_eq!(
        (foreign.status, foreign.header("access-control-allow-origin"), foreign.header("allow")),
        (StatusCode::FORBIDDEN, None, None)
    );
}
