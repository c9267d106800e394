//! The engine of Broker: topics, sessions, fan-out, history, presence.
//!
//! No wire format, socket or HTTP lives here: protocols and transports come from outside, through [`Protocol`], [`Framing`] and [`Outlet`].

mod authorizer;
mod close_reason;
mod head;
mod identity;
mod namespace;
mod outlet;
mod payload;
mod position;
mod protocol;
mod publication;
mod refusal;
mod session;
mod topic;

pub use authorizer::{Authorizer, ByNamespace, Decision, Verb, Verbs};
pub use close_reason::CloseReason;
pub use head::Head;
pub use identity::{Identity, InvalidSessionId, SessionId, SessionInfo, UserId};
pub use namespace::{Namespace, Namespaces, Recovery, SlowConsumer};
pub use outlet::Outlet;
pub use payload::{Payload, PayloadKind};
pub use position::{Epoch, InvalidPosition, Position, Since};
pub use protocol::{CloseFrame, FrameKind, FrameWriter, Framing, Inbound, Protocol};
pub use publication::{Publication, Publish, Tags, unix_ms};
pub use refusal::{Refusal, RefusalKind};
pub use session::{
    Command, CommandId, Connect, Connected, Gap, GapReason, Push, Reply, Request, Resume, Subscribe, Subscribed, UnsubscribeReason,
};
pub use topic::{InvalidTopic, Topic};
