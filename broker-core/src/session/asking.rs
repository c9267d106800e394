//! Commands that others answer: publish, history, presence, calls, messages; and what becomes of the answers.

use std::time::Instant;

use super::{
    effect::{Answer, AskId, Effect, Question},
    machine::{Purpose, Session},
    rules::not_available,
};
use crate::{Action, CloseReason, CommandId, LogPage, Publish, Push, Refusal, RefusalKind, Reply, Request, Since, Subscribe, Topic, Verb};

impl Session {
    pub(super) fn ask_about(&mut self, id: CommandId, request: Request, now: Instant, effects: &mut Vec<Effect>) {
        let published_to = if let Request::Publish { topic, .. } = &request { Some(topic.clone()) } else { None };
        let asked = match request {
            Request::Publish { topic, data, key, idempotency_key, removed } => {
                let mut publish = Publish::new(data).publisher(self.info_in(&topic));
                publish.key = key;
                publish.idempotency_key = idempotency_key;
                publish.removed = removed;
                self.publish_question(&topic, publish).map(|question| (Some(topic), question))
            }
            Request::History { topic, since, limit, reverse } => {
                self.history_question(&topic, since, limit, reverse).map(|question| (Some(topic), question))
            }
            Request::Presence { topic } => self.admit_presence(&topic).map(|(namespace, authorize)| {
                let question = Question::Presence { topic: topic.clone(), namespace, authorize };
                (Some(topic), question)
            }),
            Request::PresenceStats { topic } => self.admit_presence(&topic).map(|(namespace, authorize)| {
                let question = Question::PresenceStats { topic: topic.clone(), namespace, authorize };
                (Some(topic), question)
            }),
            Request::Call { method, data } if self.rules.hears_call => Ok((None, Question::Call { method, data })),
            Request::Call { method, .. } => {
                let refusal = Refusal::new(RefusalKind::NotAvailable, format!("nobody answers calls here, `{}` included", cut(&method)));
                Err(refusal.rule("set an on_rpc hook"))
            }
            Request::Message { data } if self.rules.hears_message => Ok((None, Question::Message { data })),
            Request::Message { .. } => Err(self.nobody_hears_messages()),
            _ => Err(Refusal::new(RefusalKind::UnknownAction, "this command is not known here")),
        };
        match asked {
            Ok((topic, question)) => self.ask(topic, Purpose::Command(id), question, effects),
            Err(refusal) => {
                let told = match published_to {
                    Some(topic) => self.refuse_in_line(&topic, id, refusal),
                    None => Some((id, refusal)),
                };
                if let Some((id, refusal)) = told {
                    self.refuse(id, refusal, now, effects);
                }
            }
        }
    }

    fn publish_question(&self, topic: &Topic, publish: Publish) -> Result<Question, Refusal> {
        let (namespace, authorize) = self.rules.admit(&self.subject, Verb::Publish, topic)?;
        self.rules.check_payload(&publish.data)?;
        Ok(Question::Publish { topic: topic.clone(), publish, namespace, authorize })
    }

    fn history_question(&self, topic: &Topic, since: Option<Since>, limit: Option<usize>, reverse: bool) -> Result<Question, Refusal> {
        let (namespace, authorize) = self.rules.admit(&self.subject, Verb::History, topic)?;
        if !namespace.keeps_history() {
            return Err(not_available("history", topic, "history_size"));
        }
        let limit = limit.unwrap_or(0).min(self.rules.settings.history_limit_max);
        Ok(Question::History { topic: topic.clone(), namespace, since, limit, reverse, authorize })
    }

    fn admit_presence(&self, topic: &Topic) -> Result<(std::sync::Arc<crate::Namespace>, bool), Refusal> {
        let (namespace, authorize) = self.rules.admit(&self.subject, Verb::Presence, topic)?;
        if namespace.presence { Ok((namespace, authorize)) } else { Err(not_available("presence", topic, "presence = true")) }
    }

    fn nobody_hears_messages(&self) -> Refusal {
        if self.manners.answers_without_id {
            Refusal::bad_request("this is no command of the broker, and no application listens for messages here")
                .hint("commands are JSON objects with the key `broker`, as {\"broker\":\"subscribe\",\"topic\":\"news\"}")
        } else {
            Refusal::new(RefusalKind::NotAvailable, "no application listens for messages here").rule("set an on_message hook")
        }
    }

    /// An answer came; a late one for a question that is no longer open is void.
    pub(crate) fn handle_answer(&mut self, ask: AskId, answer: Answer, now: Instant, effects: &mut Vec<Effect>) {
        let mut next = self.keep_in_line(ask, answer).map(|answer| (ask, answer));
        while let Some((ask, answer)) = next {
            self.take_answer(ask, answer, now, effects);
            next = self.next_in_line();
        }
    }

