//! What a request of the server API asks: from the JSON of its body to checked values. Nothing is done here.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use broker_core::{Epoch, Payload, Position, Publish, Refusal, RefusalKind, Since, Tags, Topic};
use bytes::Bytes;

use super::{
    json::{Fields, Value},
    method::Method,
    pattern::Pattern,
};

/// Most topics of one broadcast, commands of one batch, topics in one answer.
pub(crate) const ITEMS_MAX: usize = 10_000;

/// The longest idempotency key, in bytes.
const IDEMPOTENCY_KEY_MAX: usize = 255;

/// What is asked.
#[derive(Debug)]
pub(crate) enum Call {
    Publish(PublishCall),
    Broadcast(BroadcastCall),
    Presence(Topic),
    PresenceStats(Topic),
    History(HistoryCall),
    HistoryRemove(Topic),
    Channels(ChannelsCall),
    Info,
    Batch(BatchCall),
}

/// Send one publication to one topic.
#[derive(Debug)]
pub(crate) struct PublishCall {
    pub(crate) topic: Topic,
    pub(crate) publish: Publish,
}

/// Send one publication to several topics; what is no topic is refused alone.
#[derive(Debug)]
pub(crate) struct BroadcastCall {
    pub(crate) topics: Vec<Result<Topic, Refusal>>,
    pub(crate) publish: Publish,
}

/// Read what was sent to a topic.
#[derive(Debug)]
pub(crate) struct HistoryCall {
    pub(crate) topic: Topic,
    pub(crate) since: Option<Since>,
    /// Most publications; 0: only the position is asked. The engine has a bound of its own.
    pub(crate) limit: usize,
    pub(crate) reverse: bool,
}

/// List topics that have listeners.
#[derive(Debug)]
pub(crate) struct ChannelsCall {
    pub(crate) pattern: Option<Pattern>,
    pub(crate) limit: usize,
}

/// Do several things; what cannot be read is refused alone.
#[derive(Debug)]
pub(crate) struct BatchCall {
    pub(crate) commands: Vec<Result<(Method, Call), Refusal>>,
    /// Whether the order does not matter.
    pub(crate) parallel: bool,
}

impl Call {
    /// Whether its result can be much longer than its request.
    pub(crate) fn reads(&self) -> bool {
        matches!(self, Self::Presence(_) | Self::History(_) | Self::Channels(_) | Self::Info)
    }

    /// Reads the arguments of a method.
    pub(crate) fn read(method: Method, arguments: &Value<'_>) -> Result<Self, Refusal> {
        match method {
            Method::Publish => PublishCall::read(arguments).map(Self::Publish),
            Method::Broadcast => BroadcastCall::read(arguments).map(Self::Broadcast),
            Method::Presence => one_topic(arguments).map(Self::Presence),
            Method::PresenceStats => one_topic(arguments).map(Self::PresenceStats),
            Method::History => HistoryCall::read(arguments).map(Self::History),
            Method::HistoryRemove => one_topic(arguments).map(Self::HistoryRemove),
            Method::Channels => ChannelsCall::read(arguments).map(Self::Channels),
            Method::Info => arguments.fields(&[]).map(|_| Self::Info),
            Method::Batch => BatchCall::read(arguments).map(Self::Batch),
        }
    }
}

/// The fields of `publish`, and of `broadcast` with `channels`.
const PUBLISH: [&str; 14] = [
    "channel",
    "channels",
    "data",
    "b64data",
    "idempotency_key",
    "key",
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
    fn read(arguments: &Value<'_>) -> Result<Self, Refusal> {
        let fields = arguments.fields(&PUBLISH)?;
        Ok(Self { topic: topic(&fields)?, publish: publish(&fields)? })
    }
}

impl BroadcastCall {
    fn read(arguments: &Value<'_>) -> Result<Self, Refusal> {
        let fields = arguments.fields(&PUBLISH)?;
        let channels = fields.required("channels")?;
        let elements = channels.elements()?;
        if elements.is_empty() {
            return Err(channels.refuse("names no topic"));
        }
        check_count(channels, elements.len())?;
        // A name of the wrong type is a mistake in the request, a name that is no topic one of that topic alone.
        elements.iter().try_for_each(|name| name.text().map(|_| ()))?;
        Ok(Self { topics: elements.iter().map(Value::topic).collect(), publish: publish(&fields)? })
    }
}

