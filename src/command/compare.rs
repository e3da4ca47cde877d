//! `regrade compare`: head against its base, from a measurement made now or from stored runs.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result};
use jiff::Timestamp;

use crate::backend::BACKENDS;
use crate::cli::{Compare, Format};
use crate::command::accepted::{Accepted, read_waivers};
use crate::command::context::{Context, find_run, print};
use crate::command::git::WorkTree;
use crate::command::run::show;
use crate::command::session::{go_on, load_suite, measure, suite_path};
use crate::command::{NotComparable, usage};
use crate::domain::{Call, CaseId, Launch, LaunchId, Run, RunId, RunStatus, Severity};
use crate::exit::Exit;
use crate::render::{self, RENDERERS, Style};
use crate::report::Report;
use crate::report::build::{self, Parts};
use crate::runner::Ending;
use crate::store::sqlite::SqliteStore;
use crate::store::{RunQuery, Store, StoreError};
use crate::suite::Suite;
use crate::verdict::base::{self, Chosen, Wanted};
use crate::verdict::policy::{self, Demand};
use crate::verdict::{self, Head, Session};

/// Samples that a report carries itself; above this, only flagged rows do and the rest stays in the database.
const MOST_SAMPLES: u64 = 1_000_000;
/// Columns of the table that is written to a file.
const REPORT_WIDTH: usize = 120;

/// Compares.
pub fn run(arguments: &Compare, context: &Context) -> Result<Exit> {
    // A mistake in the waivers is said before anything is measured.
    read_waivers(arguments.waivers.as_deref())?;
    let (store, head, named, ending) = if let Some(name) = &arguments.head {
        let store = context.stored()?;
        let head = find_run(&store, name)?;
        let named = named_base(arguments, &head.suite.name, &store)?;
        (store, head, named, Ending::Complete)
    } else {
        let suite = load_suite(&suite_path(arguments.suite.as_ref())?)?;
        let mut store = context.store()?;
        // A folder that cannot be made or a base that is not there is said before minutes are spent on measuring head.
        let folder = &arguments.reports;
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let named = named_base(arguments, &suite.info.name, &store)?;
        let measured = measure(&suite, &arguments.select, &arguments.measure, &mut store, context)?;
        (store, measured.run, named, measured.ending)
    };
    if ending == Ending::Cancelled {
        // A program that asked for a report gets none rather than another document.
        if arguments.format == Format::Text {
            show(&head, &store, arguments.format, context)?;
        }
        return Ok(Exit::Environment);
    }
    let mut base = choose_base(arguments, &head, named, &store)?;
    if head.status != RunStatus::Complete {
        base.notes.push("head is not complete: the session ended before every launch was made".to_owned());
    }
    let report = judge(arguments, &head, &base, &store)?;
    let name = match arguments.format {
        Format::Text => "terminal",
        Format::Json => "json",
    };
    for artifact in render::find(name).expect("a row of the table").report(&report, context.style())? {
        print(&artifact.bytes)?;
    }
    write_files(&report, &arguments.reports)?;
    context.tell(&format!("reports are in {}", arguments.reports.display()));
    Ok(Exit::ALL.into_iter().find(|exit| exit.code() == report.outcome.exit_code).expect("made from an Exit"))
}

/// Base runs, owned.
struct Base {
    runs: Vec<Run>,
    notes: Vec<String>,
}

/// The run that `--base` names; `None` where it names a branch, or is not given. What is neither is refused.
fn named_base(arguments: &Compare, suite: &str, store: &SqliteStore) -> Result<Option<Run>> {
    let Some(name) = &arguments.base else {
        return Ok(None);
    };
    if let Some(run) = named_run(store, name)? {
        if run.suite.name != suite {
            return Err(usage(format!(
                "--base {name}: run {} is of suite `{}`, not `{suite}`",
                run.id, run.suite.name
            )));
        }
        return Ok(Some(run));
    }
    let query = RunQuery {
        suite: Some(suite.to_owned()),
        branch: Some(name.clone()),
        fit_as_base: true,
        limit: Some(1),
        ..RunQuery::default()
    };
    if store.runs(&query)?.is_empty() {
        return Err(usage(format!(
            "--base {name}: no run, baseline or branch of that name has a usable run of `{suite}`; \
             `regrade baseline list` shows what is stored"
        )));
    }
    Ok(None)
}

