//! The arguments of the scripts, in the order in which `lua/*.lua` names them.

use std::time::Duration;

use broker_core::{Epoch, Keep, LogQuery, StateQuery};

use crate::{
    keys::{Group, Keys},
    publishing::{BATCH_TTL, Waiting},
    script::{Call, HISTORY, PUBLISH, STATE, Script},
};

/// How long a retry with the same key of a caller is stored once.
pub(crate) const IDEMPOTENCY_TTL: Duration = Duration::from_secs(300);
/// How long an empty log remembers its positions beyond its own time.
const POSITION_TTL: Duration = Duration::from_secs(3600);
/// Rows stay longer than what is known of their history: it must not be the other way round.
const ROWS_SLACK: Duration = Duration::from_secs(60);
/// Most entries of a log in one answer: Redis does nothing else meanwhile, and small ones should not cost a way there and back for every few.
const ENTRIES_MAX: usize = 400;
/// Most rows in one answer.
const ROWS_MAX: usize = 100;
/// Most bytes in one answer.
const PAGE_BYTES_MAX: usize = 64 << 10;

/// Makes calls of the scripts.
pub(crate) struct Calls {
    pub(crate) keys: Keys,
    pub(crate) durable: bool,
    /// The command by which messages are sent: see [`crate::servers::Servers::publish_word`].
    pub(crate) publish_word: &'static str,
    pub(crate) versions_max: usize,
}

/// How long the positions of a topic are remembered after the last publication.
pub(crate) fn positions_ttl(keep: Keep) -> Duration {
    match keep.state {
        // With the state goes everything: whoever comes back with rows must hear that they are gone.
        Some(state) => state.ttl.max(keep.ttl),
        None => keep.ttl + POSITION_TTL,
    }
}

/// How long rows stay.
pub(crate) fn rows_ttl(keep: Keep) -> Duration {
    positions_ttl(keep) + ROWS_SLACK
}

impl Calls {
    /// Everything that the fence wants.
    fn fenced(&self, script: &Script, group: &Group, more_keys: &[String], keep: Keep) -> Call {
        let own = ["m", "l", "s", "z", "x", "v"].map(|suffix| group.key(suffix));
        script
            .call(own.iter().chain(more_keys))
            // Fresh in each call: a candidate that was used once must never name another life.
            .arg(Epoch::from_random(getrandom::u64().unwrap_or_else(|_| fastrand::u64(..))).as_str())
            .arg(group.channel())
            .arg(self.publish_word)
            .arg(u8::from(self.durable))
            .arg(millis(positions_ttl(keep)))
            .arg(u8::from(keep.state.is_some()))
    }

    /// Appends and sends a batch. `number` names it, `again` says that it may have been done.
    pub(crate) fn publish(&self, group: &Group, batch: &[Waiting], number: u64, again: bool) -> Call {
        let keep = batch[0].keep;
        let mut keys = vec![group.key(&format!("b{number:x}"))];
        keys.extend(batch.iter().filter_map(|waiting| waiting.publish.idempotency_key.as_ref()).map(|key| group.key(&format!("i{key}"))));
        let state = keep.state;
        let mut call = self
            .fenced(&PUBLISH, group, &keys, keep)
            .arg(keep.size)
            .arg(if keep.bytes == usize::MAX { 0 } else { keep.bytes })
            .arg(millis(keep.ttl))
            .arg(state.map_or(0, |state| state.size))
            .arg(state.map_or(0, |state| state.bytes))
            .arg(millis(rows_ttl(keep)))
            .arg(millis(BATCH_TTL))
            .arg(millis(IDEMPOTENCY_TTL))
            .arg(u8::from(again))
            .arg(self.versions_max)
            .arg(batch.len());
        let mut next_key = 8;
        for waiting in batch {
            add(&mut call, waiting, &mut next_key);
        }
        call
    }

    /// Reads part of a log; also where in it the next part begins.
    pub(crate) fn history(&self, group: &Group, query: LogQuery, keep: Keep) -> Call {
        self.fenced(&HISTORY, group, &[], keep)
            .arg_or_empty(query.after)
            .arg(query.limit.unwrap_or(ENTRIES_MAX).min(ENTRIES_MAX))
            .arg(PAGE_BYTES_MAX)
            .arg(u8::from(query.reverse))
    }

    /// Reads part of the rows.
    pub(crate) fn state(&self, group: &Group, query: StateQuery, keep: Keep) -> Call {
        self.fenced(&STATE, group, &[], keep)
            .arg(query.after.unwrap_or(0))
            .arg(query.limit.unwrap_or(ROWS_MAX).min(ROWS_MAX))
            .arg(query.bytes.unwrap_or(PAGE_BYTES_MAX).min(PAGE_BYTES_MAX))
    }
}

/// One publication of a batch.
fn add(call: &mut Call, waiting: &Waiting, next_key: &mut usize) {
    let publish = &waiting.publish;
    let mut flags = String::new();
    for (flag, is_set) in [
        ('i', publish.idempotency_key.is_some()),
        ('v', publish.version.is_some()),
        ('k', publish.key.is_some()),
        ('r', publish.removed),
        ('t', publish.ttl.is_some()),
        ('u', publish.skip_history),
    ] {
        if is_set {
            flags.push(flag);
        }
    }
    call.push(&flags);
    call.push(waiting.weight);
    call.push(&waiting.entry);
    if publish.idempotency_key.is_some() {
        call.push(*next_key);
        *next_key += 1;
    }
    if let Some(version) = &publish.version {
        // As texts of the same length they compare as numbers, which Lua has no room for.
        call.push(format!("{:020}", version.number));
        call.push(version.epoch.as_deref().map_or_else(String::new, |epoch| format!("={epoch}")));
    }
    if let Some(key) = &publish.key {
        call.push(&**key);
    }
    if let Some(ttl) = publish.ttl {
        call.push(millis(ttl).max(1));
    }
}

/// Redis refuses times that do not fit; nothing here lasts longer than a year.
pub(crate) fn millis(time: Duration) -> u64 {
    (time.as_millis() as u64).min(365 * 24 * 3600 * 1000)
}
