//! A node's lease: it says that it is there, again and again, and learns of the others with the same call.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::{Duration, Instant},
};

use broker_resp::Value;

use super::{AboutNode, Fresh, Inner, KnownNode, Standing, UNEXPECTED, new_owner, scripts};
use crate::{failure::Failure, servers::Lane};

/// What the heartbeat's task alone knows.
struct Lease {
    begins: bool,
    life: Option<Arc<str>>,
    held_until: Instant,
    /// Nodes that were known when the data was lost, and when that was noticed: until they have said again that they are there, they are not forgotten.
    carried: Option<(Instant, Vec<KnownNode>)>,
}

/// How soon a node that could not say that it is there tries again.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);

/// Says that the node is there, until nobody holds it or it has said goodbye.
pub(super) async fn beat(inner: Weak<Inner>) {
    let mut lease = Lease { begins: true, life: None, held_until: Instant::now(), carried: None };
    loop {
        let Some(node) = inner.upgrade() else { return };
        if node.gone.load(Ordering::Acquire) {
            return;
        }
        node.say(&mut lease).await;
        let is_in_trouble = node.view.borrow().trouble.is_some();
        let interval = if is_in_trouble { node.options.heartbeat_interval.min(RETRY_INTERVAL) } else { node.options.heartbeat_interval };
        // Where the node is dropped meanwhile, the next look finds it gone.
        let _ = tokio::time::timeout(interval, node.wake.notified()).await;
    }
}

impl Inner {
    /// A call that takes longer than the time between two is of no use.
    pub(super) fn timeout(&self) -> Duration {
        self.options.heartbeat_interval.max(Duration::from_millis(200))
    }

    async fn say(&self, lease: &mut Lease) {
        let asked_at = Instant::now();
        if self.renews.swap(false, Ordering::AcqRel) {
            self.renew(Fresh::LeaseLost);
            lease.begins = true;
        }
        let mut answer = self.call(lease.begins).await;
        if let Ok(said) = &answer {
            let is_same_life = lease.life.as_ref().is_none_or(|life| *life == said.life);
            let is_gone = self.gone.load(Ordering::Acquire);
            if is_gone {
                return;
            }
            if !said.is_held || !is_same_life {
                let fresh = if is_same_life { Fresh::LeaseLost } else { Fresh::DataLost };
                if fresh == Fresh::DataLost {
                    lease.carried = Some((asked_at, self.view.borrow().nodes.to_vec()));
                }
                self.renew(fresh);
                answer = self.call(true).await;
            }
        }
        match answer {
            Ok(mut said) => {
                lease.begins = false;
                lease.held_until = asked_at + self.options.lease;
                lease.life = Some(said.life.clone());
                self.carry(lease, &mut said.nodes);
                self.view.send_modify(|view| {
                    view.standing = Standing::Here;
                    view.nodes = said.nodes.into();
                    view.beats += 1;
                    view.life = Some(said.life);
                    view.trouble = None;
                });
            }
            Err(failure) => {
                // Whether it was done is not known: where it was, the next call finds the lease; where not, it begins one.
                lease.begins |= self.view.borrow().standing == Standing::Joining;
                let is_over = Instant::now() >= lease.held_until;
                let failure = failure.to_string();
                // It is tried several times a second: each reason is worth one line, and that the lease ends another one.
                let is_cut_off = is_over && self.view.borrow().standing == Standing::Here;
                if is_cut_off || self.view.borrow().trouble.as_deref() != Some(&failure) {
                    tracing::warn!(failure, lease_is_over = is_over, "this node could not say that it is there");
                }
                self.view.send_modify(|view| {
                    if is_over && view.standing == Standing::Here {
                        view.standing = Standing::CutOff;
                    }
                    view.trouble = Some(failure.into());
                });
            }
        }
    }

    /// Adds the nodes that were known before the data was lost. They count as there for as long as a lease, then as lost.
    fn carry(&self, lease: &mut Lease, nodes: &mut Vec<KnownNode>) {
        let Some((lost_at, carried)) = &mut lease.carried else { return };
        carried.retain(|before| !nodes.iter().any(|node| node.about.id == before.about.id));
        if carried.is_empty() || lost_at.elapsed() >= self.options.lease + self.options.lost_for {
            lease.carried = None;
            return;
        }
        let is_over = lost_at.elapsed() >= self.options.lease;
        nodes.extend(carried.iter().map(|node| KnownNode { is_lost: is_over || node.is_lost, is_carried: true, ..node.clone() }));
    }

    fn renew(&self, fresh: Fresh) {
        if fresh == Fresh::DataLost {
            tracing::warn!("what Redis knows is of another life, this node says again what it has said");
        } else {
            tracing::warn!("this node's lease was over, it says again what it has said");
        }
        self.view.send_modify(|view| {
            view.owner = new_owner();
            view.fresh = fresh;
        });
    }

    async fn call(&self, begins: bool) -> Result<Said, Failure> {
        let about = rmp_serde::to_vec_named(&self.about).map_err(|_| Failure::Unexpected("a node that cannot be written"))?;
        let owner = self.view.borrow().owner.clone();
        let candidate = new_owner();
        let keys = ["ends", "about", "current", "owners", "life"].map(|suffix| self.group.key(suffix));
        let call = scripts::BEAT
            .call(keys)
            .arg(&*self.about.id)
            .arg(self.options.lease.as_millis() as u64)
            .arg(self.options.lost_for.as_millis() as u64)
            .arg(about)
            .arg(&*owner)
            .arg(&*candidate)
            .arg(u8::from(begins));
        let answer = self.servers.eval(Lane::Publish, &self.group, &scripts::BEAT, &call, self.timeout()).await?;
        Said::read(&answer).ok_or(UNEXPECTED)
    }
}

/// What is answered to a node that says that it is there.
struct Said {
    is_held: bool,
    life: Arc<str>,
    nodes: Vec<KnownNode>,
}

impl Said {
    fn read(answer: &Value) -> Option<Self> {
        let [is_held, life, now, nodes] = answer.values()? else { return None };
        let now = now.integer()?;
        let mut known = Vec::new();
        for node in nodes.values()?.chunks_exact(4) {
            let (id, owner) = (node[0].text()?, node[2].text()?);
            // A node of another version may say other things of itself; that it is there holds nevertheless.
            let about = rmp_serde::from_slice(node[3].bytes()?).unwrap_or_else(|_| AboutNode {
                id: id.into(),
                name: "".into(),
                version: "".into(),
                started_at_ms: 0,
                settings: "".into(),
            });
            known.push(KnownNode { about, is_lost: node[1].integer()? <= now, is_carried: false, owner: owner.into() });
        }
        Some(Self { is_held: is_held.integer()? == 1, life: life.text()?.into(), nodes: known })
    }
}
