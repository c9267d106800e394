//! Where callers and the link's task meet: calls that wait to be written, and what is told of the link. What is owed for written calls lives in
//! `connection`.

use std::{
    collections::VecDeque,
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Waker},
    time::SystemTime,
};

use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};

use crate::{
    CallError, Command, ConnectError, Counters, DisconnectReason, LinkState, NotSent, Options, Phase, Value, Wait,
    events::Inbox,
    pending::{Pending, Reply, fence_text},
};

/// What handles and the task share.
#[derive(Debug)]
pub(crate) struct Shared {
    outbox: Mutex<Outbox>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) tally: Tally,
    phase: watch::Sender<Phase>,
    queue_max_bytes: usize,
    calls_max: usize,
}

/// Counters that the task and callers add to.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) connects: AtomicU64,
    pub(crate) connect_failures: AtomicU64,
    calls: AtomicU64,
    overloaded: AtomicU64,
    pub(crate) timed_out: AtomicU64,
    pub(crate) pushes: AtomicU64,
    pub(crate) pushes_dropped: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    pub(crate) writes: AtomicU64,
    /// Commands that wait to be written or answered.
    pub(crate) waiting: AtomicUsize,
}

#[derive(Debug)]
struct Outbox {
    /// Whether there is a connection.
    up: bool,
    ending: Option<Ending>,
    reconnect: bool,
    /// Encoded commands, and who waits for their answers, in the same order.
    bytes: Vec<u8>,
    calls: VecDeque<Pending>,
    /// No call in `calls` has an earlier deadline.
    earliest: Option<Instant>,
    /// Bytes that the task has taken and not written.
    writing_bytes: usize,
    /// The number of the next fence.
    fences: u64,
    /// The task, where it waits for something to come in here.
    task: Option<Waker>,
    connect_error: Option<ConnectError>,
    last_disconnect: Option<(DisconnectReason, SystemTime)>,
}

/// How a link ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ending {
    /// At once.
    Now,
    /// When everything is answered, or at this moment.
    By(Instant),
}

/// What the task finds.
#[derive(Debug)]
pub(crate) struct Orders {
    pub(crate) ending: Option<Ending>,
    pub(crate) reconnect: bool,
    /// The earliest deadline of what waits here.
    pub(crate) earliest: Option<Instant>,
    /// Whether something waits here.
    pub(crate) waiting: bool,
}

impl Shared {
    pub(crate) fn new(options: &Options, inbox: Arc<Inbox>) -> Self {
        Self {
            outbox: Mutex::new(Outbox {
                up: false,
                ending: None,
                reconnect: false,
                bytes: Vec::new(),
                calls: VecDeque::new(),
                earliest: None,
                writing_bytes: 0,
                fences: 0,
                task: None,
                connect_error: None,
                last_disconnect: None,
            }),
            inbox,
            tally: Tally::default(),
            phase: watch::Sender::new(Phase::Connecting { since: std::time::Instant::now(), failures: 0 }),
            queue_max_bytes: options.queue_max_bytes,
            calls_max: options.calls_max,
        }
    }

    /// Queues commands. `reply` gets the number of the first fence; commands have fences where `fenced`.
    pub(crate) fn take(&self, commands: &[Command], wait: Wait, fenced: bool, reply: impl FnOnce(u64) -> Reply) -> Result<(), CallError> {
        let deadline = Instant::now() + wait.timeout;
        let mut outbox = self.outbox.lock();
        if outbox.ending.is_some() {
            return Err(CallError::NotSent(NotSent::Closed));
        }
        if !outbox.up && !wait.for_link {
            return Err(CallError::NotSent(NotSent::Disconnected));
        }
        let wanted: usize = commands.iter().map(|command| command.len_bytes() + if fenced { FENCE_MAX_BYTES } else { 0 }).sum();
        if outbox.bytes.len() + outbox.writing_bytes + wanted > self.queue_max_bytes
            || self.tally.waiting.load(Relaxed) + commands.len() > self.calls_max
        {
            self.tally.overloaded.fetch_add(1, Relaxed);
            return Err(CallError::Overloaded);
        }
        let before = outbox.bytes.len();
        let reply = reply(outbox.fences);
        for command in commands {
            command.write_to(&mut outbox.bytes);
            if fenced {
                let number = outbox.fences;
                outbox.fences += 1;
                Command::new("ECHO").arg(fence_text(number)).write_to(&mut outbox.bytes);
            }
        }
        let len_bytes = outbox.bytes.len() - before;
        outbox.calls.push_back(Pending { reply, deadline, for_link: wait.for_link, len_bytes, commands: commands.len() });
        outbox.earliest = Some(outbox.earliest.map_or(deadline, |earliest| earliest.min(deadline)));
        self.tally.waiting.fetch_add(commands.len(), Relaxed);
        self.tally.calls.fetch_add(commands.len() as u64, Relaxed);
        let task = outbox.task.take();
        drop(outbox);
        wake(task);
        Ok(())
    }

