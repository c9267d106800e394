//! The subscriptions of one session, and how far each has come.

use std::sync::Arc;

use super::effect::Generation;
use crate::{CommandId, Namespace, Payload, Since, Topic};

/// One session listening to one topic, or about to.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) topic: Topic,
    pub(crate) namespace: Arc<Namespace>,
    pub(crate) generation: Generation,
    /// What is needed until it is live; `None` once it is.
    pub(crate) pending: Option<Box<Pending>>,
    /// One JSON value that others see beside the session in this topic.
    pub(crate) topic_info: Option<bytes::Bytes>,
}

/// A subscription that is not live yet.
#[derive(Debug)]
pub(crate) struct Pending {
    /// Whom to answer.
    pub(crate) command: CommandId,
    /// Whether the hub was asked to join.
    pub(crate) joining: bool,
    pub(crate) since: Option<Since>,
    pub(crate) join_leave: bool,
    pub(crate) refuse_unrecovered: bool,
    /// The application's data for the answer.
    pub(crate) data: Option<Payload>,
}

/// The subscriptions of one session. Few: a linear search over pointers is the fastest map.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions(Vec<Subscription>);

impl Subscriptions {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn find(&self, topic: &Topic) -> Option<&Subscription> {
        self.0.iter().find(|subscription| subscription.topic == *topic)
    }

    pub(crate) fn find_mut(&mut self, topic: &Topic) -> Option<&mut Subscription> {
        self.0.iter_mut().find(|subscription| subscription.topic == *topic)
    }

    pub(crate) fn add(&mut self, subscription: Subscription) {
        if self.0.capacity() == 0 {
            // Most sessions have one or two: the default first allocation is four.
            self.0.reserve_exact(1);
        }
        self.0.push(subscription);
    }

    pub(crate) fn remove(&mut self, topic: &Topic) -> Option<Subscription> {
        let at = self.0.iter().position(|subscription| subscription.topic == *topic)?;
        Some(self.0.swap_remove(at))
    }

    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Subscription> + '_ {
        self.0.drain(..)
    }
}
