//! Group commit: the one thread that writes takes everything that waits, does it in one transaction, and answers when that is on the disk. A hundred
//! messages that come together cost one commit.

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::mpsc;

use super::StoreError;

/// Most writes of one transaction: what comes first does not wait for more than these.
const BATCH_MAX: usize = 512;

/// One write. It answers how to tell whoever asked, once it is known whether the transaction was committed.
pub(super) type Job = Box<dyn FnOnce(&Transaction<'_>) -> Tell + Send>;
/// See [`Job`].
pub(super) type Tell = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Writes until nobody is left who could ask. `committed` is called after each commit, before whoever asked is told.
pub(super) fn run(mut connection: Connection, mut jobs: mpsc::Receiver<Job>, committed: impl Fn()) {
    while let Some(first) = jobs.blocking_recv() {
        let mut batch = vec![first];
        while let Some(job) = (batch.len() < BATCH_MAX).then(|| jobs.try_recv().ok()).flatten() {
            batch.push(job);
        }
        // The write lock at once: a transaction that began by reading could not wait for another process.
        let transaction = match connection.transaction_with_behavior(TransactionBehavior::Immediate) {
            Ok(transaction) => transaction,
            Err(error) => {
                tracing::error!(%error, writes = batch.len(), "a transaction did not begin");
                // Those who wait hear that nothing was done when their jobs are dropped.
                continue;
            }
        };
        let told: Vec<Tell> = batch.into_iter().map(|job| job(&transaction)).collect();
        let outcome = transaction.commit().map_err(StoreError::from);
        match &outcome {
            Ok(()) => committed(),
            Err(error) => tracing::error!(%error, writes = told.len(), "a transaction was not committed"),
        }
        for tell in told {
            tell(outcome.clone());
        }
    }
}

/// Does one write, and undoes it alone where it fails.
pub(super) fn in_savepoint<T, E: From<rusqlite::Error>>(
    transaction: &Transaction<'_>,
    work: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
) -> Result<T, E> {
    transaction.prepare_cached("SAVEPOINT one")?.execute([])?;
    let outcome = work(transaction);
    if outcome.is_err() {
        transaction.prepare_cached("ROLLBACK TO one")?.execute([])?;
    }
    transaction.prepare_cached("RELEASE one")?.execute([])?;
    outcome
}
