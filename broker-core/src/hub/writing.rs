//! How a shard hands bytes to outlets, and ends connections.

use std::io::ErrorKind;

use bytes::Bytes;
use tokio::time::{Duration, Instant};

use super::{
    conn::{Conn, Occupant},
    held::Held,
    shard::Shard,
};
use crate::{CloseFrame, CloseReason, FrameKind, FrameWriter, Push, Stats, panics};

/// Backlog entries that one write gathers.
const CHUNKS_MAX: usize = 64;
/// Time for a closing connection to take what waits and to close from its side.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(5);

impl Shard {
    /// Writes to connections that have something, in turn; at most `max` of them. Gives how many writes were made.
    pub(super) fn flush_dirty(&mut self, max: usize, now: Instant) -> usize {
        let mut written = 0;
        while written < max {
            let Some(slot) = self.dirty.pop_front() else { break };
            let Some(Occupant::Connection(conn)) = &mut self.slots[slot as usize].occupant else { continue };
            conn.dirty = false;
            written += 1;
            let broken = write(conn, &mut self.chunks, &mut self.tally);
            if conn.blocked || conn.stuck_until.is_some() {
                self.watch(slot, now);
            }
            let Some(Occupant::Connection(conn)) = &mut self.slots[slot as usize].occupant else { continue };
            // What was let go leaves nothing to write either: the next is read when the connection takes something again.
            let is_empty = conn.backlog.is_empty() && !conn.blocked;
            if is_empty && conn.wants_catch_up() {
                self.read_on(self.at(slot));
            }
            let Some(Occupant::Connection(conn)) = &mut self.slots[slot as usize].occupant else { continue };
            if !conn.held.is_empty() {
                self.handle_held(self.at(slot), now);
            }
            if is_empty && !self.paging.is_empty() {
                self.turn_page(slot, now);
            }
            if let Some(broken) = broken {
                let at = self.at(slot);
                self.converse(at, now, |session, _, effects| session.close(CloseReason::TransportBroke(broken.into()), effects));
            }
        }
        written
    }

    /// Gives a connection that does not take everything its time to take something; whoever took something has begun anew (`write`).
    fn watch(&mut self, slot: u32, now: Instant) {
        let timeout = self.hub.rules.settings.write_timeout;
        let Some(Occupant::Connection(conn)) = &mut self.slots[slot as usize].occupant else { return };
        if !conn.blocked || conn.session.is_closed() {
            conn.stuck_until = None;
        } else if conn.stuck_until.is_none() {
            conn.stuck_until = Some(now + timeout);
        } else {
            return;
        }
        self.note_deadline(slot);
    }

    /// The session has ended: says so to the client, the log and the application, and lets the outlet end.
    pub(super) fn closed(&mut self, slot: u32, conn: &mut Conn, reason: CloseReason, now: Instant) {
        self.hub.stats.closed(&reason);
        if let Some(user) = &conn.life.user {
            self.hub.stats.sessions.sub(1);
            self.hub.user_gone(user);
            self.whose.remove(slot, conn.session.subject());
            self.disconnected(conn, &reason, now);
        }
        let close = self.close_frame(conn, &reason);
        self.log.closed(conn, &reason, &close, now);
        conn.life.user = None;
        conn.head = None;
        conn.pong = None;
        if std::mem::take(&mut conn.holding) {
            // Who was not welcome is told nothing of what was held back.
            conn.backlog.clear();
        }
        match &reason {
            CloseReason::TransportBroke(_) => {
                conn.backlog.clear();
                conn.outlet = None;
                return;
            }
            // Room for the close is made by what the client did not read, or will not; a refused opening is told alone.
            CloseReason::SlowConsumer { .. } | CloseReason::ClientLeft { .. } | CloseReason::Refused(_) | CloseReason::Revoked => {
                conn.backlog.clear();
            }
            _ => {}
        }
        conn.closing_until = Some(now + CLOSING_TIMEOUT);
        let frames = self.closing_frames(conn, &reason, &close);
        conn.backlog.push_frames(frames);
    }

