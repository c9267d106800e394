//! Messages: stored once, told once, in order, to those who are there and to those who come back.

use futures_util::future::join_all;
use http::StatusCode;
use serde_json::{Value, json};

use crate::harness::{Chat, text};

#[tokio::test]
async fn a_message_by_rest_or_by_frame_reaches_everybody_once_and_is_answered_with_its_id() {
    let chat = Chat::start().await;
    let (dana, eun) = (chat.sign_up("Dana").await, chat.sign_up("은정").await);
    let (session, invite) = dana.create("Night shift").await;
    eun.join(&invite).await;
    let mut sockets = [dana.listen(&session).await, eun.listen(&session).await, eun.listen(&session).await];
    assert_eq!(dana.say(&session, "by REST").await, 1);
    for socket in &mut sockets {
        let told = socket.next_of("message").await;
        assert_eq!((&told["id"], &told["content"], &told["user"]["name"]), (&json!(1), &json!("by REST"), &json!("Dana")));
    }
    sockets[1].send(json!({ "type": "message", "content": "MRI order of 홍길동 was accepted", "clientId": "c1" })).await;
    let mut told = Vec::new();
    for _ in 0..2 {
        told.push(sockets[1].next().await);
    }
    told.sort_by_key(|frame| text(&frame["type"]));
    assert_eq!((&told[0]["type"], &told[1]["type"]), (&json!("message"), &json!("sent")));
    assert_eq!((&told[1]["id"], &told[1]["clientId"], &told[1]["repeated"]), (&json!(2), &json!("c1"), &json!(false)));
    for socket in [0, 2] {
        let heard = sockets[socket].next_of("message").await;
        assert_eq!((&heard["id"], &heard["content"]), (&json!(2), &json!("MRI order of 홍길동 was accepted")));
    }
}

#[tokio::test]
async fn what_is_sent_again_under_the_same_client_id_is_stored_and_told_once() {
    let chat = Chat::start().await;
    let dana = chat.sign_up("Dana").await;
    let (session, _) = dana.create("Night shift").await;
    let mut socket = dana.listen(&session).await;
    let path = format!("/api/sessions/{session}/messages");
    let answers = join_all((0..20).map(|_| dana.post(&path, json!({ "content": "once", "clientId": "c1" })))).await;
    assert_eq!(answers.iter().filter(|(status, _)| *status == StatusCode::CREATED).count(), 1);
    assert!(answers.iter().all(|(_, body)| body["message"]["id"] == 1), "{answers:?}");
    assert_eq!(socket.next_of("message").await["id"], 1);
    // The same id over the socket, too.
    socket.send(json!({ "type": "message", "content": "once", "clientId": "c1" })).await;
    let sent = socket.next_of("sent").await;
    assert_eq!((&sent["id"], &sent["repeated"]), (&json!(1), &json!(true)));
    dana.say(&session, "twice").await;
    // The first one was told before; nothing but the second comes now.
    assert_eq!(socket.next_of("message").await["content"], "twice");
    assert_eq!(dana.stored(&session).await, ["once", "twice"]);
}

