//! Subscribe, join, unsubscribe: how a session comes to listen, and stops.

use std::time::{Duration, Instant};

use super::{
    connecting::advertised,
    effect::{Effect, Generation, Granted, Join, Leave, Question},
    machine::{Purpose, Session},
    rules::not_available,
    subscription::{Origin, Pending, Subscription},
};
use crate::{
    CloseReason, CommandId, Namespace, Push, Refusal, RefusalKind, Reply, Selection, SessionInfo, Subscribe, Subscribed, Topic,
    UnsubscribeReason, Verb,
};

impl Session {
    pub(super) fn subscribe(&mut self, id: CommandId, subscribe: Subscribe, now: Instant, effects: &mut Vec<Effect>) {
        let by_token = subscribe.token.is_some();
        let (namespace, authorize) = match self.may_subscribe(&subscribe.topic, by_token) {
            Ok(admitted) => admitted,
            Err(refusal) => return self.refuse_quietly(id, refusal, now, effects),
        };
        if subscribe.selection.has_filter() && !namespace.filter {
            let refusal = Refusal::new(RefusalKind::NotAvailable, format!("{} cannot be filtered by tags", subscribe.topic.local()));
            let rule = format!("set {}.filter = true", Namespace::section(&subscribe.topic));
            return self.refuse_quietly(id, refusal.hint("subscribe without a filter").rule(rule), now, effects);
        }
        if subscribe.keyed && !namespace.keeps_state() {
            let refusal = not_available("state by key", &subscribe.topic, "keyed = true");
            return self.refuse(id, refusal.hint("subscribe to it as a stream"), now, effects);
        }
        let generation = self.next_generation();
        let asks = authorize || by_token || self.rules.hears_subscribe;
        let since = subscribe.since;
        let pending = Pending {
            command: id,
            joining: !asks,
            since,
            join_leave: subscribe.join_leave && namespace.join_leave,
            refuse_unrecovered: subscribe.refuse_unrecovered,
            keyed: subscribe.keyed,
            data: None,
            completion: None,
        };
        let join_leave = pending.join_leave;
        self.subscriptions.add(Subscription {
            topic: subscribe.topic.clone(),
            namespace: namespace.clone(),
            generation,
            pending: Some(Box::new(pending)),
            topic_info: None,
            origin: Origin::Client,
            expires_at: None,
            selection: (!subscribe.selection.is_all()).then(|| std::sync::Arc::new(subscribe.selection.clone())),
        });
        if asks {
            let topic = subscribe.topic.clone();
            let question = Question::Subscribe { subscribe, namespace, authorize };
            self.ask(Some(topic.clone()), Purpose::Subscribe(topic, generation), question, effects);
        } else {
            effects.push(Effect::Join(Join { topic: subscribe.topic, namespace, generation, since, join_leave }));
        }
    }

    /// With a token of its own, the topic is decided by that: see [`Authorizer::redeem`](crate::Authorizer::redeem).
    fn may_subscribe(&self, topic: &Topic, by_token: bool) -> Result<(std::sync::Arc<crate::Namespace>, bool), Refusal> {
        if self.subscriptions.find(topic).is_some() {
            return Err(Refusal::new(RefusalKind::AlreadySubscribed, format!("this session is subscribed to {}", topic.local())));
        }
        let max = self.rules.settings.subscriptions_max;
        if self.subscriptions.len() >= max {
            let refusal = Refusal::new(RefusalKind::LimitExceeded, format!("a session may have {max} subscriptions"));
            return Err(refusal.hint("unsubscribe from another topic first").rule("raise client.subscriptions_max"));
        }
        if by_token {
            return Ok((self.rules.namespace(topic)?.clone(), false));
        }
        self.rules.admit(&self.subject, Verb::Subscribe, topic)
    }

