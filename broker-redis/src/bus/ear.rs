//! The link over which one primary is heard: its channels are brought in line with what is wanted, in commands of bounded size. What is wanted, and
//! from whom, lives in `bus`.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Weak, atomic::Ordering::Relaxed},
    time::Duration,
};

use broker_resp::{CallError, Change, Command, Event, Events, Link, LinkState, Push, Value};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::Inner;
use crate::{
    failure::Failure,
    topology::{Arrangement, Primary, Redirect, slot_of},
};

/// Most channels in one command: the server does nothing else meanwhile.
const CHANNELS_MAX: usize = 500;
/// Most channels that are changed before the answers are awaited.
const ROUND_MAX: usize = 5000;
/// Pause before what failed is tried again; doubles with each failure...
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// ...to this.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// The link over which one primary is heard.
pub(super) struct Ear {
    id: u64,
    server: broker_resp::Address,
    link: Link,
    queue: Mutex<VecDeque<Item>>,
    changed: Arc<Notify>,
    /// Why the server cannot be used as it is configured.
    unsuitable: Mutex<Option<String>>,
    /// It does not let this node hear its channels.
    refused: Mutex<Option<Refused>>,
}

/// What a server says instead of letting this node hear its channels.
struct Refused {
    failure: Failure,
    /// How often it said so.
    times: u64,
}

/// What became of a round.
enum Round {
    Done,
    /// These could not be subscribed, and are wanted here still.
    Failed(Vec<Bytes>),
    /// There is no connection.
    Down,
}

/// A channel that is to be looked at: is it wanted here?
struct Item {
    channel: Bytes,
    done: Option<oneshot::Sender<Result<(), Failure>>>,
}

/// The words for channels that belong to slots, and for those that do not.
struct Words {
    on: &'static str,
    off: &'static str,
}

const SHARDED: Words = Words { on: "SSUBSCRIBE", off: "SUNSUBSCRIBE" };
const CLASSIC: Words = Words { on: "SUBSCRIBE", off: "UNSUBSCRIBE" };

impl Inner {
    /// Opens the link to a primary.
    pub(super) fn open_ear(&self, primary: &Primary) -> Arc<Ear> {
        let mut ears = self.ears.lock();
        if let Some(ear) = ears.get(primary.address()) {
            return ear.clone();
        }
        let (link, events) = Link::open(primary.target("bus"), crate::options::of_links());
        let id = self.ears_opened.fetch_add(1, Relaxed);
        let ear = Arc::new(Ear {
            id,
            server: primary.address().clone(),
            link,
            queue: Mutex::default(),
            changed: Arc::default(),
            unsuitable: Mutex::default(),
            refused: Mutex::default(),
        });
        tokio::spawn(hear(self.this.clone(), Arc::downgrade(&ear), id, events));
        tokio::spawn(settle(self.this.clone(), Arc::downgrade(&ear), ear.changed.clone()));
        ears.insert(primary.address().clone(), ear.clone());
        ear
    }
}

impl Ear {
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn is_connected(&self) -> bool {
        self.link.state().is_connected()
    }

    pub(super) fn state(&self) -> LinkState {
        self.link.state()
    }

    /// What is wrong although there is a connection.
    pub(super) fn trouble(&self, inner: &Inner) -> Option<String> {
        let mut refused = self.refused.lock();
        if inner.unheard(self.id).is_empty()
            && let Some(Refused { times, .. }) = refused.take()
        {
            tracing::info!(server = %self.server, times, "Redis lets this node hear its channels again");
        }
        let refused =
            refused.as_ref().map(|Refused { failure, .. }| format!("{} does not let this node hear its channels: {failure}", self.server));
        self.unsuitable.lock().clone().or(refused)
    }

    /// Each reason is worth one line, however often it is tried again.
    fn was_refused(&self, failure: &Failure) {
        let mut refused = self.refused.lock();
        match &mut *refused {
            Some(known) if known.failure == *failure => known.times += 1,
            _ => {
                tracing::error!(server = %self.server, %failure, "Redis does not let this node hear its channels; trying again for ever");
                *refused = Some(Refused { failure: failure.clone(), times: 1 });
            }
        }
    }

