//! One primary: its links for publishes and reads, opened when they are needed. Its link for what comes by itself lives in `bus`.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use broker_resp::{Address, Link, LinkState, Phase, Target, Wait};

/// What a call is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Lane {
    /// What changes something, and must not wait behind reads.
    Publish,
    /// Reads, and whatever is in no hurry.
    Read,
}

/// The links to one primary. They end with it.
pub(crate) struct Primary {
    target: Target,
    publish: OnceLock<Link>,
    read: OnceLock<Link>,
}

impl Primary {
    pub(crate) fn new(target: Target) -> Self {
        Self { target, publish: OnceLock::new(), read: OnceLock::new() }
    }

    pub(crate) fn address(&self) -> &Address {
        &self.target.address
    }

    /// How to speak to it, for another link.
    pub(crate) fn target(&self, name: &str) -> Target {
        self.target.clone().client_name(format!("broker-{name}"))
    }

    /// The link for a call.
    pub(crate) fn link(&self, lane: Lane) -> &Link {
        let (place, name) = match lane {
            Lane::Publish => (&self.publish, "publish"),
            Lane::Read => (&self.read, "read"),
        };
        place.get_or_init(|| Link::open(self.target(name), crate::options::of_links()).0)
    }

    /// The links that are open.
    pub(crate) fn states(&self) -> impl Iterator<Item = (&'static str, LinkState)> + '_ {
        let open = [("publishes", self.publish.get()), ("reads", self.read.get())];
        open.into_iter().filter_map(|(name, link)| Some((name, link?.state())))
    }
}

/// Waits for a link that has just been opened, not for one that is known to lead nowhere.
pub(super) fn patience(link: &Link, timeout: Duration) -> Wait {
    let wait = Wait::at_most(timeout);
    if is_down(&link.state()) { wait } else { wait.for_link() }
}

/// Whether there was a connection, or a try to get one, and there is none.
pub(super) fn is_down(state: &LinkState) -> bool {
    matches!(state.phase, Phase::Connecting { failures, .. } if failures > 0 || state.counters.connects > 0)
}

/// How long a link has been without a connection.
pub(crate) trait GoneFor {
    fn is_gone_for(&self, time: Duration) -> bool;
}

impl GoneFor for LinkState {
    fn is_gone_for(&self, time: Duration) -> bool {
        match &self.phase {
            Phase::Connecting { since, .. } => Instant::now().saturating_duration_since(*since) >= time,
            Phase::Connected { .. } => false,
            _ => true,
        }
    }
}
