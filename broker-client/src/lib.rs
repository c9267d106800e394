//! A client for Broker, and for every server that speaks the Centrifuge JSON protocol over WebSocket.
//!
//! ```no_run
//! use broker_client::{Client, ClientConfig, Event, Payload, SubscribeConfig};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let client = Client::connect("ws://127.0.0.1:8000", ClientConfig::default())?;
//!     let mut news = client.subscribe("news", SubscribeConfig::default())?;
//!     client.publish("news", Payload::of("hello")?).await?;
//!     while let Some(event) = news.next().await {
//!         match event {
//!             Event::Publication(publication) => println!("{}", publication.data),
//!             Event::Gap(gap) => eprintln!("something is missing: {gap:?}"),
//!             Event::Unsubscribed(why) => eprintln!("over: {why:?}"),
//!             _ => {}
//!         }
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # It never gives up
//!
//! A connection that is cut, refused or silent is made again for ever, after waits of chance between zero and an end that
//! doubles from 500 ms to 20 s ([`ClientConfig`]). Only a final close code of the server, a refused token that cannot be
//! renewed, or [`Client::close`] ends it. [`Client::states`] says where it stands and why.
//!
//! # Nothing is lost without a word
//!
//! A new connection subscribes again from the last position. [`Event::Gap`] is the only sign of loss, and every loss has one:
//! the server no longer keeps what was missed, the topic has no history, or the application did not read. No publication is
//! told twice.
//!
//! # Nothing is sent twice
//!
//! A call whose connection ends before its answer fails with [`CallError::Cut`]; [`CallError::may_have_happened`] and
//! [`CallError::is_retryable`] say what the application has to think of.

mod backoff;
mod client;
mod codes;
mod config;
mod driver;
mod error;
mod event;
mod machine;
mod payload;
mod position;
mod queue;
mod registry;
mod subscription;
#[cfg(feature = "terminal")]
pub mod terminal;
mod transport;
mod wire;

pub use client::{Client, States};
pub use config::{ClientConfig, SubscribeConfig, TokenError, Tokens};
pub use error::{CallError, Closed, InvalidUrl, Refusal, SubscribeError};
pub use event::{
    Event, Gap, GapReason, HistoryPage, HistoryQuery, Notice, PresenceStats, Publication, SessionInfo, State, Subscribed, Unsubscribed,
};
pub use payload::{InvalidPayload, Payload};
pub use position::{InvalidPosition, Position, Since};
pub use subscription::{Notices, Subscription};
