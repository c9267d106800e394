//! `broker sub TOPIC...`: a line on standard output for each publication, everything else on standard error.

use std::process::ExitCode;

use anyhow::Context;
use broker_client::terminal::{self, Listen, listen};
use tokio::io::{stderr, stdout};

use super::client;
use crate::cli::{LineFormat, Subscribe};

pub(super) fn run(subscribe: Subscribe) -> anyhow::Result<ExitCode> {
    let since = match &subscribe.since {
        Some(since) => {
            Some(since.parse().with_context(|| format!("--since {since:?}: write 0, or a position as it was received, like 17@Bx3k"))?)
        }
        None => None,
    };
    let is_envelope = subscribe.json || subscribe.format == LineFormat::Envelope;
    let format = if is_envelope { terminal::LineFormat::Envelope } else { terminal::LineFormat::Raw };
    client::runtime()?.block_on(async {
        let client = client::connect(&subscribe.target, "broker sub")?;
        let wanted = Listen { topics: subscribe.topics, since, format, count: subscribe.count };
        let stop = async {
            // Where no signal can be heard, the process ends by the system's own rule.
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        listen(&client, wanted, stdout(), stderr(), stop).await?;
        client.close().await;
        Ok(ExitCode::SUCCESS)
    })
}
