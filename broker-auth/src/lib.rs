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
//! let token = tokens.create(&Claims::user("ris1").expires_at(now + Duration::from_secs(600)).group("ocs_ris"));
//! // ... and the broker reads it when the user's client connects.
//! assert_eq!(tokens.verify(&token, now).unwrap().user.as_str(), "ris1");
//! # Ok::<(), broker_auth::WeakSecret>(())
//! ```
//!
//! # Keys
//!
//! [`Tokens`] verifies with any number of [`Key`]s: shared secrets, public keys in PEM, JSON Web Keys; and with keys that are fetched from an issuer,
//! [`Jwks`] (over HTTP with the feature `jwks`). Each key is for the algorithms of its kind; the token chooses nothing.
//!
//! # Other credentials
//!
//! [`SubscriptionTokens`] is an authorizer that lets the token of a subscription decide about it. [`Tickets`] stand in a URL in place of a token.
//! [`inspect()`] says what a token holds and what is wrong with it, without believing it.
//!
//! No policy lives here: whether a token is needed is decided elsewhere.

mod algorithm;
mod claims;
mod hmac;
#[cfg(feature = "http-hooks")]
mod hooks;
#[cfg(any(feature = "http-hooks", feature = "jwks"))]
mod http_client;
mod inspect;
mod jwks;
mod key;
mod secret;
mod subscription;
mod tickets;
mod token;
mod tokens;

pub use algorithm::Algorithm;
pub use claims::{Claims, InvalidInfo, SubscriptionClaims};
pub use hmac::HmacTokens;
#[cfg(feature = "http-hooks")]
pub use hooks::{
    Hook, HookAuthorizer, HookCounts, HookHeader, HookOptions, HookUrl, HookedNamespaces, HooksOptions, HttpHooks, InvalidHeader,
    InvalidHookUrl, PassedHeader,
};
#[cfg(any(feature = "http-hooks", feature = "jwks"))]
pub use http_client::NoRootCertificates;
pub use inspect::{Inspected, inspect};
#[cfg(feature = "jwks")]
pub use jwks::http::InvalidJwksUrl;
pub use jwks::{FetchFailed, Jwks, KeySource};
pub use key::{InvalidKey, Key};
pub use secret::WeakSecret;
pub use subscription::SubscriptionTokens;
pub use tickets::{TicketError, Tickets};
pub use tokens::{TokenOptions, Tokens};
