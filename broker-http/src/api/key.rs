//! Who may use the server API: the keys, compared without telling how much of one was right.

use std::fmt;

use broker_core::Refusal;
use http::{HeaderMap, header::AUTHORIZATION};
use subtle::{Choice, ConstantTimeEq as _};

/// The keys of the server API. Without any, every request is refused.
#[derive(Clone, Default)]
pub struct ApiKeys(Vec<Box<[u8]>>);

impl ApiKeys {
    /// No key: every request is refused.
    pub fn none() -> Self {
        Self::default()
    }

    /// One key. An empty one is no key.
    pub fn one(key: impl AsRef<[u8]>) -> Self {
        Self::none().and(key)
    }

    /// One key more, so that keys can be replaced one after the other. An empty one is no key.
    pub fn and(mut self, key: impl AsRef<[u8]>) -> Self {
        let key = key.as_ref();
        if !key.is_empty() {
            self.0.push(key.into());
        }
        self
    }

    /// Whether the request brings a key: `X-API-Key: <key>` or `Authorization: apikey <key>`.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        if self.0.is_empty() {
            return Err(Refusal::unauthorized("the server API is closed: no key is configured").rule("set api.key"));
        }
        let hint = "send the key as X-API-Key: <key>, or as Authorization: apikey <key>";
        match presented(headers) {
            None => Err(Refusal::unauthorized("the request brings no API key").hint(hint).rule("api.key is needed")),
            Some(key) if self.holds(key) => Ok(()),
            Some(_) => Err(Refusal::unauthorized("the API key is not the configured one").rule("it differs from api.key")),
        }
    }

    // S15: all keys, and all bytes of a key of the same length, whatever was right so far. The time tells lengths alone; `benches/api_key.rs` shows it.
    fn holds(&self, presented: &[u8]) -> bool {
        self.0.iter().fold(Choice::from(0), |found, key| found | key.ct_eq(presented)).into()
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKeys").field("count", &self.0.len()).finish_non_exhaustive()
    }
}

fn presented(headers: &HeaderMap) -> Option<&[u8]> {
    if let Some(key) = headers.get("x-api-key") {
        return Some(key.as_bytes());
    }
    let (scheme, key) = headers.get(AUTHORIZATION)?.as_bytes().split_at_checked("apikey ".len())?;
    scheme.eq_ignore_ascii_case(b"apikey ").then(|| key.trim_ascii())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_key_is_taken_from_either_header() {
        let keys = ApiKeys::one("k1").and("k2").and("");
        let check = |name: &'static str, value: &str, expected: bool| {
            let headers = HeaderMap::from_iter([(http::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())]);
            assert_eq!(keys.check(&headers).is_ok(), expected, "{name}: {value}");
        };
        check("x-api-key", "k1", true);
        check("x-api-key", "k2", true);
        check("x-api-key", "", false);
        check("x-api-key", "k", false);
        check("x-api-key", "k11", false);
        check("authorization", "apikey k1", true);
        check("authorization", "ApiKey  k1", true);
        check("authorization", "Bearer k1", false);
        check("authorization", "apikey", false);
        check("x-other", "k1", false);
    }

    #[test]
    fn without_a_key_nobody_may() {
        let headers = HeaderMap::from_iter([(http::HeaderName::from_static("x-api-key"), HeaderValue::from_static(""))]);
        assert!(ApiKeys::none().check(&headers).is_err());
        assert!(ApiKeys::one("").check(&headers).is_err());
    }

    #[test]
    fn keys_are_not_in_logs() {
        assert!(!format!("{:?}", ApiKeys::one("secret")).contains("secret"));
    }
}
