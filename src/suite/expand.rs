//! Checked suite file → cases.
//!
//! Must not know the machine.

use sha2::{Digest, Sha256};

use crate::domain::{Build, Case, CaseId, Price, Severity, SuiteInfo, hex};
use crate::suite::Suite;
use crate::suite::at::At;
use crate::suite::axes::{self, Axes};
use crate::suite::condition::Condition;
use crate::suite::error::Problems;
use crate::suite::format::{BenchmarkTable, SuiteFile};
use crate::suite::settings::{self, Settings};
use crate::suite::target;
use crate::suite::work::{self, Work};

/// More cases than this are a mistake.
pub(super) const MOST_CASES: usize = 100_000;

/// More launches of a case than any session needs.
const MOST_LAUNCHES: u32 = 1000;
/// Launches of a case in a session, where the suite says nothing.
const LAUNCHES: u32 = 5;

/// Checks everything and expands; the cases mean something only if no problem was noted. `prices` are known where the suite
/// stands in a folder.
pub(super) fn expand(
    file: &SuiteFile,
    text: &str,
    backends: &[&str],
    prices: Option<Vec<Price>>,
    problems: &mut Problems,
) -> Suite {
    let info = info(file, text, problems);
    settings::check_names(file, problems);
    settings::check_suite(file, backends, problems);
    work::check_defaults(file, problems);

    let mut cases = Vec::new();
    for benchmark in &file.benchmark {
        let settings = settings::settings(file, benchmark, backends, problems);
        check_conditions(&benchmark.when, text, backends, problems);
        let entry = work::entry(benchmark);
        let known = entry.is_some() || benchmark.command.is_some() || benchmark.kernel.is_some();
        let work = work::work(file, benchmark, &settings.backends, problems);
        let axes = if known { axes::axes(benchmark, entry, problems) } else { None };
        let (Some(work), Some(axes)) = (work, axes) else {
            continue;
        };
        let more = axes.combinations().saturating_mul(settings.backends.len());
        if cases.len().saturating_add(more) > MOST_CASES {
            let message = format!("the suite has more than {MOST_CASES} cases: `{}` adds {more}", benchmark.name.value);
            let help = "shorten its axes, or let them advance together with `zip`".to_owned();
            problems.add(&benchmark.name.span, message, help);
            continue;
        }
        push_cases(benchmark, &settings, &work, &axes, &mut cases, problems);
    }
    let currency = prices.iter().flatten().next().map(|price| price.currency.as_str());
    target::lay(file, text, currency, &mut cases, problems);
    if cases.is_empty() && problems.is_empty() {
        let help =
            "add a `[[benchmark]]` with a `name` and a `model`, an `operator`, a `kernel` or a `command`".to_owned();
        problems.add(&file.name.span, format!("suite `{}` has no cases", file.name.value), help);
    }
    Suite {
        info,
        cases,
        reference_workloads: file.reference_workloads.unwrap_or(true),
        build: build(file, problems),
        prices: prices.unwrap_or_default(),
    }
}

fn info(file: &SuiteFile, text: &str, problems: &mut Problems) -> SuiteInfo {
    if file.schema_version.value != 1 {
        let help =
            "write `schema_version = 1`, or use the version of regrade that this suite was written for".to_owned();
        let message = format!("this version of regrade reads schema version 1, not {}", file.schema_version.value);
        problems.add(&file.schema_version.span, message, help);
    }
    let launches = match &file.launches {
        None => LAUNCHES,
        Some(given) => u32::try_from(given.value)
            .ok()
            .filter(|launches| (1..=MOST_LAUNCHES).contains(launches))
            .unwrap_or_else(|| {
                let help =
                    "3 is a good number where pairs confirm a suspicion, 5 where history alone decides".to_owned();
                problems.add(
                    &given.span,
                    format!("`launches` must be at least 1 and at most {MOST_LAUNCHES}, got {}", given.value),
                    help,
                );
                LAUNCHES
            }),
    };
    let digest = Sha256::digest(text.as_bytes());
    SuiteInfo {
        name: file.name.value.clone(),
        description: file.description.clone(),
        gate: file.gate.map_or(Severity::Moderate, Severity::from),
        budget_s: file.budget.as_ref().map(|budget| budget.0),
        launches,
        text: text.to_owned(),
        hash: hex(&digest),
    }
}

/// Seconds until a build is killed, where the suite says nothing.
const BUILD_TIMEOUT_S: f64 = 3600.0;
/// What stands for the number of an order of code.
const LAYOUT: &str = "{layout}";
/// Orders of code, where the suite says only how to make them: about as many as pairs that decide.
const USUAL_LAYOUTS: u32 = 12;
/// How many may be asked for; more than the most pairs would not all be measured.
const LAYOUTS: std::ops::RangeInclusive<u32> = 2..=40;

