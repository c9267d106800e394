//! The verifier of tokens: which keys there are, and which of them a token's signature must be of. What the token claims lives in `claims`.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use broker_core::{Grant, Identity, Refusal, RefusalKind, Subject, Topic};

use crate::{
    Algorithm, Jwks, Key,
    claims::{self, Checks},
    token::Token,
};

/// How tokens are read.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TokenOptions {
    /// How far the clocks of the application and the broker may differ, for `exp` and `nbf`. Default: 0 s.
    pub leeway: Duration,
    /// The longest token that is looked at, in bytes. Default: 8 KiB.
    pub token_max_bytes: usize,
    /// What `iss` must be, for keys that are not fetched for an issuer of their own. Default: anything.
    pub issuer: Option<String>,
    /// What `aud` must be or hold; one of these. Default: anything.
    pub audience: Vec<String>,
    /// The claim that names the user. Default: `sub`.
    pub user_claim: String,
    /// The section of the configuration, for what the operator is told. Default: `client.token`.
    pub section: &'static str,
}

impl Default for TokenOptions {
    fn default() -> Self {
        Self {
            leeway: Duration::ZERO,
            token_max_bytes: 8 * 1024,
            issuer: None,
            audience: Vec::new(),
            user_claim: "sub".to_owned(),
            section: "client.token",
        }
    }
}

impl TokenOptions {
    /// Sets how far the clocks may differ.
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }

    /// Sets the longest token that is looked at, in bytes.
    pub fn token_max_bytes(mut self, bytes: usize) -> Self {
        self.token_max_bytes = bytes;
        self
    }

    /// Sets what `iss` must be.
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// Adds an audience: `aud` must name one of them.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience.push(audience.into());
        self
    }

    /// Sets the claim that names the user.
    pub fn user_claim(mut self, claim: impl Into<String>) -> Self {
        self.user_claim = claim.into();
        self
    }

    /// Sets the section of the configuration that messages for the operator name.
    pub fn section(mut self, section: &'static str) -> Self {
        self.section = section;
        self
    }
}

/// Reads tokens: JSON Web Tokens that the application signs, with a shared secret or a key pair.
///
/// A key accepts the algorithms of its kind and no other; the token chooses nothing. `none` is refused, so is a header with `crit`; `jku`, `x5u`,
/// `jwk` and `x5c` are ignored; `kid` is compared with the names of the keys and nothing else.
///
/// ```
/// use std::time::SystemTime;
/// use broker_auth::{Key, TokenOptions, Tokens};
///
/// let tokens = Tokens::new(TokenOptions::default().issuer("https://id.example.com")).key(Key::secret([7; 32])?);
/// assert!(tokens.verify_now("no token", SystemTime::now()).is_err());
/// # Ok::<(), broker_auth::InvalidKey>(())
/// ```
#[derive(Clone, Debug)]
pub struct Tokens {
    keys: Vec<Key>,
    sources: Vec<Arc<Jwks>>,
    accepted: Vec<Algorithm>,
    options: TokenOptions,
}

/// Whose signature a token bears.
struct Signer<'a> {
    /// What `iss` must be.
    issuer: Option<&'a str>,
    is_fetched: bool,
}

impl Tokens {
    /// Without a key, which accepts nothing.
    pub fn new(options: TokenOptions) -> Self {
        Self { keys: Vec::new(), sources: Vec::new(), accepted: Vec::new(), options }
    }

    /// Adds a key.
    pub fn key(mut self, key: Key) -> Self {
        self.accept(key.algorithms());
        self.keys.push(key);
        self
    }

    /// Adds keys that are fetched.
    pub fn jwks(mut self, source: Arc<Jwks>) -> Self {
        self.accept(Algorithm::OF_KEY_PAIRS);
        self.sources.push(source);
        self
    }

    /// Whether there is nothing to verify with.
    pub fn is_empty(&self) -> bool {
        self.accepted.is_empty()
    }

    /// The same keys with other options: for tokens of another kind.
    pub fn with_options(&self, options: TokenOptions) -> Self {
        Self { options, ..self.clone() }
    }

    /// The sources of fetched keys, to fetch them ahead of the first token.
    pub fn sources(&self) -> &[Arc<Jwks>] {
        &self.sources
    }

