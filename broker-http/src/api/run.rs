//! Doing what a request asks, on the engine. Reading requests and writing answers do not live here.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use broker_core::{Engine, HistoryError, HistoryQuery, PresenceError, Publish, PublishError, PublishFailed, Refusal, RefusalKind, Topic};
use futures_util::stream::{self, StreamExt as _};

use super::{
    answer::Answer,
    call::{BatchCall, BroadcastCall, Call, HistoryCall, PublishCall},
    method::Method,
};

/// Calls of one request that wait for the backplane at a time.
const CONCURRENT_MAX: usize = 64;

/// Bytes of results after which the rest of a batch may only publish: reading is answered with more bytes than it takes to ask.
const BATCH_ANSWER_MAX_BYTES: usize = 16 * 1024 * 1024;

/// Does what is asked. Dropped before its end, it leaves open what was done.
pub(crate) async fn run(engine: &Engine, call: Call, dev: bool) -> Result<Answer, Refusal> {
    match call {
        Call::Batch(call) => Ok(Answer::replies(batch(engine, call, dev).await, dev)),
        call => single(engine, call, dev).await,
    }
}

async fn batch(engine: &Engine, call: BatchCall, dev: bool) -> Vec<Result<(Method, Answer), Refusal>> {
    let spent = AtomicUsize::new(0);
    let one = async |command: Result<(Method, Call), Refusal>| {
        let (method, call) = command?;
        if call.reads() && spent.load(Relaxed) > BATCH_ANSWER_MAX_BYTES {
            let message = format!("the results of this batch have more than {BATCH_ANSWER_MAX_BYTES} bytes already");
            return Err(Refusal::new(RefusalKind::LimitExceeded, message).hint("ask for it in a request of its own"));
        }
        let answer = single(engine, call, dev).await?;
        spent.fetch_add(answer.len(), Relaxed);
        Ok((method, answer))
    };
    let concurrent = if call.parallel { CONCURRENT_MAX } else { 1 };
    stream::iter(call.commands).map(one).buffered(concurrent).collect().await
}

async fn single(engine: &Engine, call: Call, dev: bool) -> Result<Answer, Refusal> {
    match call {
        Call::Publish(PublishCall { topic, publish }) => publish_to(engine, &topic, publish).await,
        Call::Broadcast(call) => Ok(broadcast(engine, call, dev).await),
        Call::Presence(topic) => {
            let sessions = engine.presence(&topic).await.map_err(PresenceError::into_refusal)?;
            Ok(Answer::presence(&sessions))
        }
        Call::PresenceStats(topic) => {
            let stats = engine.presence_stats(&topic).await.map_err(PresenceError::into_refusal)?;
            Ok(Answer::presence_stats(stats))
        }
        Call::History(call) => history(engine, call).await,
        Call::HistoryRemove(topic) => {
            engine.remove_history(&topic).await.map_err(HistoryError::into_refusal)?;
            Ok(Answer::empty())
        }
        Call::Channels(call) => Ok(Answer::channels(engine.topics().await, &call)),
        Call::Info => Ok(Answer::info(&engine.info().await)),
        Call::Batch(_) => Err(Refusal::bad_request("a batch within a batch is not done")),
    }
}

async fn publish_to(engine: &Engine, topic: &Topic, publish: Publish) -> Result<Answer, Refusal> {
    match engine.publish(topic, publish).await {
        Ok(published) => Ok(Answer::published(published.position)),
        Err(error) => Err(publish_refused(error)),
    }
}

fn publish_refused(error: PublishError) -> Refusal {
    let unconfirmed = matches!(error, PublishError::Backplane(PublishFailed::Unconfirmed(_)));
    let refusal = error.into_refusal();
    if unconfirmed { refusal.hint("it may have happened: try again with the same idempotency_key") } else { refusal }
}

async fn broadcast(engine: &Engine, call: BroadcastCall, dev: bool) -> Answer {
    let publish = &call.publish;
    let one = async |topic: Result<Topic, Refusal>| publish_to(engine, &topic?, publish.clone()).await;
    // Begun in the order of the topics, so that one that is named twice gets both in order.
    Answer::broadcast(stream::iter(call.topics).map(one).buffered(CONCURRENT_MAX).collect().await, dev)
}

async fn history(engine: &Engine, call: HistoryCall) -> Result<Answer, Refusal> {
    let query = HistoryQuery { since: call.since, limit: call.limit, reverse: call.reverse };
    let page = engine.history(&call.topic, query).await.map_err(HistoryError::into_refusal)?;
    Ok(Answer::history(&page))
}
