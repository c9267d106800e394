//! Questions of other nodes that this node has seen: each is done once, however often it is repeated.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::envelope::Head;

/// Most questions that are remembered.
const SEEN_MAX: usize = 4096;
/// How long a question is remembered: longer than anybody repeats it.
const REMEMBERED: Duration = Duration::from_secs(30);
/// Most bytes of an answer that is remembered. What answers more is only looked up, and can be looked up again.
const ANSWER_MAX_BYTES: usize = 16 << 10;

/// Questions that were seen, by asker and id.
#[derive(Default)]
pub(super) struct Seen {
    questions: HashMap<Head, State>,
    order: VecDeque<(Instant, Head)>,
}

enum State {
    UnderWay,
    Answered(Bytes),
}

/// What is to be done with a question.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// It is new: do it.
    Do,
    /// It is being done.
    Wait,
    /// It is done: say so again.
    Again(Bytes),
    /// Too many were asked lately: it would not be known again.
    Full,
}

impl Seen {
    pub(super) fn begin(&mut self, head: &Head, now: Instant) -> Verdict {
        match self.questions.get(head) {
            Some(State::UnderWay) => return Verdict::Wait,
            Some(State::Answered(answer)) => return Verdict::Again(answer.clone()),
            None => {}
        }
        while self.order.front().is_some_and(|(at, _)| *at + REMEMBERED <= now) {
            if let Some((_, old)) = self.order.pop_front() {
                self.questions.remove(&old);
            }
        }
        if self.order.len() >= SEEN_MAX {
            return Verdict::Full;
        }
        self.order.push_back((now, head.clone()));
        self.questions.insert(head.clone(), State::UnderWay);
        Verdict::Do
    }

    pub(super) fn done(&mut self, head: &Head, parts: &[Bytes]) {
        match parts {
            [answer] if answer.len() <= ANSWER_MAX_BYTES => {
                if let Some(state) = self.questions.get_mut(head) {
                    *state = State::Answered(answer.clone());
                }
            }
            _ => _ = self.questions.remove(head),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(id: u64) -> Head {
        Head { node: "a".into(), id }
    }

    #[test]
    fn a_question_is_done_once_and_answered_again() {
        let (mut seen, now) = (Seen::default(), Instant::now());
        assert_eq!(seen.begin(&head(1), now), Verdict::Do);
        assert_eq!(seen.begin(&head(1), now), Verdict::Wait);
        seen.done(&head(1), &[Bytes::from_static(b"x")]);
        assert_eq!(seen.begin(&head(1), now), Verdict::Again(Bytes::from_static(b"x")));
        assert_eq!(seen.begin(&Head { node: "b".into(), id: 1 }, now), Verdict::Do, "another asker's");
    }

    #[test]
    fn what_cannot_be_remembered_is_not_done() {
        let (mut seen, now) = (Seen::default(), Instant::now());
        for id in 0..SEEN_MAX as u64 {
            assert_eq!(seen.begin(&head(id), now), Verdict::Do);
        }
        assert_eq!(seen.begin(&head(u64::MAX), now), Verdict::Full);
        assert_eq!(seen.begin(&head(u64::MAX), now + REMEMBERED), Verdict::Do);
    }
}
