//! From a request's head to an open connection of the engine, whatever pipe it will have.

use std::sync::Arc;

use broker_core::{Connect, Connection, Cursor, Framing, Head, OpenRefused, Opening, Protocol, Refusal, RefusalKind, Start, Subscribe};
use broker_http::SseTopics;
use broker_protocol::{CentrifugeJson, NoProtobuf, Plain, SseFraming};
use broker_ws::{ClientAddress, Pending, WebSocketFraming};

use super::{
    credentials::{Credentials, credentials, offered, without_secrets},
    events::EventsRequest,
    plain::{PlainRequest, protocol},
    query::Query,
    routes::{Routes, Target},
};
use crate::broker::Shared;

/// The subprotocol that says JSON, which is also what is spoken without one.
const CENTRIFUGE_JSON: &str = "centrifuge-json";
/// The subprotocol that says Protobuf.
const CENTRIFUGE_PROTOBUF: &str = "centrifuge-protobuf";

/// The kind of pipe that a connection will have.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Way {
    WebSocket,
    /// With the id that a client brings back.
    Events {
        last_event_id: Option<String>,
    },
}

/// A connection whose topics are live and whose pipe is missing.
pub(crate) struct Opened {
    pub(crate) connection: Connection,
    pub(crate) protocol: Arc<dyn Protocol>,
    /// The subprotocol to answer.
    pub(crate) subprotocol: Option<&'static str>,
    /// For the ids of events.
    pub(crate) topics: SseTopics,
}

/// A connection that must not be.
pub(crate) struct Refused {
    pub(crate) refusal: Refusal,
    /// How the refusal is said over the socket.
    pub(crate) protocol: Arc<dyn Protocol>,
    pub(crate) subprotocol: Option<&'static str>,
}

/// Opens what the head asks for. Cancel-safe: a connection that is not handed out is closed.
///
/// `place` is the connection's among those that have not said who they are, where it has one.
pub(crate) async fn open(shared: &Shared, mut head: Head, place: Option<Pending>, way: Way) -> Result<Opened, Refused> {
    let written = std::mem::take(&mut head.query);
    let found = target(&shared.routes, &head.path, &written);
    head.query = without_secrets(&written);
    let query = Query::parse(&written).unwrap_or_default();
    let admitted = admit(shared, &mut head, place);
    if found == Ok(Target::Centrifuge) {
        let (protocol, subprotocol) = centrifuge(&head, &query);
        // Not from the query: URLs end up in logs, and this protocol has a better place.
        head.token = credentials(&head, &Query::default()).token;
        let opened = admitted.and_then(|()| open_with(shared, head, Start::AwaitConnect, Arc::clone(&protocol), &way));
        return match opened {
            Ok(connection) => Ok(Opened { connection, protocol, subprotocol, topics: SseTopics::default() }),
            Err(refusal) => Err(Refused { refusal, protocol, subprotocol }),
        };
    }
    let Credentials { token, ticket, subprotocol } = credentials(&head, &query);
    let request = admitted.and(found).and_then(|target| match target {
        Target::Plain { topics, format } => match &way {
            Way::WebSocket => PlainRequest::read(topics, format, &query, shared.dev).map(Asked::from),
            Way::Events { last_event_id } => {
                let needs_topic = !shared.routes.is_added(&head.path);
                EventsRequest::read(topics, format, &query, shared.dev, last_event_id.as_deref(), needs_topic).map(Asked::from)
            }
        },
        Target::Centrifuge => unreachable!("answered above"),
    });
    let request = match request {
        Ok(request) => request,
        Err(refusal) => {
            // What the gate refuses it logs itself, and a session what it refuses.
            tracing::debug!(why = ?refusal.message, hint = refusal.rule.as_deref(), "a request for a connection was refused");
            let words = protocol(broker_protocol::Format::Raw, &query, shared.dev).unwrap_or(Plain { dev: shared.dev, ..Plain::default() });
            return Err(Refused { refusal, protocol: Arc::new(words), subprotocol });
        }
    };
    let Asked { protocol, connect, subscriptions, topics } = request;
    let start = Start::AtOnce { connect: Connect { token, ticket, ..connect }, subscriptions };
    let refused = |refusal| Refused { refusal, protocol: Arc::clone(&protocol), subprotocol };
    let mut connection = open_with(shared, head, start, Arc::clone(&protocol), &way).map_err(refused)?;
    connection.opened().await.map_err(refused)?;
    Ok(Opened { connection, protocol, subprotocol, topics })
}

