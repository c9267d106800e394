//! What the client listens to, and when it subscribes again. Positions live in `track`, the connection in `mod`.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Instant,
};

use super::{SubscriptionId, tokens::Refresh, track::Track};
use crate::{ClientConfig, SubscribeConfig, backoff::Backoff};

/// One subscription of the application.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) topic: Arc<str>,
    pub(super) config: SubscribeConfig,
    pub(super) track: Track,
    pub(super) step: Step,
    pub(super) backoff: Backoff,
    pub(super) token: Option<Arc<str>>,
    /// Of the token, while the subscription is live.
    pub(super) refresh: Refresh,
}

impl Entry {
    /// Whether the application finds a fresh token when one is needed.
    pub(super) fn fetches_tokens(&self) -> bool {
        self.config.tokens.as_ref().is_some_and(|tokens| tokens.fixed_token().is_none())
    }

    /// The token is worthless: the next subscribe looks for another, where there can be one.
    pub(super) fn forget_token(&mut self) {
        self.token = self.config.tokens.as_ref().and_then(|tokens| tokens.fixed_token().cloned());
    }
}

/// How far a subscription is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// It is subscribed as soon as there is a connection.
    Waiting,
    /// The application looks for a token.
    FetchingToken,
    /// The server was asked.
    Asking,
    /// The server said yes.
    Live,
    /// The server said "later".
    RetryAt(Instant),
}

/// All subscriptions of the application, by id and by topic.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    entries: BTreeMap<SubscriptionId, Entry>,
    by_topic: HashMap<Arc<str>, SubscriptionId>,
}

impl Subscriptions {
    pub(super) fn insert(&mut self, id: SubscriptionId, topic: Arc<str>, config: SubscribeConfig, client: &ClientConfig) {
        let token = config.tokens.as_ref().and_then(|tokens| tokens.fixed_token().cloned());
        let backoff = Backoff::new(client.backoff_min, client.backoff_max);
        self.by_topic.insert(topic.clone(), id);
        self.entries
            .insert(id, Entry { topic, config, track: Track::default(), step: Step::Waiting, backoff, token, refresh: Refresh::Never });
    }

    pub(super) fn remove(&mut self, id: SubscriptionId) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        if self.by_topic.get(&entry.topic) == Some(&id) {
            self.by_topic.remove(&entry.topic);
        }
        Some(entry)
    }

    pub(super) fn get_mut(&mut self, id: SubscriptionId) -> Option<&mut Entry> {
        self.entries.get_mut(&id)
    }

    /// The live subscription to a topic. What arrives for one that is not live belongs to an earlier one: it is void.
    pub(super) fn live(&mut self, topic: &str) -> Option<(SubscriptionId, &mut Entry)> {
        let id = *self.by_topic.get(topic)?;
        let entry = self.entries.get_mut(&id)?;
        (entry.step == Step::Live).then_some((id, entry))
    }

    /// Whether the application listens to this topic.
    pub(super) fn contains(&self, topic: &str) -> bool {
        self.by_topic.contains_key(topic)
    }

    /// The connection is gone: everything waits for the next one.
    pub(super) fn cut(&mut self) {
        for entry in self.entries.values_mut().filter(|entry| entry.step != Step::FetchingToken) {
            entry.step = Step::Waiting;
            entry.refresh = Refresh::Never;
        }
    }

    /// Positions and tokens are worthless.
    pub(super) fn forget(&mut self) {
        for entry in self.entries.values_mut() {
            entry.track.forget_position();
            entry.forget_token();
        }
    }

    /// What is to be subscribed, given that there is a connection.
    pub(super) fn due(&self, now: Instant) -> Vec<SubscriptionId> {
        let is_due = |entry: &Entry| match entry.step {
            Step::Waiting => true,
            Step::RetryAt(at) => at <= now,
            Step::FetchingToken | Step::Asking | Step::Live => false,
        };
        self.entries.iter().filter(|(_, entry)| is_due(entry)).map(|(id, _)| *id).collect()
    }

    /// When the next one is due.
    pub(super) fn next_retry(&self) -> Option<Instant> {
        let retry = |entry: &Entry| if let Step::RetryAt(at) = entry.step { Some(at) } else { None };
        self.entries.values().filter_map(retry).min()
    }

    /// When the next token is due to be renewed.
    pub(super) fn next_refresh(&self) -> Option<Instant> {
        let refresh = |entry: &Entry| if let Refresh::At(at) = entry.refresh { Some(at) } else { None };
        self.entries.values().filter_map(refresh).min()
    }

    /// Those whose tokens are due; each is looked for from here on.
    pub(super) fn take_refreshes(&mut self, now: Instant) -> Vec<SubscriptionId> {
        let is_due = |entry: &Entry| matches!(entry.refresh, Refresh::At(at) if at <= now);
        let due = self.entries.iter_mut().filter(|(_, entry)| is_due(entry));
        due.map(|(id, entry)| {
            entry.refresh = Refresh::Fetching;
            *id
        })
        .collect()
    }

    pub(super) fn drain(&mut self) -> Vec<SubscriptionId> {
        self.by_topic.clear();
        std::mem::take(&mut self.entries).into_keys().collect()
    }
}
