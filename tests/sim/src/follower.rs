//! The checker: one client's subscription to one topic, compared with the truth at every step. Knows no protocol.
//!
//! What it holds the server to (G1 to G3): one order, no doubles, contiguous offsets between signals, the right payload at every position, every
//! loss told, nothing before the answer to subscribe and nothing after the end; and when all is quiet, everybody at the head.

use broker_core::{Position, Since, Topic};
use tokio::time::Instant;

use crate::{
    table::Table,
    truth::{Entry, Truth, Who},
    wants::Wants,
};

/// What is promised of a topic; without anything: everything after the answer to a subscribe, or a signal.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Promise {
    /// There are no positions.
    pub(crate) bare: bool,
    /// After a resume the newest is enough.
    pub(crate) cache: bool,
    /// In order, and the newest of each key in the end: what a slow client goes without is no loss.
    pub(crate) latest: bool,
    /// Whoever begins without a position gets the rows first.
    pub(crate) keyed: bool,
    /// The application says the state that whoever begins without a position gets first.
    pub(crate) snapshot: bool,
    /// What is kept goes after a while: a resume may fail from close behind the top.
    pub(crate) fades: bool,
}

impl Promise {
    /// Everything, or a signal.
    pub(crate) const STREAM: Self = Self { bare: false, cache: false, latest: false, keyed: false, snapshot: false, fades: false };
    pub(crate) const CACHE: Self = Self { cache: true, ..Self::STREAM };
    pub(crate) const LATEST: Self = Self { latest: true, ..Self::STREAM };
    pub(crate) const BARE: Self = Self { bare: true, ..Self::STREAM };
    pub(crate) const KEYED: Self = Self { keyed: true, ..Self::STREAM };
    pub(crate) const SNAPSHOT: Self = Self { snapshot: true, ..Self::STREAM };
    pub(crate) const FADES: Self = Self { fades: true, ..Self::STREAM };
}

/// What a client believes of one topic.
#[derive(Clone, Debug)]
pub(crate) struct Follower {
    topic: Topic,
    promise: Promise,
    live: bool,
    /// The last position; `None`: whatever comes next is right, as nothing is known.
    at: Option<Position>,
    /// After a resume of a cache the newest publication may stand anywhere behind the position.
    may_jump: bool,
    /// A failed resume was told, and the gap that says what is missing comes next.
    gap_follows: bool,
    /// Publications without a position: the number of the last one.
    bare_last: Option<usize>,
    /// Those from this number on must come.
    bare_from: usize,
    /// What the subscription asked for.
    wants: Wants,
    /// Rows of a keyed topic.
    table: Table,
    /// The application's state comes next.
    snapshot_follows: bool,
    /// What the application's state reflects already may follow it once more.
    may_repeat: bool,
    /// Up to this offset nobody can say which removal was meant.
    unsure_until: u64,
    /// How often it was subscribed.
    subscription: u64,
    pace: Option<Paced>,
}

/// How much a pace lets through: counted where nothing but the pace decides it.
#[derive(Clone, Copy, Debug)]
struct Paced {
    since: Instant,
    interval_ms: u64,
    heard: u64,
    /// What may have come besides: once for each signal.
    besides: u64,
}

/// The answer to a subscribe.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    /// The position that the answer names.
    pub(crate) position: Option<Position>,
    /// From where it was asked to resume.
    pub(crate) since: Option<Since>,
    /// Whether it says that nothing is missing; `None`: it was not asked.
    pub(crate) recovered: Option<bool>,
    /// Whether the protocol tells the gap of a failed resume in a frame of its own.
    pub(crate) gap_follows: bool,
    /// A resume from so little behind the top must succeed.
    pub(crate) reach: u64,
    /// What was asked for.
    pub(crate) wants: Wants,
    /// When it was asked.
    pub(crate) asked_at: Instant,
}

type Checked = Result<(), String>;

impl Follower {
    /// Nothing is known yet.
    pub(crate) fn new(topic: Topic, promise: Promise) -> Self {
        Self {
            topic,
            promise,
            live: false,
            at: None,
            may_jump: false,
            gap_follows: false,
            bare_last: None,
            bare_from: 0,
            wants: Wants::default(),
            table: Table::default(),
            snapshot_follows: false,
            may_repeat: false,
            unsure_until: 0,
            subscription: 0,
            pace: None,
        }
    }

    /// Whether the subscription is live as far as the client knows.
    pub(crate) fn is_live(&self) -> bool {
        self.live
    }

    /// Where a resume begins.
    pub(crate) fn position(&self) -> Option<Position> {
        self.at
    }

    /// What the subscription asked for.
    pub(crate) fn wants(&self) -> Wants {
        self.wants
    }

