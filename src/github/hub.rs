//! Requests and answers, whoever carries them.

use std::fmt;

use serde_json::Value;
use thiserror::Error;

/// Pages of a list that are read: at a hundred a page more than any pull request has.
const MOST_PAGES: usize = 40;
/// Times something is asked to be made before it is given up.
const MOST_ATTEMPTS: u32 = 4;

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Makes something new: doing it twice makes two.
    Post,
    /// Changes something.
    Patch,
    /// Removes something.
    Delete,
}

impl Method {
    /// As HTTP spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    /// Whether doing it twice is the same as doing it once.
    #[must_use]
    pub const fn is_idempotent(self) -> bool {
        !matches!(self, Self::Post)
    }
}

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// What is done.
    pub method: Method,
    /// Path and query below the API's address, from the first slash on.
    pub path: String,
    /// JSON body.
    pub body: Option<Value>,
}

impl Call {
    /// A request without a body.
    #[must_use]
    pub fn get(path: impl Into<String>) -> Self {
        Self { method: Method::Get, path: path.into(), body: None }
    }

    /// A request with a body.
    #[must_use]
    pub fn with(method: Method, path: impl Into<String>, body: Value) -> Self {
        Self { method, path: path.into(), body: Some(body) }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method.as_str(), self.path)
    }
}

/// An answer that is no error.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// JSON body; null where there is none.
    pub body: Value,
    /// Path and query of the next page.
    pub next: Option<String>,
}

/// Why a request came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HubError {
    /// The token may not do this.
    #[error("{call}: the token may not do this ({said}){}", grant(needs.as_deref(), said))]
    Denied {
        /// The request.
        call: String,
        /// The server's words.
        said: String,
        /// Permissions that would do, as the server names them: `checks=write`.
        needs: Option<String>,
    },
    /// The server asks for more patience than there is.
    #[error("{call}: rate limited, and waiting {wait_s} s more than may be waited ({said})")]
    Limited {
        /// The request.
        call: String,
        /// The server's words.
        said: String,
        /// What it asks for, seconds.
        wait_s: u64,
    },
    /// The server understood and refused.
    #[error("{call}: {status} {said}")]
    Refused {
        /// The request.
        call: String,
        /// HTTP status.
        status: u16,
        /// The server's words.
        said: String,
    },
    /// Nobody knows whether it was done.
    #[error("{call}: {what}")]
    Unreachable {
        /// The request.
        call: String,
        /// What happened.
        what: String,
    },
    /// The answer is not what the documentation promises.
    #[error("{call}: {what}")]
    Unexpected {
        /// The request.
        call: String,
        /// What is missing.
        what: String,
    },
}

impl HubError {
    /// Whether the server said that there is no such thing.
    #[must_use]
    pub const fn is_absent(&self) -> bool {
        matches!(self, Self::Refused { status: 404 | 410, .. })
    }
}

/// What to write into the workflow, from the server's `issues=write; pull_requests=write`: alternatives, each of which may
/// want several permissions.
fn grant(needs: Option<&str>, said: &str) -> String {
    let Some(needs) = needs else {
        let unknown =
            ["bad credentials", "requires authentication"].iter().any(|words| said.to_lowercase().contains(words));
        return if unknown { "; is GITHUB_TOKEN set, and not expired?".to_owned() } else { String::new() };
    };
    // Of two ways the one that reaches less: comments on pull requests need no right to all issues.
    let alternatives: Vec<&str> = needs.split(';').map(str::trim).collect();
    let best = alternatives.iter().find(|way| way.starts_with("pull_requests")).or(alternatives.first());
    let lines: Vec<String> = best
        .copied()
        .unwrap_or_default()
        .split(',')
        .map(|one| one.trim().replace('_', "-").replace('=', ": "))
        .collect();
    format!("; grant it to the job: `permissions:` with `{}`", lines.join("`, `"))
}

