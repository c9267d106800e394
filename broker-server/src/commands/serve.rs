//! `broker serve`: from a configuration to a running broker, and to its end in good order.

use std::{
    io::{Write as _, stdout},
    net::SocketAddr,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use broker::{Broker, Builder, Tls, WsLimits};
use broker_auth::{HmacTokens, Hook, HttpHooks, Jwks, SubscriptionTokens, Tickets};
use broker_core::{ByNamespace, MemoryRegistry, Registry};
use broker_http::{Api, ApiKeys, ApiOptions, Origins, Script};
use broker_ws::ServerOptions;
use tokio::{net::TcpListener, sync::watch, time::timeout};
use tracing::{info, warn};

use crate::{
    COMMIT, VERSION,
    config::{Client, Config, Loaded, Secret},
    credentials::{Credentials, ticket_maker, trial_token},
    http::{Internal, Public},
    logging,
    pages::Pages,
    start_block::StartBlock,
};

/// Time that answers which are being written get after the drain.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// Places for requests beside those for sockets: a node that is full of clients still takes publishes and says that it is well.
const REQUEST_CONNECTIONS: usize = 1024;

const NO_RANDOM: &str = "the system gives no random bytes for the secrets";

/// Most connections of the internal listener.
const INTERNAL_CONNECTIONS: usize = 256;

pub(super) fn run(loaded: Loaded) -> anyhow::Result<ExitCode> {
    logging::start(loaded.config.server.log_level, loaded.config.server.log_format);
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("the system gives no threads")?;
    let code = runtime.block_on(serve(loaded));
    // Sockets whose clients did not say goodbye in time are cut here.
    runtime.shutdown_background();
    code
}

async fn serve(loaded: Loaded) -> anyhow::Result<ExitCode> {
    let file = loaded.file().map(ToOwned::to_owned);
    let config = loaded.config;
    let token = &config.client.token;
    // Without any key and nobody to ask nobody could connect: a secret is made for this run.
    let needs_secret = token.is_empty() && !config.hooks.has(Hook::Connect);
    let made_secret = needs_secret.then(Secret::random).transpose().context(NO_RANDOM)?;
    let api_key = given_or_random(config.api.key.as_ref())?;
    let registry: Arc<dyn Registry> = Arc::new(MemoryRegistry::new());
    let (credentials, subscription_tokens) = credentials(&config.client, made_secret.as_ref(), registry.clone())?;
    let tickets = ticket_maker(credentials.tickets.clone());

    let tls = tls(&config)?;

    let listener = bind(config.server.listen, "server.listen", "--listen").await?;
    let internal_listener = bind(config.server.internal_listen, "server.internal_listen", "--internal-listen").await?;
    let (listen, internal_listen) = (listener.local_addr()?, internal_listener.local_addr()?);
    let hooks = config.hooks.options().map(|options| HttpHooks::new(options, config.hooked_namespaces())).transpose();
    let hooks = hooks.context("hooks with https addresses cannot be called")?;
    let limits = limits(&config);
    let broker = broker(&config, credentials, subscription_tokens, hooks.as_ref(), registry, limits.clone(), listen)?;

    let sockets = if listen.ip().is_loopback() { broker.service().on_loopback() } else { broker.service() };
    let pages_that_may = sockets.clone();
    let origins = Origins::by(move |origin| pages_that_may.allows_origin(origin));
    let api = ApiOptions::default()
        .keys(ApiKeys::one(api_key.expose()))
        .origins(origins.clone())
        .body_max_bytes(config.api.body_max)
        .tickets(tickets)
        .dev(config.is_dev);
    let api = Api::new(broker.engine().clone(), api);
    let pages = config.is_dev.then(|| Pages::new(if api_key.expose() == "dev" { "dev" } else { "YOUR-API-KEY" }));
    let public = Public::new(&broker, sockets, api, Script::new().origins(origins), pages);
    let internal = Internal::new(broker.clone(), hooks.clone());

    let (stop, stopped) = watch::channel(false);
    let options = ServerOptions::new(Arc::new(limits)).gate(broker.gate()).tls(tls.clone());
    let public = broker_ws::serve(listener, public, options, until(stopped.clone()));
    let internal_limits = Arc::new(WsLimits::default().connections_max(INTERNAL_CONNECTIONS));
    let internal = broker_ws::serve(internal_listener, internal, internal_limits, until(stopped));
    let serving = tokio::spawn(async { tokio::join!(public, internal) });

    let mut signals = Signals::listen()?;
    let mut made = Vec::new();
    if config.api.key.is_none() {
        made.push(("api.key", &api_key));
    }
    if let Some(secret) = &made_secret {
        made.push(("client.token.hmac_secret", secret));
    }
    let signing = token.hmac_secret.as_ref().or(made_secret.as_ref()).filter(|_| config.is_dev);
    let token = signing.map(|secret| HmacTokens::new(secret.expose(), token.options("client.token"))).transpose()?;
    let token = token.as_ref().map(trial_token);
    let block = StartBlock { config: &config, file: file.clone(), listen, internal_listen, tls: tls.as_ref(), made, token };
    // A start block that nobody reads is no reason to stop.
    let _ = write!(stdout(), "{block}").and_then(|()| stdout().flush());
    info!(
        version = VERSION,
        commit = COMMIT,
        config = file.as_deref().map(|file| file.display().to_string()),
        %listen,
        %internal_listen,
        tls = tls.is_some(),
        backplane = "memory",
        dev = config.is_dev,
        "broker started"
    );

    let signal = signals.next().await;
    info!(signal, drain_s = config.server.drain_timeout.as_secs_f32(), "stopping: clients are sent away with 3001");
    let drained = tokio::select! {
        () = broker.drain(config.server.drain_timeout) => true,
        _ = signals.next() => false,
    };
    if let Some(hooks) = &hooks
        && timeout(LAST_ANSWERS, hooks.finish()).await.is_err()
    {
        warn!("stopped before the application was told of every end");
    }
    stop.send_replace(true);
    if !drained || timeout(LAST_ANSWERS, serving).await.is_err() {
        warn!("stopped before every answer was out");
    }
    info!("stopped");
    Ok(ExitCode::SUCCESS)
}

fn broker(
    config: &Config,
    credentials: Credentials,
    subscription_tokens: SubscriptionTokens,
    hooks: Option<&HttpHooks>,
    registry: Arc<dyn Registry>,
    limits: WsLimits,
    listen: SocketAddr,
) -> anyhow::Result<Broker> {
    let mut builder = Broker::builder();
    if config.is_dev {
        builder = builder.dev();
    }
    builder = builder
        .namespaces(config.core_namespaces())
        .settings(|settings| config.client.apply(settings, config.server.shards))
        .settings(|settings| {
            settings.memory_max_bytes = config.server.memory_max;
            settings.publish_timeout = config.backplane.publish_timeout;
            settings.backplane_timeout = config.backplane.timeout;
            settings.session_log_lines_per_second = u32::try_from(config.server.session_log_lines).unwrap_or(u32::MAX);
            settings.snapshot_stale_max = config.hooks.snapshot_stale;
        })
        .limits(limits)
        .trusted_proxies(config.client.addresses.proxies())
        .node(format!("{}:{}", node_name(), listen.port()), VERSION)
        .registry(registry);
    builder = match hooks {
        Some(hooks) => with_hooks(builder, hooks, credentials, subscription_tokens),
        None => builder.authorizer(subscription_tokens).on_connect(credentials.identify()),
    };
    for origin in &config.client.allowed_origins {
        builder = builder.allow_origin(origin);
    }
    for route in config.broker_routes() {
        builder = builder.route(route);
    }
    Ok(builder.build()?)
}

/// Time that the engine gives a hook beyond the hook's own, which says better what went wrong.
const HOOK_MARGIN: Duration = Duration::from_secs(1);

/// The application's say, after what credentials say.
fn with_hooks(builder: Builder, hooks: &HttpHooks, credentials: Credentials, subscription_tokens: SubscriptionTokens) -> Builder {
    let timeout = hooks.timeout_max() + HOOK_MARGIN;
    let mut builder = builder
        .settings(|settings| settings.hook_timeout = settings.hook_timeout.max(timeout))
        .authorizer(subscription_tokens.otherwise(hooks.authorizer(ByNamespace)));
    builder = match hooks.on_connect() {
        Some(ask) => builder.on_connect(credentials.identify_or(ask)),
        None => builder.on_connect(credentials.identify()),
    };
    if let Some(hook) = hooks.on_refresh() {
        builder = builder.on_refresh(hook);
    }
    if let Some(hook) = hooks.on_subscribe() {
        builder = builder.on_subscribe(hook);
    }
    if let Some(hook) = hooks.on_publish() {
        builder = builder.on_publish(hook);
    }
    if let Some(hook) = hooks.on_snapshot() {
        for namespace in hooks.namespaces().with_snapshot() {
            builder = builder.snapshot(namespace, hook.clone());
        }
    }
    if let Some(hook) = hooks.on_rpc() {
        builder = builder.on_rpc(hook);
    }
    if let Some(hook) = hooks.on_message() {
        builder = builder.on_message(hook);
    }
    if let Some(hook) = hooks.on_disconnect() {
        builder = builder.on_disconnect(hook);
    }
    builder
}

/// Who says who clients are, and what their subscriptions' tokens grant.
fn credentials(
    client: &Client,
    made_secret: Option<&Secret>,
    registry: Arc<dyn Registry>,
) -> anyhow::Result<(Credentials, SubscriptionTokens)> {
    let tokens = Arc::new(client.token.tokens("client.token", made_secret)?);
    let subscription_tokens = match &client.subscription_token {
        keys if keys.is_empty() => tokens.with_options(client.token.options("client.token")),
        keys => keys.tokens("client.subscription_token", None)?,
    };
    fetch_ahead(tokens.sources().iter().chain(subscription_tokens.sources()));
    let credentials = Credentials { tokens, tickets: Tickets::new(registry), anonymous: client.anonymous };
    Ok((credentials, SubscriptionTokens::new(Arc::new(subscription_tokens))))
}

/// Fetches keys before the first token needs them: what is wrong with their addresses is logged now.
fn fetch_ahead<'a>(sources: impl Iterator<Item = &'a Arc<Jwks>>) {
    for source in sources {
        let source = source.clone();
        // A failure is logged where it happens.
        tokio::spawn(async move { source.refresh().await.is_ok() });
    }
}

