//! The trees of a comparison of two git refs: resolved, checked out side by side in a cache folder, and built.
//!
//! Each side has a place of its own that stays between sessions, so that builds are incremental. The two places have
//! names of equal length and equal surroundings, because the length of a path or of the environment moves the stack and
//! with it the timings (Mytkowicz et al. 2009, Producing wrong data without doing anything obviously wrong).

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use sha2::{Digest, Sha256};

use crate::command::context::Context;
use crate::command::{secret, usage};
use crate::domain::{ArmSide, Build, hex};
use crate::render::format;
use crate::runner::Tree;
use crate::runner::build;
use crate::suite::Suite;

/// Caches of compilers that work at run time, each kept apart for each arm: a kernel that the other arm compiled would
/// make the second launch of a pair faster. Variable and folder.
const CACHES: &[(&str, &str)] = &[
    ("CUDA_CACHE_PATH", "cuda"),
    ("JAX_COMPILATION_CACHE_DIR", "jax"),
    ("NUMBA_CACHE_DIR", "numba"),
    ("PYTHONPYCACHEPREFIX", "python"),
    ("TORCHINDUCTOR_CACHE_DIR", "inductor"),
    ("TRITON_CACHE_DIR", "triton"),
];
/// Lines of a failed build that are shown.
const LOG_LINES: usize = 20;

/// A state of the sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ref {
    /// As a person knows it: `main`, `HEAD~1`, `the work tree`.
    pub name: String,
    /// Full hash; of a commit made for the purpose where the work tree has changes.
    pub commit: String,
    /// Whether that commit holds changes nobody committed.
    pub dirty: bool,
}

impl Ref {
    /// `HEAD~1 (3f2a91c0de)`.
    pub fn label(&self) -> String {
        let hash = self.commit.get(..10).unwrap_or(&self.commit);
        if self.dirty { self.name.clone() } else { format!("{} ({hash})", self.name) }
    }
}

/// What is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refs {
    /// What the change is measured against.
    pub base: Ref,
    /// The change.
    pub head: Ref,
}

/// The repository around the current folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    top: PathBuf,
    /// Of the current folder below the top; empty or ending with a slash.
    prefix: String,
    common: PathBuf,
}

impl Repository {
    /// Why there is none here, in git's words.
    pub fn absent() -> String {
        match git(Path::new("."), &["rev-parse", "--show-toplevel"]) {
            Ok(_) => "this is a git repository without a work tree".to_owned(),
            Err(error) => format!("{error:#}"),
        }
    }

    /// Looks for it; `None` outside of one, or without git.
    pub fn discover() -> Option<Self> {
        let ask = |what: &str| git(Path::new("."), &["rev-parse", "--path-format=absolute", what]).ok();
        let top = PathBuf::from(ask("--show-toplevel")?);
        let common = PathBuf::from(ask("--git-common-dir")?);
        let prefix = git(Path::new("."), &["rev-parse", "--show-prefix"]).unwrap_or_default();
        Some(Self { top, prefix, common })
    }

    /// The commit that a name stands for.
    pub fn resolve(&self, name: &str) -> Result<Ref> {
        let spec = format!("{name}^{{commit}}");
        match git(&self.top, &["rev-parse", "--verify", "--quiet", "--end-of-options", &spec]) {
            Ok(commit) if !commit.is_empty() => Ok(Ref { name: name.to_owned(), commit, dirty: false }),
            _ => {
                let shallow =
                    git(&self.top, &["rev-parse", "--is-shallow-repository"]).is_ok_and(|word| word == "true");
                let help = if shallow {
                    "the clone is shallow: fetch its history, with `git fetch --unshallow` or `fetch-depth: 0`"
                } else {
                    "give a branch, a tag or a commit of this repository"
                };
                Err(usage(format!("`{name}` is no commit in {}; {help}", self.top.display())))
            }
        }
    }

    /// The best common ancestor of two commits.
    pub fn merge_base(&self, a: &str, b: &str) -> Option<String> {
        git(&self.top, &["merge-base", a, b]).ok().filter(|commit| !commit.is_empty())
    }

    /// The commit at which a branch was left.
    pub fn left(&self, branch: &str, commit: &str) -> Result<Ref> {
        Ok(Ref { name: format!("where {branch} was left"), ..self.resolve(commit)? })
    }

