//! The plain protocol as server-sent events. Its contract stands in `docs/protocols/plain.md`, section SSE.
//!
//! What is written here is [`Record`]s: events, and beside each what a connection must know of it for its `id:` lines.

mod cursor;
mod record;

use broker_core::{
    CloseFrame, CloseReason, Command, CommandId, FrameKind, FrameWriter, Framing, Inbound, Payload, PayloadKind, Position, Protocol,
    Publication, Push, Reply, Subscribed, Topic,
};

pub use self::{
    cursor::{CURSOR_LEN_MAX, CURSOR_TOPICS_MAX, InvalidCursor, SseCursor, TopicKey, no_history, write_cursor},
    record::{Record, RecordKind, SseFraming},
};
use crate::{
    codes, encoding,
    json::sendable_kind,
    plain::{Format, Plain, encode},
};

/// The plain protocol over server-sent events: only out, nothing is read.
///
/// Goes with [`SseFraming`], and with a transport that writes the `id:` lines.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sse {
    /// How the client wants to be spoken to.
    pub plain: Plain,
}

impl Protocol for Sse {
    fn name(&self) -> &'static str {
        match self.plain.format {
            Format::Raw => "sse-raw",
            Format::Envelope => "sse-envelope",
        }
    }

    fn encoding(&self) -> u8 {
        match self.plain.format {
            Format::Raw => encoding::SSE_RAW,
            Format::Envelope if self.plain.notices => encoding::SSE_ENVELOPE,
            Format::Envelope => encoding::SSE_ENVELOPE_QUIET,
        }
    }

    fn decode(&self, _: Inbound<'_>, _: &mut Vec<Command>) {}

    fn encode_reply(&self, id: &CommandId, reply: &Reply, out: &mut FrameWriter<'_>) {
        match reply {
            Reply::Connected(connected) => {
                let said = bare(|out| encode::connected(self.plain, connected, out));
                event(Event { is_notice: true, body: &said, ..Event::default() }, out);
                if let Some(greeting) = encode::greeting(self.plain, connected) {
                    message(greeting, out);
                }
                for subscribed in &connected.subscriptions {
                    self.subscribed(subscribed, out);
                }
            }
            Reply::Subscribed(subscribed) => self.subscribed(subscribed, out),
            // Nobody can ask for anything else.
            _ => {
                let said = bare(|out| encode::reply(self.plain, id, reply, out));
                event(Event { is_notice: true, body: &said, ..Event::default() }, out);
            }
        }
    }

    fn encode_push(&self, push: &Push, out: &mut FrameWriter<'_>) {
        match push {
            Push::Publication(publication) => self.publication(publication, out),
            Push::Subscribed(subscribed) => self.subscribed(subscribed, out),
            Push::Message(data) => message(data, out),
            Push::Ping => out.ping(),
            Push::Gap { topic, gap } => {
                let said = self.said(push);
                event(Event { topic: Some(topic), position: gap.to, is_notice: true, body: &said, ..Event::default() }, out);
            }
            Push::Closing(reason) => {
                let retry_ms = match reason {
                    CloseReason::Shutdown { reconnect_after } => reconnect_after.map(|after| after.as_millis() as u64),
                    _ => None,
                };
                let said = self.said(push);
                event(Event { is_notice: true, retry_ms, body: &said, ..Event::default() }, out);
            }
            Push::Unsubscribed { topic, .. } => {
                self.notice(push, out);
                step(RecordKind::Forget, topic, None, out);
            }
            Push::Identity { left, .. } => {
                self.notice(push, out);
                for topic in left {
                    step(RecordKind::Forget, topic, None, out);
                }
            }
            _ => self.notice(push, out),
        }
    }

    fn answers_without_id(&self) -> bool {
        true
    }

    fn changes_user_in_place(&self) -> bool {
        true
    }

    fn answers_pings(&self) -> bool {
        false
    }

    fn close_frame(&self, reason: &CloseReason) -> CloseFrame {
        codes::close(reason)
    }
}

impl Sse {
    /// In this order: `subscribed`, a gap where the resume failed, the snapshot, what was missed. The last of these moves the position, not the
    /// answer: whoever has not heard of the gap, or has not got the snapshot, comes back with the old one.
    fn subscribed(self, subscribed: &Subscribed, out: &mut FrameWriter<'_>) {
        let topic = &subscribed.topic;
        let said = bare(|out| encode::say_subscribed(self.plain, &CommandId::None, subscribed, out));
        event(Event { topic: Some(topic), is_notice: true, body: &said, ..Event::default() }, out);
        let before = encode::before_missed(subscribed);
        if let Some(gap) = encode::failed_resume(self.plain, subscribed) {
            let said = self.said(&Push::Gap { topic: topic.clone(), gap });
            let position = before.filter(|_| subscribed.snapshot.is_none());
            event(Event { topic: Some(topic), position, is_notice: true, body: &said, ..Event::default() }, out);
        }
        if let Some(snapshot) = &subscribed.snapshot {
            let as_object = self.plain.format == Format::Envelope || !is_whole_in_lines(snapshot);
            let envelope = as_object.then(|| bare(|out| encode::say_snapshot(subscribed, snapshot, out)));
            let body = envelope.as_deref().unwrap_or(snapshot.bytes());
            event(Event { topic: Some(topic), position: before, body, ..Event::default() }, out);
        }
        step(RecordKind::Mark, topic, before, out);
        if !subscribed.missed.is_empty() {
            for publication in &subscribed.missed {
                self.publication(publication, out);
            }
            // What is told as the position may be older than what has been sent: rows, or more pages, follow it.
            let sent = subscribed.missed.last().and_then(|last| last.position);
            let end = subscribed.position.into_iter().chain(sent).max_by_key(|position| position.offset);
            step(RecordKind::Mark, topic, end, out);
        }
    }

