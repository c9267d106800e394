//! What `pub` and `sub` share: the connection and its runtime.

use anyhow::{Context, bail};
use broker_client::{Client, ClientConfig, State, Tokens};
use tokio::runtime::{Builder, Runtime};

use crate::cli::Target;

/// A runtime for one connection: its own thread is enough.
pub(super) fn runtime() -> anyhow::Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("the system gives no event queue")
}

/// Starts to connect; inside a runtime.
pub(super) fn connect(target: &Target, name: &str) -> anyhow::Result<Client> {
    let mut config = ClientConfig::default().name(name);
    if let Some(token) = &target.token {
        config = config.tokens(Tokens::fixed(token.as_str()));
    }
    Ok(Client::connect(&target.url, config)?)
}

/// Waits for the first connection. A program that has one thing to say ends when there is nobody to say it to.
pub(super) async fn live(client: &Client, target: &Target) -> anyhow::Result<()> {
    let mut states = client.states();
    while let Some(state) = states.next().await {
        match state {
            State::Live { .. } => return Ok(()),
            State::Reconnecting { why, .. } => {
                bail!("cannot connect to {}: {why} (`broker --dev` starts a broker on this machine)", target.url)
            }
            State::Closed(closed) => bail!("{} refused the connection: {closed}", target.url),
            _ => {}
        }
    }
    bail!("cannot connect to {}", target.url)
}
