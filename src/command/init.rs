//! `regrade init`: a suite, workflows and ignored outputs for a repository, from what is found in it.
//!
//! Must not know how suites are read or what workflows mean: the templates below `init/` are files of their own.

mod project;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::cli::{Format, Init};
use crate::command::context::{Context, print, write_whole};
use crate::command::init::project::Project;
use crate::command::usage;
use crate::exit::Exit;

const SUITE: &str = include_str!("init/suite.toml");
const WORKFLOW: &str = include_str!("init/regrade.yml");
const POST: &str = include_str!("init/regrade-post.yml");
const GPU: &str = include_str!("init/regrade-gpu.yml");
const ACTIONLINT: &str = include_str!("init/actionlint.yaml");
/// Steps that several workflows share.
const STEPS: [(&str, &str); 3] = [
    ("@INSTALL@\n", include_str!("init/install.yml")),
    ("@PULL@\n", include_str!("init/pull.yml")),
    ("@COMPARE@\n", include_str!("init/compare.yml")),
];
/// Which runs are told: a device measures branches of this repository, and not Dependabot's.
const LANE: &str = "startsWith(github.event.workflow_run.path, '.github/workflows/regrade.yml')";
const LANES: &str = "(
        startsWith(github.event.workflow_run.path, '.github/workflows/regrade.yml') || (
          vars.REGRADE_GPU == 'on' && startsWith(github.event.workflow_run.path, '.github/workflows/regrade-gpu.yml') &&
          github.event.workflow_run.head_repository.id == github.event.repository.id &&
          !startsWith(github.event.workflow_run.head_branch, 'dependabot/')
        )
      )";
/// The workflow that is measured, and its name: the poster hears of it by that.
const MEASURES: (&str, &str) = (".github/workflows/regrade.yml", "regrade");
/// What git must not keep: databases and reports.
const IGNORED: [&str; 2] = ["/baselines/", "/reports/"];
/// Files that only a machine with an NVIDIA driver has.
const NVIDIA: [&str; 2] = ["/proc/driver/nvidia/version", "/dev/nvidiactl"];

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    /// It was not there.
    Written,
    /// It was there, and `--force` was given.
    Overwritten,
    /// Lines were added to it.
    Extended,
    /// It was there as it would be written.
    Unchanged,
    /// It was there and differs.
    Kept,
}

/// A file, below the repository's top folder.
#[derive(Debug, Serialize)]
struct Written {
    file: PathBuf,
    outcome: Outcome,
}

/// What was found and done.
#[derive(Debug, Serialize)]
struct Done {
    /// What kind of project it is taken for, in words.
    found: String,
    branch: String,
    gpu: bool,
    dry_run: bool,
    files: Vec<Written>,
    next: Vec<String>,
}

/// Writes what is missing. Files that are there stay as they are without `--force`.
pub fn run(arguments: &Init, context: &Context) -> Result<Exit> {
    let top = top()?;
    let project = Project::detect(&top);
    let gpu = arguments.gpu || NVIDIA.iter().any(|path| Path::new(path).exists());
    let found = branch(&top);
    let branch = found.clone().unwrap_or_else(|| "main".to_owned());
    let name = arguments.name.clone().map_or_else(|| Ok(folder_name(&top)), checked)?;
    let suite = format!("suites/{name}.toml");

    let mut wanted = vec![
        (suite.as_str(), suite_text(&name, &suite, &project)),
        (MEASURES.0, workflow(WORKFLOW, &suite, &branch, gpu)),
        (".github/workflows/regrade-post.yml", workflow(POST, &suite, &branch, gpu)),
    ];
    if gpu {
        wanted.push((".github/workflows/regrade-gpu.yml", workflow(GPU, &suite, &branch, gpu)));
        wanted.push((".github/actionlint.yaml", ACTIONLINT.to_owned()));
    }
    // Before anything is written.
    for file in wanted.iter().map(|(file, _)| *file).chain([".gitignore"]) {
        inside(&top, Path::new(file))?;
    }
    let mut files = Vec::new();
    for (file, text) in wanted {
        files.push(Written { file: file.into(), outcome: put(&top, Path::new(file), &text, arguments)? });
    }
    files.push(Written { file: ".gitignore".into(), outcome: ignore(&top, arguments.dry_run)? });

    let mut next = next_steps(&suite, &project, gpu);
    if found.is_none() {
        next.insert(0, format!("{}: no default branch was found, `{branch}` was assumed", MEASURES.0));
    }
    let kept = files.iter().any(|Written { file, outcome }| *outcome == Outcome::Kept && file == Path::new(MEASURES.0));
    if kept && let Some(unheard) = unheard(&top) {
        next.insert(0, unheard);
    }
    let done = Done { found: project.words(), branch, gpu, dry_run: arguments.dry_run, files, next };
    let text = match arguments.format {
        Format::Json => format!("{}\n", serde_json::to_string_pretty(&done)?),
        Format::Text => text(&done, context),
    };
    print(text.as_bytes())?;
    Ok(Exit::Pass)
}

