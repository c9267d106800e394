//! Who comes to a topic and who goes: said to presence for each session, and to the listeners once for each user.
//!
//! A user whose connection closed counts as there for a while, so that a reload or a lost network is nobody's news. What waits for that time
//! is one queue with one task. The sessions that presence lists do not wait.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, Semaphore, oneshot},
    time::Instant,
};

use super::Hub;
use crate::{Announcement, Namespace, SessionInfo, Topic, presence::Departure, sync::Mutex};

/// Departures that may wait; with more, users leave at once.
const DEPARTURES_MAX: usize = 1 << 18;
/// Departures that are settled at a time: what waits behind a slow presence waits here.
const SETTLING_MAX: usize = 64;

/// Users who leave unless they come back in time; the earliest first, since all wait equally long.
pub(super) struct Departures {
    waiting: Mutex<VecDeque<Departing>>,
    /// There is a first one, or the hub is closed.
    changed: Notify,
    settling: Arc<Semaphore>,
}

struct Departing {
    at: Instant,
    topic: Topic,
    /// As the last session was seen.
    who: Arc<SessionInfo>,
}

impl Default for Departures {
    fn default() -> Self {
        Self { waiting: Mutex::default(), changed: Notify::new(), settling: Arc::new(Semaphore::new(SETTLING_MAX)) }
    }
}

impl Departures {
    pub(super) fn wake(&self) {
        self.changed.notify_one();
    }

    fn has_room(&self) -> bool {
        self.waiting.lock().len() < DEPARTURES_MAX
    }

    fn add(&self, departing: Departing) {
        let mut waiting = self.waiting.lock();
        waiting.push_back(departing);
        let is_first = waiting.len() == 1;
        drop(waiting);
        if is_first {
            self.wake();
        }
    }

    /// When the first one is due.
    fn next_at(&self) -> Option<Instant> {
        self.waiting.lock().front().map(|departing| departing.at)
    }

    fn take(&self) -> Option<Departing> {
        let mut waiting = self.waiting.lock();
        let first = waiting.pop_front();
        if waiting.is_empty() {
            *waiting = VecDeque::new();
        }
        first
    }
}

/// Whether a session's coming is news to others, once presence has said so.
pub(super) struct Coming(Option<oneshot::Receiver<bool>>);

impl Hub {
    /// A session listens to a topic. Who asks for presence after this finds it there, as far as presence answers at once.
    pub(super) fn comes(self: &Arc<Self>, topic: &Topic, namespace: &Namespace, who: &Arc<SessionInfo>) -> Coming {
        if !is_attended(namespace) {
            return Coming(None);
        }
        let (tell, told) = oneshot::channel();
        let (hub, of, info) = (self.clone(), topic.clone(), who.clone());
        let call = async move {
            match hub.in_time(hub.presence.upsert(&of, info)).await {
                // Nobody waits for it where join and leave are off.
                Ok(arrival) => drop(tell.send(arrival.joined)),
                Err(error) => tracing::warn!(topic = %of, %error, "a session could not be added to presence"),
            }
        };
        self.go_on_in_order(who, topic, Box::pin(call));
        Coming(namespace.join_leave.then_some(told))
    }

    /// Tells the listeners of a session that came, if its user was not there.
    pub(super) fn tell_coming(self: &Arc<Self>, topic: &Topic, who: Arc<SessionInfo>, coming: Coming) {
        let Some(told) = coming.0 else { return };
        let (hub, of, info) = (self.clone(), topic.clone(), who.clone());
        let call = async move {
            // Without an answer of presence nobody knows; the next presence corrects it.
            if told.await == Ok(true) {
                hub.announce(&of, Announcement::Join(info)).await;
            }
        };
        self.go_on_in_order(&who, topic, Box::pin(call));
    }

    /// A session listens no more. `closed`: its connection has ended, and the user may come back with another.
    pub(super) fn goes(self: &Arc<Self>, topic: &Topic, namespace: &Namespace, who: Arc<SessionInfo>, closed: bool) {
        if !is_attended(namespace) {
            return;
        }
        let (hub, of, info, join_leave) = (self.clone(), topic.clone(), who.clone(), namespace.join_leave);
        let call = async move {
            let delay = hub.rules.settings.leave_delay;
            let linger = if closed && join_leave && hub.departures.has_room() { delay } else { Duration::ZERO };
            match hub.in_time(hub.presence.remove(&of, info.session, linger)).await {
                Ok(Departure::Lingers) => hub.departures.add(Departing { at: Instant::now() + delay, topic: of, who: info }),
                Ok(Departure::Left) if join_leave => hub.announce(&of, Announcement::Leave(info)).await,
                Ok(_) => {}
                Err(error) => tracing::warn!(topic = %of, %error, "a session could not be removed from presence"),
            }
        };
        self.go_on_in_order(&who, topic, Box::pin(call));
    }

    /// A session stays in a topic as somebody else, or with other words about it.
    pub(super) fn renamed(self: &Arc<Self>, topic: &Topic, namespace: &Namespace, before: Arc<SessionInfo>, now: Arc<SessionInfo>) {
        if !is_attended(namespace) {
            return;
        }
        let (hub, of, join_leave) = (self.clone(), topic.clone(), namespace.join_leave);
        let people = (before.clone(), now.clone());
        let call = async move {
            match hub.in_time(hub.presence.upsert(&of, now.clone())).await {
                Ok(arrival) if join_leave => {
                    if arrival.left {
                        hub.announce(&of, Announcement::Leave(before)).await;
                    }
                    if arrival.joined {
                        hub.announce(&of, Announcement::Join(now)).await;
                    }
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(topic = %of, %error, "a session could not be renamed in presence"),
            }
        };
        self.go_on_in_order_of_both(&people.0, &people.1, topic, Box::pin(call));
    }

    /// Tells of users who did not come back in time, until the hub is closed. Whoever waits then is not told of: the node goes, and those
    /// who were connected to it ask for presence where they connect next.
    pub(crate) async fn serve_departures(self: Arc<Self>) {
        while !self.is_closed() {
            match self.departures.next_at() {
                None => self.departures.changed.notified().await,
                Some(at) if at > Instant::now() => {
                    // Either the time is over, or the hub is closed; both are looked at above.
                    let _ = tokio::time::timeout_at(at, self.departures.changed.notified()).await;
                }
                Some(_) => self.settle_next().await,
            }
        }
    }

    async fn settle_next(self: &Arc<Self>) {
        let Ok(permit) = self.departures.settling.clone().acquire_owned().await else { return };
        let Some(Departing { topic, who, .. }) = self.departures.take() else { return };
        let (hub, of, info) = (self.clone(), topic.clone(), who.clone());
        let call = async move {
            match hub.in_time(hub.presence.settle(&of, &info)).await {
                Ok(true) => hub.announce(&of, Announcement::Leave(info)).await,
                Ok(false) => {}
                Err(error) => tracing::warn!(topic = %of, %error, "nobody knows whether a user has left"),
            }
            drop(permit);
        };
        self.go_on_in_order(&who, &topic, Box::pin(call));
        self.run_errands();
    }

    async fn announce(&self, topic: &Topic, announcement: Announcement) {
        // What is not told is corrected by the next presence.
        let _ = self.in_time(self.backplane.announce(topic, announcement)).await;
    }
}

/// Whether presence must know who listens: for itself, or to tell of users who come and go.
fn is_attended(namespace: &Namespace) -> bool {
    namespace.presence || namespace.join_leave
}
