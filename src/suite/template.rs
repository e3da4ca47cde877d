//! Texts with `{axis}` placeholders.
//!
//! A placeholder is a name in single braces; other braces mean themselves, so that JSON passes unharmed. `{{name}}`
//! stands for the literal `{name}`. Must not know which names exist.

use crate::domain::ParamValue;
use crate::suite::suggest;

/// A text with placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Axis(String),
}

impl Template {
    /// Finds the placeholders.
    pub(super) fn parse(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            literal.push_str(&rest[..open]);
            rest = &rest[open..];
            if let Some((name, after)) = rest.strip_prefix("{{").and_then(|inner| named(inner, "}}")) {
                literal.extend(["{", name, "}"]);
                rest = after;
            } else if let Some((name, after)) = rest.strip_prefix('{').and_then(|inner| named(inner, "}")) {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
                parts.push(Part::Axis(name.to_owned()));
                rest = after;
            } else {
                literal.push('{');
                rest = &rest[1..];
            }
        }
        literal.push_str(rest);
        parts.push(Part::Literal(literal));
        Self(parts)
    }

    /// The names of the placeholders.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Axis(name) => Some(name.as_str()),
            Part::Literal(_) => None,
        })
    }

    /// The text with values in place of names; names without a value stand for nothing.
    pub(super) fn fill(&self, values: &[(&str, &ParamValue)]) -> String {
        let value_of = |name: &str| values.iter().find(|(axis, _)| *axis == name).map(|(_, value)| value.to_string());
        self.0
            .iter()
            .map(|part| match part {
                Part::Literal(text) => text.clone(),
                Part::Axis(name) => value_of(name).unwrap_or_default(),
            })
            .collect()
    }
}

/// What to say of a placeholder that names none of these axes, and what to do about it.
pub(super) fn unknown(name: &str, axes: &[&str]) -> (String, String) {
    let near = suggest::did_you_mean(name, axes.iter().copied(), "axes");
    (format!("no axis is named `{name}`"), format!("{near}; for the literal text write {{{{{name}}}}}"))
}

/// A name that runs up to `end`, and what follows.
fn named<'a>(text: &'a str, end: &str) -> Option<(&'a str, &'a str)> {
    let (name, after) = text.split_once(end)?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    is_name.then_some((name, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_braces_are_filled_and_other_braces_stay() {
        let values = [("batch", &ParamValue::Int(8)), ("mode", &ParamValue::Text("x".to_owned()))];
        for (text, want) in [
            ("--batch={batch}", "--batch=8"),
            ("{mode}{batch}", "x8"),
            ("{{batch}} {batch}", "{batch} 8"),
            ("{\"a\": {}, \"b\": 1}", "{\"a\": {}, \"b\": 1}"),
            ("{", "{"),
            ("a { batch }", "a { batch }"),
        ] {
            assert_eq!(Template::parse(text).fill(&values), want, "{text}");
        }
        assert_eq!(Template::parse("{a} {{b}} {c}").names().collect::<Vec<_>>(), ["a", "c"]);
    }
}
