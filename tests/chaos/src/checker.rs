//! Compares what clients got with what was acknowledged, and counts every broken promise. Pure: what is counted is tested here.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
};

/// Where a publication stands.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Place {
    pub(crate) topic: String,
    pub(crate) epoch: String,
    pub(crate) offset: u64,
}

/// What a client was told of one topic.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Told {
    /// Subscribed; where the topic stands, and whether the client resumed and got everything.
    Subscribed { epoch: String, offset: u64, resumed: Option<bool> },
    /// A publication; its offset and number.
    Publication { offset: u64, number: u64 },
    /// Publications up to this position are missing, and it was said so.
    Gap { epoch: String, offset: u64 },
}

/// What a run showed. All but the last three must be 0.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Counts {
    /// Holes without a signal.
    pub(crate) lost: u64,
    /// Positions that named a second publication.
    pub(crate) disagree: u64,
    /// Publications with one key that stand twice in one epoch.
    pub(crate) log_dup: u64,
    /// Publications that a client got twice, or behind a later one.
    pub(crate) out_of_order: u64,
    /// Clients that were not at the head when all was well again.
    pub(crate) behind: u64,
    /// Resumes that could not be served, and gaps: told losses.
    pub(crate) signalled: u64,
    /// Resumes that were served whole.
    pub(crate) resumed: u64,
    /// Publications that clients got.
    pub(crate) received: u64,
}

impl Counts {
    /// Whether a promise was broken.
    pub(crate) fn is_clean(&self) -> bool {
        self.lost + self.disagree + self.log_dup + self.out_of_order + self.behind == 0
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.lost += other.lost;
        self.disagree += other.disagree;
        self.log_dup += other.log_dup;
        self.out_of_order += other.out_of_order;
        self.behind += other.behind;
        self.signalled += other.signalled;
        self.resumed += other.resumed;
        self.received += other.received;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "lost {} disagree {} log_dup {} out_of_order {} behind {} | signalled {} resumed {} received {}",
            self.lost, self.disagree, self.log_dup, self.out_of_order, self.behind, self.signalled, self.resumed, self.received
        )
    }
}

/// One client's view of one topic.
#[derive(Clone, Debug, Default)]
struct View {
    epoch: String,
    offset: u64,
    is_subscribed: bool,
}

/// Compares a run.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    /// What each position named first.
    named: HashMap<Place, u64>,
    /// Where each number stood first, in each epoch of its topic.
    placed: HashMap<(String, String, u64), u64>,
    views: BTreeMap<(String, String), View>,
    counts: Counts,
    /// What was broken, in words, for whoever looks into a failure.
    pub(crate) broken: Vec<String>,
}

/// Words are kept of so many broken promises.
const BROKEN_MAX: usize = 50;

impl Checker {
    /// A publish was acknowledged at this place.
    pub(crate) fn acknowledged(&mut self, place: Place, number: u64) {
        self.name("an answer", place, number);
    }

    /// A client was told something of a topic.
    pub(crate) fn told(&mut self, client: &str, topic: &str, told: Told) {
        let key = (client.to_owned(), topic.to_owned());
        let mut view = self.views.remove(&key).unwrap_or_default();
        match told {
            Told::Subscribed { epoch, offset, resumed } => {
                match resumed {
                    Some(true) if epoch != view.epoch => {
                        self.broken(|c| c.lost += 1, format!("{client} {topic}: recovered from epoch {:?} in {epoch:?}", view.epoch));
                        (view.epoch, view.offset) = (epoch, offset);
                    }
                    // What it missed comes now.
                    Some(true) => self.counts.resumed += 1,
                    Some(false) => {
                        self.counts.signalled += 1;
                        (view.epoch, view.offset) = (epoch, offset);
                    }
                    None => (view.epoch, view.offset) = (epoch, offset),
                }
                view.is_subscribed = true;
            }
            Told::Gap { epoch, offset } => {
                self.counts.signalled += 1;
                (view.epoch, view.offset) = (epoch, offset);
            }
            Told::Publication { offset, number } => {
                self.counts.received += 1;
                if offset <= view.offset {
                    self.broken(
                        |c| c.out_of_order += 1,
                        format!("{client} {topic}: {offset} comes behind {} in {}", view.offset, view.epoch),
                    );
                } else {
                    if offset > view.offset + 1 {
                        self.broken(
                            |c| c.lost += 1,
                            format!("{client} {topic}: {offset} comes behind {} in {}, in silence", view.offset, view.epoch),
                        );
                    }
                    view.offset = offset;
                }
                let place = Place { topic: topic.to_owned(), epoch: view.epoch.clone(), offset };
                self.name(client, place, number);
            }
        }
        self.views.insert(key, view);
    }

