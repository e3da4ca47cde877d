//! `regrade post`: takes reports to where people read them. Each surface is made by itself: one that fails stops no other.

mod again;
mod stranger;

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::cli::{Post, Surfaces, Switch};
use crate::command::context::{Context, print};
use crate::command::login::{Session, WORKFLOW_BOT};
use crate::command::post::stranger::Found;
use crate::command::{secret, usage};
use crate::exit::Exit;
use crate::github::artifact::Origin;
use crate::github::check::{self, Annotation, Check, Conclusion, Output, Trust};
use crate::github::comment::{self, MOST_CHARACTERS};
use crate::github::dry::Dry;
use crate::github::event::{Event, Kind, Repository, full_hash};
use crate::github::picture::{self, Picture};
use crate::github::{Call, Hub, HubError, status};
use crate::render::comment::Surroundings;
use crate::render::{self, Style, format};
use crate::report::{Report, Row, TargetRow};

/// Bytes of a job summary (GitHub's documentation: 1 MiB a step), with room for characters that take several.
const SUMMARY: usize = 250_000;
/// Characters of a message of an annotation that a person would read.
const MESSAGE: usize = 1000;

/// Where everything goes.
#[derive(Debug)]
struct Target {
    repository: Repository,
    server_url: String,
    sha: String,
    pull_request: Option<u64>,
    trust: Trust,
    run_url: Option<String>,
}

