//! The session's state machine: takes commands, answers and time, gives effects. No socket, lock, clock or chance in here.
//!
//! Commands about one topic are handled in their order: one that follows an open question about the same topic waits. Only publishes that the
//! backplane takes in their order are handed on before earlier ones are answered; they are answered in their order nevertheless.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    effect::{Answer, AskId, Completion, Effect, Generation, Question},
    entering::Entering,
    limits::Mistakes,
    rules::{Rules, named_from_outside},
    subscription::Subscriptions,
    switching::Switch,
    timer::{Timers, due},
};
use crate::{
    CloseReason, Command, CommandId, Cursor, Identity, Push, Refusal, RefusalKind, Reply, Request, SessionId, SessionInfo, Since, Subject,
    Subscribe, Tenant, Topic,
};

/// Questions that one session may have open at a time; further commands wait.
const QUESTIONS_MAX: usize = 64;
/// Commands that may wait for open questions; a further one is refused.
const WAITING_MAX: usize = 256;

/// What a session must know of its protocol.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manners {
    /// Whether a refusal reaches the client when the command had no id; otherwise the session closes with it.
    pub(crate) answers_without_id: bool,
    /// Whether the client's first command must be connect; otherwise the session is opened at once.
    pub(crate) awaits_connect: bool,
    /// The kind of pipe, for hooks.
    pub(crate) transport: &'static str,
    /// The name of the protocol, for hooks.
    pub(crate) protocol: &'static str,
    /// Whether the connection goes on when renewed credentials name another user.
    pub(crate) changes_user: bool,
    /// Whether a ping must be answered.
    pub(crate) answers_pings: bool,
}

/// Who is connected, what it listens to, its deadlines and open questions.
pub(crate) struct Session {
    pub(super) subject: Arc<Subject>,
    pub(super) rules: Arc<Rules>,
    pub(super) manners: Manners,
    pub(super) phase: Phase,
    /// Topics of the URL that are not live yet, while the opening is not told.
    pub(super) opening: Option<VecDeque<Subscribe>>,
    pub(super) subscriptions: Subscriptions,
    /// The topics of a new identity are not all live yet.
    pub(super) entering: Option<Box<Entering>>,
    /// Another identity that the server gives the session when it can be.
    pub(super) ordered_identity: Option<(Box<Identity>, Completion)>,
    /// The client knows the topic of its session.
    pub(super) told_own_topic: bool,
    /// The application is asked for a renewal before the credentials end, not the client.
    pub(super) renewed_by_server: bool,
    pub(super) timers: Timers,
    /// A ping was sent that no pong has answered; other signs of life do not change that.
    pong_is_due: bool,
    /// Part of the first ping's delay, 0 to 1.
    pub(super) chance: f32,
    pub(super) questions: Vec<Open>,
    waiting: VecDeque<Command>,
    pub(super) last_ask: u32,
    last_generation: u32,
    mistakes: Mistakes,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    /// Nobody in particular yet.
    Waiting,
    /// The application is asked who it is.
    Connecting,
    Connected,
    Closed,
}

/// A question whose answer is not here yet.
pub(super) struct Open {
    pub(super) id: AskId,
    pub(super) topic: Option<Topic>,
    pub(super) purpose: Purpose,
    /// A publish that has its place among those to its topic: another one need not wait for its answer.
    pub(super) in_line: bool,
    /// The answer of a publish that came before that of an earlier one to the same topic.
    pub(super) answer: Option<Answer>,
}

/// Where the server's own subscriptions resume from.
#[derive(Clone, Default)]
pub(super) struct Resumes {
    pub(super) named: Vec<(Topic, Since)>,
    pub(super) cursor: Option<Arc<dyn Cursor>>,
}

impl Resumes {
    /// Where a topic resumes from, given by its local name.
    pub(super) fn since(&self, topic: &Topic) -> Option<Since> {
        let named = self.named.iter().find(|(named, _)| named.local() == topic.local()).map(|(_, since)| *since);
        named.or_else(|| self.cursor.as_ref()?.since(topic.local()))
    }
}

/// What an answer is for.
pub(super) enum Purpose {
    /// With the positions from which the server's own subscriptions resume.
    Connect(CommandId, Resumes),
    Refresh(CommandId),
    /// The server gives the session another identity.
    Adopt(Completion),
    Reauthorize(Box<Switch>),
    Renew,
    RefreshSubscription(CommandId, Topic, Generation),
    Subscribe(Topic, Generation),
    Command(CommandId),
    /// The application published for the session: nobody waits for the answer.
    Silent,
}

