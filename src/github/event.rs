//! What a workflow was started by, read from the environment of the job and the event's payload.
//!
//! The commit that is reported is the one that was measured: the head of the pull request, never the merge commit that
//! GitHub checks out by default. Must not ask the API anything.

use serde_json::Value;
use thiserror::Error;

/// Length of a full commit hash.
const HASH: usize = 40;

/// What cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EventError {
    /// A variable that GitHub sets is absent or odd.
    #[error("{name} {what}")]
    Variable {
        /// The variable.
        name: &'static str,
        /// What is wrong, and what to do.
        what: String,
    },
    /// The payload lacks what this event's documentation promises.
    #[error("the payload of `{event}` ({path}) has no usable `{key}`")]
    Payload {
        /// The event.
        event: String,
        /// The file.
        path: String,
        /// The missing key.
        key: &'static str,
    },
}

/// What started the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A pull request was opened or pushed to.
    PullRequest,
    /// A branch was pushed to.
    Push,
    /// A clock.
    Schedule,
    /// A person, by hand.
    Dispatch,
    /// Another workflow ended.
    WorkflowRun,
    /// A merge queue tries a group.
    MergeGroup,
    /// A comment on an issue or a pull request.
    Comment,
}

impl Kind {
    const NAMES: [(&'static str, Self); 8] = [
        ("pull_request", Self::PullRequest),
        ("pull_request_target", Self::PullRequest),
        ("push", Self::Push),
        ("schedule", Self::Schedule),
        ("workflow_dispatch", Self::Dispatch),
        ("workflow_run", Self::WorkflowRun),
        ("merge_group", Self::MergeGroup),
        ("issue_comment", Self::Comment),
    ];
}

/// A repository, as `owner/name`. GitHub does not tell upper from lower case in either.
#[derive(Debug, Clone, Eq)]
pub struct Repository {
    /// The account.
    pub owner: String,
    /// The name.
    pub name: String,
}

impl Repository {
    /// Reads `owner/name`; `None` for anything else, so that it is safe in a path.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (owner, name) = text.split_once('/')?;
        let plain = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        };
        (plain(owner) && plain(name)).then(|| Self { owner: owner.to_owned(), name: name.to_owned() })
    }

    /// Where its part of the API begins.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/repos/{}/{}", self.owner, self.name)
    }
}

impl PartialEq for Repository {
    fn eq(&self, other: &Self) -> bool {
        self.owner.eq_ignore_ascii_case(&other.owner) && self.name.eq_ignore_ascii_case(&other.name)
    }
}

impl std::fmt::Display for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

/// The run of another workflow that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Its id.
    pub run: u64,
    /// File of the workflow, such as `.github/workflows/bench.yml`: names can be forged, paths on the default branch not.
    pub workflow: String,
    /// What had started it.
    pub event: String,
    /// Branch of its head.
    pub branch: String,
    /// Repository of its head; absent where a fork was deleted.
    pub repository: Option<Repository>,
}

/// A comment on an issue or a pull request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comment {
    /// Its id.
    pub id: u64,
    /// Who wrote it.
    pub author: String,
    /// Whether a machine account did.
    pub by_bot: bool,
    /// The text.
    pub body: String,
    /// `created`, `edited` or `deleted`.
    pub action: String,
}

/// What is known of the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What started it.
    pub kind: Kind,
    /// Where it runs.
    pub repository: Repository,
    /// Address of the API.
    pub api_url: String,
    /// Address of the web pages.
    pub server_url: String,
    /// Page of this workflow run.
    pub run_url: Option<String>,
    /// The commit that is reported on: full hash.
    pub head: Option<String>,
    /// The commit or the branch that it is compared with, where the event says.
    pub base: Option<String>,
    /// Number of the pull request.
    pub pull_request: Option<u64>,
    /// Whether head comes from another repository, whose code nobody here has reviewed.
    pub fork: bool,
    /// The workflow run that ended, for [`Kind::WorkflowRun`].
    pub upstream: Option<Upstream>,
    /// The comment, for [`Kind::Comment`].
    pub comment: Option<Comment>,
}

