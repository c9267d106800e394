//! One item sent to a topic, and what a publisher may say about it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;

use crate::{Except, Payload, Position, SessionInfo, Topic, hub::Reporting};

/// Short texts about a publication, for filters; keys and values are the application's.
pub type Tags = BTreeMap<String, String>;

/// One item that was sent to a topic.
///
/// Called *message* or *event* elsewhere.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Publication {
    /// Where it was sent.
    pub topic: Topic,
    /// What was sent.
    pub data: Payload,
    /// Its place in the history; `None` where the namespace keeps none.
    pub position: Option<Position>,
    /// What the publication is about: the newest of a key replaces older ones in keyed namespaces.
    pub key: Option<Box<str>>,
    /// Whether the key has gone from the topic's state; `data` says what the publisher adds, and may be empty.
    pub removed: bool,
    /// When it leaves history, resumes and state, whatever the namespace keeps; `None`: no sooner than the namespace says.
    pub expires_at: Option<Instant>,
    /// For filters.
    pub tags: Option<Arc<Tags>>,
    /// The session that published; `None` for the server API and the host application.
    pub publisher: Option<Arc<SessionInfo>>,
    /// Who does not get it, live, by recovery or in a history.
    pub except: Option<Arc<Except>>,
    /// When the broker took it, in milliseconds of Unix time.
    pub published_at_ms: u64,
    /// Who wants to know what becomes of it on this node.
    pub(crate) report: Option<Weak<Reporting>>,
}

impl Publication {
    /// A publication without a position, as the host hands it to a backplane.
    pub fn new(topic: Topic, publish: Publish) -> Self {
        Self {
            topic,
            data: publish.data,
            position: None,
            key: publish.key,
            removed: publish.removed,
            expires_at: publish.ttl.map(|ttl| Instant::now() + ttl),
            tags: publish.tags,
            publisher: publish.publisher,
            except: publish.except,
            published_at_ms: unix_ms(SystemTime::now()),
            report: publish.report,
        }
    }

    /// Whether it is passed to members without others: not everybody gets it, or somebody asks what becomes of it.
    pub(crate) fn goes_alone(&self) -> bool {
        self.except.is_some() || self.report.is_some()
    }

    /// Whether this session may get it.
    pub fn is_for(&self, who: &SessionInfo) -> bool {
        self.except.as_ref().is_none_or(|except| !except.means(who))
    }

    /// Whether its own time is over: it is in no history, resume or state any more.
    pub fn is_expired(&self, now: Instant) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// Bytes that count against bounds: the data and what stands around it.
    pub fn weight_bytes(&self) -> usize {
        weight_bytes(&self.topic, &self.data, self.key.as_deref(), self.tags.as_deref())
    }
}

/// What is published, and how: the argument of every publish.
///
/// ```
/// use broker_core::{Payload, Publish};
///
/// let publish = Publish::new(Payload::json(r#"{"price":7}"#)).key("o7").idempotency_key("order-7-v3");
/// ```
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Publish {
    /// What is sent.
    pub data: Payload,
    /// See [`Publication::key`].
    pub key: Option<Box<str>>,
    /// See [`Publication::tags`].
    pub tags: Option<Arc<Tags>>,
    /// A retry with the same key within five minutes is stored once per topic and epoch. At most 255 bytes.
    pub idempotency_key: Option<Box<str>>,
    /// Takes `key` out of the state of a topic that has one: the publication is delivered as a removal.
    pub removed: bool,
    /// After this time the publication is in no history, resume or state; who listens has it already. `None`: as the namespace says.
    pub ttl: Option<Duration>,
    /// What is older than, or the same as, the newest of its key, or of the topic where there is no key, is not taken.
    pub version: Option<Box<Version>>,
    /// Delivered to those who listen now, but not kept, and without a position.
    pub skip_history: bool,
    /// The session that publishes.
    pub publisher: Option<Arc<SessionInfo>>,
    /// See [`Publication::except`].
    pub except: Option<Arc<Except>>,
    /// See [`Publication::report`]. Means something in this process alone.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(crate) report: Option<Weak<Reporting>>,
}

