//! Hooks against a real HTTP backend, seen through an engine and its clients.

mod answers;
mod backend;
mod bounds;
mod failures;
mod snapshots;
mod support;
