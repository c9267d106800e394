//! How a shard talks with its sessions: hands them inputs, and does what they want done.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    asks::{self, Context},
    conn::{Conn, Occupant},
    errands::poll_once,
    inbox::{Item, Joined, MemberRef, SlotRef},
    members::Member,
    paging::{page_bytes, safe_position},
    shard::Shard,
    topic_entry::Wants,
};
use crate::{
    CloseReason, Command, CommandId, Connected, Disconnected, FrameWriter, GapReason, Push, Refusal, RefusalKind, Reply, Resume,
    ServerSubscription, Settings, Stats, Subscribed, Topic, panics,
    session::{Answer, AsOf, AskId, Completion, Effect, Join, Leave, Question, Session},
};

impl Shard {
    pub(super) fn commands(&mut self, at: SlotRef, mut commands: Vec<Command>, bytes: usize, now: Instant) {
        let count = commands.len() as u32;
        self.hub.stats.commands.add(u64::from(count));
        self.throttle(at, &mut commands, bytes, now);
        if let Some(conn) = self.conn(at) {
            conn.life.frames_in = conn.life.frames_in.saturating_add(count);
            conn.life.heard_at = Some(now);
            conn.session.heard();
            if conn.held.is_empty() {
                conn.held = commands.into();
            } else {
                conn.held.extend(commands);
            }
            self.handle_held(at, now);
        }
    }

    /// Handles commands until none is left or the answers fill the backlog: answers are never dropped, so who does not read them is not
    /// heard. Its reader stops when the credit is used up, and the ping ends it.
    pub(super) fn handle_held(&mut self, at: SlotRef, now: Instant) {
        let max = self.hub.rules.settings.backlog_max_bytes;
        let mut handled = 0;
        while let Some(conn) = self.conn(at).filter(|conn| conn.backlog.bytes() <= max)
            && let Some(command) = conn.held.pop_front()
        {
            handled += 1;
            self.converse(at, now, |session, now, effects| session.handle_command(command, now, effects));
        }
        if let Some(conn) = self.conn(at) {
            if conn.held.is_empty() {
                conn.held = VecDeque::new();
            }
            conn.credit.give_back(handled);
        }
    }

    /// Hands something to a session and does everything it wants done, in order. Nothing if the session is not there any more.
    pub(super) fn converse(&mut self, at: SlotRef, now: Instant, input: impl FnOnce(&mut Session, std::time::Instant, &mut Vec<Effect>)) {
        let Some(slot) = self.slots.get_mut(at.slot as usize).filter(|slot| slot.generation == at.generation) else { return };
        let mut conn = match slot.occupant.take() {
            Some(Occupant::Connection(conn)) => conn,
            other => {
                slot.occupant = other;
                return;
            }
        };
        let mut effects = std::mem::take(&mut self.effects);
        guarded(&self.hub.stats, &mut conn.session, &mut effects, |session, effects| input(session, now.into_std(), effects));
        // An effect may be answered at once, and the answer has effects of its own: those go first, so replies keep their order.
        effects.reverse();
        while let Some(effect) = effects.pop() {
            let before = effects.len();
            self.perform(at, &mut conn, effect, now, &mut effects);
            effects[before..].reverse();
        }
        self.effects = effects;
        if !conn.dirty && (!conn.backlog.is_empty() || conn.pong.is_some() || conn.session.is_closed()) {
            conn.dirty = true;
            self.dirty.push_back(at.slot);
        }
        self.slots[at.slot as usize].occupant = Some(Occupant::Connection(conn));
        self.note_deadline(at.slot);
        self.hub.run_errands();
    }

