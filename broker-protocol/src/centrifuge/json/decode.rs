//! Reading commands of the Centrifuge protocol in JSON.

use std::borrow::Cow;

use broker_core::{
    CloseReason, Command, CommandId, Connect, Epoch, Inbound, Payload, Position, Refusal, RefusalKind, Request, Since, Subscribe, Topic,
};

use crate::json::{Frame, Object, check_depth, entries, filter, id_token, quoted};

/// The id, then the requests, in the order in which the first one that is there counts.
const COMMAND: [&str; 13] = [
    "id",
    "connect",
    "ping",
    "subscribe",
    "unsubscribe",
    "publish",
    "presence",
    "presence_stats",
    "history",
    "rpc",
    "send",
    "refresh",
    "sub_refresh",
];

const CONNECT: [&str; 5] = ["token", "data", "name", "version", "subs"];
const SUBS: [&str; 3] = ["recover", "offset", "epoch"];
const SUBSCRIBE: [&str; 10] = ["channel", "token", "recover", "epoch", "offset", "data", "join_leave", "tf", "flag", "type"];
const CHANNEL: [&str; 1] = ["channel"];
const PUBLISH: [&str; 4] = ["channel", "data", "key", "removed"];
const HISTORY: [&str; 4] = ["channel", "limit", "since", "reverse"];
const SINCE: [&str; 2] = ["offset", "epoch"];
const RPC: [&str; 2] = ["method", "data"];
const SEND: [&str; 1] = ["data"];
const REFRESH: [&str; 1] = ["token"];
const SUB_REFRESH: [&str; 2] = ["channel", "token"];

/// Most subscriptions of the server's making that one connect resumes.
const RESUMES_MAX: usize = 128;

/// The types of subscriptions that there are here.
const STREAM: i64 = 0;
const MAP: i64 = 1;

/// The bit of `flag` that asks for a refusal where a resume fails.
const REFUSE_UNRECOVERED: u64 = 2;

/// Reads every command of a message: at least one.
pub(super) fn message(message: Inbound<'_>, commands: &mut Vec<Command>) {
    let before = commands.len();
    match message {
        Inbound::Text(text) => lines(Frame(text.as_bytes()), text, commands),
        Inbound::Binary(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => lines(Frame(bytes), text, commands),
            // One command that is no UTF-8 does not spoil the others.
            Err(_) => bytes.split(|byte| *byte == b'\n').for_each(|line| bytes_line(Frame(bytes), line, commands)),
        },
    }
    if commands.len() == before {
        commands.push(unreadable(&Refusal::bad_request("the frame is empty")));
    }
}

fn lines(frame: Frame<'_>, text: &str, commands: &mut Vec<Command>) {
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', text.as_bytes()) {
        one_line(frame, &text[start..end], commands);
        start = end + 1;
    }
    one_line(frame, &text[start..], commands);
}

fn one_line(frame: Frame<'_>, line: &str, commands: &mut Vec<Command>) {
    // Every client sends it all the time.
    if line == "{}" {
        commands.push(Command { id: CommandId::None, request: Request::Pong });
    } else if !line.trim_ascii().is_empty() {
        commands.push(command(frame, line).unwrap_or_else(|refusal| mistake(line, refusal)));
    }
}

/// A line of a frame that is not UTF-8 everywhere.
fn bytes_line(frame: Frame<'_>, line: &[u8], commands: &mut Vec<Command>) {
    match std::str::from_utf8(line) {
        Ok(line) => one_line(frame, line, commands),
        Err(error) => {
            let (valid, _) = line.split_at(error.valid_up_to());
            let at = line.as_ptr().addr() - frame.0.as_ptr().addr() + valid.len();
            // Replacing what is broken keeps the structure, so an id behind it is found too.
            let lossy = String::from_utf8_lossy(line);
            commands.push(mistake(&lossy, Refusal::bad_request("the command is not UTF-8").at(at)));
        }
    }
}

/// The answer to a command that cannot be read: a refusal where its id can be, otherwise the end of the connection.
fn mistake(line: &str, refusal: Refusal) -> Command {
    match id_token(line).and_then(|token| token.parse::<u64>().ok()).filter(|id| *id > 0) {
        Some(id) => Command { id: CommandId::Number(id), request: Request::Mistake(refusal) },
        None => unreadable(&refusal),
    }
}

fn unreadable(refusal: &Refusal) -> Command {
    let text = match refusal.at {
        Some(at) => format!("{} (byte {at})", refusal.message),
        None => refusal.message.to_string(),
    };
    Command { id: CommandId::None, request: Request::Unreadable(CloseReason::BadRequest(Cow::Owned(text))) }
}

