//! What is kept of one topic: history, state, idempotency keys and versions, within their bounds.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    ledger::Share,
    rows::Rows,
    seen::{IDEMPOTENCY_TTL, Retries, Versions},
};
use crate::{Bound, Epoch, Full, Keep, LogPage, LogQuery, Position, Publication, Published, StatePage, StateQuery, Topic, Version};

/// How long an empty log remembers its epoch and top, so that positions go on; a version is remembered as long.
const POSITION_TTL: Duration = Duration::from_secs(3600);
/// The same for a log that nothing was ever appended to: whoever names topics freely makes few of them last.
const EMPTY_TTL: Duration = Duration::from_secs(60);
/// Bytes of a topic of which nothing is kept, its name apart.
const LOG_BYTES: usize = 640;

/// What is kept of one topic.
pub(super) struct Log {
    epoch: Epoch,
    top: u64,
    /// The newest offset that went because of a bound or the time; by its own ttl only where that may have changed a row.
    forgotten: u64,
    publications: VecDeque<Arc<Publication>>,
    publication_bytes: usize,
    /// When the first publication goes by its own ttl.
    next_expiry: Option<Instant>,
    /// When the history goes.
    expires_at: Option<Instant>,
    rows: Rows,
    /// When the state goes, unless somebody listens, and how long after the last publication that is.
    state_expires_at: Option<(Instant, Duration)>,
    /// When the positions go, unless something is published.
    positions_until: Instant,
    retries: Retries,
    versions: Versions,
    share: Share,
    fixed_bytes: usize,
    /// Out of the map: whoever finds this looks the topic up again.
    dead: bool,
}

/// How a publish is to be remembered.
pub(super) struct Memo {
    pub(super) idempotency_key: Option<Box<str>>,
    pub(super) version: Option<Box<Version>>,
    /// Whether it goes into history and state.
    pub(super) kept: bool,
}

impl Memo {
    /// Whether nothing is remembered at all.
    pub(super) fn is_nothing(&self) -> bool {
        !self.kept && self.idempotency_key.is_none() && self.version.is_none()
    }
}

impl Log {
    pub(super) fn new(topic: &Topic, share: Share) -> Self {
        let mut log = Self {
            epoch: Epoch::from_random(fastrand::u64(..)),
            top: 0,
            forgotten: 0,
            publications: VecDeque::new(),
            publication_bytes: 0,
            next_expiry: None,
            expires_at: None,
            rows: Rows::default(),
            state_expires_at: None,
            positions_until: Instant::now() + EMPTY_TTL,
            retries: Retries::default(),
            versions: Versions::default(),
            share,
            fixed_bytes: LOG_BYTES + 2 * topic.as_str().len(),
            dead: false,
        };
        // Counted, but not refused: who listens has bounds of its own, and whoever only reads leaves it for a minute.
        log.share.set(log.fixed_bytes);
        log
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead
    }

    /// Takes a publication in, unless it is known, outdated or too much; `deliver` is called with what was taken in.
    pub(super) fn publish(
        &mut self,
        mut publication: Publication,
        memo: Memo,
        keep: Keep,
        now: Instant,
        deliver: impl FnOnce(Arc<Publication>),
    ) -> Result<Published, Full> {
        if let Some(first) = memo.idempotency_key.as_deref().and_then(|key| self.retries.first(key)) {
            return Ok(Published::duplicate_of(first.position));
        }
        if memo.version.as_ref().is_some_and(|version| self.versions.has(publication.key.as_deref(), version)) {
            return Ok(Published::outdated((!keep.is_nothing()).then(|| self.top())));
        }
        let trimmed = self.make_room(&publication, &memo, keep)?;
        if memo.kept {
            publication.position = Some(Position { offset: self.top + 1, epoch: self.epoch });
        }
        let published = Published::at(publication.position);
        let publication = Arc::new(publication);
        if memo.kept {
            self.append(publication.clone(), trimmed, keep, now);
        }
        if let Some(key) = &memo.idempotency_key {
            self.retries.remember(key, published, now);
            self.positions_until = self.positions_until.max(now + IDEMPOTENCY_TTL);
        }
        if let Some(version) = memo.version {
            let until = now + keep.ttl + POSITION_TTL;
            self.versions.remember(publication.key.as_deref(), *version, until);
            self.positions_until = self.positions_until.max(until);
        }
        // What the bounds let in was the most it could be.
        self.share.set(self.bytes());
        deliver(publication);
        Ok(published)
    }

    /// Takes the bytes that a publish needs. Gives how many of the oldest publications must go for it.
    fn make_room(&mut self, publication: &Publication, memo: &Memo, keep: Keep) -> Result<usize, Full> {
        let mut bytes = self.bytes();
        let mut trimmed = 0;
        if let Some(key) = &memo.idempotency_key {
            bytes += Retries::weight_of(key);
        }
        if let Some(version) = &memo.version {
            bytes += Versions::weight_of(publication.key.as_deref(), version);
        }
        if memo.kept {
            let weight = publication.weight_bytes();
            let mut left = self.publication_bytes + weight;
            while trimmed < self.publications.len() && (self.publications.len() + 1 - trimmed > keep.size || left > keep.bytes) {
                left -= self.publications[trimmed].weight_bytes();
                trimmed += 1;
            }
            bytes = bytes - self.publication_bytes + left;
            bytes += self.row_growth(publication, keep)?;
        }
        self.share.grow_to(bytes, keep.memory_max)?;
        Ok(trimmed)
    }

