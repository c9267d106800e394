//! The session against a small model: commands, answers, joins, orders and time in any order.
//!
//! What must hold whatever comes: every command is answered exactly once; the hub is joined and left in pairs; what a client is told agrees with what it
//! listens to; nothing follows the close; deadlines lie ahead once they were looked at.
//! 20,000 conversations in every test run; `cargo xtask properties` goes through more.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::*;
use crate::{
    ByNamespace, CloseReason, Epoch, Identity, LogPage, Namespace, Namespaces, Payload, Position, PresenceStats, Publication, Publish,
    Published, Refusal, RefusalKind, ServerSubscription, SessionId, Settings, Subject, Topic,
};

const TOPICS: [&str; 4] = ["news", "open:a", "open:b", "shut:a"];
const USERS: [&str; 2] = ["u1", "u2"];

/// A session with everything around it: what it asked, where it is a member, what its client must still hear.
struct Conversation {
    session: Session,
    now: Instant,
    effects: Vec<Effect>,
    last_id: u64,
    /// Commands that are not answered yet; those about data of one topic by that topic, in their order.
    unanswered: BTreeMap<u64, Option<Topic>>,
    questions: Vec<(AskId, Question)>,
    /// Every question so far: no id is used twice.
    asked: BTreeSet<u32>,
    joins: Vec<Join>,
    live: BTreeMap<Topic, Generation>,
    /// Every subscription's number so far.
    generations: BTreeSet<u32>,
    /// Joins that were taken back.
    void: Vec<Leave>,
    closed: bool,
    connected: usize,
    opened: Option<usize>,
    takes_in_line: bool,
}

type Checked = Result<(), TestCaseError>;

impl Conversation {
    fn new(kind: u32) -> Self {
        let open = Namespace::open();
        let mut namespaces = Namespaces::new();
        namespaces.set_default(open.clone());
        namespaces.set("open", open);
        namespaces.set("shut", Namespace::default());
        let settings = Settings { subscriptions_max: 4, mistakes_per_minute: 20, ..Settings::default() };
        let rules = Rules {
            settings,
            namespaces,
            authorizer: Arc::new(ByNamespace),
            payload_check: None,
            hears_subscribe: kind & 1 > 0,
            hears_message: kind & 2 > 0,
            hears_call: kind & 4 > 0,
            renews: kind & 8 > 0,
        };
        let at_once = kind & 16 > 0;
        let manners = Manners {
            answers_without_id: at_once,
            awaits_connect: !at_once,
            changes_user: at_once || kind & 32 > 0,
            answers_pings: kind & 4 > 0,
            transport: "test",
            protocol: "test",
        };
        let now = Instant::now();
        let session = Session::new(SessionId::from_random(1), Arc::new(rules), manners, 0.5, now);
        Self {
            session,
            now,
            effects: Vec::new(),
            last_id: 0,
            unanswered: BTreeMap::new(),
            questions: Vec::new(),
            asked: BTreeSet::new(),
            joins: Vec::new(),
            live: BTreeMap::new(),
            generations: BTreeSet::new(),
            void: Vec::new(),
            closed: false,
            connected: 0,
            opened: at_once.then_some(0),
            takes_in_line: kind & 64 > 0,
        }
    }

    fn begin(&mut self) -> Checked {
        if self.opened.is_some() {
            let subscriptions = vec![Subscribe::new(topic(0)), Subscribe::new(topic(1))];
            self.session.open(Connect::default(), subscriptions, self.now, &mut self.effects);
        } else {
            self.command(Request::Connect(Connect::default()));
        }
        self.settle()
    }

