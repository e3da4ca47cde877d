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
    /// Nothing was decided.
    Neutral,
}

impl Conclusion {
    /// As the API spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Neutral => "neutral",
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

/// A check on a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What branch protection asks for.
    pub name: String,
    /// Full hash.
    pub sha: String,
    /// Ours among checks of this name: the same job finds its own check again.
    pub external_id: String,
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
        if let Some(id) = self.find(hub, repository)? {
            return Ok(id);
        }
        let mut body = self.body();
        body["status"] = "in_progress".into();
        self.make(hub, repository, body)
    }

    /// Completes it, opening it if nobody did. Annotations go fifty at a time.
    ///
    /// # Errors
    /// As [`Hub::send`].
    pub fn complete(&self, hub: &mut dyn Hub, repository: &Repository, output: &Output) -> Result<(), HubError> {
        let mut batches = output.annotations.chunks(ANNOTATIONS);
        let said = |batch: &[Annotation]| {
            let annotations: Vec<Value> = batch.iter().map(annotation).collect();
            json!({ "title": output.title, "summary": output.summary, "text": output.text, "annotations": annotations })
        };
        let mut body = self.body();
        body["status"] = "completed".into();
        body["conclusion"] = output.conclusion.as_str().into();
        body["output"] = said(batches.next().unwrap_or_default());
        let id = match self.find(hub, repository)? {
            Some(id) => {
                Self::change(hub, repository, id, body)?;
                id
            }
            None => self.make(hub, repository, body)?,
        };
        for batch in batches {
            Self::change(hub, repository, id, json!({ "output": said(batch) }))?;
        }
        Ok(())
    }

    fn body(&self) -> Value {
        let mut body = json!({ "name": self.name, "head_sha": self.sha, "external_id": self.external_id });
        if let Some(url) = &self.details_url {
            body["details_url"] = url.as_str().into();
        }
        body
    }

    fn make(&self, hub: &mut dyn Hub, repository: &Repository, body: Value) -> Result<u64, HubError> {
        let call = Call::with(Method::Post, format!("{}/check-runs", repository.path()), body);
        let shown = call.to_string();
        let mut find = |hub: &mut dyn Hub| Ok(self.find(hub, repository)?.map(|id| json!({ "id": id })));
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

    fn find(&self, hub: &mut dyn Hub, repository: &Repository) -> Result<Option<u64>, HubError> {
        let name = encoded(&self.name);
        let path = format!("{}/commits/{}/check-runs?check_name={name}&per_page=100", repository.path(), self.sha);
        let runs = all(hub, &path, |body| &body["check_runs"])?;
        let ours = runs.iter().find(|run| run["external_id"].as_str() == Some(&self.external_id));
        Ok(ours.and_then(|run| run["id"].as_u64()))
    }
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