/// The top folder of the repository.
fn top() -> Result<PathBuf> {
    git(Path::new("."), &["rev-parse", "--show-toplevel"])
        .map(PathBuf::from)
        .ok_or_else(|| usage("this is no work tree of a git repository; go to one, or make one with `git init`"))
}

/// The default branch: the remote's, else the one that is checked out, also before its first commit.
fn branch(top: &Path) -> Option<String> {
    git(top, &["symbolic-ref", "--quiet", "--short", "refs/remotes/origin/HEAD"])
        .map(|head| head.trim_start_matches("origin/").to_owned())
        .or_else(|| {
            let known = |name: &&str| git(top, &["rev-parse", "--verify", "--quiet", &format!("refs/heads/{name}")]);
            ["main", "master"].into_iter().find(|name| known(name).is_some()).map(str::to_owned)
        })
        .or_else(|| git(top, &["symbolic-ref", "--quiet", "--short", "HEAD"]))
}

/// A branch as a filter of GitHub's between double quotes of YAML: that branch and no pattern.
fn filter(branch: &str) -> String {
    let mut pattern = String::new();
    for (index, c) in branch.chars().enumerate() {
        if matches!(c, '*' | '?' | '+' | '[' | '\\') || (index == 0 && c == '!') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.replace('\\', "\\\\").replace('"', "\\\"")
}

/// What to say where somebody's own workflow has the place of ours, under a name that the poster does not listen to.
fn unheard(top: &Path) -> Option<String> {
    let (file, name) = MEASURES;
    let text = std::fs::read_to_string(top.join(file)).ok()?;
    let found = text.lines().find_map(|line| line.strip_prefix("name:")).map_or("", |value| {
        let value = value.trim();
        let quoted = |mark: char| value.strip_prefix(mark)?.split(mark).next();
        quoted('"').or_else(|| quoted('\'')).unwrap_or_else(|| value.split(" #").next().unwrap_or(value).trim_end())
    });
    (found != name).then(|| {
        format!(
            "{file} was there and stays: regrade-post.yml will not hear of it unless its `name:` is `{name}`, and finds its \
             report only in an artifact `regrade-report`"
        )
    })
}

/// Refuses a place that a symbolic link leads out of the repository.
fn inside(top: &Path, file: &Path) -> Result<()> {
    let home = top.canonicalize().with_context(|| format!("cannot find {}", top.display()))?;
    let path = top.join(file);
    // The nearest of it that is there; a link to nothing is there, too.
    let there = path.ancestors().find(|path| path.symlink_metadata().is_ok()).unwrap_or(top);
    match there.canonicalize() {
        Ok(real) if real.starts_with(&home) => Ok(()),
        _ => Err(usage(format!("{} leads out of the repository, by way of {}", file.display(), there.display()))),
    }
}

fn git(folder: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(folder).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

/// The folder's name, with what a suite's name may not hold left out.
fn folder_name(top: &Path) -> String {
    let name = top.file_name().unwrap_or_default().to_string_lossy();
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '-' };
    let name: String = name.chars().map(plain).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "bench".to_owned() } else { name.to_owned() }
}

/// A name that is a suite's and a file's.
fn checked(name: String) -> Result<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if name.chars().all(plain) && name.chars().any(|c| c.is_ascii_alphanumeric()) {
        return Ok(name);
    }
    Err(usage(format!("--name {name}: a suite's name is made of letters, digits, `-` and `_`, such as `kernels`")))
}

fn suite_text(name: &str, suite: &str, project: &Project) -> String {
    SUITE
        .replace("@SUITE@", suite)
        .replace("@NAME@", name)
        .replace("@DESCRIPTION@", project.description())
        .replace("@BUILD@\n", &project.build())
        .replace("@BENCHMARK@\n", &project.benchmark())
}

