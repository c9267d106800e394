//! The checker: one client's subscription to one topic, compared with the truth at every step. Knows no protocol.
//!
//! What it holds the server to (G1 to G3): one order, no doubles, contiguous offsets between signals, the right payload at every position, every
//! loss told, nothing before the answer to subscribe and nothing after the end; and when all is quiet, everybody at the head.

use broker_core::{Position, Since, Topic};

use crate::truth::{Truth, Who};

/// What is promised of a topic.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Promise {
    /// Everything, or a signal.
    Stream,
    /// After a resume the newest; then everything, or a signal.
    Cache,
    /// In order, and the newest in the end: what a slow client goes without is no loss.
    Latest,
    /// No positions: everything while subscribed, or a signal.
    Bare,
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
}

type Checked = Result<(), String>;

impl Follower {
    /// Nothing is known yet.
    pub(crate) fn new(topic: Topic, promise: Promise) -> Self {
        Self { topic, promise, live: false, at: None, may_jump: false, gap_follows: false, bare_last: None, bare_from: 0 }
    }

    /// Whether the subscription is live as far as the client knows.
    pub(crate) fn is_live(&self) -> bool {
        self.live
    }

    /// Where a resume begins.
    pub(crate) fn position(&self) -> Option<Position> {
        self.at
    }

    /// The connection or the subscription is gone.
    pub(crate) fn ended(&mut self) {
        self.live = false;
        self.gap_follows = false;
    }

    /// The client was told to forget what it knows.
    pub(crate) fn forget(&mut self) {
        self.at = None;
    }

    /// The answer to a subscribe.
    pub(crate) fn subscribed(&mut self, truth: &Truth, answer: &Answer) -> Checked {
        self.live = true;
        self.bare_last = None;
        self.bare_from = truth.bare_len(&self.topic);
        if self.promise == Promise::Bare {
            return Ok(());
        }
        let Some(top) = answer.position else { return Err("a topic with history is joined without a position".to_owned()) };
        self.gap_follows = answer.recovered == Some(false) && answer.gap_follows;
        self.may_jump = self.promise == Promise::Cache && answer.recovered == Some(true);
        self.at = Some(match (answer.recovered, answer.since) {
            (Some(true), Some(Since::Position(since))) if since.epoch == top.epoch => since,
            (Some(true), Some(Since::Position(since))) if self.promise != Promise::Cache => {
                return Err(format!("recovered from {since} although the epoch is {}", top.epoch));
            }
            (Some(true), _) => Position { offset: 0, epoch: top.epoch },
            (Some(false), Some(Since::Position(since)))
                if since.epoch == top.epoch && since.offset <= top.offset && top.offset - since.offset <= answer.reach =>
            {
                return Err(format!("what is kept can be recovered, but {since} was refused at {top}"));
            }
            _ => top,
        });
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
        let Some(position) = position else { return self.bare(truth, who, payload) };
        let Some(entry) = truth.at(&self.topic, position) else {
            return Err(format!("nothing was published at {position}, but {payload} came"));
        };
        if entry.payload != payload {
            return Err(format!("{position} is {}, but {payload} came", entry.payload));
        }
        if entry.must_skip(who) {
            return Err(format!("{payload} at {position} is not for this client"));
        }
        if let Some(at) = self.at {
            if position.epoch != at.epoch {
                return Err(format!("{position} came after {at} without a signal"));
            }
            if position.offset <= at.offset {
                return Err(format!("{position} came after {at}: a double, or out of order"));
            }
            // What follows is compared with this one, also where something before it is missing.
            self.at = Some(position);
            if !std::mem::take(&mut self.may_jump) && self.promise != Promise::Latest {
                return self.may_skip_until(truth, who, at, position.offset);
            }
        }
        self.at = Some(position);
        Ok(())
    }

    /// A gap was told.
    pub(crate) fn gap(&mut self, truth: &Truth, who: &Who, from: Option<Position>, to: Option<Position>) -> Checked {
        if !self.live {
            return Err("a gap came outside a subscription".to_owned());
        }
        self.bare_last = None;
        self.bare_from = truth.bare_len(&self.topic);
        self.may_jump = false;
        if std::mem::take(&mut self.gap_follows) {
            self.at = to.or(self.at);
            return Ok(());
        }
        if let (Some(from), Some(at)) = (from, self.at) {
            if from.epoch != at.epoch || from.offset <= at.offset {
                return Err(format!("a gap from {from} came after {at}"));
            }
            if self.promise != Promise::Latest {
                self.may_skip_until(truth, who, at, from.offset)?;
            }
        }
        // Without an end nothing that has a position is missing.
        self.at = to.or(self.at);
        Ok(())
    }