/// What there is to say.
#[derive(Debug, Clone, Copy)]
enum Tale<'t> {
    /// It is being measured.
    Running,
    /// Nothing was measured, and why.
    Nothing(&'t str),
    /// This was found.
    Reports(&'t [Report]),
}

/// Posts.
pub fn run(arguments: &Post, context: &Context) -> Result<Exit> {
    if !comment::is_key(&arguments.place.key) {
        return Err(usage(format!(
            "--key {}: letters, digits, `-`, `_` and `.`, no two dashes in a row, and neither `bot` nor `accepted`",
            arguments.place.key
        )));
    }
    let job = Job::read(arguments)?;
    let stranger = stranger::of(arguments, job.event.as_ref())?;
    let others = &arguments.others;
    if stranger.is_none() && (others.gate.is_some() || others.suite.is_some() || !others.filter.is_empty()) {
        return Err(usage(
            "--gate, --suite and --filter are for what others measured; `regrade compare` has decided by its own already",
        ));
    }
    if arguments.dry_run {
        if stranger.is_some() {
            return Err(usage(
                "what others measured is decided again by what GitHub says, which a dry run does not ask",
            ));
        }
        let mut hub = Dry::default();
        let reports = own(arguments)?;
        let target = target(arguments, &job, &reports)?;
        let author = Ok(arguments.place.author.clone().unwrap_or_else(|| WORKFLOW_BOT.to_owned()));
        let tale = if arguments.start { Tale::Running } else { Tale::Reports(&reports) };
        let failed = surfaces(arguments, &target, tale, author, &mut hub, context);
        print(hub.transcript().as_bytes())?;
        return Ok(if failed.is_empty() { Exit::Pass } else { Exit::Environment });
    }
    let mut session = Session::open(&job.api_url, &job.repository, arguments.place.patience)?;
    let author = session.author(arguments.place.author.as_deref());
    let (target, found) = if let Some(stranger) = stranger {
        let author = author.as_deref().ok();
        match stranger::decide(&stranger, arguments, &job.repository, author, &mut session.hub, context)? {
            Ok((origin, found)) => (Target::of(&job, &origin), found),
            Err(stale) => {
                context.tell(&format!("nothing is posted: {stale}"));
                return Ok(Exit::Pass);
            }
        }
    } else {
        let reports = own(arguments)?;
        let found = |reports| if arguments.start { Found::Running } else { Found::Reports(reports) };
        (target(arguments, &job, &reports)?, found(reports))
    };
    let tale = match &found {
        Found::Running => Tale::Running,
        Found::Nothing(why) => Tale::Nothing(why),
        Found::Reports(reports) => Tale::Reports(reports),
    };
    if target.trust == Trust::Fork && its_check(arguments, &target).is_outranked(&mut session.hub, &job.repository)? {
        context.tell(&format!(
            "nothing is posted: {} has a check of people of this repository already, which a fork's does not replace",
            &target.sha[..10]
        ));
        return Ok(Exit::Pass);
    }
    let failed = surfaces(arguments, &target, tale, author, &mut session.hub, context);
    if failed.is_empty() {
        return Ok(Exit::Pass);
    }
    for (surface, why) in &failed {
        crate::command::context::note(&format!("error: the {surface} was not posted: {why}"));
    }
    Ok(Exit::Environment)
}

/// Reports that were measured by code that may post.
fn own(arguments: &Post) -> Result<Vec<Report>> {
    arguments.reports.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Result<Report> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let report: Report = serde_json::from_slice(&bytes).map_err(|error| {
        usage(format!("{}: {error}; give a report.json that `regrade compare` wrote", path.display()))
    })?;
    if report.schema_version > crate::report::SCHEMA_VERSION {
        return Err(usage(format!(
            "{}: report version {}, newer than the {} this regrade knows; use the regrade that wrote it, or a newer one",
            path.display(),
            report.schema_version,
            crate::report::SCHEMA_VERSION
        )));
    }
    Ok(report)
}

/// The repository and the job that posts to it.
#[derive(Debug)]
struct Job {
    event: Option<Event>,
    repository: Repository,
    api_url: String,
    server_url: String,
}

impl Job {
    /// What the command line says, else the event, else (in a dry run) what can be guessed.
    fn read(arguments: &Post) -> Result<Self> {
        let place = &arguments.place;
        let event = Event::read(
            |name| std::env::var(name).ok(),
            |path| std::fs::read_to_string(path).map_err(|error| format!("names {path}: {error}")),
        );
        let said = place.repo.is_some() && (place.sha.is_some() || arguments.others.run_id.is_some());
        // In a job the event says whose code it is about: without it nobody knows, and nothing is believed.
        let in_a_job = std::env::var_os("GITHUB_EVENT_NAME").is_some_and(|name| !name.is_empty());
        let event = match event {
            Ok(event) => Some(event),
            Err(_) if (said && !in_a_job) || arguments.dry_run => None,
            Err(error) => return Err(usage(error.to_string())),
        };
        let repository = match &place.repo {
            Some(text) => {
                Some(Repository::parse(text).ok_or_else(|| usage(format!("--repo {text} is no OWNER/NAME")))?)
            }
            None => event.as_ref().map(|event| event.repository.clone()).or_else(of_origin),
        };
        let repository = repository
            .or_else(|| Repository::parse("OWNER/REPOSITORY").filter(|_| arguments.dry_run))
            .ok_or_else(|| usage("no repository is known; give --repo OWNER/NAME"))?;
        let or = |of: fn(&Event) -> &str, variable: &str, usual: &str| {
            let set = || std::env::var(variable).ok().filter(|value| !value.is_empty());
            event.as_ref().map(|event| of(event).to_owned()).or_else(set).unwrap_or_else(|| usual.to_owned())
        };
        let api_url = or(|event| &event.api_url, "GITHUB_API_URL", "https://api.github.com");
        let server_url = or(|event| &event.server_url, "GITHUB_SERVER_URL", "https://github.com");
        Ok(Self { event, repository, api_url, server_url })
    }
}

impl Target {
    /// What GitHub says of a run that others started.
    fn of(job: &Job, origin: &Origin) -> Self {
        Self {
            repository: job.repository.clone(),
            server_url: job.server_url.clone(),
            sha: origin.sha.clone(),
            pull_request: origin.pull_request,
            trust: origin.trust,
            run_url: origin.url.clone().or_else(|| job.event.as_ref()?.run_url.clone()),
        }
    }
}

/// What is posted about: what the command line says, else the event, else what was measured.
fn target(arguments: &Post, job: &Job, reports: &[Report]) -> Result<Target> {
    let place = &arguments.place;
    let event = job.event.as_ref();
    let sha = match &place.sha {
        Some(text) => Some(full_hash(text).ok_or_else(|| usage(format!("--sha {text} is no full commit hash")))?),
        None => event.and_then(|event| event.head.clone()),
    };
    let measured = |report: &Report| match &report.paired {
        Some(paired) => full_hash(&paired.head_commit),
        None => report.head.commit.as_deref().and_then(full_hash),
    };
    let first = reports.iter().find_map(measured);
    let wanted = sha.clone().or_else(|| first.clone());
    let other = |report: &&Report| measured(report).is_some_and(|measured| Some(&measured) != wanted.as_ref());
    if let (None, Some(report)) = (&place.sha, reports.iter().find(other)) {
        let about = measured(report).unwrap_or_default();
        let wanted = wanted.unwrap_or_default();
        let merge = event.is_some_and(|event| event.kind == Kind::PullRequest);
        let remedy = if merge {
            "the merge commit was measured; check out `ref: ${{ github.event.pull_request.head.sha }}`, or say --sha"
        } else {
            "post what was measured of that commit, or say --sha"
        };
        return Err(usage(format!("a report is about {about}, and not about {wanted}: {remedy}")));
    }
    Ok(Target {
        repository: job.repository.clone(),
        server_url: job.server_url.clone(),
        sha: sha.or(first).ok_or_else(|| usage("no commit is known; give --sha"))?,
        pull_request: place.pr.or_else(|| event.and_then(|event| event.pull_request)),
        trust: if event.is_some_and(|event| event.fork) { Trust::Fork } else { Trust::Own },
        run_url: event.and_then(|event| event.run_url.clone()),
    })
}

/// The repository that `origin` is a clone of.
fn of_origin() -> Option<Repository> {
    let output = std::process::Command::new("git").args(["remote", "get-url", "origin"]).output().ok()?;
    let url = String::from_utf8(output.stdout).ok()?;
    let path = url.trim().trim_end_matches(".git").rsplit(['/', ':']).take(2).collect::<Vec<_>>();
    let [name, owner] = path[..] else { return None };
    Repository::parse(&format!("{owner}/{name}"))
}

fn its_check(arguments: &Post, target: &Target) -> Check {
    Check {
        name: arguments.surfaces.name.clone(),
        sha: target.sha.clone(),
        key: arguments.place.key.clone(),
        trust: target.trust,
        details_url: target.run_url.clone(),
    }
}

/// Makes every surface that is switched on; those that failed, and why.
fn surfaces(
    arguments: &Post,
    target: &Target,
    tale: Tale<'_>,
    author: Result<String>,
    hub: &mut dyn Hub,
    context: &Context,
) -> Vec<(&'static str, String)> {
    let on = |switch: Switch| switch == Switch::On;
    let Surfaces { comment, check, status, summary, pictures, .. } = &arguments.surfaces;
    let mut failed = Vec::new();
    let dry = hub.is_dry();
    let done = |failed: &mut Vec<_>, surface: &'static str, result: Result<String, HubError>| match result {
        Ok(_) if dry => {}
        Ok(what) => context.tell(&what),
        Err(error) => failed.push((surface, error.to_string())),
    };
    let its_check = its_check(arguments, target);
    if let Tale::Running = tale {
        if on(*check) {
            let started = its_check.start(hub, &target.repository);
            done(&mut failed, "check", started.map(|id| format!("check {id} is in progress")));
        }
        if on(*status) {
            let set = set_status(arguments, target, None, "measuring", hub);
            done(&mut failed, "status", set.map(|()| "the status is pending".to_owned()));
        }
        return failed;
    }
    let reports = if let Tale::Reports(reports) = tale { reports } else { &[] };
    let mut around = Surroundings {
        pictures: Vec::new(),
        details_url: target.run_url.clone(),
        untrusted: target.trust != Trust::Own,
    };
    if on(*pictures) && on(*comment) && target.pull_request.is_some() && !reports.is_empty() {
        match draw(reports).and_then(|pictures| {
            let files: Vec<Picture> = pictures.iter().map(|(_, picture)| picture.clone()).collect();
            let branch = &arguments.surfaces.plots_branch;
            let urls = picture::upload(hub, &target.repository, &target.server_url, branch, &files)?;
            Ok(pictures.into_iter().map(|(title, _)| title).zip(urls).collect())
        }) {
            Ok(linked) => around.pictures = linked,
            // A picture is worth a permission, not a failure: a chart in text says the same.
            Err(error) => context.tell(&format!("no pictures, a chart in text instead: {error}")),
        }
    }
    let parts = |most: usize| match tale {
        Tale::Nothing(why) => vec![render::comment::nothing(why, &around)],
        _ => render::comment::parts(reports, &around, most),
    };
    let (conclusion, headline) = match tale {
        Tale::Nothing(_) => (Conclusion::Failure, "nothing was measured".to_owned()),
        _ => (conclusion(reports, target.trust), headline(reports)),
    };
    if on(*comment) {
        match (target.pull_request, author) {
            (Some(number), Ok(author)) => {
                let kept = keep_comment(arguments, target, number, &author, &parts(MOST_CHARACTERS), hub);
                done(&mut failed, "comment", kept);
            }
            (Some(_), Err(error)) => failed.push(("comment", format!("{error:#}"))),
            (None, _) => context.tell("no pull request: no comment; --pr says which where the event does not"),
        }
    }
    if on(*check) {
        let text = as_one(&parts(check::MOST_CHARACTERS), check::MOST_CHARACTERS);
        let (summary, text) = text.split_once('\n').map_or((text.clone(), String::new()), |(first, rest)| {
            (first.trim_start_matches('#').trim().to_owned(), rest.trim().to_owned())
        });
        let secrets = secret::from_environment();
        let annotations = reports.iter().flat_map(|report| annotations(report, &secrets)).collect();
        let output = Output { conclusion, title: headline.clone(), summary, text, annotations };
        let completed = its_check.complete(hub, &target.repository, &output);
        done(&mut failed, "check", completed.map(|()| format!("the check says {}", conclusion.as_str())));
    }
    if on(*status) {
        let text = if conclusion == Conclusion::ActionRequired {
            format!("a fork's measurement waits for a maintainer: {headline}")
        } else {
            headline
        };
        let set = set_status(arguments, target, Some(conclusion), &text, hub);
        done(&mut failed, "status", set.map(|()| "the status is set".to_owned()));
    }
    if on(*summary)
        && let Some(path) = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|path| !path.is_empty())
        && !hub.is_dry()
    {
        let text = parts(SUMMARY).join("\n\n");
        let append = || -> std::io::Result<()> {
            let mut file = std::fs::OpenOptions::new().append(true).create(true).open(&path)?;
            writeln!(file, "{text}")
        };
        match append() {
            Ok(()) => context.tell("the job summary is written"),
            Err(error) => failed.push(("job summary", format!("{}: {error}", path.to_string_lossy()))),
        }
    }
    failed
}

