//! A measuring session: suite → plan → launches → store. Shared by `run` and `compare`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::Timestamp;

use crate::backend::xla::Compile;
use crate::backend::{self, Availability, BACKENDS, Backend};
use crate::cli::{Clocks, Measure, Select};
use crate::command::context::Context;
use crate::command::git::WorkTree;
use crate::command::lock::Lock;
use crate::command::progress::Progress;
use crate::command::{arms, inject, secret, usage};
use crate::domain::{
    Case, CaseRecord, Launch, Outcome, OutcomeKind, Plan, PlanItem, Run, RunId, RunStatus, Skip, Testbed, Workload,
};
use crate::hardware;
use crate::render::format;
use crate::runner::{self, Ending};
use crate::store::sqlite::SqliteStore;
use crate::store::{Arms, RunQuery, Store, StoreError};
use crate::suite::{BackendView, HardwareFacts, Selection, Suite};

/// Seed of weights and inputs: the same in every run, because runs that are compared must do the same work.
pub const DATA_SEED: u64 = 0x5eed;

/// Runs among which the last of this machine is looked for.
const LOOKED_BACK: u32 = 100;

/// Set by Ctrl-C or SIGTERM.
pub static CANCELLED: AtomicBool = AtomicBool::new(false);

/// Lets Ctrl-C and SIGTERM end the session with what was measured kept.
pub fn listen_for_signals() -> Result<()> {
    match ctrlc::set_handler(|| CANCELLED.store(true, Ordering::SeqCst)) {
        Ok(()) | Err(ctrlc::Error::MultipleHandlers) => Ok(()),
        Err(error) => Err(error).context("cannot listen for Ctrl-C"),
    }
}

/// What a session did.
#[derive(Debug)]
pub struct Measured {
    /// The run, as it stands in the store now.
    pub run: Run,
    /// Why it ended.
    pub ending: Ending,
}

/// A suite with the names of the backends it may use.
pub fn load_suite(path: &Path) -> Result<Suite> {
    let names: Vec<&str> = BACKENDS.iter().map(|backend| backend.name()).collect();
    Ok(Suite::load(path, &names)?)
}

/// The suite file asked for, or the one for this machine: `suites/quickstart.toml`, or the only one there is.
pub fn suite_path(given: Option<&PathBuf>) -> Result<PathBuf> {
    if let Some(path) = given {
        return Ok(path.clone());
    }
    let folder = Path::new("suites");
    let quickstart = folder.join("quickstart.toml");
    if quickstart.is_file() {
        return Ok(quickstart);
    }
    let found = suites_in(folder).unwrap_or_default();
    match found.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(usage("there is no suites/ folder here with a suite in it; name a suite file")),
        several => {
            let names: Vec<String> = several.iter().map(|path| path.display().to_string()).collect();
            Err(usage(format!("several suites are here, name one: {}", names.join(", "))))
        }
    }
}

/// As [`suite_path`]; where none is asked for, the suite of the newest run that was measured on this machine: the file that a command
/// line of its runs named, else one of its name in `suites/`.
pub fn suite_path_again(given: Option<&PathBuf>, context: &Context) -> Result<PathBuf> {
    if given.is_some() || !context.db.exists() {
        return suite_path(given);
    }
    let host = hardware::testbed(BTreeMap::new());
    let query = RunQuery { arms: Arms::Without, limit: Some(LOOKED_BACK), ..RunQuery::default() };
    let here = |run: &Run| host.facts.iter().all(|(name, value)| run.testbed.facts.get(name) == Some(value));
    let runs = context.stored()?.runs(&query)?;
    let Some(last) = runs.iter().find(|run| here(run)) else { return suite_path(None) };
    // The last command line may have left it out, as this one does.
    let lines = runs.iter().filter(|run| run.suite.name == last.suite.name).map(|run| run.command_line.as_str());
    let named = lines.flat_map(str::split_whitespace).map(PathBuf::from);
    let named: Vec<PathBuf> =
        named.filter(|path| path.extension().is_some_and(|end| end == "toml") && path.is_file()).collect();
    // One that is broken since is its reader's to refuse, not a reason for another.
    let is_last = |path: &PathBuf| load_suite(path).is_ok_and(|suite| suite.info.name == last.suite.name);
    let name = format!("\"{}\"", last.suite.name);
    let broken = |path: &PathBuf| std::fs::read_to_string(path).is_ok_and(|text| text.contains(&name));
    let kept = suites_in(Path::new("suites")).unwrap_or_default();
    let all = || named.iter().chain(&kept);
    let found = all().find(|path| is_last(path)).or_else(|| all().find(|path| broken(path))).ok_or_else(|| {
        let name = &last.suite.name;
        usage(format!(
            "`{name}`, the suite that was measured here last, is in no file that is found: name the suite to take"
        ))
    })?;
    context.tell(&format!("{}: the suite that was measured here last; name another to take it", found.display()));
    Ok(found.clone())
}

