//! The wire formats of Broker, as pure codecs: bytes in, commands out; replies and pushes in, frames out.
//!
//! No I/O and no state of a connection lives here. Each protocol implements [`broker_core::Protocol`]:
//!
//! - [`CentrifugeJson`]: what the published Centrifuge client SDKs speak.
//! - [`NoProtobuf`]: tells clients of its Protobuf form that only JSON is spoken.
//! - [`Plain`]: for clients without an SDK, a bare `new WebSocket(url)`.
//! - [`Sse`]: the same for `new EventSource(url)`, with the [cursor](SseCursor) from which such a client resumes.
//!
//! Numbers and words on the wire stand in one table, [`codes`].
//!
//! ```
//! use broker_core::{Inbound, Protocol, Request};
//! use broker_protocol::CentrifugeJson;
//!
//! let mut commands = Vec::new();
//! CentrifugeJson.decode(Inbound::Text(r#"{"id":1,"subscribe":{"channel":"news"}}"#), &mut commands);
//! assert!(matches!(&commands[0].request, Request::Subscribe(subscribe) if subscribe.topic.as_str() == "news"));
//! ```

mod centrifuge;
pub mod codes;
mod json;
mod plain;
mod sse;
#[cfg(feature = "testing")]
pub mod testing;

/// The numbers behind [`broker_core::Protocol::encoding`]: equal only where publications, joins and leaves become the same bytes.
mod encoding {
    pub(crate) const CENTRIFUGE_JSON: u8 = 1;
    pub(crate) const PLAIN_RAW: u8 = 2;
    pub(crate) const PLAIN_ENVELOPE: u8 = 3;
    /// Joins and leaves are shared like publications, and this one leaves them out.
    pub(crate) const PLAIN_ENVELOPE_QUIET: u8 = 4;
    pub(crate) const NO_PROTOBUF: u8 = 5;
    pub(crate) const SSE_RAW: u8 = 6;
    pub(crate) const SSE_ENVELOPE: u8 = 7;
    /// Joins and leaves again.
    pub(crate) const SSE_ENVELOPE_QUIET: u8 = 8;
}

pub use centrifuge::{CentrifugeJson, NoProtobuf};
pub use json::read_filter;
pub use plain::{Format, Plain, holds_reserved_key, update_interval};
pub use sse::{
    CURSOR_LEN_MAX, CURSOR_TOPICS_MAX, InvalidCursor, Record, RecordKind, Sse, SseCursor, SseFraming, TopicKey, no_history, write_cursor,
};