    pub(super) fn reconnect(&self) {
        self.link.reconnect();
    }

    /// Has a channel subscribed if it is wanted here, and given up if not.
    pub(super) fn settle(&self, channel: Bytes) {
        self.queue.lock().push_back(Item { channel, done: None });
        self.changed.notify_one();
    }

    /// The same, and tells when it is done.
    pub(super) async fn leave(&self, channel: Bytes) -> Result<(), Failure> {
        let (done, answer) = oneshot::channel();
        self.queue.lock().push_back(Item { channel, done: Some(done) });
        self.changed.notify_one();
        // An ear that has ended hears nothing.
        answer.await.unwrap_or(Ok(()))
    }

    fn next_round(&self) -> Vec<Item> {
        let mut queue = self.queue.lock();
        let count = queue.len().min(ROUND_MAX);
        queue.drain(..count).collect()
    }

    /// Brings channels in line with what is wanted.
    async fn change(&self, inner: &Inner, items: Vec<Item>) -> Round {
        let (mut on, mut off) = (HashSet::new(), HashSet::new());
        {
            let wanted = inner.wanted.lock();
            for Item { channel, .. } in &items {
                match wanted.get(channel).filter(|wanted| wanted.ear == Some(self.id)) {
                    Some(wanted) if wanted.is_heard => {}
                    Some(_) => _ = on.insert(channel.clone()),
                    None => _ = off.insert(channel.clone()),
                }
            }
        }
        let is_connected = self.is_connected();
        let mut failed = Vec::new();
        if is_connected {
            let words = if inner.is_sharded { &SHARDED } else { &CLASSIC };
            let (on, off) = (in_commands(on, inner.is_sharded), in_commands(off, inner.is_sharded));
            let give_up = self.send(words.off, &off, inner.timeout);
            let take = self.send(words.on, &on, inner.timeout);
            // What cannot be given up comes, and is dropped.
            let _ = give_up.await;
            let answers = take.await;
            failed = self.judge(inner, on.into_iter().zip(answers));
        } else if inner.topology.arrangement() == Arrangement::Standalone {
            // Nobody takes over: the next connection subscribes it, whenever that is.
            let why = self.state().trouble().unwrap_or_else(|| "it is connecting".to_owned());
            inner.failed(&on.into_iter().collect::<Vec<_>>(), &Failure::NotDone(format!("the bus has no connection: {why}")));
        }
        for done in items.into_iter().filter_map(|item| item.done) {
            let _ = done.send(Ok(()));
        }
        match (is_connected, failed.is_empty()) {
            (false, _) => Round::Down,
            (true, true) => Round::Done,
            (true, false) => Round::Failed(failed),
        }
    }

    /// Queues commands at once; their answers to come.
    fn send(
        &self,
        word: &'static str,
        channels: &[Vec<Bytes>],
        timeout: Duration,
    ) -> impl Future<Output = Vec<Result<Value, CallError>>> + use<> {
        let commands: Vec<Command> = channels.iter().map(|channels| Command::new(word).args(channels)).collect();
        let answers = (!commands.is_empty()).then(|| self.link.send(&commands, timeout));
        async { if let Some(answers) = answers { answers.await } else { Vec::new() } }
    }

