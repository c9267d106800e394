//! How a broker is configured.

use std::{fmt, future::Future, net::SocketAddr, sync::Arc};

use broker_core::{
    Action, Authorizer, Backplane, BuildError as EngineError, CallRequest, ConnectRequest, ControlBus, Disconnected, Engine, EngineBuilder,
    Grant, Identity, MessageRequest, Namespace, Namespaces, Payload, PayloadKind, Presence, Publish, PublishRequest, RefreshRequest,
    Refusal, Registry, Renewal, Settings, SnapshotFailed, SubscribeRequest, Topic,
};
use broker_ws::{Gate, TrustedProxies, WsLimits};
use tokio::{runtime::Handle, sync::watch};

use crate::{
    Broker, InvalidOrigin, InvalidRoute, Route,
    broker::Shared,
    service::{PeerFrom, origin::Origins, routes::Routes},
};

/// Configures a [`Broker`]. Nothing is allowed by default: no namespace, no anonymous session, no foreign page.
///
/// Every hook has a timeout; a panic or a hang of one costs one answer, not the process.
#[must_use]
pub struct Builder {
    engine: EngineBuilder,
    routes: Vec<Route>,
    allowed_origins: Vec<String>,
    limits: WsLimits,
    proxies: TrustedProxies,
    peer_from: Option<PeerFrom>,
    dev: bool,
}

/// Why a broker was not started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The engine did not start.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A route cannot be matched.
    #[error(transparent)]
    Route(#[from] InvalidRoute),
    /// An allowed origin is none.
    #[error(transparent)]
    Origin(#[from] InvalidOrigin),
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            engine: Engine::builder().check_payload(reserved_key),
            routes: Vec::new(),
            allowed_origins: Vec::new(),
            limits: WsLimits::default(),
            proxies: TrustedProxies::default(),
            peer_from: None,
            dev: false,
        }
    }
}

impl Builder {
    /// Opens everything, for development: anyone may connect and do anything in every namespace, with history and presence; pages from this
    /// machine may connect; clients are told which rule refused them. What is set afterwards wins.
    pub fn dev(mut self) -> Self {
        self.dev = true;
        self.engine = self
            .engine
            .default_namespace(Namespace::open())
            .fallback_namespace(Namespace::open())
            .with_settings(|settings| settings.anonymous = true);
        self
    }

    /// Sets the options of one namespace: of topics whose names begin with `name:`.
    pub fn namespace(mut self, name: impl Into<Box<str>>, namespace: Namespace) -> Self {
        self.engine = self.engine.namespace(name, namespace);
        self
    }

    /// Sets the options of topics without a namespace.
    pub fn default_namespace(mut self, namespace: Namespace) -> Self {
        self.engine = self.engine.default_namespace(namespace);
        self
    }

    /// Sets the options of namespaces that are not named.
    pub fn fallback_namespace(mut self, namespace: Namespace) -> Self {
        self.engine = self.engine.fallback_namespace(namespace);
        self
    }

    /// Replaces all namespaces.
    pub fn namespaces(mut self, namespaces: Namespaces) -> Self {
        self.engine = self.engine.namespaces(namespaces);
        self
    }

    /// Lets sessions in that bring no credentials, where there is no connect hook.
    pub fn anonymous(mut self) -> Self {
        self.engine = self.engine.with_settings(|settings| settings.anonymous = true);
        self
    }

    /// Changes deadlines and bounds of the engine.
    pub fn settings(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        self.engine = self.engine.with_settings(change);
        self
    }