    fn perform(&mut self, at: SlotRef, conn: &mut Conn, effect: Effect, now: Instant, effects: &mut Vec<Effect>) {
        match effect {
            // Nothing follows the close.
            Effect::Reply(..) | Effect::Push(_) | Effect::Hold | Effect::Welcome(..) if conn.closing_until.is_some() => {}
            Effect::Reply(id, reply) => self.reply(conn, &id, &reply, now),
            Effect::Dropped(refusal) => self.count_refusal(conn, &refusal, now),
            Effect::Push(push) => {
                if let Push::Refused(refusal) = &push {
                    self.log.refused(conn, refusal, now);
                }
                self.push(conn, &push);
            }
            Effect::Ask(ask, question) => self.ask(at, conn, ask, question, now, effects),
            Effect::Join(join) => self.join(at, join),
            Effect::Leave(leave) => self.leave(at, conn, leave),
            Effect::Hold => conn.holding = true,
            Effect::Welcome(id, connected) => self.welcome(conn, &id, *connected),
            Effect::Connected(as_of) => {
                conn.head = None;
                let subject = conn.session.subject();
                conn.life.user = Some(subject.user.clone());
                self.hub.user_connected(&subject.user);
                self.whose.add(at.slot, subject);
                self.hub.stats.sessions.add(1);
                self.log.opened(conn, now);
                self.catch_up(conn, as_of, now, effects);
            }
            Effect::IdentityChanged(before, as_of) => {
                let subject = conn.session.subject();
                self.whose.remove(at.slot, &before);
                self.hub.user_gone(&before.user);
                self.whose.add(at.slot, subject);
                self.hub.user_connected(&subject.user);
                conn.life.user = Some(subject.user.clone());
                if let Some(spent) = &mut conn.spent {
                    spent.change_user();
                }
                self.log.changed(conn, &before, now);
                self.catch_up(conn, as_of, now, effects);
            }
            Effect::Renamed { topic, namespace, before } => self.hub.renamed(&topic, &namespace, before, conn.session.info_in(&topic)),
            Effect::Opened(result) => {
                if let Some(opened) = conn.opened.take() {
                    // The opener may have given up; then its connection is going already.
                    let _ = opened.send(result);
                }
            }
            Effect::Close(reason) => self.closed(at.slot, conn, reason, now),
        }
    }

    fn reply(&mut self, conn: &mut Conn, id: &CommandId, reply: &Reply, now: Instant) {
        match reply {
            Reply::Refused(refusal) => self.count_refusal(conn, refusal, now),
            Reply::Subscribed(subscribed) => self.count_resume(subscribed),
            _ => {}
        }
        let place = match reply {
            Reply::Pong { .. } => Place::First,
            Reply::Published { .. }
            | Reply::Presence { .. }
            | Reply::PresenceStats { .. }
            | Reply::History { .. }
            | Reply::CallResult(_) => Place::Loose,
            _ => Place::Firm,
        };
        self.encode(conn, place, |conn, out| conn.codec.protocol.encode_reply(id, reply, out));
    }

    fn count_refusal(&mut self, conn: &mut Conn, refusal: &Refusal, now: Instant) {
        self.hub.stats.commands_refused.add(1);
        if refusal.kind != RefusalKind::TooManyRequests {
            self.hub.count_error(conn, now);
        }
        self.log.refused(conn, refusal, now);
    }

    /// Answers the connect before everything that was held back.
    fn welcome(&mut self, conn: &mut Conn, id: &CommandId, connected: Connected) {
        for subscribed in &connected.subscriptions {
            self.count_resume(subscribed);
        }
        let held = std::mem::take(&mut conn.backlog);
        self.encode(conn, Place::Firm, |conn, out| conn.codec.protocol.encode_reply(id, &Reply::Connected(connected), out));
        conn.backlog.append(held);
        conn.holding = false;
    }

    fn count_resume(&self, subscribed: &Subscribed) {
        match subscribed.resume {
            Some(resume) if resume.recovered => self.hub.stats.resumes_recovered.add(1),
            Some(resume) => {
                self.hub.stats.resumes_failed.add(1);
                if resume.gap.is_some_and(|gap| gap.reason == GapReason::Epoch) {
                    self.count_foreign(&subscribed.topic);
                }
            }
            None => {}
        }
    }

    fn count_foreign(&self, topic: &Topic) {
        self.hub.stats.resumes_foreign.add(1);
        if !self.hub.backplane.capabilities().shared && self.hub.foreign.seen(self.hub.uptime()) {
            tracing::warn!(
                %topic,
                resumes = self.hub.stats.resumes_foreign.value(),
                "clients keep coming with positions that this node never gave out: is another node with a memory of its own behind the same address? Give \
                 all nodes one Redis; `broker doctor URL` tells which nodes answer there"
            );
        }
    }

