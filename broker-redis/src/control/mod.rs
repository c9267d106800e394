//! Questions to all nodes, and their answers, over the bus. How they are written lives in `envelope`; which nodes there are, in `nodes`; what
//! is said to a node while it cannot hear, in `catch_up`.

mod asking;
mod catch_up;
mod envelope;
#[cfg(test)]
mod golden;
mod seen;

use std::{
    collections::VecDeque,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use broker_core::{ControlAnswer, ControlAnswers, ControlBus, ControlNode, ControlQuestion, Revocation};
use broker_resp::Command;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

pub(crate) use self::catch_up::CatchUp;
use self::{
    asking::{Asked, Asking, Finished},
    envelope::{Body, Head, Question, Unreadable},
    seen::{Seen, Verdict},
};
use crate::{
    bus::{Bus, Hearer},
    nodes::{Nodes, Standing},
    registry::RedisRegistry,
    servers::{Lane, Servers},
};

/// How long a node is waited for before it is asked again.
const REPEAT_INTERVAL: Duration = Duration::from_millis(300);
/// Longest question. What is sent to sessions is bounded by what a publish may carry.
const QUESTION_MAX_BYTES: usize = 4 << 20;
/// Revocations that are remembered as done, so that they are not done again when the log is read.
const REVOKED_MAX: usize = 1024;
/// How long the sending of one message may take.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// Questions to all nodes.
pub struct RedisControl {
    inner: Arc<Inner>,
}

/// What went wrong with questions, in numbers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct ControlStats {
    /// Messages that this node did not understand: another version of the broker sent them, or nobody that it knows.
    pub not_understood: u64,
    /// Questions of other nodes that this node did not take, since too many were asked.
    pub refused: u64,
    /// Nodes that were asked and did not answer in time, over all questions.
    pub silent: u64,
}

pub(super) struct Inner {
    servers: Servers,
    bus: Bus,
    nodes: Nodes,
    node: OnceLock<Weak<dyn ControlNode>>,
    asking: Arc<Asking>,
    seen: Mutex<Seen>,
    /// Revocations that were done lately.
    revoked: Mutex<VecDeque<Revocation>>,
    /// What came over the bus may have had holes until here.
    heard_again: Notify,
    not_understood: AtomicU64,
    refused: AtomicU64,
    silent: AtomicU64,
    runtime: tokio::runtime::Handle,
    catch_up: CatchUp,
}

impl RedisControl {
    /// Begins to hear what other nodes ask. Call it on the runtime on which questions are to be answered.
    pub(crate) fn open(servers: Servers, bus: Bus, nodes: Nodes, registry: Arc<RedisRegistry>) -> Self {
        let inner = Arc::new(Inner {
            servers,
            bus,
            nodes,
            node: OnceLock::new(),
            asking: Arc::default(),
            seen: Mutex::default(),
            revoked: Mutex::default(),
            heard_again: Notify::new(),
            not_understood: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            silent: AtomicU64::new(0),
            runtime: tokio::runtime::Handle::current(),
            catch_up: CatchUp::new(registry),
        });
        Self { inner }
    }

    /// Whether every revocation that was said up to the last heartbeat has been done here.
    pub fn has_caught_up(&self) -> bool {
        self.inner.catch_up.is_done()
    }

    /// What went wrong, in numbers.
    pub fn stats(&self) -> ControlStats {
        let Inner { not_understood, refused, silent, .. } = &*self.inner;
        ControlStats { not_understood: not_understood.load(Relaxed), refused: refused.load(Relaxed), silent: silent.load(Relaxed) }
    }
}

#[async_trait]
impl ControlBus for RedisControl {
    fn start(&self, node: Weak<dyn ControlNode>) {
        // A second start would be a second node with the same name.
        if self.inner.node.set(node).is_ok() {
            self.inner.runtime.spawn(listen(self.inner.clone()));
            self.inner.runtime.spawn(catch_up::run(Arc::downgrade(&self.inner)));
        }
    }

    fn known_nodes(&self) -> Vec<Arc<str>> {
        self.inner.nodes.view().nodes.iter().filter(|node| !node.is_lost).map(|node| node.about.id.clone()).collect()
    }

    fn troubles(&self) -> Vec<String> {
        let view = self.inner.nodes.view();
        let why = view.trouble.as_ref().map(|trouble| format!(": {trouble}")).unwrap_or_default();
        let trouble = match view.standing {
            Standing::Joining => "this node could not yet tell the others that it is there",
            Standing::CutOff => "the other nodes count this one as lost",
            Standing::Here if !self.has_caught_up() => "this node has not yet done every revocation that it did not hear of",
            Standing::Here => return Vec::new(),
        };
        vec![format!("{trouble}{why}")]
    }