    /// Sets bounds and deadlines of WebSockets.
    pub fn limits(mut self, limits: WsLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Believes these proxies when they name the client that they speak for. Default: nobody, and [`Head::peer`](crate::Head::peer) is whoever
    /// opened the TCP connection.
    ///
    /// ```
    /// use broker::{Broker, TrustedProxies};
    ///
    /// let builder = Broker::builder().trusted_proxies(TrustedProxies::parse(["10.0.0.0/8"])?);
    /// # Ok::<(), broker::InvalidProxy>(())
    /// ```
    pub fn trusted_proxies(mut self, proxies: TrustedProxies) -> Self {
        self.proxies = proxies;
        self
    }

    /// Says where a framework keeps the peer of a request. Needed behind frameworks only: [`Broker::serve`] knows its peers, and a
    /// [`Peer`](crate::Peer) in a request's extensions is found by itself.
    ///
    /// ```
    /// use std::net::SocketAddr;
    /// use axum::{Router, extract::ConnectInfo};
    /// use broker::Broker;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), broker::BuildError> {
    /// let broker = Broker::builder()
    ///     .peer_from(|extensions| extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0))
    ///     .build()?;
    /// let app = Router::new().nest_service("/live", broker.service()).into_make_service_with_connect_info::<SocketAddr>();
    /// # Ok(())
    /// # }
    /// ```
    pub fn peer_from(mut self, find: impl Fn(&http::Extensions) -> Option<SocketAddr> + Send + Sync + 'static) -> Self {
        self.peer_from = Some(Arc::new(find));
        self
    }

    /// Adds a path of its own for a topic.
    pub fn route(mut self, route: Route) -> Self {
        self.routes.push(route);
        self
    }

    /// Lets pages of this origin connect: `https://app.example.com`, `https://*.example.com`, or `*` for all. Pages of the host that the
    /// request goes to may connect anyway, except in dev mode and on a loopback listener, where pages of this machine may instead.
    pub fn allow_origin(mut self, origin: impl Into<String>) -> Self {
        self.allowed_origins.push(origin.into());
        self
    }

    /// Sets who may do what. Default: what the namespace allows.
    pub fn authorizer(mut self, authorizer: impl Authorizer) -> Self {
        self.engine = self.engine.authorizer(authorizer);
        self
    }

    /// Sets what carries publications between nodes. Default: memory, one node.
    pub fn backplane(mut self, backplane: Arc<dyn Backplane>) -> Self {
        self.engine = self.engine.backplane(backplane);
        self
    }

    /// Sets who remembers who listens. Default: memory.
    pub fn presence(mut self, presence: Arc<dyn Presence>) -> Self {
        self.engine = self.engine.presence(presence);
        self
    }

    /// Sets how nodes talk to each other. Default: memory, one node.
    pub fn control(mut self, control: Arc<dyn ControlBus>) -> Self {
        self.engine = self.engine.control(control);
        self
    }

    /// Sets who remembers memberships in groups, revocations and tickets. Default: memory.
    pub fn registry(mut self, registry: Arc<dyn Registry>) -> Self {
        self.engine = self.engine.registry(registry);
        self
    }

    /// Runs the engine's shards on this runtime instead of the one that [`Builder::build`] is called in.
    pub fn shards_on(mut self, runtime: Handle) -> Self {
        self.engine = self.engine.shards_on(runtime);
        self
    }

    /// Names this node, for people.
    pub fn node(mut self, name: impl Into<String>, version: &'static str) -> Self {
        self.engine = self.engine.node(name, version);
        self
    }

    /// Says who a client is: sees the request's head, with the host's own cookies and sessions, and what the client said of itself.
    ///
    /// Without this hook everybody is anonymous, and let in only with [`Builder::anonymous`].
    pub fn on_connect<F, R>(mut self, hook: F) -> Self
    where
        F: Fn(ConnectRequest) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Identity, Refusal>> + Send + 'static,
    {
        self.engine = self.engine.on_connect(hook);
        self
    }

    /// Has a say in a subscribe that the authorizer allowed.
    pub fn on_subscribe<F, R>(mut self, hook: F) -> Self
    where
        F: Fn(SubscribeRequest) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Grant, Refusal>> + Send + 'static,
    {
        self.engine = self.engine.on_subscribe(hook);
        self
    }

    /// Has a say in a client's publish that the authorizer allowed, and may change it.
    pub fn on_publish<F, R>(mut self, hook: F) -> Self
    where
        F: Fn(PublishRequest) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Publish, Refusal>> + Send + 'static,
    {
        self.engine = self.engine.on_publish(hook);
        self
    }

    /// Takes messages of the application's own, and says what is to be done.
    pub fn on_message<F, R>(mut self, hook: F) -> Self
    where
        F: Fn(MessageRequest) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Vec<Action>, Refusal>> + Send + 'static,
    {
        self.engine = self.engine.on_message(hook);
        self
    }

    /// Answers calls of clients.
    pub fn on_rpc<F, R>(mut self, hook: F) -> Self
    where
        F: Fn(CallRequest) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Payload, Refusal>> + Send + 'static,
    {
        self.engine = self.engine.on_rpc(hook);
        self
    }

    /// Renews credentials before their end, for sessions whose identity says that the server renews it.
    pub fn on_refresh<F, R>(mut self, hook: F) -> Self
    where
        F: Fn(RefreshRequest) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Renewal, Refusal>> + Send + 'static,
    {
        self.engine = self.engine.on_refresh(hook);
        self
    }

    /// Is told when a session that was connected has ended, and why.
    pub fn on_disconnect<F, R>(mut self, hook: F) -> Self
    where
        F: Fn(Disconnected) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.engine = self.engine.on_disconnect(hook);
        self
    }

