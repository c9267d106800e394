//! The client as a pure state machine: connection, credentials, commands, subscriptions. No socket, clock, runtime or
//! chance beyond its seed: time and everything that happens come in as calls, what is to be done comes out as [`Effect`]s.
//!
//! The driver's part of the contract: after each `handle_*` it carries out all effects, in order, before the next call.
//! [`Effect::Dial`] and [`Effect::FetchToken`] are answered once, with the driver's own timeout. [`Effect::Hangup`] drops
//! the connection or the dial without another word about it, so that nothing of an old connection is ever heard.

mod calls;
mod frames;
mod request;
mod subscriptions;
#[cfg(test)]
mod tests;
mod tokens;
mod track;

use std::{collections::BTreeMap, sync::Arc, time::Duration, time::Instant};

pub(crate) use request::{Answer, Request};

use self::{
    calls::{Calls, Pending, What},
    subscriptions::{Step, Subscriptions},
    tokens::Refresh,
    track::Track,
};
use crate::{
    CallError, ClientConfig, Closed, Event, Notice, State, SubscribeConfig, TokenError, Unsubscribed,
    backoff::Backoff,
    codes,
    wire::{self, Command},
};

/// The driver's name for a call.
pub(crate) type CallId = u64;
/// The driver's name for a subscription.
pub(crate) type SubscriptionId = u64;

/// A connection that lived this long was a good one: the next wait starts small again. Shorter ones keep the backoff
/// growing, so that a server that cuts everyone at once is not hammered.
const GOOD_CONNECTION: Duration = Duration::from_secs(5);

/// What the driver has to do.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Find a token; the answer is [`Machine::handle_token`].
    FetchToken(TokenFor),
    /// Connect; the answer is [`Machine::handle_open`] or [`Machine::handle_cut`].
    Dial,
    /// Write a line to the connection.
    Write(String),
    /// Drop the connection, or stop dialling. With a code: say goodbye first.
    Hangup(Option<u16>),
    /// A call is over.
    Answer(CallId, Result<Answer, CallError>),
    /// Something happened on a subscription; [`Event::Unsubscribed`] is the last.
    Deliver(SubscriptionId, Event),
    /// Something happened that nobody asked for.
    Notice(Notice),
    /// The connection's state changed.
    State(State),
}

/// What a token is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum TokenFor {
    Connection,
    Subscription(SubscriptionId),
}

#[derive(Debug)]
enum Phase {
    FetchingToken,
    Dialling,
    /// The connect command is written.
    Greeting,
    Live(Live),
    Waiting {
        until: Instant,
    },
    Closed(Closed),
}

/// What is known about a live connection.
#[derive(Clone, Copy, Debug)]
struct Live {
    since: Instant,
    /// Silence after which the server is taken for dead; `None`: it did not announce pings.
    silence_max: Option<Duration>,
    heard_at: Instant,
    /// Whether the server wants its pings answered.
    pong: bool,
    refresh: Refresh,
}

/// The state of one client; see the module's text for how it is driven.
pub(crate) struct Machine {
    config: ClientConfig,
    phase: Phase,
    backoff: Backoff,
    chance: fastrand::Rng,
    calls: Calls,
    subscriptions: Subscriptions,
    /// Topics that the server subscribed this session to.
    server_side: BTreeMap<Arc<str>, Track>,
    token: Option<Arc<str>>,
    effects: Vec<Effect>,
}

impl Machine {
    /// A machine that has not started. `seed` decides the waits.
    pub(crate) fn new(config: ClientConfig, seed: u64, now: Instant) -> Self {
        let token = config.tokens.as_ref().and_then(|tokens| tokens.fixed_token().cloned());
        Self {
            backoff: Backoff::new(config.backoff_min, config.backoff_max),
            phase: Phase::Waiting { until: now },
            chance: fastrand::Rng::with_seed(seed),
            calls: Calls::default(),
            subscriptions: Subscriptions::default(),
            server_side: BTreeMap::new(),
            token,
            effects: Vec::new(),
            config,
        }
    }

