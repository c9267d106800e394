//! Calls of the scripts of presence: names, arguments, answers.

use std::{sync::Arc, time::Duration};

use broker_core::{Arrival, Departure, SessionId, SessionInfo, Topic};
use broker_resp::{Command, Value};

use super::{entry, scripts};
use crate::{
    failure::Failure,
    keys::{Group, Keys},
    servers::{Lane, Servers},
};

/// Most entries in one call: it takes less than a millisecond.
pub(super) const BATCH_LEN: usize = 64;

pub(super) struct Calls {
    pub(super) servers: Servers,
    pub(super) keys: Keys,
    pub(super) timeout: Duration,
}

/// What a former owner's entries were.
pub(super) struct Cleared {
    /// Entries that were looked at.
    pub(super) entries: usize,
    /// The users who left by that, as their last sessions were seen.
    pub(super) left: Vec<SessionInfo>,
}

const UNEXPECTED: Failure = Failure::Unexpected("presence without its numbers");

impl Calls {
    /// Says that these sessions listen: an answer for each.
    pub(super) async fn upsert(&self, topic: &Topic, owner: &str, infos: &[Arc<SessionInfo>]) -> Result<Vec<Arrival>, Failure> {
        let group = self.keys.topic(topic);
        let mut call = scripts::UPSERT.call(names(&group)).arg(owner);
        for info in infos {
            call.push(info.session.to_string());
            call.push(info.user.as_str());
            call.push(entry::encode(owner, info));
        }
        let answer = self.servers.eval_until(Lane::Publish, &group, &scripts::UPSERT, |_| call.clone(), self.timeout).await?;
        let numbers = answer.values().filter(|numbers| numbers.len() == 2 * infos.len()).ok_or(UNEXPECTED)?;
        let is_one = |number: &Value| number.integer() == Some(1);
        Ok(numbers.chunks_exact(2).map(|pair| Arrival { joined: is_one(&pair[0]), left: is_one(&pair[1]) }).collect())
    }

    pub(super) async fn remove(&self, topic: &Topic, session: SessionId, linger: Duration) -> Result<Departure, Failure> {
        let group = self.keys.topic(topic);
        // Twice the time: whoever settles it may be late.
        let linger_ms = linger.as_millis().min(1 << 40) as u64 * 2;
        let call = scripts::REMOVE.call(names(&group)).arg(session.to_string()).arg(linger_ms);
        let answer = self.servers.eval_until(Lane::Publish, &group, &scripts::REMOVE, |_| call.clone(), self.timeout).await?;
        match answer.integer() {
            Some(0) => Ok(Departure::Unnoticed),
            Some(1) => Ok(Departure::Left),
            Some(2) => Ok(Departure::Lingers),
            _ => Err(UNEXPECTED),
        }
    }

    pub(super) async fn settle(&self, topic: &Topic, who: &SessionInfo) -> Result<bool, Failure> {
        let group = self.keys.topic(topic);
        let call = scripts::SETTLE.call(names(&group)).arg(who.session.to_string()).arg(who.user.as_str());
        let answer = self.servers.eval_until(Lane::Publish, &group, &scripts::SETTLE, |_| call.clone(), self.timeout).await?;
        Ok(answer.integer() == Some(1))
    }

    /// Clears away entries of a former owner in a topic.
    pub(super) async fn clear(&self, topic: &Topic, owner: &str) -> Result<Cleared, Failure> {
        let group = self.keys.topic(topic);
        let call = scripts::CLEAR.call(names(&group)).arg(owner).arg(BATCH_LEN);
        // Once: what was cleared away by a call without an answer is told by nobody, and by a second call neither.
        let answer = self.servers.eval(Lane::Read, &group, &scripts::CLEAR, &call, self.timeout).await?;
        let (entries, left) = answer.values().and_then(<[Value]>::split_first).ok_or(UNEXPECTED)?;
        let who = |pair: &[Value]| entry::decode(pair[0].text()?, pair[1].bytes()?).map(|(_, info)| info);
        Ok(Cleared { entries: entries.integer().ok_or(UNEXPECTED)? as usize, left: left.chunks_exact(2).filter_map(who).collect() })
    }

    /// Lists topics as such that have entries of an owner, or no more.
    pub(super) async fn list_topics(&self, owner: &str, topics: &[Topic], is_in: bool) -> Result<(), Failure> {
        let group = self.owner(owner);
        let command = Command::new(if is_in { "SADD" } else { "SREM" }).arg(group.key("topics")).args(topics.iter().map(Topic::as_str));
        self.servers.call(Lane::Publish, &group, &command, self.timeout).await.map(drop)
    }

    /// Some of the topics in which an owner has entries.
    pub(super) async fn topics_of(&self, owner: &str) -> Result<Vec<Topic>, Failure> {
        let group = self.owner(owner);
        let command = Command::new("SRANDMEMBER").arg(group.key("topics")).arg(BATCH_LEN);
        let answer = self.servers.call(Lane::Read, &group, &command, self.timeout).await?;
        let names = answer.values().unwrap_or_default();
        Ok(names.iter().filter_map(|name| name.text()?.parse().ok()).collect())
    }

    /// The names of what is known of an owner.
    fn owner(&self, owner: &str) -> Group {
        self.keys.group(&format!("owner {owner}"))
    }
}

/// The names of a topic's presence, in the order in which the scripts take them.
pub(super) fn names(group: &Group) -> [String; 4] {
    ["ps", "pu", "pl", "po"].map(|suffix| group.key(suffix))
}
