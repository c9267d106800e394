//! How a session becomes somebody: connect, the answer of the application, renewal, and the topics of a plain URL.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    effect::{Effect, Identified, Question},
    entering::Entered,
    machine::{Phase, Purpose, Resumes, Session},
};
use crate::{CloseReason, CommandId, Connect, Connected, Push, Refusal, RefusalKind, Subscribe};

/// What the client libraries need to renew their credentials before the end.
const RENEWAL_TIME: Duration = Duration::from_secs(25);

impl Session {
    /// Connects at once and subscribes to the topics of a URL; `Effect::Opened` says how it went.
    pub(crate) fn open(&mut self, mut connect: Connect, subscriptions: Vec<Subscribe>, now: Instant, effects: &mut Vec<Effect>) {
        // A topic of the URL may be one that the identity brings.
        connect.resume.extend(subscriptions.iter().filter_map(|subscribe| Some((subscribe.topic.clone(), subscribe.since?))));
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
        let resume = Resumes { named: connect.resume.clone(), cursor: connect.cursor.clone() };
        self.ask(None, Purpose::Connect(id, resume), Question::Identify(connect), effects);
    }

    pub(super) fn refresh(&mut self, id: CommandId, token: String, effects: &mut Vec<Effect>) {
        let connect = Connect { token: Some(token), ..Connect::default() };
        self.ask(None, Purpose::Refresh(id), Question::Identify(connect), effects);
    }

    pub(super) fn identified(
        &mut self,
        id: CommandId,
        resume: &Resumes,
        answer: Result<Box<Identified>, Refusal>,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let chosen = answer.and_then(|identified| {
            let chosen = self.topics_of(&identified.identity, &identified.subject)?;
            Ok((identified, chosen))
        });
        let (identified, chosen) = match chosen {
            Ok(identified) => identified,
            Err(refusal) => return self.not_identified(id, refusal, now, effects),
        };
        let Identified { identity, subject, ttl, by_request, as_of } = *identified;
        self.timers.connect_at = None;
        self.subject = Arc::new(subject);
        self.renewed_by_server = identity.renewed_by_server && self.rules.renews;
        self.set_expiry(ttl, now);
        if !chosen.is_empty() {
            effects.push(Effect::Hold);
        }
        effects.push(Effect::Connected(as_of));
        let connected = Connected {
            session: self.subject.session,
            user: self.subject.user.clone(),
            // Who sent its token with the request has no other to renew it with: it comes back with a new request.
            ttl: ttl.filter(|_| !self.renewed_by_server && !by_request).map(advertised),
            data: identity.data,
            ping_interval: self.rules.settings.ping_interval,
            subscriptions: Vec::new(),
        };
        self.enter(Entered::Connected(id, Box::new(connected)), chosen, resume, now, effects);
    }

    /// Subscribes to the next topic of the URL, or tells that all are live.
    pub(super) fn open_next(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        match self.opening.as_mut().map(VecDeque::pop_front) {
            None => {}
            Some(Some(mut subscribe)) => match self.resolve(&subscribe.topic) {
                // The identity has brought it already.
                Ok(topic) if self.is_live_in(&topic) => self.open_next(now, effects),
                Ok(topic) => {
                    subscribe.topic = topic;
                    self.subscribe(CommandId::None, subscribe, now, effects);
                }
                Err(refusal) => self.refuse(CommandId::None, refusal, now, effects),
            },
            Some(None) => {
                self.opening = None;
                effects.push(Effect::Opened(Ok(())));
            }
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

    pub(super) fn set_expiry(&mut self, ttl: Option<Duration>, now: Instant) {
        let settings = &self.rules.settings;
        self.timers.expires_at = ttl.map(|ttl| now + ttl + settings.expiry_leeway);
        self.timers.expiring_at = ttl.map(|ttl| now + ttl.saturating_sub(settings.expiring_notice));
    }
}

/// The time after which a client should renew, so that it is done before the end.
pub(super) fn advertised(ttl: Duration) -> Duration {
    ttl.saturating_sub(RENEWAL_TIME).max(Duration::from_secs(1))
}
