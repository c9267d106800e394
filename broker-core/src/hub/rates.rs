//! Counts what sessions and users do, and refuses what is over a rate. The rates themselves are settings.
//!
//! A count is one moment (GCRA): when everything that was taken will have come back. Nothing is counted down, nothing needs a timer.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Hub,
    conn::{Conn, Occupant},
    inbox::SlotRef,
    shard::Shard,
};
use crate::{CloseReason, Command, CommandId, Rate, RateSet, Rates, Refusal, RefusalKind, Request, Subject, Tenant, UserId, sync::Mutex};

/// Different seconds of a minute in which something of a session was refused; the next closes it.
const BAD_SECONDS_MAX: u8 = 30;
/// Refusals of a session in a minute; the next closes it.
const REFUSED_MAX: u16 = 10_000;
/// Users that are remembered before those are forgotten that have everything back.
const USERS_MIN: usize = 1024;

#[derive(Clone, Copy, Eq, PartialEq)]
enum Kind {
    Commands,
    Publishes,
    Subscribes,
    Bytes,
    Errors,
}

const KINDS: usize = 5;

impl Kind {
    fn rate(self, set: &RateSet) -> Option<Rate> {
        match self {
            Self::Commands => set.commands,
            Self::Publishes => set.publishes,
            Self::Subscribes => set.subscribes,
            Self::Bytes => set.bytes,
            Self::Errors => set.errors,
        }
    }

    fn name(self) -> &'static str {
        ["commands", "publishes", "subscribes", "bytes", "errors"][self as usize]
    }
}

/// Something is over a rate.
struct Over {
    kind: Kind,
    of_user: bool,
    retry_after: Duration,
}

impl Over {
    fn refusal(&self) -> Refusal {
        let (kind, whose) = (self.kind.name(), if self.of_user { "user" } else { "session" });
        let setting = if self.of_user { format!("user_{kind}") } else { kind.to_owned() };
        Refusal::new(RefusalKind::TooManyRequests, format!("this {whose} is over its rate of {kind}; the command was not executed"))
            .hint(format!("send it again in {} ms, and fewer at a time", self.retry_after.as_millis()))
            .rule(format!("raise client.rate.{setting} or client.rate.{setting}_burst"))
            .retry_after(self.retry_after)
    }
}

/// What a session has taken. A session that has everything back has none of this.
#[derive(Default)]
pub(super) struct Spent {
    /// By kind: when everything will have come back, in nanoseconds of the hub.
    back_at: [u64; KINDS],
    /// Shared by the user's sessions on this node.
    user: Option<Arc<UserSpent>>,
    /// The minute in which refusals are counted, in seconds of the hub.
    minute_from: u32,
    refused: u16,
    /// Different seconds with refusals, and the last of them.
    bad_seconds: u8,
    last_bad: u8,
}

/// What a user's sessions have taken.
#[derive(Default)]
struct UserSpent([AtomicU64; KINDS]);

impl Spent {
    /// Takes so many of the session and its user, if `needed` are there.
    fn take(&mut self, kind: Kind, needed: u64, units: u64, rates: &Rates, now: u64) -> Option<Over> {
        let of_session = match kind.rate(&rates.session).map(|rate| take(self.back_at[kind as usize], rate, needed, units, now)) {
            Some(Err(retry_after)) => return Some(Over { kind, of_user: false, retry_after }),
            Some(Ok(back_at)) => Some(back_at),
            None => None,
        };
        if let (Some(user), Some(rate)) = (&self.user, kind.rate(&rates.user)) {
            let mut late = Duration::ZERO;
            let taken = user.0[kind as usize].fetch_update(Relaxed, Relaxed, |back_at| {
                take(back_at, rate, needed, units, now).map_err(|retry_after| late = retry_after).ok()
            });
            if taken.is_err() {
                return Some(Over { kind, of_user: true, retry_after: late });
            }
        }
        if let Some(back_at) = of_session {
            self.back_at[kind as usize] = back_at;
        }
        None
    }

    /// Counts refusals; whether those are too many for a minute.
    fn refuse(&mut self, refused: usize, now: u64) -> bool {
        let second = u32::try_from(now / 1_000_000_000).unwrap_or(u32::MAX);
        if self.refused == 0 || second - self.minute_from >= 60 {
            (self.minute_from, self.refused, self.bad_seconds) = (second, 0, 0);
        }
        let of_minute = (second - self.minute_from) as u8;
        if self.bad_seconds == 0 || self.last_bad != of_minute {
            self.bad_seconds += 1;
            self.last_bad = of_minute;
        }
        self.refused = self.refused.saturating_add(u16::try_from(refused).unwrap_or(u16::MAX));
        self.bad_seconds > BAD_SECONDS_MAX || self.refused > REFUSED_MAX
    }

    fn is_back(&self, now: u64) -> bool {
        self.back_at.iter().all(|at| *at <= now) && (self.refused == 0 || u64::from(self.minute_from + 60) * 1_000_000_000 <= now)
    }

    /// The session is another user's.
    pub(super) fn change_user(&mut self) {
        self.user = None;
    }
}

/// When everything will have come back after `units` more; or how long to wait until `needed` are there.
fn take(back_at: u64, rate: Rate, needed: u64, units: u64, now: u64) -> Result<u64, Duration> {
    let spent = back_at.saturating_sub(now);
    match spent.saturating_add(rate.nanos(needed)).checked_sub(rate.burst_nanos()) {
        // To the millisecond, and never too early.
        Some(late) if late > 0 => Err(Duration::from_millis(late.div_ceil(1_000_000))),
        _ => Ok(now + spent + rate.nanos(units)),
    }
}

