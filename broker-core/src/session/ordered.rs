//! What the server does with a session that is open: subscribe it, send to it, move its end, give it another identity.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    connecting::advertised,
    effect::{Completion, Effect, Question},
    machine::{Phase, Purpose, Session},
    subscription::Origin,
};
use crate::{CloseReason, Identity, Publication, Push, ServerSubscription, Since, Subscribed, Topic, UnsubscribeReason};

impl Session {
    /// Subscribes to a topic, given by its local name. False: that is not possible for this session.
    pub(crate) fn order_subscribe(
        &mut self,
        mut subscription: ServerSubscription,
        since: Option<Since>,
        completion: Completion,
        effects: &mut Vec<Effect>,
    ) -> bool {
        if let Some(tenant) = self.subject.tenant() {
            let Ok(topic) = subscription.topic.in_tenant(tenant) else { return false };
            subscription.topic = topic;
        } else if subscription.topic.tenant().is_some() {
            return false;
        }
        if let Some(group) = subscription.topic.as_group() {
            self.subject = Arc::new(self.subject.with_group(group, true));
        }
        if let Some(live) = self.subscriptions.find_mut(&subscription.topic) {
            if let Some(pending) = &mut live.pending {
                pending.completion = Some(match pending.completion.take() {
                    None => completion,
                    Some(earlier) => Completion(Arc::new((earlier, completion))),
                });
            }
            return true;
        }
        let Ok(namespace) = self.rules.namespace(&subscription.topic).cloned() else { return false };
        if self.subscriptions.len() >= self.rules.settings.subscriptions_max {
            return false;
        }
        self.subscribe_for_server(subscription, namespace, Origin::Server, since, Some(completion), effects);
        true
    }

    /// Ends the subscription to a topic, given by its full name, or by its local one in a tenant. False: there is none.
    pub(crate) fn order_unsubscribe(&mut self, topic: &Topic, now: Instant, effects: &mut Vec<Effect>) -> bool {
        let inside = self.subject.tenant().filter(|_| topic.tenant().is_none()).and_then(|tenant| topic.in_tenant(tenant).ok());
        let topic = inside.as_ref().unwrap_or(topic);
        if let Some(group) = topic.as_group().filter(|_| topic.tenant() == self.subject.tenant().map(crate::Tenant::as_str)) {
            self.subject = Arc::new(self.subject.with_group(group, false));
        }
        let is_subscribed = self.subscriptions.find(topic).is_some();
        self.end_subscription(topic, UnsubscribeReason::Server, effects);
        self.settle_entering(now, effects);
        // A command may have waited for the subscription to be live.
        self.go_on(now, effects);
        is_subscribed
    }

    /// Sends a publication that stands in no history. The topic of the session itself is told before its first one.
    pub(crate) fn order_send(&mut self, publication: Arc<Publication>, effects: &mut Vec<Effect>) {
        let is_new = self.subscriptions.find(&publication.topic).is_none();
        if is_new && !std::mem::replace(&mut self.told_own_topic, true) {
            let subscribed = Subscribed {
                topic: publication.topic.clone(),
                position: None,
                recoverable: false,
                resume: None,
                snapshot: None,
                missed: Vec::new(),
                data: None,
                ttl: None,
                keyed: false,
            };
            effects.push(Effect::Push(Push::Subscribed(Box::new(subscribed))));
        }
        effects.push(Effect::Push(Push::Publication(publication)));
    }

    /// Sets when the credentials end; `None`: never.
    pub(crate) fn order_refresh(&mut self, ttl: Option<Duration>, now: Instant, effects: &mut Vec<Effect>) {
        self.set_expiry(ttl, now);
        if !self.renewed_by_server {
            effects.push(Effect::Push(Push::Refreshed { ttl: ttl.map(advertised) }));
        }
    }

    /// Begins to give the session another identity, once it has entered as the one it has. Of several that wait, the last one counts.
    pub(crate) fn order_identity(&mut self, identity: Box<Identity>, completion: Completion, effects: &mut Vec<Effect>) {
        self.ordered_identity = Some((identity, completion));
        self.take_ordered_identity(effects);
    }

    pub(super) fn take_ordered_identity(&mut self, effects: &mut Vec<Effect>) {
        // Whoever waits at the door is told of the opening first: what the change would end could not answer it.
        if self.phase == Phase::Connected
            && !self.is_changing()
            && !self.is_opening()
            && let Some((identity, completion)) = self.ordered_identity.take()
        {
            self.ask(None, Purpose::Adopt(completion), Question::Adopt(identity), effects);
        }
    }

    /// Closes the session on behalf of the server.
    pub(crate) fn order_close(&mut self, reason: CloseReason, effects: &mut Vec<Effect>) {
        self.close(reason, effects);
    }

    /// The topics that the session listens to.
    pub(crate) fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.subscriptions.iter().map(|subscription| &subscription.topic)
    }

    /// Whether the session is a member of the topic and its own list says so.
    pub(crate) fn is_live_in(&self, topic: &Topic) -> bool {
        self.subscriptions.find(topic).is_some_and(|subscription| subscription.pending.is_none())
    }
}
