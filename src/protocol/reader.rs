//! Reads what a worker wrote. A worker may die in the middle of a line or write nonsense: that is reported, and
//! everything before it is kept.

use std::io::BufRead;

use thiserror::Error;

use crate::protocol::Message;

/// Types of message this version understands; any other type is kept as it is.
const KNOWN: &[&str] = &["hello", "device", "samples", "value", "check", "evidence", "warmup", "stop", "outcome"];

/// The most messages of one launch: hundreds of metrics in hundreds of parts.
const MOST_MESSAGES: usize = 100_000;

/// The longest line accepted, bytes: 64 MiB is four million samples.
const MAX_LINE: u64 = 64 << 20;

/// What a worker said.
#[derive(Debug, Default, PartialEq)]
pub struct Reading {
    /// In order.
    pub messages: Vec<Message>,
    /// Messages of types unknown here, in order.
    pub unknown: Vec<serde_json::Value>,
    /// The first line that could not be understood, if any.
    pub broken: Option<ReadError>,
}

/// A line that is no message.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("line {line} of the worker's output: {what}: `{text}`")]
pub struct ReadError {
    /// From 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
    /// The beginning of the line.
    pub text: String,
}

/// Reads to the end or to the first line that is no message. Blank lines are ignored. Every text goes through `clean` once it is read
/// out of its line, for JSON has several spellings of one text.
#[must_use]
pub fn read_messages(mut input: impl BufRead, clean: &dyn Fn(&str) -> String) -> Reading {
    let mut reading = Reading::default();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let got = match std::io::Read::take(&mut input, MAX_LINE).read_until(b'\n', &mut line) {
            Ok(0) => break,
            Ok(n) => n as u64,
            Err(error) => {
                reading.broken = Some(ReadError { line: number, what: error.to_string(), text: String::new() });
                break;
            }
        };
        if reading.messages.len() + reading.unknown.len() >= MOST_MESSAGES {
            let what = format!("more than {MOST_MESSAGES} messages");
            reading.broken = Some(ReadError { line: number, what, text: String::new() });
            break;
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim();
        if text.is_empty() {
            continue;
        }
        let parsed = if got == MAX_LINE { Err(format!("longer than {MAX_LINE} bytes")) } else { parse(text, clean) };
        match parsed {
            Ok(Ok(message)) => reading.messages.push(message),
            Ok(Err(other)) => reading.unknown.push(other),
            Err(what) => {
                reading.broken = Some(ReadError { line: number, what, text: clean(text).chars().take(80).collect() });
                break;
            }
        }
    }
    reading
}

/// A message, or an unknown one kept as it is.
fn parse(text: &str, clean: &dyn Fn(&str) -> String) -> Result<Result<Message, serde_json::Value>, String> {
    let mut value: serde_json::Value = serde_json::from_str(text).map_err(|error| format!("not JSON ({error})"))?;
    scrub(&mut value, clean);
    let Some(kind) = value.get("type").and_then(|kind| kind.as_str()) else {
        return Err("no `type`".to_owned());
    };
    if !KNOWN.contains(&kind) {
        return Ok(Err(value));
    }
    let kind = kind.to_owned();
    serde_json::from_value(value).map(Ok).map_err(|error| format!("bad `{kind}` message ({error})"))
}

/// Every text of a value, and every name in it.
fn scrub(value: &mut serde_json::Value, clean: &dyn Fn(&str) -> String) {
    match value {
        serde_json::Value::String(text) => *text = clean(text),
        serde_json::Value::Array(values) => values.iter_mut().for_each(|value| scrub(value, clean)),
        serde_json::Value::Object(fields) => {
            *fields = std::mem::take(fields)
                .into_iter()
                .map(|(name, mut value)| {
                    scrub(&mut value, clean);
                    (clean(&name), value)
                })
                .collect();
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Evidence, Outcome, OutcomeKind};

    #[test]
    fn keeps_what_came_before_a_broken_line() {
        let text = concat!(
            r#"{"type":"outcome","kind":"failed","reason":"no luck","later_field":1}"#,
            "\n\n",
            r#"{"type":"weather","sky":"blue"}"#,
            "\n",
            r#"{"type":"samples","metric"#,
        );
        let reading = read_messages(text.as_bytes(), &str::to_owned);
        assert_eq!(reading.messages, [Message::Outcome(Outcome::because(OutcomeKind::Failed, "no luck"))]);
        assert_eq!(reading.unknown.len(), 1);
        assert_eq!(reading.broken.expect("the last line is cut").line, 4);
    }

    #[test]
    fn a_line_without_a_type_is_broken() {
        let reading = read_messages("[1,2]".as_bytes(), &str::to_owned);
        assert!(reading.broken.expect("no type").what.contains("type"));
    }

    #[test]
    fn binary_noise_is_an_error_not_a_panic() {
        let noise: Vec<u8> = (0..=255).cycle().take(5000).collect();
        assert!(read_messages(noise.as_slice(), &str::to_owned).broken.is_some());
    }

    #[test]
    fn texts_are_cleaned_however_they_are_spelt() {
        let text = concat!(
            r#"{"type":"evidence","source":"p\u00e4ss","facts":{"p\u00e4ss":["x pä\u0073s",{"n":7}]}}"#,
            "\n",
            r#"{"type":"weather","sky":"päss"}"#,
            "\nno päss\n",
        );
        let reading = read_messages(text.as_bytes(), &|text| text.replace("päss", "***"));
        let Message::Evidence(Evidence { source, facts }) = &reading.messages[0] else { panic!("{reading:?}") };
        assert_eq!((source.as_str(), &facts["***"]), ("***", &serde_json::json!(["x ***", { "n": 7 }])));
        assert_eq!(reading.unknown[0]["sky"], "***");
        assert_eq!(reading.broken.expect("no message").text, "no ***");
    }
}
