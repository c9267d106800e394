//! Listening to topics: a line for each publication, a status line for everything else.

use std::{future::Future, io, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt, stream::SelectAll};
use serde::Serialize;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::{Client, Closed, Event, Gap, GapReason, Publication, Since, State, SubscribeConfig, SubscribeError, Subscribed, Unsubscribed};

/// Most events that share a write.
const EVENTS_PER_WRITE: usize = 256;

/// What to listen to, and how lines look.
#[derive(Clone, Debug, Default)]
pub struct Listen {
    /// The topics.
    pub topics: Vec<String>,
    /// Where each topic is resumed from.
    pub since: Option<Since>,
    /// How lines look.
    pub format: LineFormat,
    /// End after so many publications.
    pub count: Option<u64>,
}

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LineFormat {
    /// The data as it was published.
    #[default]
    Raw,
    /// The objects of the plain protocol's envelope: `{"broker":"publication","topic":..,"position":..,"data":..}`; also
    /// `snapshot` and `gap`, so that a program that reads the lines need not read the status.
    Envelope,
}

/// How listening ended.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Heard {
    /// After the wanted number of publications.
    Enough,
    /// The program wanted to stop, or nobody reads the lines any more.
    Stopped,
}

/// Why listening cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// A topic cannot be listened to.
    #[error(transparent)]
    Subscribe(#[from] SubscribeError),
    /// Every subscription is over; the status lines say why.
    #[error("no subscription is left")]
    NothingLeft,
    /// The client closed for good.
    #[error("the connection is closed for good: {0}")]
    Closed(Closed),
    /// The lines cannot be written.
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
}

/// Writes a line to `out` for each publication, and to `status` what else happens, until `stop` is done. Goes on over
/// reconnects, recovering what was missed.
///
/// Cancel: lines may be half written.
pub async fn listen(
    client: &Client,
    listen: Listen,
    out: impl AsyncWrite + Unpin,
    status: impl AsyncWrite + Unpin,
    stop: impl Future<Output = ()>,
) -> Result<Heard, ListenError> {
    let mut printer = Printer { out, status, format: listen.format, left: listen.count, lines: String::new(), remarks: String::new() };
    let mut events = SelectAll::new();
    for topic in listen.topics {
        let topic: Arc<str> = topic.into();
        let config = SubscribeConfig { since: listen.since.clone(), ..SubscribeConfig::default() };
        let subscription = client.subscribe(topic.clone(), config)?;
        events.push(subscription.map(move |event| (topic.clone(), event)));
    }
    let mut connection = client.states();
    let mut stop = std::pin::pin!(stop);
    while printer.left != Some(0) {
        tokio::select! {
            biased;
            () = &mut stop => return Ok(Heard::Stopped),
            state = connection.next() => match state {
                Some(State::Closed(closed)) => return Err(ListenError::Closed(closed)),
                Some(state) => printer.state(&state),
                None => return Err(ListenError::NothingLeft),
            },
            event = events.next() => {
                let Some((topic, event)) = event else { return Err(ListenError::NothingLeft) };
                printer.event(&topic, event);
                // What is there already shares a write.
                for _ in 0..EVENTS_PER_WRITE {
                    let Some(Some((topic, event))) = events.next().now_or_never() else { break };
                    printer.event(&topic, event);
                }
            }
        }
        match printer.flush().await {
            // Whoever read the lines has seen enough: `... | head`.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Heard::Stopped),
            flushed => flushed?,
        }
    }
    Ok(Heard::Enough)
}

struct Printer<O, S> {
    out: O,
    status: S,
    format: LineFormat,
    /// Publications that are still wanted.
    left: Option<u64>,
    lines: String,
    remarks: String,
}

/// The frames of the plain protocol's envelope.
#[derive(Default, Serialize)]
struct Envelope<'a> {
    broker: &'static str,
    topic: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a crate::Payload>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<&'a std::collections::BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missed: Option<u64>,
}

