//! `[default]` and `[namespaces.NAME]`: the options of topics.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use broker_core::{Namespace, Priority, Recovery, SlowConsumer, Verbs};

use super::{
    field::{asked, choice, count, duration, size, switch, verbs},
    visit::Visitor,
};

/// The most publications that a topic may keep.
const HISTORY_MAX: usize = 100_000;

/// The most keys that the state of a topic may have.
const STATE_MAX: usize = 1_000_000;
/// The least and the most bytes that a topic may keep.
const BYTES: RangeInclusive<u64> = 1 << 10..=1 << 36;

/// What the application is asked about in each namespace, besides the options that the engine knows.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Asked {
    /// `default.hooks`: topics without a namespace.
    pub default: NamespaceHooks,
    /// `namespaces.NAME.hooks`.
    pub named: BTreeMap<String, NamespaceHooks>,
}

/// The `hooks` of one namespace.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct NamespaceHooks {
    /// What the application decides there.
    pub decides: Verbs,
    /// Whether it gives the current states of the topics.
    pub snapshot: bool,
}

pub(super) fn visit_default(namespace: &mut Namespace, asked: &mut Asked, visitor: &mut dyn Visitor) {
    visitor.section("default", "Topics without a namespace: no `:` in the name.", &mut |keys| {
        visit_keys(namespace, &mut asked.default, keys);
    });
}

pub(super) fn visit_named(namespaces: &mut BTreeMap<String, Namespace>, asked: &mut Asked, base: &Namespace, visitor: &mut dyn Visitor) {
    let there = namespaces.keys().cloned().collect();
    visitor.named("namespaces", "Topics of one namespace: \"orders:7\" has the namespace \"orders\".", there, &mut |name, keys| {
        let namespace = namespaces.entry(name.to_owned()).or_insert_with(|| base.clone());
        visit_keys(namespace, asked.named.entry(name.to_owned()).or_default(), keys);
    });
}

fn visit_keys(namespace: &mut Namespace, hooks: &mut NamespaceHooks, keys: &mut dyn Visitor) {
    keys.key("history_size", "Most publications kept per topic; 0 keeps none.", &mut count(&mut namespace.history_size, 0..=HISTORY_MAX));
    keys.key(
        "history_ttl",
        "How long they are kept after the topic's last one.",
        &mut duration(&mut namespace.history_ttl, Duration::from_secs(1)..=Duration::from_secs(366 * 86_400)),
    );
    keys.key(
        "history_bytes",
        "Most bytes of them; the oldest go first, the newest one stays.",
        &mut size(&mut namespace.history_bytes, BYTES),
    );
    visit_state(namespace, keys);
    keys.key(
        "memory_max",
        "Most bytes that this process keeps of all topics of the namespace; a publish that would be more is refused.",
        &mut size(&mut namespace.memory_max, 1 << 20..=1 << 40),
    );
    keys.key(
        "recovery",
        "How a subscription resumes after a break: with all that was missed, with the newest, or not.",
        &mut choice(&mut namespace.recovery, &[("stream", Recovery::Stream), ("cache", Recovery::Cache), ("off", Recovery::Off)], &[]),
    );
    keys.key("presence", "Whether it can be asked who listens.", &mut switch(&mut namespace.presence));
    keys.key("join_leave", "Whether subscribers are told who comes and goes.", &mut switch(&mut namespace.join_leave));
    keys.key(
        "slow_consumer",
        "What happens to a client that reads too slowly: it is closed and resumes; loses the oldest and is told; gets only the newest, of each \
         key; or gets what it let go by from the history, once it has read the rest.",
        &mut choice(
            &mut namespace.slow_consumer,
            &[
                ("disconnect", SlowConsumer::Disconnect),
                ("drop_oldest", SlowConsumer::DropOldest),
                ("latest", SlowConsumer::Latest),
                ("catch_up", SlowConsumer::CatchUp),
            ],
            &[],
        ),
    );
    keys.key("filter", "Whether clients may ask for a part of the publications, by their tags.", &mut switch(&mut namespace.filter));
    keys.key(
        "priority",
        "Whether publications overtake those of other topics that wait for the same client.",
        &mut choice(&mut namespace.priority, &[("normal", Priority::Normal), ("high", Priority::High)], &[]),
    );
    keys.key(
        "allow",
        "What whoever is connected may do: subscribe, publish, read the history, read the presence.",
        &mut verbs(&mut namespace.allow),
    );
    keys.key(
        "hooks",
        "What the application is asked: with \"subscribe\" and \"publish\" it decides, whatever `allow` says, at hooks.subscribe.url and \
         hooks.publish.url; with \"snapshot\" it gives what new subscribers get first, at hooks.snapshot.url.",
        &mut asked(hooks),
    );
    keys.key("allow_anonymous", "Whether `allow` holds for clients without a token too.", &mut switch(&mut namespace.allow_anonymous));
    keys.later("delta", "remove the key: publications go out whole");
}

fn visit_state(namespace: &mut Namespace, keys: &mut dyn Visitor) {
    keys.key(
        "keyed",
        "Whether the newest publication of each key is kept, as the state that new subscribers get. Needs a history.",
        &mut switch(&mut namespace.keyed),
    );
    keys.key(
        "state_size",
        "Most keys in the state of a topic; a new one beyond is refused.",
        &mut count(&mut namespace.state_size, 1..=STATE_MAX),
    );
    keys.key(
        "state_bytes",
        "Most bytes of the state of a topic; what would be more is refused.",
        &mut size(&mut namespace.state_bytes, BYTES),
    );
    keys.key(
        "state_ttl",
        "How long the state is kept after the topic's last publication, while nobody listens.",
        &mut duration(&mut namespace.state_ttl, Duration::from_secs(1)..=Duration::from_secs(366 * 86_400)),
    );
}
