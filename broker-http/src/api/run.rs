//! Doing what a request asks, on the engine. Reading requests and writing answers do not live here.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use broker_core::{
    ControlError, Engine, HistoryError, HistoryQuery, PresenceError, Publish, PublishError, PublishFailed, Refusal, RefusalKind,
    StateRequest, Topic,
};
use futures_util::stream::{self, StreamExt as _};

use super::{
    answer::Answer,
    call::{BatchCall, BroadcastCall, Call, ConnectionsCall, DisconnectCall, HistoryCall, PublishCall, RefreshCall, Refreshed, SendCall},
    method::Method,
    ticket::TicketMaker,
};

/// Calls of one request that wait for the backplane at a time.
const CONCURRENT_MAX: usize = 64;

/// Bytes of results after which the rest of a batch may only publish: reading is answered with more bytes than it takes to ask.
const BATCH_ANSWER_MAX_BYTES: usize = 16 * 1024 * 1024;

/// How long all nodes look at the ways between them: enough for a bus that is slow, and for whoever was asked late.
const PROBE_TIME: Duration = Duration::from_millis(1_500);

/// What a call is done with.
#[derive(Clone, Copy)]
pub(crate) struct Means<'a> {
    pub(crate) engine: &'a Engine,
    /// Who makes tickets.
    pub(crate) tickets: Option<&'a TicketMaker>,
    /// Whether an answer says which setting would allow what was refused.
    pub(crate) dev: bool,
}

/// Does what is asked. Dropped before its end, it leaves open what was done.
pub(crate) async fn run(means: Means<'_>, call: Call) -> Result<Answer, Refusal> {
    match call {
        Call::Batch(call) => Ok(Answer::replies(batch(means, call).await, means.dev)),
        call => single(means, call).await,
    }
}

async fn batch(means: Means<'_>, call: BatchCall) -> Vec<Result<(Method, Answer), Refusal>> {
    let spent = AtomicUsize::new(0);
    let one = async |command: Result<(Method, Call), Refusal>| {
        let (method, call) = command?;
        if call.reads() && spent.load(Relaxed) > BATCH_ANSWER_MAX_BYTES {
            let message = format!("the results of this batch have more than {BATCH_ANSWER_MAX_BYTES} bytes already");
            return Err(Refusal::new(RefusalKind::LimitExceeded, message).hint("ask for it in a request of its own"));
        }
        let answer = single(means, call).await?;
        spent.fetch_add(answer.len(), Relaxed);
        Ok((method, answer))
    };
    let concurrent = if call.parallel { CONCURRENT_MAX } else { 1 };
    stream::iter(call.commands).map(one).buffered(concurrent).collect().await
}

async fn single(means: Means<'_>, call: Call) -> Result<Answer, Refusal> {
    let engine = means.engine;
    match call {
        Call::Publish(PublishCall { topic, publish, report }) => publish_to(engine, &topic, publish, report).await,
        Call::Broadcast(call) => Ok(broadcast(engine, call, means.dev).await),
        Call::Send(call) => send(engine, call).await,
        Call::Subscribe(call) => acted(engine.sessions(call.target).subscribe(call.subscription, call.since).await),
        Call::Unsubscribe(call) => acted(engine.sessions(call.target).unsubscribe(&call.topic).await),
        Call::Disconnect(call) => disconnect(engine, call).await,
        Call::Refresh(call) => refresh(engine, call).await,
        Call::Revoke(revocation) => acted(engine.revoke(revocation).await),
        Call::GroupJoin(call) => acted(engine.join_group(&call.group, &call.who).await),
        Call::GroupLeave(call) => acted(engine.leave_group(&call.group, &call.who).await),
        Call::GroupMembers(group) => Ok(Answer::group_members(&engine.group_members(&group).await.map_err(ControlError::into_refusal)?)),
        Call::Groups(call) => Ok(Answer::groups(engine.groups().await.map_err(ControlError::into_refusal)?, &call)),
        Call::Connections(call) => connections(engine, call).await,
        Call::Presence(topic) => {
            let sessions = engine.presence(&topic).await.map_err(PresenceError::into_refusal)?;
            Ok(Answer::presence(&sessions))
        }
        Call::PresenceStats(topic) => {
            let stats = engine.presence_stats(&topic).await.map_err(PresenceError::into_refusal)?;
            Ok(Answer::presence_stats(stats))
        }
        Call::History(call) => history(engine, call).await,
        Call::State(call) => {
            let request = StateRequest { cursor: call.cursor, limit: call.limit };
            Ok(Answer::state(&engine.state(&call.topic, request).await.map_err(HistoryError::into_refusal)?))
        }
        Call::HistoryRemove(topic) => {
            engine.remove_history(&topic).await.map_err(HistoryError::into_refusal)?;
            Ok(Answer::empty())
        }
        Call::Channels(call) => Ok(Answer::channels(engine.topics().await, &call)),
        Call::Info => Ok(Answer::info(&engine.info().await)),
        Call::Probe => Ok(Answer::probes(&engine.probe_nodes(PROBE_TIME).await)),
        Call::Ticket(call) => match means.tickets {
            Some(tickets) => Ok(Answer::ticket(&tickets.make(call.claims).await?, tickets.time())),
            None => Err(Refusal::new(RefusalKind::NotAvailable, "tickets are off")
                .rule("no ticket maker is configured: connections take tokens only")),
        },
        Call::Rpc(call) => Ok(Answer::called(&engine.call(&call.method, call.params).await?)),
        Call::Batch(_) => Err(Refusal::bad_request("a batch within a batch is not done")),
    }
}