/// Reads one command. An error is a refusal for which no id is known yet.
fn command(frame: Frame<'_>, line: &str) -> Result<Command, Refusal> {
    check_depth(frame, line)?;
    let command = object(frame, "", line, &COMMAND)?;
    if command.is_empty() {
        return Ok(Command { id: CommandId::None, request: Request::Pong });
    }
    let asked = command.first_value(1);
    let id = match command.number("id")? {
        Some(id) if id > 0 => CommandId::Number(id),
        _ if asked.is_some_and(|(name, _)| name == "send") => CommandId::None,
        Some(_) => return Err(command.refuse("id", "must be greater than 0")),
        None => return Err(Refusal::bad_request("the command has no id")),
    };
    let request = match asked {
        Some((name, json)) => request(frame, name, json),
        None => Err(no_request(&command)),
    };
    match request {
        Ok(request) => Ok(Command { id, request }),
        Err(refusal) if id == CommandId::None => Err(refusal),
        Err(refusal) => Ok(Command { id, request: Request::Mistake(refusal) }),
    }
}

fn no_request<const N: usize>(command: &Object<'_, N>) -> Refusal {
    let message = match command.unknown() {
        Some(name) => format!("there is no command {}", quoted(name)),
        None => "the command asks for nothing".to_owned(),
    };
    Refusal::new(RefusalKind::UnknownAction, message).hint(format!("one of {}", COMMAND[1..].join(", ")))
}

/// Reads an object in which every key stands once.
fn object<'a, const N: usize>(
    frame: Frame<'a>,
    path: &'static str,
    json: &'a str,
    names: &'static [&'static str; N],
) -> Result<Object<'a, N>, Refusal> {
    let object = Object::read(frame, path, json, names)?;
    object.check_distinct()?;
    Ok(object)
}

fn request(frame: Frame<'_>, name: &str, json: &str) -> Result<Request, Refusal> {
    match name {
        "connect" => connect(frame, json),
        "ping" => Err(Refusal::bad_request("ping is no command of clients").hint("the server pings with {}, the client answers {}")),
        "subscribe" => subscribe(frame, json),
        "unsubscribe" => Ok(Request::Unsubscribe { topic: channel(frame, "unsubscribe.", json)? }),
        "publish" => publish(frame, json),
        "presence" => Ok(Request::Presence { topic: channel(frame, "presence.", json)? }),
        "presence_stats" => Ok(Request::PresenceStats { topic: channel(frame, "presence_stats.", json)? }),
        "history" => history(frame, json),
        "rpc" => {
            let rpc = object(frame, "rpc.", json, &RPC)?;
            let method = rpc.text("method")?.unwrap_or_default().into_owned();
            Ok(Request::Call { method, data: rpc.payload("data").unwrap_or_else(null) })
        }
        "send" => {
            let send = object(frame, "send.", json, &SEND)?;
            Ok(Request::Message { data: send.payload("data").unwrap_or_else(null) })
        }
        "refresh" => {
            let refresh = object(frame, "refresh.", json, &REFRESH)?;
            Ok(Request::Refresh { token: token(&refresh)? })
        }
        "sub_refresh" => {
            let refresh = object(frame, "sub_refresh.", json, &SUB_REFRESH)?;
            Ok(Request::RefreshSubscription { topic: refresh.topic("channel")?, token: token(&refresh)? })
        }
        other => Err(Refusal::new(RefusalKind::UnknownAction, format!("there is no command {}", quoted(other)))),
    }
}

/// The token of a renewal, which must be there.
fn token<const N: usize>(refresh: &Object<'_, N>) -> Result<String, Refusal> {
    let token = refresh.required_text("token")?;
    if token.is_empty() { Err(refresh.refuse("token", "is empty")) } else { Ok(token.into_owned()) }
}

/// What an SDK leaves out when the application gives nothing.
fn null() -> Payload {
    Payload::json(&b"null"[..])
}

fn connect(frame: Frame<'_>, json: &str) -> Result<Request, Refusal> {
    let connect = object(frame, "connect.", json, &CONNECT)?;
    let owned = |text: Option<Cow<'_, str>>| text.map(Cow::into_owned);
    Ok(Request::Connect(Connect {
        token: owned(connect.text("token")?).filter(|token| !token.is_empty()),
        data: connect.value("data").and_then(|_| connect.payload("data")),
        name: owned(connect.text("name")?),
        version: owned(connect.text("version")?),
        ticket: None,
        cursor: None,
        resume: connect.value("subs").map_or_else(|| Ok(Vec::new()), |subs| resumes(frame, subs))?,
    }))
}