    async fn ask(&self, question: ControlQuestion, deadline: Duration) -> ControlAnswers {
        let inner = self.inner.clone();
        // What was begun goes on where nobody waits for it.
        let asked = self.inner.runtime.spawn(async move { inner.ask(question, Instant::now() + deadline).await });
        asked.await.unwrap_or_else(|_| ControlAnswers::default().silent(vec![self.inner.nodes.about().id.clone()]))
    }
}

/// Hears questions and answers; where Redis is not there yet, as soon as it is.
async fn listen(inner: Arc<Inner>) {
    let names = inner.nodes.names().clone();
    let own = names.key(&inner.nodes.about().id);
    for (channel, hears_questions) in [(names.channel().to_owned(), true), (own, false)] {
        let ear = Ear { inner: Arc::downgrade(&inner), hears_questions };
        if let Err(failure) = inner.bus.listen(&channel, Arc::new(ear)).await {
            tracing::warn!(%failure, "this node does not hear yet what other nodes ask and answer");
        }
    }
    inner.nodes.hurry();
}

/// What comes over one channel.
struct Ear {
    inner: Weak<Inner>,
    hears_questions: bool,
}

impl Hearer for Ear {
    fn message(&self, payload: &Bytes) {
        let Some(inner) = self.inner.upgrade() else { return };
        match envelope::read(payload) {
            Ok((from, Body::Question(question))) => inner.asked(from, *question),
            Ok((from, Body::Answer(index, count, part))) => inner.asking.part(&from, index, count, *part),
            Ok((from, Body::Refusal(why))) => inner.asking.refused(&from, why),
            Err(error) => inner.unreadable(error),
        }
    }

    fn restored(&self) {
        if let Some(inner) = self.inner.upgrade().filter(|_| self.hears_questions) {
            inner.catch_up.begins_again();
            inner.heard_again.notify_one();
        }
    }
}

impl Inner {
    async fn ask(self: Arc<Self>, question: ControlQuestion, ends_at: Instant) -> ControlAnswers {
        let own = {
            let (inner, question) = (self.clone(), question.clone());
            tokio::spawn(async move { inner.answer(question).await })
        };
        let (mut answers, mut silent) = self.ask_others(question, ends_at).await;
        match timeout_at(ends_at, own).await {
            Ok(Ok(Some(answer))) => answers.insert(0, answer),
            // Without an engine there are no sessions.
            Ok(Ok(None)) => {}
            _ => silent.push(self.nodes.about().id.clone()),
        }
        self.silent.fetch_add(silent.len() as u64, Relaxed);
        ControlAnswers::whole(answers).silent(silent)
    }

    /// Asks all other nodes until each has answered or the time is over. Which those are, Redis says in the moment in which it sends the
    /// question; a node that is known as lost is not waited for, but named.
    async fn ask_others(&self, question: ControlQuestion, ends_at: Instant) -> (Vec<ControlAnswer>, Vec<Arc<str>>) {
        let head = Head { node: self.nodes.about().id.clone(), id: fastrand::u64(..) };
        let asked = self.asking.begin(head.id);
        let mut question = Question { to: None, question };
        // Before the first answer of Redis nobody knows who there is.
        let mut expected = None;
        let mut trouble = None;
        loop {
            let written = match envelope::question(&head, &question) {
                Ok(written) if written.len() <= QUESTION_MAX_BYTES => written,
                Ok(_) => return (Vec::new(), vec!["all others, since the question is too long to be sent".into()]),
                Err(error) => return (Vec::new(), vec![format!("all others, since {error}").into()]),
            };
            let names = self.nodes.names();
            match self.nodes.ask(names.channel(), &written, left(ends_at)).await {
                Ok(mut known) => {
                    if let Some(first) = expected.take() {
                        // Who came later was not meant; who has said goodbye has no sessions.
                        let first: Vec<crate::nodes::Asked> = first;
                        known.retain(|node| first.iter().any(|asked| asked.id == node.id));
                    }
                    expected = Some(known);
                }
                Err(failure) => {
                    tracing::warn!(%failure, "a question could not be sent to other nodes");
                    trouble = Some(failure);
                }
            }
            let Some(known) = &expected else { break };
            let repeat_at = (Instant::now() + REPEAT_INTERVAL).min(ends_at);
            let is_answered = || known.iter().all(|node| node.is_lost || asked.has_said(&node.id));
            while !is_answered() && timeout_at(repeat_at, asked.changed()).await.is_ok() {}
            if is_answered() || Instant::now() >= ends_at {
                break;
            }
            question.to = Some(known.iter().filter(|node| !asked.has_said(&node.id)).map(|node| node.id.clone()).collect());
        }
        match expected {
            Some(known) => Self::gather(asked, &known),
            None => (Vec::new(), self.unasked(trouble.map_or_else(String::new, |failure| failure.to_string()))),
        }
    }

