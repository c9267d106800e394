//! What the simulated clients share: the node that runs, its backplane, the truth, the phase of the simulation, and what went wrong.

use std::{
    collections::VecDeque,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use broker_core::{Engine, Namespace, RateSet, Rates, Recovery, Revocation, Revoked, SessionId, Settings, SlowConsumer, Topic};
use fastrand::Rng;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{application::Application, bus::Bus, follower::Promise, truth::Truth};

/// Topics that there can be, with what is promised of them; [`TOPICS_LEN`] of them are in each simulation.
const TOPICS: [(&str, Promise); 17] = [
    ("cut:a", Promise::STREAM),
    ("cut:b", Promise::STREAM),
    ("drop:a", Promise::STREAM),
    ("catch:a", Promise::STREAM),
    ("latest:a", Promise::LATEST),
    ("brief:a", Promise::FADES),
    ("cache:a", Promise::CACHE),
    ("bare:a", Promise::BARE),
    ("rows:a", Promise::KEYED),
    ("rowsdrop:a", Promise::KEYED),
    ("rowscatch:a", Promise::KEYED),
    ("rowslatest:a", Promise { latest: true, ..Promise::KEYED }),
    ("rowsbrief:a", Promise { fades: true, ..Promise::KEYED }),
    ("shot:a", Promise::SNAPSHOT),
    ("shot:none", Promise::STREAM),
    ("shotbare:a", Promise { snapshot: true, ..Promise::BARE }),
    // The application has no snapshot of it, and the rows stand in.
    ("shotrows:a", Promise::KEYED),
];
const TOPICS_LEN: usize = 9;

/// So little behind the top is always kept, where nothing expires.
pub(crate) const REACH: u64 = 3;

/// Lines of the trace that are kept for a report.
const TRACE_LINES_MAX: usize = 2_000;
/// How a broken promise stands in the trace.
const VIOLATION: &str = "BROKEN";

/// What the simulation is doing.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Phase {
    /// Faults.
    Storm,
    /// No more faults: everybody comes back.
    Calm,
    /// All is quiet.
    Over,
}

/// A mistake of the server that the simulation makes itself, to show that it is found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Plant {
    /// A client never hears one publication.
    Lose,
    /// A client hears one publication twice.
    Double,
    /// A client hears two publications in the wrong order.
    Swap,
}

/// What simulated clients share.
pub(crate) struct World {
    /// What was really appended.
    pub(crate) truth: Arc<Truth>,
    /// What goes wrong by itself, to see whether it is found.
    pub(crate) plant: Option<Plant>,
    /// What the hooks of the node do.
    pub(crate) application: Arc<Application>,
    /// The topics of this simulation, with what is promised of them.
    pub(crate) topics: Vec<(Topic, Promise)>,
    state: Mutex<State>,
    planted: AtomicUsize,
    trace: Mutex<Trace>,
    started: Instant,
    settings: Settings,
}

struct State {
    engine: Option<Engine>,
    bus: Arc<Bus>,
    phase: Phase,
    violations: Vec<String>,
    /// Users whose older credentials are revoked: nothing with a greater number may reach them.
    revoked: Vec<(String, u64, u64)>,
    /// Sessions that are open, for publishers that leave some out.
    sessions: Vec<SessionId>,
}

#[derive(Default)]
struct Trace {
    lines: VecDeque<String>,
    hash: DefaultHasher,
    is_broken: bool,
}

impl World {
    /// A world with a running node; call it inside the runtime.
    pub(crate) fn new(rng: &mut Rng, plant: Option<Plant>) -> Arc<Self> {
        let truth = Arc::new(Truth::default());
        let bus = Bus::new(truth.clone(), rng.u8(0..4) == 0, rng.fork());
        let started = Instant::now();
        let settings = settings(rng);
        let application = Arc::new(Application::new(rng.fork(), started));
        let mut topics = TOPICS.map(|(name, promise)| (topic(name), promise)).to_vec();
        rng.shuffle(&mut topics);
        topics.truncate(TOPICS_LEN);
        let state = State { engine: None, bus, phase: Phase::Storm, violations: Vec::new(), revoked: Vec::new(), sessions: Vec::new() };
        let world = Arc::new(Self {
            truth,
            plant,
            application,
            topics,
            state: Mutex::new(state),
            planted: AtomicUsize::new(0),
            trace: Mutex::default(),
            started,
            settings,
        });
        world.start_node();
        world
    }

