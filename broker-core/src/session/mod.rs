//! One client's conversation: what it asks, what it is told.

mod command;
mod reply;

pub use command::{Command, CommandId, Connect, Request, Subscribe};
pub use reply::{Connected, Gap, GapReason, Push, Reply, Resume, Subscribed, UnsubscribeReason};
