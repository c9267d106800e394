//! The handle of a link: calls, their futures, and what can be seen. Who does the work lives in `supervisor`.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use crate::{
    CallError, Command, Events, LinkState, NoAnswer, Options, Target, Value, Wait,
    events::Inbox,
    outbox::Shared,
    pending::{Fence, Many, Reply},
    supervisor,
};

/// One connection to a server that is always coming back. Cloning copies a pointer; dropping the last clone ends it at once.
#[derive(Clone, Debug)]
pub struct Link {
    handle: Arc<Handle>,
}

/// What all clones of a link share: its end is the link's.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.abandon();
    }
}

/// The answer to come of a [`Link::call`]. Dropping it disturbs nobody; the command is sent nevertheless.
#[derive(Debug)]
#[must_use = "the command is sent anyway; whether it worked is known here only"]
pub struct Answer(Result<oneshot::Receiver<Result<Value, CallError>>, CallError>);

/// The answers to come of a [`Link::call_many`] or [`Link::send`]. Dropping it disturbs nobody; the commands are sent nevertheless.
#[derive(Debug)]
#[must_use = "the commands are sent anyway; whether they worked is known here only"]
pub struct Answers {
    commands: usize,
    told: Result<oneshot::Receiver<Results>, CallError>,
}

type Results = Vec<Result<Value, CallError>>;

impl Link {
    /// Starts a link. It begins to connect at once; [`Events`] tells when it has.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with I/O and time.
    pub fn open(target: Target, options: Options) -> (Self, Events) {
        let (inbox, events) = Inbox::open(options.events_max_bytes);
        let shared = Arc::new(Shared::new(&options, inbox));
        tokio::spawn(supervisor::run(Arc::clone(&shared), target, options));
        (Self { handle: Arc::new(Handle { shared }) }, events)
    }

    /// Sends a command and answers its reply; an error of the server is [`CallError::Refused`].
    ///
    /// The command is queued before this returns. Without [`Wait::for_link`] it fails at once while there is no connection. The
    /// time is kept with a precision of some milliseconds. Not for commands that are answered by pushes, see [`Link::send`], nor for such that
    /// block (`BLPOP`) longer than [`Options::ping_timeout`], nor for those that change what an answer is (`MONITOR`, `CLIENT REPLY`, `HELLO`).
    pub fn call(&self, command: &Command, wait: impl Into<Wait>) -> Answer {
        let (to, answer) = oneshot::channel();
        let taken = self.shared().take(std::slice::from_ref(command), wait.into(), false, |_| Reply::One(Some(to)));
        Answer(taken.map(|()| answer))
    }

    /// Sends commands one after the other with nothing between them, and answers a reply or an error for each, as many as there are commands.
    ///
    /// A refused command does not keep the next ones from being run. Where the connection is lost or the time is over, the answers
    /// that came are there, and the others say what is known of their command. Otherwise as [`Link::call`].
    pub fn call_many(&self, commands: &[Command], wait: impl Into<Wait>) -> Answers {
        self.many(commands, wait.into(), false)
    }

    /// Sends commands that are answered by pushes: `SUBSCRIBE`, `UNSUBSCRIBE` and their kin.
    ///
    /// Answers for each command [`Value::Null`] once the server has handled it: its confirmations are then in [`Events`]; or [`CallError::Refused`],
    /// such as `MOVED`, `CROSSSLOT`, `NOPERM`. Costs an `ECHO` for each command. Otherwise as [`Link::call_many`].
    pub fn send(&self, commands: &[Command], wait: impl Into<Wait>) -> Answers {
        self.many(commands, wait.into(), true)
    }

    /// Waits until there is a connection, and answers its generation; `None` where the time was over or the link closed before.
    ///
    /// Cancel-safe.
    pub async fn connected(&self, timeout: Duration) -> Option<u64> {
        tokio::time::timeout(timeout, self.shared().connected()).await.ok().flatten()
    }

    /// Ends the connection, if there is one, and connects anew: for whoever knows better that it is of no use, as after a failover.
    pub fn reconnect(&self) {
        self.shared().reconnect();
    }

    /// The link at this moment.
    pub fn state(&self) -> LinkState {
        self.shared().state()
    }

    /// Takes no more calls, waits for the answers that are owed at most so long, and ends the link for all its clones.
    ///
    /// Where it is cancelled, the link goes on ending by itself.
    pub async fn close(&self, timeout: Duration) {
        self.shared().close(Instant::now() + timeout);
        self.shared().ended().await;
    }

    fn many(&self, commands: &[Command], wait: Wait, fenced: bool) -> Answers {
        let (to, answers) = oneshot::channel();
        let reply = |number| {
            let fence = fenced.then_some(Fence { number, refused: false });
            Reply::Many(Many { to: Some(to), came: Vec::new(), fence })
        };
        // Without commands nothing would ever be answered.
        let taken = if commands.is_empty() { Err(CallError::Overloaded) } else { self.shared().take(commands, wait, fenced, reply) };
        Answers { commands: commands.len(), told: taken.map(|()| answers) }
    }

    fn shared(&self) -> &Shared {
        &self.handle.shared
    }
}

impl Future for Answer {
    type Output = Result<Value, CallError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Ok(answer) => Pin::new(answer).poll(context).map(|told| told.unwrap_or(Err(CallError::Unknown(NoAnswer::Closed)))),
            Err(error) => Poll::Ready(Err(error.clone())),
        }
    }
}

impl Future for Answers {
    type Output = Vec<Result<Value, CallError>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let all = |error: CallError, commands| vec![Err(error); commands];
        let commands = self.commands;
        match &mut self.told {
            Ok(answers) => Pin::new(answers).poll(context).map(|told| told.unwrap_or(all(CallError::Unknown(NoAnswer::Closed), commands))),
            Err(error) => Poll::Ready(all(error.clone(), commands)),
        }
    }
}
