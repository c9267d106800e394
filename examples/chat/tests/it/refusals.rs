//! The three refusals, and what they cost others.

use crate::harness::Chat;

#[tokio::test]
async fn a_bad_token_an_unknown_session_and_no_membership_are_three_refusals_that_say_what_to_do() {
    let chat = Chat::start().await;
    let (dana, eun) = (chat.sign_up("Dana").await, chat.sign_up("은정").await);
    let (session, _) = dana.create("Night shift").await;
    check(&chat, &format!("sessionId={session}&token=garbage"), 401, 3500, "unauthorized", None).await;
    check(&chat, &format!("sessionId={session}"), 401, 3500, "unauthorized", Some("ticket")).await;
    check(&chat, &format!("sessionId=none&token={}", eun.token), 404, 3507, "unknown_topic", Some("check sessionId")).await;
    check(&chat, &format!("sessionId={session}&token={}", eun.token), 403, 3507, "permission_denied", Some("share link")).await;
    check(&chat, &format!("token={}", eun.token), 400, 3501, "bad_request", None).await;
}

/// What a program is told over HTTP and a page over its socket.
async fn check(chat: &Chat, query: &str, status: u16, close: u16, word: &str, hint: Option<&str>) {
    let (found, error) = chat.open(query).await.err().expect("it is refused");
    assert_eq!((found, error["error"].as_str()), (status, Some(word)), "{query}: {error}");
    assert!(hint.is_none_or(|hint| error["hint"].as_str().is_some_and(|text| text.contains(hint))), "{error}");
    let mut socket = chat.open_from(query, Some(&chat.origin())).await.unwrap();
    let told = socket.next().await;
    assert_eq!((told["error"].as_str(), &told["message"]), (Some(word), &error["message"]));
    assert_eq!(socket.next_or_close().await.unwrap_err().0, close);
}

#[tokio::test]
async fn a_hundred_bad_tokens_at_once_disturb_nobody() {
    let chat = Chat::start().await;
    let dana = chat.sign_up("Dana").await;
    let (session, _) = dana.create("Night shift").await;
    let mut socket = dana.listen(&session).await;
    let bad = (0..100).map(|number| format!("sessionId={session}&token=bad-{number}")).map(|query| {
        let chat = &chat;
        async move { chat.open(&query).await.err().map(|(status, _)| status) }
    });
    let talk = async {
        for number in 0..20 {
            socket.say(&format!("n{number}")).await;
            assert_eq!(socket.next_of("message").await["content"], format!("n{number}"));
        }
    };
    let (refused, ()) = tokio::join!(futures_util::future::join_all(bad), talk);
    assert_eq!(refused, vec![Some(401); 100]);
}

#[tokio::test]
async fn a_frame_that_is_wrong_is_refused_and_the_socket_lives_on() {
    let chat = Chat::start().await;
    let dana = chat.sign_up("Dana").await;
    let (session, _) = dana.create("Night shift").await;
    let mut socket = dana.listen(&session).await;
    for (frame, message) in [
        (serde_json::json!({ "type": "shout" }), "this is no frame of the chat: unknown variant `shout`"),
        (serde_json::json!({ "type": "message", "content": " " }), "content is empty"),
        (serde_json::json!({ "type": "message", "content": "x".repeat(4001) }), "content has 4001 characters"),
        (serde_json::json!({ "type": "message", "content": "x", "clientId": "" }), "clientId has to be 1 to 64"),
        (serde_json::json!({ "type": "message", "content": "x", "sessionId": "none" }), "there is no session with this id"),
    ] {
        socket.send(frame).await;
        let told = socket.next_of("error").await;
        assert!(told["message"].as_str().unwrap().starts_with(message), "{told}");
    }
    socket.say("after all that").await;
    assert_eq!(socket.next_of("message").await["id"], 1);
}

#[tokio::test]
async fn who_has_left_hears_nothing_more_and_may_not_speak() {
    let chat = Chat::start().await;
    let (dana, eun) = (chat.sign_up("Dana").await, chat.sign_up("은정").await);
    let (session, invite) = dana.create("Night shift").await;
    eun.join(&invite).await;
    let mut socket = eun.listen(&session).await;
    eun.post(&format!("/api/sessions/{session}/leave"), serde_json::Value::Null).await;
    dana.say(&session, "without you").await;
    assert_eq!(socket.next_of("unsubscribed").await["topic"], format!("chat:{session}"));
    socket.say("hello?").await;
    let told = socket.next_of("error").await;
    assert_eq!(told["error"], "permission_denied", "{told}");
}
