//! `regrade history`: every metric through the sessions of the base branch, what is pending, and who is charged.

use anyhow::{Context as _, Result};
use wildmatch::WildMatch;

use crate::cli::{Format, History};
use crate::command::accepted::Stored;
use crate::command::context::{Context, print};
use crate::command::{NotComparable, usage};
use crate::exit::Exit;
use crate::render::trend;
use crate::suite::did_you_mean;
use crate::verdict::chronicle::Series;

mod view;

/// Reads, tells, prints.
pub fn run(arguments: &History, context: &Context) -> Result<Exit> {
    if !context.db.exists() {
        let text = format!(
            "{}: there is no database yet, so there is no history; `regrade run` makes one, --db or REGRADE_DB names \
             another",
            context.db.display()
        );
        return Err(NotComparable(text).into());
    }
    let store = context.stored()?;
    let stored = Stored::read(&store, arguments.suite.as_deref(), arguments.last)?;
    let series = select(stored.series(&store)?, arguments)?;
    let chronicle = view::Chronicle::new(&stored, &series);
    match arguments.format {
        Format::Text => print(chronicle.text(context.style()).as_bytes())?,
        Format::Json => {
            let mut text = serde_json::to_vec_pretty(&chronicle)?;
            text.push(b'\n');
            print(&text)?;
        }
    }
    if let Some(folder) = &arguments.plots {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let trends: Vec<trend::Trend> = chronicle.trends();
        for artifact in trend::pictures(&trends)? {
            let path = folder.join(&artifact.name);
            std::fs::write(&path, &artifact.bytes).with_context(|| format!("cannot write {}", path.display()))?;
        }
        context.tell(&format!("pictures are in {}", folder.display()));
    }
    Ok(Exit::Pass)
}

/// The series that were asked for; by default the metrics that may fail CI, and what is pending of others.
fn select(series: Vec<Series>, arguments: &History) -> Result<Vec<Series>> {
    let globs: Vec<WildMatch> = arguments.case.iter().map(|glob| WildMatch::new(glob)).collect();
    let mut cases: Vec<String> = series.iter().map(|one| one.case.as_str().to_owned()).collect();
    cases.dedup();
    for (glob, text) in globs.iter().zip(&arguments.case) {
        if !cases.iter().any(|case| glob.matches(case)) {
            let known = cases.iter().map(String::as_str);
            return Err(usage(format!("--case {text} matches no case; {}", did_you_mean(text, known, "cases"))));
        }
    }
    let of_cases: Vec<Series> = series
        .into_iter()
        .filter(|one| globs.is_empty() || globs.iter().any(|glob| glob.matches(one.case.as_str())))
        .collect();
    let Some(name) = &arguments.metric else {
        return Ok(of_cases.into_iter().filter(|one| one.gating || one.waiting().is_some()).collect());
    };
    let mut names: Vec<String> = of_cases.iter().map(|one| one.metric.name.clone()).collect();
    names.sort_unstable();
    names.dedup();
    if !names.contains(name) {
        let known = names.iter().map(String::as_str);
        return Err(usage(format!(
            "--metric {name} is none of these cases'; {}",
            did_you_mean(name, known, "metrics")
        )));
    }
    Ok(of_cases.into_iter().filter(|one| one.metric.name == *name).collect())
}
