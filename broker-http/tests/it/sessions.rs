//! What the server does with sessions that are open, and with groups: asked over HTTP, seen by the sessions.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use broker_core::{
    CloseReason, ControlAnswer, ControlAnswers, ControlBus, ControlNode, ControlQuestion, Disconnected, Engine, Refusal, RefusalKind,
    testing::Client,
};
use broker_http::{ApiKeys, ApiOptions, TicketMaker};
use http::{Request, StatusCode};
use tokio::sync::mpsc;

use super::server::{Server, builder};

fn options() -> ApiOptions {
    ApiOptions::default().keys(ApiKeys::one("k"))
}

fn session_of(client: &mut Client) -> String {
    client.connection().session().to_string()
}

/// A server that tells how its sessions ended.
fn server_with_ends() -> (Server, mpsc::UnboundedReceiver<Disconnected>) {
    let (tell, ends) = mpsc::unbounded_channel();
    let engine = builder().on_disconnect(move |ended: Disconnected| {
        // The test may have seen enough.
        let _ = tell.send(ended);
        async {}
    });
    (Server::on(engine.build().unwrap(), options()), ends)
}

#[tokio::test]
async fn a_send_to_one_topic_is_published_there() {
    let server = Server::start();
    let (mut first, mut second) = (server.client("ris1+ocs_ris").await, server.client("ris1").await);
    assert_eq!(first.next().await, "subscribed group:ocs_ris");
    server.check("send", r#"{"user":"ris1","data":1}"#, r#"{"result":{"sessions":2}}"#).await;
    assert_eq!([first.next().await, second.next().await], ["user:ris1 1", "user:ris1 1"]);
    server.check("send", r#"{"group":"ocs_ris","data":2}"#, r#"{"result":{"sessions":1}}"#).await;
    assert_eq!(first.next().await, "group:ocs_ris 2");
    second.subscribe("chat:1");
    assert_eq!(second.next().await, "subscribed chat:1 at 0");
    server.check("send", r#"{"to":{"channel":"chat:1"},"data":3}"#, r#"{"result":{"sessions":1,"offset":1,"epoch":"E"}}"#).await;
    assert_eq!(second.next().await, "chat:1 1:3");
}

#[tokio::test]
async fn a_send_to_a_set_reaches_each_session_once() {
    let server = Server::start();
    let mut both = server.client("a+ris+lis").await;
    let mut lis = server.client("b+lis").await;
    let mut left_out = server.client("c+ris").await;
    both.take(2).await;
    lis.next().await;
    left_out.next().await;
    let set = r#"{"any":[{"group":"ris"},{"group":"lis"},{"user":"a"}],"except":[{"user":"c"}]}"#;
    server.check("send", &format!(r#"{{"to":{set},"data":1}}"#), r#"{"result":{"sessions":2,"recoverable":false}}"#).await;
    server
        .check("send", r#"{"to":{"any":[{"group":"ris"},{"group":"lis"}]},"data":2}"#, r#"{"result":{"sessions":3,"recoverable":false}}"#)
        .await;
    let [first, second] = [both.next().await, both.next().await];
    assert!(first.ends_with(" 1") && second.ends_with(" 2"), "once each: {first}, {second}");
    assert!(lis.next().await.ends_with(" 1"));
    assert!(left_out.next().await.ends_with(" 2"), "what it was left out of never came");
    let session = session_of(&mut both);
    let one = format!(r#"{{"user":"a","client":"{session}","data":3}}"#);
    server.check("send", &one, r#"{"result":{"sessions":1,"recoverable":false}}"#).await;
    let other = format!(r#"{{"user":"b","client":"{session}","data":3}}"#);
    server.check("send", &other, r#"{"result":{"sessions":0,"recoverable":false}}"#).await;
}

#[tokio::test]
async fn whoever_caused_it_is_left_out() {
    let server = Server::start();
    let (mut a, mut b) = (server.client("a").await, server.client("b").await);
    for client in [&mut a, &mut b] {
        client.subscribe("live:1");
        assert_eq!(client.next().await, "subscribed live:1");
    }
    let session = session_of(&mut b);
    server.ask("publish", r#"{"channel":"live:1","data":1,"except":{"user":"a"}}"#).await;
    server.ask("publish", &format!(r#"{{"channel":"live:1","data":2,"except":{{"session":["{session}"]}}}}"#)).await;
    server.ask("broadcast", r#"{"channels":["live:1"],"data":3,"except":{"user":["a"]}}"#).await;
    server.ask("send", r#"{"to":{"channel":"live:1"},"data":4,"except":{"user":"b"}}"#).await;
    assert_eq!(a.take(2).await, ["live:1 2", "live:1 4"]);
    assert_eq!(b.take(2).await, ["live:1 1", "live:1 3"]);
}

#[tokio::test]
async fn a_subscription_of_the_server_is_live_and_can_be_ended() {
    let server = Server::start();
    let (mut first, mut second) = (server.client("a").await, server.client("a").await);
    server.ask("publish", r#"{"channel":"chat:1","data":1}"#).await;
    let epoch = server.epoch("chat:1").await;
    server.check("subscribe", r#"{"user":"a","channel":"chat:1"}"#, r#"{"result":{"sessions":2}}"#).await;
    assert_eq!([first.next().await, second.next().await], ["subscribed chat:1 at 1", "subscribed chat:1 at 1"]);
    let session = session_of(&mut first);
    let unsubscribe = format!(r#"{{"user":"a","client":"{session}","channel":"chat:1"}}"#);
    server.check("unsubscribe", &unsubscribe, r#"{"result":{"sessions":1}}"#).await;
    server.ask("publish", r#"{"channel":"chat:1","data":2}"#).await;
    assert!(first.next().await.starts_with("unsubscribed chat:1"));
    assert_eq!(second.next().await, "chat:1 2:2");
    let since = format!(r#"{{"session":"{session}","channel":"chat:1","recover_since":{{"offset":1,"epoch":"{epoch}"}}}}"#);
    server.check("subscribe", &since, r#"{"result":{"sessions":1}}"#).await;
    assert_eq!(first.take(2).await, ["subscribed chat:1 at 2 recovered", "chat:1 2:2"]);
    server.check("unsubscribe", r#"{"user":"nobody","channel":"chat:1"}"#, r#"{"result":{"sessions":0}}"#).await;
    let unknown = r#"{"error":{"code":102,"message":"there is no namespace `chta` for chta:1","error":"unknown_topic"}}"#;
    server.check("subscribe", r#"{"user":"a","channel":"chta:1"}"#, unknown).await;
}

#[tokio::test]
async fn others_see_what_the_server_said_of_a_subscription() {
    let server = Server::start();
    let _client = server.client("a").await;
    server.check("subscribe", r#"{"user":"a","channel":"chat:1","info":{"role": "nurse"}}"#, r#"{"result":{"sessions":1}}"#).await;
    let expected = r#"{"result":{"presence":{"S":{"client":"S","user":"a","chan_info":{"role": "nurse"}}}}}"#;
    server.check("presence", r#"{"channel":"chat:1"}"#, expected).await;
}

#[tokio::test]
async fn a_disconnect_closes_with_its_code_but_for_whom_it_spares() {
    let (server, mut ends) = server_with_ends();
    let (mut gone, mut spared) = (server.client("a").await, server.client("a").await);
    let stays = session_of(&mut spared);
    let body = format!(r#"{{"user":"a","disconnect":{{"code":4321,"reason":"moved"}},"reconnect_after_ms":1500,"whitelist":["{stays}"]}}"#);
    server.check("disconnect", &body, r#"{"result":{"sessions":1}}"#).await;
    assert_eq!(gone.next().await, "closed ordered");
    let expected = CloseReason::Ordered { code: 4321, reason: "moved".into(), reconnect_after: Some(Duration::from_millis(1500)) };
    assert_eq!(ends.recv().await.unwrap().reason, expected);
    server.check("disconnect", &format!(r#"{{"client":"{stays}"}}"#), r#"{"result":{"sessions":1}}"#).await;
    let expected = CloseReason::Ordered { code: 3503, reason: "force disconnect".into(), reconnect_after: None };
    assert_eq!(ends.recv().await.unwrap().reason, expected);
    server.check("disconnect", r#"{"user":"a"}"#, r#"{"result":{"sessions":0}}"#).await;
}

#[tokio::test(start_paused = true)]
async fn a_refresh_sets_the_end_of_credentials() {
    let (server, mut ends) = server_with_ends();
    let mut client = server.client("a").await;
    let in_an_hour = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 3600;
    server.check("refresh", &format!(r#"{{"user":"a","expire_at":{in_an_hour}}}"#), r#"{"result":{"sessions":1}}"#).await;
    let told = client.next().await;
    assert!(told.starts_with("refreshed for Some(") && told != "refreshed for None", "{told}");
    server.check("refresh", r#"{"user":"a"}"#, r#"{"result":{"sessions":1}}"#).await;
    assert_eq!(client.next().await, "refreshed for None");
    server.check("refresh", r#"{"user":"a","expired":true}"#, r#"{"result":{"sessions":1}}"#).await;
    assert_eq!(ends.recv().await.unwrap().reason, CloseReason::CredentialsExpired);
}

#[tokio::test]
async fn a_revocation_ends_sessions_of_a_user_or_a_group() {
    let (server, mut ends) = server_with_ends();
    let clients = [server.client("a+ris").await, server.client("b+ris").await, server.client("c+lis").await];
    server.check("revoke", r#"{"user":"a"}"#, r#"{"result":{"sessions":1}}"#).await;
    server.check("revoke", r#"{"group":"ris"}"#, r#"{"result":{"sessions":1}}"#).await;
    server.check("revoke", r#"{"group":"lis","before":1}"#, r#"{"result":{"sessions":0}}"#).await;
    server.check("revoke", r#"{"group":"lis","tenant":"acme"}"#, r#"{"result":{"sessions":0}}"#).await;
    server.check("revoke", r#"{"token_id":"t"}"#, r#"{"result":{"sessions":0}}"#).await;
    let (first, second) = (ends.recv().await.unwrap(), ends.recv().await.unwrap());
    assert_eq!([first.reason, second.reason], [CloseReason::Revoked, CloseReason::Revoked]);
    assert_eq!([first.subject.user.as_str(), second.subject.user.as_str()], ["a", "b"]);
    server.check("groups", "{}", r#"{"result":{"groups":[{"group":"lis","sessions":1,"users":1}]}}"#).await;
    drop(clients);
}

#[tokio::test]
async fn a_user_is_in_a_group_with_every_session_until_it_leaves() {
    let server = Server::start();
    let mut first = server.client("a").await;
    server.check("group_join", r#"{"group":"ris","user":"a"}"#, r#"{"result":{"sessions":1}}"#).await;
    assert_eq!(first.next().await, "subscribed group:ris");
    let mut later = server.client("a").await;
    assert_eq!(later.next().await, "subscribed group:ris");
    server.check("group_members", r#"{"group":"ris"}"#, r#"{"result":{"members":[{"user":"a","sessions":["S","S"]}]}}"#).await;
    server.check("group_leave", r#"{"group":"ris","user":"a"}"#, r#"{"result":{"sessions":2}}"#).await;
    server.check("group_members", r#"{"group":"ris"}"#, r#"{"result":{"members":[]}}"#).await;
    let mut last = server.client("a").await;
    server.ask("send", r#"{"user":"a","data":1}"#).await;
    assert_eq!(last.next().await, "user:a 1", "it joined no group");
    let session = session_of(&mut last);
    server.check("group_join", &format!(r#"{{"group":"lis","session":"{session}"}}"#), r#"{"result":{"sessions":1}}"#).await;
    server.check("group_members", r#"{"group":"lis"}"#, r#"{"result":{"members":[{"user":"a","sessions":["S"]}]}}"#).await;
    server.check("group_leave", &format!(r#"{{"group":"lis","session":"{session}"}}"#), r#"{"result":{"sessions":1}}"#).await;
    server.check("groups", "{}", r#"{"result":{"groups":[]}}"#).await;
}

#[tokio::test]
async fn groups_are_listed_by_pattern_limit_and_tenant() {
    let server = Server::start();
    let clients =
        [server.client("a+ris+lis").await, server.client("a+ris").await, server.client("b+ris").await, server.client("a+own@acme").await];
    let (ris, lis) = (r#"{"group":"ris","sessions":3,"users":2}"#, r#"{"group":"lis","sessions":1,"users":1}"#);
    server.check("groups", "{}", &format!(r#"{{"result":{{"groups":[{lis},{ris}]}}}}"#)).await;
    server.check("groups", r#"{"pattern":"r*"}"#, &format!(r#"{{"result":{{"groups":[{ris}]}}}}"#)).await;
    server.check("groups", r#"{"limit":1}"#, &format!(r#"{{"result":{{"groups":[{lis}],"more":true}}}}"#)).await;
    server.check("groups", r#"{"tenant":"acme"}"#, r#"{"result":{"groups":[{"group":"own","sessions":1,"users":1}]}}"#).await;
    drop(clients);
}

#[tokio::test]
async fn tenants_are_kept_apart() {
    let server = Server::start();
    let (mut of_acme, of_nobody) = (server.client("a+g@acme").await, server.client("a+g").await);
    assert_eq!(of_acme.next().await, "subscribed group:g");
    server.check("send", r#"{"user":"a","tenant":"acme","data":1}"#, r#"{"result":{"sessions":1}}"#).await;
    assert_eq!(of_acme.next().await, "user:a 1");
    server.check("group_members", r#"{"group":"g","tenant":"acme"}"#, r#"{"result":{"members":[{"user":"a","sessions":["S"]}]}}"#).await;
    server.check("group_join", r#"{"group":"h","user":"a","tenant":"acme"}"#, r#"{"result":{"sessions":1}}"#).await;
    assert_eq!(of_acme.next().await, "subscribed group:h");
    server.check("group_members", r#"{"group":"h"}"#, r#"{"result":{"members":[]}}"#).await;
    server.check("group_leave", r#"{"group":"h","user":"a","tenant":"acme"}"#, r#"{"result":{"sessions":1}}"#).await;
    server.check("disconnect", r#"{"group":"g","tenant":"acme"}"#, r#"{"result":{"sessions":1}}"#).await;
    drop(of_nobody);
}

#[tokio::test]
async fn connections_tell_what_is_known_of_sessions() {
    let server = Server::start();
    let mut client = server.client("a+ris").await;
    client.subscribe("chat:1");
    assert_eq!(client.take(2).await, ["subscribed group:ris", "subscribed chat:1 at 0"]);
    let other = server.client("b+ris").await;
    let answer = server.ask("connections", r#"{"user":"a"}"#).await;
    let (start, rest) = answer.split_once(r#""topics":["#).unwrap();
    let (topics, end) = rest.split_once(']').unwrap();
    let expected = concat!(
        r#"{"result":{"connections":[{"session":"S","user":"a","since":0,"address":null,"transport":"test","protocol":"lines","#,
        r#""groups":["ris"],"#
    );
    assert_eq!((start, end), (expected, r#","backlog_bytes":0,"node":"N"}]}}"#));
    let mut topics: Vec<_> = topics.split(',').collect();
    topics.sort_unstable();
    assert_eq!(topics, [r#""chat:1""#, r#""group:ris""#, r#""user:a""#]);
    let cut = server.ask("connections", r#"{"group":"ris","limit":1}"#).await;
    assert!(cut.ends_with(r#"],"more":true}}"#) && cut.matches(r#""session":"#).count() == 1, "{cut}");
    assert_eq!(server.ask("connections", r#"{"to":{"group":"ris"}}"#).await.matches(r#""session":"#).count(), 2);
    server.check("connections", r#"{"user":"nobody"}"#, r#"{"result":{"connections":[]}}"#).await;
    drop(other);
}

#[tokio::test]
async fn the_application_is_called() {
    let server = Server::start();
    server.check("rpc", r#"{"method":"sum","params":[1, 2,3]}"#, r#"{"result":{"data":6}}"#).await;
    server.check("rpc", r#"{"method":"bytes"}"#, r#"{"result":{"data":null,"b64data":"AP8="}}"#).await;
    let refused = r#"{"error":{"code":1001,"message":"sum adds whole numbers","error":"application"}}"#;
    server.check("rpc", r#"{"method":"sum","params":["1"]}"#, refused).await;
    server.check("rpc", r#"{"method":"nope"}"#, r#"{"error":{"code":104,"message":"there is no nope","error":"unknown_action"}}"#).await;
}

#[tokio::test]
async fn tickets_are_made_by_whoever_is_configured() {
    let server = Server::with(options().dev(true));
    let off = server.ask("ticket", r#"{"user":"a"}"#).await;
    assert!(off.starts_with(r#"{"error":{"code":108,"message":"tickets are off","error":"not_available","hint":"#), "{off}");
    let tickets = TicketMaker::new(|claims: bytes::Bytes| async move {
        match std::str::from_utf8(&claims) {
            Ok(claims) if claims.contains("sub") => Ok(format!("for {claims}")),
            _ => Err(Refusal::new(RefusalKind::BadRequest, "nobody")),
        }
    });
    let server = Server::with(options().tickets(tickets.holds(Duration::from_secs(30))));
    let expected = r#"{"result":{"ticket":"for {\"sub\":\"a\",\"groups\":[\"g\"]}","expires_in_ms":30000}}"#;
    server.check("ticket", r#"{"user":"a","groups":["g"]}"#, expected).await;
    server.check("ticket", "{}", r#"{"error":{"code":107,"message":"nobody","error":"bad_request"}}"#).await;
}

#[tokio::test]
async fn a_batch_may_do_all_of_it() {
    let server = Server::start();
    let _client = server.client("a").await;
    let commands = [
        r#"{"group_join":{"group":"g","user":"a"}}"#,
        r#"{"send":{"group":"g","data":1}}"#,
        r#"{"groups":{}}"#,
        r#"{"rpc":{"method":"sum","params":[2]}}"#,
        r#"{"disconnect":{"user":"a"}}"#,
        r#"{"group_members":{"group":"g"}}"#,
    ];
    let expected = concat!(
        r#"{"replies":[{"group_join":{"sessions":1}},{"send":{"sessions":1}},{"groups":{"groups":[{"group":"g","sessions":1,"users":1}]}},"#,
        r#"{"rpc":{"data":2}},{"disconnect":{"sessions":1}},{"group_members":{"members":[]}}]}"#
    );
    server.check("batch", &format!(r#"{{"commands":[{}]}}"#, commands.join(",")), expected).await;
}

#[tokio::test]
async fn nodes_that_do_not_answer_are_named() {
    let engine: Engine = builder().control(Arc::new(Silent)).build().unwrap();
    let server = Server::on(engine, options());
    for (method, body, hint) in [
        ("disconnect", r#"{"user":"a"}"#, r#""hint":"the others did it: repeat it, that does no harm""#),
        ("revoke", r#"{"user":"a"}"#, r#""hint":"the others did it: repeat it, that does no harm""#),
        ("send", r#"{"to":{"any":[{"user":"a"}]},"data":1}"#, r#""hint":"the others have sent it: "#),
        ("connections", r#"{"user":"a"}"#, r#""retry_after_ms":1000"#),
        ("groups", "{}", r#""retry_after_ms":1000"#),
        ("group_members", r#"{"group":"g"}"#, r#""retry_after_ms":1000"#),
    ] {
        let answer = server.send(Request::post(format!("/api/{method}")).header("x-api-key", "k"), body).await;
        assert_eq!((answer.status, answer.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, Some("1")), "{method}");
        assert!(answer.body.contains("1 of the nodes did not answer: n2") && answer.body.contains(hint), "{}", answer.body);
    }
}

/// A bus on which another node is known and never answers.
struct Silent;

#[async_trait]
impl ControlBus for Silent {
    fn start(&self, _node: Weak<dyn ControlNode>) {}

    async fn ask(&self, _question: ControlQuestion, _deadline: Duration) -> ControlAnswers {
        ControlAnswers::whole(vec![ControlAnswer::Done { sessions: 3 }]).silent(vec!["n2".into()])
    }
}
