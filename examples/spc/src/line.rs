//! Takes readings in: point, run rules, alerts and analyses in one transaction; and simulates lines that measure.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use broker::Refusal;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    chart::{self, Capability, Limits, Rule, RuleSet, Sigma, Specification, Verdict, broken_by_newest},
    notice::{Kind, Notice, Priority, ProductId, frame, line_topic, new_id, now_ms},
    refused::Refused,
    store::{Point, Product, Store, Transaction},
};

/// Points that the longest rule looks at, and one before, to see whether a pattern begins.
const LOOK_BACK: usize = 16;
/// Points between two analyses, and points that one looks at.
const ANALYSIS_POINTS: usize = 50;
/// Points of a new product, from a stretch that nothing disturbs; they give the limits.
const BASELINE: usize = 40;
/// Quiet points that new limits need at least.
const LIMITS_MIN: usize = 20;
/// Largest reading that is believed.
const READING_MAX: f64 = 1e9;

/// Readings that were taken in.
#[derive(Debug, Serialize)]
pub struct Taken {
    /// The point that they make.
    pub point: Point,
    /// What users are told.
    pub notices: Vec<Notice>,
}

/// Takes in the readings of one point, and stages everything that is said of it.
pub fn take(transaction: &Transaction<'_>, id: ProductId, readings: &[f64], by: &str) -> Result<Taken, Refused> {
    let product = transaction.product(id)?;
    if readings.len() != product.subgroup {
        return Err(Refused::value("$.values", format!("must be {} readings, one subgroup of {}", product.subgroup, product.name)));
    }
    if readings.iter().any(|reading| reading.abs() > READING_MAX) {
        return Err(Refused::value("$.values", format!("must be within {READING_MAX:e}")));
    }
    let at_ms = now_ms();
    let mut values: Vec<f64> = transaction.points(&product, LOOK_BACK)?.iter().map(|point| point.value).collect();
    values.push(chart::mean(readings));
    let broken = broken_by_newest(&values, &product.limits, product.rules);
    let codes: Vec<String> = broken.iter().map(ToString::to_string).collect();
    let point = transaction.add_point(&product, at_ms, readings, &codes)?;
    transaction.stage(&line_topic(id), &frame(&json!({ "type": "sample", "product_id": id, "point": point })))?;

    let mut notices: Vec<Notice> = out_of_specification(&product, &point, by).into_iter().collect();
    notices.extend(broken.into_iter().map(|rule| run_rule_violation(&product, &point, rule, by)));
    if transaction.points_since_analysis(id)? >= ANALYSIS_POINTS {
        notices.push(analyse(transaction, &product, by)?);
    }
    for notice in &notices {
        tell(transaction, notice)?;
    }
    Ok(Taken { point, notices })
}

/// Stores a notice and stages it for everybody who may hear it; `false` where it was told before.
pub fn tell(transaction: &Transaction<'_>, notice: &Notice) -> Result<bool, Refused> {
    let is_new = transaction.add_notice(notice)?;
    if is_new {
        for topic in notice.topics() {
            transaction.stage(&topic, &notice.publish())?;
        }
    }
    Ok(is_new)
}

/// Analyses the newest points; the notice is to be told by the caller.
pub fn analyse(transaction: &Transaction<'_>, product: &Product, by: &str) -> Result<Notice, Refused> {
    let points = transaction.points(product, ANALYSIS_POINTS)?;
    let subgroups: Vec<Vec<f64>> = points.into_iter().map(|point| point.readings).collect();
    let readings = subgroups.concat();
    let within = limits(&subgroups).map_or(product.within, |(_, within)| within);
    let capability =
        Capability::of(&readings, within, product.specification).ok_or_else(|| Refused::unknown("there are no readings to analyse"))?;
    let at_ms = now_ms();
    transaction.add_analysis(product.id, at_ms, &capability)?;
    let (priority, word) = match capability.verdict() {
        Verdict::Capable => (Priority::Low, "capable"),
        Verdict::Marginal => (Priority::Medium, "marginal"),
        Verdict::Incapable => (Priority::High, "not capable"),
    };
    let index = |index: Option<f64>| index.map_or_else(|| "–".to_owned(), |index| format!("{index:.2}"));
    let message = format!("Cpk {}, Ppk {} over {} readings.", index(capability.cpk), index(capability.ppk), capability.readings);
    let title = format!("{} is {word}", product.name);
    Ok(Notice { data: Some(json!(capability)), ..notice(product, Kind::Capability, "ANALYSIS", priority, title, message, at_ms, by) })
}