/// As many whole lines of all parts as a text may have: a check has no second one.
fn as_one(parts: &[String], most: usize) -> String {
    /// Room for the last sentence.
    const REST: usize = 200;
    let whole = parts.join("\n\n");
    if whole.chars().count() <= most {
        return whole;
    }
    let mut text = String::new();
    let mut used = 0;
    let mut left = 0;
    for line in whole.lines() {
        let size = line.chars().count() + 1;
        if left > 0 || used + size > most - REST {
            left += 1;
        } else {
            text.push_str(line);
            text.push('\n');
            used += size;
        }
    }
    text + &format!("\n{} in the comments of the pull request.", format::plural(left, "more line is", "more lines are"))
}

/// Refuses to say of a pull request what is true of an older state of it.
fn keep_comment(
    arguments: &Post,
    target: &Target,
    number: u64,
    author: &str,
    parts: &[String],
    hub: &mut dyn Hub,
) -> Result<String, HubError> {
    let call = Call::get(format!("{}/pulls/{number}", target.repository.path()));
    let now = hub.send(&call)?.body;
    let now = now.pointer("/head/sha").and_then(serde_json::Value::as_str).and_then(full_hash);
    if let Some(now) = now.filter(|now| *now != target.sha) {
        return Ok(format!(
            "no comment: pull request {number} has moved on to {}, and {} was measured",
            &now[..10],
            &target.sha[..10]
        ));
    }
    let posted = comment::keep(hub, &target.repository, number, &arguments.place.key, Some(author), parts)?;
    let word = if posted.made { "made" } else { "brought up to date" };
    // The next post would not find it, and make another.
    let other = posted.stranger.map_or_else(String::new, |login| {
        format!("; this token writes as {login}: say `--author '{login}'`, or the next post makes another comment")
    });
    Ok(format!("the comment is {word}: {}{other}", posted.url))
}

