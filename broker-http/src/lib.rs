//! The server API of Broker over HTTP, its answers to health checks, and its client for browsers, as [`tower_service::Service`]s for any server.
//!
//! - [`Api`]: `POST /api/<method>`, in the shapes of Centrifugo's HTTP API.
//! - [`Health`] and [`Ready`]: `/health` and `/ready`.
//! - [`Script`] for `/broker.js`.
//!
//! No route, listener or TLS lives here, and no protocol of clients.

mod api;
mod body;
mod cors;
mod failure;
mod health;
mod script;

pub use api::{Api, ApiKeys, ApiOptions, METHODS, TicketMaker};
pub use body::ResponseBody;
pub use cors::Origins;
pub use health::{Health, Ready};
pub use script::Script;