impl Publish {
    /// Only data.
    pub fn new(data: Payload) -> Self {
        Self {
            data,
            key: None,
            tags: None,
            idempotency_key: None,
            removed: false,
            ttl: None,
            version: None,
            skip_history: false,
            publisher: None,
            except: None,
            report: None,
        }
    }

    /// Takes a key out of the state of a topic, without data.
    ///
    /// ```
    /// use broker_core::Publish;
    ///
    /// let gone = Publish::remove("o7");
    /// assert!(gone.removed && gone.data.is_empty());
    /// ```
    pub fn remove(key: impl Into<Box<str>>) -> Self {
        Self { removed: true, ..Self::new(Payload::json("")).key(key) }
    }

    /// Sets what the publication is about.
    pub fn key(mut self, key: impl Into<Box<str>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets the tags.
    pub fn tags(mut self, tags: Tags) -> Self {
        self.tags = (!tags.is_empty()).then(|| Arc::new(tags));
        self
    }

    /// Sets the key under which a retry is stored only once.
    pub fn idempotency_key(mut self, key: impl Into<Box<str>>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// Says that this publication takes its key out of the topic's state.
    pub fn removed(mut self) -> Self {
        self.removed = true;
        self
    }

    /// Sets how long the publication is kept.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Sets the version: what is not newer than the one that was taken last is not taken.
    pub fn version(mut self, version: Version) -> Self {
        self.version = Some(Box::new(version));
        self
    }

    /// Sets who does not get it.
    pub fn except(mut self, except: Except) -> Self {
        self.except = (!except.is_empty()).then(|| Arc::new(except));
        self
    }

    /// Delivers without keeping.
    pub fn skip_history(mut self) -> Self {
        self.skip_history = true;
        self
    }

    /// Whether somebody on this node waits for a report: a backplane that sends bytes keeps the publish, and delivers what it made of it.
    pub fn is_reported(&self) -> bool {
        self.report.as_ref().is_some_and(|report| report.strong_count() > 0)
    }

    /// Bytes that the publication will count against bounds.
    pub fn weight_bytes(&self, topic: &Topic) -> usize {
        weight_bytes(topic, &self.data, self.key.as_deref(), self.tags.as_deref())
    }

    /// Names the session that publishes.
    pub fn publisher(mut self, publisher: Arc<SessionInfo>) -> Self {
        self.publisher = Some(publisher);
        self
    }
}

/// Which of several publications about the same thing is the newest, in the publisher's own count.
///
/// Versions of different epochs say nothing about each other: with another epoch the count begins anew.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Version {
    /// Greater is newer.
    pub number: u64,
    /// The life of the count, at most 255 bytes; `None` is one too.
    pub epoch: Option<Box<str>>,
}

impl Version {
    /// A version without an epoch.
    pub fn new(number: u64) -> Self {
        Self { number, epoch: None }
    }

    /// Sets the life of the count.
    pub fn epoch(mut self, epoch: impl Into<Box<str>>) -> Self {
        self.epoch = Some(epoch.into());
        self
    }

    /// Whether what has this version is to be taken after what had `last`.
    pub fn follows(&self, last: &Self) -> bool {
        self.epoch != last.epoch || self.number > last.number
    }
}

/// The data, and what stands around it.
fn weight_bytes(topic: &Topic, data: &Payload, key: Option<&str>, tags: Option<&Tags>) -> usize {
    let tags: usize = tags.map_or(0, |tags| tags.iter().map(|(key, value)| key.len() + value.len() + 64).sum());
    128 + topic.as_str().len() + data.len() + key.map_or(0, str::len) + tags
}

/// Milliseconds of Unix time; 0 before 1970.
pub fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
