//! What another workflow run left behind: which pull request it was about, by GitHub's word alone, and the bytes of its
//! artifact, by nobody's.
//!
//! Whoever brought the code that ran wrote the artifact and named the workflow. Must not look into what it fetches.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use thiserror::Error;

use crate::github::check::{Trust, encoded};
use crate::github::event::{Repository, full_hash};
use crate::github::hub::{Call, Hub, HubError, all, promised};

/// The largest artifact fetched, bytes. A report of a million samples is some 8 MB in a zip file.
pub const MOST_BYTES: usize = 32 << 20;
/// The largest file of the base branch that is read, bytes: the API gives no more at once.
const MOST_FILE: u64 = 1 << 20;

/// Why there is nothing to post.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The API said no.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// No open pull request has this commit as its head any more. It happens every day.
    #[error("{0}")]
    Stale(String),
    /// It is not what may be posted about.
    #[error("{0}")]
    Unfit(String),
}

/// What was measured, and whose code it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Full hash of what was proposed.
    pub sha: String,
    /// The pull request; absent for a merge queue's commit.
    pub pull_request: Option<u64>,
    /// The branch that it is to be merged into.
    pub base: String,
    /// Whose word the report is.
    pub trust: Trust,
    /// Page of the workflow run.
    pub url: Option<String>,
}

/// A run of another workflow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its id.
    pub id: u64,
    /// How it ended; absent while it goes on.
    pub conclusion: Option<String>,
    /// What it was started by.
    pub origin: Origin,
}

/// What a run of another workflow was started by: a pull request, or the queue of those that are merged next.
///
/// # Errors
/// [`Refusal::Stale`] where the pull request has moved on, [`Refusal::Unfit`] where the run is of something else.
pub fn of_run(hub: &mut dyn Hub, repository: &Repository, id: u64) -> Result<Run, Refusal> {
    let found = hub.send(&Call::get(format!("{}/actions/runs/{id}", repository.path())))?.body;
    let text = |key: &str| found[key].as_str().unwrap_or_default();
    let unfit = |why: String| Refusal::Unfit(format!("workflow run {id} {why}"));
    let sha = full_hash(text("head_sha")).ok_or_else(|| unfit("has no commit".to_owned()))?;
    let from = found.pointer("/head_repository/full_name").and_then(Value::as_str).and_then(Repository::parse);
    let from = from.ok_or_else(|| Refusal::Stale(format!("workflow run {id} is of a fork that is gone")))?;
    let url = found["html_url"].as_str().map(str::to_owned);
    let origin = match text("event") {
        "pull_request" => {
            let numbers: Vec<u64> = found["pull_requests"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|pull| pull["number"].as_u64())
                .collect();
            let pull = pull_of(hub, repository, &from, text("head_branch"), &sha, &numbers)?;
            origin(repository, &pull, sha, false, url)?
        }
        "merge_group" => {
            // `gh-readonly-queue/main/pr-7-0123…`, made by GitHub of what people here let into the queue.
            let base = text("head_branch").strip_prefix("gh-readonly-queue/").and_then(|rest| rest.rsplit_once("/pr-"));
            let (base, _) =
                base.filter(|_| from == *repository).ok_or_else(|| unfit("is of no merge queue here".to_owned()))?;
            Origin { sha, pull_request: None, base: base.to_owned(), trust: Trust::Own, url }
        }
        other => return Err(unfit(format!("was started by `{}` and not by a pull request", plain(other)))),
    };
    let conclusion = (text("status") == "completed").then(|| plain(text("conclusion")));
    Ok(Run { id, conclusion, origin })
}

/// The one open pull request with this head. `numbers` are those that the run itself names: none for forks.
fn pull_of(
    hub: &mut dyn Hub,
    repository: &Repository,
    from: &Repository,
    branch: &str,
    sha: &str,
    numbers: &[u64],
) -> Result<Value, Refusal> {
    let head = encoded(&format!("{}:{branch}", from.owner));
    let mut pulls = all(hub, &format!("{}/pulls?state=open&head={head}&per_page=100", repository.path()), |body| body)?;
    pulls.retain(|pull| {
        let at = |at: &str| pull.pointer(at).and_then(Value::as_str);
        at("/head/sha").and_then(full_hash).as_deref() == Some(sha)
            && at("/head/repo/full_name").and_then(Repository::parse).as_ref() == Some(from)
    });
    if pulls.len() > 1 && numbers.len() == 1 {
        pulls.retain(|pull| pull["number"].as_u64() == Some(numbers[0]));
    }
    match pulls.len() {
        0 => Err(Refusal::Stale(format!(
            "no open pull request has {} as its head: it was pushed to since, or closed",
            &sha[..10]
        ))),
        1 => Ok(pulls.swap_remove(0)),
        several => Err(Refusal::Unfit(format!(
            "{} is the head of {several} open pull requests of the same branch, and nobody says which was measured",
            &sha[..10]
        ))),
    }
}