    fn publication(self, publication: &Publication, out: &mut FrameWriter<'_>) {
        if self.plain.format == Format::Raw && publication.removed && publication.data.is_empty() {
            let said = bare(|out| encode::say_removed(self.plain, publication, out));
            let (topic, position) = (Some(&publication.topic), publication.position);
            return event(Event { topic, position, is_notice: true, body: &said, ..Event::default() }, out);
        }
        let as_object = self.plain.format == Format::Envelope || !is_whole_in_lines(&publication.data);
        let envelope = as_object.then(|| encode::envelope(publication));
        let body = envelope.as_deref().unwrap_or(publication.data.bytes());
        event(Event { topic: Some(&publication.topic), position: publication.position, body, ..Event::default() }, out);
    }

    fn notice(self, push: &Push, out: &mut FrameWriter<'_>) {
        let said = self.said(push);
        event(Event { is_notice: true, body: &said, ..Event::default() }, out);
    }

    /// What the plain protocol says; nothing where it does not say it.
    fn said(self, push: &Push) -> Vec<u8> {
        bare(|out| encode::push(self.plain, push, out))
    }
}

/// A message of the application to this session.
fn message(data: &Payload, out: &mut FrameWriter<'_>) {
    let object = (!is_whole_in_lines(data)).then(|| bare(|out| encode::say_message(data, out)));
    event(Event { body: object.as_deref().unwrap_or(data.bytes()), ..Event::default() }, out);
}

/// Whether lines of an event carry the payload as it is. They know neither bytes nor a carriage return, which is white space in JSON.
fn is_whole_in_lines(data: &Payload) -> bool {
    match sendable_kind(data) {
        PayloadKind::Json => true,
        PayloadKind::Text => memchr::memchr(b'\r', data.bytes()).is_none() && std::str::from_utf8(data.bytes()).is_ok(),
        PayloadKind::Binary => false,
    }
}

#[derive(Clone, Copy, Default)]
struct Event<'a> {
    topic: Option<&'a Topic>,
    position: Option<Position>,
    /// Said by the broker: nothing where it has no words.
    is_notice: bool,
    retry_ms: Option<u64>,
    body: &'a [u8],
}

/// Writes the record of one event.
///
/// spec: HTML, section 9.2.6, "Interpreting an event stream"
fn event(event: Event<'_>, out: &mut FrameWriter<'_>) {
    let Event { topic, position, is_notice, retry_ms, body } = event;
    let is_silent = is_notice && body.is_empty();
    if is_silent && retry_ms.is_none() {
        return;
    }
    let mut lines = Vec::with_capacity(body.len() + 64);
    if let Some(position) = position {
        lines.extend_from_slice(format!("id: {position}\n").as_bytes());
    }
    let id_len = lines.len();
    if let Some(retry_ms) = retry_ms {
        lines.extend_from_slice(format!("retry: {retry_ms}\n").as_bytes());
    }
    if is_notice && !is_silent {
        lines.extend_from_slice(b"event: broker\n");
    }
    if !is_silent {
        data(body, &mut lines);
    }
    lines.push(b'\n');
    let key = topic.map(|topic| TopicKey::of(topic.local()));
    out.text(&record::write(RecordKind::Event, key, position, id_len, &lines));
}

/// Appends a payload as `data:` lines: a line break becomes one between lines, whichever it is.
fn data(payload: &[u8], lines: &mut Vec<u8>) {
    let mut rest = payload;
    loop {
        lines.extend_from_slice(b"data: ");
        let end = memchr::memchr2(b'\n', b'\r', rest);
        lines.extend_from_slice(&rest[..end.unwrap_or(rest.len())]);
        lines.push(b'\n');
        let Some(end) = end else { return };
        let len = if rest[end..].starts_with(b"\r\n") { 2 } else { 1 };
        rest = &rest[end + len..];
    }
}

fn step(kind: RecordKind, topic: &Topic, position: Option<Position>, out: &mut FrameWriter<'_>) {
    out.text(&record::write(kind, Some(TopicKey::of(topic.local())), position, 0, b""));
}

/// What is written, without a frame around it.
fn bare(write: impl FnOnce(&mut FrameWriter<'_>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut FrameWriter::new(&Bare, &mut bytes));
    bytes
}

#[derive(Debug)]
struct Bare;

impl Framing for Bare {
    fn encoding(&self) -> u8 {
        0
    }

    fn frame(&self, _: FrameKind, payload: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(payload);
    }

    fn close(&self, _: &CloseFrame, _: &mut Vec<u8>) {}
}
