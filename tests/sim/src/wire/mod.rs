//! What simulated clients say and hear, in words of no protocol; the two protocols are beside this file.

mod centrifuge;
mod plain;

use std::sync::Arc;

use broker_core::{Position, Protocol, Since, Topic};
use broker_protocol::{CentrifugeJson, Format, Plain};
use serde_json::Value;

use crate::wants::Wants;

/// The language of a client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Language {
    /// What the published Centrifuge clients speak.
    Centrifuge,
    /// The plain protocol, with positions in every publication.
    Envelope,
    /// The plain protocol, where a publication is its payload.
    Raw,
}

/// What a client asks.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    /// Who I am; only where the first command says so.
    Connect { token: String },
    /// Listen to a topic.
    Subscribe { topic: Topic, since: Option<Since>, wants: Wants },
    /// Listen no more.
    Unsubscribe { topic: Topic },
    /// Send to a topic.
    Publish { topic: Topic, payload: String, key: Option<String> },
    /// What was sent to a topic, asked in this subscription to it.
    History { topic: Topic, subscription: Option<u64> },
    /// Renewed credentials.
    Refresh { token: String },
    /// A sign of life.
    Pong,
}

/// One publication as it came.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Heard {
    /// Its data.
    pub(crate) payload: String,
    /// Its offset, where the protocol says it.
    pub(crate) offset: Option<u64>,
    /// Its position, where the protocol says it.
    pub(crate) position: Option<Position>,
    /// What it is about, where the protocol says it.
    pub(crate) key: Option<String>,
    /// Whether the key has gone, where the protocol says it.
    pub(crate) removed: bool,
}

impl Heard {
    /// The object of a publication, of which each protocol names the place in its own way.
    fn of(publication: &Value) -> Self {
        Self {
            payload: publication["data"].to_string(),
            offset: None,
            position: None,
            key: publication["key"].as_str().map(str::to_owned),
            removed: publication["removed"].as_bool().unwrap_or(false),
        }
    }

    /// Only data.
    fn bare(payload: String) -> Self {
        Self { payload, offset: None, position: None, key: None, removed: false }
    }
}

/// What a client hears.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Word {
    /// A topic is live, or the answer to a subscribe that names none.
    Subscribed {
        id: Option<u64>,
        topic: Option<Topic>,
        position: Option<Position>,
        recovered: Option<bool>,
        snapshot: Option<String>,
        missed: Vec<Heard>,
    },
    /// The state of a topic as the application says it, where it comes by itself.
    Snapshot { topic: Topic, data: String },
    /// The key of a topic has gone, without a word of the publisher, and without a position.
    Removed { topic: Topic, key: String },
    /// A publication of a topic; `None`: its payload knows.
    Publication { topic: Option<Topic>, heard: Heard },
    /// Publications are missing.
    Gap { topic: Topic, from: Option<Position>, to: Option<Position> },
    /// The server ended a subscription.
    Ended { topic: Topic },
    /// The answer to a history.
    History { id: u64, publications: Vec<Heard>, position: Option<Position> },
    /// Who the session is from here on, and what it lost.
    Identity { id: Option<u64>, user: String, left: Vec<Topic> },
    /// Any other answer.
    Done { id: u64 },
    /// A command was refused.
    Refused { id: Option<u64>, code: u64 },
    /// The server asks for a sign of life.
    Ping,
    /// Something that no check needs.
    Other,
}

impl Language {
    /// The codec.
    pub(crate) fn protocol(self) -> Arc<dyn Protocol> {
        match self {
            Self::Centrifuge => Arc::new(CentrifugeJson),
            Self::Envelope => Arc::new(Plain { format: Format::Envelope, ..Plain::default() }),
            Self::Raw => Arc::new(Plain::default()),
        }
    }

    /// Whether the first command is connect.
    pub(crate) fn connects(self) -> bool {
        self == Self::Centrifuge
    }

    /// Whether a failed resume is followed by the gap that it means.
    pub(crate) fn tells_gaps(self) -> bool {
        self != Self::Centrifuge
    }

    /// A command as it goes over the wire.
    pub(crate) fn say(self, id: u64, ask: &Ask) -> String {
        match self {
            Self::Centrifuge => centrifuge::say(id, ask),
            Self::Envelope | Self::Raw => plain::say(id, ask),
        }
    }

    /// What a message says; an error where it cannot be understood.
    pub(crate) fn hear(self, message: &str) -> Result<Word, String> {
        let value: Value = serde_json::from_str(message).map_err(|error| format!("not JSON: {error}: {message}"))?;
        let word = match self {
            Self::Centrifuge => centrifuge::hear(&value),
            Self::Envelope | Self::Raw => plain::hear(&value),
        };
        word.ok_or_else(|| format!("not understood: {message}"))
    }
}

/// The topic that a payload of the simulation names.
pub(crate) fn topic_in(payload: &str) -> Option<Topic> {
    let value: Value = serde_json::from_str(payload).ok()?;
    value["t"].as_str()?.parse().ok()
}

fn topic(value: &Value) -> Option<Topic> {
    value.as_str()?.parse().ok()
}

fn position(value: &Value) -> Option<Position> {
    value.as_str()?.parse().ok()
}
