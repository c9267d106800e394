//! Users and their logins. Passwords and tokens are made in `people`.

use rusqlite::{Connection, OptionalExtension, Transaction};
use serde::Serialize;

use super::{now_ms, random_id};
use crate::Refused;

/// How long a login lasts.
const LOGIN_MS: i64 = 30 * 24 * 3600 * 1000;
/// The longest name, in characters.
const NAME_MAX: usize = 40;

/// A user, as others see them.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Person {
    /// The id; it never changes.
    pub id: String,
    /// What they are called.
    pub name: String,
}

/// A login: somebody is in, in one browser or one program.
#[derive(Clone, Debug)]
pub struct Login {
    /// Its id, which is also that of its tokens.
    pub id: String,
    /// Who.
    pub person: Person,
}

/// What somebody wants to be called: 1 to 40 characters, none of them a control character, no space around them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Name(String);

impl Name {
    /// Reads a name.
    pub fn parse(text: &str) -> Result<Self, Refused> {
        let name = text.trim();
        let invalid = |why: &str| Err(Refused::Invalid { what: "the name", why: why.to_owned() });
        match name.chars().count() {
            0 => invalid("is empty"),
            count if count > NAME_MAX => invalid(&format!("has {count} characters, at most {NAME_MAX} are possible")),
            _ if name.chars().any(char::is_control) => invalid("has control characters"),
            _ => Ok(Self(name.to_owned())),
        }
    }
}

/// Adds a user. Names differ by more than the case of ASCII letters.
pub fn sign_up(transaction: &Transaction<'_>, name: &Name, password_hash: &str) -> Result<Person, Refused> {
    let person = Person { id: random_id::<9>(), name: name.0.clone() };
    let added = transaction
        .prepare_cached("INSERT INTO users (id, name, password, created_ms) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (name) DO NOTHING")?
        .execute((&person.id, &person.name, password_hash, now_ms()))?;
    if added == 0 { Err(Refused::NameTaken(person.name)) } else { Ok(person) }
}

/// A user and the hash of their password, by name.
pub fn by_name(connection: &Connection, name: &str) -> Result<Option<(Person, String)>, Refused> {
    let row = connection
        .prepare_cached("SELECT id, name, password FROM users WHERE name = ?1")?
        .query_row([name.trim()], |row| Ok((Person { id: row.get(0)?, name: row.get(1)? }, row.get(2)?)))
        .optional()?;
    Ok(row)
}

/// Begins a login, and forgets those that are over. Of its key only the hash is kept.
pub fn log_in(transaction: &Transaction<'_>, person: Person, key_hash: &[u8]) -> Result<Login, Refused> {
    let login = Login { id: random_id::<9>(), person };
    transaction.prepare_cached("DELETE FROM logins WHERE ends_ms < ?1")?.execute([now_ms()])?;
    transaction.prepare_cached("INSERT INTO logins (id, key_hash, user, ends_ms) VALUES (?1, ?2, ?3, ?4)")?.execute((
        &login.id,
        key_hash,
        &login.person.id,
        now_ms() + LOGIN_MS,
    ))?;
    Ok(login)
}

/// The login that has this key.
pub fn login_by_key(connection: &Connection, key_hash: &[u8]) -> Result<Login, Refused> {
    login(connection, "l.key_hash = ?1", key_hash)
}

/// The login with this id.
pub fn login_by_id(connection: &Connection, id: &str) -> Result<Login, Refused> {
    login(connection, "l.id = ?1", id)
}

fn login(connection: &Connection, which: &str, value: impl rusqlite::ToSql) -> Result<Login, Refused> {
    connection
        .prepare_cached(&format!("SELECT l.id, u.id, u.name FROM logins l JOIN users u ON u.id = l.user WHERE {which} AND l.ends_ms > ?2"))?
        .query_row((value, now_ms()), |row| Ok(Login { id: row.get(0)?, person: Person { id: row.get(1)?, name: row.get(2)? } }))
        .optional()?
        .ok_or(Refused::LoginEnded)
}

/// Ends a login.
pub fn log_out(transaction: &Transaction<'_>, id: &str) -> Result<(), Refused> {
    transaction.prepare_cached("DELETE FROM logins WHERE id = ?1")?.execute([id])?;
    Ok(())
}

/// The secret that signs tokens.
pub fn token_secret(connection: &Connection) -> Result<String, Refused> {
    Ok(connection.query_row("SELECT value FROM settings WHERE name = 'token_secret'", [], |row| row.get(0))?)
}
