//! How a session becomes somebody: connect, the answer of the application, renewal, and the topics of a plain URL.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    effect::{Effect, Question},
    machine::{Phase, Purpose, Session},
};
use crate::{CloseReason, CommandId, Connect, Connected, Identity, Push, Refusal, RefusalKind, Reply, SessionInfo, Subscribe};

/// What the client libraries need to renew their credentials before the end.
const RENEWAL_TIME: Duration = Duration::from_secs(25);

impl Session {
    /// Connects at once and subscribes to the topics of a URL; `Effect::Opened` says how it went.
    pub(crate) fn open(&mut self, connect: Connect, subscriptions: Vec<Subscribe>, now: Instant, effects: &mut Vec<Effect>) {
        self.opening = Some(VecDeque::from(subscriptions));
        self.connect(CommandId::None, connect, now, effects);
    }

    pub(super) fn connect(&mut self, id: CommandId, connect: Connect, now: Instant, effects: &mut Vec<Effect>) {
        if self.phase != Phase::Waiting {
            return self.refuse(id, Refusal::bad_request("this session is connected; connect is sent once"), now, effects);
        }
        self.phase = Phase::Connecting;
        // The client has said who it is: how long the application takes is the hook timeout's business.
        self.timers.connect_at = None;
        self.ask(None, Purpose::Connect(id), Question::Identify(connect), effects);
    }

    pub(super) fn refresh(&mut self, id: CommandId, token: String, effects: &mut Vec<Effect>) {
        let connect = Connect { token: Some(token), ..Connect::default() };
        self.ask(None, Purpose::Refresh(id), Question::Identify(connect), effects);
    }

    pub(super) fn identified(
        &mut self,
        id: CommandId,
        answer: Result<(Identity, Option<Duration>), Refusal>,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let (identity, ttl) = match answer {
            Ok(identified) => identified,
            Err(refusal) => return self.not_identified(id, refusal, now, effects),
        };
        self.phase = Phase::Connected;
        self.timers.connect_at = None;
        let session = self.info.session;
        self.info = Arc::new(SessionInfo { session, user: identity.user, info: identity.info, topic_info: None });
        self.set_expiry(ttl, now);
        // spec: centrifuge client protocol, "Ping": the first one at random in the second half of the interval, then every interval.
        let interval = self.rules.settings.ping_interval;
        self.timers.ping_at = Some(now + interval.mul_f32(0.5 + self.chance.clamp(0.0, 1.0) / 2.0));
        effects.push(Effect::Connected { rule: identity.rule });
        let connected =
            Connected { session, user: self.info.user.clone(), ttl: ttl.map(advertised), data: identity.data, ping_interval: interval };
        effects.push(Effect::Reply(id, Reply::Connected(connected)));
        self.open_next(now, effects);
    }

    /// Subscribes to the next topic of the URL, or tells that all are live.
    pub(super) fn open_next(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        match self.opening.as_mut().map(VecDeque::pop_front) {
            None => {}
            Some(Some(subscribe)) => self.subscribe(CommandId::None, subscribe, now, effects),
            Some(None) => {
                self.opening = None;
                effects.push(Effect::Opened(Ok(())));
            }
        }
    }

    pub(super) fn refreshed(
        &mut self,
        id: CommandId,
        answer: Result<(Identity, Option<Duration>), Refusal>,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        match answer {
            Ok((identity, ttl)) if identity.user == self.info.user => {
                self.set_expiry(ttl, now);
                effects.push(Effect::Reply(
                    id,
                    Reply::Refreshed { session: self.info.session, user: identity.user, ttl: ttl.map(advertised) },
                ));
            }
            Ok(_) => {
                let refusal = Refusal::unauthorized("the new token names another user").hint("close, and connect as the new user");
                self.refuse(id, refusal, now, effects);
            }
            Err(refusal) => self.refuse(id, refusal, now, effects),
        }
    }

    fn not_identified(&mut self, id: CommandId, refusal: Refusal, now: Instant, effects: &mut Vec<Effect>) {
        self.phase = Phase::Waiting;
        self.timers.connect_at = Some(now + self.rules.settings.connect_timeout);
        let final_for_this_token =
            refusal.kind == RefusalKind::Unauthorized && self.manners.awaits_connect && refusal.retry_after.is_none();
        if final_for_this_token {
            // spec: centrifuge client protocol, section 3: the client library fetches a new token on a reply with 109,
            // and gives up on 3500; a plain refusal would make it give up as well, without saying why in its close event.
            effects.push(Effect::Push(Push::Refused(refusal.clone())));
            return self.close(CloseReason::InvalidCredentials(refusal.message), effects);
        }
        self.refuse(id, refusal, now, effects);
    }

    fn set_expiry(&mut self, ttl: Option<Duration>, now: Instant) {
        let settings = &self.rules.settings;
        self.timers.expires_at = ttl.map(|ttl| now + ttl + settings.expiry_leeway);
        self.timers.expiring_at = ttl.map(|ttl| now + ttl.saturating_sub(settings.expiring_notice));
    }
}

/// The time after which a client should renew, so that it is done before the end.
fn advertised(ttl: Duration) -> Duration {
    ttl.saturating_sub(RENEWAL_TIME).max(Duration::from_secs(1))
}
