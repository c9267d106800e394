//! One read of a topic for everybody who waits: its state in pages, where somebody needs that, then its log.

use super::{
    Hub, keep_of,
    resume::{ReadAnswer, ReadResult, StateRead},
    topic_entry::TopicEntry,
};
use crate::backplane::{LogQuery, StateQuery, Unavailable};

/// Rows that are asked for at a time.
const ROWS_PER_PAGE: usize = 1_000;

/// Reads the log as asked, and, where `state` says so, the state before it: then the log says what has changed since.
pub(super) async fn read(hub: &Hub, entry: &TopicEntry, query: LogQuery, state: bool) -> ReadResult {
    let state = if state { Some(read_state(hub, entry).await?) } else { None };
    let query = match &state {
        Some(state) => LogQuery::after(query.after.map_or(state.since.offset, |after| after.min(state.since.offset))),
        None => query,
    };
    let page = hub.in_time(hub.backplane.history(&entry.topic, query.delivers(), keep_of(&entry.namespace))).await?;
    // Asked for nothing but the top, it knows nothing of what stands before.
    let after = if query.limit == Some(0) { page.top.offset } else { query.after.unwrap_or(0) };
    Ok(ReadAnswer { page, after, state })
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
