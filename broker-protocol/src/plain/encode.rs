//! Writing frames of the plain protocol. Whatever the broker itself says begins with the key `broker`.

use broker_core::{
    CloseReason, CommandId, Connected, FrameWriter, Gap, GapReason, Payload, PayloadKind, Position, Publication, Push, Refusal, Reply,
    Resume, SessionInfo, Since, Subscribed, Topic, UserId,
};

use super::{Format, Plain, RESERVED};
use crate::{
    codes::{self, UnsubscribeCode},
    json::{ObjectWriter, base64, number, one_line, sendable_kind, text},
};

/// Bytes of a frame around its payload, to allocate once.
const AROUND_LEN: usize = 160;

/// Writes one frame of the broker's own: the word under `broker`, the id of the command it answers, then what `write` adds.
fn say(out: &mut FrameWriter<'_>, word: &str, id: &CommandId, write: impl FnOnce(&mut ObjectWriter<'_>)) {
    let mut frame = Vec::with_capacity(AROUND_LEN);
    let mut object = ObjectWriter::open(&mut frame);
    object.text(RESERVED, word);
    match id {
        CommandId::Number(id) => object.number("id", *id),
        // Without text: the command had no id.
        CommandId::Verbatim(token) if !token.is_empty() => object.key("id").extend_from_slice(token.as_bytes()),
        _ => {}
    }
    write(&mut object);
    object.end();
    out.text(&frame);
}

/// The answer to a command; [`CommandId::None`] is for what the URL or the server asked.
pub(crate) fn reply(plain: Plain, id: &CommandId, reply: &Reply, out: &mut FrameWriter<'_>) {
    match reply {
        Reply::Connected(connected) => write_connected(plain, connected, out),
        Reply::Subscribed(subscribed) => write_subscribed(plain, id, subscribed, out),
        Reply::Unsubscribed { topic } => write_unsubscribed(id, topic, codes::CLIENT_UNSUBSCRIBE, out),
        Reply::Published { topic, position } => say(out, "ok", id, |ok| {
            ok.text("topic", topic.local());
            write_position(ok, *position);
        }),
        Reply::Presence { sessions, .. } => say(out, "ok", id, |ok| {
            let mut presence = ok.object("presence");
            for who in sessions {
                // A UUID needs no escapes, so it can be a key as it is.
                client_info(presence.key(&who.session.to_string()), who);
            }
            presence.end();
        }),
        Reply::PresenceStats { sessions, users, .. } => say(out, "ok", id, |ok| {
            ok.number("num_clients", *sessions as u64);
            ok.number("num_users", *users as u64);
        }),
        Reply::History { position, publications, .. } => say(out, "ok", id, |ok| {
            ok.array("publications", publications, |out, publication| {
                let mut object = ObjectWriter::open(out);
                write_publication(&mut object, publication);
                object.end();
            });
            ok.word("position", position);
        }),
        Reply::Refreshed { user, left, joined, .. } => write_identity(id, user, left, joined, out),
        Reply::CallResult(data) => say(out, "ok", id, |ok| write_data(ok, data)),
        Reply::Pong { bare: true } => out.text(b"pong"),
        Reply::Pong { bare: false } => say(out, "pong", id, |_| {}),
        Reply::Refused(refusal) => write_error(plain, id, refusal, out),
        // A reply that this protocol has no word for must be answered all the same, or the client waits for it.
        _ => say(out, "ok", id, |_| {}),
    }
}

/// Writes a push, where this connection gets it.
pub(crate) fn push(plain: Plain, push: &Push, out: &mut FrameWriter<'_>) {
    match push {
        Push::Publication(publication) => write_live(plain, publication, out),
        // The application's own language: as it is in every format.
        Push::Message(data) => write_raw(data, out),
        Push::Ping => out.ping(),
        Push::Subscribed(subscribed) => write_subscribed(plain, &CommandId::None, subscribed, out),
        // The answer to the handshake rather than a notice.
        Push::Closing(CloseReason::Refused(refusal)) => write_error(plain, &CommandId::None, refusal, out),
        _ if plain.notices => notice(plain, push, out),
        _ => {}
    }
}

