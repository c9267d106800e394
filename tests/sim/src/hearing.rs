//! What a simulated client makes of what it hears: every word goes to the follower of its topic, and what is broken is noted.

use broker_core::{Position, Since, Topic};

use crate::{
    client::{Asked, Client},
    follower::{Answer, Follower},
    wire::{Ask, Heard, Language, Word, topic_in},
    world::{Plant, REACH},
};

/// What the answer to a subscribe says.
struct Told {
    position: Option<Position>,
    recovered: Option<bool>,
    snapshot: Option<String>,
    missed: Vec<Heard>,
}

impl Client {
    /// Takes one message of the server.
    pub(crate) fn hear(&mut self, message: &str) {
        match self.language.hear(message) {
            Ok(word) => self.plant(word),
            Err(error) => self.violated(&error),
        }
    }

    /// Passes a word on, unless a planted mistake is due.
    fn plant(&mut self, word: Word) {
        let is_publication = matches!(&word, Word::Publication { .. });
        let Some(plant) = self.world.plant.filter(|_| is_publication) else { return self.take(word) };
        let Some(link) = &mut self.link else { return };
        if let Some(earlier) = link.kept_back.take() {
            self.take(word);
            return self.take(earlier);
        }
        if !self.world.plants_now() {
            return self.take(word);
        }
        match plant {
            Plant::Lose => {}
            Plant::Double => {
                self.take(word.clone());
                self.take(word);
            }
            Plant::Swap => {
                if let Some(link) = &mut self.link {
                    link.kept_back = Some(word);
                }
            }
        }
    }

    fn take(&mut self, word: Word) {
        if !matches!(word, Word::Ping | Word::Other) {
            self.trace(|| format!("hears {word:?}"));
        }
        match word {
            Word::Ping => self.say(Ask::Pong),
            Word::Other => {}
            Word::Publication { topic, heard } => match topic.or_else(|| topic_in(&heard.payload)) {
                Some(topic) if self.followers.contains_key(&topic) => self.publication(&topic, &heard),
                Some(_) => {}
                None => self.violated("a publication of no topic"),
            },
            Word::Gap { topic, from, to } => self.check(&topic, |follower, truth, who| follower.gap(truth, who, from, to)),
            Word::Ended { topic } => {
                if let Some(follower) = self.followers.get_mut(&topic) {
                    follower.ended();
                }
            }
            Word::Subscribed { id, topic, position, recovered, snapshot, missed } => {
                let told = Told { position, recovered, snapshot, missed };
                self.subscribed(id, topic, &told);
            }
            Word::Snapshot { topic, data } => self.check(&topic, |follower, _, _| follower.snapshot(&data)),
            Word::Removed { topic, key } => self.check(&topic, |follower, truth, who| follower.removed(truth, who, &key)),
            Word::History { id, publications, position } => {
                if let Some(Ask::History { topic, subscription }) = self.answered(id) {
                    self.history(&topic, position, subscription, &publications);
                }
            }
            Word::Identity { id, user, left } => {
                if let Some(id) = id {
                    self.answered(id);
                }
                self.is_now(&user);
                for topic in left {
                    if let Some(follower) = self.followers.get_mut(&topic) {
                        follower.ended();
                    }
                }
            }
            Word::Done { id } => self.done(id),
            Word::Refused { id, code } => self.refused(id, code),
        }
    }

    fn done(&mut self, id: u64) {
        match self.answered(id) {
            Some(Ask::Connect { .. }) => {
                if let Some(link) = &mut self.link {
                    link.connected = true;
                }
            }
            Some(Ask::Unsubscribe { topic }) => {
                if let Some(follower) = self.followers.get_mut(&topic) {
                    follower.ended();
                }
            }
            Some(Ask::Refresh { .. }) => {
                let user = self.next_token.as_ref().map_or_else(String::new, |token| token.user.clone());
                self.is_now(&user);
            }
            _ => {}
        }
    }

    fn refused(&mut self, id: Option<u64>, code: u64) {
        let Some(id) = id else { return };
        match self.answered(id) {
            Some(Ask::Connect { .. }) => {
                self.refused_at_the_door();
                self.lose(false);
            }
            Some(Ask::Refresh { .. }) => {
                self.next_token = None;
            }
            Some(Ask::History { .. } | Ask::Unsubscribe { .. }) if code == 107 => self.violated("a command of a client was not understood"),
            _ => {}
        }
    }

    /// The command that an answer belongs to. Each is answered once.
    fn answered(&mut self, id: u64) -> Option<Ask> {
        self.answered_at(id).map(|asked| asked.ask)
    }

    fn answered_at(&mut self, id: u64) -> Option<Asked> {
        let link = self.link.as_mut()?;
        let asked = link.asked.remove(&id);
        if asked.is_none() {
            self.violated(&format!("an answer to {id}, which was not asked or is answered already"));
        }
        asked
    }

    fn is_now(&mut self, user: &str) {
        if let Some(token) = self.next_token.take_if(|token| token.user == user) {
            self.token = token;
        }
    }

    fn publication(&mut self, topic: &Topic, heard: &Heard) {
        let position = self.position_of(topic, heard);
        if position.is_none() && heard.offset.is_some_and(|offset| offset > 0) {
            return self.violated(&format!("{topic}: {} has an offset, and no epoch is known", heard.payload));
        }
        self.check_revoked(topic, position, &heard.payload);
        self.check_key(topic, position, heard);
        self.check(topic, |follower, truth, who| follower.publication(truth, who, position, &heard.payload));
    }

