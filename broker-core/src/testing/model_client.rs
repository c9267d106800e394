//! The model test's client: lines that name every position in full.

use crate::{
    CloseFrame, CloseReason, Command, CommandId, Engine, FrameWriter, Inbound, Position, Protocol, Push, Reply, Request, Start,
    testing::client::{Client, open_protocol},
};

#[derive(Debug)]
struct ModelProtocol;

fn at(position: Option<Position>) -> String {
    position.map_or_else(|| "-".to_owned(), |position| position.to_string())
}

impl Protocol for ModelProtocol {
    fn name(&self) -> &'static str {
        "model"
    }

    fn encoding(&self) -> u8 {
        210
    }

    fn decode(&self, _message: Inbound<'_>, _commands: &mut Vec<Command>) {}

    fn encode_reply(&self, _id: &CommandId, reply: &Reply, out: &mut FrameWriter<'_>) {
        match reply {
            Reply::Connected(_) => out.text(b"connected"),
            Reply::Subscribed(subscribed) => {
                let resume = match subscribed.resume {
                    Some(crate::Resume { since: crate::Since::Position(since), recovered: true, .. }) => format!("recovered:{since}"),
                    Some(crate::Resume { since: crate::Since::Position(since), .. }) => format!("lost:{since}"),
                    _ => "live".to_owned(),
                };
                out.text(format!("subscribed {} {} {resume}", subscribed.topic, at(subscribed.position)).as_bytes());
                for publication in &subscribed.missed {
                    self.encode_push(&Push::Publication(publication.clone()), out);
                }
            }
            Reply::Unsubscribed { topic } => out.text(format!("unsubscribed {topic}").as_bytes()),
            Reply::Refused(refusal) => out.text(format!("refused {:?}", refusal.kind).as_bytes()),
            _ => {}
        }
    }

    fn encode_push(&self, push: &Push, out: &mut FrameWriter<'_>) {
        match push {
            Push::Publication(publication) => {
                let data = String::from_utf8_lossy(publication.data.bytes());
                out.text(format!("publication {} {} {data}", publication.topic, at(publication.position)).as_bytes());
            }
            Push::Gap { topic, gap } => out.text(format!("gap {topic} {} {} {:?}", at(gap.from), at(gap.to), gap.reason).as_bytes()),
            _ => {}
        }
    }

    fn answers_without_id(&self) -> bool {
        true
    }

    fn close_frame(&self, reason: &CloseReason) -> CloseFrame {
        CloseFrame { code: 3000, reason: reason.cause().into() }
    }
}

/// A client of the model test.
pub(crate) struct ModelClient(Client);

impl ModelClient {
    /// Opens a connection whose pipe holds so many bytes.
    pub(crate) fn open(engine: &Engine, capacity: Option<usize>) -> Self {
        let client = open_protocol(engine, std::sync::Arc::new(ModelProtocol), Start::AwaitConnect);
        client.set_capacity(capacity);
        Self(client)
    }

    pub(crate) fn send(&self, request: Request) {
        self.0.send(request);
    }

    pub(crate) fn try_next(&mut self) -> Option<String> {
        self.0.try_next()
    }

    pub(crate) fn has_lines(&self) -> bool {
        self.0.has_lines()
    }

    pub(crate) fn set_capacity(&self, capacity: Option<usize>) {
        self.0.set_capacity(capacity);
    }
}
