//! The JSON format: versioned and lossless. What `report` holds is what is written; nothing is rounded or left out.
//!
//! Must not know how anything is drawn. Numbers in a report are finite, as JSON has no others.

use crate::render::{Artifact, RenderError, Renderer, Style};
use crate::report::{Report, RunView};

/// The renderer.
#[derive(Debug)]
pub struct Json;

impl Renderer for Json {
    fn name(&self) -> &'static str {
        "json"
    }

    fn describe(&self) -> &'static str {
        "everything the report knows, for tools; described by a JSON Schema"
    }

    fn report(&self, report: &Report, _style: Style) -> Result<Vec<Artifact>, RenderError> {
        // On one line: a sample a line would make the file several times as large, and nobody reads a million of them.
        Ok(vec![artifact("report.json", serde_json::to_vec(report))?])
    }

    fn run(&self, view: &RunView, _style: Style) -> Result<Option<Vec<Artifact>>, RenderError> {
        Ok(Some(vec![artifact("run.json", serde_json::to_vec_pretty(view))?]))
    }
}

/// The JSON Schema of a report, generated from the types.
#[must_use]
pub fn report_schema() -> serde_json::Value {
    schemars::schema_for!(Report).to_value()
}

fn artifact(name: &str, json: Result<Vec<u8>, serde_json::Error>) -> Result<Artifact, RenderError> {
    let mut bytes = json.map_err(|error| RenderError::Draw { context: name.to_owned(), what: error.to_string() })?;
    bytes.push(b'\n');
    Ok(Artifact { name: name.to_owned(), bytes })
}
