//! The handle of the engine: publish, read, listen, open connections, drain.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use tokio::{sync::oneshot, time::Instant};

use crate::{
    Connection, ControlAnswer, ControlAnswers, ControlError, ControlQuestion, EngineBuilder, GroupCount, Identity, InvalidTopic, Kept,
    Member, Namespace, NodeInfo, NodeProbes, OpenRefused, Opening, Payload, Position, PresenceStats, Publication, Publish, PublishFailed,
    PublishReport, Published, Refusal, RefusalKind, Registry, Revocation, Revoked, ServerSubscription, SessionId, SessionInfo, Sessions,
    Since, Start, StateQuery, Stats, Subject, Target, Topic, TopicCount, TopicStream, UserId, UserSessions,
    hub::{CONTROL_TIMEOUT, Codec, Credit, Hub, Item, MemberRef, NewConnection, NewOccupant, Wants, check_keys, history, keep_of},
    session::{Generation, Manners, Session, not_available},
    stream::Feed,
};

/// Most sessions in one list.
const LIST_MAX: usize = 100_000;

/// The engine: topics, sessions and fan-out of one node. Cloning copies a pointer; when the last handle is dropped, the engine ends.
///
/// Starts no runtime: [`EngineBuilder::build`] uses the one it is called in.
#[derive(Clone)]
pub struct Engine {
    hub: Arc<Hub>,
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

    pub(crate) fn from_parts(hub: Arc<Hub>) -> Self {
        Self { _alive: Arc::new(Alive(hub.clone())), hub }
    }

    /// Publishes to a topic. `Ok` means that the backplane has it.
    ///
    /// Cancelled, it may have happened or not; with an [idempotency key](Publish::idempotency_key) it can be tried again.
    pub async fn publish(&self, topic: &Topic, publish: Publish) -> Result<Published, PublishError> {
        let namespace = self.hub.rules.namespace(topic).map_err(PublishError::Refused)?.clone();
        self.check(&publish).map_err(PublishError::Refused)?;
        let published = self.hub.publish(topic, &namespace, publish).await;
        self.hub.run_errands();
        published
    }

