//! For tests: clients without sockets, and the suites that every backplane, presence and registry passes.
//!
//! ```
//! use broker_core::{Engine, Namespace, testing::Client};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let engine = Engine::builder().default_namespace(Namespace::open()).with_settings(|s| s.anonymous = true).build()?;
//! let mut client = Client::connect(&engine).await;
//! client.subscribe("news");
//! assert_eq!(client.next().await, "subscribed news at 0");
//! # Ok(())
//! # }
//! ```

mod backplane_suite;
mod client;
mod keeping_suite;
#[cfg(all(test, broker_model))]
mod model_client;
mod presence_suite;
mod registry_suite;
mod session;

pub use backplane_suite::backplane_suite;
pub use client::{Client, LineFraming, LineProtocol};
#[cfg(all(test, broker_model))]
pub(crate) use model_client::ModelClient;
pub use presence_suite::presence_suite;
pub use registry_suite::registry_suite;
pub use session::LoneSession;