fn set_status(
    arguments: &Post,
    target: &Target,
    conclusion: Option<Conclusion>,
    text: &str,
    hub: &mut dyn Hub,
) -> Result<(), HubError> {
    let name = &arguments.surfaces.name;
    status::set(hub, &target.repository, &target.sha, name, conclusion, text, target.run_url.as_deref())
}

/// What all reports amount to: one that fails fails, one that decided nothing leaves it open. What a fork's code reported
/// about itself blesses nothing before somebody here has read that code: a neutral check would, where it is required.
fn conclusion(reports: &[Report], trust: Trust) -> Conclusion {
    let codes = || reports.iter().map(|report| report.outcome.exit_code);
    let is = |exit: Exit| move |code: u8| code == exit.code();
    if codes().any(|code| is(Exit::Regression)(code) || is(Exit::CaseFailed)(code) || is(Exit::Inconclusive)(code)) {
        return Conclusion::Failure;
    }
    if trust == Trust::Fork {
        return Conclusion::ActionRequired;
    }
    if codes().all(is(Exit::Pass)) { Conclusion::Success } else { Conclusion::Neutral }
}

fn headline(reports: &[Report]) -> String {
    let worst = reports.iter().find(|report| report.outcome.exit_code != 0).or_else(|| reports.first());
    worst.map_or_else(String::new, |report| report.outcome.headline.clone())
}

