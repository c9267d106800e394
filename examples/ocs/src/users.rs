//! Users and what they may do, logins and their tokens. Who listens to what follows from a user's groups; what the page shows, from the menus.

use std::time::{Duration, UNIX_EPOCH};

use broker::Identity;
use rusqlite::{OptionalExtension, Result, Row, Transaction, params};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::database::{forget_the_old, now_ms};

/// Every menu there is.
pub(crate) const MENUS: [&str; 3] = ["orders", "delivery", "admin"];

/// What somebody does in the hospital: the menus and groups to begin with.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    Radiology,
    Laboratory,
    Doctor,
    Admin,
    Operator,
}

impl Role {
    pub(crate) const ALL: [Self; 5] = [Self::Radiology, Self::Laboratory, Self::Doctor, Self::Admin, Self::Operator];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Radiology => "radiology",
            Self::Laboratory => "laboratory",
            Self::Doctor => "doctor",
            Self::Admin => "admin",
            Self::Operator => "operator",
        }
    }

    pub(crate) fn menus(self) -> Vec<String> {
        let menus: &[&str] = match self {
            Self::Radiology | Self::Laboratory | Self::Doctor => &["orders"],
            Self::Admin => &["orders", "delivery", "admin"],
            Self::Operator => &["orders", "delivery"],
        };
        menus.iter().map(|menu| (*menu).to_owned()).collect()
    }

    pub(crate) fn groups(self, user: &str) -> Vec<String> {
        match self {
            Self::Radiology => vec!["ocs_ris".to_owned()],
            Self::Laboratory => vec!["ocs_lis".to_owned()],
            Self::Doctor => vec![format!("ocs_doctor_{user}")],
            Self::Admin | Self::Operator => vec![OPERATORS.to_owned()],
        }
    }
}

/// The group of those who watch deliveries.
pub(crate) const OPERATORS: &str = "ocs_operators";

/// A user.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(crate) struct User {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) menus: Vec<String>,
    pub(crate) groups: Vec<String>,
}

/// What an admin changes of a user. What is left out stays; a role without menus and groups brings its own.
#[derive(Debug, Deserialize)]
pub(crate) struct Change {
    pub(crate) role: Option<Role>,
    pub(crate) menus: Option<Vec<String>>,
    pub(crate) groups: Option<Vec<String>>,
}

impl User {
    /// Whether the page shows this menu, and its calls are allowed.
    pub(crate) fn has_menu(&self, menu: &str) -> bool {
        self.menus.iter().any(|of| of == menu)
    }

    pub(crate) fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|of| of == group)
    }

    /// Whether orders of every service are shown.
    pub(crate) fn sees_everything(&self) -> bool {
        self.is_in(OPERATORS)
    }

    /// Who a socket of this user is, with the login that let it in.
    pub(crate) fn identity(&self, login: &str, ends_at_ms: i64) -> Identity {
        let info = serde_json::json!({"name": self.name}).to_string();
        let ends_at = UNIX_EPOCH + Duration::from_millis(ends_at_ms.unsigned_abs());
        let rule = format!("login, role {}", self.role.word());
        let identity = Identity::user(self.id.as_str()).info(info).token_id(login).expires_at(ends_at).rule(rule);
        self.groups.iter().fold(identity, |identity, group| identity.group(group.as_str()))
    }

    /// The user as changed.
    pub(crate) fn changed(&self, change: Change) -> std::result::Result<Self, String> {
        let role = change.role.unwrap_or(self.role);
        let own = |mine: &[String], of_role: Vec<String>| if change.role.is_some() { of_role } else { mine.to_vec() };
        let menus = change.menus.unwrap_or_else(|| own(&self.menus, role.menus()));
        let groups = change.groups.unwrap_or_else(|| own(&self.groups, role.groups(&self.id)));
        if let Some(menu) = menus.iter().find(|menu| !MENUS.contains(&menu.as_str())) {
            return Err(format!("there is no menu {menu:?}; there are {}", MENUS.join(", ")));
        }
        let is_group = |name: &str| {
            let rest = name.strip_prefix("ocs_").unwrap_or_default();
            (1..=40).contains(&rest.len()) && rest.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        };
        if let Some(group) = groups.iter().find(|group| !is_group(group)) {
            return Err(format!("{group:?} is no group: ocs_ and up to 40 small letters, digits and underscores"));
        }
        if groups.len() > 16 {
            return Err("a user is in 16 groups at most".to_owned());
        }
        Ok(Self { role, menus, groups, ..self.clone() })
    }
}

const COLUMNS: &str = "users.id, users.name, users.role, users.menus, users.groups";

