//! How an engine is configured and started.

use std::{fmt, future::Future, sync::Arc};

use tokio::runtime::Handle;

use crate::{
    Action, Authorizer, Backplane, ByNamespace, CallRequest, ConnectRequest, ControlBus, Disconnected, Engine, Grant, Identity,
    MemoryBackplane, MemoryControl, MemoryPresence, MemoryRegistry, MessageRequest, Namespace, Namespaces, Payload, Presence, Publish,
    PublishRequest, RefreshRequest, Refusal, Registry, Renewal, SessionId, Settings, SnapshotFailed, SubscribeRequest, Topic,
    control::ControlNode,
    hooks::{BoxFuture, Hooks},
    hub::{Hub, NewHub, Shard},
    panics,
    session::{PayloadCheck, Rules},
};

/// Configures an [`Engine`]. Every hook has a timeout ([`Settings::hook_timeout`]); a panic or a hang of one costs one answer, not the node.
#[must_use]
pub struct EngineBuilder {
    settings: Settings,
    namespaces: Namespaces,
    authorizer: Arc<dyn Authorizer>,
    backplane: Option<Arc<dyn Backplane>>,
    presence: Arc<dyn Presence>,
    control: Arc<dyn ControlBus>,
    registry: Arc<dyn Registry>,
    hooks: Hooks,
    payload_check: Option<PayloadCheck>,
    runtime: Option<Handle>,
    node_id: Option<Arc<str>>,
    node_name: String,
    version: &'static str,
}

/// Why an engine was not started.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// There is no tokio runtime here, and none was given.
    #[error("there is no tokio runtime here: call build inside one, or give one with shards_on")]
    NoRuntime,
    /// A setting is out of its range.
    #[error("setting {setting} is {value}, it must be {expected}")]
    BadSetting {
        /// The setting's name.
        setting: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
}

impl EngineBuilder {
    pub(crate) fn new() -> Self {
        Self {
            settings: Settings::default(),
            namespaces: Namespaces::new(),
            authorizer: Arc::new(ByNamespace),
            backplane: None,
            presence: Arc::new(MemoryPresence::new()),
            control: Arc::new(MemoryControl::new()),
            registry: Arc::new(MemoryRegistry::new()),
            hooks: Hooks::default(),
            payload_check: None,
            runtime: None,
            node_id: None,
            node_name: "broker".to_owned(),
            version: env!("CARGO_PKG_VERSION"),
        }
    }

