//! One simulated client: connects, subscribes, reads as fast as it likes, loses its network, comes back and resumes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use broker_core::{CloseReason, Connect, Connection, Head, Inbound, Opening, Since, Start, Topic, UserId};
use bytes::BytesMut;
use fastrand::Rng;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    application::{FORBIDDEN, STRANGER, Token},
    follower::{Follower, Promise},
    pipe::{Frame, Mood, Pipe, SimFraming, next_frame},
    truth::Who,
    wants::Wants,
    wire::{Ask, Language},
    world::{Phase, World},
};

/// Users of the simulation.
pub(crate) const USERS: [&str; 3] = ["u0", "u1", "u2"];

/// A simulated client.
pub(crate) struct Client {
    pub(crate) name: usize,
    pub(crate) world: Arc<World>,
    pub(crate) rng: Rng,
    pub(crate) language: Language,
    pub(crate) link: Option<Link>,
    /// Connections that the client has given up and the server does not know of.
    zombies: Vec<Link>,
    pub(crate) token: Token,
    /// The token that was sent last, until its answer comes.
    pub(crate) next_token: Option<Token>,
    pub(crate) followers: BTreeMap<Topic, Follower>,
    pub(crate) payloads: usize,
    slow_steps: usize,
}

/// A connection, and what the client knows of it.
pub(crate) struct Link {
    pub(crate) connection: Connection,
    pub(crate) pipe: Pipe,
    read: BytesMut,
    pub(crate) connected: bool,
    pub(crate) who: Who,
    pub(crate) last_id: u64,
    /// Commands without an answer.
    pub(crate) asked: BTreeMap<u64, Asked>,
    pub(crate) close_code: Option<u16>,
    /// A publication that a planted mistake keeps back.
    pub(crate) kept_back: Option<crate::wire::Word>,
}

/// A command without an answer, and when it was sent.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) ask: Ask,
    pub(crate) at: Instant,
}

impl Client {
    /// A client that is not connected yet.
    pub(crate) fn new(name: usize, world: Arc<World>, mut rng: Rng) -> Self {
        let language = [Language::Centrifuge, Language::Centrifuge, Language::Envelope, Language::Raw][rng.usize(0..4)];
        let followers = world.topics.iter().map(|(topic, promise)| (topic.clone(), Follower::new(topic.clone(), *promise))).collect();
        let token = Token { user: USERS[rng.usize(0..USERS.len())].to_owned(), issued_ms: 1, ttl_ms: 0 };
        Self { name, world, rng, language, link: None, zombies: Vec::new(), token, next_token: None, followers, payloads: 0, slow_steps: 0 }
    }

    /// Lives until the simulation is over.
    pub(crate) async fn live(mut self) -> Self {
        loop {
            let phase = self.world.phase();
            let pause = if phase == Phase::Storm { self.rng.u64(1..30) } else { self.rng.u64(20..60) };
            sleep(Duration::from_millis(pause)).await;
            if self.world.phase() == Phase::Over {
                self.step(Phase::Calm);
                return self;
            }
            if self.link.is_none() {
                self.connect().await;
            }
            self.step(phase);
        }
    }

    fn step(&mut self, phase: Phase) {
        self.zombies.retain(|zombie| !zombie.pipe.is_finished());
        let max = if phase == Phase::Storm && self.slow_steps > 0 { self.rng.usize(0..60) } else { usize::MAX };
        self.slow_steps = self.slow_steps.saturating_sub(1);
        self.read(max);
        if self.link.as_ref().is_some_and(|link| link.connected) {
            match phase {
                Phase::Storm => self.act(),
                Phase::Calm | Phase::Over => {
                    self.begin_anew();
                    self.listen_to_all();
                }
            }
        }
    }

    // ---- the connection ----

    async fn connect(&mut self) {
        let Some(engine) = self.world.engine() else { return };
        let pipe = Pipe::new(self.rng.usize(150..3_000));
        let connects = self.language.connects();
        self.renew_token();
        let connect = Connect { token: Some(self.token.text()), ..Connect::default() };
        let opening = Opening {
            protocol: self.language.protocol(),
            framing: Arc::new(SimFraming),
            outlet: connects.then(|| pipe.outlet()),
            head: Head::new("/simulation"),
            transport: "simulation",
            start: if connects { Start::AwaitConnect } else { Start::AtOnce { connect, subscriptions: Vec::new() } },
        };
        let Ok(mut connection) = engine.open(opening) else { return };
        drop(engine);
        self.followers.values_mut().for_each(Follower::ended);
        if !connects {
            let patience = Duration::from_millis(if self.rng.u8(0..10) == 0 { 5 } else { 2_000 });
            match timeout(patience, connection.opened()).await {
                Ok(Ok(())) => connection.attach(pipe.outlet()),
                // Dropping it ends it.
                _ => return self.refused_at_the_door(),
            }
        }
        let session = connection.session();
        self.world.opened(session);
        let who = Who { session: Some(session), users: vec![UserId::from(self.token.user.as_str())] };
        let link = Link {
            connection,
            pipe,
            read: BytesMut::new(),
            connected: !connects,
            who,
            last_id: 0,
            asked: BTreeMap::new(),
            close_code: None,
            kept_back: None,
        };
        self.trace(|| "opens a connection");
        self.link = Some(link);
        if connects {
            let token = self.token.text();
            self.say(Ask::Connect { token });
        }
    }