/// Carries requests.
pub trait Hub {
    /// Sends a request and waits for its answer. Requests that may be repeated are, within a bound; a [`Method::Post`] is
    /// repeated only where the server says that it did nothing.
    ///
    /// # Errors
    /// As [`HubError`] says.
    fn send(&mut self, call: &Call) -> Result<Answer, HubError>;

    /// Fetches what is no JSON, at most so many bytes, wherever the server says that it lies.
    ///
    /// # Errors
    /// As [`HubError`] says.
    fn download(&mut self, path: &str, most: usize) -> Result<Vec<u8>, HubError>;

    /// Waits before another attempt; false where the time for that is over.
    fn pause(&mut self, attempt: u32) -> bool;

    /// Whether nothing is really sent.
    fn is_dry(&self) -> bool {
        false
    }
}

/// Every item of a list, page after page; `items` picks them out of a page's body.
///
/// # Errors
/// As [`Hub::send`].
pub fn all(hub: &mut dyn Hub, path: &str, items: fn(&Value) -> &Value) -> Result<Vec<Value>, HubError> {
    let mut found = Vec::new();
    let mut next = Some(path.to_owned());
    for _ in 0..MOST_PAGES {
        let Some(path) = next.take() else { break };
        let answer = hub.send(&Call::get(path))?;
        found.extend(items(&answer.body).as_array().into_iter().flatten().cloned());
        next = answer.next;
    }
    match next {
        None => Ok(found),
        // What is not seen is taken for absent: that would be made again, or done again.
        Some(path) => Err(HubError::Unexpected {
            call: format!("GET {path}"),
            what: format!("the list has more than {MOST_PAGES} pages; nothing that needs all of it can be done"),
        }),
    }
}

/// Looks whether something is there already.
pub type Finder<'f> = dyn FnMut(&mut dyn Hub) -> Result<Option<Value>, HubError> + 'f;

/// Makes something once: where nobody knows whether it was made, `find` looks before it is tried again.
///
/// # Errors
/// As [`Hub::send`].
pub fn make_once(hub: &mut dyn Hub, call: &Call, find: &mut Finder<'_>) -> Result<Value, HubError> {
    let mut attempt = 0;
    loop {
        match hub.send(call) {
            Err(HubError::Unreachable { .. }) if attempt < MOST_ATTEMPTS && hub.pause(attempt) => {
                attempt += 1;
                if let Some(found) = find(hub)? {
                    return Ok(found);
                }
            }
            other => return other.map(|answer| answer.body),
        }
    }
}

/// Makes something that is the same made twice, so that there is nothing to look for before it is tried again.
///
/// # Errors
/// As [`Hub::send`].
pub fn make_again(hub: &mut dyn Hub, call: &Call) -> Result<Value, HubError> {
    make_once(hub, call, &mut |_: &mut dyn Hub| Ok(None))
}

/// A field of an answer that the documentation promises.
///
/// # Errors
/// [`HubError::Unexpected`] where it is absent.
pub fn promised<'v, T>(
    call: &str,
    body: &'v Value,
    key: &str,
    read: impl Fn(&'v Value) -> Option<T>,
) -> Result<T, HubError> {
    body.get(key)
        .and_then(read)
        .ok_or_else(|| HubError::Unexpected { call: call.to_owned(), what: format!("the answer has no `{key}`") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_permission_is_told_as_the_line_that_grants_it() {
        let needs = |text: &str| HubError::Denied {
            call: "POST /x".to_owned(),
            said: "Resource not accessible by integration".to_owned(),
            needs: Some(text.to_owned()),
        };
        assert!(needs("checks=write").to_string().ends_with("`permissions:` with `checks: write`"));
        let two = needs("issues=write,pull_requests=write; contents=read").to_string();
        assert!(two.ends_with("`issues: write`, `pull-requests: write`"), "{two}");
        let either = needs("issues=write; pull_requests=write").to_string();
        assert!(either.ends_with("with `pull-requests: write`"), "{either}");
    }
}
