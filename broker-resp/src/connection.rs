//! One connection while it lives: writing in batches, reading, matching answers with calls, noticing silence. Getting one lives in `connect`.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    sync::atomic::Ordering::Relaxed,
    task::{Context, Poll},
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    io::AsyncReadExt,
    time::{Instant, Sleep, sleep_until},
};

use crate::{
    CallError, Command, Decoder, DisconnectReason, Frame, NoAnswer, NotSent, Options, Push, Value,
    connect::{Ready, Stream},
    outbox::{Ending, Shared},
    pending::{Accepted, Pending},
};

/// How a connection ended.
#[derive(Debug)]
pub(crate) enum End {
    /// Something went wrong.
    Lost(DisconnectReason),
    /// The link is at its end.
    Closed,
}

/// A connection that has said hello.
pub(crate) struct Connection<'a> {
    shared: &'a Shared,
    options: &'a Options,
    stream: Box<dyn Stream>,
    decoder: Decoder,
    input: BytesMut,
    /// Commands that are being written, and how much of them is.
    output: Vec<u8>,
    output_written: usize,
    /// Written bytes may still be in a layer above the socket.
    flushing: bool,
    /// The turn that other tasks get before calls are taken was given.
    gathered: bool,
    /// What the server owes, in the order of the wire.
    owed: VecDeque<Pending>,
    /// Pushes of one read.
    pushes: Vec<Push>,
    /// No owed answer has an earlier deadline.
    earliest: Option<Instant>,
    /// When deadlines were looked at last.
    swept_at: Instant,
    /// When something came last, and when an answer did.
    heard_at: Instant,
    answered_at: Instant,
    /// Since when answers are owed without a break, or what is owed first has not been written in whole.
    asked_at: Instant,
    /// Wakes the task for deadlines and silence. It may ring early.
    alarm: Pin<Box<Sleep>>,
}

/// Room for a read.
const READ_BYTES: usize = 64 * 1024;

/// A read into less room than this is not worth its call.
const READ_MIN_BYTES: usize = 8 * 1024;

/// The room for a large reply grows in steps, since lengths are only announced.
const READ_MAX_BYTES: usize = 1024 * 1024;

/// Deadlines are looked at together, at most this often.
const SWEEP_INTERVAL: Duration = Duration::from_millis(5);

/// A buffer that one large batch needed is not kept.
const OUTPUT_KEPT_BYTES: usize = 256 * 1024;

/// How often reads and writes alternate before other tasks get their turn.
const ROUNDS: usize = 16;

/// How many times as long as for any byte an answer is waited for.
const ANSWER_PATIENCE: u32 = 3;

impl<'a> Connection<'a> {
    pub(crate) fn new(shared: &'a Shared, options: &'a Options, ready: Ready) -> Self {
        let now = Instant::now();
        Self {
            shared,
            options,
            stream: ready.stream,
            decoder: ready.decoder,
            input: ready.input,
            output: Vec::new(),
            output_written: 0,
            flushing: false,
            gathered: false,
            owed: VecDeque::new(),
            pushes: Vec::new(),
            earliest: None,
            swept_at: now,
            heard_at: now,
            answered_at: now,
            asked_at: now,
            alarm: Box::pin(sleep_until(now + options.ping_interval)),
        }
    }

