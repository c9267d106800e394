//! What the server owes: one entry for each call, in the order of the wire. How calls are queued lives in `outbox`.

use tokio::{sync::oneshot, time::Instant};

use crate::{CallError, Value};

/// Commands that stand together on the wire, and who waits for their answers.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) reply: Reply,
    /// When whoever waits gives up. The answers keep their place even then.
    pub(crate) deadline: Instant,
    /// Whether it may wait for a connection.
    pub(crate) for_link: bool,
    /// Bytes on the wire.
    pub(crate) len_bytes: usize,
    /// Commands, without fences.
    pub(crate) commands: usize,
}

/// Who waits for what.
#[derive(Debug)]
pub(crate) enum Reply {
    /// One answer. `None`: the time is over, and the answer is dropped.
    One(Option<oneshot::Sender<Result<Value, CallError>>>),
    /// Several answers, told together.
    Many(Many),
    /// Any answer is a sign of life.
    Ping,
}

/// Several answers.
#[derive(Debug)]
pub(crate) struct Many {
    pub(crate) to: Option<oneshot::Sender<Vec<Result<Value, CallError>>>>,
    pub(crate) came: Vec<Result<Value, CallError>>,
    /// `None`: each command has one answer.
    pub(crate) fence: Option<Fence>,
}

/// Commands without an answer but an error have a command behind them whose answer is known.
#[derive(Debug)]
pub(crate) struct Fence {
    /// The number of the next one.
    pub(crate) number: u64,
    /// Whether the command in front of it was answered: by an error.
    pub(crate) refused: bool,
}

/// What an answer did to the entry it belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Accepted {
    /// Nothing more is owed.
    Complete,
    /// More is owed.
    More,
    /// It is not what is owed here.
    OutOfStep,
}

/// The text that a fence sends, and gets back.
pub(crate) fn fence_text(number: u64) -> String {
    format!("fence:{number};")
}

impl Pending {
    /// Nobody waits for its answer but the watch for silence.
    pub(crate) fn ping(now: Instant, len_bytes: usize) -> Self {
        Self { reply: Reply::Ping, deadline: now, for_link: false, len_bytes, commands: 0 }
    }

    /// Takes the next answer.
    pub(crate) fn accept(&mut self, value: Value) -> Accepted {
        match &mut self.reply {
            Reply::One(to) => {
                if let Some(to) = to.take() {
                    // Nobody waits any more where the future was dropped.
                    drop(to.send(result(value)));
                }
                Accepted::Complete
            }
            Reply::Many(many) => many.accept(value, self.commands),
            Reply::Ping => Accepted::Complete,
        }
    }

    /// Tells whoever waits that nothing more comes, and why. Answers that came are told too.
    pub(crate) fn fail(&mut self, error: &CallError) {
        match &mut self.reply {
            Reply::One(to) => {
                if let Some(to) = to.take() {
                    drop(to.send(Err(error.clone())));
                }
            }
            Reply::Many(many) => {
                let missing = self.commands.saturating_sub(many.came.len());
                if let Some(to) = many.to.take() {
                    let mut came = std::mem::take(&mut many.came);
                    came.extend(std::iter::repeat_n(Err(error.clone()), missing));
                    drop(to.send(came));
                    // The count goes on without the answers.
                    many.came.extend(std::iter::repeat_n(Ok(Value::Null), self.commands - missing));
                }
            }
            Reply::Ping => {}
        }
    }

    /// Whether somebody waits whose time can be over.
    pub(crate) fn is_awaited(&self) -> bool {
        match &self.reply {
            Reply::One(to) => to.is_some(),
            Reply::Many(many) => many.to.is_some(),
            Reply::Ping => false,
        }
    }
}

