//! An application behind a real socket: answers each call by its path, and remembers what it was asked.

use std::{
    convert::Infallible,
    future::pending,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpListener, sync::watch};

/// One call, as the application sees it.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

/// What the application does about a call.
pub(crate) enum Reply {
    /// Answers 200 with this.
    Json(Value),
    /// Answers with a status, headers and a body.
    Raw(u16, Vec<(&'static str, String)>, String),
    /// Never answers.
    Hang,
    /// Answers `{"result":{}}` when the watched value is true.
    When(watch::Receiver<bool>),
}

pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    pub(crate) calls: watch::Sender<Vec<Call>>,
}

impl Backend {
    pub(crate) async fn start(answer: impl Fn(&Call) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (answer, calls) = (Arc::new(answer), watch::Sender::new(Vec::new()));
        let seen = calls.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, seen) = (answer.clone(), seen.clone());
                let service = service_fn(move |request| serve(request, answer.clone(), seen.clone()));
                // A client that hangs up is no failure of the application.
                tokio::spawn(async move { http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok() });
            }
        });
        Self { address, calls }
    }

    /// Answers everything with the same JSON.
    pub(crate) async fn always(answer: Value) -> Self {
        Self::start(move |_| Reply::Json(answer.clone())).await
    }

    /// Answers one call after the other; the last answer stays.
    pub(crate) async fn in_turn(answers: Vec<Reply>) -> Self {
        let answers = Mutex::new(answers);
        Self::start(move |_| {
            let mut answers = answers.lock().unwrap();
            if answers.len() > 1 { answers.remove(0) } else { answers[0].again() }
        })
        .await
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.borrow().clone()
    }

    /// Waits for so many calls.
    pub(crate) async fn called(&self, times: usize) -> Vec<Call> {
        self.calls.subscribe().wait_for(|calls| calls.len() >= times).await.unwrap().clone()
    }
}

impl Reply {
    fn again(&self) -> Self {
        match self {
            Self::Json(value) => Self::Json(value.clone()),
            Self::Raw(status, headers, body) => Self::Raw(*status, headers.clone(), body.clone()),
            Self::Hang => Self::Hang,
            Self::When(open) => Self::When(open.clone()),
        }
    }
}

async fn serve(
    request: Request<Incoming>,
    answer: Arc<impl Fn(&Call) -> Reply>,
    seen: watch::Sender<Vec<Call>>,
) -> Result<Response<Full<bytes::Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let call = Call { path: head.uri.path().to_owned(), headers: head.headers, body: serde_json::from_slice(&body).unwrap() };
    let reply = answer(&call);
    seen.send_modify(|calls| calls.push(call));
    let json = |value: &Value| Response::new(Full::from(value.to_string()));
    Ok(match reply {
        Reply::Json(value) => json(&value),
        Reply::Raw(status, headers, body) => {
            let builder = Response::builder().status(status);
            headers.into_iter().fold(builder, |builder, (name, value)| builder.header(name, value)).body(Full::from(body)).unwrap()
        }
        Reply::Hang => pending().await,
        Reply::When(mut open) => {
            open.wait_for(|open| *open).await.unwrap();
            json(&serde_json::json!({"result": {}}))
        }
    })
}