    /// Starts a node on the backplane.
    pub(crate) fn start_node(self: &Arc<Self>) {
        let builder = Engine::builder().settings(self.settings.clone()).backplane(self.bus().line());
        let builder = namespaces().into_iter().fold(builder, |builder, (name, namespace)| builder.namespace(name, namespace));
        let engine = self.application.clone().hook_into(builder, self).build().expect("the settings are in range, and a runtime is here");
        self.state.lock().engine = Some(engine);
        self.trace(|| "a node starts".to_owned());
    }

    /// Any topic, the first one more often.
    pub(crate) fn any_topic(&self, rng: &mut Rng) -> (Topic, Promise) {
        let at = if rng.u8(0..4) == 0 { 0 } else { rng.usize(0..self.topics.len()) };
        self.topics[at].clone()
    }

    /// What is promised of a topic.
    pub(crate) fn promise(&self, topic: &Topic) -> Option<Promise> {
        self.topics.iter().find(|(known, _)| known == topic).map(|(_, promise)| *promise)
    }

    /// Ends the node. The memory backplane goes with it.
    pub(crate) fn stop_node(&self, rng: &mut Rng) {
        let engine = self.state.lock().engine.take();
        drop(engine);
        let bus = self.bus();
        if bus.is_reliable() {
            self.state.lock().bus = Bus::new(self.truth.clone(), true, rng.fork());
        }
        self.trace(|| "the node ends".to_owned());
    }

    /// The node that runs, if one does.
    pub(crate) fn engine(&self) -> Option<Engine> {
        self.state.lock().engine.clone()
    }

    /// The backplane.
    pub(crate) fn bus(&self) -> Arc<Bus> {
        self.state.lock().bus.clone()
    }

    /// What the simulation is doing.
    pub(crate) fn phase(&self) -> Phase {
        self.state.lock().phase
    }

    /// Goes on to the next phase.
    pub(crate) fn enter(&self, phase: Phase) {
        self.state.lock().phase = phase;
        self.trace(|| format!("{phase:?}"));
        if phase != Phase::Storm {
            self.application.calm_down();
        }
    }

    /// Ends the sessions of a user whose credentials are older than this moment.
    pub(crate) async fn revoke(&self, user: &str) {
        let Some(engine) = self.engine() else { return };
        let before = self.now_ms();
        let revocation = Revocation::now(Revoked::User(user.into())).before(moment(before));
        if engine.revoke(revocation).await.is_ok() {
            let serial = self.truth.serial();
            self.state.lock().revoked.push((user.to_owned(), before, serial));
            self.trace(|| format!("{user} revoked at number {serial}"));
        }
    }

    /// The first number that credentials of this age must not bring; `None`: they are good.
    pub(crate) fn revoked_from(&self, user: &str, issued_ms: u64) -> Option<u64> {
        let state = self.state.lock();
        let hits = state.revoked.iter().filter(|(whose, before, _)| whose == user && issued_ms <= *before);
        hits.map(|(_, _, serial)| *serial).min()
    }

    /// Milliseconds since the simulation began.
    pub(crate) fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// Notes a session, so that publishers can leave it out.
    pub(crate) fn opened(&self, session: SessionId) {
        let mut state = self.state.lock();
        state.sessions.push(session);
        if state.sessions.len() > 8 {
            state.sessions.remove(0);
        }
    }

    /// One of the last sessions.
    pub(crate) fn any_session(&self, rng: &mut Rng) -> Option<SessionId> {
        rng.choice(&self.state.lock().sessions).copied()
    }

    /// Whether a planted mistake is due; a few in each simulation.
    pub(crate) fn plants_now(&self) -> bool {
        self.plant.is_some() && self.planted.fetch_add(1, Relaxed) % 7 == 3
    }

    /// The server broke a promise.
    pub(crate) fn violated(&self, text: String) {
        let text = format!("{} ms: {text}", self.now_ms());
        self.trace(|| format!("{VIOLATION} {text}"));
        self.state.lock().violations.push(text);
    }

