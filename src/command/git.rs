//! What git and the CI environment say about the work tree. Everything may be absent.

use std::process::Command;

use serde::Serialize;

/// Where the work tree stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkTree {
    /// Full commit hash.
    pub commit: Option<String>,
    /// Branch name.
    pub branch: Option<String>,
    /// Whether there are uncommitted changes.
    pub dirty: bool,
    /// Branch that changes are measured against.
    pub base_branch: Option<String>,
}

impl WorkTree {
    /// Asks git, and on a detached head the variables of GitHub Actions.
    #[must_use]
    pub fn detect() -> Self {
        let commit = git(&["rev-parse", "HEAD"]);
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        // A fork's branch that bears the name of the branch it asks to be merged into is not that branch.
        let base = variable("GITHUB_BASE_REF");
        let branch = variable("GITHUB_HEAD_REF")
            .map(|head| if base.as_ref() == Some(&head) { format!("fork of {head}") } else { head })
            .or_else(|| git(&["symbolic-ref", "--quiet", "--short", "HEAD"]))
            .or_else(|| variable("GITHUB_REF_NAME"));
        let base_branch = base.or_else(default_branch);
        let dirty = git(&["status", "--porcelain", "--untracked-files=no"]).is_some();
        Self { commit, branch, dirty, base_branch }
    }
}

/// A commit that may have brought a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Suspect {
    /// Full hash.
    pub commit: String,
    /// `name <email>`.
    pub author: String,
    /// First line of its message.
    pub subject: String,
}

/// The commits after `after` up to and with `to`, the newest first, `most` of them; none where git does not know them.
/// Without `after` only `to` itself.
pub fn commits(after: Option<&str>, to: &str, most: usize) -> Vec<Suspect> {
    // Hashes come from the database: what is none could be read as an option.
    let is_hash = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_hexdigit());
    if !is_hash(to) || after.is_some_and(|after| !is_hash(after)) || after == Some(to) {
        return Vec::new();
    }
    let range = after.map_or_else(|| to.to_owned(), |after| format!("{after}..{to}"));
    let most = format!("-{}", if after.is_some() { most } else { 1 });
    let said = git(&["log", &most, "--format=%H%x1f%an <%ae>%x1f%s", &range, "--"]).unwrap_or_default();
    let suspect = |line: &str| {
        let mut parts = line.split('\u{1f}').map(str::to_owned);
        Some(Suspect { commit: parts.next()?, author: parts.next()?, subject: parts.next()? })
    };
    said.lines().filter_map(suspect).collect()
}

/// Whether a commit is another, or one of its ancestors; not where git does not know them.
pub fn is_ancestor(ancestor: &str, of: &str) -> bool {
    // From the database: what is no hash could be read as an option.
    let hash = !ancestor.is_empty() && ancestor.chars().all(|c| c.is_ascii_hexdigit());
    let arguments = ["merge-base", "--is-ancestor", ancestor, of];
    hash && Command::new("git").args(arguments).output().is_ok_and(|output| output.status.success())
}

/// `name <email>` of whoever works here, as git knows them.
pub fn person() -> Option<String> {
    let name = git(&["config", "user.name"]);
    let email = git(&["config", "user.email"]).map(|email| format!("<{email}>"));
    let parts: Vec<String> = [name, email].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}

/// The remote's default branch, or whichever of the usual names exists.
fn default_branch() -> Option<String> {
    if let Some(head) = git(&["symbolic-ref", "--quiet", "--short", "refs/remotes/origin/HEAD"]) {
        return Some(head.trim_start_matches("origin/").to_owned());
    }
    ["main", "master"]
        .into_iter()
        .find(|name| {
            git(&["rev-parse", "--verify", "--quiet", &format!("refs/heads/{name}")]).is_some()
                || git(&["rev-parse", "--verify", "--quiet", &format!("refs/remotes/origin/{name}")]).is_some()
        })
        .map(str::to_owned)
}

/// Trimmed standard output of a git command; `None` when it fails, is absent, or says nothing.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
