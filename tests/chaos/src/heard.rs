//! When clients were told what, beside what is checked: how long they waited after a cure, and when they lost their connections.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// What is measured of all clients.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// Who is waited for at this time.
    watch: Mutex<Option<Watch>>,
    /// What earlier watches measured.
    healed: Mutex<Healed>,
    /// When clients lost their connections, by the code they were told.
    pub(crate) disconnects: Mutex<BTreeMap<u32, Vec<Instant>>>,
    /// When clients were subscribed, at first and again, with the topic.
    pub(crate) subscribed: Mutex<Vec<(Instant, String)>>,
}

/// Waits of subscriptions, sorted, and how many heard nothing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Healed {
    pub(crate) after: Vec<Duration>,
    pub(crate) never: u64,
}

/// Who is waited for since when.
#[derive(Debug)]
struct Watch {
    begun: Instant,
    /// Only what was published later counts.
    from_number: u64,
    /// Client and topic, and after how long it heard something.
    waits: HashMap<(String, String), Option<Duration>>,
}

impl Heard {
    /// From here on it is measured when each of these hears a publication again that is not older than this number.
    pub(crate) fn watch(&self, from_number: u64, who: impl IntoIterator<Item = (String, String)>) {
        self.end_watch();
        let waits = who.into_iter().map(|subscription| (subscription, None)).collect();
        *self.watch.lock() = Some(Watch { begun: Instant::now(), from_number, waits });
    }

    /// What all watches measured.
    pub(crate) fn healed(&self) -> Healed {
        self.end_watch();
        let mut healed = self.healed.lock().clone();
        healed.after.sort();
        healed
    }

    pub(crate) fn publication(&self, client: &str, topic: &str, number: u64) {
        let mut watch = self.watch.lock();
        let Some(watch) = watch.as_mut().filter(|watch| number >= watch.from_number) else { return };
        if let Some(wait) = watch.waits.get_mut(&(client.to_owned(), topic.to_owned())) {
            wait.get_or_insert(watch.begun.elapsed());
        }
    }

    pub(crate) fn disconnected(&self, code: u32) {
        self.disconnects.lock().entry(code).or_default().push(Instant::now());
    }

    pub(crate) fn subscribed(&self, topic: &str) {
        self.subscribed.lock().push((Instant::now(), topic.to_owned()));
    }

    fn end_watch(&self) {
        let Some(watch) = self.watch.lock().take() else { return };
        let mut healed = self.healed.lock();
        for wait in watch.waits.into_values() {
            match wait {
                Some(wait) => healed.after.push(wait),
                None => healed.never += 1,
            }
        }
    }
}

/// The most of these moments that lie in a tenth of a second, and how many tenths there are from the first to the last of them.
pub(crate) fn crowding(moments: &[Instant]) -> (usize, usize) {
    let Some(first) = moments.iter().min() else { return (0, 0) };
    let mut tenths: BTreeMap<u128, usize> = BTreeMap::new();
    for moment in moments {
        *tenths.entry(moment.duration_since(*first).as_millis() / 100).or_default() += 1;
    }
    let last = tenths.keys().next_back().copied().unwrap_or_default();
    (tenths.values().copied().max().unwrap_or_default(), usize::try_from(last).unwrap_or(usize::MAX).saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription(client: &str) -> (String, String) {
        (client.to_owned(), "t".to_owned())
    }

    #[test]
    fn whoever_hears_nothing_new_never_healed() {
        let heard = Heard::default();
        heard.watch(10, [subscription("a"), subscription("b"), subscription("c")]);
        heard.publication("a", "t", 9);
        heard.publication("b", "t", 10);
        heard.publication("c", "other", 11);
        heard.publication("d", "t", 11);
        let healed = heard.healed();
        assert_eq!((healed.after.len(), healed.never), (1, 2));
    }

    #[test]
    fn the_first_publication_counts_and_every_watch() {
        let heard = Heard::default();
        heard.watch(1, [subscription("a")]);
        heard.publication("a", "t", 1);
        heard.watch(2, [subscription("a")]);
        heard.publication("a", "t", 1);
        assert_eq!((heard.healed().after.len(), heard.healed().never), (1, 1));
    }

    #[test]
    fn tenths_of_a_second_are_counted() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        assert_eq!(crowding(&[]), (0, 0));
        assert_eq!(crowding(&[at(50), at(149), at(151), at(420)]), (2, 4));
    }
}
