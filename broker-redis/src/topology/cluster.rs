//! What the servers of a cluster say of its slots. What is done with it lives in `topology`.

use std::{sync::Arc, time::Duration};

use broker_resp::{Address, CallError, Command, Link, Target};

use super::{Found, Lane, Map, Primary, Topology, primary::patience, slots};

/// The nodes that were named: whom to ask while nobody else is known, and where all others are gone.
pub(super) struct Seeds {
    targets: Vec<Target>,
}

/// How long a server may take to answer before the next one is asked.
const ASK_TIMEOUT: Duration = Duration::from_millis(500);

impl Seeds {
    pub(super) fn new(targets: &[Target]) -> Self {
        Self { targets: targets.to_vec() }
    }

    /// Asks one after the other until one knows.
    pub(super) async fn look(&self, topology: &Topology) -> Result<Found, String> {
        let mut troubles = Vec::new();
        for address in self.whom_to_ask(topology) {
            match self.ask(topology, &address).await {
                Ok(map) => {
                    let unowned = map.unowned();
                    let trouble = format!("{unowned} of the cluster's {} slots have no server: their topics are down", slots::SLOTS);
                    return Ok(Found { map, trouble: (unowned > 0).then_some(trouble) });
                }
                Err(why) => troubles.push(format!("{address}: {why}")),
            }
        }
        Err(format!("no server of the cluster tells who serves what ({})", troubles.join("; ")))
    }

    /// First who is said to know, then who can be reached, then all.
    fn whom_to_ask(&self, topology: &Topology) -> Vec<Address> {
        let map = topology.map();
        let mut addresses: Vec<Address> = topology.hint.lock().take().into_iter().collect();
        let is_up = |primary: &&Arc<Primary>| primary.states().any(|(_, state)| state.is_connected());
        let mut up: Vec<Address> = map.primaries().iter().filter(is_up).map(|primary| primary.address().clone()).collect();
        fastrand::shuffle(&mut up);
        addresses.extend(up);
        addresses.extend(self.targets.iter().map(|target| target.address.clone()));
        addresses.extend(map.primaries().iter().map(|primary| primary.address().clone()));
        let mut asked = std::collections::HashSet::new();
        addresses.retain(|address| asked.insert(address.clone()));
        addresses
    }

    async fn ask(&self, topology: &Topology, address: &Address) -> Result<Map, String> {
        let question = Command::new("CLUSTER").arg("SLOTS");
        let known = topology.map().primaries().iter().find(|primary| primary.address() == address).cloned();
        let link = match &known {
            Some(primary) => primary.link(Lane::Read).clone(),
            // Named at the start, or said to know: it may turn out to be no primary, and is spoken to for this once.
            None => Link::open(topology.template.moved_to(address.clone()).client_name("broker-look"), crate::options::of_links()).0,
        };
        let answer = link.call(&question, patience(&link, ASK_TIMEOUT)).await.map_err(|error| why(&error, &link))?;
        let ranges = slots::ranges(&answer, address).ok_or_else(|| "its answer to CLUSTER SLOTS cannot be read".to_owned())?;
        if ranges.is_empty() {
            return Err("it has no slots and knows of none".to_owned());
        }
        let mut map = Map::of_slots();
        for range in ranges {
            map.give_all(range.first, range.last, topology.primary(&range.owner));
        }
        Ok(map)
    }
}

fn why(error: &CallError, link: &Link) -> String {
    match error {
        CallError::Refused(error) if error.line().contains("cluster support disabled") => {
            "this server is no part of a cluster: say redis:// for a single one".to_owned()
        }
        error => link.state().trouble().unwrap_or_else(|| error.to_string()),
    }
}