/// What watches a chart from here on.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    /// The run rules.
    pub rules: Option<RuleSet>,
    /// Whether the limits come from the newest points, without those that broke a rule or the specification.
    #[serde(default)]
    pub new_limits: bool,
}

/// Changes what watches a chart, and stages its new state for everybody who looks at it.
pub fn set_up(transaction: &Transaction<'_>, id: ProductId, setup: Setup) -> Result<(), Refused> {
    let mut product = transaction.product(id)?;
    product.rules = setup.rules.unwrap_or(product.rules);
    if setup.new_limits {
        let points = transaction.points(&product, 2 * BASELINE)?;
        let quiet: Vec<Vec<f64>> =
            points.into_iter().filter(|point| point.rules.is_empty() && !point.outside).map(|point| point.readings).collect();
        let found = limits(&quiet).filter(|_| quiet.len() >= LIMITS_MIN);
        let (limits, within) = found.ok_or_else(|| {
            let refusal = Refusal::bad_request(format!("limits need {LIMITS_MIN} points that break nothing, there are {}", quiet.len()));
            refusal.hint("wait until the process runs quietly")
        })?;
        (product.limits, product.within) = (limits, within);
    }
    transaction.put_product(&product)?;
    transaction.stage(&line_topic(id), &frame(&transaction.chart(id)?))
}

/// The limits of points with these readings.
fn limits(subgroups: &[Vec<f64>]) -> Option<(Limits, Sigma)> {
    match subgroups.first()?.len() {
        1 => chart::individuals(&subgroups.concat()).ok(),
        _ => chart::xbar(subgroups).ok(),
    }
}

fn out_of_specification(product: &Product, point: &Point, by: &str) -> Option<Notice> {
    let outside: Vec<f64> = point.readings.iter().copied().filter(|reading| !product.specification.allows(*reading)).collect();
    let Specification { lsl, usl } = product.specification;
    let beyond = |reading: f64| (lsl.unwrap_or(reading) - reading).max(reading - usl.unwrap_or(reading));
    let worst = outside.iter().copied().max_by(|one, other| beyond(*one).total_cmp(&beyond(*other)))?;
    let (side, limit) = if usl.is_some_and(|usl| worst > usl) { ("above the upper", usl) } else { ("below the lower", lsl) };
    let message = format!("{worst:.3} {unit} is {side} limit of {:.3} {unit}.", limit.unwrap_or_default(), unit = product.unit);
    // Beyond by more than the process scatters: nobody calls that bad luck.
    let priority = if beyond(worst) > product.within.0 { Priority::Critical } else { Priority::High };
    let data = json!({ "point": point.id, "value": worst, "outside": outside, "lsl": lsl, "usl": usl });
    let title = format!("{} out of specification", product.name);
    Some(Notice { data: Some(data), ..notice(product, Kind::Measurement, "OUT_OF_SPEC", priority, title, message, point.at_ms, by) })
}

fn run_rule_violation(product: &Product, point: &Point, rule: Rule, by: &str) -> Notice {
    let priority = if rule.span() == 1 { Priority::High } else { Priority::Medium };
    let description = rule.description();
    let title = format!("{}: {description}", product.name);
    let message = format!("Rule {rule} at {:.3} {}; the centre is {:.3}.", point.value, product.unit, product.limits.centre);
    let data = json!({ "point": point.id, "rule": rule, "description": description, "span": rule.span() });
    Notice { data: Some(data), ..notice(product, Kind::RunRuleViolation, &rule.to_string(), priority, title, message, point.at_ms, by) }
}

#[expect(clippy::too_many_arguments, reason = "the parts of a notice, each once")]
fn notice(
    product: &Product,
    kind: Kind,
    alert_type: &str,
    priority: Priority,
    title: String,
    message: String,
    at_ms: u64,
    by: &str,
) -> Notice {
    Notice {
        kind,
        id: new_id(),
        product_id: product.id,
        product: product.name.clone(),
        alert_type: alert_type.to_owned(),
        priority,
        title,
        message,
        at_ms,
        by: by.to_owned(),
        data: None,
        sealed: None,
    }
}

