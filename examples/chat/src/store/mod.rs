//! The database: one writer that commits for many at a time, a few readers. What is written and read lives in the other files; how writes are put
//! together in `writer`.

pub mod accounts;
pub mod messages;
pub mod sessions;

mod schema;
mod writer;

use std::{
    fmt,
    future::Future,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use broker::outbox::SqliteOutbox;
use rusqlite::{Connection, Transaction};
use tokio::sync::{Semaphore, mpsc, oneshot};

use self::writer::{Job, in_savepoint};

/// Writes that may wait; what comes beyond is told to come again.
const WAITING_MAX: usize = 4096;
/// Reads at the same time; others wait.
const READERS_MAX: usize = 4;

/// A handle of the database. Cloning copies a pointer; when the last one is dropped, the writer ends.
#[derive(Clone)]
pub struct Store(Arc<Shared>);

struct Shared {
    path: PathBuf,
    jobs: mpsc::Sender<Job>,
    readers: Mutex<Vec<Connection>>,
    places: Arc<Semaphore>,
    after_commit: Arc<AfterCommit>,
}

/// What is told of each commit.
type AfterCommit = OnceLock<Box<dyn Fn() + Send + Sync>>;

/// Why the database did not do it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum StoreError {
    /// SQLite says so.
    #[error("the database: {0}")]
    Sqlite(String),
    /// Too many writes wait.
    #[error("{WAITING_MAX} writes wait for the database")]
    Overloaded,
    /// It was not begun, and has not happened.
    #[error("the database was closed before the write")]
    Closed,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error.to_string())
    }
}

impl Store {
    /// Opens the database in this folder, and makes its tables where there are none. Several processes may have the same.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join("chat.sqlite");
        let connection = schema::open(&path)?;
        schema::create(&connection)?;
        let (jobs, waiting) = mpsc::channel(WAITING_MAX);
        let after_commit = Arc::new(AfterCommit::new());
        let told = Arc::clone(&after_commit);
        // A thread, because SQLite blocks; it ends with the last handle.
        std::thread::spawn(move || {
            writer::run(connection, waiting, || {
                if let Some(tell) = told.get() {
                    tell();
                }
            });
        });
        let places = Arc::new(Semaphore::new(READERS_MAX));
        Ok(Self(Arc::new(Shared { path, jobs, readers: Mutex::default(), places, after_commit })))
    }

    /// What was staged with the writes, for an outbox to publish.
    pub fn outbox(&self) -> Result<SqliteOutbox, StoreError> {
        Ok(SqliteOutbox::on(schema::open_for_outbox(&self.0.path)?)?)
    }

    /// Sets what is called after each commit, on the writer's thread; once.
    pub fn after_commit(&self, tell: impl Fn() + Send + Sync + 'static) {
        let _ = self.0.after_commit.set(Box::new(tell));
    }

    /// Writes: in a transaction of its own or together with others, but for itself in either case: what fails leaves nothing behind.
    ///
    /// Takes its place among the writes when it is called, not when it is awaited. `Ok` means that it is on the disk. Cancelled, it happens all the same.
    pub fn write<T, E, F>(&self, work: F) -> impl Future<Output = Result<T, E>> + Send + use<T, E, F>
    where
        T: Send + 'static,
        E: From<StoreError> + From<rusqlite::Error> + Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, E> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |transaction| {
            let outcome = in_savepoint(transaction, work);
            Box::new(move |committed| {
                // Whoever asked may be gone.
                let _ = answer.send(outcome.and_then(|value| committed.map(|()| value).map_err(E::from)));
            })
        });
        let queued = self.0.jobs.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => StoreError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => StoreError::Closed,
        });
        async move {
            queued?;
            answered.await.unwrap_or_else(|_| Err(StoreError::Closed.into()))
        }
    }

    /// Reads what is committed. Cancelled, the reading goes on and nobody hears of it.
    pub async fn read<T, E>(&self, work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + From<rusqlite::Error> + Send + 'static,
    {
        let place = Arc::clone(&self.0.places).acquire_owned().await.expect("nobody closes it");
        let shared = Arc::clone(&self.0);
        let reading = tokio::task::spawn_blocking(move || {
            let _place = place;
            let free = shared.readers().pop();
            let connection = free.map_or_else(|| schema::open(&shared.path), Ok)?;
            let outcome = work(&connection);
            shared.readers().push(connection);
            outcome
        });
        reading.await.unwrap_or_else(|_| Err(StoreError::Closed.into()))
    }
}

impl Shared {
    fn readers(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("path", &self.0.path).finish_non_exhaustive()
    }
}

/// So many random bytes, written in base64url: letters, digits, `-` and `_`, which may stand in topics and URLs.
pub(crate) fn random_id<const BYTES: usize>() -> String {
    let mut random = [0; BYTES];
    getrandom::fill(&mut random).expect("the system gives random bytes");
    URL_SAFE_NO_PAD.encode(random)
}

/// Milliseconds of Unix time.
pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
