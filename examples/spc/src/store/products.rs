//! Products with their limits, the points of their charts, and analyses.

use rusqlite::{OptionalExtension, Row};
use serde::Serialize;

use super::{Transaction, as_list, listed};
use crate::{
    chart::{Capability, Limits, RangeLimits, RuleSet, Sigma, Specification, mean, range_limits},
    line::Disturbance,
    notice::ProductId,
    refused::Refused,
};

/// Points that a chart shows.
const SHOWN: usize = 120;
/// Points that are kept of each product.
const KEPT: usize = 2_000;

/// What is made, what is wanted of it, and how it is watched.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Product {
    /// Its number.
    pub id: ProductId,
    /// Its name.
    pub name: String,
    /// What readings are in.
    pub unit: String,
    /// What readings should be.
    pub target: f64,
    /// What is allowed.
    #[serde(flatten)]
    pub specification: Specification,
    /// Readings of one point: 1 for a chart of individuals.
    pub subgroup: usize,
    /// Which run rules watch the chart.
    pub rules: RuleSet,
    /// Centre and sigma of the points, from a stretch that nothing disturbed.
    #[serde(flatten)]
    pub limits: Limits,
    /// The spread of readings within subgroups, from the same stretch.
    #[serde(skip)]
    pub within: Sigma,
}

/// One point of a chart.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Counts up, over all products.
    pub id: i64,
    /// When, in milliseconds of Unix time.
    pub at_ms: u64,
    /// The reading, or the mean of the subgroup.
    pub value: f64,
    /// The readings.
    pub readings: Vec<f64>,
    /// The rules that it breaks.
    pub rules: Vec<String>,
    /// Whether a reading is out of specification.
    pub outside: bool,
}

/// An analysis that has ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Analysis {
    /// When, in milliseconds of Unix time.
    pub at_ms: u64,
    /// What it found.
    #[serde(flatten)]
    pub capability: Capability,
}

/// Everything that a page draws of a product.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Chart {
    /// Names the frame among others.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The product.
    pub product: Product,
    /// The limits of the ranges below it; `None` for a subgroup size that no constants are known for.
    pub ranges: Option<RangeLimits>,
    /// Its last points, oldest first.
    pub points: Vec<Point>,
    /// The newest analysis.
    pub analysis: Option<Analysis>,
}

