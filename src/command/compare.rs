//! `regrade compare`: head against its base, from stored runs, from a measurement made now and the history, or from
//! fresh pairs of two states of the sources.

mod base;
mod files;
pub mod pairs;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::Timestamp;

use crate::cli::{Compare, Format};
use crate::command::accepted::{Accepted, read_waivers};
use crate::command::across;
use crate::command::arms::{self, Refs, Repository};
use crate::command::compare::base::{Base, advice, choose_base, gone, named_base, named_run};
use crate::command::compare::files::{SampleReader, write_files};
use crate::command::compare::pairs::{Paired, Subjects};
use crate::command::context::{Context, find_run, print};
use crate::command::git::WorkTree;
use crate::command::run::show;
use crate::command::session::{Subject, load_suite, measure, suite_path_again};
use crate::command::usage;
use crate::domain::{CaseId, Evidence, LaunchSummary, Run, RunStatus, Severity};
use crate::exit::Exit;
use crate::render;
use crate::report::build::{self, Parts};
use crate::report::{PairedInfo, Report};
use crate::runner::Ending;
use crate::store::Store;
use crate::store::sqlite::SqliteStore;
use crate::suite::Suite;
use crate::verdict::policy::{self, Demand, K_SCREEN};
use crate::verdict::{self, Head, Judgement, Session, target};

/// Compares.
pub fn run(arguments: &Compare, context: &Context) -> Result<Exit> {
    if arguments.across.is_some() {
        return across::run(arguments, context);
    }
    // A mistake in the waivers is said before anything is measured.
    read_waivers(arguments.waivers.as_deref())?;
    let target = Target::of(arguments)?;
    if let (Some(name), None) = (&arguments.head, &target.range)
        && let Some(exit) = stored(name, arguments, &target, context)?
    {
        return Ok(exit);
    }
    let path = suite_path_again(target.suite.as_ref(), context)?;
    let suite = load_suite(&path)?;
    // From here on as if it had been named: it is found once.
    let mut arguments = arguments.clone();
    if target.suite.is_none() {
        arguments.targets.push(path.display().to_string());
    }
    let arguments = &arguments;
    let mut store = context.store()?;
    // A folder that cannot be made or a base that is not there is said before minutes are spent on measuring head.
    let folder = &arguments.reports;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let asked = asked_refs(arguments, &target, &suite, &store, context)?;
    let named = if asked.explicit { None } else { named_base(arguments, &suite.info.name, &store)? };
    let refs = asked.refs.filter(|_| named.is_none());
    match refs {
        Some(refs) => in_pairs(arguments, &suite, refs, asked.explicit, &mut store, context),
        None => by_history(arguments, &suite, named, &mut store, context),
    }
}

/// What the positional words say.
#[derive(Debug, Default)]
struct Target {
    suite: Option<std::path::PathBuf>,
    range: Option<(String, String)>,
}

impl Target {
    fn of(arguments: &Compare) -> Result<Self> {
        let mut target = Self::default();
        for word in &arguments.targets {
            let is_file = Path::new(word).exists() || Path::new(word).extension().is_some_and(|end| end == "toml");
            match word.split_once("..").filter(|_| !is_file) {
                Some((base, head)) if target.range.is_none() => {
                    if head.starts_with('.') {
                        return Err(usage(format!(
                            "`{word}`: write two dots; without a base, head is compared with where it left the default branch"
                        )));
                    }
                    let or_head = |name: &str| if name.is_empty() { "HEAD".to_owned() } else { name.to_owned() };
                    target.range = Some((or_head(base), or_head(head)));
                }
                None if target.suite.is_none() => target.suite = Some(word.into()),
                _ => return Err(usage(format!("`{word}`: give one suite file and one BASE..HEAD"))),
            }
        }
        if target.range.is_some() && (arguments.head.is_some() || arguments.base.is_some()) {
            return Err(usage("give BASE..HEAD, or --base and --head, not both"));
        }
        Ok(target)
    }
}

