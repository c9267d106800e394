//! What waits, one case at a time, and against a model that knows no batches.

use std::collections::HashSet;

use proptest::prelude::*;

use super::super::batch::Encoded;
use super::*;
use crate::Epoch;

fn batch(topic: &str, first: u64, frames: &[&str]) -> Arc<Batch> {
    let mut end = 0;
    let publications = frames.iter().zip(first..).map(|(frame, offset)| {
        end += frame.len() as u32;
        Encoded { seq: offset, position: Some(Position { offset, epoch: Epoch::from_random(1) }), end }
    });
    let publications = publications.collect();
    Arc::new(Batch::new(topic.parse().unwrap(), frames.concat().into(), publications, Box::default(), &Held::default()))
}

fn text(backlog: &Backlog) -> String {
    let mut chunks = Vec::new();
    backlog.chunks(64, &mut chunks);
    chunks.iter().map(|chunk| std::str::from_utf8(chunk).unwrap()).collect()
}

#[test]
fn what_is_written_byte_by_byte_is_what_was_pushed() {
    for step in 1..20 {
        let mut backlog = Backlog::default();
        backlog.push_frames(Bytes::from_static(b"<reply>"));
        backlog.push_batch(&batch("a", 1, &["[one]", "[two]", "[three]"]), 0);
        backlog.push_batch(&batch("a", 4, &["[four]", "[five]"]), 1);
        let mut out = String::new();
        while !backlog.is_empty() {
            let rest = text(&backlog);
            let len = step.min(rest.len());
            out.push_str(&rest[..len]);
            backlog.written(len);
        }
        assert_eq!(out, "<reply>[one][two][three][five]");
    }
}

/// A publication that stands in no history.
fn unplaced(frame: &str) -> Arc<Batch> {
    let publications = [Encoded { seq: 1, position: None, end: frame.len() as u32 }];
    Arc::new(Batch::new("a".parse().unwrap(), frame.into(), publications.into(), Box::default(), &Held::default()))
}

#[test]
fn what_no_history_brings_again_is_not_let_go_to_be_read_later() {
    let mut backlog = Backlog::default();
    let a: Topic = "a".parse().unwrap();
    backlog.push_batch(&batch("a", 3, &["[three]"]), 0);
    assert_eq!(backlog.first_of(&a).map(|first| first.offset), Some(3));
    backlog.push_batch(&unplaced("[none]"), 0);
    assert_eq!(backlog.first_of(&a), None);
}

#[test]
fn a_gap_ends_at_the_last_position_that_went_with_it() {
    let mut backlog = Backlog::default();
    backlog.push_batch(&batch("a", 3, &["[three]"]), 0);
    backlog.push_batch(&unplaced("[none]"), 0);
    let gap = backlog.drop_all(&"a".parse().unwrap()).unwrap().gap;
    assert_eq!((gap.from.unwrap().offset, gap.to.unwrap().offset), (3, 3));
}

#[test]
fn the_newest_of_a_new_epoch_stays_behind_the_gap_that_begins_it() {
    let without_key = |frame: &str| {
        let publications = [Encoded { seq: 1, position: None, end: frame.len() as u32 }];
        Arc::new(Batch::new("a".parse().unwrap(), frame.into(), publications.into(), [None].into(), &Held::default()))
    };
    let mut backlog = Backlog::default();
    let a: Topic = "a".parse().unwrap();
    backlog.push_batch(&without_key("[older]"), 0);
    backlog.push_batch(&without_key("[old]"), 0);
    backlog.push_gap(&a, Gap { from: None, to: None, reason: GapReason::Epoch }, Bytes::from_static(b"<epoch>"), false);
    backlog.push_batch(&without_key("[new]"), 0);
    backlog.push_batch(&without_key("[newer]"), 0);
    assert_eq!(backlog.conflate(&a, &Held::default()), 2, "on both sides of the gap");
    assert_eq!(text(&backlog), "[old]<epoch>[newer]");
}

