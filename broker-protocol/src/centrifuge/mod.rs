//! The Centrifuge client protocol, in the forms that it has on the wire. Its word *channel* is our topic, its *client* our session.

mod json;
mod protobuf;

pub use json::CentrifugeJson;
pub use protobuf::NoProtobuf;