/// A run that a name stands for by baseline name, `latest` or id.
fn named_run(store: &SqliteStore, name: &str) -> Result<Option<Run>> {
    if name == "latest" || store.baselines()?.iter().any(|baseline| baseline.name == name) {
        return Ok(Some(find_run(store, name)?));
    }
    let looks_like_an_id = name.len() >= 8 && name.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    match looks_like_an_id.then(|| store.run(name)) {
        Some(Ok(run)) => Ok(Some(run)),
        Some(Err(StoreError::NotFound(_))) | None => Ok(None),
        Some(Err(error)) => Err(error.into()),
    }
}

/// The run that was named, or the last runs of the base branch on this testbed.
fn choose_base(arguments: &Compare, head: &Run, named: Option<Run>, store: &SqliteStore) -> Result<Base> {
    if let Some(run) = named {
        return explicit(head, run);
    }
    let tree = WorkTree::detect();
    let query = RunQuery {
        suite: Some(head.suite.name.clone()),
        testbed: Some(head.testbed.key.clone()),
        fit_as_base: true,
        ..RunQuery::default()
    };
    let stored = store.runs(&query)?;
    let wanted = Wanted {
        head: head.id,
        suite: &head.suite.name,
        testbed: &head.testbed.key,
        base_branch: arguments.base.as_deref().or(tree.base_branch.as_deref()),
        // Who names a branch means that branch.
        stand_ins: arguments.base.is_none(),
        own_branch: head.branch.as_deref(),
        now: head.started,
    };
    let Chosen { runs, mut notes } = base::choose(&stored, &wanted);
    if let (true, Some(branch)) = (runs.is_empty(), &arguments.base) {
        notes.push(format!("`{branch}` has no usable run on this testbed within the history's window"));
    }
    Ok(Base { runs: runs.into_iter().cloned().collect(), notes })
}

/// A single run that plays base because the user says so.
fn explicit(head: &Run, run: Run) -> Result<Base> {
    if run.id == head.id {
        return Err(usage(format!("run {} cannot be compared with itself", run.id)));
    }
    if run.testbed.key != head.testbed.key {
        let differing: Vec<String> = head
            .testbed
            .facts
            .iter()
            .filter(|(fact, value)| run.testbed.facts.get(*fact) != Some(value))
            .map(|(fact, value)| {
                let other = run.testbed.facts.get(fact).map_or("absent", String::as_str);
                format!("{fact}: `{other}` against `{value}`")
            })
            .collect();
        return Err(NotComparable(format!(
            "not comparable: base and head come from different testbeds ({}); measure both on one machine",
            differing.join("; ")
        ))
        .into());
    }
    let mut notes = Vec::new();
    if let Some(why) = run.unfit_as_base() {
        notes.push(format!("the base is no honest baseline: {why}"));
    }
    Ok(Base { runs: vec![run], notes })
}

/// Judges and builds the report.
fn judge(arguments: &Compare, head: &Run, base: &Base, store: &SqliteStore) -> Result<Report> {
    let head_launches = store.summaries(head.id)?;
    let mut history = Vec::new();
    let mut redefined = BTreeSet::new();
    for run in &base.runs {
        let other = base::redefined(&head.cases, &run.cases);
        let mut launches = store.summaries(run.id)?;
        launches.retain(|launch| !other.contains(&launch.case));
        redefined.extend(other);
        history.push(Session { run: run.id, launches });
    }
    let gate = match &arguments.gate {
        Some(word) => *Severity::ALL.iter().find(|severity| severity.as_str() == word).expect("clap takes these words"),
        None => head.suite.gate,
    };
    let gone = base.runs.first().map(|newest| gone(head, newest)).unwrap_or_default();
    let accepted = Accepted::read(arguments.waivers.as_deref(), head, &base.runs, &mut history, store)?;
    let mut judged =
        verdict::judge(Head { run: head.id, cases: &head.cases, launches: &head_launches }, &history, &gone, gate);
    let mut notes = base.notes.clone();
    notes.extend(accepted.apply(&mut judged, gate));
    let decision = policy::decide_suite(&judged.rows, gate, Demand { require_decision: arguments.require_decision });
    notes.extend(redefined.iter().map(|case| {
        format!("`{case}` did other work in earlier runs (its definition changed); those do not count as its base")
    }));
    let next = advice(arguments, head, base, &mut notes);
    let samples = SampleReader::new(store, &judged);
    let report = build::report(
        Parts {
            head,
            head_launches: &head_launches,
            base: &base.runs.iter().collect::<Vec<_>>(),
            history: &history,
            judgement: &judged,
            decision: &decision,
            gate,
            notes,
            next,
            at: Timestamp::now(),
        },
        &|run, launch, case, metric| samples.get(run, launch, case, metric),
    );
    samples.failed()?;
    Ok(report)
}

