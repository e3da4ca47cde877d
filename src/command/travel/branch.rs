//! An orphan branch of a git remote where databases meet: one commit, replaced at each push, so that no history grows.
//!
//! Everything goes through the user's repository, because credentials, proxies and rewritten addresses are configured
//! there, and nothing is left in it: objects go to a folder of their own, and the remote is addressed under another name,
//! for which git keeps no remote-tracking branches. Work tree, index, branches, `HEAD` and `FETCH_HEAD` stay as they are.
//! Must not know what the databases hold.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::command::travel::{FILE, Meeting, Put, not_ours};
use crate::command::{secret, usage};

/// What the commands below call the remote.
const ALIAS: &str = "regrade-baseline-travel";
/// Settings of a remote that say how it is reached; those of its branches must not apply.
const REACHING: &[&str] =
    &["proxy", "proxyAuthMethod", "uploadpack", "receivepack", "vcs", "serverOption", "pushOption"];
/// The other file of the branch.
const README: &str = "README.md";
/// Its text, for whoever finds the branch.
const ABOUT: &str = "\
# Baselines of regrade

This branch is written by `regrade baseline push` and read by `regrade baseline pull`. `regrade-baselines.sqlite` is a
SQLite database with the benchmark runs that later ones are compared with.

The branch has one commit, which each push replaces: do not commit to it and do not merge it. Deleting it loses the
shared baselines and nothing else.
";
/// How often the branch may move between being listed and being fetched.
const MOVES: usize = 20;
/// How often a remote may refuse without an explanation before that is believed.
const STRIKES: u32 = 5;

/// The branch.
pub struct Branch {
    label: String,
    /// Full name.
    reference: String,
    /// For every command: where objects go, and what [`ALIAS`] is.
    environment: Vec<(String, String)>,
    /// Branches whose newest commits are asked for.
    wanted: Vec<String>,
    bases: BTreeMap<String, Option<String>>,
    /// The commit that was taken; absent where the branch is.
    taken: Option<String>,
    strikes: u32,
}

impl Branch {
    /// Looks the remote up; asks it nothing yet. `runs_of` are branches whose newest commits will be asked for.
    ///
    /// # Errors
    /// Outside of a repository, without such a remote, and when the branch's name is none.
    pub fn new(remote: &str, branch: &str, pushing: bool, runs_of: &[String], scratch: &Path) -> Result<Self> {
        let reference = format!("refs/heads/{branch}");
        let Ok(objects) = ask(&[], &["rev-parse", "--path-format=absolute", "--git-path", "objects"]) else {
            // Git's own words say why, for instance that the folder is somebody else's.
            let said = ask(&[], &["rev-parse", "--git-dir"]).err().map_or_else(String::new, |e| format!(" ({e})"));
            bail!(
                "there is no git repository here to find the remote `{}` in{said}; run this in a clone, or name a folder \
                 with --to or --from",
                secret::without_credentials(remote)
            );
        };
        if ask(&[], &["check-ref-format", &reference]).is_err() {
            return Err(usage(format!("`{branch}` is no name for a branch")));
        }
        let own = scratch.join("objects");
        fs::create_dir_all(own.join("info")).and_then(|()| fs::create_dir(own.join("pack")))?;
        fs::write(own.join("info/alternates"), format!("{objects}\n"))?;
        let shown = own.to_str().context("the folder for temporary files has a name that is not UTF-8")?;
        let mut environment = configured(remote, pushing)?;
        environment.push(("GIT_OBJECT_DIRECTORY".to_owned(), shown.to_owned()));
        Ok(Self {
            label: format!("`{branch}` of {}", secret::without_credentials(remote)),
            reference,
            environment,
            wanted: runs_of.to_vec(),
            bases: BTreeMap::new(),
            taken: None,
            strikes: 0,
        })
    }

    fn ask(&self, arguments: &[&str]) -> Result<String> {
        ask(&self.environment, arguments)
    }

    /// The branch's commit. Notes the branches that play base on the way.
    fn tip(&mut self) -> Result<Option<String>> {
        let wanted: Vec<String> = self.wanted.iter().map(|branch| format!("refs/heads/{branch}")).collect();
        let mut words = vec!["ls-remote", "--symref", ALIAS, "HEAD", &self.reference];
        words.extend(wanted.iter().map(String::as_str));
        let said = self.ask(&words).with_context(|| {
            format!("{}: the remote cannot be read; is it there, and may this user or job read it?", self.label)
        })?;
        let mut tip = None;
        let mut default = None;
        self.bases.clear();
        for (left, name) in said.lines().filter_map(|line| line.split_once('\t')) {
            match left.strip_prefix("ref: refs/heads/") {
                Some(branch) if name == "HEAD" => default = Some(branch.to_owned()),
                Some(_) => {}
                None if name == self.reference => tip = Some(left.to_owned()),
                None if name == "HEAD" => {
                    if let Some(branch) = default.take() {
                        self.bases.insert(branch, Some(left.to_owned()));
                    }
                }
                None => {
                    if let Some(branch) = wanted.iter().position(|wanted| wanted == name) {
                        self.bases.insert(self.wanted[branch].clone(), Some(left.to_owned()));
                    }
                }
            }
        }
        Ok(tip)
    }

