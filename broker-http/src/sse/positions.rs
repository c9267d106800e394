//! Where a connection stands in all its topics, and the `id:` lines that say so. Pure: records in, bytes to send out.
//!
//! An id says of every topic what has been sent. So a topic of the URL whose position is not known holds back the events of others, and a gap moves
//! the position with itself: whoever is cut before it comes back with the old one, and is told again.

use broker_core::Position;
use broker_protocol::{CURSOR_TOPICS_MAX, Record, RecordKind, TopicKey, no_history, write_cursor};
use bytes::Bytes;

/// The positions of one connection.
#[derive(Debug)]
pub(crate) struct Positions {
    /// Topics of the URL first.
    topics: Vec<Place>,
    of_url: usize,
    /// Topics of the URL of which nothing is known yet.
    unknown: usize,
    /// Topics of the URL that are not live yet.
    opening: usize,
    has_begun: bool,
    /// A topic found no room.
    is_partial: bool,
    held: Vec<Record>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    topic: TopicKey,
    /// `None`: not known yet.
    position: Option<Position>,
    /// The connection listens to it; otherwise the client has brought the position along.
    is_live: bool,
}

/// The topics of a connection as it is asked for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SseTopics {
    /// Topics of the URL, with the positions from which they resume.
    pub of_url: Vec<(TopicKey, Option<Position>)>,
    /// Where the client stood in topics that the server may choose again.
    pub others: Vec<(TopicKey, Position)>,
}

impl Positions {
    pub(crate) fn new(topics: &SseTopics) -> Self {
        let of_url = topics.of_url.iter().copied();
        let others = topics.others.iter().map(|(topic, position)| (*topic, Some(*position)));
        let places = of_url.chain(others).take(CURSOR_TOPICS_MAX);
        let places: Vec<Place> = places.map(|(topic, position)| Place { topic, position, is_live: false }).collect();
        let unknown = places.iter().filter(|place| place.position.is_none()).count();
        let of_url = topics.of_url.len().min(places.len());
        Self { topics: places, of_url, unknown, opening: of_url, has_begun: false, is_partial: false, held: Vec::new() }
    }

    /// Whether events wait for the position of another topic; whoever hands them over must not wait for room.
    pub(crate) fn is_holding(&self) -> bool {
        self.unknown > 0
    }

    /// The next step of the stream; what is to be sent goes to `out`.
    pub(crate) fn pass(&mut self, record: Record, out: &mut dyn FnMut(Bytes)) {
        if self.unknown == 0 {
            self.begin(out);
            return self.step(record, out);
        }
        let place = self.topics[..self.of_url].iter_mut().find(|place| Some(place.topic) == record.topic && place.position.is_none());
        match place {
            // What is said of a topic before its position is known is said at once, before any id.
            Some(place) => {
                if record.position.is_some() || record.kind == RecordKind::Mark {
                    place.position = Some(record.position.unwrap_or_else(no_history));
                    self.unknown -= 1;
                }
                match record.kind {
                    RecordKind::Event => out(record.body.slice(record.id_len..)),
                    // Steps again when everything is known, to go live in its place.
                    _ => self.held.push(record),
                }
            }
            None if record.topic.is_none() => out(record.body),
            None => self.held.push(record),
        }
        if self.unknown == 0 {
            self.begin(out);
            for record in std::mem::take(&mut self.held) {
                self.step(record, out);
            }
        }
    }

    /// The first id, before the first publication.
    fn begin(&mut self, out: &mut dyn FnMut(Bytes)) {
        if std::mem::replace(&mut self.has_begun, true) {
            return;
        }
        let mut gaps = Vec::new();
        for at in 0..self.held.len() {
            let Record { kind, topic: Some(topic), position: Some(position), .. } = self.held[at] else { continue };
            // A gap moves the position itself, when it is told.
            if kind == RecordKind::Event {
                gaps.push(topic);
            } else if !gaps.contains(&topic) && self.topics.iter().all(|place| place.topic != topic) {
                self.stand(topic, position);
            }
        }
        if !self.topics.is_empty() {
            out(self.id(b"\n\n"));
        }
    }

