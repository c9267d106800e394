//! One session as presence keeps it, as bytes. The scripts read the beginning alone.
//!
//! # Format, version 1
//! `version length(1) owner length(4) user`, in every version; then `info` and `topic_info`: 0, or 1 `length(4)` and the JSON. Big-endian.

use std::sync::Arc;

use broker_core::{SessionId, SessionInfo};
use bytes::{BufMut, Bytes, BytesMut};

/// The version that is written.
pub(crate) const VERSION: u8 = 1;

/// Writes who a session is, as an owner says it.
pub(crate) fn encode(owner: &str, info: &SessionInfo) -> Bytes {
    let user = info.user.as_str().as_bytes();
    let mut out = BytesMut::with_capacity(16 + owner.len() + user.len());
    out.put_u8(VERSION);
    out.put_u8(owner.len() as u8);
    out.put_slice(owner.as_bytes());
    out.put_u32(user.len() as u32);
    out.put_slice(user);
    for json in [&info.info, &info.topic_info] {
        out.put_u8(u8::from(json.is_some()));
        if let Some(json) = json {
            out.put_u32(json.len() as u32);
            out.put_slice(json);
        }
    }
    out.freeze()
}

/// Reads who says what a session is. What is read is copied: it may be a small part of a large buffer. `None`: another version wrote it.
pub(crate) fn decode(session: &str, bytes: &[u8]) -> Option<(Arc<str>, SessionInfo)> {
    let session: SessionId = session.parse().ok()?;
    let (&[version, owner_len], rest) = bytes.split_first_chunk::<2>()?;
    let (owner, rest) = rest.split_at_checked(usize::from(owner_len))?;
    let (user, mut rest) = text(rest)?;
    if version != VERSION {
        return None;
    }
    let mut json = || {
        let (&is_some, behind) = rest.split_first()?;
        rest = behind;
        if is_some == 0 {
            return Some(None);
        }
        let (json, behind) = text(rest)?;
        rest = behind;
        Some(Some(Bytes::copy_from_slice(json)))
    };
    let (info, topic_info) = (json()?, json()?);
    let user = std::str::from_utf8(user).ok()?.into();
    Some((std::str::from_utf8(owner).ok()?.into(), SessionInfo { session, user, info, topic_info }))
}

fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_be_bytes(*len) as usize)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ann() -> SessionInfo {
        SessionInfo { session: SessionId::from_random(7), user: "ann".into(), info: Some(Bytes::from_static(b"{}")), topic_info: None }
    }

    /// What a released version wrote is read for ever.
    #[test]
    fn golden_bytes_of_version_1() {
        let golden = b"\x01\x02ow\x00\x00\x00\x03ann\x01\x00\x00\x00\x02{}\x00";
        assert_eq!(encode("ow", &ann())[..], golden[..]);
        assert_eq!(decode(&ann().session.to_string(), golden), Some(("ow".into(), ann())));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = decode("00000000-0000-4000-8000-000000000007", &bytes);
        }
    }
}
