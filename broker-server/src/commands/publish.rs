//! `broker pub TOPIC DATA`: one publication, or one for each line of standard input.

use std::process::ExitCode;

use broker_client::terminal::{publish_line, publish_lines};
use tokio::io::{BufReader, stdin};

use super::client;
use crate::cli::Publish;

pub(super) fn run(publish: &Publish) -> anyhow::Result<ExitCode> {
    let runtime = client::runtime()?;
    let published = runtime.block_on(async {
        let client = client::connect(&publish.target, "broker pub")?;
        client::live(&client, &publish.target).await?;
        if publish.data == "-" {
            let count = publish_lines(&client, &publish.topic, BufReader::new(stdin())).await?;
            eprintln!("published {count} to {}", publish.topic);
        } else {
            publish_line(&client, &publish.topic, &publish.data).await?;
        }
        client.close().await;
        Ok(ExitCode::SUCCESS)
    });
    // A read of standard input cannot be taken back: waiting for it would hold up an error until somebody types.
    runtime.shutdown_background();
    published
}