    /// A session that was refused needs other credentials.
    pub(crate) fn refused_at_the_door(&mut self) {
        self.trace(|| "is refused");
        self.token.issued_ms = 0;
        self.token.ttl_ms = 1;
    }

    /// Credentials that hold: new ones where the old ones are over or revoked.
    fn renew_token(&mut self) {
        let now = self.world.now_ms();
        let over = self.token.ttl_ms > 0 && now + 50 >= self.token.issued_ms + self.token.ttl_ms;
        if over || self.world.revoked_from(&self.token.user, self.token.issued_ms).is_some() {
            self.token = self.new_token(None);
        }
    }

    pub(crate) fn new_token(&mut self, user: Option<&str>) -> Token {
        let user = user.unwrap_or(&self.token.user).to_owned();
        let short = self.world.phase() == Phase::Storm && self.rng.u8(0..4) == 0;
        // A whole second is compared as one by revocations, since most tokens say no more.
        let now = self.world.now_ms() + 1;
        let issued_ms = now + u64::from(now.is_multiple_of(1_000));
        Token { user, issued_ms, ttl_ms: if short { self.rng.u64(400..2_500) } else { 0 } }
    }

    /// The connection is over for the client.
    pub(crate) fn lose(&mut self, say_so: bool) {
        let Some(link) = self.link.take() else { return };
        self.trace(|| if say_so { "leaves" } else { "loses its connection" });
        if say_so {
            link.connection.close(CloseReason::ClientLeft { code: Some(1000) });
        }
        self.followers.values_mut().for_each(Follower::ended);
        self.next_token = None;
    }

    fn black_hole(&mut self) {
        let Some(link) = self.link.take() else { return };
        self.trace(|| "hears nothing more, and the server does not know");
        match self.rng.u8(0..4) {
            0 => link.pipe.set_mood(Mood::Swallows),
            1 => link.pipe.set_mood(Mood::Broken),
            // What the pipe does not hold blocks.
            _ => {}
        }
        self.zombies.push(link);
        self.followers.values_mut().for_each(Follower::ended);
        self.next_token = None;
    }

    fn read(&mut self, max: usize) {
        let Some(link) = &mut self.link else { return };
        if link.pipe.read(max, &mut link.read) {
            link.connection.writable();
        }
        while let Some(link) = &mut self.link {
            let Some(frame) = next_frame(&mut link.read) else { break };
            match frame {
                Frame::Ping => link.connection.heard(),
                Frame::Close(code) => link.close_code = Some(code),
                Frame::Message(message) => self.hear(&message),
            }
        }
        if let Some(link) = &self.link
            && link.pipe.is_finished()
            && link.pipe.is_empty()
        {
            let code = link.close_code;
            self.closed(code);
        }
    }

    fn closed(&mut self, code: Option<u16>) {
        self.trace(|| format!("is closed with {code:?}"));
        if code == Some(3014) {
            // spec: centrifuge, close codes: it forgets positions and token, and comes back as the other user.
            self.followers.values_mut().for_each(Follower::forget);
            if let Some(token) = self.next_token.take() {
                self.token = token;
            }
        }
        if matches!(code, Some(3500 | 3005)) {
            self.token.ttl_ms = 1;
        }
        self.lose(false);
    }

    // ---- what it does ----

    pub(crate) fn say(&mut self, ask: Ask) {
        self.say_all(vec![ask]);
    }

    /// Sends commands in one read.
    pub(crate) fn say_all(&mut self, asks: Vec<Ask>) {
        let language = self.language;
        let Some(link) = &mut self.link else { return };
        let (mut commands, mut len) = (Vec::new(), 0);
        for ask in asks {
            link.last_id += 1;
            let text = language.say(link.last_id, &ask);
            language.protocol().decode(Inbound::Text(&text), &mut commands);
            len += text.len();
            if !matches!(ask, Ask::Pong) {
                link.asked.insert(link.last_id, Asked { ask, at: Instant::now() });
            }
        }
        link.connection.post(commands, len);
    }

