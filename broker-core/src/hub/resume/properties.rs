//! Resumes from generated logs, compared with a model that knows every offset one by one.
//!
//! 20,000 logs in every test run; `cargo xtask properties` runs more.

use std::collections::{BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::{Epoch, Payload, Publish, properties::cases};

/// What there is when a read is answered.
#[derive(Clone, Debug)]
struct Scene {
    /// Offsets that the answer holds: contiguous, and up to its top.
    page: std::ops::RangeInclusive<u64>,
    page_top: u64,
    /// Publications of the epoch before, which were sequenced ahead of the answer.
    ring_of_old: u64,
    /// What was sequenced while the read was in flight.
    ring: std::ops::RangeInclusive<u64>,
    overflowed: bool,
    position: u64,
    since: Option<Since>,
    recovery: Recovery,
    last_try: bool,
}

const EPOCH: u64 = 7;
const OLD_EPOCH: u64 = 8;

fn at(offset: u64, epoch: u64) -> Position {
    Position { offset, epoch: Epoch::from_random(epoch) }
}

fn scenes() -> impl Strategy<Value = Scene> {
    let log = (0..12_u64, 0..14_u64, 0..6_u64, 0..4_u64, 0..6_u64, any::<bool>());
    let asked = (0..20_u64, 0..8_u8, 0..8_u8, any::<bool>());
    (log, asked).prop_map(|((top, kept, behind, of_old, ahead, overflowed), (offset, kind, recovery, last_try))| {
        let first = (top + 1).saturating_sub(kept).max(1);
        let page = first..=top;
        // The ring begins where the members stood when the read was issued: at or behind its top.
        let begins = top.saturating_sub(behind) + 1;
        let position = top + ahead;
        let ring_end = if overflowed { begins + (position + 1 - begins.min(position)) / 2 } else { position };
        let since = match kind {
            0 => None,
            1 => Some(Since::Beginning),
            2 => Some(Since::Position(at(offset, OLD_EPOCH))),
            3 => Some(Since::Unreadable),
            _ => Some(Since::Position(at(offset, EPOCH))),
        };
        let recovery = match recovery {
            0 => Recovery::Off,
            1 => Recovery::Cache,
            _ => Recovery::Stream,
        };
        Scene { page, page_top: top, ring_of_old: of_old, ring: begins..=ring_end, overflowed, position, since, recovery, last_try }
    })
}

fn publication(position: Position) -> Arc<Publication> {
    let mut publication = Publication::new("news".parse().unwrap(), Publish::new(Payload::text(position.to_string())));
    publication.position = Some(position);
    Arc::new(publication)
}

fn offsets(publications: &[Arc<Publication>]) -> Vec<u64> {
    publications.iter().filter_map(|publication| publication.position).map(|position| position.offset).collect()
}

/// Every offset of the epoch that is known, one by one.
fn known(scene: &Scene) -> BTreeSet<u64> {
    scene.page.clone().chain(scene.ring.clone()).filter(|offset| *offset <= scene.position).collect()
}

fn check(scene: &Scene) -> Result<(), TestCaseError> {
    let publications = scene.page.clone().map(|offset| publication(at(offset, EPOCH))).collect();
    let page = LogPage { top: at(scene.page_top, EPOCH), kept_from: scene.page.start() - 1, publications, next: None };
    let old = (1..=scene.ring_of_old).map(|offset| publication(at(offset, OLD_EPOCH)));
    let ring: VecDeque<_> = old.chain(scene.ring.clone().map(|offset| publication(at(offset, EPOCH)))).collect();
    let log = Log::new(&ReadAnswer { page, after: 0, state: None }, &ring, scene.overflowed, at(scene.position, EPOCH));
    let outcome = resume(&log, scene.since, scene.recovery, scene.last_try);
    let waits = scene.since.is_some() && scene.recovery != Recovery::Off && scene.overflowed && !scene.last_try;
    prop_assert_eq!(outcome.is_none(), waits, "another read is asked for where it can do better");
    let Some((missed, told)) = outcome else { return Ok(()) };
    let Some(since) = scene.since else {
        prop_assert!(missed.is_empty() && told.is_none(), "whoever does not ask is told nothing");
        return Ok(());
    };
    let Some(told) = told else { return Err(TestCaseError::fail("a resume is always told")) };
    prop_assert!(missed.rest().iter().all(|missed| missed.position.is_some_and(|position| position.epoch == log.position.epoch)));
    let (missed, known) = (offsets(missed.rest()), known(scene));
    prop_assert!(missed.windows(2).all(|two| two[0] < two[1]), "in order, without doubles: {:?}", missed);
    prop_assert!(told.recovered == told.gap.is_none(), "a failed resume says what is missing, and only that one");
    match scene.recovery {
        Recovery::Stream => stream(scene, since, &missed, told, &known),
        Recovery::Cache => cache(scene, since, &missed, told, &known),
        Recovery::Off => {
            prop_assert!(!told.recovered && missed.is_empty());
            Ok(())
        }
    }
}

/// `recovered` exactly where every offset behind the position is known and sent.
fn stream(scene: &Scene, since: Since, missed: &[u64], told: Resume, known: &BTreeSet<u64>) -> Result<(), TestCaseError> {
    let (after, is_same_epoch) = match since {
        Since::Unreadable => {
            prop_assert!(!told.recovered && missed.is_empty());
            prop_assert_eq!(told.gap.map(|gap| (gap.from, gap.reason)), Some((None, GapReason::Unreadable)));
            return Ok(());
        }
        Since::Beginning => (0, true),
        Since::Position(position) => (position.offset, position.epoch == Epoch::from_random(EPOCH)),
    };
    let all: Vec<u64> = (after + 1..=scene.position).collect();
    let whole = is_same_epoch && after <= scene.position && all.iter().all(|offset| known.contains(offset));
    prop_assert_eq!(told.recovered, whole, "nothing is missing exactly where every offset is known");
    if told.recovered {
        prop_assert_eq!(missed, &all[..]);
        return Ok(());
    }
    // What is sent with a failed resume reaches up to the position without a hole, behind the gap.
    let (Some(gap), end) = (told.gap, scene.position) else { return Err(TestCaseError::fail("no gap")) };
    let sent: Vec<u64> = (end + 1 - missed.len() as u64..=end).collect();
    prop_assert_eq!(missed, &sent[..]);
    prop_assert!(missed.is_empty() || since == Since::Beginning);
    let may_be_recovered = is_same_epoch && after <= scene.position;
    prop_assert_eq!(gap.reason, if may_be_recovered { GapReason::Trimmed } else { GapReason::Epoch });
    prop_assert_eq!(gap.from.map(|from| from.offset), may_be_recovered.then_some(after + 1), "a gap begins behind the position");
    if may_be_recovered {
        prop_assert_eq!(gap.to.map(|to| to.offset), Some(end - missed.len() as u64), "and ends before what is sent");
    }
    prop_assert!(gap.to.is_none_or(|to| to.offset <= end));
    Ok(())
}

/// The newest, or nothing where the client has it.
fn cache(scene: &Scene, since: Since, missed: &[u64], told: Resume, known: &BTreeSet<u64>) -> Result<(), TestCaseError> {
    let end = scene.position;
    let has_it = since == Since::Position(at(end, EPOCH)) || since == Since::Beginning && end == 0;
    if has_it {
        prop_assert!(told.recovered && missed.is_empty());
    } else if known.contains(&end) {
        prop_assert!(told.recovered);
        prop_assert_eq!(missed, &[end][..]);
    } else {
        prop_assert!(!told.recovered && missed.is_empty());
    }
    Ok(())
}

#[test]
fn a_resume_says_recovered_exactly_where_nothing_is_missing() {
    proptest!(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() }, |(scene in scenes())| {
        check(&scene)?;
    });
}
