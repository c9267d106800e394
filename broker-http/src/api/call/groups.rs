//! Groups and who is in them: `group_join`, `group_leave`, `group_members`, `groups`.

use broker_core::{Refusal, Target, Tenant, Topic};

use super::{entries_max, read::pattern, target};
use crate::api::{json::Value, pattern::Pattern};

/// Bring a user or a session into a group, or out of it.
#[derive(Debug)]
pub(crate) struct MembershipCall {
    /// The group's name; inside the tenant, where the user or session has one.
    pub(crate) group: String,
    /// A user or a session.
    pub(crate) who: Target,
}

/// List groups that have sessions.
#[derive(Debug)]
pub(crate) struct GroupsCall {
    pub(crate) pattern: Option<Pattern>,
    pub(crate) limit: usize,
    /// Whose groups; `None`: those of no tenant.
    pub(crate) tenant: Option<Tenant>,
}

impl MembershipCall {
    pub(super) fn read(arguments: &Value<'_>) -> Result<Self, Refusal> {
        let fields = arguments.fields(&["group", "tenant"])?;
        let group = fields.required("group")?;
        let who = target::member(arguments)?;
        target::group_topic(group, target::tenant(&fields)?.as_ref())?;
        Ok(Self { group: group.text()?.into_owned(), who })
    }
}

impl GroupsCall {
    pub(super) fn read(arguments: &Value<'_>) -> Result<Self, Refusal> {
        let fields = arguments.fields(&["pattern", "limit", "tenant"])?;
        Ok(Self { pattern: pattern(&fields)?, limit: entries_max(&fields)?, tenant: target::tenant(&fields)? })
    }
}

/// The topic of the group that the request names.
pub(super) fn one_group(arguments: &Value<'_>) -> Result<Topic, Refusal> {
    let fields = arguments.fields(&["group", "tenant"])?;
    target::group_topic(fields.required("group")?, target::tenant(&fields)?.as_ref())
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Call, testing::*},
        *,
    };

    #[test]
    fn a_membership_has_a_group_and_one_user_or_session() {
        let joined = |body: &str| match read("group_join", body).unwrap() {
            Call::GroupJoin(call) => (call.group, call.who),
            other => panic!("{other:?}"),
        };
        let id = "6f1c2f7e-8a43-4c7b-9d52-0b1f6f1c2f7e";
        assert_eq!(joined(r#"{"group":"g","user":"a"}"#), ("g".to_owned(), Target::user("a")));
        for name in ["session", "client"] {
            assert_eq!(joined(&format!(r#"{{"group":"g","{name}":"{id}"}}"#)).1, Target::Session(id.parse().unwrap()));
        }
        let of_acme = Target::User { user: "a".into(), tenant: Some("acme".parse().unwrap()) };
        assert_eq!(joined(r#"{"group":"g","user":"a","tenant":"acme"}"#).1, of_acme);
        for method in ["group_join", "group_leave"] {
            check(method, r#"{"user":"a"}"#, "group is missing", None);
            check(method, r#"{"group":"g"}"#, "the request names nobody", Some(0));
            check(method, r#"{"group":["g"],"user":"a"}"#, "group must be a string, not an array", Some(9));
            let both = format!(r#"{{"group":"g","user":"a","session":"{id}"}}"#);
            check(method, &both, "the request must name either a user or a session", Some(0));
        }
    }

    #[test]
    fn a_group_has_a_name_that_makes_a_topic() {
        let Call::GroupMembers(topic) = read("group_members", r#"{"group":"g","tenant":"acme"}"#).unwrap() else { panic!() };
        assert_eq!(topic.as_str(), "tenant:acme/group:g");
        let wildcard = "group is no group: byte 7 of the topic is a wildcard; a topic is one name, not a pattern";
        check("group_members", r#"{"group":"g*"}"#, wildcard, Some(9));
        check("group_members", "{}", "group is missing", None);
        check("groups", r#"{"pattern":"a["}"#, "pattern has a [ that is not closed", Some(11));
        check("groups", r#"{"limit":"3"}"#, "limit must be a whole number, not a string", Some(9));
    }
}
