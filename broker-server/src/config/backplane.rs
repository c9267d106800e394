//! `[backplane]`: what carries publications between nodes.

use std::time::Duration;

use super::{
    field::{choice, duration},
    visit::Visitor,
};

/// What carries publications between nodes.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Backplane {
    /// Which one. Default: [`BackplaneKind::Memory`].
    pub kind: BackplaneKind,
    /// Time to take a publish. 100 ms to 5 min. Default: 10 s.
    pub publish_timeout: Duration,
    /// Time for everything else. 100 ms to 5 min. Default: 5 s.
    pub timeout: Duration,
}

impl Default for Backplane {
    fn default() -> Self {
        Self { kind: BackplaneKind::default(), publish_timeout: Duration::from_secs(10), timeout: Duration::from_secs(5) }
    }
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
            let times = Duration::from_millis(100)..=Duration::from_secs(300);
            keys.key(
                "publish_timeout",
                "Time that a publish may take; then the publisher is told to try again.",
                &mut duration(&mut self.publish_timeout, times.clone()),
            );
            keys.key(
                "timeout",
                "Time that everything else may take, presence included; then it has failed, and is repeated or refused for now.",
                &mut duration(&mut self.timeout, times),
            );
            for name in ["url", "prefix"] {
                keys.later(name, "it belongs to the Redis backplane: remove it, and run one node with kind = \"memory\"");
            }
        });
    }
}