    /// The answers that came, and the nodes that are known and gave none.
    fn gather(asked: Asked, known: &[crate::nodes::Asked]) -> (Vec<ControlAnswer>, Vec<Arc<str>>) {
        let Finished { mut answers, refusals } = asked.finish();
        for (node, why) in refusals {
            tracing::warn!(%node, %why, "a node did not do what all were asked");
        }
        let silent = known.iter().filter(|node| !answers.contains_key(&node.id)).map(|node| node.id.clone()).collect();
        (answers.drain().map(|(_, answer)| answer).collect(), silent)
    }

    /// Nobody could be asked: the nodes that were known last, or words where none were.
    fn unasked(&self, why: String) -> Vec<Arc<str>> {
        let me = &self.nodes.about().id;
        let known: Vec<_> = self.nodes.view().nodes.iter().filter(|node| node.about.id != *me).map(|node| node.about.id.clone()).collect();
        if known.is_empty() { vec![format!("any other node: {why}").into()] } else { known }
    }

    /// Answers as this node; `None`: its engine has ended, or is not there yet.
    async fn answer(&self, question: ControlQuestion) -> Option<ControlAnswer> {
        let node = self.node.get()?.upgrade()?;
        let revocation = if let ControlQuestion::Revoke(revocation) = &question { Some(revocation.clone()) } else { None };
        let answer = node.answer(question).await;
        if let Some(revocation) = revocation {
            let mut revoked = self.revoked.lock();
            revoked.truncate(REVOKED_MAX - 1);
            revoked.push_front(revocation);
        }
        Some(answer)
    }

    /// Another node asks.
    fn asked(self: &Arc<Self>, from: Head, question: Question) {
        let me = &self.nodes.about().id;
        let is_meant = from.node != *me && question.to.as_ref().is_none_or(|to| to.contains(me));
        if !is_meant {
            return;
        }
        let verdict = self.seen.lock().begin(&from, std::time::Instant::now());
        let inner = self.clone();
        match verdict {
            Verdict::Wait => {}
            Verdict::Do => drop(self.runtime.spawn(async move { inner.do_it(from, question.question).await })),
            Verdict::Again(answer) => drop(self.runtime.spawn(async move { inner.send(&from.node, &[answer]).await })),
            Verdict::Full => {
                self.refused.fetch_add(1, Relaxed);
                self.refuse(from, "too many questions were asked in the last seconds");
            }
        }
    }

    async fn do_it(&self, from: Head, question: ControlQuestion) {
        let head = Head { node: self.nodes.about().id.clone(), id: from.id };
        let parts = match self.answer(question).await.map(|answer| envelope::answer(&head, answer)) {
            Some(Ok(parts)) => parts,
            Some(Err(error)) => vec![envelope::refusal(&head, &error.to_string())],
            None => vec![envelope::refusal(&head, "its engine is not running")],
        };
        // An answer of many parts is not remembered: as long as it is being sent, nobody who asks again has it made and sent again.
        if parts.len() == 1 {
            self.seen.lock().done(&from, &parts);
        }
        self.send(&from.node, &parts).await;
        if parts.len() > 1 {
            self.seen.lock().done(&from, &parts);
        }
    }

    fn refuse(self: &Arc<Self>, from: Head, why: &str) {
        let head = Head { node: self.nodes.about().id.clone(), id: from.id };
        let (inner, refusal) = (self.clone(), envelope::refusal(&head, why));
        self.runtime.spawn(async move { inner.send(&from.node, &[refusal]).await });
    }

    /// Sends an answer, one part after the other, so that the asker's buffer in Redis never holds more than it can. What is lost is asked for again.
    async fn send(&self, to: &str, parts: &[Bytes]) {
        let names = self.nodes.names();
        let lane = if parts.len() == 1 { Lane::Publish } else { Lane::Read };
        for part in parts {
            let command = Command::new(self.servers.publish_word()).arg(names.key(to)).arg(part);
            if let Err(failure) = self.servers.call(lane, names, &command, SEND_TIMEOUT).await {
                tracing::warn!(%failure, "an answer to another node was not sent");
                return;
            }
        }
    }

    fn unreadable(self: &Arc<Self>, error: Unreadable) {
        let count = self.not_understood.fetch_add(1, Relaxed) + 1;
        if count.is_power_of_two() {
            tracing::error!(%error, count, "messages of other nodes are not understood: do all nodes run versions that go together?");
        }
        match error {
            Unreadable::NotUnderstood { ref head, is_question: true, .. } if head.node != self.nodes.about().id => {
                self.refuse(head.clone(), &error.to_string());
            }
            // Whoever asked is told why it has no answer, rather than that nobody gave one.
            Unreadable::NotUnderstood { ref head, .. } => self.asking.refused(head, error.to_string().into()),
            Unreadable::Malformed => {}
        }
    }
}

fn left(ends_at: Instant) -> Duration {
    ends_at.saturating_duration_since(Instant::now())
}
