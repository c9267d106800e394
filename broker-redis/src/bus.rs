//! What comes by itself: the wanted channels, subscribed again on every connection. What the messages say lives in `follow`, `control`.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use broker_resp::{Command, Event, Events, Link, LinkState, Push};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::failure::Failure;

/// Hears what comes over one channel. Called by the bus's own task, so it must not block.
pub(crate) trait Hearer: Send + Sync + 'static {
    /// A message came.
    fn message(&self, payload: &Bytes);

    /// The channel is subscribed again: what came over it may have had holes until here.
    fn restored(&self);
}

/// The channels of one server that this node hears. Cloning copies a pointer.
#[derive(Clone)]
pub(crate) struct Bus {
    inner: Arc<Inner>,
}

struct Inner {
    link: Link,
    wanted: Mutex<HashMap<Bytes, Arc<dyn Hearer>>>,
    changes: Mutex<VecDeque<Change>>,
    changed: Notify,
    /// Messages that came, of any channel.
    heard: AtomicU64,
    /// Messages that no channel is wanted for: they came while it was given up.
    unwanted: AtomicU64,
}

/// A channel that is to be heard or not.
struct Change {
    channel: Bytes,
    wanted: bool,
    done: oneshot::Sender<Result<(), Failure>>,
}

/// Most channels in one command: the server does nothing else meanwhile.
const CHANNELS_MAX: usize = 500;

impl Bus {
    /// Begins to hear over a link of its own.
    pub(crate) fn open(link: Link, events: Events, timeout: Duration) -> Self {
        let inner = Arc::new(Inner {
            link,
            wanted: Mutex::default(),
            changes: Mutex::default(),
            changed: Notify::new(),
            heard: AtomicU64::new(0),
            unwanted: AtomicU64::new(0),
        });
        tokio::spawn(hear(Arc::downgrade(&inner), events, timeout));
        tokio::spawn(change(Arc::downgrade(&inner), timeout));
        Self { inner }
    }

    /// Hears a channel. `Ok`: whatever is sent from now on comes. After an error the channel stays wanted, and is subscribed with the next connection.
    pub(crate) async fn listen(&self, channel: &str, hearer: Arc<dyn Hearer>) -> Result<(), Failure> {
        let channel = Bytes::copy_from_slice(channel.as_bytes());
        self.inner.wanted.lock().insert(channel.clone(), hearer);
        self.change(channel, true).await
    }

    /// Hears a channel no more. `Ok`: nothing comes from now on.
    pub(crate) async fn leave(&self, channel: &str) -> Result<(), Failure> {
        let channel = Bytes::copy_from_slice(channel.as_bytes());
        self.inner.wanted.lock().remove(&channel);
        if !self.inner.link.state().is_connected() {
            // The next connection will know only what is wanted.
            return Ok(());
        }
        self.change(channel, false).await
    }

    async fn change(&self, channel: Bytes, wanted: bool) -> Result<(), Failure> {
        let (done, answer) = oneshot::channel();
        self.inner.changes.lock().push_back(Change { channel, wanted, done });
        self.inner.changed.notify_one();
        answer.await.unwrap_or_else(|_| Err(Failure::NotDone("the bus has ended".to_owned())))
    }

    /// How many messages came so far, of any channel.
    pub(crate) fn heard(&self) -> u64 {
        self.inner.heard.load(Relaxed)
    }

    /// Connects anew: whoever calls knows that nothing comes any more.
    pub(crate) fn reconnect(&self) {
        self.inner.link.reconnect();
    }

    pub(crate) fn state(&self) -> LinkState {
        self.inner.link.state()
    }
}

/// Hands messages on, and subscribes everything that is wanted with each connection, until the bus is gone.
async fn hear(inner: std::sync::Weak<Inner>, mut events: Events, timeout: Duration) {
    let mut batch = Vec::new();
    while events.next_batch(&mut batch).await {
        let Some(inner) = inner.upgrade() else { return };
        for event in batch.drain(..) {
            match event {
                Event::Push(push) => inner.push(push),
                Event::Connected { generation, .. } => {
                    tracing::debug!(generation, "the bus is connected");
                    tokio::spawn(subscribe_all(Arc::downgrade(&inner), generation, timeout));
                }
                Event::Disconnected { reason, .. } => tracing::warn!(%reason, "the bus lost its connection, nothing of other nodes comes until it is back"),
                Event::Overflowed { dropped } => {
                    tracing::warn!(dropped, "more came over the bus than this node could take, what is missing is read");
                    let hearers: Vec<_> = inner.wanted.lock().values().cloned().collect();
                    for hearer in hearers {
                        hearer.restored();
                    }
                }
                _ => {}
            }
        }
    }
}

