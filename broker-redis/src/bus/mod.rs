//! What comes by itself: the wanted channels, each heard from the primary that has it, and heard again wherever it goes. One link to each primary
//! (`ear`). What the messages say lives in `follow`, `control`.
//!
//! What is wanted is the truth. A channel is *heard* once its server has confirmed it, on the connection that is up; it is heard no more when that
//! connection ends, when the server gives it up by itself because its slot moves, or when the map names another server. From then on until it is
//! confirmed again, messages may be missed: so its hearer is told ([`Hearer::restored`]), always.

mod ear;

use std::{
    collections::HashMap,
    sync::{Arc, Weak, atomic::AtomicU64},
    time::Duration,
};

use broker_resp::{Address, LinkState};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use crate::{
    failure::Failure,
    topology::{Map, Primary, Topology, slot_of},
};
use ear::Ear;

/// Hears what comes over one channel. Called by the bus's own task, so it must not block.
pub(crate) trait Hearer: Send + Sync + 'static {
    /// A message came.
    fn message(&self, payload: &Bytes);

    /// The channel is subscribed again: what came over it may have had holes until here.
    fn restored(&self);
}

/// The channels that this node hears. Cloning copies a pointer.
#[derive(Clone)]
pub(crate) struct Bus {
    inner: Arc<Inner>,
}

struct Inner {
    /// For the tasks of its ears.
    this: Weak<Inner>,
    topology: Arc<Topology>,
    is_sharded: bool,
    timeout: Duration,
    wanted: Mutex<HashMap<Bytes, Wanted>>,
    ears: Mutex<HashMap<Address, Arc<Ear>>>,
    /// Counts ears.
    ears_opened: AtomicU64,
}

/// A channel that is to be heard.
struct Wanted {
    hearer: Arc<dyn Hearer>,
    slot: u16,
    /// The ear that is to hear it; `None`: nobody has its slot.
    ear: Option<u64>,
    /// Its server confirmed it.
    is_heard: bool,
    /// Messages may have been missed since it was last heard.
    is_gapped: bool,
    /// Who asked for it and waits.
    waiting: Vec<oneshot::Sender<Result<(), Failure>>>,
}

/// Where a channel is to be subscribed next.
enum Place {
    At(Arc<Ear>),
    /// Nowhere, until there is another map.
    Nowhere,
    /// It is heard, or not wanted.
    Settled,
}

impl Bus {
    /// Begins to hear.
    pub(crate) fn open(topology: Arc<Topology>, is_sharded: bool, timeout: Duration) -> Self {
        let changes = topology.changes();
        let inner = Arc::new_cyclic(|this| Inner {
            this: this.clone(),
            topology,
            is_sharded,
            timeout,
            wanted: Mutex::default(),
            ears: Mutex::default(),
            ears_opened: AtomicU64::new(0),
        });
        tokio::spawn(move_along(Arc::downgrade(&inner), changes));
        Self { inner }
    }

    /// Hears a channel. `Ok`: whatever is sent from now on comes. After an error the channel stays wanted, and is subscribed as soon as that works.
    pub(crate) async fn listen(&self, channel: &str, hearer: Arc<dyn Hearer>) -> Result<(), Failure> {
        let channel = Bytes::copy_from_slice(channel.as_bytes());
        let (done, answer) = oneshot::channel();
        {
            let mut wanted = self.inner.wanted.lock();
            let slot = slot_of(&channel);
            let fresh = || Wanted { hearer: hearer.clone(), slot, ear: None, is_heard: false, is_gapped: false, waiting: Vec::new() };
            let wanted = wanted.entry(channel.clone()).or_insert_with(fresh);
            wanted.hearer = hearer;
            if wanted.is_heard {
                return Ok(());
            }
            // Whoever asked again, or is gone, left a place behind: while Redis is gone there would be ever more of them.
            wanted.waiting.retain(|waiting| !waiting.is_closed());
            wanted.waiting.push(done);
        }
        self.inner.place(&channel);
        if let Ok(answer) = tokio::time::timeout(self.inner.timeout, answer).await {
            return answer.unwrap_or_else(|_| Err(Failure::NotDone("the channel was given up meanwhile".to_owned())));
        }
        if let Some(wanted) = self.inner.wanted.lock().get_mut(&channel) {
            wanted.is_gapped = true;
        }
        let why = self.inner.topology.trouble().unwrap_or_else(|| "Redis did not confirm a subscription in time".to_owned());
        Err(Failure::NotDone(why))
    }

