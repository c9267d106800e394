//! Which primary has which names, however the servers are arranged, and how that is learnt anew when it is in doubt. What is sent to them lives in
//! `servers`, what comes from them in `bus`.
//!
//! One task per backplane learns: from sentinels (`sentinel`) or from the cluster (`cluster`); one server is what it is. Whoever meets a sign that
//! the map may be old says so with [`Topology::doubt`], which costs nothing however often it is said.

mod cluster;
mod map;
mod primary;
mod sentinel;
mod slots;

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use broker_resp::{Address, LinkState, Target};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::options::Servers as Where;

pub(crate) use map::Map;
pub(crate) use primary::{GoneFor, Lane, Primary};
pub(crate) use slots::{Redirect, slot_of};

/// How the servers are arranged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Arrangement {
    /// One server that is always the primary.
    Standalone,
    /// One primary at a time.
    Sentinel,
    /// Each has some of the slots.
    Cluster,
}

/// Which primary has which names. The map is replaced as a whole.
pub(crate) struct Topology {
    arrangement: Arrangement,
    /// How to speak to servers that are learnt of.
    template: Target,
    map: watch::Sender<Arc<Map>>,
    doubts: Arc<Notify>,
    /// Who knows best at the moment: a server that others named as an owner.
    hint: Mutex<Option<Address>>,
    /// What servers said of single slots, and when: others in the cluster learn of it later than whoever said it.
    believed: Mutex<HashMap<u16, (Address, Instant)>>,
    /// Why the map cannot be relied on; `None`: it can.
    trouble: Mutex<Option<String>>,
}

/// What a look found.
struct Found {
    map: Map,
    /// What is wrong with it nevertheless.
    trouble: Option<String>,
}

/// Who is asked.
enum Source {
    Sentinel(Arc<sentinel::Sentinels>),
    Cluster(cluster::Seeds),
}

/// For so long, what the owner of a slot said of it counts more than what another server says of all.
const BELIEVED_FOR: Duration = Duration::from_secs(1);
/// A map that nobody doubts is looked at again after this.
const PERIOD: Duration = Duration::from_secs(30);
/// Time between two looks while something is in doubt: grows from this, half of it chance...
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// ...to this.
const PAUSE_MAX: Duration = Duration::from_millis(500);

impl Topology {
    /// Begins to learn.
    pub(crate) fn open(servers: &Where) -> Arc<Self> {
        let (arrangement, template, source, map) = match servers {
            Where::Standalone(target) => {
                let primary = Arc::new(Primary::new(target.clone()));
                // Whether it is there is told before anybody calls.
                for lane in [Lane::Publish, Lane::Read] {
                    let _ = primary.link(lane);
                }
                (Arrangement::Standalone, target.clone(), None, Map::of_one(primary))
            }
            Where::Sentinel { sentinels, primary, server } => {
                let sentinels = sentinel::Sentinels::open(sentinels, primary);
                (Arrangement::Sentinel, server.clone(), Some(Source::Sentinel(sentinels)), Map::nobody())
            }
            Where::Cluster(nodes) => {
                let template = nodes.first().cloned().unwrap_or_else(|| Target::tcp("localhost", 6379));
                (Arrangement::Cluster, template, Some(Source::Cluster(cluster::Seeds::new(nodes))), Map::nobody())
            }
        };
        let trouble = source.is_some().then(|| "it is not known yet which servers there are".to_owned());
        let topology = Arc::new(Self {
            arrangement,
            template,
            map: watch::Sender::new(Arc::new(map)),
            doubts: Arc::default(),
            hint: Mutex::default(),
            believed: Mutex::default(),
            trouble: Mutex::new(trouble),
        });
        if let Some(source) = source {
            if let Source::Sentinel(sentinels) = &source {
                sentinels.clone().listen(&topology);
            }
            tokio::spawn(learn(Arc::downgrade(&topology), topology.doubts.clone(), source));
        }
        topology
    }

    pub(crate) fn arrangement(&self) -> Arrangement {
        self.arrangement
    }

    /// The map at this moment.
    pub(crate) fn map(&self) -> Arc<Map> {
        self.map.borrow().clone()
    }

    /// Tells of each new map.
    pub(crate) fn changes(&self) -> watch::Receiver<Arc<Map>> {
        self.map.subscribe()
    }