    /// What was refused is never swallowed: another server has it, or it is tried again, and whoever waits in vain is told. What worked is
    /// confirmed by itself.
    fn judge(&self, inner: &Inner, answers: impl Iterator<Item = (Vec<Bytes>, Result<Value, CallError>)>) -> Vec<Bytes> {
        let (mut again, mut moved) = (Vec::new(), Vec::new());
        for (channels, answer) in answers {
            let Err(error) = answer else { continue };
            let redirect = if let CallError::Refused(error) = &error { Redirect::of(error, &self.server) } else { None };
            let failure = Failure::from(error);
            match redirect {
                Some(Redirect::Moved(slot, owner)) => moved.push((slot, owner)),
                _ => inner.topology.doubt(),
            }
            if matches!(failure, Failure::Refused(_)) {
                self.was_refused(&failure);
                inner.failed(&channels, &failure);
            }
            again.extend(channels);
        }
        if !moved.is_empty() {
            inner.topology.moved(moved);
            // Those that have another ear are subscribed there.
            for channel in &again {
                inner.place(channel);
            }
            let wanted = inner.wanted.lock();
            again.retain(|channel| wanted.get(channel).is_some_and(|wanted| wanted.ear == Some(self.id)));
        }
        again
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        // Whoever settles for it finds it gone.
        self.changed.notify_one();
    }
}

/// Channels of one command: those of one slot where that matters.
fn in_commands(channels: HashSet<Bytes>, is_sharded: bool) -> Vec<Vec<Bytes>> {
    let slot = |channel: &Bytes| if is_sharded { slot_of(channel) } else { 0 };
    let mut channels: Vec<(u16, Bytes)> = channels.into_iter().map(|channel| (slot(&channel), channel)).collect();
    channels.sort_unstable();
    let of_slots = channels.chunk_by(|(one, _), (other, _)| one == other);
    of_slots.flat_map(|slot| slot.chunks(CHANNELS_MAX)).map(|part| part.iter().map(|(_, channel)| channel.clone()).collect()).collect()
}

/// Hands messages on and keeps account of what is heard, until the ear is gone.
async fn hear(inner: Weak<Inner>, ear: Weak<Ear>, id: u64, mut events: Events) {
    let mut batch = Vec::new();
    while events.next_batch(&mut batch).await {
        let (Some(inner), Some(ear)) = (inner.upgrade(), ear.upgrade()) else { return };
        for event in batch.drain(..) {
            match event {
                Event::Push(Push::Message { channel, payload, .. }) => inner.message(id, &channel, &payload),
                Event::Push(Push::Subscription { change, channel: Some(channel), .. }) => told(&inner, &ear, change, channel),
                Event::Connected { generation, server } => {
                    tracing::debug!(server = %ear.server, generation, "the bus is connected");
                    let why = unsuitable(inner.topology.arrangement(), &server).map(|why| format!("{}: {why}", ear.server));
                    if let Some(why) = &why {
                        tracing::error!(why, "this server cannot be used as it is configured");
                    }
                    *ear.unsuitable.lock() = why;
                    ear.settle_all(inner.unheard(id));
                }
                Event::Disconnected { reason, .. } => {
                    tracing::warn!(server = %ear.server, %reason, "the bus lost a connection, nothing of other nodes comes from there until it is back");
                    inner.lost(id);
                    inner.topology.doubt();
                }
                Event::Overflowed { dropped } => {
                    tracing::warn!(server = %ear.server, dropped, "more came over the bus than this node could take, what is missing is read");
                    // Confirmations may be among it, and ends of subscriptions: all are asked for again.
                    inner.lost(id);
                    ear.settle_all(inner.unheard(id));
                }
                _ => {}
            }
        }
    }
}

/// A subscription began or ended.
fn told(inner: &Inner, ear: &Ear, change: Change, channel: Bytes) {
    match change {
        Change::Subscribed | Change::ShardSubscribed => inner.confirmed(ear.id, &channel),
        Change::Unsubscribed | Change::ShardUnsubscribed if inner.ended(ear.id, &channel) => {
            // Its slot has moved, and nobody asked: the server says where to when it is asked again.
            inner.topology.doubt();
            ear.settle(channel);
        }
        _ => {}
    }
}

impl Ear {
    fn settle_all(&self, channels: Vec<Bytes>) {
        self.queue.lock().extend(channels.into_iter().map(|channel| Item { channel, done: None }));
        self.changed.notify_one();
    }
}

