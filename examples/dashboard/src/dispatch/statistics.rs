//! The figures that pages show, counted from the orders.

use rusqlite::{Connection, params};
use serde::Serialize;

/// How long back orders count as today's: a day.
const DAY_MS: i64 = 24 * 3600 * 1000;

/// The orders at one moment.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Statistics {
    /// When they were counted, in milliseconds since 1970.
    pub at_ms: i64,
    /// Orders of the last 24 hours.
    pub total_orders: i64,
    /// Of them waiting for a courier.
    pub pending_orders: i64,
    /// Of them with a courier who is on the way to collect.
    pub assigned_orders: i64,
    /// Of them on the way to the customer.
    pub in_transit_orders: i64,
    /// Of them delivered.
    pub delivered_orders: i64,
    /// Of those that wait: longer than they should.
    pub late_orders: i64,
    /// Orders that were placed within the last minute.
    pub orders_per_minute: i64,
    /// What is open in each region, most first.
    pub regions: Vec<Region>,
}

/// The open orders of one region.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Region {
    /// Its name.
    pub name: String,
    /// Waiting for a courier.
    pub pending: i64,
    /// With a courier.
    pub moving: i64,
}

/// One moment in the chart: time in ms, orders per minute, pending orders.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Point(pub i64, pub i64, pub i64);

impl From<&Statistics> for Point {
    fn from(statistics: &Statistics) -> Self {
        Self(statistics.at_ms, statistics.orders_per_minute, statistics.pending_orders)
    }
}

pub(super) fn read(connection: &Connection, now: i64) -> rusqlite::Result<Statistics> {
    let mut statistics = connection.query_row(
        "SELECT count(*), sum(state = 'pending'), sum(state = 'assigned'), sum(state = 'in_transit'), sum(state = 'delivered'),
                sum(late AND state = 'pending'), sum(placed_at > ?2)
         FROM orders WHERE placed_at > ?1",
        params![now - DAY_MS, now - 60_000],
        |row| {
            let sum = |column| row.get::<_, Option<i64>>(column).map(Option::unwrap_or_default);
            Ok(Statistics {
                at_ms: now,
                total_orders: sum(0)?,
                pending_orders: sum(1)?,
                assigned_orders: sum(2)?,
                in_transit_orders: sum(3)?,
                delivered_orders: sum(4)?,
                late_orders: sum(5)?,
                orders_per_minute: sum(6)?,
                regions: Vec::new(),
            })
        },
    )?;
    let mut regions = connection.prepare_cached(
        "SELECT region, sum(state = 'pending'), sum(state != 'pending') FROM orders WHERE state != 'delivered' GROUP BY region ORDER BY 2 DESC, 1",
    )?;
    let rows = regions.query_map([], |row| Ok(Region { name: row.get(0)?, pending: row.get(1)?, moving: row.get(2)? }))?;
    statistics.regions = rows.collect::<rusqlite::Result<_>>()?;
    Ok(statistics)
}
