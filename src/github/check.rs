//! A check run: opened before measuring, completed with the conclusion, the summary and annotations.

use serde_json::{Value, json};

use crate::github::event::Repository;
use crate::github::hub::{Call, Hub, HubError, Method, all, make_once, promised};

/// Characters of a summary and of a text (GitHub's documentation of check runs).
pub const MOST_CHARACTERS: usize = 65_535;
/// Annotations of a request.
const ANNOTATIONS: usize = 50;

/// What GitHub makes of a check that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conclusion {
    /// It may be merged.
    Success,
    /// It may not.
    Failure,
    /// Nothing was decided. Where the check is required, GitHub lets it pass.
    Neutral,
    /// A person has to look before it may be merged.
    ActionRequired,
}

impl Conclusion {
    /// As the API spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Neutral => "neutral",
            Self::ActionRequired => "action_required",
        }
    }
}

/// A remark at a line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    /// File, from the top of the repository.
    pub path: String,
    /// Line, from 1.
    pub line: u32,
    /// `notice`, `warning` or `failure`.
    pub level: &'static str,
    /// Heading.
    pub title: String,
    /// Text.
    pub message: String,
}

/// Whose code measured, and who has read it: what may replace what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trust {
    /// Another repository's, and nobody here has read it.
    Fork,
    /// Another repository's, and somebody here has read exactly this commit.
    Reviewed,
    /// That of people who may write here.
    Own,
}

impl Trust {
    const fn word(self) -> &'static str {
        match self {
            Self::Fork => "fork",
            Self::Reviewed => "reviewed",
            Self::Own => "own",
        }
    }
}

/// A check on a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What branch protection asks for.
    pub name: String,
    /// Full hash.
    pub sha: String,
    /// Ours among checks of this name: the same job finds its own check again.
    pub key: String,
    /// Whose word it is. The same commit may be the head of a stranger's pull request and of one of our own.
    pub trust: Trust,
    /// Where details are.
    pub details_url: Option<String>,
}

/// What a check says in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// What becomes of it.
    pub conclusion: Conclusion,
    /// One line.
    pub title: String,
    /// Markdown, at most [`MOST_CHARACTERS`].
    pub summary: String,
    /// More Markdown, as much.
    pub text: String,
    /// Remarks.
    pub annotations: Vec<Annotation>,
}

impl Check {
    /// Opens it, unless it is open.
    ///
    /// # Errors
    /// As [`Hub::send`].
    pub fn start(&self, hub: &mut dyn Hub, repository: &Repository) -> Result<u64, HubError> {
        let ours = self.ours(hub, repository)?;
        if let Some(id) = open(&ours) {
            return Ok(id);
        }
        let mut body = self.body();
        body["status"] = "in_progress".into();
        self.make(hub, repository, body, &ours)
    }

    /// Completes it, opening it if nobody did. Annotations go fifty at a time. One that says the same already is left alone;
    /// one that says something else is replaced by another, because annotations can only be added.
    ///
    /// # Errors
    /// As [`Hub::send`].
    pub fn complete(&self, hub: &mut dyn Hub, repository: &Repository, output: &Output) -> Result<(), HubError> {
        let ours = self.ours(hub, repository)?;
        let newest = ours.iter().max_by_key(|run| run["id"].as_u64());
        if newest.is_some_and(|run| says(run, output)) {
            return Ok(());
        }
        let mut batches = output.annotations.chunks(ANNOTATIONS);
        let said = |batch: &[Annotation]| {
            let annotations: Vec<Value> = batch.iter().map(annotation).collect();
            json!({ "title": output.title, "summary": output.summary, "text": output.text, "annotations": annotations })
        };
        let mut body = self.body();
        body["status"] = "completed".into();
        body["conclusion"] = output.conclusion.as_str().into();
        body["output"] = said(batches.next().unwrap_or_default());
        let id = match open(&ours) {
            Some(id) => {
                Self::change(hub, repository, id, body)?;
                id
            }
            None => self.make(hub, repository, body, &ours)?,
        };
        for batch in batches {
            Self::change(hub, repository, id, json!({ "output": said(batch) }))?;
        }
        Ok(())
    }

