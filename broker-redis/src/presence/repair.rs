//! Makes Redis know again what this node has said, where it may not; and clears away what nobody says any more. Runs with each heartbeat.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use broker_core::{Announcement, Departure, SessionInfo, Topic};
use futures_util::{StreamExt, stream};

use super::{Inner, calls::BATCH_LEN};
use crate::{
    failure::Failure,
    nodes::{Fresh, Standing},
};

/// Topics that are said again at a time: Redis is busy with other things too.
const AT_A_TIME: usize = 32;
/// How long a former owner is taken by whoever clears it away.
const CLAIM_TIME: Duration = Duration::from_secs(10);
/// How often topics without sessions are forgotten.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// Repairs with each heartbeat, until the node is gone.
pub(super) async fn run(inner: Weak<Inner>) {
    let Some(mut beats) = inner.upgrade().map(|inner| inner.nodes.watch()) else { return };
    let mut repaired_for: Option<Arc<str>> = None;
    let mut sweep_at = Instant::now() + SWEEP_INTERVAL;
    while beats.changed().await.is_ok() {
        let view = beats.borrow_and_update().clone();
        let Some(inner) = inner.upgrade() else { return };
        if view.trouble.is_some() || view.standing != Standing::Here {
            continue;
        }
        // Nobody was told that those left who are missing now.
        let mut silently = false;
        if repaired_for.as_ref() != Some(&view.owner) && (repaired_for.is_some() || view.fresh != Fresh::Start) {
            inner.said.doubt_all();
            silently = view.fresh == Fresh::DataLost;
        }
        let (mut is_repaired, mut failure) = (false, None);
        match inner.repair(silently).await {
            Ok(()) => {
                repaired_for = Some(view.owner);
                is_repaired = true;
            }
            Err(why) => failure = Some(why),
        }
        // What this node was before is nobody's only when all is said again.
        if let Err(why) = inner.clear_away(is_repaired).await {
            failure = Some(why);
        }
        if sweep_at <= Instant::now() {
            sweep_at = Instant::now() + SWEEP_INTERVAL;
            inner.sweep().await;
        }
        if let Some(failure) = failure {
            tracing::warn!(%failure, "presence may be wrong until Redis is back: what is missing is said again then");
        }
    }
}

impl Inner {
    /// Says again what Redis may not know.
    async fn repair(&self, silently: bool) -> Result<(), Failure> {
        if self.said.take_overflowed() {
            // Nobody knows who they were: what is said again under another owner leaves them behind.
            tracing::warn!("more sessions went while Redis was gone than are remembered, all others are said again");
            self.nodes.renew();
            return Ok(());
        }
        let mut failed = None;
        for ((topic, session), who) in self.said.take_gone() {
            if self.said.session(&topic, session).is_some() {
                continue;
            }
            if failed.is_some() {
                self.said.doubt_removal(&topic, session, who);
                continue;
            }
            match self.calls.remove(&topic, session, Duration::ZERO).await {
                Ok(Departure::Left) => {
                    if let Some(who) = who {
                        self.announce(&topic, Announcement::Leave(who)).await;
                    }
                }
                Ok(_) => {}
                Err(failure) => {
                    self.said.doubt_removal(&topic, session, who);
                    failed = Some(failure);
                }
            }
        }
        if let Some(failure) = failed {
            return Err(failure);
        }
        let topics = self.said.take_doubtful();
        let mut results = stream::iter(topics).map(|topic| async move {
            let result = self.say_again(&topic, silently).await;
            if result.is_err() {
                self.said.doubt(&topic);
            }
            result
        });
        let mut result = Ok(());
        let mut running = std::pin::pin!((&mut results).buffer_unordered(AT_A_TIME));
        while let Some(one) = running.next().await {
            result = result.and(one);
        }
        result
    }

    async fn say_again(&self, topic: &Topic, silently: bool) -> Result<(), Failure> {
        let owner = self.nodes.owner();
        let infos = self.said.sessions_of(topic);
        if infos.is_empty() {
            return Ok(());
        }
        self.list(topic, &owner, true).await?;
        for batch in infos.chunks(BATCH_LEN) {
            let arrivals = self.calls.upsert(topic, &owner, batch).await?;
            for (info, arrival) in batch.iter().zip(arrivals) {
                match self.said.session(topic, info.session) {
                    Some(current) if Arc::ptr_eq(&current, info) => {
                        if arrival.joined && !silently {
                            self.announce(topic, Announcement::Join(info.clone())).await;
                        }
                    }
                    // It was renamed meanwhile, and the older name came last.
                    Some(_) => self.said.doubt(topic),
                    // It went meanwhile, and this came behind it.
                    None => self.remove_again(topic, info, arrival.joined).await?,
                }
            }
        }
        Ok(())
    }

    /// Takes back what was said of a session after it had gone. Whether its user is there is as it was before; who joined by it, did not.
    async fn remove_again(&self, topic: &Topic, info: &Arc<SessionInfo>, has_joined: bool) -> Result<(), Failure> {
        let departure = self.calls.remove(topic, info.session, Duration::ZERO).await;
        match departure {
            Ok(Departure::Left) if !has_joined => self.announce(topic, Announcement::Leave(info.clone())).await,
            Ok(_) => {}
            Err(failure) => {
                self.said.doubt_removal(topic, info.session, Some(info.clone()));
                return Err(failure);
            }
        }
        Ok(())
    }

    /// Clears away what nobody says any more, one owner after the other, and tells of the users who left by that.
    async fn clear_away(&self, own: bool) -> Result<(), Failure> {
        while let Some(owner) = self.nodes.claim(None, own, CLAIM_TIME).await? {
            tracing::info!(%owner, "clearing away what a node said that is gone, or before it lost its lease");
            let mut claimed_at = Instant::now();
            loop {
                let topics = self.calls.topics_of(&owner).await?;
                if topics.is_empty() {
                    break;
                }
                for topic in &topics {
                    self.clear_topic(topic, &owner).await?;
                    if claimed_at.elapsed() >= CLAIM_TIME / 3 {
                        self.nodes.claim(Some(&owner), own, CLAIM_TIME).await?;
                        claimed_at = Instant::now();
                    }
                }
                self.calls.list_topics(&owner, &topics, false).await?;
            }
            self.nodes.cleared(&owner).await?;
        }
        Ok(())
    }

    async fn clear_topic(&self, topic: &Topic, owner: &str) -> Result<(), Failure> {
        loop {
            let cleared = self.calls.clear(topic, owner).await?;
            for who in cleared.left {
                self.announce(topic, Announcement::Leave(Arc::new(who))).await;
            }
            if cleared.entries < BATCH_LEN {
                return Ok(());
            }
        }
    }

    /// Lists topics no more that have no sessions.
    async fn sweep(&self) {
        for (topic, owner) in self.said.sweep() {
            // A topic that stays listed costs its name, and a look when this owner is cleared away.
            let _ = self.calls.list_topics(&owner, std::slice::from_ref(&topic), false).await;
            if self.said.has(&topic) {
                // Somebody came while it was being unlisted.
                self.said.doubt(&topic);
            }
        }
    }
}
