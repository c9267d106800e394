//! Renewed credentials, and a session that changes hands: what the old identity alone may hear ends, what the new one hears begins.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    connecting::advertised,
    effect::{Answer, AsOf, Completion, Effect, Granted, Identified, Kept, Question},
    entering::{Changed, Chosen, Entered},
    machine::{Open, Purpose, Resumes, Session},
    subscribing::ends_at,
    subscription::{Origin, Subscription},
};
use crate::{CloseReason, CommandId, Decision, Push, Refusal, Reply, Subject, Topic, UnsubscribeReason, Verb};

/// A change of identity that is decided, until the application has said which subscriptions stay.
pub(super) struct Switch {
    /// The command to answer; `None`: the server's act.
    command: Option<CommandId>,
    completion: Option<Completion>,
    identified: Box<Identified>,
    /// When it was decided: the time until the credentials end runs from here.
    decided_at: Instant,
    chosen: Vec<Chosen>,
    /// Subscriptions of the client that stay.
    kept: Vec<Topic>,
    /// Subscriptions that were asked about, in the order of the question.
    asked: Vec<Topic>,
}

impl Session {
    /// The client brought credentials while it was connected.
    pub(super) fn refreshed(&mut self, id: CommandId, answer: Result<Box<Identified>, Refusal>, now: Instant, effects: &mut Vec<Effect>) {
        let identified = match answer {
            Ok(identified) => identified,
            Err(refusal) => return self.refuse(id, refusal, now, effects),
        };
        let is_same_user = self.is_same_user(&identified.subject);
        if !is_same_user && !self.manners.changes_user {
            return self.hand_over(&identified, effects);
        }
        let refused = id.clone();
        if let Err(refusal) = self.change(Some(id), None, identified, now, effects) {
            self.refuse(refused, refusal, now, effects);
        }
    }

    /// The server gives the session another identity.
    pub(super) fn adopted(
        &mut self,
        completion: Option<Completion>,
        answer: Result<Box<Identified>, Refusal>,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let changed = answer.and_then(|identified| self.change(None, completion, identified, now, effects));
        if let Err(refusal) = changed {
            // The old identity is no longer meant, and the new one is not possible; or nobody can say so, and the client is to come back.
            let is_temporary = refusal.is_temporary();
            let reason = if is_temporary { CloseReason::ServerError } else { CloseReason::InvalidCredentials };
            self.close(reason(refusal.message), effects);
        }
    }

    fn is_same_user(&self, subject: &Subject) -> bool {
        self.subject.user == subject.user && self.subject.tenant() == subject.tenant()
    }

    fn change(
        &mut self,
        command: Option<CommandId>,
        completion: Option<Completion>,
        identified: Box<Identified>,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let chosen = self.topics_of(&identified.identity, &identified.subject)?;
        if self.is_same_user(&identified.subject) && self.hears_the_same(&identified.subject, &chosen) {
            self.renew(command, *identified, now, effects);
            return Ok(());
        }
        let mut switch = Switch { command, completion, identified, decided_at: now, chosen, kept: Vec::new(), asked: Vec::new() };
        let questions = self.sort_subscriptions(&mut switch);
        if questions.is_empty() {
            self.switch(switch, Vec::new(), now, effects);
        } else {
            let subject = Arc::new(switch.identified.subject.clone());
            self.ask(None, Purpose::Reauthorize(Box::new(switch)), Question::Reauthorize { subject, topics: questions }, effects);
        }
        Ok(())
    }

    /// Whether the new credentials change neither topics nor rights.
    fn hears_the_same(&self, subject: &Subject, chosen: &[Chosen]) -> bool {
        let has = |topic: &Topic| self.is_live_in(topic);
        let is_chosen = |topic: &Topic| chosen.iter().any(|(subscription, _)| subscription.topic == *topic);
        let mut of_identity = self.subscriptions.iter().filter(|subscription| subscription.origin == Origin::Identity);
        subject.capabilities() == self.subject.capabilities()
            && chosen.iter().all(|(subscription, _)| has(&subscription.topic))
            && of_identity.all(|subscription| is_chosen(&subscription.topic))
    }

    /// The same user for longer.
    fn renew(&mut self, command: Option<CommandId>, identified: Identified, now: Instant, effects: &mut Vec<Effect>) {
        let Identified { identity, subject, ttl, as_of, .. } = identified;
        self.take_subject(subject, as_of, effects);
        self.renewed_by_server = identity.renewed_by_server && self.rules.renews;
        self.set_expiry(ttl, now);
        if let Some(id) = command {
            let (session, user) = (self.subject.session, self.subject.user.clone());
            let reply = Reply::Refreshed { session, user, ttl: ttl.map(advertised), left: Vec::new(), joined: Vec::new() };
            effects.push(Effect::Reply(id, reply));
        }
    }

