//! One client's conversation, as a pure state machine: commands, answers and time go in, effects come out.

mod asking;
mod command;
mod connecting;
mod effect;
mod entering;
mod in_line;
mod limits;
mod machine;
mod ordered;
mod reply;
mod rules;
mod subscribing;
mod subscription;
mod switching;
#[cfg(test)]
mod tests;
mod timer;

pub use command::{Command, CommandId, Connect, Cursor, Request, Subscribe};
pub(crate) use effect::{Answer, AsOf, AskId, Completion, Effect, Generation, Granted, Identified, Join, Kept, Leave, Question};
pub(crate) use machine::{Manners, Session};
pub use reply::{Connected, Gap, GapReason, Push, Reply, Resume, Subscribed, UnsubscribeReason};
pub(crate) use rules::{PayloadCheck, Rules, not_available};
