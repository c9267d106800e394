//! One read of a topic for everybody who waits: its state, where somebody needs that, then its log, both in pages. Each page has a deadline of its
//! own, so that how much there is to read decides nothing, however slow the backplane is.

use super::{
    Hub, keep_of,
    resume::{ReadAnswer, ReadResult, StateRead},
    topic_entry::TopicEntry,
};
use crate::backplane::{LogPage, LogQuery, StateQuery, Unavailable};

/// Rows that are asked for at a time.
const ROWS_PER_PAGE: usize = 1_000;
/// Publications that are asked for at a time...
const PUBLICATIONS_PER_PAGE: usize = if cfg!(broker_model) { 2 } else { 1_000 };
/// ...and their bytes.
const BYTES_PER_PAGE: usize = 256 << 10;
/// A history that begins anew while it is read is read again, but not for ever.
const TRIES_MAX: usize = 5;

/// Reads the log as asked, and, where `state` says so, the state before it: then the log says what has changed since.
pub(super) async fn read(hub: &Hub, entry: &TopicEntry, query: LogQuery, state: bool) -> ReadResult {
    let state = if state { Some(read_state(hub, entry).await?) } else { None };
    let query = match &state {
        Some(state) => LogQuery::after(query.after.map_or(state.since.offset, |after| after.min(state.since.offset))),
        None => query,
    };
    let page = read_log(hub, entry, query.delivers()).await?;
    // Asked for nothing but the top, it knows nothing of what stands before.
    let after = if query.limit == Some(0) { page.top.offset } else { query.after.unwrap_or(0) };
    Ok(ReadAnswer { page, after, state })
}

async fn read_log(hub: &Hub, entry: &TopicEntry, query: LogQuery) -> Result<LogPage, Unavailable> {
    for _ in 0..TRIES_MAX {
        if let Some(page) = try_read_log(hub, entry, query).await? {
            return Ok(page);
        }
    }
    Err(Unavailable("the history begins anew faster than it can be read".to_owned()))
}

/// `None`: another life of the history began between two pages.
///
/// # Bound
/// As much again as stood there at the beginning, and a page, may be appended meanwhile. A history that grows faster than it is read is not read:
/// of all of it is said that it is missing, and whoever listens goes on from its top.
async fn try_read_log(hub: &Hub, entry: &TopicEntry, query: LogQuery) -> Result<Option<LogPage>, Unavailable> {
    let ask = async |part: LogQuery| hub.in_time(hub.backplane.history(&entry.topic, part, keep_of(&entry.namespace))).await;
    if query.limit.is_some() {
        return ask(query).await.map(Some);
    }
    let mut part = LogQuery { limit: Some(PUBLICATIONS_PER_PAGE), bytes: Some(BYTES_PER_PAGE), ..query };
    let mut whole = ask(part).await?;
    let begin = whole.kept_from.max(query.after.unwrap_or(0));
    let top = whole.top.offset;
    let runs_to = top + top.saturating_sub(begin).max(PUBLICATIONS_PER_PAGE as u64);
    while let Some(after) = whole.next.filter(|next| part.after.is_none_or(|after| *next > after)) {
        if after > runs_to {
            let top = ask(LogQuery { after: None, limit: Some(0), ..query }).await?;
            return Ok(Some(LogPage { kept_from: top.top.offset, ..top }));
        }
        part.after = Some(after);
        let page = ask(part).await?;
        if page.top.epoch != whole.top.epoch {
            return Ok(None);
        }
        (whole.top, whole.next) = (page.top, page.next);
        // What was forgotten after it was read is no loss; what was not read yet is a hole.
        if page.kept_from > after {
            whole.kept_from = page.kept_from;
        }
        whole.publications.extend(page.publications);
    }
    Ok(Some(whole))
}

async fn read_state(hub: &Hub, entry: &TopicEntry) -> Result<StateRead, Unavailable> {
    let keep = keep_of(&entry.namespace);
    let mut query = StateQuery { limit: Some(ROWS_PER_PAGE), ..StateQuery::default() };
    let first = hub.in_time(hub.backplane.state(&entry.topic, query, keep)).await?;
    let mut read = StateRead { since: first.top, rows: first.rows };
    let mut next = first.next;
    while let Some(after) = next {
        query.after = Some(after);
        let page = hub.in_time(hub.backplane.state(&entry.topic, query, keep)).await?;
        if page.top.epoch != read.since.epoch {
            return Err(Unavailable("the history began anew while its state was read".to_owned()));
        }
        read.rows.extend(page.rows);
        // What stands after `since` has changed meanwhile and comes with the log.
        next = page.next.filter(|next| *next < read.since.offset);
    }
    Ok(read)
}
