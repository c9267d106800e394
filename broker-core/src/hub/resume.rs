//! How a resume goes: what was missed, and whether that is everything. Pure.

use std::{collections::VecDeque, sync::Arc};

use tokio::time::Instant;

use super::missed::Missed;
use crate::{
    Gap, GapReason, Position, Publication, Recovery, Resume, Since,
    backplane::{LogPage, Unavailable},
};

/// The answer to a read of a topic.
pub(crate) struct ReadAnswer {
    /// Everything after `after`.
    pub(crate) page: LogPage,
    pub(crate) after: u64,
    /// The topic's state, where it was asked for.
    pub(crate) state: Option<StateRead>,
}

/// A topic's state, read before the log was.
pub(crate) struct StateRead {
    /// Where the topic stood when the first row was read.
    pub(crate) since: Position,
    /// The rows, in the order of their offsets; those that changed after `since` may be among them, or not.
    pub(crate) rows: Vec<Arc<Publication>>,
}

/// What the backplane answered.
pub(crate) type ReadResult = Result<ReadAnswer, Unavailable>;

/// What is known of a topic's log when a read was answered: the answer, and what was sequenced while it was in flight.
pub(super) struct Log {
    /// Of the present epoch, up to where the members stand, in order and without doubles; shared by all who are served.
    kept: Arc<[Arc<Publication>]>,
    /// What is missing in `kept` after this offset has expired by its own ttl: no loss.
    complete_from: u64,
    ring_overflowed: bool,
    /// Where the topic's members stand.
    position: Position,
}

impl Log {
    pub(super) fn new(read: &ReadAnswer, ring: &VecDeque<Arc<Publication>>, ring_overflowed: bool, position: Position) -> Self {
        let now = Instant::now();
        let is_here = |publication: &&Arc<Publication>| {
            publication.position.is_some_and(|at| at.epoch == position.epoch && at.offset <= position.offset)
                && !publication.is_expired(now)
        };
        // What was recorded may begin before the answer does: a log that is trimmed faster than it is read is whole only with both.
        let mut kept: Vec<Arc<Publication>> = read.page.publications.iter().chain(ring).filter(is_here).cloned().collect();
        let offset = |publication: &Arc<Publication>| publication.position.map_or(0, |at| at.offset);
        kept.sort_by_key(offset);
        kept.dedup_by_key(|publication| offset(publication));
        // From the end backwards, as far as the answer or what was recorded reaches. A read of another epoch says nothing of this one.
        let read_to = if read.page.top.epoch == position.epoch { read.page.top.offset } else { 0 };
        let read_from = read.page.kept_from.max(read.after);
        let mut complete_from = position.offset;
        let mut recorded =
            ring.iter().rev().filter_map(|publication| publication.position).filter(|at| at.epoch == position.epoch).peekable();
        loop {
            while recorded.next_if(|at| at.offset > complete_from).is_some() {}
            if complete_from > read_from && complete_from <= read_to {
                complete_from = read_from;
            } else if recorded.next_if(|at| at.offset == complete_from).is_some() {
                complete_from -= 1;
            } else {
                break;
            }
        }
        let kept = if kept.is_empty() { Arc::default() } else { kept.into() };
        Self { kept, complete_from, ring_overflowed, position }
    }

    /// In a topic with a state, whoever did not hear a change that has expired since may have an older row of its key: nobody passes over it.
    pub(super) fn keep_to_changes(&mut self, read: &ReadAnswer, ring: &VecDeque<Arc<Publication>>) {
        let now = Instant::now();
        let known = read.page.publications.iter().chain(ring);
        let over = known.filter(|publication| publication.key.is_some() && publication.is_expired(now));
        let places = over.filter_map(|publication| publication.position);
        let newest = places.filter(|at| at.epoch == self.position.epoch && at.offset <= self.position.offset).map(|at| at.offset).max();
        self.complete_from = self.complete_from.max(newest.unwrap_or(0));
    }

    /// With the publications that came next.
    pub(super) fn followed_by(&self, next: &[Arc<Publication>]) -> Self {
        let kept = self.kept.iter().chain(next).cloned().collect();
        let position = next.last().and_then(|last| last.position).unwrap_or(self.position);
        Self { kept, complete_from: self.complete_from, ring_overflowed: self.ring_overflowed, position }
    }

    pub(super) fn publications(&self) -> &[Arc<Publication>] {
        &self.kept
    }

    /// Everything after a position up to where the members stand; `None` where anything is missing.
    pub(super) fn after(&self, after: Position) -> Option<Missed> {
        if after.epoch != self.position.epoch || after.offset > self.position.offset {
            return None;
        }
        (after.offset == self.position.offset || after.offset >= self.complete_from).then(|| self.kept_after(after.offset))
    }