    /// Runs until the connection ends. What is owed then has failed.
    pub(crate) async fn run(mut self) -> End {
        let end = poll_fn(|context| self.poll(context)).await;
        let (no_answer, not_sent) = match end {
            End::Lost(_) => (NoAnswer::Lost, NotSent::Lost),
            End::Closed => (NoAnswer::Closed, NotSent::Closed),
        };
        self.fail_all(no_answer, not_sent);
        end
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<End> {
        // The hello may have brought more than its answers.
        if let Err(reason) = self.decode() {
            return Poll::Ready(End::Lost(reason));
        }
        for _ in 0..ROUNDS {
            let orders = self.shared.look(context, self.output.len() - self.output_written);
            if orders.reconnect {
                return Poll::Ready(End::Lost(DisconnectReason::Asked));
            }
            if self.is_over(orders.ending, orders.waiting) {
                return Poll::Ready(End::Closed);
            }
            let now = Instant::now();
            // The first of many callers wakes this task, and the scheduler runs it next, before the others can call: 64 tasks on one thread then have
            // a write for each call. After one turn for everybody else they share one.
            let gathering = orders.waiting && !self.gathered;
            self.gathered = orders.waiting;
            let progress = self.write(context, orders.waiting && !gathering, now).and_then(|wrote| Ok(self.read(context, now)? || wrote));
            let alarm = self.watch(context, orders.earliest, orders.ending);
            match (progress, alarm) {
                (Err(reason), _) | (_, Err(reason)) => return Poll::Ready(End::Lost(reason)),
                _ if gathering => break,
                (Ok(false), Ok(false)) => return Poll::Pending,
                _ => {}
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn is_over(&self, ending: Option<Ending>, waiting: bool) -> bool {
        match ending {
            None => false,
            Some(Ending::Now) => true,
            Some(Ending::By(deadline)) => {
                let idle = !waiting && self.output.is_empty() && self.owed.is_empty();
                idle || Instant::now() >= deadline
            }
        }
    }

    /// Writes what waits until the socket takes no more; says whether anything was written.
    fn write(&mut self, context: &mut Context<'_>, mut waiting: bool, now: Instant) -> Result<bool, DisconnectReason> {
        let mut progress = false;
        loop {
            if self.output_written == self.output.len() {
                self.output.clear();
                self.output.shrink_to(OUTPUT_KEPT_BYTES);
                self.output_written = 0;
                if !waiting {
                    break;
                }
                self.next_batch(now);
                self.gathered = false;
                waiting = false;
            }
            let stream = Pin::new(&mut *self.stream);
            match stream.poll_write(context, &self.output[self.output_written..]) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => return Err(DisconnectReason::Broken(io::ErrorKind::WriteZero)),
                Poll::Ready(Ok(written)) => {
                    if self.first_is_unwritten() {
                        self.asked_at = now;
                    }
                    self.output_written += written;
                    self.shared.tally.bytes_out.fetch_add(written as u64, Relaxed);
                    self.shared.tally.writes.fetch_add(1, Relaxed);
                    (progress, self.flushing) = (true, true);
                }
                Poll::Ready(Err(error)) => return Err(DisconnectReason::Broken(error.kind())),
            }
        }
        if self.flushing {
            match Pin::new(&mut *self.stream).poll_flush(context) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.flushing = false,
                Poll::Ready(Err(error)) => return Err(DisconnectReason::Broken(error.kind())),
            }
        }
        Ok(progress)
    }

    fn next_batch(&mut self, now: Instant) {
        if self.owed.is_empty() {
            self.asked_at = now;
        }
        let earliest = self.shared.take_batch(&mut self.output, &mut self.owed);
        self.earliest = sooner(self.earliest, earliest);
    }

    /// Whether what is owed first has not left in whole, so that no answer can be expected.
    fn first_is_unwritten(&self) -> bool {
        self.owed.front().is_some_and(|_| self.unwritten_from() == 0)
    }

    /// The first entry of `owed` that has not been written in whole.
    fn unwritten_from(&self) -> usize {
        let mut left = self.output.len() - self.output_written;
        let mut first = self.owed.len();
        for (place, pending) in self.owed.iter().enumerate().rev() {
            if left == 0 {
                break;
            }
            left = left.saturating_sub(pending.len_bytes);
            first = place;
        }
        first
    }

    /// Reads once; says whether anything came.
    fn read(&mut self, context: &mut Context<'_>, now: Instant) -> Result<bool, DisconnectReason> {
        let missing = self.decoder.missing_bytes(&self.input);
        if self.input.capacity() - self.input.len() < missing.clamp(READ_MIN_BYTES, READ_MAX_BYTES) {
            self.input.reserve(missing.clamp(READ_BYTES, READ_MAX_BYTES));
        }
        let reading = pin!(self.stream.read_buf(&mut self.input));
        match reading.poll(context) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Ok(0)) => return Err(DisconnectReason::ClosedByServer),
            Poll::Ready(Ok(len)) => {
                self.shared.tally.bytes_in.fetch_add(len as u64, Relaxed);
                self.heard_at = now;
            }
            Poll::Ready(Err(error)) => return Err(DisconnectReason::Broken(error.kind())),
        }
        if self.decode()? {
            self.answered_at = now;
        }
        Ok(true)
    }

    /// Hands on everything that is complete; says whether there was an answer among it.
    fn decode(&mut self) -> Result<bool, DisconnectReason> {
        let mut answered = false;
        let outcome = loop {
            if self.input.is_empty() {
                break Ok(());
            }
            match self.decoder.next(&mut self.input) {
                Ok(None) => break Ok(()),
                Ok(Some(Frame::Push(push))) => self.pushes.push(push),
                Ok(Some(Frame::Reply(value))) => {
                    // Whoever has a confirmation's answer finds the confirmation among the events.
                    self.tell_pushes();
                    answered = true;
                    if let Err(reason) = self.answer(value) {
                        break Err(reason);
                    }
                }
                Err(error) => break Err(DisconnectReason::Unreadable(error)),
            }
        };
        self.tell_pushes();
        outcome.map(|()| answered)
    }