    /// Hears a channel no more. `Ok`: nothing comes from now on.
    pub(crate) async fn leave(&self, channel: &str) -> Result<(), Failure> {
        let channel = Bytes::copy_from_slice(channel.as_bytes());
        let ear = self.inner.wanted.lock().remove(&channel).and_then(|wanted| wanted.ear);
        let ear = ear.and_then(|id| self.inner.ear_of(id));
        match ear {
            Some(ear) if ear.is_connected() => ear.leave(channel).await,
            // The next connection will know only what is wanted.
            _ => Ok(()),
        }
    }

    /// Connects anew to a server: whoever calls knows that nothing comes from it any more.
    pub(crate) fn reconnect(&self, server: &Address) {
        if let Some(ear) = self.inner.ears.lock().get(server) {
            ear.reconnect();
        }
    }

    /// The links, by their servers.
    pub(crate) fn states(&self) -> Vec<(Address, LinkState)> {
        self.inner.ears.lock().iter().map(|(server, ear)| (server.clone(), ear.state())).collect()
    }

    /// What is wrong with servers that can be reached.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let ears: Vec<Arc<Ear>> = self.inner.ears.lock().values().cloned().collect();
        ears.iter().filter_map(|ear| ear.trouble(&self.inner)).collect()
    }
}

impl Inner {
    /// Has a channel subscribed where its slot is.
    fn place(&self, channel: &Bytes) {
        let Some(slot) = self.wanted.lock().get(channel).map(|wanted| wanted.slot) else { return };
        loop {
            let owner = self.topology.owner(slot);
            match self.place_at(channel, owner.as_deref()) {
                Place::At(ear) => ear.settle(channel.clone()),
                Place::Nowhere => self.topology.doubt(),
                Place::Settled => return,
            }
            // The map may have been replaced meanwhile, and whoever follows it have looked before this was written down.
            if self.topology.owner(slot).map(|owner| owner.address().clone()) == owner.map(|owner| owner.address().clone()) {
                return;
            }
        }
    }

    fn place_at(&self, channel: &Bytes, owner: Option<&Primary>) -> Place {
        let ear = owner.map(|primary| self.ear_at(primary));
        let mut all = self.wanted.lock();
        let Some(wanted) = all.get_mut(channel) else { return Place::Settled };
        let id = ear.as_ref().map(|ear| ear.id());
        let left = if wanted.ear == id { None } else { wanted.ear };
        if wanted.ear != id {
            wanted.is_gapped |= wanted.is_heard;
            wanted.is_heard = false;
            wanted.ear = id;
        }
        let is_heard = wanted.is_heard;
        drop(all);
        if let Some(left) = left.and_then(|left| self.ear_of(left)) {
            left.settle(channel.clone());
        }
        match ear {
            _ if is_heard => Place::Settled,
            Some(ear) => Place::At(ear),
            None => Place::Nowhere,
        }
    }

    fn ear_at(&self, primary: &Primary) -> Arc<Ear> {
        let known = self.ears.lock().get(primary.address()).cloned();
        known.unwrap_or_else(|| self.open_ear(primary))
    }

    fn ear_of(&self, id: u64) -> Option<Arc<Ear>> {
        self.ears.lock().values().find(|ear| ear.id() == id).cloned()
    }

