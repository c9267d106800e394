//! The model test of ordering and joining: the real hub, shards and sessions under shuttle's scheduler, with a backplane that loses, doubles
//! and reorders what it delivers, fails reads, and begins new epochs.
//!
//! Checked at each client: one contiguous order between signals, no doubles, the right payload at every position, nothing before the answer to
//! subscribe or after the one to unsubscribe; and when all is quiet: everybody at the head, nothing waiting, empty topics gone.
//! Run by `cargo xtask model`; a schedule that fails is printed and can be replayed.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use async_trait::async_trait;
use shuttle::{
    rand::{Rng, thread_rng},
    thread,
};
use tokio::time::Instant;

use super::{Hub, NewHub, Shard, shard::Tick};
use crate::{
    Announcement, Backplane, ByNamespace, Capabilities, Connect, Engine, Epoch, Keep, LogPage, LogQuery, MemoryControl, MemoryPresence,
    MemoryRegistry, Namespace, Namespaces, Payload, Position, Publication, Publish, PublishFailed, Published, Request, Settings, Since,
    Sink, SlowConsumer, StatePage, StateQuery, Subscribe, Topic, Unavailable, hooks::Hooks, session::Rules, sync::Mutex,
    testing::ModelClient,
};

const TOPICS: [&str; 5] = ["cut:a", "drop:a", "catch:a", "plain:a", "rows:a"];
const SHARDS: usize = 2;
const HISTORY: usize = 3;

/// What was appended where: the truth that clients are compared with.
type Truth = HashMap<(Topic, Epoch, u64), String>;

/// A backplane with a bus that misbehaves, or (`reliable`) one that delivers under its lock as the memory backplane does.
struct Bus {
    reliable: bool,
    logs: Mutex<HashMap<Topic, Log>>,
    /// On their way to this node.
    flying: Mutex<VecDeque<Arc<Publication>>>,
    sink: OnceLock<Weak<dyn Sink>>,
    failures_left: Mutex<usize>,
}

struct Log {
    epoch: Epoch,
    top: u64,
    entries: VecDeque<Arc<Publication>>,
    rows: BTreeMap<u64, Arc<Publication>>,
    truth: Truth,
}

impl Bus {
    fn sink(&self) -> Option<Arc<dyn Sink>> {
        self.sink.get().and_then(Weak::upgrade)
    }

