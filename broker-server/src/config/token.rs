//! `[client.token]` and `[client.subscription_token]`: keys of tokens, and what is asked of them.

use std::{collections::BTreeMap, fs, sync::Arc, time::Duration};

use broker_auth::{Jwks, Key, TokenOptions, Tokens, WeakSecret};

use super::{
    field::{Complaint, duration, secret, size, text, texts},
    secret::Secret,
    visit::Visitor,
};

/// Largest file of a public key, in bytes.
const KEY_FILE_MAX: u64 = 64 << 10;

/// Keys of tokens, and what is asked of them.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TokenKeys {
    /// A shared secret of at least 32 bytes: HS256, from 48 bytes on HS384, from 64 HS512.
    pub hmac_secret: Option<Secret>,
    /// Public keys: PEM, a JSON Web Key, or the path of a file with either.
    pub public_keys: Vec<String>,
    /// Keys that are fetched, by a name of the user's choice.
    pub jwks: BTreeMap<String, JwksAddress>,
    /// What `iss` must be. Default: anything.
    pub issuer: Option<String>,
    /// What `aud` must hold, one of these. Default: anything.
    pub audience: Vec<String>,
    /// How far clocks may differ. Default: 0 s.
    pub leeway: Duration,
    /// Longest token, in bytes. Default: 8 KiB.
    pub max: usize,
    /// The claim that names the user. Default: `sub`.
    pub user_claim: Option<String>,
}

/// Where keys are fetched from.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct JwksAddress {
    /// The address of the set.
    pub url: Option<String>,
    /// Whose tokens the keys are for. Default: anybody's.
    pub issuer: Option<String>,
}

impl Default for TokenKeys {
    fn default() -> Self {
        Self {
            hmac_secret: None,
            public_keys: Vec::new(),
            jwks: BTreeMap::new(),
            issuer: None,
            audience: Vec::new(),
            leeway: Duration::ZERO,
            max: 8 << 10,
            user_claim: Some("sub".to_owned()),
        }
    }
}

impl TokenKeys {
    /// Fewest bytes of `hmac_secret`: a shorter key than its hash is the weakest part of an HS256 signature.
    pub const HMAC_SECRET_MIN: usize = 32;

    /// Whether there is nothing to verify with.
    pub fn is_empty(&self) -> bool {
        self.hmac_secret.is_none() && self.public_keys.is_empty() && self.jwks.is_empty()
    }

    /// What is asked of the tokens; `section` is the place of these settings.
    pub fn options(&self, section: &'static str) -> TokenOptions {
        let mut options = TokenOptions::default().section(section).leeway(self.leeway).token_max_bytes(self.max);
        options.issuer.clone_from(&self.issuer);
        options.audience.clone_from(&self.audience);
        if let Some(claim) = &self.user_claim {
            options.user_claim.clone_from(claim);
        }
        options
    }

    /// The verifier; `hmac_secret` stands in where none is set.
    ///
    /// # Errors
    /// A key cannot be used; the message names the setting.
    pub fn tokens(&self, section: &'static str, hmac_secret: Option<&Secret>) -> anyhow::Result<Tokens> {
        use anyhow::Context as _;
        let mut tokens = Tokens::new(self.options(section));
        if let Some(secret) = self.hmac_secret.as_ref().or(hmac_secret) {
            let key = Key::secret(secret.expose()).with_context(|| format!("{section}.hmac_secret cannot verify tokens"))?;
            tokens = tokens.key(key);
        }
        for (index, text) in self.public_keys.iter().enumerate() {
            let key =
                public_key(text).map_err(anyhow::Error::msg).with_context(|| format!("{section}.public_keys[{index}] cannot be used"))?;
            tokens = tokens.key(key);
        }
        for (name, address) in &self.jwks {
            let url = address.url.as_deref().unwrap_or_default();
            let jwks = Jwks::over_http(url, address.issuer.as_deref()).with_context(|| format!("{section}.jwks.{name} cannot be used"))?;
            tokens = tokens.jwks(Arc::new(jwks));
        }
        Ok(tokens)
    }

