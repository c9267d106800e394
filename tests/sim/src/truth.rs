//! What was really appended: every publication with its place, and for whom it was not. Clients are compared with this.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use broker_core::{Epoch, Except, Position, Publication, SessionId, Topic, UserId};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::wants::{TAG, Wants};

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
    /// What it is about.
    pub(crate) key: Option<Box<str>>,
    /// Whether its key has gone with it.
    pub(crate) removed: bool,
    /// The value of its tag.
    pub(crate) class: Option<String>,
    expires_at: Option<Instant>,
    except: Option<Arc<Except>>,
}

impl Entry {
    fn of(publication: &Publication, serial: u64) -> Self {
        Self {
            payload: String::from_utf8_lossy(publication.data.bytes()).into_owned(),
            serial,
            key: publication.key.clone(),
            removed: publication.removed,
            class: publication.tags.as_ref().and_then(|tags| tags.get(TAG).cloned()),
            expires_at: publication.expires_at,
            except: publication.except.clone(),
        }
    }

    /// Its data as clients hear it: a removal may have none.
    pub(crate) fn heard(&self) -> &str {
        if self.payload.is_empty() { "null" } else { &self.payload }
    }

    /// Whether its own time is over: it is in no history, resume or state any more.
    pub(crate) fn is_expired(&self) -> bool {
        self.expires_at.is_some_and(|at| at <= Instant::now())
    }

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

/// Publications with their epoch, in their order.
type InOrder = Vec<(Option<Epoch>, Arc<Entry>)>;

/// Everything that was appended.
#[derive(Default)]
pub(crate) struct Truth(Mutex<Known>);

#[derive(Default)]
struct Known {
    serial: u64,
    placed: HashMap<(Topic, Epoch, u64), Arc<Entry>>,
    places: HashMap<(Topic, Epoch, String), u64>,
    tops: HashMap<(Topic, Epoch), u64>,
    /// Where the publications of each key stand.
    keys: HashMap<(Topic, Epoch), BTreeMap<Box<str>, Vec<u64>>>,
    /// All publications of a topic by their key, in their order, with their epoch.
    by_key: HashMap<(Topic, Option<Box<str>>), InOrder>,
    /// Publications without a position, in their order.
    bare: HashMap<Topic, Vec<Arc<Entry>>>,
    bare_places: HashMap<(Topic, String), usize>,
    /// Publications without a position that the bus lost: nothing can bring them back, and nothing is promised.
    lost: HashSet<(Topic, usize)>,
    wrong: Vec<String>,
}

impl Truth {
    /// A publication was appended. G1: one position, one payload; G3: one payload is stored once per epoch.
    pub(crate) fn appended(&self, publication: &Publication) {
        let topic = &publication.topic;
        let mut known = self.0.lock();
        known.serial += 1;
        let entry = Arc::new(Entry::of(publication, known.serial));
        let payload = entry.payload.clone();
        let epoch = publication.position.map(|position| position.epoch);
        known.by_key.entry((topic.clone(), entry.key.clone())).or_default().push((epoch, entry.clone()));
        let Some(position) = publication.position else {
            let bare = known.bare.entry(topic.clone()).or_default();
            bare.push(entry);
            let at = bare.len() - 1;
            if known.bare_places.insert((topic.clone(), payload.clone()), at).is_some() {
                known.wrong.push(format!("{topic}: {payload} was sent twice"));
            }
            return;
        };
        let life = (topic.clone(), position.epoch);
        known.tops.insert(life.clone(), position.offset);
        if let Some(key) = &entry.key {
            known.keys.entry(life).or_default().entry(key.clone()).or_default().push(position.offset);
        }
        if let Some(before) = known.placed.insert((topic.clone(), position.epoch, position.offset), entry)
            && before.payload != payload
        {
            known.wrong.push(format!("{topic} {position} names {} and {payload}", before.payload));
        }
        // Removals may have no data.
        if !payload.is_empty()
            && let Some(before) = known.places.insert((topic.clone(), position.epoch, payload.clone()), position.offset)
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
    pub(crate) fn at(&self, topic: &Topic, position: Position) -> Option<Arc<Entry>> {
        self.0.lock().placed.get(&(topic.clone(), position.epoch, position.offset)).cloned()
    }

    /// The newest offset of an epoch.
    pub(crate) fn top(&self, topic: &Topic, epoch: Epoch) -> u64 {
        self.0.lock().tops.get(&(topic.clone(), epoch)).copied().unwrap_or(0)
    }

    /// Every key of an epoch with the offsets of its publications.
    pub(crate) fn keys_of(&self, topic: &Topic, top: Position) -> BTreeMap<Box<str>, Vec<u64>> {
        self.0.lock().keys.get(&(topic.clone(), top.epoch)).cloned().unwrap_or_default()
    }

    /// The newest offset of a key in the epoch of this position.
    pub(crate) fn newest_of(&self, topic: &Topic, at: Position, key: &str) -> Option<u64> {
        self.0.lock().keys.get(&(topic.clone(), at.epoch))?.get(key)?.last().copied()
    }

    /// Removals of a key without data that stand after this position.
    pub(crate) fn removals_after(&self, topic: &Topic, at: Position, key: &str) -> Vec<u64> {
        let known = self.0.lock();
        let offsets = known.keys.get(&(topic.clone(), at.epoch)).and_then(|keys| keys.get(key)).map_or(&[][..], Vec::as_slice);
        let is_one = |offset: &&u64| {
            let entry = known.placed.get(&(topic.clone(), at.epoch, **offset));
            **offset > at.offset && entry.is_some_and(|entry| entry.removed && entry.payload.is_empty())
        };
        offsets.iter().filter(is_one).copied().collect()
    }

    /// The rows that the state of a topic must have: the newest publication of each key that has neither gone nor expired.
    pub(crate) fn rows(&self, topic: &Topic, top: Position) -> Vec<u64> {
        let newest = self.keys_of(topic, top).into_values().filter_map(|offsets| offsets.last().copied());
        let is_row =
            |offset: &u64| self.at(topic, Position { offset: *offset, ..top }).is_some_and(|row| !row.removed && !row.is_expired());
        let mut rows: Vec<u64> = newest.filter(is_row).collect();
        rows.sort_unstable();
        rows
    }

    /// Whether something newer of the same key was appended that this client is to get.
    pub(crate) fn is_replaced(&self, topic: &Topic, epoch: Option<Epoch>, entry: &Entry, who: &Who, wants: &Wants) -> bool {
        let known = self.0.lock();
        let all = known.by_key.get(&(topic.clone(), entry.key.clone())).map_or(&[][..], Vec::as_slice);
        let newer = all.iter().rev().take_while(|(_, newer)| newer.serial > entry.serial);
        let mut newer = newer.filter(|(of, _)| epoch.is_none() || of.is_none() || *of == epoch);
        newer.any(|(_, newer)| wants.passes(newer.class.as_deref()) && !newer.must_skip(who))
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
    pub(crate) fn bare(&self, topic: &Topic, at: usize) -> Option<Arc<Entry>> {
        self.0.lock().bare.get(topic)?.get(at).cloned()
    }

    /// How many publications without a position the topic has.
    pub(crate) fn bare_len(&self, topic: &Topic) -> usize {
        self.0.lock().bare.get(topic).map_or(0, Vec::len)
    }

    /// The numbers of these publications without a position that the bus did not lose.
    pub(crate) fn bare_carried(&self, topic: &Topic, numbers: std::ops::Range<usize>) -> Vec<usize> {
        let known = self.0.lock();
        numbers.filter(|at| !known.lost.contains(&(topic.clone(), *at))).collect()
    }

    /// What is wrong with the log itself.
    pub(crate) fn wrong(&self) -> Vec<String> {
        self.0.lock().wrong.clone()
    }
}