    /// The number of the subscription, while it is live.
    pub(crate) fn subscription(&self) -> Option<u64> {
        self.live.then_some(self.subscription)
    }

    /// Whether the client must begin anew, without a position: a gap may have made rows wrong.
    pub(crate) fn is_stale(&self) -> bool {
        self.promise.keyed && self.table.is_stale
    }

    /// The connection or the subscription is gone.
    pub(crate) fn ended(&mut self) {
        self.live = false;
        self.gap_follows = false;
        if std::mem::take(&mut self.snapshot_follows) {
            // A position behind the state that never came would not bring it again.
            self.at = None;
        }
    }

    /// The client was told to forget what it knows.
    pub(crate) fn forget(&mut self) {
        self.at = None;
    }

    /// The answer to a subscribe.
    pub(crate) fn subscribed(&mut self, truth: &Truth, answer: &Answer) -> Checked {
        self.live = true;
        self.subscription += 1;
        self.bare_last = None;
        self.bare_from = truth.bare_len(&self.topic);
        self.wants = answer.wants;
        self.unsure_until = 0;
        self.may_repeat = false;
        self.snapshot_follows = self.promise.snapshot && answer.recovered != Some(true);
        // Whoever catches up gets what it missed besides.
        let is_plain = self.promise == Promise::BARE || self.promise == Promise::STREAM && self.topic.namespace() != Some("catch");
        let counts = answer.since.is_none() && is_plain;
        let paced = |interval_ms| Paced { since: answer.asked_at, interval_ms, heard: 0, besides: 0 };
        self.pace = answer.wants.pace_ms.filter(|_| counts).map(paced);
        if self.promise.bare {
            return Ok(());
        }
        let Some(top) = answer.position else { return Err("a topic with history is joined without a position".to_owned()) };
        self.gap_follows = answer.recovered == Some(false) && answer.gap_follows;
        self.may_jump = self.promise.cache && answer.recovered == Some(true);
        self.at = Some(match (answer.recovered, answer.since) {
            (Some(true), Some(Since::Position(since))) if since.epoch == top.epoch => since,
            (Some(true), Some(Since::Position(since))) if !self.promise.cache => {
                return Err(format!("recovered from {since} although the epoch is {}", top.epoch));
            }
            (Some(true), _) => Position { offset: 0, epoch: top.epoch },
            (Some(false), Some(Since::Position(since)))
                if since.epoch == top.epoch && self.must_recover(truth, since, top, answer.reach) =>
            {
                return Err(format!("what is kept can be recovered, but {since} was refused at {top}"));
            }
            _ => top,
        });
        match (answer.recovered, answer.since) {
            (Some(true), Some(Since::Position(_))) => self.table.go_on(),
            (Some(true), _) => self.table.begin(0),
            _ => self.table.begin(truth.top(&self.topic, top.epoch)),
        }
        Ok(())
    }

    /// Whether so little is behind a position that it must be there. What expires by its own ttl takes rows with it that nobody was told of.
    fn must_recover(&self, truth: &Truth, since: Position, told: Position, reach: u64) -> bool {
        // An answer that rows, or pages behind a state, follow does not name the top.
        let top = if self.promise.keyed || self.promise.snapshot { truth.top(&self.topic, since.epoch) } else { told.offset };
        let is_kept = |offset| truth.at(&self.topic, Position { offset, ..since }).is_some_and(|entry| !entry.is_expired());
        since.offset <= top && top - since.offset <= reach && (!self.promise.keyed || (since.offset + 1..=top).all(is_kept))
    }

    /// The state of a topic as the application says it: `snap` is the last position that it reflects, or the number of publications without one.
    pub(crate) fn snapshot(&mut self, data: &str) -> Checked {
        if !std::mem::take(&mut self.snapshot_follows) {
            return Err(format!("the state {data} came although nobody asked for it"));
        }
        let value: serde_json::Value = serde_json::from_str(data).map_err(|error| error.to_string())?;
        self.may_repeat = true;
        if self.promise.bare {
            let reflected = value["snap"].as_u64().ok_or_else(|| format!("{data} is no state"))?;
            self.bare_from = self.bare_from.min(reflected as usize);
            return Ok(());
        }
        let reflected: Option<Position> = value["snap"].as_str().and_then(|text| text.parse().ok());
        let reflected = reflected.ok_or_else(|| format!("{data} is no state"))?;
        match self.at {
            // What follows the state begins behind it, or before.
            Some(at) if at.epoch == reflected.epoch => self.at = Some(reflected),
            // The application has seen another life of the history, of which the node is yet to hear.
            _ => self.may_jump = true,
        }
        Ok(())
    }

