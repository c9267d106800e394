//! Answers the questions of sessions: calls authorizer, hooks, backplane and presence outside every lock.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{Hub, keep_of};
use crate::{
    CallRequest, Connect, ConnectRequest, Grant, Head, Identity, Member, MessageRequest, Namespace, Payload, Position, Publish,
    PublishError, PublishRequest, Published, RefreshRequest, Refusal, RefusalKind, Revocation, Revoked, Since, Subject, Subscribe,
    SubscribeRequest, Topic, Verb,
    backplane::{LogPage, LogQuery, Unavailable},
    panics,
    session::{Answer, Granted, Identified, Kept, Question},
};

/// Answers one question of a session. Cancel-safe as far as hooks and backplane are.
pub(super) async fn answer(hub: Arc<Hub>, subject: Arc<Subject>, context: Context, question: Question) -> Answer {
    match question {
        Question::Identify(connect) => Answer::Identity(identify(&hub, &subject, context.head.unwrap_or_default(), connect).await),
        Question::Adopt(identity) => Answer::Identity(identified(&hub, &subject, *identity).await),
        Question::Reauthorize { subject, topics } => {
            let mut grants = Vec::with_capacity(topics.len());
            for Kept { topic, namespace, authorize } in topics {
                let subscribe = Subscribe::new(topic);
                grants.push(grant(&hub, subject.clone(), subscribe, &namespace, authorize).await.ok());
            }
            Answer::Reauthorized(grants)
        }
        Question::Renew => Answer::Renewed(renew(&hub, subject).await),
        Question::Redeem { topic, token } => Answer::Grant(redeem(&hub, &subject, &topic, &token).await),
        Question::Subscribe { subscribe, namespace, authorize } => {
            Answer::Grant(grant(&hub, subject, subscribe, &namespace, authorize).await)
        }
        Question::Publish { topic, publish, namespace, authorize } => {
            let published = publish_for(&hub, subject, &topic, publish, &namespace, authorize).await;
            Answer::Published(topic, published)
        }
        Question::PublishForApplication { topic, publish, namespace } => {
            let published = publish_as_it_is(&hub, &topic, publish, &namespace).await;
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
                Ok(()) => hub.in_time(hub.presence.list(&topic)).await.map_err(unanswered),
                Err(refusal) => Err(refusal),
            };
            Answer::Presence(topic, sessions)
        }
        Question::PresenceStats { topic, namespace, authorize } => {
            let asked = authorized(&hub, &subject, Verb::Presence, &topic, &namespace, authorize).await;
            let stats = match asked {
                Ok(()) => hub.in_time(hub.presence.count(&topic)).await.map_err(unanswered),
                Err(refusal) => Err(refusal),
            };
            Answer::PresenceStats(topic, stats)
        }
        Question::Call { method, data } => Answer::Call(call(&hub, subject, method, data).await),
        Question::Message { data } => Answer::Actions(message(&hub, subject, data, context.path).await),
    }
}

/// What a connection adds to a question of its session.
#[derive(Default)]
pub(super) struct Context {
    /// The head of the request, until the session is connected.
    pub(super) head: Option<Head>,
    /// The path of the request.
    pub(super) path: Arc<str>,
}

/// Presence or the backplane did not answer.
fn unanswered(error: Unavailable) -> Refusal {
    Refusal::unavailable(error.to_string())
}

async fn identify(hub: &Hub, subject: &Subject, mut head: Head, mut connect: Connect) -> Result<Box<Identified>, Refusal> {
    let is_given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    let of_request = head.token.take().filter(|_| !is_given(&connect.token) && !is_given(&connect.ticket));
    let by_request = of_request.is_some();
    if by_request {
        connect.token = of_request;
    }
    // The application may have looked before a revocation that comes while it answers.
    let asked_at = SystemTime::now();
    let mut identity = match &hub.hooks.connect {
        Some(hook) => {
            let request = ConnectRequest::new(subject, head, connect);
            guarded(hub, "connect", async { hook(request).await }).await??
        }
        None if hub.rules.settings.anonymous => Identity::anonymous(),
        None => {
            let refusal = Refusal::unauthorized("credentials are needed to connect");
            return Err(refusal.hint("connect with a token").rule("set client.anonymous = true, or a connect hook"));
        }
    };
    identity.issued_at.get_or_insert(asked_at);
    let mut identified = identified(hub, subject, identity).await?;
    identified.by_request = by_request;
    Ok(identified)
}

/// What an identity comes to: with the groups that the server gave its user, unless it is over or revoked.
async fn identified(hub: &Hub, asker: &Subject, mut identity: Identity) -> Result<Box<Identified>, Refusal> {
    let as_of = hub.recent.as_of();
    if !identity.user.is_anonymous() {
        let member = Member { user: identity.user.clone(), tenant: identity.tenant.clone() };
        for group in hub.in_time(hub.registry.groups_of(&member)).await.map_err(unanswered)? {
            if !identity.groups.contains(&group) {
                identity.groups.push(group);
            }
        }
    }
    let subject = Subject::new(asker.session, &identity).over(asker.transport, asker.protocol);
    if let Some(revocation) = hub.in_time(hub.registry.revocation_of(&subject)).await.map_err(unanswered)? {
        return Err(revoked(&revocation));
    }
    let ttl = time_left(identity.expires_at, "the credentials are past their end")?;
    Ok(Box::new(Identified { identity, subject, ttl, by_request: false, as_of }))
}

