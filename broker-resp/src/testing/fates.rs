//! What becomes of single pushes on their way through a proxy. The proxy lives in `proxy`.

use std::fmt;

use bytes::{Bytes, BytesMut};

use crate::{Bounds, Decoder, Frame, Push};

/// What becomes of a push.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// It is handed on.
    Pass,
    /// It is lost.
    Drop,
    /// It arrives twice.
    Double,
    /// It arrives when [`Proxy::release`](crate::testing::Proxy::release) is called, or never.
    Withhold,
}

/// Probabilities of fates of messages (`message`, `smessage`, `pmessage`), drawn from a seed; what is left passes, as do all other pushes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chances {
    /// The same seed and the same messages have the same fates.
    pub seed: u64,
    /// Probability of [`Fate::Drop`], 0 to 1.
    pub drop: f64,
    /// Probability of [`Fate::Double`], 0 to 1.
    pub double: f64,
    /// Probability of [`Fate::Withhold`], 0 to 1.
    pub withhold: f64,
}

/// Decides for each push.
pub(crate) type Judge = Box<dyn FnMut(&Push) -> Fate + Send>;

impl Chances {
    pub(crate) fn judge(self) -> Judge {
        let mut random = fastrand::Rng::with_seed(self.seed);
        Box::new(move |push| {
            if !matches!(push, Push::Message { .. } | Push::PatternMessage { .. }) {
                return Fate::Pass;
            }
            match random.f64() {
                drawn if drawn < self.drop => Fate::Drop,
                drawn if drawn < self.drop + self.double => Fate::Double,
                drawn if drawn < self.drop + self.double + self.withhold => Fate::Withhold,
                _ => Fate::Pass,
            }
        })
    }
}

/// The bytes of a server, cut into frames, with the fates applied.
pub(crate) struct Frames {
    decoder: Decoder,
    /// What the decoder has not finished, and the same bytes as they came.
    read: BytesMut,
    raw: BytesMut,
    withheld: BytesMut,
    /// Whether this is RESP so far. TLS is not.
    readable: bool,
}

impl Frames {
    pub(crate) fn new() -> Self {
        Self {
            decoder: Decoder::new(Bounds::default()),
            read: BytesMut::new(),
            raw: BytesMut::new(),
            withheld: BytesMut::new(),
            readable: true,
        }
    }

    /// What goes on of the bytes so far. What is not RESP goes on as it is.
    pub(crate) fn pass(&mut self, bytes: &[u8], judge: &mut dyn FnMut(&Push) -> Fate) -> Bytes {
        if !self.readable {
            return Bytes::copy_from_slice(bytes);
        }
        self.read.extend_from_slice(bytes);
        self.raw.extend_from_slice(bytes);
        let mut passed = BytesMut::new();
        while !self.read.is_empty() {
            let before = self.read.len();
            let frame = match self.decoder.next(&mut self.read) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(_) => {
                    self.readable = false;
                    passed.extend_from_slice(&self.raw.split());
                    break;
                }
            };
            let raw = self.raw.split_to(before - self.read.len());
            match if let Frame::Push(push) = &frame { judge(push) } else { Fate::Pass } {
                Fate::Pass => passed.extend_from_slice(&raw),
                Fate::Drop => {}
                Fate::Double => {
                    passed.extend_from_slice(&raw);
                    passed.extend_from_slice(&raw);
                }
                Fate::Withhold => self.withheld.extend_from_slice(&raw),
            }
        }
        passed.freeze()
    }

    /// What was withheld. Between frames is the only place for it, so it goes before what has begun.
    pub(crate) fn release(&mut self) -> Bytes {
        self.withheld.split().freeze()
    }
}

impl fmt::Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frames({} bytes withheld)", self.withheld.len())
    }
}