    fn answer(&mut self, value: Value) -> Result<(), DisconnectReason> {
        let first = self.owed.front_mut().ok_or(DisconnectReason::OutOfStep)?;
        match first.accept(value) {
            Accepted::More => Ok(()),
            Accepted::OutOfStep => Err(DisconnectReason::OutOfStep),
            Accepted::Complete => {
                self.shared.tally.waiting.fetch_sub(first.commands, Relaxed);
                self.owed.pop_front();
                Ok(())
            }
        }
    }

    fn tell_pushes(&mut self) {
        if self.pushes.is_empty() {
            return;
        }
        self.shared.tally.pushes.fetch_add(self.pushes.len() as u64, Relaxed);
        let dropped = self.shared.inbox.pushes(self.pushes.drain(..));
        self.shared.tally.pushes_dropped.fetch_add(dropped, Relaxed);
    }

    /// Looks at deadlines and at silence, and sets the alarm; says whether there is something new to write.
    fn watch(&mut self, context: &mut Context<'_>, outside: Option<Instant>, ending: Option<Ending>) -> Result<bool, DisconnectReason> {
        let close_at = ending.and_then(|ending| if let Ending::By(deadline) = ending { Some(deadline) } else { None });
        let mut pinged = false;
        // The alarm is moved only where it would ring too late: most deadlines are met before it rings.
        let next_sweep_at = self.swept_at + SWEEP_INTERVAL;
        if let Some(at) = sooner(sooner(self.earliest, outside), close_at).map(|at| at.max(next_sweep_at))
            && at < self.alarm.deadline()
        {
            self.alarm.as_mut().reset(at);
        }
        while self.alarm.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            let silence_at = self.silence(now)?;
            if self.owed.is_empty() && now >= self.answered_at + self.options.ping_interval {
                self.ping(now);
                pinged = true;
            }
            self.swept_at = now;
            let sweep_at = sooner(self.sweep(now), self.shared.sweep(now)).map(|at| at.max(now + SWEEP_INTERVAL));
            let at = sooner(sooner(sweep_at, close_at), silence_at).unwrap_or(now + self.options.ping_interval);
            self.alarm.as_mut().reset(at.max(now + Duration::from_millis(1)));
        }
        Ok(pinged)
    }

    /// Fails where the server owes an answer for too long; otherwise says when to look again.
    fn silence(&self, now: Instant) -> Result<Option<Instant>, DisconnectReason> {
        if self.owed.is_empty() {
            return Ok(Some((self.answered_at + self.options.ping_interval).max(now)));
        }
        let silent_at = self.heard_at.max(self.asked_at) + self.options.ping_timeout;
        let owing_at = self.answered_at.max(self.asked_at) + self.options.ping_timeout * ANSWER_PATIENCE;
        let at = silent_at.min(owing_at);
        if now >= at {
            let since = if silent_at <= owing_at { self.heard_at.max(self.asked_at) } else { self.answered_at.max(self.asked_at) };
            return Err(DisconnectReason::Silent(now - since));
        }
        Ok(Some(at))
    }

    /// Asks for a sign of life, where nothing else is asked.
    fn ping(&mut self, now: Instant) {
        let before = self.output.len();
        Command::new("PING").write_to(&mut self.output);
        self.owed.push_back(Pending::ping(now, self.output.len() - before));
        self.asked_at = now;
    }

    /// Tells callers whose time is over; their answers keep their place.
    fn sweep(&mut self, now: Instant) -> Option<Instant> {
        if self.earliest.is_none_or(|earliest| earliest > now) {
            return self.earliest;
        }
        self.earliest = None;
        for pending in self.owed.iter_mut().filter(|pending| pending.is_awaited()) {
            if pending.deadline <= now {
                pending.fail(&CallError::Unknown(NoAnswer::TimedOut));
                self.shared.tally.timed_out.fetch_add(1, Relaxed);
            } else {
                self.earliest = sooner(self.earliest, Some(pending.deadline));
            }
        }
        self.earliest
    }

    fn fail_all(&mut self, no_answer: NoAnswer, not_sent: NotSent) {
        // Of several commands that stand together and were written in part, the first may have taken effect.
        let first_unsent = self.unsent_from();
        for (place, mut pending) in self.owed.drain(..).enumerate() {
            self.shared.tally.waiting.fetch_sub(pending.commands, Relaxed);
            let error = if place < first_unsent { CallError::Unknown(no_answer) } else { CallError::NotSent(not_sent) };
            pending.fail(&error);
        }
    }

    /// The first entry of `owed` of which nothing was written.
    fn unsent_from(&self) -> usize {
        let mut left = self.output.len() - self.output_written;
        let mut first = self.owed.len();
        for (place, pending) in self.owed.iter().enumerate().rev() {
            if pending.len_bytes > left {
                break;
            }
            left -= pending.len_bytes;
            first = place;
        }
        first
    }
}

fn sooner(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
