//! What waits for the application: a bounded queue between the driver and one reader. When the driver holds up the
//! socket for a full one lives in `driver`.
//!
//! A queue that is full holds up the socket. When that lasts too long the queue lags: what arrives is dropped and counted
//! in one [`Gap`] at its end, until the reader has taken half. So nothing is ever lost without a word.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use tokio::sync::Notify;

use crate::{Event, Gap, GapReason, Notice};

/// What can stand in a queue.
pub(crate) trait Item {
    /// Bytes that count against the bound.
    fn weight_bytes(&self) -> usize;
    /// Whether nothing follows it, so that it must not be dropped.
    fn is_last(&self) -> bool;
    /// Whether it counts as a publication when it is dropped.
    fn is_publication(&self) -> bool;
    fn gap(gap: Gap) -> Self;
    fn as_gap(&mut self) -> Option<&mut Gap>;
}

impl Item for Event {
    fn weight_bytes(&self) -> usize {
        const ENVELOPE: usize = 128;
        match self {
            Self::Publication(publication) => ENVELOPE + publication.data.as_str().len(),
            Self::Subscribed(subscribed) => ENVELOPE + subscribed.snapshot.as_ref().map_or(0, |data| data.as_str().len()),
            Self::Gap(_) => 0,
            _ => ENVELOPE,
        }
    }

    fn is_last(&self) -> bool {
        matches!(self, Self::Unsubscribed(_))
    }

    fn is_publication(&self) -> bool {
        matches!(self, Self::Publication(_))
    }

    fn gap(gap: Gap) -> Self {
        Self::Gap(gap)
    }

    fn as_gap(&mut self) -> Option<&mut Gap> {
        if let Self::Gap(gap) = self { Some(gap) } else { None }
    }
}

impl Item for Notice {
    fn weight_bytes(&self) -> usize {
        match self {
            Self::Topic { event, .. } => event.weight_bytes(),
            Self::Message(data) => data.as_str().len(),
            Self::Gap(_) => 0,
        }
    }

    fn is_last(&self) -> bool {
        false
    }

    fn is_publication(&self) -> bool {
        matches!(self, Self::Topic { event, .. } if event.is_publication()) || matches!(self, Self::Message(_))
    }

    fn gap(gap: Gap) -> Self {
        Self::Gap(gap)
    }

    fn as_gap(&mut self) -> Option<&mut Gap> {
        if let Self::Gap(gap) = self { Some(gap) } else { None }
    }
}

/// See the module's text.
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    /// Told when a full queue has room again.
    room: Arc<Notify>,
    items_max: usize,
    bytes_max: usize,
}

struct State<T> {
    items: VecDeque<T>,
    bytes: usize,
    lagging: bool,
    /// Nothing is put in any more.
    ended: bool,
    reader: Option<Waker>,
}

/// The driver's view of a queue of any kind.
pub(crate) trait Bounded: Send + Sync {
    /// Whether the reader should be waited for.
    fn is_full(&self) -> bool;
    /// Whether there is twice as much as a full queue holds.
    fn is_crammed(&self) -> bool;
    /// The reader was waited for long enough.
    fn lag(&self);
}

impl<T: Item> Queue<T> {
    pub(crate) fn new(items_max: usize, bytes_max: usize, room: Arc<Notify>) -> Self {
        let state = State { items: VecDeque::new(), bytes: 0, lagging: false, ended: false, reader: None };
        Self { state: Mutex::new(state), room, items_max: items_max.max(1), bytes_max: bytes_max.max(1) }
    }

    /// Puts an item at the end, or counts it in a gap.
    pub(crate) fn push(&self, item: T) {
        let mut state = self.lock();
        if state.ended {
            return;
        }
        state.lagging &= !self.has_room_again(&state);
        state.ended = item.is_last();
        if state.lagging && !state.ended {
            let missed = u64::from(item.is_publication());
            match state.items.back_mut().and_then(T::as_gap).filter(|gap| gap.reason == GapReason::SlowReader) {
                Some(gap) => gap.missed = gap.missed.map(|known| known + missed),
                None => state.items.push_back(T::gap(Gap { reason: GapReason::SlowReader, missed: Some(missed) })),
            }
        } else {
            state.bytes += item.weight_bytes();
            state.items.push_back(item);
        }
        if let Some(reader) = state.reader.take() {
            drop(state);
            reader.wake();
        }
    }

