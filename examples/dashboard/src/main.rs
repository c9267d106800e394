//! Live statistics of the machine this runs on: `cargo run -p dashboard`, then open the address it prints.

use std::time::Duration;

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
    routing::{get, post},
};
use dashboard::{
    board::Board,
    live,
    machine::Machine,
    page::{self, Asset},
};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).init();
    let machine = Machine::new();
    let host = machine.host();
    let board = Board::new(machine, host, page::version());
    let broker = live::broker(&board)?;
    let publishing = tokio::spawn(live::publish(board.clone(), broker.clone()));

    let mut app = Router::new().route("/demo/outage", post(outage)).fallback_service(broker.service());
    for asset in page::ASSETS {
        app = app.route(asset.path, get(async move |request: HeaderMap| serve(asset, &request)));
    }
    let app = app.with_state(board);

    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(&address).await?;
    println!("dashboard at http://{}/", listener.local_addr()?);
    let stop = async move {
        let _ = tokio::signal::ctrl_c().await;
        broker.drain(Duration::from_secs(1)).await;
    };
    axum::serve(listener, app).with_graceful_shutdown(stop).await?;
    publishing.abort();
    Ok(())
}

/// A file of the page. Browsers ask each time whether it changed, so that nobody looks at an old one.
fn serve(asset: Asset, request: &HeaderMap) -> impl IntoResponse + use<> {
    let headers = [
        (header::CONTENT_TYPE, asset.content_type.to_owned()),
        (header::CACHE_CONTROL, "no-cache".to_owned()),
        (header::ETAG, page::etag()),
        (header::CONTENT_SECURITY_POLICY, page::CONTENT_SECURITY_POLICY.to_owned()),
    ];
    let known = request.get(header::IF_NONE_MATCH).is_some_and(|tag| tag.as_bytes() == page::etag().as_bytes());
    if known { (StatusCode::NOT_MODIFIED, headers, String::new()) } else { (StatusCode::OK, headers, asset.body()) }
}

/// Lets reading fail for a while: the button in the page's connection panel.
async fn outage(State(board): State<Board>) -> StatusCode {
    board.fail_for(Duration::from_secs(20)).await;
    StatusCode::ACCEPTED
}
