//! What is done with sessions that are open: `subscribe`, `unsubscribe`, `disconnect`, `refresh`, `revoke`, `connections`.

use std::{
    borrow::Cow,
    time::{Duration, SystemTime},
};

use broker_core::{Payload, Refusal, Revocation, Revoked, ServerSubscription, SessionId, Since, Target, Topic};
use broker_protocol::codes;
use bytes::Bytes;

use super::{ITEMS_MAX, check_count, entries_max, publish::base64, refuse_later, since, target, topic};
use crate::api::json::{Fields, Value};

/// The code of a disconnect that names none: the client stays away.
const FORCE_DISCONNECT: u16 = 3503;

/// The code of a disconnect that says only when to come back.
const FORCE_RECONNECT: u16 = 3011;

/// The longest time after which a client is asked to come back. Clients' timers count to some 24 days, and begin anew beyond.
const RECONNECT_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);

/// Subscribe sessions to a topic.
#[derive(Debug)]
pub(crate) struct SubscribeCall {
    pub(crate) target: Target,
    pub(crate) subscription: ServerSubscription,
    /// Where they go on; `None`: with what comes.
    pub(crate) since: Option<Since>,
}

/// End sessions' subscription to a topic.
#[derive(Debug)]
pub(crate) struct UnsubscribeCall {
    pub(crate) target: Target,
    pub(crate) topic: Topic,
}

/// Close sessions.
#[derive(Debug)]
pub(crate) struct DisconnectCall {
    pub(crate) target: Target,
    pub(crate) code: u16,
    pub(crate) reason: Cow<'static, str>,
    pub(crate) reconnect_after: Option<Duration>,
    /// Sessions that stay.
    pub(crate) whitelist: Vec<SessionId>,
}

/// Change how long sessions' credentials hold.
#[derive(Debug)]
pub(crate) struct RefreshCall {
    pub(crate) target: Target,
    pub(crate) refreshed: Refreshed,
}

/// How long credentials hold from here on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Refreshed {
    /// They have ended.
    Expired,
    /// Until then.
    Until(SystemTime),
    /// For as long as the session.
    Forever,
}

/// Tell what is known of sessions.
#[derive(Debug)]
pub(crate) struct ConnectionsCall {
    pub(crate) target: Target,
    pub(crate) limit: usize,
}

impl SubscribeCall {
    pub(super) fn read(arguments: &Value<'_>) -> Result<Self, Refusal> {
        let fields = arguments.fields(&["channel", "info", "b64info", "data", "b64data", "recover_since", "override", "expire_at"])?;
        refuse_later(&fields, &["override", "expire_at"])?;
        let mut subscription = ServerSubscription::new(topic(&fields)?);
        if let Some(info) = info(&fields)? {
            subscription = subscription.topic_info(info);
        }
        if let Some(data) = data(&fields)? {
            subscription = subscription.data(data);
        }
        let since = fields.optional("recover_since").map(since).transpose()?;
        Ok(Self { target: target::whom(arguments)?, subscription, since })
    }
}

/// What others see beside the sessions in the topic, as it was written or in base64, which wins as in Centrifugo.
fn info(fields: &Fields<'_>) -> Result<Option<Bytes>, Refusal> {
    if let (Some(json), Some(value)) = (base64(fields, "b64info")?, fields.optional("b64info")) {
        let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(&json).is_ok();
        return if is_json { Ok(Some(json.into())) } else { Err(value.refuse("does not decode to one JSON value")) };
    }
    Ok(fields.optional("info").map(|value| Bytes::copy_from_slice(value.json().as_bytes())))
}

/// What the client is sent with its subscription.
fn data(fields: &Fields<'_>) -> Result<Option<Payload>, Refusal> {
    if let Some(bytes) = base64(fields, "b64data")? {
        return Ok(Some(Payload::binary(bytes)));
    }
    Ok(fields.optional("data").map(|value| Payload::json(Bytes::copy_from_slice(value.json().as_bytes()))))
}

impl UnsubscribeCall {
    pub(super) fn read(arguments: &Value<'_>) -> Result<Self, Refusal> {
        let topic = topic(&arguments.fields(&["channel"])?)?;
        Ok(Self { target: target::whom(arguments)?, topic })
    }
}

