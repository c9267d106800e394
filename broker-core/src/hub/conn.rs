//! Who sits in a slot: a connection with its session, or a stream inside the process.

use std::{
    collections::VecDeque,
    hint::black_box,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::AcqRel, Ordering::Acquire},
    },
};

use atomic_waker::AtomicWaker;
use bytes::Bytes;
use tokio::{sync::oneshot, time::Instant};

use super::{
    backlog::Backlog,
    members::{Codec, Variant},
    slow::CatchUp,
};
use crate::{Command, Connect, Head, Outlet, Refusal, Subscribe, Topic, UserId, session::Session, stream::Feed};

/// Commands that a connection may have posted and its shard not handled; then its task stops reading.
const CREDIT_MAX: u32 = 256;

/// What takes a slot.
pub(crate) enum NewOccupant {
    Connection(Box<NewConnection>),
    Stream { feed: Arc<Feed>, topic: Topic },
}

pub(crate) struct NewConnection {
    pub(crate) session: Session,
    pub(crate) codec: Codec,
    pub(crate) outlet: Option<Box<dyn Outlet>>,
    pub(crate) credit: Arc<Credit>,
    pub(crate) head: Head,
    pub(crate) transport: &'static str,
    pub(crate) start: Start,
    pub(crate) opened: Option<oneshot::Sender<Result<(), Refusal>>>,
}

/// How a session begins.
#[derive(Debug)]
#[non_exhaustive]
pub enum Start {
    /// The client says who it is with its first command.
    AwaitConnect,
    /// The request that opened the connection said it all: credentials and topics.
    AtOnce {
        /// What the client says of itself.
        connect: Connect,
        /// The topics of the URL; all must be live, or the opening is refused.
        subscriptions: Vec<Subscribe>,
    },
}

/// How much a connection may still post: back-pressure from its shard to its reader.
#[derive(Debug, Default)]
pub(crate) struct Credit {
    in_flight: AtomicU32,
    reader: AtomicWaker,
}

impl Credit {
    pub(crate) fn take(&self, commands: u32) {
        self.in_flight.fetch_add(commands, AcqRel);
    }

    pub(crate) fn give_back(&self, commands: u32) {
        let before = self.in_flight.fetch_sub(commands, AcqRel);
        if before >= CREDIT_MAX && before - commands < CREDIT_MAX {
            self.reader.wake();
        }
    }

    pub(crate) fn poll_ready(&self, cx: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        if self.in_flight.load(Acquire) < CREDIT_MAX {
            return std::task::Poll::Ready(());
        }
        self.reader.register(cx.waker());
        if self.in_flight.load(Acquire) < CREDIT_MAX { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    }
}

/// Who sits in a slot.
pub(crate) enum Occupant {
    Connection(Box<Conn>),
    Stream(Arc<Feed>, Topic),
}

/// A connection in its slot. Owned by its shard alone.
///
/// In the order of memory: what every delivery needs stands together at the front, so that it comes from memory at once.
#[repr(C)]
pub(crate) struct Conn {
    pub(crate) backlog: Backlog,
    /// Bytes of the backlog that the gauge counts.
    pub(crate) counted_backlog: usize,
    /// Bytes of its list that the node's bound counts.
    pub(crate) counted_list: usize,
    /// `None` until the transport attaches one.
    pub(crate) outlet: Option<Box<dyn Outlet>>,
    /// In the list of connections that have something to write.
    pub(crate) dirty: bool,
    /// The outlet took less than everything, and will say when to try again.
    pub(crate) blocked: bool,
    pub(crate) finished: bool,
    pub(crate) variant: Variant,
    pub(crate) life: Life,
    /// The newest ping of the transport that is not answered.
    pub(crate) pong: Option<Bytes>,
    /// What it has taken of its rates; `None` while everything is there.
    pub(crate) spent: Option<Box<super::rates::Spent>>,
    /// Commands that wait until the client has read answers to earlier ones: its backlog is over the bound.
    pub(crate) held: VecDeque<Command>,
    pub(crate) session: Session,
    pub(crate) codec: Codec,
    pub(crate) credit: Arc<Credit>,
    /// The head of the request, until the session is connected.
    pub(crate) head: Option<Head>,
    pub(crate) opened: Option<oneshot::Sender<Result<(), Refusal>>>,
    /// The session has ended; the outlet is dropped then at the latest.
    pub(crate) closing_until: Option<Instant>,
    /// Nothing is written until the session is welcome.
    pub(crate) holding: bool,
    /// Subscriptions that let go by what is published, until everything else is taken.
    pub(crate) catching_up: Vec<CatchUp>,
    /// The outlet is blocked; when it has taken nothing until then, the client is gone.
    pub(crate) stuck_until: Option<Instant>,
}

impl Conn {
    /// Reads what a delivery needs from memory. Done for several connections in a row, their ways from memory overlap.
    pub(crate) fn warm(&self) {
        black_box((self.backlog.bytes(), self.dirty, self.life.frames_out, self.pong.is_some(), self.session.is_closed()));
        if let Some(outlet) = &self.outlet {
            outlet.warm();
        }
    }
}

/// What the log lines of a session's life say.
pub(crate) struct Life {
    pub(crate) opened_at: Instant,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) path: Arc<str>,
    pub(crate) transport: &'static str,
    pub(crate) frames_in: u32,
    pub(crate) frames_out: u32,
    pub(crate) heard_at: Option<Instant>,
    /// Counted among the connected sessions, with this user.
    pub(crate) user: Option<UserId>,
}