    /// All is well again, and the topics stand here: everybody must.
    pub(crate) fn finish(&mut self, heads: &[Place]) -> Counts {
        let heads: HashMap<&str, &Place> = heads.iter().map(|place| (place.topic.as_str(), place)).collect();
        let views = std::mem::take(&mut self.views);
        for ((client, topic), view) in &views {
            let Some(head) = heads.get(topic.as_str()) else { continue };
            if !view.is_subscribed || view.epoch != head.epoch || view.offset != head.offset {
                let text = format!("{client} {topic}: ends at {}@{}, the head is {}@{}", view.offset, view.epoch, head.offset, head.epoch);
                self.broken(|c| c.behind += 1, text);
            }
        }
        self.counts
    }

    /// Clients that stand at these heads.
    pub(crate) fn at_head(&self, heads: &[Place]) -> (usize, usize) {
        let heads: HashSet<(&str, &str, u64)> =
            heads.iter().map(|place| (place.topic.as_str(), place.epoch.as_str(), place.offset)).collect();
        let there =
            self.views.iter().filter(|((_, topic), view)| heads.contains(&(topic.as_str(), view.epoch.as_str(), view.offset))).count();
        (there, self.views.len())
    }

    fn name(&mut self, who: &str, place: Place, number: u64) {
        let first = *self.named.entry(place.clone()).or_insert(number);
        if first != number {
            self.broken(|c| c.disagree += 1, format!("{who}: {place:?} names {first} and {number}"));
        }
        let of_number = (place.topic.clone(), place.epoch.clone(), number);
        let at = *self.placed.entry(of_number).or_insert(place.offset);
        if at != place.offset {
            self.broken(|c| c.log_dup += 1, format!("{who}: {number} stands at {at} and {}", place.offset));
        }
    }

    fn broken(&mut self, count: impl FnOnce(&mut Counts), text: String) {
        count(&mut self.counts);
        if self.broken.len() < BROKEN_MAX {
            self.broken.push(text);
        }
    }
}

/// That the checker finds what it looks for.
#[cfg(test)]
mod tests {
    use super::*;

    fn subscribed(offset: u64, resumed: Option<bool>) -> Told {
        Told::Subscribed { epoch: "e".to_owned(), offset, resumed }
    }

    fn publication(offset: u64) -> Told {
        Told::Publication { offset, number: offset * 10 }
    }

    fn head(epoch: &str, offset: u64) -> Place {
        Place { topic: "t".to_owned(), epoch: epoch.to_owned(), offset }
    }

    fn run(all: &[Told], at: &Place) -> Counts {
        let mut checker = Checker::default();
        for told in all {
            checker.told("c", "t", told.clone());
        }
        checker.finish(std::slice::from_ref(at))
    }

    #[test]
    fn an_orderly_conversation_is_clean() {
        let all = [subscribed(0, None), publication(1), publication(2), subscribed(3, Some(true)), publication(3)];
        let counts = run(&all, &head("e", 3));
        assert!(counts.is_clean(), "{counts}");
        assert_eq!((counts.received, counts.resumed), (3, 1));
    }

