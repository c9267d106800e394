//! Revocations that this node did not hear of: read from the log with each heartbeat and whenever the bus is back, and done here.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use broker_core::ControlQuestion;

use super::Inner;
use crate::registry::{RedisRegistry, Seen};

/// Most revocations in one read.
const PAGE_LEN: usize = 500;

/// How far this node has read.
pub(crate) struct CatchUp {
    registry: Arc<RedisRegistry>,
    is_done: AtomicBool,
}

impl CatchUp {
    pub(super) fn new(registry: Arc<RedisRegistry>) -> Self {
        Self { registry, is_done: AtomicBool::new(false) }
    }

    /// Something may have been missed.
    pub(super) fn begins_again(&self) {
        self.is_done.store(false, Ordering::Release);
    }

    pub(super) fn is_done(&self) -> bool {
        self.is_done.load(Ordering::Acquire)
    }
}

/// Reads and does what was missed, until the node is gone.
pub(super) async fn run(inner: Weak<Inner>) {
    let mut seen = Seen::default();
    let Some(mut beats) = inner.upgrade().map(|inner| inner.nodes.watch()) else { return };
    loop {
        let Some(strong) = inner.upgrade() else { return };
        match read(&strong, &mut seen).await {
            Ok(()) => strong.catch_up.is_done.store(true, Ordering::Release),
            Err(failure) => {
                if strong.catch_up.is_done.swap(false, Ordering::AcqRel) {
                    tracing::warn!(%failure, "revocations could not be read: what other nodes are told now is done here when Redis is back");
                }
            }
        }
        tokio::select! {
            changed = beats.changed() => if changed.is_err() { return },
            // A node that is dropped is noticed with the next look.
            () = strong.heard_again.notified() => {}
            () = tokio::time::sleep(Duration::from_secs(2)) => {}
        }
    }
}

async fn read(inner: &Arc<Inner>, seen: &mut Seen) -> Result<(), crate::failure::Failure> {
    loop {
        let page = inner.catch_up.registry.revocations_since(seen, PAGE_LEN).await?;
        for revocation in page.revocations {
            if inner.revoked.lock().contains(&revocation) {
                continue;
            }
            if let Some(broker_core::ControlAnswer::Done { sessions }) = inner.answer(ControlQuestion::Revoke(revocation)).await
                && sessions > 0
            {
                tracing::info!(sessions, "sessions were ended by a revocation that this node had not heard of");
            }
        }
        *seen = page.seen;
        if page.is_last {
            return Ok(());
        }
    }
}