impl Inner {
    fn push(&self, push: Push) {
        let Push::Message { channel, payload, .. } = &push else { return };
        self.heard.fetch_add(1, Relaxed);
        let hearer = self.wanted.lock().get(channel).cloned();
        match hearer {
            Some(hearer) => hearer.message(payload),
            None => _ = self.unwanted.fetch_add(1, Relaxed),
        }
    }

    fn generation(&self) -> Option<u64> {
        match self.link.state().phase {
            broker_resp::Phase::Connected { generation, .. } => Some(generation),
            _ => None,
        }
    }

    /// Subscribes channels, in commands of bounded size.
    async fn subscribe(&self, channels: &[Bytes], timeout: Duration) -> Vec<Result<(), Failure>> {
        let commands: Vec<Command> = channels.chunks(CHANNELS_MAX).map(|chunk| Command::new("SUBSCRIBE").args(chunk)).collect();
        let answers = self.link.send(&commands, timeout).await;
        let per_chunk = answers.into_iter().map(|answer| answer.map(drop).map_err(Failure::from));
        per_chunk.zip(channels.chunks(CHANNELS_MAX)).flat_map(|(answer, chunk)| chunk.iter().map(move |_| answer.clone())).collect()
    }
}

/// A new connection knows no subscription.
async fn subscribe_all(inner: std::sync::Weak<Inner>, generation: u64, timeout: Duration) {
    let mut pause = Duration::from_millis(50);
    loop {
        let Some(inner) = inner.upgrade() else { return };
        if inner.generation() != Some(generation) {
            return;
        }
        let wanted: Vec<(Bytes, Arc<dyn Hearer>)> = inner.wanted.lock().iter().map(|(name, hearer)| (name.clone(), hearer.clone())).collect();
        let channels: Vec<Bytes> = wanted.iter().map(|(name, _)| name.clone()).collect();
        let answers = inner.subscribe(&channels, timeout).await;
        let mut refused = None;
        for ((_, hearer), answer) in wanted.iter().zip(answers) {
            match answer {
                Ok(()) => hearer.restored(),
                Err(failure) => refused = Some(failure),
            }
        }
        let Some(failure) = refused else { return };
        tracing::error!(%failure, "Redis does not let this node hear its channels, trying again");
        drop(inner);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}

/// Sends changes as they come, many in one command.
async fn change(inner: std::sync::Weak<Inner>, timeout: Duration) {
    loop {
        let Some(strong) = inner.upgrade() else { return };
        let changes = std::mem::take(&mut *strong.changes.lock());
        if changes.is_empty() {
            // The bus's end wakes nobody: whoever waits here holds nothing but a time.
            let notified = async { strong.changed.notified().await };
            let _ = tokio::time::timeout(Duration::from_secs(1), notified).await;
            continue;
        }
        let (on, off): (Vec<Change>, Vec<Change>) = changes.into_iter().partition(|change| change.wanted);
        let names = |changes: &[Change]| changes.iter().map(|change| change.channel.clone()).collect::<Vec<_>>();
        if !off.is_empty() {
            let commands: Vec<Command> = names(&off).chunks(CHANNELS_MAX).map(|chunk| Command::new("UNSUBSCRIBE").args(chunk)).collect();
            let answers = strong.link.send(&commands, timeout).await;
            let failed = answers.into_iter().find_map(Result::err).map(Failure::from);
            for change in off {
                // Whoever asked may be gone.
                let _ = change.done.send(failed.clone().map_or(Ok(()), Err));
            }
        }
        if !on.is_empty() {
            let answers = strong.subscribe(&names(&on), timeout).await;
            for (change, answer) in on.into_iter().zip(answers) {
                let _ = change.done.send(answer);
            }
        }
    }
}
