//! Reading RESP: where a frame ends, and what it says. How bytes come lives in `connection`, what the values mean in `value`.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;

use crate::{Change, Frame, Push, ServerError, Value};

/// What a server may send at once. What is above it makes the stream unreadable.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Bounds {
    /// Bytes of one reply or push with all that is in it. Default: 64 MiB.
    pub frame_max_bytes: usize,
    /// Values in one reply or push, on all levels together. Default: 1,048,576.
    pub values_max: usize,
    /// Levels of values in values. Default: 32.
    pub depth_max: usize,
    /// Bytes of a status, an error or a number. Default: 64 KiB.
    pub line_max_bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { frame_max_bytes: 64 << 20, values_max: 1 << 20, depth_max: 32, line_max_bytes: 64 << 10 }
    }
}

/// Why a stream cannot be read on. There is no way back into step: the connection is of no use.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A byte begins a value and is the sign of none.
    #[error("byte {0:#04x} begins no value")]
    UnknownSign(u8),
    /// A number, a length or a truth value is none.
    #[error("a value that begins with {:?} is not well-formed", char::from(*.0))]
    Malformed(u8),
    /// A line or a bulk string does not end with CR and LF.
    #[error("a value does not end with CR and LF")]
    NoLineEnd,
    /// More bytes than [`Bounds::frame_max_bytes`] or [`Bounds::line_max_bytes`].
    #[error("a value is larger than {max_bytes} bytes")]
    TooLarge {
        /// The bound.
        max_bytes: usize,
    },
    /// More values than [`Bounds::values_max`].
    #[error("a value has more than {max} values in it")]
    TooMany {
        /// The bound.
        max: usize,
    },
    /// More levels than [`Bounds::depth_max`].
    #[error("a value has more than {max} levels")]
    TooDeep {
        /// The bound.
        max: usize,
    },
    /// A length that is told at the end (`$?`, `*?`). No server sends one.
    #[error("a value without a length")]
    Streamed,
    /// A push inside of another value, as Redis 7.0 writes where a connection publishes in a transaction to what it is subscribed to itself.
    #[error("a push inside of another value")]
    PushInside,
}

/// Reads frames from a buffer that grows at its end.
///
/// A frame is looked through once for its end, however many pieces it comes in, and then read. Nothing is allocated for lengths that are only announced.
///
/// ```
/// use broker_resp::{Decoder, Frame, Value};
/// use bytes::BytesMut;
///
/// let (mut decoder, mut buffer) = (Decoder::default(), BytesMut::from("*2\r\n:1\r\n$5\r\nhel"));
/// assert_eq!(decoder.next(&mut buffer), Ok(None));
/// buffer.extend_from_slice(b"lo\r\n");
/// let reply = Value::Array(vec![Value::Integer(1), Value::Bulk("hello".into())]);
/// assert_eq!(decoder.next(&mut buffer), Ok(Some(Frame::Reply(reply))));
/// ```
#[derive(Clone, Debug)]
pub struct Decoder {
    bounds: Bounds,
    /// Where the look for the end goes on, from the start of the buffer.
    at: usize,
    /// Values that are missing to the end of the frame.
    needed: usize,
    /// Values that the frame has announced.
    values: usize,
    /// How long the buffer has to be before it is worth looking on.
    until: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(Bounds::default())
    }
}

