//! Every method as a transcript: what is asked, what is answered, byte for byte but for epochs, times and ids.

use broker_http::{ApiKeys, ApiOptions};

use super::server::Server;

#[tokio::test]
async fn a_publish_answers_its_position_when_it_has_one() {
    let server = Server::start();
    server.check("publish", r#"{"channel":"chat:1","data":{"n":1}}"#, r#"{"result":{"offset":1,"epoch":"E"}}"#).await;
    server.check("publish", r#"{"channel":"chat:1","data":{"n":2}}"#, r#"{"result":{"offset":2,"epoch":"E"}}"#).await;
    server.check("publish", r#"{"channel":"live:1","data":1}"#, r#"{"result":{}}"#).await;
    server.check("publish", r#"{"channel":"chat:1","data":3,"skip_history":true}"#, r#"{"result":{}}"#).await;
}

#[tokio::test]
async fn a_retry_with_the_same_key_is_stored_once() {
    let server = Server::start();
    let publish = r#"{"channel":"chat:1","data":1,"idempotency_key":"order-7"}"#;
    server.check("publish", publish, r#"{"result":{"offset":1,"epoch":"E"}}"#).await;
    server.check("publish", publish, r#"{"result":{"offset":1,"epoch":"E"}}"#).await;
    server.check("history", r#"{"channel":"chat:1"}"#, r#"{"result":{"publications":[],"epoch":"E","offset":1}}"#).await;
}

#[tokio::test]
async fn an_unknown_namespace_is_named() {
    let server = Server::start();
    let expected = r#"{"error":{"code":102,"message":"there is no namespace `chta` for chta:1","error":"unknown_topic"}}"#;
    for (method, body) in [
        ("publish", r#"{"channel":"chta:1","data":1}"#),
        ("history", r#"{"channel":"chta:1"}"#),
        ("history_remove", r#"{"channel":"chta:1"}"#),
        ("presence", r#"{"channel":"chta:1"}"#),
        ("presence_stats", r#"{"channel":"chta:1"}"#),
    ] {
        server.check(method, body, expected).await;
    }
    let expected =
        r#"{"error":{"code":102,"message":"news has no namespace, and topics without one are not configured","error":"unknown_topic"}}"#;
    server.check("publish", r#"{"channel":"news","data":1}"#, expected).await;
}

#[tokio::test]
async fn what_is_off_in_a_namespace_is_told() {
    let server = Server::start();
    let history = r#"{"error":{"code":108,"message":"history is off for live:1","error":"not_available"}}"#;
    server.check("history", r#"{"channel":"live:1","limit":5}"#, history).await;
    server.check("history_remove", r#"{"channel":"live:1"}"#, history).await;
    let presence = r#"{"error":{"code":108,"message":"presence is off for live:1","error":"not_available"}}"#;
    server.check("presence", r#"{"channel":"live:1"}"#, presence).await;
    server.check("presence_stats", r#"{"channel":"live:1"}"#, presence).await;
}

#[tokio::test]
async fn a_wrong_type_is_a_decision_and_not_a_trouble_of_the_transport() {
    let server = Server::start();
    let expected = r#"{"error":{"code":107,"message":"tags.year must be a string, not a number","error":"bad_request","at":44}}"#;
    server.check("publish", r#"{"channel":"chat:1","data":1,"tags":{"year":2026}}"#, expected).await;
}

#[tokio::test]
async fn a_broadcast_answers_for_each_topic() {
    let server = Server::start();
    let expected = concat!(
        r#"{"result":{"responses":[{"result":{"offset":1,"epoch":"E"}},"#,
        r#"{"error":{"code":102,"message":"there is no namespace `nope` for nope:1","error":"unknown_topic"}},"#,
        r#"{"error":{"code":107,"message":"channels[2] is no topic: byte 1 of the topic is 0x20; only printable ASCII without spaces is allowed, percent-encode the rest","error":"bad_request","at":31}},"#,
        r#"{"result":{}},{"result":{"offset":2,"epoch":"E"}}]}}"#
    );
    server.check("broadcast", r#"{"channels":["chat:1","nope:1","a b","live:1","chat:1"],"data":1}"#, expected).await;
}

#[tokio::test]
async fn history_is_read_by_position_limit_and_direction() {
    let server = Server::start();
    for publish in [
        r#"{"channel":"chat:1","data":{"n": 1.0},"tags":{"year":"2026","a\"b":"c"},"key":"k"}"#,
        "{\"channel\":\"chat:1\",\"data\":[\n2]}",
        r#"{"channel":"chat:1","b64data":"AP8="}"#,
    ] {
        server.ask("publish", publish).await;
    }
    let first = r#"{"data":{"n": 1.0},"offset":1,"tags":{"a\"b":"c","year":"2026"},"key":"k","time":0}"#;
    let second = r#"{"data":[
2],"offset":2,"time":0}"#;
    let third = r#"{"data":null,"b64data":"AP8=","offset":3,"time":0}"#;
    let page = |publications: &[&str]| format!(r#"{{"result":{{"publications":[{}],"epoch":"E","offset":3}}}}"#, publications.join(","));
    server.check("history", r#"{"channel":"chat:1"}"#, &page(&[])).await;
    server.check("history", r#"{"channel":"chat:1","limit":-1}"#, &page(&[first, second, third])).await;
    server.check("history", r#"{"channel":"chat:1","limit":2}"#, &page(&[first, second])).await;
    server.check("history", r#"{"channel":"chat:1","limit":2,"reverse":true}"#, &page(&[third, second])).await;
    server.check("history", r#"{"channel":"chat:1","limit":9,"since":{"offset":0,"epoch":""}}"#, &page(&[first, second, third])).await;
    let epoch = server.epoch("chat:1").await;
    let since = format!(r#"{{"channel":"chat:1","limit":9,"since":{{"offset":1,"epoch":"{epoch}"}}}}"#);
    server.check("history", &since, &page(&[second, third])).await;
    server.check("history_remove", r#"{"channel":"chat:1"}"#, r#"{"result":{}}"#).await;
    server.check("history", r#"{"channel":"chat:1","limit":9}"#, &page(&[])).await;
}

#[tokio::test]
async fn a_position_of_another_life_is_not_recoverable() {
    let server = Server::start();
    server.ask("publish", r#"{"channel":"chat:1","data":1}"#).await;
    let answer = server.ask("history", r#"{"channel":"chat:1","limit":9,"since":{"offset":1,"epoch":"elsewhere"}}"#).await;
    assert!(answer.contains(r#""code":112,"#) && answer.contains(r#""error":"unrecoverable_position""#), "{answer}");
}

#[tokio::test]
async fn presence_names_sessions_and_users() {
    let server = Server::start();
    let none = r#"{"result":{"presence":{}}}"#;
    server.check("presence", r#"{"channel":"chat:1"}"#, none).await;
    let ris1 = server.listen("chat:1", "ris1", Some(r#"{"name": "Kim"}"#)).await;
    let expected = r#"{"result":{"presence":{"S":{"client":"S","user":"ris1","conn_info":{"name": "Kim"}}}}}"#;
    server.check("presence", r#"{"channel":"chat:1"}"#, expected).await;
    let again = server.listen("chat:1", "ris1", None).await;
    server.check("presence_stats", r#"{"channel":"chat:1"}"#, r#"{"result":{"num_clients":2,"num_users":1}}"#).await;
    drop((ris1, again));
}

#[tokio::test]
async fn channels_are_listed_by_pattern_and_limit() {
    let server = Server::start();
    let listeners =
        [server.listen("chat:1", "a", None).await, server.listen("chat:2", "b", None).await, server.listen("live:1", "a", None).await];
    let another = server.listen("chat:1", "b", None).await;
    let all = r#"{"result":{"channels":{"chat:1":{"num_clients":2},"chat:2":{"num_clients":1},"live:1":{"num_clients":1}}}}"#;
    server.check("channels", "{}", all).await;
    let chat = r#"{"result":{"channels":{"chat:1":{"num_clients":2},"chat:2":{"num_clients":1}}}}"#;
    server.check("channels", r#"{"pattern":"chat:*"}"#, chat).await;
    let cut = r#"{"result":{"channels":{"chat:1":{"num_clients":2}},"more":true}}"#;
    server.check("channels", r#"{"pattern":"*","limit":1}"#, cut).await;
    drop((listeners, another));
}

#[tokio::test]
async fn info_counts_what_this_node_holds() {
    let server = Server::start();
    let listener = server.listen("chat:1", "a", None).await;
    let answer = server.ask("info", "{}").await;
    let expected = r#""num_clients":1,"num_users":1,"num_channels":1,"num_subs":1,"uptime":0,"problems":[]}]}}"#;
    assert!(answer.starts_with(r#"{"result":{"nodes":[{"uid":""#) && answer.ends_with(expected), "{answer}");
    drop(listener);
}

#[tokio::test]
async fn a_batch_answers_under_the_names_of_the_methods() {
    let server = Server::start();
    for parallel in [false, true] {
        let body = format!(
            r#"{{"parallel":{parallel},"commands":[{{"publish":{{"channel":"live:1","data":1}}}},{{"presence_stats":{{"channel":"chat:1"}}}},{{"send":{{"data":1}}}},{{"history_remove":{{"channel":"chat:1"}}}}]}}"#
        );
        let answer = server.ask("batch", &body).await;
        let expected = concat!(
            r#"{"replies":[{"publish":{}},{"presence_stats":{"num_clients":0,"num_users":0}},"#,
            r#"{"error":{"code":107,"message":"commands[2].send names nobody","error":"bad_request","at":"#
        );
        assert!(answer.starts_with(expected) && answer.ends_with(r#"{"history_remove":{}}]}"#), "{answer}");
    }
    server.check("batch", r#"{"commands":[]}"#, r#"{"replies":[]}"#).await;
}

#[tokio::test]
async fn a_batch_that_is_not_parallel_keeps_its_order() {
    let server = Server::start();
    let commands: Vec<_> = (1..=100).map(|n| format!(r#"{{"publish":{{"channel":"chat:1","data":{n}}}}}"#)).collect();
    let answer = server.ask("batch", &format!(r#"{{"commands":[{}]}}"#, commands.join(","))).await;
    let expected: Vec<_> = (1..=100).map(|n| format!(r#"{{"publish":{{"offset":{n},"epoch":"E"}}}}"#)).collect();
    assert_eq!(answer, format!(r#"{{"replies":[{}]}}"#, expected.join(",")));
}

#[tokio::test]
async fn a_listener_gets_what_is_published() {
    let server = Server::start();
    let mut listener = server.listen("chat:1", "ris1", None).await;
    server.ask("publish", r#"{"channel":"chat:1","data":{"text":"hello"}}"#).await;
    assert_eq!(listener.next().await, r#"{"text":"hello"}"#);
}

#[tokio::test]
async fn in_dev_mode_the_answer_names_the_setting() {
    let server = Server::with(ApiOptions::default().keys(ApiKeys::one("k")).dev(true));
    let answer = server.ask("publish", r#"{"channel":"chta:1","data":1}"#).await;
    assert!(answer.contains(r#""hint":"add [namespaces.chta]""#), "{answer}");
    let answer = server.ask("broadcast", r#"{"channels":["chta:1"],"data":1}"#).await;
    assert!(answer.contains(r#""hint":"add [namespaces.chta]""#), "{answer}");
}

#[tokio::test]
async fn a_report_says_what_became_of_a_publication() {
    let server = Server::start();
    let mut clients = Vec::new();
    for user in ["ann", "bob", "cid"] {
        let mut client = server.client(user).await;
        client.subscribe("live:1");
        assert_eq!(client.next().await, "subscribed live:1");
        clients.push(client);
    }
    let report = |matched: u64, has_it: u64, filtered: u64| {
        let counts = format!(r#""nodes":1,"matched":{matched},"queued":{has_it},"written":{has_it},"filtered":{filtered}"#);
        format!(r#""report":{{{counts},"dropped":{{}}}}"#)
    };
    let publish = r#"{"channel":"live:1","data":1,"except":{"user":"ann"},"report":true}"#;
    server.check("publish", publish, &format!(r#"{{"result":{{{}}}}}"#, report(3, 2, 1))).await;
    assert_eq!(clients[1].next().await, "live:1 1");
    let one = format!(r#"{{"result":{{{}}}}}"#, report(3, 3, 0));
    let other = format!(r#"{{"result":{{"offset":1,"epoch":"E",{}}}}}"#, report(0, 0, 0));
    let expected = format!(r#"{{"result":{{"responses":[{one},{other}]}}}}"#);
    server.check("broadcast", r#"{"channels":["live:1","chat:nobody"],"data":2,"report":true}"#, &expected).await;
    server.check("publish", r#"{"channel":"live:1","data":3,"report":false}"#, r#"{"result":{}}"#).await;
}