    /// One step, chosen by a number: half of them are commands.
    fn step(&mut self, choice: u32) -> Checked {
        let (what, with) = (choice % 32, choice / 32);
        match what {
            0..4 => self.command(Request::Subscribe(Subscribe::new(topic(with)))),
            4 => {
                let mut subscribe = Subscribe::new(topic(with));
                subscribe.token = Some("token".to_owned());
                subscribe.refuse_unrecovered = with & 8 > 0;
                self.command(Request::Subscribe(subscribe));
            }
            5..8 => self.command(Request::Unsubscribe { topic: topic(with) }),
            8 | 9 => {
                let data = Payload::json("1");
                self.command(Request::Publish { topic: topic(with), data, key: None, idempotency_key: None, removed: false });
            }
            10 => self.command(Request::History { topic: topic(with), since: None, limit: None, reverse: false }),
            11 => self.command(Request::Presence { topic: topic(with) }),
            12 => self.command(Request::Refresh { token: "token".to_owned() }),
            13 => self.command(Request::RefreshSubscription { topic: topic(with), token: "token".to_owned() }),
            14 => self.command(match with % 6 {
                0 => Request::Call { method: "m".to_owned(), data: Payload::json("1") },
                1 => Request::PresenceStats { topic: topic(with) },
                2 => Request::Ping { bare: false },
                3 => Request::Connect(Connect::default()),
                _ => Request::Mistake(Refusal::bad_request("planted")),
            }),
            15 => self.without_id(with),
            16..22 => self.answer(with),
            22..27 => self.hub_answers(with)?,
            27 => {
                self.now += Duration::from_millis(u64::from(with % 20_000));
                self.time_passes()?;
            }
            28 => self.late_answer()?,
            29 => self.ordered(with),
            30 => {
                if let Some(topic) = self.live.keys().nth(with as usize % 4).cloned() {
                    self.session.forget_subscription(&topic, &mut self.effects);
                }
            }
            _ if with.is_multiple_of(16) => self.session.close(CloseReason::ForceDisconnect, &mut self.effects),
            _ => self.session.heard(),
        }
        self.settle()
    }

    fn command(&mut self, request: Request) {
        self.last_id += 1;
        if !self.closed {
            let about = match &request {
                Request::Publish { topic, .. } | Request::History { topic, .. } | Request::Presence { topic } => Some(topic.clone()),
                _ => None,
            };
            self.unanswered.insert(self.last_id, about);
        }
        self.session.handle_command(Command { id: CommandId::Number(self.last_id), request }, self.now, &mut self.effects);
    }

    fn without_id(&mut self, with: u32) {
        let request = match with % 5 {
            0 => Request::Message { data: Payload::json("1") },
            1 if with.is_multiple_of(7) => Request::Unreadable(CloseReason::BadRequest("planted".into())),
            2 if with.is_multiple_of(7) => Request::Pong,
            _ => Request::Ping { bare: true },
        };
        self.session.handle_command(Command { id: CommandId::None, request }, self.now, &mut self.effects);
    }

    fn ordered(&mut self, with: u32) {
        let completion = Completion(Arc::new(()));
        match with % 4 {
            0 => {
                let subscription = ServerSubscription::new(topic(with / 4));
                if self.session.is_closed() || self.connected == 0 {
                    return;
                }
                self.session.order_subscribe(subscription, None, completion, &mut self.effects);
            }
            1 => drop(self.session.order_unsubscribe(&topic(with / 4), self.now, &mut self.effects)),
            2 if !self.closed => self.session.order_identity(Box::new(identity(with / 4)), completion, &mut self.effects),
            _ if !self.closed && self.connected > 0 => {
                self.session.order_refresh(Some(Duration::from_secs(60)), self.now, &mut self.effects);
            }
            _ => {}
        }
    }

    /// Somebody answers one of the open questions.
    fn answer(&mut self, with: u32) {
        if self.questions.is_empty() {
            return;
        }
        let at = with as usize % self.questions.len();
        let (id, question) = self.questions.swap_remove(at);
        let answer = self.answer_to(question, with / 64);
        self.session.handle_answer(id, answer, self.now, &mut self.effects);
    }

