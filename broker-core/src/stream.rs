//! A topic's publications inside the process: a bounded stream without a session.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use atomic_waker::AtomicWaker;
use futures_core::Stream;
use parking_lot::Mutex;

use crate::{
    Gap, GapReason, Position, Publication, Topic,
    hub::{Hub, Missed, SlotRef},
};

/// What a [`TopicStream`] yields.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum StreamItem {
    /// The stream is live: everything published from here on comes, or a gap. The first item.
    Live {
        /// The top of the history at this moment; `None` where the namespace keeps none.
        position: Option<Position>,
    },
    /// Someone sent something.
    Publication(Arc<Publication>),
    /// Publications that this stream does not get: it was not read fast enough, or the history began anew.
    Gap(Gap),
}

/// A topic's publications inside the process. Bounded: when it is not read, the oldest go and a gap tells which.
///
/// Dropping it ends the subscription. `next` is cancel-safe.
pub struct TopicStream {
    feed: Arc<Feed>,
    hub: Arc<Hub>,
    at: SlotRef,
}

impl TopicStream {
    pub(crate) fn new(feed: Arc<Feed>, hub: Arc<Hub>, at: SlotRef) -> Self {
        Self { feed, hub, at }
    }

    /// The next item; `None` when the broker is gone, or the stream could not be made live: its history could not be read. Cancel-safe.
    pub async fn next(&mut self) -> Option<StreamItem> {
        std::future::poll_fn(|cx| self.feed.poll(cx)).await
    }
}

impl Stream for TopicStream {
    type Item = StreamItem;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<StreamItem>> {
        self.feed.poll(cx)
    }
}

impl Drop for TopicStream {
    fn drop(&mut self) {
        self.hub.gone(self.at);
    }
}

impl std::fmt::Debug for TopicStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TopicStream").field("topic", &self.feed.topic).finish_non_exhaustive()
    }
}

/// What a shard feeds a stream with.
pub(crate) struct Feed {
    topic: Topic,
    max_len: usize,
    state: Mutex<FeedState>,
    reader: AtomicWaker,
}

#[derive(Default)]
struct FeedState {
    /// The first item, until it is taken: it is not among those that go.
    live: Option<StreamItem>,
    /// What is missing before `missed`.
    unrecovered: Option<Gap>,
    /// What was published before the stream was live; shared with others, and not among those that go.
    missed: Missed,
    items: VecDeque<StreamItem>,
    /// What went since the oldest item.
    lost: Option<Gap>,
    ended: bool,
}

impl Feed {
    pub(crate) fn new(topic: Topic, max_len: usize) -> Self {
        Self { topic, max_len, state: Mutex::default(), reader: AtomicWaker::new() }
    }

    /// The stream is live.
    pub(crate) fn begin(&self, position: Option<Position>, unrecovered: Option<Gap>, missed: Missed) {
        let mut state = self.state.lock();
        state.live = Some(StreamItem::Live { position });
        state.unrecovered = unrecovered;
        state.missed = missed;
        drop(state);
        self.reader.wake();
    }

    pub(crate) fn push(&self, item: StreamItem) {
        let mut state = self.state.lock();
        if state.items.len() >= self.max_len {
            let lost = match state.items.pop_front() {
                Some(StreamItem::Publication(publication)) => (publication.position, publication.position),
                Some(StreamItem::Gap(gap)) => (gap.from, gap.to),
                _ => (None, None),
            };
            let from = state.lost.map_or(lost.0, |before| before.from);
            // One without a position hides none that went before it.
            let to = lost.1.or(state.lost.and_then(|before| before.to));
            state.lost = Some(Gap { from, to, reason: GapReason::SlowConsumer });
        }
        state.items.push_back(item);
        drop(state);
        self.reader.wake();
    }

    pub(crate) fn end(&self) {
        self.state.lock().ended = true;
        self.reader.wake();
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<StreamItem>> {
        self.reader.register(cx.waker());
        let mut state = self.state.lock();
        if let Some(live) = state.live.take() {
            return Poll::Ready(Some(live));
        }
        if let Some(gap) = state.unrecovered.take() {
            return Poll::Ready(Some(StreamItem::Gap(gap)));
        }
        if let Some(publication) = state.missed.take_first() {
            return Poll::Ready(Some(StreamItem::Publication(publication)));
        }
        if let Some(gap) = state.lost.take() {
            return Poll::Ready(Some(StreamItem::Gap(gap)));
        }
        match state.items.pop_front() {
            Some(item) => Poll::Ready(Some(item)),
            None if state.ended => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}
