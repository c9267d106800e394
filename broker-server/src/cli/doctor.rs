//! Flags of `doctor`.

use clap::Args;

use super::Settings;

/// Flags of `doctor`.
#[derive(Args, Debug)]
pub struct Doctor {
    /// The broker as clients reach it, through whatever stands in front of it [default: the listener of the configuration]
    pub url: Option<String>,
    /// One JSON object, for programs
    #[arg(long)]
    pub json: bool,
    /// Do not wait for the first ping of an idle connection; that takes as long as `client.ping_interval`
    #[arg(long)]
    pub quick: bool,
    /// The configuration of the nodes.
    #[command(flatten)]
    pub settings: Settings,
}