    fn act(&mut self) {
        let (topic, promise) = self.world.any_topic(&mut self.rng);
        let asks_already = self.waits_for(&topic);
        let live = self.followers[&topic].is_live();
        match self.rng.u32(0..200) {
            0..60 if !live && !asks_already => self.subscribe(&topic, promise),
            60..66 => self.say(Ask::Unsubscribe { topic }),
            66..74 if live => {
                let wants = self.wants(&topic);
                let again = Ask::Subscribe { since: self.since(&topic, promise, wants), topic: topic.clone(), wants };
                self.say_all(vec![Ask::Unsubscribe { topic }, again]);
            }
            74 => self.subscribe(&topic, promise),
            75..79 => self.lose(false),
            79..81 => self.lose(true),
            81..85 => self.black_hole(),
            85..90 => self.slow_steps = self.rng.usize(1..40),
            90..110 => {
                self.payloads += 1;
                let payload = payload(&topic, &format!("c{}n{}", self.name, self.payloads), &mut self.rng);
                // The Centrifuge protocol has no word for it.
                let key = (promise.keyed && self.language != Language::Centrifuge).then(|| any_key(&mut self.rng));
                self.say(Ask::Publish { topic, payload, key });
            }
            110..114 if !promise.bare => {
                // Credentials on their way may end it, and the answer comes before the client is told.
                let is_settled = !asks_already && self.next_token.is_none();
                let subscription = self.followers[&topic].subscription().filter(|_| is_settled);
                self.say(Ask::History { topic, subscription });
            }
            // As soon as it can; what comes before is not looked at.
            118..140 => self.begin_anew(),
            // One at a time: otherwise nobody could say whose answer it is.
            114..118 if self.next_token.is_none() => self.refresh(),
            _ => {}
        }
    }

    fn refresh(&mut self) {
        let other = self.rng.u8(0..3) == 0;
        let user = if other { USERS[self.rng.usize(0..USERS.len())].to_owned() } else { self.token.user.clone() };
        let token = self.new_token(Some(&user));
        self.trace(|| format!("renews its credentials as {}", token.text()));
        if let Some(link) = &mut self.link {
            // From here on it may be either.
            link.who.users.push(UserId::from(user.as_str()));
        }
        self.next_token = Some(token.clone());
        self.say(Ask::Refresh { token: token.text() });
    }

    /// Whether a subscribe to this topic has no answer yet.
    fn waits_for(&self, topic: &Topic) -> bool {
        let waits = |asked: &Asked| matches!(&asked.ask, Ask::Subscribe { topic: asked, .. } if asked == topic);
        self.link.as_ref().is_some_and(|link| link.asked.values().any(waits))
    }

    /// What it wants of a topic: mostly what it wanted before.
    fn wants(&mut self, topic: &Topic) -> Wants {
        if self.rng.u8(0..3) == 0 { Wants::any(self.language, &mut self.rng) } else { self.followers[topic].wants() }
    }

    fn since(&mut self, topic: &Topic, promise: Promise, wants: Wants) -> Option<Since> {
        let follower = &self.followers[topic];
        let at = follower.position();
        match self.rng.u8(0..20) {
            _ if promise.bare => None,
            // Rows that were left out, or that nobody can be sure of, come only from the beginning.
            _ if promise.keyed && (follower.is_stale() || wants != follower.wants()) => None,
            0 => None,
            1 if self.language != Language::Centrifuge => Some(Since::Beginning),
            _ => at.map(Since::Position),
        }
    }

    fn subscribe(&mut self, topic: &Topic, promise: Promise) {
        let wants = self.wants(topic);
        let since = self.since(topic, promise, wants);
        self.trace(|| format!("subscribes to {topic} since {since:?} for {wants:?}"));
        self.say(Ask::Subscribe { topic: topic.clone(), since, wants });
    }

    /// Subscribes again without a position where a gap may have made rows wrong.
    fn begin_anew(&mut self) {
        let stale =
            |(topic, follower): (&Topic, &Follower)| (follower.is_live() && follower.is_stale()).then(|| (topic.clone(), follower.wants()));
        let stale: Vec<(Topic, Wants)> = self.followers.iter().filter_map(stale).collect();
        for (topic, wants) in stale {
            if !self.waits_for(&topic) {
                self.trace(|| format!("begins anew with {topic}"));
                self.say_all(vec![Ask::Unsubscribe { topic: topic.clone() }, Ask::Subscribe { topic, since: None, wants }]);
            }
        }
    }

    fn listen_to_all(&mut self) {
        let world = self.world.clone();
        for (topic, promise) in &world.topics {
            if self.may_hear(topic) && !self.followers[topic].is_live() && !self.waits_for(topic) {
                self.subscribe(topic, *promise);
            }
        }
    }

    pub(crate) fn may_hear(&self, topic: &Topic) -> bool {
        self.token.user != STRANGER || topic.as_str() != FORBIDDEN
    }

    pub(crate) fn trace<T: std::fmt::Display>(&self, line: impl FnOnce() -> T) {
        self.world.trace(|| format!("client {} ({:?}, {}) {}", self.name, self.language, self.token.user, line()));
    }

    pub(crate) fn violated(&self, text: &str) {
        self.world.violated(format!("client {} ({:?}, {}): {text}", self.name, self.language, self.token.user));
    }
}

/// A key of a keyed topic.
pub(crate) fn any_key(rng: &mut Rng) -> String {
    format!("k{}", rng.u8(0..5))
}

/// Data that names its topic and is like no other.
pub(crate) fn payload(topic: &Topic, name: &str, rng: &mut Rng) -> String {
    let padding = "x".repeat(if rng.u8(0..8) == 0 { rng.usize(0..500) } else { rng.usize(0..40) });
    format!(r#"{{"n":"{name}","pad":"{padding}","t":"{topic}"}}"#)
}