/// What the broker says of its own accord.
fn notice(plain: Plain, push: &Push, out: &mut FrameWriter<'_>) {
    match push {
        Push::Join { topic, who } => write_who(plain, "join", topic, who, out),
        Push::Leave { topic, who } => write_who(plain, "leave", topic, who, out),
        Push::Unsubscribed { topic, reason } => write_unsubscribed(&CommandId::None, topic, codes::unsubscribe(*reason), out),
        Push::Gap { topic, gap } => write_gap(topic, gap, out),
        Push::Expiring { within } => say(out, "expiring", &CommandId::None, |frame| {
            frame.number("in_ms", within.as_millis() as u64);
        }),
        Push::Identity { user, left, joined } => write_identity(&CommandId::None, user, left, joined, out),
        Push::Refused(refusal) => write_error(plain, &CommandId::None, refusal, out),
        Push::Closing(reason) => write_closing(reason, out),
        // `Refreshed` among them: whoever needs to know of an end hears `expiring` ahead of it.
        _ => {}
    }
}

fn write_connected(plain: Plain, connected: &Connected, out: &mut FrameWriter<'_>) {
    self::connected(plain, connected, out);
    if let Some(greeting) = greeting(plain, connected) {
        write_raw(greeting, out);
    }
    for subscribed in &connected.subscriptions {
        write_subscribed(plain, &CommandId::None, subscribed, out);
    }
}

/// `connected`, where it is said, without the topics.
pub(crate) fn connected(plain: Plain, connected: &Connected, out: &mut FrameWriter<'_>) {
    if plain.format == Format::Envelope && plain.notices {
        say(out, "connected", &CommandId::None, |frame| {
            frame.word("session", connected.session);
            frame.text("user", connected.user.as_str());
            if let Some(data) = &connected.data {
                write_data(frame, data);
            }
        });
    }
}

/// What the application says first, where there is no `connected` to carry it.
pub(crate) fn greeting(plain: Plain, connected: &Connected) -> Option<&Payload> {
    connected.data.as_ref().filter(|_| plain.format == Format::Raw)
}

fn write_identity(id: &CommandId, user: &UserId, left: &[Topic], joined: &[Topic], out: &mut FrameWriter<'_>) {
    say(out, "identity", id, |identity| {
        identity.text("user", user.as_str());
        for (key, topics) in [("left", left), ("joined", joined)] {
            identity.array(key, topics, |out, topic| text(out, topic.local()));
        }
    });
}

/// In this order: `subscribed`, a gap where the resume failed, the snapshot, what was missed.
fn write_subscribed(plain: Plain, id: &CommandId, subscribed: &Subscribed, out: &mut FrameWriter<'_>) {
    say_subscribed(plain, id, subscribed, out);
    if let Some(gap) = failed_resume(plain, subscribed) {
        write_gap(&subscribed.topic, &gap, out);
    }
    if let Some(snapshot) = &subscribed.snapshot {
        match plain.format {
            Format::Raw => write_raw(snapshot, out),
            Format::Envelope => say_snapshot(subscribed, snapshot, out),
        }
    }
    for publication in &subscribed.missed {
        write_live(plain, publication, out);
    }
}

/// `subscribed`, where it is said.
pub(crate) fn say_subscribed(plain: Plain, id: &CommandId, subscribed: &Subscribed, out: &mut FrameWriter<'_>) {
    let asked = *id != CommandId::None;
    // The topics of a user and of a session come and go by themselves; but whoever is to resume one must hear where it stands.
    let comes_by_itself = matches!(subscribed.topic.namespace(), Some("user" | "session")) && subscribed.position.is_none();
    if asked || !comes_by_itself && (plain.format == Format::Envelope && plain.notices) {
        say(out, "subscribed", id, |frame| {
            frame.text("topic", subscribed.topic.local());
            write_position(frame, subscribed.position);
            if let Some(resume) = &subscribed.resume {
                frame.key("recovered").extend_from_slice(if resume.recovered { b"true" } else { b"false" });
            }
            if subscribed.snapshot.is_some() {
                // Whoever is cut before it must not have gone on to the position.
                frame.key("snapshot").extend_from_slice(b"true");
            }
            if let Some(data) = &subscribed.data {
                write_data(frame, data);
            }
        });
    }
}

