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

/// Prints the rounds of one mode: the floor, one node and two nodes in each.
pub(crate) fn print_nodes(mode: &str, rounds: &[Vec<f64>]) {
    println!("\n{mode}\n");
    println!("| round | floor | one node | two nodes | one / floor | two / floor | two / one |");
    println!("|---|---|---|---|---|---|---|");
    let row = |name: &str, ns: &[f64], [one, two, both]: [f64; 3]| {
        println!("| {name} | {:.0} ns | {:.0} ns | {:.0} ns | {one:.3} | {two:.3} | **{both:.3}** |", ns[0], ns[1], ns[2]);
    };
    for (number, ns) in (1..).zip(rounds) {
        row(&format!("{number}"), ns, [ns[1] / ns[0], ns[2] / ns[0], ns[2] / ns[1]]);
    }
    let median = |value: &dyn Fn(&Vec<f64>) -> f64| Spread::of(rounds, value).median;
    let ns: Vec<f64> = (0..3).map(|column| median(&|ns| ns[column])).collect();
    row("median", &ns, [median(&|ns| ns[1] / ns[0]), median(&|ns| ns[2] / ns[0]), median(&|ns| ns[2] / ns[1])]);
}

struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    /// There is at least one round.
    fn of<R>(rounds: &[R], value: impl Fn(&R) -> f64) -> Self {
        let mut values: Vec<f64> = rounds.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        Self { least: values[0], median: median(&values), most: values[values.len() - 1] }
    }
}