    fn step(&mut self, record: Record, out: &mut dyn FnMut(Bytes)) {
        match (record.kind, record.topic) {
            (RecordKind::Event, Some(topic)) => {
                if let Some(position) = record.position {
                    self.stand(topic, position);
                }
                if record.position.is_none() || self.is_single() {
                    // The line of those with one topic is the event's own, and they share it.
                    return out(record.body);
                }
                out(self.id(b"\n"));
                out(record.body.slice(record.id_len..));
            }
            (RecordKind::Mark, Some(topic)) => {
                let position = record.position.or_else(|| self.is_of_url(topic).then(no_history));
                let has_moved = position.is_some_and(|position| self.stand(topic, position));
                if self.goes_live(topic) || has_moved {
                    out(self.id(b"\n\n"));
                }
            }
            // A topic of the URL is subscribed to again when the client comes back, from where it stood.
            (RecordKind::Forget, Some(topic)) if !self.is_of_url(topic) => self.topics.retain(|place| place.topic != topic),
            (RecordKind::Event | RecordKind::Comment, None) => out(record.body),
            _ => {}
        }
    }

    /// Moves to a position; whether that changes the cursor.
    fn stand(&mut self, topic: TopicKey, position: Position) -> bool {
        if let Some(place) = self.topics.iter_mut().find(|place| place.topic == topic) {
            return place.position.replace(position) != Some(position);
        }
        if self.topics.len() < CURSOR_TOPICS_MAX {
            self.topics.push(Place { topic, position: Some(position), is_live: false });
            return true;
        }
        !std::mem::replace(&mut self.is_partial, true)
    }

    /// Notes that the connection listens to a topic. Those of the URL come last: what is not live then was brought along in vain, and is forgotten.
    /// Whether that changes the cursor.
    fn goes_live(&mut self, topic: TopicKey) -> bool {
        let Some(at) = self.topics.iter().position(|place| place.topic == topic && !place.is_live) else { return false };
        self.topics[at].is_live = true;
        if at >= self.of_url {
            return false;
        }
        self.opening -= 1;
        let before = self.topics.len();
        if self.opening == 0 {
            self.topics.retain(|place| place.is_live);
        }
        self.topics.len() < before
    }

    fn is_of_url(&self, topic: TopicKey) -> bool {
        self.topics[..self.of_url].iter().any(|place| place.topic == topic)
    }

    /// Whether the one topic is that of the URL, whose position alone is the cursor.
    fn is_single(&self) -> bool {
        self.of_url == 1 && self.topics.len() == 1
    }

    fn id(&self, end: &[u8]) -> Bytes {
        let mut line = b"id: ".to_vec();
        if let Some(position) = self.topics.first().and_then(|place| place.position).filter(|_| self.is_single()) {
            line.extend_from_slice(position.to_string().as_bytes());
        } else {
            let known: Vec<_> = self.topics.iter().filter_map(|place| Some((place.topic, place.position?))).collect();
            write_cursor(&known, !self.is_partial, &mut line);
        }
        line.extend_from_slice(end);
        line.into()
    }
}

#[cfg(test)]
mod tests {
    use broker_core::{FrameWriter, Gap, GapReason, Payload, Protocol, Publication, Publish, Push, Resume, Since, Subscribed};
    use broker_protocol::{Sse, SseCursor, SseFraming};

    use super::*;

    #[test]
    fn one_topic_has_its_position_as_id_and_shares_the_bytes_of_its_events() {
        let mut stream = Stream::new(&[("a", None)]);
        stream.subscribed("a", Some("3@e"), None);
        assert_eq!(stream.sent(), "id: 3@e\n\n");
        let records = record(&publication("a", Some("4@e"), "1"));
        let mut sent = Vec::new();
        stream.positions.pass(records[0].clone(), &mut |bytes| sent.push(bytes));
        assert_eq!(sent, ["id: 4@e\ndata: 1\n\n"]);
        assert_eq!(sent[0].as_ptr(), records[0].body.as_ptr(), "nothing is copied");
    }

    #[test]
    fn several_topics_have_one_cursor_and_the_first_id_waits_for_all() {
        let mut stream = Stream::new(&[("a", None), ("b", None)]);
        stream.subscribed("a", Some("3@e"), None);
        stream.push(&publication("a", Some("4@e"), "1"));
        assert_eq!(stream.sent(), "", "where b stands is not known");
        assert!(stream.positions.is_holding());
        stream.subscribed("b", Some("7@f"), None);
        assert_eq!(stream.sent(), "id: a3@e b7@f\n\nid: a4@e b7@f\ndata: 1\n\n");
        stream.push(&publication("b", Some("8@f"), "2"));
        assert_eq!(stream.sent(), "id: a4@e b8@f\ndata: 2\n\n");
    }