    fn with_log<T>(&self, topic: &Topic, work: impl FnOnce(&mut Log) -> T) -> T {
        let mut logs = self.logs.lock();
        let log = logs.entry(topic.clone()).or_insert_with(|| Log {
            epoch: Epoch::from_random(thread_rng().r#gen()),
            top: 0,
            entries: VecDeque::new(),
            rows: BTreeMap::new(),
            truth: HashMap::new(),
        });
        work(log)
    }

    /// The history begins a new life, with or without what was kept.
    fn switch_epoch(&self, topic: &Topic) {
        self.with_log(topic, |log| {
            log.epoch = Epoch::from_random(thread_rng().r#gen());
            log.entries.clear();
            log.rows.clear();
        });
    }

    /// Delivers one publication that is on its way, or loses it, or doubles it.
    fn fly(&self) -> bool {
        let mut flying = self.flying.lock();
        if flying.is_empty() {
            return false;
        }
        let at = if thread_rng().gen_bool(0.05) { thread_rng().gen_range(0..flying.len()) } else { 0 };
        let publication = flying.remove(at).expect("the index is in range");
        drop(flying);
        let sink = self.sink().expect("the hub lives as long as the test");
        // Without a log nothing can be refilled, so nothing is lost there.
        let times = match thread_rng().gen_range(0..20) {
            0..3 if publication.position.is_some() => 0,
            3..6 if publication.position.is_some() => 2,
            _ => 1,
        };
        for _ in 0..times {
            sink.publication(publication.clone());
        }
        true
    }
}

#[async_trait]
impl Backplane for Bus {
    fn start(&self, sink: Weak<dyn Sink>) {
        assert!(self.sink.set(sink).is_ok(), "started once");
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::none().history().state()
    }

    async fn publish(&self, topic: &Topic, publish: Publish, keep: Keep) -> Result<Published, PublishFailed> {
        let mut publication = Publication::new(topic.clone(), publish);
        let deliver = |publication: Arc<Publication>| {
            if self.reliable {
                self.sink().expect("the hub lives as long as the test").publication(publication);
            } else {
                self.flying.lock().push_back(publication);
            }
        };
        if keep.size == 0 {
            self.with_log(topic, |_| deliver(Arc::new(publication)));
            return Ok(Published::at(None));
        }
        Ok(self.with_log(topic, |log| {
            log.top += 1;
            let position = Position { offset: log.top, epoch: log.epoch };
            publication.position = Some(position);
            let publication = Arc::new(publication);
            log.truth.insert((topic.clone(), log.epoch, log.top), String::from_utf8_lossy(publication.data.bytes()).into_owned());
            if keep.state.is_some() {
                log.rows.retain(|_, row| row.key != publication.key);
                if !publication.removed {
                    log.rows.insert(log.top, publication.clone());
                }
            }
            log.entries.push_back(publication.clone());
            while log.entries.len() > keep.size {
                log.entries.pop_front();
            }
            deliver(publication);
            Published::at(Some(position))
        }))
    }

    async fn announce(&self, _topic: &Topic, _announcement: Announcement) -> Result<(), Unavailable> {
        Ok(())
    }

    async fn interest(&self, _changes: &[(Topic, bool)]) -> Result<(), Unavailable> {
        thread::yield_now();
        Ok(())
    }

    async fn history(&self, topic: &Topic, query: LogQuery, _keep: Keep) -> Result<LogPage, Unavailable> {
        {
            let mut failures = self.failures_left.lock();
            if *failures > 0 && thread_rng().gen_bool(0.2) {
                *failures -= 1;
                return Err(Unavailable("planted".to_owned()));
            }
        }
        let page = self.with_log(topic, |log| {
            let is_asked =
                |entry: &&Arc<Publication>| query.after.is_none_or(|after| entry.position.is_some_and(|position| position.offset > after));
            let mut entries = log.entries.iter().filter(is_asked);
            let publications: Vec<_> = entries.by_ref().take(query.limit.unwrap_or(usize::MAX)).cloned().collect();
            let last = publications.last().and_then(|last| last.position).map(|position| position.offset);
            LogPage {
                top: Position { offset: log.top, epoch: log.epoch },
                kept_from: log.entries.front().and_then(|oldest| oldest.position).map_or(log.top, |oldest| oldest.offset - 1),
                next: entries.next().and(last),
                publications,
            }
        });
        // The answer travels: others go on meanwhile.
        thread::yield_now();
        Ok(page)
    }

    async fn state(&self, topic: &Topic, query: StateQuery, _keep: Keep) -> Result<StatePage, Unavailable> {
        // One row at a time: others go on between two pages.
        let page = self.with_log(topic, |log| {
            let mut rows = log.rows.range(query.after.map_or(0, |after| after + 1)..);
            let row = rows.next().map(|(_, row)| row.clone());
            let next = rows.next().and(row.as_ref()).and_then(|row| row.position).map(|position| position.offset);
            StatePage { top: Position { offset: log.top, epoch: log.epoch }, rows: row.into_iter().collect(), next }
        });
        thread::yield_now();
        Ok(page)
    }

    async fn remove_history(&self, _topic: &Topic) -> Result<(), Unavailable> {
        Ok(())
    }
}

/// What a client believes, line by line.
struct Checker {
    topic: Topic,
    /// Whether the answer to subscribe has come, and the one to unsubscribe has not.
    live: bool,
    at: Option<Position>,
    /// Publications of a failed resume or snapshot are not followed: the position is set by the answer.
    asked: bool,
    closed: bool,
    /// What the client has of a topic with keys; `None`: a gap says that it may be wrong.
    rows: Option<BTreeMap<String, u64>>,
}

impl Checker {
    fn new(topic: &Topic) -> Self {
        Self { topic: topic.clone(), live: false, at: None, asked: false, closed: false, rows: None }
    }

    fn has_keys(&self) -> bool {
        self.topic.namespace() == Some("rows")
    }

    /// A row, or a change of one: never an older one than before.
    fn row(&mut self, position: Position, data: &str) {
        if let Some(at) = self.at.filter(|at| at.epoch == position.epoch) {
            assert!(position.offset > at.offset, "{} is not behind {}", position.offset, at.offset);
        }
        let (Some(rows), Some((key, value))) = (&mut self.rows, data.split_once('=')) else { return };
        if value.is_empty() {
            rows.remove(key);
        } else {
            rows.insert(key.to_owned(), position.offset);
        }
    }

    /// One line of `ModelClient`.
    fn line(&mut self, line: &str, truth: &Truth) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[0] {
            "subscribed" => {
                assert!(self.asked && !self.live, "an answer to a subscribe that was asked: {line}");
                self.live = true;
                self.asked = false;
                let top: Option<Position> = words[2].parse().ok();
                let lost: Option<Position> = words[3].strip_prefix("lost:").and_then(|since| since.parse().ok());
                // With rows, the position that is told is no top.
                if let (Some(top), Some(since)) = (top.filter(|_| !self.has_keys()), lost) {
                    // So little is always kept and recorded.
                    let within_reach = since.epoch == top.epoch && since.offset <= top.offset && top.offset - since.offset <= 2;
                    assert!(!within_reach, "what can be recovered is: {line}");
                }
                if lost.is_some() || words[3] == "live" {
                    self.rows = Some(BTreeMap::new());
                }
                // Recovered: what was missed follows. Otherwise the position is the top.
                self.at = match words[3].strip_prefix("recovered:") {
                    Some(since) => since.parse().ok(),
                    None => top,
                };
            }
            "publication" => {
                assert!(self.live, "a publication outside a subscription: {line}");
                let Ok(position) = words[2].parse::<Position>() else { return };
                let before = self.at.expect("a topic with positions is joined at one");
                let next = Position { offset: before.offset + 1, ..before };
                if self.has_keys() {
                    self.row(position, words[3]);
                } else {
                    assert_eq!(position, next, "contiguous between signals");
                }
                let truth = truth.get(&(self.topic.clone(), position.epoch, position.offset));
                assert_eq!(truth.map(String::as_str), Some(words[3]), "the right payload");
                self.at = Some(position);
            }
            "gap" => {
                assert!(self.live, "a gap outside a subscription: {line}");
                self.rows = None;
                if let (Ok(from), Some(at)) = (words[2].parse::<Position>(), self.at.filter(|_| !self.has_keys())) {
                    assert_eq!(from, Position { offset: at.offset + 1, ..at }, "a gap begins where the last publication was");
                }
                if let Ok(to) = words[3].parse() {
                    self.at = Some(to);
                }
            }
            "unsubscribed" => self.live = false,
            "refused" => self.asked = false,
            "closed" => {
                self.live = false;
                self.closed = true;
            }
            "connected" | "finished" => {}
            other => panic!("unknown line {other}"),
        }
    }
}

struct World {
    hub: Arc<Hub>,
    bus: Arc<Bus>,
    engine: Engine,
}

impl World {
    fn new(reliable: bool) -> Self {
        let open = |history: usize, policy| {
            let mut namespace = Namespace::open().history(history, Duration::from_secs(600)).slow_consumer(policy);
            namespace.presence = false;
            namespace.join_leave = false;
            namespace
        };
        let mut namespaces = Namespaces::new();
        namespaces.set("cut", open(HISTORY, SlowConsumer::Disconnect));
        namespaces.set("drop", open(HISTORY, SlowConsumer::DropOldest));
        namespaces.set("catch", open(HISTORY, SlowConsumer::CatchUp));
        namespaces.set("plain", open(0, SlowConsumer::DropOldest));
        namespaces.set("rows", open(HISTORY, SlowConsumer::Disconnect).keyed());
        let settings =
            Settings { anonymous: true, inbox_share_max_bytes: 450, backlog_max_bytes: 160, shards: SHARDS, ..Settings::default() };
        let rules = Rules {
            settings,
            namespaces,
            authorizer: Arc::new(ByNamespace),
            payload_check: None,
            hears_subscribe: false,
            hears_message: false,
            hears_call: false,
            renews: false,
        };
        let bus = Arc::new(Bus {
            reliable,
            logs: Mutex::default(),
            flying: Mutex::default(),
            sink: OnceLock::new(),
            failures_left: Mutex::new(2),
        });
        let hub = Arc::new(Hub::new(NewHub {
            rules: Arc::new(rules),
            hooks: Hooks::default(),
            backplane: bus.clone(),
            presence: Arc::new(MemoryPresence::new()),
            registry: Arc::new(MemoryRegistry::new()),
            control: Arc::new(MemoryControl::new()),
            runtime: None,
            shards: SHARDS,
            node_id: "model".into(),
            node_name: "model".into(),
            version: "0",
            settings: Vec::new(),
        }));
        let sink: Weak<dyn Sink> = Arc::downgrade(&hub) as _;
        bus.start(sink);
        let engine = Engine::from_parts(hub.clone());
        Self { hub, bus, engine }
    }

