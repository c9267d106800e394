//! The application's own frames, as they stand on the socket. What is done about them lives in `live`.

use broker::Refusal;
use serde::{Deserialize, Serialize};

use crate::store::{accounts::Person, messages::Message};

/// What a client may say. `sessionId` is needed only where the socket's URL names no session.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Incoming {
    /// `{"type":"message","content":"..","clientId":".."}`: stored, sent to everybody in the session, answered with its id.
    Message {
        /// What is said.
        content: String,
        /// What the client calls it; a retry under the same id is stored once.
        client_id: Option<String>,
        /// The session.
        session_id: Option<String>,
    },
    /// `{"type":"typing"}`: somebody writes; holds for a few seconds.
    Typing {
        /// The session.
        session_id: Option<String>,
    },
    /// `{"type":"read","id":17}`: everything up to this message was seen.
    Read {
        /// The message.
        id: i64,
        /// The session.
        session_id: Option<String>,
    },
}

impl Incoming {
    /// Reads a frame.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        serde_json::from_slice(bytes).map_err(|error| {
            let at = error.column().saturating_sub(1);
            Refusal::bad_request(format!("this is no frame of the chat: {error}"))
                .at(at)
                .hint(r#"{"type":"message","content":".."}, {"type":"typing"} or {"type":"read","id":17}"#)
        })
    }
}

/// What clients are told, beside what the broker tells them.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Outgoing<'a> {
    /// Somebody said something: to everybody in the session, whoever said it included.
    Message(&'a Message),
    /// The answer to a message that came as a frame.
    Sent {
        /// Its number.
        id: i64,
        /// What the client calls it.
        client_id: Option<&'a str>,
        /// When it was stored.
        sent_at: i64,
        /// It had been stored before: nobody was told again.
        repeated: bool,
    },
    /// The newest messages of a session, oldest first: what a client gets first that does not resume.
    History {
        /// The session.
        session_id: &'a str,
        /// The messages.
        messages: &'a [Message],
    },
    /// Somebody writes.
    Typing {
        /// The session.
        session_id: &'a str,
        /// Who.
        user_id: &'a str,
    },
    /// Somebody has seen everything up to this message.
    Read {
        /// The session.
        session_id: &'a str,
        /// Who.
        user_id: &'a str,
        /// The message.
        id: i64,
    },
    /// Somebody joined the session, or left it.
    Member {
        /// The session.
        session_id: &'a str,
        /// Who.
        user: &'a Person,
        /// Whether they have left.
        left: bool,
    },
    /// To all sockets of one user: the list of their sessions has changed.
    Sessions,
}

impl Outgoing<'_> {
    /// The frame.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("frames are maps with text keys")
    }
}

/// What a connection was opened for, kept with its identity: the session that its URL names.
#[derive(Debug, Deserialize, Serialize)]
pub struct Opened {
    /// The session.
    pub session: String,
}

impl Opened {
    /// Reads what stands with an identity.
    pub fn parse(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }
}
