//! The methods of the server API by name, and what is said about names that there are not.

use broker_core::{Refusal, RefusalKind};

/// A method that is served.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Method {
    Publish,
    Broadcast,
    Send,
    Subscribe,
    Unsubscribe,
    Disconnect,
    Refresh,
    Revoke,
    GroupJoin,
    GroupLeave,
    GroupMembers,
    Groups,
    Connections,
    Presence,
    PresenceStats,
    History,
    HistoryRemove,
    State,
    Channels,
    Info,
    Probe,
    Batch,
    Ticket,
    Rpc,
}

/// The names of the methods that are served, in the order of the documentation.
pub const METHODS: [&str; 24] = [
    "publish",
    "broadcast",
    "send",
    "subscribe",
    "unsubscribe",
    "disconnect",
    "refresh",
    "revoke",
    "group_join",
    "group_leave",
    "group_members",
    "groups",
    "connections",
    "presence",
    "presence_stats",
    "history",
    "history_remove",
    "state",
    "channels",
    "info",
    "probe",
    "batch",
    "ticket",
    "rpc",
];

impl Method {
    /// The method of this name, or why there is none.
    pub(crate) fn named(name: &str) -> Result<Self, Refusal> {
        Ok(match name {
            "publish" => Self::Publish,
            "broadcast" => Self::Broadcast,
            "send" => Self::Send,
            "subscribe" => Self::Subscribe,
            "unsubscribe" => Self::Unsubscribe,
            "disconnect" => Self::Disconnect,
            "refresh" => Self::Refresh,
            "revoke" => Self::Revoke,
            "group_join" => Self::GroupJoin,
            "group_leave" => Self::GroupLeave,
            "group_members" => Self::GroupMembers,
            "groups" => Self::Groups,
            "connections" => Self::Connections,
            "presence" => Self::Presence,
            "presence_stats" => Self::PresenceStats,
            "history" => Self::History,
            "history_remove" => Self::HistoryRemove,
            "state" => Self::State,
            "channels" => Self::Channels,
            "info" => Self::Info,
            "probe" => Self::Probe,
            "batch" => Self::Batch,
            "ticket" => Self::Ticket,
            "rpc" => Self::Rpc,
            _ => return Err(unknown(name)),
        })
    }

    /// The name in paths and in batches.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Broadcast => "broadcast",
            Self::Send => "send",
            Self::Subscribe => "subscribe",
            Self::Unsubscribe => "unsubscribe",
            Self::Disconnect => "disconnect",
            Self::Refresh => "refresh",
            Self::Revoke => "revoke",
            Self::GroupJoin => "group_join",
            Self::GroupLeave => "group_leave",
            Self::GroupMembers => "group_members",
            Self::Groups => "groups",
            Self::Connections => "connections",
            Self::Presence => "presence",
            Self::PresenceStats => "presence_stats",
            Self::History => "history",
            Self::HistoryRemove => "history_remove",
            Self::State => "state",
            Self::Channels => "channels",
            Self::Info => "info",
            Self::Probe => "probe",
            Self::Batch => "batch",
            Self::Ticket => "ticket",
            Self::Rpc => "rpc",
        }
    }
}

fn unknown(name: &str) -> Refusal {
    if name.is_empty() {
        return Refusal::new(RefusalKind::UnknownAction, "the path names no method").hint(all());
    }
    // What the caller wrote is cut: it comes back in the answer.
    let shown: String = name.chars().take(64).collect();
    let near = METHODS.into_iter().max_by(|a, b| similarity(name, a).total_cmp(&similarity(name, b)));
    let hint = near.filter(|near| similarity(name, near) >= 0.7).map_or_else(all, |near| format!("did you mean {near}?"));
    Refusal::new(RefusalKind::UnknownAction, format!("there is no method {shown}")).hint(hint)
}

/// 0 to 1; a name that is too long to be a typing error is not compared.
fn similarity(name: &str, known: &str) -> f64 {
    if name.len() > 64 { 0.0 } else { strsim::normalized_damerau_levenshtein(&name.to_ascii_lowercase().replace('-', "_"), known) }
}

fn all() -> String {
    format!("the methods are {}", METHODS.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_has_one_name() {
        for name in METHODS {
            assert_eq!(Method::named(name).unwrap().name(), name);
        }
    }

    #[test]
    fn a_name_that_is_not_served_is_explained() {
        let check = |name: &str, message: &str, hint: &str| {
            let refusal = Method::named(name).unwrap_err();
            assert_eq!((refusal.kind, &*refusal.message), (RefusalKind::UnknownAction, message));
            assert!(refusal.hint.as_deref().unwrap().starts_with(hint), "{name}: {refusal:?}");
        };
        check("publsh", "there is no method publsh", "did you mean publish?");
        check("Publish", "there is no method Publish", "did you mean publish?");
        check("presence-stats", "there is no method presence-stats", "did you mean presence_stats?");
        check("frobnicate", "there is no method frobnicate", "the methods are publish, ");
        check("group-join", "there is no method group-join", "did you mean group_join?");
        check("", "the path names no method", "the methods are publish, ");
    }
}
