//! What another workflow run left behind: which pull request it was about, by GitHub's word alone, and the bytes of its
//! artifact, by nobody's.
//!
//! Whoever brought the code that ran wrote the artifact and named the workflow. Must not look into what it fetches.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use thiserror::Error;

use crate::github::check::encoded;
use crate::github::event::{Repository, full_hash};
use crate::github::hub::{Call, Hub, HubError, all, promised};

/// The largest artifact fetched, bytes. A report of a million samples is some 8 MB in a zip file.
pub const MOST_BYTES: usize = 48 << 20;
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
    /// Full hash of the pull request's head.
    pub sha: String,
    /// The pull request.
    pub pull_request: u64,
    /// The branch that it is to be merged into.
    pub base: String,
    /// Whether its code comes from another repository.
    pub fork: bool,
    /// Page of the workflow run.
    pub url: Option<String>,
}

/// The pull request that a finished run of another workflow was started by.
///
/// # Errors
/// [`Refusal::Stale`] where it has moved on, [`Refusal::Unfit`] where the run was none of a pull request.
pub fn of_run(hub: &mut dyn Hub, repository: &Repository, run: u64) -> Result<Origin, Refusal> {
    let path = format!("{}/actions/runs/{run}", repository.path());
    let found = hub.send(&Call::get(path.clone()))?.body;
    let text = |key: &str| found[key].as_str().unwrap_or_default();
    let unfit = |why: String| Refusal::Unfit(format!("workflow run {run} {why}"));
    if text("event") != "pull_request" {
        return Err(unfit(format!("was started by `{}` and not by a pull request", plain(text("event")))));
    }
    if text("status") != "completed" {
        return Err(unfit(format!("is `{}` and not completed", plain(text("status")))));
    }
    let sha = full_hash(text("head_sha")).ok_or_else(|| unfit("has no commit".to_owned()))?;
    let Some(from) = found.pointer("/head_repository/full_name").and_then(Value::as_str).and_then(Repository::parse)
    else {
        return Err(Refusal::Stale(format!("workflow run {run} is of a fork that is gone")));
    };
    let branch = text("head_branch");
    // The run's own list of pull requests is empty for forks.
    let head = encoded(&format!("{}:{branch}", from.owner));
    let list = format!("{}/pulls?state=open&head={head}&per_page=100", repository.path());
    let pulls = all(hub, &list, |body| body)?;
    let its = |pull: &&Value| {
        let same = |at: &str, wanted: &str| {
            pull.pointer(at).and_then(Value::as_str).is_some_and(|found| found.eq_ignore_ascii_case(wanted))
        };
        same("/head/sha", &sha) && same("/head/repo/full_name", &from.to_string())
    };
    let pulls: Vec<&Value> = pulls.iter().filter(its).collect();
    match pulls.as_slice() {
        [] => Err(Refusal::Stale(format!(
            "no open pull request has {} as its head: it was pushed to since, or closed",
            &sha[..10]
        ))),
        [pull] => {
            let url = found["html_url"].as_str().map(str::to_owned);
            Ok(origin(repository, pull, sha, url)?)
        }
        several => Err(unfit(format!("belongs to {} open pull requests of the same branch", several.len()))),
    }
}

/// A pull request whose commit a maintainer named.
///
/// # Errors
/// [`Refusal::Stale`] where its head is another by now, or it is closed.
pub fn of_pull(hub: &mut dyn Hub, repository: &Repository, number: u64, sha: &str) -> Result<Origin, Refusal> {
    let pull = hub.send(&Call::get(format!("{}/pulls/{number}", repository.path())))?.body;
    if pull["state"].as_str() != Some("open") {
        return Err(Refusal::Stale(format!("pull request {number} is closed")));
    }
    let head = pull.pointer("/head/sha").and_then(Value::as_str).and_then(full_hash);
    match head {
        Some(head) if head == sha => Ok(origin(repository, &pull, head, None)?),
        Some(head) => Err(Refusal::Stale(format!(
            "pull request {number} has moved on to {}, and {} was measured",
            &head[..10],
            &sha[..10]
        ))),
        None => Err(Refusal::Unfit(format!("pull request {number} has no head"))),
    }
}

fn origin(repository: &Repository, pull: &Value, sha: String, url: Option<String>) -> Result<Origin, HubError> {
    let from = pull.pointer("/head/repo/full_name").and_then(Value::as_str).and_then(Repository::parse);
    let base = pull.pointer("/base/ref").and_then(Value::as_str);
    let base = base.ok_or_else(|| HubError::Unexpected {
        call: "the pull request".to_owned(),
        what: "the answer has no base".to_owned(),
    })?;
    Ok(Origin {
        sha,
        pull_request: promised("the pull request", pull, "number", Value::as_u64)?,
        base: base.to_owned(),
        fork: from.as_ref() != Some(repository),
        url,
    })
}

/// The one artifact of a run that has this name.
///
/// # Errors
/// [`Refusal::Unfit`] where there is none, several, or one that is too large or has expired.
pub fn fetch(hub: &mut dyn Hub, repository: &Repository, run: u64, name: &str) -> Result<Vec<u8>, Refusal> {
    let list = format!("{}/actions/runs/{run}/artifacts?name={}&per_page=100", repository.path(), encoded(name));
    let found = all(hub, &list, |body| &body["artifacts"])?;
    let named: Vec<&Value> = found.iter().filter(|artifact| artifact["name"].as_str() == Some(name)).collect();
    let unfit = |why: String| Refusal::Unfit(format!("workflow run {run} {why}"));
    let [artifact] = named.as_slice() else {
        return Err(match named.len() {
            0 => unfit(format!("left no artifact `{name}`: it measured nothing; its log says why")),
            several => unfit(format!("left {several} artifacts `{name}`, and nobody knows which one counts")),
        });
    };
    if artifact["expired"].as_bool() == Some(true) {
        return Err(unfit(format!("left an artifact `{name}` that has expired; run it again")));
    }
    let size = promised(&list, artifact, "size_in_bytes", Value::as_u64)?;
    if size > MOST_BYTES as u64 {
        return Err(unfit(format!("left an artifact of {size} bytes; {MOST_BYTES} are the most")));
    }
    let id = promised(&list, artifact, "id", Value::as_u64)?;
    Ok(hub.download(&format!("{}/actions/artifacts/{id}/zip", repository.path()), MOST_BYTES)?)
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
