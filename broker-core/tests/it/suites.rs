//! The memory implementations pass the suites that every implementation passes.

use std::sync::Arc;

use broker_core::{MemoryBackplane, MemoryPresence, MemoryRegistry, testing};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_backplane() {
    testing::backplane_suite(Arc::new(MemoryBackplane::new())).await;
}

#[tokio::test]
async fn memory_presence() {
    testing::presence_suite(&MemoryPresence::new()).await;
}

#[tokio::test(start_paused = true)]
async fn memory_registry() {
    testing::registry_suite(&MemoryRegistry::new()).await;
}
