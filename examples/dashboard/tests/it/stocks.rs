use broker::{Payload, Publish};
use dashboard::{
    live::STOCKS_PATH,
    stocks::{Registration, tick},
};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite;

use crate::parts::{Client, Dashboard};

fn frame(trnm: &str, refresh: &str, items: &[&str]) -> Value {
    json!({"trnm": trnm, "grp_no": "1", "refresh": refresh, "data": [{"item": items, "type": ["0B"]}]})
}

async fn trade(dashboard: &Dashboard, item: &'static str, price: i64) {
    let registration = Registration { item, kind: "0B" };
    let publish = Publish::new(Payload::json(tick(registration, &json!({"price": price})).to_string()));
    dashboard.broker.publish(&registration.topic(), publish).await.unwrap();
}

/// Item and price of the first tick in a frame.
fn price(frame: &Value) -> (&str, i64) {
    assert_eq!(frame["trnm"], "REAL", "{frame}");
    (frame["data"][0]["item"].as_str().unwrap(), frame["data"][0]["values"]["price"].as_i64().unwrap())
}

/// The next frame that is the exchange's and not the broker's own.
async fn next(client: &mut Client) -> Value {
    client.frame_where(|frame| frame["broker"].is_null()).await
}

#[tokio::test]
async fn a_registration_is_acknowledged_then_come_the_last_ticks_then_each() {
    let dashboard = Dashboard::start().await;
    trade(&dashboard, "005930", 71_300).await;
    trade(&dashboard, "005930", 71_400).await;
    let mut client = dashboard.trade().await;
    client.send(frame("REG", "1", &["005930"])).await;
    let answer = next(&mut client).await;
    assert_eq!((&answer["trnm"], &answer["return_code"]), (&json!("REG"), &json!(0)), "{answer}");
    let last = next(&mut client).await;
    assert_eq!((price(&last), &last["data"][1]["values"]["price"]), (("005930", 71_300), &json!(71_400)), "{last}");
    trade(&dashboard, "005930", 71_500).await;
    assert_eq!(price(&next(&mut client).await), ("005930", 71_500));
}

#[tokio::test]
async fn refresh_0_drops_what_was_and_1_keeps_it() {
    let dashboard = Dashboard::start().await;
    let items = ["005930", "000660", "035420"];
    // Something of each: the first tick of a registration then says that it is live.
    for item in items {
        trade(&dashboard, item, 1).await;
    }
    let mut client = dashboard.trade().await;
    for (refresh, item) in ["1", "1", "0"].into_iter().zip(items) {
        client.send(frame("REG", refresh, &[item])).await;
        assert_eq!(next(&mut client).await["return_code"], 0);
        assert_eq!(price(&next(&mut client).await), (item, 1));
    }
    for item in items {
        trade(&dashboard, item, 2).await;
    }
    assert_eq!(price(&next(&mut client).await), ("035420", 2), "the others are dropped");
    client.send(frame("REMOVE", "1", &["035420"])).await;
    assert_eq!(next(&mut client).await["trnm"], "REMOVE");
    client.send(frame("REG", "1", &["000660"])).await;
    assert_eq!(next(&mut client).await["return_code"], 0);
    assert_eq!(price(&next(&mut client).await).0, "000660");
    trade(&dashboard, "035420", 3).await;
    trade(&dashboard, "000660", 3).await;
    loop {
        let tick = next(&mut client).await;
        let (item, price) = price(&tick);
        assert_eq!(item, "000660", "what was removed does not come");
        if price == 3 {
            break;
        }
    }
}

#[tokio::test]
async fn a_malformed_registration_is_told_where_and_the_socket_lives_on() {
    let dashboard = Dashboard::start().await;
    trade(&dashboard, "000660", 9).await;
    let mut client = dashboard.trade().await;
    client.send("not JSON").await;
    assert_eq!(next(&mut client).await["errors"][0]["path"], "$");
    client.send(frame("REG", "1", &["5930", "000660"])).await;
    let answer = next(&mut client).await;
    assert_eq!((&answer["errors"][0]["path"], &answer["data"][0]["item"]), (&json!("$.data[0].item[0]"), &json!("000660")), "{answer}");
    assert_eq!(price(&next(&mut client).await), ("000660", 9));
}

#[tokio::test]
async fn the_stock_socket_wants_a_token_and_takes_a_fresh_one_in_place() {
    let dashboard = Dashboard::start().await;
    for wrong in [None, Some("wrong.wrong.wrong")] {
        let Err(tungstenite::Error::Http(answer)) = dashboard.connect(STOCKS_PATH, wrong).await.map(drop) else {
            panic!("{wrong:?} is let in")
        };
        let said = String::from_utf8_lossy(answer.body().as_deref().unwrap_or_default()).into_owned();
        assert!(answer.status() == 401 && said.contains("/api/v1/stocks/token"), "{said}");
    }
    let mut client = dashboard.trade().await;
    client.send(json!({"broker": "authenticate", "id": 1, "token": dashboard.tokens.issue("viewer").into_token()})).await;
    assert_eq!(client.frame().await["broker"], "identity");
    client.send(json!({"broker": "authenticate", "id": 2, "token": "wrong.wrong.wrong"})).await;
    assert_eq!(client.frame().await["error"], "unauthorized");
}
