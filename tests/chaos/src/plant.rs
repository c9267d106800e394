//! Lies about what a client was told: that a whole run notices them is the test of everything that compares and counts.

use clap::ValueEnum;

use crate::checker::Told;

/// A mistake that is put into what the first client of a program is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Lie {
    /// It does not hear a publication.
    Lost,
    /// It hears one twice.
    Double,
    /// It hears another one in its place.
    Disagree,
    /// It hears none any more.
    Behind,
}

/// The publication of the first client of a program to which it is done.
const AT: u64 = 40;

/// Puts mistakes into what one program says.
#[derive(Debug, Default)]
pub(crate) struct Planter {
    lie: Option<Lie>,
    publications: u64,
}

impl Planter {
    pub(crate) fn new(lie: Option<Lie>) -> Self {
        Self { lie, publications: 0 }
    }

    /// What is told in place of it: nothing, it, or more.
    pub(crate) fn tell(&mut self, client: &str, topic: &str, told: Told) -> Vec<Told> {
        let (Some(lie), Told::Publication { offset, number }) = (self.lie, &told) else { return vec![told] };
        if !client.ends_with("-0") || topic != crate::world::FIRST_TOPIC {
            return vec![told];
        }
        self.publications += 1;
        match lie {
            Lie::Behind if self.publications >= AT => Vec::new(),
            Lie::Lost if self.publications == AT => Vec::new(),
            Lie::Double if self.publications == AT => vec![told.clone(), told],
            Lie::Disagree if self.publications == AT => vec![Told::Publication { offset: *offset, number: number + 1_000_000 }],
            _ => vec![told],
        }
    }
}
