//! Behaviour of the engine, through its public API and clients without sockets.

mod attendance;
mod choosing;
mod conversing;
mod delivering;
mod edges;
mod except;
mod groups;
mod identity;
mod keeping_up;
mod opening;
mod poison;
mod races;
mod rates;
mod reports;
mod slow;
mod snapshots;
mod suites;
mod tenants;
mod threads;
