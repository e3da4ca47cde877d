//! Reports that were written where somebody else's code ran: where they come from, by GitHub's word, and what to decide by.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use wildmatch::WildMatch;

use crate::backend::BACKENDS;
use crate::cli::Post;
use crate::command::accepted::today;
use crate::command::compare::{pairs, severity};
use crate::command::context::Context;
use crate::command::post::again::{self, Law};
use crate::command::usage;
use crate::github::Hub;
use crate::github::accepted::{AcceptedHere, accepted};
use crate::github::artifact::{self, Origin, Refusal};
use crate::github::check::Trust;
use crate::github::event::{Event, Kind, Repository};
use crate::github::hub::all;
use crate::report::Report;
use crate::report::foreign;
use crate::store::Store;
use crate::store::sqlite::SqliteStore;
use crate::suite::{Suite, waivers};
use crate::verdict::builds::Builds;

/// Whose word says what was measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stranger {
    /// A run of another workflow.
    Run(u64),
    /// A pull request.
    Pull {
        /// Its number.
        number: u64,
        /// The commit that the event names, full hash; absent: the head as it is now.
        sha: Option<String>,
        /// Somebody here has read that commit.
        reviewed: bool,
    },
}

/// What is to be posted.
#[derive(Debug)]
pub enum Found {
    /// Reports with every verdict made again.
    Reports(Vec<Report>),
    /// Nothing was measured, and this is why.
    Nothing(String),
    /// It is still being measured.
    Running,
}

/// Whether what is to be posted was measured by code whose word does not count: everything but what a job measured that was
/// started by a branch of this repository, a clock, or a merge queue.
///
/// # Errors
/// Where the command line contradicts the event, or nobody says whose report it is.
pub fn of(arguments: &Post, event: Option<&Event>) -> Result<Option<Stranger>> {
    let others = &arguments.others;
    let upstream = event.and_then(|event| event.upstream.as_ref());
    if let (Some(run), Some(upstream)) = (others.run_id, upstream)
        && run != upstream.run
    {
        return Err(usage(format!("--run-id {run}: this workflow was started by run {}", upstream.run)));
    }
    if let Some(run) = others.run_id.or(upstream.map(|upstream| upstream.run)) {
        return Ok(Some(Stranger::Run(run)));
    }
    let Some(event) = event else { return Ok(None) };
    let number = event.pull_request;
    let pull = |sha: Option<String>, reviewed: bool| {
        let number = number.ok_or_else(|| {
            usage("the event names no pull request, so that nobody knows whose report this is; give `pr` beside `sha`")
        })?;
        Ok(Some(Stranger::Pull { number, sha, reviewed }))
    };
    match event.kind {
        Kind::PullRequest if event.fork => pull(event.head.clone(), false),
        // `fork` stands for a commit that whoever started the workflow has named.
        Kind::Dispatch if event.fork => pull(event.head.clone(), true),
        Kind::Dispatch | Kind::Comment if number.is_some() => pull(None, false),
        Kind::WorkflowRun => Err(usage("this workflow was started by a run that the event does not name")),
        Kind::PullRequest | Kind::Dispatch | Kind::Push | Kind::Schedule | Kind::MergeGroup | Kind::Comment => Ok(None),
    }
}

/// The reports with every verdict made again; why there is nothing to post, where the pull request has moved on.
pub fn decide(
    stranger: &Stranger,
    arguments: &Post,
    repository: &Repository,
    author: Option<&str>,
    hub: &mut dyn Hub,
    context: &Context,
) -> Result<std::result::Result<(Origin, Found), String>> {
    let found = match stranger {
        Stranger::Run(run) => artifact::of_run(hub, repository, *run).map(|run| (run.origin.clone(), Some(run))),
        Stranger::Pull { number, sha, reviewed } => {
            artifact::of_pull(hub, repository, *number, sha.as_deref(), *reviewed).map(|origin| (origin, None))
        }
    };
    let (origin, run) = match found {
        Ok(found) => found,
        Err(Refusal::Stale(why)) => return Ok(Err(why)),
        Err(other) => return Err(refused(other)),
    };
    if !is_judged(&origin.base, arguments, repository, hub)? {
        return Ok(Err(format!(
            "what is to be merged into `{}` is not judged; --base names branches beside the default one",
            origin.base
        )));
    }
    if arguments.start {
        return Ok(Ok((origin, Found::Running)));
    }
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for path in &arguments.reports {
        if !path.exists() {
            // The job before this one measured, and left nothing to fetch.
            return Ok(Ok((origin, Found::Nothing("the measurement left no report".to_owned()))));
        }
        files.push((path.display().to_string(), read(path)?));
    }
    if let (Some(run), true) = (run, files.is_empty()) {
        let Some(conclusion) = run.conclusion else {
            return Err(usage(format!("workflow run {} is not completed", run.id)));
        };
        let name = &arguments.others.artifact;
        let Some(archive) = artifact::fetch(hub, repository, run.id, name).map_err(refused)? else {
            let why = format!("its workflow run ended as {conclusion} and left no report");
            return Ok(Ok((origin, Found::Nothing(why))));
        };
        let bytes = foreign::unpack(&archive).map_err(|error| usage(error.to_string()))?;
        files.push((format!("artifact `{name}` of run {}", run.id), bytes));
    }
    let accepted = author.map_or_else(Vec::new, |author| in_thread(repository, &origin, author, hub, context));
    let mut reports = Vec::new();
    for (name, bytes) in &files {
        let said = foreign::read(bytes).map_err(|error| usage(format!("{name}: {error}")))?;
        let report = by_law(&said, arguments, repository, &origin, &accepted, hub, context)?;
        reports.push(report.map_err(|error| usage(format!("{name}: {error}")))?);
    }
    Ok(Ok((origin, Found::Reports(reports))))
}

