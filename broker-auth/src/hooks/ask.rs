//! Writing what the application is asked: the fields that all requests share, and payloads. Answers are not read here.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use broker_core::{Payload, PayloadKind, Subject, Tenant};
use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

/// Who asks: what every request but `connect` begins with.
// spec: Centrifugo proxies, "SubscribeRequest": client, transport, protocol, encoding, user, meta. `groups` and `tenant` are ours.
#[derive(Serialize)]
pub(super) struct Who<'a> {
    client: String,
    #[serde(flatten)]
    pipe: Pipe,
    user: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    groups: &'a [Box<str>],
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<&'a RawValue>,
}

impl<'a> Who<'a> {
    pub(super) fn of(subject: &'a Subject) -> Self {
        Self {
            client: subject.session.to_string(),
            pipe: Pipe::of(subject.transport, subject.protocol),
            user: subject.user.as_str(),
            groups: subject.groups(),
            tenant: subject.tenant().map(Tenant::as_str),
            meta: subject.meta().and_then(as_json),
        }
    }
}

/// How the client is connected, in Centrifugo's words.
#[derive(Serialize)]
pub(super) struct Pipe {
    transport: &'static str,
    protocol: &'static str,
    encoding: &'static str,
}

impl Pipe {
    /// A client of the plain protocol reads and writes JSON as those of the others do.
    pub(super) fn of(transport: &'static str, protocol: &'static str) -> Self {
        let is_protobuf = protocol.ends_with("protobuf");
        Self { transport, protocol: if is_protobuf { "protobuf" } else { "json" }, encoding: if is_protobuf { "binary" } else { "json" } }
    }
}

/// What a client sent: JSON in `data`, text in `text`, other bytes in `b64data`.
#[derive(Default, Serialize)]
pub(super) struct Data<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b64data: Option<String>,
}

impl<'a> Data<'a> {
    /// Binary data that is JSON is written as JSON: client libraries that speak Protobuf carry their JSON as bytes.
    pub(super) fn of(payload: &'a Payload) -> Self {
        if payload.kind() == PayloadKind::Text
            && let Ok(text) = std::str::from_utf8(payload.bytes())
        {
            return Self { text: Some(text), ..Self::default() };
        }
        match as_json(payload.bytes()) {
            Some(json) => Self { data: Some(json), ..Self::default() },
            None => Self { b64data: Some(STANDARD.encode(payload.bytes())), ..Self::default() },
        }
    }

    pub(super) fn of_any(payload: Option<&'a Payload>) -> Self {
        payload.map(Self::of).unwrap_or_default()
    }
}

/// The body of a request.
pub(super) fn body(request: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(request).expect("texts, numbers and checked JSON can always be written")
}

fn as_json(bytes: &Bytes) -> Option<&RawValue> {
    serde_json::from_slice(bytes).ok()
}