    /// Sets deadlines and bounds.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Changes deadlines and bounds.
    pub fn with_settings(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// Replaces all namespaces.
    pub fn namespaces(mut self, namespaces: Namespaces) -> Self {
        self.namespaces = namespaces;
        self
    }

    /// Sets the options of one namespace: of topics whose names begin with `name:`.
    pub fn namespace(mut self, name: impl Into<Box<str>>, namespace: Namespace) -> Self {
        self.namespaces.set(name, namespace);
        self
    }

    /// Sets the options of topics without a namespace.
    pub fn default_namespace(mut self, namespace: Namespace) -> Self {
        self.namespaces.set_default(namespace);
        self
    }

    /// Sets the options of namespaces that are not named.
    pub fn fallback_namespace(mut self, namespace: Namespace) -> Self {
        self.namespaces.set_fallback(namespace);
        self
    }

    /// Sets who may do what. Default: [`ByNamespace`].
    pub fn authorizer(mut self, authorizer: impl Authorizer) -> Self {
        self.authorizer = Arc::new(authorizer);
        self
    }

    /// Sets what carries publications. Default: a [`MemoryBackplane`] that keeps at most [`Settings::memory_max_bytes`].
    pub fn backplane(mut self, backplane: Arc<dyn Backplane>) -> Self {
        self.backplane = Some(backplane);
        self
    }

    /// Sets who remembers who listens. Default: [`MemoryPresence`].
    pub fn presence(mut self, presence: Arc<dyn Presence>) -> Self {
        self.presence = presence;
        self
    }

    /// Sets how nodes talk to each other. Default: [`MemoryControl`].
    pub fn control(mut self, control: Arc<dyn ControlBus>) -> Self {
        self.control = control;
        self
    }

    /// Sets who remembers memberships, revocations and tickets. Default: [`MemoryRegistry`].
    pub fn registry(mut self, registry: Arc<dyn Registry>) -> Self {
        self.registry = registry;
        self
    }

    /// Looks at all data before it is published, and may refuse it.
    pub fn check_payload(mut self, check: fn(&Payload) -> Result<(), Refusal>) -> Self {
        self.payload_check = Some(check);
        self
    }

    /// Runs the shards on this runtime instead of the one that `build` is called in.
    pub fn shards_on(mut self, runtime: Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Sets under which id other nodes know this one: that of its control bus, where several act as one. Default: made at random.
    pub fn node_id(mut self, id: impl Into<Arc<str>>) -> Self {
        self.node_id = Some(id.into());
        self
    }

    /// Names this node, for people.
    pub fn node(mut self, name: impl Into<String>, version: &'static str) -> Self {
        self.node_name = name.into();
        self.version = version;
        self
    }

    /// Says who a client is. Without this hook everybody is anonymous, and let in only if [`Settings::anonymous`] says so.
    pub fn on_connect<F, R>(mut self, hook: F) -> Self
    where
        F: Fn(ConnectRequest) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Identity, Refusal>> + Send + 'static,
    {
        self.hooks.connect = Some(Arc::new(move |request| Box::pin(hook(request))));
        self
    }

    /// Has a say in a subscribe that the authorizer allowed.
    pub fn on_subscribe<F, R>(mut self, hook: F) -> Self
    where
        F: Fn(SubscribeRequest) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Grant, Refusal>> + Send + 'static,
    {
        self.hooks.subscribe = Some(Arc::new(move |request| Box::pin(hook(request))));
        self
    }

    /// Has a say in a client's publish that the authorizer allowed, and may change it.
    pub fn on_publish<F, R>(mut self, hook: F) -> Self
    where
        F: Fn(PublishRequest) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Publish, Refusal>> + Send + 'static,
    {
        self.hooks.publish = Some(Arc::new(move |request| Box::pin(hook(request))));
        self
    }

    /// Takes messages of the application's own, and says what is to be done.
    pub fn on_message<F, R>(mut self, hook: F) -> Self
    where
        F: Fn(MessageRequest) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Vec<Action>, Refusal>> + Send + 'static,
    {
        self.hooks.message = Some(Arc::new(move |request| Box::pin(hook(request))));
        self
    }

    /// Answers calls.
    pub fn on_rpc<F, R>(mut self, hook: F) -> Self
    where
        F: Fn(CallRequest) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Payload, Refusal>> + Send + 'static,
    {
        self.hooks.call = Some(Arc::new(move |request| Box::pin(hook(request))));
        self
    }

    /// Renews credentials of sessions whose identity says that the [server renews](Identity::renewed_by_server) it, before their end.
    ///
    /// A refusal that is not temporary closes the session as expired.
    pub fn on_refresh<F, R>(mut self, hook: F) -> Self
    where
        F: Fn(RefreshRequest) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Renewal, Refusal>> + Send + 'static,
    {
        self.hooks.refresh = Some(Arc::new(move |request| Box::pin(hook(request))));
        self
    }

    /// Is told when a session that was connected has ended.
    pub fn on_disconnect<F, R>(mut self, hook: F) -> Self
    where
        F: Fn(Disconnected) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.hooks.disconnect = Some(Arc::new(move |notice| Box::pin(hook(notice))));
        self
    }

    /// Is told when a topic, other than a user's own, gets its first listener on this node. In order with `on_vacated`, one call at a time.
    ///
    /// Where calls wait behind a slow one, a topic that came and went meanwhile is not told of: the last call about a topic is its present state.
    pub fn on_occupied<F, R>(mut self, hook: F) -> Self
    where
        F: Fn(Topic) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.hooks.occupied = Some(Arc::new(move |topic| Box::pin(hook(topic))));
        self
    }

