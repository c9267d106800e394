//! Calls: which link one takes, what is done where the server says that another one has the names, and how often it is tried. Which server has which
//! names lives in `topology`, what comes by itself in `bus`.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use broker_resp::{CallError, Command, Link, LinkState, NotSent, Value};
use futures_util::future::join_all;

pub(crate) use crate::topology::Lane;
use crate::{
    failure::Failure,
    keys::Group,
    script::{Call, Script},
    topology::{Arrangement, GoneFor, Primary, Redirect, Topology},
};

/// All servers, whichever way they are arranged. Cloning copies a pointer.
#[derive(Clone)]
pub(crate) struct Servers {
    topology: Arc<Topology>,
}

/// A single server that has just gone may be back in a moment; one that has been gone for longer fails calls at once.
const GRACE: Duration = Duration::from_millis(250);
/// Where others can take over, that is waited for; a server that nobody has replaced in this time fails calls at once.
const TAKEOVER: Duration = Duration::from_secs(15);
/// Time between two tries: doubles from this...
const PAUSE_MIN: Duration = Duration::from_millis(5);
/// ...to this.
const PAUSE_MAX: Duration = Duration::from_millis(50);
/// So often a call follows servers to other ones without a pause.
const REDIRECTS_MAX: u32 = 5;

impl Servers {
    pub(crate) fn new(topology: Arc<Topology>) -> Self {
        Self { topology }
    }

    /// Whether messages go over channels that belong to slots: in a cluster. See [`Servers::publish_word`].
    pub(crate) fn is_sharded(&self) -> bool {
        self.topology.arrangement() == Arrangement::Cluster
    }

