//! Pictures for a comment: on a branch of their own, named by what is in them, linked at the commit. A comment takes no
//! data addresses, and what a proxy has cached under a name never changes.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::domain::hex;
use crate::github::event::Repository;
use crate::github::hub::{Call, Hub, HubError, Method, make_again, promised};

/// Times that the branch is moved when somebody else moved it meanwhile.
const MOST_ATTEMPTS: u32 = 5;

/// A picture to be linked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// A PNG file.
    pub bytes: Vec<u8>,
}

impl Picture {
    /// Its file on the branch: named by its content, so that the same picture is the same file.
    #[must_use]
    pub fn file(&self) -> String {
        let digest = Sha256::digest(&self.bytes);
        let hex = hex(&digest[..16]);
        format!("plots/{hex}.png")
    }
}

/// Puts pictures on a branch with one commit, and returns an address for each, in order.
///
/// # Errors
/// As [`Hub::send`]: most often that the token may not write contents.
pub fn upload(
    hub: &mut dyn Hub,
    repository: &Repository,
    server_url: &str,
    branch: &str,
    pictures: &[Picture],
) -> Result<Vec<String>, HubError> {
    let root = repository.path();
    let mut entries = Vec::new();
    for picture in pictures {
        let body = json!({ "content": STANDARD.encode(&picture.bytes), "encoding": "base64" });
        let call = Call::with(Method::Post, format!("{root}/git/blobs"), body);
        // A blob is its content: making it twice makes one.
        let blob = make_again(hub, &call)?;
        let sha = promised(&call.to_string(), &blob, "sha", Value::as_str)?;
        entries.push(json!({ "path": picture.file(), "mode": "100644", "type": "blob", "sha": sha }));
    }
    let mut attempt = 0;
    let commit = loop {
        match commit(hub, &root, branch, &entries) {
            // Somebody moved the branch in between: their pictures must stay.
            Err(HubError::Refused { status: 409 | 422, .. }) if attempt < MOST_ATTEMPTS && hub.pause(attempt) => {
                attempt += 1;
            }
            other => break other?,
        }
    };
    Ok(pictures.iter().map(|picture| format!("{server_url}/{repository}/raw/{commit}/{}", picture.file())).collect())
}

fn commit(hub: &mut dyn Hub, root: &str, branch: &str, entries: &[Value]) -> Result<String, HubError> {
    let parent = match hub.send(&Call::get(format!("{root}/git/ref/heads/{branch}"))) {
        Ok(answer) => {
            Some(answer.body.pointer("/object/sha").and_then(Value::as_str).map(str::to_owned).ok_or_else(|| {
                HubError::Unexpected { call: format!("GET {branch}"), what: "the answer has no object".to_owned() }
            })?)
        }
        Err(error) if error.is_absent() => None,
        Err(error) => return Err(error),
    };
    let mut tree = json!({ "tree": entries });
    let mut there = None;
    if let Some(parent) = &parent {
        let call = Call::get(format!("{root}/commits/{parent}"));
        let found = hub.send(&call)?.body;
        let base = found.pointer("/commit/tree/sha").and_then(Value::as_str).ok_or_else(|| HubError::Unexpected {
            call: call.to_string(),
            what: "the answer has no tree".to_owned(),
        })?;
        tree["base_tree"] = base.into();
        there = Some(base.to_owned());
    }
    let call = Call::with(Method::Post, format!("{root}/git/trees"), tree);
    let made = make_again(hub, &call)?;
    let tree = promised(&call.to_string(), &made, "sha", Value::as_str)?;
    if let Some(parent) = parent.clone().filter(|_| there.as_deref() == Some(tree)) {
        // The same pictures are there already: nothing grows, and links stay what they are.
        return Ok(parent);
    }
    let parents: Vec<&str> = parent.as_deref().into_iter().collect();
    let body = json!({ "message": "plots, by regrade", "tree": tree, "parents": parents });
    let call = Call::with(Method::Post, format!("{root}/git/commits"), body);
    let made = make_again(hub, &call)?;
    let commit = promised(&call.to_string(), &made, "sha", Value::as_str)?.to_owned();
    let move_to = if parent.is_some() {
        let body = json!({ "sha": commit, "force": false });
        Call::with(Method::Patch, format!("{root}/git/refs/heads/{branch}"), body)
    } else {
        Call::with(
            Method::Post,
            format!("{root}/git/refs"),
            json!({ "ref": format!("refs/heads/{branch}"), "sha": commit }),
        )
    };
    hub.send(&move_to)?;
    Ok(commit)
}