/// What a resume lost, where it is to be told.
pub(crate) fn failed_resume(plain: Plain, subscribed: &Subscribed) -> Option<Gap> {
    let failed = subscribed.resume.filter(|resume| !resume.recovered && plain.notices);
    failed.map(|resume| resume_gap(&resume, subscribed.position))
}

/// The current state of a topic, with the position of those who have nothing but that.
pub(crate) fn say_snapshot(subscribed: &Subscribed, snapshot: &Payload, out: &mut FrameWriter<'_>) {
    say(out, "snapshot", &CommandId::None, |frame| {
        frame.text("topic", subscribed.topic.local());
        write_position(frame, before_missed(subscribed));
        write_data(frame, snapshot);
    });
}

/// From where a client resumes that is cut before what it missed.
pub(crate) fn before_missed(subscribed: &Subscribed) -> Option<Position> {
    let first = subscribed.missed.first().and_then(|publication| publication.position);
    first.map(|first| Position { offset: first.offset - 1, ..first }).or(subscribed.position)
}

/// A message of the application, where it cannot be sent as it is.
pub(crate) fn say_message(data: &Payload, out: &mut FrameWriter<'_>) {
    say(out, "message", &CommandId::None, |frame| write_data(frame, data));
}

/// What a failed resume lost. Where the engine says nothing, the epochs tell which of the two reasons it was.
fn resume_gap(resume: &Resume, top: Option<Position>) -> Gap {
    resume.gap.unwrap_or_else(|| {
        let same = matches!((resume.since, top), (Since::Position(since), Some(top)) if since.epoch == top.epoch);
        let reason = if same || resume.since == Since::Beginning { GapReason::Trimmed } else { GapReason::Epoch };
        Gap { from: None, to: None, reason }
    })
}

fn write_unsubscribed(id: &CommandId, topic: &Topic, code: UnsubscribeCode, out: &mut FrameWriter<'_>) {
    say(out, "unsubscribed", id, |frame| {
        frame.text("topic", topic.local());
        frame.number("code", u64::from(code.number));
        frame.text("reason", code.text);
    });
}

fn write_gap(topic: &Topic, gap: &Gap, out: &mut FrameWriter<'_>) {
    say(out, "gap", &CommandId::None, |frame| {
        frame.text("topic", topic.local());
        for (key, position) in [("from", gap.from), ("to", gap.to)] {
            if let Some(position) = position {
                frame.word(key, position);
            }
        }
        frame.text("reason", codes::gap(gap.reason));
    });
}

fn write_error(plain: Plain, id: &CommandId, refusal: &Refusal, out: &mut FrameWriter<'_>) {
    let code = codes::refusal(refusal.kind);
    say(out, "error", id, |frame| {
        frame.number("code", u64::from(code.number));
        frame.text("error", code.word);
        frame.text("message", &refusal.message);
        if let Some(at) = refusal.at {
            frame.number("at", at as u64);
        }
        match (&refusal.hint, refusal.rule.as_ref().filter(|_| plain.dev)) {
            (Some(hint), Some(rule)) => frame.text("hint", &format!("{hint}; {rule}")),
            (Some(hint), None) | (None, Some(hint)) => frame.text("hint", hint),
            (None, None) => {}
        }
        if let Some(after) = refusal.retry_after {
            frame.number("retry_after_ms", after.as_millis() as u64);
        }
    });
}