    /// The command by which messages reach the [`Bus`](crate::bus::Bus): scripts need its name.
    pub(crate) fn publish_word(&self) -> &'static str {
        if self.is_sharded() { "SPUBLISH" } else { "PUBLISH" }
    }

    /// The command that sends a message over the channel of these names.
    pub(crate) fn message(&self, group: &Group, payload: impl broker_resp::Argument) -> Command {
        Command::new(self.publish_word()).arg(group.channel()).arg(payload)
    }

    /// Calls the primary that has these names. What is known not to have happened is tried again until the time is over.
    pub(crate) async fn call(&self, lane: Lane, group: &Group, command: &Command, timeout: Duration) -> Result<Value, Failure> {
        let tries = Tries { lane, group, script: None, repeats: false, timeout };
        self.try_until(tries, |_| Cow::Borrowed(command)).await
    }

    /// Calls the primary that has these names, several commands in order, once. All of them must be of names that [`Servers::by_primary`] put together.
    pub(crate) async fn call_many(
        &self,
        lane: Lane,
        group: &Group,
        commands: &[Command],
        timeout: Duration,
    ) -> Vec<Result<Value, Failure>> {
        let ends_at = Instant::now() + timeout;
        let Some(primary) = self.topology.owner(group.slot()) else {
            self.topology.doubt();
            return commands.iter().map(|_| Err(self.nobody())).collect();
        };
        let link = self.ready(&primary, lane, ends_at).await;
        let answers = link.call_many(commands, left(ends_at)).await;
        let mut moved = Vec::new();
        let answers = answers.into_iter().map(|answer| {
            answer.map_err(|error| {
                if let Some(Redirect::Moved(slot, owner)) = redirect(&error, &primary) {
                    moved.push((slot, owner));
                } else if is_doubtful(&error) {
                    self.topology.doubt();
                }
                Failure::from(error)
            })
        });
        let answers = answers.collect();
        if !moved.is_empty() {
            self.topology.moved(moved);
        }
        answers
    }

    /// Puts together what one primary has. `group`: the names of an item. Items without a primary are together too.
    pub(crate) fn by_primary<T>(&self, items: impl IntoIterator<Item = T>, group: impl Fn(&T) -> Group) -> Vec<(Group, Vec<T>)> {
        let map = self.topology.map();
        let mut parts: HashMap<Option<usize>, (Group, Vec<T>)> = HashMap::new();
        for item in items {
            let names = group(&item);
            let part = parts.entry(map.place(names.slot())).or_insert_with(|| (names, Vec::new()));
            part.1.push(item);
        }
        parts.into_values().collect()
    }

    /// Calls each primary once for what it has of `commands`, all at the same time. Answers in the order of the commands.
    pub(crate) async fn call_each(&self, lane: Lane, commands: Vec<(Group, Command)>, timeout: Duration) -> Vec<Result<Value, Failure>> {
        let count = commands.len();
        let parts = self.by_primary(commands.into_iter().enumerate(), |(_, (group, _))| group.clone());
        let calls = parts.into_iter().map(|(group, part)| async move {
            let (places, commands): (Vec<usize>, Vec<Command>) = part.into_iter().map(|(place, (_, command))| (place, command)).unzip();
            places.into_iter().zip(self.call_many(lane, &group, &commands, timeout).await).collect::<Vec<_>>()
        });
        let mut answers: Vec<(usize, Result<Value, Failure>)> = join_all(calls).await.into_iter().flatten().collect();
        debug_assert_eq!(answers.len(), count);
        answers.sort_by_key(|(place, _)| *place);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }

    /// Runs a script on the primary that has these names, at most once. A server that does not know the script is told it.
    pub(crate) async fn eval(&self, lane: Lane, group: &Group, script: &Script, call: &Call, timeout: Duration) -> Result<Value, Failure> {
        let tries = Tries { lane, group, script: Some(script), repeats: false, timeout };
        self.try_until(tries, |_| Cow::Borrowed(&call.command)).await
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
        let tries = Tries { lane, group, script: Some(script), repeats: true, timeout };
        self.try_until(tries, |again| Cow::Owned(call(again).command)).await
    }

    /// How the links are, and what is wrong with what is known of the servers.
    pub(crate) fn states(&self) -> Vec<(String, LinkState)> {
        self.topology.states()
    }

    /// Why it is not certain which server has what; `None`: it is.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.topology.trouble()
    }

    pub(crate) fn topology(&self) -> &Arc<Topology> {
        &self.topology
    }

    async fn try_until<'a>(&self, tries: Tries<'_>, command: impl Fn(bool) -> Cow<'a, Command>) -> Result<Value, Failure> {
        let ends_at = Instant::now() + tries.timeout;
        let (mut may_have_run, mut redirects, mut pause) = (false, 0, PAUSE_MIN);
        // What the server itself said last.
        let mut said: Option<String> = None;
        loop {
            let failure = match self.try_once(&tries, &command(may_have_run), ends_at).await {
                Ok(answer) => return Ok(answer),
                Err(Tried::Redirected(_)) if redirects < REDIRECTS_MAX && Instant::now() < ends_at => {
                    redirects += 1;
                    continue;
                }
                Err(Tried::Redirected(failure) | Tried::Failed(failure)) => failure,
            };
            let is_passing = matches!(failure, Failure::NotDone(_)) || tries.repeats && matches!(failure, Failure::Unknown(_));
            may_have_run |= matches!(failure, Failure::Unknown(_));
            let is_said = matches!(&failure, Failure::NotDone(why) if !why.starts_with(Failure::NOT_SENT));
            if is_said {
                said = Some(failure.to_string());
            }
            if !is_passing || self.is_gone_for_long(&tries) || Instant::now() + pause >= ends_at {
                // What is known of all the tries together; that the time was over says less than why it was.
                return Err(match (failure, said) {
                    (failure @ (Failure::Refused(_) | Failure::Unexpected(_)), _) if !may_have_run => failure,
                    (Failure::NotDone(why), said) if !may_have_run => Failure::NotDone(said.unwrap_or(why)),
                    (failure, said) => Failure::Unknown(said.unwrap_or_else(|| failure.to_string())),
                });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Asks the primary that is known to have the names, and whom that one names for this once.
    async fn try_once(&self, tries: &Tries<'_>, command: &Command, ends_at: Instant) -> Result<Value, Tried> {
        let Some(primary) = self.topology.owner(tries.group.slot()) else {
            self.topology.doubt();
            return Err(Tried::Failed(self.nobody()));
        };
        let link = self.ready(&primary, tries.lane, ends_at).await;
        let error = match run(link, tries.script, command, false, ends_at).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        match redirect(&error, &primary) {
            Some(Redirect::Moved(slot, owner)) => {
                self.topology.moved([(slot, owner)]);
                Err(Tried::Redirected(error.into()))
            }
            Some(Redirect::Ask(owner)) => {
                let owner = self.topology.primary(&owner);
                let link = self.ready(&owner, tries.lane, ends_at).await;
                run(link, tries.script, command, true, ends_at).await.map_err(|error| Tried::Failed(error.into()))
            }
            None => {
                if is_doubtful(&error) {
                    self.topology.doubt();
                }
                Err(Tried::Failed(error.into()))
            }
        }
    }

    /// The link, with a connection if it can have one in a moment: it may have been opened for this call.
    async fn ready<'a>(&self, primary: &'a Primary, lane: Lane, ends_at: Instant) -> &'a Link {
        let link = primary.link(lane);
        let state = link.state();
        if !state.is_connected() && !state.is_gone_for(GRACE) {
            let _ = link.connected(left(ends_at).min(GRACE)).await;
        }
        link
    }

    fn is_gone_for_long(&self, tries: &Tries<'_>) -> bool {
        let patience = if self.topology.arrangement() == Arrangement::Standalone { GRACE } else { TAKEOVER };
        let owner = self.topology.owner(tries.group.slot());
        owner.is_some_and(|primary| primary.link(tries.lane).state().is_gone_for(patience))
    }

    fn nobody(&self) -> Failure {
        Failure::NotDone(self.topology.trouble().unwrap_or_else(|| "Redis: no server has the slot of this name".to_owned()))
    }
}