/// Suite files of a folder, by name.
pub fn suites_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    found.sort();
    Ok(found)
}

/// Whether this build's timings mean nothing. Tests of the whole program, which run a debug build, say that they do.
pub fn debug_build() -> bool {
    cfg!(debug_assertions) && std::env::var_os("REGRADE_TRUST_DEBUG_BUILD").is_none()
}

/// What each backend offers here, asked once.
pub fn machine() -> Vec<(&'static str, Availability)> {
    BACKENDS.iter().map(|backend| (backend.name(), backend.availability())).collect()
}

/// The plan of a suite on this machine.
pub fn plan(
    suite: &Suite,
    select: &Select,
    machine: &[(&'static str, Availability)],
    seed: u64,
    launches: Option<u32>,
) -> Result<Plan> {
    let backends = if select.compile_only { vec![Compile.name().to_owned()] } else { select.backend.clone() };
    let selection = Selection { filters: select.filter.clone(), tags: select.tag.clone(), backends };
    let supports: Vec<_> = BACKENDS.iter().map(|backend| move |workload: &_| backend.supports(workload)).collect();
    let views: Vec<BackendView<'_>> = machine
        .iter()
        .zip(&supports)
        .map(|((name, availability), supports)| BackendView {
            name,
            ready: match availability {
                Availability::Ready { devices, .. } => {
                    let fact = |name: &str| devices.first().and_then(|device| device.facts.get(name));
                    Ok(HardwareFacts {
                        compute_capability: fact("compute_capability").and_then(serde_json::Value::as_f64),
                        memory: fact("memory_bytes").and_then(serde_json::Value::as_u64).or_else(hardware::memory),
                        cores: hardware::cores().map(|cores| cores as u64),
                        device: devices.first().map(|device| device.name.clone()),
                    })
                }
                Availability::Unavailable(skip) => Err(skip.clone()),
            },
            supports,
        })
        .collect();
    Ok(suite.plan(&selection, &views, seed, launches)?)
}

/// The testbed: this host with the stable facts of every backend the plan uses, and the clock that was asked for, which makes it
/// another.
pub fn testbed(plan: &Plan, machine: &[(&'static str, Availability)], clocks: &Clocks) -> Testbed {
    let used = used(plan);
    let mut facts = BTreeMap::new();
    for (name, availability) in machine {
        if let (Some(works), Availability::Ready { facts: stable, .. }) = (used.get(name), availability) {
            let toolkit = backend::find(name).map(|backend| backend.toolkit(works)).unwrap_or_default();
            let all = stable.clone().into_iter().chain(toolkit);
            facts.extend(all.map(|(fact, value)| (format!("backend.{name}.{fact}"), value)));
        }
    }
    facts.extend(clocks.lock_clocks.map(|asked| (Testbed::LOCKED.to_owned(), asked.to_string())));
    hardware::testbed(facts)
}

/// The compiler that made this program, and which builds of engines do the plan's work.
fn toolchain(plan: &Plan) -> String {
    let build =
        |(name, works): (&str, Vec<&Workload>)| Some(format!("{name}: {}", backend::find(name)?.build(&works)?));
    let builds = used(plan).into_iter().filter_map(build);
    std::iter::once(env!("REGRADE_RUSTC").to_owned()).chain(builds).collect::<Vec<_>>().join(", ")
}

/// Backends of the cases that are not skipped, each with its work.
fn used(plan: &Plan) -> BTreeMap<&str, Vec<&Workload>> {
    let mut used: BTreeMap<&str, Vec<&Workload>> = BTreeMap::new();
    for case in plan.cases.iter().filter(|case| case.skip.is_none()) {
        used.entry(&case.backend).or_default().push(&case.workload);
    }
    used
}

/// A seed that a JSON number keeps in every reader: 53 bits.
pub fn fresh_seed() -> u64 {
    RunId::fresh().0.as_u64_pair().1 & ((1 << 53) - 1)
}

/// What a session measures.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Its programs.
    pub programs: runner::Tree,
    /// Where they come from.
    pub tree: WorkTree,
}

impl Subject {
    /// This very program, and commands as they are found here.
    pub fn here() -> Result<Self> {
        let programs = runner::Tree { workers: vec![own_program()?], ..runner::Tree::default() };
        Ok(Self { programs, tree: WorkTree::detect() })
    }

    /// As [`Self::here`], with what the suite's commands run built in place first. Built-in workloads need no build here:
    /// this very program runs them.
    pub fn built_here(suite: &Suite, context: &Context) -> Result<Self> {
        if suite.build.worker.is_none() {
            listen_for_signals()?;
            arms::build_here(&suite.build, &CANCELLED, context)?;
        }
        Self::here()
    }
}

/// Measures a suite now and stores every launch as it ends.
pub fn measure(
    suite: &Suite,
    subject: &Subject,
    select: &Select,
    arguments: &Measure,
    store: &mut SqliteStore,
    context: &Context,
) -> Result<Measured> {
    listen_for_signals()?;
    let machine = machine();
    let (run, plan) = if arguments.resume {
        resumed(suite, select, arguments, store, &machine, &subject.tree)?
    } else {
        fresh(suite, select, arguments, &machine, subject)?
    };
    let extra = inject::parse(&arguments.inject, &plan)?;
    let lock = Lock::take(arguments.clocks.lock_clocks, plan.cases.iter(), context)?;
    if arguments.resume {
        store.reopen_run(run.id)?;
    } else {
        store.begin_run(&run)?;
    }
    let done: BTreeSet<_> = store.summaries(run.id)?.into_iter().map(|launch| (launch.case, launch.index)).collect();
    let items: Vec<(u32, PlanItem)> = (0..)
        .zip(plan.order.iter().copied())
        .filter(|(_, item)| !done.contains(&(plan.cases[item.case].id.clone(), item.launch)))
        .collect();
    let settings = runner::Settings {
        harness: own_program()?,
        tree: subject.programs.clone(),
        seed: DATA_SEED,
        inject: extra,
        budget: plan.suite.budget_s.map(Duration::from_secs_f64),
        shared: runner::Shared::new()?,
        locked: lock.as_ref().map(Lock::locked),
        secrets: secret::from_environment(),
        prices: plan.prices.clone(),
        cancel: &CANCELLED,
    };
    let cases = items.iter().map(|(_, item)| item.case).collect::<BTreeSet<_>>().len();
    context.tell(&format!(
        "{}: {} of {} on {}, order seed {}",
        plan.suite.name,
        format::plural(items.len(), "launch", "launches"),
        format::plural(cases, "case", "cases"),
        run.testbed.label(),
        plan.seed
    ));
    let progress = Progress::new(context.quiet);
    let mut keep = |launch: &Launch| keep_patiently(store, run.id, launch).map_err(Into::into);
    let ending = runner::run(&plan, &items, &settings, &mut keep, &mut |event| progress.listen(&event));
    progress.finish();
    let restored = lock.map_or(Ok(()), Lock::put_back);
    let status = if matches!(ending, Ok(Ending::Complete)) { RunStatus::Complete } else { RunStatus::Interrupted };
    store.finish_run(run.id, status, Timestamp::now())?;
    let ending = ending?;
    restored?;
    match ending {
        Ending::Complete => {}
        Ending::Cancelled => {
            context.tell(&format!("interrupted; what was measured is kept, `{}` goes on", go_on(&run)));
        }
        Ending::OutOfBudget => context.tell(&format!("the suite's budget is used up; `{}` goes on", go_on(&run))),
    }
    Ok(Measured { run: store.run(&run.id.to_string())?, ending })
}

/// The command line that goes on with a run.
pub fn go_on(run: &Run) -> String {
    format!("{} --resume", anew(&run.command_line))
}

/// A command line as it begins anew.
pub fn anew(command_line: &str) -> String {
    command_line.replace(" --resume", "")
}

/// Stores a launch; while another process holds the database for long (an import, a prune), tries again for some
/// minutes rather than lose what was measured.
pub fn keep_patiently(store: &mut SqliteStore, run: RunId, launch: &Launch) -> Result<(), StoreError> {
    const TRIES: u32 = 30;
    for _ in 1..TRIES {
        match store.put_launch(run, launch) {
            Err(StoreError::Busy { .. }) if !CANCELLED.load(Ordering::SeqCst) => {}
            other => return other,
        }
    }
    store.put_launch(run, launch)
}

/// This very program: on Linux by a name that stays it, even when a build replaces the file during the session.
pub fn own_program() -> Result<PathBuf> {
    if cfg!(target_os = "linux") {
        return Ok(PathBuf::from(format!("/proc/{}/exe", std::process::id())));
    }
    std::env::current_exe().context("cannot find my own program")
}

fn fresh(
    suite: &Suite,
    select: &Select,
    arguments: &Measure,
    machine: &[(&'static str, Availability)],
    subject: &Subject,
) -> Result<(Run, Plan)> {
    let id = RunId::fresh();
    let seed = arguments.seed.unwrap_or_else(fresh_seed);
    let mut plan = plan(suite, select, machine, seed, arguments.launches)?;
    inject::parse(&arguments.inject, &plan)?;
    if subject.programs.folder.is_none() {
        // Of a case that is skipped here no file is needed, but whoever repairs the one should know of the other.
        for case in &mut plan.cases {
            if let (Some(absent), Some(skip)) = (absent_file(case), &mut case.skip) {
                skip.remedy = format!("{}; besides, it {absent}", skip.remedy);
            }
        }
    }
    let mut run = Header { tree: subject.tree.clone(), testbed: testbed(&plan, machine, &arguments.clocks) }.run(&plan);
    if subject.programs.folder.is_none() {
        check_files(&plan)?;
    }
    run.id = id;
    run.synthetic = inject::stamp(&arguments.inject);
    Ok((run, plan))
}

/// The circumstances of a run.
#[derive(Debug, Clone)]
pub struct Header {
    /// What is measured.
    pub tree: WorkTree,
    /// Where.
    pub testbed: Testbed,
}

impl Header {
    /// A run of a plan that begins now.
    pub fn run(&self, plan: &Plan) -> Run {
        Run {
            id: RunId::fresh(),
            suite: plan.suite.clone(),
            commit: self.tree.commit.clone(),
            branch: self.tree.branch.clone(),
            dirty: self.tree.dirty,
            testbed: self.testbed.clone(),
            toolchain: toolchain(plan),
            regrade_version: env!("CARGO_PKG_VERSION").to_owned(),
            command_line: typed(),
            seed: plan.seed,
            started: Timestamp::now(),
            finished: None,
            status: RunStatus::Running,
            synthetic: None,
            debug_build: debug_build(),
            arm: None,
            cases: plan.cases.iter().map(Self::record).collect(),
        }
    }

    /// A case as a run records it.
    pub fn record(case: &Case) -> CaseRecord {
        let skipped = |skip: &Skip| Outcome::because(OutcomeKind::Skipped, format!("{}; {}", skip.reason, skip.remedy));
        CaseRecord { case: case.clone(), skipped: case.skip.as_ref().map(skipped) }
    }
}

/// The command that runs, as it was typed, without its secrets.
pub fn typed() -> String {
    let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    secret::command_line(words, &secret::from_environment())
}

/// Finds absent checkpoints and kernels before anything is measured, not minutes later in a launch.
fn check_files(plan: &Plan) -> Result<()> {
    let absent = plan.cases.iter().filter(|case| case.skip.is_none()).find_map(|case| Some((case, absent_file(case)?)));
    match absent {
        Some((case, absent)) => {
            Err(usage(format!("`{}` {absent}; paths of a suite start from the current folder", case.id)))
        }
        None => Ok(()),
    }
}

/// What a case needs that is not here: `takes its code from …`.
pub fn absent_file(case: &Case) -> Option<String> {
    let weights = case.workload.text("checkpoint").ok().map(|path| ("its weights", path));
    let code = case.workload.kernel.iter().flat_map(|kernel| kernel.sources()).map(|path| ("its code", path));
    let folder = std::env::current_dir().unwrap_or_default();
    if let Ok(program) = case.workload.text("program")
        && !backend::is_program_here(program)
    {
        return Some(format!(
            "runs `{program}`, and there is no such program in {} or its suites/ folder",
            folder.display()
        ));
    }
    let (what, path) = weights.into_iter().chain(code).find(|(_, path)| !Path::new(path).is_file())?;
    Some(format!("takes {what} from `{path}`, and there is no such file in {}", folder.display()))
}

/// The newest interrupted run of this suite here, with the plan it was following.
fn resumed(
    suite: &Suite,
    select: &Select,
    arguments: &Measure,
    store: &SqliteStore,
    machine: &[(&'static str, Availability)],
    tree: &WorkTree,
) -> Result<(Run, Plan)> {
    let here = testbed(&plan(suite, select, machine, 0, None)?, machine, &arguments.clocks).key;
    // Arms of a paired session follow its coin, and nobody goes on with one of them alone.
    let query = RunQuery {
        suite: Some(suite.info.name.clone()),
        testbed: Some(here),
        arms: Arms::Without,
        ..RunQuery::default()
    };
    let run = store
        .runs(&query)?
        .into_iter()
        .find(|run| run.status == RunStatus::Interrupted)
        .ok_or_else(|| usage(format!("no interrupted run of `{}` to resume on this testbed", suite.info.name)))?;
    let plan = plan(suite, select, machine, run.seed, arguments.launches)?;
    let mut changed = Vec::new();
    if run.suite.hash != plan.suite.hash {
        changed.push("the suite");
    }
    if run.commit != tree.commit || run.dirty != tree.dirty {
        changed.push("the commit");
    }
    if run.toolchain != toolchain(&plan) {
        changed.push("the compiler or an engine");
    }
    if run.suite.launches != plan.suite.launches {
        changed.push("the number of launches");
    }
    // Costs of one run are of one price.
    if store.prices(run.id)?.iter().any(|paid| !plan.prices.contains(paid)) {
        changed.push("the prices");
    }
    if run.synthetic != inject::stamp(&arguments.inject) || run.debug_build != debug_build() {
        changed.push("the way of measuring");
    }
    if !run.cases.iter().map(|record| &record.case.id).eq(plan.cases.iter().map(|case| &case.id)) {
        changed.push("the selection of cases");
    }
    if !changed.is_empty() {
        return Err(usage(format!(
            "run {} cannot be resumed: {} changed since; it was started as `{}`; measure anew without --resume",
            run.id,
            changed.join(" and "),
            run.command_line
        )));
    }
    Ok((run, plan))
}
