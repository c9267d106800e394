//! Publishes that are handed on before earlier ones to their topic are answered, and answered in their order nevertheless. Which commands wait
//! lives in `machine`.

use std::time::Instant;

use super::{
    effect::{Answer, AskId, Effect},
    machine::{Open, Purpose, Session},
};
use crate::{CommandId, Refusal, Topic};

impl Session {
    /// A publish that was asked for has its place among those to its topic, and no answer yet: publishes that waited for it need not any more.
    pub(crate) fn in_line(&mut self, id: AskId, now: Instant, effects: &mut Vec<Effect>) {
        if let Some(open) = self.questions.iter_mut().find(|open| open.id == id) {
            open.in_line = true;
            self.go_on(now, effects);
        }
    }

    /// Whether an earlier publish to the topic of this one has no answer yet: then its own is kept until that one has. Gives back what is not kept.
    pub(super) fn keep_in_line(&mut self, id: AskId, answer: Answer) -> Option<Answer> {
        let Some(at) = self.questions.iter().position(|open| open.id == id) else { return Some(answer) };
        if !self.is_behind_others_in_line(at) {
            return Some(answer);
        }
        self.questions[at].answer = Some(answer);
        None
    }

    /// Whether an open question stands behind publishes to its topic that have their places and no answers yet.
    pub(super) fn is_behind_others_in_line(&self, at: usize) -> bool {
        let topic = &self.questions[at].topic;
        topic.is_some() && self.questions[..at].iter().any(|earlier| earlier.in_line && earlier.topic == *topic)
    }

    /// A refusal of a publish that must not be told before the answers of earlier ones to its topic; gives back what may be told now.
    pub(super) fn refuse_in_line(&mut self, topic: &Topic, id: CommandId, refusal: Refusal) -> Option<(CommandId, Refusal)> {
        if !self.questions.iter().any(|open| open.in_line && open.topic.as_ref() == Some(topic)) {
            return Some((id, refusal));
        }
        self.last_ask = self.last_ask.wrapping_add(1);
        let answer = Some(Answer::Published(topic.clone(), Err(refusal)));
        let (ask, topic) = (AskId(self.last_ask), Some(topic.clone()));
        self.questions.push(Open { id: ask, topic, purpose: Purpose::Command(id), in_line: true, answer });
        None
    }

    /// An answer that was kept, and may be told now.
    pub(super) fn next_in_line(&mut self) -> Option<(AskId, Answer)> {
        let is_next = |at: usize| {
            let open = &self.questions[at];
            open.answer.is_some() && !self.questions[..at].iter().any(|earlier| earlier.topic == open.topic)
        };
        let at = (0..self.questions.len()).find(|at| is_next(*at))?;
        let open = &mut self.questions[at];
        Some((open.id, open.answer.take()?))
    }
}