    /// Nothing comes any more; what is in the queue can still be read.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        if let Some(reader) = state.reader.take() {
            drop(state);
            reader.wake();
        }
    }

    /// The oldest item; `None` when nothing comes any more.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut state = self.lock();
        let was_full = self.full(&state);
        let Some(item) = state.items.pop_front() else {
            if state.ended {
                return Poll::Ready(None);
            }
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        state.bytes = state.bytes.saturating_sub(item.weight_bytes());
        if was_full && !self.full(&state) {
            drop(state);
            self.room.notify_one();
        }
        Poll::Ready(Some(item))
    }

    fn full(&self, state: &State<T>) -> bool {
        !state.lagging && !state.ended && (state.items.len() >= self.items_max || state.bytes >= self.bytes_max)
    }

    fn has_room_again(&self, state: &State<T>) -> bool {
        state.items.len() <= self.items_max / 2 && state.bytes <= self.bytes_max / 2
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing in here panics half-way through a change, so a poisoned state is a whole one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Item + Send> Bounded for Queue<T> {
    fn is_full(&self) -> bool {
        self.full(&self.lock())
    }

    fn is_crammed(&self) -> bool {
        let state = self.lock();
        self.full(&state) && (state.items.len() >= self.items_max * 2 || state.bytes >= self.bytes_max * 2)
    }

    fn lag(&self) {
        self.lock().lagging = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Payload, Publication};

    fn publication(number: u32) -> Event {
        Event::Publication(Publication {
            data: Payload::of(&number).unwrap(),
            position: None,
            publisher: None,
            tags: std::collections::BTreeMap::default(),
            published_at_ms: None,
        })
    }

    fn next(queue: &Queue<Event>) -> Option<Event> {
        match queue.poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(event) => event,
            Poll::Pending => None,
        }
    }

    fn queue(items_max: usize, bytes_max: usize) -> Queue<Event> {
        Queue::new(items_max, bytes_max, Arc::new(Notify::new()))
    }

    #[test]
    fn a_queue_that_lags_counts_what_it_drops_in_one_gap_and_goes_on_when_half_is_read() {
        let queue = queue(2, 1 << 20);
        queue.push(publication(1));
        assert!(!queue.is_full());
        queue.push(publication(2));
        assert!(queue.is_full());
        queue.lag();
        assert!(!queue.is_full(), "a lagging queue holds nobody up");
        for number in 3..6 {
            queue.push(publication(number));
        }
        assert_eq!(next(&queue), Some(publication(1)));
        assert_eq!(next(&queue), Some(publication(2)));
        queue.push(publication(6));
        assert_eq!(next(&queue), Some(Event::Gap(Gap { reason: GapReason::SlowReader, missed: Some(3) })));
        assert_eq!(next(&queue), Some(publication(6)));
    }

    #[test]
    fn bytes_fill_a_queue_too() {
        let queue = queue(100, 300);
        queue.push(publication(1));
        queue.push(publication(2));
        assert!(!queue.is_full());
        queue.push(publication(3));
        assert!(queue.is_full() && !queue.is_crammed());
    }

    #[test]
    fn the_end_is_never_dropped() {
        let queue = queue(1, 1 << 20);
        queue.push(publication(1));
        queue.lag();
        let last = Event::Unsubscribed(crate::Unsubscribed::ByServer { code: 2000, reason: "over".into() });
        queue.push(last.clone());
        queue.push(publication(2));
        assert_eq!([next(&queue), next(&queue), next(&queue)], [Some(publication(1)), Some(last), None]);
    }
}