    /// Fetches the branch's commit, whichever it is at that moment.
    fn fetch(&mut self) -> Result<Option<String>> {
        for _ in 0..MOVES {
            let Some(tip) = self.tip()? else { return Ok(None) };
            let fetched = self.ask(&[
                "-c",
                "gc.auto=0",
                "-c",
                "maintenance.auto=false",
                "fetch",
                "--quiet",
                "--no-tags",
                "--no-prune",
                "--no-filter",
                "--no-recurse-submodules",
                "--no-write-fetch-head",
                ALIAS,
                &self.reference,
            ]);
            if self.ask(&["cat-file", "-e", &format!("{tip}^{{commit}}")]).is_ok() {
                return Ok(Some(tip));
            }
            // Where it moved in between the next look finds it; where it was deleted, too.
            if let Err(error) = fetched
                && self.tip()?.as_ref() == Some(&tip)
            {
                return Err(error.context(format!("{}: cannot be fetched", self.label)));
            }
        }
        bail!("{}: the branch moves faster than it can be fetched; try again", self.label)
    }

    /// Refuses a commit that a push must not replace or whose database is not where ours is.
    fn examine(&self, commit: &str) -> Result<()> {
        let header = self.ask(&["cat-file", "commit", commit])?;
        if header.lines().take_while(|line| !line.is_empty()).any(|line| line.starts_with("parent ")) {
            return Err(not_ours(&self.label, "the branch has a history"));
        }
        let listed = self.ask(&["ls-tree", "-z", "--name-only", commit])?;
        let names: Vec<&str> = listed.split('\0').filter(|name| !name.is_empty()).collect();
        if let Some(other) = names.iter().find(|name| ![FILE, README].contains(*name)) {
            return Err(not_ours(&self.label, &format!("the branch holds `{other}`")));
        }
        if !names.contains(&FILE) {
            return Err(not_ours(&self.label, &format!("the branch holds no {FILE}")));
        }
        Ok(())
    }

    /// Makes the commit that will be the branch.
    fn make_commit(&self, file: &Path) -> Result<String> {
        let file = file.to_str().context("the folder for temporary files has a name that is not UTF-8")?;
        let database = self.ask(&["hash-object", "-w", "--no-filters", "--", file])?;
        let about = self.told(&["hash-object", "-w", "--stdin"], ABOUT)?;
        let tree = format!("100644 blob {about}\t{README}\n100644 blob {database}\t{FILE}\n");
        let tree = self.told(&["mktree"], &tree)?;
        let message = format!(
            "baselines, by regrade {} [skip ci]\n\nReplaced as a whole by each `regrade baseline push`.\n",
            env!("CARGO_PKG_VERSION")
        );
        self.told(&["commit-tree", &tree], &message)
    }

    /// As [`ask`], with something to read.
    fn told(&self, arguments: &[&str], input: &str) -> Result<String> {
        use std::io::Write as _;
        let mut command = command(&self.environment, arguments);
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "regrade").env(format!("GIT_{who}_EMAIL"), "regrade@invalid");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot run git; is it installed?")?;
        child.stdin.take().expect("it was piped").write_all(input.as_bytes())?;
        answer(arguments, &child.wait_with_output()?)
    }
}

impl Meeting for Branch {
    fn label(&self) -> String {
        self.label.clone()
    }

    fn take(&mut self, target: &Path) -> Result<bool> {
        self.taken = self.fetch()?;
        let Some(commit) = self.taken.clone() else { return Ok(false) };
        self.examine(&commit)?;
        let blob = format!("{commit}:{FILE}");
        let arguments = ["cat-file", "blob", &blob];
        let mut command = command(&self.environment, &arguments);
        let output = command.stdout(File::create(target)?).output().context("cannot run git; is it installed?")?;
        answer(&arguments, &output)?;
        Ok(true)
    }

    fn commit(&self) -> Option<String> {
        self.taken.clone()
    }

    fn bases(&self) -> BTreeMap<String, Option<String>> {
        self.bases.clone()
    }

