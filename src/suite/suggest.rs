//! "Did you mean": the nearest known word, and the list of all of them.
//!
//! Must not know what the words name.

/// The candidate nearest to a word, where it is near enough to be meant: a third of the letters may differ.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| *distance <= (word.chars().count().max(candidate.chars().count()) / 3).max(1))
        .map(|(_, candidate)| candidate)
}

/// The help for an unknown word: the nearest one, and all that are known. `what` is their plural noun.
#[must_use]
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>, what: &str) -> String {
    let known: Vec<&str> = candidates.into_iter().collect();
    let list = format!("known {what}: {}", known.join(", "));
    match nearest(word, known.iter().copied()) {
        Some(candidate) => format!("did you mean `{candidate}`? {list}"),
        None => list,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_suggested_and_far_ones_are_not() {
        let known = ["thresholds", "timeout", "tags"];
        assert_eq!(nearest("threshold", known), Some("thresholds"));
        assert_eq!(nearest("Tags", known), Some("tags"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(
            did_you_mean("timout", known, "keys"),
            "did you mean `timeout`? known keys: thresholds, timeout, tags"
        );
    }
}