/// What is tried, and how.
struct Tries<'a> {
    lane: Lane,
    group: &'a Group,
    script: Option<&'a Script>,
    /// Also where it may have happened.
    repeats: bool,
    timeout: Duration,
}

/// What one try came to.
enum Tried {
    /// Another server has the names, and is known from here on.
    Redirected(Failure),
    Failed(Failure),
}

/// One command, or one script that the server is told where it does not know it.
async fn run(link: &Link, script: Option<&Script>, command: &Command, asking: bool, ends_at: Instant) -> Result<Value, CallError> {
    let with = |first: Option<Command>| -> Vec<Command> {
        let asking = asking.then(|| Command::new("ASKING"));
        first.into_iter().chain(asking).chain([command.clone()]).collect()
    };
    let answer = if asking { last(link.call_many(&with(None), left(ends_at)).await) } else { link.call(command, left(ends_at)).await };
    match (script, answer) {
        (Some(script), Err(CallError::Refused(error))) if error.is("NOSCRIPT") => {
            last(link.call_many(&with(Some(script.load())), left(ends_at)).await)
        }
        (_, answer) => answer,
    }
}

fn last(answers: Vec<Result<Value, CallError>>) -> Result<Value, CallError> {
    answers.into_iter().next_back().unwrap_or(Err(CallError::NotSent(NotSent::Closed)))
}

fn left(ends_at: Instant) -> Duration {
    ends_at.saturating_duration_since(Instant::now())
}

fn redirect(error: &CallError, asked: &Primary) -> Option<Redirect> {
    if let CallError::Refused(error) = error { Redirect::of(error, asked.address()) } else { None }
}

/// Whether another server may have taken over.
fn is_doubtful(error: &CallError) -> bool {
    match error {
        CallError::Refused(error) => matches!(error.code(), "READONLY" | "CLUSTERDOWN" | "MASTERDOWN" | "MOVED" | "LOADING"),
        CallError::Overloaded => false,
        _ => true,
    }
}
