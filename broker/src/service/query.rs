//! Queries and percent-encoding of URLs: pure text, no meaning of any parameter.

/// The parameters of a query, decoded, in their order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Reads `a=1&b=2`. `+` stands for a space.
    pub(crate) fn parse(query: &str) -> Result<Self, BadEncoding> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode_form(name)?, decode_form(value)?))
        });
        Ok(Self { pairs: pairs.collect::<Result<_, _>>()? })
    }

    /// The first value of a name.
    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Every value of a name.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// The query without the parameters of these names, otherwise as it was written.
pub(crate) fn without(query: &str, names: &[&str]) -> String {
    let is_named = |pair: &str| {
        let name = pair.split_once('=').map_or(pair, |(name, _)| name);
        decode_form(name).is_ok_and(|name| names.contains(&name.as_str()))
    };
    query.split('&').filter(|pair| !is_named(pair)).collect::<Vec<_>>().join("&")
}

/// `%` without two hexadecimal digits, or bytes that are no UTF-8.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not percent-encoded UTF-8")]
pub(crate) struct BadEncoding(String);

fn decode_form(text: &str) -> Result<String, BadEncoding> {
    decode(&text.replace('+', " "))
}

/// Decodes `%41` to `A`.
pub(crate) fn decode(text: &str) -> Result<String, BadEncoding> {
    let bad = || BadEncoding(text.chars().take(64).collect());
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16));
        let (high, low) = (digit().ok_or_else(bad)?, digit().ok_or_else(bad)?);
        decoded.push((high << 4 | low) as u8);
    }
    String::from_utf8(decoded).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_may_repeat() {
        let query = Query::parse("topic=chat%3A1&topic=a+b&&flag&x=%C3%A9=").unwrap();
        assert_eq!(query.all("topic").collect::<Vec<_>>(), ["chat:1", "a b"]);
        assert_eq!(query.first("flag"), Some(""));
        assert_eq!(query.first("x"), Some("é="));
        assert_eq!(query.first("y"), None);
        for bad in ["a=%", "a=%4", "a=%zz", "%ff=1"] {
            assert!(Query::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn credentials_are_taken_out_however_they_are_written() {
        assert_eq!(without("topic=a&token=s&%74oken=s&x=1", &["token"]), "topic=a&x=1");
        assert_eq!(without("token=s", &["token"]), "");
        assert_eq!(without("", &["token"]), "");
    }
}