/// Compares a stored run, where the name stands for one; `None` where it may be a commit.
fn stored(name: &str, arguments: &Compare, target: &Target, context: &Context) -> Result<Option<Exit>> {
    let repository = Repository::discover();
    let commit = repository.as_ref().is_some_and(|repository| repository.resolve(name).is_ok());
    if !context.db.exists() && commit {
        return Ok(None);
    }
    let store = context.stored()?;
    let head = match named_run(&store, name)? {
        Some(head) => head,
        None if commit => return Ok(None),
        None => find_run(&store, name)?,
    };
    let (select, measure) = (&arguments.select, &arguments.measure);
    let measuring = target.suite.is_some()
        || arguments.all_pairs
        || !select.filter.is_empty()
        || !select.tag.is_empty()
        || !select.backend.is_empty()
        || !measure.inject.is_empty()
        || measure.launches.is_some()
        || measure.seed.is_some()
        || measure.resume;
    if measuring {
        return Err(usage(format!(
            "--head {name} is a stored run, and nothing is measured: leave out the suite and the options of measuring"
        )));
    }
    let named = named_base(arguments, &head.suite.name, &store)?;
    let base = choose_base(arguments, &head, named, true, &store, &|_| true)?;
    let screened = Screened::new(head, base, &store)?;
    finish(arguments, &screened, None, &store, context).map(Some)
}

/// States of the sources to measure against each other.
struct Asked {
    refs: Option<Refs>,
    /// The user named them, so they are measured whatever they hold.
    explicit: bool,
}

/// What to pair: the commits that were named; else the work tree against where it left the base branch, if tracked files
/// differ and the suite can be measured at both.
fn asked_refs(
    arguments: &Compare,
    target: &Target,
    suite: &Suite,
    store: &SqliteStore,
    context: &Context,
) -> Result<Asked> {
    let nothing = Asked { refs: None, explicit: false };
    let named = match (&target.range, &arguments.head) {
        (Some((base, head)), _) => Some((Some(base.clone()), Some(head.clone()))),
        (None, Some(head)) => Some((arguments.base.clone(), Some(head.clone()))),
        // A base that no stored run answers to is a commit.
        (None, None) => match &arguments.base {
            Some(base) if named_base(arguments, &suite.info.name, store).is_err() => Some((Some(base.clone()), None)),
            _ => None,
        },
    };
    let repository = Repository::discover();
    let Some((base, head)) = named else {
        let Some(repository) = repository.filter(|_| !arguments.history_only && !arguments.measure.resume) else {
            return Ok(nothing);
        };
        return Ok(Asked { refs: implicit_refs(&repository, arguments, suite, context)?, explicit: false });
    };
    let Some(repository) = repository else {
        // Who names no commit of anything meant a run.
        named_base(arguments, &suite.info.name, store)?;
        let why = Repository::absent();
        return Err(usage(format!("there is no git repository here whose commits could be compared: {why}")));
    };
    if let Some(why) = arms::unfit(suite) {
        named_base(arguments, &suite.info.name, store)?;
        return Err(usage(why));
    }
    if arguments.history_only || arguments.measure.resume {
        return Err(usage("commits are measured in pairs: leave out --history-only and --resume"));
    }
    let head = match &head {
        Some(name) => repository.resolve(name)?,
        None => repository.work_tree(&[&context.db, &arguments.reports])?,
    };
    let base = if let Some(name) = &base {
        repository.resolve(name).map_err(|error| {
            // Neither a commit nor anything that is stored: the store's own words name all it could have been.
            named_base(arguments, &suite.info.name, store).err().filter(|_| target.range.is_none()).unwrap_or(error)
        })?
    } else {
        let branch = WorkTree::detect().base_branch.unwrap_or_else(|| "main".to_owned());
        let tip = repository.resolve(&branch)?;
        let common = repository.merge_base(&tip.commit, &head.commit).ok_or_else(|| {
            usage(format!("`{branch}` and {} have no common ancestor; name the base with --base", head.label()))
        })?;
        repository.left(&branch, &common)?
    };
    Ok(Asked { refs: Some(Refs { base, head }), explicit: true })
}

