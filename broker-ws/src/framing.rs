//! How messages become WebSocket frames on the way out. Nothing is read here.

use broker_core::{CloseFrame, FrameKind, Framing};

const FIN: u8 = 0x80;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// The longest payload of a control frame, in bytes.
/// spec: RFC 6455, section 5.5
pub(crate) const CONTROL_MAX: usize = 125;

/// The longest text of a close frame, in bytes: a control frame without the code.
const REASON_MAX: usize = CONTROL_MAX - 2;

/// Frames of a server: whole messages, not masked.
///
/// ```
/// use broker_core::{FrameKind, Framing};
/// use broker_ws::WebSocketFraming;
///
/// let mut out = Vec::new();
/// WebSocketFraming.frame(FrameKind::Text, b"hi", &mut out);
/// assert_eq!(out, b"\x81\x02hi");
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct WebSocketFraming;

impl WebSocketFraming {
    /// The number by which the hub tells frames of this form from those of other transports.
    pub const ENCODING: u8 = 1;
}

impl Framing for WebSocketFraming {
    fn encoding(&self) -> u8 {
        Self::ENCODING
    }

    fn frame(&self, kind: FrameKind, payload: &[u8], out: &mut Vec<u8>) {
        match kind {
            FrameKind::Text => write(TEXT, payload, out),
            FrameKind::Binary => write(BINARY, payload, out),
            FrameKind::Ping => write(PING, &payload[..payload.len().min(CONTROL_MAX)], out),
            FrameKind::Pong => write(PONG, &payload[..payload.len().min(CONTROL_MAX)], out),
        }
    }

    fn close(&self, frame: &CloseFrame, out: &mut Vec<u8>) {
        let end = (0..=REASON_MAX.min(frame.reason.len())).rev().find(|at| frame.reason.is_char_boundary(*at)).unwrap_or(0);
        let reason = &frame.reason[..end];
        out.reserve(4 + reason.len());
        out.extend([FIN | CLOSE, 2 + reason.len() as u8]);
        out.extend(frame.code.to_be_bytes());
        out.extend_from_slice(reason.as_bytes());
    }
}

/// spec: RFC 6455, section 5.2
fn write(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    let len = payload.len();
    out.reserve(10 + len);
    match len {
        0..=125 => out.extend([FIN | opcode, len as u8]),
        126..=0xffff => {
            let [high, low] = (len as u16).to_be_bytes();
            out.extend([FIN | opcode, 126, high, low]);
        }
        _ => {
            out.extend([FIN | opcode, 127]);
            out.extend((len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_takes_one_three_or_nine_bytes() {
        check(0, &[0x82, 0]);
        check(125, &[0x82, 125]);
        check(126, &[0x82, 126, 0, 126]);
        check(0xffff, &[0x82, 126, 0xff, 0xff]);
        check(0x1_0000, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn control_frames_carry_at_most_125_bytes() {
        let mut out = Vec::new();
        WebSocketFraming.frame(FrameKind::Pong, &[7; 200], &mut out);
        assert_eq!(out.len(), 127);
        assert_eq!(out[..2], [0x8a, 125]);
    }

    #[test]
    fn the_text_of_a_close_is_cut_between_characters() {
        let mut out = Vec::new();
        let reason = format!("{}é", "x".repeat(122));
        WebSocketFraming.close(&CloseFrame { code: 3008, reason: reason.into() }, &mut out);
        assert_eq!(out[..4], [0x88, 124, 0x0b, 0xc0]);
        assert_eq!(out.len(), 4 + 122);
    }

    #[track_caller]
    fn check(len: usize, header: &[u8]) {
        let mut out = Vec::new();
        WebSocketFraming.frame(FrameKind::Binary, &vec![9; len], &mut out);
        assert_eq!(&out[..header.len()], header);
        assert_eq!(out.len(), header.len() + len);
    }
}
