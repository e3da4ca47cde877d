//! The one comment on a pull request that is kept up to date.
//!
//! It is found by a marker that nobody sees *and* by its author: anyone can write the marker into a comment of theirs.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::github::event::Repository;
use crate::github::hub::{Call, Hub, HubError, Method, all, make_once, promised};

/// The most characters of a comment: GitHub refuses 65,536, and counts some twice.
pub const MOST_CHARACTERS: usize = 60_000;

/// Keys that are the bot's.
const RESERVED: [&str; 2] = ["bot", "accepted"];

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posted {
    /// Its page.
    pub url: String,
    /// Whether it is new.
    pub made: bool,
    /// Who it turned out that we are, where that is somebody else than was thought: our comment will not be found again.
    pub stranger: Option<String>,
}

/// The marker of part `part` of the comment called `key`.
#[must_use]
pub fn marker(key: &str, part: usize) -> String {
    format!("<!-- regrade:{key}:{part} -->")
}

/// The part that a comment's marker names.
fn part_of(key: &str, body: &str) -> Option<usize> {
    let (part, _) = body.strip_prefix("<!-- regrade:")?.strip_prefix(key)?.strip_prefix(':')?.split_once(" -->")?;
    part.parse().ok()
}

/// A key as it may stand in a marker: no way out of the HTML comment.
#[must_use]
pub fn is_key(key: &str) -> bool {
    !key.is_empty()
        // Markers of the bot's own answers.
        && !RESERVED.contains(&key)
        && key.len() <= 64
        && !key.contains("--")
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// Makes the comments on a pull request say `parts`, one comment a part: those that are there are changed in place, parts
/// that are no longer needed are removed. `author` is who we are; where nobody knows, any machine account's will do.
///
/// # Errors
/// As [`Hub::send`].
pub fn keep(
    hub: &mut dyn Hub,
    repository: &Repository,
    pull_request: u64,
    key: &str,
    author: Option<&str>,
    parts: &[String],
) -> Result<Posted, HubError> {
    let list = format!("{}/issues/{pull_request}/comments", repository.path());
    let mut first = None;
    let ours = |hub: &mut dyn Hub| -> Result<Vec<Value>, HubError> {
        let comments = all(hub, &format!("{list}?per_page=100"), |body| body)?;
        Ok(comments.into_iter().filter(|comment| is_ours(comment, author)).collect())
    };
    let known = ours(hub)?;
    for (part, text) in parts.iter().enumerate() {
        let mark = marker(key, part);
        let body = json!({ "body": format!("{mark}\n{text}") });
        let begins = |comment: &&Value| comment["body"].as_str().is_some_and(|body| body.starts_with(&mark));
        let done = if let Some(comment) = known.iter().find(begins) {
            let id = promised(&list, comment, "id", Value::as_u64)?;
            let path = format!("{}/issues/comments/{id}", repository.path());
            Posted { url: url(&hub.send(&Call::with(Method::Patch, path, body))?.body), made: false, stranger: None }
        } else {
            let call = Call::with(Method::Post, list.clone(), body);
            let mut find = |hub: &mut dyn Hub| Ok(ours(hub)?.into_iter().find(|comment| begins(&comment)));
            let made = make_once(hub, &call, &mut find)?;
            let login = made["user"]["login"].as_str();
            let other = author.zip(login).filter(|(author, login)| !login.eq_ignore_ascii_case(author));
            let stranger = other.map(|(_, login)| login.to_owned());
            let same: Vec<Value> = ours(hub)?.into_iter().filter(|one| begins(&one)).collect();
            settle(hub, repository, &same, &made)?;
            Posted { url: url(&made), made: true, stranger }
        };
        first.get_or_insert(done);
    }
    // More parts than are needed now, or the same part twice: one that a person would take for the truth.
    let mut kept = BTreeSet::new();
    for comment in &known {
        let Some(part) = part_of(key, comment["body"].as_str().unwrap_or_default()) else { continue };
        if part >= parts.len() || !kept.insert(part) {
            let id = promised(&list, comment, "id", Value::as_u64)?;
            hub.send(&Call {
                method: Method::Delete,
                path: format!("{}/issues/comments/{id}", repository.path()),
                body: None,
            })?;
        }
    }
    Ok(first.unwrap_or(Posted { url: String::new(), made: false, stranger: None }))
}

/// Two that posted at once made two comments. All of them keep the oldest, so that one is left.
fn settle(hub: &mut dyn Hub, repository: &Repository, same: &[Value], made: &Value) -> Result<(), HubError> {
    let oldest = same.iter().filter_map(|comment| comment["id"].as_u64()).min();
    let (Some(oldest), Some(own)) = (oldest, made["id"].as_u64()) else { return Ok(()) };
    if oldest < own {
        let path = |id: u64| format!("{}/issues/comments/{id}", repository.path());
        hub.send(&Call::with(Method::Patch, path(oldest), json!({ "body": made["body"] })))?;
        hub.send(&Call { method: Method::Delete, path: path(own), body: None })?;
    }
    Ok(())
}

fn url(comment: &Value) -> String {
    comment["html_url"].as_str().unwrap_or_default().to_owned()
}

fn is_ours(comment: &Value, author: Option<&str>) -> bool {
    let user = &comment["user"];
    match author {
        Some(author) => user["login"].as_str().is_some_and(|login| login.eq_ignore_ascii_case(author)),
        None => user["type"].as_str() == Some("Bot"),
    }
}
