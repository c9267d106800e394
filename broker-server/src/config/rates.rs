//! Keys of `[client.rate]` about what sessions and users do. How often an address may connect lives in `addresses`.

use broker::RateSet;

use super::{
    field::{byte_rate, count, rate, size},
    quantity::Rate,
    visit::Visitor,
};

/// Largest burst.
const BURST_MAX: u32 = 1_000_000_000;

/// How often sessions and users may do what costs something.
#[derive(Clone, Debug, PartialEq)]
pub struct Rates {
    session: Buckets,
    user: Buckets,
}

/// By kind, in the order of the keys.
type Buckets = [Bucket; 5];

/// A rate and its burst; a rate that is off keeps its burst.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bucket {
    rate: Option<Rate>,
    burst: usize,
}

/// Names and meanings: rate and burst of a session, the same of a user.
const KEYS: [[(&str, &str); 4]; 5] = [
    [
        ("commands", "Commands of a session."),
        ("commands_burst", "Commands of a session at once."),
        ("user_commands", "Commands of all sessions of a user on this node."),
        ("user_commands_burst", "The same at once."),
    ],
    [
        ("publishes", "Publishes of a session."),
        ("publishes_burst", "Publishes of a session at once."),
        ("user_publishes", "Publishes of all sessions of a user on this node."),
        ("user_publishes_burst", "The same at once."),
    ],
    [
        ("subscribes", "Subscribes of a session."),
        ("subscribes_burst", "Subscribes of a session at once: when it comes back, it subscribes to all its topics."),
        ("user_subscribes", "Subscribes of all sessions of a user on this node."),
        ("user_subscribes_burst", "The same at once."),
    ],
    [
        ("bytes", "Bytes that a session sends."),
        ("bytes_burst", "Bytes that a session sends at once."),
        ("user_bytes", "Bytes that all sessions of a user on this node send."),
        ("user_bytes_burst", "The same at once."),
    ],
    [
        ("errors", "Commands of a session that are refused, for anything but a rate."),
        ("errors_burst", "The same at once."),
        ("user_errors", "Refused commands of all sessions of a user on this node."),
        ("user_errors_burst", "The same at once."),
    ],
];

/// The place of `bytes` among the kinds.
const BYTES: usize = 3;

impl Default for Rates {
    fn default() -> Self {
        let broker::Rates { session, user, .. } = broker::Rates::default();
        Self { session: buckets(&session), user: buckets(&user) }
    }
}

impl Rates {
    /// The same as the engine takes them.
    pub fn rates(&self) -> broker::Rates {
        let mut rates = broker::Rates::OFF;
        rates.session = set(&self.session);
        rates.user = set(&self.user);
        rates
    }

    pub(super) fn keys(&mut self, keys: &mut dyn Visitor) {
        for (kind, names) in KEYS.iter().enumerate() {
            let [session, session_burst, user, user_burst] = *names;
            for (bucket, (name, about), (burst_name, burst_about)) in
                [(&mut self.session[kind], session, session_burst), (&mut self.user[kind], user, user_burst)]
            {
                if kind == BYTES {
                    keys.key(name, about, &mut byte_rate(&mut bucket.rate));
                    keys.key(burst_name, burst_about, &mut size(&mut bucket.burst, 1..=BURST_MAX.into()));
                } else {
                    keys.key(name, about, &mut rate(&mut bucket.rate));
                    keys.key(burst_name, burst_about, &mut count(&mut bucket.burst, 1..=BURST_MAX as usize));
                }
            }
        }
    }
}

fn buckets(set: &RateSet) -> Buckets {
    [set.commands, set.publishes, set.subscribes, set.bytes, set.errors].map(|rate| Bucket {
        rate: rate.map(|rate| Rate { count: rate.count(), per: rate.per() }),
        burst: rate.map_or(1, |rate| rate.at_once() as usize),
    })
}

fn set(buckets: &Buckets) -> RateSet {
    let [commands, publishes, subscribes, bytes, errors] = buckets.map(|bucket| {
        let burst = u32::try_from(bucket.burst).unwrap_or(u32::MAX);
        bucket.rate.map(|rate| broker::Rate::new(rate.count, rate.per).burst(burst))
    });
    let mut set = RateSet::OFF;
    (set.commands, set.publishes, set.subscribes, set.bytes, set.errors) = (commands, publishes, subscribes, bytes, errors);
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_engines() {
        assert_eq!(Rates::default().rates(), broker::Rates::default());
    }
}