    fn truth(&self, topic: &Topic) -> Truth {
        self.bus.with_log(topic, |log| log.truth.clone())
    }

    fn rows(&self, topic: &Topic) -> BTreeMap<String, u64> {
        self.bus.with_log(topic, |log| {
            log.rows.iter().map(|(offset, row)| (row.key.as_deref().unwrap_or_default().to_owned(), *offset)).collect()
        })
    }

    fn top(&self, topic: &Topic) -> Position {
        self.bus.with_log(topic, |log| Position { offset: log.top, epoch: log.epoch })
    }
}

/// One client on one topic: subscribes, resumes, leaves, comes back, reads slowly.
fn live(world: &World, topic: &Topic, steps: usize) -> (ModelClient, Checker) {
    let connect = || {
        let client = ModelClient::open(&world.engine, thread_rng().gen_bool(0.5).then_some(200));
        client.send(Request::Connect(Connect::default()));
        client
    };
    let mut client = connect();
    let mut checker = Checker::new(topic);
    for _ in 0..steps {
        read(world, &mut client, &mut checker);
        match thread_rng().gen_range(0..6) {
            0..3 if !checker.live && !checker.asked && !checker.closed => {
                checker.asked = true;
                let since = checker.at.filter(|_| thread_rng().gen_bool(0.7));
                let mut subscribe = Subscribe::new(topic.clone());
                subscribe.since = since.map(Since::Position);
                client.send(Request::Subscribe(subscribe));
            }
            3 if checker.live || checker.asked => client.send(Request::Unsubscribe { topic: topic.clone() }),
            4 if thread_rng().gen_bool(0.3) || checker.closed => {
                // What the old connection still sends is nobody's business; its slot is used again.
                client = connect();
                checker = Checker { live: false, asked: false, closed: false, ..checker };
            }
            _ => thread::yield_now(),
        }
    }
    (client, checker)
}

fn read(world: &World, client: &mut ModelClient, checker: &mut Checker) {
    let truth = world.truth(&checker.topic);
    while let Some(line) = client.try_next() {
        if line == "finished" {
            checker.live = false;
            checker.closed = true;
            return;
        }
        // The position may be newer than the copy of the truth.
        let truth = if line.starts_with("publication") { world.truth(&checker.topic) } else { truth.clone() };
        checker.line(&line, &truth);
    }
}

fn run_shard(hub: Arc<Hub>, index: usize, now: Instant) {
    let mut shard = Shard::new(index, hub.clone());
    while !hub.is_closed() {
        match shard.tick(now) {
            Tick::More => thread::yield_now(),
            Tick::Sleep(_) if hub.is_closed() => break,
            Tick::Sleep(_) => hub.ports.inboxes[index].signal().wait(),
        }
    }
}

fn any_topic() -> Topic {
    let at = if thread_rng().gen_bool(0.5) { 0 } else { thread_rng().gen_range(0..TOPICS.len()) };
    TOPICS[at].parse().expect("a legal topic")
}

fn publish(world: &World, publisher: usize, count: usize) {
    for n in 0..count {
        let topic = any_topic();
        let namespace = world.hub.rules.namespaces.of(&topic).expect("configured").clone();
        let publish = if topic.namespace() == Some("rows") {
            let key = format!("k{}", thread_rng().gen_range(0..4));
            if thread_rng().gen_bool(0.25) {
                Publish::new(Payload::text(format!("{key}="))).key(key).removed()
            } else {
                Publish::new(Payload::text(format!("{key}=p{publisher}n{n}"))).key(key)
            }
        } else {
            Publish::new(Payload::text(format!("p{publisher}n{n}")))
        };
        let mut publishing: crate::hooks::BoxFuture<()> = {
            let hub = world.hub.clone();
            Box::pin(async move {
                // Overloaded is an answer like any other.
                let _ = hub.publish(&topic, &namespace, publish).await;
            })
        };
        assert!(super::errands::poll_once(&mut publishing).is_ready());
        world.hub.run_errands();
    }
}

/// Reads everything until nothing moves any more.
fn settle(world: &World, clients: &mut [(ModelClient, Checker)]) {
    let mut quiet = 0;
    while quiet < 3 {
        world.hub.run_errands();
        let mut moved = false;
        for (client, checker) in clients.iter_mut() {
            client.set_capacity(None);
            moved |= client.has_lines();
            read(world, client, checker);
        }
        let idle = world.hub.ports.inboxes.iter().all(super::inbox::Inbox::is_idle);
        quiet = if moved || !idle || world.hub.ports.has_errands() { 0 } else { quiet + 1 };
        thread::yield_now();
    }
}

fn schedule() {
    let reliable = thread_rng().gen_bool(0.25);
    let world = Arc::new(World::new(reliable));
    let now = Instant::now();
    let shards: Vec<_> = (0..SHARDS)
        .map(|index| {
            let hub = world.hub.clone();
            thread::spawn(move || run_shard(hub, index, now))
        })
        .collect();
    let mut others = Vec::new();
    for publisher in 0..2 {
        let world = world.clone();
        others.push(thread::spawn(move || publish(&world, publisher, 12)));
    }
    let bus = world.clone();
    others.push(thread::spawn(move || {
        for _ in 0..40 {
            bus.bus.fly();
            bus.hub.run_errands();
            match thread_rng().gen_range(0..30) {
                0 => bus.bus.switch_epoch(&TOPICS[if thread_rng().gen_bool(0.5) { 0 } else { 4 }].parse().expect("a legal topic")),
                1 => bus.hub.link_restored(),
                _ => thread::yield_now(),
            }
        }
    }));
    let users: Vec<_> = (0..3)
        .map(|_| {
            let world = world.clone();
            thread::spawn(move || live(&world, &any_topic(), 24))
        })
        .collect();
    for other in others {
        other.join().expect("publishers and bus end");
    }
    let mut clients: Vec<_> = users.into_iter().map(|user| user.join().expect("clients end")).collect();
    while world.bus.fly() {
        world.hub.run_errands();
    }
    settle(&world, &mut clients);
    // The last publication of a burst may be lost on the bus: a look at the top finds it.
    world.hub.link_restored();
    settle(&world, &mut clients);
    for (_, checker) in &clients {
        if checker.has_keys() {
            if let Some(rows) = checker.rows.as_ref().filter(|_| checker.live) {
                assert_eq!(*rows, world.rows(&checker.topic), "what a client has is the state");
            }
        } else if checker.live && checker.topic.as_str() != "plain:a" {
            assert_eq!(checker.at, Some(world.top(&checker.topic)), "{} is at the head", checker.topic);
        }
        assert!(!checker.asked || checker.closed, "every subscribe was answered");
    }
    for (mut client, mut checker) in clients {
        client.send(Request::Unsubscribe { topic: checker.topic.clone() });
        settle_one(&world, &mut client, &mut checker);
        drop(client);
    }
    settle(&world, &mut []);
    assert!(world.hub.directory.all().is_empty(), "empty topics are gone");
    world.hub.close();
    for index in 0..SHARDS {
        world.hub.ports.wake(index);
    }
    for shard in shards {
        shard.join().expect("shards end");
    }
}

fn settle_one(world: &World, client: &mut ModelClient, checker: &mut Checker) {
    while !checker.closed && (checker.live || client.has_lines()) {
        read(world, client, checker);
        thread::yield_now();
    }
}

fn schedules() -> usize {
    std::env::var("BROKER_MODEL_SCHEDULES").ok().and_then(|schedules| schedules.parse().ok()).unwrap_or(2_000)
}

#[test]
fn random_schedules() {
    let mut config = shuttle::Config::new();
    config.stack_size = 1 << 17;
    config.max_steps = shuttle::MaxSteps::FailAfter(200_000);
    let scheduler = shuttle::scheduler::RandomScheduler::new(schedules());
    shuttle::Runner::new(scheduler, config).run(schedule);
}

#[test]
fn schedules_with_few_preemptions() {
    let mut config = shuttle::Config::new();
    config.stack_size = 1 << 17;
    config.max_steps = shuttle::MaxSteps::ContinueAfter(200_000);
    let scheduler = shuttle::scheduler::PctScheduler::new(5, schedules());
    shuttle::Runner::new(scheduler, config).run(schedule);
}
