//! Whole-number formulas over a benchmark's axes: `(n + 255) / 256`, `ceil(n, 256)`, `2 * m * n`.
//!
//! `+ - * / %` with C's precedence on whole numbers (division rounds down), parentheses, `ceil(a, b)` for a division that
//! rounds up, `min` and `max`. Must not know what the numbers are for.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A formula as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Formula(pub(super) String);

impl<'de> Deserialize<'de> for Formula {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Formula;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or a formula over axes such as \"(n + 255) / 256\"")
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Formula, E> {
                Ok(Formula(value.to_string()))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Formula, E> {
                Ok(Formula(value.to_string()))
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Formula, E> {
                Ok(Formula(value.to_owned()))
            }
        }
        deserializer.deserialize_any(Text)
    }
}

impl JsonSchema for Formula {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Formula".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": ["number", "string"] })
    }
}

impl Formula {
    /// Its value; `axis` gives the value of a name.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence.
    pub(super) fn value(&self, axis: &dyn Fn(&str) -> Option<i64>) -> Result<i128, String> {
        let mut reader = Reader { rest: &self.0, axis, depth: 0 };
        let value = reader.sum()?;
        match reader.rest.trim_start() {
            "" => Ok(value),
            rest => Err(format!("`{rest}` is left over")),
        }
    }
}

struct Reader<'a> {
    rest: &'a str,
    axis: &'a dyn Fn(&str) -> Option<i64>,
    /// Parentheses, calls and signs that are open.
    depth: usize,
}

/// No formula that anybody reads goes deeper; each level is a call of the reader.
const DEEPEST: usize = 64;
const TOO_LARGE: &str = "the value is too large";

impl<'a> Reader<'a> {
    fn takes(&mut self, symbol: char) -> bool {
        match self.rest.trim_start().strip_prefix(symbol) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn sum(&mut self) -> Result<i128, String> {
        let mut value = self.product()?;
        loop {
            if self.takes('+') {
                value = value.checked_add(self.product()?).ok_or(TOO_LARGE)?;
            } else if self.takes('-') {
                value = value.checked_sub(self.product()?).ok_or(TOO_LARGE)?;
            } else {
                return Ok(value);
            }
        }
    }

    fn product(&mut self) -> Result<i128, String> {
        let mut value = self.factor()?;
        loop {
            if self.takes('*') {
                value = value.checked_mul(self.factor()?).ok_or(TOO_LARGE)?;
            } else if self.takes('/') {
                value = value.checked_div_euclid(self.factor()?).ok_or("it divides by zero")?;
            } else if self.takes('%') {
                value = value.checked_rem_euclid(self.factor()?).ok_or("it divides by zero")?;
            } else {
                return Ok(value);
            }
        }
    }

    /// A number, an axis, a call or a whole formula in parentheses, behind any signs.
    fn factor(&mut self) -> Result<i128, String> {
        if self.depth == DEEPEST {
            return Err(format!("it goes deeper than {DEEPEST} parentheses and signs"));
        }
        self.depth += 1;
        let value = self.unlimited();
        self.depth -= 1;
        value
    }

    fn unlimited(&mut self) -> Result<i128, String> {
        if self.takes('-') {
            return self.factor()?.checked_neg().ok_or_else(|| TOO_LARGE.to_owned());
        }
        if self.takes('(') {
            let value = self.sum()?;
            return if self.takes(')') { Ok(value) } else { Err("a parenthesis is not closed".to_owned()) };
        }
        let word = self.word();
        match word.chars().next() {
            None => Err(match self.rest.trim_start().chars().next() {
                Some(symbol) => format!("`{symbol}` is not expected"),
                None => "it ends too early".to_owned(),
            }),
            Some('0'..='9') => word.replace('_', "").parse().map_err(|_| format!("`{word}` is no whole number")),
            Some(_) if self.takes('(') => self.call(word),
            Some(_) => {
                (self.axis)(word).map(i128::from).ok_or_else(|| format!("`{word}` is no axis with whole numbers"))
            }
        }
    }

    fn call(&mut self, function: &str) -> Result<i128, String> {
        let first = self.sum()?;
        let comma = self.takes(',');
        let second = if comma { self.sum()? } else { 0 };
        if !comma || !self.takes(')') {
            return Err(format!("`{function}` takes two values in parentheses"));
        }
        match function {
            "min" => Ok(first.min(second)),
            "max" => Ok(first.max(second)),
            "ceil" => {
                let down = first.checked_neg().and_then(|negative| negative.checked_div_euclid(second));
                down.and_then(i128::checked_neg).ok_or_else(|| "it divides by zero".to_owned())
            }
            _ => Err(format!("there is no function `{function}`: there are ceil, min and max")),
        }
    }

    /// Letters, digits, `_` and `.`.
    fn word(&mut self) -> &'a str {
        let text = self.rest.trim_start();
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '.').unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        self.rest = rest;
        word
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Result<i128, String> {
        Formula(text.to_owned()).value(&|name| match name {
            "n" => Some(1000),
            "head_dim" => Some(64),
            _ => None,
        })
    }

    #[test]
    fn formulas_follow_the_usual_rules_on_whole_numbers() {
        for (text, want) in [
            ("256", 256),
            ("1_024", 1024),
            ("n", 1000),
            ("(n + 255) / 256", 4),
            ("ceil(n, 256)", 4),
            ("ceil(n, 250)", 4),
            ("2 * n * head_dim - 1", 127_999),
            ("n - 1 - 1", 998),
            ("100 / 7 % 4", 2),
            ("-n + 1", -999),
            ("max(n, 3) + min(n, 3)", 1003),
            ("4 * n * n * n * n * n", 4_000_000_000_000_000),
        ] {
            assert_eq!(value(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, want) in [
            ("m + 1", "`m` is no axis"),
            ("n +", "ends too early"),
            ("(n", "not closed"),
            ("n n", "left over"),
            ("n / 0", "divides by zero"),
            ("ceil(n, 0)", "divides by zero"),
            ("floor(n, 2)", "no function `floor`"),
            ("ceil(n)", "two values"),
            ("2.5", "no whole number"),
            ("n ** 2", "`*` is not expected"),
        ] {
            let error = value(text).expect_err(text);
            assert!(error.contains(want), "{text}: {error}");
        }
        let nested = |levels: usize| [&"(".repeat(levels), "n", &")".repeat(levels)].concat();
        assert_eq!(value(&nested(DEEPEST - 1)), Ok(1000));
        for deep in [nested(DEEPEST), nested(100_000), "-".repeat(100_000) + "n", "max(".repeat(100_000)] {
            assert!(value(&deep).expect_err("deep").contains("goes deeper than 64"));
        }
        assert_eq!(value(&format!("0{}", " + (n)".repeat(100))), Ok(100_000), "long is not deep");
        let huge = format!("n{}", " * n".repeat(20));
        assert!(value(&huge).expect_err("20 factors").contains("too large"));
    }
}
