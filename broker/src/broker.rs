//! The handle that a program holds: publishes, listens, takes connections, drains. How it is configured lives in `builder`.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use broker_core::{
    Connect, ControlError, Engine, GroupCount, Head, HistoryError, HistoryPage, HistoryQuery, Kept, NodeInfo, PresenceError, PresenceStats,
    Publish, PublishError, Published, Refusal, Revocation, SessionInfo, Sessions, StateRequest, StateRows, Stats, SubscribeError, Target,
    Topic, TopicCount, TopicStream, UserSessions,
};
use broker_ws::{Gate, ServerOptions, WsLimits, say_goodbye, serve_io};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::watch,
};

use crate::{
    Builder, LocalClient, local,
    service::{BrokerService, Opened, PeerFrom, Refused, Way, as_frames, open, origin::Origins, routes::Routes},
};

/// A broker inside the process. Cloning copies a pointer; when the last handle and service are gone, the engine ends.
///
/// Starts no runtime, no listener, no logger.
#[derive(Clone)]
pub struct Broker {
    pub(crate) shared: Arc<Shared>,
}

/// What handle and services have in common.
pub(crate) struct Shared {
    pub(crate) engine: Engine,
    pub(crate) routes: Routes,
    pub(crate) origins: Origins,
    pub(crate) limits: Arc<WsLimits>,
    pub(crate) gate: Arc<Gate>,
    /// How the peer of a request is found that this process did not accept itself.
    pub(crate) peer_from: Option<PeerFrom>,
    /// Clients are told which rule refused them.
    pub(crate) dev: bool,
    /// The other nodes, to say goodbye to.
    #[cfg(feature = "redis")]
    pub(crate) redis: Option<crate::Redis>,
    /// True from the beginning of a drain.
    pub(crate) draining: watch::Sender<bool>,
}

impl Broker {
    /// Begins to configure a broker.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Publishes to a topic. `Ok` means that the backplane has it.
    ///
    /// Cancelled, it may have happened or not; with an [idempotency key](Publish::idempotency_key) it can be tried again.
    pub async fn publish(&self, topic: &Topic, publish: Publish) -> Result<Published, PublishError> {
        self.shared.engine.publish(topic, publish).await
    }

    /// Publishes the same to several topics; one result each, in their order. Cancelled, it has happened for a part of them.
    pub async fn broadcast(&self, topics: &[Topic], publish: Publish) -> Vec<Result<Published, PublishError>> {
        self.shared.engine.broadcast(topics, publish).await
    }

    /// Listens to a topic inside the process, without a session: a bounded stream of publications and gaps.
    /// Its first item says that it is live.
    pub fn subscribe(&self, topic: &Topic) -> Result<TopicStream, SubscribeError> {
        self.shared.engine.subscribe(topic)
    }

    /// A handle of one topic whose publications are values of one type, as JSON.
    #[cfg(feature = "json")]
    pub fn topic<T>(
        &self,
        name: impl TryInto<Topic, Error = broker_core::InvalidTopic>,
    ) -> Result<crate::TypedTopic<T>, broker_core::InvalidTopic> {
        Ok(crate::TypedTopic::new(self.clone(), name.try_into()?))
    }

    /// Reads the history of a topic. Cancel-safe.
    pub async fn history(&self, topic: &Topic, query: HistoryQuery) -> Result<HistoryPage, HistoryError> {
        self.shared.engine.history(topic, query).await
    }

    /// Reads the newest publication of each key of a topic, oldest first, in pages. Cancel-safe.
    pub async fn state(&self, topic: &Topic, request: StateRequest) -> Result<StateRows, HistoryError> {
        self.shared.engine.state(topic, request).await
    }

    /// Bytes that are kept in this process, by namespace and altogether; nothing where the backplane keeps elsewhere.
    pub fn kept(&self) -> Kept {
        self.shared.engine.kept()
    }

    /// Forgets the history of a topic; positions go on, and so does the state. Cancelled, it may have happened or not.
    pub async fn remove_history(&self, topic: &Topic) -> Result<(), HistoryError> {
        self.shared.engine.remove_history(topic).await
    }

    /// Who listens to a topic, in no order. Cancel-safe.
    pub async fn presence(&self, topic: &Topic) -> Result<Vec<Arc<SessionInfo>>, PresenceError> {
        self.shared.engine.presence(topic).await
    }

    /// How many listen to a topic. Cancel-safe.
    pub async fn presence_stats(&self, topic: &Topic) -> Result<PresenceStats, PresenceError> {
        self.shared.engine.presence_stats(topic).await
    }

    /// Topics with listeners, in no order. Cancel-safe.
    pub async fn topics(&self) -> Vec<TopicCount> {
        self.shared.engine.topics().await
    }

    /// Every node that answers in time. Cancel-safe.
    pub async fn info(&self) -> Vec<NodeInfo> {
        self.shared.engine.info().await
    }

    /// The sessions that a target means, on all nodes: to send to them, subscribe, disconnect, change or list them.
    pub fn sessions(&self, target: Target) -> Sessions {
        self.shared.engine.sessions(target)
    }

    /// Ends the sessions whose credentials are revoked, and refuses such credentials from here on.
    ///
    /// When it answers, with the number of sessions, nothing more is written to them. Cancelled, it goes on where it has begun.
    pub async fn revoke(&self, revocation: Revocation) -> Result<usize, ControlError> {
        self.shared.engine.revoke(revocation).await
    }

