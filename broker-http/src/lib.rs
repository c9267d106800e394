//! The server API of Broker over HTTP, its answers to health checks, and its client for browsers, as [`tower_service::Service`]s for any server; and
//! server-sent events.
//!
//! - [`Api`]: `POST /api/<method>`, in the shapes of Centrifugo's HTTP API.
//! - [`Health`] and [`Ready`]: `/health` and `/ready`.
//! - [`Script`] for `/broker.js`.
//! - [`sse_body`]: a connection of the engine as a stream of events, in an answer of [`sse_response`].
//!
//! No route, listener or TLS lives here, and no protocol of clients.

mod api;
mod body;
mod cors;
mod failure;
mod health;
mod script;
mod sse;

pub use api::{Api, ApiKeys, ApiOptions, METHODS, TicketMaker};
pub use body::ResponseBody;
pub use cors::Origins;
pub use health::{Health, Ready};
pub use script::Script;
pub use sse::{Line, RETRY, SseBody, SseTopics, is_sse_asked_for, preflight as sse_preflight, sse_body, sse_response};
