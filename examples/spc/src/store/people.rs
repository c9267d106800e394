//! Users with their roles, rights, logins and preferences.

use rusqlite::{OptionalExtension, Row};
use serde::{Deserialize, Serialize};

use super::{Transaction, as_list, listed};
use crate::{access::Role, notice::ProductId, refused::Refused};

/// Somebody who may come in.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct User {
    /// What they log in with.
    pub id: String,
    /// What others call them.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// The products that they may see.
    pub products: Vec<ProductId>,
    /// What they want to hear.
    pub preferences: Preferences,
    /// A hash of their password.
    #[serde(skip)]
    pub password: String,
}

/// What a user wants to hear of what they may hear.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preferences {
    /// The lowest level that is shown, 1 to 4.
    pub min_level: u8,
    /// Products of which nothing is shown.
    pub muted: Vec<ProductId>,
}

/// A login that holds.
#[derive(Clone, Debug)]
pub struct Login {
    /// Who it is.
    pub user: User,
    /// Until when, in milliseconds of Unix time.
    pub expires_ms: u64,
}

impl Transaction<'_> {
    /// Whether nobody can come in yet.
    pub fn is_new(&self) -> Result<bool, Refused> {
        Ok(!self.sql.query_row("SELECT EXISTS (SELECT 1 FROM users)", (), |row| row.get(0))?)
    }

    /// Stores a user with rights; preferences are the default ones.
    pub fn add_user(&self, user: &User) -> Result<(), Refused> {
        self.sql.execute(
            "INSERT INTO users (id, name, role, password) VALUES (?, ?, ?, ?)",
            (&user.id, &user.name, user.role.word(), &user.password),
        )?;
        self.set_rights(&user.id, user.role, &user.products)
    }

    /// Changes what a user may do and see.
    pub fn set_rights(&self, user: &str, role: Role, products: &[ProductId]) -> Result<(), Refused> {
        self.sql.execute("UPDATE users SET role = ? WHERE id = ?", (role.word(), user))?;
        self.sql.execute("DELETE FROM rights WHERE user = ?", [user])?;
        for product in products {
            self.product(*product)?;
            self.sql.execute("INSERT OR IGNORE INTO rights VALUES (?, ?)", (user, product))?;
        }
        Ok(())
    }

    /// Everybody.
    pub fn users(&self) -> Result<Vec<User>, Refused> {
        let mut found = self.sql.prepare_cached("SELECT * FROM users ORDER BY id")?;
        let mut users = found.query_map((), user)?.collect::<Result<Vec<_>, _>>()?;
        for user in &mut users {
            user.products = self.rights(&user.id)?;
        }
        Ok(users)
    }

    /// One user.
    pub fn user(&self, id: &str) -> Result<Option<User>, Refused> {
        let mut found = self.sql.prepare_cached("SELECT * FROM users WHERE id = ?")?;
        let Some(mut user) = found.query_row([id], user).optional()? else { return Ok(None) };
        user.products = self.rights(&user.id)?;
        Ok(Some(user))
    }

    fn rights(&self, user: &str) -> Result<Vec<ProductId>, Refused> {
        let mut found = self.sql.prepare_cached("SELECT product FROM rights WHERE user = ? ORDER BY product")?;
        Ok(found.query_map([user], |row| row.get(0))?.collect::<Result<_, _>>()?)
    }

    /// Changes what a user wants to hear.
    pub fn set_preferences(&self, user: &str, Preferences { min_level, muted }: &Preferences) -> Result<(), Refused> {
        self.sql.execute("UPDATE users SET min_level = ?, muted = ? WHERE id = ?", (min_level, as_list(muted), user))?;
        Ok(())
    }

    /// Remembers a login by a hash of its token, and forgets those that have ended.
    pub fn add_login(&self, token: &str, user: &str, now_ms: u64, expires_ms: u64) -> Result<(), Refused> {
        self.sql.execute("DELETE FROM logins WHERE expires_ms <= ?", [now_ms])?;
        self.sql.execute("INSERT INTO logins VALUES (?, ?, ?)", (token, user, expires_ms))?;
        Ok(())
    }

    /// Who logged in with this, if that holds.
    pub fn login(&self, token: &str, now_ms: u64) -> Result<Option<Login>, Refused> {
        let mut found = self.sql.prepare_cached("SELECT user, expires_ms FROM logins WHERE token = ? AND expires_ms > ?")?;
        let Some((id, expires_ms)) = found.query_row((token, now_ms), |row| Ok((row.get::<_, String>(0)?, row.get(1)?))).optional()? else {
            return Ok(None);
        };
        Ok(self.user(&id)?.map(|user| Login { user, expires_ms }))
    }

    /// Ends a login.
    pub fn remove_login(&self, token: &str) -> Result<(), Refused> {
        self.sql.execute("DELETE FROM logins WHERE token = ?", [token])?;
        Ok(())
    }
}

fn user(row: &Row<'_>) -> rusqlite::Result<User> {
    let role: String = row.get(2)?;
    Ok(User {
        id: row.get(0)?,
        name: row.get(1)?,
        role: Role::of_word(&role).unwrap_or(Role::Viewer),
        products: Vec::new(),
        password: row.get(3)?,
        preferences: Preferences { min_level: row.get(4)?, muted: listed(&row.get::<_, String>(5)?) },
    })
}
