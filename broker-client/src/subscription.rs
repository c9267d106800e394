//! The handles that applications read: one topic's events, and what the server says unasked.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;

use crate::{Event, Notice, Position, client::Shared, driver::Input, machine::SubscriptionId, queue::Queue};

/// One topic's events, in order: a stream that goes on over cuts and reconnects until [`Event::Unsubscribed`].
///
/// Read it all the time. When its queue is full the socket is held up, and with it all subscriptions of the client; after
/// [`ClientConfig::stall_timeout`](crate::ClientConfig::stall_timeout) publications are dropped and the loss is told as an
/// [`Event::Gap`]. Dropping it unsubscribes. It keeps the client alive.
pub struct Subscription {
    topic: Arc<str>,
    id: SubscriptionId,
    queue: Arc<Queue<Event>>,
    position: Option<Position>,
    client: Arc<Shared>,
}

impl Subscription {
    pub(crate) fn new(topic: Arc<str>, id: SubscriptionId, queue: Arc<Queue<Event>>, since: Option<Position>, client: Arc<Shared>) -> Self {
        Self { topic, id, queue, position: since, client }
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The position of the last publication that was read from this handle: keep it to resume in another process, with
    /// [`SubscribeConfig::since`](crate::SubscribeConfig::since). `None` before the subscription is live, and where the topic keeps no history.
    pub fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// The next event; `None` after the last.
    ///
    /// Cancel-safe: no event is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let polled = self.queue.poll_next(cx);
        if let Poll::Ready(Some(event)) = &polled {
            self.follow(event);
        }
        polled
    }

    fn follow(&mut self, event: &Event) {
        match event {
            Event::Publication(publication) if publication.position.is_some() => self.position.clone_from(&publication.position),
            // What was recovered follows; otherwise everything before the top is behind.
            Event::Subscribed(subscribed) if subscribed.recovered != Some(true) => self.position.clone_from(&subscribed.position),
            _ => {}
        }
    }
}

impl Stream for Subscription {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.poll_event(cx)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.client.registry.remove(&self.topic, self.id);
        self.client.tell(Input::Unsubscribe(self.id));
    }
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription").field("topic", &self.topic).field("position", &self.position).finish_non_exhaustive()
    }
}

/// What the server says unasked: topics that it chose for this session, and messages to it. Ends when the client closes.
///
/// Its queue holds 1,024 notices or 4 MiB and is bounded like a [`Subscription`]'s, with [`Notice::Gap`] for what was dropped.
pub struct Notices {
    queue: Arc<Queue<Notice>>,
    _client: Arc<Shared>,
}

impl Notices {
    pub(crate) fn new(queue: Arc<Queue<Notice>>, client: Arc<Shared>) -> Self {
        Self { queue, _client: client }
    }

    /// The next notice; `None` after the last.
    ///
    /// Cancel-safe: no notice is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Notice> {
        poll_fn(|cx| self.queue.poll_next(cx)).await
    }
}

impl Stream for Notices {
    type Item = Notice;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Notice>> {
        self.queue.poll_next(cx)
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        self.queue.end();
    }
}

impl std::fmt::Debug for Notices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notices").finish_non_exhaustive()
    }
}
