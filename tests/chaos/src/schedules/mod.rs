//! What goes wrong, and what must be seen of it: the list. The faults are in the modules, one function for each, named after it.

mod backplane;
mod data;
mod nodes;

use std::{future::Future, pin::Pin, time::Duration};

use anyhow::Result;

use crate::world::{Shape, World};

/// Does wrong to a world.
pub(crate) type Fault = for<'a> fn(&'a mut World) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// One kind of fault.
pub(crate) struct Schedule {
    pub(crate) name: &'static str,
    /// What it does.
    pub(crate) does: &'static str,
    pub(crate) shape: Shape,
    pub(crate) run: Fault,
    pub(crate) must: Must,
    /// Part of the short run.
    pub(crate) is_short: bool,
}

/// What must be seen of a fault, beside what holds of all: nothing is lost in silence, named twice, doubled or out of order, and everybody is at the head at the end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Must {
    /// Whether somebody must be told of a loss: nothing else would be true.
    pub(crate) signal: bool,
    /// Whether nobody may be told of a loss: nothing is lost.
    pub(crate) not_signal: bool,
    /// Whether every connection of a client stays.
    pub(crate) keep_sockets: bool,
    /// Whether a publish is acknowledged, or refused with 503: both nodes are there to answer.
    pub(crate) answer: bool,
    /// Whether positions may be named anew under the same caller's key: Redis forgets keys.
    pub(crate) forget_keys: bool,
    /// 99 of 100 subscriptions hear something again this long after the cure.
    pub(crate) heal_within: Option<Duration>,
    /// Each node says that it is ready this long after the cure.
    pub(crate) ready_within: Option<Duration>,
    /// The longest that a publish may take with all its repetitions.
    pub(crate) publish_within: Duration,
}

impl Must {
    /// The same with four times as much time, for builds with checks on machines that do other things too.
    pub(crate) fn patient(self) -> Self {
        Self {
            heal_within: self.heal_within.map(|time| time * 4),
            ready_within: self.ready_within.map(|time| time * 4),
            publish_within: self.publish_within * 4,
            ..self
        }
    }
}

/// Clients hear something again this long after a node was killed, or a link came back, 99 of 100.
const HEAL: Duration = Duration::from_millis(500);
/// A node is back on its own this long after Redis is.
const BACK: Duration = Duration::from_secs(5);
const SECOND: Duration = Duration::from_secs(1);

/// What holds while both nodes can be reached by everybody.
const REACHABLE: Must = Must {
    signal: false,
    not_signal: false,
    keep_sockets: true,
    answer: true,
    forget_keys: false,
    heal_within: None,
    ready_within: None,
    publish_within: Duration::from_secs(6),
};
/// The same, and Redis has all that it ever had.
const WHOLE: Must = Must { not_signal: true, ..REACHABLE };
/// The same, but Redis has gone back, or may have.
const OLDER: Must = Must { signal: true, ..REACHABLE };
/// Clients lose their connection, or a node; Redis has all.
const CLIENTS: Must = Must { keep_sockets: false, answer: false, ..WHOLE };

macro_rules! schedule {
    ($module:ident::$name:ident, $does:literal, $must:expr $(, $field:ident = $value:expr)*) => {{
        #[allow(unused_mut)]
        let mut schedule = Schedule {
            name: stringify!($name),
            does: $does,
            shape: Shape::default(),
            run: |world| Box::pin($module::$name(world)),
            must: $must,
            is_short: false,
        };
        $(schedule.$field = $value;)*
        schedule
    }};
}

