//! Orders: who sees which, and what becomes of them. Every change is one transaction with the notice about it.

use rusqlite::{OptionalExtension, Result, Row, Transaction, params};
use serde::{Deserialize, Serialize};

use crate::{
    database::now_ms,
    notices::{self, Staged},
    users::User,
};

/// Most orders in one list, newest first.
const LIST_MAX: usize = 200;
/// The longest name of a patient or examination, in characters.
const TEXT_MAX: usize = 60;

/// An order, as pages get it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(crate) struct Order {
    pub(crate) id: i64,
    pub(crate) patient: String,
    pub(crate) exam: String,
    /// `ris` or `lis`: which group accepts it.
    pub(crate) service: String,
    pub(crate) doctor: String,
    pub(crate) doctor_name: String,
    pub(crate) status: Status,
    pub(crate) ordered_at_ms: i64,
    pub(crate) changed_by: Option<String>,
    pub(crate) changed_by_name: Option<String>,
    pub(crate) changed_at_ms: Option<i64>,
}

/// Where an order stands.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    New,
    Accepted,
    Done,
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Accepted => "accepted",
            Self::Done => "done",
        }
    }

    /// What it must have been before.
    fn before(self) -> Self {
        if self == Self::Done { Self::Accepted } else { Self::New }
    }
}

impl Order {
    /// The groups that are told of it.
    pub(crate) fn groups(&self) -> [String; 2] {
        [format!("ocs_{}", self.service), format!("ocs_doctor_{}", self.doctor)]
    }

    fn is_shown_to(&self, user: &User) -> bool {
        user.sees_everything() || self.groups().iter().any(|group| user.is_in(group))
    }
}

/// An order that a doctor writes.
#[derive(Debug, Deserialize)]
pub(crate) struct NewOrder {
    pub(crate) patient: String,
    pub(crate) exam: String,
    pub(crate) service: String,
}

/// Why an order was not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OrderError {
    #[error("there is no order {0}, or it is not shown to you")]
    NotFound(i64),
    #[error("{exam} of {patient} is accepted by those who are in the group {group}")]
    NotYours { exam: String, patient: String, group: String },
    #[error("{by} was faster: the order is {}", .status.word())]
    Changed { by: String, status: Status },
    #[error("{0}")]
    Malformed(String),
    #[error(transparent)]
    Stage(#[from] broker::outbox::StageError),
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

const SELECT: &str = "SELECT orders.id, patient, exam, service, doctor, d.name, status, ordered_at_ms, changed_by, c.name, changed_at_ms
    FROM orders JOIN users d ON d.id = doctor LEFT JOIN users c ON c.id = changed_by";

fn read(row: &Row<'_>) -> Result<Order> {
    let status: String = row.get(6)?;
    let status = [Status::Accepted, Status::Done].into_iter().find(|known| known.word() == status).unwrap_or(Status::New);
    Ok(Order {
        id: row.get(0)?,
        patient: row.get(1)?,
        exam: row.get(2)?,
        service: row.get(3)?,
        doctor: row.get(4)?,
        doctor_name: row.get(5)?,
        status,
        ordered_at_ms: row.get(7)?,
        changed_by: row.get(8)?,
        changed_by_name: row.get(9)?,
        changed_at_ms: row.get(10)?,
    })
}

/// The orders that a user sees, newest first.
pub(crate) fn list(transaction: &Transaction<'_>, user: &User) -> Result<Vec<Order>> {
    let mut select = transaction.prepare_cached(&format!("{SELECT} ORDER BY ordered_at_ms DESC"))?;
    let mut shown = Vec::new();
    for order in select.query_map([], read)? {
        let order = order?;
        if order.is_shown_to(user) {
            shown.push(order);
            if shown.len() == LIST_MAX {
                break;
            }
        }
    }
    Ok(shown)
}

fn find(transaction: &Transaction<'_>, id: i64) -> Result<Option<Order>> {
    transaction.prepare_cached(&format!("{SELECT} WHERE orders.id = ?1"))?.query_row([id], read).optional()
}

/// Moves an order on, and tells everybody whom it concerns except the one who did it.
pub(crate) fn advance(transaction: &Transaction<'_>, user: &User, id: i64, to: Status) -> std::result::Result<(Order, Staged), OrderError> {
    let order = find(transaction, id)?.filter(|order| order.is_shown_to(user)).ok_or(OrderError::NotFound(id))?;
    let [group, _] = order.groups();
    if !user.is_in(&group) {
        return Err(OrderError::NotYours { exam: order.exam, patient: order.patient, group });
    }
    if order.status != to.before() {
        let by = order.changed_by_name.unwrap_or_else(|| "somebody".to_owned());
        return Err(OrderError::Changed { by, status: order.status });
    }
    transaction.execute(
        "UPDATE orders SET status = ?2, changed_by = ?3, changed_at_ms = ?4 WHERE id = ?1",
        params![id, to.word(), user.id, now_ms()],
    )?;
    let order = find(transaction, id)?.ok_or(OrderError::NotFound(id))?;
    let message = format!("{} order of {} was {}", order.exam, order.patient, if to == Status::Done { "completed" } else { "accepted" });
    let staged = notices::stage(transaction, "ocs_status_changed", &order, user, &message)?;
    Ok((order, staged))
}

/// Writes an order, and tells those who accept it.
pub(crate) fn write(transaction: &Transaction<'_>, user: &User, new: NewOrder) -> std::result::Result<(Order, Staged), OrderError> {
    let text = |what: &str, text: &str| match text.trim() {
        "" => Err(OrderError::Malformed(format!("the {what} is missing"))),
        long if long.chars().count() > TEXT_MAX => Err(OrderError::Malformed(format!("the {what} has more than {TEXT_MAX} characters"))),
        text => Ok(text.to_owned()),
    };
    let (patient, exam) = (text("patient", &new.patient)?, text("examination", &new.exam)?);
    if !["ris", "lis"].contains(&new.service.as_str()) {
        return Err(OrderError::Malformed(format!("{:?} is no service; there are ris and lis", new.service)));
    }
    if !user.is_in(&format!("ocs_doctor_{}", user.id)) {
        return Err(OrderError::NotYours { exam, patient, group: format!("ocs_doctor_{}", user.id) });
    }
    transaction.execute(
        "INSERT INTO orders (patient, exam, service, doctor, status, ordered_at_ms) VALUES (?1, ?2, ?3, ?4, 'new', ?5)",
        params![patient, exam, new.service, user.id, now_ms()],
    )?;
    let id = transaction.last_insert_rowid();
    let order = find(transaction, id)?.ok_or(OrderError::NotFound(id))?;
    let message = format!("New {} order for {}", order.exam, order.patient);
    let staged = notices::stage(transaction, "ocs_order_created", &order, user, &message)?;
    Ok((order, staged))
}
