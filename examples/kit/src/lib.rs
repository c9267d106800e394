//! What the applications under `examples/` share and what is not the library's: how they start, and what their pages are made of.
//!
//! ```no_run
//! use axum::{Router, routing::get};
//! use broker::{Namespace, Verb};
//! use kit::{App, File, NoFlags, Pages};
//!
//! const FILES: &[File] = &[File::html("/", "<!doctype html><title>Hello</title>")];
//!
//! #[tokio::main]
//! async fn main() -> anyhow::Result<()> {
//!     kit::run("hello", async |node, _: NoFlags| {
//!         let open = Namespace::default().allow(Verb::Subscribe).allow_anonymous();
//!         let broker = node.builder().anonymous().default_namespace(open).build()?;
//!         let router = Router::new().route("/hello", get(async || "hello")).merge(Pages::new(FILES).router());
//!         Ok(App::new(broker, router))
//!     })
//!     .await
//! }
//! ```
//!
//! `cargo run -p hello` is one node at `127.0.0.1:3000`; `cargo run -p hello -- two-nodes` two of them on one Redis, behind a [`balancer`].
//! [`Pages`] serves the page's files and beside them `/kit/base.css`, `/kit/live.js` and `/broker.js`; each says at its top what it has.

pub mod balancer;

mod args;
mod node;
mod pages;
mod redis_server;
mod run;
mod two_nodes;

pub use args::NoFlags;
pub use node::Node;
pub use pages::{File, Pages};
pub use run::{App, run};
