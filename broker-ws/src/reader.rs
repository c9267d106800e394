//! Turns the bytes that a client sent into whole messages, within limits. No I/O and no clock lives here.
//!
//! Why frames are put together here and not by a ready-made context: `docs/decisions/0003-reading-websocket-frames.md`.

use std::{io::Cursor, time::Instant};

use broker_core::{CloseReason, Inbound};
use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{CloseCode, Control, Data, OpCode},
};

use crate::{WsLimits, framing::CONTROL_MAX};

/// The longest header of a frame, in bytes.
/// spec: RFC 6455, section 5.2
const HEADER_MAX: usize = 14;

/// One thing that a client sent.
#[derive(Debug)]
pub enum Event<'a> {
    /// A message, whole and unmasked.
    Message(Inbound<'a>),
    /// A ping: it wants this payload back.
    Ping(&'a [u8]),
    /// An answer to a ping.
    Pong,
}

/// Puts frames and messages together again. Between messages it holds no buffer.
#[derive(Debug, Default)]
pub struct Reader {
    unfinished: Option<Box<Unfinished>>,
    control: ControlRate,
}

/// What is kept of a message until its last byte is there.
#[derive(Debug)]
struct Unfinished {
    /// The first bytes of a frame, header included, masked as they came; empty between frames.
    frame: Vec<u8>,
    /// The payloads of the message's earlier frames; `None` while no message is open.
    message: Option<Message>,
    /// When the first of these bytes came.
    since: Instant,
}

#[derive(Debug)]
struct Message {
    is_text: bool,
    payload: Vec<u8>,
    /// How much of the payload is known to be UTF-8, in a text message.
    checked: usize,
    fragments: u32,
}

impl Message {
    /// Refuses text as soon as no continuation can make it UTF-8.
    fn check(&mut self) -> Result<(), CloseReason> {
        if self.is_text {
            match std::str::from_utf8(&self.payload[self.checked..]) {
                Ok(text) => self.checked += text.len(),
                Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
                Err(_) => return Err(CloseReason::NotUtf8),
            }
        }
        Ok(())
    }
}

/// A frame's header, found legal.
struct Header {
    opcode: OpCode,
    is_final: bool,
    mask: [u8; 4],
    /// Bytes of the header itself.
    len: usize,
    /// Bytes of header and payload together.
    total: usize,
}

impl Reader {
    /// Reads what came, in the order it came. `bytes` is used as working space: its content afterwards means nothing.
    ///
    /// # Errors
    ///
    /// The client closed, or broke a rule: nothing more may be read from this connection.
    pub fn read(
        &mut self,
        mut bytes: &mut [u8],
        limits: &WsLimits,
        now: Instant,
        each: &mut impl FnMut(Event<'_>),
    ) -> Result<(), CloseReason> {
        if let Some(unfinished) = &mut self.unfinished
            && !unfinished.frame.is_empty()
        {
            let taken = self.complete(bytes, limits, now, each)?;
            bytes = &mut bytes[taken..];
        }
        while !bytes.is_empty() {
            match self.header(bytes, limits)? {
                Some(header) if header.total <= bytes.len() => {
                    let (frame, rest) = bytes.split_at_mut(header.total);
                    self.take(&header, &mut frame[header.len..], limits, now, each)?;
                    bytes = rest;
                }
                _ => {
                    self.unfinished(now).frame.extend_from_slice(bytes);
                    break;
                }
            }
        }
        Ok(())
    }

    /// When the first byte of a message came whose last is not there yet.
    pub fn unfinished_since(&self) -> Option<Instant> {
        self.unfinished.as_ref().map(|unfinished| unfinished.since)
    }

    /// Counts the time of an unfinished message anew from `now`: for pauses that are not the client's.
    pub fn forgive(&mut self, now: Instant) {
        if let Some(unfinished) = &mut self.unfinished {
            unfinished.since = now;
        }
    }

    /// Goes on with a frame that began in an earlier read. Says how many bytes belonged to it.
    fn complete(&mut self, bytes: &[u8], limits: &WsLimits, now: Instant, each: &mut impl FnMut(Event<'_>)) -> Result<usize, CloseReason> {
        let mut frame = std::mem::take(&mut self.unfinished(now).frame);
        let before = frame.len();
        // A header is read from where it was kept, so its missing bytes go there first.
        frame.extend_from_slice(&bytes[..bytes.len().min(HEADER_MAX.saturating_sub(before))]);
        let Some(header) = self.header(&frame, limits)? else {
            let taken = frame.len() - before;
            self.unfinished(now).frame = frame;
            return Ok(taken);
        };
        let taken = bytes.len().min(header.total - before);
        frame.truncate(before);
        frame.extend_from_slice(&bytes[..taken]);
        if frame.len() < header.total {
            self.unfinished(now).frame = frame;
        } else {
            self.take(&header, &mut frame[header.len..], limits, now, each)?;
            if self.unfinished.as_ref().is_some_and(|unfinished| unfinished.message.is_none()) {
                self.unfinished = None;
            }
        }
        Ok(taken)
    }

    fn unfinished(&mut self, now: Instant) -> &mut Unfinished {
        self.unfinished.get_or_insert_with(|| Box::new(Unfinished { frame: Vec::new(), message: None, since: now }))
    }

    fn message(&self) -> Option<&Message> {
        self.unfinished.as_ref()?.message.as_ref()
    }

    /// Reads a header and refuses what breaks a rule before its payload is there. `None`: bytes are missing.
    fn header(&self, bytes: &[u8], limits: &WsLimits) -> Result<Option<Header>, CloseReason> {
        let mut cursor = Cursor::new(bytes);
        let parsed = FrameHeader::parse(&mut cursor).map_err(|_| violation("the opcode of a frame is a reserved one"))?;
        let Some((header, payload_len)) = parsed else { return Ok(None) };
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(violation("a frame has a reserved bit set, and no extension was negotiated"));
        }
        let Some(mask) = header.mask else { return Err(violation("a frame of the client is not masked")) };
        let kept = match (header.opcode, self.message()) {
            (OpCode::Control(_), _) if !header.is_final => return Err(violation("a control frame is fragmented")),
            (OpCode::Control(_), _) if payload_len > CONTROL_MAX as u64 => {
                return Err(violation("a control frame has more than 125 bytes"));
            }
            (OpCode::Data(Data::Continue), None) => return Err(violation("a continuation frame continues no message")),
            (OpCode::Data(Data::Text | Data::Binary), Some(_)) => {
                return Err(violation("a message begins inside another one"));
            }
            (OpCode::Data(_), Some(message)) if message.fragments >= limits.fragments_max => {
                return Err(violation("a message has too many frames"));
            }
            (OpCode::Data(_), message) => message.map_or(0, |message| message.payload.len()),
            (OpCode::Control(_), _) => 0,
        };
        if matches!(header.opcode, OpCode::Data(_)) && payload_len > limits.message_max.saturating_sub(kept) as u64 {
            return Err(CloseReason::TooLarge { max_bytes: limits.message_max });
        }
        let len = cursor.position() as usize;
        Ok(Some(Header { opcode: header.opcode, is_final: header.is_final, mask, len, total: len + payload_len as usize }))
    }

    /// Takes one whole frame.
    fn take(
        &mut self,
        header: &Header,
        payload: &mut [u8],
        limits: &WsLimits,
        now: Instant,
        each: &mut impl FnMut(Event<'_>),
    ) -> Result<(), CloseReason> {
        unmask(payload, header.mask);
        let payload = &*payload;
        match header.opcode {
            OpCode::Data(Data::Continue) => self.go_on(payload, header.is_final, each),
            OpCode::Data(kind) if header.is_final => deliver(kind == Data::Text, payload, each),
            OpCode::Data(kind) => {
                let mut message = Message { is_text: kind == Data::Text, payload: payload.to_vec(), checked: 0, fragments: 1 };
                message.check()?;
                self.unfinished(now).message = Some(message);
                Ok(())
            }
            OpCode::Control(Control::Close) => Err(closed(payload)),
            OpCode::Control(control) => {
                self.control.count(limits, now)?;
                each(if control == Control::Ping { Event::Ping(payload) } else { Event::Pong });
                Ok(())
            }
        }
    }

    fn go_on(&mut self, payload: &[u8], is_final: bool, each: &mut impl FnMut(Event<'_>)) -> Result<(), CloseReason> {
        let unfinished = self.unfinished.as_mut().expect("a continuation without a message was refused with its header");
        let message = unfinished.message.as_mut().expect("a continuation without a message was refused with its header");
        message.payload.extend_from_slice(payload);
        message.fragments += 1;
        if is_final {
            let unfinished = self.unfinished.take().and_then(|unfinished| unfinished.message);
            let message = unfinished.expect("the message was there one line above");
            return deliver(message.is_text, &message.payload, each);
        }
        message.check()
    }
}

fn deliver(is_text: bool, payload: &[u8], each: &mut impl FnMut(Event<'_>)) -> Result<(), CloseReason> {
    if is_text {
        let text = std::str::from_utf8(payload).map_err(|_| CloseReason::NotUtf8)?;
        each(Event::Message(Inbound::Text(text)));
    } else {
        each(Event::Message(Inbound::Binary(payload)));
    }
    Ok(())
}

/// What a close frame says.
/// spec: RFC 6455, sections 5.5.1 and 7.4
fn closed(payload: &[u8]) -> CloseReason {
    let Some((code, text)) = payload.split_first_chunk() else {
        return match payload.len() {
            0 => CloseReason::ClientLeft { code: None },
            _ => violation("a close frame has one byte, half a code"),
        };
    };
    let code = u16::from_be_bytes(*code);
    if std::str::from_utf8(text).is_err() {
        CloseReason::NotUtf8
    } else if CloseCode::from(code).is_allowed() {
        CloseReason::ClientLeft { code: Some(code) }
    } else {
        violation(format!("a close frame has the code {code}, which must not be sent"))
    }
}

fn violation(what: impl Into<std::borrow::Cow<'static, str>>) -> CloseReason {
    CloseReason::TransportViolation(what.into())
}

/// spec: RFC 6455, section 5.3
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let (blocks, rest) = payload.as_chunks_mut::<16>();
    let wide = u128::from_ne_bytes([mask; 4].as_flattened().try_into().expect("four times four bytes are 16"));
    for block in blocks {
        *block = (u128::from_ne_bytes(*block) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// Pings and pongs of the running second: they are answered outside the session's own rates.
#[derive(Debug, Default)]
struct ControlRate {
    since: Option<Instant>,
    frames: u32,
}

impl ControlRate {
    fn count(&mut self, limits: &WsLimits, now: Instant) -> Result<(), CloseReason> {
        if self.since.is_none_or(|since| now.saturating_duration_since(since).as_secs() >= 1) {
            *self = Self { since: Some(now), frames: 0 };
        }
        self.frames += 1;
        if self.frames > limits.control_frames_max { Err(CloseReason::TooManyRequests) } else { Ok(()) }
    }
}
