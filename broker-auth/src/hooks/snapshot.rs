//! The hook `snapshot`: the current state of a topic, asked for once for all who wait. Splicing it with the live stream is the engine's.

use broker_core::{Payload, SnapshotFailed, Topic};
use http::HeaderMap;
use serde::Serialize;

use super::{
    answer::{Malformed, Verdict, read},
    ask::body,
    endpoint::Endpoint,
};

/// Nobody asks in particular: what is answered is for everybody who may listen.
#[derive(Serialize)]
struct Request<'a> {
    channel: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'a str>,
}

/// Asks; a result without data says that there is no snapshot.
pub(super) async fn ask(endpoint: &Endpoint, topic: &Topic) -> Result<Option<Payload>, SnapshotFailed> {
    let written = body(&Request { channel: topic.local(), tenant: topic.tenant() });
    let answered = endpoint.call(written, HeaderMap::new(), |answer| match read(answer)? {
        Verdict::Result(result) => Ok(Ok(result.payload()?)),
        Verdict::Error(refusal) => Ok(Err(SnapshotFailed::new(format!("the application's answer to the hook snapshot: {refusal}")))),
        // Those who wait may be many, and none of them asked.
        Verdict::Disconnect(_) => {
            Err(Malformed { path: "disconnect".to_owned(), what: "must not be there: nobody in particular asked".to_owned() })
        }
    });
    answered.await.map_err(|failed| failed.no_snapshot(endpoint.hook()))?
}
