//! `/health` and `/ready`.

use broker_http::{Health, Ready};
use http::{Request, StatusCode};
use tower_service::Service;

use super::server::{Answer, engine};

async fn look<S>(mut service: S, request: http::request::Builder) -> Answer
where
    S: Service<Request<()>, Response = http::Response<broker_http::ResponseBody>, Error = std::convert::Infallible>,
{
    let Ok(response) = service.call(request.body(()).unwrap()).await;
    Answer::of(response)
}

#[tokio::test]
async fn the_process_is_healthy_as_long_as_it_answers() {
    let answer = look(Health, Request::get("/health")).await;
    assert_eq!((answer.status, &*answer.body), (StatusCode::OK, r#"{"status":"ok"}"#));
    assert_eq!(look(Health, Request::post("/health")).await.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_node_that_drains_is_not_ready() {
    let engine = engine();
    let ready = Ready::new(engine.clone());
    let answer = look(ready.clone(), Request::get("/ready")).await;
    let node = format!(r#""node":"{}","nodes":1"#, engine.node_id());
    assert_eq!((answer.status, answer.body), (StatusCode::OK, format!(r#"{{"status":"ready",{node}}}"#)));
    engine.drain(std::time::Duration::ZERO).await;
    let answer = look(ready, Request::get("/ready")).await;
    let expected = format!(r#"{{"status":"not ready","problems":["the node is draining"],{node}}}"#);
    assert_eq!((answer.status, answer.body), (StatusCode::SERVICE_UNAVAILABLE, expected));
}

#[tokio::test]
async fn whatever_is_wrong_is_named() {
    let ready = Ready::by(|| vec!["the backplane \"redis\" does not answer".to_owned()]);
    let answer = look(ready, Request::get("/ready")).await;
    assert_eq!(answer.body, r#"{"status":"not ready","problems":["the backplane \"redis\" does not answer"]}"#);
}
