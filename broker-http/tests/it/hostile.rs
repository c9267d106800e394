//! Broken requests by the thousand: each gets an answer that says what is wrong, and none breaks the server.

use http::{Request, StatusCode};

use super::server::Server;

const REQUESTS: [(&str, &str); 22] = [
    (
        "publish",
        r#"{"channel":"chat:1","data":{"n":[1,2.5e3,"é\u00e9",null,true]},"tags":{"a":"b"},"idempotency_key":"k","skip_history":false}"#,
    ),
    ("publish", r#"{"channel":"live:1","b64data":"AP8=","key":"k","delta":true,"version":0}"#),
    ("broadcast", r#"{"channels":["chat:1","live:1","nope:1"],"data":"text"}"#),
    ("history", r#"{"channel":"chat:1","limit":5,"since":{"offset":1,"epoch":"Bx3k"},"reverse":true}"#),
    ("history_remove", r#"{"channel":"chat:1"}"#),
    ("presence", r#"{"channel":"chat:1"}"#),
    ("channels", r#"{"pattern":"{chat,live}:[0-9]*?","limit":3}"#),
    ("info", "{}"),
    ("publish", r#"{"channel":"chat:1","data":1,"except":{"user":["a","b"],"session":"6f1c2f7e-8a43-4c7b-9d52-0b1f6f1c2f7e"}}"#),
    ("send", r#"{"to":{"any":[{"group":"g"},{"all":[{"user":"a"},{"channel":"chat:1"}]}],"except":[{"user":"b"}]},"data":1}"#),
    ("subscribe", r#"{"user":"a","channel":"chat:1","b64info":"eyJuIjoxfQ==","data":1,"recover_since":{"offset":1,"epoch":"Bx3k"}}"#),
    ("unsubscribe", r#"{"user":"a","client":"6f1c2f7e-8a43-4c7b-9d52-0b1f6f1c2f7e","channel":"chat:1"}"#),
    ("disconnect", r#"{"user":"a","disconnect":{"code":4321,"reason":"moved"},"reconnect_after_ms":5,"whitelist":[]}"#),
    ("refresh", r#"{"user":"a","tenant":"acme","expire_at":4102444800,"expired":false}"#),
    ("revoke", r#"{"group":"g","before":1700000000,"tenant":"acme"}"#),
    ("group_join", r#"{"group":"g","user":"a","tenant":"acme"}"#),
    ("group_members", r#"{"group":"g","tenant":"acme"}"#),
    ("groups", r#"{"pattern":"{g,h}*","limit":3,"tenant":"acme"}"#),
    ("connections", r#"{"to":{"channel":"chat:1"},"limit":3}"#),
    ("ticket", r#"{"user":"a","groups":["g"],"channels":[],"info":{"n":1}}"#),
    ("rpc", r#"{"method":"sum","params":[1,2]}"#),
    (
        "batch",
        r#"{"commands":[{"publish":{"channel":"chat:1","data":1}},{"history":{"channel":"chat:1","limit":-1}},{"info":{}}],"parallel":true}"#,
    ),
];

/// What is put into a request at a random place.
const POISON: [&str; 24] = [
    "null",
    "true",
    "-1",
    "1e999",
    "18446744073709551616",
    "0.1",
    "\"\"",
    "\"\\ud800\"",
    "\\u0000",
    "{}",
    "[]",
    "[[[[[[[[",
    "{\"a\":",
    "}",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\u{0}",
    "\u{feff}",
    "\n",
    "\"channel\":7,",
    "\"broker\":1,",
];

#[tokio::test]
async fn every_broken_request_is_answered() {
    let server = Server::start();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut refused = 0;
    for _ in 0..10_000 {
        let (method, body) = REQUESTS[random.below(REQUESTS.len())];
        let body = broken(body, &mut random);
        let request = Request::post(format!("/api/{method}")).header("x-api-key", "k");
        let answer = server.send(request, body.clone()).await;
        let shown = String::from_utf8_lossy(&body).into_owned();
        let value: serde_json::Value =
            serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {shown} -> {}", answer.body));
        match answer.status {
            StatusCode::OK => assert!(["result", "error", "replies"].iter().any(|name| value.get(name).is_some()), "{shown} -> {value}"),
            status => assert_eq!((status, value["error"]["code"].as_u64()), (StatusCode::BAD_REQUEST, Some(107)), "{shown} -> {value}"),
        }
        if let Some(error) = value.get("error") {
            refused += 1;
            assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{shown} -> {value}");
            assert!(error["at"].as_u64().is_none_or(|at| at as usize <= body.len()), "{shown} -> {value}");
        }
    }
    assert!(refused > 5_000, "only {refused} of the requests were broken");
    assert_eq!(server.send(Request::post("/api/info").header("x-api-key", "k"), "{}").await.status, StatusCode::OK);
}

#[tokio::test]
async fn values_beyond_every_bound_are_refused_by_name() {
    let server = Server::start();
    let refused = async |method: &str, body: String, message: &str| {
        let answer = server.ask(method, &body).await;
        assert!(answer.contains(message), "{answer}");
    };
    refused("publish", format!(r#"{{"channel":"{}","data":1}}"#, "x".repeat(256)), "the topic has 256 bytes, at most 255 are allowed")
        .await;
    let deep = format!(r#"{{"channel":"chat:1","data":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    refused("publish", deep, "the request nests deeper than 64 levels").await;
    refused("batch", format!(r#"{{"commands":[{}1]}}"#, "1,".repeat(10_000)), "commands has 10001 elements, at most 10000 are allowed")
        .await;
    refused("channels", format!(r#"{{"pattern":"{}"}}"#, "*".repeat(2000)), "pattern has more than 1024 bytes").await;
    refused("history", r#"{"channel":"chat:1","since":{"offset":1,"epoch":"not an epoch"}}"#.to_owned(), "since has an epoch").await;
}

/// One to three mistakes in a request.
fn broken(body: &str, random: &mut Random) -> Vec<u8> {
    let mut body = body.as_bytes().to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(body.len().max(1)).min(body.len());
        match random.below(5) {
            0 => body.truncate(at),
            1 if at < body.len() => body[at] = random.below(256) as u8,
            2 if at < body.len() => drop(body.remove(at)),
            3 => {
                let until = (at + random.below(20)).min(body.len());
                let piece = body[at..until].to_vec();
                body.splice(at..at, piece);
            }
            _ => drop(body.splice(at..at, POISON[random.below(POISON.len())].bytes())),
        }
    }
    body
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }
}