fn implicit_refs(
    repository: &Repository,
    arguments: &Compare,
    suite: &Suite,
    context: &Context,
) -> Result<Option<Refs>> {
    if arms::unfit(suite).is_some() {
        return Ok(None);
    }
    let tree = WorkTree::detect();
    let Some(branch) = arguments.base.as_deref().or(tree.base_branch.as_deref()) else { return Ok(None) };
    let tip = repository.resolve(branch).or_else(|_| repository.resolve(&format!("origin/{branch}")));
    let Some(common) = tip.ok().and_then(|tip| repository.merge_base(&tip.commit, "HEAD")) else {
        context.tell(&format!(
            "where `{branch}` was left is not known here, so nothing can be paired; a shallow clone needs its history \
             (`git fetch --unshallow`, or `fetch-depth: 0`)"
        ));
        return Ok(None);
    };
    // Files that git does not know are outputs more often than sources; alone they are no change.
    if !repository.changed_since(&common) {
        return Ok(None);
    }
    let head = repository.work_tree(&[&context.db, &arguments.reports])?;
    Ok(Some(Refs { base: repository.left(branch, &common)?, head }))
}

/// Measures head and judges it by history alone.
fn by_history(
    arguments: &Compare,
    suite: &Suite,
    named: Option<Run>,
    store: &mut SqliteStore,
    context: &Context,
) -> Result<Exit> {
    let measured =
        measure(suite, &Subject::built_here(suite, context)?, &arguments.select, &arguments.measure, store, context)?;
    if measured.ending == Ending::Cancelled {
        // A program that asked for a report gets none rather than another document.
        if arguments.format == Format::Text {
            show(&measured.run, store, arguments.format, demand(arguments), context)?;
        }
        return Ok(Exit::Environment);
    }
    let base = choose_base(arguments, &measured.run, named, true, store, &|_| true)?;
    let screened = Screened::new(measured.run, base, store)?;
    finish(arguments, &screened, None, store, context)
}

/// Screens with history where there is enough of it, and confirms in fresh pairs.
fn in_pairs(
    arguments: &Compare,
    suite: &Suite,
    refs: Refs,
    explicit: bool,
    store: &mut SqliteStore,
    context: &Context,
) -> Result<Exit> {
    let repository = Repository::discover().expect("refs came from it");
    let budget = arguments.budget.or_else(|| suite.info.budget_s.map(Duration::from_secs_f64));
    // Where the caller named the commits the history must lie before both of them.
    let before = refs.base.commit.clone();
    let fits = |run: &Run| {
        let ancestor = |commit: &String| !run.dirty && repository.is_ancestor(commit, &before);
        !explicit || run.commit.as_ref().is_some_and(ancestor)
    };
    let mut subjects = Subjects::new(&repository, refs, suite, explicit);
    let sessions = if arguments.all_pairs { 0 } else { pairs::sessions(arguments, suite, store, &fits)? };
    let screened = if sessions >= K_SCREEN {
        let subject = subjects.head_subject(context)?;
        let measured = measure(suite, &subject, &arguments.select, &arguments.measure, store, context)?;
        if measured.ending == Ending::Cancelled {
            return Ok(Exit::Environment);
        }
        let base = choose_base(arguments, &measured.run, None, pairs::SCREEN_STAND_INS, store, &fits)?;
        Some(Screened::new(measured.run, base, store)?)
    } else {
        None
    };
    let judged = screened.as_ref().map(|screened| screened.judge(gate(arguments, &screened.head)));
    let Some(paired) =
        pairs::session(arguments, suite, &mut subjects, judged.as_ref(), sessions, budget, store, context)?
    else {
        let Some(screened) = screened else {
            context.tell("no case of this selection can run here; `regrade list` says why");
            return Ok(Exit::Nothing);
        };
        // Nothing was suspicious: history says it all.
        return finish(arguments, &screened, None, store, context);
    };
    drop(judged);
    if paired.ending() == Ending::Cancelled {
        return Ok(Exit::Environment);
    }
    if let Some(screened) = screened {
        return finish(arguments, &screened, Some(&paired), store, context);
    }
    let (base, head) = paired.arms();
    let arm = Base { runs: vec![base.clone()], notes: Vec::new() };
    let screened = Screened::new(head.clone(), arm, store)?;
    finish(arguments, &screened, Some(&paired), store, context)
}

/// The suite's file; what stored runs come from is not said.
fn suite_file(arguments: &Compare) -> Option<String> {
    let path = Target::of(arguments).ok()?.suite?;
    path.is_relative().then(|| path.display().to_string())
}

/// The severity of a word of the command line.
pub fn severity(word: &str) -> Severity {
    *Severity::ALL.iter().find(|severity| severity.as_str() == word).expect("clap takes these words")
}

