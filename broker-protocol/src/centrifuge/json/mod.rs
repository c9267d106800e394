//! The Centrifuge client protocol in JSON: the type that reads and writes it.

mod decode;
mod encode;

use broker_core::{CloseFrame, CloseReason, Command, CommandId, FrameWriter, Inbound, Protocol, Push, Reply};

use crate::codes;

/// The Centrifuge client protocol in JSON, as the published SDKs speak it.
///
/// Commands are objects, one to a line; a frame holds one or many. A mistake in a command is answered with an error where its id can be read
/// (the reference closes the connection instead); otherwise the connection ends with 3501 and a text that says what was wrong.
///
/// A publication that is text becomes a JSON string here, one that is bytes a string in base64.
#[derive(Clone, Copy, Debug, Default)]
pub struct CentrifugeJson;

impl Protocol for CentrifugeJson {
    fn name(&self) -> &'static str {
        "centrifuge-json"
    }

    fn encoding(&self) -> u8 {
        crate::encoding::CENTRIFUGE_JSON
    }

    fn decode(&self, message: Inbound<'_>, commands: &mut Vec<Command>) {
        decode::message(message, commands);
    }

    fn encode_reply(&self, id: &CommandId, reply: &Reply, out: &mut FrameWriter<'_>) {
        // Only commands with an id are answered, and this protocol has no ids but numbers.
        if let CommandId::Number(id) = id {
            out.text(&encode::reply(*id, reply));
        }
    }

    fn encode_push(&self, push: &Push, out: &mut FrameWriter<'_>) {
        encode::push(push, out);
    }

    // The client library takes `unsubscribe` 2500 as the end, and subscribes again with its position.
    fn gap_ends_subscription(&self) -> bool {
        true
    }

    fn close_frame(&self, reason: &CloseReason) -> CloseFrame {
        codes::close(reason)
    }
}
