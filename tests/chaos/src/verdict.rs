//! What is wrong with a run, and the line of the table for all runs of a schedule. Pure: what a run must show is tested here.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    checker::Counts,
    schedules::{Must, Schedule},
    world::Outcome,
};

/// After the last publication all clients must have all within this time.
const CALM_WITHIN: Duration = Duration::from_secs(5);

/// What is wrong with one run.
pub(crate) fn of_run(must: &Must, outcome: &Outcome) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut unless = |holds: bool, what: &dyn Fn() -> String| {
        if !holds {
            wrong.push(what());
        }
    };
    let counts = &outcome.counts;
    let forgotten = if must.forget_keys { counts.log_dup } else { 0 };
    unless(Counts { log_dup: counts.log_dup - forgotten, ..*counts }.is_clean(), &|| counts.to_string());
    unless(outcome.acknowledged > 0, &|| "nothing was published".to_owned());
    unless(!must.signal || counts.signalled > 0, &|| "nobody was told of the loss".to_owned());
    unless(!must.not_signal || counts.signalled == 0, &|| format!("{} losses were told, and there was none", counts.signalled));
    unless(!must.keep_sockets || outcome.disconnects.is_empty(), &|| {
        format!("connections ended: {:?} (code: how many)", outcome.disconnects)
    });
    unless(outcome.failures.keys().all(|failure| is_expected(must, failure)), &|| {
        format!("publishes were answered {:?}", outcome.failures)
    });
    unless(outcome.slowest_publish <= must.publish_within, &|| {
        format!("a publish took {:?}, {:?} at most", outcome.slowest_publish, must.publish_within)
    });
    unless(outcome.calm_after <= CALM_WITHIN, &|| format!("not everybody had all {:?} after the last publication", outcome.calm_after));
    if must.heal_within.is_some() {
        unless(outcome.healed.never == 0, &|| format!("{} subscriptions heard nothing any more", outcome.healed.never));
        unless(!outcome.healed.after.is_empty(), &|| "nobody was waited for".to_owned());
    }
    if let Some(most) = must.ready_within {
        unless(outcome.ready_after.last().is_some_and(|after| *after <= most), &|| {
            format!("nodes were ready {:?} after the cure, {most:?} at most", outcome.ready_after)
        });
    }
    wrong
}

/// 503 is what a node says that cannot publish; only a node that is gone, or stands still, gives no answer.
fn is_expected(must: &Must, failure: &str) -> bool {
    failure == "503" || (!must.answer && ["no connection", "a connection that broke", "no answer in 5 s"].contains(&failure))
}

/// All runs of a schedule.
#[derive(Debug, Default)]
pub(crate) struct Sum {
    counts: Counts,
    runs: u64,
    acknowledged: u64,
    refused: u64,
    disconnects: u64,
    healed: Vec<Duration>,
    ready_after: Duration,
    slowest_publish: Duration,
    calm_after: Duration,
}

/// The head of the table.
pub(crate) const HEAD: &str = "\
| schedule | runs | acknowledged | received | lost | disagree | log_dup | out of order | behind | signalled | resumed | disconnects | refused | slowest publish | \
heal p99 | ready | calm | verdict |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|";

impl Sum {
    pub(crate) fn add(&mut self, outcome: &Outcome) {
        self.counts.add(&outcome.counts);
        self.runs += 1;
        self.acknowledged += outcome.acknowledged;
        self.refused += total(&outcome.failures);
        self.disconnects += total(&outcome.disconnects);
        self.healed.extend(&outcome.healed.after);
        self.healed.sort();
        self.ready_after = self.ready_after.max(outcome.ready_after.last().copied().unwrap_or_default());
        self.slowest_publish = self.slowest_publish.max(outcome.slowest_publish);
        self.calm_after = self.calm_after.max(outcome.calm_after);
    }

    /// What is wrong with all runs together.
    pub(crate) fn wrong(&self, must: &Must) -> Option<String> {
        let (most, p99) = (must.heal_within?, p99(&self.healed)?);
        (p99 > most).then(|| format!("99 of 100 subscriptions heard something again within {p99:?}, {most:?} at most"))
    }

