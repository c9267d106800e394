//! The handle of a client. What happens behind it lives in `machine` (decisions) and `driver` (sockets, timers).

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};

use crate::{
    CallError, ClientConfig, Closed, HistoryPage, HistoryQuery, InvalidUrl, Notices, Payload, PresenceStats, SessionInfo, Since, State,
    SubscribeConfig, SubscribeError, Subscription, codes,
    driver::{Driver, Input},
    machine::{Answer, CallId, Request},
    queue::Queue,
    registry::Registry,
    transport::Address,
};

/// A connection to a broker that is made again for ever. Cloning gives another handle to the same one.
///
/// A task of the runtime owns the socket. It ends after [`Client::close`], when the server closes for good (close codes 3500
/// to 3999 and 4500 to 4999), or when the last handle and subscription is dropped.
///
/// Calls wait for a connection up to [`ClientConfig::call_timeout`]. What was written to a connection that then ends fails
/// with [`CallError::Cut`]: **nothing is sent twice by itself**, so after a cut it is the application that knows whether
/// publishing again is right.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

/// What all handles of one client share.
pub(crate) struct Shared {
    inbox: mpsc::UnboundedSender<Input>,
    state: watch::Receiver<State>,
    pub(crate) registry: Arc<Registry>,
    room: Arc<Notify>,
    /// One permit for each call without an answer.
    turns: Semaphore,
    last_id: AtomicU64,
}

impl Shared {
    /// Tells the driver; nobody listens once the client is closed.
    pub(crate) fn tell(&self, input: Input) {
        let _ = self.inbox.send(input);
    }

    fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed)
    }
}

impl Client {
    /// Starts to connect, and returns at once; [`Client::live`] waits. A URL without a path means `/connection/websocket`.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, whose timers and I/O it needs.
    pub fn connect(url: &str, config: ClientConfig) -> Result<Self, InvalidUrl> {
        let address = Address::parse(url)?;
        let (inbox, inbox_of_driver) = mpsc::unbounded_channel();
        let (state_of_driver, state) = watch::channel(State::Connecting);
        let (registry, room) = (Arc::new(Registry::default()), Arc::new(Notify::new()));
        let turns = Semaphore::new(config.calls_max.clamp(1, Semaphore::MAX_PERMITS));
        let driver = Driver::new(address, config, inbox_of_driver, state_of_driver, registry.clone(), room.clone());
        tokio::spawn(driver.run());
        Ok(Self(Arc::new(Shared { inbox, state, registry, room, turns, last_id: AtomicU64::new(1) })))
    }

    /// Where the connection stands.
    pub fn state(&self) -> State {
        self.0.state.borrow().clone()
    }

    /// Follows the connection's state.
    pub fn states(&self) -> States {
        let mut states = self.0.state.clone();
        states.mark_changed();
        States(states)
    }

    /// Waits until the client is connected, or closed for good.
    ///
    /// Cancel-safe.
    pub async fn live(&self) -> Result<(), Closed> {
        let mut states = self.0.state.clone();
        let settled = states.wait_for(|state| matches!(state, State::Live { .. } | State::Closed(_))).await;
        match settled.as_deref() {
            Ok(State::Live { .. }) => Ok(()),
            _ => Err(self.closed()),
        }
    }

    /// Listens to a topic. Returns at once: the stream tells when it is live, refused or over.
    pub fn subscribe(&self, topic: impl Into<Arc<str>>, config: SubscribeConfig) -> Result<Subscription, SubscribeError> {
        const TOPIC_MAX: usize = 255;
        let topic = topic.into();
        if topic.is_empty() || topic.len() > TOPIC_MAX || topic.bytes().any(|byte| !byte.is_ascii_graphic()) {
            return Err(SubscribeError::InvalidTopic { topic });
        }
        if let State::Closed(closed) = self.state() {
            return Err(SubscribeError::Closed(closed));
        }
        let id = self.0.next_id();
        if !self.0.registry.insert(&topic, id) {
            return Err(SubscribeError::AlreadySubscribed { topic });
        }
        let queue = Arc::new(Queue::new(config.queue_max, config.queue_max_bytes, self.0.room.clone()));
        let since = if let Some(Since::Position(since)) = &config.since { Some(since.clone()) } else { None };
        let told = self.0.inbox.send(Input::Subscribe { id, topic: topic.clone(), config, queue: queue.clone() });
        if told.is_err() {
            self.0.registry.remove(&topic, id);
            return Err(SubscribeError::Closed(self.closed()));
        }
        Ok(Subscription::new(topic, id, queue, since, self.0.clone()))
    }

    /// What the server says unasked: topics that it subscribed this session to, and messages to it. Without a reader such
    /// notices are dropped. A later call takes over from an earlier one, whose stream then ends.
    pub fn notices(&self) -> Notices {
        let queue = Arc::new(Queue::new(1024, 4 * 1024 * 1024, self.0.room.clone()));
        if self.0.inbox.send(Input::Notices(queue.clone())).is_err() {
            queue.end();
        }
        Notices::new(queue, self.0.clone())
    }