    fn answer_to(&self, question: Question, with: u32) -> Answer {
        let refusal = match with % 8 {
            0 => Some(Refusal::unavailable("planted")),
            1 => Some(Refusal::permission_denied("planted")),
            2 if with.is_multiple_of(5) => Some(Refusal::unauthorized("planted")),
            3 if with.is_multiple_of(11) => Some(Refusal::new(RefusalKind::Close(4001), "planted")),
            _ => None,
        };
        let top = Position { offset: 1, epoch: Epoch::from_random(1) };
        let ttl = (with & 16 > 0).then(|| Duration::from_secs(u64::from(with % 100)));
        match question {
            Question::Identify(_) => {
                let identity = identity(with / 8);
                let subject = Subject::new(self.session.info().session, &identity);
                Answer::Identity(or(refusal, Box::new(Identified { identity, subject, ttl, by_request: false, as_of: AsOf::default() })))
            }
            Question::Adopt(identity) => {
                let subject = Subject::new(self.session.info().session, &identity);
                Answer::Identity(or(
                    refusal,
                    Box::new(Identified { identity: *identity, subject, ttl, by_request: false, as_of: AsOf::default() }),
                ))
            }
            Question::Reauthorize { topics, .. } => {
                let granted = || Granted { grant: crate::Grant::plain(), by_token: false, ttl: None };
                Answer::Reauthorized(topics.iter().zip(0..).map(|(_, n)| (with >> n & 1 > 0).then(granted)).collect())
            }
            Question::Renew => Answer::Renewed(or(refusal, ttl)),
            Question::Subscribe { .. } | Question::Redeem { .. } => {
                Answer::Grant(or(refusal, Granted { grant: crate::Grant::plain(), by_token: with & 32 > 0, ttl }))
            }
            Question::Publish { topic, .. } | Question::PublishForApplication { topic, .. } => {
                Answer::Published(topic, or(refusal, Published::at(Some(top))))
            }
            Question::History { topic, .. } => {
                Answer::History(topic, or(refusal, LogPage { top, kept_from: 0, publications: Vec::new(), next: None }))
            }
            Question::Presence { topic, .. } => Answer::Presence(topic, or(refusal, Vec::new())),
            Question::PresenceStats { topic, .. } => Answer::PresenceStats(topic, or(refusal, PresenceStats::default())),
            Question::Call { data, .. } => Answer::Call(or(refusal, data)),
            Question::Message { .. } => Answer::Actions(or(refusal, actions(with / 8))),
        }
    }

    /// The hub answers one of the joins, those that were taken back included: they are void.
    fn hub_answers(&mut self, with: u32) -> Checked {
        if self.joins.is_empty() {
            return Ok(());
        }
        let at = with as usize % self.joins.len();
        let join = self.joins.swap_remove(at);
        prop_assert!(self.session.awaits(&join.topic, join.generation), "a join that nobody took back is awaited");
        if (with / 64).is_multiple_of(8) {
            self.session.join_failed(&join.topic, Refusal::unavailable("planted"), self.now, &mut self.effects);
            return Ok(());
        }
        self.live.insert(join.topic.clone(), join.generation);
        let missed = vec![Arc::new(Publication::new(join.topic.clone(), Publish::new(Payload::json("1"))))];
        let subscribed = Subscribed {
            topic: join.topic,
            position: None,
            recoverable: false,
            resume: None,
            snapshot: None,
            missed,
            data: None,
            ttl: None,
            keyed: false,
        };
        self.session.joined(subscribed, self.now, &mut self.effects);
        Ok(())
    }

    /// An answer to a question that is not open means nothing.
    fn late_answer(&mut self) -> Checked {
        let unknown = AskId(self.asked.last().copied().unwrap_or_default() + 1_000);
        self.session.handle_answer(unknown, Answer::Call(Ok(Payload::json("1"))), self.now, &mut self.effects);
        prop_assert!(self.effects.is_empty(), "an answer that nobody waits for changes nothing: {:?}", self.effects);
        Ok(())
    }

    fn time_passes(&mut self) -> Checked {
        self.session.handle_timeout(self.now, &mut self.effects);
        let next = self.session.next_timeout();
        prop_assert!(next.is_none_or(|next| next > self.now), "a deadline that was looked at lies ahead");
        Ok(())
    }

    /// Takes what the session wants done, and compares it with what may be.
    fn settle(&mut self) -> Checked {
        for effect in std::mem::take(&mut self.effects) {
            prop_assert!(!self.closed, "nothing follows the close: {effect:?}");
            self.effect(effect)?;
        }
        prop_assert_eq!(self.closed, self.session.is_closed());
        for name in TOPICS {
            let topic: Topic = name.parse().expect("a legal topic");
            prop_assert_eq!(self.live.contains_key(&topic), self.session.is_live_in(&topic), "both agree where the session listens");
        }
        for join in &self.joins {
            prop_assert!(self.session.awaits(&join.topic, join.generation), "a join is awaited until it is answered or taken back");
        }
        for void in &self.void {
            prop_assert!(!self.session.awaits(&void.topic, void.generation), "what was taken back is void for ever");
        }
        Ok(())
    }

