//! How a resume goes: what was missed, and whether that is everything. Pure.

use std::{collections::VecDeque, sync::Arc};

use crate::{Gap, GapReason, Position, Publication, Recovery, Resume, Since, backplane::LogPage};

/// What is known of a topic's log when a read was answered: the answer, and what was sequenced while it was in flight.
pub(super) struct Log<'a> {
    pub(super) page: &'a LogPage,
    pub(super) ring: &'a VecDeque<Arc<Publication>>,
    pub(super) ring_overflowed: bool,
    /// Where the topic's members stand.
    pub(super) position: Position,
}

impl Log<'_> {
    /// Everything after a position up to where the members stand; `None` where anything is missing.
    pub(super) fn after(&self, after: Position) -> Option<Vec<Arc<Publication>>> {
        if after.epoch != self.position.epoch || after.offset > self.position.offset {
            return None;
        }
        let kept = self.kept_after(after.offset);
        let whole = kept.len() as u64 == self.position.offset - after.offset;
        whole.then_some(kept)
    }

    /// What is known of the present epoch after an offset, up to where the members stand; always without doubles, perhaps with holes.
    ///
    /// What was recorded may begin before the answer does: a log that is trimmed faster than it is read is whole only with both.
    fn kept_after(&self, after: u64) -> Vec<Arc<Publication>> {
        let wanted = after + 1..=self.position.offset;
        let known = self.page.publications.iter().chain(self.ring);
        let placed = known.filter_map(|publication| Some((publication.position?, publication)));
        let mut kept: Vec<_> =
            placed.filter(|(position, _)| position.epoch == self.position.epoch && wanted.contains(&position.offset)).collect();
        kept.sort_by_key(|(position, _)| position.offset);
        kept.dedup_by_key(|(position, _)| position.offset);
        kept.into_iter().map(|(_, publication)| publication.clone()).collect()
    }

    fn at(&self, offset: u64) -> Position {
        Position { offset, epoch: self.position.epoch }
    }
}

/// Publications for the joiner, and what it is told; `None`: another read can do better.
pub(super) fn resume(
    log: &Log<'_>,
    since: Option<Since>,
    recovery: Recovery,
    last_try: bool,
) -> Option<(Vec<Arc<Publication>>, Option<Resume>)> {
    let Some(since) = since else { return Some((Vec::new(), None)) };
    let told = |recovered, gap| Some(Resume { since, recovered, gap });
    if recovery == Recovery::Off {
        let gap = Gap { from: None, to: Some(log.position), reason: GapReason::Trimmed };
        return Some((Vec::new(), told(false, Some(gap))));
    }
    if log.ring_overflowed && !last_try {
        return None;
    }
    if recovery == Recovery::Cache {
        let newest = log.kept_after(0).pop().filter(|newest| newest.position == Some(log.position));
        let has_it = since == Since::Position(log.position) || since == Since::Beginning && log.position.offset == 0;
        return Some(match newest {
            _ if has_it => (Vec::new(), told(true, None)),
            Some(newest) => (vec![newest], told(true, None)),
            None => {
                let gap = Gap { from: None, to: Some(log.position), reason: GapReason::Trimmed };
                (Vec::new(), told(false, Some(gap)))
            }
        });
    }
    let (after, everything_kept) = match since {
        Since::Unreadable => {
            let to = Some(log.position).filter(|top| top.offset > 0);
            return Some((Vec::new(), told(false, Some(Gap { from: None, to, reason: GapReason::Unreadable }))));
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
        return Some((Vec::new(), told(false, Some(gap))));
    }
    if everything_kept {
        // `0` asks for all that is kept: it is sent, and what came before it is told.
        let kept = contiguous_end(log.kept_after(0), log.position);
        let first_kept =
            kept.first().and_then(|publication| publication.position).map_or(log.position.offset + 1, |position| position.offset);
        let gap = Gap { from: Some(log.at(1)), to: Some(log.at(first_kept - 1)), reason: GapReason::Trimmed };
        return Some((kept, told(false, Some(gap))));
    }
    let gap = Gap { from: Some(log.at(after.offset + 1)), to: Some(log.position), reason: GapReason::Trimmed };
    Some((Vec::new(), told(false, Some(gap))))
}

/// The longest part of `kept` that reaches to `position` without a hole.
fn contiguous_end(mut kept: Vec<Arc<Publication>>, position: Position) -> Vec<Arc<Publication>> {
    let mut expected = position.offset;
    let whole = kept
        .iter()
        .rev()
        .take_while(|publication| {
            let fits = publication.position.is_some_and(|at| at.offset == expected);
            expected = expected.saturating_sub(1);
            fits
        })
        .count();
    kept.drain(..kept.len() - whole);
    kept
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

    fn offsets(publications: &[Arc<Publication>]) -> Vec<u64> {
        publications.iter().map(|publication| publication.position.unwrap().offset).collect()
    }

    /// A log that keeps `kept` and stands at `top`, with `ring` sequenced since.
    #[track_caller]
    fn check(kept: &[u64], top: u64, ring: &[u64], since: Since, missed: &[u64], recovered: bool, gap: Option<(Option<u64>, Option<u64>)>) {
        let page = LogPage { top: position(top), publications: kept.iter().copied().map(publication).collect() };
        let ring: VecDeque<_> = ring.iter().copied().map(publication).collect();
        let at = ring.back().map_or(top, |newest| newest.position.unwrap().offset);
        let log = Log { page: &page, ring: &ring, ring_overflowed: false, position: position(at) };
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
}
