//! The handle of the engine: publish, read, listen, open connections, drain.

use std::{fmt, sync::Arc, time::Duration};

use tokio::{sync::oneshot, time::Instant};

use crate::{
    Connection, ControlAnswer, ControlBus, ControlQuestion, EngineBuilder, Namespace, NodeInfo, OpenRefused, Opening, Position,
    PresenceStats, Publication, Publish, PublishFailed, Published, Refusal, RefusalKind, SessionId, SessionInfo, Since, Start, Stats,
    Topic, TopicCount, TopicStream,
    hub::{Codec, Credit, Hub, Item, MemberRef, NewConnection, NewOccupant, Wants, history},
    session::{Generation, Manners, Session, not_available},
    stream::Feed,
};

/// How long other nodes may take to answer a question.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(2);
/// Idempotency keys are no longer than this, in bytes.
const IDEMPOTENCY_KEY_MAX: usize = 255;

/// The engine: topics, sessions and fan-out of one node. Cloning copies a pointer; when the last handle is dropped, the engine ends.
///
/// Starts no runtime: [`EngineBuilder::build`] uses the one it is called in.
#[derive(Clone)]
pub struct Engine {
    hub: Arc<Hub>,
    control: Arc<dyn ControlBus>,
    _alive: Arc<Alive>,
}

/// Ends the engine when the last handle goes.
pub(crate) struct Alive(pub(crate) Arc<Hub>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.close();
        for shard in 0..self.0.shards_len() {
            self.0.ports.wake(shard);
        }
    }
}

impl Engine {
    /// Begins to configure an engine.
    pub fn builder() -> EngineBuilder {
        EngineBuilder::new()
    }

    pub(crate) fn from_parts(hub: Arc<Hub>, control: Arc<dyn ControlBus>) -> Self {
        Self { _alive: Arc::new(Alive(hub.clone())), hub, control }
    }

    /// Publishes to a topic. `Ok` means that the backplane has it.
    ///
    /// Cancelled, it may have happened or not; with an [idempotency key](Publish::idempotency_key) it can be tried again.
    pub async fn publish(&self, topic: &Topic, publish: Publish) -> Result<Published, PublishError> {
        let namespace = self.hub.rules.namespace(topic).map_err(PublishError::Refused)?.clone();
        self.hub.rules.check_payload(&publish.data).map_err(PublishError::Refused)?;
        if publish.idempotency_key.as_ref().is_some_and(|key| key.len() > IDEMPOTENCY_KEY_MAX) {
            let text = format!("an idempotency key has at most {IDEMPOTENCY_KEY_MAX} bytes");
            return Err(PublishError::Refused(Refusal::bad_request(text)));
        }
        let published = self.hub.publish(topic, &namespace, publish).await;
        self.hub.run_errands();
        published
    }

    /// Publishes the same to several topics; one result each, in their order. Cancelled, it has happened for a part of them.
    pub async fn broadcast(&self, topics: &[Topic], publish: Publish) -> Vec<Result<Published, PublishError>> {
        let mut results = Vec::with_capacity(topics.len());
        for topic in topics {
            results.push(self.publish(topic, publish.clone()).await);
        }
        results
    }

    /// Reads the history of a topic. Cancel-safe.
    pub async fn history(&self, topic: &Topic, query: HistoryQuery) -> Result<HistoryPage, HistoryError> {
        let namespace = self.namespace_with_history(topic)?;
        let limit = query.limit.min(self.hub.rules.settings.history_limit_max);
        let page = history(&self.hub, topic, &namespace, query.since, limit, query.reverse).await?;
        Ok(HistoryPage { position: page.top, publications: page.publications })
    }

    /// Forgets the history of a topic; positions go on. Cancelled, it may have happened or not.
    pub async fn remove_history(&self, topic: &Topic) -> Result<(), HistoryError> {
        self.namespace_with_history(topic)?;
        self.hub.backplane.remove_history(topic).await.map_err(|error| Refusal::unavailable(error.to_string()).into())
    }

    /// Who listens to a topic, in no order. Cancel-safe.
    pub async fn presence(&self, topic: &Topic) -> Result<Vec<Arc<SessionInfo>>, PresenceError> {
        self.namespace_with_presence(topic)?;
        self.hub.presence.list(topic).await.map_err(|error| Refusal::unavailable(error.to_string()).into())
    }

    /// How many listen to a topic. Cancel-safe.
    pub async fn presence_stats(&self, topic: &Topic) -> Result<PresenceStats, PresenceError> {
        self.namespace_with_presence(topic)?;
        self.hub.presence.count(topic).await.map_err(|error| Refusal::unavailable(error.to_string()).into())
    }