/// Cases of the newest base run that head's suite no longer has. A suite text that this version cannot read says
/// nothing about what is gone.
fn gone(head: &Run, newest: &Run) -> BTreeSet<CaseId> {
    let names: Vec<&str> = BACKENDS.iter().map(|backend| backend.name()).collect();
    let Ok(suite) = Suite::parse(&head.suite.name, &head.suite.text, &names) else {
        return BTreeSet::new();
    };
    let known: BTreeSet<&CaseId> =
        suite.cases.iter().flat_map(|case| std::iter::once(&case.id).chain(&case.aliases)).collect();
    newest
        .cases
        .iter()
        .filter(|record| !record.case.reference && !known.contains(&record.case.id))
        .map(|record| record.case.id.clone())
        .collect()
}

/// What to say and to type where there is no base yet.
fn advice(arguments: &Compare, head: &Run, base: &Base, notes: &mut Vec<String>) -> Option<String> {
    if let Some(why) = head.unfit_as_base() {
        notes.push(format!("head can never be a baseline: {why}"));
    }
    if !base.runs.is_empty() {
        return None;
    }
    if head.status != RunStatus::Complete {
        return Some(go_on(head));
    }
    if head.unfit_as_base().is_none() {
        notes.push(format!(
            "no baseline of `{}` on this testbed yet: this run ({}) is stored as the first",
            head.suite.name, head.id
        ));
    }
    // What was typed compares next time; for a stored head there is nothing to repeat.
    arguments.head.is_none().then(|| head.command_line.clone())
}

/// Reads sample vectors for the rows of a report, case by case, once.
struct SampleReader<'a> {
    store: &'a SqliteStore,
    /// Rows that get their samples; `None` for all.
    only: Option<BTreeSet<(CaseId, String)>>,
    read: RefCell<BTreeMap<(RunId, CaseId), Vec<Launch>>>,
    error: RefCell<Option<StoreError>>,
}

impl<'a> SampleReader<'a> {
    fn new(store: &'a SqliteStore, judged: &verdict::Judgement<'_>) -> Self {
        let sides = |row: &verdict::Judged<'_>| -> u64 {
            row.base.iter().chain(&row.head).flat_map(|side| &side.launches).map(|used| used.n).sum()
        };
        let total: u64 = judged.rows.iter().map(sides).sum();
        let flagged =
            |row: &&verdict::Judged<'_>| row.fails || matches!(row.verdict.call, Call::Regressed | Call::Improved);
        let only = (total > MOST_SAMPLES).then(|| {
            judged.rows.iter().filter(flagged).map(|row| (row.case.clone(), row.metric.name.clone())).collect()
        });
        Self { store, only, read: RefCell::default(), error: RefCell::default() }
    }

    fn get(&self, run: RunId, launch: LaunchId, case: &CaseId, metric: &str) -> Option<Vec<f64>> {
        if self.only.as_ref().is_some_and(|only| !only.contains(&(case.clone(), metric.to_owned()))) {
            return None;
        }
        let mut read = self.read.borrow_mut();
        let launches = read.entry((run, case.clone())).or_insert_with(|| {
            self.store.launches(run, Some(case)).unwrap_or_else(|error| {
                self.error.borrow_mut().get_or_insert(error);
                Vec::new()
            })
        });
        let found = launches.iter().find(|candidate| candidate.id == launch)?;
        found.samples.iter().find(|samples| samples.metric.name == metric).map(|samples| samples.values.clone())
    }

    fn failed(self) -> Result<()> {
        self.error.into_inner().map_or(Ok(()), |error| Err(error.into()))
    }
}

/// Writes every format's files. Plots of an earlier comparison go first; whatever else is in the folder stays.
fn write_files(report: &Report, folder: &Path) -> Result<()> {
    let plots = folder.join("plots");
    for entry in std::fs::read_dir(&plots).into_iter().flatten().flatten() {
        let path = entry.path();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let picture = path.extension().is_some_and(|extension| extension == "svg" || extension == "png");
        if picture && (stem == "forest" || stem.starts_with("distribution-")) {
            std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    let style = Style { colour: false, width: REPORT_WIDTH };
    for renderer in RENDERERS {
        for artifact in renderer.report(report, style)? {
            let path = folder.join(&artifact.name);
            let parent = path.parent().unwrap_or(folder);
            std::fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
            std::fs::write(&path, &artifact.bytes).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(())
}