/// Stores the products of the demonstration, each with a quiet stretch of points that gives its limits.
pub fn seed(transaction: &Transaction<'_>, random: &mut fastrand::Rng) -> Result<(), Refused> {
    let products = [
        (1, "Shaft Ø10 (샤프트)", "mm", 10.0, Some(9.95), Some(10.05), 5, 0.0135),
        (2, "Fill weight (충전 중량)", "g", 502.0, Some(497.0), Some(507.0), 1, 1.15),
        (3, "Seal strength", "N", 118.0, Some(100.0), None, 1, 4.6),
    ];
    for (id, name, unit, target, lsl, usl, subgroup, sigma) in products {
        let mut readings = || -> Vec<f64> { (0..subgroup).map(|_| target + sigma * normal(random)).collect() };
        let quiet: Vec<Vec<f64>> = (0..BASELINE).map(|_| readings()).collect();
        let (limits, within) = limits(&quiet).expect("forty points of one size");
        let rules = if id == 2 { RuleSet::WesternElectric } else { RuleSet::Nelson };
        let specification = Specification { lsl, usl };
        let product = Product { id, name: name.to_owned(), unit: unit.to_owned(), target, specification, subgroup, rules, limits, within };
        transaction.put_product(&product)?;
        let began_ms = now_ms() - BASELINE as u64 * 1000;
        let mut values: Vec<f64> = Vec::new();
        for (at, readings) in quiet.iter().enumerate() {
            values.push(chart::mean(readings));
            let broken: Vec<String> = broken_by_newest(&values, &limits, rules).iter().map(ToString::to_string).collect();
            transaction.add_point(&product, began_ms + at as u64 * 1000, readings, &broken)?;
        }
        let found = Capability::of(&quiet.concat(), within, specification).expect("forty points");
        transaction.add_analysis(id, now_ms(), &found)?;
    }
    Ok(())
}

/// What can befall a simulated line.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Disturbance {
    /// One point far away.
    Spike,
    /// A new level.
    Shift,
    /// A level that wanders off.
    Drift,
}

/// A line that is disturbed, and how far that has gone.
struct Disturbed {
    by: Disturbance,
    points: u32,
}

/// Simulated lines, one for each product. What disturbs them passes by itself.
#[derive(Default)]
struct Lines {
    random: fastrand::Rng,
    disturbed: HashMap<ProductId, Disturbed>,
}

impl Lines {
    /// Disturbs the line of a product from the next point on.
    fn disturb(&mut self, product: ProductId, by: Disturbance) {
        self.disturbed.insert(product, Disturbed { by, points: 0 });
    }

    /// The readings of a product's next point.
    fn next(&mut self, product: &Product) -> Vec<f64> {
        // Something happens about every hundred points, so that there is something to see.
        if !self.disturbed.contains_key(&product.id) && self.random.u32(..100) == 0 {
            let by = *self.random.choice([Disturbance::Spike, Disturbance::Shift, Disturbance::Drift].iter()).expect("three of them");
            self.disturb(product.id, by);
        }
        let spread = product.within.0;
        let mut off = 0.0;
        if let Some(Disturbed { by, points }) = self.disturbed.get_mut(&product.id) {
            let (length, by_sigma) = match by {
                Disturbance::Spike => (1, 5.0),
                Disturbance::Shift => (14, 1.6),
                Disturbance::Drift => (16, 0.25 * f64::from(*points)),
            };
            // Down where there is only a lower limit: that is the side that matters.
            off = if product.specification.usl.is_some() { by_sigma * spread } else { -by_sigma * spread };
            *points += 1;
            if *points >= length {
                self.disturbed.remove(&product.id);
            }
        }
        (0..product.subgroup).map(|_| product.limits.centre + off + spread * normal(&mut self.random)).collect()
    }
}

/// Measures for ever, at this pace, on whichever node holds the lease.
pub async fn measure(store: Store, node: String, pace: Duration) {
    let lines = Arc::new(Mutex::new(Lines::default()));
    let mut ticks = tokio::time::interval(pace);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (lines, node) = (lines.clone(), node.clone());
        let measured = store.run(move |transaction| {
            if !transaction.lease("lines", &node, now_ms(), pace * 5)? {
                return Ok(());
            }
            let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            for (product, disturbance) in transaction.take_disturbances()? {
                lines.disturb(product, disturbance);
            }
            for product in transaction.products()? {
                let readings = lines.next(&product);
                take(transaction, product.id, &readings, "line")?;
            }
            Ok(())
        });
        if let Err(error) = measured.await {
            tracing::warn!(%error, "a point was not taken in");
        }
    }
}

/// A normal deviate (Box and Muller).
fn normal(random: &mut fastrand::Rng) -> f64 {
    let radius = (-2.0 * (1.0 - random.f64()).ln()).sqrt();
    radius * (std::f64::consts::TAU * random.f64()).cos()
}
