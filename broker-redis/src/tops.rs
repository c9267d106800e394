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
    follow::{Follow, Verdict},
    frame,
    keys::Group,
    refill::Refill,
    servers::Lane,
};

/// Time from the beginning of a round to that of the next one: what a round takes, and its second look, do not come on top.
const ROUND: Duration = Duration::from_secs(1);
/// Time between two rounds at least, where a round takes long.
const PAUSE: Duration = Duration::from_millis(250);
/// Most topics in one round.
pub(crate) const ROUND_MAX: usize = 10_000;
/// What came a moment late is no loss: topics that are behind are looked at again after this.
const SECOND_LOOK: Duration = Duration::from_millis(300);
/// A look that failed, where messages may have been missed, is tried again after this.
const RETRY: Duration = Duration::from_millis(200);
/// Commands in one write.
const CHUNK: usize = 500;

/// Looks at tops until the backplane is gone.
pub(crate) async fn watch(inner: Weak<Inner>, refill: Arc<Refill>) {
    let mut turn = 0;
    let mut round_at = Instant::now() + ROUND;
    let mut again_at = round_at;
    loop {
        // Topics whose messages may have been missed are looked at without a wait.
        tokio::select! {
            () = tokio::time::sleep_until(again_at) => {}
            () = refill.to_be_looked_at() => {}
        }
        let Some(inner) = inner.upgrade() else { return };
        let began_at = Instant::now();
        let is_round = began_at >= round_at;
        let follows = chosen(&inner.follows(), is_round, &mut turn);
        let behind = look(&inner, &follows).await;
        if !behind.is_empty() {
            tokio::time::sleep(SECOND_LOOK).await;
            look(&inner, &behind).await;
        }
        if is_round {
            prolong(&inner).await;
            round_at = (began_at + ROUND).max(Instant::now() + PAUSE);
        }
        let is_in_doubt = follows.iter().any(|follow| follow.keep().is_some() && follow.is_unsure());
        again_at = if is_in_doubt { round_at.min(Instant::now() + RETRY) } else { round_at };
    }
}

/// Those of which it is not certain that everything came; in a round also the others, or as many of them as a round has.
fn chosen(follows: &[Arc<Follow>], is_round: bool, turn: &mut usize) -> Vec<Arc<Follow>> {
    let in_turn = if is_round { follows.len().min(ROUND_MAX) } else { 0 };
    let begin = *turn % follows.len().max(1);
    *turn = begin + in_turn;
    let is_in_turn = |place: usize| (place + follows.len() - begin) % follows.len() < in_turn;
    let chosen = follows.iter().enumerate().filter(|(place, follow)| is_in_turn(*place) || follow.is_unsure());
    chosen.map(|(_, follow)| follow.clone()).collect()
}

/// Compares; those that are behind.
async fn look(inner: &Inner, follows: &[Arc<Follow>]) -> Vec<Arc<Follow>> {
    let mut behind = Vec::new();
    let known = follows.iter().filter(|follow| follow.keep().is_some()).cloned();
    for (group, part) in inner.servers.by_primary(known, |follow| inner.calls.keys.topic(&follow.topic)) {
        for chunk in part.chunks(CHUNK) {
            match look_at(inner, &group, chunk).await {
                Some(more) => behind.extend(more),
                // The others of this primary would wait as long.
                None => break,
            }
        }
    }
    behind
}

/// Compares topics of one primary; `None`: it does not answer.
async fn look_at(inner: &Inner, group: &Group, follows: &[Arc<Follow>]) -> Option<Vec<Arc<Follow>>> {
    let mut commands = vec![Command::new("INFO").arg("replication")];
    commands.extend(
        follows.iter().map(|follow| Command::new("HMGET").arg(inner.calls.keys.topic(&follow.topic).key("m")).args(["e", "t", "g"])),
    );
    let unsure: Vec<bool> = follows.iter().map(|follow| follow.look()).collect();
    let answers = inner.servers.call_many(Lane::Read, group, &commands, inner.options.read_timeout).await;
    let mut answers = answers.into_iter();
    let generation = answers.next().and_then(Result::ok).and_then(|info| generation(&info, inner.calls.durable));
    let mut behind = Vec::new();
    for ((follow, was_unsure), answer) in follows.iter().zip(unsure).zip(answers) {
        match generation.as_ref().and_then(|generation| verdict(follow, answer.ok()?, generation, was_unsure)) {
            Some(Verdict::Behind) => behind.push(follow.clone()),
            Some(Verdict::Lost | Verdict::Doubtful) => inner.refill.read(follow),
            None if was_unsure => follow.stays_unsure(),
            Some(Verdict::Fine) | None => {}
        }
    }
    generation.map(|_| behind)
}

/// `None`: what was answered says nothing.
fn verdict(follow: &Follow, answer: Value, generation: &str, was_unsure: bool) -> Option<Verdict> {
    let [epoch, top, of_generation] = answer.values()? else { return None };
    let epoch = epoch.bytes().and_then(|bytes| frame::epoch_of(bytes).ok());
    let top = top.integer().and_then(|top| u64::try_from(top).ok());
    let (Some(epoch), Some(offset)) = (epoch, top) else { return Some(Verdict::Doubtful) };
    Some(follow.compare(Position { offset, epoch }, of_generation.text() == Some(generation), was_unsure))
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

/// What somebody listens to stays, and so do its positions.
async fn prolong(inner: &Inner) {
    let now = Instant::now();
    let mut commands = Vec::new();
    for follow in inner.follows() {
        let Some(keep) = follow.takes_prolonging(now) else { continue };
        let group = inner.calls.keys.topic(&follow.topic);
        let expire = |suffix: &str, ttl: Duration| Command::new("PEXPIRE").arg(group.key(suffix)).arg(calls::millis(ttl));
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