impl<O: AsyncWrite + Unpin, S: AsyncWrite + Unpin> Printer<O, S> {
    fn event(&mut self, topic: &str, event: Event) {
        match event {
            Event::Publication(publication) => self.publication(topic, &publication),
            Event::Subscribed(subscribed) => self.subscribed(topic, &subscribed),
            Event::Gap(gap) => self.gap(topic, gap),
            Event::Join(who) => self.remark(&format!("{topic}: {} came", who.user)),
            Event::Leave(who) => self.remark(&format!("{topic}: {} went", who.user)),
            Event::Unsubscribed(Unsubscribed::Refused(refusal)) => self.remark(&format!("{topic}: refused: {refusal}")),
            Event::Unsubscribed(Unsubscribed::ByServer { code, reason }) => {
                self.remark(&format!("{topic}: unsubscribed by the server: {reason} ({code})"));
            }
            Event::Unsubscribed(Unsubscribed::Closed(closed)) => self.remark(&format!("{topic}: {closed}")),
        }
    }

    fn state(&mut self, state: &State) {
        match state {
            State::Live { session } => self.remark(&format!("connected, session {session}")),
            State::Reconnecting { next_in, why } => {
                let tenths = Duration::from_millis(next_in.as_millis() as u64 / 100 * 100);
                let when = if tenths.is_zero() { "at once".to_owned() } else { format!("in {tenths:?}") };
                self.remark(&format!("reconnecting {when}: {why}"));
            }
            State::Connecting | State::Closed(_) => {}
        }
    }

    fn publication(&mut self, topic: &str, publication: &Publication) {
        if self.left == Some(0) {
            return;
        }
        self.left = self.left.map(|left| left - 1);
        match self.format {
            LineFormat::Raw => self.line(publication.data.as_str()),
            LineFormat::Envelope => self.envelope(&Envelope {
                broker: "publication",
                topic,
                position: publication.position.as_ref().map(ToString::to_string),
                data: Some(&publication.data),
                tags: Some(&publication.tags).filter(|tags| !tags.is_empty()),
                time: publication.published_at_ms,
                ..Envelope::default()
            }),
        }
    }

    fn subscribed(&mut self, topic: &str, subscribed: &Subscribed) {
        let position = subscribed.position.as_ref().map(ToString::to_string);
        let at = position.as_ref().map(|position| format!(" at {position}")).unwrap_or_default();
        let recovered = if subscribed.recovered == Some(true) { ", nothing missed" } else { "" };
        self.remark(&format!("{topic}: subscribed{at}{recovered}"));
        if let Some(snapshot) = &subscribed.snapshot {
            match self.format {
                LineFormat::Raw => self.line(snapshot.as_str()),
                LineFormat::Envelope => {
                    self.envelope(&Envelope { broker: "snapshot", topic, position, data: Some(snapshot), ..Envelope::default() });
                }
            }
        }
    }

    fn gap(&mut self, topic: &str, gap: Gap) {
        let (word, why) = match gap.reason {
            GapReason::NotRecovered => ("trimmed", "the broker no longer keeps what was missed"),
            GapReason::NoHistory => ("trimmed", "the topic keeps no history of what came while there was no connection"),
            GapReason::SlowReader => ("slow_consumer", "the output was not read in time"),
        };
        let missed = gap.missed.map(|missed| format!("{missed} ")).unwrap_or_default();
        self.remark(&format!("{topic}: {missed}publications may be missing here: {why}"));
        if self.format == LineFormat::Envelope {
            self.envelope(&Envelope { broker: "gap", topic, reason: Some(word), missed: gap.missed, ..Envelope::default() });
        }
    }

    fn envelope(&mut self, envelope: &Envelope<'_>) {
        let line = serde_json::to_string(envelope).expect("an envelope is a map with text keys");
        self.line(&line);
    }

    fn line(&mut self, line: &str) {
        self.lines.push_str(line);
        self.lines.push('\n');
    }

    fn remark(&mut self, remark: &str) {
        self.remarks.push_str(remark);
        self.remarks.push('\n');
    }

    async fn flush(&mut self) -> io::Result<()> {
        if !self.remarks.is_empty() {
            // A status that nobody reads is no reason to stop.
            let _ = self.status.write_all(self.remarks.as_bytes()).await;
            let _ = self.status.flush().await;
            self.remarks.clear();
        }
        if !self.lines.is_empty() {
            self.out.write_all(self.lines.as_bytes()).await?;
            self.out.flush().await?;
            self.lines.clear();
        }
        Ok(())
    }
}
