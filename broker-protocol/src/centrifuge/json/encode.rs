//! Writing replies and pushes of the Centrifuge protocol in JSON, in the reference's shape: a field that is zero is left out.

use std::time::Duration;

use broker_core::{
    Connected, FrameWriter, Payload, Publication, Push, Refusal, Reply, SessionInfo, Since, Subscribed, Topic, UnsubscribeReason,
};

use crate::{
    codes,
    json::{ObjectWriter, number, one_line, payload, text},
};

/// What the server calls itself in the answer to connect.
const VERSION: &str = concat!("broker ", env!("CARGO_PKG_VERSION"));

/// The tags that say which key a publication is about, and that the key is gone.
const TAG_KEY: &str = "broker_key";
const TAG_REMOVED: &str = "broker_removed";

/// Bytes of a message around its payload, to allocate once.
const AROUND_LEN: usize = 160;

/// The message that answers the command `id`.
pub(super) fn reply(id: u64, reply: &Reply) -> Vec<u8> {
    let mut out = Vec::with_capacity(AROUND_LEN);
    let mut message = ObjectWriter::open(&mut out);
    message.number("id", id);
    match reply {
        Reply::Connected(connected) => write_connected(&mut message, connected),
        Reply::Subscribed(subscribed) => write_subscribed(message.object("subscribe"), subscribed, true),
        Reply::Unsubscribed { .. } => message.object("unsubscribe").end(),
        Reply::Published { .. } => message.object("publish").end(),
        Reply::Presence { sessions, .. } => {
            let mut result = message.object("presence");
            let mut presence = result.object("presence");
            for who in sessions {
                // A UUID needs no escapes, so it can be a key as it is.
                client_info(presence.key(&who.session.to_string()), who);
            }
            presence.end();
            result.end();
        }
        Reply::PresenceStats { sessions, users, .. } => {
            let mut result = message.object("presence_stats");
            result.number("num_clients", *sessions as u64);
            result.number("num_users", *users as u64);
            result.end();
        }
        Reply::History { position, publications, .. } => {
            let mut result = message.object("history");
            result.array("publications", publications, |out, item| publication(out, item, false));
            result.word("epoch", position.epoch);
            result.number("offset", position.offset);
            result.end();
        }
        Reply::Refreshed { session, ttl, .. } => {
            let mut result = message.object("refresh");
            result.word("client", session);
            result.text("version", VERSION);
            write_ttl(&mut result, *ttl);
            result.end();
        }
        Reply::SubscriptionRefreshed { ttl, .. } => {
            let mut result = message.object("sub_refresh");
            write_ttl(&mut result, *ttl);
            result.end();
        }
        Reply::CallResult(data) => {
            let mut result = message.object("rpc");
            result.payload("data", data);
            result.end();
        }
        Reply::Pong { .. } => message.object("ping").end(),
        Reply::Refused(refusal) => write_error(&mut message, refusal),
        // A reply that this protocol has no word for must be answered all the same, or the client waits for it.
        _ => write_error(&mut message, &Refusal::unavailable("the answer has no form in this protocol")),
    }
    message.end();
    out
}

fn write_error(message: &mut ObjectWriter<'_>, refusal: &Refusal) {
    let mut error = message.object("error");
    error.number("code", u64::from(codes::refusal(refusal.kind).number));
    match &refusal.hint {
        Some(hint) => error.text("message", &format!("{} - {hint}", refusal.message)),
        None => error.text("message", &refusal.message),
    }
    if refusal.is_temporary() {
        error.yes("temporary");
    }
    error.end();
}

fn write_connected(message: &mut ObjectWriter<'_>, connected: &Connected) {
    let mut result = message.object("connect");
    result.word("client", connected.session);
    result.text("version", VERSION);
    write_ttl(&mut result, connected.ttl);
    if let Some(data) = &connected.data {
        result.payload("data", data);
    }
    if !connected.subscriptions.is_empty() {
        let mut subs = result.object("subs");
        for subscribed in &connected.subscriptions {
            write_subscribed(subs.object_of(subscribed.topic.local()), subscribed, true);
        }
        subs.end();
    }
    if !connected.ping_interval.is_zero() {
        // Rounded up: a client gives up when no ping came within this time and a margin.
        result.number("ping", whole_seconds_up(connected.ping_interval));
        result.yes("pong");
    }
    result.end();
}