    /// The application answered whether the session may subscribe.
    pub(super) fn granted(
        &mut self,
        topic: &Topic,
        generation: Generation,
        answer: Result<Granted, Refusal>,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let Some(subscription) = self.subscriptions.find_mut(topic).filter(|found| found.generation == generation) else { return };
        let Some(pending) = subscription.pending.as_mut() else { return };
        match answer {
            Ok(Granted { grant, by_token, ttl }) => {
                pending.data = grant.data;
                pending.joining = true;
                subscription.topic_info = grant.topic_info;
                subscription.origin = if by_token { Origin::Token } else { Origin::Client };
                subscription.expires_at = ends_at(ttl, now, self.rules.settings.expiry_leeway);
                let join = Join {
                    topic: topic.clone(),
                    namespace: subscription.namespace.clone(),
                    generation,
                    since: pending.since,
                    join_leave: pending.join_leave,
                };
                effects.push(Effect::Join(join));
                self.timers.subscription_ends_at = self.subscriptions.next_end();
            }
            Err(refusal) => {
                let id = std::mem::take(&mut pending.command);
                self.subscriptions.remove(topic);
                self.refuse_quietly(id, refusal, now, effects);
            }
        }
    }

    /// Whether the session gets what is published to this topic.
    pub(crate) fn listens_to(&self, topic: &Topic) -> bool {
        self.subscriptions.find(topic).is_some()
    }

    /// Whether the hub's answer to a join is still waited for; otherwise it is void and the hub must be left.
    pub(crate) fn awaits(&self, topic: &Topic, generation: Generation) -> bool {
        self.subscriptions
            .find(topic)
            .is_some_and(|found| found.generation == generation && found.pending.as_ref().is_some_and(|pending| pending.joining))
    }

    /// Whether a resume that failed is to be refused rather than joined.
    pub(crate) fn refuses_unrecovered(&self, topic: &Topic) -> bool {
        self.subscriptions.find(topic).and_then(|found| found.pending.as_ref()).is_some_and(|pending| pending.refuse_unrecovered)
    }

    /// What of a topic the session wants, where that is not everything.
    pub(crate) fn selection(&self, topic: &Topic) -> Option<&std::sync::Arc<Selection>> {
        self.subscriptions.find(topic)?.selection.as_ref()
    }

    /// Whether this subscription is live.
    pub(crate) fn is_live(&self, topic: &Topic, generation: Generation) -> bool {
        self.subscriptions.find(topic).is_some_and(|found| found.generation == generation && found.pending.is_none())
    }

    /// The number of the subscription to a topic.
    pub(crate) fn generation(&self, topic: &Topic) -> Option<Generation> {
        self.subscriptions.find(topic).map(|found| found.generation)
    }

    /// The session as others see it in this topic.
    pub(crate) fn info_in(&self, topic: &Topic) -> std::sync::Arc<SessionInfo> {
        self.info_with(self.subscriptions.find(topic).and_then(|found| found.topic_info.clone()))
    }

    /// The session as others see it where this is said of it.
    pub(super) fn info_with(&self, topic_info: Option<bytes::Bytes>) -> std::sync::Arc<SessionInfo> {
        match topic_info {
            None => self.subject.info.clone(),
            topic_info => std::sync::Arc::new(SessionInfo { topic_info, ..(*self.subject.info).clone() }),
        }
    }

