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
    /// Would a page of this origin be let in? As the browser shows it, with its scheme and without a path
    #[arg(long, value_name = "ORIGIN")]
    pub origin: Option<String>,
    /// Would this connection token be taken, and if not, why?
    #[arg(long, value_name = "TOKEN", env = "BROKER_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// The configuration of the nodes.
    #[command(flatten)]
    pub settings: Settings,
}
