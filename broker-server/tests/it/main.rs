//! Behaviour of the binary and its configuration, through the public API and the real command line.

mod application;
mod command_line;
mod defaults;
mod hooks;
mod hooks_decide;
mod hooks_failing;
mod hooks_over_tls;
mod hooks_serve;
mod hooks_snapshot;
mod mistakes;
mod network;
mod overlay;
mod serving;
mod support;
mod tls;
mod tokens;
