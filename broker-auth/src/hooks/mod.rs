//! The application's say over HTTP: each hook is a POST of JSON to an address of the application, compatible with Centrifugo's proxies.
//!
//! A hook that fails allows nothing: its client gets a temporary refusal, and the next call a fresh chance. What an application that does
//! not answer may cost is bounded: calls at a time, calls that wait, time, bytes; and after too many failures in a row none goes out for a while.

mod answer;
mod ask;
mod authorizer;
mod circuit;
mod client;
mod connect;
mod counts;
mod disconnect;
mod endpoint;
mod failure;
mod message;
mod options;
mod publish;
mod refresh;
mod rpc;
mod snapshot;
mod subscribe;

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use broker_core::{
    Action, Authorizer, CallRequest, ConnectRequest, Disconnected, Grant, Identity, MessageRequest, Payload, Publish, PublishRequest,
    RefreshRequest, Refusal, RefusalKind, Renewal, SnapshotFailed, SubscribeRequest, Topic, Verb,
};
use http::HeaderMap;

use self::{
    answer::{Ending, Malformed, Object, Verdict, read},
    disconnect::Ends,
    endpoint::Endpoint,
};
pub use self::{
    authorizer::{HookAuthorizer, HookedNamespaces},
    counts::HookCounts,
    options::{Hook, HookHeader, HookOptions, HookUrl, HooksOptions, InvalidHeader, InvalidHookUrl, PassedHeader},
};
use crate::http_client::{HttpClient, NoRootCertificates};

type Answering<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The hooks of an application. Cloning copies a pointer.
///
/// Each `on_..` gives the closure that the builder of an engine or broker takes under the same name; `None` where that hook has no address.
///
/// ```
/// use broker_auth::{Hook, HookOptions, HookedNamespaces, HooksOptions, HttpHooks};
/// use broker_core::{ByNamespace, Engine, Namespace, Verb, Verbs};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let hook = |path: &str| format!("http://127.0.0.1:3000/broker/{path}").parse().map(HookOptions::new);
/// let options = HooksOptions::default().hook(Hook::Connect, hook("connect")?).hook(Hook::Subscribe, hook("subscribe")?);
/// let mut namespaces = HookedNamespaces::default();
/// namespaces.set("orders", Verbs::NONE.with(Verb::Subscribe));
/// let hooks = HttpHooks::new(options, namespaces)?;
///
/// let mut builder = Engine::builder().namespace("orders", Namespace::default()).authorizer(hooks.authorizer(ByNamespace));
/// if let Some(connect) = hooks.on_connect() {
///     builder = builder.on_connect(connect);
/// }
/// if let Some(subscribe) = hooks.on_subscribe() {
///     builder = builder.on_subscribe(subscribe);
/// }
/// let engine = builder.build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct HttpHooks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    endpoints: BTreeMap<Hook, Arc<Endpoint>>,
    namespaces: HookedNamespaces,
    pass_headers: Vec<PassedHeader>,
    ends: Option<Ends>,
    /// Whether the closures were taken without which the authorizer must not let anything through.
    subscribe_is_taken: AtomicBool,
    publish_is_taken: AtomicBool,
}

impl Inner {
    fn endpoint(&self, hook: Hook) -> Option<&Arc<Endpoint>> {
        self.endpoints.get(&hook)
    }

    /// Whether a hook that the authorizer relies on will be asked.
    fn is_asked(&self, hook: Hook) -> bool {
        match hook {
            Hook::Subscribe => self.subscribe_is_taken.load(Relaxed),
            Hook::Publish => self.publish_is_taken.load(Relaxed),
            _ => false,
        }
    }
}