fn write_closing(reason: &CloseReason, out: &mut FrameWriter<'_>) {
    // Whoever left or cannot be reached is told nothing.
    if matches!(reason, CloseReason::ClientLeft { .. } | CloseReason::TransportBroke(_)) {
        return;
    }
    let close = codes::close(reason);
    say(out, "closing", &CommandId::None, |frame| {
        frame.number("code", u64::from(close.code));
        frame.text("reason", &close.reason);
        if let CloseReason::Shutdown { reconnect_after: Some(after) } | CloseReason::Ordered { reconnect_after: Some(after), .. } = reason {
            frame.number("reconnect_after_ms", after.as_millis() as u64);
        }
    });
}

fn write_who(plain: Plain, word: &str, topic: &Topic, who: &SessionInfo, out: &mut FrameWriter<'_>) {
    if plain.format == Format::Envelope {
        say(out, word, &CommandId::None, |frame| {
            frame.text("topic", topic.local());
            frame.text("user", who.user.as_str());
            frame.word("session", who.session);
        });
    }
}

/// One publication as its subscribers get it.
fn write_live(plain: Plain, publication: &Publication, out: &mut FrameWriter<'_>) {
    match plain.format {
        Format::Raw if publication.removed && publication.data.is_empty() => say_removed(plain, publication, out),
        Format::Raw => write_raw(&publication.data, out),
        Format::Envelope => out.text(&envelope(publication)),
    }
}

/// A removal of which the publisher says nothing itself.
pub(crate) fn say_removed(plain: Plain, publication: &Publication, out: &mut FrameWriter<'_>) {
    if plain.notices {
        say(out, "removed", &CommandId::None, |frame| {
            frame.text("topic", publication.topic.local());
            frame.text("key", publication.key.as_deref().unwrap_or_default());
        });
    }
}

/// A publication in the object that also names topic, position, key, tags and time.
pub(crate) fn envelope(publication: &Publication) -> Vec<u8> {
    let mut frame = Vec::with_capacity(AROUND_LEN + publication.topic.local().len() + publication.data.len());
    let mut object = ObjectWriter::open(&mut frame);
    object.key(RESERVED).extend_from_slice(b"\"publication\"");
    object.text("topic", publication.topic.local());
    write_publication(&mut object, publication);
    object.end();
    frame
}

fn write_raw(data: &Payload, out: &mut FrameWriter<'_>) {
    match sendable_kind(data) {
        PayloadKind::Json | PayloadKind::Text => out.text(data.bytes()),
        PayloadKind::Binary => out.binary(data.bytes()),
    }
}

/// Everything about a publication but its topic.
fn write_publication(object: &mut ObjectWriter<'_>, publication: &Publication) {
    write_position(object, publication.position);
    if !(publication.removed && publication.data.is_empty()) {
        write_data(object, &publication.data);
    }
    if let Some(key) = &publication.key {
        object.text("key", key);
    }
    if publication.removed {
        object.yes("removed");
    }
    if let Some(tags) = &publication.tags {
        let mut object = object.object("tags");
        for (key, value) in tags.iter() {
            object.pair(key, value);
        }
        object.end();
    }
    object.number("time", publication.published_at_ms);
}

/// Data in an object: bytes have their own key.
fn write_data(object: &mut ObjectWriter<'_>, data: &Payload) {
    match sendable_kind(data) {
        PayloadKind::Json | PayloadKind::Text => object.payload("data", data),
        PayloadKind::Binary => base64(object.key("b64data"), data.bytes()),
    }
}

fn write_position(object: &mut ObjectWriter<'_>, position: Option<Position>) {
    if let Some(position) = position {
        let out = object.key("position");
        out.push(b'"');
        number(out, position.offset);
        out.push(b'@');
        out.extend_from_slice(position.epoch.as_str().as_bytes());
        out.push(b'"');
    }
}

/// Who a session is, as the server API says it.
fn client_info(out: &mut Vec<u8>, who: &SessionInfo) {
    let mut info = ObjectWriter::open(out);
    info.text("user", who.user.as_str());
    info.word("client", who.session);
    for (key, json) in [("conn_info", &who.info), ("chan_info", &who.topic_info)] {
        if let Some(json) = json.as_ref().filter(|json| !json.is_empty()) {
            one_line(info.key(key), json);
        }
    }
    info.end();
}