    /// Every broken promise.
    pub(crate) fn violations(&self) -> Vec<String> {
        let mut violations = self.truth.wrong();
        violations.extend(self.state.lock().violations.clone());
        violations
    }

    /// Notes what happened; the same seed gives the same lines.
    pub(crate) fn trace(&self, line: impl FnOnce() -> String) {
        let line = format!("{:>6} {}", self.now_ms(), line());
        let mut trace = self.trace.lock();
        line.hash(&mut trace.hash);
        // What led to the first broken promise is what a report needs.
        if trace.is_broken {
            return;
        }
        trace.is_broken = line.contains(VIOLATION);
        if trace.lines.len() == TRACE_LINES_MAX {
            trace.lines.pop_front();
        }
        trace.lines.push_back(line);
    }

    /// The last lines of the trace, and a number that is equal only for equal traces.
    pub(crate) fn traced(&self) -> (Vec<String>, u64) {
        let trace = self.trace.lock();
        (trace.lines.iter().cloned().collect(), trace.hash.finish())
    }
}

/// Small bounds, so that every one is reached.
fn settings(rng: &mut Rng) -> Settings {
    let mut settings = Settings::default();
    settings.shards = rng.usize(1..=3);
    settings.ping_interval = Duration::from_millis(1_500);
    settings.pong_timeout = Duration::from_millis(500);
    settings.connect_timeout = Duration::from_millis(800);
    settings.hook_timeout = Duration::from_millis(300);
    settings.backlog_max_bytes = rng.usize(600..4_000);
    settings.inbox_share_max_bytes = if rng.bool() { rng.usize(300..1_200) } else { 4 << 20 };
    settings.stream_max_len = rng.usize(3..60);
    settings.snapshot_max_age = Duration::from_millis(if rng.bool() { 0 } else { rng.u64(1..400) });
    settings.snapshot_stale_max = Duration::from_millis(if rng.bool() { 0 } else { rng.u64(100..2_000) });
    settings.linger = Duration::from_millis(if rng.bool() { 0 } else { rng.u64(1..200) });
    settings.leave_delay = Duration::from_millis(rng.u64(0..1_000));
    settings.expiring_notice = Duration::from_millis(300);
    settings.user_topics = rng.bool();
    settings.rates = Rates::default();
    settings.rates.session = RateSet::OFF;
    settings.rates.user = RateSet::OFF;
    settings.mistakes_per_minute = 10_000;
    settings
}

fn namespaces() -> [(&'static str, Namespace); 15] {
    let open = |size: usize, ttl_secs: u64| Namespace::open().history(size, Duration::from_secs(ttl_secs)).filter();
    let mut bare = open(0, 0).slow_consumer(SlowConsumer::DropOldest);
    bare.presence = false;
    // So little history that removals soon have gone.
    let rows = |size: usize, policy| open(size, 600).keyed().slow_consumer(policy);
    [
        ("cut", open(8, 600)),
        ("drop", open(8, 600).slow_consumer(SlowConsumer::DropOldest)),
        ("catch", open(8, 600).slow_consumer(SlowConsumer::CatchUp)),
        ("latest", open(8, 600).slow_consumer(SlowConsumer::Latest)),
        ("brief", open(5, 1)),
        ("cache", open(4, 600).recovery(Recovery::Cache)),
        ("bare", bare.clone()),
        ("rows", rows(4, SlowConsumer::Disconnect)),
        ("rowsdrop", rows(6, SlowConsumer::DropOldest)),
        ("rowscatch", rows(6, SlowConsumer::CatchUp)),
        ("rowslatest", rows(5, SlowConsumer::Latest)),
        ("rowsbrief", open(4, 1).keyed().state_ttl(Duration::from_secs(1))),
        ("shot", open(8, 600)),
        ("shotbare", bare),
        ("shotrows", rows(5, SlowConsumer::DropOldest)),
    ]
}

/// A topic of the simulation.
pub(crate) fn topic(name: &str) -> Topic {
    name.parse().expect("the topics of the simulation are legal")
}

/// A moment of the simulation on the clock of credentials.
pub(crate) fn moment(ms: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000) + Duration::from_millis(ms)
}