impl HttpHooks {
    /// Prepares the calls; none is made. `namespaces` says where `subscribe`, `publish` and `snapshot` are asked.
    ///
    /// # Errors
    /// A hook has an `https` address, and this machine trusts no certificate.
    pub fn new(options: HooksOptions, namespaces: HookedNamespaces) -> Result<Self, NoRootCertificates> {
        let idle_max = options.hooks.values().map(|hook| hook.concurrency).sum::<usize>().max(1);
        let with_tls = options.hooks.values().any(|hook| hook.url.is_https());
        let client = HttpClient::new(idle_max, with_tls)?;
        let mut headers = HeaderMap::new();
        for header in options.headers {
            headers.append(header.name, header.value);
        }
        let endpoint = |(hook, of_hook): (Hook, HookOptions)| {
            let endpoint = Endpoint::new(hook, of_hook, client.clone(), headers.clone(), options.answer_max_bytes, options.failures_max);
            (hook, Arc::new(endpoint))
        };
        let endpoints: BTreeMap<_, _> = options.hooks.into_iter().map(endpoint).collect();
        let ends = endpoints.get(&Hook::Disconnect).cloned().map(Ends::new);
        Ok(Self(Arc::new(Inner {
            endpoints,
            namespaces,
            pass_headers: options.pass_headers,
            ends,
            subscribe_is_taken: AtomicBool::new(false),
            publish_is_taken: AtomicBool::new(false),
        })))
    }

    /// The hooks as an authorizer; `otherwise` decides what they are not asked.
    pub fn authorizer<A: Authorizer>(&self, otherwise: A) -> HookAuthorizer<A> {
        HookAuthorizer { hooks: self.0.clone(), otherwise }
    }