    /// Who the token says its bearer is, if it holds at `now`. Waits where keys must be fetched; cancel-safe.
    ///
    /// A token without `sub`, or with an empty one, is an anonymous user's. Refusals are `Unauthorized` or `TokenExpired`, and `Unavailable` where keys
    /// could not be fetched; they say which check failed and quote nothing of the token.
    pub async fn verify(&self, token: &str, now: SystemTime) -> Result<Identity, Refusal> {
        let token = self.read(token)?;
        let signer = self.signer(&token).await?;
        self.identity(&token, &signer, now)
    }

    /// As [`Tokens::verify`], with the keys that are here.
    pub fn verify_now(&self, token: &str, now: SystemTime) -> Result<Identity, Refusal> {
        let token = self.read(token)?;
        let signer = self.signer_among_keys(&token).ok_or_else(|| self.mismatch())?;
        self.identity(&token, &signer, now)
    }

    /// What the token of a subscription grants: the subject in the topic. Waits where keys must be fetched; cancel-safe.
    ///
    /// Refusals are `PermissionDenied` or `TokenExpired`, and `Unavailable` where keys could not be fetched.
    pub async fn verify_subscription(&self, token: &str, subject: &Subject, topic: &Topic, now: SystemTime) -> Result<Grant, Refusal> {
        let verified = async {
            let token = self.read(token)?;
            let signer = self.signer(&token).await?;
            claims::subscription::read(&token.claims, subject, topic, &self.checks(&signer, now))
        };
        verified.await.map_err(|mut refusal: Refusal| {
            // A subscription is refused, the connection stays.
            if refusal.kind == RefusalKind::Unauthorized {
                refusal.kind = RefusalKind::PermissionDenied;
            }
            refusal
        })
    }

    fn accept(&mut self, algorithms: &[Algorithm]) {
        self.accepted.extend(algorithms);
        self.accepted.sort_unstable();
        self.accepted.dedup();
    }

    fn read<'t>(&self, token: &'t str) -> Result<Token<'t>, Refusal> {
        Token::read(token, self.options.token_max_bytes, &self.accepted, self.options.section)
    }

    fn identity(&self, token: &Token<'_>, signer: &Signer<'_>, now: SystemTime) -> Result<Identity, Refusal> {
        let identity = claims::read(&token.claims, &self.checks(signer, now))?;
        Ok(identity.rule(token.algorithm.rule(signer.is_fetched)))
    }

    fn checks<'a>(&'a self, signer: &Signer<'a>, now: SystemTime) -> Checks<'a> {
        let TokenOptions { leeway, audience, user_claim, section, .. } = &self.options;
        Checks { now, leeway: *leeway, issuer: signer.issuer, audience, user_claim, section }
    }

    async fn signer(&self, token: &Token<'_>) -> Result<Signer<'_>, Refusal> {
        if let Some(signer) = self.signer_among_keys(token) {
            return Ok(signer);
        }
        let mut refused = self.mismatch();
        if self.sources.is_empty() {
            return Err(refused);
        }
        let claimed = claims::issuer(&token.claims)?;
        let mut is_known = false;
        for source in &self.sources {
            // One issuer's keys never vouch for another's tokens.
            if source.issuer().is_some_and(|issuer| claimed.as_deref() != Some(issuer)) {
                continue;
            }
            is_known = true;
            match source.key(token.algorithm, token.key_id.as_deref()).await {
                Ok(key) if key.verifies(token.algorithm, token.signed, &token.signature) => {
                    return Ok(Signer { issuer: source.issuer().or(self.options.issuer.as_deref()), is_fetched: true });
                }
                Ok(_) => {}
                // What may come right is worth more to the client than what will not.
                Err(refusal) if !refused.kind.is_temporary() => refused = refusal,
                Err(_) => {}
            }
        }
        if !is_known && !self.keys.iter().any(|key| key.algorithms().contains(&token.algorithm)) {
            return Err(Refusal::unauthorized("the token's issuer is not one whose keys are known here")
                .rule(format!("no entry of {}.jwks has this issuer", self.options.section)));
        }
        Err(refused)
    }

    fn signer_among_keys(&self, token: &Token<'_>) -> Option<Signer<'_>> {
        let mut keys = self.keys.iter().filter(|key| key.may_verify(token.algorithm, token.key_id.as_deref()));
        let found = keys.any(|key| key.verifies(token.algorithm, token.signed, &token.signature));
        found.then_some(Signer { issuer: self.options.issuer.as_deref(), is_fetched: false })
    }

    fn mismatch(&self) -> Refusal {
        Refusal::unauthorized("the token's signature does not match")
            .hint("sign with the key that the server is configured with")
            .rule(format!("no key in [{}] is the one that the token was signed with", self.options.section))
    }
}
