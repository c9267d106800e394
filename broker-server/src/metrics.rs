//! `/metrics`: a snapshot of the node's counters as text for Prometheus. Counting and serving do not live here.

use std::{fmt, time::Duration};

use broker::{Gate, RedisHealth};
use broker_auth::HookCounts;
use broker_core::{Kept, Latency, Stats};
use broker_redis::LinkState;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::{Registry, Unit},
};

/// The content type of what [`render`] returns.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Namespaces whose bytes are told apart.
const NAMESPACES_MAX: usize = 100;

/// The counters of a node at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Values that go up and down: name, meaning, value.
    gauges: Vec<(&'static str, &'static str, u64)>,
    /// Values that only grow.
    counters: Vec<(&'static str, &'static str, u64)>,
    /// Publications that a client did not get, by cause.
    drops: Vec<(&'static str, u64)>,
    /// Ends of connections, by cause.
    closes: Vec<(&'static str, u64)>,
    /// The hooks that are called over HTTP.
    called: Vec<HookCounts>,
    /// Connections that the gate refused, by cause.
    turned_away: Vec<(&'static str, u64)>,
    hooks: Buckets,
    ticks: Buckets,
    backlog_bytes: u64,
    /// Bytes that are kept, by namespace.
    kept: Vec<(String, u64)>,
    /// The links to Redis.
    links: Vec<Link>,
    uptime: Duration,
}

/// A link to Redis.
#[derive(Clone, Debug)]
struct Link {
    name: String,
    is_up: bool,
    connects: u64,
    connect_failures: u64,
    timed_out: u64,
    queue_bytes: u64,
    pushes_dropped: u64,
}

/// A histogram: upper bounds in seconds, each with what lies between it and the bound before; the last takes the rest.
#[derive(Clone, Debug, Default)]
struct Buckets {
    sum_s: f64,
    counts: Vec<(f64, u64)>,
}

impl Snapshot {
    /// What an engine counts, read one after the other.
    pub fn of(stats: &Stats, uptime: Duration) -> Self {
        Self {
            gauges: vec![
                ("connections", "Connections, their session connected or not", stats.connections.value()),
                ("sessions", "Sessions that are connected", stats.sessions.value()),
                ("subscriptions", "Subscriptions of sessions", stats.subscriptions.value()),
            ],
            counters: vec![
                ("connections_opened", "Connections that were opened", stats.connections_opened.value()),
                ("connections_refused", "Connections refused because of a bound", stats.connections_refused.value()),
                ("commands", "Commands of clients", stats.commands.value()),
                ("commands_refused", "Commands that were refused", stats.commands_refused.value()),
                ("publishes", "Publishes that the backplane took", stats.publishes.value()),
                ("publishes_failed", "Publishes that failed after they were allowed", stats.publishes_failed.value()),
                ("publishes_without_room", "Publishes refused because as much is kept as may be", stats.publishes_without_room.value()),
                ("publishes_outdated", "Publishes that were not newer than what had been taken", stats.publishes_outdated.value()),
                ("deliveries", "Publications handed to connections", stats.deliveries.value()),
                ("writes", "Writes to connections", stats.writes.value()),
                ("written_bytes", "Bytes that connections took", stats.bytes_written.value()),
                ("lags", "Times that a topic left out a shard whose inbox was full", stats.lags.value()),
                ("gaps", "Gaps that subscribers were told", stats.gaps.value()),
                ("resumes_recovered", "Resumes that recovered everything", stats.resumes_recovered.value()),
                ("resumes_failed", "Resumes that could not", stats.resumes_failed.value()),
                ("resumes_foreign", "Resumes from a position of another life of the history", stats.resumes_foreign.value()),
                ("resumes_paged", "Subscriptions that got what they missed in pages", stats.resumes_paged.value()),
                ("snapshot_calls", "Calls of snapshot hooks", stats.snapshot_calls.value()),
                (
                    "backplane_timeouts",
                    "Calls of the backplane, presence and the registry that did not answer in time",
                    stats.backplane_timeouts.value(),
                ),
                ("catch_ups", "Times that a slow client's subscription went on from the history", stats.catch_ups.value()),
                ("panics", "Panics of hooks and codecs that were caught", stats.panics.value()),
            ],
            drops: vec![("slow_consumer", stats.dropped_slow_consumer.value()), ("conflated", stats.conflated.value())],
            closes: stats.closes().collect(),
            called: Vec::new(),
            turned_away: Vec::new(),
            hooks: Buckets::of(&stats.hook_latency),
            ticks: Buckets::of(&stats.tick_latency),
            backlog_bytes: stats.backlog_bytes.value(),
            kept: Vec::new(),
            links: Vec::new(),
            uptime,
        }
    }

    /// Adds what the gate before the listener counts.
    pub fn with_gate(mut self, gate: &Gate) -> Self {
        self.gauges.push(("connections_pending", "Connections that have not said who they are", gate.pending()));
        self.turned_away = gate.refusals().to_vec();
        self
    }
}

impl Snapshot {
    /// Adds the bytes that are kept. Of many namespaces those that keep most are named, the rest is one.
    pub fn with_kept(mut self, kept: Kept) -> Self {
        let mut namespaces = kept.namespaces;
        namespaces.sort_unstable_by(|(a, of_a), (b, of_b)| of_b.cmp(of_a).then_with(|| a.cmp(b)));
        let rest: usize = namespaces.iter().skip(NAMESPACES_MAX).map(|(_, bytes)| bytes).sum();
        self.kept = namespaces.into_iter().take(NAMESPACES_MAX).map(|(name, bytes)| (name.into(), bytes as u64)).collect();
        if rest > 0 {
            self.kept.push(("(others)".to_owned(), rest as u64));
        }
        self
    }

    /// Adds how many things keep the node from being ready.
    pub fn with_troubles(mut self, troubles: usize) -> Self {
        self.gauges.push(("troubles", "What keeps the node from being ready; /ready says it in words", troubles as u64));
        self
    }

    /// Adds how Redis is, where there is one.
    pub fn with_redis(mut self, health: Option<RedisHealth>) -> Self {
        let Some(health) = health else { return self };
        self.links = health.links.iter().map(|(name, state)| Link::of(name, state)).collect();
        self.gauges.push(("redis_topics", "Topics that this node hears over Redis", health.topics as u64));
        self.counters.extend([
            ("redis_bus_deaf", "Times that nothing came over the bus although it was connected", health.deaf),
            ("redis_tops_missed", "Losses on the bus that were noticed and read from the history", health.tops_missed),
            ("redis_epochs", "Histories that began anew: Redis lost something, restarted, or was replaced by a replica", health.epochs),
            ("redis_unreadable", "Messages and entries of another version of the format", health.unreadable),
        ]);
        self
    }

    /// Adds what hooks over HTTP count.
    pub fn with_hooks(mut self, hooks: Vec<HookCounts>) -> Self {
        self.called = hooks;
        self
    }
}

impl Link {
    fn of(name: &str, state: &LinkState) -> Self {
        Self {
            name: name.to_owned(),
            is_up: state.is_connected(),
            connects: state.counters.connects,
            connect_failures: state.counters.connect_failures,
            timed_out: state.counters.timed_out,
            queue_bytes: state.counters.queue_bytes as u64,
            pushes_dropped: state.counters.pushes_dropped,
        }
    }
}

impl Buckets {
    fn of(latency: &Latency) -> Self {
        let bounds = Latency::BOUNDS_MICROS.iter().map(|micros| *micros as f64 / 1e6).chain([f64::INFINITY]);
        Self { sum_s: latency.sum_micros() as f64 / 1e6, counts: bounds.zip(latency.buckets()).collect() }
    }

    fn encode(&self, encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str) -> fmt::Result {
        let count = self.counts.iter().map(|(_, count)| count).sum();
        let mut metric = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        metric.encode_histogram::<NoLabelSet>(self.sum_s, count, &self.counts, None)
    }
}

/// The snapshot in the `OpenMetrics` text format, which every Prometheus reads.
pub fn render(snapshot: Snapshot, version: &'static str, commit: &'static str) -> String {
    let mut registry = Registry::with_prefix("broker");
    registry.register_collector(Box::new(Node { snapshot, version, commit }));
    let mut out = String::new();
    text::encode(&mut out, &registry).expect("writing to a string does not fail");
    out
}

#[derive(Debug)]
struct Node {
    snapshot: Snapshot,
    version: &'static str,
    commit: &'static str,
}

impl Collector for Node {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let node = &self.snapshot;
        for (name, help, value) in &node.gauges {
            ConstGauge::new(signed(*value)).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        let backlog = encoder.encode_descriptor("backlog", "Bytes that wait for clients", Some(&Unit::Bytes), MetricType::Gauge)?;
        ConstGauge::new(signed(node.backlog_bytes)).encode(backlog)?;
        let help = "Bytes that are kept of topics in this process";
        let mut kept = encoder.encode_descriptor("kept", help, Some(&Unit::Bytes), MetricType::Gauge)?;
        for (namespace, bytes) in &node.kept {
            ConstGauge::new(signed(*bytes)).encode(kept.encode_family(&[("namespace", namespace.as_str())])?)?;
        }
        let uptime = encoder.encode_descriptor("uptime", "Time since the start", Some(&Unit::Seconds), MetricType::Gauge)?;
        ConstGauge::new(node.uptime.as_secs_f64()).encode(uptime)?;
        for (name, help, value) in &node.counters {
            ConstCounter::new(*value).encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        by_cause(&mut encoder, "drops", "Publications that a client did not get, by cause", &node.drops)?;
        by_cause(&mut encoder, "closes", "Ends of connections, by cause", &node.closes)?;
        called(&mut encoder, &node.called)?;
        links(&mut encoder, &node.links)?;
        by_cause(&mut encoder, "connections_turned_away", "Connections refused because of their address, by cause", &node.turned_away)?;
        node.hooks.encode(&mut encoder, "hook_duration", "Time that hooks took")?;
        node.ticks.encode(&mut encoder, "tick_duration", "Time of a shard's tick; long ones mean that something blocks the runtime")?;
        let mut build = encoder.encode_descriptor("build", "What runs here", None, MetricType::Info)?;
        build.encode_info(&[("version", self.version), ("commit", self.commit)])
    }
}

fn by_cause(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, counts: &[(&'static str, u64)]) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (cause, count) in counts {
        ConstCounter::new(*count).encode(family.encode_family(&[("cause", *cause)])?)?;
    }
    Ok(())
}

fn called(encoder: &mut DescriptorEncoder<'_>, hooks: &[HookCounts]) -> fmt::Result {
    if hooks.is_empty() {
        return Ok(());
    }
    let mut calls = encoder.encode_descriptor("hook_calls", "Calls of hooks over HTTP", None, MetricType::Counter)?;
    for hook in hooks {
        ConstCounter::new(hook.calls).encode(calls.encode_family(&[("hook", hook.hook.word())])?)?;
    }
    let help = "Calls of hooks over HTTP without a usable answer, by cause";
    let mut failures = encoder.encode_descriptor("hook_failures", help, None, MetricType::Counter)?;
    for hook in hooks {
        for (cause, count) in &hook.failures {
            ConstCounter::new(*count).encode(failures.encode_family(&[("hook", hook.hook.word()), ("cause", cause)])?)?;
        }
    }
    let help = "Whether a hook is left alone because its application does not answer";
    let mut open = encoder.encode_descriptor("hook_circuit_open", help, None, MetricType::Gauge)?;
    for hook in hooks {
        ConstGauge::new(i64::from(hook.is_circuit_open)).encode(open.encode_family(&[("hook", hook.hook.word())])?)?;
    }
    let help = "Times that a hook was left alone because its application did not answer";
    let mut opened = encoder.encode_descriptor("hook_circuit_opened", help, None, MetricType::Counter)?;
    for hook in hooks {
        ConstCounter::new(hook.circuit_opened).encode(opened.encode_family(&[("hook", hook.hook.word())])?)?;
    }
    Ok(())
}

/// A number of each link: name, meaning, value.
type LinkMetric = (&'static str, &'static str, fn(&Link) -> u64);

fn links(encoder: &mut DescriptorEncoder<'_>, links: &[Link]) -> fmt::Result {
    if links.is_empty() {
        return Ok(());
    }
    let gauges: [LinkMetric; 2] = [
        ("redis_link_up", "Whether the link to Redis is connected", |link| u64::from(link.is_up)),
        ("redis_link_queue_bytes", "Bytes of calls that wait to be written to Redis", |link| link.queue_bytes),
    ];
    for (name, help, value) in gauges {
        let mut gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for link in links {
            ConstGauge::new(signed(value(link))).encode(gauge.encode_family(&[("link", link.name.as_str())])?)?;
        }
    }
    let counters: [LinkMetric; 4] = [
        ("redis_link_connects", "Connections to Redis, the first one too", |link| link.connects),
        ("redis_link_connect_failures", "Tries to connect to Redis that failed", |link| link.connect_failures),
        ("redis_link_timeouts", "Calls of Redis that were not answered in time", |link| link.timed_out),
        ("redis_link_pushes_dropped", "Messages that this node could not take, and reads from the history", |link| link.pushes_dropped),
    ];
    for (name, help, value) in counters {
        let mut counter = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for link in links {
            ConstCounter::new(value(link)).encode(counter.encode_family(&[("link", link.name.as_str())])?)?;
        }
    }
    Ok(())
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_did_nothing_counts_from_zero() {
        let text = render(Snapshot::of(&Stats::default(), Duration::ZERO), "0.1.0", "abc");
        for line in ["broker_sessions 0", "broker_closes_total{cause=\"shutdown\"} 0", "broker_hook_duration_seconds_count 0"] {
            assert!(text.lines().any(|one| one == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn a_snapshot_is_text_that_prometheus_reads() {
        let hooks = Buckets { sum_s: 1.5, counts: vec![(0.01, 3), (0.1, 2), (f64::INFINITY, 1)] };
        let snapshot = Snapshot {
            gauges: vec![("sessions", "Sessions", 2)],
            counters: vec![("publishes", "Publishes", 7)],
            drops: vec![("slow_consumer", 3)],
            closes: vec![("client_left", 5), ("no_pong", 0)],
            turned_away: vec![("rate", 4)],
            hooks,
            backlog_bytes: 4096,
            ..Snapshot::default()
        };
        let text = render(snapshot, "0.1.0", "abc");
        for line in [
            "# TYPE broker_sessions gauge",
            "broker_sessions 2",
            "broker_publishes_total 7",
            "broker_backlog_bytes 4096",
            "broker_drops_total{cause=\"slow_consumer\"} 3",
            "broker_closes_total{cause=\"client_left\"} 5",
            "broker_closes_total{cause=\"no_pong\"} 0",
            "broker_connections_turned_away_total{cause=\"rate\"} 4",
            "broker_hook_duration_seconds_sum 1.5",
            "broker_hook_duration_seconds_count 6",
            "broker_hook_duration_seconds_bucket{le=\"0.01\"} 3",
            "broker_hook_duration_seconds_bucket{le=\"0.1\"} 5",
            "broker_hook_duration_seconds_bucket{le=\"+Inf\"} 6",
            "broker_build_info{version=\"0.1.0\",commit=\"abc\"} 1",
            "# EOF",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} is missing in\n{text}");
        }
    }
}