impl Decoder {
    /// A decoder at the beginning of a stream.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, at: 0, needed: 1, values: 1, until: 0 }
    }

    /// Takes the next frame from the front of the buffer; `None` where it is not complete. Between calls the buffer may only grow.
    ///
    /// After an error the stream is unreadable, and so is every further call.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, DecodeError> {
        if buffer.len() < self.until || !self.scan(buffer)? {
            return Ok(None);
        }
        let len = self.at;
        (self.at, self.needed, self.values, self.until) = (0, 1, 1, 0);
        // A line of its own is read in place: no share of the buffer is needed, and none is kept.
        if let b'+' | b'-' | b':' | b',' | b'#' | b'_' = buffer[0] {
            let value = line_value(buffer[0], &buffer[1..len - 2], Bytes::copy_from_slice)?;
            buffer.advance(len);
            return Ok(Some(Frame::Reply(value)));
        }
        let bytes = buffer.split_to(len).freeze();
        Reader { bytes: &bytes, at: 0, depth_max: self.bounds.depth_max }.frame().map(Some)
    }

    /// Bytes that are known to be missing to the end of the frame that has begun; 0 where that is not known.
    pub fn missing_bytes(&self, buffer: &BytesMut) -> usize {
        self.until.saturating_sub(buffer.len())
    }

    /// Looks for the end of the frame, from where it stopped.
    fn scan(&mut self, buffer: &[u8]) -> Result<bool, DecodeError> {
        while self.needed > 0 {
            let Some(&sign) = buffer.get(self.at) else { return Ok(false) };
            let (len, next) = match sign {
                b'+' | b'-' | b':' | b',' | b'#' | b'_' | b'(' => {
                    let Some(next) = self.line(buffer)? else { return Ok(false) };
                    (None, next)
                }
                b'$' | b'=' | b'!' | b'*' | b'~' | b'>' | b'%' | b'|' => {
                    let Some((len, next)) = length(buffer, self.at)? else { return Ok(false) };
                    (len, next)
                }
                other => return Err(DecodeError::UnknownSign(other)),
            };
            match (sign, len) {
                (b'$' | b'=' | b'!', Some(len)) => {
                    let end = self.within(next.saturating_add(len).saturating_add(2))?;
                    if buffer.len() < end {
                        self.until = end;
                        return Ok(false);
                    }
                    if &buffer[end - 2..end] != b"\r\n" {
                        return Err(DecodeError::NoLineEnd);
                    }
                    self.at = end;
                }
                (b'*' | b'~' | b'>', Some(len)) => {
                    self.announce(len)?;
                    self.at = self.within(next)?;
                }
                (b'%' | b'|', Some(len)) => {
                    // What an attribute is about comes after it.
                    self.announce(len.saturating_mul(2).saturating_add(usize::from(sign == b'|')))?;
                    self.at = self.within(next)?;
                }
                _ => self.at = self.within(next)?,
            }
            self.needed -= 1;
        }
        Ok(true)
    }

    fn announce(&mut self, values: usize) -> Result<(), DecodeError> {
        self.values = self.values.saturating_add(values);
        if self.values > self.bounds.values_max {
            return Err(DecodeError::TooMany { max: self.bounds.values_max });
        }
        self.needed += values;
        Ok(())
    }

    fn within(&self, end: usize) -> Result<usize, DecodeError> {
        let max_bytes = self.bounds.frame_max_bytes;
        if end > max_bytes { Err(DecodeError::TooLarge { max_bytes }) } else { Ok(end) }
    }

    /// Where the line that begins here ends, its CR and LF included.
    fn line(&self, buffer: &[u8]) -> Result<Option<usize>, DecodeError> {
        let max_bytes = self.bounds.line_max_bytes;
        let rest = &buffer[self.at..];
        match memchr(b'\r', &rest[..rest.len().min(max_bytes)]) {
            Some(end) => match rest.get(end + 1) {
                Some(b'\n') => Ok(Some(self.at + end + 2)),
                Some(_) => Err(DecodeError::NoLineEnd),
                None => Ok(None),
            },
            None if rest.len() >= max_bytes => Err(DecodeError::TooLarge { max_bytes }),
            None => Ok(None),
        }
    }
}

