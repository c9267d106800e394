//! Calls of foreign code: a panic or a hang of it costs one answer, not the node.

use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::Poll,
    time::Duration,
};

use crate::Stats;

/// Why a hook gave no answer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum NoAnswer {
    #[error("the hook panicked: {0}")]
    Panicked(String),
    #[error("the hook did not answer within {0:?}")]
    TimedOut(Duration),
}

/// Runs foreign code that may panic.
pub(crate) fn catch<T>(stats: &Stats, what: &str, call: impl FnOnce() -> T) -> Result<T, NoAnswer> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| {
        stats.panics.add(1);
        let text = text_of(&*panic);
        tracing::error!(what, panic = %text, "caught a panic");
        NoAnswer::Panicked(text)
    })
}

/// Waits for foreign code that may panic or hang. Cancel-safe as far as the future is.
pub(crate) async fn guard<T>(stats: &Stats, future: impl Future<Output = T>, timeout: Duration) -> Result<T, NoAnswer> {
    let started = tokio::time::Instant::now();
    let mut future = pin!(future);
    let caught = std::future::poll_fn(|cx| match catch(stats, "hook", || future.as_mut().poll(cx)) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
        Err(panicked) => Poll::Ready(Err(panicked)),
    });
    let answer = tokio::time::timeout(timeout, caught).await.unwrap_or_else(|_| Err(NoAnswer::TimedOut(timeout)));
    stats.hook_latency.record(started.elapsed());
    if let Err(NoAnswer::TimedOut(timeout)) = &answer {
        tracing::warn!(?timeout, "a hook did not answer in time");
    }
    answer
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no text".to_owned())
}
