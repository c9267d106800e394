//! Calls of the backplane, presence and the registry: none of them is waited for without an end.
//!
//! A call that is late is dropped, and counts as one that failed: reads and interests are repeated, publishers and clients are told to try again.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::atomic::Ordering::Relaxed,
    task::Poll,
    time::Duration,
};

use tokio::time::Sleep;

use super::Hub;
use crate::{PublishFailed, Published, backplane::Unavailable};

impl Hub {
    /// The answer to anything but a publish, or that none came in time.
    pub(crate) async fn in_time<T>(&self, call: impl Future<Output = Result<T, Unavailable>>) -> Result<T, Unavailable> {
        let timeout = self.rules.settings.backplane_timeout;
        let answer = self.within(timeout, call).await;
        answer.unwrap_or_else(|| Err(Unavailable(format!("nothing came within {timeout:?}"))))
    }

    /// The answer to a publish, or that nobody knows whether it was taken.
    pub(super) async fn published_in_time(
        &self,
        call: impl Future<Output = Result<Published, PublishFailed>>,
    ) -> Result<Published, PublishFailed> {
        let timeout = self.rules.settings.publish_timeout;
        let unconfirmed = || PublishFailed::Unconfirmed(format!("no answer within {timeout:?}"));
        self.within(timeout, call).await.unwrap_or_else(|| Err(unconfirmed()))
    }

    /// Waits for a call; `None`: it is late. What answers at once costs no timer, and needs no runtime around the caller.
    async fn within<T>(&self, timeout: Duration, call: impl Future<Output = T>) -> Option<T> {
        let mut call = pin!(call);
        let mut late: Option<Pin<Box<Sleep>>> = None;
        let answer = poll_fn(|cx| {
            if let Poll::Ready(answer) = call.as_mut().poll(cx) {
                return Poll::Ready(Some(answer));
            }
            // Without a runtime, as in the model, there is no time.
            let Some(runtime) = &self.runtime else { return Poll::Pending };
            let late = late.get_or_insert_with(|| {
                let _entered = runtime.enter();
                Box::pin(tokio::time::sleep(timeout))
            });
            late.as_mut().poll(cx).map(|()| None)
        })
        .await;
        if late.is_some() {
            self.note(answer.is_none(), timeout);
        }
        answer
    }

    /// Counts calls that were late, and logs the beginning and the end of such a time.
    fn note(&self, is_late: bool, timeout: Duration) {
        self.stats.backplane_timeouts.add(u64::from(is_late));
        match (is_late, self.backplane_is_late.swap(is_late, Relaxed)) {
            (true, false) => tracing::warn!(
                ?timeout,
                hint = "backplane.timeout and backplane.publish_timeout say how long it may take",
                "the backplane, presence or the registry does not answer in time"
            ),
            (false, true) => tracing::info!("the backplane, presence or the registry answers again"),
            _ => {}
        }
    }
}
