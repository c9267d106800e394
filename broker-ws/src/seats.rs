//! How many connections a server holds: one seat each, from accept to the end of the task that serves it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// A bounded number of seats.
#[derive(Clone, Debug)]
pub(crate) struct Seats {
    taken: Arc<AtomicUsize>,
    max: usize,
}

impl Seats {
    pub(crate) fn new(max: usize) -> Self {
        Self { taken: Arc::default(), max }
    }

    /// A seat, where one is free.
    pub(crate) fn take(&self) -> Option<Seat> {
        let free = |taken| (taken < self.max).then_some(taken + 1);
        self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, free).ok()?;
        Some(Seat(Arc::new(Taken(Arc::clone(&self.taken)))))
    }
}

/// One connection's seat: free again when the last clone is dropped. It travels in the request's extensions, past any framework.
#[derive(Clone, Debug)]
pub(crate) struct Seat(#[allow(dead_code, reason = "held for its drop")] Arc<Taken>);

#[derive(Debug)]
struct Taken(Arc<AtomicUsize>);

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_is_free_again_when_its_last_clone_is_gone() {
        let seats = Seats::new(1);
        let seat = seats.take().unwrap();
        let clone = seat.clone();
        drop(seat);
        assert!(seats.take().is_none());
        drop(clone);
        assert!(seats.take().is_some());
    }
}
