//! Statistical process control with live charts and quality alerts: an application to start from.
//!
//! `chart` is the mathematics; `notice` what users are told; `store` the database; `line` takes readings in; `access` says who may what; `live`
//! is the broker with its hooks and frames; `api` everything over HTTP.

#![expect(
    clippy::redundant_closure_for_method_calls,
    reason = "the path of a method holds for one lifetime of a transaction, a closure for all"
)]

pub mod access;
pub mod api;
pub mod chart;
pub mod line;
pub mod live;
pub mod notice;
pub mod refused;
pub mod spc;
pub mod store;