    /// What is to be done since the last call, in order.
    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let phase = match &self.phase {
            Phase::Closed(_) => return None,
            Phase::Waiting { until } => Some(*until),
            Phase::Live(live) => {
                let silent = live.silence_max.map(|max| live.heard_at + max);
                let refresh = if let Refresh::At(at) = live.refresh { Some(at) } else { None };
                [silent, refresh, self.subscriptions.next_retry(), self.subscriptions.next_refresh()].into_iter().flatten().min()
            }
            Phase::FetchingToken | Phase::Dialling | Phase::Greeting => None,
        };
        [phase, self.calls.next_deadline()].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some(Pending { what, sent, .. }) = self.calls.overdue(now) {
            match what {
                What::Call { call, .. } => self.answer(call, Err(CallError::TimedOut { sent })),
                // A server that leaves the protocol's own commands without an answer is not well.
                What::Connect | What::Refresh | What::RefreshSubscription(_) | What::Subscribe { .. } | What::Unsubscribe => {
                    return self.cut("the server did not answer in time", None, now);
                }
            }
        }
        match &mut self.phase {
            Phase::Waiting { until } if *until <= now => self.connect(),
            Phase::Live(live) => {
                if live.silence_max.is_some_and(|max| live.heard_at + max <= now) {
                    return self.cut("the server is silent", None, now);
                }
                if let Refresh::At(at) = live.refresh
                    && at <= now
                {
                    live.refresh = Refresh::Fetching;
                    self.effects.push(Effect::FetchToken(TokenFor::Connection));
                }
                self.subscribe_due(now);
                self.refresh_subscriptions_due(now);
            }
            _ => {}
        }
    }

    /// The answer to [`Effect::FetchToken`].
    pub(crate) fn handle_token(&mut self, wanted: TokenFor, token: Result<String, TokenError>, now: Instant) {
        match wanted {
            TokenFor::Connection => self.connection_token(token, now),
            TokenFor::Subscription(id) => self.subscription_token(id, token, now),
        }
    }

    /// The connection is open: says who we are.
    pub(crate) fn handle_open(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Dialling) {
            return;
        }
        let id = self.calls.next_id();
        let subs = self.server_side.iter().filter_map(|(topic, track)| Some((&**topic, track.position()?.into()))).collect();
        let connect = wire::Connect {
            token: self.token.as_deref(),
            data: self.config.data.as_ref(),
            name: &self.config.name,
            version: env!("CARGO_PKG_VERSION"),
            subs,
        };
        let line = Command { id, connect: Some(connect), ..Command::default() }.line();
        self.effects.push(Effect::Write(line));
        self.calls.sent(id, What::Connect, now + self.config.call_timeout);
        self.phase = Phase::Greeting;
    }

    /// The connection could not be made, or ended without a close code. `wait_min`: the server asked for patience.
    pub(crate) fn handle_cut(&mut self, why: &str, wait_min: Option<Duration>, now: Instant) {
        if matches!(self.phase, Phase::Dialling | Phase::Greeting | Phase::Live(_)) {
            self.cut(why, wait_min, now);
        }
    }

    /// The server closed the connection with a code.
    pub(crate) fn handle_close_code(&mut self, code: u16, reason: &str, now: Instant) {
        let fresh_token_helps = code == codes::INVALID_TOKEN && self.fetches_tokens();
        if self.fetches_tokens() && codes::close_spoils_token(code) {
            self.token = None;
        }
        if codes::close_spoils_positions(code) {
            self.subscriptions.forget();
            self.server_side.values_mut().for_each(Track::forget_position);
        }
        if codes::close_is_final(code) && !fresh_token_helps {
            return self.shut(code, reason, None);
        }
        let reason = if reason.is_empty() { "without a reason" } else { reason };
        self.handle_cut(&format!("the server closed the connection: {reason} ({code})"), None, now);
    }

    /// The application asks something.
    pub(crate) fn handle_call(&mut self, call: CallId, request: &Request, now: Instant) {
        if let Phase::Closed(closed) = &self.phase {
            let closed = closed.clone();
            return self.answer(call, Err(CallError::Closed(closed)));
        }
        let id = self.calls.next_id();
        let line = request.line(id);
        if line.len() > self.config.frame_max_bytes {
            return self.answer(call, Err(CallError::TooLarge { len: line.len(), max: self.config.frame_max_bytes }));
        }
        let asked = request.asked();
        self.calls.wait(id, What::Call { call, asked }, line, now + self.config.call_timeout);
        if matches!(self.phase, Phase::Live(_)) {
            self.flush_calls();
        }
    }

    /// The application does not wait for a call any more.
    pub(crate) fn handle_cancel(&mut self, call: CallId) {
        self.calls.cancel(call);
    }

    /// The application listens to a topic.
    pub(crate) fn handle_subscribe(&mut self, id: SubscriptionId, topic: Arc<str>, config: SubscribeConfig, now: Instant) {
        if let Phase::Closed(closed) = &self.phase {
            let event = Event::Unsubscribed(Unsubscribed::Closed(closed.clone()));
            return self.effects.push(Effect::Deliver(id, event));
        }
        self.subscriptions.insert(id, topic, config, &self.config);
        self.subscribe_due(now);
    }

    /// The application does not listen to a topic any more.
    pub(crate) fn handle_unsubscribe(&mut self, id: SubscriptionId, now: Instant) {
        let Some(entry) = self.subscriptions.remove(id) else { return };
        if matches!(self.phase, Phase::Live(_)) && matches!(entry.step, Step::Asking | Step::Live) {
            let wire_id = self.calls.next_id();
            let unsubscribe = Some(wire::OnTopic { channel: &entry.topic });
            self.effects.push(Effect::Write(Command { id: wire_id, unsubscribe, ..Command::default() }.line()));
            self.calls.sent(wire_id, What::Unsubscribe, now + self.config.call_timeout);
        }
    }

    /// The network is said to be back: the next try is made at once.
    pub(crate) fn handle_retry_now(&mut self) {
        if matches!(self.phase, Phase::Waiting { .. }) {
            self.connect();
        }
    }

    /// The application closes the client.
    pub(crate) fn handle_close(&mut self) {
        self.shut(codes::CLOSED_BY_CLIENT, "closed by the application", Some(1000));
    }

    /// Whether the machine is done for good.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed(_))
    }

    /// One try, with a token in hand or first for a token.
    fn connect(&mut self) {
        if self.token.is_none() && self.fetches_tokens() {
            self.phase = Phase::FetchingToken;
            self.effects.push(Effect::FetchToken(TokenFor::Connection));
        } else {
            self.phase = Phase::Dialling;
            self.effects.push(Effect::Dial);
        }
    }

    /// Subscribes what is due, where there is a connection.
    fn subscribe_due(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Live(_)) {
            return;
        }
        for id in self.subscriptions.due(now) {
            let Some(entry) = self.subscriptions.get_mut(id) else { continue };
            if entry.token.is_none() && entry.config.tokens.is_some() {
                entry.step = Step::FetchingToken;
                self.effects.push(Effect::FetchToken(TokenFor::Subscription(id)));
                continue;
            }
            let since = entry.track.resume(entry.config.recover, entry.config.since.as_ref());
            let subscribe = wire::Subscribe::new(&entry.topic, since.as_ref(), entry.config.recover).with(
                entry.token.as_deref(),
                entry.config.data.as_ref(),
                entry.config.join_leave,
            );
            let wire_id = self.calls.next_id();
            let line = Command { id: wire_id, subscribe: Some(subscribe), ..Command::default() }.line();
            entry.step = Step::Asking;
            self.effects.push(Effect::Write(line));
            self.calls.sent(wire_id, What::Subscribe { subscription: id, since }, now + self.config.call_timeout);
        }
    }

    fn flush_calls(&mut self) {
        for (id, line) in self.calls.flush() {
            self.effects.push(Effect::Write(line));
            // Messages have no answer in the protocol: written is all there is to know.
            if let Some(call) = self.calls.take_if_unanswered(id) {
                self.answer(call, Ok(Answer::Done));
            }
        }
    }

    fn end_subscription(&mut self, id: SubscriptionId, how: Unsubscribed) {
        self.subscriptions.remove(id);
        self.effects.push(Effect::Deliver(id, Event::Unsubscribed(how)));
    }

    /// The connection is gone, or could not be made: everything that hangs on it is told, and the next try is planned.
    fn cut(&mut self, why: &str, wait_min: Option<Duration>, now: Instant) {
        if let Phase::Live(live) = &self.phase
            && now.saturating_duration_since(live.since) >= GOOD_CONNECTION
        {
            self.backoff.reset();
        }
        let why: Arc<str> = why.into();
        for pending in self.calls.cut() {
            if let What::Call { call, .. } = pending.what {
                self.answer(call, Err(CallError::Cut(why.clone())));
            }
        }
        self.subscriptions.cut();
        let wait = self.backoff.next(self.chance.f64()).max(wait_min.unwrap_or_default());
        self.phase = Phase::Waiting { until: now + wait };
        self.effects.push(Effect::Hangup(None));
        self.effects.push(Effect::State(State::Reconnecting { next_in: wait, why }));
    }

    /// Over for good.
    fn shut(&mut self, code: u16, reason: &str, goodbye: Option<u16>) {
        if self.is_closed() {
            return;
        }
        let closed = Closed { code, reason: reason.into() };
        self.phase = Phase::Closed(closed.clone());
        for pending in self.calls.drain() {
            if let What::Call { call, .. } = pending.what {
                self.answer(call, Err(CallError::Closed(closed.clone())));
            }
        }
        for id in self.subscriptions.drain() {
            self.effects.push(Effect::Deliver(id, Event::Unsubscribed(Unsubscribed::Closed(closed.clone()))));
        }
        self.effects.push(Effect::Hangup(goodbye));
        self.effects.push(Effect::State(State::Closed(closed)));
    }

    fn answer(&mut self, call: CallId, answer: Result<Answer, CallError>) {
        self.effects.push(Effect::Answer(call, answer));
    }
}
