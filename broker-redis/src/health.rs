//! How this node's Redis is: one answer for `/ready`, metrics and people.

use std::sync::atomic::Ordering::Relaxed;

use broker_resp::LinkState;

use crate::backplane::Inner;

/// How Redis is, as this node sees it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Health {
    /// What is wrong, in words; empty: nothing.
    pub troubles: Vec<String>,
    /// The links, by what they are for.
    pub links: Vec<(String, LinkState)>,
    /// How often the bus delivered nothing although it seemed connected.
    pub deaf: u64,
    /// Losses on the bus that were noticed by comparing tops, and read.
    pub tops_missed: u64,
    /// Lives of histories that began anew.
    pub epochs: u64,
    /// Messages and entries that this version cannot read.
    pub unreadable: u64,
    /// Topics that this node listens to.
    pub topics: usize,
}

/// The links without a connection; those that lack it for the same reason in one sentence.
fn down(links: &[(String, LinkState)]) -> Vec<String> {
    let mut reasons: Vec<(String, Vec<&str>)> = Vec::new();
    for (name, state) in links.iter().filter(|(_, state)| !state.is_connected()) {
        let reason = state.trouble().unwrap_or_else(|| "it is being made".to_owned());
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, names)) => names.push(name),
            None => reasons.push((reason, vec![name])),
        }
    }
    reasons.into_iter().map(|(reason, names)| format!("there is no connection to Redis for {}: {reason}", names.join(", "))).collect()
}

impl Inner {
    pub(crate) fn health(&self) -> Health {
        let mut links: Vec<(String, LinkState)> = self.servers.states();
        let ears = self.bus.states();
        let is_one = ears.len() <= 1;
        links.extend(ears.into_iter().map(|(server, state)| (if is_one { "bus".to_owned() } else { format!("bus from {server}") }, state)));
        let mut troubles: Vec<String> = self.servers.trouble().into_iter().chain(self.bus.troubles()).chain(down(&links)).collect();
        if links.is_empty() {
            troubles.push("no server has been spoken to yet".to_owned());
        }
        if self.probe.is_deaf() {
            troubles.push("the bus is connected, but delivers nothing".to_owned());
        }
        if let Some(foreign) = self.told.foreign_version() {
            troubles.push(format!("another node writes version {foreign} of the format, this one reads version {}", crate::frame::VERSION));
        }
        Health {
            troubles,
            links,
            deaf: self.probe.deaf.load(Relaxed),
            tops_missed: self.told.tops_missed.load(Relaxed),
            epochs: self.told.epochs.load(Relaxed),
            unreadable: self.told.unreadable.load(Relaxed),
            topics: self.follows().len(),
        }
    }
}