    fn put(&mut self, file: &Path) -> Result<Put> {
        let commit = self.make_commit(file)?;
        // Compare and swap: an empty expectation is that the branch does not exist.
        let lease = format!("--force-with-lease={}:{}", self.reference, self.taken.as_deref().unwrap_or_default());
        let target = format!("{commit}:{}", self.reference);
        let output = command(
            &self.environment,
            &[
                "push",
                "--porcelain",
                // Hooks and tags are about the user's own commits.
                "--no-verify",
                "--no-follow-tags",
                "--recurse-submodules=no",
                &lease,
                ALIAS,
                &target,
            ],
        )
        .output()
        .context("cannot run git; is it installed?")?;
        if output.status.success() {
            return Ok(Put::Done(Some(commit)));
        }
        let said = String::from_utf8_lossy(&output.stdout);
        // `!<tab>from:to<tab>[rejected] (stale info)`
        let refused = said.lines().find(|line| line.starts_with('!')).and_then(|line| line.rsplit('\t').next());
        let words = secret::without_credentials(String::from_utf8_lossy(&output.stderr).trim());
        let Some(refused) = refused else {
            bail!(
                "{}: cannot be pushed: {words}; may this user or job write to the remote? (in GitHub Actions: \
                 `permissions: contents: write`)",
                self.label
            );
        };
        let refused = secret::without_credentials(refused);
        if self.tip()? != self.taken {
            self.strikes = 0;
            return Ok(Put::Lost("another push came first".to_owned()));
        }
        self.strikes += 1;
        if refused.contains("declined") || self.strikes >= STRIKES {
            bail!(
                "{}: the remote refuses: {refused} {words}; the branch must not be protected, and must take forced pushes",
                self.label
            );
        }
        // Two pushes that reach the remote at one moment hinder each other there.
        Ok(Put::Lost(refused))
    }
}

/// What makes git know a remote as [`ALIAS`]: how it is reached, and none of its refspecs. Given through the environment,
/// where no list of processes shows it.
///
/// # Errors
/// When there is no such remote.
fn configured(remote: &str, pushing: bool) -> Result<Vec<(String, String)>> {
    let setting = |name: &str| ask(&[], &["config", "--get-all", &format!("remote.{remote}.{name}")]).ok();
    let first = |name: &str| setting(name).and_then(|all| all.lines().next().map(str::to_owned));
    let mut settings: Vec<(String, String)> = Vec::new();
    // One address for reading and writing: what is compared must be what is swapped.
    let push_url = first("pushurl").filter(|_| pushing);
    if let Some(url) = &push_url {
        settings.push(("url".to_owned(), url.clone()));
        settings.push(("pushurl".to_owned(), url.clone()));
    } else if let Some(url) = first("url") {
        settings.push(("url".to_owned(), url));
    } else if Path::new(remote).exists() {
        let path: PathBuf = fs::canonicalize(remote)?;
        settings.push(("url".to_owned(), path.display().to_string()));
    } else if remote.contains(':') {
        settings.push(("url".to_owned(), remote.to_owned()));
    } else {
        let there = ask(&[], &["remote"]).unwrap_or_default().lines().collect::<Vec<_>>().join(", ");
        let there = if there.is_empty() { "there is none".to_owned() } else { format!("there is: {there}") };
        bail!(
            "no git remote is called `{remote}` here ({there}); name one with --remote, add it with `git remote add \
             {remote} URL`, or name a folder with --to or --from"
        );
    }
    for name in REACHING {
        for value in setting(name).iter().flat_map(|all| all.lines()) {
            settings.push(((*name).to_owned(), value.to_owned()));
        }
    }
    settings.push(("followRemoteHEAD".to_owned(), "never".to_owned()));
    // The caller may use the same way to give git its credentials.
    let before: usize = std::env::var("GIT_CONFIG_COUNT").ok().and_then(|count| count.parse().ok()).unwrap_or(0);
    let mut environment = vec![("GIT_CONFIG_COUNT".to_owned(), (before + settings.len()).to_string())];
    for (at, (name, value)) in settings.into_iter().enumerate() {
        environment.push((format!("GIT_CONFIG_KEY_{}", before + at), format!("remote.{ALIAS}.{name}")));
        environment.push((format!("GIT_CONFIG_VALUE_{}", before + at), value));
    }
    Ok(environment)
}

fn command(environment: &[(String, String)], arguments: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.args(arguments).stdin(Stdio::null());
    // A question that nobody answers would wait for ever; what git says is read below.
    command.env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C");
    // Set by hooks and by git's own commands; they would make git look at another repository.
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_ALTERNATE_OBJECT_DIRECTORIES"] {
        command.env_remove(variable);
    }
    command.env_remove("GIT_OBJECT_DIRECTORY").envs(environment.iter().map(|(name, value)| (name, value)));
    command
}

fn ask(environment: &[(String, String)], arguments: &[&str]) -> Result<String> {
    let output = command(environment, arguments).output().context("cannot run git; is it installed?")?;
    answer(arguments, &output)
}

/// Trimmed standard output; git's own words, without secrets, where it failed.
fn answer(arguments: &[&str], output: &Output) -> Result<String> {
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let verb = arguments.iter().find(|word| !word.starts_with('-') && !word.contains('=')).unwrap_or(&"");
        bail!("`git {verb}` failed: {}", secret::without_credentials(said.trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned())
}
