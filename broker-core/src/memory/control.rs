//! The control bus of a node that is alone: it asks itself.

use std::{
    sync::{OnceLock, Weak},
    time::Duration,
};

use async_trait::async_trait;

use crate::{ControlAnswer, ControlBus, ControlNode, ControlQuestion};

/// The control bus of a node that is alone.
#[derive(Default)]
pub struct MemoryControl(OnceLock<Weak<dyn ControlNode>>);

impl MemoryControl {
    /// No node yet.
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl ControlBus for MemoryControl {
    fn start(&self, node: Weak<dyn ControlNode>) {
        // A second start would be a second node, which this bus cannot reach.
        let _ = self.0.set(node);
    }

    async fn ask(&self, question: ControlQuestion, _deadline: Duration) -> Vec<ControlAnswer> {
        self.0.get().and_then(Weak::upgrade).map(|node| node.answer(&question)).into_iter().collect()
    }
}