    /// Whether the commit has our check from somebody whose word counts for more.
    ///
    /// # Errors
    /// As [`Hub::send`].
    pub fn is_outranked(&self, hub: &mut dyn Hub, repository: &Repository) -> Result<bool, HubError> {
        let above = [Trust::Reviewed, Trust::Own].into_iter().filter(|trust| *trust > self.trust);
        let theirs: Vec<String> = above.map(|trust| self.id_of(trust)).collect();
        let runs = self.all(hub, repository)?;
        Ok(runs.iter().any(|run| theirs.iter().any(|their| run["external_id"] == **their)))
    }

    /// Its external id where this trust made it.
    fn id_of(&self, trust: Trust) -> String {
        format!("regrade:{}:{}", self.key, trust.word())
    }

    fn body(&self) -> Value {
        let mut body = json!({ "name": self.name, "head_sha": self.sha, "external_id": self.id_of(self.trust) });
        if let Some(url) = &self.details_url {
            body["details_url"] = url.as_str().into();
        }
        body
    }

    /// Makes another beside those that are there `before`.
    fn make(&self, hub: &mut dyn Hub, repository: &Repository, body: Value, before: &[Value]) -> Result<u64, HubError> {
        let call = Call::with(Method::Post, format!("{}/check-runs", repository.path()), body);
        let shown = call.to_string();
        let mut find = |hub: &mut dyn Hub| {
            let new =
                self.ours(hub, repository)?.into_iter().find(|run| before.iter().all(|old| old["id"] != run["id"]));
            Ok(new.map(|run| json!({ "id": run["id"] })))
        };
        promised(&shown, &make_once(hub, &call, &mut find)?, "id", Value::as_u64)
    }

    fn change(hub: &mut dyn Hub, repository: &Repository, id: u64, mut body: Value) -> Result<(), HubError> {
        // The commit of a check cannot change, and the API does not take it again.
        if let Some(fields) = body.as_object_mut() {
            fields.remove("head_sha");
        }
        let path = format!("{}/check-runs/{id}", repository.path());
        hub.send(&Call::with(Method::Patch, path, body))?;
        Ok(())
    }

    /// Every check of this name on the commit, also those that a newer one hides.
    fn all(&self, hub: &mut dyn Hub, repository: &Repository) -> Result<Vec<Value>, HubError> {
        let name = encoded(&self.name);
        let path =
            format!("{}/commits/{}/check-runs?check_name={name}&filter=all&per_page=100", repository.path(), self.sha);
        all(hub, &path, |body| &body["check_runs"])
    }

    fn ours(&self, hub: &mut dyn Hub, repository: &Repository) -> Result<Vec<Value>, HubError> {
        let id = self.id_of(self.trust);
        let mut runs = self.all(hub, repository)?;
        runs.retain(|run| run["external_id"] == *id);
        Ok(runs)
    }
}

/// The newest that is not completed.
fn open(runs: &[Value]) -> Option<u64> {
    let open = runs.iter().filter(|run| run["status"].as_str() != Some("completed"));
    open.filter_map(|run| run["id"].as_u64()).max()
}

/// Whether a check says this already.
fn says(run: &Value, output: &Output) -> bool {
    let text = |key: &str| run["output"][key].as_str().unwrap_or_default();
    run["status"].as_str() == Some("completed")
        && run["conclusion"].as_str() == Some(output.conclusion.as_str())
        && text("title") == output.title
        && text("summary") == output.summary
        && text("text") == output.text
        && run["output"]["annotations_count"].as_u64() == Some(output.annotations.len() as u64)
}

fn annotation(of: &Annotation) -> Value {
    json!({
        "path": of.path,
        "start_line": of.line,
        "end_line": of.line,
        "annotation_level": of.level,
        "title": of.title,
        "message": of.message,
    })
}

/// As a value of a query.
pub(super) fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |done, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            done + &char::from(byte).to_string()
        } else {
            done + &format!("%{byte:02X}")
        }
    })
}