    #[test]
    fn a_resumed_topic_keeps_its_old_position_in_every_id_until_its_gap_is_told() {
        let mut stream = Stream::new(&[("a", Some("3@e")), ("b", Some("7@f"))]);
        let missed = publication("a", Some("4@e"), "1");
        stream.subscribed_with("a", Some("4@e"), Some((Since::Position(at("3@e")), true)), vec![missed]);
        assert_eq!(stream.sent(), "id: a3@e b7@f\n\nid: a4@e b7@f\ndata: 1\n\n");
        stream.subscribed("b", Some("2@g"), Some((Since::Position(at("7@f")), false)));
        let gap = "id: a4@e b2@g\nevent: broker\ndata: {\"broker\":\"gap\",\"topic\":\"b\",\"reason\":\"epoch\"}\n\n";
        assert_eq!(stream.sent(), gap);
    }

    #[test]
    fn a_gap_of_a_topic_that_stood_nowhere_precedes_the_first_id() {
        let mut stream = Stream::new(&[("a", None)]);
        stream.subscribed("a", Some("5@e"), Some((Since::Unreadable, false)));
        let sent = stream.sent();
        assert!(sent.starts_with("event: broker\ndata: {\"broker\":\"gap\",") && sent.ends_with("\n\nid: 5@e\n\n"), "{sent}");
    }

    #[test]
    fn everything_kept_is_sent_with_the_position_before_it_first() {
        let mut stream = Stream::new(&[("a", None)]);
        let missed = vec![publication("a", Some("4@e"), "1"), publication("a", Some("5@e"), "2")];
        stream.subscribed_with("a", Some("6@e"), Some((Since::Beginning, true)), missed);
        assert_eq!(stream.sent(), "id: 3@e\n\nid: 4@e\ndata: 1\n\nid: 5@e\ndata: 2\n\nid: 6@e\n\n");
    }

    #[test]
    fn a_topic_without_history_is_in_the_cursor_and_has_no_lines_of_its_own() {
        let mut stream = Stream::new(&[("a", None)]);
        stream.subscribed("a", None, None);
        stream.push(&publication("a", None, "1"));
        assert_eq!(stream.sent(), "id: 0@-\n\ndata: 1\n\n");
    }

    #[test]
    fn topics_that_the_server_chooses_come_into_the_cursor_and_leave_it() {
        let mut stream = Stream::new(&[("a", None)]);
        stream.subscribed("a", Some("3@e"), None);
        stream.subscribed("group:x", Some("1@g"), None);
        stream.push(&publication("a", Some("4@e"), "1"));
        assert_eq!(stream.sent(), "id: 3@e\n\nid: a3@e group:x1@g\n\nid: a4@e group:x1@g\ndata: 1\n\n");
        let left = Push::Identity { user: broker_core::UserId::anonymous(), left: vec!["group:x".parse().unwrap()], joined: Vec::new() };
        stream.take(&record_of(&left));
        stream.sent();
        stream.push(&publication("a", Some("5@e"), "2"));
        assert_eq!(stream.sent(), "id: 5@e\ndata: 2\n\n");
    }

    #[test]
    fn the_first_id_has_the_topics_of_the_server_which_come_before_those_of_the_url() {
        let mut stream = Stream::new(&[("a", None)]);
        stream.subscribed("group:x", Some("1@g"), None);
        stream.subscribed("a", Some("3@e"), None);
        assert_eq!(stream.sent(), "id: a3@e group:x1@g\n\n");
    }

    #[test]
    fn a_place_in_a_topic_of_the_server_is_kept_until_it_is_clear_that_the_topic_does_not_come_back() {
        let mut stream = Stream::new(&[("a", Some("3@e"))]).with_other("group:x", "1@g");
        stream.subscribed("group:x", Some("2@h"), Some((Since::Position(at("1@g")), false)));
        let sent = stream.sent();
        assert!(sent.starts_with("id: a3@e group:x1@g\n\nid: a3@e group:x2@h\nevent: broker\n"), "{sent}");

        let mut stream = Stream::new(&[("a", Some("3@e"))]).with_other("group:x", "1@g");
        stream.subscribed("a", Some("3@e"), Some((Since::Position(at("3@e")), true)));
        assert_eq!(stream.sent(), "id: a3@e group:x1@g\n\nid: 3@e\n\n");
    }