/// The first picture of each report, with its title.
fn draw(reports: &[Report]) -> Result<Vec<(String, Picture)>, HubError> {
    let wrong = |what: String| HubError::Unexpected { call: "drawing".to_owned(), what };
    let png = render::find("png").expect("a row of the table");
    let style = Style { colour: false, width: 100 };
    let mut drawn = Vec::new();
    for report in reports.iter().filter(|report| !report.base.is_empty() || report.paired.is_some()) {
        let artifacts = png.report(report, style).map_err(|error| wrong(error.to_string()))?;
        if let Some(artifact) = artifacts.into_iter().next() {
            let title = format!("{} on {}", report.suite, report.testbed.label());
            drawn.push((title, Picture { bytes: artifact.bytes }));
        }
    }
    Ok(drawn)
}

/// A remark at each benchmark that fails or misses a target, where its suite is a file of the repository.
fn annotations<'r>(report: &'r Report, secrets: &'r [String]) -> impl Iterator<Item = Annotation> + 'r {
    let safe = |path: &&String| !path.starts_with('/') && !path.split('/').any(|part| part == "..");
    let path = report.suite_file.as_ref().filter(safe);
    let missed = report.targets.iter().filter(|row| row.fails).filter_map(move |row| missed(path?, row, secrets));
    report.rows.iter().filter(|row| row.fails).filter_map(move |row| annotation(path?, row, secrets)).chain(missed)
}

/// A remark about a target that is missed.
fn missed(path: &str, row: &TargetRow, secrets: &[String]) -> Option<Annotation> {
    let source = row.target.source.as_ref().map_or_else(String::new, |source| format!(" ({source})"));
    let message = secret::redacted(format!("{} {}{source}: {}", row.case, row.target, row.verdict.note), secrets);
    Some(Annotation {
        path: path.to_owned(),
        line: row.line?,
        level: "failure",
        title: format!("{} target {}", row.case, row.verdict.call),
        message: format::line(&message).chars().take(MESSAGE).collect(),
    })
}

fn annotation(path: &str, row: &Row, secrets: &[String]) -> Option<Annotation> {
    let change = row.verdict.estimate.map_or_else(String::new, |estimate| {
        format!(" {} ({})", format::change(estimate.change), format::interval(&estimate))
    });
    let message = format!("{} {}{change}: {}", row.case, row.metric.name, row.verdict.note);
    let message = secret::redacted(message, secrets);
    Some(Annotation {
        path: path.to_owned(),
        line: row.line?,
        level: "failure",
        title: format!("{} {}", row.case, row.verdict.call),
        message: format::line(&message).chars().take(MESSAGE).collect(),
    })
}
