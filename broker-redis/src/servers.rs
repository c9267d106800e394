//! The servers, and which link a call takes: one for publishes and one for reads to each primary, so that a large read delays no publish.
//! What comes by itself lives in `bus`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use broker_resp::{CallError, Command, Link, LinkState, Value, Wait};

use crate::{
    failure::Failure,
    keys::Group,
    script::{Call, Script},
};

/// What a call is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Lane {
    /// What changes something, and must not wait behind reads.
    Publish,
    /// Reads, and whatever is in no hurry.
    Read,
}

/// All servers, whichever way they are arranged. Cloning copies a pointer.
#[derive(Clone)]
pub(crate) struct Servers {
    primary: Arc<Primary>,
}

/// The links to one primary.
struct Primary {
    publish: Link,
    read: Link,
}

/// A server that has just gone may be back, or replaced, in a moment; one that has been gone for longer fails calls at once.
const GRACE: Duration = Duration::from_millis(250);
/// Pause before a call is tried again.
const PAUSE: Duration = Duration::from_millis(20);

impl Servers {
    pub(crate) fn standalone(publish: Link, read: Link) -> Self {
        Self { primary: Arc::new(Primary { publish, read }) }
    }

    /// Calls the primary that has these names.
    pub(crate) async fn call(&self, lane: Lane, group: &Group, command: &Command, timeout: Duration) -> Result<Value, Failure> {
        Ok(self.link(lane, group).call(command, Wait::at_most(timeout)).await?)
    }

    /// Calls the primary that has these names, several commands in order.
    pub(crate) async fn call_many(&self, lane: Lane, group: &Group, commands: &[Command], timeout: Duration) -> Vec<Result<Value, Failure>> {
        let answers = self.link(lane, group).call_many(commands, Wait::at_most(timeout)).await;
        answers.into_iter().map(|answer| answer.map_err(Failure::from)).collect()
    }

    /// Runs a script on the primary that has these names, once. A server that does not know the script is told it.
    pub(crate) async fn eval(&self, lane: Lane, group: &Group, script: &Script, call: &Call, timeout: Duration) -> Result<Value, Failure> {
        let link = self.link(lane, group);
        match link.call(&call.command, Wait::at_most(timeout)).await {
            Err(CallError::Refused(error)) if error.is("NOSCRIPT") => {
                let answers = link.call_many(&[script.load(), call.command.clone()], Wait::at_most(timeout)).await;
                let answer = answers.into_iter().nth(1).unwrap_or(Ok(Value::Null));
                Ok(answer?)
            }
            answer => Ok(answer?),
        }
    }

    /// Runs a script until it has been run or the time is over: a server may be gone for a moment. The script must bear being run again where the
    /// first run is not known to have failed; `again` makes the call for that.
    pub(crate) async fn eval_until(
        &self,
        lane: Lane,
        group: &Group,
        script: &Script,
        call: impl Fn(bool) -> Call,
        timeout: Duration,
    ) -> Result<Value, Failure> {
        let ends_at = Instant::now() + timeout;
        let mut may_have_run = false;
        loop {
            let left = ends_at.saturating_duration_since(Instant::now());
            let failure = match self.eval(lane, group, script, &call(may_have_run), left).await {
                Err(failure @ (Failure::NotDone(_) | Failure::Unknown(_))) => failure,
                answer => return answer,
            };
            may_have_run |= matches!(failure, Failure::Unknown(_));
            let gone_for_long = self.link(lane, group).state().is_gone_for(GRACE);
            if gone_for_long || Instant::now() + PAUSE >= ends_at {
                // What is known of all the tries together.
                return Err(if may_have_run { Failure::Unknown(failure.to_string()) } else { failure });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// How the links are.
    pub(crate) fn states(&self) -> Vec<(String, LinkState)> {
        vec![("publishes".to_owned(), self.primary.publish.state()), ("reads".to_owned(), self.primary.read.state())]
    }

    /// The link to the primary that has these names.
    fn link(&self, lane: Lane, _group: &Group) -> Link {
        match lane {
            Lane::Publish => self.primary.publish.clone(),
            Lane::Read => self.primary.read.clone(),
        }
    }
}

/// How long a link has been without a connection.
trait GoneFor {
    fn is_gone_for(&self, time: Duration) -> bool;
}

impl GoneFor for LinkState {
    fn is_gone_for(&self, time: Duration) -> bool {
        match &self.phase {
            broker_resp::Phase::Connecting { since, .. } => since.elapsed() >= time,
            broker_resp::Phase::Connected { .. } => false,
            _ => true,
        }
    }
}