    /// Joins a user to a group, with all sessions that it has and will have; or one session, as long as that lasts.
    ///
    /// Answers when the sessions are live in the group, with their number. Cancelled, it goes on where it has begun.
    pub async fn join_group(&self, group: &str, who: &Target) -> Result<usize, ControlError> {
        self.shared.engine.join_group(group, who).await
    }

    /// Takes a user or one session out of a group. Answers when nothing that is published later reaches the sessions, with their number.
    pub async fn leave_group(&self, group: &str, who: &Target) -> Result<usize, ControlError> {
        self.shared.engine.leave_group(group, who).await
    }

    /// Who is in a group, by user. Cancel-safe.
    pub async fn group_members(&self, group: &Topic) -> Result<Vec<UserSessions>, ControlError> {
        self.shared.engine.group_members(group).await
    }

    /// Groups with sessions, in the order of their names. Cancel-safe.
    pub async fn groups(&self) -> Result<Vec<GroupCount>, ControlError> {
        self.shared.engine.groups().await
    }

    /// What the engine counts.
    pub fn stats(&self) -> &Stats {
        self.shared.engine.stats()
    }

    /// The engine under the handle, for transports and APIs that are built on it.
    pub fn engine(&self) -> &Engine {
        &self.shared.engine
    }

    /// A [`tower_service::Service`] that serves WebSockets: mount it in a framework, or give it to hyper. Never fails.
    ///
    /// Needs HTTP/1.1 connections that allow upgrades: axum's do, hyper's with `with_upgrades`.
    pub fn service(&self) -> BrokerService {
        BrokerService::new(self.clone())
    }

    /// Accepts connections until [`Broker::drain`] begins, and serves them: no framework, the cheapest path.
    ///
    /// Returns when the last HTTP answer is out; WebSockets live on by themselves until the drain closes them. Where the listener is bound to
    /// loopback, pages from this machine may connect. Dropping the future stops accepting.
    pub async fn serve(&self, listener: TcpListener) {
        self.serve_with(listener, self.server_options()).await;
    }

    /// Like [`Broker::serve`], over TLS: clients connect to `wss://`.
    ///
    /// The certificate's files are read again every few seconds; connections stay when they change.
    #[cfg(feature = "tls")]
    pub async fn serve_tls(&self, listener: TcpListener, tls: crate::Tls) {
        self.serve_with(listener, self.server_options().tls(tls)).await;
    }

    fn server_options(&self) -> ServerOptions {
        ServerOptions::new(Arc::clone(&self.shared.limits)).gate(self.gate())
    }

    async fn serve_with(&self, listener: TcpListener, options: ServerOptions) {
        let on_loopback = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
        let service = if on_loopback { self.service().on_loopback() } else { self.service() };
        broker_ws::serve(listener, service, options, self.drained()).await;
    }

    /// What lets connections in by where they come from: for a server of one's own around [`Broker::service`].
    pub fn gate(&self) -> Arc<Gate> {
        Arc::clone(&self.shared.gate)
    }

    /// Ready when a drain has begun.
    fn drained(&self) -> impl Future<Output = ()> + use<> {
        let mut draining = self.shared.draining.subscribe();
        async move {
            // An error means that the broker itself is gone.
            let _ = draining.wait_for(|draining| *draining).await;
        }
    }

    /// Serves a WebSocket that is upgraded already, over any pipe: of a framework that is no tower service, behind TLS of your own, in tests.
    ///
    /// `head` is that of the request: its path and query say what is meant, as in [`BrokerService`], and its peer is who is at the other end of
    /// the pipe, client or proxy. Answer the handshake, and check the origin, before. Returns when the connection has a task of its own; a refusal has been told over the socket then.
    /// Cancel-safe: pipe and connection are dropped.
    pub async fn accept<Io>(&self, io: Io, head: Head) -> Result<(), Refusal>
    where
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let limits = Arc::clone(&self.shared.limits);
        match open(&self.shared, head, None, Way::WebSocket).await {
            Ok(Opened { connection, protocol, .. }) => {
                serve_io(io, connection, protocol, limits).await;
                Ok(())
            }
            Err(Refused { refusal, protocol, .. }) => {
                let frames = as_frames(refusal.clone(), &*protocol);
                say_goodbye(io, &frames, &limits).await;
                Err(refusal)
            }
        }
    }

    /// Connects a client inside the process, through every rule and hook, without a socket: for tests.
    ///
    /// Cancel-safe.
    pub async fn connect_local(&self, connect: Connect) -> Result<LocalClient, Refusal> {
        local::connect(&self.shared.engine, connect).await
    }

    /// Ends in good order: [`Broker::serve`] stops accepting, new connections are refused, those that are open are closed with 3001, spread over
    /// half the time, so that their clients connect elsewhere. Returns when they are gone or the time is over; a node among others says goodbye to them
    /// then, for which it may need another two seconds.
    ///
    /// Cancelled, the closing goes on, without the goodbye: the others count the node as lost.
    pub async fn drain(&self, timeout: Duration) {
        self.shared.draining.send_replace(true);
        self.shared.engine.drain(timeout).await;
        #[cfg(feature = "redis")]
        if let Some(redis) = &self.shared.redis {
            redis.leave().await;
        }
    }

    /// Whether a drain has begun.
    pub fn is_draining(&self) -> bool {
        self.shared.engine.is_draining()
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("engine", &self.shared.engine).finish_non_exhaustive()
    }
}
