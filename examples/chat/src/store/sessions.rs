//! Sessions, their members, and how far each has read. Messages live in `messages`.

use rusqlite::{Connection, OptionalExtension, Transaction};
use serde::Serialize;

use super::{
    accounts::Person,
    messages::{self, Message},
    now_ms, random_id,
};
use crate::Refused;

/// Most sessions of a user: a page listens to all of them over one socket.
const SESSIONS_MAX: i64 = 100;
/// Most members of a session.
const MEMBERS_MAX: i64 = 1000;
/// The longest title, in characters.
const TITLE_MAX: usize = 80;

/// One line in the list of sessions.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// The session.
    pub id: String,
    /// What it is called.
    pub title: String,
    /// The id of its newest message; 0: there is none.
    pub top: i64,
    /// The id of the newest message that the user has seen: `top - read` are unread.
    pub read: i64,
    /// How many members it has.
    pub members: i64,
    /// Its newest message.
    pub last: Option<Message>,
    /// When it was made, in milliseconds of Unix time.
    pub created_at: i64,
}

/// A member, and how far they have read.
#[derive(Clone, Debug, Serialize)]
pub struct Member {
    /// Who.
    #[serde(flatten)]
    pub person: Person,
    /// The id of the newest message that they have seen.
    pub read: i64,
}

/// Everything about a session but its messages.
#[derive(Clone, Debug, Serialize)]
pub struct Details {
    /// As in the list.
    #[serde(flatten)]
    pub line: Line,
    /// The code of its share link: who has it may join.
    pub invite: String,
    /// Everybody, in the order in which they joined.
    pub people: Vec<Member>,
}

/// What somebody with a share link may know before they join.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Invitation {
    /// The session.
    pub session_id: String,
    /// What it is called.
    pub title: String,
    /// How many members it has.
    pub members: i64,
}

/// What a session is called: 1 to 80 characters.
#[derive(Clone, Debug)]
pub struct Title(String);

impl Title {
    /// Reads a title.
    pub fn parse(text: &str) -> Result<Self, Refused> {
        let title = text.trim();
        match title.chars().count() {
            1..=TITLE_MAX if !title.chars().any(char::is_control) => Ok(Self(title.to_owned())),
            count => {
                Err(Refused::Invalid { what: "the title", why: format!("has {count} characters; 1 to {TITLE_MAX}, all of them printable") })
            }
        }
    }
}

/// Makes a session with one member. Answers its id.
pub fn create(transaction: &Transaction<'_>, title: &Title, owner: &str) -> Result<String, Refused> {
    let id = random_id::<12>();
    transaction.prepare_cached("INSERT INTO sessions (id, title, invite, created_ms) VALUES (?1, ?2, ?3, ?4)")?.execute((
        &id,
        &title.0,
        random_id::<16>(),
        now_ms(),
    ))?;
    add_member(transaction, &id, owner)?;
    Ok(id)
}

/// Whether the user is a member; otherwise why not.
pub fn check_member(connection: &Connection, session: &str, user: &str) -> Result<(), Refused> {
    let is_member: Option<bool> = connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM members m WHERE m.session = s.id AND m.user = ?2) FROM sessions s WHERE s.id = ?1")?
        .query_row((session, user), |row| row.get(0))
        .optional()?;
    match is_member {
        Some(true) => Ok(()),
        Some(false) => Err(Refused::NotMember),
        None => Err(Refused::UnknownSession),
    }
}

const LINE: &str = "SELECT s.id, s.title, s.top, m.read, s.created_ms, (SELECT COUNT(*) FROM members o WHERE o.session = s.id)
     FROM members m JOIN sessions s ON s.id = m.session";

fn line(row: &rusqlite::Row<'_>) -> rusqlite::Result<Line> {
    let (id, title, top, read) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
    Ok(Line { id, title, top, read, created_at: row.get(4)?, members: row.get(5)?, last: None })
}