    /// When all is quiet: nothing more is on its way.
    pub(crate) fn at_head(&self, truth: &Truth, who: &Who, top: Option<Position>) -> Checked {
        if self.gap_follows {
            return Err("the gap of a failed resume never came".to_owned());
        }
        if self.promise == Promise::Bare {
            let next = self.bare_last.map_or(self.bare_from, |last| last + 1);
            let len = truth.bare_len(&self.topic);
            return if truth.bare_may_skip(&self.topic, next..len, who) {
                Ok(())
            } else {
                Err(format!("publications {next} to {len} without a position never came"))
            };
        }
        match (self.at, top) {
            (Some(at), Some(top)) if at.epoch != top.epoch => Err(format!("stands at {at}, the top is {top}")),
            (Some(at), Some(top)) if at.offset > top.offset => Err(format!("stands at {at} beyond the top {top}")),
            // Of a resumed cache, and of one that may be behind, only the newest is promised.
            (Some(at), Some(top)) if (self.may_jump || self.promise == Promise::Latest) && at.offset < top.offset => {
                self.may_skip_until(truth, who, Position { offset: top.offset - 1, ..top }, top.offset + 1)
            }
            (Some(at), Some(top)) => self.may_skip_until(truth, who, at, top.offset + 1),
            (at, top) => Err(format!("stands at {at:?}, the top is {top:?}")),
        }
    }

    /// What stands between a position and an offset must not be for this client.
    fn may_skip_until(&self, truth: &Truth, who: &Who, at: Position, end: u64) -> Checked {
        let missing = (at.offset + 1..end).map(|offset| Position { offset, ..at });
        let mut missing = missing.filter(|position| !truth.at(&self.topic, *position).is_some_and(|entry| entry.may_skip(who)));
        match missing.next() {
            None => Ok(()),
            Some(lost) => {
                let entry = truth.at(&self.topic, lost);
                Err(format!("lost without a signal: {lost}, after {at} and before offset {end}, {entry:?} for {who:?}"))
            }
        }
    }

