//! The JSON Schemas of the suite format, from the serde types and the parameters that the catalogue knows, and of prices.
//!
//! Must not know any suite.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::domain::workload::{CATALOGUE, Entry, Param, ParamKind};
use crate::domain::{ParamValue, WorkloadKind};
use crate::suite::format::SuiteFile;
use crate::suite::prices::PricesFile;
use crate::suite::work::default_of;

/// Draft 2020-12.
pub(super) fn json_schema() -> Value {
    let mut schema = schemars::schema_for!(SuiteFile).to_value();
    drop_null(&mut schema);
    let params = parameters();
    if let Some(defaults) = schema.pointer_mut("/properties/defaults").and_then(Value::as_object_mut) {
        defaults.insert("properties".to_owned(), Value::Object(params.clone()));
        defaults.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    if let Some(benchmark) = schema.pointer_mut("/$defs/BenchmarkTable").and_then(Value::as_object_mut) {
        benchmark.insert(
            "oneOf".to_owned(),
            json!([
                { "required": ["model"] },
                { "required": ["operator"] },
                { "required": ["command"] },
            ]),
        );
        if let Some(properties) = benchmark.get_mut("properties").and_then(Value::as_object_mut) {
            for (key, kind) in [("model", WorkloadKind::Model), ("operator", WorkloadKind::Operator)] {
                if let Some(property) = properties.get_mut(key).and_then(Value::as_object_mut) {
                    let names = CATALOGUE.iter().filter(|entry| entry.kind == kind).map(|entry| entry.name);
                    property.insert("type".to_owned(), json!("string"));
                    property.insert("enum".to_owned(), names.collect());
                }
            }
            properties.extend(params);
        }
    }
    schema
}

/// Draft 2020-12.
pub(super) fn prices_schema() -> Value {
    let mut schema = schemars::schema_for!(PricesFile).to_value();
    drop_null(&mut schema);
    schema
}

/// TOML has no null: an optional key is one that may be absent.
fn drop_null(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".to_owned(), only);
                }
            }
            let null = json!({ "type": "null" });
            if let Some(Value::Array(choices)) = object.get("anyOf")
                && let [Value::Object(only), last] = choices.as_slice()
                && *last == null
            {
                let only = only.clone();
                object.remove("anyOf");
                object.extend(only);
            }
            object.values_mut().for_each(drop_null);
        }
        Value::Array(list) => list.iter_mut().for_each(drop_null),
        _ => {}
    }
}

/// A property a parameter name; workloads that share a name share the property.
fn parameters() -> Map<String, Value> {
    let mut users: BTreeMap<&str, Vec<(&Entry, &Param)>> = BTreeMap::new();
    for entry in CATALOGUE.iter().filter(|entry| entry.kind != WorkloadKind::Reference) {
        for param in entry.all_params() {
            users.entry(param.name).or_default().push((entry, param));
        }
    }
    users.into_iter().map(|(name, users)| (name.to_owned(), property(&users))).collect()
}

fn property(users: &[(&Entry, &Param)]) -> Value {
    let mut notes: Vec<(String, Vec<&str>)> = Vec::new();
    let mut choices: Vec<&str> = Vec::new();
    let mut kind = "string";
    for (entry, param) in users {
        match param.kind {
            ParamKind::Size { .. } | ParamKind::OptionalSize | ParamKind::Index => kind = "integer",
            ParamKind::Flag { .. } => kind = "boolean",
            ParamKind::Choice(more) => {
                let new: Vec<&str> = more.iter().copied().filter(|choice| !choices.contains(choice)).collect();
                choices.extend(new);
            }
            ParamKind::OptionalText => {}
        }
        let default = match default_of(param) {
            Some(ParamValue::Text(text)) => format!(", default \"{text}\""),
            Some(value) => format!(", default {value}"),
            None => String::new(),
        };
        let text = format!("{}{default}", param.help);
        match notes.iter_mut().find(|(known, _)| *known == text) {
            Some((_, names)) => names.push(entry.name),
            None => notes.push((text, vec![entry.name])),
        }
    }
    let everywhere = users.len() == CATALOGUE.iter().filter(|entry| entry.kind != WorkloadKind::Reference).count();
    let lines: Vec<String> = notes
        .iter()
        .map(|(text, names)| {
            let who =
                if everywhere && notes.len() == 1 { "Every model and operator".to_owned() } else { names.join(", ") };
            format!("{who}: {text}.")
        })
        .collect();
    let mut property = json!({ "description": lines.join("\n"), "type": kind });
    if kind == "integer" {
        let from_zero = users.iter().any(|(_, param)| param.kind == ParamKind::Index);
        property["minimum"] = json!(i32::from(!from_zero));
    }
    if !choices.is_empty() {
        property["enum"] = json!(choices);
    }
    property
}
