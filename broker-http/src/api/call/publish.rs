//! Sending: `publish`, `broadcast`, `send`, and what they have in common.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use broker_core::{Except, Payload, Publish, Refusal, Tags, Target, Topic, Version};
use bytes::Bytes;

use super::{ITEMS_MAX, check_count, not_available, refuse_later, target, topic};
use crate::api::json::{Fields, Value};

/// The longest idempotency key, in bytes.
const IDEMPOTENCY_KEY_MAX: usize = 255;

/// The longest time that a publication can be kept.
const TTL_MAX: Duration = Duration::from_secs(366 * 86_400);

/// Most users, and most sessions, that one publication leaves out: they are compared for every receiver.
const EXCEPT_MAX: usize = Target::SET_MAX_LEN;

/// Send one publication to one topic.
#[derive(Debug)]
pub(crate) struct PublishCall {
    pub(crate) topic: Topic,
    pub(crate) publish: Publish,
    /// Whether the answer says what became of it.
    pub(crate) report: bool,
}

/// Send one publication to several topics; what is no topic is refused alone.
#[derive(Debug)]
pub(crate) struct BroadcastCall {
    pub(crate) topics: Vec<Result<Topic, Refusal>>,
    pub(crate) publish: Publish,
    /// Whether each answer says what became of it.
    pub(crate) report: bool,
}

/// Send one publication to sessions, wherever they are.
#[derive(Debug)]
pub(crate) struct SendCall {
    pub(crate) target: Target,
    pub(crate) publish: Publish,
}

/// The fields of every publication.
const PUBLISH: [&str; 15] = [
    "channel",
    "channels",
    "data",
    "b64data",
    "idempotency_key",
    "key",
    "removed",
    "tags",
    "skip_history",
    "delta",
    "version",
    "version_epoch",
    "ttl",
    "except",
    "report",
];

impl PublishCall {
    pub(super) fn read(arguments: &Value<'_>) -> Result<Self, Refusal> {
        let fields = arguments.fields(&PUBLISH)?;
        Ok(Self { topic: topic(&fields)?, publish: publish(&fields)?, report: fields.flag("report")? })
    }
}

impl BroadcastCall {
    pub(super) fn read(arguments: &Value<'_>) -> Result<Self, Refusal> {
        let fields = arguments.fields(&PUBLISH)?;
        let channels = fields.required("channels")?;
        // A name of the wrong type is a mistake in the request, a name that is no topic one of that topic alone.
        let elements = channels.texts()?;
        if elements.is_empty() {
            return Err(channels.refuse("names no topic"));
        }
        check_count(channels, elements.len(), ITEMS_MAX)?;
        let topics = elements.iter().map(Value::topic).collect();
        Ok(Self { topics, publish: publish(&fields)?, report: fields.flag("report")? })
    }
}

impl SendCall {
    pub(super) fn read(arguments: &Value<'_>) -> Result<Self, Refusal> {
        let fields = arguments.fields(&PUBLISH)?;
        let target = target::whom(arguments)?;
        refuse_later(&fields, &["report"])?;
        let publish = publish(&fields)?;
        // What goes to sessions and to no topic is kept nowhere, so that a retry cannot be told from another send.
        match fields.optional("idempotency_key").filter(|_| publish.idempotency_key.is_some()) {
            Some(key) if !matches!(target, Target::User { .. } | Target::Topic(_)) => {
                let refusal = not_available(key.refuse("holds for a topic, and the target is not one user, group or channel"));
                Err(refusal.hint("leave idempotency_key out"))
            }
            _ => Ok(Self { target, publish }),
        }
    }
}