    /// The hub made the session a member: answers, and what was missed goes with the answer.
    pub(crate) fn joined(&mut self, mut subscribed: Subscribed, now: Instant, effects: &mut Vec<Effect>) {
        let Some(subscription) = self.subscriptions.find_mut(&subscribed.topic) else { return };
        let Some(pending) = subscription.pending.take() else { return };
        let who = match &subscription.topic_info {
            None => self.subject.info.clone(),
            Some(_) => self.info_in(&subscribed.topic),
        };
        let subscription = self.subscriptions.find(&subscribed.topic);
        let (origin, mut expires_at) = subscription.map_or((Origin::Client, None), |live| (live.origin, live.expires_at));
        if origin == Origin::Client {
            // What the application granted no client can renew: it subscribes again after the end, and the application is asked again.
            expires_at = None;
        }
        subscribed.missed.retain(|publication| publication.is_for(&who));
        if let Some(selection) = subscription.and_then(|live| live.selection.as_ref()) {
            selection.apply(&mut subscribed.missed);
        }
        subscribed.data = pending.data;
        subscribed.keyed = pending.keyed;
        subscribed.ttl =
            expires_at.map(|at| advertised(at.saturating_duration_since(now).saturating_sub(self.rules.settings.expiry_leeway)));
        match origin {
            Origin::Client | Origin::Token => {
                let subscribed = Box::new(subscribed);
                // What the application asked for in the client's name is nobody's answer; a client that is not told would not know its publications.
                let is_nobodys = pending.command == CommandId::None && !self.manners.answers_without_id;
                effects.push(if is_nobodys {
                    Effect::Push(Push::Subscribed(subscribed))
                } else {
                    Effect::Reply(pending.command, Reply::Subscribed(subscribed))
                });
                self.open_next(now, effects);
            }
            Origin::Identity | Origin::Server => self.entered_topic(subscribed, origin, now, effects),
        }
        drop(pending.completion);
        self.go_on(now, effects);
    }

    /// The hub could not make the session a member.
    pub(crate) fn join_failed(&mut self, topic: &Topic, refusal: Refusal, now: Instant, effects: &mut Vec<Effect>) {
        let Some(mut subscription) = self.subscriptions.remove(topic) else { return };
        let id = subscription.pending.as_mut().map(|pending| std::mem::take(&mut pending.command)).unwrap_or_default();
        match subscription.origin {
            Origin::Client | Origin::Token => self.refuse_quietly(id, refusal, now, effects),
            Origin::Identity | Origin::Server => self.not_entered(topic, &refusal, effects),
        }
        self.go_on(now, effects);
    }

    pub(super) fn unsubscribe(&mut self, id: CommandId, topic: Topic, now: Instant, effects: &mut Vec<Effect>) {
        let mut pointless = Vec::new();
        if let Some(mut subscription) = self.subscriptions.remove(&topic) {
            pointless.extend(subscription.pending.as_mut().map(|pending| std::mem::take(&mut pending.command)));
            self.leave(subscription, false, effects);
        }
        pointless.extend(self.take_waiting_subscribes(&topic));
        // Every command is answered, also one that another has made pointless.
        for subscribe in pointless {
            let refusal = Refusal::unavailable("the client unsubscribed before the subscription was live");
            effects.push(Effect::Reply(subscribe, Reply::Refused(refusal)));
        }
        effects.push(Effect::Reply(id, Reply::Unsubscribed { topic }));
        self.go_on(now, effects);
    }

    /// Ends a subscription of the server's own accord, and says so.
    pub(crate) fn end_subscription(&mut self, topic: &Topic, reason: UnsubscribeReason, effects: &mut Vec<Effect>) {
        if let Some(mut subscription) = self.subscriptions.remove(topic) {
            let waiting = subscription.pending.as_mut().map(|pending| std::mem::take(&mut pending.command));
            let origin = subscription.origin;
            self.leave(subscription, false, effects);
            let refusal = || Refusal::permission_denied(format!("the server ended the subscription to {}", topic.local()));
            match waiting {
                Some(id) if id != CommandId::None => effects.push(Effect::Reply(id, Reply::Refused(refusal()))),
                // One of the URL's topics is refused: so is the opening, which waits for it.
                Some(_) if self.is_opening() && matches!(origin, Origin::Client | Origin::Token) => {
                    self.close(CloseReason::Refused(Box::new(refusal())), effects);
                }
                _ => effects.push(Effect::Push(Push::Unsubscribed { topic: topic.clone(), reason })),
            }
        }
    }

    /// Ends the subscriptions whose own credentials are past their end.
    pub(super) fn end_expired(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let is_over = |subscription: &&Subscription| subscription.expires_at.is_some_and(|at| at <= now);
        let over: Vec<(Topic, Origin)> =
            self.subscriptions.iter().filter(is_over).map(|subscription| (subscription.topic.clone(), subscription.origin)).collect();
        for (topic, origin) in over {
            match origin {
                Origin::Client | Origin::Token => self.end_subscription(&topic, UnsubscribeReason::Expired, effects),
                Origin::Identity | Origin::Server => return self.close(CloseReason::SubscriptionExpired, effects),
            }
        }
        self.timers.subscription_ends_at = self.subscriptions.next_end();
        self.go_on(now, effects);
    }

