//! Questions of this node that wait for answers. Sending lives beside it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use broker_core::ControlAnswer;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::envelope::{self, Head};

/// Questions that wait, by their ids.
#[derive(Default)]
pub(super) struct Asking {
    waiting: Mutex<HashMap<u64, Arc<Waiting>>>,
}

/// One question that waits.
#[derive(Default)]
pub(super) struct Waiting {
    nodes: Mutex<HashMap<Arc<str>, Said>>,
    pub(super) changed: Notify,
}

/// What a node has said of a question.
enum Said {
    /// So many parts are to come, these have.
    Parts(u16, BTreeMap<u16, ControlAnswer>),
    Whole(ControlAnswer),
    /// It did not do it.
    Refused(Box<str>),
}

impl Asking {
    /// A question begins to wait, until what is answered is dropped.
    pub(super) fn begin(self: &Arc<Self>, id: u64) -> Asked {
        let waiting = Arc::new(Waiting::default());
        self.waiting.lock().insert(id, waiting.clone());
        Asked { asking: self.clone(), id, waiting }
    }

    /// Notes a part of an answer. What nobody waits for is late, and nothing.
    pub(super) fn part(&self, from: &Head, index: u16, count: u16, part: ControlAnswer) {
        let Some(waiting) = self.waiting.lock().get(&from.id).cloned() else { return };
        let mut nodes = waiting.nodes.lock();
        let said = nodes.entry(from.node.clone()).or_insert_with(|| Said::Parts(count, BTreeMap::new()));
        let Said::Parts(of, parts) = said else { return };
        if *of != count {
            // Another run of the same question, after more or fewer sessions came.
            (*of, *parts) = (count, BTreeMap::new());
        }
        parts.insert(index, part);
        if parts.len() < usize::from(count) {
            return;
        }
        let mut parts = std::mem::take(parts).into_values();
        if let Some(mut whole) = parts.next() {
            parts.for_each(|part| envelope::join(&mut whole, part));
            *said = Said::Whole(whole);
        }
        drop(nodes);
        waiting.changed.notify_one();
    }

    /// Notes that a node does not answer.
    pub(super) fn refused(&self, from: &Head, why: Box<str>) {
        let Some(waiting) = self.waiting.lock().get(&from.id).cloned() else { return };
        waiting.nodes.lock().insert(from.node.clone(), Said::Refused(why));
        waiting.changed.notify_one();
    }
}

/// A question that waits as long as this is held.
pub(super) struct Asked {
    asking: Arc<Asking>,
    id: u64,
    waiting: Arc<Waiting>,
}

impl Asked {
    /// Waits for the next news. Cancel-safe.
    pub(super) async fn changed(&self) {
        self.waiting.changed.notified().await;
    }

    /// Whether a node has said all that it will.
    pub(super) fn has_said(&self, node: &str) -> bool {
        matches!(self.waiting.nodes.lock().get(node), Some(Said::Whole(_) | Said::Refused(_)))
    }

    /// What was answered, and why others do not.
    pub(super) fn finish(self) -> Finished {
        let Finished { mut answers, mut refusals } = Finished::default();
        for (node, said) in self.waiting.nodes.lock().drain() {
            match said {
                Said::Whole(answer) => _ = answers.insert(node, answer),
                Said::Refused(why) => refusals.push((node, why)),
                Said::Parts(..) => {}
            }
        }
        Finished { answers, refusals }
    }
}

/// What became of a question.
#[derive(Default)]
pub(super) struct Finished {
    /// By the node that answered.
    pub(super) answers: HashMap<Arc<str>, ControlAnswer>,
    /// Nodes that do not answer, with the reason that they gave.
    pub(super) refusals: Vec<(Arc<str>, Box<str>)>,
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.asking.waiting.lock().remove(&self.id);
    }
}
