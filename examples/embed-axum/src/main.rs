//! Live topics inside an axum server: a room is a topic, what is posted to a room is published to it. The program of the README.

use axum::{Router, extract::Path, extract::State, http::StatusCode, routing::post};
use broker::{Broker, Identity, Namespace, Verb};
use std::time::Duration;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let rooms = Namespace::default().history(100, Duration::from_secs(3600)).allow(Verb::Subscribe).allow_anonymous();
    let broker = Broker::builder()
        .on_connect(|request| async move { Ok(Identity::user(request.head.cookie("user").unwrap_or_default())) })
        .namespace("room", rooms)
        .build()?;
    let app = Router::new().nest_service("/live", broker.service()).route("/say/{room}", post(say)).with_state(broker.clone());
    let stop = async move {
        tokio::signal::ctrl_c().await.ok();
        broker.drain(Duration::from_secs(10)).await;
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    Ok(axum::serve(listener, app).with_graceful_shutdown(stop).await?)
}

async fn say(State(broker): State<Broker>, Path(room): Path<String>, text: String) -> Result<(), StatusCode> {
    let room = broker.topic::<String>(format!("room:{room}")).map_err(|_| StatusCode::BAD_REQUEST)?;
    room.publish(&text).await.map(drop).map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
}
