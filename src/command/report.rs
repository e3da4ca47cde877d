//! `regrade report`: show a stored run in any format that has a view of a run.

use anyhow::Result;

use crate::cli::Report;
use crate::command::context::{Context, find_run, print};
use crate::command::run::seen;
use crate::command::usage;
use crate::exit::Exit;
use crate::render;
use crate::report::build::run_view;
use crate::store::Store;
use crate::verdict::{Head, target};

/// Reads, renders, prints.
pub fn run(arguments: &Report, context: &Context) -> Result<Exit> {
    let store = context.stored()?;
    let run = find_run(&store, &arguments.run)?;
    let launches = store.summaries(run.id)?;
    let targets = target::judge(Head { run: run.id, cases: &run.cases, launches: &launches });
    let view = run_view(&run, &launches, &targets, store.prices(run.id)?, &seen(&store, run.id)?);
    let renderer = render::find(&arguments.format).expect("clap takes the names from the table");
    let artifacts = renderer.run(&view, context.style())?.ok_or_else(|| {
        usage(format!("`{}` has no view of a single run; try terminal, markdown or json", arguments.format))
    })?;
    for artifact in artifacts {
        print(&artifact.bytes)?;
    }
    Ok(Exit::Pass)
}
