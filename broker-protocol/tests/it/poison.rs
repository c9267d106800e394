//! A publication that one codec cannot encode, for every pair of codecs: clients of the other get it, those of the first are told that it is missing
//! and go on behind it.

use std::sync::Arc;

use broker_core::{
    CloseFrame, CloseReason, Command, CommandId, Connect, Engine, FrameWriter, Inbound, Namespace, Payload, Protocol, Publish, Push, Reply,
    Request, Topic, testing::Client,
};
use broker_protocol::{CentrifugeJson, Format, Plain, Sse};

const TOPIC: &str = "alerts";
/// The data whose encoding panics.
const POISON: &str = "\"the second\"";

/// A codec that cannot encode one publication.
#[derive(Debug)]
struct Poisoned(Arc<dyn Protocol>);

impl Protocol for Poisoned {
    fn name(&self) -> &'static str {
        "poisoned"
    }

    /// It shares no bytes with the healthy one.
    fn encoding(&self) -> u8 {
        100 + self.0.encoding()
    }

    fn decode(&self, message: Inbound<'_>, commands: &mut Vec<Command>) {
        self.0.decode(message, commands);
    }

    fn encode_reply(&self, id: &CommandId, reply: &Reply, out: &mut FrameWriter<'_>) {
        self.0.encode_reply(id, reply, out);
    }

    fn encode_push(&self, push: &Push, out: &mut FrameWriter<'_>) {
        if let Push::Publication(publication) = push {
            assert_ne!(publication.data.bytes(), POISON.as_bytes(), "planted");
        }
        self.0.encode_push(push, out);
    }

    fn answers_without_id(&self) -> bool {
        self.0.answers_without_id()
    }

    fn gap_ends_subscription(&self) -> bool {
        self.0.gap_ends_subscription()
    }

    fn answers_pings(&self) -> bool {
        self.0.answers_pings()
    }

    fn close_frame(&self, reason: &CloseReason) -> CloseFrame {
        self.0.close_frame(reason)
    }
}

fn codecs() -> [Arc<dyn Protocol>; 5] {
    let envelope = Plain { format: Format::Envelope, ..Plain::default() };
    [
        Arc::new(CentrifugeJson),
        Arc::new(Plain::default()),
        Arc::new(envelope),
        Arc::new(Sse { plain: Plain::default() }),
        Arc::new(Sse { plain: envelope }),
    ]
}

#[tokio::test]
async fn what_one_codec_cannot_encode_is_missing_there_only_and_offsets_go_on() {
    for poisoned in codecs() {
        for other in codecs() {
            let names = format!("{} beside {}", other.name(), poisoned.name());
            let engine = Engine::builder()
                .default_namespace(Namespace::open().history(10, std::time::Duration::from_secs(60)))
                .with_settings(|settings| {
                    settings.anonymous = true;
                    settings.shards = 1;
                })
                .build()
                .unwrap();
            let ends_with_a_gap = poisoned.gap_ends_subscription();
            let mut victim = subscriber(&engine, Arc::new(Poisoned(poisoned.clone()))).await;
            let mut healthy = subscriber(&engine, other.clone()).await;
            for data in ["\"the first\"", POISON, "\"the third\""] {
                engine.publish(&topic(), Publish::new(Payload::json(data))).await.unwrap();
            }

            let heard = lines_until(&mut healthy, "the third").await;
            check_order(&heard, &["the first", "the second", "the third"], &names);
            assert!(!heard.contains("gap") && !heard.contains("unsubscribe"), "{names}: {heard}");
            check_offsets(&*other, &heard, &[1, 2, 3], &names);

            let mut heard = String::new();
            if ends_with_a_gap {
                heard += &lines_until(&mut victim, "\"unsubscribe\"").await;
                subscribe(&victim);
            }
            if ends_with_a_gap {
                // The client has subscribed again, behind what cannot be read.
                heard += &lines_until(&mut victim, "\"subscribe\"").await;
                engine.publish(&topic(), Publish::new(Payload::json("\"the fourth\""))).await.unwrap();
                heard += &lines_until(&mut victim, "the fourth").await;
                check_order(&heard, &["the first", "\"unsubscribe\"", "the fourth"], &names);
                check_offsets(&*poisoned, &heard, &[1, 4], &names);
            } else {
                heard += &lines_until(&mut victim, "the third").await;
                check_order(&heard, &["the first", "\"broker\":\"gap\"", "\"from\":\"2@", "\"to\":\"2@", "the third"], &names);
                check_offsets(&*poisoned, &heard, &[1, 3], &names);
            }
            assert!(!heard.contains("the second"), "{names}: {heard}");
            assert_eq!(engine.stats().panics.value(), 1, "{names}");
            assert_eq!(engine.stats().connections.value(), 2, "{names}");
        }
    }
}

fn topic() -> Topic {
    TOPIC.parse().unwrap()
}

fn subscribe(client: &Client) {
    client.send(Request::Subscribe(broker_core::Subscribe::new(topic())));
}

/// A connected client of a codec that has subscribed. What is not told of that in some formats ends with the answer to a publish.
async fn subscriber(engine: &Engine, protocol: Arc<dyn Protocol>) -> Client {
    let client = Client::speaking(engine, protocol);
    client.send(Request::Connect(Connect::default()));
    subscribe(&client);
    let subscribed = engine.stats().subscriptions.value();
    while engine.stats().subscriptions.value() == subscribed {
        tokio::task::yield_now().await;
    }
    client
}

/// Everything up to and with the line that has this text.
async fn lines_until(client: &mut Client, text: &str) -> String {
    let mut heard = String::new();
    loop {
        let line = tokio::time::timeout(std::time::Duration::from_secs(20), client.next()).await;
        let line = line.unwrap_or_else(|_| panic!("no {text} after {heard}"));
        assert_ne!(line, "finished", "{heard}");
        heard += &line;
        heard.push('\n');
        if line.contains(text) {
            return heard;
        }
    }
}

fn check_order(heard: &str, expected: &[&str], names: &str) {
    let mut rest = heard;
    for text in expected {
        let Some(at) = rest.find(text) else { panic!("{names}: no {text} in its place: {heard}") };
        rest = &rest[at + text.len()..];
    }
}

/// The offsets of the publications, where the codec tells them.
fn check_offsets(codec: &dyn Protocol, heard: &str, expected: &[u64], names: &str) {
    let before = match codec.name() {
        "centrifuge-json" => "\"offset\":",
        "plain-envelope" | "sse-envelope" => "\"position\":\"",
        _ => return,
    };
    let is_publication = |line: &&str| line.contains("\"pub\"") || line.contains("\"broker\":\"publication\"");
    let offsets: Vec<u64> = heard
        .lines()
        .filter(is_publication)
        .map(|line| {
            let (_, offset) = line.split_once(before).unwrap_or_else(|| panic!("{names}: {line}"));
            let digits = offset.split(|letter: char| !letter.is_ascii_digit()).next().unwrap_or_default();
            digits.parse().unwrap_or_else(|_| panic!("{names}: {line}"))
        })
        .collect();
    assert_eq!(offsets, expected, "{names}: {heard}");
}
