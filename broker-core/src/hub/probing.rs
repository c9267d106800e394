//! A look at the ways between nodes: each publishes one probe to a topic of that look alone, and says whose probes it heard. What may be published
//! and who listens lives elsewhere: a probe has no namespace, no subscription and no session.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use super::Hub;
use crate::{Keep, NodeProbe, Payload, Publication, Publish, Topic, sync::Mutex, unix_ms};

/// Looks that are taken at a time; one more is answered with nothing heard.
const LOOKS_MAX: usize = 8;
/// Longest look.
const TIME_MAX: Duration = Duration::from_secs(10);
/// Nodes whose probes are remembered.
const HEARD_MAX: usize = 1_000;
/// How long a probe is kept: it takes the way of a publication with history, and is forgotten after it.
const KEPT_FOR: Duration = Duration::from_secs(10);

/// The looks that are being taken.
#[derive(Default)]
pub(super) struct Looks {
    /// So that whoever delivers publications takes no lock while there is none.
    count: AtomicUsize,
    looks: Mutex<Vec<Look>>,
}

struct Look {
    topic: Topic,
    heard: Vec<Arc<str>>,
}

/// A look that ends when this is dropped, also where nobody waits for its answer any more.
struct Looking<'a> {
    hub: &'a Hub,
    topic: Topic,
}

impl Looks {
    /// Takes a publication that is a probe.
    pub(super) fn take(&self, publication: &Publication) -> bool {
        if self.count.load(Relaxed) == 0 {
            return false;
        }
        let mut looks = self.looks.lock();
        let Some(look) = looks.iter_mut().find(|look| look.topic == publication.topic) else { return false };
        if let Ok(node) = std::str::from_utf8(publication.data.bytes())
            && look.heard.len() < HEARD_MAX
            && !look.heard.iter().any(|heard| **heard == *node)
        {
            look.heard.push(node.into());
        }
        true
    }

    fn begin(&self, topic: &Topic) -> bool {
        let mut looks = self.looks.lock();
        if looks.len() >= LOOKS_MAX || looks.iter().any(|look| look.topic == *topic) {
            return false;
        }
        looks.push(Look { topic: topic.clone(), heard: Vec::new() });
        self.count.store(looks.len(), Relaxed);
        true
    }

    fn heard(&self, topic: &Topic) -> Vec<Arc<str>> {
        self.looks.lock().iter().find(|look| look.topic == *topic).map(|look| look.heard.clone()).unwrap_or_default()
    }

    fn end(&self, topic: &Topic) {
        let mut looks = self.looks.lock();
        looks.retain(|look| look.topic != *topic);
        self.count.store(looks.len(), Relaxed);
    }
}

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        self.hub.looks.end(&self.topic);
        let (backplane, topic) = (self.hub.backplane.clone(), self.topic.clone());
        if let Some(runtime) = &self.hub.runtime {
            // What is still delivered to it is nobody's.
            runtime.spawn(async move { backplane.interest(&[(topic, false)]).await.is_ok() });
        }
    }
}

impl Hub {
    /// Takes part in the look of this name, which lasts so long.
    pub(super) async fn probe(&self, name: &str, time: Duration) -> NodeProbe {
        let clock_ms = unix_ms(SystemTime::now());
        let topic = format!("user:~probe~{name}").parse::<Topic>();
        let looked = match topic {
            Ok(topic) => self.look(topic, time.min(TIME_MAX)).await,
            Err(error) => Err(error.to_string()),
        };
        let (heard, trouble) = match looked {
            Ok((heard, trouble)) => (heard, trouble),
            Err(trouble) => (Vec::new(), Some(trouble)),
        };
        NodeProbe {
            node: self.info(),
            heard,
            trouble: trouble.map(Into::into),
            clock_ms,
            knows: self.control.known_nodes(),
            is_shared: self.backplane.capabilities().shared,
            settings: self.node.settings.clone(),
        }
    }

    async fn look(&self, topic: Topic, time: Duration) -> Result<(Vec<Arc<str>>, Option<String>), String> {
        if !self.looks.begin(&topic) {
            return Err("too many looks are being taken, or this one twice".to_owned());
        }
        let looking = Looking { hub: self, topic };
        let ends_at = tokio::time::Instant::now() + time;
        let exchange = async {
            self.backplane.interest(&[(looking.topic.clone(), true)]).await.map_err(|error| error.to_string())?;
            // Twice: a node that was asked late has missed the first.
            for share in [5, 2] {
                tokio::time::sleep_until(ends_at - time + time / share).await;
                let probe = Publish::new(Payload::text(&*self.node.id));
                self.backplane.publish(&looking.topic, probe, Keep::history(1, KEPT_FOR)).await.map_err(|error| error.to_string())?;
            }
            tokio::time::sleep_until(ends_at).await;
            Ok::<(), String>(())
        };
        let trouble = match tokio::time::timeout_at(ends_at + Duration::from_millis(100), exchange).await {
            Ok(done) => done.err(),
            Err(_) => Some("the backplane did not answer in time".to_owned()),
        };
        // Who fails at once may still hear others.
        tokio::time::sleep_until(ends_at).await;
        Ok((self.looks.heard(&looking.topic), trouble))
    }
}