    /// Bytes that the state grows by, or why it may not.
    fn row_growth(&self, publication: &Publication, keep: Keep) -> Result<usize, Full> {
        let (Some(state), Some(key), false) = (keep.state, &publication.key, publication.removed) else { return Ok(0) };
        if self.rows.len() >= state.size && !self.rows.has(key) {
            return Err(self.share.full(Bound::StateSize, state.size));
        }
        let growth = Rows::weight_of(publication).saturating_sub(self.rows.bytes_of(key));
        if growth > 0 && self.rows.bytes() + growth > state.bytes {
            return Err(self.share.full(Bound::StateBytes, state.bytes));
        }
        Ok(growth)
    }

    fn append(&mut self, publication: Arc<Publication>, trimmed: usize, keep: Keep, now: Instant) {
        for _ in 0..trimmed {
            self.forget_oldest();
        }
        self.top += 1;
        self.next_expiry = [self.next_expiry, publication.expires_at].into_iter().flatten().min();
        self.publication_bytes += publication.weight_bytes();
        self.expires_at = Some(now + keep.ttl);
        self.positions_until = self.positions_until.max(now + keep.ttl + POSITION_TTL);
        if let Some(state) = keep.state {
            self.rows.apply(self.top, &publication);
            self.state_expires_at = Some((now + state.ttl, state.ttl));
            self.positions_until = self.positions_until.max(now + state.ttl + POSITION_TTL);
        }
        self.publications.push_back(publication);
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.publications.pop_front() {
            self.publication_bytes -= oldest.weight_bytes();
            self.forgotten = self.forgotten.max(offset_of(&oldest));
        }
    }

    /// Forgets the history; positions go on.
    pub(super) fn remove_history(&mut self) {
        self.forget_history();
        self.share.set(self.bytes());
    }

    fn forget_history(&mut self) {
        self.publications = VecDeque::new();
        self.publication_bytes = 0;
        self.next_expiry = None;
        self.forgotten = self.top;
    }

    /// Lets go what is over at this moment.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.expires_at.is_some_and(|at| at <= now) {
            self.expires_at = None;
            self.forget_history();
        }
        if self.next_expiry.is_some_and(|at| at <= now) {
            let mut left = 0;
            let is_keyed = self.state_expires_at.is_some();
            self.publications.retain(|publication| {
                let stays = !publication.is_expired(now);
                if !stays && is_keyed && publication.key.is_some() {
                    // Whoever has an older row of this key, and did not hear this, must be told that it is void.
                    self.forgotten = self.forgotten.max(offset_of(publication));
                }
                left += if stays { publication.weight_bytes() } else { 0 };
                stays
            });
            self.publication_bytes = left;
            self.next_expiry = self.publications.iter().filter_map(|publication| publication.expires_at).min();
        }
        self.retries.expire(now);
        self.rows.expire(now);
        let rows = &self.rows;
        self.versions.expire(now, now + POSITION_TTL, |key| rows.has(key));
        self.share.set(self.bytes());
    }

    /// Lets go what is over, and says whether nothing is left. `heard`: somebody listens on this node.
    pub(super) fn sweep(&mut self, now: Instant, heard: bool) -> bool {
        self.expire(now);
        if heard {
            // Those who listen stand at this position, and resume from it when they come back; and they have these rows.
            self.positions_until = self.positions_until.max(now + POSITION_TTL);
            self.state_expires_at = self.state_expires_at.map(|(at, ttl)| (at.max(now + ttl), ttl));
        }
        if self.state_expires_at.is_some_and(|(at, _)| at <= now) {
            self.forget_state();
        }
        self.dead = self.publications.is_empty() && self.rows.len() == 0 && self.positions_until <= now;
        self.dead
    }

    /// Whoever comes back with a position has rows that are gone: the log begins a new life, so that it is told.
    fn forget_state(&mut self) {
        self.state_expires_at = None;
        if self.rows.len() > 0 {
            self.rows = Rows::default();
            self.epoch = Epoch::from_random(fastrand::u64(..));
            self.top = 0;
            self.forget_history();
            self.share.set(self.bytes());
        }
    }

    fn bytes(&self) -> usize {
        self.fixed_bytes + self.publication_bytes + self.rows.bytes() + self.retries.bytes() + self.versions.bytes()
    }

    fn top(&self) -> Position {
        Position { offset: self.top, epoch: self.epoch }
    }

    pub(super) fn read(&self, query: LogQuery) -> LogPage {
        let limit = query.limit.unwrap_or(usize::MAX);
        let (publications, is_cut) = if query.reverse {
            let before = query.after.unwrap_or(u64::MAX);
            let end = self.publications.partition_point(|publication| offset_of(publication) < before);
            page(self.publications.iter().take(end).rev(), limit, query.bytes)
        } else {
            let after = query.after.unwrap_or(0);
            let start = self.publications.partition_point(|publication| offset_of(publication) <= after);
            page(self.publications.iter().skip(start), limit, query.bytes)
        };
        let next = publications.last().filter(|_| is_cut).map(|last| offset_of(last));
        LogPage { top: self.top(), kept_from: self.forgotten, publications, next }
    }

    pub(super) fn read_state(&self, query: StateQuery) -> StatePage {
        let (rows, next) = self.rows.read(query);
        StatePage { top: self.top(), rows, next }
    }
}

fn offset_of(publication: &Publication) -> u64 {
    publication.position.map_or(0, |position| position.offset)
}

/// As many as a page may hold, and whether there are more.
fn page<'a>(publications: impl Iterator<Item = &'a Arc<Publication>>, limit: usize, bytes: Option<usize>) -> (Vec<Arc<Publication>>, bool) {
    let max = bytes.unwrap_or(usize::MAX);
    let mut given = Vec::new();
    let mut bytes = 0_usize;
    for publication in publications {
        bytes = bytes.saturating_add(publication.weight_bytes());
        if given.len() >= limit || bytes > max && !given.is_empty() {
            return (given, true);
        }
        given.push(publication.clone());
    }
    (given, false)
}
