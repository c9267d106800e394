//! Reads of logs and rows, in parts that Redis can answer in a moment.

use std::{sync::Arc, time::Duration};

use broker_core::{Keep, LogPage, LogQuery, Position, Publication, StatePage, StateQuery, Topic, Unavailable};
use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    answers::{self, LogPart, StatePart},
    calls::Calls,
    entry,
    failure::Failure,
    follow::Told,
    frame::{self, Logged},
    keys::Group,
    script,
    servers::{Lane, Servers},
};

/// Reads topics.
pub(crate) struct Reading {
    pub(crate) servers: Servers,
    pub(crate) calls: Arc<Calls>,
    pub(crate) told: Arc<Told>,
    pub(crate) timeout: Duration,
}

/// A history that begins anew while it is read is read again, but not for ever.
const TRIES_MAX: usize = 5;

impl Reading {
    /// Reads a log as far as was asked, or to its end.
    pub(crate) async fn history(&self, topic: &Topic, query: LogQuery, keep: Keep) -> Result<LogPage, Unavailable> {
        for _ in 0..TRIES_MAX {
            if let Some(page) = self.try_history(topic, query, keep).await? {
                return Ok(page);
            }
        }
        Err(Unavailable("the history begins anew faster than it can be read".to_owned()))
    }

    /// `None`: another life of the history began between two parts.
    async fn try_history(&self, topic: &Topic, query: LogQuery, keep: Keep) -> Result<Option<LogPage>, Unavailable> {
        let group = self.calls.keys.topic(topic);
        let part = self.log_part(&group, query, keep).await?;
        let page = LogPage { top: part.top, kept_from: 0, publications: Vec::new(), next: None };
        let mut read = LogRead { topic, told: &self.told, query, has_rows: keep.state.is_some(), page, bytes: 0 };
        let mut next = read.add(part, query.after);
        while let Some(after) = next {
            let rest = LogQuery { after: Some(after), limit: query.limit.map(|limit| limit - read.page.publications.len()), ..query };
            let part = self.log_part(&group, rest, keep).await?;
            if part.top.epoch != read.page.top.epoch {
                return Ok(None);
            }
            if !query.reverse {
                read.page.top = part.top;
            }
            next = read.add(part, Some(after));
        }
        Ok(Some(read.page))
    }

    async fn log_part(&self, group: &Group, query: LogQuery, keep: Keep) -> Result<LogPart, Failure> {
        // Each try is a call of its own: the epoch that it offers must never name two lives.
        let call = |_| self.calls.history(group, query, keep);
        answers::log_part(self.servers.eval_until(Lane::Read, group, &script::HISTORY, call, self.timeout).await?)
    }

    /// Reads rows as far as was asked, or to their end.
    pub(crate) async fn state(&self, topic: &Topic, query: StateQuery, keep: Keep) -> Result<StatePage, Unavailable> {
        let group = self.calls.keys.topic(topic);
        let mut rest = query;
        let mut whole: Option<StatePage> = None;
        let mut bytes = 0;
        loop {
            let call = |_| self.calls.state(&group, rest, keep);
            let answer = self.servers.eval_until(Lane::Read, &group, &script::STATE, call, self.timeout).await?;
            let StatePart { top, now_ms, next, rows } = answers::state_part(answer)?;
            let page = whole.get_or_insert_with(|| StatePage { top, rows: Vec::new(), next: None });
            if page.top.epoch != top.epoch {
                return Err(Unavailable("the history began anew while its state was read".to_owned()));
            }
            let before = page.rows.len();
            for row in rows {
                match frame::decode_row(&row).and_then(|row| publication(topic, &row, top, now_ms)) {
                    Ok(row) => page.rows.push(Arc::new(row)),
                    // Whoever comes after it has no row for this key, and a metric says so.
                    Err(error) => self.told.unreadable(error),
                }
            }
            bytes += page.rows[before..].iter().map(|row| row.weight_bytes()).sum::<usize>();
            let is_full = query.limit.is_some_and(|limit| page.rows.len() >= limit) || query.bytes.is_some_and(|max| bytes >= max);
            match next {
                Some(after) if !is_full => {
                    rest.after = Some(after);
                    rest.limit = query.limit.map(|limit| limit - page.rows.len());
                    rest.bytes = query.bytes.map(|max| max - bytes);
                }
                next => {
                    page.next = next;
                    return whole.ok_or_else(|| Unavailable("no rows were read".to_owned()));
                }
            }
        }
    }
}

/// A log that is being read.
struct LogRead<'a> {
    topic: &'a Topic,
    told: &'a Told,
    query: LogQuery,
    /// The newest of each key is kept beside the log.
    has_rows: bool,
    page: LogPage,
    bytes: usize,
}