    #[test]
    fn a_cursor_that_is_full_says_that_something_is_missing() {
        let names: Vec<String> = (0..CURSOR_TOPICS_MAX).map(|n| format!("t{n}")).collect();
        let topics: Vec<_> = names.iter().map(|name| (TopicKey::of(name), Some(at("1@e")))).collect();
        let mut positions = Positions::new(&SseTopics { of_url: topics, others: Vec::new() });
        let mut sent = Vec::new();
        for subscribed in [subscribed("group:x", Some("1@g"), None, Vec::new())] {
            let mut out = Vec::new();
            Sse::default().encode_push(&Push::Subscribed(Box::new(subscribed)), &mut FrameWriter::new(&SseFraming, &mut out));
            let mut bytes = Bytes::from(out);
            while let Some(record) = Record::split_from(&mut bytes) {
                positions.pass(record, &mut |bytes| sent.push(String::from_utf8(bytes.to_vec()).unwrap()));
            }
        }
        let cursor = sent.last().and_then(|line| line.strip_prefix("id: ")).map(|line| SseCursor::parse(line.trim_end()).unwrap()).unwrap();
        assert_eq!(cursor.since("group:x"), Some(Since::Unreadable));
        assert_eq!(cursor.since("t127"), Some(Since::Position(at("1@e"))));
    }

    struct Stream {
        positions: Positions,
        names: Vec<String>,
        sent: String,
    }

    impl Stream {
        fn new(topics: &[(&str, Option<&str>)]) -> Self {
            let keyed: Vec<_> = topics.iter().map(|(name, position)| (TopicKey::of(name), position.map(at))).collect();
            let mut names: Vec<String> = topics.iter().map(|(name, _)| (*name).to_owned()).collect();
            names.push("group:x".to_owned());
            Self { positions: Positions::new(&SseTopics { of_url: keyed, others: Vec::new() }), names, sent: String::new() }
        }

        fn with_other(mut self, topic: &str, position: &str) -> Self {
            let of_url = self.positions.topics.iter().map(|place| (place.topic, place.position)).collect();
            self.positions = Positions::new(&SseTopics { of_url, others: vec![(TopicKey::of(topic), at(position))] });
            self
        }

        fn subscribed(&mut self, topic: &str, position: Option<&str>, resume: Option<(Since, bool)>) {
            self.subscribed_with(topic, position, resume, Vec::new());
        }

        fn subscribed_with(&mut self, topic: &str, position: Option<&str>, resume: Option<(Since, bool)>, missed: Vec<Publication>) {
            let subscribed = subscribed(topic, position, resume, missed);
            self.take(&record_of(&Push::Subscribed(Box::new(subscribed))));
        }

        fn push(&mut self, publication: &Publication) {
            self.take(&record(publication));
        }

        fn take(&mut self, records: &[Record]) {
            for record in records {
                let sent = &mut self.sent;
                self.positions.pass(record.clone(), &mut |bytes| sent.push_str(std::str::from_utf8(&bytes).unwrap()));
            }
        }

        /// What was sent since, with cursors as `a3@e b7@f`.
        fn sent(&mut self) -> String {
            let sent = std::mem::take(&mut self.sent);
            let lines = sent.split_inclusive('\n').map(|line| match line.strip_prefix("id: ").and_then(|line| line.strip_suffix('\n')) {
                Some(cursor) if !cursor.contains('@') => {
                    let cursor = SseCursor::parse(cursor).unwrap();
                    let places = self.names.iter().filter_map(|name| match cursor.since(name)? {
                        Since::Position(position) => Some(format!("{name}{position}")),
                        _ => None,
                    });
                    format!("id: {}\n", places.collect::<Vec<_>>().join(" "))
                }
                _ => line.to_owned(),
            });
            lines.collect()
        }
    }

    fn subscribed(topic: &str, position: Option<&str>, resume: Option<(Since, bool)>, missed: Vec<Publication>) -> Subscribed {
        let gap = Gap { from: None, to: None, reason: GapReason::Epoch };
        Subscribed {
            topic: topic.parse().unwrap(),
            position: position.map(at),
            recoverable: true,
            resume: resume.map(|(since, recovered)| Resume { since, recovered, gap: (!recovered).then_some(gap) }),
            snapshot: None,
            missed: missed.into_iter().map(std::sync::Arc::new).collect(),
            data: None,
            ttl: None,
            keyed: false,
        }
    }

    fn publication(topic: &str, position: Option<&str>, data: &'static str) -> Publication {
        let mut publication = Publication::new(topic.parse().unwrap(), Publish::new(Payload::json(data)));
        publication.position = position.map(at);
        publication
    }

    fn record(publication: &Publication) -> Vec<Record> {
        record_of(&Push::Publication(std::sync::Arc::new(publication.clone())))
    }

    fn record_of(push: &Push) -> Vec<Record> {
        let mut out = Vec::new();
        Sse::default().encode_push(push, &mut FrameWriter::new(&SseFraming, &mut out));
        let mut bytes = Bytes::from(out);
        std::iter::from_fn(|| Record::split_from(&mut bytes)).collect()
    }

    fn at(text: &str) -> Position {
        text.parse().unwrap()
    }
}
