//! The broker of this example: which paths mean which topics, who may connect, and what is published when.

use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock},
    time::Duration,
};

use broker::{
    Broker, BuildError, HistoryQuery, Identity, Namespace, Payload, Publish, Refusal, Route, SlowConsumer, SnapshotFailed, Topic, Verb,
};
use kit::Node;
use serde_json::json;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use crate::{
    board::Board,
    dispatch::{Database, Step, now_ms},
    machine::Machine,
    stocks::{self, Registrar},
    tokens::Tokens,
};

/// Statistics as they stand, then at their pace.
pub const STATISTICS_PATH: &str = "/api/v1/dispatches/ws/dashboard";
/// The newest alerts, then each.
pub const ALERTS_PATH: &str = "/api/v1/ws/alerts";
/// Stock ticks, by `REG` and `REMOVE`, with a bearer token.
pub const STOCKS_PATH: &str = "/api/v1/stocks/ws";

const STATISTICS: &str = "dispatch:statistics";
const ALERTS: &str = "alerts:dispatch";
const PULSE: &str = "widgets:pulse";
const MACHINE: &str = "widgets:machine";

/// Nobody looks any more when nobody has looked for this long: a reload does not stop the collecting.
const LINGER: Duration = Duration::from_secs(2);
/// Between two steps of the simulated traffic.
const STEP_INTERVAL: Duration = Duration::from_millis(250);
/// Steps that the pulse tells of: ten seconds.
const PULSE_STEPS: usize = 40;
/// How long another node waits for one that does not go on.
const LEASE: Duration = Duration::from_secs(3);
/// Alerts that a new viewer gets.
const ALERTS_SHOWN: u32 = 20;
/// Ticks of an item that a new viewer gets.
const TICKS_SHOWN: usize = 240;

/// What the broker's hooks need.
#[derive(Clone)]
pub struct Parts {
    /// The dispatch database.
    pub database: Database,
    /// What everybody looks at.
    pub board: Board,
    /// Whether anybody looks at the machine's widget.
    pub machine: watch::Sender<bool>,
    /// Who may use the stock socket.
    pub tokens: Tokens,
}

/// The broker. It reads statistics while somebody looks, and asks for a first frame once for however many come at the same time.
pub fn broker(node: &Node, parts: &Parts) -> Result<Broker, BuildError> {
    let all = || Namespace::default().allow(Verb::Subscribe).allow_anonymous();
    let (registrar, tokens, board, database) = (Registrar::default(), parts.tokens.clone(), parts.board.clone(), parts.database.clone());
    let (forgetting, occupied, vacated) = (registrar.clone(), parts.clone(), parts.clone());
    let itself: Arc<OnceLock<Broker>> = Arc::default();
    let reader = itself.clone();
    let broker = node
        .builder()
        .namespace("dispatch", all().slow_consumer(SlowConsumer::Latest))
        .namespace("alerts", all().slow_consumer(SlowConsumer::DropOldest))
        .namespace("widgets", all().slow_consumer(SlowConsumer::Latest))
        .namespace("demo", Namespace::default())
        .namespace("feed", all().history(50, Duration::from_secs(3600)))
        .namespace(
            "ticks",
            Namespace::default()
                .allow(Verb::Subscribe)
                .history(TICKS_SHOWN, Duration::from_secs(1800))
                .slow_consumer(SlowConsumer::DropOldest),
        )
        .route(Route::new(STATISTICS_PATH).topic(STATISTICS))
        .route(Route::new(ALERTS_PATH).topic(ALERTS))
        .route(Route::new(STOCKS_PATH))
        .settings(|settings| settings.linger = LINGER)
        .on_connect(move |request| {
            let token = request.connect.token.as_deref();
            let open = token.is_none() && request.head.path.trim_end_matches('/') != STOCKS_PATH;
            let identity = if open { Ok(Identity::anonymous()) } else { tokens.identify(token) };
            std::future::ready(identity.map_err(|refusal| refusal.hint("POST /api/v1/stocks/token gives a fresh one")))
        })
        .on_message(move |message| {
            let actions = if message.path.trim_end_matches('/') == STOCKS_PATH {
                Ok(registrar.take(message.subject.info.session, message.data.bytes()))
            } else {
                Err(Refusal::bad_request("no frames of yours are expected here").hint(format!("register stocks at {STOCKS_PATH}")))
            };
            std::future::ready(actions)
        })
        .on_disconnect(move |gone| {
            forgetting.forget(gone.subject.info.session);
            std::future::ready(())
        })
        .snapshot(STATISTICS, move |_| {
            let board = board.clone();
            async move { Ok(Payload::json(board.snapshot().await)) }
        })
        .snapshot(ALERTS, move |_| {
            let database = database.clone();
            async move {
                let alerts = database.alerts(ALERTS_SHOWN).await.map_err(|error| SnapshotFailed::new(error.to_string()))?;
                Ok(Payload::json(json!({"type": "alerts", "alerts": alerts}).to_string()))
            }
        })
        .snapshot("ticks", move |topic: Topic| {
            let broker = reader.get().cloned();
            async move {
                let Some(broker) = broker else { return Ok(None) };
                let newest = HistoryQuery { since: None, limit: TICKS_SHOWN, reverse: true };
                let page = broker.history(&topic, newest).await.map_err(|error| SnapshotFailed::new(error.to_string()))?;
                Ok(stocks::snapshot(&page))
            }
        })
        .on_occupied(move |topic| occupied.watch(&topic, true))
        .on_vacated(move |topic| vacated.watch(&topic, false))
        .build()?;
    let _ = itself.set(broker.clone());
    Ok(broker)
}

