//! Behaviour of the engine, through its public API and clients without sockets.

mod attendance;
mod behind;
mod choosing;
mod conversing;
mod delivering;
mod edges;
mod except;
mod failing_hooks;
mod groups;
mod hanging;
mod identity;
mod keeping;
mod keeping_up;
mod keyed;
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
