//! Questions and answers as bytes. Who sends them, and when again, lives beside it.
//!
//! # Format
//! `version kind id(8) length(1) node`, then what the kind brings. This head is the same in every version, so that a node can tell another
//! one that it does not understand it. Version 1: kind 1 is a question: `MessagePack` with names. Kind 2 is a part of an answer:
//! `part(2) parts(2)`, `MessagePack`. Kind 3 says why there is no answer: text. Numbers are big-endian.
//!
//! A change that an older node would read otherwise than it is meant takes another version; what it may leave out does not.

use std::sync::Arc;

use broker_core::{ControlAnswer, ControlQuestion};
use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// The version that is written.
pub(crate) const VERSION: u8 = 1;

const QUESTION: u8 = 1;
const ANSWER: u8 = 2;
const REFUSAL: u8 = 3;

/// Sessions, topics or users in one part of an answer: a part is some 100 KiB.
const PART_LEN: usize = 500;
/// Most parts of an answer.
const PARTS_MAX: usize = u16::MAX as usize;

/// Who says something about which question.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Head {
    /// The node that says it.
    pub(crate) node: Arc<str>,
    /// The question, as its asker named it.
    pub(crate) id: u64,
}

/// What was read.
#[derive(Debug)]
pub(crate) enum Body {
    Question(Box<Question>),
    /// One part of so many.
    Answer(u16, u16, Box<ControlAnswer>),
    /// The node does not answer, for this reason.
    Refusal(Box<str>),
}

/// A question as it is sent.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Question {
    /// Who is asked, by node; `None`: all.
    pub(crate) to: Option<Vec<Arc<str>>>,
    pub(crate) question: ControlQuestion,
}

/// Why bytes are no question and no answer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Unreadable {
    /// Another version of the broker wrote it, or one that knows more.
    #[error("it is written in version {version}, and this node reads version {VERSION}: {why}")]
    NotUnderstood { head: Head, is_question: bool, version: u8, why: String },
    /// Not even who wrote it can be read.
    #[error("it is no question and no answer")]
    Malformed,
}

/// Why something was not written.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Unwritable {
    #[error("there is too much to tell")]
    TooMuch,
    #[error("it has no written form")]
    NoForm,
}

pub(crate) fn question(head: &Head, question: &Question) -> Result<Bytes, Unwritable> {
    let body = rmp_serde::to_vec_named(question).map_err(|_| Unwritable::NoForm)?;
    let mut out = begin(QUESTION, head, body.len());
    out.put_slice(&body);
    Ok(out.freeze())
}

/// An answer in parts of bounded size, at least one.
pub(crate) fn answer(head: &Head, answer: ControlAnswer) -> Result<Vec<Bytes>, Unwritable> {
    let parts = split(answer);
    if parts.len() > PARTS_MAX {
        return Err(Unwritable::TooMuch);
    }
    let count = parts.len() as u16;
    let written = parts.into_iter().enumerate().map(|(index, part)| {
        let body = rmp_serde::to_vec_named(&part).map_err(|_| Unwritable::NoForm)?;
        let mut out = begin(ANSWER, head, 4 + body.len());
        out.put_u16(index as u16);
        out.put_u16(count);
        out.put_slice(&body);
        Ok(out.freeze())
    });
    written.collect()
}

pub(crate) fn refusal(head: &Head, why: &str) -> Bytes {
    let mut out = begin(REFUSAL, head, why.len());
    out.put_slice(why.as_bytes());
    out.freeze()
}

pub(crate) fn read(bytes: &[u8]) -> Result<(Head, Body), Unreadable> {
    let (&[version, kind, ref id @ .., len], rest) = bytes.split_first_chunk::<11>().ok_or(Unreadable::Malformed)?;
    let id = id.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    let (node, body) = rest.split_at_checked(usize::from(len)).ok_or(Unreadable::Malformed)?;
    let node = std::str::from_utf8(node).map_err(|_| Unreadable::Malformed)?;
    let head = Head { node: node.into(), id };
    let not_understood = |why: String| Unreadable::NotUnderstood { head: head.clone(), is_question: kind == QUESTION, version, why };
    if version != VERSION {
        return Err(not_understood("it knows no other".to_owned()));
    }
    let body = match kind {
        QUESTION => Body::Question(Box::new(rmp_serde::from_slice(body).map_err(|error| not_understood(error.to_string()))?)),
        ANSWER => {
            let (&[a, b, c, d], body) = body.split_first_chunk::<4>().ok_or(Unreadable::Malformed)?;
            let answer = rmp_serde::from_slice(body).map_err(|error| not_understood(error.to_string()))?;
            Body::Answer(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]), Box::new(answer))
        }
        REFUSAL => Body::Refusal(String::from_utf8_lossy(body).into()),
        kind => return Err(not_understood(format!("it knows nothing of kind {kind}"))),
    };
    Ok((head, body))
}

fn begin(kind: u8, head: &Head, body_len: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(11 + head.node.len() + body_len);
    out.put_u8(VERSION);
    out.put_u8(kind);
    out.put_u64(head.id);
    // Ids of nodes are UUIDs; a longer one would be cut on both sides alike.
    let node = &head.node.as_bytes()[..head.node.len().min(usize::from(u8::MAX))];
    out.put_u8(node.len() as u8);
    out.put_slice(node);
    out
}

fn split(answer: ControlAnswer) -> Vec<ControlAnswer> {
    match answer {
        ControlAnswer::Sessions(all) if all.len() > PART_LEN => {
            all.chunks(PART_LEN).map(|part| ControlAnswer::Sessions(part.to_vec())).collect()
        }
        ControlAnswer::Topics(all) if all.len() > PART_LEN => {
            all.chunks(PART_LEN).map(|part| ControlAnswer::Topics(part.to_vec())).collect()
        }
        ControlAnswer::Groups(all) => {
            let pieces = all.into_iter().flat_map(|(topic, users)| {
                let parts: Vec<_> = users.chunks(PART_LEN).map(|part| (topic.clone(), part.to_vec())).collect();
                parts
            });
            let (mut parts, mut part, mut users_len) = (Vec::new(), Vec::new(), 0);
            for piece in pieces {
                users_len += piece.1.len();
                part.push(piece);
                if users_len >= PART_LEN {
                    parts.push(ControlAnswer::Groups(std::mem::take(&mut part)));
                    users_len = 0;
                }
            }
            if !part.is_empty() || parts.is_empty() {
                parts.push(ControlAnswer::Groups(part));
            }
            parts
        }
        other => vec![other],
    }
}

/// Puts a part behind those that came before it.
pub(crate) fn join(whole: &mut ControlAnswer, part: ControlAnswer) {
    match (whole, part) {
        (ControlAnswer::Sessions(all), ControlAnswer::Sessions(part)) => all.extend(part),
        (ControlAnswer::Topics(all), ControlAnswer::Topics(part)) => all.extend(part),
        (ControlAnswer::Groups(all), ControlAnswer::Groups(part)) => all.extend(part),
        // Nothing else is sent in parts.
        _ => {}
    }
}
