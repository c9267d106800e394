//! What sentinels say of the primary, and whether it agrees. What is done with it lives in `topology`.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use broker_resp::{Address, Command, Event, Events, Link, Push, Target, Value};
use futures_util::future::join_all;

use super::{Found, Lane, Map, Primary, Topology, primary::patience};

/// Links to all sentinels that were named.
pub(super) struct Sentinels {
    /// The name under which they watch the primary.
    name: String,
    links: Vec<Link>,
    events: parking_lot::Mutex<Vec<Events>>,
}

/// How long a sentinel, or a primary, may take to answer: another one is asked in the same time.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);
/// What sentinels say when they have replaced a primary.
const SWITCHED: &str = "+switch-master";

/// What one sentinel says.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Says {
    /// Counts failovers: who has seen more of them knows better.
    epoch: i64,
    address: Address,
}

impl Sentinels {
    pub(super) fn open(sentinels: &[Target], name: &str) -> Arc<Self> {
        let open = |target: &Target| Link::open(target.clone().client_name("broker-sentinel"), crate::options::of_links());
        let (links, events) = sentinels.iter().map(open).unzip();
        Arc::new(Self { name: name.to_owned(), links, events: parking_lot::Mutex::new(events) })
    }

    /// Hears of failovers from now on.
    pub(super) fn listen(self: Arc<Self>, topology: &Arc<Topology>) {
        for (place, events) in std::mem::take(&mut *self.events.lock()).into_iter().enumerate() {
            tokio::spawn(hear(Arc::downgrade(&self), place, events, Arc::downgrade(topology)));
        }
    }

    /// Asks all of them, and then the primary that the best informed one names.
    pub(super) async fn look(&self, topology: &Topology) -> Result<Found, String> {
        let answers = join_all(self.links.iter().map(|link| self.ask(link))).await;
        let known = topology.map().primaries().first().map_or_else(|| "no primary".to_owned(), |primary| primary.address().to_string());
        let mut named: Vec<Says> = answers.iter().filter_map(|answer| answer.as_ref().ok().cloned().flatten()).collect();
        if named.is_empty() {
            return Err(match answers.iter().find_map(|answer| answer.as_ref().err()) {
                Some(why) if answers.iter().all(Result::is_err) => {
                    format!("no sentinel answers ({why}): going on with {known}, which was known last")
                }
                _ => format!(
                    "the sentinels know no primary with the name `{}`: look at `sentinel monitor` in their configuration",
                    self.name
                ),
            });
        }
        named.sort_by_key(|says| std::cmp::Reverse(says.epoch));
        named.dedup_by(|one, other| one.address == other.address);
        let mut trouble = String::new();
        for Says { address, .. } in named {
            let primary = topology.primary(&address);
            match role(&primary).await {
                Ok(role) if role == "master" => return Ok(Found { map: Map::of_one(primary), trouble: None }),
                Ok(role) => trouble = format!("the sentinels say that {address} is the primary, and it says that it is a {role}"),
                Err(why) => trouble = format!("the sentinels say that {address} is the primary, and it does not answer: {why}"),
            }
        }
        Err(format!("{trouble}; going on with {known}"))
    }

    /// What one of them says; `None`: it does not know the name.
    async fn ask(&self, link: &Link) -> Result<Option<Says>, String> {
        let sentinel = |word: &str| Command::new("SENTINEL").arg(word).arg(&self.name);
        let questions = [sentinel("GET-MASTER-ADDR-BY-NAME"), sentinel("MASTER")];
        let answers = link.call_many(&questions, patience(link, ASK_TIMEOUT)).await;
        let [address, about] = <[_; 2]>::try_from(answers).map_err(|_| "it does not answer".to_owned())?;
        let address = address.map_err(|error| link.state().trouble().unwrap_or_else(|| error.to_string()))?;
        let Some([host, port]) = address.values() else { return Ok(None) };
        let epoch = about.ok().and_then(|about| about.field("config-epoch")?.integer()).unwrap_or_default();
        let port = port.integer().and_then(|port| u16::try_from(port).ok());
        let (Some(host), Some(port)) = (host.text(), port) else { return Err("it answers no address".to_owned()) };
        Ok(Some(Says { epoch, address: Address::Tcp { host: host.to_owned(), port } }))
    }
}

/// What a server says that it is: `master`, `slave`.
async fn role(primary: &Arc<Primary>) -> Result<String, String> {
    let link = primary.link(Lane::Publish);
    let answer = link.call(&Command::new("ROLE"), patience(link, ASK_TIMEOUT)).await;
    let answer = answer.map_err(|error| link.state().trouble().unwrap_or_else(|| error.to_string()))?;
    let role = answer.values().and_then(|values| values.first()).and_then(Value::text);
    role.map(ToOwned::to_owned).ok_or_else(|| "it answers no role".to_owned())
}

/// Hears what one sentinel tells by itself, until nobody wants to.
async fn hear(sentinels: Weak<Sentinels>, place: usize, mut events: Events, topology: Weak<Topology>) {
    while let Some(event) = events.next().await {
        let (Some(sentinels), Some(topology)) = (sentinels.upgrade(), topology.upgrade()) else { return };
        match event {
            Event::Connected { .. } => {
                // Where it is refused, failovers are learnt from the primary's end.
                drop(sentinels.links[place].send(&[Command::new("SUBSCRIBE").arg(SWITCHED)], ASK_TIMEOUT));
                topology.doubt();
            }
            // Whether another one is left shows when they are asked.
            Event::Disconnected { .. } => topology.doubt(),
            Event::Push(Push::Message { payload, .. }) if is_of(&payload, &sentinels.name) => topology.doubt(),
            _ => {}
        }
    }
}

/// Whether `name old-host old-port new-host new-port` is about this name.
fn is_of(payload: &[u8], name: &str) -> bool {
    payload.split(|&byte| byte == b' ').next() == Some(name.as_bytes())
}
