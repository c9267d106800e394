//! What this node answers to other nodes and to its own host: passes an order to every shard and waits until all have done it.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{Hub, inbox::Item};
use crate::{
    Act, ControlAnswer, ControlQuestion, NodeInfo, Revocation, SessionReport, Target, Topic, TopicCount, UserId, control::ControlNode,
};

/// What every shard does with its sessions.
#[derive(Debug)]
pub(crate) enum Order {
    /// Do this with those that are meant.
    Act(Target, Act),
    /// End those whose credentials are revoked, at once.
    Revoke(Revocation),
    /// Say which are meant.
    Report(Target),
    /// Say which groups have sessions.
    Groups,
}

/// An order on its way through the shards. When the last shard, and every session that needs longer, has dropped it, the asker is told.
pub(crate) struct Errand {
    pub(crate) order: Order,
    result: Mutex<Gathered>,
    sessions: AtomicUsize,
    /// Most reports that are gathered.
    limit: usize,
    tell: Mutex<Option<oneshot::Sender<Gathered>>>,
}

/// What the shards have said.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    pub(crate) sessions: usize,
    pub(crate) reports: Vec<SessionReport>,
    pub(crate) groups: HashMap<Topic, Vec<UserId>>,
}

impl Errand {
    /// It was done with one session more.
    pub(crate) fn count(&self) {
        self.sessions.fetch_add(1, Relaxed);
    }

    pub(crate) fn has_room(&self) -> bool {
        self.result.lock().reports.len() < self.limit
    }

    pub(crate) fn report(&self, report: SessionReport) {
        self.result.lock().reports.push(report);
    }

    pub(crate) fn group(&self, topic: &Topic, user: UserId) {
        self.result.lock().groups.entry(topic.clone()).or_default().push(user);
    }
}

impl Drop for Errand {
    fn drop(&mut self) {
        let mut gathered = std::mem::take(self.result.get_mut());
        gathered.sessions = *self.sessions.get_mut();
        if let Some(tell) = self.tell.get_mut().take() {
            // The asker may have given up.
            let _ = tell.send(gathered);
        }
    }
}

impl Hub {
    /// Gives an order to every shard, and waits until it is done.
    async fn order(&self, order: Order, limit: usize) -> Gathered {
        let (tell, told) = oneshot::channel();
        let errand = Errand { order, result: Mutex::default(), sessions: AtomicUsize::new(0), limit, tell: Mutex::new(Some(tell)) };
        let errand = Arc::new(errand);
        for shard in 0..self.shards_len() {
            self.ports.push(shard, Item::Order(errand.clone()));
        }
        drop(errand);
        told.await.unwrap_or_default()
    }

    pub(super) fn info(&self) -> NodeInfo {
        NodeInfo {
            id: self.node.id.clone(),
            name: self.node.name.clone(),
            version: self.node.version.into(),
            uptime: self.node.started_at.elapsed(),
            sessions: self.stats.sessions.value() as usize,
            users: self.users.lock().len(),
            subscriptions: self.stats.subscriptions.value() as usize,
            topics: self.directory.all().iter().filter(|entry| !entry.topic.is_of_a_user()).count(),
            troubles: self.troubles(),
        }
    }

    /// What keeps this node from its work.
    pub(crate) fn troubles(&self) -> Vec<String> {
        // A node that drains gets no clients back, whatever its backplane does.
        let draining = self.is_draining().then(|| "the node is draining".to_owned());
        draining.into_iter().chain(self.backplane.troubles()).chain(self.control.troubles()).collect()
    }
}

#[async_trait]
impl ControlNode for Hub {
    async fn answer(&self, question: ControlQuestion) -> ControlAnswer {
        match question {
            ControlQuestion::Info => ControlAnswer::Info(self.info()),
            ControlQuestion::Probe { name, time } => ControlAnswer::Probe(Box::new(self.probe(&name, time).await)),
            ControlQuestion::Topics => {
                let all = self.directory.all();
                let counts = all.iter().map(|entry| TopicCount { topic: entry.topic.clone(), sessions: entry.members_len() });
                ControlAnswer::Topics(counts.filter(|count| count.sessions > 0).collect())
            }
            ControlQuestion::Act(target, act) => {
                // As with a revocation.
                self.recent.act(&target, &act);
                let gathered = self.order(Order::Act(target, act), 0).await;
                ControlAnswer::Done { sessions: gathered.sessions }
            }
            ControlQuestion::Revoke(revocation) => {
                // Before the shards look at their sessions: whoever becomes one afterwards is compared with it.
                self.recent.revoke(revocation.clone());
                let gathered = self.order(Order::Revoke(revocation), 0).await;
                ControlAnswer::Done { sessions: gathered.sessions }
            }
            ControlQuestion::Sessions { target, limit } => ControlAnswer::Sessions(self.order(Order::Report(target), limit).await.reports),
            ControlQuestion::Groups => ControlAnswer::Groups(self.order(Order::Groups, 0).await.groups.into_iter().collect()),
        }
    }
}
