//! The broker of this example: one topic that anyone may watch, whose first frame is the state of the board.

use std::time::Duration;

use broker::{Broker, BuildError, Namespace, Payload, Publish, Route, SlowConsumer, Topic, Verb};

use crate::board::Board;

/// Where pages connect.
pub const PATH: &str = "/live/dashboard";

/// Nobody looks any more when nobody has looked for this long: a reload does not stop the collecting.
const LINGER: Duration = Duration::from_secs(2);

/// A broker that shows the board: it is asked once for however many come at the same time, and reads while somebody looks.
pub fn broker(board: &Board) -> Result<Broker, BuildError> {
    let (snapshot, occupied, vacated) = (board.clone(), board.clone(), board.clone());
    Broker::builder()
        .anonymous()
        .default_namespace(Namespace::default().allow(Verb::Subscribe).allow_anonymous().slow_consumer(SlowConsumer::DropOldest))
        .route(Route::new(PATH).topic("dashboard"))
        .settings(|settings| settings.linger = LINGER)
        .snapshot("dashboard", move |_| {
            let board = snapshot.clone();
            async move { Ok(Payload::json(board.snapshot().await)) }
        })
        .on_occupied(move |_| watch(&occupied, true))
        .on_vacated(move |_| watch(&vacated, false))
        .build()
}

fn watch(board: &Board, watched: bool) -> std::future::Ready<()> {
    board.watch(watched);
    std::future::ready(())
}

/// Publishes the board's frames as they become due, for ever. A broker that cannot take one gets the next.
pub async fn publish(board: Board, broker: Broker) {
    let dashboard = Topic::try_from("dashboard").expect("the name is legal");
    let mut frames = board.frames();
    loop {
        let frame = frames.next().await;
        if let Err(error) = broker.publish(&dashboard, Publish::new(Payload::json(frame))).await {
            tracing::warn!(%error, "a frame was not published");
        }
    }
}
