//! Notices: their history, who got them and when, and what can be counted of them.

use std::collections::HashMap;

use rusqlite::{OptionalExtension, Row};
use serde::{Deserialize, Serialize};

use super::Transaction;
use crate::{
    notice::{Notice, ProductId},
    refused::Refused,
    store::User,
};

/// Notices that are kept.
const KEPT: usize = 10_000;
/// Notices that one answer holds at most.
const PAGE_MAX: usize = 200;

/// A notice as the history shows it.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    /// The frame.
    #[serde(flatten)]
    pub notice: Notice,
    /// Who has taken care of it.
    pub acknowledged_by: Option<String>,
    /// When, in milliseconds of Unix time.
    pub acknowledged_ms: Option<u64>,
}

/// Which part of the history is wanted; each part may be left out.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct HistoryQuery {
    /// Of one product.
    pub product: Option<ProductId>,
    /// Of one type.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Of this level and above.
    pub min_level: Option<u8>,
    /// Older than the one of this id: the last one of the page before.
    pub before: Option<String>,
    /// At most so many. Default: 50.
    pub limit: Option<usize>,
}

/// What became of one notice.
#[derive(Debug, Serialize)]
pub struct Delivery {
    /// The notice.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Its product.
    pub product_id: ProductId,
    /// Its level.
    pub level: u8,
    /// When it was stored.
    pub at_ms: u64,
    /// When the broker had taken it.
    pub published_ms: Option<u64>,
    /// Everybody who may see it, and what became of it there.
    pub recipients: Vec<Recipient>,
}

/// One who may see a notice.
#[derive(Debug, Serialize)]
pub struct Recipient {
    /// Who.
    pub user: String,
    /// When their page had it.
    pub received_ms: Option<u64>,
    /// The node that their page was connected to.
    pub node: Option<String>,
    /// Why they have not got it, as far as their settings tell.
    pub why_not: Option<&'static str>,
}

/// So many of something.
#[derive(Debug, Serialize)]
pub struct TypeCount {
    /// Of what.
    pub name: String,
    /// How many.
    pub count: u64,
}

/// What can be counted of the notices that a user may see, over the last day.
#[derive(Debug, Serialize)]
pub struct Statistics {
    /// All of them.
    pub total: u64,
    /// Those that somebody has taken care of.
    pub acknowledged: u64,
    /// Time until then, on average, in milliseconds.
    pub acknowledge_mean_ms: Option<u64>,
    /// By level, 1 to 4.
    pub by_level: [u64; 4],
    /// By type of frame.
    pub by_kind: Vec<TypeCount>,
    /// By product, its number as name.
    pub by_product: Vec<TypeCount>,
    /// By hour, the oldest of 24 first.
    pub by_hour: Vec<u64>,
    /// Time from stored to shown that half of all receipts kept, in milliseconds.
    pub delivery_p50_ms: Option<u64>,
    /// The same for 95 of 100.
    pub delivery_p95_ms: Option<u64>,
}

const COLUMNS: &str = "body, acknowledged_by, acknowledged_ms";
const DAY_MS: u64 = 24 * 3_600_000;

