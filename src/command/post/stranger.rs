//! Reports that were written where somebody else's code ran: where they come from, by GitHub's word, and what to decide by.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::backend::BACKENDS;
use crate::cli::Post;
use crate::command::accepted::today;
use crate::command::compare::{pairs, severity};
use crate::command::context::Context;
use crate::command::post::again::{self, Law};
use crate::command::usage;
use crate::domain::{Build, Severity, SuiteInfo};
use crate::github::Hub;
use crate::github::accepted::{AcceptedHere, accepted};
use crate::github::artifact::{self, Origin, Refusal};
use crate::github::event::{Event, Kind, Repository};
use crate::github::hub::all;
use crate::report::Report;
use crate::report::foreign;
use crate::store::Store;
use crate::store::sqlite::SqliteStore;
use crate::suite::{Suite, waivers};
use crate::verdict::builds::Builds;

/// The largest report file read, bytes.
const MOST_FILE: u64 = 64 << 20;

/// Whose word says what was measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stranger {
    /// A run of another workflow.
    Run(u64),
    /// A pull request's commit, named by the event.
    Pull {
        /// Its number.
        number: u64,
        /// Full hash.
        sha: String,
    },
}

/// Whether what is to be posted comes from code that may not post.
///
/// # Errors
/// Where the command line contradicts the event.
pub fn of(arguments: &Post, event: Option<&Event>) -> Result<Option<Stranger>> {
    let upstream = event.and_then(|event| event.upstream.as_ref());
    if let (Some(run), Some(upstream)) = (arguments.others.run_id, upstream)
        && run != upstream.run
    {
        return Err(usage(format!("--run-id {run}: this workflow was started by run {}", upstream.run)));
    }
    if let Some(run) = arguments.others.run_id.or(upstream.map(|upstream| upstream.run)) {
        return Ok(Some(Stranger::Run(run)));
    }
    let Some(event) = event.filter(|event| event.fork && !arguments.start) else { return Ok(None) };
    match (event.pull_request, &event.head) {
        (Some(number), Some(sha)) => Ok(Some(Stranger::Pull { number, sha: sha.clone() })),
        _ if event.kind == Kind::Dispatch => {
            Err(usage("the workflow was started with `sha` and without `pr`; give both"))
        }
        _ => Err(usage("the event names no pull request, so that nobody knows whose report this is")),
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
) -> Result<std::result::Result<(Origin, Vec<Report>), String>> {
    let found = match stranger {
        Stranger::Run(run) => artifact::of_run(hub, repository, *run),
        Stranger::Pull { number, sha } => artifact::of_pull(hub, repository, *number, sha),
    };
    let origin = match found {
        Ok(origin) => origin,
        Err(Refusal::Stale(why)) => return Ok(Err(why)),
        Err(other) => return Err(refused(other)),
    };
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for path in &arguments.reports {
        files.push((path.display().to_string(), read(path)?));
    }
    if let (Stranger::Run(run), true) = (stranger, files.is_empty()) {
        let name = &arguments.others.artifact;
        let archive = artifact::fetch(hub, repository, *run, name).map_err(refused)?;
        let bytes = foreign::unpack(&archive).map_err(|error| usage(error.to_string()))?;
        files.push((format!("artifact `{name}` of run {run}"), bytes));
    }
    let accepted = author.map_or_else(Vec::new, |author| in_thread(repository, &origin, author, hub, context));
    let mut reports = Vec::new();
    for (name, bytes) in &files {
        let said = foreign::read(bytes).map_err(|error| usage(format!("{name}: {error}")))?;
        let report = by_law(&said, arguments, repository, &origin, &accepted, hub, context)?;
        reports.push(report.map_err(|error| usage(format!("{name}: {error}")))?);
    }
    Ok(Ok((origin, reports)))
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
    File::open(path).with_context(shown)?.take(MOST_FILE + 1).read_to_end(&mut bytes).with_context(shown)?;
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
    let file = others.suite.as_ref().or(said.suite_file.as_ref());
    let file = file.ok_or_else(|| usage("the report names no suite file; say which it is with --suite"))?;
    if !is_plain(file) {
        let name = if others.suite.is_some() { "--suite" } else { "the report's suite file" };
        return Err(usage(format!("{name} must be a path from the top of the repository, such as suites/gpu.toml")));
    }
    let suite = if let Some(text) = artifact::file(hub, repository, file, &origin.base)? {
        let names: Vec<&str> = BACKENDS.iter().map(|backend| backend.name()).collect();
        Suite::parse(&format!("{file} on {}", origin.base), &text, &names)?
    } else {
        context.tell(&format!("{file} is not on `{}` yet: nothing is judged by it", origin.base));
        unknown(said)
    };
    // What the people of this repository accept they say in the change itself, for review; strangers may not.
    let accepted_at = if origin.fork { &origin.base } else { &origin.sha };
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
    Ok(again::again(said, &law, origin))
}

/// What people accepted in the pull request's thread. A thread that cannot be read stops no post: nothing is excused then.
fn in_thread(
    repository: &Repository,
    origin: &Origin,
    author: &str,
    hub: &mut dyn Hub,
    context: &Context,
) -> Vec<AcceptedHere> {
    let list = format!("{}/issues/{}/comments?per_page=100", repository.path(), origin.pull_request);
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

/// A suite of which the base branch knows nothing: no case of it is judged.
fn unknown(said: &Report) -> Suite {
    let info = SuiteInfo {
        name: said.suite.clone(),
        description: String::new(),
        gate: Severity::Moderate,
        budget_s: None,
        launches: 1,
        text: String::new(),
        hash: String::new(),
    };
    Suite { info, cases: Vec::new(), reference_workloads: false, build: Build::default() }
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