    fn close_frame(&self, conn: &Conn, reason: &CloseReason) -> CloseFrame {
        match reason {
            // RFC 6455, 5.5.1: the answer to a close repeats its code.
            CloseReason::ClientLeft { code } => CloseFrame { code: code.unwrap_or(1000), reason: "".into() },
            _ => panics::catch(&self.hub.stats, "codec", || conn.codec.protocol.close_frame(reason))
                .unwrap_or(CloseFrame { code: 1011, reason: "".into() }),
        }
    }

    fn closing_frames(&self, conn: &Conn, reason: &CloseReason, close: &CloseFrame) -> Bytes {
        let mut frames = Vec::new();
        let framing = &*conn.codec.framing;
        if !matches!(reason, CloseReason::ClientLeft { .. }) {
            let mut out = FrameWriter::new(framing, &mut frames);
            let push = Push::Closing(reason.clone());
            let told = panics::catch(&self.hub.stats, "codec", || conn.codec.protocol.encode_push(&push, &mut out));
            if told.is_err() {
                frames.clear();
            }
        }
        framing.close(close, &mut frames);
        self.hub.held.counted(frames, 0)
    }
}

/// What a tick did, until it is added to the engine's counts: one addition in place of one for each delivery.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) deliveries: u64,
    writes: u64,
    bytes_written: u64,
    /// Bytes that began to wait, and that ceased to, in backlogs.
    backlog_grown: u64,
    backlog_shrunk: u64,
    /// Bytes that lists of what waits began to take, and that they gave back.
    lists_grown: usize,
    lists_shrunk: usize,
}

impl Tally {
    pub(super) fn add_to(&mut self, stats: &Stats, held: &Held) {
        let Self { deliveries, writes, bytes_written, backlog_grown, backlog_shrunk, lists_grown, lists_shrunk } = std::mem::take(self);
        if deliveries + writes > 0 {
            stats.deliveries.add(deliveries);
            stats.writes.add(writes);
            stats.bytes_written.add(bytes_written);
        }
        if backlog_grown + backlog_shrunk > 0 {
            stats.backlog_bytes.add(backlog_grown);
            stats.backlog_bytes.sub(backlog_shrunk);
        }
        if lists_grown + lists_shrunk > 0 {
            held.add(lists_grown);
            held.sub(lists_shrunk);
        }
    }
}

/// Writes what the outlet takes now; `chunks` is working space. Gives what broke.
pub(super) fn write(conn: &mut Conn, chunks: &mut Vec<Bytes>, tally: &mut Tally) -> Option<String> {
    let mut broken = None;
    if let Some(outlet) = conn.outlet.as_mut().filter(|_| !conn.blocked && !conn.holding) {
        if let Some(payload) = conn.pong.take() {
            let mut frame = Vec::with_capacity(payload.len() + 4);
            conn.codec.framing.frame(FrameKind::Pong, &payload, &mut frame);
            conn.backlog.push_first(frame.into());
        }
        while !conn.backlog.is_empty() && !conn.blocked {
            conn.backlog.chunks(CHUNKS_MAX, chunks);
            let len: usize = chunks.iter().map(Bytes::len).sum();
            match outlet.try_write(chunks) {
                Ok(taken) => {
                    tally.writes += 1;
                    tally.bytes_written += taken as u64;
                    if taken > 0 && conn.stuck_until.is_some() {
                        conn.stuck_until = None;
                    }
                    conn.backlog.written(taken);
                    conn.blocked = taken < len;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => conn.blocked = true,
                Err(error) => {
                    broken = Some(error.to_string());
                    chunks.clear();
                    // An open session is closed by the next write in turn at the latest; a closed one has nobody to tell.
                    conn.blocked = conn.session.is_closed();
                    break;
                }
            }
            chunks.clear();
        }
        if conn.session.is_closed() && conn.backlog.is_empty() && !conn.finished {
            conn.finished = true;
            outlet.finish();
        }
    }
    let waiting = conn.backlog.bytes();
    if waiting != conn.counted_backlog {
        tally.backlog_grown += waiting as u64;
        tally.backlog_shrunk += conn.counted_backlog as u64;
        conn.counted_backlog = waiting;
    }
    let list = conn.backlog.list_bytes();
    if list != conn.counted_list {
        tally.lists_grown += list;
        tally.lists_shrunk += conn.counted_list;
        conn.counted_list = list;
    }
    broken
}