impl Transaction<'_> {
    /// Stores a notice; `false` where one of this id is there already.
    pub fn add_notice(&self, notice: &Notice) -> Result<bool, Refused> {
        let body = serde_json::to_string(notice).expect("a notice is a frame");
        let level = notice.priority.level();
        let added = self.sql.execute(
            "INSERT OR IGNORE INTO notices (id, kind, product, alert_type, level, at_ms, author, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (&notice.id, notice.kind.to_string(), notice.product_id, &notice.alert_type, level, notice.at_ms, &notice.by, body),
        )?;
        self.sql.execute("DELETE FROM notices WHERE at_ms < (SELECT at_ms FROM notices ORDER BY at_ms DESC LIMIT 1 OFFSET ?)", [KEPT])?;
        Ok(added == 1)
    }

    /// One notice, where the user may see it.
    pub fn notice(&self, id: &str, user: &User) -> Result<Shown, Refused> {
        let mut found = self.sql.prepare_cached(&format!("SELECT {COLUMNS} FROM notices WHERE id = ?"))?;
        let shown = found.query_row([id], shown).optional()?.flatten().filter(|shown| user.products.contains(&shown.notice.product_id));
        shown.ok_or_else(|| Refused::unknown("there is no such alert, or its product is not one of yours"))
    }

    /// What was told, newest first, of the products that the user may see.
    pub fn history(&self, user: &User, query: &HistoryQuery) -> Result<Vec<Shown>, Refused> {
        let mut found = self.sql.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM notices WHERE product IN (SELECT product FROM rights WHERE user = ?1) AND product = COALESCE(?2, product)
             AND kind = COALESCE(?3, kind) AND level >= COALESCE(?4, 1) AND (?5 IS NULL OR (at_ms, rowid) < (SELECT at_ms, rowid FROM notices WHERE id = ?5)) ORDER BY at_ms DESC, rowid DESC LIMIT ?6"
        ))?;
        let limit = query.limit.unwrap_or(50).clamp(1, PAGE_MAX);
        let rows = found.query_map((&user.id, query.product, &query.kind, query.min_level, &query.before, limit), shown)?;
        Ok(rows.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    /// Remembers when the broker had taken a notice.
    pub fn set_published(&self, id: &str, at_ms: u64) -> Result<(), Refused> {
        self.sql.execute("UPDATE notices SET published_ms = ? WHERE id = ? AND published_ms IS NULL", (at_ms, id))?;
        Ok(())
    }

    /// Remembers that a user's page has notices; of a product that the user may not see, nothing.
    pub fn add_receipts(&self, ids: &[String], user: &str, at_ms: u64, node: &str) -> Result<(), Refused> {
        for id in ids {
            self.sql.execute(
                "INSERT OR IGNORE INTO receipts SELECT id, ?2, ?3, ?4 FROM notices
                 WHERE id = ?1 AND product IN (SELECT product FROM rights WHERE user = ?2)",
                (id, user, at_ms, node),
            )?;
        }
        Ok(())
    }

    /// Remembers who has taken care of a notice; `false` where somebody has already.
    pub fn acknowledge(&self, id: &str, by: &str, at_ms: u64) -> Result<bool, Refused> {
        let changed = self.sql.execute(
            "UPDATE notices SET acknowledged_by = ?, acknowledged_ms = ? WHERE id = ? AND acknowledged_by IS NULL",
            (by, at_ms, id),
        )?;
        Ok(changed == 1)
    }

    /// What became of the newest notices, at most so many, of the products that the user may see.
    pub fn deliveries(&self, user: &User, limit: usize) -> Result<Vec<Delivery>, Refused> {
        let users = self.users()?;
        let mut receipts = self.sql.prepare_cached("SELECT user, at_ms, node FROM receipts WHERE notice = ?")?;
        let mut published = self.sql.prepare_cached("SELECT published_ms FROM notices WHERE id = ?")?;
        let mut deliveries = Vec::new();
        for Shown { notice, .. } in self.history(user, &HistoryQuery { limit: Some(limit), ..HistoryQuery::default() })? {
            let received = receipts
                .query_map([&notice.id], |row| Ok((row.get::<_, String>(0)?, (row.get::<_, u64>(1)?, row.get::<_, String>(2)?))))?;
            let mut received = received.collect::<Result<HashMap<_, _>, _>>()?;
            let level = notice.priority.level();
            let entitled = users.iter().filter(|other| other.products.contains(&notice.product_id));
            let recipients = entitled.map(|other| {
                let (received_ms, node) = received.remove(&other.id).unzip();
                let why_not = match received_ms {
                    Some(_) => None,
                    None if other.preferences.muted.contains(&notice.product_id) => Some("has muted the product"),
                    None if level < other.preferences.min_level => Some("wants only higher priorities"),
                    None => Some("no page has confirmed it"),
                };
                Recipient { user: other.id.clone(), received_ms, node, why_not }
            });
            let recipients = recipients.collect();
            let published_ms = published.query_row([&notice.id], |row| row.get(0))?;
            let Notice { id, title, product_id, at_ms, .. } = notice;
            deliveries.push(Delivery { id, title, product_id, level, at_ms, published_ms, recipients });
        }
        Ok(deliveries)
    }

    /// What can be counted of the last day.
    pub fn statistics(&self, user: &User, now_ms: u64) -> Result<Statistics, Refused> {
        let since_ms = now_ms.saturating_sub(DAY_MS);
        let of_user = "FROM notices WHERE product IN (SELECT product FROM rights WHERE user = ?1) AND at_ms > ?2";
        let grouped = |column: &str| -> Result<Vec<TypeCount>, Refused> {
            let mut found =
                self.sql.prepare_cached(&format!("SELECT CAST({column} AS TEXT), COUNT(*) {of_user} GROUP BY 1 ORDER BY 2 DESC, 1"))?;
            let rows = found.query_map((&user.id, since_ms), |row| Ok(TypeCount { name: row.get(0)?, count: row.get(1)? }))?;
            Ok(rows.collect::<Result<_, _>>()?)
        };
        let (total, acknowledged, mean): (u64, u64, Option<f64>) = self.sql.query_row(
            &format!("SELECT COUNT(*), COUNT(acknowledged_ms), AVG(acknowledged_ms - at_ms) {of_user}"),
            (&user.id, since_ms),
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )?;
        let mut by_level = [0; 4];
        for TypeCount { name, count } in grouped("level")? {
            if let Some(slot) = name.parse::<usize>().ok().and_then(|level| by_level.get_mut(level.wrapping_sub(1))) {
                *slot = count;
            }
        }
        let mut by_hour = vec![0; 24];
        // Hours ago, counted from this moment, so that the last bar is the last hour and not a part of one.
        for TypeCount { name, count } in grouped(&format!("({now_ms} - at_ms) / 3600000"))? {
            if let Some(slot) = name.parse::<usize>().ok().and_then(|hours| by_hour.get_mut(23_usize.wrapping_sub(hours))) {
                *slot = count;
            }
        }
        let mut times = self.sql.prepare_cached(
            "SELECT MAX(receipts.at_ms - notices.at_ms, 0) FROM receipts JOIN notices ON notices.id = notice
             WHERE notices.at_ms > ?2 AND notices.product IN (SELECT product FROM rights WHERE user = ?1) ORDER BY 1",
        )?;
        let times = times.query_map((&user.id, since_ms), |row| row.get(0))?.collect::<Result<Vec<u64>, _>>()?;
        let percentile = |percent: usize| times.get(times.len().saturating_sub(1) * percent / 100).copied();
        Ok(Statistics {
            total,
            acknowledged,
            acknowledge_mean_ms: mean.map(|mean| mean as u64),
            by_level,
            by_kind: grouped("kind")?,
            by_product: grouped("product")?,
            by_hour,
            delivery_p50_ms: percentile(50),
            delivery_p95_ms: percentile(95),
        })
    }
}

/// `None` for a row that an older version wrote and this one cannot read.
fn shown(row: &Row<'_>) -> rusqlite::Result<Option<Shown>> {
    let body: String = row.get(0)?;
    let Ok(notice) = serde_json::from_str(&body) else { return Ok(None) };
    Ok(Some(Shown { notice, acknowledged_by: row.get(1)?, acknowledged_ms: row.get(2)? }))
}
