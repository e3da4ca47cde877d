//! `when` conditions: a fact, a comparison, a value, as in `memory >= "40 GiB"`; and the grammar that they share with
//! targets.
//!
//! Must not know where facts come from.

use std::ops::Range;

use wildmatch::WildMatch;

use crate::domain::Skip;
use crate::suite::HardwareFacts;
use crate::suite::quantity;
use crate::suite::suggest;

/// Facts that a condition may name.
const FACTS: &[(&str, Fact)] = &[
    ("compute_capability", Fact::ComputeCapability),
    ("memory", Fact::Memory),
    ("cores", Fact::Cores),
    ("device", Fact::Device),
    ("backend", Fact::Backend),
];

/// Comparisons; longer ones first, so that `<=` is not read as `<`. Who writes `==` means `=`.
const OPERATORS: &[(&str, Operator)] = &[
    ("==", Operator::Equal),
    ("!=", Operator::NotEqual),
    ("<=", Operator::AtMost),
    (">=", Operator::AtLeast),
    ("=", Operator::Equal),
    ("<", Operator::Below),
    (">", Operator::Above),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fact {
    ComputeCapability,
    Memory,
    Cores,
    Device,
    Backend,
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Below,
    AtMost,
    Above,
    AtLeast,
}

impl Operator {
    /// Whether two numbers compare so.
    pub(super) fn holds(self, seen: f64, wanted: f64) -> bool {
        match self {
            Self::Equal => seen == wanted,
            Self::NotEqual => seen != wanted,
            Self::Below => seen < wanted,
            Self::AtMost => seen <= wanted,
            Self::Above => seen > wanted,
            Self::AtLeast => seen >= wanted,
        }
    }

    /// Whether it asks for an order, which names do not have.
    pub(super) const fn orders(self) -> bool {
        !matches!(self, Self::Equal | Self::NotEqual)
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Number(f64),
    Text(String),
}

/// A parsed condition.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Condition {
    fact: Fact,
    name: &'static str,
    operator: Operator,
    symbol: &'static str,
    value: Value,
}

/// What is wrong with a condition's text, and where in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadCondition {
    /// Bytes of the text.
    pub(super) span: Range<usize>,
    /// What is wrong.
    pub(super) message: String,
    /// What to do about it.
    pub(super) help: String,
}

pub(super) fn bad(span: Range<usize>, message: impl Into<String>, help: impl Into<String>) -> BadCondition {
    BadCondition { span, message: message.into(), help: help.into() }
}

/// Bytes of the name that a text begins with: letters, digits, and the characters `more`.
pub(super) fn name_in(text: &str, more: &[char]) -> Range<usize> {
    let start = text.len() - text.trim_start().len();
    let end = text[start..].find(|c: char| !c.is_ascii_alphanumeric() && !more.contains(&c));
    start..end.map_or(text.len(), |offset| start + offset)
}

/// The comparison that follows a name which ends at `from`, as a symbol, and its bytes.
///
/// # Errors
/// Where there is none.
pub(super) fn operator_in(
    text: &str,
    from: usize,
    name: &str,
) -> Result<(&'static str, Operator, Range<usize>), BadCondition> {
    let start = from + (text[from..].len() - text[from..].trim_start().len());
    let rest = &text[start..];
    let Some((symbol, operator)) = OPERATORS.iter().find(|(symbol, _)| rest.starts_with(symbol)).copied() else {
        let end = rest.find(char::is_whitespace).map_or(text.len(), |offset| start + offset);
        let help = "use one of =, !=, <, <=, >, >=";
        return Err(bad(start..end, format!("expected a comparison after `{name}`"), help));
    };
    let shown = if symbol == "==" { "=" } else { symbol };
    Ok((shown, operator, start..start + symbol.len()))
}

