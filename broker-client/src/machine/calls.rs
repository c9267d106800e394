//! Commands that wait for a connection or an answer, and their deadlines. What an answer does does not live here.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Instant,
};

use super::{CallId, SubscriptionId};
use crate::Since;

/// Whose command it is.
#[derive(Debug)]
pub(super) enum What {
    Connect,
    Refresh,
    RefreshSubscription(SubscriptionId),
    Subscribe { subscription: SubscriptionId, since: Option<Since> },
    Unsubscribe,
    Call { call: CallId, asked: Asked },
}

/// Which answer a call waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Asked {
    Publish,
    Send,
    History,
    Presence,
    PresenceStats,
    Rpc,
}

/// A command without an answer.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) what: What,
    /// Whether it was written to the connection.
    pub(super) sent: bool,
    deadline: Instant,
}

/// All commands without an answer. Ids are never used twice, so a late answer finds nothing: it is void.
#[derive(Debug, Default)]
pub(super) struct Calls {
    last_id: u32,
    pending: BTreeMap<u32, Pending>,
    deadlines: BTreeSet<(Instant, u32)>,
    /// Lines for the next connection, oldest first; those whose command is gone are skipped.
    waiting: VecDeque<(u32, String)>,
}

impl Calls {
    /// An id for the next command; never 0.
    pub(super) fn next_id(&mut self) -> u32 {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        self.last_id
    }

    /// A command was written.
    pub(super) fn sent(&mut self, id: u32, what: What, deadline: Instant) {
        self.insert(id, Pending { what, sent: true, deadline });
    }

    /// A command waits for a connection.
    pub(super) fn wait(&mut self, id: u32, what: What, line: String, deadline: Instant) {
        self.insert(id, Pending { what, sent: false, deadline });
        self.waiting.push_back((id, line));
    }

    /// There is a connection: what waits for it, oldest first. Each is now counted as written.
    pub(super) fn flush(&mut self) -> Vec<(u32, String)> {
        let mut lines: Vec<_> = std::mem::take(&mut self.waiting).into();
        lines.retain(|(id, _)| self.pending.get_mut(id).map(|pending| pending.sent = true).is_some());
        lines
    }

    /// The command with this id has its answer, or needs none.
    pub(super) fn take(&mut self, id: u32) -> Option<Pending> {
        let pending = self.pending.remove(&id)?;
        self.deadlines.remove(&(pending.deadline, id));
        Some(pending)
    }

    /// The call with this id, if its command is one that the protocol does not answer.
    pub(super) fn take_if_unanswered(&mut self, id: u32) -> Option<CallId> {
        match self.pending.get(&id)?.what {
            What::Call { call, asked: Asked::Send } => self.take(id).map(|_| call),
            _ => None,
        }
    }

    /// Nobody waits for the answer of this call; it is not sent where it was not.
    pub(super) fn cancel(&mut self, call: CallId) {
        let is_it = |pending: &Pending| matches!(pending.what, What::Call { call: other, .. } if other == call);
        if let Some(id) = self.pending.iter().find_map(|(id, pending)| is_it(pending).then_some(*id)) {
            self.take(id);
        }
    }

    /// The connection is gone: what was written to it.
    pub(super) fn cut(&mut self) -> Vec<Pending> {
        let ids: Vec<_> = self.pending.iter().filter(|(_, pending)| pending.sent).map(|(id, _)| *id).collect();
        ids.into_iter().filter_map(|id| self.take(id)).collect()
    }

    /// Everything.
    pub(super) fn drain(&mut self) -> Vec<Pending> {
        self.deadlines.clear();
        self.waiting.clear();
        std::mem::take(&mut self.pending).into_values().collect()
    }

    /// When the next command has waited long enough.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// A command that has waited long enough.
    pub(super) fn overdue(&mut self, now: Instant) -> Option<Pending> {
        let (deadline, id) = *self.deadlines.first()?;
        if deadline > now { None } else { self.take(id) }
    }

    fn insert(&mut self, id: u32, pending: Pending) {
        self.deadlines.insert((pending.deadline, id));
        self.pending.insert(id, pending);
    }
}