#[test]
fn a_gap_between_epochs_is_part_of_the_gap_that_swallows_it() {
    let mut backlog = Backlog::default();
    let a: Topic = "a".parse().unwrap();
    let next = Position { offset: 5, epoch: Epoch::from_random(2) };
    backlog.push_batch(&batch("a", 3, &["[three]"]), 0);
    backlog.push_gap(&a, Gap { from: None, to: Some(next), reason: GapReason::Epoch }, Bytes::from_static(b"<epoch>"), false);
    backlog.push_batch(&batch("a", 6, &["[six]"]), 0);
    let mut told = Vec::new();
    let mut encode = |gap: Gap| {
        told.push(gap);
        Bytes::from_static(b"<gap>")
    };
    assert_eq!(backlog.drop_oldest(&a, 8, &mut encode), 2);
    assert_eq!(text(&backlog), "<gap>");
    assert_eq!((told[0].from.unwrap().offset, told[0].to.unwrap().offset, told[0].reason), (3, 6, GapReason::Epoch));
}

#[test]
fn the_oldest_publications_go_and_a_started_frame_stays() {
    let mut backlog = Backlog::default();
    backlog.push_batch(&batch("a", 1, &["[one]", "[two]", "[three]"]), 0);
    backlog.push_batch(&batch("b", 1, &["[other]"]), 0);
    backlog.push_batch(&batch("a", 4, &["[four]"]), 0);
    backlog.written(2);
    let a = "a".parse().unwrap();
    let mut encode = |gap: Gap| Bytes::from(format!("<gap {}-{}>", gap.from.unwrap().offset, gap.to.unwrap().offset));
    assert_eq!(backlog.drop_oldest(&a, 6, &mut encode), 2);
    assert_eq!(text(&backlog), "ne]<gap 2-3>[other][four]");
    assert_eq!(backlog.bytes(), text(&backlog).len());
    backlog.push_batch(&batch("a", 5, &["[five]"]), 0);
    assert_eq!(backlog.drop_oldest(&a, 1, &mut encode), 1);
    assert_eq!(text(&backlog), "ne]<gap 2-4>[other][five]");
    assert_eq!(backlog.drop_all(&a).map(|dropped| dropped.count), Some(1));
    assert_eq!(text(&backlog), "ne][other]", "whoever takes all tells what is missing");
    assert_eq!(backlog.drop_all(&"a".parse().unwrap()), None);
    assert_eq!(backlog.bytes(), text(&backlog).len());
}

#[test]
fn what_could_not_be_encoded_leaves_no_place_behind() {
    let mut backlog = Backlog::default();
    let a: Topic = "a".parse().unwrap();
    let gap = Gap { from: None, to: None, reason: GapReason::Unreadable };
    backlog.push_urgent_batch(&batch("a", 1, &["[one]"]), 0);
    for _ in 0..8 {
        backlog.push_gap(&a, gap, Bytes::new(), true);
    }
    backlog.written(5);
    backlog.push_urgent_batch(&batch("a", 2, &["[two]"]), 0);
    assert_eq!(text(&backlog), "[two]");
}

#[test]
fn who_stays_with_an_old_batch_does_not_keep_what_others_got_since() {
    let held = Held::default();
    let (mut stays, mut goes_on) = (Backlog::default(), Backlog::default());
    let a: Topic = "a".parse().unwrap();
    for n in 0..10_000 {
        let encoded = Encoded { seq: n, position: Some(Position { offset: n, epoch: Epoch::from_random(1) }), end: 1000 };
        let batch = Arc::new(Batch::new(a.clone(), vec![b'.'; 1000], [encoded].into(), Box::default(), &held));
        if n == 0 {
            stays.push_batch(&batch, 0);
        }
        goes_on.push_batch(&batch, 0);
        if goes_on.bytes() > 100_000 {
            goes_on.drop_oldest(&a, 1000, &mut |_| Bytes::new());
        }
    }
    assert!(held.bytes() < 600_000, "{}", held.bytes());
    drop(goes_on);
    assert!(held.bytes() < 300_000, "{}", held.bytes());
    drop(stays);
    assert_eq!(held.bytes(), 0);
}

