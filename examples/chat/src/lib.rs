//! A chat that survives a lost network: accounts, sessions and messages in SQLite, told live by a broker inside the same process.
//!
//! A *session* here is a conversation of several people, as the URL `/ws/chat?sessionId=..` calls it; the broker's own sessions, one for each socket,
//! are called sockets.
//!
//! - `store`: the database. Each message is stored together with the publication that tells of it.
//! - `people`: passwords, logins, tokens, tickets.
//! - `live`: the broker, and what becomes of the frames in `frames`.
//! - `api`: REST.
//! - `refused`: why the application says no.

pub mod api;
pub mod frames;
pub mod live;
pub mod page;
pub mod people;
pub mod store;

mod refused;

use std::{path::Path, sync::Arc};

use broker::{
    Builder, Registry,
    outbox::{Outbox, OutboxOptions},
};
use kit::{App, Pages};

pub use refused::Refused;

use self::{
    api::Api,
    people::{Hardness, People},
    store::Store,
};

/// Publications that the outbox takes at once: a commit may hold as many messages.
const OUTBOX_BATCH: (usize, usize) = (512, 1 << 20);

/// What one node is made of.
pub struct Parts<'a> {
    /// The folder of the database; nodes of one chat have the same.
    pub data: &'a Path,
    /// The beginnings of its broker.
    pub builder: Builder,
    /// Where tickets and revocations are kept; nodes of one chat have the same.
    pub registry: Arc<dyn Registry>,
    /// How hard passwords are to guess.
    pub hardness: Hardness,
}

/// Puts one node together: its broker, and everything it answers over HTTP but the broker's sockets.
pub async fn open(parts: Parts<'_>) -> anyhow::Result<App> {
    let Parts { data, builder, registry, hardness } = parts;
    let store = Store::open(data)?;
    let people = People::new(&store, Arc::clone(&registry), hardness).await?;
    let broker = live::broker(builder.registry(registry), &store, &people)?;
    let options = OutboxOptions::default().batch(OUTBOX_BATCH.0, OUTBOX_BATCH.1);
    let outbox = Outbox::start_with(&broker, store.outbox()?, options);
    let woken = outbox.clone();
    store.after_commit(move || woken.wake());
    let router = Pages::new(page::FILES).router().merge(api::router(Api { store, people, broker: broker.clone() }));
    Ok(App::new(broker, router).outbox(outbox))
}