    fn bare(&mut self, truth: &Truth, who: &Who, payload: &str) -> Checked {
        let Some(at) = truth.bare_place(&self.topic, payload) else { return Err(format!("{payload} was never published")) };
        if truth.bare(&self.topic, at).is_some_and(|entry| entry.must_skip(who)) {
            return Err(format!("{payload} is not for this client"));
        }
        if self.bare_last.is_some_and(|last| at <= last) {
            return Err(format!("{payload} came twice or out of order"));
        }
        let next = self.bare_last.map_or(self.bare_from, |last| last + 1);
        self.bare_last = Some(at);
        if self.promise == Promise::Bare && at > next && !truth.bare_may_skip(&self.topic, next..at, who) {
            return Err(format!("lost without a signal: publications {next} to {at} without a position"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use broker_core::{Epoch, Except, Payload, Publication, Publish, SessionId};

    use super::*;

    fn topic() -> Topic {
        "cut:a".parse().unwrap()
    }

    fn at(offset: u64) -> Position {
        Position { offset, epoch: Epoch::from_random(1) }
    }

    fn append(truth: &Truth, position: Option<Position>, payload: &str, except: Except) {
        let mut publication = Publication::new(topic(), Publish::new(Payload::text(payload)).except(except));
        publication.position = position;
        truth.appended(&publication);
    }

    /// Five publications; the fourth is not for session 1.
    fn truth() -> Truth {
        let truth = Truth::default();
        for offset in 1..=5 {
            let except = if offset == 4 { Except::nobody().session(SessionId::from_random(1)) } else { Except::nobody() };
            append(&truth, Some(at(offset)), &format!("n{offset}"), except);
        }
        truth
    }

    fn live(truth: &Truth, since: u64) -> Follower {
        let mut follower = Follower::new(topic(), Promise::Stream);
        let since = Since::Position(at(since));
        let answer = Answer { position: Some(at(5)), since: Some(since), recovered: Some(true), gap_follows: true, reach: 0 };
        follower.subscribed(truth, &answer).unwrap();
        follower
    }

    /// Feeds publications by offset, and says whether all was right, the head included.
    #[track_caller]
    fn check(since: u64, heard: &[u64], session: u128, found: &str) {
        let truth = truth();
        let who = Who { session: Some(SessionId::from_random(session)), users: Vec::new() };
        let mut follower = live(&truth, since);
        let mut result = Ok(());
        for offset in heard {
            result = result.and_then(|()| follower.publication(&truth, &who, Some(at(*offset)), &format!("n{offset}")));
        }
        let result = result.and_then(|()| follower.at_head(&truth, &who, Some(at(5))));
        match result {
            Ok(()) => assert_eq!(found, ""),
            Err(text) => assert!(!found.is_empty() && text.contains(found), "{text}"),
        }
    }

    #[test]
    fn what_is_contiguous_is_right() {
        check(0, &[1, 2, 3, 4, 5], 2, "");
        check(3, &[4, 5], 2, "");
        check(3, &[5], 1, "");
    }

    #[test]
    fn what_is_lost_doubled_or_out_of_order_is_found() {
        check(0, &[1, 3, 4, 5], 2, "lost without a signal");
        check(0, &[1, 2, 2, 3, 4, 5], 2, "a double");
        check(0, &[2, 1, 3, 4, 5], 2, "lost without a signal");
        check(0, &[1, 2, 3, 4], 2, "lost without a signal");
        check(3, &[5], 2, "lost without a signal");
        check(3, &[4, 5], 1, "not for this client");
        check(4, &[5, 6], 2, "nothing was published");
    }

    #[test]
    fn a_wrong_payload_and_a_silent_change_of_epoch_are_found() {
        let (truth, who) = (truth(), Who::default());
        assert!(live(&truth, 0).publication(&truth, &who, Some(at(1)), "n2").is_err());
        let other = Position { offset: 1, epoch: Epoch::from_random(2) };
        append(&truth, Some(other), "m1", Except::nobody());
        assert!(live(&truth, 0).publication(&truth, &who, Some(other), "m1").unwrap_err().contains("without a signal"));
        let answer =
            Answer { position: Some(other), since: Some(Since::Position(at(1))), recovered: Some(true), gap_follows: true, reach: 0 };
        assert!(Follower::new(topic(), Promise::Stream).subscribed(&truth, &answer).is_err());
    }

    #[test]
    fn a_gap_excuses_what_it_names_and_nothing_before_it() {
        let (truth, who) = (truth(), Who::default());
        let mut follower = live(&truth, 1);
        follower.gap(&truth, &who, Some(at(2)), Some(at(4))).unwrap();
        follower.publication(&truth, &who, Some(at(5)), "n5").unwrap();
        assert!(live(&truth, 1).gap(&truth, &who, Some(at(3)), Some(at(4))).unwrap_err().contains("lost without a signal"));
        assert!(live(&truth, 3).gap(&truth, &who, Some(at(3)), Some(at(4))).is_err(), "a gap that steps backwards");
    }

    #[test]
    fn what_comes_outside_a_subscription_or_before_its_gap_is_found() {
        let (truth, who) = (truth(), Who::default());
        let mut follower = live(&truth, 0);
        follower.ended();
        assert!(follower.publication(&truth, &who, Some(at(1)), "n1").unwrap_err().contains("outside"));
        let failed =
            Answer { position: Some(at(5)), since: Some(Since::Position(at(1))), recovered: Some(false), gap_follows: true, reach: 3 };
        follower.subscribed(&truth, &failed).unwrap();
        assert!(follower.publication(&truth, &who, Some(at(5)), "n5").unwrap_err().contains("before the gap"));
        assert!(follower.subscribed(&truth, &Answer { reach: 4, ..failed }).unwrap_err().contains("can be recovered"));
    }

    #[test]
    fn publications_without_a_position_are_followed_by_their_numbers() {
        let (truth, who) = (Truth::default(), Who::default());
        append(&truth, None, "n0", Except::nobody());
        let mut follower = Follower::new(topic(), Promise::Bare);
        let answer = Answer { position: None, since: None, recovered: None, gap_follows: false, reach: 0 };
        follower.subscribed(&truth, &answer).unwrap();
        for n in 1..4 {
            append(&truth, None, &format!("n{n}"), Except::nobody());
        }
        follower.publication(&truth, &who, None, "n1").unwrap();
        assert!(follower.clone().publication(&truth, &who, None, "n3").is_err());
        assert!(follower.clone().publication(&truth, &who, None, "n1").is_err());
        assert!(follower.at_head(&truth, &who, None).is_err());
        follower.publication(&truth, &who, None, "n2").unwrap();
        follower.publication(&truth, &who, None, "n3").unwrap();
        follower.at_head(&truth, &who, None).unwrap();
    }

    #[test]
    fn a_position_that_is_used_twice_is_found_in_the_log() {
        let truth = truth();
        append(&truth, Some(at(5)), "other", Except::nobody());
        append(&truth, Some(at(6)), "n1", Except::nobody());
        assert_eq!(truth.wrong().len(), 2);
    }
}