    fn take_answer(&mut self, ask: AskId, answer: Answer, now: Instant, effects: &mut Vec<Effect>) {
        let Some(purpose) = self.take_question(ask) else { return };
        match (purpose, answer) {
            (Purpose::Connect(id, resume), Answer::Identity(answer)) => self.identified(id, &resume, answer, now, effects),
            (Purpose::Refresh(id), Answer::Identity(answer)) => self.refreshed(id, answer, now, effects),
            (Purpose::Adopt(completion), Answer::Identity(answer)) => self.adopted(Some(completion), answer, now, effects),
            (Purpose::Reauthorize(switch), Answer::Reauthorized(answer)) => self.reauthorized(*switch, answer, now, effects),
            (Purpose::Renew, Answer::Renewed(answer)) => self.renewed(answer, now, effects),
            (Purpose::RefreshSubscription(id, topic, generation), Answer::Grant(answer)) => {
                self.subscription_refreshed(id, topic, generation, answer, now, effects);
            }
            (Purpose::Subscribe(topic, generation), Answer::Grant(answer)) => self.granted(&topic, generation, answer, now, effects),
            (Purpose::Command(id), Answer::Actions(answer)) => {
                let acted = answer.map(|actions| self.act_all(actions, now, effects));
                if let Err(refusal) = acted {
                    self.refuse_quietly(id, refusal, now, effects);
                }
            }
            (Purpose::Command(id), answer) => match self.reply_to(answer) {
                Ok(Some(reply)) => effects.push(Effect::Reply(id, reply)),
                Ok(None) => {}
                Err(refusal) => self.refuse(id, refusal, now, effects),
            },
            // The application's own publish, and what answers another question than was asked.
            _ => {}
        }
        // Whatever the answer was, also a void one: commands may have waited for it.
        self.go_on(now, effects);
    }

    fn reply_to(&self, answer: Answer) -> Result<Option<Reply>, Refusal> {
        Ok(match answer {
            Answer::Published(topic, published) => Some(Reply::Published { topic, position: published?.position }),
            Answer::History(topic, page) => {
                let LogPage { top, mut publications, .. } = page?;
                let selection = self.selection(&topic);
                publications.retain(|publication| {
                    publication.is_for(&self.subject) && selection.is_none_or(|selection| selection.wants(publication))
                });
                Some(Reply::History { topic, position: top, publications })
            }
            Answer::Presence(topic, sessions) => Some(Reply::Presence { topic, sessions: sessions? }),
            Answer::PresenceStats(topic, stats) => {
                let stats = stats?;
                Some(Reply::PresenceStats { topic, sessions: stats.sessions, users: stats.users })
            }
            Answer::Call(result) => Some(Reply::CallResult(result?)),
            Answer::Actions(_) | Answer::Identity(_) | Answer::Grant(_) | Answer::Reauthorized(_) | Answer::Renewed(_) => None,
        })
    }

    fn act_all(&mut self, actions: Vec<Action>, now: Instant, effects: &mut Vec<Effect>) {
        for action in actions {
            // An action may close the session, also by its refusal: nothing follows that.
            if !self.is_closed() {
                self.act(action, now, effects);
            }
        }
    }

    /// Does what the application wants done about a message.
    fn act(&mut self, action: Action, now: Instant, effects: &mut Vec<Effect>) {
        match action {
            Action::Reply(data) => effects.push(Effect::Push(Push::Message(data))),
            Action::Subscribe(topic) => match self.resolve(&topic) {
                // Wanted twice is had once.
                Ok(topic) if self.subscriptions.find(&topic).is_some() => {}
                Ok(topic) => self.subscribe(CommandId::None, Subscribe::new(topic), now, effects),
                Err(refusal) => self.refuse_quietly(CommandId::None, refusal, now, effects),
            },
            Action::Unsubscribe(topic) => match self.resolve(&topic) {
                Ok(topic) => self.end_subscription(&topic, crate::UnsubscribeReason::Server, effects),
                Err(refusal) => self.refuse_quietly(CommandId::None, refusal, now, effects),
            },
            Action::Publish(topic, publish) => match self.resolve(&topic) {
                Ok(topic) => self.publish_for_application(topic, publish, now, effects),
                Err(refusal) => self.refuse_quietly(CommandId::None, refusal, now, effects),
            },
            Action::Refuse(refusal) => self.refuse_quietly(CommandId::None, refusal, now, effects),
            Action::Close { code, reason } => self.close(CloseReason::Application { code, reason }, effects),
        }
    }

    fn publish_for_application(&mut self, topic: Topic, mut publish: Publish, now: Instant, effects: &mut Vec<Effect>) {
        publish.publisher.get_or_insert_with(|| self.info_in(&topic));
        match self.rules.namespace(&topic).cloned() {
            Ok(namespace) => {
                let question = Question::PublishForApplication { topic: topic.clone(), publish, namespace };
                self.ask(Some(topic), Purpose::Silent, question, effects);
            }
            Err(refusal) => self.refuse_quietly(CommandId::None, refusal, now, effects),
        }
    }
}

/// A client's text in an answer: its beginning.
fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}
