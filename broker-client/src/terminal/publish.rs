//! Publishing one line, or all lines of an input in their order.

use std::{collections::VecDeque, pin::Pin};

use futures_util::future::BoxFuture;
use tokio::io::{AsyncBufRead, AsyncBufReadExt};

use super::payload;
use crate::{CallError, Client};

/// Publications that wait for the server's yes at the same time.
const WINDOW: usize = 64;

/// Why publishing stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// A line was not published, or it is not known whether it was. The lines after it, at most 63, may have been.
    #[error("line {line} was not published: {error}")]
    Line {
        /// Which line of the input, from 1.
        line: u64,
        /// Why.
        error: CallError,
    },
    /// The input cannot be read.
    #[error("the input cannot be read: {0}")]
    Input(#[from] std::io::Error),
}

/// Publishes one line, and waits for the server's yes.
///
/// Cancel: when the future is dropped the publication may or may not be sent.
pub async fn publish_line(client: &Client, topic: &str, line: &str) -> Result<(), CallError> {
    client.publish(topic, payload(line)).await
}

/// Publishes each line that is not empty, in order, and gives their number. Stops at the first that fails: nothing is sent twice.
///
/// Cancel: when the future is dropped up to 64 publications may or may not be sent.
pub async fn publish_lines(client: &Client, topic: &str, input: impl AsyncBufRead + Unpin) -> Result<u64, PublishError> {
    let mut lines = input.lines();
    let mut window: VecDeque<(u64, Answer<'_>)> = VecDeque::with_capacity(WINDOW);
    let (mut line_number, mut published) = (0, 0);
    loop {
        if window.len() == WINDOW {
            published += settle(&mut window).await?;
        }
        let line = tokio::select! {
            biased;
            line = lines.next_line() => line?,
            // What waits is driven on while the input is slow, and its failure stops everything at once.
            settled = settle(&mut window), if !window.is_empty() => {
                published += settled?;
                continue;
            }
        };
        let Some(line) = line else { break };
        line_number += 1;
        if !line.trim().is_empty() {
            let publish: Answer<'_> = Box::pin(async move { publish_line(client, topic, &line).await });
            window.push_back((line_number, started(publish).await));
        }
    }
    while !window.is_empty() {
        published += settle(&mut window).await?;
    }
    Ok(published)
}

type Answer<'a> = BoxFuture<'a, Result<(), CallError>>;

/// Waits for the oldest. Cancel-safe: it is taken out when it is done.
async fn settle(window: &mut VecDeque<(u64, Answer<'_>)>) -> Result<u64, PublishError> {
    let Some((line, answer)) = window.front_mut() else { return Ok(0) };
    let (line, settled) = (*line, Pin::new(answer).await);
    window.pop_front();
    settled.map(|()| 1).map_err(|error| PublishError::Line { line, error })
}

/// Polls once: a call is handed to the client when its future is first polled, so this keeps the lines in order.
async fn started(mut publish: Answer<'_>) -> Answer<'_> {
    use std::{future::poll_fn, task::Poll};
    let done = poll_fn(|cx| {
        Poll::Ready(match publish.as_mut().poll(cx) {
            Poll::Ready(settled) => Some(settled),
            Poll::Pending => None,
        })
    });
    match done.await {
        Some(settled) => Box::pin(std::future::ready(settled)),
        None => publish,
    }
}