    /// Topics with listeners on any node that answers in time, with how many sessions listen; in no order. Cancel-safe.
    pub async fn topics(&self) -> Vec<TopicCount> {
        let mut sessions = std::collections::HashMap::new();
        for answer in self.control.ask(ControlQuestion::Topics, CONTROL_TIMEOUT).await {
            if let ControlAnswer::Topics(counts) = answer {
                for count in counts {
                    *sessions.entry(count.topic).or_insert(0) += count.sessions;
                }
            }
        }
        sessions.into_iter().map(|(topic, sessions)| TopicCount { topic, sessions }).collect()
    }

    /// Every node that answers in time. Cancel-safe.
    pub async fn info(&self) -> Vec<NodeInfo> {
        let answers = self.control.ask(ControlQuestion::Info, CONTROL_TIMEOUT).await;
        let infos = answers.into_iter().filter_map(|answer| match answer {
            ControlAnswer::Info(info) => Some(info),
            ControlAnswer::Topics(_) => None,
        });
        infos.collect()
    }

    /// Listens to a topic inside the process, without a session. The first item says that the stream is live.
    pub fn subscribe(&self, topic: &Topic) -> Result<TopicStream, SubscribeError> {
        self.subscribe_since(topic, None)
    }

    /// Listens to a topic inside the process from a position: what was missed comes first, or a gap says that it cannot.
    pub fn subscribe_since(&self, topic: &Topic, since: Option<Since>) -> Result<TopicStream, SubscribeError> {
        if self.hub.is_closed() {
            return Err(SubscribeError::Closed);
        }
        let namespace = self.hub.rules.namespace(topic).map_err(SubscribeError::Refused)?.clone();
        let feed = Arc::new(Feed::new(topic.clone(), self.hub.rules.settings.stream_max_len));
        let at = self.hub.take_slot();
        self.hub.push(at, Item::Open(at, Box::new(NewOccupant::Stream { feed: feed.clone(), topic: topic.clone() })));
        let wants = Wants { join_leave: false, snapshot: false };
        self.hub.join(topic, &namespace, MemberRef { at, subscription: Generation(0) }, since, wants);
        self.hub.run_errands();
        Ok(TopicStream::new(feed, self.hub.clone(), at))
    }

    /// Opens a connection: gives it a slot and a session. The transport's task holds what is given.
    pub fn open(&self, opening: Opening) -> Result<Connection, OpenRefused> {
        let hub = &self.hub;
        let max = hub.rules.settings.connections_max;
        let refused = if hub.is_closed() {
            Some(OpenRefused::Closed)
        } else if hub.is_draining() {
            Some(OpenRefused::Draining)
        } else if hub.stats.connections.value() >= max as u64 {
            Some(OpenRefused::TooMany { max })
        } else {
            None
        };
        if let Some(refused) = refused {
            hub.stats.connections_refused.add(1);
            return Err(refused);
        }
        hub.stats.connections.add(1);
        hub.stats.connections_opened.add(1);
        let id = SessionId::from_random(random_id());
        let manners = Manners {
            answers_without_id: opening.protocol.answers_without_id(),
            awaits_connect: matches!(opening.start, Start::AwaitConnect),
        };
        let now = Instant::now();
        let session = Session::new(id, hub.rules.clone(), manners, fastrand::f32(), now.into_std());
        let (tell, opened) = match opening.start {
            Start::AwaitConnect => (None, None),
            Start::AtOnce { .. } => {
                let (tell, opened) = oneshot::channel();
                (Some(tell), Some(opened))
            }
        };
        let credit = Arc::new(Credit::default());
        let at = hub.take_slot();
        let new = NewConnection {
            session,
            codec: Codec { protocol: opening.protocol, framing: opening.framing },
            outlet: opening.outlet,
            credit: credit.clone(),
            head: opening.head,
            transport: opening.transport,
            start: opening.start,
            opened: tell,
        };
        hub.push(at, Item::Open(at, Box::new(NewOccupant::Connection(Box::new(new)))));
        Ok(Connection::new(hub.clone(), at, id, credit, opened))
    }

    /// What the engine counts.
    pub fn stats(&self) -> &Stats {
        &self.hub.stats
    }

    /// The options of a topic; `None`: no such namespace.
    pub fn namespace(&self, topic: &Topic) -> Option<Arc<Namespace>> {
        self.hub.rules.namespaces.of(topic).cloned()
    }

