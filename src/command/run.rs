//! `regrade run`: measure a suite and store the run.

use anyhow::Result;

use crate::cli::{Format, Run};
use crate::command::context::{Context, print};
use crate::command::session::{Subject, load_suite, measure, suite_path, suite_path_again};
use crate::domain::{CaseId, Evidence, Run as StoredRun, RunId};
use crate::exit::Exit;
use crate::render;
use crate::report::build::{run_view, tally};
use crate::runner::Ending;
use crate::store::Store;
use crate::verdict::policy::{self, Demand};
use crate::verdict::{Head, target};

/// Measures, stores, prints.
pub fn run(arguments: &Run, context: &Context) -> Result<Exit> {
    let path = if arguments.measure.resume {
        suite_path_again(arguments.suite.as_ref(), context)?
    } else {
        suite_path(arguments.suite.as_ref())?
    };
    let suite = load_suite(&path)?;
    let mut store = context.store()?;
    let measured = measure(
        &suite,
        &Subject::built_here(&suite, context)?,
        &arguments.select,
        &arguments.measure,
        &mut store,
        context,
    )?;
    let demand = Demand { require_decision: arguments.require_decision };
    let exit = show(&measured.run, &store, arguments.format, demand, context)?;
    if let Some(why) = measured.run.unfit_as_base() {
        context.tell(&format!("this run can never be a baseline: {why}"));
    }
    Ok(if measured.ending == Ending::Cancelled { Exit::Environment } else { exit })
}

/// What launches saw that tables of a run tell.
pub fn seen(store: &dyn Store, run: RunId) -> Result<Vec<(CaseId, Evidence)>> {
    Ok([store.evidence(run, Evidence::GPU)?, store.evidence(run, Evidence::XLA)?].concat())
}

/// Prints a run; the exit code says whether its cases went well and reach their targets.
pub fn show(run: &StoredRun, store: &dyn Store, format: Format, demand: Demand, context: &Context) -> Result<Exit> {
    let launches = store.summaries(run.id)?;
    let targets = target::judge(Head { run: run.id, cases: &run.cases, launches: &launches });
    let view = run_view(run, &launches, &targets, store.prices(run.id)?, &seen(store, run.id)?);
    let name = match format {
        Format::Text => "terminal",
        Format::Json => "json",
    };
    let renderer = render::find(name).expect("a row of the table");
    for artifact in renderer.run(&view, context.style())?.into_iter().flatten() {
        print(&artifact.bytes)?;
    }
    let (failed, measured) = tally(&view);
    Ok(policy::decide_run(failed, measured, &targets, demand))
}