    /// Is told when a topic gets its first listener on this node. In order with [`Builder::on_vacated`], one call at a time; what came and went
    /// behind a slow call is not told of.
    pub fn on_occupied<F, R>(mut self, hook: F) -> Self
    where
        F: Fn(Topic) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.engine = self.engine.on_occupied(hook);
        self
    }

    /// Is told when a topic has had no listener on this node for a while ([`Settings::linger`]).
    pub fn on_vacated<F, R>(mut self, hook: F) -> Self
    where
        F: Fn(Topic) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.engine = self.engine.on_vacated(hook);
        self
    }

    /// Gives the current state of a topic, or of all topics of a namespace, to whoever subscribes without a position that can be resumed.
    ///
    /// Called once for any number of simultaneous subscribers, and spliced with the live stream. An empty name means all topics without a
    /// namespace. The hook answers with a [`Payload`], or with an `Option` of one: `None` where the topic has no snapshot.
    pub fn snapshot<F, R, S>(mut self, topic_or_namespace: impl Into<Box<str>>, hook: F) -> Self
    where
        F: Fn(Topic) -> R + Send + Sync + 'static,
        R: Future<Output = Result<S, SnapshotFailed>> + Send + 'static,
        S: Into<Option<Payload>> + 'static,
    {
        self.engine = self.engine.snapshot(topic_or_namespace, hook);
        self
    }

    /// Starts the broker on the tokio runtime that this is called in, or on that of [`Builder::shards_on`].
    pub fn build(self) -> Result<Broker, BuildError> {
        let mut routes = Routes::default();
        for route in self.routes {
            routes.add(route)?;
        }
        let mut origins = Origins::default();
        for origin in &self.allowed_origins {
            origins.allow(origin)?;
        }
        if self.dev {
            origins.allow_loopback();
        }
        let shared = Shared {
            engine: self.engine.build()?,
            routes,
            origins,
            gate: Arc::new(Gate::new(&self.limits, self.proxies)),
            peer_from: self.peer_from,
            limits: Arc::new(self.limits),
            dev: self.dev,
            draining: watch::Sender::new(false),
        };
        Ok(Broker { shared: Arc::new(shared) })
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("engine", &self.engine).field("routes", &self.routes).finish_non_exhaustive()
    }
}

/// Refuses data that clients of the plain protocol would take for the broker's own words.
fn reserved_key(data: &Payload) -> Result<(), Refusal> {
    if data.kind() == PayloadKind::Json && broker_protocol::holds_reserved_key(data.bytes()) {
        return Err(
            Refusal::bad_request("the key `broker` at the top level of published data is reserved").hint("put the data one level down")
        );
    }
    Ok(())
}