    /// Publishes as [`Engine::publish`] does, and tells what became of it on this node. Waits for that, a second at most, beyond what a publish takes.
    ///
    /// Cancelled, it may have happened or not.
    pub async fn publish_reported(&self, topic: &Topic, publish: Publish) -> Result<(Published, PublishReport), PublishError> {
        let namespace = self.hub.rules.namespace(topic).map_err(PublishError::Refused)?.clone();
        self.check(&publish).map_err(PublishError::Refused)?;
        let published = self.hub.publish_reported(topic, &namespace, publish).await;
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

    /// Reads the state of a topic: the newest publication of each key, oldest first, in pages. Cancel-safe.
    ///
    /// Rows that change while pages are read move to the end, so that whoever reads to the last page has every row; a row that is removed
    /// meanwhile may have been on an earlier page. Who needs the state and every change of it subscribes.
    pub async fn state(&self, topic: &Topic, query: StateRequest) -> Result<StateRows, HistoryError> {
        let namespace = self.hub.rules.namespace(topic)?;
        if !namespace.keeps_state() || !self.hub.backplane.capabilities().state {
            return Err(not_available("state by key", topic, "keyed = true").into());
        }
        let settings = &self.hub.rules.settings;
        let page = StateQuery {
            after: query.cursor.map(|cursor| cursor.offset),
            limit: Some(query.limit.min(settings.history_limit_max)),
            bytes: Some(settings.history_max_bytes),
        };
        let page = self
            .hub
            .in_time(self.hub.backplane.state(topic, page, keep_of(namespace)))
            .await
            .map_err(|error| Refusal::unavailable(error.to_string()))?;
        if query.cursor.is_some_and(|cursor| cursor.epoch != page.top.epoch) {
            let text = format!("the history of {} began anew, the cursor belongs to an older one", topic.local());
            return Err(Refusal::new(RefusalKind::UnrecoverablePosition, text).hint("ask without a cursor").into());
        }
        let next = page.next.map(|offset| Position { offset, epoch: page.top.epoch });
        Ok(StateRows { position: page.top, rows: page.rows, next })
    }

    /// Bytes that are kept in this process of all topics; nothing where the backplane keeps elsewhere.
    pub fn kept(&self) -> Kept {
        self.hub.backplane.kept()
    }

    /// Forgets the history of a topic; positions go on, and so does the state. Cancelled, it may have happened or not.
    pub async fn remove_history(&self, topic: &Topic) -> Result<(), HistoryError> {
        self.namespace_with_history(topic)?;
        self.hub.in_time(self.hub.backplane.remove_history(topic)).await.map_err(|error| Refusal::unavailable(error.to_string()))?;
        self.hub.history_removed(topic);
        Ok(())
    }

    /// Who listens to a topic, in no order. Cancel-safe.
    pub async fn presence(&self, topic: &Topic) -> Result<Vec<Arc<SessionInfo>>, PresenceError> {
        self.namespace_with_presence(topic)?;
        self.hub.in_time(self.hub.presence.list(topic)).await.map_err(|error| Refusal::unavailable(error.to_string()).into())
    }

    /// How many listen to a topic. Cancel-safe.
    pub async fn presence_stats(&self, topic: &Topic) -> Result<PresenceStats, PresenceError> {
        self.namespace_with_presence(topic)?;
        self.hub.in_time(self.hub.presence.count(topic)).await.map_err(|error| Refusal::unavailable(error.to_string()).into())
    }

    /// Topics with listeners on any node that answers in time, with how many sessions listen; in no order. Cancel-safe.
    pub async fn topics(&self) -> Vec<TopicCount> {
        let mut sessions = std::collections::HashMap::new();
        for answer in self.ask_nodes(ControlQuestion::Topics).await.answers {
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
        let answers = self.ask_nodes(ControlQuestion::Info).await.answers;
        let infos = answers.into_iter().filter_map(|answer| match answer {
            ControlAnswer::Info(info) => Some(info),
            _ => None,
        });
        infos.collect()
    }

    /// Looks at the ways between all nodes: each publishes a probe, and says whose probes it heard. Takes `time`, at most 10 s, and somewhat longer where
    /// a node does not answer. One to two seconds are enough. Cancel-safe.
    pub async fn probe_nodes(&self, time: Duration) -> NodeProbes {
        let name = SessionId::from_random(random_id()).to_string().into();
        let answers = self.hub.control.ask(ControlQuestion::Probe { name, time }, time + CONTROL_TIMEOUT).await;
        let probes = answers.answers.into_iter().filter_map(|answer| match answer {
            ControlAnswer::Probe(probe) => Some(*probe),
            _ => None,
        });
        let mut nodes: Vec<_> = probes.collect();
        nodes.sort_unstable_by(|a, b| (&a.node.name, &a.node.id).cmp(&(&b.node.name, &b.node.id)));
        NodeProbes { nodes, silent: answers.silent }
    }

    /// The nodes that this one knows, itself too. Answers at once.
    pub fn known_nodes(&self) -> Vec<Arc<str>> {
        let known = self.hub.control.known_nodes();
        if known.is_empty() { vec![self.node_id()] } else { known }
    }

    /// The sessions that a target means, on all nodes: to send to them, subscribe, disconnect, list them.
    pub fn sessions(&self, target: Target) -> Sessions {
        Sessions::new(self.clone(), target)
    }

    /// Ends the sessions whose credentials are revoked, and refuses such credentials from here on, for [`Settings::revocation_ttl`](crate::Settings).
    ///
    /// When it answers, with the number of sessions, nothing more is written to them. Cancelled, it goes on where it has begun.
    pub async fn revoke(&self, revocation: Revocation) -> Result<usize, ControlError> {
        if matches!(&revocation.whose, Revoked::User(user) if user.is_anonymous()) {
            return Err(Refusal::bad_request("an empty user means nobody").into());
        }
        let keep = self.hub.rules.settings.revocation_ttl;
        self.hub.in_time(self.hub.registry.revoke(&revocation, keep)).await.map_err(|error| Refusal::unavailable(error.to_string()))?;
        crate::sessions::done(self.ask_nodes(ControlQuestion::Revoke(revocation)).await)
    }

    /// Joins a user to a group, with all sessions that it has and will have for [`Settings::membership_ttl`](crate::Settings); or one session, as
    /// long as that lasts. Answers when the sessions are live in the group, with their number.
    pub async fn join_group(&self, group: &str, who: &Target) -> Result<usize, ControlError> {
        let topic = group_topic(group)?;
        if let Some(member) = member(who)? {
            // A membership that cannot be had would keep the user out of everything.
            if let Some(tenant) = &member.tenant {
                topic.in_tenant(tenant).map_err(not_a_group)?;
            }
            let groups =
                self.hub.in_time(self.hub.registry.groups_of(&member)).await.map_err(|error| Refusal::unavailable(error.to_string()))?;
            let settings = &self.hub.rules.settings;
            if groups.len() + usize::from(settings.user_topics) >= settings.subscriptions_max && !groups.iter().any(|of| **of == *group) {
                let refusal = Refusal::new(RefusalKind::LimitExceeded, format!("the user is in {} groups already", groups.len()));
                return Err(refusal.hint("take the user out of another group first").rule("raise client.subscriptions_max").into());
            }
            let keep = self.hub.rules.settings.membership_ttl;
            self.hub
                .in_time(self.hub.registry.join(&member, group, keep))
                .await
                .map_err(|error| Refusal::unavailable(error.to_string()))?;
        }
        self.sessions(who.clone()).subscribe(ServerSubscription::new(topic), None).await
    }

    /// Takes a user or one session out of a group. Answers when nothing that is published later reaches the sessions, with their number.
    ///
    /// A group that a user's token names is joined again with the next connection.
    pub async fn leave_group(&self, group: &str, who: &Target) -> Result<usize, ControlError> {
        let topic = group_topic(group)?;
        if let Some(member) = member(who)? {
            self.hub.in_time(self.hub.registry.leave(&member, group)).await.map_err(|error| Refusal::unavailable(error.to_string()))?;
        }
        self.sessions(who.clone()).unsubscribe(&topic).await
    }

    /// Who is in a group, by user; refused where those are more than 100,000 sessions. Cancel-safe.
    pub async fn group_members(&self, group: &Topic) -> Result<Vec<UserSessions>, ControlError> {
        let reports = self.sessions(Target::Topic(group.clone())).list(LIST_MAX + 1).await?;
        Ok(crate::sessions::by_user(whole(reports, LIST_MAX)?))
    }

    /// Groups with sessions, in the order of their names. Cancel-safe.
    pub async fn groups(&self) -> Result<Vec<GroupCount>, ControlError> {
        let ControlAnswers { answers, silent } = self.ask_nodes(ControlQuestion::Groups).await;
        let mut groups = BTreeMap::<Topic, Vec<UserId>>::new();
        for answer in answers {
            if let ControlAnswer::Groups(of_node) = answer {
                for (topic, users) in of_node {
                    groups.entry(topic).or_default().extend(users);
                }
            }
        }
        let counts = groups.into_iter().map(|(topic, mut users)| {
            let sessions = users.len();
            users.sort_unstable();
            users.dedup();
            GroupCount { topic, sessions, users: users.len() }
        });
        let counts: Vec<GroupCount> = counts.collect();
        if silent.is_empty() { Ok(counts) } else { Err(ControlError::Silent { nodes: silent, sessions: 0 }) }
    }

    /// Calls a method of the application in the server's own name. Cancelled, the hook is dropped.
    pub async fn call(&self, method: &str, data: Payload) -> Result<Payload, Refusal> {
        let server = Subject::new(SessionId::from_random(0), &Identity::anonymous().rule("server api"));
        crate::hub::call(&self.hub, Arc::new(server), method.to_owned(), data).await
    }

    /// What the server has said of users and tokens.
    pub fn registry(&self) -> &Arc<dyn Registry> {
        &self.hub.registry
    }

    pub(crate) async fn ask_nodes(&self, question: ControlQuestion) -> ControlAnswers {
        self.hub.control.ask(question, CONTROL_TIMEOUT).await
    }

    /// Whether this may be published at all.
    pub(crate) fn check(&self, publish: &Publish) -> Result<(), Refusal> {
        if !(publish.removed && publish.data.is_empty()) {
            self.hub.rules.check_payload(&publish.data)?;
        }
        check_keys(publish)
    }

    pub(crate) fn has_namespace(&self, topic: &Topic) -> Result<(), Refusal> {
        self.hub.rules.namespace(topic).map(|_| ())
    }

    /// The topic that a target comes to: what is sent to it is published there. `None`: it is no topic, or one without history.
    pub(crate) fn topic_of(&self, target: &Target) -> Result<Option<Topic>, Refusal> {
        match target {
            Target::Topic(topic) if topic.namespace() != Some("session") => Ok(Some(topic.clone())),
            Target::User { user, tenant } if self.hub.rules.settings.user_topics => {
                let refused = |error: InvalidTopic| Refusal::bad_request(format!("the user cannot be a topic: {error}"));
                let Some(topic) = Topic::of_user(user) else { return Err(Refusal::bad_request("an empty user means nobody")) };
                let topic = topic.map_err(refused)?;
                tenant.as_ref().map_or(Ok(topic.clone()), |tenant| topic.in_tenant(tenant)).map(Some).map_err(refused)
            }
            _ => Ok(None),
        }
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
        let wants = Wants { join_leave: false, snapshot: false, again: false };
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
            transport: opening.transport,
            protocol: opening.protocol.name(),
            answers_without_id: opening.protocol.answers_without_id(),
            awaits_connect: matches!(opening.start, Start::AwaitConnect),
            changes_user: opening.protocol.changes_user_in_place(),
            answers_pings: opening.protocol.answers_pings(),
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

    /// Why this node should get no clients at the moment, in words for whoever operates it; empty: it is ready. Answers at once.
    pub fn troubles(&self) -> Vec<String> {
        self.hub.troubles()
    }

    /// The id under which other nodes know this one.
    pub fn node_id(&self) -> Arc<str> {
        self.hub.node_id()
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

/// A list that has not more entries than this: one that was cut would pass for all there is.
fn whole<T>(list: Vec<T>, max: usize) -> Result<Vec<T>, Refusal> {
    if list.len() <= max {
        return Ok(list);
    }
    let refusal = Refusal::new(RefusalKind::LimitExceeded, format!("more than {max} sessions are in the group"));
    Err(refusal.hint("ask for its count, or list a set that names fewer"))
}

/// The topic of a group that the server API names.
fn group_topic(group: &str) -> Result<Topic, Refusal> {
    Topic::group(group).map_err(not_a_group)
}

fn not_a_group(error: InvalidTopic) -> Refusal {
    Refusal::bad_request(format!("the group cannot be a topic: {error}"))
}

/// The user whose membership is remembered; `None`: it is one session's.
fn member(who: &Target) -> Result<Option<Member>, Refusal> {
    match who {
        Target::User { user, tenant } if !user.is_anonymous() => Ok(Some(Member { user: user.clone(), tenant: tenant.clone() })),
        Target::Session(_) => Ok(None),
        _ => Err(Refusal::bad_request("only a user or a session can be in a group").hint("name a user or a session")),
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
    /// Most publications; 0 asks for the position only. At most [`Settings::history_limit_max`](crate::Settings) are given, and not more than
    /// [`Settings::history_max_bytes`](crate::Settings): whoever wants more goes on from the position of the last one, until a page is empty.
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

/// Which part of a state is read.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct StateRequest {
    /// [`StateRows::next`] of the page before; `None`: from the beginning.
    pub cursor: Option<Position>,
    /// Most rows; 0 asks for the position only. At most [`Settings::history_limit_max`](crate::Settings) are given, and not more than
    /// [`Settings::history_max_bytes`](crate::Settings).
    pub limit: usize,
}

/// Part of a state.
#[derive(Clone, Debug)]
pub struct StateRows {
    /// The top of the history.
    pub position: Position,
    /// The newest publication of each key, oldest first.
    pub rows: Vec<Arc<Publication>>,
    /// Where the next page begins; `None`: this was the last.
    pub next: Option<Position>,
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
            Self::Backplane(PublishFailed::Full(full)) => Refusal::unavailable(format!("{full}; nothing was stored"))
                .hint(
                    "try again when something of it has expired or was removed, or publish what need not be kept: \
                     without history, idempotency key and version",
                )
                .retry_after(Duration::from_secs(5))
                .rule(format!("raise {}", full.setting())),
            Self::Backplane(unconfirmed @ PublishFailed::Unconfirmed(_)) => Refusal::unavailable(unconfirmed.to_string())
                .hint("try again with the same idempotency key: then it is stored once")
                .retry_after(Duration::from_millis(500)),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_whole_or_refused() {
        assert_eq!(whole(vec![1, 2], 2).unwrap(), [1, 2]);
        assert_eq!(whole(vec![1, 2, 3], 2).unwrap_err().kind, RefusalKind::LimitExceeded);
    }
}
