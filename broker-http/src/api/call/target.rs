//! Whom a request means: `user`, `client`, `group`, `to`, and the targets within `to`.

use broker_core::{InvalidTenant, InvalidTopic, Refusal, SessionId, Target, TargetSet, Tenant, Topic};

use crate::api::json::{Fields, Value};

/// The fields of a request that name whom it means.
const WHOM: [&str; 6] = ["user", "client", "session", "group", "to", "tenant"];

/// The fields of a target.
const TARGET: [&str; 9] = ["user", "client", "session", "group", "channel", "tenant", "any", "all", "except"];

/// Whom the request means: who is named by each of its fields, so that a `client` beside a `user` narrows it.
pub(super) fn whom(arguments: &Value<'_>) -> Result<Target, Refusal> {
    let fields = arguments.fields(&WHOM)?;
    let mut named = named(&fields)?;
    if let Some(to) = fields.optional("to") {
        named.push(target(to)?);
    }
    match named.len() {
        0 => Err(arguments.refuse("names nobody").hint("send user, client or group, or a target as to")),
        1 => Ok(named.remove(0)),
        _ => Ok(Target::all(named)),
    }
}

/// A user or a session, one of them.
pub(super) fn member(arguments: &Value<'_>) -> Result<Target, Refusal> {
    let fields = arguments.fields(&["user", "client", "session", "tenant"])?;
    let mut named = named(&fields)?;
    match (named.pop(), named.is_empty()) {
        (None, _) => Err(arguments.refuse("names nobody").hint("send user or session")),
        (Some(member), true) => Ok(member),
        (Some(_), false) => Err(arguments.refuse("must name either a user or a session")),
    }
}

fn target(value: &Value<'_>) -> Result<Target, Refusal> {
    let fields = value.fields(&TARGET)?;
    let mut named = named(&fields)?;
    if let Some(channel) = given(&fields, "channel")? {
        named.push(Target::Topic(channel.topic()?));
    }
    let is_set = ["any", "all", "except"].iter().any(|name| fields.optional(name).is_some());
    match (named.pop(), named.is_empty() && !is_set) {
        (None, _) if is_set => set(value, &fields).map(Target::Set),
        (None, _) => Err(value.refuse("names nobody").hint("a target has user, session, group or channel, or any, all and except")),
        (Some(target), true) => Ok(target),
        (Some(_), false) => Err(value.refuse("must be one target").hint("targets that all have to mean a session stand in all: [..]")),
    }
}

fn set(value: &Value<'_>, fields: &Fields<'_>) -> Result<TargetSet, Refusal> {
    let targets = |name: &str| match fields.optional(name) {
        Some(value) => value.elements()?.iter().map(target).collect::<Result<Vec<_>, _>>(),
        None => Ok(Vec::new()),
    };
    let mut set = TargetSet::default();
    (set.any, set.all, set.except) = (targets("any")?, targets("all")?, targets("except")?);
    match fields.optional("any").filter(|_| set.any.is_empty()) {
        // Any of nobody is nobody: passed on, it would mean everybody that `all` means.
        Some(any) => Err(any.refuse("names nobody").hint("leave any out where all decides")),
        None if set.all.is_empty() && set.any.is_empty() => Err(value.refuse("names nobody").hint("put a target into any or all")),
        None => Ok(set),
    }
}

/// What the fields `user`, `client`, `session` and `group` name.
fn named(fields: &Fields<'_>) -> Result<Vec<Target>, Refusal> {
    let tenant = tenant(fields)?;
    let mut named = Vec::new();
    if let Some(user) = fields.text("user")? {
        named.push(Target::User { user: (&*user).into(), tenant: tenant.clone() });
    }
    if let Some(topic) = group(fields, tenant.as_ref())? {
        named.push(Target::Topic(topic));
    }
    if let (Some(given), true) = (fields.optional("tenant").filter(|_| tenant.is_some()), named.is_empty()) {
        return Err(given.refuse("says whose user or group is meant, and none is named beside it"));
    }
    for name in ["client", "session"] {
        if let Some(value) = given(fields, name)? {
            named.push(Target::Session(session(value)?));
        }
    }
    Ok(named)
}

/// The topic of the group that `group` names, where it is a field of these.
fn group(fields: &Fields<'_>, tenant: Option<&Tenant>) -> Result<Option<Topic>, Refusal> {
    if !fields.knows("group") {
        return Ok(None);
    }
    given(fields, "group")?.map(|value| group_topic(value, tenant)).transpose()
}

/// The topic of a group, by the group's name.
pub(super) fn group_topic(value: &Value<'_>, tenant: Option<&Tenant>) -> Result<Topic, Refusal> {
    let topic = Topic::group(&value.text()?).and_then(|topic| match tenant {
        Some(tenant) => topic.in_tenant(tenant),
        None => Ok(topic),
    });
    topic.map_err(|error: InvalidTopic| value.refuse(&format!("is no group: {error}")))
}

