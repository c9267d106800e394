//! Which nodes there are. How a node holds its lease, and learns of the others by that, lives in `lease`; what nodes ask each other, in `control`; what belongs to a node that has ended is cleared away by `presence`.
//!
//! A node's entries belong to its *owner*: a name that it makes anew whenever its lease was lost or the data is of another life. So whoever
//! clears away what a lost owner has said never touches what the node says afterwards.

mod lease;
mod scripts;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use broker_core::unix_ms;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

use crate::{
    failure::Failure,
    keys::{Group, Keys},
    servers::{Lane, Servers},
};

/// How nodes know each other.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct NodeOptions {
    /// How often a node says that it is there. Default: 2 s.
    pub heartbeat_interval: Duration,
    /// How long a node counts as there after it has said so; then what it said of its sessions is cleared away. At least three intervals.
    /// Default: 8 s.
    pub lease: Duration,
    /// How long a node that did not say goodbye is known as lost: questions to all nodes name it as silent. Default: 60 s.
    pub lost_for: Duration,
}

impl Default for NodeOptions {
    fn default() -> Self {
        Self { heartbeat_interval: Duration::from_secs(2), lease: Duration::from_secs(8), lost_for: Duration::from_secs(60) }
    }
}

/// What a node says of itself.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct AboutNode {
    /// Its id: that of [`broker_core::NodeInfo`].
    pub id: Arc<str>,
    /// Its name, for people.
    pub name: Arc<str>,
    /// Its version.
    pub version: Arc<str>,
    /// When it started, in milliseconds of Unix time.
    pub started_at_ms: u64,
    /// A fingerprint of the settings that must be the same on all nodes.
    pub settings: Arc<str>,
}

impl AboutNode {
    /// A node that starts now, with an id of its own.
    pub fn new(name: &str, version: &str, settings: &str) -> Self {
        let id = broker_core::SessionId::from_random(fastrand::u128(..)).to_string();
        Self {
            id: id.into(),
            name: name.into(),
            version: version.into(),
            started_at_ms: unix_ms(SystemTime::now()),
            settings: settings.into(),
        }
    }
}

/// A node that is known.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct KnownNode {
    /// What it says of itself.
    pub about: AboutNode,
    /// Whether its lease is over, without a goodbye.
    pub is_lost: bool,
    /// It was known before the data was lost, and has not said again that it is there.
    pub(crate) is_carried: bool,
    /// Under which name its entries are.
    pub(crate) owner: Arc<str>,
}

/// Whether the others know this node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Standing {
    /// It has not yet been able to say that it is there.
    Joining,
    /// It holds its lease.
    Here,
    /// It has not been able to say that it is there for as long as a lease lasts: others count it as lost.
    CutOff,
}

/// Why a node's entries have another owner than before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fresh {
    /// It has just started.
    Start,
    /// Its lease was over: others may have cleared away what it said, and told of it.
    LeaseLost,
    /// The data is of another life: what was said may be missing, and nobody was told.
    DataLost,
}

/// What a node knows of all.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) standing: Standing,
    pub(crate) owner: Arc<str>,
    pub(crate) fresh: Fresh,
    /// All that are known, this one too; the last answer.
    pub(crate) nodes: Arc<[KnownNode]>,
    /// Calls that were answered.
    pub(crate) beats: u64,
    /// The life of the data that the last answer was of.
    pub(crate) life: Option<Arc<str>>,
    /// Why the last call failed.
    pub(crate) trouble: Option<Arc<str>>,
}

/// A node in the moment of a question.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Asked {
    pub(crate) id: Arc<str>,
    pub(crate) is_lost: bool,
}

/// All nodes, as this one knows them. Cloning copies a pointer; the lease is held until the last clone goes, or the goodbye.
#[derive(Clone)]
pub(crate) struct Nodes {
    inner: Arc<Inner>,
}

struct Inner {
    servers: Servers,
    group: Group,
    options: NodeOptions,
    about: AboutNode,
    view: watch::Sender<View>,
    /// Somebody wants the next call at once, or a goodbye was said.
    wake: Notify,
    gone: AtomicBool,
    /// Another owner is wanted.
    renews: AtomicBool,
}

impl Nodes {
    /// The names of what nodes share. Topics hold no such space, so none has the same.
    pub(crate) fn group(keys: &Keys) -> Group {
        keys.group("the nodes")
    }

    /// Begins to say that this node is there.
    pub(crate) fn open(about: AboutNode, servers: Servers, keys: &Keys, mut options: NodeOptions) -> Self {
        options.lease = options.lease.max(options.heartbeat_interval * 3);
        let view = View {
            standing: Standing::Joining,
            owner: new_owner(),
            fresh: Fresh::Start,
            nodes: Arc::new([]),
            beats: 0,
            life: None,
            trouble: None,
        };
        let inner = Arc::new(Inner {
            servers,
            group: Self::group(keys),
            options,
            about,
            view: watch::Sender::new(view),
            wake: Notify::new(),
            gone: AtomicBool::new(false),
            renews: AtomicBool::new(false),
        });
        tokio::spawn(lease::beat(Arc::downgrade(&inner)));
        Self { inner }
    }

