//! Launches as JSON in which every number survives.
//!
//! JSON has no NaN and no infinities, and serde writes them as `null`. Here they are the strings `"NaN"`, `"inf"` and
//! `"-inf"`; a NaN with other bits than the usual ones is `"NaN:"` and its 16 hex digits. Finite numbers are plain and
//! exact. Must not know lines or stores.

use serde_json::Value as Json;

use crate::domain::Launch;

/// A launch as a JSON object.
pub fn to_json(launch: &Launch) -> serde_json::Result<Json> {
    let mut json = serde_json::to_value(launch)?;
    for (metric, samples) in launch.samples.iter().enumerate() {
        for (at, value) in samples.values.iter().enumerate() {
            keep(&mut json["samples"][metric]["values"][at], *value);
        }
    }
    for (at, value) in launch.values.iter().enumerate() {
        keep(&mut json["values"][at]["value"], value.value);
    }
    for (at, check) in launch.checks.iter().enumerate() {
        keep(&mut json["checks"][at]["error"], check.error);
        keep(&mut json["checks"][at]["tolerance"], check.tolerance);
    }
    if let Some(warmup) = &launch.warmup {
        keep(&mut json["warmup"]["seconds"], warmup.seconds);
    }
    Ok(json)
}

/// Puts a word where serde left `null`.
fn keep(place: &mut Json, value: f64) {
    if !value.is_finite() {
        *place = Json::String(word(value));
    }
}

fn word(value: f64) -> String {
    if value.is_nan() && value.to_bits() != f64::NAN.to_bits() {
        format!("NaN:{:016x}", value.to_bits())
    } else {
        value.to_string()
    }
}

/// The launch that [`to_json`] wrote.
///
/// # Errors
/// What is missing or of the wrong type.
pub fn from_json(mut json: Json) -> Result<Launch, String> {
    // Numbers that may be words are taken out, the rest is serde's, and they are put back.
    let mut samples = Vec::new();
    for metric in items(&mut json, "samples") {
        let values = match metric.get_mut("values").map(Json::take) {
            Some(Json::Array(values)) => values.iter().map(number).collect::<Result<Vec<f64>, _>>()?,
            _ => return Err("samples without a list of `values`".to_owned()),
        };
        metric["values"] = Json::Array(Vec::new());
        samples.push(values);
    }
    let mut values = Vec::new();
    for value in items(&mut json, "values") {
        values.push(take(value, "value")?);
    }
    let mut checks = Vec::new();
    for check in items(&mut json, "checks") {
        checks.push((take(check, "error")?, take(check, "tolerance")?));
    }
    let warmup = match json.get_mut("warmup") {
        Some(warmup @ Json::Object(_)) => Some(take(warmup, "seconds")?),
        _ => None,
    };

    let mut launch: Launch = serde_json::from_value(json).map_err(|e| e.to_string())?;
    for (metric, values) in launch.samples.iter_mut().zip(samples) {
        metric.values = values;
    }
    for (value, number) in launch.values.iter_mut().zip(values) {
        value.value = number;
    }
    for (check, (error, tolerance)) in launch.checks.iter_mut().zip(checks) {
        check.error = error;
        check.tolerance = tolerance;
    }
    if let (Some(warmup), Some(seconds)) = (&mut launch.warmup, warmup) {
        warmup.seconds = seconds;
    }
    Ok(launch)
}

/// The objects of a list; none when it is absent, which serde then reports.
fn items<'a>(json: &'a mut Json, list: &str) -> impl Iterator<Item = &'a mut Json> {
    json.get_mut(list).and_then(Json::as_array_mut).into_iter().flatten().filter(|item| item.is_object())
}

fn take(object: &mut Json, key: &str) -> Result<f64, String> {
    let place = object.get_mut(key).ok_or_else(|| format!("`{key}` is missing"))?;
    let value = number(place)?;
    *place = Json::from(0.0);
    Ok(value)
}

fn number(json: &Json) -> Result<f64, String> {
    let parsed = match json {
        Json::Number(number) => number.as_f64(),
        Json::String(word) => match word.as_str() {
            "NaN" => Some(f64::NAN),
            "inf" => Some(f64::INFINITY),
            "-inf" => Some(f64::NEG_INFINITY),
            other => other
                .strip_prefix("NaN:")
                .and_then(|hex| u64::from_str_radix(hex, 16).ok())
                .map(f64::from_bits)
                .filter(|value| value.is_nan()),
        },
        _ => None,
    };
    parsed.ok_or_else(|| format!("`{json}` is not a number (nor \"NaN\", \"inf\" or \"-inf\")"))
}