fn publish(fields: &Fields<'_>) -> Result<Publish, Refusal> {
    let removed = fields.flag("removed")?;
    let mut publish = match fields.raw("data") {
        // A removal need not say anything but its key.
        None if removed && fields.optional("b64data").is_none() => Publish::new(Payload::json("")),
        _ => Publish::new(payload(fields)?),
    };
    if removed {
        publish = publish.removed();
    }
    if let Some(ttl) = fields.optional("ttl") {
        publish = publish.ttl(self::ttl(ttl)?);
    }
    if let Some(version) = version(fields)? {
        publish = publish.version(version);
    }
    if let Some(key) = fields.text("key")? {
        publish = publish.key(key);
    }
    if let Some(key) = fields.text("idempotency_key")? {
        if key.len() > IDEMPOTENCY_KEY_MAX {
            let value = fields.required("idempotency_key")?;
            return Err(value.refuse(&format!("has {} bytes, at most {IDEMPOTENCY_KEY_MAX} are allowed", key.len())));
        }
        publish = publish.idempotency_key(key);
    }
    if let Some(given) = fields.optional("tags") {
        let tags = given.entries()?.into_iter().map(|(name, value)| Ok((name, value.text()?.into_owned())));
        publish = publish.tags(tags.collect::<Result<Tags, Refusal>>()?);
    }
    if let Some(given) = fields.optional("except") {
        publish = publish.except(except(given)?);
    }
    // A hint how to encode: its type is checked, and not following it changes no publication.
    fields.flag("delta")?;
    Ok(if fields.flag("skip_history")? { publish.skip_history() } else { publish })
}

/// How long it is kept: seconds as a number, or a text with a unit, as Go writes durations.
fn ttl(value: &Value<'_>) -> Result<Duration, Refusal> {
    let wrong =
        || value.refuse("is no duration").hint("seconds as a whole number, or a text such as \"500ms\", \"90s\", \"10m\" or \"24h\"");
    let ttl = if value.json().starts_with('"') {
        let text = value.text()?;
        let unit_at = text.find(|byte: char| !byte.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, unit) = text.split_at(unit_at);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(wrong()),
        };
        Duration::from_millis(number.checked_mul(millis).ok_or_else(wrong)?)
    } else {
        Duration::from_secs(value.number()?)
    };
    match ttl {
        Duration::ZERO => Err(value.refuse("must be greater than 0")),
        ttl if ttl > TTL_MAX => Err(value.refuse("is longer than a year")),
        ttl => Ok(ttl),
    }
}

/// Which version it is; 0 is none, as in Centrifugo.
fn version(fields: &Fields<'_>) -> Result<Option<Version>, Refusal> {
    let number: u64 = fields.optional("version").map_or(Ok(0), Value::number)?;
    let epoch = fields.text("version_epoch")?.filter(|epoch| !epoch.is_empty());
    match (number, epoch) {
        (0, None) => Ok(None),
        (0, Some(_)) => Err(fields.required("version_epoch")?.refuse("says nothing without a version of at least 1")),
        (number, None) => Ok(Some(Version::new(number))),
        (number, Some(epoch)) => Ok(Some(Version::new(number).epoch(&*epoch))),
    }
}

/// Who does not get it. An empty text is nobody, so that whoever has no session at hand need not leave the field out.
fn except(value: &Value<'_>) -> Result<Except, Refusal> {
    const WHO: [&str; 3] = ["user", "client", "session"];
    let fields = value.fields(&WHO)?;
    let given = value.entries()?;
    if !given.is_empty() && !given.iter().any(|(name, _)| WHO.contains(&name.as_str())) {
        // A misspelt name would send it to those who must not get it.
        return Err(value.refuse("names nobody").hint("except has user and session, each one text or a list of them"));
    }
    let mut except = Except::nobody();
    for user in one_or_more(&fields, "user")? {
        except = except.user(&*user.text()?);
    }
    for name in ["client", "session"] {
        for id in one_or_more(&fields, name)? {
            except = except.session(target::session(&id)?);
        }
    }
    Ok(except)
}

/// The texts of a field that is one text or a list of them, without empty ones.
fn one_or_more<'a>(fields: &Fields<'a>, name: &str) -> Result<Vec<Value<'a>>, Refusal> {
    let Some(value) = fields.optional(name) else { return Ok(Vec::new()) };
    let mut values = value.one_or_more()?;
    check_count(value, values.len(), EXCEPT_MAX)?;
    values.retain(|value| value.json() != "\"\"");
    Ok(values)
}

