//! What a request of the server API asks: from the JSON of its body to checked values, by method. Nothing is done here.

mod application;
mod batch;
mod groups;
mod publish;
mod read;
mod sessions;
mod target;

use broker_core::{Epoch, Position, Refusal, RefusalKind, Revocation, Since, Topic};

pub(crate) use self::{
    application::{RpcCall, TicketCall},
    batch::BatchCall,
    groups::{GroupsCall, MembershipCall},
    publish::{BroadcastCall, PublishCall, SendCall},
    read::{ChannelsCall, HistoryCall, StateCall},
    sessions::{ConnectionsCall, DisconnectCall, RefreshCall, Refreshed, SubscribeCall, UnsubscribeCall},
};
use super::{
    json::{Fields, Value},
    method::Method,
};

/// Most topics of one broadcast, commands of one batch, entries of one answer.
pub(crate) const ITEMS_MAX: usize = 10_000;

/// What is asked.
#[derive(Debug)]
pub(crate) enum Call {
    Publish(PublishCall),
    Broadcast(BroadcastCall),
    Send(SendCall),
    Subscribe(SubscribeCall),
    Unsubscribe(UnsubscribeCall),
    Disconnect(DisconnectCall),
    Refresh(RefreshCall),
    Revoke(Revocation),
    GroupJoin(MembershipCall),
    GroupLeave(MembershipCall),
    GroupMembers(Topic),
    Groups(GroupsCall),
    Connections(ConnectionsCall),
    Presence(Topic),
    PresenceStats(Topic),
    History(HistoryCall),
    HistoryRemove(Topic),
    State(StateCall),
    Channels(ChannelsCall),
    Info,
    Probe,
    Batch(BatchCall),
    Ticket(TicketCall),
    Rpc(RpcCall),
}

impl Call {
    /// Whether its result can be much longer than its request.
    pub(crate) fn reads(&self) -> bool {
        matches!(
            self,
            Self::Presence(_)
                | Self::History(_)
                | Self::State(_)
                | Self::Channels(_)
                | Self::Info
                | Self::Probe
                | Self::GroupMembers(_)
                | Self::Groups(_)
                | Self::Connections(_)
                | Self::Rpc(_)
        )
    }

    /// Reads the arguments of a method.
    pub(crate) fn read(method: Method, arguments: &Value<'_>) -> Result<Self, Refusal> {
        match method {
            Method::Publish => PublishCall::read(arguments).map(Self::Publish),
            Method::Broadcast => BroadcastCall::read(arguments).map(Self::Broadcast),
            Method::Send => SendCall::read(arguments).map(Self::Send),
            Method::Subscribe => SubscribeCall::read(arguments).map(Self::Subscribe),
            Method::Unsubscribe => UnsubscribeCall::read(arguments).map(Self::Unsubscribe),
            Method::Disconnect => DisconnectCall::read(arguments).map(Self::Disconnect),
            Method::Refresh => RefreshCall::read(arguments).map(Self::Refresh),
            Method::Revoke => sessions::revocation(arguments).map(Self::Revoke),
            Method::GroupJoin => MembershipCall::read(arguments).map(Self::GroupJoin),
            Method::GroupLeave => MembershipCall::read(arguments).map(Self::GroupLeave),
            Method::GroupMembers => groups::one_group(arguments).map(Self::GroupMembers),
            Method::Groups => GroupsCall::read(arguments).map(Self::Groups),
            Method::Connections => ConnectionsCall::read(arguments).map(Self::Connections),
            Method::Presence => one_topic(arguments).map(Self::Presence),
            Method::PresenceStats => one_topic(arguments).map(Self::PresenceStats),
            Method::History => HistoryCall::read(arguments).map(Self::History),
            Method::HistoryRemove => one_topic(arguments).map(Self::HistoryRemove),
            Method::State => StateCall::read(arguments).map(Self::State),
            Method::Channels => ChannelsCall::read(arguments).map(Self::Channels),
            Method::Info => arguments.fields(&[]).map(|_| Self::Info),
            Method::Probe => arguments.fields(&[]).map(|_| Self::Probe),
            Method::Batch => BatchCall::read(arguments).map(Self::Batch),
            Method::Ticket => TicketCall::read(arguments).map(Self::Ticket),
            Method::Rpc => RpcCall::read(arguments).map(Self::Rpc),
        }
    }
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

/// Most entries of an answer: what was asked for, or [`ITEMS_MAX`].
fn entries_max(fields: &Fields<'_>) -> Result<usize, Refusal> {
    let limit = fields.optional("limit").map_or(Ok(0), Value::number)?;
    Ok(if limit == 0 { ITEMS_MAX } else { ITEMS_MAX.min(limit) })
}

fn check_count(array: &Value<'_>, len: usize, max: usize) -> Result<(), Refusal> {
    if len <= max {
        return Ok(());
    }
    let mut refusal = array.refuse(&format!("has {len} elements, at most {max} are allowed"));
    refusal.kind = RefusalKind::LimitExceeded;
    Err(refusal)
}

/// Refuses what is asked for and cannot be done: left out silently, the caller would rely on it.
fn refuse_later(fields: &Fields<'_>, names: &[&'static str]) -> Result<(), Refusal> {
    const DEFAULTS: [&str; 5] = ["0", "false", "\"\"", "{}", "[]"];
    for name in names {
        if let Some(value) = fields.optional(name).filter(|value| !DEFAULTS.contains(&value.json())) {
            return Err(not_available(value.refuse("is not in this version")).hint(format!("leave {name} out")));
        }
    }
    Ok(())
}

fn not_available(mut refusal: Refusal) -> Refusal {
    refusal.kind = RefusalKind::NotAvailable;
    refusal
}

#[cfg(test)]
mod testing {
    //! What the tests of each topic ask with.

    use super::*;

    pub(super) fn read(method: &str, body: &str) -> Result<Call, Refusal> {
        let body = Value::whole(body.as_bytes()).unwrap();
        body.check_depth()?;
        Call::read(Method::named(method).unwrap(), &body)
    }

    /// Checks how a request is refused: kind, message, byte.
    #[track_caller]
    pub(super) fn check(method: &str, body: &str, message: &str, at: Option<usize>) {
        let refusal = read(method, body).unwrap_err();
        assert_eq!((refusal.kind, &*refusal.message, refusal.at), (RefusalKind::BadRequest, message, at), "{body}");
    }
}