    /// Whether a commit is another, or one of its ancestors.
    pub fn is_ancestor(&self, ancestor: &str, of: &str) -> bool {
        git(&self.top, &["merge-base", "--is-ancestor", ancestor, of]).is_ok()
    }

    /// Whether files that git knows differ from a commit, in the index or in the work tree.
    pub fn changed_since(&self, commit: &str) -> bool {
        git(&self.top, &["diff", "--quiet", commit, "--"]).is_err()
    }

    /// The work tree as it is, uncommitted and untracked files included, ignored ones and `outputs` of ours not. The
    /// commit that is made for it depends on the files alone, so that what was built of it is found again; nothing in the
    /// work tree, its index or its branches changes.
    pub fn work_tree(&self, outputs: &[&Path]) -> Result<Ref> {
        let head = self.resolve("HEAD")?;
        let status = git(&self.top, &["status", "--porcelain=v2", "--ignore-submodules=none"])?;
        // `1 .M S.M. …`: a submodule with changes of its own, which no commit of this repository can hold.
        let changed = |line: &&str| {
            line.split(' ').nth(2).is_some_and(|word| word.starts_with('S') && word[1..].contains(['M', 'U']))
        };
        if let Some(line) = status.lines().find(changed) {
            let name = line.rsplit(' ').next().unwrap_or_default();
            return Err(usage(format!(
                "the submodule {name} has uncommitted changes, which cannot be checked out elsewhere; commit them there"
            )));
        }
        let scratch = self.common.join(format!("regrade-index-{}", std::process::id()));
        let own = git(&self.top, &["rev-parse", "--path-format=absolute", "--git-path", "index"])?;
        if Path::new(&own).exists() {
            std::fs::copy(&own, &scratch).with_context(|| format!("cannot copy {own}"))?;
        }
        let tree = self.tree_of(&scratch, outputs);
        // Whatever came of it, the copy has done its work.
        let _ = std::fs::remove_file(&scratch);
        let tree = tree?;
        if tree == git(&self.top, &["rev-parse", "HEAD^{tree}"])? {
            return Ok(Ref { name: "the work tree".to_owned(), ..head });
        }
        let date = git(&self.top, &["show", "-s", "--format=%ct +0000", "HEAD"])?;
        let mut command =
            command(&self.top, &["commit-tree", &tree, "-p", &head.commit, "-m", "work tree, by regrade"]);
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "regrade").env(format!("GIT_{who}_EMAIL"), "regrade@invalid");
            command.env(format!("GIT_{who}_DATE"), &date);
        }
        Ok(Ref { name: "the work tree".to_owned(), commit: answer(command)?, dirty: true })
    }

    fn tree_of(&self, index: &Path, outputs: &[&Path]) -> Result<String> {
        let ask = |words: &[&str]| {
            let mut command = command(&self.top, words);
            command.env("GIT_INDEX_FILE", index);
            answer(command)
        };
        ask(&["add", "--all"])?;
        // Our own outputs stay as they were committed, if they were.
        for output in outputs {
            let path = std::path::absolute(output).unwrap_or_else(|_| output.to_path_buf());
            if let Ok(inside) = path.strip_prefix(&self.top) {
                let inside = inside.display();
                // The database has companions; a report folder that is the whole repository holds the sources too.
                for path in [format!("{inside}"), format!("{inside}-wal"), format!("{inside}-shm")] {
                    if !inside.to_string().is_empty() {
                        ask(&["reset", "--quiet", "HEAD", "--", &format!(":(top,literal){path}")])?;
                    }
                }
            }
        }
        ask(&["write-tree"])
    }

    /// Where a side is checked out.
    pub fn place(&self, side: ArmSide) -> Result<PathBuf> {
        Ok(self.cache()?.join(side.to_string()))
    }

    /// Commits after `from` up to `to`.
    pub fn count(&self, from: &str, to: &str) -> Result<usize> {
        Ok(git(&self.top, &["rev-list", "--count", &format!("{from}..{to}")])?.parse()?)
    }

    /// A commit's subject.
    pub fn subject(&self, commit: &str) -> Result<String> {
        git(&self.top, &["show", "-s", "--format=%s", commit])
    }

    /// A commit's author, date and subject.
    pub fn describe(&self, commit: &str) -> Result<[String; 3]> {
        let field = |format: &str| git(&self.top, &["show", "-s", format, commit]);
        Ok([field("--format=%an <%ae>")?, field("--format=%cs")?, field("--format=%s")?])
    }

    /// The folder of this repository's trees, ours until the lock is dropped.
    fn open_cache(&self, cancel: &AtomicBool, context: &Context) -> Result<(PathBuf, File)> {
        let cache = self.cache()?;
        std::fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
        // A cache inside a repository is none of its files.
        let ignore = cache.join(".gitignore");
        std::fs::write(&ignore, "*\n").with_context(|| format!("cannot write {}", ignore.display()))?;
        let lock = lock(&cache, cancel, context)?;
        Ok((cache, lock))
    }

    /// Where this repository's trees are kept: `REGRADE_CACHE`, or the user's cache folder.
    fn cache(&self) -> Result<PathBuf> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let root = variable("REGRADE_CACHE")
            .or_else(|| Some(variable("XDG_CACHE_HOME")?.join("regrade")))
            .or_else(|| Some(variable("HOME")?.join(".cache/regrade")))
            .ok_or_else(|| usage("there is no folder for checked-out trees; set REGRADE_CACHE to one"))?;
        let root = std::path::absolute(root)?;
        let digest = Sha256::digest(self.common.as_os_str().as_encoded_bytes());
        let name = self.top.file_name().map_or_else(|| "repository".into(), |name| name.to_string_lossy());
        let digest = hex(&digest[..4]);
        Ok(root.join(format!("{name}-{digest}")))
    }
}

