//! Small JSON tools that the codecs share: objects read without copying, ids out of broken text, appends to a buffer. No wire format.

mod filter;
mod read;
mod salvage;
mod write;

pub(crate) use filter::filter;
pub use filter::read_filter;
pub(crate) use read::{Frame, Object, check_depth, entries, json_payload, kind_name, quoted, syntax};
pub(crate) use salvage::{id_token, starts_with_key};
pub(crate) use write::{ObjectWriter, base64, number, one_line, payload, sendable_kind, text};
