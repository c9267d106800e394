//! Where ends, slow answers and other people's code meet: nothing is lost in silence, nothing stays behind, nobody else notices.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use broker_core::{
    Action, Authorizer, Backplane, Capabilities, Decision, Engine, GapReason, Grant, Identity, Keep, LogPage, LogQuery, MemoryBackplane,
    MemoryPresence, Namespace, Payload, Position, Presence, PresenceStats, Publish, PublishFailed, Published, Recovery, Refusal, Request,
    SessionId, SessionInfo, Since, Sink, SlowConsumer, SnapshotFailed, StreamItem, Subscribe, Topic, Unavailable, Verb,
    testing::{Client, LineProtocol},
};
use tokio::sync::Notify;

use crate::delivering::{json, open_engine, quiet, topic};

/// What comes within a second of the test's clock, or nothing.
async fn soon<T>(future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(Duration::from_secs(1), future).await.ok()
}

#[tokio::test(start_paused = true)]
async fn a_command_between_ping_and_pong_does_not_make_the_pong_a_mistake() {
    let engine = open_engine().build().unwrap();
    let mut client = Client::connect(&engine).await;
    assert_eq!(client.next().await, "ping");
    client.send_all([Request::Ping { bare: false }, Request::Pong]);
    assert_eq!(client.next().await, "pong");
    assert_eq!(client.next().await, "ping");
    client.send_all([Request::Pong, Request::Pong]);
    assert_eq!(client.next().await, "closed bad_request", "one ping has one pong");
}