    /// This node.
    pub(crate) fn about(&self) -> &AboutNode {
        &self.inner.about
    }

    pub(crate) fn view(&self) -> View {
        self.inner.view.borrow().clone()
    }

    /// Under which name this node's entries are.
    pub(crate) fn owner(&self) -> Arc<str> {
        self.inner.view.borrow().owner.clone()
    }

    /// Told of each call that was answered or failed.
    pub(crate) fn watch(&self) -> watch::Receiver<View> {
        self.inner.view.subscribe()
    }

    /// Has its entries under another owner from the next call on, as if its lease had been lost.
    pub(crate) fn renew(&self) {
        self.inner.renews.store(true, Ordering::Release);
        self.hurry();
    }

    /// Says at once that this node is there.
    pub(crate) fn hurry(&self) {
        self.inner.wake.notify_one();
    }

    /// The names of what nodes share.
    pub(crate) fn names(&self) -> &Group {
        &self.inner.group
    }

    /// Sends a question to the others, and answers which nodes are known in that moment; this one is left out.
    pub(crate) async fn ask(&self, channel: &str, question: &[u8], timeout: Duration) -> Result<Vec<Asked>, Failure> {
        let inner = &self.inner;
        let call = |_| {
            scripts::ASK
                .call(["ends", "life"].map(|suffix| inner.group.key(suffix)))
                .arg(channel)
                .arg(question)
                .arg(inner.servers.publish_word())
        };
        let answer = inner.servers.eval_until(Lane::Publish, &inner.group, &scripts::ASK, call, timeout).await?;
        let values = answer.values().ok_or(UNEXPECTED)?;
        let [life, now, known @ ..] = values else { return Err(UNEXPECTED) };
        let (life, now) = (life.text().ok_or(UNEXPECTED)?, now.integer().ok_or(UNEXPECTED)?);
        let mut asked = Vec::with_capacity(known.len() / 2);
        for node in known.chunks_exact(2) {
            let (id, end) = (node[0].text().ok_or(UNEXPECTED)?, node[1].integer().ok_or(UNEXPECTED)?);
            if *id != *inner.about.id {
                asked.push(Asked { id: id.into(), is_lost: end <= now });
            }
        }
        // After a loss of data Redis knows only who has spoken since.
        let view = inner.view.borrow();
        let is_other_life = life.is_empty() || view.life.as_ref().is_some_and(|known| !known.starts_with(life));
        for node in view.nodes.iter().filter(|node| node.is_carried || is_other_life) {
            if node.about.id != inner.about.id && !asked.iter().any(|asked| asked.id == node.about.id) {
                asked.push(Asked { id: node.about.id.clone(), is_lost: node.is_lost });
            }
        }
        Ok(asked)
    }

    /// Takes an owner whose entries are nobody's any more, or holds on to one. `own`: also those that this node was before.
    pub(crate) async fn claim(&self, held: Option<&str>, own: bool, time: Duration) -> Result<Option<Arc<str>>, Failure> {
        let inner = &self.inner;
        let keys = ["ends", "current", "owners", "claims"].map(|suffix| inner.group.key(suffix));
        let call = scripts::CLAIM.call(keys).arg(time.as_millis() as u64).arg(held.unwrap_or_default());
        let call = call.arg(if own { &*inner.about.id } else { "" });
        let answer = inner.servers.eval(Lane::Read, &inner.group, &scripts::CLAIM, &call, inner.timeout()).await?;
        Ok(answer.text().map(Arc::from))
    }

    /// What an owner has said is cleared away.
    pub(crate) async fn cleared(&self, owner: &str) -> Result<(), Failure> {
        let inner = &self.inner;
        let call = scripts::CLEARED.call(["owners", "claims"].map(|suffix| inner.group.key(suffix))).arg(owner);
        inner.servers.eval(Lane::Read, &inner.group, &scripts::CLEARED, &call, inner.timeout()).await.map(drop)
    }

    /// Says that this node goes, once: nobody waits for its answers any more. Where that fails, the lease ends by itself.
    pub(crate) async fn goodbye(&self) -> Result<(), Failure> {
        let inner = &self.inner;
        inner.gone.store(true, Ordering::Release);
        inner.wake.notify_one();
        let keys = ["ends", "about", "current"].map(|suffix| inner.group.key(suffix));
        let call = |_| scripts::GOODBYE.call(&keys).arg(&*inner.about.id);
        inner.servers.eval_until(Lane::Publish, &inner.group, &scripts::GOODBYE, call, inner.timeout()).await.map(drop)
    }
}

const UNEXPECTED: Failure = Failure::Unexpected("nodes without their leases");

fn new_owner() -> Arc<str> {
    broker_core::Epoch::from_random(fastrand::u64(..)).as_str().into()
}