/// Whose user or group is meant; `None`: of no tenant.
pub(super) fn tenant(fields: &Fields<'_>) -> Result<Option<Tenant>, Refusal> {
    let Some(value) = given(fields, "tenant")? else { return Ok(None) };
    value.text()?.parse().map(Some).map_err(|error: InvalidTenant| value.refuse(&format!("is no tenant: {error}")))
}

/// A session, by its id.
pub(super) fn session(value: &Value<'_>) -> Result<SessionId, Refusal> {
    value.text()?.parse().map_err(|error| value.refuse(&format!("is no session: {error}")))
}

/// A string that is there and not empty.
fn given<'f, 'a>(fields: &'f Fields<'a>, name: &str) -> Result<Option<&'f Value<'a>>, Refusal> {
    Ok(fields.text(name)?.and_then(|_| fields.optional(name)))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Call, testing::*},
        *,
    };

    const ID: &str = "6f1c2f7e-8a43-4c7b-9d52-0b1f6f1c2f7e";

    #[track_caller]
    fn meant(whom: &str, expected: Target) {
        let Call::Unsubscribe(call) = read("unsubscribe", &format!(r#"{{"channel":"a",{whom}}}"#)).unwrap() else { panic!() };
        assert_eq!(call.target, expected, "{whom}");
    }

    fn in_acme(name: &str) -> Target {
        Target::Topic(format!("tenant:acme/{name}").parse().unwrap())
    }

    #[test]
    fn one_field_names_a_target_and_each_more_narrows_it() {
        let session = || Target::Session(ID.parse().unwrap());
        meant(r#""user":"ris1""#, Target::user("ris1"));
        meant(r#""user":"ris1","client":"","session":null"#, Target::user("ris1"));
        meant(&format!(r#""user":"","client":"{ID}""#), session());
        meant(&format!(r#""session":"{ID}""#), session());
        meant(r#""group":"ocs_ris""#, Target::group("ocs_ris").unwrap());
        meant(&format!(r#""user":"ris1","client":"{ID}""#), Target::all([Target::user("ris1"), session()]));
        meant(r#""user":"a","tenant":"acme""#, Target::User { user: "a".into(), tenant: Some("acme".parse().unwrap()) });
        meant(r#""group":"g","tenant":"acme""#, in_acme("group:g"));
    }

    #[test]
    fn a_target_stands_in_to() {
        let user = Target::user;
        meant(r#""to":{"user":"a"}"#, user("a"));
        meant(&format!(r#""to":{{"session":"{ID}"}}"#), Target::Session(ID.parse().unwrap()));
        meant(r#""to":{"channel":"tenant:acme/orders:7"}"#, in_acme("orders:7"));
        meant(r#""to":{"group":"g","tenant":"acme"}"#, in_acme("group:g"));
        meant(r#""user":"a","to":{"channel":"b"}"#, Target::all([user("a"), Target::Topic("b".parse().unwrap())]));
        let set = Target::any([Target::group("r").unwrap(), Target::all([user("a"), user("b")])]).except([user("c")]);
        meant(r#""to":{"any":[{"group":"r"},{"all":[{"user":"a"},{"user":"b"}]}],"except":[{"user":"c"}]}"#, set);
    }

    #[test]
    fn a_target_that_is_wrong_is_named_by_its_path() {
        let check = |whom: &str, message: &str| {
            let refusal = read("unsubscribe", &format!(r#"{{"channel":"a",{whom}}}"#)).unwrap_err();
            assert_eq!((refusal.kind, &*refusal.message), (broker_core::RefusalKind::BadRequest, message), "{whom}");
        };
        check(r#""user":"""#, "the request names nobody");
        check(r#""user":7"#, "user must be a string, not a number");
        check(r#""client":"7""#, "client is no session: a session id is a UUID, as it was received");
        check(
            r#""group":"a b""#,
            "group is no group: byte 7 of the topic is 0x20; only printable ASCII without spaces is allowed, percent-encode the rest",
        );
        check(r#""user":"a","tenant":"a/b""#, "tenant is no tenant: a tenant's name has 1 to 64 letters, digits, `-`, `_` or `.`");
        check(&format!(r#""client":"{ID}","tenant":"acme""#), "tenant says whose user or group is meant, and none is named beside it");
        check(r#""to":"ris1""#, "to must be an object, not a string");
        check(r#""to":{}"#, "to names nobody");
        check(r#""to":{"user":"a","group":"b"}"#, "to must be one target");
        check(r#""to":{"user":"a","except":[{"user":"b"}]}"#, "to must be one target");
        check(r#""to":{"user":"a","any":[{"user":"b"}]}"#, "to must be one target");
        check(r#""to":{"any":{}}"#, "to.any must be an array, not an object");
        check(r#""to":{"any":[]}"#, "to.any names nobody");
        check(r#""to":{"any":[],"all":[{"user":"a"}]}"#, "to.any names nobody");
        check(r#""to":{"except":[{"user":"a"}]}"#, "to names nobody");
        check(r#""to":{"any":[{"user":"a"},{"all":[{"channel":7}]}]}"#, "to.any[1].all[0].channel must be a string, not a number");
    }
}
