//! The engine that listens to a backplane, from its start to its end.

use std::sync::{Arc, OnceLock, Weak};

use broker_core::Sink;

/// Who is handed what comes.
#[derive(Default)]
pub(crate) struct Listener {
    sink: OnceLock<Weak<dyn Sink>>,
}

impl Listener {
    /// Begins. A second one would be a second engine on the same backplane: the first one keeps it.
    pub(crate) fn start(&self, sink: Weak<dyn Sink>) {
        let _ = self.sink.set(sink);
    }

    /// The engine, if there is one still.
    pub(crate) fn sink(&self) -> Option<Arc<dyn Sink>> {
        self.sink.get().and_then(Weak::upgrade)
    }
}