    /// Says of each subscription of the client whether it stays, and gives those that somebody must be asked about.
    fn sort_subscriptions(&self, switch: &mut Switch) -> Vec<Kept> {
        let subject = &switch.identified.subject;
        let is_same_user = self.is_same_user(subject);
        let mut questions = Vec::new();
        for Subscription { topic, namespace, origin, pending, .. } in self.subscriptions.iter() {
            let stays = match origin {
                // Nobody has said yet whether the old identity may have it.
                _ if pending.as_ref().is_some_and(|pending| !pending.joining) => {
                    Decision::Deny(Refusal::permission_denied("it was not live"))
                }
                _ if self.subject.tenant() != subject.tenant() => {
                    Decision::Deny(Refusal::permission_denied("it belongs to another tenant"))
                }
                // What the server made for the session itself stays with its user.
                Origin::Server | Origin::Token if is_same_user => Decision::Allow,
                Origin::Client => self.rules.authorizer.decide(subject, Verb::Subscribe, topic, namespace),
                Origin::Identity | Origin::Server | Origin::Token => {
                    Decision::Deny(Refusal::permission_denied("it was the old identity's"))
                }
            };
            let authorize = matches!(stays, Decision::Ask);
            match stays {
                Decision::Deny(_) => {}
                Decision::Allow | Decision::Ask if *origin == Origin::Client && (authorize || self.rules.hears_subscribe) => {
                    switch.asked.push(topic.clone());
                    questions.push(Kept { topic: topic.clone(), namespace: namespace.clone(), authorize });
                }
                Decision::Allow | Decision::Ask => switch.kept.push(topic.clone()),
            }
        }
        questions
    }

    /// The application has said which subscriptions stay.
    pub(super) fn reauthorized(&mut self, switch: Switch, answer: Vec<Option<Granted>>, now: Instant, effects: &mut Vec<Effect>) {
        self.switch(switch, answer, now, effects);
    }

    /// The change itself, in one step: nothing of what only the old identity may hear is sent after it.
    fn switch(&mut self, mut switch: Switch, grants: Vec<Option<Granted>>, now: Instant, effects: &mut Vec<Effect>) {
        for (topic, grant) in switch.asked.drain(..).zip(grants) {
            let Some(Granted { grant, ttl, .. }) = grant else { continue };
            if let Some(subscription) = self.subscriptions.find_mut(&topic) {
                subscription.topic_info = grant.topic_info;
                subscription.expires_at = ends_at(ttl, now, self.rules.settings.expiry_leeway);
                switch.kept.push(topic);
            }
        }
        self.void_questions(effects);
        let is_same_user = self.is_same_user(&switch.identified.subject);
        let mut left = Vec::new();
        for mut subscription in self.subscriptions.take_all() {
            // The server may have given the user something while the application was asked.
            let is_given = is_same_user && matches!(subscription.origin, Origin::Server | Origin::Token);
            let chosen = switch.chosen.iter().find(|(chosen, _)| chosen.topic == subscription.topic);
            let stays = match chosen {
                _ if is_given => true,
                // Somebody else waits for what is not live yet: the new identity's begins anew.
                Some((chosen, _)) if subscription.pending.is_none() => {
                    subscription.origin = Origin::Identity;
                    subscription.topic_info.clone_from(&chosen.topic_info);
                    subscription.expires_at = None;
                    true
                }
                Some(_) => false,
                None => switch.kept.contains(&subscription.topic),
            };
            if stays {
                self.subscriptions.add(subscription);
                continue;
            }
            let topic = subscription.topic.clone();
            self.drop_subscription(subscription, effects);
            if !self.manners.changes_user {
                effects.push(Effect::Push(Push::Unsubscribed { topic: topic.clone(), reason: UnsubscribeReason::Server }));
            }
            left.push(topic);
        }
        self.timers.subscription_ends_at = self.subscriptions.next_end();
        let Identified { identity, subject, ttl, as_of, .. } = *switch.identified;
        let ttl = ttl.map(|ttl| ttl.saturating_sub(now.saturating_duration_since(switch.decided_at)));
        self.take_subject(subject, as_of, effects);
        self.renewed_by_server = identity.renewed_by_server && self.rules.renews;
        self.set_expiry(ttl, now);
        let mut topics = switch.chosen;
        topics.retain(|(chosen, _)| self.subscriptions.find(&chosen.topic).is_none());
        let joined = topics.iter().map(|(chosen, _)| chosen.topic.clone()).filter(is_listed).collect();
        left.retain(is_listed);
        let ttl = ttl.map(advertised);
        let changed = Changed { command: switch.command, ttl, left, joined, completion: switch.completion };
        self.enter(Entered::Changed(changed), topics, &Resumes::default(), now, effects);
    }

