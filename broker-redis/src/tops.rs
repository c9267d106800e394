//! Once a second: does everything that Redis has of the topics that this node listens to stand here too? So the last message of a burst, lost on
//! the way, is noticed without another one behind it, and so is a Redis that came back older.
//!
//! # Bound
//! [`ROUND_MAX`] topics a second, one after the other: a loss is noticed within two seconds where a node listens to no more topics, and within
//! `topics / ROUND_MAX + 1` seconds where it does.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use broker_core::Position;
use broker_resp::{Command, Value};
use tokio::time::Instant;

use crate::{
    backplane::Inner,
    calls::{self, rows_ttl},
    failure::Failure,
    follow::{Follow, Verdict},
    frame,
    keys::Group,
    servers::Lane,
};

/// Time between two rounds.
const ROUND: Duration = Duration::from_secs(1);
/// Most topics in one round.
pub(crate) const ROUND_MAX: usize = 10_000;
/// What came a moment late is no loss: topics that are behind are looked at again after this.
const SECOND_LOOK: Duration = Duration::from_millis(300);
/// Commands in one write.
const CHUNK: usize = 500;
/// What somebody listens to is kept alive so often.
const PROLONG: Duration = Duration::from_secs(60);

/// Looks at tops until the backplane is gone.
pub(crate) async fn watch(inner: Weak<Inner>) {
    let mut turn = 0;
    let mut prolonged = Instant::now();
    loop {
        {
            let Some(inner) = inner.upgrade() else { return };
            // A link that is back may have lost anything: all are looked at, without a wait.
            let all_at_once = tokio::select! {
                () = tokio::time::sleep(ROUND) => false,
                () = inner.look_now.notified() => true,
            };
            let follows = inner.follows();
            let chosen = if all_at_once || follows.len() <= ROUND_MAX { follows } else { next(&mut turn, &follows) };
            let behind = look(&inner, &chosen).await;
            if !behind.is_empty() {
                tokio::time::sleep(SECOND_LOOK).await;
                look(&inner, &behind).await;
            }
            if prolonged.elapsed() >= PROLONG {
                prolonged = Instant::now();
                prolong(&inner).await;
            }
        }
        tokio::task::yield_now().await;
    }
}

/// The next ones in turn.
fn next(turn: &mut usize, follows: &[Arc<Follow>]) -> Vec<Arc<Follow>> {
    let begin = *turn % follows.len();
    *turn = begin + ROUND_MAX;
    follows.iter().cycle().skip(begin).take(ROUND_MAX).cloned().collect()
}

/// Compares; those that are behind.
async fn look(inner: &Inner, follows: &[Arc<Follow>]) -> Vec<Arc<Follow>> {
    let mut behind = Vec::new();
    let known = follows.iter().filter(|follow| follow.keep().is_some()).cloned();
    for (group, part) in inner.servers.by_primary(known, |follow| inner.calls.keys.topic(&follow.topic)) {
        for chunk in part.chunks(CHUNK) {
            behind.extend(look_at(inner, &group, chunk).await);
        }
    }
    behind
}

/// Compares topics of one primary.
async fn look_at(inner: &Inner, group: &Group, follows: &[Arc<Follow>]) -> Vec<Arc<Follow>> {
    let mut commands = vec![Command::new("INFO").arg("replication")];
    commands.extend(
        follows.iter().map(|follow| Command::new("HMGET").arg(inner.calls.keys.topic(&follow.topic).key("m")).args(["e", "t", "g"])),
    );
    let answers = inner.servers.call_many(Lane::Read, group, &commands, inner.options.read_timeout).await;
    let mut answers = answers.into_iter();
    let generation = answers.next().and_then(Result::ok).and_then(|info| generation(&info, inner.calls.durable));
    let Some(generation) = generation else { return Vec::new() };
    let mut behind = Vec::new();
    for (follow, answer) in follows.iter().zip(answers) {
        match verdict(follow, answer, &generation) {
            Verdict::Behind => behind.push(follow.clone()),
            Verdict::Doubtful => ask_the_fence(inner, follow).await,
            Verdict::Fine | Verdict::Lost => {}
        }
    }
    behind
}

fn verdict(follow: &Follow, answer: Result<Value, Failure>, generation: &str) -> Verdict {
    let Ok(answer) = answer else { return Verdict::Fine };
    let Some([epoch, top, of_generation]) = answer.values() else { return Verdict::Fine };
    let epoch = epoch.bytes().and_then(|bytes| frame::epoch_of(bytes).ok());
    let (Some(epoch), Some(top)) = (epoch, top.integer().and_then(|top| u64::try_from(top).ok())) else { return Verdict::Doubtful };
    follow.compare(Position { offset: top, epoch }, of_generation.text() == Some(generation))
}

/// What the fence would read.
fn generation(info: &Value, durable: bool) -> Option<String> {
    let info = info.text()?;
    if !info.contains("role:master") {
        return None;
    }
    if durable && info.contains("second_repl_offset:-1") {
        return Some("durable".to_owned());
    }
    let id = info.split_once("master_replid:")?.1;
    Some(id.split(|letter: char| !letter.is_ascii_hexdigit()).next()?.to_owned())
}

/// Runs the history script: it moves the epoch where that is due, and tells everybody. Then the engine reads.
async fn ask_the_fence(inner: &Inner, follow: &Follow) {
    let Some(keep) = follow.keep() else { return };
    match inner.reading.history(&follow.topic, broker_core::LogQuery::top(), keep).await {
        Ok(_) => follow.gapped(),
        Err(error) => tracing::debug!(topic = %follow.topic, %error, "a topic of doubtful epoch could not be read"),
    }
}

/// What somebody listens to stays, and so do its positions.
async fn prolong(inner: &Inner) {
    let mut commands = Vec::new();
    for follow in inner.follows() {
        let Some(keep) = follow.keep() else { continue };
        let group = inner.calls.keys.topic(&follow.topic);
        let expire = |suffix: &str, ttl: Duration| Command::new("PEXPIRE").arg(group.key(suffix)).arg(ttl.as_millis() as u64);
        commands.push((group.clone(), expire("m", calls::positions_ttl(keep))));
        if keep.state.is_some() {
            commands.extend(["s", "z", "x"].map(|suffix| (group.clone(), expire(suffix, rows_ttl(keep)))));
        }
    }
    while !commands.is_empty() {
        let chunk = commands.split_off(commands.len().saturating_sub(CHUNK));
        // What could not be prolonged now is in a minute.
        let _ = inner.servers.call_each(Lane::Read, chunk, inner.options.read_timeout).await;
    }
}
