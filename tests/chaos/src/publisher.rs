//! Publishes numbers over HTTP, each again and again with its key, on whichever node answers, until it is acknowledged.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::checker::{Checker, Place};

/// A call that takes longer has failed.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// Publishes to topics.
pub(crate) struct Publisher {
    http: Client<HttpConnector, Full<Bytes>>,
    nodes: Vec<SocketAddr>,
    key: String,
    checker: Arc<Mutex<Checker>>,
    next: AtomicU64,
    /// Whether numbers go on.
    pub(crate) goes_on: AtomicBool,
    /// Answers that were no acknowledgement, by what they were.
    pub(crate) failures: Mutex<BTreeMap<String, u64>>,
    /// Numbers that were acknowledged.
    pub(crate) acknowledged: AtomicU64,
    /// The longest that a number took.
    pub(crate) slowest: Mutex<Duration>,
    heads: Mutex<BTreeMap<String, Place>>,
}

impl Publisher {
    pub(crate) fn new(nodes: Vec<SocketAddr>, key: &str, checker: Arc<Mutex<Checker>>) -> Arc<Self> {
        Arc::new(Self {
            http: Client::builder(TokioExecutor::new()).build_http(),
            nodes,
            key: key.to_owned(),
            checker,
            next: AtomicU64::new(1),
            goes_on: AtomicBool::new(true),
            failures: Mutex::default(),
            acknowledged: AtomicU64::new(0),
            slowest: Mutex::default(),
            heads: Mutex::default(),
        })
    }

    /// The number of the next publication.
    pub(crate) fn next_number(&self) -> u64 {
        self.next.load(Relaxed)
    }

    /// Publishes to a topic at a pace until it is told to stop, one number at a time.
    pub(crate) async fn run(self: Arc<Self>, topic: String, every: Duration) {
        let mut node = 0;
        while self.goes_on.load(Relaxed) {
            let begun = Instant::now();
            node = self.publish(&topic, node).await;
            tokio::time::sleep(every.saturating_sub(begun.elapsed())).await;
        }
    }

    /// Publishes the next number until it is acknowledged; which node did. The first try goes to this one.
    pub(crate) async fn publish(&self, topic: &str, first_node: usize) -> usize {
        let number = self.next.fetch_add(1, Relaxed);
        let body = json!({"channel": topic, "data": {"n": number}, "idempotency_key": format!("n{number}")});
        let begun = Instant::now();
        let mut node = first_node;
        loop {
            match self.call("publish", &body, node).await {
                Ok(answer) => {
                    if let Some((epoch, offset)) = position(&answer["result"]) {
                        let place = Place { topic: topic.to_owned(), epoch, offset };
                        self.heads.lock().insert(topic.to_owned(), place.clone());
                        self.checker.lock().acknowledged(place, number);
                        self.acknowledged.fetch_add(1, Relaxed);
                        let mut slowest = self.slowest.lock();
                        *slowest = slowest.max(begun.elapsed());
                        return node;
                    }
                    self.failed(format!("an answer without a position: {answer}"));
                }
                Err(what) => self.failed(what),
            }
            tokio::time::sleep(PAUSE).await;
            node = (node + 1) % self.nodes.len();
        }
    }

    /// Where the topics stood at their last acknowledgements.
    pub(crate) fn heads(&self) -> Vec<Place> {
        self.heads.lock().values().cloned().collect()
    }

    fn failed(&self, what: String) {
        *self.failures.lock().entry(what).or_default() += 1;
    }

    async fn call(&self, method: &str, body: &Value, node: usize) -> Result<Value, String> {
        match self.ask(method, body, node).await? {
            (200, answer) => Ok(answer),
            (status, _) => Err(status.to_string()),
        }
    }

    /// Asks a node for something of its server API: the status and the text of the answer.
    pub(crate) async fn ask(&self, method: &str, body: &Value, node: usize) -> Result<(u16, Value), String> {
        let request = Request::post(format!("http://{}/api/{method}", self.nodes[node]))
            .header("x-api-key", &self.key)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body.to_string())))
            .map_err(|error| error.to_string())?;
        let (status, bytes) = self.answer(request).await?;
        Ok((status, serde_json::from_slice(&bytes).map_err(|_| "no JSON".to_owned())?))
    }

    /// Whether a node says that it is ready; `None`: it says nothing.
    pub(crate) async fn is_ready(&self, node: usize) -> Option<bool> {
        let request = Request::get(format!("http://{}/ready", self.nodes[node])).body(Full::default()).ok()?;
        Some(self.answer(request).await.ok()?.0 == 200)
    }

    async fn answer(&self, request: Request<Full<Bytes>>) -> Result<(u16, Bytes), String> {
        let answer = async {
            let response = self.http.request(request).await.map_err(|_| "no connection".to_owned())?;
            let status = response.status().as_u16();
            let bytes = response.into_body().collect().await.map_err(|_| "a connection that broke".to_owned())?.to_bytes();
            Ok((status, bytes))
        };
        tokio::time::timeout(CALL_TIMEOUT, answer).await.unwrap_or_else(|_| Err("no answer in 5 s".to_owned()))
    }
}

fn position(result: &Value) -> Option<(String, u64)> {
    Some((result["epoch"].as_str()?.to_owned(), result["offset"].as_u64()?))
}