    /// One publication. `position`: as the client knows it.
    pub(crate) fn publication(&mut self, truth: &Truth, who: &Who, position: Option<Position>, payload: &str) -> Checked {
        if !self.live {
            return Err(format!("{payload} came outside a subscription"));
        }
        if self.gap_follows {
            return Err(format!("{payload} came before the gap of the failed resume"));
        }
        if self.snapshot_follows {
            return Err(format!("{payload} came before the state of the application"));
        }
        if position.is_none() && self.is_stale() {
            // Of which life it is, a client that hears no positions cannot say.
            return Ok(());
        }
        let Some(position) = position else { return self.bare(truth, who, payload) };
        let Some(entry) = truth.at(&self.topic, position) else {
            return Err(format!("nothing was published at {position}, but {payload} came"));
        };
        self.is_meant(&entry, who, payload)?;
        if entry.heard() != payload {
            return Err(format!("{position} is {}, but {payload} came", entry.payload));
        }
        self.count_paced(payload)?;
        if self.is_stale() {
            return Ok(());
        }
        let may_repeat = std::mem::take(&mut self.may_repeat);
        let mut checked = Ok(());
        if let Some(at) = self.at {
            if position.epoch != at.epoch && !(self.may_jump && self.promise.snapshot) {
                return Err(format!("{position} came after {at} without a signal"));
            }
            if position.offset <= at.offset && !may_repeat {
                return Err(format!("{position} came after {at}: a double, or out of order"));
            }
            if !std::mem::take(&mut self.may_jump) {
                checked = self.may_skip_until(truth, who, at, position.offset);
            }
            if self.promise.keyed {
                self.table.pass_over(truth, &self.topic, who, at, position.offset);
            }
        }
        // What follows is compared with this one, also where something before it is missing.
        self.at = Some(position);
        self.table.apply(position.offset, &entry);
        checked
    }

    /// The key of a topic has gone; which of several removals it was, nobody says.
    pub(crate) fn removed(&mut self, truth: &Truth, who: &Who, key: &str) -> Checked {
        let Some(at) = self.at.filter(|_| !self.is_stale()) else { return Ok(()) };
        let all = truth.removals_after(&self.topic, at, key);
        let meant = |offset: &u64| {
            let entry = truth.at(&self.topic, Position { offset: *offset, ..at });
            entry.is_some_and(|entry| !entry.must_skip(who) && self.wants.passes(entry.class.as_deref()))
        };
        let mut all = all.into_iter().filter(meant);
        let Some(first) = all.next() else { return Err(format!("{key} is said to have gone, and it was not removed after {at}")) };
        let last = all.next_back();
        let checked = self.publication(truth, who, Some(Position { offset: first, ..at }), "null");
        self.unsure_until = self.unsure_until.max(last.unwrap_or(0));
        checked
    }

    /// What a filter leaves out, and what is for others, never arrives.
    fn is_meant(&self, entry: &Entry, who: &Who, payload: &str) -> Checked {
        if entry.must_skip(who) {
            return Err(format!("{payload} is not for this client"));
        }
        if !self.wants.passes(entry.class.as_deref()) {
            return Err(format!("{payload} has the tag {:?}, and the client wants {:?}", entry.class, self.wants.filter));
        }
        Ok(())
    }

    /// A pace lets one through in each interval.
    fn count_paced(&mut self, payload: &str) -> Checked {
        let Some(paced) = &mut self.pace else { return Ok(()) };
        paced.heard += 1;
        // What waits goes ahead of a gap, which is heard only after it.
        let may = paced.since.elapsed().as_millis() as u64 / paced.interval_ms + 2 + paced.besides;
        if paced.heard > may {
            return Err(format!("{payload} came ahead of its pace: the {}th of {may} in {:?}", paced.heard, paced.since.elapsed()));
        }
        Ok(())
    }

    /// A gap was told.
    pub(crate) fn gap(&mut self, truth: &Truth, who: &Who, from: Option<Position>, to: Option<Position>) -> Checked {
        if !self.live {
            return Err("a gap came outside a subscription".to_owned());
        }
        self.bare_last = None;
        self.bare_from = truth.bare_len(&self.topic);
        let may_jump = std::mem::take(&mut self.may_jump);
        self.may_repeat = false;
        if let Some(paced) = &mut self.pace {
            paced.besides += 2;
        }
        if std::mem::take(&mut self.gap_follows) {
            self.at = to.or(self.at);
            return Ok(());
        }
        let mut checked = Ok(());
        if let (Some(from), Some(at)) = (from, self.at.filter(|_| !self.is_stale())) {
            if from.epoch != at.epoch || from.offset <= at.offset {
                return Err(format!("a gap from {from} came after {at}"));
            }
            if !may_jump {
                checked = self.may_skip_until(truth, who, at, from.offset);
            }
        }
        // Without an end nothing that has a position is missing.
        self.at = to.or(self.at);
        self.table.is_stale = true;
        checked
    }

