//! What every transcript needs: frames as text, commands as text.

use std::fmt::Write as _;

use broker_core::{
    CloseFrame, CloseReason, Command, CommandId, FrameKind, FrameWriter, Framing, Inbound, Payload, PayloadKind, Position, Protocol,
    Publication, Publish, Push, Reply, Request, SessionId, SessionInfo, Since, Subscribed, Topic,
};

/// One line for each frame: what it carries stands after its kind.
#[derive(Debug)]
pub(crate) struct Lines;

impl Framing for Lines {
    fn encoding(&self) -> u8 {
        0
    }

    fn frame(&self, kind: FrameKind, payload: &[u8], out: &mut Vec<u8>) {
        let word: &[u8] = match kind {
            FrameKind::Text => b"",
            FrameKind::Binary => b"binary:",
            FrameKind::Ping => b"(ping)",
            FrameKind::Pong => b"(pong)",
        };
        out.extend_from_slice(word);
        out.extend_from_slice(payload);
        out.push(b'\n');
    }

    fn close(&self, _: &CloseFrame, _: &mut Vec<u8>) {}
}

/// The frames of an answer, one line each.
pub(crate) fn reply(protocol: &dyn Protocol, id: &CommandId, reply: &Reply) -> String {
    let mut out = Vec::new();
    protocol.encode_reply(id, reply, &mut FrameWriter::new(&Lines, &mut out));
    String::from_utf8(out).expect("frames of these tests are text")
}

/// The frames of a push, one line each.
pub(crate) fn push(protocol: &dyn Protocol, push: &Push) -> String {
    let mut out = Vec::new();
    protocol.encode_push(push, &mut FrameWriter::new(&Lines, &mut out));
    String::from_utf8(out).expect("frames of these tests are text")
}

/// The commands of a message.
pub(crate) fn decode(protocol: &dyn Protocol, message: Inbound<'_>) -> Vec<Command> {
    let mut commands = Vec::new();
    protocol.decode(message, &mut commands);
    commands
}

/// One line for each command of a text message.
pub(crate) fn decoded(protocol: &dyn Protocol, text: &str) -> String {
    decode(protocol, Inbound::Text(text)).iter().map(shown).collect::<Vec<_>>().join("\n")
}

/// A command in one line: `#id what argument name=value`; `-` where nobody is answered by id, `#` where the command had none.
pub(crate) fn shown(command: &Command) -> String {
    let id = match &command.id {
        CommandId::None => "-".to_owned(),
        CommandId::Number(id) => format!("#{id}"),
        CommandId::Verbatim(text) => format!("#{text}"),
    };
    format!("{id} {}", request(&command.request))
}

fn request(request: &Request) -> String {
    match request {
        Request::Connect(connect) => {
            let mut line = "connect".to_owned();
            push_some(&mut line, "token", connect.token.as_ref());
            push_some(&mut line, "data", connect.data.as_ref().map(data));
            push_some(&mut line, "name", connect.name.as_ref());
            push_some(&mut line, "version", connect.version.as_ref());
            for (topic, from) in &connect.resume {
                push_some(&mut line, topic.as_str(), Some(since(*from)));
            }
            line
        }
        Request::Subscribe(subscribe) => {
            let mut line = format!("subscribe {}", subscribe.topic);
            push_some(&mut line, "since", subscribe.since.map(since));
            push_some(&mut line, "join_leave", subscribe.join_leave.then_some(true));
            push_some(&mut line, "refuse_unrecovered", subscribe.refuse_unrecovered.then_some(true));
            push_some(&mut line, "keyed", subscribe.keyed.then_some(true));
            push_some(&mut line, "token", subscribe.token.as_ref());
            push_some(&mut line, "data", subscribe.data.as_ref().map(data));
            push_some(&mut line, "selection", (!subscribe.selection.is_all()).then(|| format!("{:?}", subscribe.selection)));
            line
        }
        Request::Unsubscribe { topic } => format!("unsubscribe {topic}"),
        Request::Publish { topic, data: payload, key, idempotency_key, removed } => {
            let mut line = format!("publish {topic} {}", data(payload));
            push_some(&mut line, "key", key.as_ref());
            push_some(&mut line, "idempotency_key", idempotency_key.as_ref());
            push_some(&mut line, "removed", removed.then_some(true));
            line
        }
        Request::Presence { topic } => format!("presence {topic}"),
        Request::PresenceStats { topic } => format!("presence_stats {topic}"),
        Request::History { topic, since: from, limit, reverse } => {
            let mut line = format!("history {topic}");
            push_some(&mut line, "since", from.map(since));
            push_some(&mut line, "limit", limit.map(|limit| if limit == usize::MAX { "all".to_owned() } else { limit.to_string() }));
            push_some(&mut line, "reverse", reverse.then_some(true));
            line
        }
        Request::Refresh { token } => format!("refresh {token}"),
        Request::RefreshSubscription { topic, token } => format!("sub_refresh {topic} {token}"),
        Request::Call { method, data: payload } => format!("call {method:?} {}", data(payload)),
        Request::Message { data: payload } => format!("message {}", data(payload)),
        Request::Ping { bare } => format!("ping bare={bare}"),
        Request::Pong => "pong".to_owned(),
        Request::Mistake(refusal) => {
            let mut line = format!("mistake {}: {}", broker_protocol::codes::refusal(refusal.kind).word, refusal.message);
            push_some(&mut line, "at", refusal.at);
            line
        }
        Request::Unreadable(CloseReason::BadRequest(text)) => format!("unreadable: {text}"),
        other => format!("{other:?}"),
    }
}

fn push_some(line: &mut String, name: &str, value: Option<impl ToString>) {
    if let Some(value) = value {
        write!(line, " {name}={}", value.to_string()).expect("a String takes every text");
    }
}

fn since(since: Since) -> String {
    match since {
        Since::Beginning => "beginning".to_owned(),
        Since::Position(position) => position.to_string(),
        Since::Unreadable => "unreadable".to_owned(),
    }
}

fn data(payload: &Payload) -> String {
    let kind = match payload.kind() {
        PayloadKind::Json => "json",
        PayloadKind::Text => "text",
        PayloadKind::Binary => "binary",
    };
    format!("{kind}:{}", payload.bytes().escape_ascii())
}

/// The topic of this name.
pub(crate) fn topic(name: &str) -> Topic {
    name.parse().expect("the test names a topic")
}

/// The position written like this.
pub(crate) fn position(text: &str) -> Position {
    text.parse().expect("the test writes a position")
}

/// A publication, as it was sent at 1,763,712,000,000 ms of Unix time.
pub(crate) fn publication(name: &str, data: Payload, at: Option<&str>) -> Publication {
    let mut publication = Publication::new(topic(name), Publish::new(data));
    publication.position = at.map(position);
    publication.published_at_ms = 1_763_712_000_000;
    publication
}

/// The session `00000000-0000-4000-8000-00000000000N` of this user.
pub(crate) fn session(number: u8, user: &str) -> SessionInfo {
    SessionInfo { session: SessionId::from_random(u128::from(number)), user: user.into(), info: None, topic_info: None }
}

/// A subscription without history.
pub(crate) fn subscribed(name: &str) -> Subscribed {
    Subscribed {
        topic: topic(name),
        position: None,
        recoverable: false,
        resume: None,
        snapshot: None,
        missed: Vec::new(),
        data: None,
        ttl: None,
        keyed: false,
    }
}