impl Many {
    fn accept(&mut self, value: Value, commands: usize) -> Accepted {
        let came = match &mut self.fence {
            None => Some(result(value)),
            Some(fence) if fence.is(&value) => {
                let refused = std::mem::take(&mut fence.refused);
                fence.number += 1;
                (!refused).then_some(Ok(Value::Null))
            }
            Some(Fence { refused, .. }) => match value {
                Value::Error(error) if !*refused => {
                    *refused = true;
                    self.came.push(if self.to.is_some() { Err(CallError::Refused(error)) } else { Ok(Value::Null) });
                    return Accepted::More;
                }
                _ => return Accepted::OutOfStep,
            },
        };
        // What nobody waits for any more is counted, not kept.
        self.came.extend(came.map(|came| if self.to.is_some() { came } else { Ok(Value::Null) }));
        if self.came.len() < commands {
            return Accepted::More;
        }
        if let Some(to) = self.to.take() {
            drop(to.send(std::mem::take(&mut self.came)));
        }
        Accepted::Complete
    }
}

impl Fence {
    /// Whether this is the answer to the fence. Servers that do not know its command, such as sentinels, quote it in the error.
    fn is(&self, value: &Value) -> bool {
        let text = fence_text(self.number);
        match value {
            Value::Error(error) => error.line().contains(&text),
            value => value.bytes().is_some_and(|bytes| bytes == text.as_bytes()),
        }
    }
}

fn result(value: Value) -> Result<Value, CallError> {
    match value {
        Value::Error(error) => Err(CallError::Refused(error)),
        value => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ServerError;

    fn error(line: &'static str) -> Value {
        Value::Error(ServerError::new(line))
    }

    fn fence(number: u64) -> Value {
        Value::Bulk(fence_text(number).into())
    }

    /// Two fenced commands, the first fence of number 9, and where their answers go.
    fn fenced() -> (Pending, oneshot::Receiver<Vec<Result<Value, CallError>>>) {
        let (to, answers) = oneshot::channel();
        let many = Many { to: Some(to), came: Vec::new(), fence: Some(Fence { number: 9, refused: false }) };
        let pending = Pending { reply: Reply::Many(many), deadline: Instant::now(), for_link: false, len_bytes: 0, commands: 2 };
        (pending, answers)
    }

    #[test]
    fn a_fence_tells_which_command_was_refused() {
        let (mut pending, mut answers) = fenced();
        assert_eq!(pending.accept(error("MOVED 1 host:1")), Accepted::More);
        assert_eq!(pending.accept(fence(9)), Accepted::More);
        assert_eq!(pending.accept(fence(10)), Accepted::Complete);
        let refused = CallError::Refused(ServerError::new("MOVED 1 host:1"));
        assert_eq!(answers.try_recv(), Ok(vec![Err(refused), Ok(Value::Null)]));
    }

    #[test]
    fn a_server_that_does_not_know_the_fence_answers_it_nevertheless() {
        let (mut pending, mut answers) = fenced();
        assert_eq!(pending.accept(error("ERR unknown command 'ECHO', with args beginning with: 'fence:9;' ")), Accepted::More);
        assert_eq!(pending.accept(fence(10)), Accepted::Complete);
        assert_eq!(answers.try_recv(), Ok(vec![Ok(Value::Null), Ok(Value::Null)]));
    }

    #[test]
    fn what_is_not_owed_is_out_of_step() {
        for answers in [vec![fence(10)], vec![error("ERR one"), error("ERR two")], vec![Value::Integer(1)]] {
            let (mut pending, _answers) = fenced();
            let last = answers.into_iter().map(|answer| pending.accept(answer)).last();
            assert_eq!(last, Some(Accepted::OutOfStep));
        }
    }

    #[test]
    fn answers_keep_their_place_after_the_time_is_over() {
        let (mut pending, mut answers) = fenced();
        assert_eq!(pending.accept(fence(9)), Accepted::More);
        pending.fail(&CallError::Overloaded);
        assert_eq!(answers.try_recv(), Ok(vec![Ok(Value::Null), Err(CallError::Overloaded)]));
        assert_eq!(pending.accept(error("ERR late")), Accepted::More);
        assert_eq!(pending.accept(fence(10)), Accepted::Complete);
    }
}