/// The length that stands behind a sign, and where its line ends; the length is `None` for RESP2's null. `None`: the line is not complete.
fn length(buffer: &[u8], at: usize) -> Result<Option<(Option<usize>, usize)>, DecodeError> {
    let sign = buffer[at];
    let line = &buffer[at + 1..];
    let mut len = 0_usize;
    for (place, &byte) in line.iter().enumerate() {
        match byte {
            b'0'..=b'9' if place < LENGTH_DIGITS_MAX => len = len * 10 + usize::from(byte - b'0'),
            b'\r' if place > 0 => return line_end(line, place, at).map(|end| end.map(|end| (Some(len), end))),
            b'-' if place == 0 && (sign == b'$' || sign == b'*') => {
                return match line.get(1..3) {
                    Some(b"1\r") => line_end(line, 2, at).map(|end| end.map(|end| (None, end))),
                    Some(_) => Err(DecodeError::Malformed(sign)),
                    None if line.get(1).is_some_and(|&byte| byte != b'1') => Err(DecodeError::Malformed(sign)),
                    None => Ok(None),
                };
            }
            b'?' if place == 0 => return Err(DecodeError::Streamed),
            _ => return Err(DecodeError::Malformed(sign)),
        }
    }
    Ok(None)
}

/// Enough for every bound, and too few to overflow.
const LENGTH_DIGITS_MAX: usize = 15;

fn line_end(line: &[u8], carriage_return: usize, at: usize) -> Result<Option<usize>, DecodeError> {
    match line.get(carriage_return + 1) {
        Some(b'\n') => Ok(Some(at + 1 + carriage_return + 2)),
        Some(_) => Err(DecodeError::NoLineEnd),
        None => Ok(None),
    }
}

/// Reads one whole frame, whose shape is known to be right.
struct Reader<'a> {
    bytes: &'a Bytes,
    at: usize,
    depth_max: usize,
}

