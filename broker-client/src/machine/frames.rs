//! What the server says, and what follows from it. When something is due without it lives in `mod`.

use std::{collections::BTreeMap, sync::Arc, time::Duration, time::Instant};

use super::{Effect, Live, Machine, Phase, SubscriptionId, calls::What, request, subscriptions::Step, tokens::Refresh, track::Track};
use crate::{
    Event, Notice, Payload, Refusal, Since, State, Unsubscribed, codes,
    wire::{CodePush, ConnectResult, Line, Push, SubscribeResult},
};

impl Machine {
    /// One message of the connection: lines of answers, pushes and pings.
    pub(crate) fn handle_frame(&mut self, text: &str, now: Instant) {
        if let Phase::Live(live) = &mut self.phase {
            live.heard_at = now;
        }
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            if !matches!(self.phase, Phase::Greeting | Phase::Live(_)) {
                return;
            }
            match serde_json::from_str::<Line>(line) {
                Ok(line) => self.handle_line(line, now),
                Err(error) => return self.cut(&format!("the server sent what cannot be read: {error}"), None, now),
            }
        }
    }

    fn handle_line(&mut self, mut line: Line, now: Instant) {
        if let Some(push) = line.push.take() {
            self.handle_push(push, now);
        } else if line.id > 0 {
            self.handle_reply(line, now);
        } else if let Phase::Live(Live { pong: true, .. }) = self.phase {
            self.effects.push(Effect::Write("{}".to_owned()));
        }
    }

    fn handle_reply(&mut self, line: Line, now: Instant) {
        // An answer that nobody waits for came too late: it is void.
        let Some(pending) = self.calls.take(line.id) else { return };
        let error = |line: &mut Line| line.error.take().map(Refusal::from);
        let mut line = line;
        match pending.what {
            What::Connect => match error(&mut line) {
                Some(refusal) => self.connect_refused(&refusal, now),
                None => self.connected(line.connect.unwrap_or_default(), now),
            },
            What::Refresh => {
                let answer = error(&mut line).map_or_else(|| Ok(line.refresh.unwrap_or_default()), Err);
                self.refreshed(answer, now);
            }
            What::RefreshSubscription(id) => {
                let answer = error(&mut line).map_or_else(|| Ok(line.sub_refresh.unwrap_or_default()), Err);
                self.subscription_refreshed(id, answer, now);
            }
            What::Subscribe { subscription, since } => match error(&mut line) {
                Some(refusal) => self.subscribe_refused(subscription, refusal, now),
                None => self.subscribed(subscription, line.subscribe.unwrap_or_default(), since.as_ref(), now),
            },
            What::Unsubscribe => {}
            What::Call { call, asked } => self.answer(call, request::answer(asked, line)),
        }
    }

    fn connected(&mut self, mut result: ConnectResult, now: Instant) {
        let refresh = if self.fetches_tokens() { Refresh::before_end(result.expires, result.ttl, now) } else { Refresh::Never };
        self.phase = Phase::Live(Live {
            since: now,
            silence_max: (result.ping > 0).then(|| Duration::from_secs(result.ping) + self.config.silence_max),
            heard_at: now,
            pong: result.pong,
            refresh,
        });
        self.effects.push(Effect::State(State::Live { session: result.client.as_str().into() }));
        self.resume_server_side(std::mem::take(&mut result.subs));
        self.subscribe_due(now);
        self.flush_calls();
    }

    fn connect_refused(&mut self, refusal: &Refusal, now: Instant) {
        let fresh_token_helps = codes::error_spoils_token(refusal.code) && self.fetches_tokens();
        if fresh_token_helps {
            self.token = None;
        }
        if refusal.temporary || fresh_token_helps {
            self.cut(&format!("the server refused the connection: {refusal}"), None, now);
        } else {
            self.shut(refusal.code as u16, &refusal.message, Some(1000));
        }
    }

    fn subscribed(&mut self, id: SubscriptionId, result: SubscribeResult, since: Option<&Since>, now: Instant) {
        let Some(entry) = self.subscriptions.get_mut(id) else { return };
        entry.step = Step::Live;
        entry.backoff.reset();
        if entry.fetches_tokens() {
            entry.refresh = Refresh::before_end(result.expires, result.ttl, now);
        }
        let effects = &mut self.effects;
        entry.track.live(result, since, &mut |event| effects.push(Effect::Deliver(id, event)));
    }

    fn subscribe_refused(&mut self, id: SubscriptionId, refusal: Refusal, now: Instant) {
        let Some(entry) = self.subscriptions.get_mut(id) else { return };
        let fresh_token_helps = entry.fetches_tokens() && codes::error_spoils_token(refusal.code);
        if fresh_token_helps {
            entry.token = None;
        }
        if refusal.temporary || fresh_token_helps {
            entry.step = Step::RetryAt(now + entry.backoff.next(self.chance.f64()));
        } else {
            self.end_subscription(id, Unsubscribed::Refused(refusal));
        }
    }

    fn handle_push(&mut self, push: Push, now: Instant) {
        if let Some(disconnect) = push.disconnect {
            self.handle_close_code(disconnect.code as u16, &disconnect.reason, now);
        } else if let Some(message) = push.message {
            self.effects.push(Effect::Notice(Notice::Message(message.data.unwrap_or_else(Payload::null))));
        } else if let Some(refresh) = push.refresh {
            if let (true, Phase::Live(live)) = (self.fetches_tokens(), &mut self.phase) {
                live.refresh = Refresh::before_end(refresh.expires, refresh.ttl, now);
            }
        } else if self.subscriptions.contains(&push.channel) {
            self.push_to_subscription(push, now);
        } else {
            self.push_server_side(push);
        }
    }

    fn push_to_subscription(&mut self, push: Push, now: Instant) {
        let Some((id, entry)) = self.subscriptions.live(&push.channel) else { return };
        let event = match push {
            Push { unsubscribe: Some(CodePush { code, .. }), .. } if codes::unsubscribe_is_temporary(code) => {
                if codes::unsubscribe_spoils_position(code) {
                    entry.track.forget_position();
                }
                if codes::unsubscribe_spoils_token(code) {
                    entry.forget_token();
                }
                entry.refresh = Refresh::Never;
                entry.step = Step::RetryAt(now + entry.backoff.next(self.chance.f64()));
                return;
            }
            Push { unsubscribe: Some(CodePush { code, reason }), .. } => {
                let how = Unsubscribed::ByServer { code, reason: reason.into() };
                return self.end_subscription(id, how);
            }
            Push { publication: Some(publication), .. } => entry.track.publication(publication),
            Push { join: Some(join), .. } => Some(Event::Join(Arc::new(join.info.into()))),
            Push { leave: Some(leave), .. } => Some(Event::Leave(Arc::new(leave.info.into()))),
            _ => None,
        };
        if let Some(event) = event {
            self.effects.push(Effect::Deliver(id, event));
        }
    }

    /// The server's own subscriptions of this session, as the answer to connect lists them.
    fn resume_server_side(&mut self, subs: BTreeMap<String, SubscribeResult>) {
        let mut known = std::mem::take(&mut self.server_side);
        for (topic, result) in subs {
            let topic: Arc<str> = topic.into();
            let mut track = known.remove(&topic).unwrap_or_default();
            let since = track.position().cloned().map(Since::Position);
            self.live_server_side(&topic, &mut track, result, since.as_ref());
            self.server_side.insert(topic, track);
        }
        for topic in known.into_keys() {
            let how = Unsubscribed::ByServer { code: 0, reason: "not made again by the server".into() };
            self.effects.push(Effect::Notice(Notice::Topic { topic, event: Event::Unsubscribed(how) }));
        }
    }

    fn live_server_side(&mut self, topic: &Arc<str>, track: &mut Track, result: SubscribeResult, since: Option<&Since>) {
        let effects = &mut self.effects;
        track.live(result, since, &mut |event| effects.push(Effect::Notice(Notice::Topic { topic: topic.clone(), event })));
    }

    fn push_server_side(&mut self, push: Push) {
        let topic: Arc<str> = push.channel.into();
        if let Some(result) = push.subscribe {
            let mut track = Track::default();
            self.live_server_side(&topic, &mut track, result, None);
            self.server_side.insert(topic, track);
            return;
        }
        // What belongs to a subscription that is over is void.
        let Some(track) = self.server_side.get_mut(&topic) else { return };
        let event =
            if let Some(code) = push.unsubscribe.as_ref().map(|push| push.code).filter(|code| codes::unsubscribe_is_temporary(*code)) {
                // The server makes it again on the next connection, which resumes it.
                if codes::unsubscribe_spoils_position(code) {
                    track.forget_position();
                }
                None
            } else if let Some(CodePush { code, reason }) = push.unsubscribe {
                self.server_side.remove(&topic);
                Some(Event::Unsubscribed(Unsubscribed::ByServer { code, reason: reason.into() }))
            } else if let Some(publication) = push.publication {
                track.publication(publication)
            } else if let Some(join) = push.join {
                Some(Event::Join(Arc::new(join.info.into())))
            } else {
                push.leave.map(|leave| Event::Leave(Arc::new(leave.info.into())))
            };
        if let Some(event) = event {
            self.effects.push(Effect::Notice(Notice::Topic { topic, event }));
        }
    }
}