fn build(file: &SuiteFile, problems: &mut Problems) -> Build {
    let table = &file.build;
    settings::positive(table.timeout.as_ref(), "timeout", problems);
    if let Some(command) = table.command.as_ref().filter(|command| command.first().is_none_or(|word| word.is_empty())) {
        let help =
            "as in `command = [\"cargo\", \"build\", \"--release\"]`; leave it out where nothing is built".to_owned();
        problems.add(&command.span, "a build command begins with a program", help);
    }
    if let Some(worker) = table.worker.as_ref().filter(|worker| worker.is_empty() || worker.starts_with('/')) {
        let help = "name the program inside the tree, such as \"target/release/regrade\"".to_owned();
        problems.add(&worker.span, "`worker` is a path relative to the tree", help);
    }
    let relink: Vec<String> =
        table.relink.iter().flat_map(|command| command.iter()).map(|word| word.value.clone()).collect();
    if let Some(command) = &table.relink {
        let example = "as in `relink = [\"cargo\", \"rustc\", \"--release\", \"--\", \
                       \"-Clink-arg=-Wl,--shuffle-sections=.text*={layout}\"]`";
        if !relink.iter().any(|word| word.contains(LAYOUT)) {
            let help = format!("without it every order is the same; {example}");
            problems.add(&command.span, "`relink` does not say `{layout}`", help);
        }
        if table.command.is_none() || table.worker.is_none() {
            let help = "give `command` and `worker` too: it is the worker that is linked anew".to_owned();
            problems.add(&command.span, "`relink` has nothing to link", help);
        }
    }
    if let Some(layouts) = &table.layouts {
        if !LAYOUTS.contains(&layouts.value) {
            let help = format!("from {} to {}", LAYOUTS.start(), LAYOUTS.end());
            problems.add(&layouts.span, "as many orders help nobody", help);
        }
        if table.relink.is_none() {
            let help = "`relink` says how to link in another order; without it there is one".to_owned();
            problems.add(&layouts.span, "`layouts` without `relink`", help);
        }
    }
    let layouts = table.layouts.as_ref().map_or(USUAL_LAYOUTS, |layouts| layouts.value);
    Build {
        layouts: if relink.is_empty() { 1 } else { layouts },
        relink,
        command: table.command.iter().flat_map(|command| command.iter()).map(|word| word.value.clone()).collect(),
        env: table.env.iter().map(|(name, value)| (name.value.clone(), value.value.clone())).collect(),
        timeout_s: table.timeout.as_ref().map_or(BUILD_TIMEOUT_S, |time| time.0),
        worker: table.worker.as_ref().map(|worker| worker.value.clone()),
    }
}

/// Checks conditions, pointing inside their texts.
fn check_conditions(conditions: &[At<String>], text: &str, backends: &[&str], problems: &mut Problems) {
    for condition in conditions {
        match Condition::parse(condition) {
            Ok(parsed) => {
                if let Some(name) =
                    parsed.backend().filter(|name| !name.contains(['*', '?']) && !backends.contains(name))
                {
                    let help = settings::instead_of(name, backends);
                    problems.add(&condition.span, format!("unknown backend `{name}`"), help);
                }
            }
            Err(bad) => {
                let span = target::inside(text, condition, &condition.span, &bad.span);
                problems.add(&span, bad.message, bad.help);
            }
        }
    }
}

fn push_cases(
    benchmark: &BenchmarkTable,
    settings: &Settings,
    work: &Work,
    axes: &Axes,
    cases: &mut Vec<Case>,
    problems: &mut Problems,
) {
    for index in 0..axes.combinations() {
        let values = axes.combination(index);
        let suffix = values.iter().fold(String::new(), |suffix, (name, value)| suffix + &format!("/{name}={value}"));
        for backend in &settings.backends {
            let id_of = |name: &str| CaseId(format!("{name}{suffix}@{backend}"));
            // One combination's problems are enough to read.
            let Some((workload, env)) = work.at(&values, backend, problems) else { return };
            cases.push(Case {
                id: id_of(&benchmark.name),
                benchmark: benchmark.name.value.clone(),
                workload,
                backend: backend.clone(),
                tags: settings.tags.clone(),
                owner: settings.owner.clone(),
                thresholds: settings.thresholds.clone(),
                gate_metrics: settings.gate_metrics.clone(),
                targets: Vec::new(),
                sampling: settings.sampling,
                timeout_s: settings.timeout_s,
                memory_limit: settings.memory_limit,
                metrics: settings.metrics.clone(),
                env,
                working_dir: benchmark.working_dir.as_ref().map(|dir| dir.value.clone()),
                aliases: benchmark.aliases.iter().map(|alias| id_of(alias)).collect(),
                needs: benchmark.when.iter().map(|condition| condition.value.clone()).collect(),
                skip: None,
                reference: false,
            });
        }
    }
}
