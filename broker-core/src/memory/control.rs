//! The control bus of a node that is alone: it asks itself.

use std::{
    sync::{OnceLock, Weak},
    time::Duration,
};

use async_trait::async_trait;

use crate::{ControlAnswers, ControlBus, ControlNode, ControlQuestion};

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

    async fn ask(&self, question: ControlQuestion, deadline: Duration) -> ControlAnswers {
        let Some(node) = self.0.get().and_then(Weak::upgrade) else { return ControlAnswers::default() };
        match tokio::time::timeout(deadline, node.answer(question)).await {
            Ok(answer) => ControlAnswers::whole(vec![answer]),
            Err(_) => ControlAnswers::default().silent(vec!["this node".into()]),
        }
    }
}
