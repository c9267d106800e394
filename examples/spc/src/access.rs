//! Who may what: roles, passwords, logins, and what a session of a user may hear. What users are is stored elsewhere.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use argon2::{
    Argon2, Params,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use broker::{Capability, Identity, Refusal, ServerSubscription, Topic, TopicPattern, Verb, Verbs};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{
    notice::{ProductId, alerts_topic, json, line_topic, product_topic},
    store::{Login, User},
};

/// How long a login holds.
pub const LOGIN_TIME: Duration = Duration::from_secs(12 * 3600);
/// The cookie that a login sets; scripts cannot read it.
pub const COOKIE: &str = "spc_login";
/// The group of sessions that hear of all their products by themselves.
pub const PLAIN_GROUP: &str = "spc_plain";
/// The group of sessions of our own page, which chooses what it hears.
pub const PAGE_GROUP: &str = "spc_page";

/// The group of the sessions of one login, by what is stored of its token.
pub const LOGIN_GROUP: &str = "login_";

/// What somebody may do with the products that they may see.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Look.
    Viewer,
    /// Raise and acknowledge alerts.
    Operator,
    /// Enter readings, analyse, disturb the simulated line.
    Engineer,
    /// Change what others may; see every connection.
    Admin,
}

impl Role {
    const ALL: [Self; 4] = [Self::Viewer, Self::Operator, Self::Engineer, Self::Admin];

    /// The word in the database.
    pub fn word(self) -> &'static str {
        ["viewer", "operator", "engineer", "admin"][self as usize]
    }

    /// The role of a word.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.word() == word)
    }
}

/// Refuses who is below a role.
pub fn needs(user: &User, role: Role) -> Result<(), Refusal> {
    if user.role >= role {
        return Ok(());
    }
    Err(Refusal::permission_denied(format!("this needs the role {}, {} is {}", role.word(), user.id, user.role.word()))
        .hint("ask an admin"))
}

/// Refuses who may not see a product. Whether there is such a product is not told.
pub fn needs_product(user: &User, product: ProductId) -> Result<(), Refusal> {
    if user.products.contains(&product) {
        return Ok(());
    }
    let yours: Vec<String> = user.products.iter().map(ToString::to_string).collect();
    Err(Refusal::permission_denied(format!("product {product} is not one of yours")).hint(format!("yours are: {}", yours.join(", "))))
}

/// How hard passwords are to guess; tests take less.
pub fn hasher(quick: bool) -> Argon2<'static> {
    let params = if quick { Params::new(8, 1, 1, None).expect("the smallest parameters are legal") } else { Params::default() };
    Argon2::from(params)
}

/// What is stored of a password. Blocks for a moment, on purpose.
pub fn hash_password(hasher: &Argon2<'_>, password: &str) -> anyhow::Result<String> {
    Ok(hasher.hash_password(password.as_bytes()).map_err(|error| anyhow::anyhow!("{error}"))?.to_string())
}

/// Whether the password is the one; takes the same time where there is no such user. Blocks for a moment, on purpose.
pub fn is_password(hasher: &Argon2<'_>, user: Option<&User>, password: &str) -> bool {
    let Some(user) = user else {
        let _ = hasher.hash_password(password.as_bytes());
        return false;
    };
    PasswordHash::new(&user.password).is_ok_and(|hash| hasher.verify_password(password.as_bytes(), &hash).is_ok())
}

/// A new token: 32 random bytes.
pub fn new_token() -> anyhow::Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(hex(&bytes))
}

/// What is stored of a token.
pub fn token_hash(token: &str) -> String {
    hex(&Sha256::digest(token.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// How a session hears of alerts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// `/ws/spc/notifications/`: of all its products, without asking.
    Notifications,
    /// Any other path: of what it asks for.
    Asking,
}

impl Way {
    /// By the path of the request.
    pub fn of_path(path: &str) -> Self {
        if path.trim_end_matches('/') == "/ws/spc/notifications" { Self::Notifications } else { Self::Asking }
    }
}

/// Who a session is, and what it may hear: nothing but the topics of its user's products.
pub fn identity(login: &Login, token_hash: &str, way: Way) -> Identity {
    let user = &login.user;
    let heard = user.products.iter().flat_map(|id| [alerts_topic(*id), product_topic(*id), line_topic(*id)]);
    let hear = Capability {
        topics: heard.map(|topic| TopicPattern::exactly(&topic)).collect(),
        allow: [Verb::Subscribe].into_iter().collect::<Verbs>(),
    };
    let hello = json!({
        "type": "connection", "message": "Connected to SPC notifications", "user": user.id, "role": user.role, "products": user.products,
    });
    let identity = Identity::user(user.id.as_str())
        .capability(hear)
        .meta(serde_json::to_vec(&user.products).expect("a list of numbers"))
        .token_id(token_hash)
        .group(format!("{LOGIN_GROUP}{token_hash}"))
        .expires_at(SystemTime::UNIX_EPOCH + Duration::from_millis(login.expires_ms))
        .data(json(&hello))
        .rule("login");
    match way {
        Way::Asking => identity.group(PAGE_GROUP),
        Way::Notifications => user
            .products
            .iter()
            .map(|id| ServerSubscription::new(alerts_topic(*id)))
            .fold(identity.group(PLAIN_GROUP), Identity::subscription),
    }
}

/// The topic that a session at this path follows from its beginning.
pub fn product_of_path(path: &str) -> Option<ProductId> {
    path.trim_end_matches('/').strip_prefix("/ws/spc/product/")?.parse().ok()
}

/// The topic of everyone of a user.
pub fn user_topic(user: &str) -> Option<Topic> {
    Topic::of_user(&user.into())?.ok()
}