    /// Has everything subscribed where the map says, and gives up the links to servers that are not in it.
    fn follow(&self, map: &Map) {
        let ids: HashMap<Address, u64> = self.ears.lock().iter().map(|(server, ear)| (server.clone(), ear.id())).collect();
        let is_elsewhere = |wanted: &Wanted| {
            let ear = map.owner(wanted.slot).and_then(|owner| ids.get(owner.address()).copied());
            ear.is_none() || wanted.ear != ear
        };
        let elsewhere: Vec<Bytes> =
            self.wanted.lock().iter().filter(|(_, wanted)| is_elsewhere(wanted)).map(|(channel, _)| channel.clone()).collect();
        for channel in elsewhere {
            self.place(&channel);
        }
        let current = self.topology.map();
        let gone: Vec<Arc<Ear>> = {
            let mut ears = self.ears.lock();
            let is_gone = |server: &Address| !current.primaries().iter().any(|primary| primary.address() == server);
            let servers: Vec<Address> = ears.keys().filter(|server| is_gone(server)).cloned().collect();
            servers.iter().filter_map(|server| ears.remove(server)).collect()
        };
        // Their links end here, outside of the lock.
        drop(gone);
    }

    /// What an ear is to hear and does not.
    fn unheard(&self, ear: u64) -> Vec<Bytes> {
        let all = self.wanted.lock();
        all.iter().filter(|(_, wanted)| wanted.ear == Some(ear) && !wanted.is_heard).map(|(channel, _)| channel.clone()).collect()
    }

    /// An ear may have missed something of everything.
    fn lost(&self, ear: u64) {
        for wanted in self.wanted.lock().values_mut().filter(|wanted| wanted.ear == Some(ear)) {
            wanted.is_gapped |= wanted.is_heard;
            wanted.is_heard = false;
        }
    }

    /// A server has confirmed a channel.
    fn confirmed(&self, ear: u64, channel: &Bytes) {
        let (hearer, waiting) = {
            let mut all = self.wanted.lock();
            let Some(wanted) = all.get_mut(channel).filter(|wanted| wanted.ear == Some(ear)) else { return };
            wanted.is_heard = true;
            let was_gapped = std::mem::take(&mut wanted.is_gapped);
            (was_gapped.then(|| wanted.hearer.clone()), std::mem::take(&mut wanted.waiting))
        };
        if let Some(hearer) = hearer {
            hearer.restored();
        }
        for waiting in waiting {
            // Whoever asked may be gone.
            let _ = waiting.send(Ok(()));
        }
    }

    /// A server hears a channel no more; says whether it should.
    fn ended(&self, ear: u64, channel: &Bytes) -> bool {
        let mut all = self.wanted.lock();
        let Some(wanted) = all.get_mut(channel).filter(|wanted| wanted.ear == Some(ear) && wanted.is_heard) else { return false };
        wanted.is_heard = false;
        wanted.is_gapped = true;
        true
    }

    /// Whoever waits for channels hears that they are not heard now. They stay wanted.
    fn failed(&self, channels: &[Bytes], why: &Failure) {
        let mut all = self.wanted.lock();
        for channel in channels {
            let Some(wanted) = all.get_mut(channel).filter(|wanted| !wanted.is_heard) else { continue };
            wanted.is_gapped = true;
            for waiting in wanted.waiting.drain(..) {
                let _ = waiting.send(Err(why.clone()));
            }
        }
    }

    fn message(&self, ear: u64, channel: &Bytes, payload: &Bytes) {
        let hearer = self.wanted.lock().get(channel).filter(|wanted| wanted.ear == Some(ear)).map(|wanted| wanted.hearer.clone());
        // Of a channel that is not wanted, or that has moved, nothing is missed: what comes from there is read, or nobody's.
        if let Some(hearer) = hearer {
            hearer.message(payload);
        }
    }
}

/// Follows the map until the bus or the map is gone.
async fn move_along(inner: Weak<Inner>, mut changes: watch::Receiver<Arc<Map>>) {
    while changes.changed().await.is_ok() {
        let map = changes.borrow_and_update().clone();
        let Some(inner) = inner.upgrade() else { return };
        inner.follow(&map);
    }
}