impl LogRead<'_> {
    /// Adds a part that was asked for after an offset; after which offset the next one begins, if there is to be one.
    fn add(&mut self, part: LogPart, after: Option<u64>) -> Option<u64> {
        let forgotten = part.first.saturating_sub(1);
        // What was forgotten after an earlier part brought it is here.
        let is_here = !self.query.reverse && after != self.query.after && after.is_some_and(|after| forgotten <= after);
        if !is_here {
            self.page.kept_from = self.page.kept_from.max(forgotten);
        }
        // Offsets have no holes, so it is known what stands where.
        let begin = if self.query.reverse {
            after.map_or(part.top.offset, |after| part.top.offset.min(after.saturating_sub(1)))
        } else {
            after.map_or(part.first, |after| part.first.max(after + 1))
        };
        let mut last = None;
        self.page.next = None;
        for (entry, n) in part.entries.iter().zip(0..) {
            let offset = if self.query.reverse { begin.saturating_sub(n) } else { begin + n };
            last = match self.add_entry(entry, Position { offset, ..part.top }, part.now_ms) {
                Added::Full => {
                    self.page.next = last.or(after);
                    return None;
                }
                Added::At(offset) => Some(offset),
            };
        }
        let last = last?;
        let limit_reached = self.query.limit.is_some_and(|limit| self.page.publications.len() >= limit);
        let end_reached = if self.query.reverse { last <= part.first } else { last >= part.top.offset };
        self.page.next = (limit_reached && !end_reached).then_some(last);
        (!limit_reached && !end_reached).then_some(last)
    }

    fn add_entry(&mut self, bytes: &Bytes, at: Position, now_ms: u64) -> Added {
        let logged = match frame::decode_logged(bytes) {
            Ok(logged) if logged.offset == at.offset => logged,
            // Not the broker's, or something shifted the list: what should stand here is forgotten.
            _ => {
                self.told.unreadable(entry::Unreadable::Malformed);
                self.page.kept_from = self.page.kept_from.max(at.offset);
                return Added::At(at.offset);
            }
        };
        if logged.expires_at_ms > 0 && logged.expires_at_ms <= now_ms {
            // Over by its own ttl: no loss, unless a row was changed by it.
            if self.has_rows && entry::decode(logged.entry).is_ok_and(|entry| entry.publish.key.is_some()) {
                self.page.kept_from = self.page.kept_from.max(logged.offset);
            }
            return Added::At(logged.offset);
        }
        match publication(self.topic, &logged, at, now_ms) {
            Ok(publication) => {
                self.bytes = self.bytes.saturating_add(publication.weight_bytes());
                if self.query.bytes.is_some_and(|max| self.bytes > max) && !self.page.publications.is_empty() {
                    return Added::Full;
                }
                self.page.publications.push(Arc::new(publication));
            }
            Err(error) => {
                // What this version cannot read counts as forgotten, so that it is told.
                self.told.unreadable(error);
                self.page.kept_from = self.page.kept_from.max(logged.offset);
            }
        }
        Added::At(logged.offset)
    }
}

/// What became of an entry.
enum Added {
    /// It was looked at.
    At(u64),
    /// It has no room on the page.
    Full,
}

/// What stands in the log or a row, as it was published. `now_ms`: the server's clock when it was read.
fn publication(topic: &Topic, logged: &Logged<'_>, top: Position, now_ms: u64) -> Result<Publication, entry::Unreadable> {
    let entry = entry::decode(logged.entry)?;
    let position = Position { offset: logged.offset, epoch: top.epoch };
    let mut publication = entry.into_publication(topic.clone(), Some(position));
    publication.expires_at =
        (logged.expires_at_ms > 0).then(|| Instant::now() + Duration::from_millis(logged.expires_at_ms.saturating_sub(now_ms)));
    Ok(publication)
}

#[cfg(test)]
mod tests {
    use broker_core::{Epoch, Payload, Publish};

    use super::*;

    fn part(first: u64, top: u64, offsets: std::ops::RangeInclusive<u64>) -> LogPart {
        let body = entry::encode(&Publish::new(Payload::json("1")), None);
        let logged = |offset: u64| Bytes::from([&offset.to_be_bytes()[2..], &[0; 12], &body[..]].concat());
        LogPart { top: Position { offset: top, epoch: Epoch::from_random(7) }, first, now_ms: 1, entries: offsets.map(logged).collect() }
    }

    /// What a page of two parts says to be kept, where the second one begins at `second_first`.
    fn check(second_first: u64, second: std::ops::RangeInclusive<u64>, kept_from: u64, count: usize) {
        let (topic, told): (Topic, _) = ("a".parse().unwrap(), Told::default());
        let page = LogPage { top: part(3, 8, 3..=5).top, kept_from: 0, publications: Vec::new(), next: None };
        let mut read = LogRead { topic: &topic, told: &told, query: LogQuery::default(), has_rows: false, page, bytes: 0 };
        let next = read.add(part(3, 8, 3..=5), None);
        assert_eq!(next, Some(5), "there is more");
        assert_eq!(read.add(part(second_first, 8, second), next), None);
        assert_eq!((read.page.kept_from, read.page.publications.len()), (kept_from, count));
    }

    #[test]
    fn what_is_trimmed_between_two_parts_is_missing_only_where_it_was_not_read() {
        check(3, 6..=8, 2, 6);
        check(6, 6..=8, 2, 6);
        check(7, 7..=8, 6, 5);
    }
}
