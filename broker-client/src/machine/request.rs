//! What the application may ask, how it is written, and the shapes of the answers.

use std::sync::Arc;

use super::calls::Asked;
use crate::{
    CallError, HistoryPage, HistoryQuery, Payload, Position, PresenceStats, SessionInfo,
    wire::{self, Command, Line},
};

/// One question of the application.
#[derive(Debug)]
pub(crate) enum Request {
    Publish { topic: Arc<str>, data: Payload },
    Send { data: Payload },
    History { topic: Arc<str>, query: HistoryQuery },
    Presence { topic: Arc<str> },
    PresenceStats { topic: Arc<str> },
    Rpc { method: Box<str>, data: Payload },
}

impl Request {
    pub(super) fn asked(&self) -> Asked {
        match self {
            Self::Publish { .. } => Asked::Publish,
            Self::Send { .. } => Asked::Send,
            Self::History { .. } => Asked::History,
            Self::Presence { .. } => Asked::Presence,
            Self::PresenceStats { .. } => Asked::PresenceStats,
            Self::Rpc { .. } => Asked::Rpc,
        }
    }

    /// The command as one line.
    pub(super) fn line(&self, id: u32) -> String {
        let mut command = Command { id, ..Command::default() };
        match self {
            Self::Publish { topic, data } => command.publish = Some(wire::Publish { channel: topic, data }),
            // A message has no id: the protocol does not answer it.
            Self::Send { data } => (command.id, command.send) = (0, Some(wire::Send { data })),
            Self::History { topic, query } => {
                command.history = Some(wire::History::new(topic, query.since.as_ref(), query.limit, query.reverse));
            }
            Self::Presence { topic } => command.presence = Some(wire::OnTopic { channel: topic }),
            Self::PresenceStats { topic } => command.presence_stats = Some(wire::OnTopic { channel: topic }),
            Self::Rpc { method, data } => command.rpc = Some(wire::Rpc { method, data }),
        }
        command.line()
    }
}

/// The answer to one question.
#[derive(Debug)]
pub(crate) enum Answer {
    /// To publish and send.
    Done,
    History(HistoryPage),
    Presence(Vec<SessionInfo>),
    PresenceStats(PresenceStats),
    Rpc(Payload),
}

/// Reads the answer out of the server's line.
pub(super) fn answer(asked: Asked, line: Line) -> Result<Answer, CallError> {
    if let Some(error) = line.error {
        return Err(CallError::Refused(error.into()));
    }
    let answer = match asked {
        Asked::Publish | Asked::Send => Some(Answer::Done),
        Asked::History => line.history.map(|result| {
            let epoch: Arc<str> = result.epoch.into();
            let publications = result.publications.into_iter().map(|publication| publication.in_epoch(Some(&epoch))).collect();
            Answer::History(HistoryPage { position: Position { offset: result.offset, epoch }, publications })
        }),
        Asked::Presence => line.presence.map(|result| Answer::Presence(result.presence.into_values().map(SessionInfo::from).collect())),
        Asked::PresenceStats => {
            line.presence_stats.map(|result| Answer::PresenceStats(PresenceStats { sessions: result.num_clients, users: result.num_users }))
        }
        Asked::Rpc => line.rpc.map(|result| Answer::Rpc(result.data.unwrap_or_else(Payload::null))),
    };
    answer.ok_or(CallError::Unreadable)
}