    fn effect(&mut self, effect: Effect) -> Checked {
        match effect {
            Effect::Reply(CommandId::Number(id), reply) => self.replied(id, &reply)?,
            Effect::Welcome(CommandId::Number(id), _) => {
                prop_assert!(self.unanswered.remove(&id).is_some(), "connect is answered once");
            }
            Effect::Ask(id, question) => {
                prop_assert!(self.asked.insert(id.0), "no two questions have one id");
                // Some backplanes take the next publish before this one is answered.
                let in_line = self.takes_in_line && matches!(question, Question::Publish { .. });
                self.questions.push((id, question));
                if in_line {
                    self.session.in_line(id, self.now, &mut self.effects);
                    for effect in std::mem::take(&mut self.effects) {
                        self.effect(effect)?;
                    }
                }
            }
            Effect::Join(join) => {
                prop_assert!(self.generations.insert(join.generation.0), "no two subscriptions have one number");
                let has = self.live.contains_key(&join.topic) || self.joins.iter().any(|earlier| earlier.topic == join.topic);
                prop_assert!(!has, "{} is joined once at a time", join.topic);
                self.joins.push(join);
            }
            Effect::Leave(leave) => self.left(leave)?,
            Effect::Connected(_) => self.connected += 1,
            Effect::Opened(_) => {
                let Some(opened) = &mut self.opened else { return Err(TestCaseError::fail("nobody opened it")) };
                *opened += 1;
                prop_assert_eq!(*opened, 1, "an opening is told once");
            }
            Effect::Close(_) => {
                self.closed = true;
                self.unanswered.clear();
                prop_assert!(self.live.is_empty() && self.joins.is_empty(), "whoever closes has left every topic");
                prop_assert_ne!(self.opened, Some(0), "whoever opened it is told before the close");
            }
            Effect::Push(Push::Unsubscribed { topic, .. }) => {
                prop_assert!(!self.live.contains_key(&topic), "the hub is left before the client is told");
            }
            Effect::Reply(..)
            | Effect::Welcome(..)
            | Effect::Push(_)
            | Effect::Dropped(_)
            | Effect::Hold
            | Effect::IdentityChanged(..)
            | Effect::Renamed { .. } => {}
        }
        Ok(())
    }

    fn replied(&mut self, id: u64, reply: &Reply) -> Checked {
        let Some(about) = self.unanswered.remove(&id) else {
            return Err(TestCaseError::fail(format!("{id} was not asked, or is answered twice: {reply:?}")));
        };
        match reply {
            Reply::Subscribed(subscribed) => {
                prop_assert!(self.live.contains_key(&subscribed.topic), "only a member is told that it is one");
            }
            Reply::Unsubscribed { topic } => {
                let joining = self.joins.iter().any(|join| join.topic == *topic);
                prop_assert!(!joining && !self.live.contains_key(topic), "the hub is left before the answer to unsubscribe");
            }
            Reply::Published { .. } | Reply::History { .. } | Reply::Presence { .. } => {
                let earlier = self.unanswered.iter().any(|(other, topic)| *other < id && topic.is_some() && *topic == about);
                prop_assert!(!earlier, "commands about one topic are answered in their order");
            }
            _ => {}
        }
        Ok(())
    }

    fn left(&mut self, leave: Leave) -> Checked {
        if leave.live {
            prop_assert_eq!(self.live.remove(&leave.topic), Some(leave.generation), "only a member leaves, and once");
            return Ok(());
        }
        let at = self.joins.iter().position(|join| join.topic == leave.topic && join.generation == leave.generation);
        prop_assert!(at.is_some(), "only a join that is not answered is taken back");
        self.joins.swap_remove(at.unwrap_or_default());
        self.void.push(leave);
        Ok(())
    }

