//! The language on a pipe, and how its messages are cut into frames: two traits that transports and applications may bring.

use std::{borrow::Cow, fmt};

use crate::{CloseReason, Command, CommandId, Push, Reply};

/// The language on a connection: reads commands, writes replies and pushes.
///
/// Pure: no I/O, no state of a connection. Connections whose protocols have the same [`Protocol::encoding`] share every encoded publication.
pub trait Protocol: fmt::Debug + Send + Sync + 'static {
    /// The name, for logs: `centrifuge-json`, `plain-raw`.
    fn name(&self) -> &'static str;

    /// A number that is equal only for protocols that encode publications, joins and leaves to the same bytes.
    fn encoding(&self) -> u8;

    /// Reads all commands of one message, in order.
    ///
    /// A mistake is a command too: [`Request::Mistake`](crate::Request::Mistake) or [`Request::Unreadable`](crate::Request::Unreadable).
    fn decode(&self, message: Inbound<'_>, commands: &mut Vec<Command>);

    /// Writes the answer to a command; nothing where the protocol does not answer it.
    fn encode_reply(&self, id: &CommandId, reply: &Reply, out: &mut FrameWriter<'_>);

    /// Writes a push; nothing where the protocol has no such push.
    fn encode_push(&self, push: &Push, out: &mut FrameWriter<'_>);

    /// Whether [`Protocol::encode_reply`] tells the client of a refusal although the command had no id.
    ///
    /// Otherwise such a refusal closes the connection: the close frame is the only answer there is.
    fn answers_without_id(&self) -> bool {
        false
    }

    /// Whether a client of this protocol takes a [`Push::Gap`] as the end of its subscription and subscribes again by itself.
    ///
    /// Then the engine ends the subscription with the gap.
    fn gap_ends_subscription(&self) -> bool {
        false
    }

    /// Whether renewed credentials may name another user, whose the connection is then. Otherwise such a renewal ends the subscriptions that
    /// the new user may not have, and closes so that the client comes back as that user.
    fn changes_user_in_place(&self) -> bool {
        false
    }

    /// Whether a client can give a sign of life. Where none can come, as on a stream that only goes out, silence ends nothing: the transport
    /// finds out about dead peers by what they do not take.
    fn answers_pings(&self) -> bool {
        true
    }

    /// The code and text with which the transport closes.
    fn close_frame(&self, reason: &CloseReason) -> CloseFrame;
}

/// One message of a client, whole.
#[derive(Clone, Copy, Debug)]
pub enum Inbound<'a> {
    /// Text; the transport has checked that it is UTF-8.
    Text(&'a str),
    /// Bytes.
    Binary(&'a [u8]),
}

/// How the transport says that the connection ends.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CloseFrame {
    /// The code.
    pub code: u16,
    /// The text; a transport may cut it.
    pub reason: Cow<'static, str>,
}

/// How messages are cut into frames: a WebSocket header, the lines of SSE.
pub trait Framing: fmt::Debug + Send + Sync + 'static {
    /// A number that is equal only for framings that frame to the same bytes.
    fn encoding(&self) -> u8;

    /// Appends one whole frame.
    fn frame(&self, kind: FrameKind, payload: &[u8], out: &mut Vec<u8>);

    /// Appends the frame that ends the connection, where the transport has one.
    fn close(&self, frame: &CloseFrame, out: &mut Vec<u8>);
}

/// What a frame carries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FrameKind {
    /// Text in UTF-8.
    Text,
    /// Bytes.
    Binary,
    /// The transport's own ping, for protocols that have none.
    Ping,
    /// The answer to the client's ping of the transport.
    Pong,
}

/// Where a protocol writes its messages: each becomes one frame.
#[derive(Debug)]
pub struct FrameWriter<'a> {
    framing: &'a dyn Framing,
    out: &'a mut Vec<u8>,
    frames: usize,
}

impl<'a> FrameWriter<'a> {
    /// Appends frames to `out`.
    pub fn new(framing: &'a dyn Framing, out: &'a mut Vec<u8>) -> Self {
        Self { framing, out, frames: 0 }
    }

    /// One text message.
    pub fn text(&mut self, message: &[u8]) {
        self.write(FrameKind::Text, message);
    }

    /// One binary message.
    pub fn binary(&mut self, message: &[u8]) {
        self.write(FrameKind::Binary, message);
    }

    /// A ping of the transport's own.
    pub fn ping(&mut self) {
        self.write(FrameKind::Ping, &[]);
    }

    /// Number of frames written so far.
    pub fn frames(&self) -> usize {
        self.frames
    }

    fn write(&mut self, kind: FrameKind, message: &[u8]) {
        self.frames += 1;
        self.framing.frame(kind, message, self.out);
    }
}