/// Whether pull requests into this branch are judged. Whoever opens one chooses its base, and with it the law.
fn is_judged(base: &str, arguments: &Post, repository: &Repository, hub: &mut dyn Hub) -> Result<bool> {
    if arguments.others.base.iter().any(|glob| WildMatch::new(glob).matches(base)) {
        return Ok(true);
    }
    Ok(artifact::default_branch(hub, repository)? == base)
}

/// Refusals of the API are the environment's; the others are about what was asked for.
fn refused(refusal: Refusal) -> anyhow::Error {
    match refusal {
        Refusal::Hub(error) => error.into(),
        Refusal::Stale(why) | Refusal::Unfit(why) => usage(why),
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let shown = || format!("cannot read {}", path.display());
    let mut bytes = Vec::new();
    File::open(path).with_context(shown)?.take(foreign::MOST_BYTES + 1).read_to_end(&mut bytes).with_context(shown)?;
    Ok(bytes)
}

/// Finds what to decide by, and decides.
fn by_law(
    said: &Report,
    arguments: &Post,
    repository: &Repository,
    origin: &Origin,
    accepted: &[AcceptedHere],
    hub: &mut dyn Hub,
    context: &Context,
) -> Result<std::result::Result<Report, foreign::Suspect>> {
    let others = &arguments.others;
    let file = others.suite.as_ref().ok_or_else(|| {
        usage("--suite is missing: say by which suite of the base branch to judge; the report may not choose it")
    })?;
    if !is_plain(file) {
        return Err(usage("--suite must be a path from the top of the repository, such as suites/gpu.toml"));
    }
    let text = artifact::file(hub, repository, file, &origin.base)?;
    let text =
        text.ok_or_else(|| usage(format!("{file} is not on `{}`, so that there is nothing to judge by", origin.base)))?;
    let names: Vec<&str> = BACKENDS.iter().map(|backend| backend.name()).collect();
    let suite = Suite::parse(&format!("{file} on {}", origin.base), &text, &names)?;
    // What the people of this repository accept they say in the change itself, for review; strangers may not.
    let accepted_at = if origin.trust == Trust::Own { &origin.sha } else { &origin.base };
    let waivers = match artifact::file(hub, repository, waivers::FILE, accepted_at)? {
        Some(text) => waivers::parse(waivers::FILE, &text)?,
        None => Vec::new(),
    };
    let (noise, builds) = experience(said, &suite, context)?;
    let gate = others.gate.as_deref().map_or(suite.info.gate, severity);
    let law = Law {
        suite: &suite,
        file,
        gate,
        filter: &others.filter,
        waivers: &waivers,
        accepted,
        noise,
        builds,
        today: today(),
    };
    // Numbers that nobody would measure must not end the program, whatever they meet on the way.
    let again = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| again::again(said, &law, origin)));
    Ok(again.unwrap_or_else(|_| Err(foreign::Suspect::Report("has numbers that cannot be decided on".to_owned()))))
}

/// What people accepted in the pull request's thread. A thread that cannot be read stops no post: nothing is excused then.
fn in_thread(
    repository: &Repository,
    origin: &Origin,
    author: &str,
    hub: &mut dyn Hub,
    context: &Context,
) -> Vec<AcceptedHere> {
    let Some(number) = origin.pull_request else { return Vec::new() };
    let list = format!("{}/issues/{number}/comments?per_page=100", repository.path());
    match all(hub, &list, |body| body) {
        Ok(comments) => accepted(&comments, author),
        Err(error) => {
            context.tell(&format!("what was accepted in the thread is not known: {error}"));
            Vec::new()
        }
    }
}

/// What the database here, where there is one, knows of the machine that measured.
fn experience(said: &Report, suite: &Suite, context: &Context) -> Result<(Vec<crate::domain::NoiseModel>, Builds)> {
    let store: Option<SqliteStore> = if context.db.exists() { Some(context.stored()?) } else { None };
    let (name, testbed) = (&suite.info.name, &said.testbed.key);
    let noise = store.as_ref().map(|store| store.noise(name, testbed)).transpose()?.unwrap_or_default();
    let commits = said.paired.as_ref().map(|paired| [paired.base_commit.as_str(), paired.head_commit.as_str()]);
    let builds = match commits.filter(|_| !suite.build.command.is_empty()) {
        None => Builds::same(),
        Some(commits) => {
            let past = store.as_ref().map(|store| pairs::past(name, testbed, store)).transpose()?.unwrap_or_default();
            Builds::learn(&past, commits, suite.build.layouts as usize)
        }
    };
    Ok((noise, builds))
}

/// A path of a TOML file that stays in the repository.
fn is_plain(path: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    };
    path.len() <= 200 && Path::new(path).extension().is_some_and(|end| end == "toml") && path.split('/').all(part)
}