    /// The primary that has a slot; `None`: nobody is known to.
    pub(crate) fn owner(&self, slot: u16) -> Option<Arc<Primary>> {
        self.map.borrow().owner(slot).cloned()
    }

    /// The map may be old: it is learnt anew as soon as that is due.
    pub(crate) fn doubt(&self) {
        self.doubts.notify_one();
    }

    /// Servers said that slots are others'. That is believed at once, and looked at soon.
    pub(crate) fn moved(&self, slots: impl IntoIterator<Item = (u16, Address)>) {
        if self.arrangement == Arrangement::Cluster {
            self.map.send_if_modified(|map| {
                let mut changed = Map::clone(map);
                let mut any = false;
                for (slot, owner) in slots {
                    any |= changed.give(slot, self.primary_at(&changed, &owner));
                    self.believed.lock().insert(slot, (owner.clone(), Instant::now()));
                    *self.hint.lock() = Some(owner);
                }
                if any {
                    *map = Arc::new(changed);
                }
                any
            });
        }
        self.doubt();
    }

    /// A primary that has this address: the known one, or one that is spoken to for the first time.
    pub(crate) fn primary(&self, address: &Address) -> Arc<Primary> {
        self.primary_at(&self.map(), address)
    }

    fn primary_at(&self, map: &Map, address: &Address) -> Arc<Primary> {
        let known = map.primaries().iter().find(|primary| primary.address() == address);
        known.cloned().unwrap_or_else(|| Arc::new(Primary::new(self.template.moved_to(address.clone()))))
    }

    /// Why the map cannot be relied on, in words.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }

    /// The links for calls that are open.
    pub(crate) fn states(&self) -> Vec<(String, LinkState)> {
        let map = self.map();
        let of_one = self.arrangement == Arrangement::Standalone;
        let name = |what: &str, primary: &Primary| if of_one { what.to_owned() } else { format!("{what} to {}", primary.address()) };
        let all = map.primaries().iter().flat_map(|primary| primary.states().map(move |(what, state)| (name(what, primary), state)));
        all.collect()
    }

    fn install(&self, found: Result<Found, String>) {
        let trouble = match found {
            Ok(Found { mut map, trouble }) => {
                self.map.send_if_modified(|known| {
                    let mut believed = self.believed.lock();
                    believed.retain(|_, (_, said_at)| said_at.elapsed() < BELIEVED_FOR);
                    for (&slot, (owner, _)) in &*believed {
                        let owner = known.primaries().iter().find(|primary| primary.address() == owner).cloned();
                        owner.map(|owner| map.give(slot, owner));
                    }
                    drop(believed);
                    let is_new = !known.is_same(&map);
                    if is_new {
                        tracing::info!(servers = map.names(), "these primaries serve");
                        *known = Arc::new(map);
                    }
                    is_new
                });
                trouble
            }
            Err(trouble) => Some(trouble),
        };
        let mut told = self.trouble.lock();
        if *told != trouble {
            if let Some(trouble) = &trouble {
                tracing::warn!(trouble, "which server serves what is in doubt, going on with what was known last");
            } else {
                tracing::info!("it is known which server serves what");
            }
            *told = trouble;
        }
    }

    /// Whether there is nothing to look for: the map is whole, and everybody in it can be reached.
    fn is_settled(&self) -> bool {
        let is_down = |primary: &Arc<Primary>| primary.states().any(|(_, state)| primary::is_down(&state));
        self.trouble().is_none() && !self.map().primaries().iter().any(is_down)
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        // Whoever learns for it finds it gone.
        self.doubts.notify_one();
    }
}

/// Looks whenever there is a doubt, again and again while there is something to look for, and from time to time. One look at a time.
async fn learn(topology: Weak<Topology>, doubts: Arc<Notify>, source: Source) {
    let mut pause = PAUSE_MIN;
    loop {
        let looked_at = Instant::now();
        let Some(strong) = topology.upgrade() else { return };
        let found = match &source {
            Source::Sentinel(sentinels) => sentinels.look(&strong).await,
            Source::Cluster(seeds) => seeds.look(&strong).await,
        };
        strong.install(found);
        let settled = strong.is_settled();
        drop(strong);
        tokio::time::sleep_until(looked_at + pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        if settled {
            let _ = tokio::time::timeout(PERIOD, doubts.notified()).await;
        }
        let quiet = looked_at.elapsed() > 4 * PAUSE_MAX;
        pause = if quiet { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) };
    }
}
