//! Behaviour of the binary and its configuration, through the public API and the real command line.

mod command_line;
mod defaults;
mod mistakes;
mod overlay;
mod serving;
mod support;
mod tokens;
