//! An order communication system: doctors order examinations, radiology and laboratory accept them, and everybody whom it concerns is told at
//! once. Users, orders and notices are rows of one SQLite database that all nodes share; a notice is staged in the transaction that makes it true.
//!
//! `users` who may do what · `orders` what becomes of an order · `notices` whom that concerns, who got it and why not · `live` sockets and groups ·
//! `api` the REST calls of the page · `database` the file.

mod api;
mod database;
mod demo;
mod live;
mod notices;
mod orders;
mod passwords;
mod users;

use std::time::Duration;

use broker::outbox::{Outbox, SqliteOutbox};
use kit::{App, File, Node, Pages};

pub use self::{api::Ocs, database::Database};

/// The files of the page.
const FILES: &[File] = &[
    File::html("/", include_str!("../page/index.html")),
    File::css("/ocs.css", include_str!("../page/ocs.css")),
    File::js("/ocs.js", include_str!("../page/ocs.js")),
    File::js("/session.js", include_str!("../page/session.js")),
    File::js("/orders.js", include_str!("../page/orders.js")),
    File::js("/admin.js", include_str!("../page/admin.js")),
    File::js("/delivery.js", include_str!("../page/delivery.js")),
];

/// What this application adds to the command line.
#[derive(clap::Args, Clone, Debug)]
pub struct Flags {
    /// How long a login holds, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 8 * 3600)]
    pub login_ttl: u64,
    /// Hashes passwords so cheaply that tests are fast.
    #[arg(long)]
    pub cheap_passwords: bool,
}

/// Puts the application together on a node.
pub async fn app(node: Node, flags: Flags) -> anyhow::Result<App> {
    let passwords = passwords::Passwords::new(flags.cheap_passwords)?;
    let database = Database::open(&node.data.join("ocs.sqlite"), &passwords)?;
    database.forget_sockets_of(&node.name).await?;
    let broker = live::broker(&node, &database)?;
    let store = SqliteOutbox::open(database.path())?;
    let outbox = Outbox::start_with(&broker, store, notices::outbox_options(&database, &broker));
    let login_ttl = Duration::from_secs(flags.login_ttl);
    let ocs = Ocs::new(database, broker.clone(), outbox.clone(), node.redis.clone(), passwords, login_ttl);
    let router = api::routes(ocs).merge(Pages::new(FILES).router());
    Ok(App::new(broker, router).outbox(outbox))
}