    /// The state with what happened since it was read, up to where the members stand; `None`: some of that is not known.
    pub(super) fn with_state(&self, state: &StateRead) -> Option<Missed> {
        let changes = self.after(state.since)?;
        let now = Instant::now();
        // A row that changed since comes with the changes.
        let is_old = |row: &&Arc<Publication>| row.position.is_some_and(|at| at.offset <= state.since.offset) && !row.is_expired(now);
        Some(state.rows.iter().filter(is_old).chain(changes.rest()).cloned().collect::<Vec<_>>().into())
    }

    fn kept_after(&self, after: u64) -> Missed {
        let from = self.kept.partition_point(|publication| publication.position.is_none_or(|at| at.offset <= after));
        Missed::part(&self.kept, from)
    }

    fn newest(&self) -> Option<&Arc<Publication>> {
        self.kept.last().filter(|newest| newest.position == Some(self.position))
    }

    fn at(&self, offset: u64) -> Position {
        Position { offset, epoch: self.position.epoch }
    }
}

/// Publications for the joiner, and what it is told; `None`: another read can do better.
pub(super) fn resume(log: &Log, since: Option<Since>, recovery: Recovery, last_try: bool) -> Option<(Missed, Option<Resume>)> {
    let Some(since) = since else { return Some((Missed::default(), None)) };
    let told = |recovered, gap| Some(Resume { since, recovered, gap });
    if recovery == Recovery::Off {
        let gap = Gap { from: None, to: Some(log.position), reason: GapReason::Trimmed };
        return Some((Missed::default(), told(false, Some(gap))));
    }
    if log.ring_overflowed && !last_try {
        return None;
    }
    if recovery == Recovery::Cache {
        let has_it = since == Since::Position(log.position) || since == Since::Beginning && log.position.offset == 0;
        // What is not there although nothing was forgotten had its time.
        let is_over = log.newest().is_none() && log.complete_from < log.position.offset;
        return Some(match log.newest() {
            _ if has_it || is_over => (Missed::default(), told(true, None)),
            Some(newest) => (vec![newest.clone()].into(), told(true, None)),
            None => {
                let gap = Gap { from: None, to: Some(log.position), reason: GapReason::Trimmed };
                (Missed::default(), told(false, Some(gap)))
            }
        });
    }
    let (after, everything_kept) = match since {
        Since::Unreadable => {
            let to = Some(log.position).filter(|top| top.offset > 0);
            return Some((Missed::default(), told(false, Some(Gap { from: None, to, reason: GapReason::Unreadable }))));
        }
        Since::Beginning => (Position { offset: 0, epoch: log.position.epoch }, true),
        Since::Position(position) => (position, false),
    };
    if let Some(missed) = log.after(after) {
        return Some((missed, told(true, None)));
    }
    if after.epoch != log.position.epoch || after.offset > log.position.offset {
        // A position beyond the top belongs to another life too, whatever its epoch says; nothing is missing up to an empty top.
        let to = Some(log.position).filter(|top| after.epoch != log.position.epoch && top.offset > 0);
        let gap = Gap { from: None, to, reason: GapReason::Epoch };
        return Some((Missed::default(), told(false, Some(gap))));
    }
    if everything_kept {
        // `0` asks for all that is kept: it is sent, and what came before it is told.
        let gap = Gap { from: Some(log.at(1)), to: Some(log.at(log.complete_from)), reason: GapReason::Trimmed };
        return Some((log.kept_after(log.complete_from), told(false, Some(gap))));
    }
    let gap = Gap { from: Some(log.at(after.offset + 1)), to: Some(log.position), reason: GapReason::Trimmed };
    Some((Missed::default(), told(false, Some(gap))))
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Epoch, Payload, Publish};

    fn position(offset: u64) -> Position {
        Position { offset, epoch: Epoch::from_random(7) }
    }

    fn publication(offset: u64) -> Arc<Publication> {
        let mut publication = Publication::new("news".parse().unwrap(), Publish::new(Payload::json("1")));
        publication.position = Some(position(offset));
        Arc::new(publication)
    }

    fn offsets(missed: &Missed) -> Vec<u64> {
        missed.rest().iter().map(|publication| publication.position.unwrap().offset).collect()
    }

    /// A log that has forgotten what stands before the first of `kept` and stands at `top`, with `ring` sequenced since.
    fn log(kept: &[u64], top: u64, ring: &[u64]) -> Log {
        let kept_from = kept.first().map_or(top, |first| first - 1);
        let page = LogPage { top: position(top), kept_from, publications: kept.iter().copied().map(publication).collect(), next: None };
        let ring: VecDeque<_> = ring.iter().copied().map(publication).collect();
        let at = ring.back().map_or(top, |newest| newest.position.unwrap().offset);
        Log::new(&ReadAnswer { page, after: 0, state: None }, &ring, false, position(at))
    }

    #[track_caller]
    fn check(kept: &[u64], top: u64, ring: &[u64], since: Since, missed: &[u64], recovered: bool, gap: Option<(Option<u64>, Option<u64>)>) {
        let log = log(kept, top, ring);
        let (got, told) = resume(&log, Some(since), Recovery::Stream, false).expect("nothing to wait for");
        let told = told.expect("a resume is always told");
        assert_eq!((offsets(&got), told.recovered), (missed.to_vec(), recovered));
        let got_gap = told.gap.map(|gap| (gap.from.map(|from| from.offset), gap.to.map(|to| to.offset)));
        assert_eq!(got_gap, gap);
    }

    #[test]
    fn recovered_is_said_only_where_nothing_is_missing() {
        let since = |offset| Since::Position(position(offset));
        check(&[1, 2, 3], 3, &[], since(1), &[2, 3], true, None);
        check(&[1, 2, 3], 3, &[4, 5], since(1), &[2, 3, 4, 5], true, None);
        check(&[3, 4], 4, &[3, 4, 5], since(3), &[4, 5], true, None);
        check(&[6], 6, &[4, 5, 6, 7], since(3), &[4, 5, 6, 7], true, None);
        check(&[1, 2, 3], 3, &[], since(3), &[], true, None);
        check(&[], 0, &[], since(0), &[], true, None);
        check(&[3, 4], 4, &[], since(1), &[], false, Some((Some(2), Some(4))));
        check(&[3, 4], 4, &[], since(2), &[3, 4], true, None);
        check(&[1, 2], 2, &[], since(9), &[], false, Some((None, None)));
        check(&[], 5, &[], since(4), &[], false, Some((Some(5), Some(5))));
        let foreign = Since::Position(Position { offset: 1, epoch: Epoch::from_random(8) });
        check(&[1, 2], 2, &[], foreign, &[], false, Some((None, Some(2))));
        check(&[], 0, &[], foreign, &[], false, Some((None, None)));
        check(&[1, 2], 2, &[3], Since::Unreadable, &[], false, Some((None, Some(3))));
        check(&[], 0, &[], Since::Unreadable, &[], false, Some((None, None)));
    }

    #[test]
    fn everything_kept_is_sent_and_what_came_before_is_told() {
        check(&[1, 2], 2, &[], Since::Beginning, &[1, 2], true, None);
        check(&[3, 4], 4, &[5], Since::Beginning, &[3, 4, 5], false, Some((Some(1), Some(2))));
        check(&[], 4, &[], Since::Beginning, &[], false, Some((Some(1), Some(4))));
        check(&[], 0, &[], Since::Beginning, &[], true, None);
    }

    #[test]
    fn what_expired_by_its_own_ttl_is_no_gap() {
        let since = |offset| Since::Position(position(offset));
        check(&[1, 3, 6], 7, &[], since(1), &[3, 6], true, None);
        check(&[1, 3, 6], 7, &[8], since(4), &[6, 8], true, None);
        check(&[4, 6], 7, &[], since(2), &[], false, Some((Some(3), Some(7))));
        check(&[4, 6], 7, &[], Since::Beginning, &[4, 6], false, Some((Some(1), Some(3))));
    }

    #[test]
    fn a_change_of_a_row_that_expired_before_it_was_served_is_not_passed_over() {
        let mut over = Publication::new("news".parse().unwrap(), Publish::new(Payload::json("1")).key("k").ttl(std::time::Duration::ZERO));
        over.position = Some(position(2));
        let page =
            LogPage { top: position(3), kept_from: 0, publications: vec![publication(1), Arc::new(over), publication(3)], next: None };
        let read = ReadAnswer { page, after: 0, state: None };
        let mut log = Log::new(&read, &VecDeque::new(), false, position(3));
        assert_eq!(offsets(&log.after(position(1)).unwrap()), [3], "where nobody keeps rows it is no loss");
        log.keep_to_changes(&read, &VecDeque::new());
        assert!(log.after(position(1)).is_none());
        assert_eq!(offsets(&log.after(position(2)).unwrap()), [3]);
    }

    #[test]
    fn a_part_that_was_not_read_is_not_taken_for_expired() {
        let page = LogPage { top: position(9), kept_from: 0, publications: vec![publication(9)], next: None };
        let log = Log::new(&ReadAnswer { page, after: 8, state: None }, &VecDeque::new(), false, position(9));
        assert!(log.after(position(7)).is_none());
        assert_eq!(offsets(&log.after(position(8)).unwrap()), [9]);
    }

    #[test]
    fn rows_come_before_what_changed_since_they_were_read() {
        let log = log(&[3, 4, 5], 5, &[6]);
        let state = |since, rows: &[u64]| StateRead { since: position(since), rows: rows.iter().copied().map(publication).collect() };
        // 2 and 3 stood in the state when it was read at 4; the row at 6 was read late and is a change.
        assert_eq!(offsets(&log.with_state(&state(4, &[2, 3, 6])).unwrap()), [2, 3, 5, 6]);
        assert_eq!(offsets(&log.with_state(&state(6, &[2, 6])).unwrap()), [2, 6]);
        assert!(log.with_state(&state(1, &[1])).is_none(), "what happened after 1 is not known");
        let foreign = StateRead { since: Position { offset: 4, epoch: Epoch::from_random(8) }, rows: Vec::new() };
        assert!(log.with_state(&foreign).is_none());
    }
}
