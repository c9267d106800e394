//! Who is behind a session: connection tokens, JSON Web Tokens that the application signs and the client brings along.
//!
//! ```
//! use std::time::{Duration, SystemTime};
//! use broker_auth::{Claims, HmacTokens, TokenOptions};
//!
//! let tokens = HmacTokens::new("a secret of at least 32 bytes, kept", TokenOptions::default())?;
//! let now = SystemTime::now();
//!
//! // The application makes a token when its user asks for one ...
//! let token = tokens.create(&Claims::user("ris1").expires_at(now + Duration::from_secs(600)));
//! // ... and the broker reads it when the user's client connects.
//! assert_eq!(tokens.verify(&token, now).unwrap().user.as_str(), "ris1");
//! # Ok::<(), broker_auth::WeakSecret>(())
//! ```
//!
//! No policy lives here: whether a token is needed, and what a user may do, is decided elsewhere.

mod claims;
mod hmac;
#[cfg(feature = "http-hooks")]
mod hooks;
mod secret;

pub use claims::{Claims, InvalidInfo};
pub use hmac::{HmacTokens, TokenOptions};
#[cfg(feature = "http-hooks")]
pub use hooks::{
    Hook, HookAuthorizer, HookCounts, HookHeader, HookOptions, HookUrl, HookedNamespaces, HooksOptions, HttpHooks, InvalidHeader,
    InvalidHookUrl, PassedHeader,
};
pub use secret::WeakSecret;
