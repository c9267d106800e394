//! The Centrifuge client protocol in Protobuf: recognised, and refused in words that a client can tell its developer.

use broker_core::{CloseFrame, CloseReason, Command, CommandId, FrameWriter, Inbound, Protocol, Push, Reply, Request};

use crate::{codes, encoding};

/// What a client of the Protobuf form is met with: whatever it says ends the connection with 3506, and a text that names the form it may use.
///
/// Answered in JSON instead, it would fail without a reason, and try again for ever.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProtobuf;

impl Protocol for NoProtobuf {
    fn name(&self) -> &'static str {
        "centrifuge-protobuf"
    }

    fn encoding(&self) -> u8 {
        encoding::NO_PROTOBUF
    }

    fn decode(&self, _: Inbound<'_>, commands: &mut Vec<Command>) {
        commands.push(Command { id: CommandId::None, request: Request::Unreadable(CloseReason::InappropriateProtocol) });
    }

    fn encode_reply(&self, _: &CommandId, _: &Reply, _: &mut FrameWriter<'_>) {}

    fn encode_push(&self, _: &Push, _: &mut FrameWriter<'_>) {}

    fn close_frame(&self, reason: &CloseReason) -> CloseFrame {
        codes::close(reason)
    }
}