/// The data as it was written, or the bytes of `b64data`, which wins as in Centrifugo.
fn payload(fields: &Fields<'_>) -> Result<Payload, Refusal> {
    if let Some(bytes) = base64(fields, "b64data")? {
        return Ok(Payload::binary(bytes));
    }
    // `null` is data.
    let data = fields.raw("data").ok_or_else(|| fields.missing("data"))?;
    if broker_protocol::holds_reserved_key(data.json().as_bytes()) {
        let refusal = data.refuse("has the key broker at its top level, which is reserved");
        return Err(refusal.hint("clients that read raw frames would take it for a frame of the broker itself: wrap it, or rename the key"));
    }
    // Copied, so that a small publication does not keep a large request alive.
    Ok(Payload::json(Bytes::copy_from_slice(data.json().as_bytes())))
}

/// The bytes of a field in base64, if it is there.
pub(super) fn base64(fields: &Fields<'_>, name: &str) -> Result<Option<Vec<u8>>, Refusal> {
    let (Some(encoded), Some(value)) = (fields.text(name)?, fields.optional(name)) else { return Ok(None) };
    STANDARD.decode(&*encoded).map(Some).map_err(|_| value.refuse("is not base64 with its standard alphabet and padding"))
}

#[cfg(test)]
mod tests {
    use broker_core::RefusalKind;

    use super::{
        super::{Call, testing::*},
        *,
    };