/// From where the client resumes what the server subscribed it to on its last connection.
fn resumes(frame: Frame<'_>, json: &str) -> Result<Vec<(Topic, Since)>, Refusal> {
    let mut resumes = Vec::new();
    for (channel, json) in entries(frame, "connect.subs", json, RESUMES_MAX)? {
        let sub = object(frame, "connect.subs.", json, &SUBS)?;
        let (offset, epoch) = (sub.number("offset")?.unwrap_or_default(), sub.text("epoch")?.unwrap_or_default());
        if sub.flag("recover")? {
            let topic = channel.parse().map_err(|error| {
                Refusal::bad_request(format!("connect.subs has {}, which is no topic: {error}", quoted(&channel))).at(frame.at(json))
            })?;
            resumes.push((topic, since(offset, &epoch)));
        }
    }
    Ok(resumes)
}

fn channel(frame: Frame<'_>, path: &'static str, json: &str) -> Result<Topic, Refusal> {
    object(frame, path, json, &CHANNEL)?.topic("channel")
}

fn publish(frame: Frame<'_>, json: &str) -> Result<Request, Refusal> {
    let publish = object(frame, "publish.", json, &PUBLISH)?;
    let topic = publish.topic("channel")?;
    let removed = publish.flag("removed")?;
    let data = match publish.payload("data") {
        Some(data) => data,
        // What is gone has no data unless somebody gives some.
        None if removed => Payload::json(""),
        None => return Err(publish.missing("data").hint("null is allowed")),
    };
    // Protobuf knows no difference between an empty key and none.
    let key = publish.text("key")?.filter(|key| !key.is_empty()).map(|key| key.into_owned().into_boxed_str());
    Ok(Request::Publish { topic, data, key, idempotency_key: None, removed })
}

fn subscribe(frame: Frame<'_>, json: &str) -> Result<Request, Refusal> {
    let object = self::object(frame, "subscribe.", json, &SUBSCRIBE)?;
    let kind = object.signed("type")?.unwrap_or_default();
    if kind != STREAM && kind != MAP {
        let mut refusal = object.refuse("type", "other than 0, a stream, and 1, a map, is not available");
        refusal.kind = RefusalKind::NotAvailable;
        return Err(refusal);
    }
    let (offset, epoch) = (object.number("offset")?.unwrap_or_default(), object.text("epoch")?.unwrap_or_default());
    let mut subscribe = Subscribe::new(object.topic("channel")?);
    subscribe.since = object.flag("recover")?.then(|| since(offset, &epoch));
    subscribe.keyed = kind == MAP;
    // Client libraries take the failed resume of a map for an outdated answer, ask once more and give up at 105; at 112 they begin anew.
    subscribe.refuse_unrecovered = kind == MAP || object.number("flag")?.unwrap_or_default() & REFUSE_UNRECOVERED != 0;
    subscribe.join_leave = object.flag("join_leave")?;
    subscribe.token = object.text("token")?.map(Cow::into_owned).filter(|token| !token.is_empty());
    subscribe.data = object.value("data").and_then(|_| object.payload("data"));
    if let Some(filter) = filter(&object, "tf")? {
        subscribe.selection = subscribe.selection.filter(filter);
    }
    Ok(Request::Subscribe(subscribe))
}

fn history(frame: Frame<'_>, json: &str) -> Result<Request, Refusal> {
    let history = object(frame, "history.", json, &HISTORY)?;
    let since = match history.value("since") {
        None => None,
        Some(json) => {
            let position = object(frame, "history.since.", json, &SINCE)?;
            Some(since(position.number("offset")?.unwrap_or_default(), &position.text("epoch")?.unwrap_or_default()))
        }
    };
    let limit = match history.signed("limit")?.unwrap_or_default() {
        0 => None,
        // The reference's word for "as many as the server gives".
        limit if limit < 0 => Some(usize::MAX),
        limit => Some(usize::try_from(limit).unwrap_or(usize::MAX)),
    };
    Ok(Request::History { topic: history.topic("channel")?, since, limit, reverse: history.flag("reverse")? })
}

/// Where a client resumes from.
///
/// The reference takes an empty epoch for any; that could lose silently, so here it means the beginning, and only together with offset 0. Any
/// other epoch that is none of ours becomes [`no_epoch`]: it is answered as a position that cannot be recovered, which clients can handle.
fn since(offset: u64, epoch: &str) -> Since {
    if offset == 0 && epoch.is_empty() {
        return Since::Beginning;
    }
    Since::Position(Position { offset, epoch: epoch.parse().unwrap_or_else(|_| no_epoch()) })
}

/// An epoch that no history ever has: epochs are random letters and digits.
fn no_epoch() -> Epoch {
    "_".parse().expect("an underscore is allowed in epochs")
}
