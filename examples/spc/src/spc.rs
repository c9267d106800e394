//! The application on one node: what its parts share, and how they are started.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use argon2::Argon2;
use broker::{
    Broker, Builder, Refusal, RefusalKind, SessionId, StreamItem,
    outbox::{Outbox, OutboxOptions},
};

use crate::{
    access::{Role, hash_password, hasher},
    line, live,
    notice::{Kind, Notice, ProductId, alerts_topic, now_ms, product_of},
    refused::Refused,
    store::{Preferences, Store, User},
};

/// Alerts that a user may raise, and passwords that may be tried for one, in a minute on one node.
const PER_MINUTE: f64 = 30.0;

/// Names that are counted before those are forgotten that have rested.
const COUNTED_MAX: usize = 4096;

/// What the application was started with.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Time between points of the simulated lines; zero: they stand still.
    pub pace: Duration,
    /// Whether passwords are hashed quickly: for tests only.
    pub quick_passwords: bool,
}

/// See the module's text. Cloning copies a pointer.
#[derive(Clone)]
pub struct Spc(Arc<Shared>);

/// What the parts of the application share.
pub struct Shared {
    /// The database.
    pub store: Store,
    /// The broker.
    pub broker: Broker,
    /// The node's name.
    pub node: String,
    /// How passwords are hashed.
    pub hasher: Argon2<'static>,
    /// When the node started.
    pub started_at: Instant,
    /// Which sessions follow which products: a second subscribe is answered without a second subscription.
    pub following: Arc<Following>,
    raised: Mutex<HashMap<String, (f64, Instant)>>,
}

/// Which sessions of this node follow which products by their own wish.
#[derive(Default)]
pub struct Following(Mutex<HashSet<(SessionId, ProductId)>>);

impl Following {
    /// Remembers it; `false` where it was known.
    pub fn add(&self, session: SessionId, product: ProductId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((session, product))
    }

    /// Forgets it.
    pub fn remove(&self, session: SessionId, product: ProductId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&(session, product));
    }

    /// Forgets a session that has ended.
    pub fn forget(&self, session: SessionId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(of, _)| *of != session);
    }
}

impl std::ops::Deref for Spc {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Spc {
    /// Opens the data in a folder, makes the demonstration where it is empty, and starts everything that runs beside requests.
    pub async fn start(builder: Builder, node: &str, data: &Path, options: Options) -> anyhow::Result<Self> {
        let store = Store::open(&data.join("spc.sqlite"))?;
        let hasher = hasher(options.quick_passwords);
        let users = {
            let (store, hasher) = (store.clone(), hasher.clone());
            tokio::task::spawn_blocking(move || seed(&store, &hasher)).await??
        };
        tracing::info!(users, "the demonstration's users log in with their names as passwords");
        let following = Arc::new(Following::default());
        let broker = live::broker(builder, &store, node, &following)?;
        let shared = Shared {
            broker,
            node: node.to_owned(),
            hasher,
            started_at: Instant::now(),
            following,
            raised: Mutex::default(),
            store: store.clone(),
        };
        let spc = Self(Arc::new(shared));
        spc.start_outbox()?;
        let products = store.run(|transaction| transaction.products()).await?;
        for product in products {
            tokio::spawn(record(spc.clone(), product.id));
        }
        if !options.pace.is_zero() {
            tokio::spawn(line::measure(store, node.to_owned(), options.pace));
        }
        Ok(spc)
    }

    fn start_outbox(&self) -> anyhow::Result<()> {
        let store = self.store.clone();
        // Told on the outbox's own task, which must not wait for the database.
        let options = OutboxOptions::default().on_published(move |row, _| {
            let is_of_alerts = row.topic.namespace() == Some("alerts");
            if let Some(notice) = is_of_alerts.then(|| serde_json::from_slice::<Notice>(row.publish.data.bytes()).ok()).flatten() {
                let store = store.clone();
                tokio::spawn(async move { store.run(move |transaction| transaction.set_published(&notice.id, now_ms())).await });
            }
        });
        let outbox = Outbox::start_with(&self.broker, self.store.outbox()?, options);
        self.store.publish_by(outbox);
        Ok(())
    }

    /// Counts one thing that somebody did, or refuses it: so many a minute, and as many at once.
    pub fn count(&self, who: &str) -> Result<(), Refused> {
        let mut raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
        if raised.len() > COUNTED_MAX {
            // Whoever has rested for a minute is counted anew.
            raised.retain(|_, (_, at)| at.elapsed() < Duration::from_secs(60));
        }
        let (left, at) = raised.entry(who.to_owned()).or_insert((PER_MINUTE, Instant::now()));
        *left = (*left + at.elapsed().as_secs_f64() * PER_MINUTE / 60.0).min(PER_MINUTE);
        *at = Instant::now();
        if *left < 1.0 {
            let wait = Duration::from_secs_f64((1.0 - *left) * 60.0 / PER_MINUTE);
            let refusal = Refusal::new(RefusalKind::TooManyRequests, format!("more than {PER_MINUTE} within a minute"));
            return Err(refusal.retry_after(wait).hint("wait, then try again; with the same `id` an alert is stored once").into());
        }
        *left -= 1.0;
        Ok(())
    }
}

/// Writes into the history what others publish: a process that knows nothing but the server API raises alerts that are remembered like any other.
async fn record(spc: Spc, product: ProductId) {
    let Ok(mut stream) = spc.broker.subscribe(&alerts_topic(product)) else { return };
    while let Some(item) = stream.next().await {
        let StreamItem::Publication(publication) = item else { continue };
        let Ok(notice) = serde_json::from_slice::<Notice>(publication.data.bytes()) else { continue };
        // What the outbox publishes is in the history already.
        if notice.kind != Kind::Alert || Some(notice.product_id) != product_of(&publication.topic) {
            continue;
        }
        let recorded = spc.store.run(move |transaction| {
            if transaction.add_notice(&notice)? {
                transaction.set_published(&notice.id, now_ms())?;
            }
            Ok(())
        });
        if let Err(error) = recorded.await {
            tracing::warn!(%error, "an alert of another process is not in the history");
        }
    }
}

/// The demonstration's products and users, where there are none. Answers who may come in.
fn seed(store: &Store, hasher: &Argon2<'_>) -> anyhow::Result<String> {
    let users = [
        ("admin", "박지훈", Role::Admin, vec![1, 2, 3]),
        ("kim", "김하늘", Role::Engineer, vec![1, 2, 3]),
        ("lee", "이서연", Role::Operator, vec![1]),
        ("choi", "최민수", Role::Viewer, vec![2, 3]),
    ];
    let names = users.each_ref().map(|(id, ..)| *id).join(", ");
    if !store.run_blocking(|transaction| transaction.is_new())? {
        return Ok(names);
    }
    let users = users.into_iter().map(|(id, name, role, products)| {
        let preferences = Preferences { min_level: 1, muted: Vec::new() };
        Ok(User { id: id.to_owned(), name: name.to_owned(), role, products, preferences, password: hash_password(hasher, id)? })
    });
    let users = users.collect::<anyhow::Result<Vec<_>>>()?;
    store.run_blocking(move |transaction| {
        // Another node may have been quicker.
        if transaction.is_new()? {
            line::seed(transaction, &mut fastrand::Rng::new())?;
            users.iter().try_for_each(|user| transaction.add_user(user))?;
        }
        Ok(())
    })?;
    Ok(names)
}
