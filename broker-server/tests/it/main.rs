//! Behaviour of the binary and its configuration, through the public API and the real command line.

mod command_line;
mod defaults;
mod hooks;
mod mistakes;
mod network;
mod overlay;
mod serving;
mod support;
mod tls;
mod tokens;