fn read(row: &Row<'_>) -> Result<User> {
    let words = |at| Ok::<_, rusqlite::Error>(row.get::<_, String>(at)?.split_whitespace().map(str::to_owned).collect());
    let role: String = row.get(2)?;
    let role = Role::ALL.into_iter().find(|known| known.word() == role).unwrap_or(Role::Doctor);
    Ok(User { id: row.get(0)?, name: row.get(1)?, role, menus: words(3)?, groups: words(4)? })
}

/// All users, in the order of their ids.
pub(crate) fn all(transaction: &Transaction<'_>) -> Result<Vec<User>> {
    transaction.prepare_cached(&format!("SELECT {COLUMNS} FROM users ORDER BY id"))?.query_map([], read)?.collect()
}

pub(crate) fn find(transaction: &Transaction<'_>, id: &str) -> Result<Option<User>> {
    transaction.prepare_cached(&format!("SELECT {COLUMNS} FROM users WHERE id = ?1"))?.query_row([id], read).optional()
}

pub(crate) fn password_of(transaction: &Transaction<'_>, id: &str) -> Result<Option<String>> {
    transaction.query_row("SELECT password FROM users WHERE id = ?1", [id], |row| row.get(0)).optional()
}

pub(crate) fn save(transaction: &Transaction<'_>, user: &User) -> Result<()> {
    let (menus, groups) = (user.menus.join(" "), user.groups.join(" "));
    transaction
        .execute("UPDATE users SET role = ?2, menus = ?3, groups = ?4 WHERE id = ?1", params![user.id, user.role.word(), menus, groups])?;
    Ok(())
}

/// A login: who, until when, and the id by which its sockets are known. Its token is known to the browser alone.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub(crate) id: String,
    pub(crate) user: User,
    pub(crate) ends_at_ms: i64,
}

/// Begins a login, and gives its token, of which the database knows a hash.
pub(crate) fn log_in(transaction: &Transaction<'_>, user: User, ttl: Duration) -> Result<(Login, String)> {
    forget_the_old(transaction)?;
    let (id, token) = (random()?, random()?);
    let ends_at_ms = now_ms() + ttl.as_millis() as i64;
    transaction.execute(
        "INSERT INTO logins (id, token_hash, user, ends_at_ms) VALUES (?1, ?2, ?3, ?4)",
        params![id, hash(&token), user.id, ends_at_ms],
    )?;
    Ok((Login { id, user, ends_at_ms }, token))
}

/// The login of a token, if it holds.
pub(crate) fn login_of(transaction: &Transaction<'_>, token: &str) -> Result<Option<Login>> {
    let sql = format!(
        "SELECT {COLUMNS}, logins.id, ends_at_ms FROM logins JOIN users ON users.id = logins.user WHERE token_hash = ?1 AND ends_at_ms > ?2"
    );
    let login = |row: &Row<'_>| Ok(Login { user: read(row)?, id: row.get(5)?, ends_at_ms: row.get(6)? });
    transaction.prepare_cached(&sql)?.query_row(params![hash(token), now_ms()], login).optional()
}

pub(crate) fn log_out(transaction: &Transaction<'_>, login: &str) -> Result<()> {
    transaction.execute("DELETE FROM logins WHERE id = ?1", [login])?;
    Ok(())
}

fn hash(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}

/// 128 bits that cannot be guessed, as letters and digits.
fn random() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    Ok(format!("{:032x}", u128::from_le_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> User {
        let role = Role::Radiology;
        User { id: "ris1".to_owned(), name: "김민수".to_owned(), role, menus: role.menus(), groups: role.groups("ris1") }
    }

    fn change(json: &str) -> std::result::Result<User, String> {
        user().changed(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn a_role_brings_its_menus_and_groups_unless_they_are_named() {
        let doctor = change(r#"{"role":"doctor"}"#).unwrap();
        assert_eq!((doctor.groups, doctor.menus), (vec!["ocs_doctor_ris1".to_owned()], vec!["orders".to_owned()]));
        assert_eq!(change(r#"{"role":"doctor","groups":["ocs_lis"]}"#).unwrap().groups, ["ocs_lis"]);
        assert_eq!(change(r#"{"menus":["orders","delivery"]}"#).unwrap().groups, ["ocs_ris"]);
    }

    #[test]
    fn what_is_no_menu_or_group_is_refused_by_name() {
        assert!(change(r#"{"menus":["root"]}"#).unwrap_err().contains("\"root\""));
        for group in ["ris", "ocs_", "ocs_a:b", "ocs_A"] {
            assert!(change(&format!(r#"{{"groups":["{group}"]}}"#)).unwrap_err().contains(group), "{group}");
        }
    }
}