    pub(crate) fn line(&self, schedule: &Schedule, is_good: bool) -> String {
        let Counts { lost, disagree, log_dup, out_of_order, behind, signalled, resumed, received } = self.counts;
        let shown = |time: Option<Duration>| {
            time.filter(|time| !time.is_zero()).map_or_else(|| "-".to_owned(), |time| format!("{} ms", time.as_millis()))
        };
        let cells = [
            schedule.name.to_owned(),
            self.runs.to_string(),
            self.acknowledged.to_string(),
            received.to_string(),
            lost.to_string(),
            disagree.to_string(),
            log_dup.to_string(),
            out_of_order.to_string(),
            behind.to_string(),
            signalled.to_string(),
            resumed.to_string(),
            self.disconnects.to_string(),
            self.refused.to_string(),
            shown(Some(self.slowest_publish)),
            shown(p99(&self.healed)),
            shown(Some(self.ready_after)),
            shown(Some(self.calm_after)),
            if is_good { "good" } else { "BAD" }.to_owned(),
        ];
        format!("| {} |", cells.join(" | "))
    }
}

fn total<K>(counts: &BTreeMap<K, u64>) -> u64 {
    counts.values().sum()
}

/// 99 of 100 are not later.
fn p99(sorted: &[Duration]) -> Option<Duration> {
    sorted.get((sorted.len() * 99).div_ceil(100).checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heard::Healed;

    const STRICT: Must = Must {
        signal: false,
        not_signal: true,
        keep_sockets: true,
        answer: true,
        forget_keys: false,
        heal_within: Some(Duration::from_millis(500)),
        ready_within: Some(Duration::from_secs(5)),
        publish_within: Duration::from_secs(6),
    };

    fn good() -> Outcome {
        Outcome {
            counts: Counts { received: 10, ..Counts::default() },
            broken: Vec::new(),
            acknowledged: 10,
            slowest_publish: Duration::from_millis(5),
            failures: BTreeMap::from([("503".to_owned(), 3)]),
            healed: Healed { after: vec![Duration::from_millis(10)], never: 0 },
            ready_after: vec![Duration::from_millis(10)],
            disconnects: BTreeMap::new(),
            calm_after: Duration::from_millis(1),
        }
    }

    fn check(must: Must, change: impl FnOnce(&mut Outcome), complaints: usize) {
        let mut outcome = good();
        change(&mut outcome);
        let wrong = of_run(&must, &outcome);
        assert_eq!(wrong.len(), complaints, "{wrong:?}");
    }

    #[test]
    fn a_good_run_is_good() {
        check(STRICT, |_| {}, 0);
    }

    #[test]
    fn every_broken_promise_is_a_complaint() {
        check(STRICT, |outcome| outcome.counts.lost = 1, 1);
        check(STRICT, |outcome| outcome.counts.disagree = 1, 1);
        check(STRICT, |outcome| outcome.counts.out_of_order = 1, 1);
        check(STRICT, |outcome| outcome.counts.behind = 1, 1);
        check(STRICT, |outcome| outcome.counts.log_dup = 1, 1);
        check(Must { forget_keys: true, ..STRICT }, |outcome| outcome.counts.log_dup = 1, 0);
        check(STRICT, |outcome| outcome.acknowledged = 0, 1);
        check(STRICT, |outcome| outcome.counts.signalled = 1, 1);
        check(Must { signal: true, not_signal: false, ..STRICT }, |_| {}, 1);
        check(STRICT, |outcome| _ = outcome.disconnects.insert(3008, 1), 1);
        check(Must { keep_sockets: false, ..STRICT }, |outcome| _ = outcome.disconnects.insert(3001, 1), 0);
    }

    #[test]
    fn answers_other_than_503_are_complaints_while_nodes_are_there() {
        check(STRICT, |outcome| _ = outcome.failures.insert("no connection".to_owned(), 1), 1);
        check(Must { answer: false, ..STRICT }, |outcome| _ = outcome.failures.insert("no connection".to_owned(), 1), 0);
        check(Must { answer: false, ..STRICT }, |outcome| _ = outcome.failures.insert("500".to_owned(), 1), 1);
    }

    #[test]
    fn late_is_a_complaint() {
        check(STRICT, |outcome| outcome.slowest_publish = Duration::from_secs(7), 1);
        check(STRICT, |outcome| outcome.calm_after = Duration::from_secs(6), 1);
        check(STRICT, |outcome| outcome.ready_after.push(Duration::from_secs(6)), 1);
        check(STRICT, |outcome| outcome.ready_after.clear(), 1);
        check(STRICT, |outcome| outcome.healed.never = 1, 1);
        check(STRICT, |outcome| outcome.healed.after.clear(), 1);
        let mut sum = Sum::default();
        sum.add(&good());
        assert_eq!(sum.wrong(&STRICT), None);
        sum.add(&Outcome { healed: Healed { after: vec![Duration::from_secs(1)], never: 0 }, ..good() });
        assert!(sum.wrong(&STRICT).is_some());
    }
}
