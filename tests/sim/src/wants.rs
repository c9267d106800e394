//! What of a topic one subscription asks for: a condition on tags, and a pace. How it is checked stands in the follower.

use fastrand::Rng;
use serde_json::{Value, json};

use crate::wire::Language;

/// The tag that publications of the simulation carry.
pub(crate) const TAG: &str = "c";
/// Its values.
pub(crate) const CLASSES: [&str; 3] = ["a", "b", "c"];

/// A condition on the tag of a publication.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ByTag {
    /// It has this value.
    Is(&'static str),
    /// It has another value, or there is none.
    IsNot(&'static str),
    /// It is there.
    IsThere,
}

/// What a subscription wants. The default is everything at once.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Wants {
    /// Only publications whose tag passes.
    pub(crate) filter: Option<ByTag>,
    /// At most one update in so many milliseconds, of each key.
    pub(crate) pace_ms: Option<u64>,
}

impl Wants {
    /// What a client of this language may ask for; mostly everything.
    pub(crate) fn any(language: Language, rng: &mut Rng) -> Self {
        let mut wants = Self::default();
        if rng.u8(0..5) == 0 {
            let class = CLASSES[rng.usize(0..CLASSES.len())];
            wants.filter = Some([ByTag::Is(class), ByTag::IsNot(class), ByTag::IsThere][rng.usize(0..3)]);
        }
        // The Centrifuge protocol has no word for it.
        if language != Language::Centrifuge && rng.u8(0..5) == 0 {
            wants.pace_ms = Some([10, 50, 200, 1_000][rng.usize(0..4)]);
        }
        wants
    }

    /// Whether a publication with this tag is wanted.
    pub(crate) fn passes(&self, class: Option<&str>) -> bool {
        match self.filter {
            None => true,
            Some(ByTag::Is(value)) => class == Some(value),
            Some(ByTag::IsNot(value)) => class != Some(value),
            Some(ByTag::IsThere) => class.is_some(),
        }
    }

    /// Adds it to a subscribe: the filter under this name, and the pace as updates a second.
    pub(crate) fn write(&self, filter: &str, subscribe: &mut Value) {
        if let Some(by_tag) = self.filter {
            subscribe[filter] = match by_tag {
                ByTag::Is(value) => json!({"key": TAG, "cmp": "eq", "val": value}),
                ByTag::IsNot(value) => json!({"op": "not", "nodes": [{"key": TAG, "cmp": "in", "vals": [value]}]}),
                ByTag::IsThere => json!({"key": TAG, "cmp": "ex"}),
            };
        }
        if let Some(pace_ms) = self.pace_ms {
            subscribe["rate"] = json!(1_000 / pace_ms);
        }
    }
}