fn workflow(template: &str, suite: &str, branch: &str, gpu: bool) -> String {
    let mut text = template.to_owned();
    for (mark, steps) in STEPS {
        text = text.replace(mark, steps);
    }
    text.replace("@VERSION@", env!("CARGO_PKG_VERSION"))
        .replace("@WORKFLOWS@", if gpu { "regrade, regrade GPU" } else { "regrade" })
        .replace("@SUITE@", suite)
        .replace("@LANES@", if gpu { LANES } else { LANE })
        .replace("@BRANCH@", &filter(branch))
}

/// Writes a file whole, where it is not there or may be overwritten.
fn put(top: &Path, file: &Path, text: &str, arguments: &Init) -> Result<Outcome> {
    let path = top.join(file);
    let outcome = match std::fs::read(&path) {
        Ok(there) if there == text.as_bytes() => Outcome::Unchanged,
        Ok(_) if arguments.force => Outcome::Overwritten,
        Ok(_) => Outcome::Kept,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Outcome::Written,
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    if matches!(outcome, Outcome::Written | Outcome::Overwritten) && !arguments.dry_run {
        let folder = path.parent().expect("it lies below the top folder");
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        write_whole(&path, |out| out.write_all(text.as_bytes()))?;
    }
    Ok(outcome)
}

/// Adds what is missing to `.gitignore`, and leaves the rest of it alone.
fn ignore(top: &Path, dry_run: bool) -> Result<Outcome> {
    let path = top.join(".gitignore");
    let old = match std::fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let text = old.clone().unwrap_or_default();
    let missing: Vec<&str> =
        IGNORED.into_iter().filter(|line| !text.lines().any(|there| same_folder(there, line))).collect();
    if missing.is_empty() {
        return Ok(Outcome::Unchanged);
    }
    if !dry_run {
        let gap = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        let added = format!("{text}{gap}# Databases and reports of regrade\n{}\n", missing.join("\n"));
        write_whole(&path, |out| out.write_all(added.as_bytes()))?;
    }
    Ok(if old.is_some() { Outcome::Extended } else { Outcome::Written })
}

/// `/reports/`, `reports/` and `reports` ignore the same folder here.
fn same_folder(there: &str, wanted: &str) -> bool {
    there.trim().trim_matches('/') == wanted.trim_matches('/')
}

fn next_steps(suite: &str, project: &Project, gpu: bool) -> Vec<String> {
    let mut next = Vec::new();
    if let Some(advice) = project.advice() {
        next.push(format!("{suite}: {advice}"));
    }
    next.push(format!(
        "try it: `regrade compare {suite}`; the first time it stores what it measured, then it compares"
    ));
    next.push(format!(
        "put the SHA256 of the archive of release {} (its SHA256SUMS says it) into the install steps of the workflows: without, \
         every job builds regrade from source",
        env!("CARGO_PKG_VERSION")
    ));
    next.push("commit the files and push them to the default branch: its next push becomes a baseline".to_owned());
    next.push(
        "in Settings, Actions, General: approval for all external contributors, and a read-only default token"
            .to_owned(),
    );
    if gpu {
        next.push(
            "register a runner with the label `gpu` in a group for this repository only, then set the variable REGRADE_GPU \
             to `on`"
                .to_owned(),
        );
    }
    next
}

fn text(done: &Done, context: &Context) -> String {
    let (dim, bold, reset) = if context.colour { ("\x1b[2m", "\x1b[1m", "\x1b[0m") } else { ("", "", "") };
    let mut out = String::new();
    let gpu = if done.gpu { ", with a GPU lane" } else { "" };
    let _ = writeln!(out, "{bold}Found{reset} {}, default branch `{}`{gpu}", done.found, done.branch);
    for Written { file, outcome } in &done.files {
        let said = match outcome {
            Outcome::Written => "written",
            Outcome::Overwritten => "overwritten",
            Outcome::Extended => "extended",
            Outcome::Unchanged => "unchanged",
            Outcome::Kept => "kept: it differs, --force would overwrite it",
        };
        let _ = writeln!(out, "  {}  {dim}{said}{reset}", file.display());
    }
    if done.dry_run {
        let _ = writeln!(out, "Nothing was written: --dry-run");
        return out;
    }
    let _ = writeln!(out, "\n{bold}Next{reset}");
    for (index, step) in done.next.iter().enumerate() {
        let _ = writeln!(out, "  {}. {step}", index + 1);
    }
    out
}