impl DisconnectCall {
    pub(super) fn read(arguments: &Value<'_>) -> Result<Self, Refusal> {
        let fields = arguments.fields(&["code", "reason", "disconnect", "reconnect_after_ms", "whitelist"])?;
        let reconnect_after = fields.optional("reconnect_after_ms").map(reconnect_after).transpose()?;
        let (code, reason) = match fields.optional("disconnect") {
            Some(disconnect) => {
                if let Some(beside) = fields.optional("code").or(fields.optional("reason")) {
                    return Err(beside.refuse("stands beside disconnect, which has it too"));
                }
                close(&disconnect.fields(&["code", "reason"])?)?
            }
            None => close(&fields)?,
        };
        let code = code.unwrap_or(if reconnect_after.is_some() { FORCE_RECONNECT } else { FORCE_DISCONNECT });
        Ok(Self {
            target: target::whom(arguments)?,
            code,
            reason: reason.map_or_else(|| text_of(code), Cow::Owned),
            reconnect_after,
            whitelist: whitelist(&fields)?,
        })
    }
}

/// The code and the text of a close; 0 and an empty text count as absent.
fn close(fields: &Fields<'_>) -> Result<(Option<u16>, Option<String>), Refusal> {
    let code = match fields.optional("code") {
        Some(value) => match value.number::<u64>()? {
            0 => None,
            code @ 3000..=4999 => Some(code as u16),
            _ => return Err(value.refuse("is no close code of the server's, they are 3000 to 4999")),
        },
        None => None,
    };
    Ok((code, fields.text("reason")?.map(Cow::into_owned)))
}

/// The text that goes with a code of the broker's own.
fn text_of(code: u16) -> Cow<'static, str> {
    codes::CLOSES.iter().find(|close| close.number == code).map_or("", |close| close.text).into()
}

fn reconnect_after(value: &Value<'_>) -> Result<Duration, Refusal> {
    let after = Duration::from_millis(value.number()?);
    if after > RECONNECT_AFTER_MAX {
        return Err(value.refuse(&format!("is more than a day, at most {} are allowed", RECONNECT_AFTER_MAX.as_millis())));
    }
    Ok(after)
}

fn whitelist(fields: &Fields<'_>) -> Result<Vec<SessionId>, Refusal> {
    let Some(value) = fields.optional("whitelist") else { return Ok(Vec::new()) };
    let elements = value.elements()?;
    check_count(value, elements.len(), ITEMS_MAX)?;
    elements.iter().map(target::session).collect()
}

impl RefreshCall {
    pub(super) fn read(arguments: &Value<'_>) -> Result<Self, Refusal> {
        let fields = arguments.fields(&["expired", "expire_at", "info"])?;
        refuse_later(&fields, &["info"])?;
        let end = fields.optional("expire_at").map(moment).transpose()?;
        let refreshed = match end {
            _ if fields.flag("expired")? => Refreshed::Expired,
            // As Centrifugo has it: no end, or 0, is none.
            None | Some(SystemTime::UNIX_EPOCH) => Refreshed::Forever,
            Some(end) => Refreshed::Until(end),
        };
        Ok(Self { target: target::whom(arguments)?, refreshed })
    }
}

/// A moment in whole seconds of Unix time.
fn moment(value: &Value<'_>) -> Result<SystemTime, Refusal> {
    let since = Duration::from_secs(value.number()?);
    SystemTime::UNIX_EPOCH.checked_add(since).ok_or_else(|| value.refuse("is further away than time is counted; it is in seconds"))
}

/// How far the clock of a backend may be ahead.
const CLOCKS_MAX: Duration = Duration::from_secs(300);

