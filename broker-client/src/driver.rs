//! The background task of a client: carries out the machine's effects on sockets, timers and queues. Decides nothing.

use std::{
    collections::HashMap,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::{
    CallError, ClientConfig, Event, Notice, State, SubscribeConfig, TokenError, Tokens, Unsubscribed,
    machine::{Answer, CallId, Effect, Machine, Request, SubscriptionId, TokenFor},
    queue::{Bounded, Queue},
    registry::Registry,
    transport::{Address, DialError, Heard, Link},
};

/// How long the server may take to answer a close.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);
/// Messages that are handled before other things get their turn.
const MESSAGES_PER_TURN: usize = 32;

/// What handles tell the driver.
pub(crate) enum Input {
    Call { call: CallId, request: Request, answer: oneshot::Sender<Result<Answer, CallError>> },
    Cancel(CallId),
    Subscribe { id: SubscriptionId, topic: Arc<str>, config: SubscribeConfig, queue: Arc<Queue<Event>> },
    Unsubscribe(SubscriptionId),
    Notices(Arc<Queue<Notice>>),
    RetryNow,
    Close,
}

type Dial = Pin<Box<dyn Future<Output = Result<Link, DialError>> + Send>>;
type FetchToken = Pin<Box<dyn Future<Output = (TokenFor, Result<String, TokenError>)> + Send>>;

/// See the module's text.
pub(crate) struct Driver {
    address: Address,
    config: ClientConfig,
    machine: Machine,
    inbox: mpsc::UnboundedReceiver<Input>,
    state: watch::Sender<State>,
    registry: Arc<Registry>,
    dial: Option<Dial>,
    link: Option<Link>,
    tokens: FuturesUnordered<FetchToken>,
    calls: HashMap<CallId, oneshot::Sender<Result<Answer, CallError>>>,
    queues: HashMap<SubscriptionId, Subscriber>,
    notices: Option<Arc<Queue<Notice>>>,
    stall: Stall,
    goodbye: Option<u16>,
}

struct Subscriber {
    topic: Arc<str>,
    queue: Arc<Queue<Event>>,
    tokens: Option<Tokens>,
}

/// Full queues, and since when each holds up the socket.
struct Stall {
    full: Vec<(Instant, Arc<dyn Bounded>)>,
    room: Arc<Notify>,
    timeout: Duration,
}

impl Driver {
    pub(crate) fn new(
        address: Address,
        config: ClientConfig,
        inbox: mpsc::UnboundedReceiver<Input>,
        state: watch::Sender<State>,
        registry: Arc<Registry>,
        room: Arc<Notify>,
    ) -> Self {
        let stall = Stall { full: Vec::new(), room, timeout: config.stall_timeout };
        Self {
            machine: Machine::new(config.clone(), fastrand::u64(..), now()),
            address,
            config,
            inbox,
            state,
            registry,
            dial: None,
            link: None,
            tokens: FuturesUnordered::new(),
            calls: HashMap::new(),
            queues: HashMap::new(),
            notices: None,
            stall,
            goodbye: None,
        }
    }

    /// Runs until the client is closed for good, or nobody holds it any more.
    pub(crate) async fn run(mut self) {
        self.machine.handle_timeout(now());
        loop {
            self.apply();
            if self.machine.is_closed() {
                return self.finish().await;
            }
            self.turn().await;
        }
    }

    /// Waits for whatever comes first, and hands it to the machine.
    async fn turn(&mut self) {
        self.stall.update();
        let may_read = self.stall.may_read(!self.calls.is_empty());
        let wake_at = [self.machine.next_timeout(), self.stall.deadline()].into_iter().flatten().min();
        let timer = async {
            match wake_at {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            input = self.inbox.recv() => self.inputs(input),
            heard = poll_fn(|cx| self.link.as_mut().map_or(Poll::Pending, |link| link.poll(cx, may_read))) => self.heard(heard).await,
            dialled = poll_fn(|cx| self.dial.as_mut().map_or(Poll::Pending, |dial| dial.as_mut().poll(cx))) => self.dialled(dialled),
            Some((wanted, token)) = self.tokens.next() => self.machine.handle_token(wanted, token, now()),
            () = self.stall.room.notified(), if !self.stall.full.is_empty() => {}
            () = timer => {
                self.stall.give_up_when_due(now());
                self.machine.handle_timeout(now());
            }
        }
    }

    fn inputs(&mut self, first: Option<Input>) {
        let Some(first) = first else { return self.machine.handle_close() };
        self.input(first);
        while let Ok(input) = self.inbox.try_recv() {
            self.apply();
            self.input(input);
        }
    }

    fn input(&mut self, input: Input) {
        match input {
            Input::Call { call, request, answer } => {
                self.calls.insert(call, answer);
                self.machine.handle_call(call, &request, now());
            }
            Input::Cancel(call) => {
                self.calls.remove(&call);
                self.machine.handle_cancel(call);
            }
            Input::Subscribe { id, topic, config, queue } => {
                self.queues.insert(id, Subscriber { topic: topic.clone(), queue, tokens: config.tokens.clone() });
                self.machine.handle_subscribe(id, topic, config, now());
            }
            Input::Unsubscribe(id) => {
                if let Some(subscriber) = self.queues.remove(&id) {
                    // A queue without a reader holds nobody up.
                    subscriber.queue.end();
                }
                self.machine.handle_unsubscribe(id, now());
            }
            Input::Notices(queue) => {
                if let Some(replaced) = self.notices.replace(queue) {
                    replaced.end();
                }
            }
            Input::RetryNow => self.machine.handle_retry_now(),
            Input::Close => self.machine.handle_close(),
        }
    }

    /// Handles one message of the connection, and those that came with it.
    async fn heard(&mut self, first: Heard) {
        let mut heard = Some(first);
        for _ in 0..MESSAGES_PER_TURN {
            match heard.take() {
                Some(Heard::Text(text)) => self.machine.handle_frame(&text, now()),
                Some(Heard::Closed { code, reason }) => return self.machine.handle_close_code(code, &reason, now()),
                Some(Heard::Broken(why)) => return self.machine.handle_cut(&why, None, now()),
                None => return,
            }
            self.apply();
            self.stall.update();
            let may_read = self.stall.may_read(!self.calls.is_empty());
            heard = poll_fn(|cx| {
                Poll::Ready(match self.link.as_mut().map(|link| link.poll(cx, may_read)) {
                    Some(Poll::Ready(heard)) => Some(heard),
                    _ => None,
                })
            })
            .await;
        }
        match heard {
            Some(Heard::Text(text)) => self.machine.handle_frame(&text, now()),
            Some(Heard::Closed { code, reason }) => self.machine.handle_close_code(code, &reason, now()),
            Some(Heard::Broken(why)) => self.machine.handle_cut(&why, None, now()),
            None => {}
        }
    }

    fn dialled(&mut self, dialled: Result<Link, DialError>) {
        self.dial = None;
        match dialled {
            Ok(link) => {
                self.link = Some(link);
                self.machine.handle_open(now());
            }
            Err(error) => self.machine.handle_cut(&error.why, error.wait_min, now()),
        }
    }

    /// Carries out what the machine wants.
    fn apply(&mut self) {
        for effect in self.machine.take_effects() {
            match effect {
                Effect::FetchToken(wanted) => self.fetch_token(wanted),
                Effect::Dial => self.dial = Some(Box::pin(Link::dial(self.address.clone(), self.config.clone()))),
                Effect::Write(line) => {
                    if let Some(link) = &mut self.link {
                        link.write(line);
                    }
                }
                Effect::Hangup(goodbye) => {
                    self.dial = None;
                    self.goodbye = goodbye;
                    if goodbye.is_none() {
                        self.link = None;
                    }
                }
                Effect::Answer(call, answer) => {
                    if let Some(waiting) = self.calls.remove(&call) {
                        // Whoever dropped the future does not want the answer.
                        let _ = waiting.send(answer);
                    }
                }
                Effect::Deliver(id, event) => self.deliver(id, event),
                Effect::Notice(notice) => {
                    if let Some(notices) = &self.notices {
                        notices.push(notice);
                        self.stall.watch(notices);
                    }
                }
                Effect::State(state) => {
                    tracing::debug!(?state, "connection");
                    self.state.send_replace(state);
                }
            }
        }
    }

    fn deliver(&mut self, id: SubscriptionId, event: Event) {
        let Some(subscriber) = self.queues.get(&id) else { return };
        let is_last = matches!(event, Event::Unsubscribed(_));
        if is_last {
            // Before the event can be seen, so that who sees it can subscribe again.
            self.registry.remove(&subscriber.topic, id);
        }
        subscriber.queue.push(event);
        if is_last {
            self.queues.remove(&id);
        } else {
            self.stall.watch(&subscriber.queue);
        }
    }

    fn fetch_token(&mut self, wanted: TokenFor) {
        let tokens = match wanted {
            TokenFor::Connection => self.config.tokens.clone(),
            TokenFor::Subscription(id) => self.queues.get(&id).and_then(|subscriber| subscriber.tokens.clone()),
        };
        let Some(tokens) = tokens else { return };
        let timeout = self.config.token_timeout;
        self.tokens.push(Box::pin(async move {
            let token = tokio::time::timeout(timeout, tokens.start()).await;
            (wanted, token.unwrap_or_else(|_| Err(TokenError::Unavailable(format!("no token within {timeout:?}")))))
        }));
    }

    /// Says goodbye to the server and to everyone who waits.
    async fn finish(mut self) {
        if let (Some(link), Some(code)) = (self.link.take(), self.goodbye) {
            link.goodbye(code, GOODBYE_TIMEOUT).await;
        }
        if let Some(notices) = &self.notices {
            notices.end();
        }
        self.inbox.close();
        let State::Closed(closed) = self.state.borrow().clone() else { return };
        while let Ok(input) = self.inbox.try_recv() {
            match input {
                Input::Call { answer, .. } => {
                    let _ = answer.send(Err(CallError::Closed(closed.clone())));
                }
                Input::Subscribe { queue, .. } => queue.push(Event::Unsubscribed(Unsubscribed::Closed(closed.clone()))),
                Input::Notices(queue) => queue.end(),
                Input::Cancel(_) | Input::Unsubscribe(_) | Input::RetryNow | Input::Close => {}
            }
        }
    }
}

impl Stall {
    /// Something was put into this queue.
    fn watch<Q: Bounded + 'static>(&mut self, queue: &Arc<Q>) {
        let address = Arc::as_ptr(queue).cast::<()>();
        let known = self.full.iter().any(|(_, other)| Arc::as_ptr(other).cast::<()>() == address);
        if !known && queue.is_full() {
            self.full.push((now(), queue.clone()));
        }
    }

    /// Forgets queues that have room again.
    fn update(&mut self) {
        self.full.retain(|(_, queue)| queue.is_full());
    }

    /// A full queue holds up the socket. While an application waits for an answer it may not be able to read its
    /// events, so the socket is read on, up to twice a full queue.
    fn may_read(&self, awaiting_answers: bool) -> bool {
        self.full.is_empty() || (awaiting_answers && !self.full.iter().any(|(_, queue)| queue.is_crammed()))
    }

    /// When the first of them was waited for long enough.
    fn deadline(&self) -> Option<Instant> {
        self.full.iter().map(|(since, _)| *since + self.timeout).min()
    }

    fn give_up_when_due(&mut self, now: Instant) {
        for (_, queue) in self.full.extract_if(.., |(since, _)| *since + self.timeout <= now) {
            queue.lag();
        }
    }
}

/// The runtime's clock, which tests can pause.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
