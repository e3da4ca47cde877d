//! Sends nothing and writes down what would be sent. Reads are answered as by an empty repository.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::github::hub::{Answer, Call, Hub, HubError, Method};

/// What an object would be named that does not exist.
const NO_SHA: &str = "0000000000000000000000000000000000000000";
/// Characters of a text in a body that are shown, such as a picture's.
const SHOWN: usize = 20_000;

/// The transcript.
#[derive(Debug, Default)]
pub struct Dry {
    text: String,
}

impl Dry {
    /// Every request, in order, with its body.
    #[must_use]
    pub fn transcript(&self) -> &str {
        &self.text
    }
}

impl Hub for Dry {
    fn send(&mut self, call: &Call) -> Result<Answer, HubError> {
        let _ = writeln!(self.text, "{call}");
        if let Some(body) = &call.body {
            let shown = serde_json::to_string_pretty(&shortened(body)).unwrap_or_default();
            let _ = writeln!(self.text, "{shown}");
        }
        let body = match call.method {
            Method::Get if call.path.contains("/git/ref/") => {
                let call = call.to_string();
                return Err(HubError::Refused { call, status: 404, said: "nothing is read in a dry run".to_owned() });
            }
            Method::Get => json!([]),
            _ => json!({ "id": 0, "sha": NO_SHA, "html_url": "" }),
        };
        Ok(Answer { body, next: None })
    }

    fn download(&mut self, path: &str, _: usize) -> Result<Vec<u8>, HubError> {
        Err(HubError::Unexpected { call: format!("GET {path}"), what: "nothing is read in a dry run".to_owned() })
    }

    fn pause(&mut self, _: u32) -> bool {
        false
    }

    fn is_dry(&self) -> bool {
        true
    }
}

/// With long texts cut, and said so.
fn shortened(body: &Value) -> Value {
    match body {
        Value::String(text) if text.chars().count() > SHOWN => {
            let start: String = text.chars().take(80).collect();
            Value::String(format!("{start}… ({} characters)", text.chars().count()))
        }
        Value::Array(items) => items.iter().map(shortened).collect(),
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), shortened(value))).collect(),
        other => other.clone(),
    }
}
