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
//! # Embedding
//!
//! A closure and an authorizer are all that an engine needs to know; `Broker::builder()` of the facade takes the same.
//!
//! ```
//! use std::{sync::Arc, time::SystemTime};
//! use broker_auth::{Claims, FetchFailed, HmacTokens, Jwks, Key, KeySource, SubscriptionTokens, TokenOptions, Tokens};
//! use broker_core::{ConnectRequest, Engine, Namespace, Refusal};
//! use bytes::Bytes;
//!
//! /// The issuer's public keys, by the application's own way. `Jwks::over_http` asks an address for them.
//! struct Issuer;
//!
//! #[async_trait::async_trait]
//! impl KeySource for Issuer {
//!     async fn fetch(&self) -> Result<Bytes, FetchFailed> {
//!         Ok(Bytes::from_static(br#"{"keys":[{"kty":"EC","crv":"P-256","kid":"2024",
//!             "x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#))
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let secret = "a secret of at least 32 bytes, kept";
//! let issuer = Arc::new(Jwks::from_source(Arc::new(Issuer), "the issuer", Some("https://id.example.com")));
//! // Optional: what is wrong with the keys is known before the first token needs them.
//! assert_eq!(issuer.refresh().await?, 1);
//!
//! // Users sign in at the issuer; the backend signs for its own machines, and for single topics.
//! let tokens = Arc::new(Tokens::new(TokenOptions::default().audience("broker")).key(Key::secret(secret)?).jwks(issuer));
//! let for_topics = Arc::new(tokens.with_options(TokenOptions::default()));
//!
//! let connecting = tokens.clone();
//! let engine = Engine::builder()
//!     .namespace("orders", Namespace::default())
//!     .on_connect(move |request: ConnectRequest| {
//!         let tokens = connecting.clone();
//!         async move {
//!             let token = request.connect.token.ok_or_else(|| Refusal::unauthorized("connecting needs a token"))?;
//!             tokens.verify(&token, SystemTime::now()).await
//!         }
//!     })
//!     .authorizer(SubscriptionTokens::new(for_topics))
//!     .build()?;
//!
//! // A token for another audience is refused, whoever signed it.
//! let token = HmacTokens::new(secret, TokenOptions::default())?.create(&Claims::user("press7"));
//! assert!(tokens.verify(&token, SystemTime::now()).await.is_err());
//! # drop(engine);
//! # Ok(())
//! # }
//! ```
//!
//! # Other credentials
//!
//! [`SubscriptionTokens`] is an authorizer that lets the token of a subscription decide about it. [`Tickets`] stand in a URL in place of a token.
//! [`inspect()`] says what a token holds and what is wrong with it, without believing it.
//!
//! # The application's say
//!
//! With the feature `http-hooks`, `HttpHooks` asks an application over HTTP what credentials do not say: who a client without any is, who may listen and
//! publish where, what a call or a message is answered.
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
