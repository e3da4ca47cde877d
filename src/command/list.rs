//! `regrade list`: suites, cases, what each needs and shall reach, and why one would be skipped here.

use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;

use crate::backend::xla::plugins::Plugin;
use crate::backend::{Availability, BACKENDS};
use crate::cli::{Format, List};
use crate::command::backend::describe;
use crate::command::context::{Context, print};
use crate::command::session::{absent_file, load_suite, machine, plan, suites_in};
use crate::domain::{Case, Plan, Target};
use crate::exit::Exit;
use crate::render::format;

/// What is listed.
#[derive(Debug, Serialize)]
struct Listing {
    backends: Vec<BackendLine>,
    suites: Vec<SuiteLines>,
}

#[derive(Debug, Serialize)]
struct BackendLine {
    name: &'static str,
    description: &'static str,
    ready: bool,
    /// Device names, or the reason and the remedy.
    detail: String,
}

#[derive(Debug, Serialize)]
struct SuiteLines {
    file: PathBuf,
    name: String,
    description: String,
    launches: u32,
    cases: Vec<CaseLine>,
}

#[derive(Debug, Serialize)]
struct CaseLine {
    id: String,
    workload: String,
    tags: Vec<String>,
    owner: Option<String>,
    needs: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    targets: Vec<Target>,
    skipped: Option<String>,
    /// What it needs that is not here, skipped or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    absent: Option<String>,
}

/// Lists. A suite that cannot be read is an error, after nothing was printed.
pub fn run(arguments: &List, context: &Context) -> Result<Exit> {
    let machine = machine();
    let mut suites = Vec::new();
    for path in &arguments.suites {
        let files = if path.is_dir() { suites_in(path)? } else { vec![path.clone()] };
        for file in files {
            let suite = load_suite(&file)?;
            let plan = plan(&suite, &arguments.select, &machine, 0, None)?;
            suites.push(lines(file, &plan));
        }
    }
    let broken = describe::broken();
    let listing = Listing { backends: machine.iter().map(|line| backend_line(line, &broken)).collect(), suites };
    let text = match arguments.format {
        Format::Json => format!("{}\n", serde_json::to_string_pretty(&listing)?),
        Format::Text => text(&listing, arguments.cases || arguments.suites.iter().all(|path| path.is_file()), context),
    };
    print(text.as_bytes())?;
    Ok(Exit::Pass)
}

/// One line a backend. A plugin that cannot be loaded makes none ready.
fn backend_line((name, availability): &(&'static str, Availability), broken: &[(Plugin, String)]) -> BackendLine {
    let description = BACKENDS.iter().find(|backend| backend.name() == *name).map_or("", |backend| backend.describe());
    let broken = broken.iter().find(|(plugin, _)| plugin.platform.backend() == *name);
    match (availability, broken) {
        (Availability::Ready { .. }, Some((plugin, reason))) => BackendLine {
            name,
            description,
            ready: false,
            detail: format!("{} cannot be used: {reason}; {}", plugin.path.display(), describe::REMEDY),
        },
        (Availability::Ready { devices, .. }, None) => {
            let names: Vec<&str> = devices.iter().map(|device| device.name.as_str()).collect();
            BackendLine { name, description, ready: true, detail: names.join(", ") }
        }
        (Availability::Unavailable(skip), _) => {
            BackendLine { name, description, ready: false, detail: format!("{}; {}", skip.reason, skip.remedy) }
        }
    }
}

fn lines(file: PathBuf, plan: &Plan) -> SuiteLines {
    SuiteLines {
        file,
        name: plan.suite.name.clone(),
        description: plan.suite.description.clone(),
        launches: plan.suite.launches,
        cases: plan.cases.iter().filter(|case| !case.reference).map(case_line).collect(),
    }
}

fn case_line(case: &Case) -> CaseLine {
    CaseLine {
        id: case.id.to_string(),
        workload: case.workload.name.clone(),
        tags: case.tags.clone(),
        owner: case.owner.clone(),
        needs: case.needs.clone(),
        targets: case.targets.clone(),
        skipped: case.skip.as_ref().map(|skip| format!("{}; {}", skip.reason, skip.remedy)),
        absent: absent_file(case),
    }
}

/// `latency <= 2 ms (not required)`
fn wanted(target: &Target) -> String {
    format!("{target}{}", if target.required { "" } else { " (not required)" })
}

/// What several cases shall reach together: `success_rate >= 95 % over 12 cases: compile`.
fn together(cases: &[CaseLine]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for target in cases.iter().flat_map(|case| &case.targets) {
        let Some(over) = &target.over else { continue };
        let line = format!("{}: {}", wanted(target), over.name);
        if !all.contains(&line) {
            all.push(line);
        }
    }
    all
}

fn text(listing: &Listing, cases: bool, context: &Context) -> String {
    use std::fmt::Write;
    let (dim, bold, reset) = if context.colour { ("\x1b[2m", "\x1b[1m", "\x1b[0m") } else { ("", "", "") };
    let mut out = String::new();
    let _ = writeln!(out, "{bold}Backends{reset}");
    for line in &listing.backends {
        let state = if line.ready { "ready" } else { "unavailable" };
        let _ = writeln!(out, "  {:<11} {state:<11} {}", line.name, line.detail);
    }
    for suite in &listing.suites {
        let skipped = suite.cases.iter().filter(|case| case.skipped.is_some()).count();
        let _ = writeln!(out, "\n{bold}{}{reset} {dim}{}{reset}", suite.name, suite.file.display());
        let _ = writeln!(out, "  {}", suite.description);
        let counted = format::plural(suite.cases.len(), "case", "cases");
        let launches = format::plural(suite.launches as usize, "launch", "launches");
        let _ = writeln!(out, "  {counted}, {launches} each, {skipped} skipped here");
        for target in together(&suite.cases) {
            let _ = writeln!(out, "  target {target}");
        }
        let width = suite.cases.iter().map(|case| case.id.len()).max().unwrap_or(0);
        for case in suite.cases.iter().filter(|case| cases || case.skipped.is_some() || case.absent.is_some()) {
            let mut facts = Vec::new();
            if !case.tags.is_empty() {
                facts.push(format!("tags {}", case.tags.join(", ")));
            }
            if !case.needs.is_empty() {
                facts.push(format!("needs {}", case.needs.join(" and ")));
            }
            let targets: Vec<String> = case.targets.iter().filter(|target| target.over.is_none()).map(wanted).collect();
            if !targets.is_empty() {
                facts.push(format!("targets {}", targets.join(", ")));
            }
            if let Some(owner) = &case.owner {
                facts.push(format!("owner {owner}"));
            }
            if let Some(why) = &case.skipped {
                facts.push(format!("skipped: {why}"));
            }
            if let Some(absent) = &case.absent {
                facts.push(format!("note: it {absent}"));
            }
            let line = format!("    {:<width$}  {dim}{}{reset}", case.id, facts.join(" · "));
            let _ = writeln!(out, "{}", line.trim_end());
        }
    }
    out
}
