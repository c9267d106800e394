//! The plain protocol, for clients without an SDK. Its contract stands in `docs/protocols/plain.md`.

mod decode;
pub(crate) mod encode;
mod rate;

pub use rate::update_interval;

use broker_core::{CloseFrame, CloseReason, Command, CommandId, FrameWriter, Inbound, Protocol, Push, Reply};

use crate::{
    codes, encoding,
    json::{Frame, Object},
};

/// The plain protocol over WebSocket.
///
/// ```
/// use broker_protocol::{Format, Plain};
///
/// let envelope = Plain { format: Format::Envelope, ..Plain::default() };
/// assert!(envelope.notices);
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Plain {
    /// How publications are sent. Default: [`Format::Raw`].
    pub format: Format,
    /// Whether the broker says more than answers to commands: gaps, ends, errors that answer nothing. Default: yes.
    pub notices: bool,
    /// Whether a client is told which rule refused it and which setting would allow it. Default: no.
    pub dev: bool,
}

/// How publications are sent in the plain protocol.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Format {
    /// The payload exactly as published.
    #[default]
    Raw,
    /// In an object that also names topic, position, key, tags and time.
    Envelope,
}

impl Default for Plain {
    fn default() -> Self {
        Self { format: Format::Raw, notices: true, dev: false }
    }
}

impl Protocol for Plain {
    fn name(&self) -> &'static str {
        match self.format {
            Format::Raw => "plain-raw",
            Format::Envelope => "plain-envelope",
        }
    }

    fn encoding(&self) -> u8 {
        match self.format {
            Format::Raw => encoding::PLAIN_RAW,
            Format::Envelope if self.notices => encoding::PLAIN_ENVELOPE,
            Format::Envelope => encoding::PLAIN_ENVELOPE_QUIET,
        }
    }

    fn decode(&self, message: Inbound<'_>, commands: &mut Vec<Command>) {
        commands.push(decode::message(message));
    }

    fn encode_reply(&self, id: &CommandId, reply: &Reply, out: &mut FrameWriter<'_>) {
        encode::reply(*self, id, reply, out);
    }

    fn encode_push(&self, push: &Push, out: &mut FrameWriter<'_>) {
        encode::push(*self, push, out);
    }

    fn answers_without_id(&self) -> bool {
        true
    }

    fn changes_user_in_place(&self) -> bool {
        true
    }

    fn close_frame(&self, reason: &CloseReason) -> CloseFrame {
        codes::close(reason)
    }
}

/// The key that marks what the broker says and what it is asked.
const RESERVED: &str = "broker";

/// Whether JSON data is an object with the key `broker` at its top level, which is reserved: in the raw format it would read as said by the
/// broker itself. Data that is no JSON holds no key.
///
/// ```
/// assert!(broker_protocol::holds_reserved_key(br#"{"a":1,"broker":"gap"}"#));
/// assert!(!broker_protocol::holds_reserved_key(br#"{"a":{"broker":"gap"}}"#));
/// ```
pub fn holds_reserved_key(json: &[u8]) -> bool {
    let object = json.trim_ascii_start().first() == Some(&b'{');
    // The key can only be there as it is or with escapes: most data is told apart without reading it as JSON.
    if !object || (memchr::memchr(b'\\', json).is_none() && memchr::memmem::find(json, RESERVED.as_bytes()).is_none()) {
        return false;
    }
    std::str::from_utf8(json)
        .is_ok_and(|json| Object::read(Frame(json.as_bytes()), "", json, &[RESERVED]).is_ok_and(|object| object.raw(RESERVED).is_some()))
}
