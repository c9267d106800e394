//! Group commit: many writes share a transaction, and none shares another's failure.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use chat::{
    Refused,
    store::{Store, accounts},
};
use futures_util::future::join_all;

#[tokio::test]
async fn a_write_that_fails_leaves_nothing_behind_and_takes_no_other_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let commits = Arc::new(AtomicUsize::new(0));
    store.after_commit({
        let commits = Arc::clone(&commits);
        move || _ = commits.fetch_add(1, Ordering::Relaxed)
    });
    let writes = (0..200).map(|number| {
        store.write(move |transaction| {
            let person = accounts::sign_up(transaction, &accounts::Name::parse(&format!("user {number}"))?, "hash")?;
            if number % 2 == 1 { Err(Refused::NotMember) } else { Ok(person) }
        })
    });
    // All of them are handed over before the first is awaited.
    let writes: Vec<_> = writes.collect();
    let done = join_all(writes).await;
    assert_eq!(done.iter().filter(|done| done.is_ok()).count(), 100);
    let names: i64 =
        store.read::<_, Refused>(|connection| Ok(connection.query_row("SELECT COUNT(*) FROM users", [], |row| row.get(0))?)).await.unwrap();
    assert_eq!(names, 100);
    assert!(commits.load(Ordering::Relaxed) < 100, "{} commits for 200 writes", commits.load(Ordering::Relaxed));
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart_and_two_processes_may_share_it() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (Store::open(folder.path()).unwrap(), Store::open(folder.path()).unwrap());
    let sign_up = |store: &Store, name: &str| {
        let name = accounts::Name::parse(name).unwrap();
        store.write(move |transaction| accounts::sign_up(transaction, &name, "hash"))
    };
    let (first, second) = tokio::join!(sign_up(&one, "Dana"), sign_up(&other, "은정"));
    assert!(first.is_ok() && second.is_ok());
    let secrets = [one.read(accounts::token_secret).await.unwrap(), other.read(accounts::token_secret).await.unwrap()];
    assert_eq!(secrets[0], secrets[1]);
    drop((one, other));
    let again = Store::open(folder.path()).unwrap();
    assert!(again.read(|connection| accounts::by_name(connection, "은정")).await.unwrap().is_some());
}