impl Condition {
    /// Reads a condition.
    ///
    /// # Errors
    /// With the place inside the text.
    pub(super) fn parse(text: &str) -> Result<Self, BadCondition> {
        let name_at = name_in(text, &['_']);
        let (name, fact) = fact_named(text, name_at.clone())?;
        let (symbol, operator, operator_at) = operator_in(text, name_at.end, name)?;
        if matches!(fact, Fact::Device | Fact::Backend) && operator.orders() {
            return Err(bad(operator_at, format!("`{name}` is a name: it has no order"), "compare it with = or !="));
        }

        let value_start = operator_at.end;
        let value = value_of(fact, text, value_start)?;
        Ok(Self { fact, name, operator, symbol, value })
    }

    /// The backend name that a condition on `backend` compares with.
    pub(super) fn backend(&self) -> Option<&str> {
        match (&self.fact, &self.value) {
            (Fact::Backend, Value::Text(name)) => Some(name),
            _ => None,
        }
    }

    /// Why the condition does not hold on a backend of this machine, if it does not.
    pub(super) fn unmet(&self, backend: &str, facts: &HardwareFacts) -> Option<Skip> {
        let number = |seen: Option<f64>| seen.map(Value::Number);
        let seen = match self.fact {
            Fact::ComputeCapability => number(facts.compute_capability),
            Fact::Memory => number(facts.memory.map(|bytes| bytes as f64)),
            Fact::Cores => number(facts.cores.map(|cores| cores as f64)),
            Fact::Device => facts.device.clone().map(Value::Text),
            Fact::Backend => Some(Value::Text(backend.to_owned())),
        };
        let wanted = format!("{} {} {}", self.name, self.symbol, self.show(&self.value));
        let Some(seen) = seen else {
            return Some(Skip {
                reason: format!("needs {wanted}, and backend `{backend}` does not report its {}", self.name),
                remedy: format!("run it on a backend that reports `{}`, or drop the condition", self.name),
            });
        };
        if self.holds(&seen) {
            return None;
        }
        let here = if self.fact == Fact::Backend { "this case runs on" } else { "this machine has" };
        Some(Skip {
            reason: format!("needs {wanted}, {here} {}", self.show(&seen)),
            remedy: format!("run it where {wanted}, or relax the benchmark's `when`"),
        })
    }

    fn holds(&self, seen: &Value) -> bool {
        match (seen, &self.value) {
            (Value::Number(seen), Value::Number(wanted)) => self.operator.holds(*seen, *wanted),
            (Value::Text(seen), Value::Text(glob)) => {
                WildMatch::new(glob).matches(seen) == (self.operator == Operator::Equal)
            }
            _ => false,
        }
    }

    fn show(&self, value: &Value) -> String {
        match (self.fact, value) {
            (_, Value::Text(text)) => format!("\"{text}\""),
            (Fact::Memory, Value::Number(bytes)) => quantity::show_bytes(*bytes as u64),
            (Fact::ComputeCapability, Value::Number(number)) => format!("{number:.1}"),
            (_, Value::Number(number)) => number.to_string(),
        }
    }
}

fn fact_named(text: &str, span: Range<usize>) -> Result<(&'static str, Fact), BadCondition> {
    let word = &text[span.clone()];
    if let Some(row) = FACTS.iter().find(|(name, _)| *name == word) {
        return Ok(*row);
    }
    let known = FACTS.iter().map(|(name, _)| *name);
    let message =
        if word.is_empty() { "expected the name of a fact".to_owned() } else { format!("unknown fact `{word}`") };
    let span = if span.is_empty() { 0..text.len() } else { span };
    Err(bad(span, message, suggest::did_you_mean(word, known, "facts")))
}

