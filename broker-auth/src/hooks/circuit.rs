//! The circuit of one endpoint: whether a call may go out now. A pure state machine; time and chance are inputs. Calls are not made here.

use std::time::{Duration, Instant};

/// The shortest time that a circuit stays open; it doubles with each probe that fails.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest time that a circuit stays open before it is probed again, before jitter.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Lets calls through until too many in a row have failed; then lets one at a time try, after pauses that grow.
#[derive(Debug)]
pub(super) struct Circuit {
    failures_max: u32,
    state: State,
}

#[derive(Debug)]
enum State {
    Closed {
        failures: u32,
    },
    Open {
        until: Instant,
        pause: Duration,
    },
    /// One call tries whether the endpoint is back.
    Probing {
        pause: Duration,
    },
}

/// Whether a call may go out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Admission {
    /// As usual.
    Usual,
    /// As the one that tries whether the endpoint is back.
    Probe,
    /// Not before this time has passed.
    Refused { retry_after: Duration },
}

/// How a call went, as far as the endpoint's health is concerned.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    /// It answered, whatever it said.
    Alive,
    /// It did not answer, or said that it cannot.
    Failed,
    /// Nobody waited for the end.
    Unknown,
}

/// What changed, for the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Transition {
    /// No call goes out for this long.
    Opened { pause: Duration },
    /// Calls go out again.
    Closed,
}

impl Circuit {
    /// Opens after so many failures in a row.
    pub(super) fn new(failures_max: u32) -> Self {
        Self { failures_max: failures_max.max(1), state: State::Closed { failures: 0 } }
    }

    /// Whether calls are refused, or only tried.
    pub(super) fn is_open(&self) -> bool {
        !matches!(self.state, State::Closed { .. })
    }

    /// Asks for a call. Whoever gets [`Admission::Probe`] must settle it.
    pub(super) fn admit(&mut self, now: Instant) -> Admission {
        match self.state {
            State::Closed { .. } => Admission::Usual,
            State::Open { until, pause } => {
                let left = until.saturating_duration_since(now);
                if left.is_zero() {
                    self.state = State::Probing { pause };
                    Admission::Probe
                } else {
                    Admission::Refused { retry_after: left }
                }
            }
            State::Probing { .. } => Admission::Refused { retry_after: PAUSE_MIN },
        }
    }

    /// Takes how an admitted call went. `chance`, 0 to 1, spreads the probes of many nodes.
    pub(super) fn settle(&mut self, admission: Admission, outcome: Outcome, now: Instant, chance: f32) -> Option<Transition> {
        match (&mut self.state, admission, outcome) {
            (State::Closed { failures }, _, Outcome::Alive) => {
                *failures = 0;
                None
            }
            (State::Closed { failures }, _, Outcome::Failed) => {
                *failures += 1;
                (*failures >= self.failures_max).then(|| self.open(PAUSE_MIN, now, chance))
            }
            (State::Probing { .. }, Admission::Probe, Outcome::Alive) => {
                self.state = State::Closed { failures: 0 };
                Some(Transition::Closed)
            }
            (State::Probing { pause }, Admission::Probe, Outcome::Failed) => {
                let longer = (*pause * 2).min(PAUSE_MAX);
                Some(self.open(longer, now, chance))
            }
            (State::Probing { pause }, Admission::Probe, Outcome::Unknown) => {
                // The next call is the probe.
                self.state = State::Open { until: now, pause: *pause };
                None
            }
            // A call that went out before the circuit opened says nothing new.
            _ => None,
        }
    }

    fn open(&mut self, pause: Duration, now: Instant, chance: f32) -> Transition {
        let spread = pause.mul_f32(0.75 + chance.clamp(0.0, 1.0) / 2.0);
        self.state = State::Open { until: now + spread, pause };
        Transition::Opened { pause: spread }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chance that makes pauses as long as they are without jitter.
    const EVEN: f32 = 0.5;

    fn fail(circuit: &mut Circuit, now: Instant) -> Option<Transition> {
        let admission = circuit.admit(now);
        circuit.settle(admission, Outcome::Failed, now, EVEN)
    }

    #[test]
    fn so_many_failures_in_a_row_open_and_one_answer_between_starts_anew() {
        let now = Instant::now();
        let mut circuit = Circuit::new(3);
        assert_eq!((fail(&mut circuit, now), fail(&mut circuit, now)), (None, None));
        let admission = circuit.admit(now);
        assert_eq!(circuit.settle(admission, Outcome::Alive, now, EVEN), None);
        assert_eq!((fail(&mut circuit, now), fail(&mut circuit, now)), (None, None));
        assert_eq!(fail(&mut circuit, now), Some(Transition::Opened { pause: PAUSE_MIN }));
        assert_eq!(circuit.admit(now), Admission::Refused { retry_after: PAUSE_MIN });
    }

    #[test]
    fn one_call_probes_after_the_pause_and_pauses_double_up_to_the_longest() {
        let mut now = Instant::now();
        let mut circuit = Circuit::new(1);
        fail(&mut circuit, now);
        for pause in [2, 4, 8, 16, 30, 30] {
            now += PAUSE_MAX;
            assert_eq!(circuit.admit(now), Admission::Probe);
            assert!(matches!(circuit.admit(now), Admission::Refused { .. }), "one probe at a time");
            let opened = circuit.settle(Admission::Probe, Outcome::Failed, now, EVEN);
            assert_eq!(opened, Some(Transition::Opened { pause: Duration::from_secs(pause) }));
        }
        now += PAUSE_MAX;
        assert_eq!(circuit.admit(now), Admission::Probe);
        assert_eq!(circuit.settle(Admission::Probe, Outcome::Alive, now, EVEN), Some(Transition::Closed));
        assert_eq!(circuit.admit(now), Admission::Usual);
    }

    #[test]
    fn a_probe_that_nobody_waits_for_leaves_the_next_call_to_probe() {
        let mut now = Instant::now();
        let mut circuit = Circuit::new(1);
        fail(&mut circuit, now);
        now += PAUSE_MIN;
        assert_eq!(circuit.admit(now), Admission::Probe);
        assert_eq!(circuit.settle(Admission::Probe, Outcome::Unknown, now, EVEN), None);
        assert!(circuit.is_open());
        assert_eq!(circuit.admit(now), Admission::Probe);
    }

    #[test]
    fn late_answers_of_older_calls_do_not_close_an_open_circuit() {
        let now = Instant::now();
        let mut circuit = Circuit::new(1);
        let early = circuit.admit(now);
        fail(&mut circuit, now);
        assert_eq!(circuit.settle(early, Outcome::Alive, now, EVEN), None);
        assert!(circuit.is_open());
    }

    #[test]
    fn chance_spreads_a_pause_by_a_quarter_to_either_side() {
        let now = Instant::now();
        for (chance, pause_ms) in [(0.0, 750), (1.0, 1250)] {
            let mut circuit = Circuit::new(1);
            let admission = circuit.admit(now);
            let opened = circuit.settle(admission, Outcome::Failed, now, chance);
            assert_eq!(opened, Some(Transition::Opened { pause: Duration::from_millis(pause_ms) }));
        }
    }
}