    #[test]
    fn told_losses_are_no_broken_promise() {
        let other = Told::Subscribed { epoch: "f".to_owned(), offset: 7, resumed: Some(false) };
        let counts = run(&[subscribed(0, None), publication(1), other, Told::Gap { epoch: "g".to_owned(), offset: 9 }], &head("g", 9));
        assert!(counts.is_clean(), "{counts}");
        assert_eq!(counts.signalled, 2);
    }

    #[test]
    fn a_silent_hole_is_lost() {
        assert_eq!(run(&[subscribed(0, None), publication(1), publication(3)], &head("e", 3)).lost, 1);
        assert_eq!(run(&[subscribed(1, None), subscribed(4, Some(true)), publication(3), publication(4)], &head("e", 4)).lost, 1);
    }

    #[test]
    fn recovered_in_another_epoch_is_lost() {
        let other = Told::Subscribed { epoch: "f".to_owned(), offset: 1, resumed: Some(true) };
        assert_eq!(run(&[subscribed(1, None), other], &head("f", 1)).lost, 1);
    }

    #[test]
    fn a_double_and_a_late_one_are_out_of_order() {
        assert_eq!(run(&[subscribed(0, None), publication(1), publication(1)], &head("e", 1)).out_of_order, 1);
        assert_eq!(run(&[subscribed(4, None), publication(5), publication(4)], &head("e", 5)).out_of_order, 1);
    }

    #[test]
    fn a_position_with_two_meanings_is_a_disagreement() {
        let mut checker = Checker::default();
        checker.acknowledged(head("e", 1), 10);
        checker.acknowledged(head("e", 1), 11);
        assert_eq!(checker.finish(&[]).disagree, 1);
    }

    #[test]
    fn what_a_client_hears_is_compared_with_answers_and_with_other_clients() {
        let told = |number| [subscribed(0, None), Told::Publication { offset: 1, number }];
        let mut checker = Checker::default();
        checker.acknowledged(head("e", 1), 10);
        for (client, number) in [("a", 10), ("b", 11)] {
            for told in told(number) {
                checker.told(client, "t", told);
            }
        }
        assert_eq!(checker.finish(&[head("e", 1)]).disagree, 1);
        let mut checker = Checker::default();
        for (client, number) in [("a", 10), ("b", 11)] {
            for told in told(number) {
                checker.told(client, "t", told);
            }
        }
        assert_eq!(checker.finish(&[head("e", 1)]).disagree, 1);
    }

    #[test]
    fn counts_of_runs_are_added_up_and_every_broken_promise_is_one() {
        let one = Counts { lost: 1, disagree: 2, log_dup: 3, out_of_order: 4, behind: 5, signalled: 6, resumed: 7, received: 8 };
        let mut sum = one;
        sum.add(&one);
        assert_eq!(sum, Counts { lost: 2, disagree: 4, log_dup: 6, out_of_order: 8, behind: 10, signalled: 12, resumed: 14, received: 16 });
        let none = Counts::default();
        assert!(Counts { signalled: 1, resumed: 1, received: 1, ..none }.is_clean());
        for broken in [
            Counts { lost: 1, ..none },
            Counts { disagree: 1, ..none },
            Counts { log_dup: 1, ..none },
            Counts { out_of_order: 1, ..none },
            Counts { behind: 1, ..none },
        ] {
            assert!(!broken.is_clean(), "{broken}");
        }
    }

    #[test]
    fn one_number_at_two_places_is_a_double_in_the_log() {
        let mut checker = Checker::default();
        checker.acknowledged(head("e", 1), 10);
        checker.acknowledged(head("e", 2), 10);
        checker.acknowledged(head("f", 2), 10);
        assert_eq!(checker.finish(&[]).log_dup, 1);
    }

    #[test]
    fn whoever_ends_before_the_head_is_behind() {
        assert_eq!(run(&[subscribed(0, None), publication(1)], &head("e", 2)).behind, 1);
        assert_eq!(run(&[subscribed(0, None)], &head("f", 0)).behind, 1);
    }
}
