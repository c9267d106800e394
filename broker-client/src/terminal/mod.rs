//! Publishing and listening for programs on a terminal: lines in, lines out, status lines on the side. Flags, signals and
//! exit codes belong to the program.

mod listen;
mod publish;

pub use listen::{Heard, LineFormat, Listen, ListenError, listen};
pub use publish::{PublishError, publish_line, publish_lines};

use crate::Payload;

/// The payload of a line of text: the JSON that it is, otherwise a JSON string.
///
/// ```
/// use broker_client::terminal::payload;
///
/// assert_eq!(payload(r#"{"n":1}"#).as_str(), r#"{"n":1}"#);
/// assert_eq!(payload("good morning").as_str(), r#""good morning""#);
/// ```
pub fn payload(text: &str) -> Payload {
    text.parse().unwrap_or_else(|_| Payload::of(text).expect("text is a JSON string"))
}