impl Transaction<'_> {
    /// Stores a product, or another set of rules and other limits of one that is there.
    pub fn put_product(&self, product: &Product) -> Result<(), Refused> {
        let Product { id, name, unit, target, specification, subgroup, rules, limits, within } = product;
        self.sql.execute(
            "INSERT INTO products VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
             ON CONFLICT (id) DO UPDATE SET rules = ?8, centre = ?9, sigma = ?10, within = ?11",
            (id, name, unit, target, specification.lsl, specification.usl, subgroup, as_list(rules), limits.centre, limits.sigma, within.0),
        )?;
        Ok(())
    }

    /// All products.
    pub fn products(&self) -> Result<Vec<Product>, Refused> {
        let mut found = self.sql.prepare_cached("SELECT * FROM products ORDER BY id")?;
        Ok(found.query_map((), product)?.collect::<Result<_, _>>()?)
    }

    /// One product.
    pub fn product(&self, id: ProductId) -> Result<Product, Refused> {
        let mut found = self.sql.prepare_cached("SELECT * FROM products WHERE id = ?")?;
        found.query_row([id], product).optional()?.ok_or_else(|| Refused::unknown(format!("there is no product {id}")))
    }

    /// Stores a point; its id is found by the database.
    pub fn add_point(&self, product: &Product, at_ms: u64, readings: &[f64], rules: &[String]) -> Result<Point, Refused> {
        let value = mean(readings);
        self.sql.execute(
            "INSERT INTO points (product, at_ms, value, readings, rules) VALUES (?, ?, ?, ?, ?)",
            (product.id, at_ms, value, as_list(&readings), as_list(&rules)),
        )?;
        let id = self.sql.last_insert_rowid();
        self.sql.execute(
            "DELETE FROM points WHERE product = ?1 AND id <= (SELECT id FROM points WHERE product = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
            (product.id, KEPT),
        )?;
        let outside = readings.iter().any(|reading| !product.specification.allows(*reading));
        Ok(Point { id, at_ms, value, readings: readings.to_vec(), rules: rules.to_vec(), outside })
    }

    /// The last points, oldest first, at most so many.
    pub fn points(&self, product: &Product, limit: usize) -> Result<Vec<Point>, Refused> {
        let mut found =
            self.sql.prepare_cached("SELECT id, at_ms, value, readings, rules FROM points WHERE product = ? ORDER BY id DESC LIMIT ?")?;
        let rows = found.query_map((product.id, limit), |row| {
            let readings: Vec<f64> = listed(&row.get::<_, String>(3)?);
            let outside = readings.iter().any(|reading| !product.specification.allows(*reading));
            Ok(Point {
                id: row.get(0)?,
                at_ms: row.get(1)?,
                value: row.get(2)?,
                readings,
                rules: listed(&row.get::<_, String>(4)?),
                outside,
            })
        })?;
        let mut points = rows.collect::<Result<Vec<_>, _>>()?;
        points.reverse();
        Ok(points)
    }

    /// How many points were ever stored of a product since its last analysis.
    pub fn points_since_analysis(&self, product: ProductId) -> Result<usize, Refused> {
        let mut count = self.sql.prepare_cached(
            "SELECT COUNT(*) FROM points WHERE product = ?1 AND at_ms > COALESCE((SELECT MAX(at_ms) FROM analyses WHERE product = ?1), 0)",
        )?;
        Ok(count.query_row([product], |row| row.get(0))?)
    }

    /// Stores the result of an analysis.
    pub fn add_analysis(&self, product: ProductId, at_ms: u64, capability: &Capability) -> Result<(), Refused> {
        let result = serde_json::to_string(capability).expect("finite numbers");
        self.sql.execute("INSERT INTO analyses (product, at_ms, result) VALUES (?, ?, ?)", (product, at_ms, result))?;
        Ok(())
    }

    fn analysis(&self, product: ProductId) -> Result<Option<Analysis>, Refused> {
        let mut found = self.sql.prepare_cached("SELECT at_ms, result FROM analyses WHERE product = ? ORDER BY id DESC LIMIT 1")?;
        let row = found.query_row([product], |row| Ok((row.get(0)?, row.get::<_, String>(1)?))).optional()?;
        Ok(row.and_then(|(at_ms, result)| Some(Analysis { at_ms, capability: serde_json::from_str(&result).ok()? })))
    }

    /// Has the simulated line of a product disturbed.
    pub fn disturb(&self, product: ProductId, by: Disturbance) -> Result<(), Refused> {
        self.sql.execute("INSERT INTO disturbances VALUES (?, ?)", (product, as_list(&by)))?;
        Ok(())
    }

    /// What is to befall the lines, once.
    pub fn take_disturbances(&self) -> Result<Vec<(ProductId, Disturbance)>, Refused> {
        let mut taken = self.sql.prepare_cached("DELETE FROM disturbances RETURNING product, kind")?;
        let rows = taken.query_map((), |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?.collect::<Result<Vec<_>, _>>()?;
        Ok(rows.into_iter().filter_map(|(product, by)| Some((product, serde_json::from_str(&by).ok()?))).collect())
    }

    /// What a page draws.
    pub fn chart(&self, product: ProductId) -> Result<Chart, Refused> {
        let product = self.product(product)?;
        let points = self.points(&product, SHOWN)?;
        let analysis = self.analysis(product.id)?;
        let ranges = range_limits(product.within, product.subgroup).ok();
        Ok(Chart { kind: "chart", product, ranges, points, analysis })
    }
}

fn product(row: &Row<'_>) -> rusqlite::Result<Product> {
    Ok(Product {
        id: row.get(0)?,
        name: row.get(1)?,
        unit: row.get(2)?,
        target: row.get(3)?,
        specification: Specification { lsl: row.get(4)?, usl: row.get(5)? },
        subgroup: row.get(6)?,
        rules: serde_json::from_str(&row.get::<_, String>(7)?).unwrap_or_default(),
        limits: Limits { centre: row.get(8)?, sigma: row.get(9)? },
        within: Sigma(row.get(10)?),
    })
}
