//! `[backplane]`: what carries publications between nodes.

use super::{field::choice, visit::Visitor};

/// What carries publications between nodes.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Backplane {
    /// Which one. Default: [`BackplaneKind::Memory`].
    pub kind: BackplaneKind,
}

/// The backplanes there are.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum BackplaneKind {
    /// One node, history in its memory: a restart is a new epoch.
    #[default]
    Memory,
}

impl Backplane {
    pub(super) fn visit(&mut self, visitor: &mut dyn Visitor) {
        visitor.section("backplane", "What carries publications between nodes and keeps history.", &mut |keys| {
            keys.key(
                "kind",
                "\"memory\": one node, history ends with the process.",
                &mut choice(
                    &mut self.kind,
                    &[("memory", BackplaneKind::Memory)],
                    &[("redis", "run one node with kind = \"memory\" until then")],
                ),
            );
            for name in ["url", "prefix"] {
                keys.later(name, "it belongs to the Redis backplane: remove it, and run one node with kind = \"memory\"");
            }
        });
    }
}
