//! The algorithms that sign tokens, and their names. Which key is for which lives in `key`.

use std::fmt;

/// An algorithm that signs tokens, by its name in RFC 7518 and RFC 8037.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Algorithm {
    /// HMAC with SHA-256: a shared secret of at least 32 bytes.
    Hs256,
    /// HMAC with SHA-384: a shared secret of at least 48 bytes.
    Hs384,
    /// HMAC with SHA-512: a shared secret of at least 64 bytes.
    Hs512,
    /// RSA with PKCS #1 padding and SHA-256.
    Rs256,
    /// RSA with PKCS #1 padding and SHA-384.
    Rs384,
    /// RSA with PKCS #1 padding and SHA-512.
    Rs512,
    /// RSA with PSS padding and SHA-256.
    Ps256,
    /// RSA with PSS padding and SHA-384.
    Ps384,
    /// RSA with PSS padding and SHA-512.
    Ps512,
    /// ECDSA on the curve P-256 with SHA-256.
    Es256,
    /// ECDSA on the curve P-384 with SHA-384.
    Es384,
    /// EdDSA on the curve of Ed25519.
    EdDsa,
}

impl Algorithm {
    /// Those of shared secrets, by the length of their hash.
    pub(crate) const HMAC: &'static [Self] = &[Self::Hs256, Self::Hs384, Self::Hs512];
    /// Those of RSA keys.
    pub(crate) const RSA: &'static [Self] = &[Self::Rs256, Self::Rs384, Self::Rs512, Self::Ps256, Self::Ps384, Self::Ps512];
    /// Those of key pairs: what a key that was fetched can be for.
    pub(crate) const OF_KEY_PAIRS: &'static [Self] =
        &[Self::Rs256, Self::Rs384, Self::Rs512, Self::Ps256, Self::Ps384, Self::Ps512, Self::Es256, Self::Es384, Self::EdDsa];

    /// The name in a token's header: `HS256`, `EdDSA`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The algorithm of this name; names are compared byte for byte.
    pub fn named(name: &str) -> Option<Self> {
        Self::HMAC.iter().chain(Self::OF_KEY_PAIRS).copied().find(|algorithm| algorithm.name() == name)
    }

    /// What made an identity that was signed with this, for the session's log line.
    pub(crate) fn rule(self, is_fetched: bool) -> &'static str {
        match (self, is_fetched) {
            (Self::Hs256, _) => "hs256 token",
            (Self::Hs384, _) => "hs384 token",
            (Self::Hs512, _) => "hs512 token",
            (Self::Rs256, false) => "rs256 token",
            (Self::Rs384, false) => "rs384 token",
            (Self::Rs512, false) => "rs512 token",
            (Self::Ps256, false) => "ps256 token",
            (Self::Ps384, false) => "ps384 token",
            (Self::Ps512, false) => "ps512 token",
            (Self::Es256, false) => "es256 token",
            (Self::Es384, false) => "es384 token",
            (Self::EdDsa, false) => "eddsa token",
            (Self::Rs256, true) => "rs256 token (jwks)",
            (Self::Rs384, true) => "rs384 token (jwks)",
            (Self::Rs512, true) => "rs512 token (jwks)",
            (Self::Ps256, true) => "ps256 token (jwks)",
            (Self::Ps384, true) => "ps384 token (jwks)",
            (Self::Ps512, true) => "ps512 token (jwks)",
            (Self::Es256, true) => "es256 token (jwks)",
            (Self::Es384, true) => "es384 token (jwks)",
            (Self::EdDsa, true) => "eddsa token (jwks)",
        }
    }

    pub(crate) fn of_crate(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Hs256 => jsonwebtoken::Algorithm::HS256,
            Self::Hs384 => jsonwebtoken::Algorithm::HS384,
            Self::Hs512 => jsonwebtoken::Algorithm::HS512,
            Self::Rs256 => jsonwebtoken::Algorithm::RS256,
            Self::Rs384 => jsonwebtoken::Algorithm::RS384,
            Self::Rs512 => jsonwebtoken::Algorithm::RS512,
            Self::Ps256 => jsonwebtoken::Algorithm::PS256,
            Self::Ps384 => jsonwebtoken::Algorithm::PS384,
            Self::Ps512 => jsonwebtoken::Algorithm::PS512,
            Self::Es256 => jsonwebtoken::Algorithm::ES256,
            Self::Es384 => jsonwebtoken::Algorithm::ES384,
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// For people: "only HS256 and ES256 are accepted".
pub(crate) fn only(accepted: &[Algorithm]) -> String {
    match accepted {
        [] => "no key is configured".to_owned(),
        [one] => format!("only {one} is accepted"),
        [first @ .., last] => {
            let first: Vec<&str> = first.iter().map(|algorithm| algorithm.name()).collect();
            format!("only {} and {last} are accepted", first.join(", "))
        }
    }
}