impl Event {
    /// Reads the environment through `variable`, and the payload through `read`.
    ///
    /// # Errors
    /// Where a variable that GitHub sets is absent, or the payload lacks what is documented.
    pub fn read(
        variable: impl Fn(&str) -> Option<String>,
        read: impl Fn(&str) -> Result<String, String>,
    ) -> Result<Self, EventError> {
        let must = |name: &'static str| {
            variable(name).filter(|value| !value.is_empty()).ok_or_else(|| EventError::Variable {
                name,
                what: "is not set: this is no GitHub Actions job; --repo, --sha and --pr say what it would".to_owned(),
            })
        };
        let wrong = |name: &'static str, what: String| EventError::Variable { name, what };
        let name = must("GITHUB_EVENT_NAME")?;
        let kind = Kind::NAMES.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind).ok_or_else(|| {
            let known: Vec<&str> = Kind::NAMES.iter().map(|(name, _)| *name).collect();
            wrong(
                "GITHUB_EVENT_NAME",
                format!("is `{name}`, which has nothing to report on; known are {}", known.join(", ")),
            )
        })?;
        let text = must("GITHUB_REPOSITORY")?;
        let repository = Repository::parse(&text)
            .ok_or_else(|| wrong("GITHUB_REPOSITORY", format!("is `{text}`, which is no owner/name")))?;
        let path = must("GITHUB_EVENT_PATH")?;
        let payload = read(&path).map_err(|what| wrong("GITHUB_EVENT_PATH", what))?;
        let payload: Value = serde_json::from_str(&payload)
            .map_err(|error| wrong("GITHUB_EVENT_PATH", format!("names {path}, which is no JSON: {error}")))?;
        let or = |name: &str, usual: &str| {
            variable(name).filter(|value| !value.is_empty()).unwrap_or_else(|| usual.to_owned())
        };
        let server_url = or("GITHUB_SERVER_URL", "https://github.com").trim_end_matches('/').to_owned();
        let run = variable("GITHUB_RUN_ID").filter(|id| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()));
        let mut event = Self {
            kind,
            api_url: or("GITHUB_API_URL", "https://api.github.com").trim_end_matches('/').to_owned(),
            run_url: run.map(|id| format!("{server_url}/{repository}/actions/runs/{id}")),
            server_url,
            head: variable("GITHUB_SHA").and_then(|hash| full_hash(&hash)),
            base: None,
            pull_request: None,
            fork: false,
            upstream: None,
            comment: None,
            repository,
        };
        let lacks = |key| EventError::Payload { event: name.clone(), path: path.clone(), key };
        event.fill(&payload, lacks)?;
        Ok(event)
    }

    fn fill(&mut self, payload: &Value, lacks: impl Fn(&'static str) -> EventError) -> Result<(), EventError> {
        let text = |at: &str| payload.pointer(at).and_then(Value::as_str).map(str::to_owned);
        let number = |at: &str| payload.pointer(at).and_then(Value::as_u64);
        let hash = |at: &str| text(at).and_then(|hash| full_hash(&hash));
        let repository = |at: &str| text(at).and_then(|name| Repository::parse(&name));
        match self.kind {
            Kind::PullRequest => {
                let at = "/pull_request/head/sha";
                self.head = Some(hash(at).ok_or_else(|| lacks("pull_request.head.sha"))?);
                self.base = hash("/pull_request/base/sha");
                self.pull_request = Some(number("/pull_request/number").ok_or_else(|| lacks("pull_request.number"))?);
                // A fork that is gone has no repository any more, and is one all the same.
                let from = repository("/pull_request/head/repo/full_name");
                self.fork = from.as_ref() != Some(&self.repository);
            }
            Kind::Push => {
                self.head = hash("/after").filter(|hash| hash.bytes().any(|byte| byte != b'0'));
                self.base = hash("/before").filter(|hash| hash.bytes().any(|byte| byte != b'0'));
            }
            Kind::Schedule => {}
            Kind::Dispatch => {
                // A reviewed commit of a fork is named by whoever starts the workflow.
                let input = |name: &str| {
                    let value = payload.pointer("/inputs")?.get(name)?;
                    value.as_str().map(str::to_owned).or_else(|| value.as_u64().map(|number| number.to_string()))
                };
                if let Some(given) = input("sha").filter(|given| !given.is_empty()) {
                    self.head = Some(full_hash(&given).ok_or_else(|| lacks("inputs.sha (40 hexadecimal digits)"))?);
                    self.fork = true;
                }
                if let Some(given) = input("pr").filter(|given| !given.is_empty()) {
                    self.pull_request = Some(given.parse().map_err(|_| lacks("inputs.pr (a number)"))?);
                }
            }
            Kind::WorkflowRun => {
                self.head = Some(hash("/workflow_run/head_sha").ok_or_else(|| lacks("workflow_run.head_sha"))?);
                let from = repository("/workflow_run/head_repository/full_name");
                self.fork = from.as_ref() != Some(&self.repository);
                self.upstream = Some(Upstream {
                    run: number("/workflow_run/id").ok_or_else(|| lacks("workflow_run.id"))?,
                    workflow: text("/workflow_run/path").or_else(|| text("/workflow/path")).unwrap_or_default(),
                    event: text("/workflow_run/event").ok_or_else(|| lacks("workflow_run.event"))?,
                    branch: text("/workflow_run/head_branch").unwrap_or_default(),
                    repository: from,
                });
            }
            Kind::MergeGroup => {
                self.head = Some(hash("/merge_group/head_sha").ok_or_else(|| lacks("merge_group.head_sha"))?);
                self.base = hash("/merge_group/base_sha");
            }
            Kind::Comment => {
                // The default branch's commit is what the job runs on; what the comment is about, only the API knows.
                self.head = None;
                let issue = number("/issue/number").ok_or_else(|| lacks("issue.number"))?;
                self.pull_request = payload.pointer("/issue/pull_request").map(|_| issue);
                self.comment = Some(Comment {
                    id: number("/comment/id").ok_or_else(|| lacks("comment.id"))?,
                    author: text("/comment/user/login").ok_or_else(|| lacks("comment.user.login"))?,
                    by_bot: text("/comment/user/type").is_some_and(|kind| kind == "Bot"),
                    body: text("/comment/body").unwrap_or_default(),
                    action: text("/action").unwrap_or_default(),
                });
            }
        }
        Ok(())
    }
}