const fn demand(arguments: &Compare) -> Demand {
    Demand { require_decision: arguments.require_decision }
}

fn gate(arguments: &Compare, head: &Run) -> Severity {
    arguments.gate.as_deref().map_or(head.suite.gate, severity)
}

/// Head and its base with everything the verdicts read.
struct Screened {
    head: Run,
    base: Base,
    head_launches: Vec<LaunchSummary>,
    history: Vec<Session>,
    redefined: BTreeSet<CaseId>,
    gone: BTreeSet<CaseId>,
    accepted: Accepted,
}

impl Screened {
    fn new(head: Run, mut base: Base, store: &SqliteStore) -> Result<Self> {
        if head.status != RunStatus::Complete {
            base.notes.push("head is not complete: the session ended before every launch was made".to_owned());
        }
        let head_launches = store.summaries(head.id)?;
        let mut history = Vec::new();
        let mut redefined = BTreeSet::new();
        for run in &base.runs {
            let other = verdict::base::redefined(&head.cases, &run.cases);
            let mut launches = store.summaries(run.id)?;
            launches.retain(|launch| !other.contains(&launch.case));
            redefined.extend(other);
            history.push(Session { run: run.id, launches });
        }
        let gone = base.runs.first().map(|newest| gone(&head, newest)).unwrap_or_default();
        let accepted = Accepted::read(&head, &base.runs, &mut history, store)?;
        Ok(Self { head, base, head_launches, history, redefined, gone, accepted })
    }

    fn side(&self) -> Head<'_> {
        Head { run: self.head.id, cases: &self.head.cases, launches: &self.head_launches }
    }

    fn judge(&self, gate: Severity) -> Judgement<'_> {
        verdict::judge(self.side(), &self.history, &self.gone, gate)
    }
}

/// Decides, writes the report, and says how it ended.
fn finish(
    arguments: &Compare,
    screened: &Screened,
    paired: Option<&Paired>,
    store: &SqliteStore,
    context: &Context,
) -> Result<Exit> {
    let report = judge(arguments, screened, paired, store)?;
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

/// Judges and builds the report.
fn judge(arguments: &Compare, screened: &Screened, paired: Option<&Paired>, store: &SqliteStore) -> Result<Report> {
    let (head, base) = (&screened.head, &screened.base);
    let gate = gate(arguments, head);
    let (mut judged, info): (Judgement<'_>, Option<PairedInfo>) = match paired {
        None => (screened.judge(gate), None),
        Some(paired) => {
            let by_history = head.arm.is_none().then(|| screened.judge(gate));
            (paired.judgement(by_history, gate), Some(paired.info()))
        }
    };
    let mut notes = base.notes.clone();
    notes.extend(screened.accepted.apply(&mut judged, arguments.waivers.as_deref(), gate)?);
    let targets = target::judge(screened.side());
    let decision = policy::decide_suite(&judged.rows, &targets, gate, demand(arguments));
    notes.extend(screened.redefined.iter().map(|case| {
        format!("`{case}` did other work in earlier runs (its definition changed); those do not count as its base")
    }));
    let prices = store.prices(head.id)?;
    if !prices.is_empty() {
        let earlier = base.runs.iter().map(|run| store.prices(run.id)).collect::<Result<Vec<_>, _>>()?.concat();
        notes.extend(build::other_prices(&prices, &earlier));
    }
    if let Some(newest) = base.runs.first() {
        let programs = store.evidence(head.id, Evidence::XLA)?;
        if !programs.is_empty() {
            notes.extend(build::other_programs(&programs, &store.evidence(newest.id, Evidence::XLA)?));
        }
    }
    let next = if paired.is_some() { None } else { advice(arguments, head, base, &mut notes) };
    let samples = SampleReader::new(store, &judged.rows);
    let report = build::report(
        Parts {
            head,
            head_launches: &screened.head_launches,
            base: &base.runs.iter().collect::<Vec<_>>(),
            history: &screened.history,
            judgement: &judged,
            targets: &targets,
            decision: &decision,
            suite_file: suite_file(arguments),
            gate,
            notes,
            next,
            paired: info,
            prices,
            at: Timestamp::now(),
        },
        &|run, launch, case, metric| samples.get(run, launch, case, metric),
    );
    samples.failed()?;
    Ok(report)
}