/// The user's sessions, with their newest messages; in no order.
pub fn of_user(connection: &Connection, user: &str) -> Result<Vec<Line>, Refused> {
    let mut lines: Vec<Line> =
        connection.prepare_cached(&format!("{LINE} WHERE m.user = ?1"))?.query_map([user], line)?.collect::<rusqlite::Result<_>>()?;
    for line in &mut lines {
        line.last = messages::by_id(connection, &line.id, line.top)?;
    }
    Ok(lines)
}

/// A session, for one of its members.
pub fn details(connection: &Connection, session: &str, user: &str) -> Result<Details, Refused> {
    check_member(connection, session, user)?;
    let mut line = connection.prepare_cached(&format!("{LINE} WHERE m.session = ?1 AND m.user = ?2"))?.query_row((session, user), line)?;
    line.last = messages::by_id(connection, session, line.top)?;
    let people = connection
        .prepare_cached(
            "SELECT u.id, u.name, m.read FROM members m JOIN users u ON u.id = m.user WHERE m.session = ?1 ORDER BY m.joined_ms, u.id",
        )?
        .query_map([session], |row| Ok(Member { person: Person { id: row.get(0)?, name: row.get(1)? }, read: row.get(2)? }))?
        .collect::<rusqlite::Result<_>>()?;
    let invite = connection.query_row("SELECT invite FROM sessions WHERE id = ?1", [session], |row| row.get(0))?;
    Ok(Details { line, invite, people })
}

/// What a share link leads to.
pub fn invitation(connection: &Connection, invite: &str) -> Result<Invitation, Refused> {
    connection
        .prepare_cached(
            "SELECT s.id, s.title, (SELECT COUNT(*) FROM members m WHERE m.session = s.id) FROM sessions s WHERE s.invite = ?1",
        )?
        .query_row([invite], |row| Ok(Invitation { session_id: row.get(0)?, title: row.get(1)?, members: row.get(2)? }))
        .optional()?
        .ok_or(Refused::UnknownInvite)
}

/// Joins the session of a share link. Answers its id, and whether the user was none of its members before.
pub fn join(transaction: &Transaction<'_>, invite: &str, user: &str) -> Result<(String, bool), Refused> {
    let Invitation { session_id, members, .. } = invitation(transaction, invite)?;
    if check_member(transaction, &session_id, user).is_ok() {
        return Ok((session_id, false));
    }
    if members >= MEMBERS_MAX {
        return Err(Refused::TooMany { what: "members in a session", max: MEMBERS_MAX });
    }
    add_member(transaction, &session_id, user)?;
    Ok((session_id, true))
}

fn add_member(transaction: &Transaction<'_>, session: &str, user: &str) -> Result<(), Refused> {
    let sessions: i64 = transaction.prepare_cached("SELECT COUNT(*) FROM members WHERE user = ?1")?.query_row([user], |row| row.get(0))?;
    if sessions >= SESSIONS_MAX {
        return Err(Refused::TooMany { what: "sessions for one user", max: SESSIONS_MAX });
    }
    transaction.prepare_cached("INSERT INTO members (session, user, joined_ms) VALUES (?1, ?2, ?3)")?.execute((session, user, now_ms()))?;
    Ok(())
}

/// Takes the user out of a session.
pub fn leave(transaction: &Transaction<'_>, session: &str, user: &str) -> Result<(), Refused> {
    check_member(transaction, session, user)?;
    transaction.prepare_cached("DELETE FROM members WHERE session = ?1 AND user = ?2")?.execute((session, user))?;
    Ok(())
}

/// The user has seen everything up to this message. Answers how far they have read; it never goes back, and not beyond the newest.
pub fn mark_read(transaction: &Transaction<'_>, session: &str, user: &str, id: i64) -> Result<i64, Refused> {
    check_member(transaction, session, user)?;
    let read = transaction
        .prepare_cached(
            "UPDATE members SET read = MAX(read, MIN(?3, (SELECT top FROM sessions WHERE id = ?1))) WHERE session = ?1 AND user = ?2 RETURNING read",
        )?
        .query_row((session, user, id), |row| row.get(0))?;
    Ok(read)
}