impl HistoryCall {
    fn read(arguments: &Value<'_>) -> Result<Self, Refusal> {
        let fields = arguments.fields(&["channel", "limit", "since", "reverse"])?;
        let limit = match fields.optional("limit") {
            // As Centrifugo has it: -1 asks for everything.
            Some(limit) if limit.json() == "-1" => usize::MAX,
            Some(limit) => limit.number()?,
            None => 0,
        };
        let since = fields.optional("since").map(since).transpose()?;
        Ok(Self { topic: topic(&fields)?, since, limit, reverse: fields.flag("reverse")? })
    }
}

impl ChannelsCall {
    fn read(arguments: &Value<'_>) -> Result<Self, Refusal> {
        let fields = arguments.fields(&["pattern", "limit"])?;
        let pattern = match (fields.optional("pattern"), fields.text("pattern")?) {
            (Some(value), Some(text)) => Some(Pattern::parse(&text).map_err(|bad| value.refuse(&bad.message()))?),
            _ => None,
        };
        let limit = fields.optional("limit").map_or(Ok(0), Value::number)?;
        Ok(Self { pattern, limit: if limit == 0 { ITEMS_MAX } else { ITEMS_MAX.min(limit) } })
    }
}

impl BatchCall {
    fn read(arguments: &Value<'_>) -> Result<Self, Refusal> {
        let fields = arguments.fields(&["commands", "parallel"])?;
        let commands = fields.required("commands")?;
        let elements = commands.elements()?;
        check_count(commands, elements.len())?;
        Ok(Self { commands: elements.iter().map(command).collect(), parallel: fields.flag("parallel")? })
    }
}

/// One command of a batch: an object whose one field is named after the method.
fn command(command: &Value<'_>) -> Result<(Method, Call), Refusal> {
    let mut named = command.entries()?.into_iter().filter(|(_, arguments)| !arguments.is_null());
    let Some((name, arguments)) = named.next() else { return Err(command.refuse("names no method")) };
    if named.next().is_some() {
        return Err(command.refuse("must name one method alone"));
    }
    let method = Method::named(&name)?;
    if method == Method::Batch {
        return Err(arguments.refuse("is a batch within a batch"));
    }
    Ok((method, Call::read(method, &arguments)?))
}

fn check_count(array: &Value<'_>, len: usize) -> Result<(), Refusal> {
    if len <= ITEMS_MAX {
        return Ok(());
    }
    let mut refusal = array.refuse(&format!("has {len} elements, at most {ITEMS_MAX} are allowed"));
    refusal.kind = RefusalKind::LimitExceeded;
    Err(refusal)
}

fn one_topic(arguments: &Value<'_>) -> Result<Topic, Refusal> {
    topic(&arguments.fields(&["channel"])?)
}

fn topic(fields: &Fields<'_>) -> Result<Topic, Refusal> {
    fields.required("channel")?.topic()
}

fn since(value: &Value<'_>) -> Result<Since, Refusal> {
    let fields = value.fields(&["offset", "epoch"])?;
    let offset = fields.optional("offset").map_or(Ok(0), Value::number)?;
    let Some(text) = fields.text("epoch")? else {
        // An offset without its epoch may name another publication than the caller means.
        return if offset == 0 { Ok(Since::Beginning) } else { Err(fields.missing("epoch")) };
    };
    let epoch: Epoch = text.parse().map_err(|_| value.refuse("has an epoch that no answer of this server contained"))?;
    Ok(Since::Position(Position { offset, epoch }))
}

fn publish(fields: &Fields<'_>) -> Result<Publish, Refusal> {
    refuse_later(fields)?;
    let mut publish = Publish::new(payload(fields)?);
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
    // A hint how to encode: its type is checked, and not following it changes no publication.
    fields.flag("delta")?;
    Ok(if fields.flag("skip_history")? { publish.skip_history() } else { publish })
}