    #[track_caller]
    fn published(body: &str) -> PublishCall {
        match read("publish", body).unwrap() {
            Call::Publish(call) => call,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn data_is_kept_as_it_was_written() {
        let call = published(r#"{"channel":"a:1","data":{"n": 1.0e0, "n":2,"s":"\u00e9"}, "unknown":[{}]}"#);
        assert_eq!(call.topic.as_str(), "a:1");
        assert_eq!(call.publish.data, Payload::json(r#"{"n": 1.0e0, "n":2,"s":"\u00e9"}"#));
        assert_eq!(published(r#"{"channel":"a","data":null}"#).publish.data, Payload::json("null"));
        assert_eq!(published("{\"channel\":\"a\",\"data\":[1,\n2]}").publish.data, Payload::json("[1,\n2]"));
    }

    #[test]
    fn binary_data_is_given_in_base64_and_wins() {
        assert_eq!(published(r#"{"channel":"a","data":{},"b64data":"AP8="}"#).publish.data, Payload::binary(&[0_u8, 255][..]));
        check("publish", r#"{"channel":"a","b64data":"A"}"#, "b64data is not base64 with its standard alphabet and padding", Some(25));
    }

    #[test]
    fn options_of_a_publish_are_passed_on() {
        let body = r#"{"channel":"a","data":1,"key":"k","idempotency_key":"i","tags":{"year":"2026"},"skip_history":true,"delta":true}"#;
        let publish = published(body).publish;
        assert_eq!((publish.key.as_deref(), publish.idempotency_key.as_deref()), (Some("k"), Some("i")));
        assert_eq!(publish.tags.unwrap().get("year").map(String::as_str), Some("2026"));
        assert!(publish.skip_history);
        let empty = published(r#"{"channel":"a","data":1,"key":"","idempotency_key":null,"tags":{},"skip_history":false}"#).publish;
        assert!(empty.key.is_none() && empty.idempotency_key.is_none() && empty.tags.is_none() && !empty.skip_history);
    }

    #[test]
    fn a_wrong_type_is_named_by_its_path() {
        check("publish", "{}", "channel is missing", None);
        check("publish", r#"{"channel":null,"data":1}"#, "channel is missing", None);
        check("publish", r#"{"channel":"a"}"#, "data is missing", None);
        check("publish", r#"{"channel":7,"data":1}"#, "channel must be a string, not a number", Some(11));
        check("publish", r#"{"channel":"","data":1}"#, "channel is no topic: the topic is empty", Some(11));
        check("publish", r#"{"channel":"a","channel":"b","data":1}"#, "channel stands twice", Some(25));
        check("publish", r#"{"channel":"\ud800","data":1}"#, "channel has an escape that is no character", Some(11));
        check("publish", r#"{"channel":"a","data":1,"tags":{"year":2026}}"#, "tags.year must be a string, not a number", Some(39));
        check("publish", r#"{"channel":"a","data":1,"tags":[]}"#, "tags must be an object, not an array", Some(31));
        check("publish", r#"{"channel":"a","data":1,"skip_history":"yes"}"#, "skip_history must be a boolean, not a string", Some(39));
        check("publish", r#"{"channel":"a","data":1,"delta":1}"#, "delta must be a boolean, not a number", Some(32));
        check("broadcast", r#"{"channels":"a","data":1}"#, "channels must be an array, not a string", Some(12));
        check("broadcast", r#"{"channels":[],"data":1}"#, "channels names no topic", Some(12));
        check("broadcast", r#"{"channels":["a",2],"data":1}"#, "channels[1] must be a string, not a number", Some(17));
        check("broadcast", r#"{"channels":["a"]}"#, "data is missing", None);
    }

    #[test]
    fn the_key_that_is_reserved_is_refused() {
        let expected = "data has the key broker at its top level, which is reserved";
        check("publish", r#"{"channel":"a","data":{"a":1,"broker":"gap"}}"#, expected, Some(22));
        check("publish", r#"{"channel":"a","data":{"\u0062roker":1}}"#, expected, Some(22));
        check("broadcast", r#"{"channels":["a"],"data":{"broker":1}}"#, expected, Some(25));
        published(r#"{"channel":"a","data":{"a":{"broker":1}}}"#);
        published(r#"{"channel":"a","data":"broker"}"#);
    }

    #[test]
    fn what_is_given_by_default_is_nothing() {
        published(r#"{"channel":"a","data":1,"version":0,"version_epoch":"","ttl":null,"except":{},"report":false}"#);
    }

    #[test]
    fn a_report_is_of_publications_to_topics() {
        assert!(published(r#"{"channel":"a","data":1,"report":true}"#).report);
        assert!(!published(r#"{"channel":"a","data":1,"report":null}"#).report);
        check("publish", r#"{"channel":"a","data":1,"report":"yes"}"#, "report must be a boolean, not a string", Some(33));
        let refusal = read("send", r#"{"user":"a","data":1,"report":true}"#).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::NotAvailable);
    }

    #[test]
    fn ttl_version_and_removal_are_passed_on() {
        for (ttl, millis) in [("5", 5_000), (r#""500ms""#, 500), (r#""90s""#, 90_000), (r#""10m""#, 600_000), (r#""24h""#, 86_400_000)] {
            let publish = published(&format!(r#"{{"channel":"a","data":1,"ttl":{ttl}}}"#)).publish;
            assert_eq!(publish.ttl, Some(Duration::from_millis(millis)), "{ttl}");
        }
        for ttl in [r#""5""#, r#""s""#, r#""-1s""#, r#""1d""#, r#""99999999999999999999s""#, r#""1.5s""#] {
            check("publish", &format!(r#"{{"channel":"a","data":1,"ttl":{ttl}}}"#), "ttl is no duration", Some(30));
        }
        check("publish", r#"{"channel":"a","data":1,"ttl":0}"#, "ttl must be greater than 0", Some(30));
        check("publish", r#"{"channel":"a","data":1,"ttl":99999999}"#, "ttl is longer than a year", Some(30));
        let version = |fields: &str| published(&format!(r#"{{"channel":"a","data":1,{fields}}}"#)).publish.version.map(|version| *version);
        assert_eq!(version(r#""version":3"#), Some(Version::new(3)));
        assert_eq!(version(r#""version":3,"version_epoch":"x""#), Some(Version::new(3).epoch("x")));
        let nothing = "version_epoch says nothing without a version of at least 1";
        check("publish", r#"{"channel":"a","data":1,"version_epoch":"x"}"#, nothing, Some(40));
        let removal = published(r#"{"channel":"a","key":"k","removed":true}"#).publish;
        assert!(removal.removed && removal.data.is_empty());
        let removal = published(r#"{"channel":"a","key":"k","removed":true,"data":{"by":"u"}}"#).publish;
        assert!(removal.removed && removal.data == Payload::json(r#"{"by":"u"}"#));
        check("publish", r#"{"channel":"a","removed":1,"data":1}"#, "removed must be a boolean, not a number", Some(25));
    }

    #[test]
    fn who_is_left_out_is_named_alone_or_in_a_list() {
        const ID: &str = "6f1c2f7e-8a43-4c7b-9d52-0b1f6f1c2f7e";
        let left_out = |method: &str, except: &str| {
            let body = format!(r#"{{"channel":"a","channels":["a"],"user":"u","data":1,"except":{except}}}"#);
            let publish = match read(method, &body).unwrap() {
                Call::Publish(call) => call.publish,
                Call::Broadcast(call) => call.publish,
                Call::Send(call) => call.publish,
                other => panic!("{other:?}"),
            };
            publish.except.as_deref().cloned()
        };
        let session = Except::nobody().session(ID.parse().unwrap());
        for method in ["publish", "broadcast", "send"] {
            assert_eq!(left_out(method, r#"{"user":"a"}"#), Some(Except::nobody().user("a")));
            assert_eq!(left_out(method, &format!(r#"{{"session":"{ID}"}}"#)), Some(session.clone()));
            assert_eq!(left_out(method, &format!(r#"{{"client":["{ID}"],"user":["a","b"]}}"#)), Some(session.clone().user("a").user("b")));
            assert_eq!(left_out(method, r#"{"user":"","session":[]}"#), None);
        }
        let refused = |except: &str, message: &str, at: usize| {
            check("publish", &format!(r#"{{"channel":"a","data":1,"except":{except}}}"#), message, Some(at));
        };
        refused(r#""a""#, "except must be an object, not a string", 33);
        refused(r#"{"users":["a"]}"#, "except names nobody", 33);
        refused(r#"{"user":7}"#, "except.user must be a string or an array of strings, not a number", 41);
        refused(r#"{"user":["a",7]}"#, "except.user[1] must be a string, not a number", 46);
        refused(r#"{"session":"7"}"#, "except.session is no session: a session id is a UUID, as it was received", 44);
        let many = vec![r#""a""#; EXCEPT_MAX + 1].join(",");
        let refusal = read("publish", &format!(r#"{{"channel":"a","data":1,"except":{{"user":[{many}]}}}}"#)).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::LimitExceeded);
    }

    #[test]
    fn what_goes_to_no_topic_has_no_idempotency_key() {
        let send =
            |whom: &str| read("send", &format!(r#"{{{whom},"data":1,"idempotency_key":"k"}}"#)).map(|_| ()).map_err(|refusal| refusal.kind);
        for topic in [r#""user":"a""#, r#""group":"a""#, r#""to":{"channel":"a"}"#] {
            assert_eq!(send(topic), Ok(()), "{topic}");
        }
        for other in [r#""session":"6f1c2f7e-8a43-4c7b-9d52-0b1f6f1c2f7e""#, r#""to":{"any":[{"user":"a"},{"user":"b"}]}"#] {
            assert_eq!(send(other), Err(RefusalKind::NotAvailable), "{other}");
        }
        check("send", r#"{"data":1}"#, "the request names nobody", Some(0));
        check("send", r#"{"user":"a"}"#, "data is missing", None);
    }

    #[test]
    fn an_idempotency_key_has_a_bound() {
        let body = |len: usize| format!(r#"{{"channel":"a","data":1,"idempotency_key":"{}"}}"#, "k".repeat(len));
        published(&body(255));
        check("publish", &body(256), "idempotency_key has 256 bytes, at most 255 are allowed", Some(42));
    }

    #[test]
    fn a_name_that_is_no_topic_spoils_no_broadcast() {
        let Call::Broadcast(call) = read("broadcast", r#"{"channels":["a","b c","c"],"data":1}"#).unwrap() else { panic!() };
        assert_eq!(call.topics.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
        assert!(call.topics[1].as_ref().unwrap_err().message.starts_with("channels[1] is no topic: "));
    }

    #[test]
    fn depth_and_counts_are_bounded() {
        let nested = |levels: usize| format!(r#"{{"channel":"a","data":{}1{}}}"#, "[".repeat(levels), "]".repeat(levels));
        published(&nested(63));
        check("publish", &nested(64), "the request nests deeper than 64 levels", Some(22 + 63));
        let channels = vec![r#""a""#; ITEMS_MAX + 1].join(",");
        let refusal = read("broadcast", &format!(r#"{{"channels":[{channels}],"data":1}}"#)).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::LimitExceeded);
    }
}