    /// Everybody answers: then no command is left without an answer.
    fn end(&mut self) -> Checked {
        for round in 0..2_000 {
            if self.questions.is_empty() && self.joins.is_empty() {
                break;
            }
            // 5: no refusal, and nobody is asked anew for ever.
            self.answer(5 * 64);
            self.settle()?;
            self.hub_answers(64)?;
            self.settle()?;
            prop_assert!(round < 1_999, "a conversation comes to rest");
        }
        prop_assert!(self.unanswered.is_empty(), "every command is answered: {:?}", self.unanswered);
        self.session.close(CloseReason::ForceDisconnect, &mut self.effects);
        self.settle()
    }
}

/// The refusal, where there is one.
fn or<T>(refusal: Option<Refusal>, value: T) -> Result<T, Refusal> {
    refusal.map_or(Ok(value), Err)
}

fn topic(with: u32) -> Topic {
    TOPICS[with as usize % TOPICS.len()].parse().expect("a legal topic")
}

fn identity(with: u32) -> Identity {
    let identity = Identity::user(USERS[with as usize & 1]);
    let identity = if with & 2 > 0 { identity.group("all") } else { identity };
    let identity = if with & 4 > 0 { identity.subscription(ServerSubscription::new(topic(with / 8))) } else { identity };
    if with & 64 > 0 { identity.renewed_by_server() } else { identity }
}

fn actions(with: u32) -> Vec<crate::Action> {
    match with % 4 {
        0 => vec![crate::Action::Subscribe(topic(with / 4)), crate::Action::Reply(Payload::json("1"))],
        1 => vec![crate::Action::Unsubscribe(topic(with / 4))],
        2 => vec![crate::Action::Publish(topic(with / 4), Publish::new(Payload::json("1")))],
        _ => Vec::new(),
    }
}

#[test]
fn what_waits_for_a_subscription_goes_on_when_the_server_ends_it() {
    let mut conversation = Conversation::new(0);
    conversation.begin().unwrap();
    conversation.answer(5 * 64);
    conversation.settle().unwrap();
    conversation.hub_answers(64).unwrap();
    conversation.settle().unwrap();
    conversation.command(Request::Subscribe(Subscribe::new(topic(0))));
    conversation.command(Request::Refresh { token: "token".to_owned() });
    conversation.settle().unwrap();
    assert_eq!((conversation.joins.len(), conversation.questions.len()), (1, 0), "the refresh waits for the subscription");
    conversation.session.order_unsubscribe(&topic(0), conversation.now, &mut conversation.effects);
    conversation.settle().unwrap();
    assert!(matches!(conversation.questions[..], [(_, Question::Identify(_))]), "and is looked at then");
}

#[test]
fn a_subscribe_that_nobody_has_decided_is_answered_when_a_new_identity_brings_the_topic() {
    let mut conversation = Conversation::new(1);
    conversation.begin().unwrap();
    conversation.answer(5 * 64);
    conversation.settle().unwrap();
    conversation.hub_answers(64).unwrap();
    conversation.settle().unwrap();
    conversation.command(Request::Subscribe(Subscribe::new(topic(0))));
    conversation.settle().unwrap();
    let identity = Identity::user(USERS[1]).subscription(ServerSubscription::new(topic(0)));
    conversation.session.order_identity(Box::new(identity), Completion(Arc::new(())), &mut conversation.effects);
    conversation.settle().unwrap();
    let adopt = conversation.questions.pop().unwrap();
    conversation.session.handle_answer(adopt.0, conversation.answer_to(adopt.1, 5), conversation.now, &mut conversation.effects);
    conversation.settle().unwrap();
    assert!(conversation.unanswered.is_empty(), "the subscribe is refused");
    assert!(conversation.joins.iter().any(|join| join.topic == topic(0)), "and the topic is joined for the identity");
}