fn write_ttl(result: &mut ObjectWriter<'_>, ttl: Option<Duration>) {
    if let Some(ttl) = ttl {
        result.yes("expires");
        // Rounded down, so that the client renews in time; 0 would read as no ttl.
        result.number("ttl", ttl.as_secs().max(1));
    }
}

fn whole_seconds_up(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// The result of a subscribe command, or a subscription that the server made: in the answer to connect it has the same form, as a push it has
/// no word for a resume and for an end.
fn write_subscribed(mut result: ObjectWriter<'_>, subscribed: &Subscribed, answer: bool) {
    if answer {
        write_ttl(&mut result, subscribed.ttl);
    }
    let resume = subscribed.resume.filter(|_| answer);
    let recovered = resume.filter(|resume| resume.recovered);
    if subscribed.recoverable {
        result.yes("recoverable");
    }
    if let Some(position) = &subscribed.position {
        result.word("epoch", position.epoch);
    }
    if answer && !subscribed.missed.is_empty() {
        result.array("publications", &subscribed.missed, |out, item| publication(out, item, false));
    }
    if recovered.is_some() {
        result.yes("recovered");
    }
    // What was recovered moves the client's position itself, so it gets back the one it sent; otherwise it starts at the top.
    let offset = match recovered.map(|resume| resume.since) {
        // A map is where the answer ends, rows and changes included.
        _ if subscribed.keyed => {
            let last = subscribed.missed.last().and_then(|publication| publication.position);
            last.or(subscribed.position).map_or(0, |position| position.offset)
        }
        Some(Since::Position(position)) => position.offset,
        Some(Since::Beginning | Since::Unreadable) => 0,
        None => subscribed.position.map_or(0, |position| position.offset),
    };
    if offset > 0 {
        result.number("offset", offset);
    }
    if subscribed.recoverable {
        result.yes("positioned");
    }
    if let Some(data) = subscribed.snapshot.as_ref().or(subscribed.data.as_ref()) {
        result.payload("data", data);
    }
    if resume.is_some() {
        result.yes("was_recovering");
    }
    if subscribed.keyed {
        result.number("type", 1);
    }
    result.end();
}

/// One publication. `live`: as a push, where the first one of an epoch says which epoch begins.
fn publication(out: &mut Vec<u8>, publication: &Publication, live: bool) {
    out.extend_from_slice(b"{\"data\":");
    payload(out, &publication.data);
    if let Some(publisher) = &publication.publisher {
        out.extend_from_slice(b",\"info\":");
        client_info(out, publisher);
    }
    if let Some(position) = &publication.position {
        out.extend_from_slice(b",\"offset\":");
        number(out, position.offset);
    }
    tags(out, publication);
    if let Some(position) = publication.position.filter(|position| live && position.offset == 1) {
        out.extend_from_slice(b",\"epoch\":");
        text(out, position.epoch.as_str());
    }
    if let Some(key) = &publication.key {
        out.extend_from_slice(b",\"key\":");
        text(out, key);
    }
    if publication.removed {
        out.extend_from_slice(b",\"removed\":true");
    }
    out.push(b'}');
}

/// The tags, and among them what the publication is about: client libraries hand tags to the application, but `key` and `removed` only for maps.
fn tags(out: &mut Vec<u8>, publication: &Publication) {
    if publication.tags.is_none() && publication.key.is_none() {
        return;
    }
    out.extend_from_slice(b",\"tags\":");
    let mut object = ObjectWriter::open(out);
    for (key, value) in publication.tags.iter().flat_map(|tags| tags.iter()) {
        if key != TAG_KEY && key != TAG_REMOVED {
            object.pair(key, value);
        }
    }
    if let Some(key) = &publication.key {
        object.pair(TAG_KEY, key);
    }
    if publication.removed {
        object.pair(TAG_REMOVED, "true");
    }
    object.end();
}

/// Who a session is; user and client are written even where they are empty.
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

/// Writes a push, where the protocol has one.
pub(super) fn push(push: &Push, out: &mut FrameWriter<'_>) {
    match push {
        Push::Publication(item) => {
            let mut message = begin_push(&item.topic, b",\"pub\":", item.data.len());
            publication(&mut message, item, true);
            end_push(message, out);
        }
        Push::Join { topic, who } => who_push(topic, b",\"join\":", who, out),
        Push::Leave { topic, who } => who_push(topic, b",\"leave\":", who, out),
        Push::Unsubscribed { topic, reason } => unsubscribe_push(topic, *reason, out),
        // The protocol has no word for a gap: the client subscribes again from its position, and is told then what it gets.
        Push::Gap { topic, .. } => unsubscribe_push(topic, UnsubscribeReason::InsufficientState, out),
        Push::Subscribed(subscribed) => {
            let mut message = begin_push(&subscribed.topic, b",\"subscribe\":", 0);
            write_subscribed(ObjectWriter::open(&mut message), subscribed, false);
            end_push(message, out);
            for item in &subscribed.missed {
                let mut message = begin_push(&item.topic, b",\"pub\":", item.data.len());
                publication(&mut message, item, true);
                end_push(message, out);
            }
        }
        Push::Message(data) => message_push(data, out),
        Push::Refreshed { ttl } => refresh_push(*ttl, out),
        Push::Ping => out.text(b"{}"),
        // Clients know when their token ends from the answer to connect; a change of identity is told by the subscriptions that it ends and
        // begins; the close frame speaks for itself; and an error has no form without an id.
        _ => {}
    }
}

/// Opens a push of a topic; `key` is the key of what is pushed, with the comma before it.
fn begin_push(topic: &Topic, key: &[u8], payload_len: usize) -> Vec<u8> {
    let channel = topic.local();
    let mut message = Vec::with_capacity(AROUND_LEN + channel.len() + payload_len);
    message.extend_from_slice(b"{\"push\":{\"channel\":");
    text(&mut message, channel);
    message.extend_from_slice(key);
    message
}

fn end_push(mut message: Vec<u8>, out: &mut FrameWriter<'_>) {
    message.extend_from_slice(b"}}");
    out.text(&message);
}

fn who_push(topic: &Topic, key: &[u8], who: &SessionInfo, out: &mut FrameWriter<'_>) {
    let mut message = begin_push(topic, key, 0);
    message.extend_from_slice(b"{\"info\":");
    client_info(&mut message, who);
    message.push(b'}');
    end_push(message, out);
}

fn unsubscribe_push(topic: &Topic, reason: UnsubscribeReason, out: &mut FrameWriter<'_>) {
    let code = codes::unsubscribe(reason);
    let mut message = begin_push(topic, b",\"unsubscribe\":", 0);
    let mut unsubscribe = ObjectWriter::open(&mut message);
    unsubscribe.number("code", u64::from(code.number));
    unsubscribe.text("reason", code.text);
    unsubscribe.end();
    end_push(message, out);
}

fn message_push(data: &Payload, out: &mut FrameWriter<'_>) {
    let mut message = Vec::with_capacity(AROUND_LEN + data.len());
    message.extend_from_slice(b"{\"push\":{\"message\":{\"data\":");
    payload(&mut message, data);
    message.extend_from_slice(b"}}}");
    out.text(&message);
}

fn refresh_push(ttl: Option<Duration>, out: &mut FrameWriter<'_>) {
    let mut message = Vec::with_capacity(AROUND_LEN);
    message.extend_from_slice(b"{\"push\":{\"refresh\":");
    let mut refresh = ObjectWriter::open(&mut message);
    write_ttl(&mut refresh, ttl);
    refresh.end();
    end_push(message, out);
}
