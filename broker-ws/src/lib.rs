//! The WebSocket transport of Broker: from an HTTP request to a session of the engine, and from the engine's frames to the socket.
//!
//! No protocol, route or rule of the domain lives here. Most programs depend on the facade `broker` instead; a transport of one's own uses these
//! parts:
//!
//! ```
//! use std::sync::Arc;
//! use broker_core::{Connection, Protocol};
//! use broker_ws::{Handshake, Upgrade, WsLimits};
//! use bytes::Bytes;
//! use http::{Request, Response};
//!
//! /// Answers a request that hyper has read, and serves the WebSocket that comes of it.
//! fn answer<B>(mut request: Request<B>, connection: Connection, protocol: Arc<dyn Protocol>) -> Response<Bytes> {
//!     match Handshake::of(&request) {
//!         Ok(handshake) => {
//!             Upgrade::of(&mut request).serve(connection, protocol, Arc::new(WsLimits::default()));
//!             handshake.accept(None).map(|()| Bytes::new())
//!         }
//!         Err(error) => error.response(),
//!     }
//! }
//! ```
//!
//! # Two ways out
//!
//! Only the hub's shard writes frames. Where the pipe is a TCP socket, it writes to the socket itself: one system call, no task in between.
//! Every other pipe (TLS, memory) has a bounded queue that the connection's task empties.
//!
//! # What an idle connection costs
//!
//! One small task. Bytes are read into a buffer of the thread, and only the rest of an unfinished message is kept ([`Reader`]).
//! Every bound and deadline stands in [`WsLimits`].
//!
//! # Before a connection
//!
//! [`Gate`] knows where a connection comes from, and how many and how often they may come from there. With the feature `tls`, [`serve`] speaks TLS.

mod connection;
mod door;
mod framing;
mod gate;
mod handshake;
mod limits;
mod line;
mod pipe;
mod port;
mod queue_outlet;
mod reader;
mod seats;
mod server;
mod socket_outlet;
#[cfg(feature = "tls")]
mod tls;
mod upgrade;

pub use framing::WebSocketFraming;
pub use gate::{ClientAddress, ConnectRate, ForwardedHeader, Gate, InvalidProxy, NotAdmitted, Pending, TrustedProxies};
pub use handshake::{Handshake, HandshakeError};
pub use limits::WsLimits;
pub use line::Line;
pub use reader::{Event, Reader};
pub use server::{OverTls, Peer, ServerOptions, serve};
#[cfg(feature = "tls")]
pub use tls::{Tls, TlsCaution, TlsError};
pub use upgrade::{Upgrade, say_goodbye, serve_io};
