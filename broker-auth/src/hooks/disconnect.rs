//! The hook `disconnect`, ours: told after a session has ended, some time later, with a bounded number of tries. Nobody waits for its answer.

use std::{sync::Arc, time::Duration};

use broker_core::Disconnected;
use http::HeaderMap;
use serde::Serialize;
use tokio::sync::Semaphore;
use tracing::warn;

use super::{
    ask::{Who, body},
    endpoint::Endpoint,
};

/// Pauses before the second and the following tries; the last failure is final.
const PAUSES: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(8)];

#[derive(Serialize)]
struct Request<'a> {
    #[serde(flatten)]
    who: Who<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    cause: &'static str,
    alive_ms: u64,
}

/// The ends that the application has not been told yet.
#[derive(Debug)]
pub(super) struct Ends {
    endpoint: Arc<Endpoint>,
    /// One for each end that is under way.
    pending: Arc<Semaphore>,
    pending_max: usize,
}

impl Ends {
    pub(super) fn new(endpoint: Arc<Endpoint>) -> Self {
        let pending_max = endpoint.options().queue_max_len.clamp(1, u32::MAX as usize);
        Self { endpoint, pending: Arc::new(Semaphore::new(pending_max)), pending_max }
    }

    /// Tells an end, later; forgets it where too many wait. Must be called in a runtime.
    pub(super) fn tell(&self, end: &Disconnected) {
        let Ok(pending) = self.pending.clone().try_acquire_owned() else {
            self.endpoint.refuse();
            return;
        };
        let written = written(end);
        let endpoint = self.endpoint.clone();
        tokio::spawn(async move {
            deliver(&endpoint, written).await;
            drop(pending);
        });
    }

    /// Waits until every end is told or given up. Cancel-safe.
    pub(super) async fn told(&self) {
        // The semaphore is never closed.
        let _ = self.pending.acquire_many(self.pending_max as u32).await;
    }
}

async fn deliver(endpoint: &Endpoint, written: Vec<u8>) {
    for pause in PAUSES.into_iter().map(Some).chain([None]) {
        // Any answer will do: nothing is asked.
        let Err(failed) = endpoint.call(written.clone(), HeaderMap::new(), |_| Ok(())).await else { return };
        match pause {
            Some(pause) if failed.is_temporary() => tokio::time::sleep(pause.mul_f32(0.75 + fastrand::f32() / 2.0)).await,
            _ => break,
        }
    }
    warn!(hook = endpoint.hook().word(), url = %endpoint.options().url, "the application was not told that a session has ended");
}

fn written(end: &Disconnected) -> Vec<u8> {
    let (code, reason) = code_and_reason(&end.reason);
    body(&Request { who: Who::of(&end.subject), code, reason, cause: end.reason.cause(), alive_ms: end.after.as_millis() as u64 })
}

/// The code and text where somebody chose them: the client, the application or the server API. What the broker chose is told by `cause`.
fn code_and_reason(reason: &broker_core::CloseReason) -> (Option<u16>, &str) {
    use broker_core::CloseReason::{Application, ClientLeft, Ordered};
    match reason {
        ClientLeft { code } => (*code, ""),
        Application { code, reason } | Ordered { code, reason, .. } => (Some(*code), reason),
        _ => (None, ""),
    }
}