    /// Says who a client is.
    pub fn on_connect(&self) -> Option<impl Fn(ConnectRequest) -> Answering<Result<Identity, Refusal>> + Send + Sync + 'static> {
        let hooks = self.0.clone();
        let endpoint = hooks.endpoint(Hook::Connect)?.clone();
        Some(move |request| -> Answering<_> {
            let (hooks, endpoint) = (hooks.clone(), endpoint.clone());
            let renews = hooks.endpoint(Hook::Refresh).is_some();
            Box::pin(async move { connect::ask(&endpoint, &hooks.pass_headers, request, renews).await })
        })
    }

    /// Renews the credentials of sessions whose identity [`HttpHooks::on_connect`] made.
    pub fn on_refresh(&self) -> Option<impl Fn(RefreshRequest) -> Answering<Result<Renewal, Refusal>> + Send + Sync + 'static> {
        let endpoint = self.0.endpoint(Hook::Refresh)?.clone();
        Some(move |request| -> Answering<_> {
            let endpoint = endpoint.clone();
            Box::pin(async move { refresh::ask(&endpoint, request).await })
        })
    }

    /// Decides about subscribes in the namespaces that ask for it; elsewhere nothing is added.
    pub fn on_subscribe(&self) -> Option<impl Fn(SubscribeRequest) -> Answering<Result<Grant, Refusal>> + Send + Sync + 'static> {
        let hooks = self.0.clone();
        let endpoint = hooks.endpoint(Hook::Subscribe)?.clone();
        hooks.subscribe_is_taken.store(true, Relaxed);
        Some(move |request: SubscribeRequest| -> Answering<_> {
            let topic = &request.subscribe.topic;
            if !hooks.namespaces.asks(Verb::Subscribe, topic) || topic.is_of_the_server() {
                return Box::pin(std::future::ready(Ok(Grant::plain())));
            }
            let endpoint = endpoint.clone();
            Box::pin(async move {
                let subscribe = &request.subscribe;
                subscribe::ask(&endpoint, &request.subject, &subscribe.topic, subscribe.token.as_deref(), subscribe.data.as_ref()).await
            })
        })
    }

    /// Decides about publishes in the namespaces that ask for it, and may change them; elsewhere they go through as they are.
    pub fn on_publish(&self) -> Option<impl Fn(PublishRequest) -> Answering<Result<Publish, Refusal>> + Send + Sync + 'static> {
        let hooks = self.0.clone();
        let endpoint = hooks.endpoint(Hook::Publish)?.clone();
        hooks.publish_is_taken.store(true, Relaxed);
        Some(move |request: PublishRequest| -> Answering<_> {
            if !hooks.namespaces.asks(Verb::Publish, &request.topic) || request.topic.is_of_the_server() {
                return Box::pin(std::future::ready(Ok(request.publish)));
            }
            let endpoint = endpoint.clone();
            Box::pin(async move { publish::ask(&endpoint, request).await })
        })
    }

    /// Gives the current states of topics, for the `snapshot` of a builder: under each name of [`HookedNamespaces::with_snapshot`].
    pub fn on_snapshot(
        &self,
    ) -> Option<impl Fn(Topic) -> Answering<Result<Option<Payload>, SnapshotFailed>> + Clone + Send + Sync + 'static> {
        let endpoint = self.0.endpoint(Hook::Snapshot)?.clone();
        Some(move |topic| -> Answering<_> {
            let endpoint = endpoint.clone();
            Box::pin(async move { snapshot::ask(&endpoint, &topic).await })
        })
    }

    /// Where the application is asked what.
    pub fn namespaces(&self) -> &HookedNamespaces {
        &self.0.namespaces
    }

    /// Answers calls of clients.
    pub fn on_rpc(&self) -> Option<impl Fn(CallRequest) -> Answering<Result<Payload, Refusal>> + Send + Sync + 'static> {
        let endpoint = self.0.endpoint(Hook::Rpc)?.clone();
        Some(move |request| -> Answering<_> {
            let endpoint = endpoint.clone();
            Box::pin(async move { rpc::ask(&endpoint, request).await })
        })
    }

    /// Takes messages of the application's own.
    pub fn on_message(&self) -> Option<impl Fn(MessageRequest) -> Answering<Result<Vec<Action>, Refusal>> + Send + Sync + 'static> {
        let endpoint = self.0.endpoint(Hook::Message)?.clone();
        Some(move |request| -> Answering<_> {
            let endpoint = endpoint.clone();
            Box::pin(async move { message::ask(&endpoint, request).await })
        })
    }

    /// Tells the application later that a session has ended; see [`HttpHooks::finish`].
    pub fn on_disconnect(&self) -> Option<impl Fn(Disconnected) -> std::future::Ready<()> + Send + Sync + 'static> {
        let hooks = self.0.clone();
        hooks.ends.as_ref()?;
        Some(move |end: Disconnected| {
            if let Some(ends) = &hooks.ends {
                ends.tell(&end);
            }
            std::future::ready(())
        })
    }

    /// The longest time that a call may take; the engine's hook timeout should be longer.
    pub fn timeout_max(&self) -> std::time::Duration {
        self.0.endpoints.values().map(|endpoint| endpoint.options().timeout).max().unwrap_or_default()
    }

    /// What the calls of each hook are counted as.
    pub fn counts(&self) -> Vec<HookCounts> {
        self.0.endpoints.values().map(|endpoint| endpoint.counts().read(endpoint.hook())).collect()
    }

    /// Waits until the application was told of every session that has ended, or could not be told. Cancel-safe.
    pub async fn finish(&self) {
        if let Some(ends) = &self.0.ends {
            ends.told().await;
        }
    }
}

/// Asks on behalf of one session; `says` is what a result means. An error, an ending and no answer are refusals.
async fn decided<T>(
    endpoint: &Endpoint,
    body: Vec<u8>,
    passed: HeaderMap,
    says: impl FnOnce(&Object<'_>) -> Result<Result<T, Refusal>, Malformed>,
) -> Result<T, Refusal> {
    let answered = endpoint.call(body, passed, |answer| match read(answer)? {
        Verdict::Result(result) => says(&result),
        Verdict::Error(refusal) => Ok(Err(refusal)),
        Verdict::Disconnect(ending) => Ok(Err(ended(ending))),
    });
    answered.await.map_err(|failed| failed.refusal(endpoint.hook()))?
}

/// The application ends the connection.
fn ended(ending: Ending) -> Refusal {
    Refusal::new(RefusalKind::Close(ending.code), ending.reason).rule("the application's answer to a hook")
}
