//! A commit status, for branch protection that asks for one.

use serde_json::json;

use crate::github::check::Conclusion;
use crate::github::event::Repository;
use crate::github::hub::{Call, Hub, HubError, Method, make_again};

/// Characters of a description (GitHub's documentation of commit statuses).
const MOST_CHARACTERS: usize = 140;

/// Sets the status `context` of a commit. A later one of the same context replaces it, so that doing it twice does no harm.
///
/// # Errors
/// As [`Hub::send`].
pub fn set(
    hub: &mut dyn Hub,
    repository: &Repository,
    sha: &str,
    context: &str,
    conclusion: Option<Conclusion>,
    description: &str,
    url: Option<&str>,
) -> Result<(), HubError> {
    // There is no neutral status, and what was not decided must not look decided.
    let state = match conclusion {
        Some(Conclusion::Success) => "success",
        Some(Conclusion::Failure) => "failure",
        Some(Conclusion::Neutral) => "error",
        Some(Conclusion::ActionRequired) | None => "pending",
    };
    let description: String = if description.chars().count() > MOST_CHARACTERS {
        description.chars().take(MOST_CHARACTERS - 1).chain(['…']).collect()
    } else {
        description.to_owned()
    };
    let mut body = json!({ "state": state, "context": context, "description": description });
    if let Some(url) = url {
        body["target_url"] = url.into();
    }
    let call = Call::with(Method::Post, format!("{}/statuses/{sha}", repository.path()), body);
    make_again(hub, &call)?;
    Ok(())
}
