//! The chat through its REST and its sockets, as clients see it.

mod accounts;
mod harness;
mod messages;
mod page;
mod refusals;
mod store;
mod tickets;