    /// The deadlines and bounds of this engine.
    pub fn settings(&self) -> &crate::Settings {
        &self.hub.rules.settings
    }

    /// Whether no new connections are taken.
    pub fn is_draining(&self) -> bool {
        self.hub.is_draining()
    }

    /// Takes no new connections, closes those that are open with 3001, spread over half the time, and waits until they are gone or the
    /// time is over. Cancelled, the closing goes on.
    pub async fn drain(&self, timeout: Duration) {
        self.hub.begin_drain();
        let now = Instant::now();
        let open = self.hub.stats.connections.value() as u32;
        // A millisecond for each connection is slow enough for whoever takes them over.
        let spread = (timeout / 2).min(Duration::from_millis(1) * open);
        for shard in 0..self.hub.shards_len() {
            self.hub.ports.push(shard, Item::Drain(now + spread));
        }
        let gone = async {
            loop {
                let notified = self.hub.connection_gone.notified();
                let mut notified = std::pin::pin!(notified);
                notified.as_mut().enable();
                if self.hub.stats.connections.value() == 0 {
                    return;
                }
                notified.await;
            }
        };
        // Whoever is left after the time is cut when the engine ends.
        let _ = tokio::time::timeout(timeout, gone).await;
    }

    fn namespace_with_history(&self, topic: &Topic) -> Result<Arc<Namespace>, Refusal> {
        let namespace = self.hub.rules.namespace(topic)?;
        if namespace.keeps_history() { Ok(namespace.clone()) } else { Err(not_available("history", topic, "history_size")) }
    }

    fn namespace_with_presence(&self, topic: &Topic) -> Result<(), Refusal> {
        let namespace = self.hub.rules.namespace(topic)?;
        if namespace.presence { Ok(()) } else { Err(not_available("presence", topic, "presence = true")) }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("connections", &self.hub.stats.connections.value()).finish_non_exhaustive()
    }
}

/// 128 bits that cannot be guessed from others.
fn random_id() -> u128 {
    let mut bytes = [0; 16];
    if getrandom::fill(&mut bytes).is_ok() {
        return u128::from_le_bytes(bytes);
    }
    fastrand::u128(..)
}

/// Which part of a history is read.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HistoryQuery {
    /// From where; `None`: from the oldest, or with `reverse` from the newest.
    pub since: Option<Since>,
    /// Most publications; 0 asks for the position only. At most [`Settings::history_limit_max`](crate::Settings) are given.
    pub limit: usize,
    /// Newest first; with `since`, those before it.
    pub reverse: bool,
}

/// Part of a history.
#[derive(Clone, Debug)]
pub struct HistoryPage {
    /// The top of the history.
    pub position: Position,
    /// In the order asked for.
    pub publications: Vec<Arc<Publication>>,
}

/// Why a publish failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// It is not allowed, or malformed.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// Too much of this topic waits for this node's subscribers. Nothing was stored; try again.
    #[error("too much waits for the subscribers of this topic, try again")]
    Overloaded,
    /// The backplane did not take it, or did not say so.
    #[error(transparent)]
    Backplane(#[from] PublishFailed),
    /// The broker has been closed.
    #[error("the broker is closed")]
    Closed,
}

impl PublishError {
    /// The refusal that a client or caller of the server API is told.
    pub fn into_refusal(self) -> Refusal {
        match self {
            Self::Refused(refusal) => refusal,
            other => Refusal::unavailable(other.to_string()).retry_after(Duration::from_millis(500)),
        }
    }
}

/// Why a subscription inside the process was not made.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// There is no such namespace.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// The broker has been closed.
    #[error("the broker is closed")]
    Closed,
}

macro_rules! refusal_error {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, thiserror::Error)]
        #[error("{}", .0.message)]
        pub struct $name(Refusal);

        impl $name {
            /// Whether trying again can help.
            pub fn is_temporary(&self) -> bool {
                self.0.kind == RefusalKind::Unavailable
            }

            /// The refusal that a client or caller of the server API is told.
            pub fn into_refusal(self) -> Refusal {
                self.0
            }
        }

        impl From<Refusal> for $name {
            fn from(refusal: Refusal) -> Self {
                Self(refusal)
            }
        }
    };
}

refusal_error! {
    /// Why a history was not read: it is off there, there is no such namespace, or the backplane did not answer.
    HistoryError
}
refusal_error! {
    /// Why presence was not read: it is off there, there is no such namespace, or it did not answer.
    PresenceError
}