    pub(super) fn keys(&mut self, keys: &mut dyn Visitor) {
        keys.key(
            "hmac_secret",
            "The secret that signs tokens, shared with the backend that issues them: HS256, from 48 bytes on HS384, from 64 HS512. Where \
             [client.token] has no key at all, a random secret is made at each start.",
            &mut secret(
                &mut self.hmac_secret,
                Self::HMAC_SECRET_MIN,
                "a secret shorter than its hash can be found by trying, from one token alone",
            ),
        );
        keys.key(
            "public_keys",
            "Public keys of backends that sign with a private one: RSA from 2048 bits (RS256 to PS512), P-256 (ES256), P-384 (ES384), Ed25519 \
             (EdDSA).",
            &mut texts(&mut self.public_keys, "a list of keys in PEM, JSON Web Keys, or paths of files with one", |text| {
                public_key(text).map(drop).map_err(|why| (why, Some("the public key: `openssl pkey -in private.pem -pubout`".to_owned())))
            }),
        );
        keys.key(
            "issuer",
            "What `iss` must be.",
            &mut text(&mut self.issuer, "the issuer's name, as it stands in its tokens", "https://id.example.com", some_text),
        );
        keys.key(
            "audience",
            "What `aud` must be or hold, one of these; empty: anything.",
            &mut texts(&mut self.audience, "a list of names", |text| some_text(text).map(drop)),
        );
        keys.key(
            "leeway",
            "How far the clocks of backends and broker may differ.",
            &mut duration(&mut self.leeway, Duration::ZERO..=Duration::from_secs(300)),
        );
        keys.key("max", "Longest token.", &mut size(&mut self.max, 256..=64 << 10));
        keys.key(
            "user_claim",
            "The claim that names the user.",
            &mut text(&mut self.user_claim, "the name of a claim, such as \"sub\" or \"email\"", "sub", claim),
        );
        let there = self.jwks.keys().cloned().collect();
        let about =
            "Keys that are fetched from their issuer (JWKS), and again when a token names a new one. `main` is a name of your choice.";
        keys.named("jwks", about, there, &mut |name, keys| self.jwks.entry(name.to_owned()).or_default().keys(keys));
    }

    /// Why the secret protects nothing, where it is none.
    pub(super) fn secret_mistake(&self) -> Option<WeakSecret> {
        self.hmac_secret.as_ref().and_then(|secret| match Key::secret(secret.expose()) {
            Err(broker_auth::InvalidKey::Secret(weak)) => Some(weak),
            _ => None,
        })
    }
}

impl JwksAddress {
    fn keys(&mut self, keys: &mut dyn Visitor) {
        keys.key(
            "url",
            "Where the keys are.",
            &mut text(&mut self.url, "an address with https", "https://id.example.com/.well-known/jwks.json", |text| {
                Jwks::check_url(text).map(|()| text.to_owned()).map_err(|error| (error.to_string(), None))
            }),
        );
        keys.key(
            "issuer",
            "Whose tokens the keys are for, by their `iss`. With several sets, give each its own.",
            &mut text(&mut self.issuer, "the issuer's name, as it stands in its tokens", "https://id.example.com", some_text),
        );
    }
}

/// Reads a key from the text, or from the file that it names.
fn public_key(text: &str) -> Result<Key, String> {
    let read = |text: &str| match text.trim_start().starts_with('{') {
        true => Key::jwk(text),
        false => Key::public_pem(text),
    };
    let is_key = text.trim_start().starts_with(['{', '-']);
    let key = if is_key {
        read(text)
    } else {
        let len = fs::metadata(text).map_err(|error| format!("there is no file {text}: {error}"))?.len();
        if len > KEY_FILE_MAX {
            return Err(format!("{text} has {len} bytes, which is no key"));
        }
        read(&fs::read_to_string(text).map_err(|error| format!("{text} cannot be read: {error}"))?)
    };
    match key {
        // A secret among public keys would be shown with them.
        Ok(key) if key.algorithms()[0].name().starts_with("HS") => Err("this is a shared secret, which belongs to hmac_secret".to_owned()),
        Ok(key) => Ok(key),
        Err(error) => Err(error.to_string()),
    }
}

fn some_text(text: &str) -> Result<String, Complaint> {
    match text.trim() {
        "" => Err(("this is empty".to_owned(), Some("remove the key to accept anything".to_owned()))),
        _ => Ok(text.to_owned()),
    }
}

fn claim(text: &str) -> Result<String, Complaint> {
    let is_name =
        !text.is_empty() && text.len() <= 128 && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'));
    if is_name { Ok(text.to_owned()) } else { Err(("this is no name of a claim".to_owned(), Some("write \"sub\"".to_owned()))) }
}
