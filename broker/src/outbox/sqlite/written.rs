//! How a publication is written down in a row: its data as bytes, what else was said of it as JSON.

use std::{sync::Arc, time::Duration};

use broker_core::{Except, Payload, PayloadKind, Publish, SessionId, SessionInfo, Tags, UserId, Version};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What was said of a publication beside its data. What was not said is left out; what a later version adds is passed over.
#[derive(Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
struct Options {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "is_no")]
    removed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<Tags>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<(u64, Option<String>)>,
    #[serde(skip_serializing_if = "is_no")]
    skip_history: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    except_users: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    except_sessions: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    publisher: Option<Publisher>,
}

/// The session that publishes.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Publisher {
    session: String,
    user: String,
    info: Option<String>,
    topic_info: Option<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_no(yes: &bool) -> bool {
    !yes
}

/// Kind of the data, and everything else as JSON; `None`: nothing else was said.
pub(super) fn write(publish: &Publish) -> (i64, Option<String>) {
    let except = publish.except.as_deref();
    let options = Options {
        key: publish.key.as_deref().map(Into::into),
        removed: publish.removed,
        tags: publish.tags.as_deref().cloned(),
        ttl_ms: publish.ttl.map(|ttl| ttl.as_millis() as u64),
        version: publish.version.as_ref().map(|version| (version.number, version.epoch.as_deref().map(Into::into))),
        skip_history: publish.skip_history,
        except_users: except.iter().flat_map(|except| &except.users).map(|user| user.as_str().to_owned()).collect(),
        except_sessions: except.iter().flat_map(|except| &except.sessions).map(ToString::to_string).collect(),
        publisher: publish.publisher.as_deref().map(|info| Publisher {
            session: info.session.to_string(),
            user: info.user.as_str().to_owned(),
            info: info.info.as_ref().map(text),
            topic_info: info.topic_info.as_ref().map(text),
        }),
    };
    let kind = match publish.data.kind() {
        PayloadKind::Json => 0,
        PayloadKind::Text => 1,
        PayloadKind::Binary => 2,
    };
    let json = (options != Options::default()).then(|| serde_json::to_string(&options).expect("maps with text keys are JSON"));
    (kind, json)
}

/// What was written down. A text that does not read back is the work of another program.
pub(super) fn read(kind: i64, data: Vec<u8>, options: Option<&str>) -> Result<Publish, String> {
    let payload = match kind {
        0 => Payload::json(data),
        1 => Payload::text(String::from_utf8(data).map_err(|error| error.to_string())?),
        2 => Payload::binary(data),
        other => return Err(format!("data of kind {other}")),
    };
    let mut publish = Publish::new(payload);
    let Some(options) = options else { return Ok(publish) };
    let options: Options = serde_json::from_str(options).map_err(|error| error.to_string())?;
    publish.key = options.key.map(Into::into);
    publish.removed = options.removed;
    publish.ttl = options.ttl_ms.map(Duration::from_millis);
    publish.skip_history = options.skip_history;
    if let Some(tags) = options.tags {
        publish = publish.tags(tags);
    }
    if let Some((number, epoch)) = options.version {
        publish = publish.version(Version { number, epoch: epoch.map(Into::into) });
    }
    if let Some(publisher) = options.publisher {
        publish = publish.publisher(Arc::new(SessionInfo {
            session: session(&publisher.session)?,
            user: UserId::from(publisher.user),
            info: publisher.info.map(Bytes::from),
            topic_info: publisher.topic_info.map(Bytes::from),
        }));
    }
    let mut except = Except::nobody();
    for user in options.except_users {
        except = except.user(user);
    }
    for id in &options.except_sessions {
        except = except.session(session(id)?);
    }
    Ok(publish.except(except))
}

fn session(id: &str) -> Result<SessionId, String> {
    id.parse().map_err(|error: broker_core::InvalidSessionId| error.to_string())
}

/// Infos are JSON, so they are text.
fn text(json: &Bytes) -> String {
    String::from_utf8_lossy(json).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(publish: &Publish, written: Option<&str>) {
        let (kind, options) = write(publish);
        assert_eq!(options.as_deref(), written);
        let back = read(kind, publish.data.bytes().to_vec(), options.as_deref()).unwrap();
        assert_eq!(format!("{back:?}"), format!("{publish:?}"));
    }

    #[test]
    fn everything_that_was_said_of_a_publication_reads_back() {
        check(&Publish::new(Payload::json(r#"{"name":"홍길동"}"#)), None);
        check(&Publish::new(Payload::binary(vec![0, 255])).skip_history(), Some(r#"{"skip_history":true}"#));
        let session = SessionId::from_random(7);
        let info = SessionInfo { session, user: "ris1".into(), info: Some(Bytes::from("{}")), topic_info: None };
        let everything = Publish::new(Payload::text("text"))
            .key("o7")
            .removed()
            .tags([("modality".to_owned(), "MRI".to_owned())].into())
            .ttl(Duration::from_secs(3))
            .version(Version::new(4).epoch("e"))
            .publisher(Arc::new(info))
            .except(Except::nobody().user("ris1").session(session));
        let (_, options) = write(&everything);
        check(&everything, options.as_deref());
    }

    #[test]
    fn what_another_program_wrote_is_told_not_published() {
        assert_eq!(read(9, Vec::new(), None).unwrap_err(), "data of kind 9");
        assert!(read(0, b"1".to_vec(), Some("{")).is_err());
        assert!(read(0, b"1".to_vec(), Some(r#"{"except_sessions":["x"]}"#)).is_err());
    }
}