#[tokio::test]
async fn frames_of_one_socket_are_stored_in_their_order_also_when_nobody_waits_for_answers() {
    let chat = Chat::start().await;
    let dana = chat.sign_up("Dana").await;
    let (session, _) = dana.create("Night shift").await;
    let mut socket = dana.listen(&session).await;
    for number in 0..150 {
        socket.say(&number.to_string()).await;
    }
    for number in 0..150 {
        assert_eq!(socket.next_of("message").await["content"], number.to_string());
    }
    assert_eq!(dana.stored(&session).await, (0..150).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_hundred_clients_hear_the_same_in_the_same_order() {
    let chat = Chat::start().await;
    let dana = chat.sign_up("Dana").await;
    let (session, invite) = dana.create("All hands").await;
    let users = join_all((0..10).map(|number| async move { format!("User {number}") })).await;
    let mut sockets = Vec::new();
    for name in users {
        let user = chat.sign_up(&name).await;
        user.join(&invite).await;
        for _ in 0..10 {
            sockets.push(user.listen(&session).await);
        }
    }
    join_all(sockets.iter_mut().enumerate().map(async |(number, socket)| socket.say(&format!("from {number}")).await)).await;
    let heard = join_all(sockets.iter_mut().map(async |socket| {
        let mut heard = Vec::new();
        while heard.len() < 100 {
            let frame = socket.next_of("message").await;
            heard.push((frame["id"].as_i64().unwrap(), text(&frame["content"])));
        }
        heard
    }))
    .await;
    assert!(heard.iter().all(|one| *one == heard[0]));
    assert_eq!(heard[0].iter().map(|(id, _)| *id).collect::<Vec<_>>(), (1..=100).collect::<Vec<_>>());
}

#[tokio::test]
async fn who_joins_later_sees_what_was_said_and_who_comes_back_hears_what_was_missed() {
    let chat = Chat::start().await;
    let (dana, eun) = (chat.sign_up("Dana").await, chat.sign_up("은정").await);
    let (session, invite) = dana.create("Night shift").await;
    for number in 1..=60 {
        dana.say(&session, &number.to_string()).await;
    }
    eun.join(&invite).await;
    let mut late = chat.open(&format!("sessionId={session}&token={}", eun.token)).await.unwrap();
    let first = late.next().await;
    let ids: Vec<i64> = first["messages"].as_array().unwrap().iter().map(|message| message["id"].as_i64().unwrap()).collect();
    assert_eq!((&first["type"], ids), (&json!("history"), (11..=60).collect()));
    assert_eq!(eun.stored(&session).await.len(), 60, "older ones are in the database");

    let mut before = chat.open(&format!("sessionId={session}&token={}&format=envelope", eun.token)).await.unwrap();
    dana.say(&session, "heard").await;
    let position = loop {
        // What was said before may still be on its way.
        let heard = before.next_of("publication").await;
        if heard["data"]["content"] == "heard" {
            break text(&heard["position"]);
        }
    };
    drop(before);
    for number in 0..3 {
        dana.say(&session, &format!("missed {number}")).await;
    }
    let mut back = chat.open(&format!("sessionId={session}&token={}&since={}", eun.token, position.replace('@', "%40"))).await.unwrap();
    for number in 0..3 {
        assert_eq!(back.next().await["content"], format!("missed {number}"));
    }
}

#[tokio::test]
async fn what_is_unread_is_counted_until_it_is_read_on_any_client() {
    let chat = Chat::start().await;
    let (dana, eun) = (chat.sign_up("Dana").await, chat.sign_up("은정").await);
    let (session, invite) = dana.create("Night shift").await;
    eun.join(&invite).await;
    let mut socket = dana.listen(&session).await;
    dana.say(&session, "one").await;
    dana.say(&session, "two").await;
    let unread = async |user: &crate::harness::User<'_>| {
        let (_, list) = user.get("/api/sessions").await;
        list["sessions"][0]["top"].as_i64().unwrap() - list["sessions"][0]["read"].as_i64().unwrap()
    };
    assert_eq!((unread(&dana).await, unread(&eun).await), (0, 2), "one's own messages are read");
    let (_, read) = eun.post(&format!("/api/sessions/{session}/read"), json!({ "id": 99 })).await;
    assert_eq!((read["read"].as_i64(), unread(&eun).await), (Some(2), 0), "not beyond the newest");
    let told = socket.next_of("read").await;
    assert_eq!((&told["userId"], &told["id"]), (&json!(eun.id), &json!(2)));
}

#[tokio::test]
async fn others_are_told_who_writes() {
    let chat = Chat::start().await;
    let (dana, eun) = (chat.sign_up("Dana").await, chat.sign_up("은정").await);
    let (session, invite) = dana.create("Night shift").await;
    eun.join(&invite).await;
    let (mut writing, mut reading) = (dana.listen(&session).await, eun.listen(&session).await);
    writing.send(json!({ "type": "typing" })).await;
    assert_eq!(reading.next().await, json!({ "type": "typing", "sessionId": session, "userId": dana.id }));
    writing.say("done").await;
    let own: Vec<Value> = vec![writing.next().await, writing.next().await];
    assert!(own.iter().all(|frame| frame["type"] != "typing"), "{own:?}");
}
