//! What a link tells without being asked, and the bounded queue it waits in. Who reads pushes off the wire lives in `connection`.

use std::{
    collections::VecDeque,
    mem,
    sync::Arc,
    task::{Poll, Waker},
};

use parking_lot::Mutex;

use crate::{DisconnectReason, Push, Value};

/// What a link tells. The order is that of the connection: a push belongs to the last [`Event::Connected`] before it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// There is a connection, and nothing is subscribed on it.
    Connected {
        /// Counts the connections of this link, from 1.
        generation: u64,
        /// What the server said of itself in its hello: `server`, `version`, `mode`, `role` and more, see [`Value::field`].
        server: Value,
    },
    /// The connection ended. Subscriptions ended with it. The next try to connect is under way.
    Disconnected {
        /// Which connection.
        generation: u64,
        /// Why it ended.
        reason: DisconnectReason,
    },
    /// The server pushed something.
    Push(Push),
    /// Pushes were dropped at this place, since this queue was full. Whatever is subscribed may have a gap here.
    Overflowed {
        /// How many.
        dropped: u64,
    },
}

/// The events of a link, for one reader. The link never waits for it: what does not fit is dropped and told.
///
/// Dropping it leaves the link as it is; events are then dropped.
#[derive(Debug)]
pub struct Events {
    inbox: Arc<Inbox>,
}

/// Both ends of the queue.
#[derive(Debug)]
pub(crate) struct Inbox {
    waiting: Mutex<Waiting>,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Event>,
    /// What the pushes among them cost.
    bytes: usize,
    /// How many of them are no pushes.
    told: usize,
    reader: Option<Waker>,
    /// Nothing comes any more.
    ended: bool,
    /// Nobody reads any more.
    abandoned: bool,
}

/// Events that are no pushes find room always, up to this many. Then everything that waits is dropped for one `Overflowed`.
const TOLD_MAX: usize = 1024;

impl Events {
    /// The next event; `None` once the link has ended and everything is read.
    ///
    /// Cancel-safe: an event is taken only where it is returned.
    pub async fn next(&mut self) -> Option<Event> {
        self.wait(Waiting::pop).await
    }

    /// Moves everything that waits to the end of `batch`, after waiting for something; `false` once the link has ended and everything is read.
    ///
    /// Cancel-safe: events are taken only where this returns.
    pub async fn next_batch(&mut self, batch: &mut Vec<Event>) -> bool {
        let take = |waiting: &mut Waiting| (!waiting.events.is_empty()).then(|| waiting.take_all());
        let Some(events) = self.wait(take).await else { return false };
        batch.extend(events);
        true
    }

    async fn wait<T>(&mut self, mut take: impl FnMut(&mut Waiting) -> Option<T>) -> Option<T> {
        std::future::poll_fn(|context| {
            let mut waiting = self.inbox.waiting.lock();
            if let Some(taken) = take(&mut waiting) {
                return Poll::Ready(Some(taken));
            }
            if waiting.ended {
                return Poll::Ready(None);
            }
            waiting.reader = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let mut waiting = self.inbox.waiting.lock();
        waiting.abandoned = true;
        let events = waiting.take_all();
        drop(waiting);
        drop(events);
    }
}

impl Inbox {
    pub(crate) fn open(max_bytes: usize) -> (Arc<Self>, Events) {
        let inbox = Arc::new(Self { waiting: Mutex::default(), max_bytes });
        (Arc::clone(&inbox), Events { inbox })
    }

    /// Takes pushes in order; answers how many had to be dropped.
    pub(crate) fn pushes(&self, pushes: impl Iterator<Item = Push>) -> u64 {
        let mut waiting = self.waiting.lock();
        let dropped = pushes.map(|push| u64::from(!waiting.push(push, self.max_bytes))).sum();
        waiting.wake();
        dropped
    }

    pub(crate) fn connected(&self, generation: u64, server: Value) {
        let mut waiting = self.waiting.lock();
        waiting.tell(Event::Connected { generation, server });
        waiting.wake();
    }

    pub(crate) fn disconnected(&self, generation: u64, reason: DisconnectReason) {
        let mut waiting = self.waiting.lock();
        waiting.tell(Event::Disconnected { generation, reason });
        waiting.wake();
    }

    pub(crate) fn end(&self) {
        let mut waiting = self.waiting.lock();
        waiting.ended = true;
        waiting.wake();
    }

    pub(crate) fn bytes(&self) -> usize {
        self.waiting.lock().bytes
    }
}

impl Waiting {
    fn pop(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        match &event {
            Event::Push(push) => self.bytes -= push.cost_bytes(),
            _ => self.told -= 1,
        }
        Some(event)
    }

    fn take_all(&mut self) -> VecDeque<Event> {
        self.bytes = 0;
        self.told = 0;
        mem::take(&mut self.events)
    }

    /// Whether the push found room.
    fn push(&mut self, push: Push, max_bytes: usize) -> bool {
        let cost = push.cost_bytes();
        if self.abandoned || self.bytes + cost > max_bytes {
            self.overflow(1);
            return false;
        }
        self.bytes += cost;
        self.events.push_back(Event::Push(push));
        true
    }

    fn overflow(&mut self, more: u64) {
        match self.events.back_mut() {
            Some(Event::Overflowed { dropped }) => *dropped += more,
            _ => self.tell(Event::Overflowed { dropped: more }),
        }
    }

    fn tell(&mut self, event: Event) {
        if self.abandoned {
            return;
        }
        if self.told >= TOLD_MAX {
            let lost = self.take_all().iter().map(pushes_in).sum();
            self.told = 1;
            self.events.push_back(Event::Overflowed { dropped: lost });
        }
        self.told += 1;
        self.events.push_back(event);
    }

    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

fn pushes_in(event: &Event) -> u64 {
    match event {
        Event::Push(_) => 1,
        Event::Overflowed { dropped } => *dropped,
        Event::Connected { .. } | Event::Disconnected { .. } => 0,
    }
}
