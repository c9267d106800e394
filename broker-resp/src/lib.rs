//! A RESP3 codec, and one supervised link to a server that speaks it (Redis, Valkey). What is sent over it is not this crate's business.
//!
//! ```no_run
//! use broker_resp::{Command, Event, Link, Options, Target};
//! use std::time::Duration;
//!
//! # async fn program() -> Result<(), broker_resp::CallError> {
//! let (link, mut events) = Link::open(Target::tcp("127.0.0.1", 6379), Options::default());
//! let timeout = Duration::from_secs(1);
//! tokio::spawn({
//!     let link = link.clone();
//!     async move {
//!         while let Some(event) = events.next().await {
//!             match event {
//!                 // A new connection knows no subscription: send what is wanted, again.
//!                 Event::Connected { .. } => drop(link.send(&[Command::new("SUBSCRIBE").arg("news")], timeout)),
//!                 event => println!("{event:?}"),
//!             }
//!         }
//!     }
//! });
//! let receivers = link.call(&Command::new("PUBLISH").arg("news").arg("hello"), timeout).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # The link
//!
//! [`Link::open`] starts a task on the caller's runtime that keeps one connection over TCP, TLS or a Unix socket. It connects with `HELLO 3`, again and
//! again for ever, with waits of 20 ms to 2 s that are partly chance. A server that owes an answer and is silent for
//! [`Options::ping_timeout`] is given up; an idle one is pinged. The task ends when the last clone of the [`Link`] is dropped.
//!
//! # Calls
//!
//! [`Link::call`], [`Link::call_many`] and [`Link::send`] queue their commands at once, in the order in which they are called, and return a future for the answer. What is queued
//! while a write is under way leaves with the next write. Dropping the future disturbs nobody: the command is sent, its answer dropped.
//! [`CallError`] tells apart what was not sent, and is safe to repeat, from what may have taken effect.
//!
//! # Pushes
//!
//! What the server pushes waits in [`Events`], with the ends and beginnings of connections in their place. The connection is read whether or not
//! somebody reads the events: what does not fit is counted and told ([`Event::Overflowed`]).
//!
//! # Commands that are answered by pushes
//!
//! `SUBSCRIBE` and its kin have no answer in RESP3, but confirmations as pushes, or an error in the place of an answer. [`Link::send`] puts a fence behind each such command (`ECHO`), so
//! that answers keep their order whatever the server does: its future tells what was refused, and when it is ready, all confirmations are in [`Events`].
//!
//! # The codec
//!
//! [`Decoder`] reads replies and pushes of RESP3 and RESP2 from a growing buffer, within [`Bounds`]; [`Command`] writes.

mod command;
mod connect;
mod connection;
mod decode;
mod error;
mod events;
mod link;
mod options;
mod outbox;
mod pending;
mod state;
mod supervisor;
mod target;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "tls")]
mod tls;
mod value;

pub use command::{Argument, Command};
pub use decode::{Bounds, DecodeError, Decoder};
pub use error::{CallError, ConnectError, DisconnectReason, NoAnswer, NotSent};
pub use events::{Event, Events};
pub use link::{Answer, Answers, Link};
pub use options::{Options, Wait};
pub use state::{Counters, LinkState, Phase};
pub use target::{Address, Target};
#[cfg(feature = "tls")]
pub use tls::{ClientIdentity, Tls, TlsError};
pub use value::{Change, Frame, Push, ServerError, Value};
