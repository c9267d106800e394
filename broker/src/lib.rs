//! Live topics inside your own service: publish from any handler, subscribe from any browser.
//!
//! ```no_run
//! use std::time::Duration;
//! use axum::{Router, extract::State, routing::post};
//! use broker::{Broker, Identity, Namespace, Verb};
//!
//! #[tokio::main]
//! async fn main() -> anyhow::Result<()> {
//!     let chat = Namespace::default().history(100, Duration::from_secs(3600)).allow(Verb::Subscribe);
//!     let broker = Broker::builder()
//!         .on_connect(|request| async move { Ok(Identity::user(request.head.cookie("user").unwrap_or_default())) })
//!         .namespace("chat", chat.allow_anonymous())
//!         .build()?;
//!     let app = Router::new().nest_service("/live", broker.service()).route("/say", post(say)).with_state(broker.clone());
//!     let stop = async move { tokio::signal::ctrl_c().await.ok(); broker.drain(Duration::from_secs(10)).await };
//!     axum::serve(tokio::net::TcpListener::bind("127.0.0.1:3000").await?, app).with_graceful_shutdown(stop).await?;
//!     Ok(())
//! }
//!
//! async fn say(State(broker): State<Broker>, text: String) {
//!     let lobby = broker.topic::<String>("chat:lobby").expect("the name is legal");
//!     lobby.publish(&text).await.ok();
//! }
//! ```
//!
//! In the browser, without an SDK: `new WebSocket("ws://127.0.0.1:3000/live/ws/chat:lobby").onmessage = (event) => console.log(event.data)`.
//!
//! # Topics and namespaces
//!
//! A [`Topic`] is a name to publish to and to listen on. The text before its first `:` selects a [`Namespace`], which says how much history is
//! kept, who may do what, and what happens to clients that do not read. A topic needs no creation; a namespace that nobody configured does
//! not exist.
//!
//! # Ways in for clients
//!
//! - [`Broker::service`]: a [`tower_service::Service`] for axum, hyper and everything that speaks tower, under any prefix.
//! - [`Broker::serve`]: a listener, no framework; with the feature `tls`, [`serve_tls`](Broker::serve_tls) for `wss://`.
//! - [`Broker::accept`]: any pipe that is upgraded already.
//! - [`Broker::connect_local`]: a client without a socket, for tests.
//!
//! [`Script`] serves the client for browsers; route it beside the sockets, as `/live/broker.js` in the program above.
//!
//! # Who is it?
//!
//! The hook [`Builder::on_connect`] sees the request's [`Head`], with the host's own cookies, and answers with an [`Identity`] or a [`Refusal`].
//! Where the host's middleware left something in the request's extensions, it is found in [`Head::original`], an [`http::request::Parts`].
//! A browser tells the page's origin: pages of the same host may connect, others need [`Builder::allow_origin`].
//!
//! # Where does it come from?
//!
//! [`Head::peer`] is the client's address. Behind a proxy that is the proxy's, unless [`Builder::trusted_proxies`] names it: then
//! `X-Forwarded-For` and its kind are believed. Behind axum, [`Builder::peer_from`] takes the address from where axum put it. Each address has
//! its [`ConnectRate`] and its places for connections that have not said who they are ([`WsLimits`]).
//!
//! # Inside the process
//!
//! [`Broker::publish`] from any task. [`Broker::subscribe`] is a bounded stream of publications and gaps. [`Broker::topic`] gives a handle
//! whose publications are values of a type of yours.
//!
//! # Many nodes
//!
//! Where one process is not enough, give every node the same Redis (feature `redis`): `Broker::builder().redis(&redis)`. A publish on one node reaches the
//! subscribers of all of them, and a client resumes at any of them what it missed at another.
//!
//! # After the commit
//!
//! What is published from a handler that also writes to a database belongs into the same transaction: the module `outbox` (feature `outbox`, SQLite
//! with `outbox-sqlite`) stages it there, and publishes it when the transaction has been committed.
//!
//! # The end
//!
//! [`Broker::drain`] closes connections with 3001, spread over time, so that their clients connect elsewhere. Frameworks do not wait for
//! WebSockets: drain inside their shutdown, as above.

mod broker;
mod builder;
mod local;
#[cfg(feature = "outbox")]
pub mod outbox;
#[cfg(feature = "redis")]
mod redis;
mod service;
#[cfg(feature = "json")]
mod typed;

pub use broker_core::{
    Action, Authorizer, Backplane, ByNamespace, CallRequest, Capability, CloseReason, Connect, ConnectRequest, ControlBus, ControlError,
    Decision, Disconnected, Engine, Epoch, Except, Filter, FilterNode, Gap, GapReason, Grant, GroupCount, Head, HistoryError, HistoryPage,
    HistoryQuery, Identity, InvalidFilter, InvalidPattern, InvalidPosition, InvalidTenant, InvalidTopic, Kept, Member, MemoryRegistry,
    MessageRequest, Namespace, Namespaces, NodeInfo, Payload, PayloadKind, Position, Presence, PresenceError, PresenceStats, Priority,
    Publication, Publish, PublishError, PublishRequest, Published, Rate, RateSet, Rates, Recovery, RefreshRequest, Refusal, RefusalKind,
    Registry, Renewal, Revocation, Revoked, Selection, Sent, ServerSubscription, SessionId, SessionInfo, SessionReport, Sessions, Settings,
    Since, SlowConsumer, SnapshotFailed, StateRequest, StateRows, Stats, StreamItem, Subject, Subscribe, SubscribeError, SubscribeRequest,
    Tags, Target, TargetSet, Tenant, Topic, TopicCount, TopicPattern, TopicStream, UserId, UserSessions, Verb, Verbs, Version,
};
pub use broker_http::{Origins, Script};
pub use broker_protocol::Format;
#[cfg(feature = "redis")]
pub use broker_redis::{
    AboutNode, Health as RedisHealth, InvalidPrefix as InvalidRedisPrefix, InvalidUrl as InvalidRedisUrl, KnownNode,
    Options as RedisOptions, RedisBackplane, RedisNode, Servers as RedisServers,
};
pub use broker_ws::{ClientAddress, ConnectRate, ForwardedHeader, Gate, InvalidProxy, Peer, TrustedProxies, WsLimits};
#[cfg(feature = "tls")]
pub use broker_ws::{Tls, TlsCaution, TlsError};

pub use self::{
    broker::Broker,
    builder::{BuildError, Builder},
    local::{LocalClient, LocalPublication, LocalRefused},
    service::{
        BrokerService, ResponseBody,
        origin::InvalidOrigin,
        refusals::refusal_response,
        routes::{InvalidRoute, Route},
    },
};
#[cfg(feature = "redis")]
pub use redis::Redis;
#[cfg(feature = "json")]
pub use typed::{PublishValueError, TypedItem, TypedStream, TypedTopic};