/// All of them.
pub(crate) fn all() -> Vec<Schedule> {
    let replica = Shape { replica: true, ..Shape::default() };
    let durable = Shape { redis: &["--appendonly", "yes", "--appendfsync", "always"], durable: true, ..Shape::default() };
    let everysec = Shape { redis: &["--appendonly", "yes", "--appendfsync", "everysec"], ..Shape::default() };
    let small = Shape { redis: &["--maxmemory", "4mb"], ..Shape::default() };
    let debug = Shape { redis: &["--enable-debug-command", "yes"], ..Shape::default() };
    let crowd = Shape { crowd: 300, ..Shape::default() };
    let gone = Must { ready_within: Some(BACK), heal_within: Some(BACK), ..REACHABLE };
    vec![
        schedule!(nodes::calm, "nothing", WHOLE),
        schedule!(
            data::kill_redis,
            "Redis is killed, and back after 30 s without its data",
            Must { signal: true, publish_within: 40 * SECOND, ..gone }
        ),
        schedule!(data::restart_redis, "Redis is killed three times, durable mode", Must { not_signal: true, ..gone }, shape = durable),
        schedule!(data::shutdown_save, "`SHUTDOWN SAVE`, and back with its data", OLDER),
        schedule!(data::aof_tail, "`appendfsync everysec`, killed, and the end of the file is gone", OLDER, shape = everysec),
        schedule!(data::rollback, "Redis comes back from an older snapshot", OLDER, is_short = true),
        schedule!(
            data::rollback_trap,
            "the same, and as much is published as was lost before anybody resumes",
            Must { keep_sockets: false, ..OLDER }
        ),
        schedule!(data::failover, "Redis is killed, its replica promoted", OLDER, shape = replica),
        schedule!(data::failover_lag, "a replica is promoted that is two seconds behind", OLDER, shape = replica),
        schedule!(data::failover_planned, "`FAILOVER`: nothing is lost", OLDER, shape = replica),
        schedule!(data::there_and_back, "A, B with a lag, A again; connections to A survive, nobody is on B", OLDER, shape = replica),
        schedule!(data::there_and_back_followed, "the same, and the nodes go to B and back", OLDER, shape = replica),
        schedule!(data::first_replica, "a first replica attaches: nothing is lost", REACHABLE),
        schedule!(data::dataloss, "`FLUSHALL`, three times", OLDER),
        schedule!(data::meta_evicted, "the positions of all topics are evicted", OLDER),
        schedule!(data::log_evicted, "histories are evicted while clients are away", Must { signal: true, not_signal: false, ..CLIENTS }),
        schedule!(data::eviction, "4 MB of memory, four policies of eviction", Must { forget_keys: true, ..REACHABLE }, shape = small),
        schedule!(data::script_flush, "`SCRIPT FLUSH`, twenty times", WHOLE),
        schedule!(data::debug_reload, "`DEBUG RELOAD`", WHOLE, shape = debug),
        schedule!(
            backplane::cut_backplane,
            "one node is cut off from Redis",
            Must { heal_within: Some(HEAL), ready_within: Some(BACK), ..WHOLE }
        ),
        schedule!(
            backplane::cut_backplane_both,
            "both nodes are cut off",
            Must { heal_within: Some(BACK), ready_within: Some(BACK), ..WHOLE }
        ),
        schedule!(
            backplane::blackhole_backplane,
            "the link of one node is half-open, in one direction or both",
            Must { heal_within: Some(BACK), ready_within: Some(BACK), ..WHOLE }
        ),
        schedule!(
            backplane::blackhole_backplane_both,
            "the links of both nodes are half-open for 60 s",
            Must { heal_within: Some(BACK), ready_within: Some(BACK), publish_within: 70 * SECOND, ..WHOLE }
        ),
        schedule!(backplane::slow_backplane, "250 ms more, each way", WHOLE),
        schedule!(backplane::drop_pubsub, "single messages of the bus are lost, 5 to 20 of 100", WHOLE, is_short = true),
        schedule!(backplane::dup_pubsub, "single messages of the bus come twice, 30 of 100", WHOLE),
        schedule!(
            backplane::lose_last,
            "the last message of each topic is lost on the bus",
            Must { heal_within: Some(2 * SECOND), ..WHOLE }
        ),
        schedule!(
            backplane::deaf_bus,
            "the bus of one node delivers nothing for 8 s",
            Must { heal_within: Some(2 * SECOND), ready_within: Some(BACK), ..WHOLE }
        ),
        schedule!(
            nodes::kill_node,
            "a node is killed; its clients are sent to the other one",
            Must { heal_within: Some(HEAL), ..CLIENTS },
            is_short = true
        ),
        schedule!(nodes::lost_node, "a node is killed with the last sessions of its users; presence, `revoke`", CLIENTS),
        schedule!(nodes::stop_node, "a node stands still for some seconds", Must { publish_within: 20 * SECOND, ..CLIENTS }),
        schedule!(nodes::rolling, "one node after the other drains and starts again", CLIENTS, shape = crowd),
        schedule!(nodes::cut_clients, "all connections of clients are cut, ten times", Must { answer: true, ..CLIENTS }),
        schedule!(nodes::blackhole_clients, "connections of clients are half-open", Must { answer: true, ..CLIENTS }),
    ]
}
