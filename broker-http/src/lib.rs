//! The server API of Broker over HTTP, and its answers to health checks, as [`tower_service::Service`]s for any server.
//!
//! - [`Api`]: `POST /api/<method>`, in the shapes of Centrifugo's HTTP API.
//! - [`Health`] and [`Ready`]: `/health` and `/ready`.
//!
//! No route, listener or TLS lives here, and no protocol of clients.

mod api;
mod body;
mod cors;
mod failure;
mod health;

pub use api::{Api, ApiKeys, ApiOptions, METHODS, TicketMaker};
pub use body::ResponseBody;
pub use cors::Origins;
pub use health::{Health, Ready};
