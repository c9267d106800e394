//! Sign up, log in, log out.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Chat, text};

#[tokio::test]
async fn who_signed_up_can_log_in_and_nobody_else() {
    let chat = Chat::start().await;
    let minseo = chat.sign_up("김민서").await;
    let login =
        async |name: &str, password: &str| chat.call(Method::POST, "/api/login", None, json!({ "name": name, "password": password })).await;
    let (status, body) = login("김민서", "correct horse").await;
    assert_eq!((status, text(&body["user"]["id"])), (StatusCode::OK, minseo.id));
    let (wrong, unknown) = (login("김민서", "correct house").await, login("nobody", "correct horse").await);
    assert_eq!(wrong.0, StatusCode::UNAUTHORIZED);
    assert_eq!(wrong, unknown, "which of the two is wrong is nobody's business");
}

#[tokio::test]
async fn names_are_taken_once_whatever_their_case_and_bad_ones_say_why() {
    let chat = Chat::start().await;
    chat.sign_up("Dana").await;
    check(&chat, "dana", "correct horse", "the name \"dana\" is taken").await;
    check(&chat, "  ", "correct horse", "the name is empty").await;
    check(&chat, &"x".repeat(41), "correct horse", "the name has 41 characters, at most 40 are possible").await;
    check(&chat, "Eun", "short", "the password has to have 8 to 200 characters").await;
}

async fn check(chat: &Chat, name: &str, password: &str, message: &str) {
    let (status, body) = chat.call(Method::POST, "/api/signup", None, json!({ "name": name, "password": password })).await;
    assert_eq!((status, body["error"]["message"].as_str()), (StatusCode::BAD_REQUEST, Some(message)));
}

#[tokio::test]
async fn a_logout_closes_the_sockets_of_that_login_and_its_token_opens_nothing() {
    let chat = Chat::start().await;
    let dana = chat.sign_up("Dana").await;
    let (session, _) = dana.create("Night shift").await;
    let (_, other) = chat.call(Method::POST, "/api/login", None, json!({ "name": "Dana", "password": "correct horse" })).await;
    let mut here = dana.listen(&session).await;
    let mut elsewhere = chat.open(&format!("sessionId={session}&token={}", text(&other["token"]))).await.unwrap();
    assert_eq!(dana.post("/api/logout", Value::Null).await.0, StatusCode::NO_CONTENT);
    let (code, _) = loop {
        if let Err(close) = here.next_or_close().await {
            break close;
        }
    };
    assert_eq!(code, 3500);
    assert_eq!(dana.get("/api/sessions").await.0, StatusCode::UNAUTHORIZED);
    let (status, error) = chat.open(&format!("sessionId={session}&token={}", dana.token)).await.err().unwrap();
    assert_eq!((status, error["error"].as_str()), (401, Some("unauthorized")));
    // The other login goes on.
    assert_eq!(elsewhere.next().await["type"], "history");
    elsewhere.say("still here").await;
    assert_eq!(elsewhere.next_of("message").await["content"], "still here");
}

#[tokio::test]
async fn neither_passwords_nor_keys_of_logins_are_in_the_database() {
    let chat = Chat::start().await;
    chat.sign_up("Dana").await;
    for file in std::fs::read_dir(chat.folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(13).any(|window| window == b"correct horse"));
    }
}