    /// Sends to a topic, and waits for the server's yes.
    ///
    /// Cancel: when the future is dropped the publication may or may not be sent.
    pub async fn publish(&self, topic: impl Into<Arc<str>>, data: Payload) -> Result<(), CallError> {
        match self.ask(Request::Publish { topic: topic.into(), data }).await? {
            Answer::Done => Ok(()),
            _ => Err(CallError::Unreadable),
        }
    }

    /// Sends a message to the server's application. `Ok` means written to a connection: the protocol has no answer to it.
    ///
    /// Cancel: when the future is dropped the message may or may not be sent.
    pub async fn send(&self, data: Payload) -> Result<(), CallError> {
        match self.ask(Request::Send { data }).await? {
            Answer::Done => Ok(()),
            _ => Err(CallError::Unreadable),
        }
    }

    /// Calls a method of the server's application. Called *RPC* on the wire.
    ///
    /// Cancel: when the future is dropped the call may or may not be made.
    pub async fn call(&self, method: impl Into<Box<str>>, data: Payload) -> Result<Payload, CallError> {
        match self.ask(Request::Rpc { method: method.into(), data }).await? {
            Answer::Rpc(data) => Ok(data),
            _ => Err(CallError::Unreadable),
        }
    }

    /// What was sent to a topic.
    ///
    /// Cancel-safe.
    pub async fn history(&self, topic: impl Into<Arc<str>>, query: HistoryQuery) -> Result<HistoryPage, CallError> {
        match self.ask(Request::History { topic: topic.into(), query }).await? {
            Answer::History(page) => Ok(page),
            _ => Err(CallError::Unreadable),
        }
    }

    /// Who listens to a topic.
    ///
    /// Cancel-safe.
    pub async fn presence(&self, topic: impl Into<Arc<str>>) -> Result<Vec<SessionInfo>, CallError> {
        match self.ask(Request::Presence { topic: topic.into() }).await? {
            Answer::Presence(sessions) => Ok(sessions),
            _ => Err(CallError::Unreadable),
        }
    }

    /// How many listen to a topic.
    ///
    /// Cancel-safe.
    pub async fn presence_stats(&self, topic: impl Into<Arc<str>>) -> Result<PresenceStats, CallError> {
        match self.ask(Request::PresenceStats { topic: topic.into() }).await? {
            Answer::PresenceStats(stats) => Ok(stats),
            _ => Err(CallError::Unreadable),
        }
    }

    /// Tries at once instead of waiting for the next try: for programs that are told when the network is back.
    pub fn retry_now(&self) {
        self.0.tell(Input::RetryNow);
    }

    /// Closes for good and waits for the server's goodbye, at most a second. Calls without an answer fail, subscriptions end;
    /// messages that were handed to [`Client::send`] are written first.
    ///
    /// Cancel-safe: it closes even when the future is dropped.
    pub async fn close(&self) {
        self.0.tell(Input::Close);
        let mut state = self.0.state.clone();
        // An error means that the driver is gone: that is the end it waits for.
        while state.changed().await.is_ok() {}
    }

    async fn ask(&self, request: Request) -> Result<Answer, CallError> {
        let Ok(_turn) = self.0.turns.acquire().await else { return Err(CallError::Closed(self.closed())) };
        let call = self.0.next_id();
        let (answer, waiting) = oneshot::channel();
        self.0.tell(Input::Call { call, request, answer });
        let mut guard = CancelOnDrop { client: &self.0, call: Some(call) };
        let answer = waiting.await;
        guard.call = None;
        answer.unwrap_or_else(|_| Err(CallError::Closed(self.closed())))
    }

    /// How it ended; a driver that is gone without a word was torn down with its runtime.
    fn closed(&self) -> Closed {
        match self.state() {
            State::Closed(closed) => closed,
            _ => Closed { code: codes::CLOSED_BY_CLIENT, reason: "the runtime of the client is gone".into() },
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("state", &self.state()).finish_non_exhaustive()
    }
}

/// Tells the driver that nobody waits for a call any more.
struct CancelOnDrop<'a> {
    client: &'a Shared,
    call: Option<CallId>,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(call) = self.call {
            self.client.tell(Input::Cancel(call));
        }
    }
}

/// The states of a client's connection, the current one first. Fast changes are merged: what counts is the newest.
#[derive(Clone, Debug)]
pub struct States(watch::Receiver<State>);

impl States {
    /// The next state; `None` after [`State::Closed`].
    ///
    /// Cancel-safe.
    pub async fn next(&mut self) -> Option<State> {
        self.0.changed().await.ok()?;
        Some(self.0.borrow_and_update().clone())
    }
}