/// Changes what is to be changed, until the ear is gone.
async fn settle(inner: Weak<Inner>, ear: Weak<Ear>, changed: Arc<Notify>) {
    let (mut pause, mut is_down) = (PAUSE_MIN, false);
    loop {
        let (round, link) = {
            let (Some(inner), Some(ear)) = (inner.upgrade(), ear.upgrade()) else { return };
            let items = ear.next_round();
            let round = if items.is_empty() { None } else { Some(ear.change(&inner, items).await) };
            (round, is_down.then(|| ear.link.clone()))
        };
        match (round, link) {
            (Some(Round::Done), _) => pause = PAUSE_MIN,
            (Some(Round::Down), _) => is_down = true,
            (Some(Round::Failed(failed)), _) => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
                let Some(inner) = inner.upgrade() else { return };
                for channel in &failed {
                    inner.place(channel);
                }
            }
            (None, None) => changed.notified().await,
            (None, Some(link)) => {
                // The link knows of a connection a moment later than whoever hears its events: what came in between is looked for here.
                tokio::select! {
                    () = changed.notified() => {}
                    up = link.connected(PAUSE_MAX) => if up.is_some() {
                        is_down = false;
                        let (Some(inner), Some(ear)) = (inner.upgrade(), ear.upgrade()) else { return };
                        ear.settle_all(inner.unheard(ear.id));
                    },
                }
            }
        }
    }
}

/// Why a server cannot be used as it is configured, by what it says in its hello.
fn unsuitable(arrangement: Arrangement, hello: &Value) -> Option<String> {
    let text = |name: &str| hello.field(name).and_then(Value::text);
    let version = text("version").unwrap_or_default();
    let major: u32 = version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(u32::MAX);
    match (arrangement, text("mode")) {
        (Arrangement::Cluster, _) if major < 7 => Some(format!(
            "version {version} has no sharded channels, and a cluster needs them: use Redis 7.0 or later, or a single server, or Sentinel"
        )),
        (Arrangement::Standalone | Arrangement::Sentinel, Some("cluster")) => {
            Some("the server is part of a cluster: say redis+cluster:// instead of redis://".to_owned())
        }
        (_, Some("sentinel")) => Some("this is a sentinel: say redis+sentinel://host:26379/name".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_has_channels_of_one_slot() {
        let channels: HashSet<Bytes> = ["{a}1", "{a}2", "{b}1"].map(Bytes::from).into();
        assert_eq!(in_commands(channels.clone(), true).iter().map(Vec::len).max(), Some(2));
        assert_eq!(in_commands(channels.clone(), true).len(), 2);
        assert_eq!(in_commands(channels, false).len(), 1);
        let many: HashSet<Bytes> = (0..1201).map(|n| Bytes::from(format!("{{a}}{n}"))).collect();
        assert_eq!(in_commands(many, true).iter().map(Vec::len).collect::<Vec<_>>(), [500, 500, 201]);
    }

    #[test]
    fn what_cannot_work_is_said_in_words() {
        let hello = |version: &'static str, mode: &'static str| {
            let text = |text: &'static str| Value::Bulk(text.into());
            Value::Map(vec![(text("version"), text(version)), (text("mode"), text(mode))])
        };
        let why = unsuitable(Arrangement::Cluster, &hello("6.2.7", "cluster")).expect("too old");
        assert!(why.contains("6.2.7") && why.contains("7.0"), "{why}");
        assert_eq!(unsuitable(Arrangement::Cluster, &hello("7.0.15", "cluster")), None);
        assert_eq!(unsuitable(Arrangement::Standalone, &hello("6.2.7", "standalone")), None);
        assert!(unsuitable(Arrangement::Standalone, &hello("7.0.15", "cluster")).is_some_and(|why| why.contains("redis+cluster://")));
        assert!(unsuitable(Arrangement::Standalone, &hello("7.0.15", "sentinel")).is_some_and(|why| why.contains("redis+sentinel://")));
    }
}
