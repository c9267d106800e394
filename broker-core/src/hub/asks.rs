//! Answers the questions of sessions: calls authorizer, hooks, backplane and presence outside every lock.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{Hub, keep_of};
use crate::{
    CallRequest, Connect, ConnectRequest, Grant, Head, Identity, MessageRequest, Namespace, Payload, Position, Publish, PublishError,
    PublishRequest, Published, Refusal, RefusalKind, SessionInfo, Since, Subscribe, SubscribeRequest, Topic, Verb,
    backplane::{LogPage, LogQuery, Unavailable},
    panics,
    session::{Answer, Question},
};

/// Answers one question of a session. Cancel-safe as far as hooks and backplane are.
pub(super) async fn answer(hub: Arc<Hub>, subject: Arc<SessionInfo>, head: Option<Head>, question: Question) -> Answer {
    match question {
        Question::Identify(connect) => Answer::Identity(identify(&hub, head.unwrap_or_default(), connect).await),
        Question::Subscribe { subscribe, namespace, authorize } => {
            Answer::Grant(grant(&hub, subject, subscribe, &namespace, authorize).await)
        }
        Question::Publish { topic, publish, namespace, authorize } => {
            let published = publish_for(&hub, subject, &topic, publish, &namespace, authorize).await;
            Answer::Published(topic, published)
        }
        Question::History { topic, namespace, since, limit, reverse, authorize } => {
            let asked = authorized(&hub, &subject, Verb::History, &topic, &namespace, authorize).await;
            let page = match asked {
                Ok(()) => history(&hub, &topic, &namespace, since, limit, reverse).await,
                Err(refusal) => Err(refusal),
            };
            Answer::History(topic, page)
        }
        Question::Presence { topic, namespace, authorize } => {
            let asked = authorized(&hub, &subject, Verb::Presence, &topic, &namespace, authorize).await;
            let sessions = match asked {
                Ok(()) => hub.presence.list(&topic).await.map_err(unanswered),
                Err(refusal) => Err(refusal),
            };
            Answer::Presence(topic, sessions)
        }
        Question::PresenceStats { topic, namespace, authorize } => {
            let asked = authorized(&hub, &subject, Verb::Presence, &topic, &namespace, authorize).await;
            let stats = match asked {
                Ok(()) => hub.presence.count(&topic).await.map_err(unanswered),
                Err(refusal) => Err(refusal),
            };
            Answer::PresenceStats(topic, stats)
        }
        Question::Call { method, data } => Answer::Call(call(&hub, subject, method, data).await),
        Question::Message { data } => Answer::Actions(message(&hub, subject, data).await),
    }
}

/// Presence or the backplane did not answer.
fn unanswered(error: Unavailable) -> Refusal {
    Refusal::unavailable(error.to_string())
}

async fn identify(hub: &Hub, head: Head, connect: Connect) -> Result<(Identity, Option<Duration>), Refusal> {
    let identity = match &hub.hooks.connect {
        Some(hook) => {
            let request = ConnectRequest::new(head, connect);
            guarded(hub, "connect", async { hook(request).await }).await??
        }
        None if hub.rules.settings.anonymous => Identity::anonymous(),
        None => {
            let refusal = Refusal::unauthorized("credentials are needed to connect");
            return Err(refusal.hint("connect with a token").rule("set client.anonymous = true, or a connect hook"));
        }
    };
    let ttl = match identity.expires_at {
        None => None,
        Some(at) => match at.duration_since(SystemTime::now()) {
            Ok(ttl) => Some(ttl),
            Err(_) => return Err(Refusal::new(RefusalKind::TokenExpired, "the credentials are past their end").hint("get new ones")),
        },
    };
    Ok((identity, ttl))
}

async fn grant(
    hub: &Hub,
    subject: Arc<SessionInfo>,
    subscribe: Subscribe,
    namespace: &Namespace,
    authorize: bool,
) -> Result<Grant, Refusal> {
    authorized(hub, &subject, Verb::Subscribe, &subscribe.topic, namespace, authorize).await?;
    let Some(hook) = &hub.hooks.subscribe else { return Ok(Grant::plain()) };
    guarded(hub, "subscribe", async { hook(SubscribeRequest::new(subject, subscribe)).await }).await?
}

async fn publish_for(
    hub: &Arc<Hub>,
    subject: Arc<SessionInfo>,
    topic: &Topic,
    publish: Publish,
    namespace: &Namespace,
    authorize: bool,
) -> Result<Published, Refusal> {
    authorized(hub, &subject, Verb::Publish, topic, namespace, authorize).await?;
    let publish = match &hub.hooks.publish {
        None => publish,
        Some(hook) => {
            let request = PublishRequest::new(subject, topic.clone(), publish);
            let changed = guarded(hub, "publish", async { hook(request).await }).await??;
            hub.rules.check_payload(&changed.data)?;
            changed
        }
    };
    let published = hub.publish(topic, namespace, publish).await;
    hub.run_errands();
    published.map_err(PublishError::into_refusal)
}

/// Reads a history for a client or the server API: the epoch of `since` must be the present one.
pub(crate) async fn history(
    hub: &Hub,
    topic: &Topic,
    namespace: &Namespace,
    since: Option<Since>,
    limit: usize,
    reverse: bool,
) -> Result<LogPage, Refusal> {
    let after = match since {
        None => None,
        Some(Since::Beginning) => (!reverse).then_some(0),
        Some(Since::Position(position)) => Some(position.offset),
    };
    let query = LogQuery { after, limit: Some(limit), reverse };
    let page = hub.backplane.history(topic, query, keep_of(namespace)).await;
    let page = page.map_err(|error| unanswered(error).retry_after(Duration::from_secs(1)))?;
    match since {
        Some(Since::Position(Position { epoch, .. })) if epoch != page.top.epoch => {
            let text = format!("the history of {topic} began anew, the position belongs to an older one");
            Err(Refusal::new(RefusalKind::UnrecoverablePosition, text).hint("ask without a position"))
        }
        _ => Ok(page),
    }
}

async fn call(hub: &Hub, subject: Arc<SessionInfo>, method: String, data: Payload) -> Result<Payload, Refusal> {
    let Some(hook) = &hub.hooks.call else { return Err(Refusal::new(RefusalKind::NotAvailable, "nobody answers calls here")) };
    guarded(hub, "rpc", async { hook(CallRequest::new(subject, method, data)).await }).await?
}

async fn message(hub: &Hub, subject: Arc<SessionInfo>, data: Payload) -> Result<Vec<crate::Action>, Refusal> {
    let Some(hook) = &hub.hooks.message else { return Ok(Vec::new()) };
    guarded(hub, "message", async { hook(MessageRequest::new(subject, data)).await }).await?
}

async fn authorized(
    hub: &Hub,
    subject: &SessionInfo,
    verb: Verb,
    topic: &Topic,
    namespace: &Namespace,
    authorize: bool,
) -> Result<(), Refusal> {
    if !authorize {
        return Ok(());
    }
    guarded(hub, "authorizer", hub.rules.authorizer.ask(subject, verb, topic, namespace)).await?
}

/// A hook that panics or hangs is a temporary refusal for one command.
async fn guarded<T>(hub: &Hub, what: &'static str, future: impl Future<Output = T>) -> Result<T, Refusal> {
    panics::guard(&hub.stats, future, hub.rules.settings.hook_timeout).await.map_err(|no_answer| {
        Refusal::unavailable(format!("the application did not answer ({what}), try again")).rule(no_answer.to_string())
    })
}