/// What git's bisection wants next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// This commit is to be tried.
    Try(String),
    /// This is the first bad commit.
    Found(String),
    /// One of these is, and none of them could be judged.
    OnlySkipped(Vec<String>),
}

/// A bisection of git's own, in a tree of ours: the user's work tree and a bisection in it are left alone.
#[derive(Debug)]
pub struct Bisection {
    folder: PathBuf,
}

impl Bisection {
    /// Begins, in a checked-out folder. Nothing is checked out by git: the trees are ours to move.
    pub fn start(folder: &Path, good: &str, bad: &str) -> Result<Self> {
        // One that was cut short must not mix with this one; without any there is nothing to reset.
        let _ = git(folder, &["bisect", "reset", "HEAD"]);
        git(folder, &["bisect", "start", "--no-checkout", bad, good])?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// What is to be tried first.
    pub fn state(&self) -> Result<Next> {
        let bad = git(&self.folder, &["rev-parse", "refs/bisect/bad"])?;
        match git(&self.folder, &["rev-parse", "--verify", "--quiet", "BISECT_HEAD"]) {
            // Git finds a culprit at once where the bad commit follows the good one.
            Ok(commit) if commit != bad => Ok(Next::Try(commit)),
            _ => Ok(Next::Found(bad)),
        }
    }

    /// Says what the commit in question is: `good`, `bad` or `skip`.
    pub fn say(&self, word: &str) -> Result<Next> {
        let output = command(&self.folder, &["bisect", word]).env("LC_ALL", "C").output().context("cannot run git")?;
        let said = String::from_utf8_lossy(&output.stdout);
        if let Some(line) = said.lines().find(|line| line.ends_with("is the first bad commit")) {
            let commit = line.split_whitespace().next().unwrap_or_default();
            return Ok(Next::Found(commit.to_owned()));
        }
        if said.contains("only 'skip'ped commits left") {
            let hash = |line: &&str| line.len() >= 40 && line.bytes().all(|byte| byte.is_ascii_hexdigit());
            return Ok(Next::OnlySkipped(said.lines().map(str::trim).filter(hash).map(str::to_owned).collect()));
        }
        anyhow::ensure!(
            output.status.success(),
            "`git bisect {word}` failed: {}{}",
            said.trim(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(Next::Try(git(&self.folder, &["rev-parse", "--verify", "BISECT_HEAD"])?))
    }

    /// Forgets it.
    pub fn end(&self) {
        // A leftover is reset when the next one starts.
        let _ = git(&self.folder, &["bisect", "reset", "HEAD"]);
    }
}

/// Both sides, ready to be measured. While this lives no other session uses their places.
#[derive(Debug)]
pub struct Checkouts {
    /// The base.
    pub base: Tree,
    /// The change.
    pub head: Tree,
    /// Why the arms could not be linked in several orders, where the suite asks for it.
    pub note: Option<String>,
    _lock: File,
}

impl Checkouts {
    /// In how many orders of its code each arm is measured.
    pub const fn layouts(&self) -> usize {
        self.base.workers.len()
    }
}

/// Why an arm cannot be measured.
#[derive(Debug, thiserror::Error)]
#[error("the build of {label}, the {side} arm, failed: `{command}` {why}\n{log}\nthe whole log is {file}")]
pub struct BuildFailed {
    /// Which arm.
    pub side: ArmSide,
    label: String,
    command: String,
    why: String,
    log: String,
    file: String,
}

/// Why a suite cannot be measured at two commits, if it cannot: somebody has to say which program of a tree runs its
/// built-in workloads, or the same program would be compared with itself.
pub fn unfit(suite: &Suite) -> Option<String> {
    let built_in = suite.cases.iter().find(|case| case.workload.kind.is_built_in())?;
    suite.build.worker.is_none().then(|| {
        format!(
            "`{}` is a built-in workload, and suite `{}` does not say which program of a tree runs those: add a `[build]` \
             table with `command` and `worker`, or benchmarks that are commands",
            built_in.id, suite.info.name
        )
    })
}

/// Checks both sides out and builds them.
pub fn prepare(
    repository: &Repository,
    refs: &Refs,
    suite: &Suite,
    cancel: &AtomicBool,
    context: &Context,
) -> Result<Checkouts> {
    if let Some(why) = unfit(suite) {
        return Err(usage(why));
    }
    let (cache, lock) = repository.open_cache(cancel, context)?;
    let builder = Builder { repository, suite, cache: &cache, cancel, context };
    let mut base = builder.tree(ArmSide::Base, &refs.base)?;
    let mut head = builder.tree(ArmSide::Head, &refs.head)?;
    let mut note = None;
    if relinks(suite) {
        let orders = 1..=suite.build.layouts;
        let linked = builder.relinked(ArmSide::Base, &base, orders.clone())?;
        let linked = match linked {
            Ok(of_base) => builder.relinked(ArmSide::Head, &head, orders)?.map(|of_head| (of_base, of_head)),
            Err(why) => Err(why),
        };
        // Both arms or neither: one arm in one order would stand out by its luck alone.
        match linked {
            Ok((of_base, of_head)) => (base.workers, head.workers) = (of_base, of_head),
            Err(why) => note = Some(why),
        }
    }
    Ok(Checkouts { base, head, note, _lock: lock })
}

/// One state of the sources as two arms that differ by nothing but the order of their code, to learn what that does;
/// where the suite makes no orders, as two builds.
pub fn prepare_alike(
    repository: &Repository,
    state: &Ref,
    suite: &Suite,
    cancel: &AtomicBool,
    context: &Context,
) -> Result<Checkouts> {
    if !relinks(suite) {
        let refs = Refs { base: state.clone(), head: state.clone() };
        return prepare(repository, &refs, suite, cancel, context);
    }
    let (cache, lock) = repository.open_cache(cancel, context)?;
    let builder = Builder { repository, suite, cache: &cache, cancel, context };
    let mut base = builder.tree(ArmSide::Base, state)?;
    let mut head = base.clone();
    let layouts = suite.build.layouts;
    let note = match builder.relinked(ArmSide::Base, &base, 1..=2 * layouts)? {
        Ok(mut workers) => {
            head.workers = workers.split_off(layouts as usize);
            base.workers = workers;
            None
        }
        Err(why) => Some(why),
    };
    Ok(Checkouts { base, head, note, _lock: lock })
}

/// Whether a suite links its worker anew, and anything runs that.
fn relinks(suite: &Suite) -> bool {
    suite.build.layouts > 1 && suite.cases.iter().any(|case| case.workload.kind.is_built_in())
}

/// What the trees of a session have in common.
struct Builder<'a> {
    repository: &'a Repository,
    suite: &'a Suite,
    cache: &'a Path,
    cancel: &'a AtomicBool,
    context: &'a Context,
}

impl Builder<'_> {
    /// A side, checked out and built.
    fn tree(&self, side: ArmSide, state: &Ref) -> Result<Tree> {
        let (build, prefix) = (&self.suite.build, &self.repository.prefix);
        let place = self.cache.join(side.to_string());
        check_out(self.repository, &place, &state.commit)?;
        let folder = place.join(prefix);
        if !folder.is_dir() {
            return Err(usage(format!(
                "{} has no folder `{prefix}`; start regrade in a folder that both sides have",
                state.label(),
            )));
        }
        let env: BTreeMap<String, String> = CACHES
            .iter()
            .map(|(variable, name)| {
                let path = self.cache.join("caches").join(side.to_string()).join(name);
                ((*variable).to_owned(), path.display().to_string())
            })
            .collect();
        for path in env.values() {
            std::fs::create_dir_all(path).with_context(|| format!("cannot create {path}"))?;
        }
        built(build, side, &state.label(), &folder, &self.log(side), &env, self.cancel, self.context)?;
        let workers: Vec<PathBuf> = build.worker.iter().map(|worker| folder.join(worker)).collect();
        if let Some(worker) = workers.iter().find(|worker| !worker.is_file()) {
            return Err(usage(format!(
                "{}: `worker` of the `[build]` table of suite `{}` names no file in {}",
                worker.display(),
                self.suite.info.name,
                state.label()
            )));
        }
        let workers = match workers.first() {
            // Linking anew writes over it, and may fail half way.
            Some(worker) if relinks(self.suite) => vec![copied(worker, 0)?],
            _ => workers,
        };
        Ok(Tree { workers, folder: Some(folder), env })
    }

    /// The worker of a tree in several orders of its code, each beside the one that the build made; or why that cannot
    /// be had, which is no reason not to measure.
    fn relinked(
        &self,
        side: ArmSide,
        tree: &Tree,
        orders: std::ops::RangeInclusive<u32>,
    ) -> Result<Result<Vec<PathBuf>, String>> {
        let (Some(folder), Some(worker)) = (&tree.folder, &self.suite.build.worker) else {
            return Ok(Err("there is no worker to link anew".to_owned()));
        };
        let worker = folder.join(worker);
        let count = orders.end() + 1 - orders.start();
        self.context.tell(&format!("{side}: linking in {count} orders of its code"));
        let mut made = Vec::new();
        for order in orders {
            let words = build::relinking(&self.suite.build, order);
            let done = build::run(&words, &self.suite.build, folder, &tree.env, self.cancel);
            anyhow::ensure!(!done.cancelled, "interrupted while the {side} arm was being linked");
            if let Some(why) = done.failure {
                let log = self.cache.join(format!("{side}.relink.log"));
                std::fs::write(&log, secret::redacted(done.log, &secret::from_environment()))
                    .with_context(|| format!("cannot write {}", log.display()))?;
                return Ok(Err(format!(
                    "the {side} arm could not be linked in other orders of its code (`{}` {why}; see {}), so where its \
                     functions happen to lie counts as part of it",
                    words.join(" "),
                    log.display()
                )));
            }
            made.push(copied(&worker, order)?);
        }
        let words = self.suite.build.relink.join(" ");
        let read = |path: &PathBuf| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let first = read(&made[0])?;
        for other in &made[1..] {
            if read(other)? != first {
                return Ok(Ok(made));
            }
        }
        Ok(Err(format!(
            "`{words}` makes the same program of the {side} arm in every order, so where its functions happen to lie counts as \
             part of it"
        )))
    }

    fn log(&self, side: ArmSide) -> PathBuf {
        self.cache.join(format!("{side}.log"))
    }
}

/// A copy of a worker beside it, so that what a program looks for next to itself is found; names of equal length.
fn copied(worker: &Path, order: u32) -> Result<PathBuf> {
    let mut name = worker.to_owned().into_os_string();
    name.push(format!("-layout{order:02}"));
    let copy = PathBuf::from(name);
    std::fs::copy(worker, &copy).with_context(|| format!("cannot copy {} to {}", worker.display(), copy.display()))?;
    Ok(copy)
}

/// Waits for another session that uses the same places.
fn lock(cache: &Path, cancel: &AtomicBool, context: &Context) -> Result<File> {
    let path = cache.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    if file.try_lock().is_err() {
        context.tell("another regrade measures trees of this repository; waiting for it to end");
        while file.try_lock().is_err() {
            anyhow::ensure!(!cancel.load(Ordering::SeqCst), "interrupted while waiting for another regrade");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    Ok(file)
}

fn check_out(repository: &Repository, place: &Path, commit: &str) -> Result<()> {
    let shown = place.display().to_string();
    let ours = git(place, &["rev-parse", "--path-format=absolute", "--git-common-dir"])
        .is_ok_and(|common| Path::new(&common) == repository.common);
    if place.exists() && !ours {
        // Left by a clone that is gone.
        std::fs::remove_dir_all(place).with_context(|| format!("cannot remove {shown}"))?;
    }
    if place.exists() {
        // What is ignored stays: that is where builds keep what they can use again.
        let moved = git(place, &["checkout", "--quiet", "--detach", "--force", commit])
            .and_then(|_| git(place, &["clean", "--quiet", "-d", "--force"]));
        if moved.is_err() {
            // Left half done by a git that was killed; nobody else uses the place.
            std::fs::remove_dir_all(place).with_context(|| format!("cannot remove {shown}"))?;
        }
    }
    if !place.exists() {
        git(&repository.top, &["worktree", "add", "--quiet", "--detach", "--force", &shown, commit])?;
    }
    if place.join(".gitmodules").exists() {
        git(place, &["submodule", "--quiet", "update", "--init", "--recursive"])?;
    }
    Ok(())
}

/// Builds what the commands of a suite run, where they are run: in the current folder.
pub fn build_here(step: &Build, cancel: &AtomicBool, context: &Context) -> Result<()> {
    let folder = std::env::current_dir().context("cannot tell the current folder")?;
    let log = std::env::temp_dir().join(format!("regrade-build-{}.log", std::process::id()));
    built(step, ArmSide::Head, "the work tree", &folder, &log, &BTreeMap::new(), cancel, context)?;
    // Only a failed build's log is worth keeping.
    let _ = std::fs::remove_file(log);
    Ok(())
}

/// Builds. Every time, however it was built before: only the build itself knows whether compiler, flags or environment
/// changed since, and arms that differ in those must not be compared.
#[expect(clippy::too_many_arguments, reason = "all of it is what one build needs")]
fn built(
    step: &Build,
    side: ArmSide,
    label: &str,
    folder: &Path,
    log_file: &Path,
    env: &BTreeMap<String, String>,
    cancel: &AtomicBool,
    context: &Context,
) -> Result<()> {
    if step.command.is_empty() {
        return Ok(());
    }
    let words = step.command.join(" ");
    context.tell(&format!("{side}: building {label} with `{words}`"));
    let built = build::run(&step.command, step, folder, env, cancel);
    let log = secret::redacted(built.log, &secret::from_environment());
    std::fs::write(log_file, &log).with_context(|| format!("cannot write {}", log_file.display()))?;
    if built.cancelled {
        return Err(anyhow::anyhow!("interrupted while {label} was being built"));
    }
    if let Some(why) = built.failure {
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
        return Err(BuildFailed {
            side,
            label: label.to_owned(),
            command: words,
            why,
            log: tail,
            file: log_file.display().to_string(),
        }
        .into());
    }
    context.tell(&format!("{side}: built in {}", format::duration(built.took.as_secs_f64())));
    Ok(())
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("git");
    // A question that nobody answers would wait for ever.
    command.arg("-C").arg(folder).args(arguments).env("GIT_TERMINAL_PROMPT", "0");
    // Set by hooks and by git's own commands; they would make git look at another tree than the one named.
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(variable);
    }
    command
}

fn git(folder: &Path, arguments: &[&str]) -> Result<String> {
    answer(command(folder, arguments))
}

fn answer(mut command: Command) -> Result<String> {
    let shown = || {
        let words = command_words(&command);
        format!("`git {words}`")
    };
    let shown = shown();
    let output = command.output().context("cannot run git; is it installed?")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::bail!("{shown} failed: {}", said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn command_words(command: &Command) -> String {
    command.get_args().skip(2).map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