/// The data as it was written, or the bytes of `b64data`, which wins as in Centrifugo.
fn payload(fields: &Fields<'_>) -> Result<Payload, Refusal> {
    if let Some(encoded) = fields.text("b64data")? {
        let bytes = STANDARD.decode(&*encoded).map_err(|_| {
            let value = fields.required("b64data").expect("it was read above");
            value.refuse("is not base64 with its standard alphabet and padding")
        })?;
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

/// Refuses what is asked for and cannot be done: left out silently, the caller would rely on it.
fn refuse_later(fields: &Fields<'_>) -> Result<(), Refusal> {
    const DEFAULTS: [&str; 5] = ["0", "false", "\"\"", "{}", "[]"];
    for name in ["version", "version_epoch", "ttl", "except", "report"] {
        if let Some(value) = fields.optional(name).filter(|value| !DEFAULTS.contains(&value.json())) {
            let mut refusal = value.refuse("is not in this version");
            refusal.kind = RefusalKind::NotAvailable;
            return Err(refusal.hint(format!("leave {name} out")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: &str, body: &str) -> Result<Call, Refusal> {
        let body = Value::whole(body.as_bytes()).unwrap();
        body.check_depth()?;
        Call::read(Method::named(method).unwrap(), &body)
    }

    /// Checks how a request is refused: kind, message, byte.
    #[track_caller]
    fn check(method: &str, body: &str, message: &str, at: Option<usize>) {
        let refusal = read(method, body).unwrap_err();
        assert_eq!((refusal.kind, &*refusal.message, refusal.at), (RefusalKind::BadRequest, message, at), "{body}");
    }

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
        check("history", r#"{"channel":"a","limit":"9"}"#, "limit must be a whole number, not a string", Some(23));
        check("history", r#"{"channel":"a","limit":-2}"#, "limit must not be negative", Some(23));
        check("history", r#"{"channel":"a","limit":1.5}"#, "limit must be a whole number of at most 64 bits", Some(23));
        check("history", r#"{"channel":"a","since":"7@x"}"#, "since must be an object, not a string", Some(23));
        check("history", r#"{"channel":"a","since":{"offset":7}}"#, "since.epoch is missing", None);
        check("history", r#"{"channel":"a","since":{"offset":7,"epoch":9}}"#, "since.epoch must be a string, not a number", Some(43));
        check("channels", r#"{"pattern":"a["}"#, "pattern has a [ that is not closed", Some(11));
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
    fn what_is_asked_for_and_cannot_be_done_is_refused() {
        for field in [r#""version":3"#, r#""version_epoch":"x""#, r#""ttl":"5s""#, r#""except":{"user":"a"}"#, r#""report":true"#] {
            let refusal = read("publish", &format!(r#"{{"channel":"a","data":1,{field}}}"#)).unwrap_err();
            assert_eq!(refusal.kind, RefusalKind::NotAvailable, "{field}");
            assert!(refusal.message.ends_with(" is not in this version"), "{refusal:?}");
        }
        published(r#"{"channel":"a","data":1,"version":0,"version_epoch":"","ttl":null,"except":{},"report":false}"#);
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
    fn history_is_asked_as_in_centrifugo() {
        let check = |body: &str, since: Option<Since>, limit: usize, reverse: bool| {
            let Call::History(call) = read("history", body).unwrap() else { panic!() };
            assert_eq!((call.since, call.limit, call.reverse), (since, limit, reverse), "{body}");
        };
        let position = Since::Position(Position { offset: 7, epoch: "Bx3k".parse().unwrap() });
        check(r#"{"channel":"a"}"#, None, 0, false);
        check(r#"{"channel":"a","limit":-1,"reverse":true}"#, None, usize::MAX, true);
        check(r#"{"channel":"a","limit":5,"since":{"offset":7,"epoch":"Bx3k"}}"#, Some(position), 5, false);
        check(r#"{"channel":"a","limit":5,"since":{"offset":0,"epoch":""}}"#, Some(Since::Beginning), 5, false);
    }

    #[test]
    fn a_command_that_cannot_be_read_spoils_no_batch() {
        let body = r#"{"parallel":true,"commands":[{"publish":{"channel":"a","data":1}},{"publish":{"channel":7}},{"frobnicate":{}},
            {},7,{"info":{},"channels":{}},{"batch":{}},{"disconnect":{"user":"x"}},{"info":{},"publish":null}]}"#;
        let Call::Batch(call) = read("batch", body).unwrap() else { panic!() };
        let messages: Vec<_> =
            call.commands.iter().map(|command| command.as_ref().map_err(|refusal| &*refusal.message).map(|(method, _)| *method)).collect();
        assert!(call.parallel);
        assert_eq!(
            messages,
            [
                Ok(Method::Publish),
                Err("commands[1].publish.channel must be a string, not a number"),
                Err("there is no method frobnicate"),
                Err("commands[3] names no method"),
                Err("commands[4] must be an object, not a number"),
                Err("commands[5] must name one method alone"),
                Err("commands[6].batch is a batch within a batch"),
                Err("the method disconnect is not in this version"),
                Ok(Method::Info),
            ]
        );
        check("batch", r#"{"commands":{}}"#, "commands must be an array, not an object", Some(12));
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
