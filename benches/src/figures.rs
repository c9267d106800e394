//! Rounds of measurements as a table, with median and spread.

use crate::goals::median;

/// What one round measured, in nanoseconds of CPU per delivery.
#[derive(Clone, Copy)]
pub(crate) struct Round {
    /// The floor before and after the server.
    pub(crate) floor: [f64; 2],
    pub(crate) server: f64,
}

impl Round {
    fn floor_ns(&self) -> f64 {
        self.floor.iter().sum::<f64>() / 2.0
    }

    pub(crate) fn ratio(&self) -> f64 {
        self.server / self.floor_ns()
    }
}

/// Prints the rounds of one mode.
pub(crate) fn print(mode: &str, rounds: &[Round]) {
    println!("\n{mode}\n");
    println!("| round | floor before | floor after | server | ratio |");
    println!("|---|---|---|---|---|");
    for (number, round) in (1..).zip(rounds) {
        let [before, after] = round.floor;
        println!("| {number} | {before:.0} ns | {after:.0} ns | {:.0} ns | {:.3} |", round.server, round.ratio());
    }
    let (floor, server) = (Spread::of(rounds, Round::floor_ns), Spread::of(rounds, |round| round.server));
    let ratio = Spread::of(rounds, Round::ratio);
    println!("| median | {:.0} ns | | {:.0} ns | **{:.3}** |", floor.median, server.median, ratio.median);
    println!(
        "| least to most | {:.0} to {:.0} ns | | {:.0} to {:.0} ns | {:.3} to {:.3} |",
        floor.least, floor.most, server.least, server.most, ratio.least, ratio.most
    );
}

struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    /// There is at least one round.
    fn of(rounds: &[Round], value: impl Fn(&Round) -> f64) -> Self {
        let mut values: Vec<f64> = rounds.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        Self { least: values[0], median: median(&values), most: values[values.len() - 1] }
    }
}
