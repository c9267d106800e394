//! The topics that the server chooses for a session when it becomes somebody: all are live before the client is told.

use std::{sync::Arc, time::Instant};

use super::{
    effect::{Completion, Effect, Join},
    machine::{Phase, Resumes, Session},
    rules::named_from_outside,
    subscription::{Origin, Pending, Subscription},
};
use crate::{
    CloseReason, CommandId, Connected, Identity, Namespace, Push, Refusal, RefusalKind, Reply, ServerSubscription, Since, Subject,
    Subscribed, Topic,
};

/// A session that waits for the topics of its identity.
pub(super) struct Entering {
    then: Entered,
}

/// What is told when every topic is live.
pub(super) enum Entered {
    /// The answer to the connect.
    Connected(CommandId, Box<Connected>),
    /// That the identity has changed.
    Changed(Changed),
}

/// How a change of identity is told.
pub(super) struct Changed {
    /// The command to answer; `None`: it was the server's act.
    pub(super) command: Option<CommandId>,
    pub(super) ttl: Option<std::time::Duration>,
    pub(super) left: Vec<Topic>,
    pub(super) joined: Vec<Topic>,
    /// Whoever waits for it on the server's side.
    pub(super) completion: Option<Completion>,
}

/// A topic of an identity, under its full name.
pub(super) type Chosen = (ServerSubscription, Arc<Namespace>);

impl Session {
    /// The topics that an identity brings: of its groups, of its user, and those it names; each once.
    pub(super) fn topics_of(&self, identity: &Identity, subject: &Subject) -> Result<Vec<Chosen>, Refusal> {
        let groups = identity.groups.iter().map(|group| Topic::group(group).map(ServerSubscription::new));
        let user = Topic::of_user(&identity.user).filter(|_| self.rules.settings.user_topics);
        let named = identity.subscriptions.iter().cloned().map(Ok);
        let mut chosen: Vec<Chosen> = Vec::new();
        for subscription in groups.chain(user.map(|topic| topic.map(ServerSubscription::new))).chain(named) {
            let mut subscription = subscription.map_err(|error| not_a_topic(&error.to_string()))?;
            if let Some(tenant) = subject.tenant() {
                subscription.topic = subscription.topic.in_tenant(tenant).map_err(|error| not_a_topic(&error.to_string()))?;
            } else if subscription.topic.tenant().is_some() {
                return Err(named_from_outside(&subscription.topic, None));
            }
            if chosen.iter().any(|(earlier, _)| earlier.topic == subscription.topic) {
                continue;
            }
            let namespace = self.rules.namespace(&subscription.topic)?.clone();
            chosen.push((subscription, namespace));
        }
        let max = self.rules.settings.subscriptions_max;
        if chosen.len() > max {
            let text = format!("the credentials name {} topics, a session may have {max} subscriptions", chosen.len());
            return Err(Refusal::new(RefusalKind::LimitExceeded, text).rule("raise client.subscriptions_max"));
        }
        Ok(chosen)
    }

    /// Subscribes to the topics; `then` is told when all are live.
    pub(super) fn enter(&mut self, then: Entered, topics: Vec<Chosen>, resume: &Resumes, now: Instant, effects: &mut Vec<Effect>) {
        self.entering = Some(Box::new(Entering { then }));
        for (subscription, namespace) in topics {
            let since = resume.since(&subscription.topic);
            self.subscribe_for_server(subscription, namespace, Origin::Identity, since, None, effects);
        }
        self.settle_entering(now, effects);
    }

    /// Asks the hub for a subscription that no command of the client made.
    pub(super) fn subscribe_for_server(
        &mut self,
        subscription: ServerSubscription,
        namespace: Arc<Namespace>,
        origin: Origin,
        since: Option<Since>,
        completion: Option<Completion>,
        effects: &mut Vec<Effect>,
    ) {
        let ServerSubscription { topic, topic_info, data } = subscription;
        let generation = self.next_generation();
        let join_leave = namespace.join_leave;
        let pending = Pending {
            command: CommandId::None,
            joining: true,
            since,
            join_leave,
            refuse_unrecovered: false,
            keyed: false,
            data,
            completion,
        };
        self.subscriptions.add(Subscription {
            topic: topic.clone(),
            namespace: namespace.clone(),
            generation,
            pending: Some(Box::new(pending)),
            topic_info,
            origin,
            expires_at: None,
            selection: None,
        });
        effects.push(Effect::Join(Join { topic, namespace, generation, since, join_leave }));
    }

    /// A topic that the server chose is live.
    pub(super) fn entered_topic(&mut self, subscribed: Subscribed, origin: Origin, now: Instant, effects: &mut Vec<Effect>) {
        match &mut self.entering {
            Some(entering) if origin == Origin::Identity => {
                match &mut entering.then {
                    Entered::Connected(_, connected) => connected.subscriptions.push(subscribed),
                    Entered::Changed(_) => effects.push(Effect::Push(Push::Subscribed(Box::new(subscribed)))),
                }
                self.settle_entering(now, effects);
            }
            _ => effects.push(Effect::Push(Push::Subscribed(Box::new(subscribed)))),
        }
    }

    /// A topic that the server chose could not be joined: a session without it would miss what it is meant to hear.
    pub(super) fn not_entered(&mut self, topic: &Topic, refusal: &Refusal, effects: &mut Vec<Effect>) {
        let text = format!("{} could not be joined: {}", topic.local(), refusal.message);
        let reason = if self.is_opening() {
            CloseReason::Refused(Box::new(Refusal { message: text.into(), ..refusal.clone() }))
        } else {
            CloseReason::ServerError(text.into())
        };
        self.close(reason, effects);
    }

    /// Tells that the session has entered, once no topic of its identity is waited for.
    pub(super) fn settle_entering(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if self.subscriptions.iter().any(|subscription| subscription.origin == Origin::Identity && subscription.pending.is_some()) {
            return;
        }
        let Some(entering) = self.entering.take() else { return };
        match entering.then {
            Entered::Connected(id, connected) => {
                self.phase = Phase::Connected;
                // spec: centrifuge client protocol, "Ping": the first one at random in the second half of the interval, then every interval.
                let interval = self.rules.settings.ping_interval;
                self.timers.ping_at = Some(now + interval.mul_f32(0.5 + self.chance.clamp(0.0, 1.0) / 2.0));
                effects.push(Effect::Welcome(id, connected));
                self.open_next(now, effects);
            }
            Entered::Changed(Changed { command, ttl, left, joined, completion }) => {
                let user = self.subject.user.clone();
                effects.push(match command {
                    Some(id) => Effect::Reply(id, Reply::Refreshed { session: self.subject.session, user, ttl, left, joined }),
                    None => Effect::Push(Push::Identity { user, left, joined }),
                });
                drop(completion);
            }
        }
        self.go_on(now, effects);
    }
}

fn not_a_topic(error: &str) -> Refusal {
    Refusal::bad_request(format!("the credentials name a group, user or topic that cannot be a topic: {error}"))
        .hint("names of groups and topics are printable ASCII of at most 255 bytes")
}
