//! A network without sockets: an outlet that takes some bytes, blocks, swallows or breaks, and the client's end of it.

use std::{io, sync::Arc};

use broker_core::{CloseFrame, FrameKind, Framing, Outlet};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use parking_lot::Mutex;

/// What the network does with what the server writes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Mood {
    /// Carries it, as far as the client reads.
    #[default]
    Carries,
    /// Takes everything, and nothing arrives.
    Swallows,
    /// Says that the connection is reset.
    Broken,
}

#[derive(Debug, Default)]
struct State {
    bytes: BytesMut,
    capacity: usize,
    /// The outlet was refused and wants to know when there is room.
    wanted: bool,
    finished: bool,
    mood: Mood,
}

/// The pipe between an outlet and a client.
#[derive(Clone, Debug)]
pub(crate) struct Pipe(Arc<Mutex<State>>);

impl Pipe {
    /// A pipe that holds so many bytes until the client reads.
    pub(crate) fn new(capacity: usize) -> Self {
        Self(Arc::new(Mutex::new(State { capacity, ..State::default() })))
    }

    /// The server's end.
    pub(crate) fn outlet(&self) -> Box<dyn Outlet> {
        Box::new(PipeOutlet(self.clone()))
    }

    /// Changes what the network does.
    pub(crate) fn set_mood(&self, mood: Mood) {
        self.0.lock().mood = mood;
    }

    /// Whether the server has ended it.
    pub(crate) fn is_finished(&self) -> bool {
        self.0.lock().finished
    }

    /// Whether everything was read.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().bytes.is_empty()
    }

    /// Reads up to `max` bytes. True: the outlet waits for the room that this made.
    pub(crate) fn read(&self, max: usize, into: &mut BytesMut) -> bool {
        let mut state = self.0.lock();
        let len = max.min(state.bytes.len());
        into.extend_from_slice(&state.bytes.split_to(len));
        len > 0 && std::mem::take(&mut state.wanted)
    }
}

struct PipeOutlet(Pipe);

impl Outlet for PipeOutlet {
    fn try_write(&mut self, chunks: &[Bytes]) -> io::Result<usize> {
        let mut state = self.0.0.lock();
        let offered: usize = chunks.iter().map(Bytes::len).sum();
        match state.mood {
            Mood::Broken => return Err(io::ErrorKind::ConnectionReset.into()),
            Mood::Swallows => return Ok(offered),
            Mood::Carries => {}
        }
        let taken = offered.min(state.capacity.saturating_sub(state.bytes.len()));
        let mut left = taken;
        for chunk in chunks {
            let part = left.min(chunk.len());
            state.bytes.extend_from_slice(&chunk[..part]);
            left -= part;
        }
        state.wanted = taken < offered;
        if taken == 0 && offered > 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }

    fn finish(&mut self) {
        self.0.0.lock().finished = true;
    }
}

impl Drop for PipeOutlet {
    fn drop(&mut self) {
        self.finish();
    }
}

/// One frame as the client gets it.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Frame {
    /// A message.
    Message(String),
    /// The transport's ping.
    Ping,
    /// The connection ends with this code.
    Close(u16),
}

/// Frames of a kind, a length and a payload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SimFraming;

const HEAD_LEN: usize = 5;

impl Framing for SimFraming {
    fn encoding(&self) -> u8 {
        220
    }

    fn frame(&self, kind: FrameKind, payload: &[u8], out: &mut Vec<u8>) {
        out.push(match kind {
            FrameKind::Ping => b'P',
            FrameKind::Pong => b'O',
            FrameKind::Text | FrameKind::Binary => b'M',
        });
        out.put_u32(payload.len() as u32);
        out.extend_from_slice(payload);
    }

    fn close(&self, frame: &CloseFrame, out: &mut Vec<u8>) {
        out.push(b'C');
        out.put_u32(2);
        out.put_u16(frame.code);
    }
}

/// Takes the next whole frame out of what was read.
pub(crate) fn next_frame(read: &mut BytesMut) -> Option<Frame> {
    let head = read.get(..HEAD_LEN)?;
    let len = u32::from_be_bytes(head[1..].try_into().ok()?) as usize;
    if read.len() < HEAD_LEN + len {
        return None;
    }
    let kind = read[0];
    read.advance(HEAD_LEN);
    let mut payload = read.split_to(len);
    Some(match kind {
        b'C' => Frame::Close(payload.get_u16()),
        b'M' => Frame::Message(String::from_utf8_lossy(&payload).into_owned()),
        _ => Frame::Ping,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_read() {
        let mut bytes = Vec::new();
        SimFraming.frame(FrameKind::Text, b"one", &mut bytes);
        SimFraming.frame(FrameKind::Ping, b"", &mut bytes);
        SimFraming.close(&CloseFrame { code: 3001, reason: "shutdown".into() }, &mut bytes);
        let (mut read, mut frames) = (BytesMut::new(), Vec::new());
        for byte in bytes {
            read.put_u8(byte);
            frames.extend(next_frame(&mut read));
        }
        assert_eq!(frames, [Frame::Message("one".to_owned()), Frame::Ping, Frame::Close(3001)]);
    }

    #[test]
    fn a_full_pipe_takes_a_part_then_nothing_until_the_client_reads() {
        let pipe = Pipe::new(4);
        let mut outlet = pipe.outlet();
        let chunks = [Bytes::from_static(b"abc"), Bytes::from_static(b"def")];
        assert_eq!(outlet.try_write(&chunks).unwrap(), 4);
        assert_eq!(outlet.try_write(&chunks).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let mut read = BytesMut::new();
        assert!(pipe.read(1, &mut read), "the outlet waits");
        assert_eq!(outlet.try_write(&chunks).unwrap(), 1);
    }
}