impl Session {
    /// A session that waits for its connect command until the connect deadline. `chance`, 0 to 1, spreads the first ping.
    pub(crate) fn new(id: SessionId, rules: Arc<Rules>, manners: Manners, chance: f32, now: Instant) -> Self {
        let subject = Arc::new(Subject::new(id, &Identity::anonymous()).over(manners.transport, manners.protocol));
        let timers = Timers { connect_at: Some(now + rules.settings.connect_timeout), ..Timers::default() };
        Self {
            subject,
            rules,
            manners,
            phase: Phase::Waiting,
            opening: None,
            subscriptions: Subscriptions::default(),
            entering: None,
            ordered_identity: None,
            told_own_topic: false,
            renewed_by_server: false,
            timers,
            pong_is_due: false,
            chance,
            questions: Vec::new(),
            waiting: VecDeque::new(),
            last_ask: 0,
            last_generation: 0,
            mistakes: Mistakes::default(),
        }
    }

    pub(crate) fn info(&self) -> &Arc<SessionInfo> {
        &self.subject.info
    }

    pub(crate) fn subject(&self) -> &Arc<Subject> {
        &self.subject
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Whether the topics of the URL are still being opened.
    pub(crate) fn is_opening(&self) -> bool {
        self.opening.is_some()
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Something was received: the client lives.
    pub(crate) fn heard(&mut self) {
        self.timers.pong_at = None;
    }

    pub(crate) fn handle_command(&mut self, command: Command, now: Instant, effects: &mut Vec<Effect>) {
        self.heard();
        match (&command.request, self.phase) {
            (_, Phase::Closed) => {}
            (Request::Pong, _) => self.pong(effects),
            _ if self.must_wait(&command.request) && self.waiting.len() < WAITING_MAX => self.waiting.push_back(command),
            _ if self.must_wait(&command.request) => {
                let refusal = Refusal::new(RefusalKind::TooManyRequests, "too many commands wait for the answers to earlier ones");
                self.refuse(command.id, refusal.retry_after(Duration::from_secs(1)), now, effects);
            }
            _ => self.dispatch(command, now, effects),
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if self.phase == Phase::Closed {
            return;
        }
        if due(&mut self.timers.connect_at, now) {
            return self.close(CloseReason::NeverConnected, effects);
        }
        if due(&mut self.timers.expires_at, now) {
            return self.close(CloseReason::CredentialsExpired, effects);
        }
        if due(&mut self.timers.pong_at, now) {
            return self.close(CloseReason::NoPong, effects);
        }
        if due(&mut self.timers.expiring_at, now) {
            if self.renewed_by_server {
                self.ask(None, Purpose::Renew, Question::Renew, effects);
            } else {
                let within = self.timers.expires_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
                effects.push(Effect::Push(Push::Expiring { within }));
            }
        }
        if due(&mut self.timers.subscription_ends_at, now) {
            self.end_expired(now, effects);
        }
        if self.phase == Phase::Closed {
            return;
        }
        if due(&mut self.timers.ping_at, now) {
            effects.push(Effect::Push(Push::Ping));
            self.timers.ping_at = Some(now + self.rules.settings.ping_interval);
            if self.manners.answers_pings {
                self.pong_is_due = true;
                self.timers.pong_at.get_or_insert(now + self.rules.settings.pong_timeout);
            }
        }
    }

    /// Ends the session: leaves every topic, then says why. Nothing follows.
    pub(crate) fn close(&mut self, reason: CloseReason, effects: &mut Vec<Effect>) {
        if self.phase == Phase::Closed {
            return;
        }
        self.phase = Phase::Closed;
        self.timers = Timers::default();
        self.questions = Vec::new();
        self.waiting = VecDeque::new();
        self.entering = None;
        self.ordered_identity = None;
        self.leave_all(effects);
        if self.opening.take().is_some() {
            let refusal = match &reason {
                CloseReason::Refused(refusal) => (**refusal).clone(),
                other => Refusal::unavailable(format!("the session ended before its topics were live: {}", other.cause())),
            };
            effects.push(Effect::Opened(Err(refusal)));
        }
        effects.push(Effect::Close(reason));
    }

    pub(super) fn dispatch(&mut self, command: Command, now: Instant, effects: &mut Vec<Effect>) {
        let Command { id, mut request } = command;
        if let Some(topic) = topic_mut(&mut request) {
            match self.resolve(topic) {
                Ok(full) => *topic = full,
                Err(refusal) => return self.refuse(id, refusal, now, effects),
            }
        }
        match request {
            Request::Unreadable(reason) => self.unreadable(reason, now, effects),
            Request::Mistake(refusal) => self.refuse(id, refusal, now, effects),
            Request::Connect(connect) => self.connect(id, connect, now, effects),
            _ if self.phase != Phase::Connected => {
                let refusal =
                    Refusal::bad_request("the first command must be connect").hint("send connect, wait for its answer, then go on");
                self.refuse(id, refusal, now, effects);
            }
            Request::Subscribe(subscribe) => self.subscribe(id, subscribe, now, effects),
            Request::Unsubscribe { topic } => self.unsubscribe(id, topic, now, effects),
            Request::Refresh { token } => self.refresh(id, token, effects),
            Request::RefreshSubscription { topic, token } => self.refresh_subscription(id, topic, token, now, effects),
            Request::Ping { bare } => effects.push(Effect::Reply(id, Reply::Pong { bare })),
            Request::Pong => {}
            asking => self.ask_about(id, asking, now, effects),
        }
    }

    /// The topic that the client means: inside its tenant, where it has one. No name leads into a tenant from outside.
    pub(super) fn resolve(&self, topic: &Topic) -> Result<Topic, Refusal> {
        if topic.tenant().is_some() {
            return Err(named_from_outside(topic, self.subject.tenant().map(Tenant::as_str)));
        }
        match self.subject.tenant() {
            None => Ok(topic.clone()),
            Some(tenant) => topic
                .in_tenant(tenant)
                .map_err(|error| Refusal::bad_request(format!("with the prefix of its tenant, {error}")).hint("use a shorter topic")),
        }
    }

    /// Answers with a refusal; where the protocol cannot answer a command without id, the session ends with it.
    pub(super) fn refuse(&mut self, id: CommandId, refusal: Refusal, now: Instant, effects: &mut Vec<Effect>) {
        if self.is_opening() {
            return self.close(CloseReason::Refused(Box::new(refusal)), effects);
        }
        if let RefusalKind::Close(code) = refusal.kind {
            return self.close(CloseReason::Application { code, reason: refusal.message }, effects);
        }
        if id == CommandId::None && !self.manners.answers_without_id {
            let text = refusal.message.clone();
            let reason = match refusal.kind {
                RefusalKind::NotAvailable => CloseReason::NotAvailable(text),
                RefusalKind::PermissionDenied => CloseReason::PermissionDenied(text),
                RefusalKind::TooManyRequests => CloseReason::TooManyRequests,
                RefusalKind::Unavailable => CloseReason::ServerError(text),
                _ => CloseReason::BadRequest(text),
            };
            return self.close(reason, effects);
        }
        let malformed = matches!(refusal.kind, RefusalKind::BadRequest | RefusalKind::UnknownAction);
        effects.push(Effect::Reply(id, Reply::Refused(refusal)));
        if malformed && self.mistakes.add(now, self.rules.settings.mistakes_per_minute) {
            self.close(CloseReason::TooManyMistakes, effects);
        }
    }

    /// Refuses what the application decided about a message, or asked for in the client's name: where there is no command to answer, only the
    /// operator learns it.
    pub(super) fn refuse_quietly(&mut self, id: CommandId, refusal: Refusal, now: Instant, effects: &mut Vec<Effect>) {
        let has_answer = id != CommandId::None || self.manners.answers_without_id || self.is_opening();
        if has_answer || matches!(refusal.kind, RefusalKind::Close(_)) {
            return self.refuse(id, refusal, now, effects);
        }
        effects.push(Effect::Dropped(refusal));
    }

    pub(super) fn ask(&mut self, topic: Option<Topic>, purpose: Purpose, question: Question, effects: &mut Vec<Effect>) {
        self.last_ask = self.last_ask.wrapping_add(1);
        let id = AskId(self.last_ask);
        self.questions.push(Open { id, topic, purpose, in_line: false, answer: None });
        effects.push(Effect::Ask(id, question));
    }

    /// What was asked is done, only its answer is not here yet: commands about its topic need not wait for it, nor does it wait for others. Behind
    /// publishes that have no answer yet it stays among them.
    pub(crate) fn executed(&mut self, id: AskId) {
        let Some(at) = self.questions.iter().position(|open| open.id == id) else { return };
        if self.is_behind_others_in_line(at) {
            self.questions[at].in_line = true;
        } else {
            self.questions[at].topic = None;
        }
    }

    /// Forgets every open question of a command: answers to them are void.
    pub(super) fn take_questions(&mut self) -> Vec<Open> {
        std::mem::take(&mut self.questions)
    }

    /// The purpose of an answer; `None`: it is void.
    pub(super) fn take_question(&mut self, id: AskId) -> Option<Purpose> {
        let at = self.questions.iter().position(|open| open.id == id)?;
        // In their order: answers of publishes to one topic are told in it.
        let open = self.questions.remove(at);
        if self.questions.is_empty() && self.questions.capacity() > 4 {
            self.questions = Vec::new();
        }
        Some(open.purpose)
    }

    pub(super) fn next_generation(&mut self) -> Generation {
        self.last_generation = self.last_generation.wrapping_add(1);
        Generation(self.last_generation)
    }

    /// Handles commands that waited and need not any more.
    pub(super) fn go_on(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.take_ordered_identity(effects);
        let mut at = 0;
        while at < self.waiting.len() && self.phase != Phase::Closed {
            let behind = self.waiting.iter().take(at).any(|earlier| goes_before(&earlier.request, &self.waiting[at].request));
            if behind || self.blocked(&self.waiting[at].request) {
                at += 1;
                continue;
            }
            let Some(command) = self.waiting.remove(at) else { break };
            self.dispatch(command, now, effects);
            at = 0;
        }
    }

    /// Takes back what waits to subscribe to a topic. What waits has the name that the client gave.
    pub(super) fn take_waiting_subscribes(&mut self, topic: &Topic) -> Vec<CommandId> {
        let mut taken = Vec::new();
        self.waiting.retain_mut(|command| {
            let stays = !matches!(&command.request, Request::Subscribe(subscribe) if subscribe.topic.local() == topic.local());
            if !stays {
                taken.push(std::mem::take(&mut command.id));
            }
            stays
        });
        taken
    }

    fn must_wait(&self, request: &Request) -> bool {
        self.blocked(request) || self.waiting.iter().any(|earlier| goes_before(&earlier.request, request))
    }

    /// Whether an open question stands before this request.
    fn blocked(&self, request: &Request) -> bool {
        if matches!(request, Request::Unreadable(_) | Request::Mistake(_) | Request::Ping { .. }) {
            return false;
        }
        if self.phase == Phase::Connecting || self.is_opening() || self.is_changing() {
            return true;
        }
        if matches!(request, Request::Refresh { .. }) {
            // What came before it is done as the old identity.
            return !self.questions.is_empty() || self.subscriptions.iter().any(|subscription| subscription.pending.is_some());
        }
        if matches!(request, Request::Unsubscribe { .. }) {
            return false;
        }
        if self.questions.len() >= QUESTIONS_MAX {
            return true;
        }
        let Some(topic) = topic_of(request) else { return false };
        let publishes = matches!(request, Request::Publish { .. });
        let stands_before =
            |open: &Open| open.topic.as_ref().is_some_and(|open| open.local() == topic.local()) && !(publishes && open.in_line);
        self.questions.iter().any(stands_before)
            || self.subscriptions.iter().any(|subscription| subscription.pending.is_some() && subscription.topic.local() == topic.local())
    }

    /// Whether credentials are being looked at, or the topics of a new identity are not live yet.
    pub(super) fn is_changing(&self) -> bool {
        let changes = |open: &Open| matches!(open.purpose, Purpose::Refresh(_) | Purpose::Adopt(_) | Purpose::Reauthorize(_));
        self.entering.is_some() || self.questions.iter().any(changes)
    }

    fn pong(&mut self, effects: &mut Vec<Effect>) {
        // spec: centrifuge client protocol: an empty object answers a ping, and means nothing without one.
        if !std::mem::take(&mut self.pong_is_due) {
            self.close(CloseReason::BadRequest("an empty command answers a ping, and no ping is open".into()), effects);
        }
    }

    fn unreadable(&mut self, reason: CloseReason, now: Instant, effects: &mut Vec<Effect>) {
        if self.manners.answers_without_id {
            let text = match reason {
                CloseReason::BadRequest(text) => text,
                other => other.cause().into(),
            };
            self.refuse(CommandId::None, Refusal::bad_request(text), now, effects);
        } else {
            self.close(reason, effects);
        }
    }
}

/// The topic that a request must stay in order with.
fn topic_of(request: &Request) -> Option<&Topic> {
    match request {
        Request::Subscribe(subscribe) => Some(&subscribe.topic),
        Request::Publish { topic, .. }
        | Request::Presence { topic }
        | Request::PresenceStats { topic }
        | Request::RefreshSubscription { topic, .. }
        | Request::History { topic, .. } => Some(topic),
        _ => None,
    }
}

/// The topic that a request names.
fn topic_mut(request: &mut Request) -> Option<&mut Topic> {
    match request {
        Request::Subscribe(subscribe) => Some(&mut subscribe.topic),
        Request::Unsubscribe { topic }
        | Request::Publish { topic, .. }
        | Request::Presence { topic }
        | Request::PresenceStats { topic }
        | Request::RefreshSubscription { topic, .. }
        | Request::History { topic, .. } => Some(topic),
        _ => None,
    }
}

/// Whether a request must wait for an earlier one that waits: both are about a topic, or one changes who asks.
fn goes_before(earlier: &Request, later: &Request) -> bool {
    if matches!(later, Request::Unreadable(_) | Request::Mistake(_) | Request::Ping { .. }) {
        return false;
    }
    if matches!(earlier, Request::Refresh { .. }) || matches!(later, Request::Refresh { .. }) {
        return true;
    }
    let topic = topic_of(later);
    topic.is_some() && topic_of(earlier) == topic
}
