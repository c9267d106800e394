//! What was really appended: every publication with its place, and for whom it was not. Clients are compared with this.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use broker_core::{Epoch, Except, Position, Publication, SessionId, Topic, UserId};
use parking_lot::Mutex;

/// Who a client is, for publications that are not for everybody.
#[derive(Clone, Debug, Default)]
pub(crate) struct Who {
    /// The session of the connection.
    pub(crate) session: Option<SessionId>,
    /// Every user that the connection has been.
    pub(crate) users: Vec<UserId>,
}

/// One publication that was appended.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Its data.
    pub(crate) payload: String,
    /// Its number among all publications of all topics, in the order in which they were appended.
    pub(crate) serial: u64,
    except: Option<Arc<Except>>,
}

impl Entry {
    /// Whether somebody may go without this publication.
    pub(crate) fn may_skip(&self, who: &Who) -> bool {
        self.except.as_ref().is_some_and(|except| {
            who.session.is_some_and(|session| except.sessions.contains(&session))
                || who.users.iter().any(|user| except.users.contains(user))
        })
    }

    /// Whether somebody must not get this publication: a connection that changed its user may have been either.
    pub(crate) fn must_skip(&self, who: &Who) -> bool {
        self.except.as_ref().is_some_and(|except| {
            who.session.is_some_and(|session| except.sessions.contains(&session))
                || !who.users.is_empty() && who.users.iter().all(|user| except.users.contains(user))
        })
    }
}

/// Everything that was appended.
#[derive(Default)]
pub(crate) struct Truth(Mutex<Known>);

#[derive(Default)]
struct Known {
    serial: u64,
    placed: HashMap<(Topic, Epoch, u64), Entry>,
    places: HashMap<(Topic, Epoch, String), u64>,
    /// Publications without a position, in their order.
    bare: HashMap<Topic, Vec<Entry>>,
    bare_places: HashMap<(Topic, String), usize>,
    /// Publications without a position that the bus lost: nothing can bring them back, and nothing is promised.
    lost: HashSet<(Topic, usize)>,
    wrong: Vec<String>,
}

impl Truth {
    /// A publication was appended. G1: one position, one payload; G3: one payload is stored once per epoch.
    pub(crate) fn appended(&self, publication: &Publication) {
        let topic = &publication.topic;
        let payload = String::from_utf8_lossy(publication.data.bytes()).into_owned();
        let mut known = self.0.lock();
        known.serial += 1;
        let entry = Entry { payload: payload.clone(), serial: known.serial, except: publication.except.clone() };
        let Some(position) = publication.position else {
            let bare = known.bare.entry(topic.clone()).or_default();
            bare.push(entry);
            let at = bare.len() - 1;
            if known.bare_places.insert((topic.clone(), payload.clone()), at).is_some() {
                known.wrong.push(format!("{topic}: {payload} was sent twice"));
            }
            return;
        };
        if let Some(before) = known.placed.insert((topic.clone(), position.epoch, position.offset), entry)
            && before.payload != payload
        {
            known.wrong.push(format!("{topic} {position} names {} and {payload}", before.payload));
        }
        if let Some(before) = known.places.insert((topic.clone(), position.epoch, payload.clone()), position.offset)
            && before != position.offset
        {
            known.wrong.push(format!("{topic}: {payload} is stored at {before} and at {position}"));
        }
    }

    /// The bus lost a publication without a position.
    pub(crate) fn lost(&self, publication: &Publication) {
        let mut known = self.0.lock();
        let payload = String::from_utf8_lossy(publication.data.bytes()).into_owned();
        let key = (publication.topic.clone(), payload);
        if let Some(at) = known.bare_places.get(&key).copied() {
            known.lost.insert((key.0, at));
        }
    }

    /// Number of publications so far.
    pub(crate) fn serial(&self) -> u64 {
        self.0.lock().serial
    }

    /// What stands at a position.
    pub(crate) fn at(&self, topic: &Topic, position: Position) -> Option<Entry> {
        self.0.lock().placed.get(&(topic.clone(), position.epoch, position.offset)).cloned()
    }

    /// Where this data stands in an epoch.
    pub(crate) fn place(&self, topic: &Topic, epoch: Epoch, payload: &str) -> Option<Position> {
        let offset = self.0.lock().places.get(&(topic.clone(), epoch, payload.to_owned())).copied();
        offset.map(|offset| Position { offset, epoch })
    }

    /// The number of this data among those of its topic that have no position.
    pub(crate) fn bare_place(&self, topic: &Topic, payload: &str) -> Option<usize> {
        self.0.lock().bare_places.get(&(topic.clone(), payload.to_owned())).copied()
    }

    /// One publication without a position.
    pub(crate) fn bare(&self, topic: &Topic, at: usize) -> Option<Entry> {
        self.0.lock().bare.get(topic)?.get(at).cloned()
    }

    /// How many publications without a position the topic has.
    pub(crate) fn bare_len(&self, topic: &Topic) -> usize {
        self.0.lock().bare.get(topic).map_or(0, Vec::len)
    }

    /// Whether somebody may go without these publications that have no position.
    pub(crate) fn bare_may_skip(&self, topic: &Topic, numbers: std::ops::Range<usize>, who: &Who) -> bool {
        let known = self.0.lock();
        let all = known.bare.get(topic).map_or(&[][..], Vec::as_slice);
        numbers.into_iter().all(|at| known.lost.contains(&(topic.clone(), at)) || all.get(at).is_some_and(|entry| entry.may_skip(who)))
    }

    /// What is wrong with the log itself.
    pub(crate) fn wrong(&self) -> Vec<String> {
        self.0.lock().wrong.clone()
    }
}