/// A pull request, at the commit that a maintainer named, or as it is now. `reviewed`: somebody here has read that commit.
///
/// # Errors
/// [`Refusal::Stale`] where its head is another by now, or it is closed.
pub fn of_pull(
    hub: &mut dyn Hub,
    repository: &Repository,
    number: u64,
    sha: Option<&str>,
    reviewed: bool,
) -> Result<Origin, Refusal> {
    let pull = hub.send(&Call::get(format!("{}/pulls/{number}", repository.path())))?.body;
    if pull["state"].as_str() != Some("open") {
        return Err(Refusal::Stale(format!("pull request {number} is closed")));
    }
    let head = pull.pointer("/head/sha").and_then(Value::as_str).and_then(full_hash);
    let head = head.ok_or_else(|| Refusal::Unfit(format!("pull request {number} has no head")))?;
    if let Some(sha) = sha.filter(|sha| *sha != head) {
        return Err(Refusal::Stale(format!(
            "pull request {number} has moved on to {}, and {} was measured",
            &head[..10],
            &sha[..10]
        )));
    }
    Ok(origin(repository, &pull, head, reviewed, None)?)
}

fn origin(
    repository: &Repository,
    pull: &Value,
    sha: String,
    reviewed: bool,
    url: Option<String>,
) -> Result<Origin, HubError> {
    let from = pull.pointer("/head/repo/full_name").and_then(Value::as_str).and_then(Repository::parse);
    let base = pull.pointer("/base/ref").and_then(Value::as_str);
    let base = base.ok_or_else(|| HubError::Unexpected {
        call: "the pull request".to_owned(),
        what: "the answer has no base".to_owned(),
    })?;
    let trust = match (from.as_ref() == Some(repository), reviewed) {
        (true, _) => Trust::Own,
        (false, true) => Trust::Reviewed,
        (false, false) => Trust::Fork,
    };
    Ok(Origin {
        sha,
        pull_request: Some(promised("the pull request", pull, "number", Value::as_u64)?),
        base: base.to_owned(),
        trust,
        url,
    })
}

/// The default branch.
///
/// # Errors
/// As [`Hub::send`].
pub fn default_branch(hub: &mut dyn Hub, repository: &Repository) -> Result<String, HubError> {
    let call = Call::get(repository.path());
    let found = hub.send(&call)?.body;
    promised(&call.to_string(), &found, "default_branch", Value::as_str).map(str::to_owned)
}

/// The newest artifact of a run that has this name: a run that is started again keeps those of its earlier attempts. `None`
/// where it left none.
///
/// # Errors
/// [`Refusal::Unfit`] where it is too large or has expired.
pub fn fetch(hub: &mut dyn Hub, repository: &Repository, run: u64, name: &str) -> Result<Option<Vec<u8>>, Refusal> {
    let list = format!("{}/actions/runs/{run}/artifacts?name={}&per_page=100", repository.path(), encoded(name));
    let found = all(hub, &list, |body| &body["artifacts"])?;
    let named = found.iter().filter(|artifact| artifact["name"].as_str() == Some(name));
    let Some(artifact) = named.max_by_key(|artifact| artifact["id"].as_u64()) else { return Ok(None) };
    let unfit = |why: String| Refusal::Unfit(format!("workflow run {run} {why}"));
    if artifact["expired"].as_bool() == Some(true) {
        return Err(unfit(format!("left an artifact `{name}` that has expired; run it again")));
    }
    let size = promised(&list, artifact, "size_in_bytes", Value::as_u64)?;
    if size > MOST_BYTES as u64 {
        return Err(unfit(format!("left an artifact of {size} bytes; {MOST_BYTES} are the most")));
    }
    let id = promised(&list, artifact, "id", Value::as_u64)?;
    Ok(Some(hub.download(&format!("{}/actions/artifacts/{id}/zip", repository.path()), MOST_BYTES)?))
}

/// A text file of a branch; `None` where there is none.
///
/// # Errors
/// As [`Hub::send`].
pub fn file(hub: &mut dyn Hub, repository: &Repository, path: &str, branch: &str) -> Result<Option<String>, HubError> {
    let path: Vec<String> = path.split('/').map(encoded).collect();
    let call = Call::get(format!("{}/contents/{}?ref={}", repository.path(), path.join("/"), encoded(branch)));
    let found = match hub.send(&call) {
        Ok(answer) => answer.body,
        Err(error) if error.is_absent() => return Ok(None),
        Err(error) => return Err(error),
    };
    let wrong = |what: &str| HubError::Unexpected { call: call.to_string(), what: what.to_owned() };
    if found["size"].as_u64().is_some_and(|size| size > MOST_FILE) {
        return Err(wrong("the file is larger than 1 MiB"));
    }
    let content = found["content"].as_str().filter(|_| found["encoding"].as_str() == Some("base64"));
    let content = content.ok_or_else(|| wrong("this is no file"))?;
    let packed: String = content.split_ascii_whitespace().collect();
    let bytes = BASE64_STANDARD.decode(packed).map_err(|_| wrong("the content is no base64"))?;
    String::from_utf8(bytes).map(Some).map_err(|_| wrong("the file is not UTF-8 text"))
}

/// A word of an answer that goes into a message.
fn plain(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(40).collect()
}
