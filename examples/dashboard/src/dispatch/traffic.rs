//! What happens in the dispatch database, simulated: orders come in waves, couriers take the oldest first, some wait too long.

use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use serde::Serialize;

/// Orders come from here.
const REGIONS: [&str; 6] = ["강남 Gangnam", "마포 Mapo", "송파 Songpa", "성동 Seongdong", "용산 Yongsan", "영등포 Yeongdeungpo"];
/// Orders that a fresh database begins with, spread over the hours before.
const SEED: i64 = 1_200;
/// Orders older than this are forgotten.
const KEPT_MS: i64 = 24 * 3600 * 1000;
/// An order that waits for longer is late.
const LATE_MS: i64 = 25_000;
/// Between two alerts.
const ALERT_INTERVAL_MS: i64 = 12_000;
/// So many late orders are more than a warning.
const CRITICAL: i64 = 12;
/// Alerts that are kept.
const ALERTS_MAX: i64 = 200;

/// What a step brought.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Step {
    /// Orders that came.
    pub placed: usize,
    /// Orders that were delivered.
    pub delivered: usize,
    /// What somebody should know; committed with the orders.
    pub alert: Option<Alert>,
}

/// What somebody should know.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Alert {
    /// Counts up.
    pub id: i64,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// `info`, `warning` or `critical`.
    pub severity: String,
    /// In a few words.
    pub title: String,
    /// In a sentence.
    pub text: String,
}

/// One step, some four of which make a second.
pub(super) fn step(connection: &mut Connection, now: i64) -> rusqlite::Result<Step> {
    let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    seed(&change, now)?;
    let mut step = Step::default();
    // A wave of three minutes, between quiet and more than the couriers can take.
    let wave = ((now % 180_000) as f64 / 180_000.0 * std::f64::consts::TAU).sin();
    while fastrand::f64() < 0.26 + 0.2 * wave {
        place(&change, now)?;
        step.placed += 1;
    }
    advance(&change, "pending", "assigned", now, 2_000, 0.31)?;
    advance(&change, "assigned", "in_transit", now, 6_000, 0.33)?;
    step.delivered = advance(&change, "in_transit", "delivered", now, 15_000, 0.34)?;
    step.alert = late(&change, now)?;
    change.execute("DELETE FROM orders WHERE placed_at < ?1", [now - KEPT_MS])?;
    change.commit()?;
    Ok(step)
}

fn place(change: &Transaction<'_>, now: i64) -> rusqlite::Result<()> {
    let region = REGIONS[fastrand::usize(..REGIONS.len()).min(fastrand::usize(..REGIONS.len()))];
    change
        .prepare_cached("INSERT INTO orders (region, state, placed_at, changed_at) VALUES (?1, 'pending', ?2, ?2)")?
        .execute(params![region, now])?;
    Ok(())
}

/// Moves orders on that were in a state for long enough, the oldest first, until chance says stop.
fn advance(change: &Transaction<'_>, from: &str, to: &str, now: i64, least_ms: i64, chance: f64) -> rusqlite::Result<usize> {
    let mut moved = 0;
    while fastrand::f64() < chance {
        moved += change
            .prepare_cached(
                "UPDATE orders SET state = ?2, changed_at = ?3
                 WHERE id = (SELECT id FROM orders WHERE state = ?1 AND changed_at <= ?4 ORDER BY changed_at LIMIT 1)",
            )?
            .execute(params![from, to, now, now - least_ms])?;
    }
    Ok(moved)
}

/// Marks orders that have waited too long, and says so, but not again and again while a wave lasts.
fn late(change: &Transaction<'_>, now: i64) -> rusqlite::Result<Option<Alert>> {
    let marked = change.execute("UPDATE orders SET late = 1 WHERE state = 'pending' AND late = 0 AND placed_at < ?1", [now - LATE_MS])?;
    let told_at: i64 = change.query_row("SELECT coalesce(max(at), 0) FROM alerts", [], |row| row.get(0))?;
    if marked == 0 || now - told_at < ALERT_INTERVAL_MS {
        return Ok(None);
    }
    let (region, orders, most): (String, i64, i64) = change.query_row(
        "SELECT region, sum(count(*)) OVER (), count(*) FROM orders WHERE state = 'pending' AND late GROUP BY region ORDER BY 3 DESC LIMIT 1",
        [],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    let severity = if orders >= CRITICAL { "critical" } else { "warning" };
    let title = if orders == 1 { format!("A late order in {region}") } else { format!("{orders} late orders") };
    let text = if orders == 1 { format!("no courier for {} s", LATE_MS / 1000) } else { format!("{most} of them in {region}") };
    change.execute("INSERT INTO alerts (at, severity, title, text) VALUES (?1, ?2, ?3, ?4)", params![now, severity, title, text])?;
    let id = change.last_insert_rowid();
    change.execute("DELETE FROM alerts WHERE id <= ?1", [id - ALERTS_MAX])?;
    Ok(Some(Alert { id, at_ms: now, severity: severity.to_owned(), title, text }))
}

pub(super) fn alerts(connection: &Connection, limit: u32) -> rusqlite::Result<Vec<Alert>> {
    let mut rows = connection.prepare_cached("SELECT id, at, severity, title, text FROM alerts ORDER BY id DESC LIMIT ?1")?;
    let rows = rows.query_map([limit], |row| {
        Ok(Alert { id: row.get(0)?, at_ms: row.get(1)?, severity: row.get(2)?, title: row.get(3)?, text: row.get(4)? })
    })?;
    rows.collect()
}

/// A day's work, so that a fresh page is not empty.
fn seed(change: &Transaction<'_>, now: i64) -> rusqlite::Result<()> {
    if change.query_row("SELECT EXISTS (SELECT 1 FROM orders)", [], |row| row.get(0))? {
        return Ok(());
    }
    let mut insert = change.prepare("INSERT INTO orders (region, state, placed_at, changed_at) VALUES (?1, ?2, ?3, ?3)")?;
    for order in 0..SEED {
        let placed_at = now - 60_000 - order * 20_000;
        insert.execute(params![REGIONS[usize::try_from(order).unwrap_or_default() % REGIONS.len()], "delivered", placed_at])?;
    }
    for (order, state) in ["pending", "assigned", "in_transit"].repeat(10).into_iter().enumerate() {
        insert.execute(params![REGIONS[order % REGIONS.len()], state, now - 1_000 * i64::try_from(order).unwrap_or_default()])?;
    }
    Ok(())
}