#[test]
fn the_list_of_small_publications_of_two_topics_weighs_more_than_they_do() {
    let mut backlog = Backlog::default();
    assert_eq!((backlog.weight(true), backlog.list_bytes()), (0, 0));
    let batches = [batch("a", 1, &["[a]"]), batch("b", 1, &["[b]"])];
    for _ in 0..500 {
        for batch in &batches {
            backlog.push_batch(batch, 0);
        }
    }
    assert_eq!((backlog.bytes(), backlog.weight(false)), (3_000, 3_000));
    assert!(backlog.weight(true) > 20_000 && backlog.list_bytes() > 20_000, "{}", backlog.list_bytes());
    backlog.written(3_000);
    assert_eq!((backlog.weight(true), backlog.list_bytes()), (0, 0), "an idle connection keeps nothing of it");
}

#[test]
fn what_is_left_of_a_frame_is_counted_as_long_as_it_waits() {
    for len in [1_000, 20_000] {
        let held = Held::default();
        let mut backlog = Backlog::default();
        let encoded = Encoded { seq: 1, position: None, end: len };
        let batch = Arc::new(Batch::new("a".parse().unwrap(), vec![b'.'; len as usize], [encoded].into(), Box::default(), &held));
        backlog.push_batch(&batch, 0);
        drop(batch);
        let whole = held.bytes();
        backlog.written(10);
        assert!((len as usize - 10..=whole).contains(&held.bytes()), "{} of {whole}", held.bytes());
        backlog.written(len as usize - 10);
        assert_eq!(held.bytes(), 0);
    }
}

/// A backlog that knows nothing of batches: every publication stands by itself.
#[derive(Clone, Debug, Default)]
struct Model {
    partial: String,
    waiting: Vec<Item>,
}

/// The first and last number that is missing, and why.
type Missing = (u64, u64, GapReason);

#[derive(Clone, Debug)]
struct Item {
    what: What,
    text: String,
    /// What is urgent goes behind it.
    firm: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum What {
    Publication { topic: usize, key: Option<u8> },
    Gap { topic: usize, from: u64, to: u64, reason: GapReason },
    Frames,
}

impl Model {
    fn text(&self) -> String {
        self.waiting.iter().fold(self.partial.clone(), |text, item| text + &item.text)
    }

    fn urgent_at(&self) -> usize {
        self.waiting.iter().rposition(|item| item.firm).map_or(0, |at| at + 1)
    }

    fn push(&mut self, item: Item) {
        let at = if item.firm && item.what != What::Frames { self.urgent_at() } else { self.waiting.len() };
        self.waiting.insert(at, item);
    }

    fn written(&mut self, mut len: usize) {
        let taken = len.min(self.partial.len());
        self.partial.drain(..taken);
        len -= taken;
        while len > 0 {
            let item = self.waiting.remove(0);
            let taken = len.min(item.text.len());
            self.partial = item.text[taken..].to_owned();
            len -= taken;
        }
    }

    /// Takes the oldest of a topic out; gives where they stood, whether that was urgent, what is missing, and how many went.
    fn take(&mut self, of: usize, excess: usize) -> Option<(usize, bool, Missing, u64)> {
        let (mut gone, mut count, mut at, mut found) = (0, 0, 0, None::<(usize, bool, Missing)>);
        while at < self.waiting.len() && gone < excess {
            let (from, to, reason) = match self.waiting[at].what {
                What::Publication { topic, .. } if topic == of => {
                    gone += self.waiting[at].text.len();
                    count += 1;
                    let number = number_of(&self.waiting[at].text);
                    (number, number, GapReason::SlowConsumer)
                }
                What::Gap { topic, from, to, reason } if topic == of => (from, to, reason),
                _ => {
                    at += 1;
                    continue;
                }
            };
            let item = self.waiting.remove(at);
            let (.., missing) = found.get_or_insert((at, item.firm, (from, to, reason)));
            missing.1 = to;
            if reason != GapReason::SlowConsumer {
                missing.2 = reason;
            }
        }
        found.map(|(at, firm, missing)| (at, firm, missing, count))
    }

