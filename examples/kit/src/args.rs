//! The command line that all examples have. What is done with it lives in `run`.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Parser, ValueEnum};

/// An example of Broker. One node, unless two are asked for.
#[derive(Debug, Parser)]
#[command(args_override_self = true)]
pub(crate) struct Args<F: clap::Args> {
    /// How many nodes: `two-nodes` starts two processes on one Redis, and a balancer in front of them.
    #[arg(value_enum, default_value_t = Mode::OneNode)]
    pub(crate) mode: Mode,
    /// Where browsers connect. Port 0 takes a free one; what was bound is printed.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:3000")]
    pub(crate) listen: SocketAddr,
    /// The Redis that nodes share. Two nodes start one of their own where none is given.
    #[arg(long, value_name = "URL")]
    pub(crate) redis: Option<String>,
    /// Where data is kept. Without it, in a folder that is removed at the end.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// This process is one of several nodes, with this name, and ends when its standard input does.
    #[arg(long, hide = true, value_name = "NAME")]
    pub(crate) node: Option<String>,
    #[command(flatten)]
    pub(crate) flags: F,
}

/// How many nodes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Mode {
    /// This process is the one.
    OneNode,
    /// This process starts two more, and is their balancer.
    TwoNodes,
}

impl Mode {
    /// How it is written on the command line.
    pub(crate) const TWO_NODES: &str = "two-nodes";
}

/// For an application without flags of its own.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub struct NoFlags {}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Args<NoFlags> {
        Args::try_parse_from(format!("app {words}").split_whitespace()).unwrap()
    }

    #[test]
    fn nothing_is_one_node_at_port_3000_of_this_machine() {
        let args = parse("");
        assert_eq!((args.mode, args.listen.to_string()), (Mode::OneNode, "127.0.0.1:3000".to_owned()));
    }

    #[test]
    fn flags_stand_before_and_behind_the_mode_and_the_last_one_holds() {
        let args = parse("--listen 127.0.0.1:1 two-nodes --redis redis://there --listen 127.0.0.1:2");
        assert_eq!((args.mode, args.listen.port(), args.redis.as_deref()), (Mode::TwoNodes, 2, Some("redis://there")));
        assert_eq!(Mode::TwoNodes.to_possible_value().unwrap().get_name(), Mode::TWO_NODES);
    }
}
