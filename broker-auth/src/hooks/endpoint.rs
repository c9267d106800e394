//! One hook's endpoint: its turn, its deadline, its circuit, its counters and log lines. What is asked does not live here.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::Semaphore;
use tracing::{info, warn};

use super::{
    answer::Malformed,
    circuit::{Admission, Circuit, Outcome, Transition},
    client::post,
    counts::Counts,
    failure::CallFailed,
    options::{Hook, HookOptions},
};
use crate::http_client::HttpClient;

/// Least time between two log lines about failures of one endpoint; what is left out is counted.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(1);

/// Where a hook is called. Any number of calls may be under way; how many go out is bounded.
#[derive(Debug)]
pub(super) struct Endpoint {
    hook: Hook,
    options: HookOptions,
    client: HttpClient,
    /// Headers of every call.
    headers: HeaderMap,
    answer_max_bytes: usize,
    /// Calls that are out.
    places: Semaphore,
    /// Calls that are out or wait for it.
    seats: Semaphore,
    circuit: Mutex<Circuit>,
    complaint: Mutex<Complaint>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Complaint {
    last_at: Option<Instant>,
    left_out: u64,
}

impl Endpoint {
    pub(super) fn new(
        hook: Hook,
        options: HookOptions,
        client: HttpClient,
        headers: HeaderMap,
        answer_max_bytes: usize,
        failures_max: u32,
    ) -> Self {
        let concurrency = options.concurrency.clamp(1, Semaphore::MAX_PERMITS / 2);
        let seats = concurrency + options.queue_max_len.min(Semaphore::MAX_PERMITS / 2);
        Self {
            hook,
            client,
            headers,
            answer_max_bytes,
            places: Semaphore::new(concurrency),
            seats: Semaphore::new(seats),
            circuit: Mutex::new(Circuit::new(failures_max)),
            complaint: Mutex::default(),
            counts: Counts::default(),
            options,
        }
    }

    pub(super) fn hook(&self) -> Hook {
        self.hook
    }

    pub(super) fn options(&self) -> &HookOptions {
        &self.options
    }

    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Asks, and reads the answer. Every failure is counted and, a few of them, logged.
    ///
    /// Cancel-safe: a call that is dropped frees its place, and says nothing about the endpoint.
    pub(super) async fn call<T>(
        &self,
        body: Vec<u8>,
        passed: HeaderMap,
        read: impl FnOnce(&Bytes) -> Result<T, Malformed>,
    ) -> Result<T, CallFailed> {
        self.counts.call();
        let answered = match self.exchange(body, passed).await {
            Ok(answer) => read(&answer).map_err(CallFailed::Malformed),
            Err(failed) => Err(failed),
        };
        answered.inspect_err(|failed| {
            self.counts.failure(failed.cause());
            self.complain(failed);
        })
    }

    /// Counts a call that there is no room for.
    pub(super) fn refuse(&self) {
        self.counts.call();
        self.counts.failure(CallFailed::Overloaded.cause());
        self.complain(&CallFailed::Overloaded);
    }

    async fn exchange(&self, body: Vec<u8>, passed: HeaderMap) -> Result<Bytes, CallFailed> {
        let _seat = self.seats.try_acquire().map_err(|_| CallFailed::Overloaded)?;
        let deadline = tokio::time::Instant::now() + self.options.timeout;
        // The semaphore is never closed.
        let Ok(Ok(_place)) = tokio::time::timeout_at(deadline, self.places.acquire()).await else {
            return Err(CallFailed::Overloaded);
        };
        let admitted = self.admit()?;
        let mut headers = passed;
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
        let posted = post(&self.client, self.options.url.uri().clone(), headers, body, self.answer_max_bytes);
        let answer = tokio::time::timeout_at(deadline, posted).await.unwrap_or(Err(CallFailed::TimedOut(self.options.timeout)));
        let is_ill = answer.as_ref().is_err_and(CallFailed::is_of_the_endpoint);
        admitted.settle(if is_ill { Outcome::Failed } else { Outcome::Alive });
        answer
    }

    fn admit(&self) -> Result<Admitted<'_>, CallFailed> {
        let admission = self.circuit.lock().expect("no code panics while it holds the circuit").admit(now());
        match admission {
            Admission::Refused { retry_after } => Err(CallFailed::Open { retry_after }),
            admission => Ok(Admitted { endpoint: self, admission: Some(admission) }),
        }
    }

    fn settle(&self, admission: Admission, outcome: Outcome) {
        let transition = {
            let mut circuit = self.circuit.lock().expect("no code panics while it holds the circuit");
            let transition = circuit.settle(admission, outcome, now(), fastrand::f32());
            self.counts.circuit(circuit.is_open());
            transition
        };
        let (hook, url) = (self.hook.word(), &self.options.url);
        match transition {
            Some(Transition::Opened { pause }) => {
                warn!(hook, %url, pause_ms = pause.as_millis() as u64, "the application does not answer: its hook is not called for a while");
            }
            Some(Transition::Closed) => info!(hook, %url, "the application answers again"),
            None => {}
        }
    }

    /// Tells the operator, at most once in a while.
    fn complain(&self, failed: &CallFailed) {
        // The line about the open circuit has said it.
        if matches!(failed, CallFailed::Open { .. }) {
            return;
        }
        let left_out = {
            let mut complaint = self.complaint.lock().expect("no code panics while it holds this");
            let at = now();
            if complaint.last_at.is_some_and(|last| at.duration_since(last) < COMPLAINT_INTERVAL) {
                complaint.left_out += 1;
                return;
            }
            complaint.last_at = Some(at);
            std::mem::take(&mut complaint.left_out)
        };
        let (hook, url, cause, hint) = (self.hook.word(), &self.options.url, failed.cause(), failed.cure(self.hook));
        warn!(hook, %url, cause, error = %failed, hint, left_out, "a hook gave no usable answer");
    }
}

/// The runtime's clock, so that tests can turn it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A call that may go out; dropped without an outcome, it says nothing about the endpoint.
struct Admitted<'a> {
    endpoint: &'a Endpoint,
    admission: Option<Admission>,
}

impl Admitted<'_> {
    fn settle(mut self, outcome: Outcome) {
        if let Some(admission) = self.admission.take() {
            self.endpoint.settle(admission, outcome);
        }
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        if let Some(admission) = self.admission.take() {
            self.endpoint.settle(admission, Outcome::Unknown);
        }
    }
}