    fn drop_oldest(&mut self, of: usize, excess: usize) -> u64 {
        let Some((at, firm, (from, to, reason), count)) = self.take(of, excess) else { return 0 };
        let text = gap_text(of, from, to);
        self.waiting.insert(at, Item { what: What::Gap { topic: of, from, to, reason }, text, firm });
        count
    }

    fn conflate(&mut self, of: usize) -> u64 {
        let is_gap = |item: &Item| matches!(item.what, What::Gap { topic, .. } if topic == of);
        let mut parts: Vec<Vec<Item>> = vec![Vec::new()];
        for item in std::mem::take(&mut self.waiting) {
            if is_gap(&item) {
                parts.push(Vec::new());
            }
            parts.last_mut().unwrap().push(item);
        }
        let gone = parts.iter_mut().map(|part| conflate_part(part, of)).sum::<usize>();
        self.waiting = parts.concat();
        gone as u64
    }
}

/// What stands between two gaps of a topic; the first one may begin it.
fn conflate_part(part: &mut Vec<Item>, of: usize) -> usize {
    let is_of = |item: &Item| matches!(item.what, What::Publication { topic, .. } if topic == of);
    let Some(first) = part.iter().position(is_of) else { return 0 };
    let unchanged = part.clone();
    let (mut found, others): (Vec<Item>, Vec<Item>) = part.split_off(first).into_iter().partition(is_of);
    let before = found.len();
    let mut seen = HashSet::new();
    let mut newest: Vec<bool> = found.iter().rev().map(|item| seen.insert(format!("{:?}", item.what))).collect();
    found.retain(|_| newest.pop() == Some(true));
    let gone = before - found.len();
    part.extend(found);
    part.extend(others);
    if gone == 0 {
        *part = unchanged;
    }
    gone
}

/// The number in a publication's text.
fn number_of(text: &str) -> u64 {
    text.split('.').nth(1).unwrap().parse().unwrap()
}

fn gap_text(topic: usize, from: u64, to: u64) -> String {
    format!("<{topic}.{from}-{to}>")
}

fn position(offset: u64) -> Position {
    Position { offset, epoch: Epoch::from_random(1) }
}

/// The one that is urgent.
const URGENT: usize = 2;
const CONNECTIONS: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    /// A batch of so many publications, with keys and lengths; for each connection, from which of them on it gets it.
    Batch {
        topic: usize,
        publications: Vec<(Option<u8>, usize)>,
        from: [Option<u8>; CONNECTIONS],
    },
    Gap {
        topic: usize,
        to: usize,
        epoch: bool,
    },
    Firm {
        to: usize,
    },
    Loose {
        to: usize,
    },
    First {
        to: usize,
    },
    /// So much of what waits is written, in 256ths.
    Written {
        to: usize,
        part: usize,
    },
    DropOldest {
        to: usize,
        topic: usize,
        excess: usize,
    },
    DropAll {
        to: usize,
        topic: usize,
    },
    Conflate {
        to: usize,
        topic: usize,
    },
    Clear {
        to: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let topic = 0..3usize;
    let to = 0..CONNECTIONS;
    let publication = (proptest::option::weighted(0.8, 0..3u8), 0..30usize);
    let from = prop_oneof![6 => Just(Some(0)), 1 => (0..4u8).prop_map(Some), 1 => Just(None)];
    prop_oneof![
        12 => (topic.clone(), proptest::collection::vec(publication, 1..4), [from.clone(), from.clone(), from])
            .prop_map(|(topic, publications, from)| Step::Batch { topic, publications, from }),
        1 => (topic.clone(), to.clone(), any::<bool>()).prop_map(|(topic, to, epoch)| Step::Gap { topic, to, epoch }),
        1 => to.clone().prop_map(|to| Step::Firm { to }),
        1 => to.clone().prop_map(|to| Step::Loose { to }),
        1 => to.clone().prop_map(|to| Step::First { to }),
        4 => (to.clone(), 0..=256usize).prop_map(|(to, part)| Step::Written { to, part }),
        2 => (to.clone(), topic.clone(), 1..200usize).prop_map(|(to, topic, excess)| Step::DropOldest { to, topic, excess }),
        1 => (to.clone(), topic.clone()).prop_map(|(to, topic)| Step::DropAll { to, topic }),
        2 => (to.clone(), topic).prop_map(|(to, topic)| Step::Conflate { to, topic }),
        1 => to.prop_map(|to| Step::Clear { to }),
    ]
}

/// The numbers of each topic in what a connection got go up.
fn is_in_order(text: &str) -> bool {
    let mut last = [0; 3];
    let texts = text.split(['[', ']', '<', '>']).filter(|text| !text.is_empty() && !text.starts_with('('));
    for text in texts {
        let mut parts = text.split(['.', '-']);
        let mut next = || parts.next().and_then(|part| part.parse::<usize>().ok());
        let (Some(topic), Some(number)) = (next(), next()) else { return false };
        if number <= last[topic] {
            return false;
        }
        last[topic] = number;
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_backlog_does_what_a_list_of_publications_does(steps in proptest::collection::vec(step(), 1..80)) {
        let held = Held::default();
        let topics: Vec<Topic> = (0..3).map(|topic| format!("t{topic}").parse().unwrap()).collect();
        let mut numbers = [0_u64; 3];
        let mut backlogs: [Backlog; CONNECTIONS] = Default::default();
        let mut models: [Model; CONNECTIONS] = Default::default();
        let mut outs: [String; CONNECTIONS] = Default::default();
        for step in steps {
            match step.clone() {
                Step::Batch { topic, publications, from } => {
                    let (mut bytes, mut encoded, mut keys, mut items) = (String::new(), Vec::new(), Vec::new(), Vec::new());
                    for (key, len) in publications {
                        numbers[topic] += 1;
                        let number = numbers[topic];
                        let text = format!("[{topic}.{number}.{}]", "x".repeat(len));
                        bytes.push_str(&text);
                        encoded.push(Encoded { seq: number, position: Some(position(number)), end: bytes.len() as u32 });
                        keys.push(key.map(|key| key.to_string().into()));
                        items.push(Item { what: What::Publication { topic, key }, text, firm: topic == URGENT });
                    }
                    let batch = Arc::new(Batch::new(topics[topic].clone(), bytes.into(), encoded.into(), keys.into(), &held));
                    for ((backlog, model), from) in backlogs.iter_mut().zip(&mut models).zip(from) {
                        let Some(from) = from.map(|from| usize::from(from).min(items.len())) else { continue };
                        if topic == URGENT {
                            backlog.push_urgent_batch(&batch, from as u32);
                        } else {
                            backlog.push_batch(&batch, from as u32);
                        }
                        items[from..].iter().for_each(|item| model.push(item.clone()));
                    }
                }
                Step::Gap { topic, to, epoch } => {
                    numbers[topic] += 2;
                    let (first, last) = (numbers[topic] - 1, numbers[topic]);
                    let reason = if epoch { GapReason::Epoch } else { GapReason::SlowConsumer };
                    let text = gap_text(topic, first, last);
                    let gap = Gap { from: Some(position(first)), to: Some(position(last)), reason };
                    backlogs[to].push_gap(&topics[topic], gap, text.clone().into(), topic == URGENT);
                    models[to].push(Item { what: What::Gap { topic, from: first, to: last, reason }, text, firm: topic == URGENT });
                }
                Step::Firm { to } => {
                    backlogs[to].push_frames(Bytes::from_static(b"[(firm)]"));
                    models[to].push(Item { what: What::Frames, text: "[(firm)]".to_owned(), firm: true });
                }
                Step::Loose { to } => {
                    backlogs[to].push_loose(Bytes::from_static(b"[(loose)]"));
                    models[to].push(Item { what: What::Frames, text: "[(loose)]".to_owned(), firm: false });
                }
                Step::First { to } => {
                    backlogs[to].push_first(Bytes::from_static(b"[(ping)]"));
                    models[to].waiting.insert(0, Item { what: What::Frames, text: "[(ping)]".to_owned(), firm: true });
                }
                Step::Written { to, part } => {
                    let mut chunks = Vec::new();
                    backlogs[to].chunks(4, &mut chunks);
                    let chunks = chunks.concat();
                    let len = chunks.len() * part / 256;
                    outs[to].push_str(std::str::from_utf8(&chunks[..len]).unwrap());
                    prop_assert!(models[to].text().as_bytes().starts_with(&chunks));
                    backlogs[to].written(len);
                    models[to].written(len);
                }
                Step::DropOldest { to, topic, excess } => {
                    let mut encode = |gap: Gap| {
                        let (from, to) = (gap.from.unwrap().offset, gap.to.unwrap().offset);
                        gap_text(topic, from, to).into()
                    };
                    let dropped = backlogs[to].drop_oldest(&topics[topic], excess, &mut encode);
                    prop_assert_eq!(dropped, models[to].drop_oldest(topic, excess));
                }
                Step::DropAll { to, topic } => {
                    let first = backlogs[to].first_of(&topics[topic]);
                    let dropped = backlogs[to].drop_all(&topics[topic]);
                    let expected = models[to].take(topic, usize::MAX);
                    prop_assert_eq!(dropped.map(|dropped| dropped.count), expected.map(|(.., count)| count));
                    let missing = dropped.map(|dropped| (dropped.gap.from.unwrap().offset, dropped.gap.to.unwrap().offset, dropped.gap.reason));
                    prop_assert_eq!(missing, expected.map(|(_, _, missing, _)| missing));
                    prop_assert!(first.is_none_or(|first| missing.is_some_and(|missing| missing.0 == first.offset)));
                }
                Step::Conflate { to, topic } => {
                    let gone = backlogs[to].conflate(&topics[topic], &held);
                    prop_assert_eq!(gone, models[to].conflate(topic));
                }
                Step::Clear { to } => {
                    backlogs[to].clear();
                    models[to].waiting.clear();
                }
            }
            for (backlog, model) in backlogs.iter().zip(&models) {
                let expected = model.text();
                prop_assert_eq!(all(backlog), &expected[..], "after {:?}", step);
                prop_assert_eq!((backlog.bytes(), backlog.is_empty()), (expected.len(), expected.is_empty()));
                let urgent: usize = backlog.entries.iter().take(backlog.urgent_at as usize).map(entry_len).sum();
                let expected: usize = model.waiting[..model.urgent_at()].iter().map(|item| item.text.len()).sum();
                prop_assert_eq!(urgent, expected, "bytes that nothing overtakes, after {:?}", step);
            }
        }
        for ((backlog, model), out) in backlogs.iter_mut().zip(&mut models).zip(&mut outs) {
            out.push_str(&all(backlog));
            backlog.written(backlog.bytes());
            prop_assert!(backlog.is_empty() && backlog.entries.is_empty() && backlog.urgent_at == 0);
            prop_assert!(is_in_order(out), "{}", out);
            model.waiting.clear();
        }
        prop_assert_eq!(held.bytes(), 0, "batches that nobody waits for are gone");
    }
}

fn entry_len(entry: &Entry) -> usize {
    match entry {
        Entry::Run(run) => run.publications().map(|waiting| waiting.len()).sum(),
        Entry::Frames(frames) => frames.len(),
        Entry::Gap(gap) => gap.frames.len(),
    }
}

fn all(backlog: &Backlog) -> String {
    let mut chunks = Vec::new();
    backlog.chunks(usize::MAX, &mut chunks);
    String::from_utf8(chunks.concat()).unwrap()
}
