//! The bytes of the bench: numbered payloads, the frames that carry them to subscribers, and those that ask for their publication.

use anyhow::{Result, ensure};

/// Length of a payload, in bytes: a JSON string with a number and filling.
pub(crate) const PAYLOAD_LEN: usize = 128;

/// Length of a payload's frame on the way to a subscriber: a WebSocket header without mask before it.
pub(crate) const FRAME_LEN: usize = HEADER.len() + PAYLOAD_LEN;

/// Opcodes. spec: RFC 6455, section 5.2
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// Final, text, 16 bits of length.
const HEADER: [u8; 4] = [0x81, 126, 0, PAYLOAD_LEN as u8];

const DIGITS: std::ops::Range<usize> = 1..13;

/// The payload with this number.
fn payload(number: u64) -> Vec<u8> {
    let payload = format!("\"{number:0digits$}{:x<filling$}\"", "", digits = DIGITS.len(), filling = PAYLOAD_LEN - 2 - DIGITS.len());
    payload.into_bytes()
}

/// The frame that subscribers get.
pub(crate) fn to_subscriber(number: u64) -> Vec<u8> {
    [&HEADER[..], &payload(number)].concat()
}

/// One frame of a server.
pub(crate) struct Frame<'a> {
    pub(crate) opcode: u8,
    pub(crate) payload: &'a [u8],
    /// Bytes of the whole frame.
    pub(crate) len: usize,
}

/// The first frame of these bytes, if it is whole. The bench has none of 64 KiB or more, and none in parts.
pub(crate) fn first(bytes: &[u8]) -> Option<Frame<'_>> {
    let (start, payload_len) = match *bytes {
        [_, 126, high, low, ..] => (4, usize::from(u16::from_be_bytes([high, low]))),
        [_, len, ..] if len < 126 => (2, usize::from(len)),
        _ => return None,
    };
    let len = start + payload_len;
    Some(Frame { opcode: bytes[0] & 0xF, payload: bytes.get(start..len)?, len })
}

/// The first event with data of these bytes, if it is whole. What stands before it is skipped: chunk headers, ids, comments.
pub(crate) fn first_event(bytes: &[u8]) -> Option<Frame<'_>> {
    const DATA: &[u8] = b"data: ";
    let start = bytes.windows(DATA.len()).position(|window| window == DATA)? + DATA.len();
    let end = start + bytes[start..].windows(2).position(|window| window == b"\n\n")?;
    Some(Frame { opcode: TEXT, payload: &bytes[start..end], len: end + 2 })
}

/// Checks that a payload is the one with this number.
pub(crate) fn check(payload: &[u8], number: u64) -> Result<()> {
    ensure!(payload.len() == PAYLOAD_LEN, "not published: {:?}", String::from_utf8_lossy(payload));
    let (digits, filling) = (&payload[DIGITS], &payload[DIGITS.end..PAYLOAD_LEN - 1]);
    let found = digits.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit.wrapping_sub(b'0')));
    ensure!(filling.iter().all(|byte| *byte == b'x'), "a payload arrived broken, in the place of number {number}");
    ensure!(found == number, "number {found} arrived in the place of number {number}");
    Ok(())
}

/// The frame of a client that publishes the payload with this number.
pub(crate) fn publish(topic: &str, number: u64) -> Vec<u8> {
    let data = String::from_utf8(payload(number)).expect("a payload is ASCII");
    from_client(TEXT, format!(r#"{{"broker":"publish","topic":"{topic}","data":{data}}}"#).as_bytes())
}

/// The frame of a client that subscribes.
pub(crate) fn subscribe(topic: &str) -> Vec<u8> {
    from_client(TEXT, format!(r#"{{"broker":"subscribe","topic":"{topic}"}}"#).as_bytes())
}

/// The frame of a client that publishes so many bytes, which say nothing.
pub(crate) fn publish_long(topic: &str, len: usize) -> Vec<u8> {
    let data = "x".repeat(len);
    from_client(TEXT, format!(r#"{{"broker":"publish","topic":"{topic}","data":"{data}"}}"#).as_bytes())
}

/// The answer to a ping.
pub(crate) fn pong(payload: &[u8]) -> Vec<u8> {
    from_client(PONG, payload)
}

/// A frame with a mask of zeros, which changes nothing.
pub(crate) fn from_client(opcode: u8, payload: &[u8]) -> Vec<u8> {
    // The high bits: final, and masked; 126 as length means two bytes of length.
    let mut frame = vec![0x80 | opcode];
    match u8::try_from(payload.len()) {
        Ok(len) if len < 126 => frame.push(0x80 | len),
        _ => {
            frame.push(0xFE);
            frame.extend((payload.len() as u16).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_frame_is_found_and_known_by_its_number() {
        assert_eq!(to_subscriber(7).len(), FRAME_LEN);
        let sent = to_subscriber(7);
        let frame = first(&sent).unwrap();
        assert_eq!((frame.opcode, frame.len), (TEXT, FRAME_LEN));
        assert!(check(frame.payload, 7).is_ok());
        assert!(check(frame.payload, 8).is_err());
        assert!(first(&sent[..FRAME_LEN - 1]).is_none());
    }

    #[test]
    fn an_event_is_found_behind_what_has_no_data() {
        let sent = [b"a1\r\nretry: 5\n\n:\n\nid: 1@e\ndata: ", &payload(7)[..], b"\n\n\r\n"].concat();
        let frame = first_event(&sent).unwrap();
        assert!(check(frame.payload, 7).is_ok());
        assert_eq!(frame.len, sent.len() - 2);
        assert!(first_event(&sent[..sent.len() - 3]).is_none());
    }
}