    /// What there is to do; the task is woken when this changes. So many bytes of the last batch are still to be written.
    pub(crate) fn look(&self, context: &Context<'_>, writing_bytes: usize) -> Orders {
        let mut outbox = self.outbox.lock();
        outbox.writing_bytes = writing_bytes;
        if !outbox.task.as_ref().is_some_and(|task| task.will_wake(context.waker())) {
            outbox.task = Some(context.waker().clone());
        }
        Orders {
            ending: outbox.ending,
            reconnect: mem::take(&mut outbox.reconnect),
            earliest: outbox.earliest,
            waiting: !outbox.calls.is_empty(),
        }
    }

    /// Moves everything that waits to the task: `bytes` is empty, and is filled; `calls` grows. Answers the earliest deadline among it.
    pub(crate) fn take_batch(&self, bytes: &mut Vec<u8>, calls: &mut VecDeque<Pending>) -> Option<Instant> {
        let mut outbox = self.outbox.lock();
        mem::swap(&mut outbox.bytes, bytes);
        outbox.writing_bytes = bytes.len();
        if calls.is_empty() {
            mem::swap(&mut outbox.calls, calls);
        } else {
            calls.append(&mut outbox.calls);
        }
        outbox.earliest.take()
    }

    /// Takes out what may not wait any longer and tells its callers. What is told so is never sent. Answers the earliest deadline of the rest.
    pub(crate) fn sweep(&self, now: Instant) -> Option<Instant> {
        let mut outbox = self.outbox.lock();
        if outbox.earliest.is_none_or(|earliest| earliest > now) {
            return outbox.earliest;
        }
        let late = outbox.remove(|call| call.deadline <= now);
        let earliest = outbox.earliest;
        drop(outbox);
        self.tally.timed_out.fetch_add(late.len() as u64, Relaxed);
        self.not_sent(late, NotSent::TimedOut);
        earliest
    }

    pub(crate) fn up(&self, generation: u64, server: Value) {
        let mut outbox = self.outbox.lock();
        outbox.up = true;
        outbox.reconnect = false;
        outbox.connect_error = None;
        drop(outbox);
        self.tally.connects.fetch_add(1, Relaxed);
        self.inbox.connected(generation, server);
        self.phase.send_replace(Phase::Connected { generation, since: std::time::Instant::now() });
    }

    /// The connection is lost: what may not wait for the next one fails.
    pub(crate) fn down(&self, generation: u64, reason: DisconnectReason) {
        let mut outbox = self.outbox.lock();
        outbox.up = false;
        outbox.last_disconnect = Some((reason.clone(), SystemTime::now()));
        let lost = outbox.remove(|call| !call.for_link);
        drop(outbox);
        self.phase.send_replace(Phase::Connecting { since: std::time::Instant::now(), failures: 0 });
        self.inbox.disconnected(generation, reason);
        self.not_sent(lost, NotSent::Lost);
    }

    /// A try to connect failed. Answers whether it failed as the one before.
    pub(crate) fn failed(&self, error: ConnectError) -> bool {
        self.tally.connect_failures.fetch_add(1, Relaxed);
        self.phase.send_modify(|phase| {
            if let Phase::Connecting { failures, .. } = phase {
                *failures += 1;
            }
        });
        self.outbox.lock().connect_error.replace(error.clone()).as_ref() == Some(&error)
    }