impl Parts {
    fn watch(&self, topic: &Topic, watched: bool) -> std::future::Ready<()> {
        match topic.as_str() {
            STATISTICS => self.board.watch(watched),
            MACHINE => _ = self.machine.send_replace(watched),
            _ => {}
        }
        std::future::ready(())
    }

    /// Begins to publish, for as long as the process lives. `node` names this node to the others on the same database.
    pub fn publish_on(&self, broker: &Broker, node: &str) {
        tokio::spawn(statistics(self.clone(), broker.clone(), node.to_owned()));
        tokio::spawn(traffic(self.database.clone(), broker.clone(), node.to_owned()));
        tokio::spawn(machine(self.machine.subscribe(), broker.clone()));
    }
}

/// The board's frames as they become due; of several nodes that have viewers, one publishes them.
async fn statistics(parts: Parts, broker: Broker, node: String) {
    let mut frames = parts.board.frames();
    loop {
        let frame = frames.next().await;
        // Where the database does not answer, the news is that it does not.
        if parts.database.lease("statistics", &node, LEASE).await.unwrap_or(true) {
            tell(&broker, STATISTICS, frame).await;
        }
    }
}

/// Lets time pass in the database, on one node, and tells what that brought when it is committed.
async fn traffic(database: Database, broker: Broker, node: String) {
    let mut last: VecDeque<Step> = VecDeque::with_capacity(PULSE_STEPS);
    let mut steps = interval(STEP_INTERVAL);
    steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        steps.tick().await;
        if !database.lease("traffic", &node, LEASE).await.unwrap_or(false) {
            continue;
        }
        match database.step().await {
            Ok(step) => {
                if let Some(alert) = &step.alert {
                    tell(&broker, ALERTS, json!({"type": "alert", "alert": alert}).to_string()).await;
                }
                if last.len() == PULSE_STEPS {
                    last.pop_front();
                }
                last.push_back(step);
                let sum = |of: fn(&Step) -> usize| last.iter().map(of).sum::<usize>();
                let pulse = json!({"at_ms": now_ms(), "placed": sum(|step| step.placed), "delivered": sum(|step| step.delivered)});
                tell(&broker, PULSE, pulse.to_string()).await;
            }
            Err(error) => tracing::warn!(%error, "no step of the traffic"),
        }
    }
}

/// How busy the machine is, while somebody looks.
async fn machine(mut watched: watch::Receiver<bool>, broker: Broker) {
    let mut machine = Machine::new();
    let mut readings = interval(STEP_INTERVAL);
    readings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while watched.wait_for(|watched| *watched).await.is_ok() {
        readings.tick().await;
        tell(&broker, MACHINE, json!(machine.read()).to_string()).await;
    }
}

/// A broker that cannot take a frame gets the next.
async fn tell(broker: &Broker, topic: &str, frame: String) {
    let topic = Topic::try_from(topic).expect("the name is legal");
    if let Err(error) = broker.publish(&topic, Publish::new(Payload::json(frame))).await {
        tracing::warn!(%topic, %error, "a frame was not published");
    }
}
