//! Redis backplane for Broker: any number of nodes behind a load balancer act as one.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use broker_core::Engine;
//! use broker_redis::{Options, RedisBackplane};
//!
//! # async fn program() -> Result<(), Box<dyn std::error::Error>> {
//! let redis = RedisBackplane::connect(Options::new("redis://127.0.0.1:6379".parse()?))?;
//! let engine = Engine::builder().backplane(Arc::new(redis)).build()?;
//! # Ok(())
//! # }
//! ```
//!
//! # What is promised
//!
//! A publish that was answered has been appended and sent by Redis, in one step. `(topic, epoch, offset)` names one publication for ever: every script
//! begins by asking Redis for its `master_replid`, so that a Redis that came back older, or a replica that was promoted with a lag, is a new
//! epoch, and every client is told. Losses on the way are noticed within two seconds and read from the log, for all listeners of the node at once.
//! Why it is built like this, and what was measured, stands in docs/decisions/0019-redis.md.
//!
//! # Where things are
//!
//! `backplane` puts the parts together. A publish goes through `publishing` and `lua/publish.lua`, a read through `reading` and `lua/history.lua` or
//! `lua/state.lua`; all begin with `lua/fence.lua`. What comes goes through `bus` and `follow`. `tops` and `probe` find what did not come, `refill` has it read. Which server
//! has what, for one server, Sentinel and Cluster alike, is known by `topology`; calls find their way in `servers`. `checks` looks at how servers are configured.
//!
//! # Servers
//!
//! One server (Redis 6.2 or later, Valkey), the primary that Sentinel watches, or a cluster (Redis 7.0 or later); see [`Servers`], which is read from a URL.
//! A primary that is replaced is followed within the time that Sentinel or the cluster take for it: publishes wait for at most
//! [`Options::publish_timeout`] and are safe to retry with their idempotency key, listeners read what they missed or are told.

mod answers;
mod backplane;
mod bus;
mod calls;
mod checks;
mod control;
mod entry;
mod failure;
mod follow;
mod frame;
mod health;
mod keys;
mod listener;
mod node;
mod nodes;
mod options;
mod presence;
mod probe;
mod publishing;
mod reading;
mod refill;
mod registry;
mod reports;
mod script;
mod servers;
mod topology;
mod tops;
mod url;

pub use backplane::RedisBackplane;
pub use broker_resp::LinkState;
pub use checks::{Finding, Severity};
pub use control::{ControlStats, RedisControl};
pub use health::Health;
pub use keys::InvalidPrefix;
pub use node::RedisNode;
pub use nodes::{AboutNode, KnownNode, NodeOptions, Standing};
#[cfg(feature = "tls")]
pub use options::{Ca, InvalidCa};
pub use options::{Options, Servers};
pub use presence::RedisPresence;
pub use registry::RedisRegistry;
pub use url::InvalidUrl;
