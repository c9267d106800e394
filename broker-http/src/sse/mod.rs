//! Server-sent events: from a connection of the engine to the body of an answer. Routes, credentials and refusals do not live here.

mod answer;
mod positions;
mod stream;

pub use self::{
    answer::{is_sse_asked_for, preflight, sse_response},
    positions::SseTopics,
    stream::{Line, RETRY, SseBody, sse_body},
};