    /// Ends a subscription, and answers whoever waits for it to begin.
    fn drop_subscription(&mut self, mut subscription: Subscription, effects: &mut Vec<Effect>) {
        let waiting = subscription.pending.as_mut().map(|pending| std::mem::take(&mut pending.command));
        self.leave(subscription, false, effects);
        if let Some(id) = waiting {
            effects.push(Effect::Reply(id, Reply::Refused(changed_meanwhile())));
        }
    }

    /// Answers to the old identity's questions are nobody's, except those that are here and waited for earlier ones.
    fn void_questions(&mut self, effects: &mut Vec<Effect>) {
        for Open { purpose, answer, .. } in self.take_questions() {
            let (Purpose::Command(id) | Purpose::RefreshSubscription(id, ..)) = purpose else { continue };
            let reply = match answer {
                Some(Answer::Published(topic, Ok(published))) => Reply::Published { topic, position: published.position },
                Some(Answer::Published(_, Err(refusal))) => Reply::Refused(refusal),
                _ => Reply::Refused(Refusal::unavailable(
                    "the session changed its identity before the answer came: it may have been done, or not",
                )),
            };
            effects.push(Effect::Reply(id, reply));
        }
    }

    /// The session is this subject from here on; in the topics that stay, others learn it.
    fn take_subject(&mut self, mut subject: Subject, as_of: AsOf, effects: &mut Vec<Effect>) {
        for subscription in self.subscriptions.iter().filter(|subscription| subscription.origin == Origin::Server) {
            if let Some(group) = subscription.topic.as_group() {
                subject = subject.with_group(group, true);
            }
        }
        let is_renamed = self.subject.info != subject.info;
        if is_renamed {
            for Subscription { topic, namespace, topic_info, .. } in self.subscriptions.iter().filter(|live| live.pending.is_none()) {
                let before = self.info_with(topic_info.clone());
                effects.push(Effect::Renamed { topic: topic.clone(), namespace: namespace.clone(), before });
            }
        }
        let before = std::mem::replace(&mut self.subject, Arc::new(subject));
        effects.push(Effect::IdentityChanged(before, as_of));
    }

    /// The credentials are another user's, and the client takes those with a new connection: the old user's subscriptions end first.
    fn hand_over(&mut self, identified: &Identified, effects: &mut Vec<Effect>) {
        let subject = &identified.subject;
        for subscription in self.subscriptions.take_all() {
            let Subscription { topic, namespace, origin, .. } = &subscription;
            let may_have = *origin == Origin::Client
                && self.subject.tenant() == subject.tenant()
                && !matches!(self.rules.authorizer.decide(subject, Verb::Subscribe, topic, namespace), Decision::Deny(_));
            let ended = (!may_have).then(|| Push::Unsubscribed { topic: topic.clone(), reason: UnsubscribeReason::Server });
            self.leave(subscription, false, effects);
            effects.extend(ended.map(Effect::Push));
        }
        self.close(CloseReason::IdentityChanged, effects);
    }

    /// The application has said how long the credentials hold on that the server renews.
    pub(super) fn renewed(&mut self, answer: Result<Option<Duration>, Refusal>, now: Instant, effects: &mut Vec<Effect>) {
        /// Pause between two tries.
        const PAUSE: Duration = Duration::from_secs(2);
        match answer {
            Ok(ttl) => self.set_expiry(ttl, now),
            // Without an answer the old end stands, and there may be time to ask again.
            Err(refusal) if refusal.is_temporary() => self.timers.expiring_at = Some(now + PAUSE),
            Err(_) => self.close(CloseReason::CredentialsExpired, effects),
        }
    }
}

/// Whether a topic is told in the answer to a change: those of user and session come and go by themselves.
fn is_listed(topic: &Topic) -> bool {
    !matches!(topic.namespace(), Some("user" | "session"))
}

fn changed_meanwhile() -> Refusal {
    Refusal::unavailable("the session changed its identity before this was done")
}
