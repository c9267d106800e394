//! What the tests share: an engine with hooks, and its clients.

use std::time::Duration;

use broker_auth::{Hook, HookOptions, HookedNamespaces, HooksOptions, HttpHooks};
use broker_core::{
    ByNamespace, Connect, Engine, Namespace, Payload, Request, Verb, Verbs,
    testing::{Client, LineProtocol},
};

use crate::backend::Backend;

/// An engine whose application is this backend, for these hooks. `asked` is the namespace that asks about both verbs; `open` lets
/// everybody do everything, and asks nobody.
pub(crate) fn engine(backend: &Backend, hooks: &[Hook]) -> (Engine, HttpHooks) {
    engine_with(backend, hooks, |options| options, |hook| hook)
}

pub(crate) fn engine_with(
    backend: &Backend,
    hooks: &[Hook],
    change: impl FnOnce(HooksOptions) -> HooksOptions,
    of_hook: impl Fn(HookOptions) -> HookOptions,
) -> (Engine, HttpHooks) {
    let mut options = HooksOptions::default().header("X-Hook-Key: s3cret".parse().unwrap());
    for hook in hooks {
        let url = format!("http://{}/{hook}", backend.address).parse().unwrap();
        options = options.hook(*hook, of_hook(HookOptions::new(url)));
    }
    let mut namespaces = HookedNamespaces::default();
    namespaces.set("asked", Verbs::NONE.with(Verb::Subscribe).with(Verb::Publish));
    namespaces.set_snapshot("asked");
    let hooks = HttpHooks::new(change(options), namespaces).unwrap();
    let mut open = Namespace::open();
    open.join_leave = false;
    let mut builder = Engine::builder()
        .with_settings(|settings| settings.anonymous = true)
        .namespace(
            "asked",
            Namespace::default().history(10, Duration::from_secs(60)).allow(Verb::Subscribe).allow(Verb::History).allow_anonymous(),
        )
        .namespace("open", open)
        .authorizer(hooks.authorizer(ByNamespace));
    if let Some(hook) = hooks.on_connect() {
        builder = builder.on_connect(hook);
    }
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
    (builder.build().unwrap(), hooks)
}

/// Opens a connection and connects with data; the first line is the answer.
pub(crate) async fn connect(engine: &Engine) -> (Client, String) {
    let mut client = Client::open_with(engine, LineProtocol::default(), broker_core::Start::AwaitConnect);
    client.send(Request::Connect(Connect {
        data: Some(Payload::json(r#"{"lang":"de"}"#)),
        name: Some("test".to_owned()),
        ..Connect::default()
    }));
    let answer = client.next().await;
    (client, answer)
}

/// How often calls of a hook failed for this cause.
pub(crate) fn failures(hooks: &HttpHooks, hook: Hook, cause: &str) -> u64 {
    let counts = hooks.counts().into_iter().find(|counts| counts.hook == hook).unwrap();
    counts.failures.into_iter().find(|(known, _)| *known == cause).unwrap().1
}