    pub(super) fn refresh_subscription(&mut self, id: CommandId, topic: Topic, token: String, now: Instant, effects: &mut Vec<Effect>) {
        let Some(subscription) = self.subscriptions.find(&topic) else {
            let refusal = Refusal::bad_request(format!("this session is not subscribed to {}", topic.local()));
            return self.refuse(id, refusal.hint("subscribe with the new token"), now, effects);
        };
        let purpose = Purpose::RefreshSubscription(id, topic.clone(), subscription.generation);
        self.ask(Some(topic.clone()), purpose, Question::Redeem { topic, token }, effects);
    }

    /// The renewed token of a subscription was looked at.
    pub(super) fn subscription_refreshed(
        &mut self,
        id: CommandId,
        topic: Topic,
        generation: Generation,
        answer: Result<Granted, Refusal>,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let leeway = self.rules.settings.expiry_leeway;
        let granted = match answer {
            Ok(granted) => granted,
            Err(refusal) => return self.refuse(id, refusal, now, effects),
        };
        let expires_at = ends_at(granted.ttl, now, leeway);
        let Some(subscription) = self.subscriptions.find_mut(&topic).filter(|found| found.generation == generation) else {
            let refusal = Refusal::unavailable(format!("the subscription to {} ended before its renewal", topic.local()));
            return self.refuse(id, refusal, now, effects);
        };
        subscription.expires_at = expires_at;
        self.timers.subscription_ends_at = self.subscriptions.next_end();
        let ttl = expires_at.map(|at| advertised(at.saturating_duration_since(now).saturating_sub(leeway)));
        effects.push(Effect::Reply(id, Reply::SubscriptionRefreshed { topic, ttl }));
    }

    /// Ends a subscription whose client takes a gap as its end; the gap and what came before it are still sent.
    ///
    /// Clients do not subscribe again to what the server chose for them: those come back with a new connection.
    pub(crate) fn forget_subscription(&mut self, topic: &Topic, effects: &mut Vec<Effect>) {
        let Some(subscription) = self.subscriptions.remove(topic) else { return };
        let origin = subscription.origin;
        self.leave(subscription, true, effects);
        if matches!(origin, Origin::Identity | Origin::Server) {
            self.close(CloseReason::InsufficientState, effects);
        }
    }

    /// Ends a subscription whose state cannot be had again: its client begins anew.
    pub(crate) fn lose_subscription(&mut self, topic: &Topic, effects: &mut Vec<Effect>) {
        match self.subscriptions.find(topic).map(|found| found.origin) {
            Some(Origin::Identity | Origin::Server) => self.close(CloseReason::InsufficientState, effects),
            _ => self.end_subscription(topic, UnsubscribeReason::InsufficientState, effects),
        }
    }

    pub(super) fn leave_all(&mut self, effects: &mut Vec<Effect>) {
        for subscription in self.subscriptions.take_all() {
            self.leave(subscription, false, effects);
        }
    }

    pub(super) fn leave(&self, subscription: Subscription, keeps_backlog: bool, effects: &mut Vec<Effect>) {
        let live = subscription.pending.is_none();
        if subscription.pending.as_ref().is_some_and(|pending| !pending.joining) {
            return;
        }
        let Subscription { topic, namespace, generation, topic_info, .. } = subscription;
        let who = self.info_with(topic_info);
        let closed = self.is_closed();
        effects.push(Effect::Leave(Leave { topic, namespace, generation, live, who, keeps_backlog, closed }));
    }
}

/// When a subscription ends on the session's own clock, leeway included.
pub(super) fn ends_at(expires_at: Option<Duration>, now: Instant, leeway: Duration) -> Option<Instant> {
    expires_at.map(|ttl| now + ttl + leeway)
}
