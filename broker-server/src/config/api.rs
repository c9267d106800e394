//! `[api]`: the server API over HTTP.

use super::{
    field::{secret, size},
    secret::Secret,
    visit::Visitor,
};

/// The server API over HTTP.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Api {
    /// What a backend sends as `X-API-Key`, at least 16 bytes. Default: a random one at each start; `dev` in dev mode.
    pub key: Option<Secret>,
    /// Largest body of a call, in bytes. Default: 1 MiB.
    pub body_max: usize,
}

impl Default for Api {
    fn default() -> Self {
        Self { key: None, body_max: 1 << 20 }
    }
}

impl Api {
    /// Fewest bytes of `key` outside dev mode.
    pub const KEY_MIN: usize = 16;

    pub(super) fn visit(&mut self, visitor: &mut dyn Visitor, key_min: usize) {
        visitor.section("api", "The server API over HTTP, for backends.", &mut |keys| {
            keys.key(
                "key",
                "What a backend sends as X-API-Key. Without one, a random key is made at each start.",
                &mut secret(&mut self.key, key_min, "whoever guesses it may publish anything to anybody"),
            );
            keys.key("body_max", "Largest body of a call.", &mut size(&mut self.body_max, 1 << 10..=64 << 20));
        });
    }
}
