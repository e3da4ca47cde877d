//! What git and the CI environment say about the work tree. Everything may be absent.

use std::process::Command;

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
        let branch = variable("GITHUB_HEAD_REF")
            .or_else(|| git(&["symbolic-ref", "--quiet", "--short", "HEAD"]))
            .or_else(|| variable("GITHUB_REF_NAME"));
        let base_branch = variable("GITHUB_BASE_REF").or_else(default_branch);
        let dirty = git(&["status", "--porcelain", "--untracked-files=no"]).is_some();
        Self { commit, branch, dirty, base_branch }
    }
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