/// What users have taken on this node, as long as it is not back.
#[derive(Default)]
pub(super) struct Users(Mutex<HashMap<User, Arc<UserSpent>>>);

type User = (UserId, Option<Tenant>);

impl Users {
    fn of(&self, subject: &Subject, connections_max: usize, now: u64) -> Option<Arc<UserSpent>> {
        let key = (subject.user.clone(), subject.tenant().cloned());
        let mut users = self.0.lock();
        if let Some(user) = users.get(&key) {
            return Some(user.clone());
        }
        if users.len() >= USERS_MIN && users.len() == users.capacity() {
            users.retain(|_, user| Arc::strong_count(user) > 1 || user.0.iter().any(|at| at.load(Relaxed) > now));
        }
        if users.len() >= connections_max.saturating_mul(2) {
            // So many users that have gone and have not everything back: the rates of sessions still hold.
            return None;
        }
        Some(users.entry(key).or_default().clone())
    }
}

impl Hub {
    /// Nanoseconds since this hub began; never 0.
    fn nanos(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.node.started_at).as_nanos()).unwrap_or(u64::MAX / 2) + 1
    }

    /// Counts a command that was refused.
    pub(super) fn count_error(&self, conn: &mut Conn, now: Instant) {
        let rates = &self.rules.settings.rates;
        if let Some(spent) = &mut conn.spent {
            // What is over already is not counted further: it must come back.
            spent.take(Kind::Errors, 0, 1, rates, self.nanos(now));
        }
    }

    /// Forgets what a session has taken, if it is back.
    pub(super) fn forget_if_back(&self, conn: &mut Conn, now: Instant) {
        if conn.spent.as_ref().is_some_and(|spent| spent.is_back(self.nanos(now))) {
            conn.spent = None;
        }
    }
}

impl Shard {
    /// Puts a refusal in the place of each command that is over a rate, and closes who goes on and on.
    pub(super) fn throttle(&mut self, at: SlotRef, commands: &mut Vec<Command>, bytes: usize, now: Instant) {
        let rates = &self.hub.rules.settings.rates;
        let slot = self.slots.get_mut(at.slot as usize).filter(|slot| slot.generation == at.generation);
        let Some(Occupant::Connection(conn)) = slot.and_then(|slot| slot.occupant.as_mut()) else { return };
        if *rates == Rates::OFF || conn.session.is_opening() || conn.session.is_closed() {
            return;
        }
        let nanos = self.hub.nanos(now);
        let spent = conn.spent.get_or_insert_default();
        if spent.user.is_none() && conn.life.user.as_ref().is_some_and(|user| !user.is_anonymous()) {
            spent.user = self.hub.users_spent.of(conn.session.subject(), self.hub.rules.settings.connections_max, nanos);
        }
        let has_answer = |id: &CommandId| *id != CommandId::None || conn.codec.protocol.answers_without_id();
        let mut over_bytes = spent.take(Kind::Bytes, 0, bytes as u64, rates, nanos);
        let (mut refused, mut unanswered) = (0, Vec::new());
        commands.retain_mut(|command| {
            let Some(kind) = kind_of(&command.request) else { return true };
            if kind == Kind::Errors {
                // Renewals that hold are never counted; whoever guesses tokens is over the rate of errors soon.
                let Some(over) = spent.take(Kind::Errors, 1, 0, rates, nanos).filter(|_| has_answer(&command.id)) else { return true };
                refused += 1;
                command.request = Request::Mistake(over.refusal());
                return true;
            }
            let over = over_bytes.take().or_else(|| spent.take(Kind::Errors, 1, 0, rates, nanos));
            let over = over.or_else(|| spent.take(Kind::Commands, 1, 1, rates, nanos));
            let over = over.or_else(|| if kind == Kind::Commands { None } else { spent.take(kind, 1, 1, rates, nanos) });
            let Some(over) = over else { return true };
            refused += 1;
            let refusal = over.refusal();
            if matches!(over.kind, Kind::Bytes) {
                // All of this read.
                over_bytes = Some(over);
            }
            if has_answer(&command.id) {
                command.request = Request::Mistake(refusal);
                return true;
            }
            unanswered.push(refusal);
            false
        });
        if refused == 0 {
            return;
        }
        let goes_on = spent.refuse(refused, nanos);
        if let Some(refusal) = unanswered.first() {
            // Closing would be the only answer to those.
            conn.credit.give_back(unanswered.len() as u32);
            self.hub.stats.commands_refused.add(unanswered.len() as u64);
            self.log.refused(conn, refusal, now);
        }
        if goes_on {
            self.converse(at, now, |session, _, effects| session.close(CloseReason::TooManyRequests, effects));
        }
    }
}

/// What a request counts as; `None`: it is not counted; `Errors`: only where it is refused. What opens and keeps a session open never is, and what the codec has refused is
/// counted by the session.
fn kind_of(request: &Request) -> Option<Kind> {
    match request {
        Request::Connect(_) | Request::Pong | Request::Mistake(_) | Request::Unreadable(_) => None,
        Request::Refresh { .. } | Request::RefreshSubscription { .. } => Some(Kind::Errors),
        Request::Publish { .. } => Some(Kind::Publishes),
        Request::Subscribe(_) => Some(Kind::Subscribes),
        _ => Some(Kind::Commands),
    }
}