/// What a request of the plain protocol asks for, over whatever pipe.
struct Asked {
    protocol: Arc<dyn Protocol>,
    connect: Connect,
    subscriptions: Vec<Subscribe>,
    topics: SseTopics,
}

impl From<PlainRequest> for Asked {
    fn from(request: PlainRequest) -> Self {
        let PlainRequest { protocol, subscriptions, resume } = request;
        let connect = Connect { resume, ..Connect::default() };
        Self { protocol: Arc::new(protocol), connect, subscriptions, topics: SseTopics::default() }
    }
}

impl From<EventsRequest> for Asked {
    fn from(request: EventsRequest) -> Self {
        let topics = request.topics();
        let EventsRequest { protocol, subscriptions, cursor } = request;
        Self {
            protocol: Arc::new(protocol),
            connect: Connect { cursor: cursor.map(|cursor| Arc::new(cursor) as Arc<dyn Cursor>), ..Connect::default() },
            subscriptions,
            topics,
        }
    }
}

/// The form of the Centrifuge protocol that is asked for, and the subprotocol to answer: a browser gives up a connection whose offer is not
/// answered.
fn centrifuge(head: &Head, query: &Query) -> (Arc<dyn Protocol>, Option<&'static str>) {
    let bearer = credentials(head, &Query::default()).subprotocol;
    let offers = |name: &str| offered(head).any(|offer| offer.eq_ignore_ascii_case(name));
    let says_protobuf = ["cf_protocol", "format"].iter().any(|name| query.first(name) == Some("protobuf"));
    if offers(CENTRIFUGE_JSON) {
        (Arc::new(CentrifugeJson), Some(CENTRIFUGE_JSON))
    } else if offers(CENTRIFUGE_PROTOBUF) {
        (Arc::new(NoProtobuf), Some(CENTRIFUGE_PROTOBUF))
    } else if says_protobuf {
        (Arc::new(NoProtobuf), bearer)
    } else {
        (Arc::new(CentrifugeJson), bearer)
    }
}

/// What a path and a query mean.
pub(crate) fn target(routes: &Routes, path: &str, query: &str) -> Result<Target, Refusal> {
    let query = Query::parse(query).map_err(|error| Refusal::bad_request(format!("in the query: {error}")))?;
    routes.resolve(path, &query)
}

/// Whether the refusal is about the path, and not about what stands in it.
pub(crate) fn is_unknown_route(refusal: &Refusal) -> bool {
    refusal.kind == RefusalKind::UnknownTopic
}

/// Lets the client in by its address, which stands in the head from here on; the head holds its place until the session is connected.
fn admit(shared: &Shared, head: &mut Head, place: Option<Pending>) -> Result<(), Refusal> {
    let client = head.peer.map(|peer| shared.gate.client(peer, &head.headers));
    head.peer = client.map(ClientAddress::socket_addr);
    let place = shared.gate.admit(client, place)?;
    head.until_connected = Some(Arc::new(place));
    Ok(())
}

fn open_with(shared: &Shared, head: Head, start: Start, protocol: Arc<dyn Protocol>, way: &Way) -> Result<Connection, Refusal> {
    let (framing, transport): (Arc<dyn Framing>, _) = match way {
        Way::WebSocket => (Arc::new(WebSocketFraming), "websocket"),
        Way::Events { .. } => (Arc::new(SseFraming), "sse"),
    };
    let opening = Opening { protocol, framing, outlet: None, head, transport, start };
    shared.engine.open(opening).map_err(|refused| refusal(&refused))
}

fn refusal(refused: &OpenRefused) -> Refusal {
    Refusal::unavailable(refused.to_string()).retry_after(std::time::Duration::from_secs(1))
}
