//! The way of a publish to the backplane: what may be published at all, and the bounds of this node. Delivery lives elsewhere.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use super::{CONTROL_TIMEOUT, Hub, keep_of};
use crate::{
    Act, ControlQuestion, Namespace, Publish, PublishError, PublishFailed, Published, Refusal, Target, Topic, session::not_available,
};

/// Idempotency keys, keys and epochs of versions are no longer than this, in bytes: they are kept.
const KEY_MAX: usize = 255;

impl Hub {
    /// Appends and sends, after it was looked at and the bounds of this node are checked.
    ///
    /// The caller runs the errands.
    pub(crate) async fn publish(&self, topic: &Topic, namespace: &Namespace, publish: Publish) -> Result<Published, PublishError> {
        if self.closed.load(Relaxed) {
            return Err(PublishError::Closed);
        }
        check_keys(&publish).and_then(|()| self.check_removal(topic, namespace, &publish)).map_err(PublishError::Refused)?;
        if topic.namespace() == Some("session") {
            // One session hears it, and it ends with that: nothing is kept, no node but that session's is concerned.
            let question = ControlQuestion::Act(Target::Topic(topic.clone()), Act::Send(Arc::new(publish)));
            self.control.ask(question, CONTROL_TIMEOUT).await;
            self.stats.publishes.add(1);
            return Ok(Published::at(None));
        }
        if let Some(entry) = self.directory.find(topic)
            && !entry.has_room(publish.weight_bytes(topic))
        {
            self.stats.publishes_failed.add(1);
            return Err(PublishError::Overloaded);
        }
        let published = self.published_in_time(self.backplane.publish(topic, publish, keep_of(namespace))).await;
        match &published {
            Ok(published) => {
                self.stats.publishes.add(1);
                if published.outdated {
                    self.stats.publishes_outdated.add(1);
                }
            }
            Err(failed) => {
                self.stats.publishes_failed.add(1);
                if matches!(failed, PublishFailed::Full(_)) {
                    self.stats.publishes_without_room.add(1);
                }
            }
        }
        Ok(published?)
    }

    /// A removal where no state is kept would look like one to those who listen, and be none to those who come.
    pub(super) fn check_removal(&self, topic: &Topic, namespace: &Namespace, publish: &Publish) -> Result<(), Refusal> {
        if !publish.removed {
            return Ok(());
        }
        if publish.key.is_none() {
            return Err(Refusal::bad_request("a removal names no key").hint("say which key is removed"));
        }
        if publish.skip_history {
            let refusal = Refusal::bad_request("a removal that skips the history would leave the key in the state");
            return Err(refusal.hint("leave skip_history out"));
        }
        if namespace.keeps_state() && self.backplane.capabilities().state {
            return Ok(());
        }
        Err(not_available("state by key", topic, "keyed = true"))
    }
}

/// Whether what is kept beside the data is short enough.
pub(crate) fn check_keys(publish: &Publish) -> Result<(), Refusal> {
    let version_epoch = publish.version.as_ref().and_then(|version| version.epoch.as_ref());
    for (what, text) in [
        ("an idempotency key", publish.idempotency_key.as_ref()),
        ("a key", publish.key.as_ref()),
        ("the epoch of a version", version_epoch),
    ] {
        if text.is_some_and(|text| text.len() > KEY_MAX) {
            return Err(Refusal::bad_request(format!("{what} has at most {KEY_MAX} bytes")));
        }
    }
    Ok(())
}
