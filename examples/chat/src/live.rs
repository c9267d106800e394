//! The broker of the chat: who may open a socket and listen, what a new listener gets first, and what becomes of the application's frames.

use std::time::Duration;

use async_trait::async_trait;
use broker::{
    Action, Authorizer, Broker, BuildError, Builder, ByNamespace, ConnectRequest, Decision, Except, Identity, MessageRequest, Namespace,
    Payload, Publish, Refusal, Route, SnapshotFailed, Subject, Topic, Verb,
};

use crate::{
    Refused,
    frames::{Incoming, Opened, Outgoing},
    people::People,
    store::{
        Store,
        messages::{self, Draft, Range},
        sessions,
    },
};

/// Where a client connects to one session: `/ws/chat?sessionId=..&token=..`. Pages listen to many over one socket, at `/ws`.
pub const PATH: &str = "/ws/chat";
/// Topics of sessions.
const NAMESPACE: &str = "chat";
/// What is kept for those who come back soon; who comes later gets the newest messages from the database.
const HISTORY: (usize, Duration) = (500, Duration::from_secs(3600));
/// Messages that a new listener gets first.
const FIRST: u32 = 50;

/// The topic of a session.
pub fn topic(session: &str) -> Result<Topic, Refused> {
    format!("{NAMESPACE}:{}", Topic::encode_level(session)).parse().map_err(|_| Refused::UnknownSession)
}

/// The session that a topic is of.
fn session_of(topic: &Topic) -> Option<&str> {
    topic.local().strip_prefix(NAMESPACE)?.strip_prefix(':')
}

/// A broker that knows these people and sessions.
pub fn broker(builder: Builder, store: &Store, people: &People) -> Result<Broker, BuildError> {
    let sessions = Namespace::default().history(HISTORY.0, HISTORY.1).presence().join_leave().allow(Verb::Subscribe).allow(Verb::Presence);
    let (who, snapshots, heard) = (people.clone(), store.clone(), store.clone());
    builder
        .namespace(NAMESPACE, sessions)
        .route(Route::new(PATH).topic(format!("{NAMESPACE}:{{sessionId}}")))
        .on_connect(move |request| identify(who.clone(), request))
        .authorizer(Members(store.clone()))
        .snapshot(NAMESPACE, move |topic| newest(snapshots.clone(), topic))
        .on_message(move |request| hear(heard.clone(), request))
        .build()
}

/// A token, a ticket, or neither: the first of the three refusals.
async fn identify(people: People, request: ConnectRequest) -> Result<Identity, Refusal> {
    let identity = match (&request.connect.token, &request.connect.ticket) {
        (Some(token), _) => people.by_socket_token(token)?,
        (None, Some(ticket)) => people.by_ticket(ticket).await?,
        (None, None) => return Err(Refused::NoCredentials.into()),
    };
    // Ids of sessions are letters, digits, `-` and `_`, which a query leaves as they are. One with anything else is refused with its topic.
    let named = request.head.query.split('&').find_map(|pair| pair.strip_prefix("sessionId="));
    Ok(match named {
        Some(session) => identity.meta(serde_json::json!(Opened { session: session.to_owned() }).to_string()),
        None => identity,
    })
}

/// Members, and nobody else, listen to a session and see who is there: the other two refusals.
struct Members(Store);

#[async_trait]
impl Authorizer for Members {
    fn decide(&self, subject: &Subject, verb: Verb, topic: &Topic, namespace: &Namespace) -> Decision {
        match ByNamespace.decide(subject, verb, topic, namespace) {
            Decision::Allow if session_of(topic).is_some() => Decision::Ask,
            decision => decision,
        }
    }

    async fn ask(&self, subject: &Subject, _: Verb, topic: &Topic, _: &Namespace) -> Result<(), Refusal> {
        let session = session_of(topic).unwrap_or_default().to_owned();
        let user = subject.user.as_str().to_owned();
        Ok(self.0.read(move |connection| sessions::check_member(connection, &session, &user)).await?)
    }
}

/// What a new listener gets first. Asked once for all who come at the same time, and spliced with what is said meanwhile: nothing is missed between
/// the two; what stands in both has the same id.
async fn newest(store: Store, topic: Topic) -> Result<Payload, SnapshotFailed> {
    let session_id = session_of(&topic).unwrap_or_default().to_owned();
    let session = session_id.clone();
    let messages = store.read(move |connection| messages::page(connection, &session, Range::Newest, FIRST)).await;
    let messages = messages.map_err(|error: Refused| SnapshotFailed::new(error.to_string()))?;
    Ok(Payload::json(Outgoing::History { session_id: &session_id, messages: &messages }.json()))
}

/// What a client says. A message has its place among the writes before anything is awaited, so those of one socket are stored in their order.
async fn hear(store: Store, request: MessageRequest) -> Result<Vec<Action>, Refusal> {
    let frame = Incoming::parse(request.data.bytes())?;
    let user = request.subject.user.as_str().to_owned();
    let session = |named: Option<String>| {
        let of_url = || request.subject.meta().and_then(|meta| Opened::parse(meta)).map(|opened| opened.session);
        named.or_else(of_url).ok_or(Refused::NoSession)
    };
    match frame {
        Incoming::Message { content, client_id, session_id } => {
            let (session, draft) = (session(session_id)?, Draft::parse(content, client_id)?);
            let stored = store.write(move |transaction| messages::append(transaction, &session, &user, draft)).await?;
            let message = &stored.message;
            let client_id = message.client_id.as_deref();
            let sent = Outgoing::Sent { id: message.id, client_id, sent_at: message.sent_at, repeated: stored.repeated };
            Ok(vec![Action::Reply(Payload::json(sent.json()))])
        }
        Incoming::Typing { session_id } => {
            let session = session(session_id)?;
            let (of, who) = (session.clone(), user.clone());
            store.read(move |connection| sessions::check_member(connection, &of, &who)).await?;
            let publish = for_now(&Outgoing::Typing { session_id: &session, user_id: &user }).except(Except::nobody().user(user.as_str()));
            Ok(vec![Action::Publish(topic(&session)?, publish)])
        }
        Incoming::Read { id, session_id } => {
            let session = session(session_id)?;
            let (of, who) = (session.clone(), user.clone());
            let id = store.write(move |transaction| sessions::mark_read(transaction, &of, &who, id)).await?;
            let publish = for_now(&Outgoing::Read { session_id: &session, user_id: &user, id });
            Ok(vec![Action::Publish(topic(&session)?, publish)])
        }
    }
}

/// What is told to those who listen now, and to nobody who comes back: it is old by then.
pub(crate) fn for_now(frame: &Outgoing<'_>) -> Publish {
    Publish::new(Payload::json(frame.json())).skip_history()
}
