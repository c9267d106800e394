//! Records: events with what a connection must know of them to write its `id:` lines. Written by the codec, taken apart by the transport; never sent.

use broker_core::{CloseFrame, Epoch, FrameKind, Framing, Position};
use bytes::Bytes;

use super::cursor::TopicKey;

/// length (4), tag (1), length of the epoch (1), length of the id line (2), topic (8), offset (8), epoch (15), one to spare.
const HEADER_LEN: usize = 40;

/// One step of an SSE stream.
#[derive(Clone, Debug)]
pub struct Record {
    /// What it is.
    pub kind: RecordKind,
    /// The topic that it is about; `None`: about no topic.
    pub topic: Option<TopicKey>,
    /// Where the connection stands in the topic once it has this; `None`: where it stood.
    pub position: Option<Position>,
    /// Length of the `id:` line at the front of `body`, which is right for connections with this topic alone.
    pub id_len: usize,
    /// The lines of the event.
    pub body: Bytes,
    /// Bytes of the whole record.
    pub len: usize,
}

/// What a [`Record`] is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RecordKind {
    /// An event to send.
    Event,
    /// The connection listens to the topic, and stands there.
    Mark,
    /// The connection listens to the topic no more.
    Forget,
    /// A comment.
    Comment,
}

impl Record {
    /// Takes the first record off the front; `None`: the bytes are no records.
    pub fn split_from(bytes: &mut Bytes) -> Option<Self> {
        let header: &[u8; HEADER_LEN] = bytes.first_chunk()?;
        let len = u32::from_le_bytes(*header.first_chunk()?) as usize;
        let kind = match header[4] {
            0 => RecordKind::Event,
            1 => RecordKind::Mark,
            2 => RecordKind::Forget,
            3 => RecordKind::Comment,
            _ => return None,
        };
        let epoch_len = usize::from(header[5]);
        let id_len = usize::from(u16::from_le_bytes([header[6], header[7]]));
        let key = u64::from_le_bytes(*header[8..].first_chunk()?);
        let offset = u64::from_le_bytes(*header[16..].first_chunk()?);
        let position = if epoch_len == 0 {
            None
        } else {
            let epoch = std::str::from_utf8(header[24..].get(..epoch_len)?).ok()?;
            Some(Position { offset, epoch: epoch.parse::<Epoch>().ok()? })
        };
        if len < HEADER_LEN + id_len || len > bytes.len() {
            return None;
        }
        let mut record = bytes.split_to(len);
        let body = record.split_off(HEADER_LEN);
        Some(Self { kind, topic: (key != NO_TOPIC).then_some(TopicKey(key)), position, id_len, body, len })
    }
}

/// No name has a key of more than 48 bits.
const NO_TOPIC: u64 = u64::MAX;

/// Appends a record to a message for [`SseFraming`], which puts the length in front.
pub(super) fn write(kind: RecordKind, topic: Option<TopicKey>, position: Option<Position>, id_len: usize, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_LEN + body.len());
    out.push(kind as u8);
    let epoch = position.as_ref().map_or("", |position| position.epoch.as_str());
    out.push(epoch.len() as u8);
    out.extend_from_slice(&(id_len as u16).to_le_bytes());
    out.extend_from_slice(&topic.map_or(NO_TOPIC, |topic| topic.0).to_le_bytes());
    out.extend_from_slice(&position.map_or(0, |position| position.offset).to_le_bytes());
    out.extend_from_slice(epoch.as_bytes());
    out.resize(HEADER_LEN - 4, 0);
    out.extend_from_slice(body);
    out
}

/// How the records of [`Sse`](crate::Sse) stand one after the other. An SSE transport takes them apart with [`Record::split_from`].
#[derive(Clone, Copy, Debug, Default)]
pub struct SseFraming;

impl SseFraming {
    /// The number by which the hub tells frames of this form from those of other transports.
    pub const ENCODING: u8 = 2;
}

impl Framing for SseFraming {
    fn encoding(&self) -> u8 {
        Self::ENCODING
    }

    fn frame(&self, kind: FrameKind, payload: &[u8], out: &mut Vec<u8>) {
        let comment;
        let record = match kind {
            FrameKind::Text | FrameKind::Binary => payload,
            // A comment is the sign of life that the format has.
            FrameKind::Ping | FrameKind::Pong => {
                comment = write(RecordKind::Comment, None, None, 0, b":\n\n");
                &comment
            }
        };
        out.extend_from_slice(&(record.len() as u32 + 4).to_le_bytes());
        out.extend_from_slice(record);
    }

    fn close(&self, _: &CloseFrame, _: &mut Vec<u8>) {
        // The stream ends; `closing` has said why.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_off_the_front_one_by_one_as_they_were_written() {
        let key = TopicKey::of("news");
        let at: Position = "17@abcdefgh_-12345".parse().unwrap();
        let mut out = Vec::new();
        SseFraming.frame(FrameKind::Text, &write(RecordKind::Event, Some(key), Some(at), 4, b"id\n\ndata\n\n"), &mut out);
        SseFraming.frame(FrameKind::Ping, b"", &mut out);
        SseFraming.frame(FrameKind::Text, &write(RecordKind::Mark, Some(key), None, 0, b""), &mut out);
        let mut bytes = Bytes::from(out);
        let event = Record::split_from(&mut bytes).unwrap();
        assert_eq!((event.kind, event.topic, event.position, event.id_len), (RecordKind::Event, Some(key), Some(at), 4));
        assert_eq!((&event.body[..], event.len), (&b"id\n\ndata\n\n"[..], 50));
        let comment = Record::split_from(&mut bytes).unwrap();
        assert_eq!((comment.kind, comment.topic, &comment.body[..]), (RecordKind::Comment, None, &b":\n\n"[..]));
        let mark = Record::split_from(&mut bytes).unwrap();
        assert_eq!((mark.kind, mark.position, mark.body.len()), (RecordKind::Mark, None, 0));
        assert!(bytes.is_empty() && Record::split_from(&mut bytes).is_none());
    }

    #[test]
    fn what_is_cut_or_foreign_is_no_record() {
        let mut out = Vec::new();
        SseFraming.frame(FrameKind::Text, &write(RecordKind::Event, None, None, 0, b"data\n\n"), &mut out);
        for len in 0..out.len() {
            assert!(Record::split_from(&mut Bytes::copy_from_slice(&out[..len])).is_none(), "{len}");
        }
        assert!(Record::split_from(&mut Bytes::from(vec![b'x'; 100])).is_none());
    }
}
