//! A value that no log, page or error shows.

use std::fmt::{self, Write as _};

/// A secret of the configuration. `Debug` masks it; [`Secret::expose`] is the one way to its text.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(String);

impl Secret {
    /// What stands where a secret would be shown.
    pub const MASK: &'static str = "********";

    /// Takes the text as it is.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// A secret of 32 random bytes from the operating system, as 64 hexadecimal digits.
    ///
    /// # Errors
    /// The operating system gives no random bytes.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })))
    }

    /// The text, for the code that compares or signs with it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Why an attacker could guess it, where that is plain to see.
    pub fn weakness(&self) -> Option<&'static str> {
        let mut seen: Vec<char> = self.0.chars().collect();
        seen.sort_unstable();
        seen.dedup();
        let lower = self.0.to_lowercase();
        if seen.len() < 8 {
            Some("it has fewer than 8 different characters")
        } else if ["secret", "password", "changeme", "change-me", "example"].iter().any(|word| lower.contains(word)) {
            Some("it contains a word that everybody tries first")
        } else {
            None
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::MASK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_secret_is_long_strong_and_hidden() {
        let secret = Secret::random().unwrap();
        assert_eq!(secret.expose().len(), 64);
        assert_eq!(secret.weakness(), None);
        assert_eq!(format!("{secret:?}"), "********");
        assert_ne!(secret, Secret::random().unwrap());
    }

    #[test]
    fn what_everybody_tries_first_is_weak() {
        assert!(Secret::new("0".repeat(64)).weakness().is_some());
        assert!(Secret::new("my-super-Secret-key-0123456789abcdef").weakness().is_some());
    }
}