    /// The task is at its end.
    pub(crate) fn end(&self) {
        let mut outbox = self.outbox.lock();
        outbox.up = false;
        outbox.ending = Some(Ending::Now);
        let rest = outbox.remove(|_| true);
        drop(outbox);
        self.not_sent(rest, NotSent::Closed);
        self.inbox.end();
        self.phase.send_replace(Phase::Closed);
    }

    fn not_sent(&self, calls: Vec<Pending>, why: NotSent) {
        for mut call in calls {
            self.tally.waiting.fetch_sub(call.commands, Relaxed);
            call.fail(&CallError::NotSent(why));
        }
    }

    pub(crate) fn abandon(&self) {
        self.order(|outbox| outbox.ending = Some(Ending::Now));
    }

    pub(crate) fn close(&self, deadline: Instant) {
        self.order(|outbox| outbox.ending = outbox.ending.or(Some(Ending::By(deadline))));
    }

    pub(crate) fn reconnect(&self) {
        self.order(|outbox| outbox.reconnect = true);
    }

    fn order(&self, order: impl FnOnce(&mut Outbox)) {
        let mut outbox = self.outbox.lock();
        order(&mut outbox);
        let task = outbox.task.take();
        drop(outbox);
        wake(task);
    }

    /// Waits for a connection and answers its generation; `None` where the link has ended.
    pub(crate) async fn connected(&self) -> Option<u64> {
        let mut phase = self.phase.subscribe();
        let seen = phase.wait_for(|phase| !matches!(phase, Phase::Connecting { .. })).await;
        match seen.as_deref() {
            Ok(Phase::Connected { generation, .. }) => Some(*generation),
            _ => None,
        }
    }

    pub(crate) async fn ended(&self) {
        drop(self.phase.subscribe().wait_for(|phase| *phase == Phase::Closed).await);
    }

    pub(crate) fn state(&self) -> LinkState {
        let tally = &self.tally;
        let outbox = self.outbox.lock();
        LinkState {
            phase: self.phase.borrow().clone(),
            connect_error: outbox.connect_error.clone(),
            last_disconnect: outbox.last_disconnect.clone(),
            counters: Counters {
                connects: tally.connects.load(Relaxed),
                connect_failures: tally.connect_failures.load(Relaxed),
                calls: tally.calls.load(Relaxed),
                overloaded: tally.overloaded.load(Relaxed),
                timed_out: tally.timed_out.load(Relaxed),
                pushes: tally.pushes.load(Relaxed),
                pushes_dropped: tally.pushes_dropped.load(Relaxed),
                bytes_in: tally.bytes_in.load(Relaxed),
                bytes_out: tally.bytes_out.load(Relaxed),
                writes: tally.writes.load(Relaxed),
                calls_waiting: tally.waiting.load(Relaxed),
                queue_bytes: outbox.bytes.len() + outbox.writing_bytes,
                events_bytes: self.inbox.bytes(),
            },
        }
    }
}

impl Outbox {
    /// Takes calls out, with their bytes.
    fn remove(&mut self, mut which: impl FnMut(&Pending) -> bool) -> Vec<Pending> {
        let mut removed = Vec::new();
        let (mut kept, mut kept_bytes, mut at) = (VecDeque::new(), Vec::new(), 0);
        self.earliest = None;
        for call in mem::take(&mut self.calls) {
            let end = at + call.len_bytes;
            if which(&call) {
                removed.push(call);
            } else {
                kept_bytes.extend_from_slice(&self.bytes[at..end]);
                self.earliest = Some(self.earliest.map_or(call.deadline, |earliest| earliest.min(call.deadline)));
                kept.push_back(call);
            }
            at = end;
        }
        (self.calls, self.bytes) = (kept, kept_bytes);
        removed
    }
}

/// Longest fence: `*2 $4 ECHO $27 fence:18446744073709551615;` with the ends of their lines.
const FENCE_MAX_BYTES: usize = 64;

fn wake(task: Option<Waker>) {
    if let Some(task) = task {
        task.wake();
    }
}
