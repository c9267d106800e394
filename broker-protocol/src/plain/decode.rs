//! Reading frames of the plain protocol: commands for the broker, and messages for the application.

use std::borrow::Cow;

use broker_core::{Command, CommandId, Inbound, Payload, Refusal, RefusalKind, Request, Since, Subscribe};
use bytes::Bytes;

use super::{RESERVED, holds_reserved_key, update_interval};
use crate::json::{Frame, Object, check_depth, filter, id_token, json_payload, kind_name, quoted, starts_with_key, syntax};

/// Every key that a command may have.
const COMMAND: [&str; 14] = [
    RESERVED,
    "id",
    "topic",
    "data",
    "since",
    "rate",
    "filter",
    "key",
    "removed",
    "idempotency_key",
    "limit",
    "reverse",
    "token",
    "method",
];

/// The longest key under which a retry is stored once, in bytes.
const IDEMPOTENCY_KEY_MAX_LEN: usize = 255;

/// What may be asked, for hints.
const ACTIONS: &str = "subscribe, unsubscribe, publish, history, presence, authenticate, call, ping";

type CommandObject<'a> = Object<'a, { COMMAND.len() }>;

/// Reads the one command of a frame.
pub(super) fn message(message: Inbound<'_>) -> Command {
    match message {
        Inbound::Text("ping") => Command { id: CommandId::None, request: Request::Ping { bare: true } },
        Inbound::Text(text) => text_frame(text),
        Inbound::Binary(bytes) => to_application(Payload::binary(Bytes::copy_from_slice(bytes))),
    }
}

fn to_application(data: Payload) -> Command {
    Command { id: CommandId::None, request: Request::Message { data } }
}

fn text_frame(text: &str) -> Command {
    let frame = Frame(text.as_bytes());
    if let Err(refusal) = check_depth(frame, text) {
        return mistake(text, refusal);
    }
    if text.trim_ascii_start().starts_with('{') {
        match Object::read(frame, "", text, &COMMAND) {
            Ok(object) if object.raw(RESERVED).is_some() => return command(&object),
            Err(refusal) if starts_with_key(text, RESERVED) => return mistake(text, refusal),
            // Not ours, as far as anyone can tell: an application may have a language of its own.
            _ => {}
        }
    }
    to_application(syntax(text).map_or_else(|| Payload::text(text), json_payload))
}

/// The answer to a command that cannot be read, with its id where that can be.
fn mistake(text: &str, refusal: Refusal) -> Command {
    let id = if starts_with_key(text, RESERVED) { id_token(text).map_or_else(no_id, known_id) } else { CommandId::None };
    Command { id, request: Request::Mistake(refusal) }
}

/// The id of a command that has none. It is answered without `id`, but it is answered: [`CommandId::None`] is for what nobody asked.
fn no_id() -> CommandId {
    CommandId::Verbatim("".into())
}

/// The id of a command, a number or a string as it was written.
fn known_id(token: &str) -> CommandId {
    // As a number only where it is written back as it came.
    match token.parse::<u64>() {
        Ok(id) => CommandId::Number(id),
        Err(_) => CommandId::Verbatim(token.into()),
    }
}

fn command(object: &CommandObject<'_>) -> Command {
    let id = match object.raw("id") {
        None => no_id(),
        Some(token) if token.starts_with('"') || kind_name(token) == "a number" => known_id(token),
        Some(token) => {
            let refusal = object.refuse("id", &format!("must be a number or a string, not {}", kind_name(token)));
            return Command { id: no_id(), request: Request::Mistake(refusal) };
        }
    };
    let request = object.check_distinct().and_then(|()| request(object)).unwrap_or_else(Request::Mistake);
    Command { id, request }
}

fn request(object: &CommandObject<'_>) -> Result<Request, Refusal> {
    let action = object.required_text(RESERVED)?;
    match action.as_ref() {
        "subscribe" => {
            let mut subscribe = Subscribe::new(object.topic("topic")?);
            subscribe.since = since(object)?;
            if let Some(filter) = filter(object, "filter")? {
                subscribe.selection = subscribe.selection.filter(filter);
            }
            if let Some(rate) = object.value("rate") {
                let interval = update_interval(rate);
                let interval = interval.ok_or_else(|| object.refuse("rate", "must be a number of updates per second, at most 1000"))?;
                subscribe.selection = subscribe.selection.pace(interval);
            }
            Ok(Request::Subscribe(subscribe))
        }
        "unsubscribe" => Ok(Request::Unsubscribe { topic: object.topic("topic")? }),
        "publish" => publish(object),
        "history" => Ok(Request::History {
            topic: object.topic("topic")?,
            since: since(object)?,
            limit: limit(object)?,
            reverse: object.flag("reverse")?,
        }),
        "presence" => Ok(Request::Presence { topic: object.topic("topic")? }),
        "authenticate" => Ok(Request::Refresh { token: object.required_text("token")?.into_owned() }),
        "call" => {
            let method = object.required_text("method")?.into_owned();
            Ok(Request::Call { method, data: object.payload("data").unwrap_or_else(|| Payload::json(&b"null"[..])) })
        }
        "ping" => Ok(Request::Ping { bare: false }),
        other => {
            Err(Refusal::new(RefusalKind::UnknownAction, format!("there is no action {}", quoted(other))).hint(format!("one of {ACTIONS}")))
        }
    }
}

fn publish(object: &CommandObject<'_>) -> Result<Request, Refusal> {
    let topic = object.topic("topic")?;
    let removed = object.flag("removed")?;
    // What is gone has no data unless somebody gives some.
    let raw = match object.raw("data") {
        None if removed => "",
        raw => raw.ok_or_else(|| object.missing("data").hint("null is allowed"))?,
    };
    if holds_reserved_key(raw.as_bytes()) {
        return Err(object
            .refuse("data", "has the key \"broker\" at its top level, which is reserved")
            .hint("rename the key, or put the data into another object"));
    }
    let idempotency_key = object.text("idempotency_key")?;
    if let Some(key) = idempotency_key.as_ref().filter(|key| key.len() > IDEMPOTENCY_KEY_MAX_LEN) {
        return Err(object.refuse("idempotency_key", &format!("has {} bytes, at most {IDEMPOTENCY_KEY_MAX_LEN} are allowed", key.len())));
    }
    let boxed = |text: Option<Cow<'_, str>>| text.map(|text| text.into_owned().into_boxed_str());
    let (key, idempotency_key) = (boxed(object.text("key")?), boxed(idempotency_key));
    Ok(Request::Publish { topic, data: json_payload(raw), key, idempotency_key, removed })
}

/// Position or `0`; a number 0 means the same.
fn since(object: &CommandObject<'_>) -> Result<Option<Since>, Refusal> {
    if object.value("since") == Some("0") {
        return Ok(Some(Since::Beginning));
    }
    let Some(text) = object.text("since")? else { return Ok(None) };
    let since = text.parse().map_err(|error| object.refuse("since", &format!("is no position: {error}")))?;
    Ok(Some(since))
}

/// Most publications; all that are kept where nothing is said, only the position where it is 0.
fn limit(object: &CommandObject<'_>) -> Result<Option<usize>, Refusal> {
    let limit = object.number("limit")?.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    Ok((limit > 0).then_some(limit))
}