#[test]
fn publishes_that_take_their_places_are_handed_on_together_and_answered_in_their_order() {
    let mut conversation = Conversation::new(64);
    conversation.begin().unwrap();
    conversation.answer(5 * 64);
    conversation.settle().unwrap();
    conversation.hub_answers(64).unwrap();
    conversation.settle().unwrap();
    let publish = |to: u32, data: Payload| Request::Publish { topic: topic(to), data, key: None, idempotency_key: None, removed: false };
    for n in 0..8 {
        conversation.command(publish(0, Payload::json(n.to_string())));
        conversation.settle().unwrap();
    }
    conversation.command(Request::History { topic: topic(0), since: None, limit: None, reverse: false });
    conversation.command(publish(0, Payload::json("8")));
    conversation.settle().unwrap();
    assert_eq!(conversation.questions.len(), 8, "what is no publish waits, and what comes behind it");
    while conversation.questions.len() > 1 {
        let (id, question) = conversation.questions.pop().unwrap();
        let answer = conversation.answer_to(question, 5);
        conversation.session.handle_answer(id, answer, conversation.now, &mut conversation.effects);
        conversation.settle().unwrap();
    }
    assert_eq!(conversation.unanswered.len(), 10, "none is answered before the first one");
    conversation.answer(5 * 64);
    conversation.settle().unwrap();
    assert_eq!(conversation.unanswered.len(), 2, "the history is asked for, the last publish waits for it");
    assert!(matches!(conversation.questions[..], [(_, Question::History { .. })]));
}

#[test]
fn a_publish_that_is_refused_at_once_is_not_told_so_before_those_that_came_first() {
    let mut conversation = Conversation::new(64);
    conversation.begin().unwrap();
    conversation.answer(5 * 64);
    conversation.settle().unwrap();
    conversation.hub_answers(64).unwrap();
    conversation.settle().unwrap();
    let publish = |data: &str| Request::Publish {
        topic: topic(0),
        data: Payload::json(data.to_owned()),
        key: None,
        idempotency_key: None,
        removed: false,
    };
    conversation.command(publish("1"));
    conversation.settle().unwrap();
    conversation.takes_in_line = false;
    conversation.command(publish("2"));
    conversation.settle().unwrap();
    // As a node does whose queue is full, of a publisher that listens to the topic itself.
    let (id, _) = conversation.questions.pop().unwrap();
    conversation.session.executed(id);
    let refused = Answer::Published(topic(0), Err(Refusal::unavailable("full")));
    conversation.session.handle_answer(id, refused, conversation.now, &mut conversation.effects);
    conversation.settle().unwrap();
    assert_eq!(conversation.unanswered.len(), 2, "the first one has no answer yet");
    conversation.answer(5 * 64);
    conversation.settle().unwrap();
    assert_eq!(conversation.unanswered.len(), 0);
}

#[test]
fn a_publish_that_was_stored_is_not_told_as_refused_where_the_identity_changes_before_an_earlier_one_is_answered() {
    let mut conversation = Conversation::new(64);
    conversation.begin().unwrap();
    conversation.answer(5 * 64);
    conversation.settle().unwrap();
    conversation.hub_answers(64).unwrap();
    conversation.settle().unwrap();
    for n in 0..2 {
        let data = Payload::json(n.to_string());
        conversation.command(Request::Publish { topic: topic(0), data, key: None, idempotency_key: None, removed: false });
        conversation.settle().unwrap();
    }
    let (id, question) = conversation.questions.pop().unwrap();
    let stored = conversation.answer_to(question, 5);
    conversation.session.handle_answer(id, stored, conversation.now, &mut conversation.effects);
    conversation.session.order_identity(Box::new(Identity::user(USERS[1])), Completion(Arc::new(())), &mut conversation.effects);
    conversation.settle().unwrap();
    let (id, adopt) = conversation.questions.pop().unwrap();
    let adopted = conversation.answer_to(adopt, 5);
    conversation.session.handle_answer(id, adopted, conversation.now, &mut conversation.effects);
    let replies = conversation.effects.iter().filter_map(|effect| match effect {
        Effect::Reply(_, Reply::Published { .. }) => Some(true),
        Effect::Reply(_, Reply::Refused(_)) => Some(false),
        _ => None,
    });
    assert_eq!(replies.collect::<Vec<_>>(), [false, true], "of the first one nobody knows, the second one stands in the log");
}

#[test]
fn whatever_comes_in_any_order_every_command_is_answered_once_and_every_join_left_once() {
    let cases = crate::properties::cases();
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(kind in 0..128_u32, steps in prop::collection::vec(any::<u32>(), 1..60))| {
        let mut conversation = Conversation::new(kind);
        conversation.begin()?;
        for step in steps {
            conversation.step(step)?;
        }
        conversation.end()?;
    });
}
