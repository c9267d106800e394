//! Subscribe, join, unsubscribe: how a session comes to listen, and stops.

use std::time::Instant;

use super::{
    effect::{Effect, Generation, Join, Leave, Question},
    machine::{Purpose, Session},
    subscription::{Pending, Subscription},
};
use crate::{CommandId, Grant, Push, Refusal, RefusalKind, Reply, SessionInfo, Subscribe, Subscribed, Topic, UnsubscribeReason, Verb};

impl Session {
    pub(super) fn subscribe(&mut self, id: CommandId, subscribe: Subscribe, now: Instant, effects: &mut Vec<Effect>) {
        let (namespace, authorize) = match self.may_subscribe(&subscribe.topic) {
            Ok(admitted) => admitted,
            Err(refusal) => return self.refuse(id, refusal, now, effects),
        };
        let generation = self.next_generation();
        let asks = authorize || self.rules.hears_subscribe;
        let since = subscribe.since;
        let pending = Pending {
            command: id,
            joining: !asks,
            since,
            join_leave: subscribe.join_leave && namespace.join_leave,
            refuse_unrecovered: subscribe.refuse_unrecovered,
            data: None,
        };
        let join_leave = pending.join_leave;
        self.subscriptions.add(Subscription {
            topic: subscribe.topic.clone(),
            namespace: namespace.clone(),
            generation,
            pending: Some(Box::new(pending)),
            topic_info: None,
        });
        if asks {
            let topic = subscribe.topic.clone();
            let question = Question::Subscribe { subscribe, namespace, authorize };
            self.ask(Some(topic.clone()), Purpose::Subscribe(topic, generation), question, effects);
        } else {
            effects.push(Effect::Join(Join { topic: subscribe.topic, namespace, generation, since, join_leave }));
        }
    }

    fn may_subscribe(&self, topic: &Topic) -> Result<(std::sync::Arc<crate::Namespace>, bool), Refusal> {
        if self.subscriptions.find(topic).is_some() {
            return Err(Refusal::new(RefusalKind::AlreadySubscribed, format!("this session is subscribed to {topic}")));
        }
        let max = self.rules.settings.subscriptions_max;
        if self.subscriptions.len() >= max {
            let refusal = Refusal::new(RefusalKind::LimitExceeded, format!("a session may have {max} subscriptions"));
            return Err(refusal.hint("unsubscribe from another topic first").rule("raise client.subscriptions_max"));
        }
        self.rules.admit(&self.info, Verb::Subscribe, topic)
    }

    /// The application answered whether the session may subscribe.
    pub(super) fn granted(
        &mut self,
        topic: &Topic,
        generation: Generation,
        answer: Result<Grant, Refusal>,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let Some(subscription) = self.subscriptions.find_mut(topic).filter(|found| found.generation == generation) else { return };
        let Some(pending) = subscription.pending.as_mut() else { return };
        match answer {
            Ok(grant) => {
                pending.data = grant.data;
                pending.joining = true;
                subscription.topic_info = grant.topic_info;
                let join = Join {
                    topic: topic.clone(),
                    namespace: subscription.namespace.clone(),
                    generation,
                    since: pending.since,
                    join_leave: pending.join_leave,
                };
                effects.push(Effect::Join(join));
            }
            Err(refusal) => {
                let id = std::mem::take(&mut pending.command);
                self.subscriptions.remove(topic);
                self.refuse(id, refusal, now, effects);
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

    /// The session as others see it in this topic.
    pub(crate) fn info_in(&self, topic: &Topic) -> std::sync::Arc<SessionInfo> {
        self.info_with(self.subscriptions.find(topic).and_then(|found| found.topic_info.clone()))
    }

    /// The session as others see it where this is said of it.
    fn info_with(&self, topic_info: Option<bytes::Bytes>) -> std::sync::Arc<SessionInfo> {
        match topic_info {
            None => self.info.clone(),
            topic_info => std::sync::Arc::new(SessionInfo { topic_info, ..(*self.info).clone() }),
        }
    }

    /// The hub made the session a member: answers, and what was missed goes with the answer.
    pub(crate) fn joined(&mut self, mut subscribed: Subscribed, now: Instant, effects: &mut Vec<Effect>) {
        let Some(subscription) = self.subscriptions.find_mut(&subscribed.topic) else { return };
        let Some(pending) = subscription.pending.take() else { return };
        subscribed.data = pending.data;
        effects.push(Effect::Reply(pending.command, Reply::Subscribed(Box::new(subscribed))));
        self.open_next(now, effects);
        self.go_on(now, effects);
    }

    /// The hub could not make the session a member.
    pub(crate) fn join_failed(&mut self, topic: &Topic, refusal: Refusal, now: Instant, effects: &mut Vec<Effect>) {
        let Some(mut subscription) = self.subscriptions.remove(topic) else { return };
        let id = subscription.pending.as_mut().map(|pending| std::mem::take(&mut pending.command)).unwrap_or_default();
        self.refuse(id, refusal, now, effects);
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
        if let Some(subscription) = self.subscriptions.remove(topic) {
            self.leave(subscription, false, effects);
            effects.push(Effect::Push(Push::Unsubscribed { topic: topic.clone(), reason }));
        }
    }

    /// Ends a subscription whose client takes a gap as its end; the gap and what came before it are still sent.
    pub(crate) fn forget_subscription(&mut self, topic: &Topic, effects: &mut Vec<Effect>) {
        if let Some(subscription) = self.subscriptions.remove(topic) {
            self.leave(subscription, true, effects);
        }
    }

    pub(super) fn leave_all(&mut self, effects: &mut Vec<Effect>) {
        let all: Vec<Subscription> = self.subscriptions.drain().collect();
        for subscription in all {
            self.leave(subscription, false, effects);
        }
    }

    fn leave(&self, subscription: Subscription, keeps_backlog: bool, effects: &mut Vec<Effect>) {
        let live = subscription.pending.is_none();
        if subscription.pending.as_ref().is_some_and(|pending| !pending.joining) {
            return;
        }
        let Subscription { topic, namespace, generation, topic_info, .. } = subscription;
        let who = self.info_with(topic_info);
        effects.push(Effect::Leave(Leave { topic, namespace, generation, live, who, keeps_backlog }));
    }
}
