//! The Centrifuge client protocol. Its wire word *channel* is our topic, its *client* our session.

mod json;

pub use json::CentrifugeJson;
