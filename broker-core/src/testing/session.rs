//! A session without a hub: its questions are answered at once, as a kind application and backplane would.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    ByNamespace, Command, CommandId, Connect, Grant, Identity, Namespaces, Position, Published, Request, SessionId, SessionInfo, Settings,
    Subject, Subscribed,
    backplane::LogPage,
    presence::PresenceStats,
    session::{Answer, AsOf, Effect, Granted, Identified, Manners, Question, Rules, Session},
};

/// The state machine of one session alone: commands go in, what the client is told is counted. For benches of the machine itself.
///
/// ```
/// use broker_core::{Command, CommandId, Namespace, Namespaces, Request, Subscribe, testing::LoneSession};
///
/// let mut namespaces = Namespaces::new();
/// namespaces.set_default(Namespace::open());
/// let mut session = LoneSession::connected(namespaces);
/// let subscribe = Request::Subscribe(Subscribe::new("news".parse().unwrap()));
/// assert_eq!(session.handle(Command { id: CommandId::Number(1), request: subscribe }), 1);
/// ```
pub struct LoneSession {
    session: Session,
    effects: Vec<Effect>,
    now: Instant,
    epoch: crate::Epoch,
}

impl LoneSession {
    /// A session that is connected as an anonymous user.
    pub fn connected(namespaces: Namespaces) -> Self {
        let rules = Rules {
            settings: Settings::default(),
            namespaces,
            authorizer: Arc::new(ByNamespace),
            payload_check: None,
            hears_subscribe: false,
            hears_message: false,
            hears_call: false,
            renews: false,
        };
        let manners = Manners {
            answers_without_id: false,
            awaits_connect: true,
            changes_user: false,
            answers_pings: true,
            transport: "test",
            protocol: "test",
        };
        let now = Instant::now();
        let session = Session::new(SessionId::from_random(1), Arc::new(rules), manners, 0.5, now);
        let mut lone = Self { session, effects: Vec::new(), now, epoch: crate::Epoch::from_random(1) };
        lone.handle(Command { id: CommandId::Number(1), request: Request::Connect(Connect::default()) });
        lone
    }

    /// Handles a command and everything that follows from it, and says how many replies and pushes the client gets.
    pub fn handle(&mut self, command: Command) -> usize {
        self.session.handle_command(command, self.now, &mut self.effects);
        let mut told = 0;
        let mut at = 0;
        while at < self.effects.len() {
            let effect = std::mem::replace(&mut self.effects[at], Effect::Opened(Ok(())));
            at += 1;
            match effect {
                Effect::Reply(..) | Effect::Push(_) | Effect::Welcome(..) => told += 1,
                Effect::Ask(id, question) => {
                    let answer = self.answer(question);
                    self.session.handle_answer(id, answer, self.now, &mut self.effects);
                }
                Effect::Join(join) => self.session.joined(live(join.topic), self.now, &mut self.effects),
                Effect::Hold
                | Effect::Dropped(_)
                | Effect::Leave(_)
                | Effect::Connected(_)
                | Effect::IdentityChanged(..)
                | Effect::Renamed { .. }
                | Effect::Opened(_)
                | Effect::Close(_) => {}
            }
        }
        self.effects.clear();
        told
    }

    /// Lets time pass, and says how many replies and pushes the client gets for it.
    pub fn wait(&mut self, time: Duration) -> usize {
        self.now += time;
        self.session.handle_timeout(self.now, &mut self.effects);
        let told = self.effects.iter().filter(|effect| matches!(effect, Effect::Reply(..) | Effect::Push(_))).count();
        self.effects.clear();
        told
    }

    /// Who the session is.
    pub fn info(&self) -> &SessionInfo {
        self.session.info()
    }

    fn identify(&self, identity: Identity) -> Answer {
        let subject = Subject::new(self.session.info().session, &identity);
        Answer::Identity(Ok(Box::new(Identified { identity, subject, ttl: None, by_request: false, as_of: AsOf::default() })))
    }

    fn answer(&self, question: Question) -> Answer {
        let top = Position { offset: 1, epoch: self.epoch };
        match question {
            Question::Identify(_) => self.identify(Identity::anonymous()),
            Question::Adopt(identity) => self.identify(*identity),
            Question::Reauthorize { topics, .. } => {
                Answer::Reauthorized(topics.iter().map(|_| Some(Granted { grant: Grant::plain(), by_token: false, ttl: None })).collect())
            }
            Question::Renew => Answer::Renewed(Ok(None)),
            Question::Subscribe { .. } | Question::Redeem { .. } => {
                Answer::Grant(Ok(Granted { grant: Grant::plain(), by_token: false, ttl: None }))
            }
            Question::Publish { topic, .. } | Question::PublishForApplication { topic, .. } => {
                Answer::Published(topic, Ok(Published::at(Some(top))))
            }
            Question::History { topic, .. } => {
                Answer::History(topic, Ok(LogPage { top, kept_from: 0, publications: Vec::new(), next: None }))
            }
            Question::Presence { topic, .. } => Answer::Presence(topic, Ok(Vec::new())),
            Question::PresenceStats { topic, .. } => Answer::PresenceStats(topic, Ok(PresenceStats::default())),
            Question::Call { data, .. } => Answer::Call(Ok(data)),
            Question::Message { .. } => Answer::Actions(Ok(Vec::new())),
        }
    }
}

impl fmt::Debug for LoneSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoneSession").field("info", self.info()).finish_non_exhaustive()
    }
}

/// What a hub answers to a join of a topic without history.
fn live(topic: crate::Topic) -> Subscribed {
    Subscribed {
        topic,
        position: None,
        recoverable: false,
        resume: None,
        snapshot: None,
        missed: Vec::new(),
        data: None,
        ttl: None,
        keyed: false,
    }
}