/// Whose credentials hold no more: those of one user, one token or one group.
pub(super) fn revocation(arguments: &Value<'_>) -> Result<Revocation, Refusal> {
    let fields = arguments.fields(&["user", "token_id", "group", "before", "tenant"])?;
    let tenant = target::tenant(&fields)?;
    let mut named = Vec::new();
    if let Some(user) = fields.text("user")? {
        named.push(Revoked::User((&*user).into()));
    }
    if let Some(id) = fields.text("token_id")? {
        named.push(Revoked::Token(id.into()));
    }
    if let (Some(name), Some(value)) = (fields.text("group")?, fields.optional("group")) {
        target::group_topic(value, tenant.as_ref())?;
        named.push(Revoked::Group(name.into()));
    }
    let whose = match (named.pop(), named.is_empty()) {
        (Some(whose), true) => whose,
        (Some(_), false) => return Err(arguments.refuse("must name one of user, token_id and group")),
        (None, _) => return Err(arguments.refuse("names nobody").hint("send user, token_id or group")),
    };
    let revocation = Revocation::now(whose).tenant(tenant);
    let Some(value) = fields.optional("before") else { return Ok(revocation) };
    let before = moment(value)?;
    if before > SystemTime::now() + CLOCKS_MAX {
        // Milliseconds taken for seconds would lock the user out for thousands of years.
        return Err(value.refuse("is in the future; it is in seconds of Unix time").hint("leave it out for the present"));
    }
    Ok(revocation.before(before))
}

impl ConnectionsCall {
    pub(super) fn read(arguments: &Value<'_>) -> Result<Self, Refusal> {
        Ok(Self { target: target::whom(arguments)?, limit: entries_max(&arguments.fields(&["limit"])?)? })
    }
}

#[cfg(test)]
mod tests {
    use broker_core::{Position, RefusalKind};

    use super::{
        super::{Call, testing::*},
        *,
    };

    const ID: &str = "6f1c2f7e-8a43-4c7b-9d52-0b1f6f1c2f7e";