fn limits(config: &Config) -> WsLimits {
    let connections_max = config.client.connections_max.saturating_add(REQUEST_CONNECTIONS);
    let limits = WsLimits::default()
        .message_max(config.client.message_max)
        .connections_max(connections_max)
        .unacknowledged_timeout(config.client.write_timeout);
    config.client.addresses.apply(limits)
}

fn tls(config: &Config) -> anyhow::Result<Option<Tls>> {
    let Some((cert, key)) = config.server.tls.pair() else { return Ok(None) };
    Tls::from_files(cert, key).map(Some).map_err(|error| anyhow::anyhow!("{error}; {}", error.hint()))
}

fn given_or_random(given: Option<&Secret>) -> anyhow::Result<Secret> {
    given.map_or_else(|| Secret::random().context(NO_RANDOM), |secret| Ok(secret.clone()))
}

async fn bind(address: SocketAddr, key: &str, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}; {key} or {flag} names another address, port 0 takes a free port"))
}

/// Ready when the broker is to stop.
async fn until(mut stopped: watch::Receiver<bool>) {
    // An error means that nobody is left who could say so.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// The signals that ask for the end. None is missed from the moment this exists.
struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    fn listen() -> anyhow::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let interrupt = signal(SignalKind::interrupt()).context("cannot listen to SIGINT")?;
        let terminate = signal(SignalKind::terminate()).context("cannot listen to SIGTERM")?;
        Ok(Self { interrupt, terminate })
    }

    /// The name of the next one. Cancel-safe.
    #[cfg(unix)]
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }

    #[cfg(not(unix))]
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {})
    }

    #[cfg(not(unix))]
    async fn next(&mut self) -> &'static str {
        if tokio::signal::ctrl_c().await.is_err() {
            // Where no signal can be heard, the process ends by the system's own rule.
            std::future::pending::<()>().await;
        }
        "Ctrl-C"
    }
}

/// The name of this machine.
fn node_name() -> String {
    #[cfg(unix)]
    return rustix::system::uname().nodename().to_string_lossy().into_owned();
    #[cfg(not(unix))]
    "broker".to_owned()
}

/// Each connection is an open file, and the usual limit is far below what this process can serve.
fn raise_file_limit() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            warn!(%error, "the limit of open files stays as it is");
        }
    }
}