    /// When all is quiet: nothing more is on its way.
    pub(crate) fn at_head(&self, truth: &Truth, who: &Who, top: Option<Position>) -> Checked {
        if self.gap_follows {
            return Err("the gap of a failed resume never came".to_owned());
        }
        if self.snapshot_follows {
            return Err("the state of the application never came".to_owned());
        }
        if self.is_stale() {
            return Err("a gap was told, and the client did not begin anew".to_owned());
        }
        if self.promise.bare {
            let next = self.bare_last.map_or(self.bare_from, |last| last + 1);
            let len = truth.bare_len(&self.topic);
            return self.may_skip_bare(truth, who, next, len).map_err(|error| format!("{error} never came"));
        }
        match (self.at, top) {
            (Some(at), Some(top)) if at.epoch != top.epoch => Err(format!("stands at {at}, the top is {top}")),
            (Some(at), Some(top)) if at.offset > top.offset => Err(format!("stands at {at} beyond the top {top}")),
            // Of a resumed cache only the newest is promised.
            (Some(at), Some(top)) if self.may_jump && at.offset < top.offset => {
                self.may_skip_until(truth, who, Position { offset: top.offset - 1, ..top }, top.offset + 1)
            }
            (Some(at), Some(top)) => {
                self.may_skip_until(truth, who, at, top.offset + 1)?;
                if self.promise.keyed { self.table.check(truth, &self.topic, top, who, &self.wants) } else { Ok(()) }
            }
            (at, top) => Err(format!("stands at {at:?}, the top is {top:?}")),
        }
    }

    /// What stands between a position and an offset must not be for this client, or be replaced.
    fn may_skip_until(&self, truth: &Truth, who: &Who, at: Position, end: u64) -> Checked {
        let missing = (at.offset.max(self.unsure_until) + 1..end).map(|offset| Position { offset, ..at });
        let mut missing = missing.filter(|position| {
            let entry = truth.at(&self.topic, *position);
            !entry.is_some_and(|entry| {
                entry.is_expired()
                    || self.may_go_without(truth, who, Some(*position), &entry)
                    || self.promise.keyed && self.table.may_skip(truth, &self.topic, *position, &entry)
            })
        });
        match missing.next() {
            None => Ok(()),
            Some(lost) => {
                let entry = truth.at(&self.topic, lost);
                Err(format!("lost without a signal: {lost}, after {at} and before offset {end}, {entry:?} for {who:?}"))
            }
        }
    }

    /// Whether a live subscription may go without a publication.
    fn may_go_without(&self, truth: &Truth, who: &Who, position: Option<Position>, entry: &Entry) -> bool {
        let conflates = self.promise.latest || self.wants.pace_ms.is_some();
        entry.may_skip(who)
            || !self.wants.passes(entry.class.as_deref())
            || conflates && truth.is_replaced(&self.topic, position.map(|position| position.epoch), entry, who, &self.wants)
    }

    fn bare(&mut self, truth: &Truth, who: &Who, payload: &str) -> Checked {
        let Some(at) = truth.bare_place(&self.topic, payload) else { return Err(format!("{payload} was never published")) };
        let Some(entry) = truth.bare(&self.topic, at) else { return Err(format!("{payload} was never published")) };
        self.is_meant(&entry, who, payload)?;
        self.count_paced(payload)?;
        if self.bare_last.is_some_and(|last| at <= last) {
            return Err(format!("{payload} came twice or out of order"));
        }
        let next = self.bare_last.map_or(self.bare_from, |last| last + 1);
        self.bare_last = Some(at);
        if self.promise.bare && at > next {
            return self.may_skip_bare(truth, who, next, at).map_err(|error| format!("lost without a signal: {error}"));
        }
        Ok(())
    }

    fn may_skip_bare(&self, truth: &Truth, who: &Who, from: usize, end: usize) -> Checked {
        let is_missing = |at: &usize| {
            let entry = truth.bare(&self.topic, *at);
            !entry.is_some_and(|entry| self.may_go_without(truth, who, None, &entry))
        };
        match truth.bare_carried(&self.topic, from..end).into_iter().find(is_missing) {
            None => Ok(()),
            Some(lost) => Err(format!("publication {lost} without a position, of {from} to {end},")),
        }
    }
}

#[cfg(test)]
#[path = "follower_tests.rs"]
mod tests;
