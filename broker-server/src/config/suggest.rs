//! "Did you mean": the nearest of the words that would have been right.

/// The word that was probably meant.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase().replace('-', "_");
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len().max(word.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Whether one word is a slip of the other.
pub(super) fn is_near(word: &str, other: &str) -> bool {
    nearest(word, [other]).is_some()
}

/// `a`, `a or b`, `a, b or c`.
pub(super) fn either(words: &[String]) -> String {
    match words {
        [] => "nothing".to_owned(),
        [word] => word.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_understood_and_another_word_is_not() {
        let check = |word, expected| assert_eq!(nearest(word, ["ping_interval", "pong_timeout", "key"]), expected);
        check("ping_intervall", Some("ping_interval"));
        check("ping-interval", Some("ping_interval"));
        check("PONG_TIMEOUT", Some("pong_timeout"));
        check("kye", Some("key"));
        check("colour", None);
    }
}