    #[test]
    fn a_subscription_is_described_as_in_centrifugo() {
        let subscribed = |options: &str| match read("subscribe", &format!(r#"{{"user":"a","channel":"b"{options}}}"#)).unwrap() {
            Call::Subscribe(call) => call,
            other => panic!("{other:?}"),
        };
        let call = subscribed(r#","info":{"n": 1},"data":[1],"recover_since":{"offset":7,"epoch":"Bx3k"},"override":{},"expire_at":0"#);
        assert_eq!((call.target, call.subscription.topic.as_str()), (Target::user("a"), "b"));
        assert_eq!(call.subscription.topic_info.as_deref(), Some(&br#"{"n": 1}"#[..]));
        assert_eq!(call.subscription.data, Some(Payload::json("[1]")));
        assert_eq!(call.since, Some(Since::Position(Position { offset: 7, epoch: "Bx3k".parse().unwrap() })));
        let call = subscribed(r#","info":1,"b64info":"eyJuIjoxfQ==","data":1,"b64data":"AP8=","recover_since":{"offset":0,"epoch":""}"#);
        assert_eq!(call.subscription.topic_info.as_deref(), Some(&br#"{"n":1}"#[..]));
        assert_eq!((call.subscription.data, call.since), (Some(Payload::binary(&[0_u8, 255][..])), Some(Since::Beginning)));
        let call = subscribed("");
        assert!(call.subscription.topic_info.is_none() && call.subscription.data.is_none() && call.since.is_none());
        check("subscribe", r#"{"user":"a"}"#, "channel is missing", None);
        check("subscribe", r#"{"channel":"a"}"#, "the request names nobody", Some(0));
        check("subscribe", r#"{"user":"a","channel":"b","b64info":"eyI="}"#, "b64info does not decode to one JSON value", Some(36));
        for field in [r#""override":{"presence":{"value":true}}"#, r#""expire_at":7"#] {
            let refusal = read("subscribe", &format!(r#"{{"user":"a","channel":"b",{field}}}"#)).unwrap_err();
            assert_eq!(refusal.kind, RefusalKind::NotAvailable, "{field}");
        }
    }

    #[test]
    fn a_disconnect_has_code_and_reason_in_either_form() {
        let check = |options: &str, code: u16, reason: &str, after_ms: Option<u64>, whitelisted: usize| {
            let Call::Disconnect(call) = read("disconnect", &format!(r#"{{"user":"a"{options}}}"#)).unwrap() else { panic!() };
            let given = (call.code, &*call.reason, call.reconnect_after, call.whitelist.len());
            assert_eq!(given, (code, reason, after_ms.map(Duration::from_millis), whitelisted), "{options}");
        };
        check("", 3503, "force disconnect", None, 0);
        check(r#","disconnect":{"code":0,"reason":""},"whitelist":[]"#, 3503, "force disconnect", None, 0);
        check(r#","reconnect_after_ms":1500"#, 3011, "force reconnect", Some(1500), 0);
        check(r#","code":3001"#, 3001, "shutdown", None, 0);
        check(r#","code":4321,"reason":"moved","reconnect_after_ms":0"#, 4321, "moved", Some(0), 0);
        check(&format!(r#","disconnect":{{"code":4500}},"whitelist":["{ID}"]"#), 4500, "", None, 1);
    }

    #[test]
    fn a_disconnect_that_is_wrong_is_named_by_its_path() {
        check("disconnect", "{}", "the request names nobody", Some(0));
        check("disconnect", r#"{"user":"a","code":"4000"}"#, "code must be a whole number, not a string", Some(19));
        let code = "is no close code of the server's, they are 3000 to 4999";
        check("disconnect", r#"{"user":"a","code":1000}"#, &format!("code {code}"), Some(19));
        check("disconnect", r#"{"user":"a","disconnect":{"code":70000}}"#, &format!("disconnect.code {code}"), Some(33));
        check("disconnect", r#"{"user":"a","disconnect":{},"code":4000}"#, "code stands beside disconnect, which has it too", Some(35));
        check("disconnect", r#"{"user":"a","disconnect":4000}"#, "disconnect must be an object, not a number", Some(25));
        check(
            "disconnect",
            r#"{"user":"a","whitelist":["x"]}"#,
            "whitelist[0] is no session: a session id is a UUID, as it was received",
            Some(25),
        );
        let late = "reconnect_after_ms is more than a day, at most 86400000 are allowed";
        check("disconnect", r#"{"user":"a","reconnect_after_ms":86400001}"#, late, Some(33));
    }

    #[test]
    fn a_refresh_ends_at_a_second_or_never_or_at_once() {
        let check = |options: &str, expected: Refreshed| {
            let Call::Refresh(call) = read("refresh", &format!(r#"{{"user":"a"{options}}}"#)).unwrap() else { panic!() };
            assert_eq!(call.refreshed, expected, "{options}");
        };
        check("", Refreshed::Forever);
        check(r#","expire_at":0,"expired":false"#, Refreshed::Forever);
        check(r#","expire_at":1700000000"#, Refreshed::Until(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)));
        check(r#","expire_at":1700000000,"expired":true"#, Refreshed::Expired);
        super::super::testing::check("refresh", r#"{"user":"a","expire_at":-1}"#, "expire_at must not be negative", Some(24));
        let far = "expire_at is further away than time is counted; it is in seconds";
        super::super::testing::check("refresh", &format!(r#"{{"user":"a","expire_at":{}}}"#, u64::MAX), far, Some(24));
        assert_eq!(read("refresh", r#"{"user":"a","info":{"n":1}}"#).unwrap_err().kind, RefusalKind::NotAvailable);
    }

    #[test]
    fn a_revocation_means_one_user_token_or_group() {
        let revoked = |body: &str| match read("revoke", body).unwrap() {
            Call::Revoke(revocation) => (revocation.whose, revocation.tenant, revocation.before),
            other => panic!("{other:?}"),
        };
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        assert_eq!(revoked(r#"{"user":"a","before":1700000000}"#), (Revoked::User("a".into()), None, at));
        assert_eq!(revoked(r#"{"token_id":"t","before":1700000000}"#), (Revoked::Token("t".into()), None, at));
        let group = revoked(r#"{"group":"g","tenant":"acme","before":1700000000}"#);
        assert_eq!(group, (Revoked::Group("g".into()), Some("acme".parse().unwrap()), at));
        let earliest = SystemTime::now();
        assert!(revoked(r#"{"user":"a"}"#).2 >= earliest, "it is what was issued up to now");
        check("revoke", r#"{"user":""}"#, "the request names nobody", Some(0));
        check("revoke", r#"{"user":"a","group":"g"}"#, "the request must name one of user, token_id and group", Some(0));
        check("revoke", r#"{"group":""}"#, "the request names nobody", Some(0));
        check("revoke", r#"{"user":"a","before":1700000000000}"#, "before is in the future; it is in seconds of Unix time", Some(21));
        check("revoke", r#"{"user":"a","before":"now"}"#, "before must be a whole number, not a string", Some(21));
    }
}
