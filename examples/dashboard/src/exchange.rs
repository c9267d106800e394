//! A simulated exchange, on a port of its own: bearer tokens that end, and a socket with the frames of `stocks`. To this example it is somebody
//! else's server; that it is built on Broker too only keeps it short.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Json, Router, http::StatusCode, response::IntoResponse, routing::post};
use broker::{Broker, Namespace, Payload, Publish, Refusal, Route, Target, Verb};
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::interval};

use crate::{
    dispatch::now_ms,
    stocks::{ITEMS, Registrar, Registration, tick},
    tokens::Tokens,
};

/// Between two trades, of all items together.
const TRADE_INTERVAL: Duration = Duration::from_millis(120);
/// Who has a token.
const USER: &str = "bridge";

/// The running exchange. Cloning gives another handle.
#[derive(Clone)]
pub struct Exchange {
    broker: Broker,
    down: Arc<AtomicBool>,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Exchange {
    /// Opens it on a free port of this machine. Its tokens hold for `token_life`.
    pub async fn open(token_life: Duration) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let tokens = Tokens::new(&Tokens::fresh_secret()?, token_life)?;
        let down = Arc::new(AtomicBool::new(false));
        let broker = broker(tokens.clone(), down.clone())?;
        let issue = {
            let down = down.clone();
            move |Json(keys): Json<Value>| {
                let (tokens, down) = (tokens.clone(), down.clone());
                async move {
                    if down.load(Ordering::Relaxed) {
                        return (StatusCode::SERVICE_UNAVAILABLE, "the exchange is closed\n").into_response();
                    }
                    if keys["appkey"].is_string() && keys["secretkey"].is_string() {
                        tokens.issue(USER).answer().into_response()
                    } else {
                        StatusCode::UNAUTHORIZED.into_response()
                    }
                }
            }
        };
        let router = Router::new().route("/oauth2/token", post(issue)).fallback_service(broker.service());
        tokio::spawn(async move { axum::serve(listener, router).await });
        tokio::spawn(trade(broker.clone()));
        Ok(Self { broker, down, address })
    }

    /// Cuts everybody and lets nobody in for a while.
    pub fn close_for(&self, time: Duration) {
        self.down.store(true, Ordering::Relaxed);
        let exchange = self.clone();
        tokio::spawn(async move {
            exchange.cut(4002, "the exchange is closed").await;
            tokio::time::sleep(time).await;
            exchange.down.store(false, Ordering::Relaxed);
        });
    }

    /// Ends everybody's token before its time.
    pub async fn end_tokens(&self) {
        self.cut(3005, "the token has expired").await;
    }

    async fn cut(&self, code: u16, reason: &'static str) {
        let everybody = Target::User { user: USER.into(), tenant: None };
        if let Err(error) = self.broker.sessions(everybody).disconnect(code, reason).await {
            tracing::warn!(%error, "the exchange did not cut its clients");
        }
    }
}

fn broker(tokens: Tokens, down: Arc<AtomicBool>) -> Result<Broker, broker::BuildError> {
    let registrar = Registrar::default();
    let forgetting = registrar.clone();
    Broker::builder()
        .namespace("ticks", Namespace::default().allow(Verb::Subscribe))
        .route(Route::new("/websocket"))
        .on_connect(move |request| {
            let identity = if down.load(Ordering::Relaxed) {
                Err(Refusal::unavailable("the exchange is closed"))
            } else {
                tokens.identify(request.connect.token.as_deref())
            };
            std::future::ready(identity)
        })
        .on_message(move |message| {
            let actions = registrar.take(message.subject.info.session, message.data.bytes());
            std::future::ready(Ok(actions))
        })
        .on_disconnect(move |gone| {
            forgetting.forget(gone.subject.info.session);
            std::future::ready(())
        })
        .build()
}

/// Trades at random, for ever: prices walk in steps of the exchange.
async fn trade(broker: Broker) {
    let mut prices = ITEMS.map(|item| item.price);
    let mut ticks = interval(TRADE_INTERVAL);
    loop {
        ticks.tick().await;
        let index = fastrand::usize(..ITEMS.len());
        let (item, step) = (ITEMS[index], if ITEMS[index].price < 50_000 { 50 } else { 100 });
        let drift = if prices[index] > item.price { -1 } else { 1 };
        prices[index] = (prices[index] + step * (fastrand::i64(-3..=3) + drift * fastrand::i64(0..=1))).max(step);
        let (price, at_ms) = (prices[index], now_ms());
        let trade = json!({"price": price, "change": price - item.price, "volume": fastrand::i64(1..400), "at_ms": at_ms});
        let quotes = json!({"bid": price - step, "ask": price + step, "at_ms": at_ms});
        for (kind, values) in [("0B", trade), ("0D", quotes)] {
            let registration = Registration { item: item.code, kind };
            let frame = Payload::json(tick(registration, &values).to_string());
            if let Err(error) = broker.publish(&registration.topic(), Publish::new(frame)).await {
                tracing::debug!(%error, "a tick was not published");
            }
        }
    }
}