/// What was done with sessions. Whoever repeats it does nothing twice.
fn acted(done: Result<usize, ControlError>) -> Result<Answer, Refusal> {
    done.map(Answer::sessions).map_err(|error| unless_silent(error, "the others did it: repeat it, that does no harm"))
}

/// The refusal, with a hint where it was done in part.
fn unless_silent(error: ControlError, hint: &'static str) -> Refusal {
    let is_part = matches!(error, ControlError::Silent { .. });
    let refusal = error.into_refusal();
    if is_part { refusal.hint(hint) } else { refusal }
}

async fn send(engine: &Engine, call: SendCall) -> Result<Answer, Refusal> {
    let sent = engine.sessions(call.target).send(call.publish).await;
    let sent = sent.map_err(|error| unless_silent(error, "the others have sent it: repeated, it comes to their sessions a second time"))?;
    Ok(Answer::sent(&sent))
}

async fn disconnect(engine: &Engine, call: DisconnectCall) -> Result<Answer, Refusal> {
    let sessions = engine.sessions(call.target);
    acted(sessions.disconnect_except(call.code, call.reason, call.reconnect_after, call.whitelist).await)
}

async fn refresh(engine: &Engine, call: RefreshCall) -> Result<Answer, Refusal> {
    let sessions = engine.sessions(call.target);
    acted(match call.refreshed {
        Refreshed::Expired => sessions.expire().await,
        Refreshed::Until(end) => sessions.refresh(Some(end)).await,
        Refreshed::Forever => sessions.refresh(None).await,
    })
}

async fn connections(engine: &Engine, call: ConnectionsCall) -> Result<Answer, Refusal> {
    // One more than is answered says whether there are others.
    let reports = engine.sessions(call.target).list(call.limit + 1).await.map_err(ControlError::into_refusal)?;
    Ok(Answer::connections(reports, call.limit))
}

async fn publish_to(engine: &Engine, topic: &Topic, publish: Publish, report: bool) -> Result<Answer, Refusal> {
    let published = if report {
        engine.publish_reported(topic, publish).await.map(|(published, report)| Answer::reported(published, &report))
    } else {
        engine.publish(topic, publish).await.map(Answer::published)
    };
    published.map_err(publish_refused)
}

fn publish_refused(error: PublishError) -> Refusal {
    let unconfirmed = matches!(error, PublishError::Backplane(PublishFailed::Unconfirmed(_)));
    let refusal = error.into_refusal();
    if unconfirmed { refusal.hint("it may have happened: try again with the same idempotency_key") } else { refusal }
}

async fn broadcast(engine: &Engine, call: BroadcastCall, dev: bool) -> Answer {
    let publish = &call.publish;
    let one = async |topic: Result<Topic, Refusal>| publish_to(engine, &topic?, publish.clone(), call.report).await;
    // Begun in the order of the topics, so that one that is named twice gets both in order.
    Answer::broadcast(stream::iter(call.topics).map(one).buffered(CONCURRENT_MAX).collect().await, dev)
}

async fn history(engine: &Engine, call: HistoryCall) -> Result<Answer, Refusal> {
    let query = HistoryQuery { since: call.since, limit: call.limit, reverse: call.reverse };
    let page = engine.history(&call.topic, query).await.map_err(HistoryError::into_refusal)?;
    Ok(Answer::history(&page))
}