    /// Where the protocol says what a publication is about, it says what the publisher said.
    fn check_key(&self, topic: &Topic, position: Option<Position>, heard: &Heard) {
        let Some(entry) = position.and_then(|position| self.world.truth.at(topic, position)) else { return };
        if self.language != Language::Raw && (heard.key.as_deref() != entry.key.as_deref() || heard.removed != entry.removed) {
            self.violated(&format!("{topic}: {heard:?} is about {:?}, removed: {}", entry.key, entry.removed));
        }
    }

    /// Centrifuge names the epoch once, when a subscription begins; raw payloads name nothing.
    fn position_of(&self, topic: &Topic, heard: &Heard) -> Option<Position> {
        let at = self.followers.get(topic)?.position();
        match self.language {
            Language::Envelope => heard.position,
            Language::Centrifuge => Some(Position { offset: heard.offset.filter(|offset| *offset > 0)?, epoch: at?.epoch }),
            Language::Raw => self.world.truth.place(topic, at?.epoch, &heard.payload),
        }
    }

    /// Once a revocation is done, nothing that is published later reaches those it means.
    fn check_revoked(&self, topic: &Topic, position: Option<Position>, payload: &str) {
        let Some(from) = self.world.revoked_from(&self.token.user, self.token.issued_ms) else { return };
        let truth = &self.world.truth;
        let entry = match position {
            Some(position) => truth.at(topic, position),
            None => truth.bare_place(topic, payload).and_then(|at| truth.bare(topic, at)),
        };
        if self.next_token.is_none() && entry.is_some_and(|entry| entry.serial > from) {
            self.violated(&format!("{topic}: {payload} came after the credentials were revoked"));
        }
    }

    fn subscribed(&mut self, id: Option<u64>, topic: Option<Topic>, told: &Told) {
        let Some(Asked { ask: Ask::Subscribe { topic: asked, since, wants }, at }) = id.and_then(|id| self.answered_at(id)) else { return };
        let topic = topic.unwrap_or(asked);
        let Some(promise) = self.world.promise(&topic) else { return };
        if since.is_some() != told.recovered.is_some() {
            self.violated(&format!("{topic}: asked to resume from {since:?}, and was told {:?}", told.recovered));
        }
        let answer = Answer {
            position: self.top_of(&topic, since, told.recovered, told.position),
            since,
            recovered: told.recovered,
            gap_follows: self.language.tells_gaps(),
            reach: if promise.fades { 0 } else { REACH },
            wants,
            asked_at: at,
        };
        self.check(&topic, |follower, truth, _| follower.subscribed(truth, &answer));
        if let Some(data) = &told.snapshot {
            self.check(&topic, |follower, _, _| follower.snapshot(data));
        }
        for heard in &told.missed {
            self.publication(&topic, heard);
        }
    }

    /// A Centrifuge answer gives a recovered client its own offset back.
    fn top_of(&self, topic: &Topic, since: Option<Since>, recovered: Option<bool>, position: Option<Position>) -> Option<Position> {
        if self.language == Language::Centrifuge
            && recovered == Some(true)
            && let (Some(Since::Position(since)), Some(position)) = (since, position)
            && since.offset != position.offset
        {
            self.violated(&format!("{topic}: resumed from {since}, and the answer says {position}"));
        }
        position
    }

    /// What a subscription leaves out by its filter is not in the history that it gets either.
    fn history(&mut self, topic: &Topic, top: Option<Position>, subscription: Option<u64>, publications: &[Heard]) {
        let follower = self.followers.get(topic).filter(|follower| subscription.is_some() && follower.subscription() == subscription);
        let wants = follower.map(Follower::wants).unwrap_or_default();
        for heard in publications {
            let position = heard.position.or_else(|| Some(Position { offset: heard.offset?, epoch: top?.epoch }));
            let entry = position.and_then(|position| self.world.truth.at(topic, position));
            if entry.is_none_or(|entry| entry.heard() != heard.payload || !wants.passes(entry.class.as_deref())) {
                self.violated(&format!("{topic}: the history says {} at {position:?}, and {wants:?} is wanted", heard.payload));
            }
        }
    }

    fn check(&mut self, topic: &Topic, work: impl FnOnce(&mut Follower, &crate::truth::Truth, &crate::truth::Who) -> Result<(), String>) {
        let Some(link) = &self.link else { return };
        let Some(follower) = self.followers.get_mut(topic) else { return };
        if let Err(error) = work(follower, &self.world.truth, &link.who) {
            self.violated(&format!("{topic}: {error}"));
        }
    }

    /// When all is quiet: connected, every answer there, every topic live and at its head; `None`: nobody can know where that is.
    pub(crate) fn check_quiet(&self, tops: &[Option<Position>]) {
        let Some(link) = self.link.as_ref().filter(|link| link.connected) else {
            return self.violated("did not come back");
        };
        if !link.asked.is_empty() {
            self.violated(&format!("never answered: {:?}", link.asked));
        }
        for ((topic, promise), top) in self.world.topics.iter().zip(tops) {
            if !self.may_hear(topic) {
                continue;
            }
            let follower = &self.followers[topic];
            if !follower.is_live() {
                self.violated(&format!("{topic} is not live again"));
            } else if let Some(top) = top
                && let Err(error) = follower.at_head(&self.world.truth, &link.who, Some(*top).filter(|_| !promise.bare))
            {
                self.violated(&format!("{topic} at the end: {error}"));
            }
        }
    }
}