    /// What the server said of the user while it was looked up. Credentials that were looked at before their revocation must not outlive it,
    /// and a membership is what was said of it last.
    fn catch_up(&self, conn: &mut Conn, as_of: AsOf, now: Instant, effects: &mut Vec<Effect>) {
        if self.hub.recent.revoked(conn.session.subject()) {
            return conn.session.order_close(CloseReason::Revoked, effects);
        }
        for moved in self.hub.recent.moved_since(as_of, conn.session.subject()) {
            guarded(&self.hub.stats, &mut conn.session, effects, |session, effects| {
                if moved.is_in {
                    session.order_subscribe(ServerSubscription::new(moved.topic), None, Completion(Arc::new(())), effects);
                } else {
                    session.order_unsubscribe(&moved.topic, now.into_std(), effects);
                }
            });
        }
    }

    pub(super) fn push(&mut self, conn: &mut Conn, push: &Push) {
        let place = match push {
            Push::Ping => Place::First,
            Push::Join { .. } | Push::Leave { .. } | Push::Message(_) | Push::Expiring { .. } | Push::Refreshed { .. } => Place::Loose,
            _ => Place::Firm,
        };
        self.encode(conn, place, |conn, out| conn.codec.protocol.encode_push(push, out));
    }

    fn encode(&mut self, conn: &mut Conn, place: Place, encode: impl FnOnce(&Conn, &mut FrameWriter<'_>)) {
        self.frames.clear();
        let mut out = FrameWriter::new(&*conn.codec.framing, &mut self.frames);
        if panics::catch(&self.hub.stats, "codec", || encode(conn, &mut out)).is_ok() {
            let written = out.frames() as u32;
            conn.life.frames_out = conn.life.frames_out.saturating_add(written);
            let frames = self.hub.held.counted(self.frames.clone(), 0);
            match place {
                Place::First => conn.backlog.push_first(frames),
                Place::Loose => conn.backlog.push_loose(frames),
                Place::Firm => conn.backlog.push_frames(frames),
            }
        }
        if self.frames.capacity() > 1 << 20 {
            self.frames = Vec::new();
        }
    }

    /// Asks a question: what answers at once is answered at once, the rest comes back through the inbox.
    fn ask(&mut self, at: SlotRef, conn: &mut Conn, ask: AskId, question: Question, now: Instant, effects: &mut Vec<Effect>) {
        let context = match &question {
            Question::Identify(_) => Context { head: conn.head.clone(), path: Arc::default() },
            Question::Message { .. } => Context { head: None, path: conn.life.path.clone() },
            _ => Context::default(),
        };
        let late = late_answer(&question);
        let timeout = answer_timeout(&self.hub.rules.settings, &question);
        let published_to = match &question {
            Question::Publish { topic, .. } | Question::PublishForApplication { topic, .. } => Some(topic.clone()),
            _ => None,
        };
        let takes_its_place = match &question {
            Question::Publish { topic, authorize, .. } => {
                // Nobody is asked before the backplane is.
                let at_once = !authorize && self.hub.hooks.publish.is_none() && topic.namespace() != Some("session");
                at_once && self.hub.backplane.capabilities().in_line
            }
            _ => false,
        };
        let hub = self.hub.clone();
        let mut future: crate::hooks::BoxFuture<Answer> = Box::pin(asks::answer(hub, conn.session.subject().clone(), context, question));
        match poll_once(&mut future) {
            std::task::Poll::Ready(answer) => {
                // A publisher that listens to its own topic gets the publication before the answer, which is therefore
                // handled after what the publish put into the inbox. What was published is in its place: the next command
                // about the topic need not wait for the answer, so publishes that come together share a pass.
                match published_to.filter(|topic| conn.session.listens_to(topic)).and_then(|topic| self.topic_of(&topic)) {
                    Some(topic) => {
                        conn.session.executed(ask);
                        self.hub.push(at, Item::AnswerAfter(at, ask, Box::new(answer), topic));
                    }
                    None => guarded(&self.hub.stats, &mut conn.session, effects, |session, effects| {
                        session.handle_answer(ask, answer, now.into_std(), effects);
                    }),
                }
            }
            std::task::Poll::Pending => {
                let Some(runtime) = self.hub.runtime.clone() else { return };
                let hub = self.hub.clone();
                runtime.spawn(async move {
                    let answer = tokio::time::timeout(timeout, future).await.unwrap_or(late);
                    hub.push(at, Item::Answer(at, ask, Box::new(answer)));
                    hub.run_errands();
                });
                if takes_its_place {
                    guarded(&self.hub.stats, &mut conn.session, effects, |session, effects| session.in_line(ask, now.into_std(), effects));
                }
            }
        }
    }

    fn join(&self, at: SlotRef, join: Join) {
        let member = MemberRef { at, subscription: join.generation };
        let wants = Wants { join_leave: join.join_leave, snapshot: true, again: false };
        self.hub.join(&join.topic, &join.namespace, member, join.since, wants);
        self.hub.run_errands();
    }

    fn leave(&mut self, at: SlotRef, conn: &mut Conn, leave: Leave) {
        if !leave.live {
            // J9: not found means that `Joined` is in the inbox; whoever handles it finds it void and leaves.
            self.hub.cancel(&leave.topic, MemberRef { at, subscription: leave.generation });
            return;
        }
        self.hub.stats.subscriptions.sub(u64::from(!leave.topic.is_of_a_user()));
        if !leave.keeps_backlog {
            conn.backlog.drop_all(&leave.topic);
        }
        if !self.left_behind(at, conn, &leave) {
            match self.remove_member(conn.variant, at.slot, &leave.topic) {
                Some((entry, _)) => entry.leave(&self.hub.ports, self.index),
                None if self.stop_paging(at.slot, &leave.topic).is_some() => {}
                None => return,
            }
        }
        self.hub.goes(&leave.topic, &leave.namespace, leave.who, leave.closed);
    }

    /// The hub counts a new member here: it becomes one, or the hub is left at once (J9).
    pub(super) fn joined(&mut self, joined: Joined, now: Instant) {
        let Some(joined) = self.caught_up(joined, now) else { return };
        let Joined { entry, member, join_leave, rows, last, mut position, mut resume, mut missed, snapshot, again: _ } = joined;
        let at = member.at;
        if let Some(slot) = self.slots.get(at.slot as usize).filter(|slot| slot.generation == at.generation)
            && let Some(occupant @ Occupant::Stream(..)) = &slot.occupant
        {
            occupant.begin(position, resume.and_then(|resume| resume.gap), missed);
            let member = Member { slot: at.slot, join_leave: false, chooses: false, last };
            return self.add_member(&entry, super::members::Variant::STREAM, None, member, None);
        }
        let refused = resume.is_some_and(|resume| !resume.recovered);
        let max = self.backlog_max();
        let (variant, codec, info, refused, selection) = match self.conn(at) {
            Some(conn) if conn.session.awaits(&entry.topic, member.subscription) => {
                let refused = refused && conn.session.refuses_unrecovered(&entry.topic);
                let selection = conn.session.selection(&entry.topic).cloned();
                (conn.variant, conn.codec.clone(), conn.session.info_in(&entry.topic), refused, selection)
            }
            _ => {
                entry.leave(&self.hub.ports, self.index);
                return self.hub.run_errands();
            }
        };
        if refused {
            entry.leave(&self.hub.ports, self.index);
            let text = format!("{} cannot be recovered from this position", entry.topic.local());
            let refusal = Refusal::new(RefusalKind::UnrecoverablePosition, text);
            return self.converse(at, now, |session, now, effects| session.join_failed(&entry.topic, refusal, now, effects));
        }
        let namespace = entry.namespace.clone();
        let coming = self.hub.comes(&entry.topic, &namespace, &info);
        self.hub.stats.subscriptions.add(u64::from(!entry.topic.is_of_a_user()));
        // Without positions nobody can go on after a page.
        let page_bytes = if entry.keeps_log { self.conn(at).map_or(0, |conn| page_bytes(conn, max)) } else { usize::MAX };
        let page = missed.take_page(page_bytes, |publication| publication.is_for(&info));
        let top = position.filter(|_| rows || !missed.is_empty());
        if let Some(top) = top {
            // Whoever is cut between what follows must not take it for received.
            position = Some(safe_position(top, resume));
            if let Some(Resume { gap: Some(gap), .. }) = resume.as_mut().filter(|_| rows) {
                // Rows are older than the top.
                gap.to = None;
            }
        }
        if let Some(until) = top.filter(|_| !missed.is_empty()) {
            self.begin_paging(&entry, member, join_leave, missed, until);
        } else {
            let member = Member { slot: at.slot, join_leave, chooses: selection.is_some(), last };
            self.add_member(&entry, variant, Some(codec), member, selection);
        }
        let subscribed = Subscribed {
            topic: entry.topic.clone(),
            position,
            recoverable: entry.keeps_log && namespace.recovery != crate::Recovery::Off,
            resume,
            snapshot,
            missed: page,
            data: None,
            ttl: None,
            keyed: false,
        };
        // Before the session goes on: it may leave at once, and its leave is told after its join.
        self.hub.tell_coming(&entry.topic, info, coming);
        self.converse(at, now, |session, now, effects| session.joined(subscribed, now, effects));
    }

    pub(super) fn disconnected(&self, conn: &Conn, reason: &crate::CloseReason, now: Instant) {
        let Some(hook) = &self.hub.hooks.disconnect else { return };
        let notice = Disconnected::new(conn.session.subject().clone(), reason.clone(), now.duration_since(conn.life.opened_at));
        let (hub, hook) = (self.hub.clone(), hook.clone());
        self.hub.go_on(Box::pin(async move {
            // What went wrong is counted and logged by the guard.
            let _ = panics::guard(&hub.stats, async { hook(notice).await }, hub.rules.settings.hook_timeout).await;
        }));
    }
}

/// Where frames of the broker's own stand among what waits.
#[derive(Clone, Copy)]
enum Place {
    /// Before everything: signs of life.
    First,
    /// Behind everything; urgent publications may overtake them.
    Loose,
    /// Behind everything, and nothing overtakes them.
    Firm,
}

/// An input to a session may call foreign code, as the authorizer: a panic of it costs the connection.
fn guarded(stats: &Stats, session: &mut Session, effects: &mut Vec<Effect>, input: impl FnOnce(&mut Session, &mut Vec<Effect>)) {
    if panics::catch(stats, "session", || input(session, effects)).is_err() {
        session.close(CloseReason::ServerError("the command could not be handled".into()), effects);
    }
}

/// Time for an answer to a session's question: those of authorizer and hook, and the backplane's own, each have their time.
fn answer_timeout(settings: &Settings, question: &Question) -> Duration {
    let of_backplane = match question {
        Question::Publish { .. } | Question::PublishForApplication { .. } => settings.publish_timeout,
        Question::History { .. } | Question::Presence { .. } | Question::PresenceStats { .. } => settings.backplane_timeout,
        _ => Duration::ZERO,
    };
    settings.hook_timeout * 2 + of_backplane
}

/// What a question is answered with when everything else took too long.
fn late_answer(question: &Question) -> Answer {
    let refusal = Refusal::unavailable("no answer in time, try again");
    match question {
        Question::Identify(_) | Question::Adopt(_) => Answer::Identity(Err(refusal)),
        // What nobody could be asked about ends.
        Question::Reauthorize { topics, .. } => Answer::Reauthorized(topics.iter().map(|_| None).collect()),
        Question::Renew => Answer::Renewed(Err(refusal)),
        Question::Redeem { .. } | Question::Subscribe { .. } => Answer::Grant(Err(refusal)),
        Question::Publish { topic, .. } | Question::PublishForApplication { topic, .. } => Answer::Published(topic.clone(), Err(refusal)),
        Question::History { topic, .. } => Answer::History(topic.clone(), Err(refusal)),
        Question::Presence { topic, .. } => Answer::Presence(topic.clone(), Err(refusal)),
        Question::PresenceStats { topic, .. } => Answer::PresenceStats(topic.clone(), Err(refusal)),
        Question::Call { .. } => Answer::Call(Err(refusal)),
        Question::Message { .. } => Answer::Actions(Err(refusal)),
    }
}