/// A full commit hash in lower case.
#[must_use]
pub fn full_hash(text: &str) -> Option<String> {
    (text.len() == HASH && text.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const SHA: &str = "0123456789abcdef0123456789abcdef01234567";
    const OTHER: &str = "89abcdef0123456789abcdef0123456789abcdef";

    fn event(name: &str, payload: &Value) -> Result<Event, EventError> {
        Event::read(
            |variable| {
                let value = match variable {
                    "GITHUB_EVENT_NAME" => name,
                    "GITHUB_REPOSITORY" => "ada/engine",
                    "GITHUB_EVENT_PATH" => "/event.json",
                    "GITHUB_SHA" => OTHER,
                    "GITHUB_RUN_ID" => "7",
                    "GITHUB_API_URL" => "https://ghe.example/api/v3/",
                    "GITHUB_SERVER_URL" => "https://ghe.example",
                    _ => return None,
                };
                Some(value.to_owned())
            },
            |_| Ok(payload.to_string()),
        )
    }

    #[test]
    fn a_pull_request_is_its_head_and_not_the_merge_commit() {
        let of = |repo: Value| json!({ "pull_request": { "number": 5, "head": { "sha": SHA, "repo": repo }, "base": { "sha": OTHER } } });
        let found = event("pull_request", &of(json!({ "full_name": "ada/engine" }))).expect("an event");
        assert_eq!((found.head.as_deref(), found.pull_request, found.fork), (Some(SHA), Some(5), false));
        assert_eq!(found.run_url.as_deref(), Some("https://ghe.example/ada/engine/actions/runs/7"));
        assert_eq!(found.api_url, "https://ghe.example/api/v3");
        assert!(!event("pull_request", &of(json!({ "full_name": "Ada/Engine" }))).expect("an event").fork);
        for fork in [json!({ "full_name": "eve/engine" }), Value::Null] {
            assert!(event("pull_request", &of(fork)).expect("an event").fork);
        }
    }

    #[test]
    fn a_deleted_branch_has_nothing_to_report_on() {
        let gone = json!({ "before": SHA, "after": "0".repeat(40) });
        assert_eq!(event("push", &gone).expect("an event").head, None);
    }

    #[test]
    fn a_dispatch_names_the_commit_that_was_reviewed() {
        let found = event("workflow_dispatch", &json!({ "inputs": { "pr": "12", "sha": SHA } })).expect("an event");
        assert_eq!((found.pull_request, found.head.as_deref(), found.fork), (Some(12), Some(SHA), true));
        assert_eq!(
            event("workflow_dispatch", &json!({ "inputs": null })).expect("an event").head.as_deref(),
            Some(OTHER)
        );
        let short = event("workflow_dispatch", &json!({ "inputs": { "sha": "abc" } }));
        assert!(short.expect_err("no hash").to_string().contains("inputs.sha"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = event("pull_request", &json!({})).expect_err("nothing in it").to_string();
        assert!(error.contains("pull_request.head.sha") && error.contains("/event.json"), "{error}");
        assert!(event("gollum", &json!({})).expect_err("unknown").to_string().contains("`gollum`"));
        for name in ["a", "a/b/c", "a/..", "/b", "a b/c", "a/b\n"] {
            assert_eq!(Repository::parse(name), None, "{name}");
        }
    }
}
