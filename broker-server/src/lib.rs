//! The binary `broker`: configuration, command line, metrics and pages around the engine.
//!
//! Everything an embedder would miss lives in the facade crate `broker`; this is what only a server of its own needs.

pub mod backplane_watch;
pub mod cli;
pub mod commands;
pub mod config;
pub mod credentials;
pub mod doctor;
pub mod fingerprint;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod pages;
pub mod start_block;

/// The version of the binary.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit it is built from; `unknown` outside a repository.
pub const COMMIT: &str = env!("BROKER_COMMIT");

/// For `--version`.
pub const VERSION_AND_COMMIT: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("BROKER_COMMIT"), ")");

/// For people: `broker 0.1.0`.
pub const NAME_AND_VERSION: &str = concat!("broker ", env!("CARGO_PKG_VERSION"));
