//! What can still be read of a command that is broken: its id, and whether it was meant for the broker.

/// The value of the key `id` at the top level of an object that may be malformed anywhere: a number or a string, as it was written.
///
/// The id must be whole: a byte that ends it follows, so that half a number is not taken for one.
pub(crate) fn id_token(text: &str) -> Option<&str> {
    let bytes = text.as_bytes();
    let mut at = skip_space(bytes, 0);
    if bytes.get(at) != Some(&b'{') {
        return None;
    }
    let mut depth = 0_usize;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                let end = string_end(bytes, at)?;
                if depth == 1 && &bytes[at..end] == b"\"id\"" {
                    let colon = skip_space(bytes, end);
                    if bytes.get(colon) == Some(&b':') {
                        return scalar(text, skip_space(bytes, colon + 1));
                    }
                }
                at = end;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    None
}

/// Whether the text is the beginning of an object whose first key is `key`.
pub(crate) fn starts_with_key(text: &str, key: &str) -> bool {
    let Some(rest) = text.trim_ascii_start().strip_prefix('{') else { return false };
    rest.trim_ascii_start().strip_prefix('"').and_then(|rest| rest.strip_prefix(key)).is_some_and(|rest| rest.starts_with('"'))
}

/// The number or string that starts at `start`.
fn scalar(text: &str, start: usize) -> Option<&str> {
    let bytes = text.as_bytes();
    let end = match bytes.get(start)? {
        b'"' => string_end(bytes, start)?,
        _ => start + bytes[start..].iter().position(|byte| !matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))?,
    };
    let ended = bytes.get(skip_space(bytes, end)).is_some_and(|byte| matches!(byte, b',' | b'}'));
    // The token is checked, because it is echoed into JSON.
    let token = text.get(start..end).filter(|token| !token.is_empty() && ended)?;
    serde_json::from_str::<serde::de::IgnoredAny>(token).ok().map(|_| token)
}

/// The index after the string that starts at `start`.
fn string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        match bytes.get(at)? {
            b'\\' => at += 2,
            b'"' => return Some(at + 1),
            _ => at += 1,
        }
    }
}

fn skip_space(bytes: &[u8], from: usize) -> usize {
    from + bytes[from.min(bytes.len())..].iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(id_token(text), expected, "{text}");
    }

    #[test]
    fn an_id_is_found_at_the_top_level_of_broken_text() {
        check(r#"{"id":7,"publish":{"#, Some("7"));
        check(r#" { "id" : 7 , nonsense"#, Some("7"));
        check(r#"{"a":tru,"id":12}"#, Some("12"));
        check(r#"{"publish":{"id":1},"id":2"}"#, None);
        check(r#"{"publish":{"id":1},"id":2,}"#, Some("2"));
        check(r#"{"id":"a\"7",oops"#, Some(r#""a\"7""#));
        check(r#"{"text":"\"id\":5,","id":6,,"#, Some("6"));
    }

    #[test]
    fn half_an_id_or_one_elsewhere_is_none() {
        check("", None);
        check("{", None);
        check(r#"{"id":7"#, None);
        check(r#"{"id":"#, None);
        check(r#"{"id":"abc"#, None);
        check(r#"{"id":007,"#, None);
        check(r#"{"id":--7,"#, None);
        check(r#"{"id":"\x",}"#, None);
        check(r#"{"id":null,"#, None);
        check(r#"{"id":[7],"#, None);
        check(r#"{"publish":{"id":7,"#, None);
        check(r#"[{"id":7}"#, None);
        check(r#""id":7,"#, None);
        check(r#"{"id\\":7,"#, None);
    }

    #[test]
    fn the_first_key_tells_whom_broken_text_was_meant_for() {
        assert!(starts_with_key(r#" { "broker":"sub"#, "broker"));
        assert!(!starts_with_key(r#"{"brokers":1"#, "broker"));
        assert!(!starts_with_key(r#"{"id":1,"broker":"#, "broker"));
        assert!(!starts_with_key("{hello}", "broker"));
    }
}