fn value_of(fact: Fact, text: &str, from: usize) -> Result<Value, BadCondition> {
    let trimmed = text[from..].trim();
    let start = from + (text[from..].len() - text[from..].trim_start().len());
    let span = start..start + trimmed.len();
    let quoted = ['"', '\''].into_iter().find_map(|mark| {
        let inner = trimmed.strip_prefix(mark)?.strip_suffix(mark)?;
        (!inner.contains(mark)).then_some(inner)
    });
    if trimmed.is_empty() {
        return Err(bad(from..text.len(), "expected a value after the comparison", EXAMPLES));
    }
    match (fact, quoted) {
        (Fact::Device | Fact::Backend, Some(name)) => Ok(Value::Text(name.to_owned())),
        (Fact::Device | Fact::Backend, None) => {
            Err(bad(span, format!("`{trimmed}` is not a text in quotes"), EXAMPLES))
        }
        (Fact::Memory, Some(size)) => match quantity::bytes(size) {
            Ok(bytes) => Ok(Value::Number(bytes as f64)),
            Err(message) => Err(bad(span, message, EXAMPLES)),
        },
        (Fact::Memory, None) => match trimmed.parse::<u64>() {
            Ok(bytes) => Ok(Value::Number(bytes as f64)),
            Err(_) => Err(bad(span, format!("`{trimmed}` is not a size in quotes"), EXAMPLES)),
        },
        (Fact::ComputeCapability | Fact::Cores, _) => match trimmed.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Value::Number(number)),
            _ => Err(bad(span, format!("`{trimmed}` is not a number"), EXAMPLES)),
        },
    }
}

const EXAMPLES: &str = "as in `memory >= \"40 GiB\"`, `compute_capability >= 9.0`, `cores >= 8`, `device = \"*H100*\"`, `backend = \"nvidia\"`";

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> HardwareFacts {
        HardwareFacts {
            compute_capability: Some(8.6),
            memory: Some(25_125_558_681),
            cores: Some(8),
            device: Some("NVIDIA A10".to_owned()),
        }
    }

    fn unmet(text: &str) -> Option<String> {
        let condition = Condition::parse(text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
        condition.unmet("nvidia", &facts()).map(|skip| skip.reason)
    }

    #[test]
    fn conditions_hold_or_say_in_words_why_not() {
        for text in [
            "compute_capability >= 8.6",
            "compute_capability<9",
            "memory > \"20 GiB\"",
            "memory <= 25125558681",
            "cores = 8",
            "cores != 4",
            "device = \"*A10\"",
            "device != '*H100*'",
            "backend = \"nvidia\"",
        ] {
            assert_eq!(unmet(text), None, "{text}");
        }
        assert_eq!(unmet("memory >= \"40 GiB\"").unwrap(), "needs memory >= 40 GiB, this machine has 23.4 GiB");
        assert_eq!(unmet("compute_capability >= 9").unwrap(), "needs compute_capability >= 9.0, this machine has 8.6");
        assert_eq!(unmet("device = \"*H100*\"").unwrap(), "needs device = \"*H100*\", this machine has \"NVIDIA A10\"");
        assert_eq!(
            unmet("backend != \"nvidia\"").unwrap(),
            "needs backend != \"nvidia\", this case runs on \"nvidia\""
        );
    }

    #[test]
    fn a_fact_that_is_not_reported_never_holds() {
        let condition = Condition::parse("compute_capability < 9.0").unwrap();
        let skip = condition.unmet("cpu", &HardwareFacts::default()).unwrap();
        assert!(skip.reason.contains("backend `cpu` does not report its compute_capability"));
    }

    #[test]
    fn errors_point_inside_the_text() {
        for (text, offending) in [
            ("memroy >= \"1 GiB\"", "memroy"),
            ("memory => \"1 GiB\"", "> \"1 GiB\""),
            (" memory  >> 5", "> 5"),
            ("cores ~ 5", "~"),
            ("device < \"x\"", "<"),
            ("device = x", "x"),
            ("memory >= \"40 Gib\"", "\"40 Gib\""),
            ("memory >= 40 GiB", "40 GiB"),
            ("cores >= nan", "nan"),
            ("cores >=", ""),
            ("é", "é"),
            ("", ""),
        ] {
            let error = Condition::parse(text).unwrap_err();
            assert_eq!(&text[error.span.clone()], offending, "{text}");
        }
        let error = Condition::parse("memroy >= 5").unwrap_err();
        assert!(error.help.starts_with("did you mean `memory`?"), "{}", error.help);
    }
}
