//! `regrade schema`: the JSON Schema of a format, generated from its types.

use anyhow::Result;

use crate::cli::SchemaOf;
use crate::command::context::print;
use crate::exit::Exit;
use crate::render;
use crate::suite;

/// Prints.
pub fn run(what: SchemaOf) -> Result<Exit> {
    let schema = match what {
        SchemaOf::Suite => suite::json_schema(),
        SchemaOf::Report => render::json::report_schema(),
        SchemaOf::Prices => suite::prices_schema(),
    };
    print(format!("{}\n", serde_json::to_string_pretty(&schema)?).as_bytes())?;
    Ok(Exit::Pass)
}