    /// Is told when a topic has had no listener on this node for [`Settings::linger`].
    pub fn on_vacated<F, R>(mut self, hook: F) -> Self
    where
        F: Fn(Topic) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.hooks.vacated = Some(Arc::new(move |topic| Box::pin(hook(topic))));
        self
    }

    /// Gives the current state of a topic, or of all topics of a namespace, to whoever subscribes without a position that can be resumed.
    ///
    /// Called once for any number of simultaneous subscribers, and spliced with the live stream: what is published after the call began is
    /// sent behind the snapshot. An empty name means all topics without a namespace. The hook answers with a [`Payload`], or with an
    /// `Option` of one: `None` where the topic has no snapshot, and whoever subscribes goes on without.
    pub fn snapshot<F, R, S>(mut self, topic_or_namespace: impl Into<Box<str>>, hook: F) -> Self
    where
        F: Fn(Topic) -> R + Send + Sync + 'static,
        R: Future<Output = Result<S, SnapshotFailed>> + Send + 'static,
        S: Into<Option<Payload>>,
    {
        let hook = move |topic| -> BoxFuture<_> {
            let answer = hook(topic);
            Box::pin(async move { answer.await.map(Into::into) })
        };
        self.hooks.snapshots.insert(topic_or_namespace.into(), Arc::new(hook));
        self
    }

    /// Starts the engine on the tokio runtime it is called in, or the one of [`EngineBuilder::shards_on`].
    pub fn build(self) -> Result<Engine, BuildError> {
        let runtime = self.runtime.or_else(|| Handle::try_current().ok()).ok_or(BuildError::NoRuntime)?;
        check(&self.settings)?;
        let shards = match self.settings.shards {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            shards => shards,
        };
        let backplane = self.backplane.unwrap_or_else(|| Arc::new(MemoryBackplane::with_memory_max(self.settings.memory_max_bytes)));
        let rules = Rules {
            settings: self.settings,
            namespaces: self.namespaces,
            authorizer: self.authorizer,
            payload_check: self.payload_check,
            hears_subscribe: self.hooks.subscribe.is_some(),
            hears_message: self.hooks.message.is_some(),
            hears_call: self.hooks.call.is_some(),
            renews: self.hooks.refresh.is_some(),
        };
        let hub = Arc::new(Hub::new(NewHub {
            rules: Arc::new(rules),
            hooks: self.hooks,
            backplane: backplane.clone(),
            presence: self.presence,
            registry: self.registry,
            control: self.control.clone(),
            runtime: Some(runtime.clone()),
            shards,
            node_id: self.node_id.unwrap_or_else(|| SessionId::from_random(fastrand::u128(..)).to_string().into()),
            node_name: self.node_name.into(),
            version: self.version,
        }));
        let _guard = runtime.enter();
        let sink: std::sync::Weak<dyn crate::Sink> = Arc::downgrade(&hub) as _;
        backplane.start(sink);
        let node: std::sync::Weak<dyn ControlNode> = Arc::downgrade(&hub) as _;
        self.control.start(node);
        start_shards(&runtime, &hub, shards);
        runtime.spawn(Hub::serve_errands(Arc::downgrade(&hub)));
        runtime.spawn(hub.clone().serve_departures());
        if hub.hooks.hear_occupancy() {
            runtime.spawn(tell_occupancy(hub.clone()));
        }
        Ok(Engine::from_parts(hub))
    }
}

impl fmt::Debug for EngineBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineBuilder").field("settings", &self.settings).field("hooks", &self.hooks).finish_non_exhaustive()
    }
}

#[cfg(not(broker_model))]
fn start_shards(runtime: &Handle, hub: &Arc<Hub>, shards: usize) {
    for index in 0..shards {
        runtime.spawn(Shard::new(index, hub.clone()).run());
    }
}

/// The model test drives shards itself.
#[cfg(broker_model)]
fn start_shards(_runtime: &Handle, hub: &Arc<Hub>, shards: usize) {
    drop((0..shards).map(|index| Shard::new(index, hub.clone())));
}

/// Tells the application which topics have listeners, one call at a time, so that the last call is the present state.
async fn tell_occupancy(hub: Arc<Hub>) {
    while let Some((topic, occupied)) = hub.ports.occupancy.next().await {
        let hook = if occupied { &hub.hooks.occupied } else { &hub.hooks.vacated };
        if let Some(hook) = hook {
            // What went wrong is counted and logged by the guard.
            let _ = panics::guard(&hub.stats, async { hook(topic).await }, hub.rules.settings.hook_timeout).await;
        }
    }
}

fn check(settings: &Settings) -> Result<(), BuildError> {
    let positive = [
        ("ping_interval", settings.ping_interval),
        ("pong_timeout", settings.pong_timeout),
        ("connect_timeout", settings.connect_timeout),
        ("hook_timeout", settings.hook_timeout),
        ("publish_timeout", settings.publish_timeout),
        ("backplane_timeout", settings.backplane_timeout),
    ];
    for (setting, value) in positive {
        if value.is_zero() {
            return Err(BuildError::BadSetting { setting, value: "0".to_owned(), expected: "greater than 0" });
        }
    }
    let positive = [
        ("connections_max", settings.connections_max),
        ("subscriptions_max", settings.subscriptions_max),
        ("backlog_max_bytes", settings.backlog_max_bytes),
        ("inbox_share_max_bytes", settings.inbox_share_max_bytes),
        ("stream_max_len", settings.stream_max_len),
    ];
    match positive.iter().find(|(_, value)| *value == 0) {
        Some((setting, _)) => Err(BuildError::BadSetting { setting, value: "0".to_owned(), expected: "greater than 0" }),
        None => Ok(()),
    }
}