impl Reader<'_> {
    fn frame(&mut self) -> Result<Frame, DecodeError> {
        self.skip_attributes(0)?;
        if self.bytes[self.at] == b'>' {
            return self.push().map(Frame::Push);
        }
        self.value(0).map(Frame::Reply)
    }

    fn push(&mut self) -> Result<Push, DecodeError> {
        let len = self.length()?.unwrap_or(0);
        if len == 0 {
            return Err(DecodeError::Malformed(b'>'));
        }
        let kind = self.text()?;
        let change = match (&self.bytes[kind.0..kind.1], len) {
            (b"message", 3) => return self.message(false),
            (b"smessage", 3) => return self.message(true),
            (b"pmessage", 4) => {
                let (pattern, channel, payload) = (self.text()?, self.text()?, self.text()?);
                let [pattern, channel, payload] = [pattern, channel, payload].map(|place| self.slice(place));
                return Ok(Push::PatternMessage { pattern, channel, payload });
            }
            (b"subscribe", 3) => Some(Change::Subscribed),
            (b"unsubscribe", 3) => Some(Change::Unsubscribed),
            (b"psubscribe", 3) => Some(Change::PatternSubscribed),
            (b"punsubscribe", 3) => Some(Change::PatternUnsubscribed),
            (b"ssubscribe", 3) => Some(Change::ShardSubscribed),
            (b"sunsubscribe", 3) => Some(Change::ShardUnsubscribed),
            _ => None,
        };
        if let Some(change) = change {
            let channel = self.value(1)?.into_bytes();
            let count = self.value(1)?.integer().and_then(|count| u64::try_from(count).ok()).ok_or(DecodeError::Malformed(b'>'))?;
            return Ok(Push::Subscription { change, channel, count });
        }
        let values = (1..len).map(|_| self.value(1)).collect::<Result<_, _>>()?;
        Ok(Push::Other { kind: self.slice(kind), values })
    }

    fn message(&mut self, sharded: bool) -> Result<Push, DecodeError> {
        let (channel, payload) = (self.text()?, self.text()?);
        Ok(Push::Message { sharded, channel: self.slice(channel), payload: self.slice(payload) })
    }

    /// Where the bytes of a bulk string or a status stand.
    fn text(&mut self) -> Result<(usize, usize), DecodeError> {
        match self.bytes[self.at] {
            b'$' => {
                let len = self.length()?.ok_or(DecodeError::Malformed(b'>'))?;
                self.at += len + 2;
                Ok((self.at - len - 2, self.at - 2))
            }
            b'+' => Ok(self.line()),
            _ => Err(DecodeError::Malformed(b'>')),
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, DecodeError> {
        if depth > self.depth_max {
            return Err(DecodeError::TooDeep { max: self.depth_max });
        }
        self.skip_attributes(depth)?;
        let sign = self.bytes[self.at];
        match sign {
            b'$' | b'=' | b'!' => {
                let Some(len) = self.length()? else { return Ok(Value::Null) };
                let start = self.at;
                self.at += len + 2;
                match sign {
                    b'!' => Ok(Value::Error(ServerError::new(self.slice((start, start + len))))),
                    // Three bytes of format and a colon.
                    b'=' if len < 4 => Err(DecodeError::Malformed(sign)),
                    b'=' => Ok(Value::Bulk(self.slice((start + 4, start + len)))),
                    _ => Ok(Value::Bulk(self.slice((start, start + len)))),
                }
            }
            b'*' | b'~' => {
                let Some(len) = self.length()? else { return Ok(Value::Null) };
                // The values are there: each has three bytes at least.
                let mut values = Vec::with_capacity(len);
                for _ in 0..len {
                    values.push(self.value(depth + 1)?);
                }
                Ok(if sign == b'~' { Value::Set(values) } else { Value::Array(values) })
            }
            b'%' => {
                let len = self.length()?.unwrap_or(0);
                let pairs = (0..len).map(|_| Ok((self.value(depth + 1)?, self.value(depth + 1)?))).collect::<Result<_, _>>()?;
                Ok(Value::Map(pairs))
            }
            b'>' => Err(DecodeError::PushInside),
            _ => {
                let place = self.line();
                line_value(sign, &self.bytes[place.0..place.1], |text| self.bytes.slice_ref(text))
            }
        }
    }

    /// Attributes tell about the value behind them, and nothing that is asked for here.
    fn skip_attributes(&mut self, depth: usize) -> Result<(), DecodeError> {
        while self.bytes[self.at] == b'|' {
            for _ in 0..2 * self.length()?.unwrap_or(0) {
                self.value(depth + 1)?;
            }
        }
        Ok(())
    }

    fn length(&mut self) -> Result<Option<usize>, DecodeError> {
        let (len, next) = length(self.bytes, self.at)?.ok_or(DecodeError::NoLineEnd)?;
        self.at = next;
        Ok(len)
    }

    /// Where the text of a line stands, without sign, CR and LF.
    fn line(&mut self) -> (usize, usize) {
        let start = self.at + 1;
        let end = start + memchr(b'\r', &self.bytes[start..]).expect("the look for the end has seen the end of each line");
        self.at = end + 2;
        (start, end)
    }

    fn slice(&self, (start, end): (usize, usize)) -> Bytes {
        self.bytes.slice(start..end)
    }
}

/// The value of a line.
fn line_value(sign: u8, text: &[u8], keep: impl FnOnce(&[u8]) -> Bytes) -> Result<Value, DecodeError> {
    let number = || std::str::from_utf8(text).map_err(|_| DecodeError::Malformed(sign));
    Ok(match (sign, text) {
        (b'+', b"OK") => Value::Simple(Bytes::from_static(b"OK")),
        (b'+', _) => Value::Simple(keep(text)),
        (b'-', _) => Value::Error(ServerError::new(keep(text))),
        (b':', _) => Value::Integer(number()?.parse().map_err(|_| DecodeError::Malformed(sign))?),
        (b',', _) => Value::Double(number()?.parse().map_err(|_| DecodeError::Malformed(sign))?),
        (b'(', _) if !text.is_empty() && text.strip_prefix(b"-").unwrap_or(text).iter().all(u8::is_ascii_digit) => {
            Value::BigNumber(keep(text))
        }
        (b'#', b"t") => Value::Boolean(true),
        (b'#', b"f") => Value::Boolean(false),
        (b'_', b"") => Value::Null,
        _ => return Err(DecodeError::Malformed(sign)),
    })
}
