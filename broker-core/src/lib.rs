//! The engine of Broker: topics, sessions, fan-out, history, presence.
//!
//! No wire format, socket or HTTP lives here: protocols and transports come from outside, through [`Protocol`], [`Framing`] and [`Outlet`].
//! Most programs depend on the facade `broker` instead, which puts this together with the protocols and transports.
//!
//! ```
//! use std::time::Duration;
//! use broker_core::{Engine, Namespace, Payload, Publish, StreamItem, Topic};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let engine = Engine::builder()
//!     .namespace("prices", Namespace::default().history(100, Duration::from_secs(60)))
//!     .build()?;
//! let topic: Topic = "prices:7".parse()?;
//! let mut prices = engine.subscribe(&topic)?;
//! assert!(matches!(prices.next().await, Some(StreamItem::Live { .. })));
//!
//! let published = engine.publish(&topic, Publish::new(Payload::json(r#"{"price":42}"#))).await?;
//! assert_eq!(published.position.map(|position| position.offset), Some(1));
//! assert!(matches!(prices.next().await, Some(StreamItem::Publication(_))));
//! # Ok(())
//! # }
//! ```

mod authorizer;
mod backplane;
mod builder;
mod close_reason;
mod connection;
mod control;
mod engine;
mod head;
mod hooks;
mod hub;
mod identity;
mod keep;
mod memory;
mod namespace;
mod outlet;
mod panics;
mod pattern;
mod payload;
mod position;
mod presence;
#[cfg(test)]
mod properties;
mod protocol;
mod publication;
mod rates;
mod refusal;
mod registry;
mod selection;
mod session;
mod sessions;
mod settings;
mod stats;
mod stream;
mod subject;
mod sync;
mod target;
#[cfg(feature = "testing")]
pub mod testing;
mod topic;

pub use authorizer::{Authorizer, ByNamespace, Decision, Verb, Verbs};
pub use backplane::{
    Announcement, Backplane, Capabilities, LogPage, LogQuery, PublishFailed, Published, Sink, StatePage, StateQuery, Unavailable,
};
pub use builder::{BuildError, EngineBuilder};
pub use close_reason::CloseReason;
pub use connection::{Connection, OpenRefused, Opening};
pub use control::{
    Act, ControlAnswer, ControlAnswers, ControlBus, ControlNode, ControlQuestion, NodeInfo, NodeProbe, NodeProbes, SessionReport,
    TopicCount,
};
pub use engine::{Engine, HistoryError, HistoryPage, HistoryQuery, PresenceError, PublishError, StateRequest, StateRows, SubscribeError};
pub use head::Head;
pub use hooks::{
    Action, CallRequest, ConnectRequest, Disconnected, Grant, MessageRequest, PublishRequest, RefreshRequest, Renewal, SnapshotFailed,
    SubscribeRequest,
};
pub use hub::{PublishReport, Start};
pub use identity::{Identity, InvalidSessionId, ServerSubscription, SessionId, SessionInfo, UserId};
pub use keep::{Bound, Full, Keep, KeepState, Kept};
pub use memory::{MemoryBackplane, MemoryControl, MemoryPresence, MemoryRegistry};
pub use namespace::{Namespace, Namespaces, Priority, Recovery, SlowConsumer};
pub use outlet::Outlet;
pub use pattern::{InvalidPattern, TopicPattern};
pub use payload::{Payload, PayloadKind};
pub use position::{Epoch, InvalidPosition, Position, Since};
pub use presence::{Arrival, Departure, Presence, PresenceStats};
pub use protocol::{CloseFrame, FrameKind, FrameWriter, Framing, Inbound, Protocol};
pub use publication::{Publication, Publish, Tags, Version, unix_ms};
pub use rates::{Rate, RateSet, Rates};
pub use refusal::{Refusal, RefusalKind};
pub use registry::{Member, Registry, Revocation, Revoked};
pub use selection::{Filter, FilterNode, InvalidFilter, Selection};
pub use session::{
    Command, CommandId, Connect, Connected, Cursor, Gap, GapReason, Push, Reply, Request, Resume, Subscribe, Subscribed, UnsubscribeReason,
};
pub use sessions::{ControlError, GroupCount, Sent, Sessions, UserSessions};
pub use settings::Settings;
pub use stats::{Count, Latency, Stats};
pub use stream::{StreamItem, TopicStream};
pub use subject::{Capability, Subject};
pub use target::{Except, Target, TargetSet};
pub use topic::{InvalidTenant, InvalidTopic, Tenant, Topic};
