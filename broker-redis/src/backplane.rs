//! The backplane on Redis: which part does what. The parts are in files of their own.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use async_trait::async_trait;
use broker_core::{
    Announcement, Backplane, Capabilities, Keep, LogPage, LogQuery, Publish, PublishFailed, Published, Sink, StatePage, StateQuery, Topic,
    Unavailable,
};
use broker_resp::Command;
use futures_util::future::join_all;
use parking_lot::Mutex;

use crate::{
    Finding, Health, Options,
    bus::Bus,
    calls::Calls,
    failure::Failure,
    follow::{Follow, Told},
    keys::{InvalidPrefix, Keys},
    listener::Listener,
    probe::{self, Probe},
    publishing::Publishing,
    reading::Reading,
    refill::{self, Refill},
    reports::Reports,
    servers::{Lane, Servers},
    topology::Topology,
    tops,
};

/// A backplane on Redis or Valkey: any number of nodes with the same servers and prefix act as one broker.
///
/// *Acknowledged* means that Redis has appended and sent it. A Redis that lost something, came back older, or was replaced by a replica is a new epoch
/// of every topic, and every resume is told. While Redis is gone publishes fail at once, and subscribers of topics with history wait.
/// Cloning copies a pointer. Needs a tokio runtime with I/O and time.
#[derive(Clone)]
pub struct RedisBackplane {
    pub(crate) inner: Arc<Inner>,
}

/// What the parts share.
pub(crate) struct Inner {
    pub(crate) id: Box<str>,
    pub(crate) options: Options,
    pub(crate) servers: Servers,
    pub(crate) bus: Bus,
    pub(crate) calls: Arc<Calls>,
    pub(crate) reading: Reading,
    pub(crate) told: Arc<Told>,
    pub(crate) probe: Probe,
    pub(crate) refill: Arc<Refill>,
    publishing: Arc<Publishing>,
    reports: Arc<Reports>,
    topics: Mutex<HashMap<Topic, Arc<Follow>>>,
    listener: Arc<Listener>,
}

impl RedisBackplane {
    /// Begins to connect. Whether it could is told by [`RedisBackplane::health`]: a Redis that is not there yet is waited for.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn connect(options: Options) -> Result<Self, InvalidPrefix> {
        let keys = Keys::new(&options.prefix)?;
        let topology = Topology::open(&options.servers);
        let servers = Servers::new(topology.clone());
        let calls =
            Arc::new(Calls { keys, durable: options.durable, publish_word: servers.publish_word(), versions_max: options.versions_max });
        let (told, reports, listener) = (Arc::new(Told::default()), Arc::new(Reports::default()), Arc::new(Listener::default()));
        let reading = Reading { servers: servers.clone(), calls: calls.clone(), told: told.clone(), timeout: options.read_timeout };
        let inner = Arc::new(Inner {
            id: format!("{:016x}", getrandom::u64().unwrap_or_else(|_| fastrand::u64(..))).into(),
            publishing: Arc::new(Publishing::new(servers.clone(), calls.clone(), reports.clone(), listener.clone(), &options)),
            bus: Bus::open(topology, servers.is_sharded(), options.read_timeout),
            options,
            servers,
            calls,
            reading,
            told,
            probe: Probe::default(),
            refill: Arc::default(),
            reports,
            topics: Mutex::default(),
            listener,
        });
        tokio::spawn(tops::watch(Arc::downgrade(&inner), inner.refill.clone()));
        tokio::spawn(probe::run(Arc::downgrade(&inner)));
        tokio::spawn(refill::run(Arc::downgrade(&inner), inner.refill.clone()));
        Ok(Self { inner })
    }

    /// How Redis is.
    pub fn health(&self) -> Health {
        self.inner.health()
    }

    /// Looks at how the servers are configured, and whether this broker's user may do what it needs to: for whoever sets them up. Asks each primary
    /// some ten questions, and waits at most some seconds for each. Cancel-safe.
    pub async fn check(&self) -> Vec<Finding> {
        self.inner.check().await
    }
}

impl Inner {
    /// The topics that this node listens to.
    pub(crate) fn follows(&self) -> Vec<Arc<Follow>> {
        self.topics.lock().values().cloned().collect()
    }

    fn follow(&self, topic: &Topic) -> Arc<Follow> {
        let mut topics = self.topics.lock();
        let (listener, reports) = (self.listener.clone(), self.reports.clone());
        let fresh = || Arc::new(Follow::new(topic.clone(), listener, reports, self.told.clone(), self.refill.clone()));
        topics.entry(topic.clone()).or_insert_with(fresh).clone()
    }

    async fn change_interest(&self, topic: &Topic, wanted: bool) -> Result<(), Unavailable> {
        let group = self.calls.keys.topic(topic);
        if wanted {
            match self.bus.listen(group.channel(), self.follow(topic)).await {
                // What this node publishes comes nevertheless, and everything with the next connection: until then the channel stays wanted.
                Err(Failure::NotDone(_) | Failure::Unknown(_)) if self.options.local_when_down => {}
                heard => heard?,
            }
        } else {
            self.bus.leave(group.channel()).await?;
            self.topics.lock().remove(topic);
        }
        Ok(())
    }
}

#[async_trait]
impl Backplane for RedisBackplane {
    fn start(&self, sink: Weak<dyn Sink>) {
        self.inner.listener.start(sink);
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::none().history().state().shared().in_line()
    }

    fn troubles(&self) -> Vec<String> {
        self.inner.health().troubles
    }

    async fn publish(&self, topic: &Topic, publish: Publish, keep: Keep) -> Result<Published, PublishFailed> {
        self.inner.publishing.publish(topic, publish, keep).await
    }

    async fn announce(&self, topic: &Topic, announcement: Announcement) -> Result<(), Unavailable> {
        let group = self.inner.calls.keys.topic(topic);
        let command = self.inner.servers.message(&group, crate::frame::encode_announcement(&announcement));
        self.inner.servers.call(Lane::Publish, &group, &command, self.inner.options.publish_timeout).await?;
        Ok(())
    }

    async fn interest(&self, changes: &[(Topic, bool)]) -> Result<(), Unavailable> {
        let all = changes.iter().map(|(topic, wanted)| self.inner.change_interest(topic, *wanted));
        join_all(all).await.into_iter().collect()
    }

    async fn history(&self, topic: &Topic, query: LogQuery, keep: Keep) -> Result<LogPage, Unavailable> {
        let follow = if query.delivers { self.inner.topics.lock().get(topic).cloned() } else { None };
        let page = self.inner.reading.history(topic, query, keep).await?;
        if let Some(follow) = follow.filter(|_| page.next.is_none()) {
            follow.read(page.top, keep);
        }
        Ok(page)
    }

    async fn remove_history(&self, topic: &Topic) -> Result<(), Unavailable> {
        let group = self.inner.calls.keys.topic(topic);
        let command = Command::new("DEL").arg(group.key("l"));
        self.inner.servers.call(Lane::Publish, &group, &command, self.inner.options.publish_timeout).await?;
        Ok(())
    }

    async fn state(&self, topic: &Topic, query: StateQuery, keep: Keep) -> Result<StatePage, Unavailable> {
        self.inner.reading.state(topic, query, keep).await
    }
}
