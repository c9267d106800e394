//! "Connect another client".

use http::StatusCode;
use serde_json::Value;

use crate::harness::{Chat, text};

#[tokio::test]
async fn a_ticket_opens_one_connection_as_its_user() {
    let chat = Chat::start().await;
    let dana = chat.sign_up("Dana").await;
    let (session, _) = dana.create("Night shift").await;
    let (status, ticket) = dana.post(&format!("/api/sessions/{session}/ticket"), Value::Null).await;
    assert_eq!(status, StatusCode::OK);
    let path = text(&ticket["path"]);
    let query = path.strip_prefix("/ws/chat?").unwrap();
    let mut socket = chat.open(query).await.unwrap();
    assert_eq!(socket.next().await["type"], "history");
    socket.say("from a terminal").await;
    assert_eq!(socket.next_of("message").await["user"]["id"], dana.id);
    let (status, error) = chat.open(query).await.err().unwrap();
    assert_eq!((status, error["error"].as_str()), (401, Some("unauthorized")));
    assert!(error["hint"].as_str().unwrap().contains("new ticket"), "{error}");
}

#[tokio::test]
async fn who_is_no_member_gets_no_ticket() {
    let chat = Chat::start().await;
    let (dana, eun) = (chat.sign_up("Dana").await, chat.sign_up("은정").await);
    let (session, _) = dana.create("Night shift").await;
    assert_eq!(eun.post(&format!("/api/sessions/{session}/ticket"), Value::Null).await.0, StatusCode::FORBIDDEN);
}