fn revoked(revocation: &Revocation) -> Refusal {
    let whose = match &revocation.whose {
        Revoked::User(_) => "of this user",
        Revoked::Token(_) => "with this id",
        Revoked::Group(_) => "of a group's members",
    };
    Refusal::unauthorized("the credentials were revoked")
        .hint("sign in again, for credentials that are issued later")
        .rule(format!("a revocation of credentials {whose}, by the server API or the host"))
}

/// Time until a moment; a refusal where it is past.
fn time_left(expires_at: Option<SystemTime>, past: &'static str) -> Result<Option<Duration>, Refusal> {
    let Some(at) = expires_at else { return Ok(None) };
    match at.duration_since(SystemTime::now()) {
        Ok(ttl) => Ok(Some(ttl)),
        Err(_) => Err(Refusal::new(RefusalKind::TokenExpired, past).hint("get new ones")),
    }
}

async fn renew(hub: &Hub, subject: Arc<Subject>) -> Result<Option<Duration>, Refusal> {
    let Some(hook) = &hub.hooks.refresh else { return Err(Refusal::new(RefusalKind::NotAvailable, "nobody renews credentials here")) };
    let renewal = guarded(hub, "refresh", async { hook(RefreshRequest::new(subject)).await }).await??;
    time_left(renewal.expires_at, "the renewed credentials are past their end")
}

/// What a token for one topic grants. Where no tokens are understood, none helps.
async fn redeem(hub: &Hub, subject: &Subject, topic: &Topic, token: &str) -> Result<Granted, Refusal> {
    if let Some(grant) = guarded(hub, "subscription token", hub.rules.authorizer.redeem(subject, topic, token)).await? {
        return granted(grant?, true);
    }
    let refusal = Refusal::new(RefusalKind::NotAvailable, "tokens for topics are not looked at here");
    Err(refusal.rule("set client.subscription_token, or an authorizer that redeems them"))
}

fn granted(grant: Grant, by_token: bool) -> Result<Granted, Refusal> {
    let ttl = time_left(grant.expires_at, "the credentials of the subscription are past their end")?;
    Ok(Granted { grant, by_token, ttl })
}

async fn grant(hub: &Hub, subject: Arc<Subject>, subscribe: Subscribe, namespace: &Namespace, authorize: bool) -> Result<Granted, Refusal> {
    if let Some(token) = &subscribe.token {
        if let Some(grant) = guarded(hub, "subscription token", hub.rules.authorizer.redeem(&subject, &subscribe.topic, token)).await? {
            return granted(grant?, true);
        }
        // Tokens mean nothing here: the subject alone decides.
        let ask = hub.rules.decide(&subject, Verb::Subscribe, &subscribe.topic, namespace)?;
        authorized(hub, &subject, Verb::Subscribe, &subscribe.topic, namespace, ask).await?;
    } else {
        authorized(hub, &subject, Verb::Subscribe, &subscribe.topic, namespace, authorize).await?;
    }
    let Some(hook) = &hub.hooks.subscribe else { return granted(Grant::plain(), false) };
    granted(guarded(hub, "subscribe", async { hook(SubscribeRequest::new(subject, subscribe)).await }).await??, false)
}

async fn publish_for(
    hub: &Arc<Hub>,
    subject: Arc<Subject>,
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
    publish_as_it_is(hub, topic, publish, namespace).await
}

async fn publish_as_it_is(hub: &Arc<Hub>, topic: &Topic, publish: Publish, namespace: &Namespace) -> Result<Published, Refusal> {
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
        Some(Since::Unreadable) => return Err(Refusal::bad_request("the position cannot be read").hint("ask without a position")),
    };
    let bytes = Some(hub.rules.settings.history_max_bytes);
    let query = LogQuery { after, limit: Some(limit), bytes, reverse, ..LogQuery::default() };
    let page = hub.in_time(hub.backplane.history(topic, query, keep_of(namespace))).await;
    let page = page.map_err(|error| unanswered(error).retry_after(Duration::from_secs(1)))?;
    match since {
        Some(Since::Position(Position { epoch, .. })) if epoch != page.top.epoch => {
            let text = format!("the history of {} began anew, the position belongs to an older one", topic.local());
            Err(Refusal::new(RefusalKind::UnrecoverablePosition, text).hint("ask without a position"))
        }
        _ => Ok(page),
    }
}

pub(crate) async fn call(hub: &Hub, subject: Arc<Subject>, method: String, data: Payload) -> Result<Payload, Refusal> {
    let Some(hook) = &hub.hooks.call else { return Err(Refusal::new(RefusalKind::NotAvailable, "nobody answers calls here")) };
    guarded(hub, "rpc", async { hook(CallRequest::new(subject, method, data)).await }).await?
}

async fn message(hub: &Hub, subject: Arc<Subject>, data: Payload, path: Arc<str>) -> Result<Vec<crate::Action>, Refusal> {
    let Some(hook) = &hub.hooks.message else { return Ok(Vec::new()) };
    guarded(hub, "message", async { hook(MessageRequest::new(subject, data, path)).await }).await?
}

async fn authorized(
    hub: &Hub,
    subject: &Subject,
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
