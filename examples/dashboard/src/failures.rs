//! Failures on request, to see what happens then: the buttons in the pages. A request reaches one node and is acted on by all, over a topic that no
//! client may use.

use std::time::Duration;

use broker::{Broker, PublishValueError, TypedItem, TypedTopic};
use serde::{Deserialize, Serialize};

use crate::{board::Board, bridge::Switch, exchange::Exchange};

/// How long what fails is gone.
const OUTAGE: Duration = Duration::from_secs(10);

/// What can fail.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// Statistics cannot be read.
    Database,
    /// The exchange cuts its clients and lets nobody in.
    Exchange,
    /// The exchange's tokens end before their time.
    ExchangeToken,
    /// The bridge is killed.
    Bridge,
}

/// What a node lets fail.
#[derive(Clone)]
pub struct Failures {
    /// Its statistics.
    pub board: Board,
    /// Its exchange.
    pub exchange: Exchange,
    /// Its bridge, if it is the one that has it.
    pub bridge: Switch,
}

impl Failures {
    /// Lets fail whatever is asked for at any node, for as long as the broker lives.
    pub async fn act(self, broker: Broker) {
        let mut asked = topic(&broker).subscribe().expect("its namespace is there");
        while let Some(item) = asked.next().await {
            if let TypedItem::Value { value, .. } = item {
                self.fail(value).await;
            }
        }
    }

    async fn fail(&self, failure: Failure) {
        tracing::info!(?failure, "failing, as was asked for");
        match failure {
            Failure::Database => self.board.fail_for(OUTAGE).await,
            Failure::Exchange => self.exchange.close_for(OUTAGE),
            Failure::ExchangeToken => self.exchange.end_tokens().await,
            Failure::Bridge => self.bridge.stop(),
        }
    }
}

/// Asks all nodes.
pub async fn ask(broker: &Broker, failure: Failure) -> Result<(), PublishValueError> {
    topic(broker).publish(&failure).await.map(drop)
}

fn topic(broker: &Broker) -> TypedTopic<Failure> {
    broker.topic("demo:failures").expect("the name is legal")
}
