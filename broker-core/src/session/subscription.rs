//! The subscriptions of one session, and how far each has come.

use std::{sync::Arc, time::Instant};

use super::effect::{Completion, Generation};
use crate::{CommandId, Namespace, Payload, Selection, Since, Topic};

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
    pub(crate) origin: Origin,
    /// When its own credentials end, leeway included.
    pub(crate) expires_at: Option<Instant>,
    /// What of the topic is wanted, where that is not everything.
    pub(crate) selection: Option<Arc<Selection>>,
}

/// Who made a subscription.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Origin {
    /// The client, by a command or its URL.
    Client,
    /// The client, with credentials of its user for this topic alone.
    Token,
    /// The server, since the session's identity brings it.
    Identity,
    /// The server, by an act of the API or the host.
    Server,
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
    /// The client asked for rows and their changes.
    pub(crate) keyed: bool,
    /// The application's data for the answer.
    pub(crate) data: Option<Payload>,
    /// Whoever waits for the subscription on the server's side.
    pub(crate) completion: Option<Completion>,
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

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Subscription> {
        self.0.iter()
    }

    /// The earliest end of a subscription's own credentials.
    pub(crate) fn next_end(&self) -> Option<Instant> {
        self.0.iter().filter_map(|subscription| subscription.expires_at).min()
    }

    pub(crate) fn take_all(&mut self) -> Vec<Subscription> {
        std::mem::take(&mut self.0)
    }
}
