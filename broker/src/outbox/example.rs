use std::time::Duration;

use broker::{
    Broker, Namespace, Payload, Publish, StreamItem, Topic,
    outbox::{Outbox, SqliteOutbox, rusqlite::Connection},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Broker::builder().namespace("group", Namespace::default().history(100, Duration::from_secs(3600))).build()?;
    let file = std::env::temp_dir().join(format!("orders-{}.sqlite", std::process::id()));
    let outbox = Outbox::start(&broker, SqliteOutbox::open(&file)?);

    // In a handler: what happened, and that it is told, are one transaction of the application's.
    let mut database = Connection::open(&file)?;
    database.execute_batch("PRAGMA journal_mode = wal; CREATE TABLE orders (id INTEGER PRIMARY KEY, status TEXT); INSERT INTO orders VALUES (7, 'new')")?;
    let radiographers = Topic::group("ocs_ris")?;
    let mut heard = broker.subscribe(&radiographers)?;

    let transaction = database.transaction()?;
    transaction.execute("UPDATE orders SET status = 'accepted' WHERE id = ?1", [7])?;
    SqliteOutbox::stage(&transaction, &radiographers, &Publish::new(Payload::json(r#"{"order":7,"status":"accepted"}"#)))?;
    transaction.commit()?;
    outbox.wake();

    let publication = loop {
        if let Some(StreamItem::Publication(publication)) = heard.next().await {
            break publication;
        }
    };
    assert_eq!(publication.data.bytes(), r#"{"order":7,"status":"accepted"}"#);
    outbox.drain(Duration::from_secs(5)).await;
    std::fs::remove_file(&file)?;
    Ok(())
}
