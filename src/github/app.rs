//! Signing in as a GitHub App: its key signs a short-lived word, for which there is a token of the installation that has the
//! repository. Built with the feature `github-app` alone: signing with RSA is a lot of code for what few need.

use std::time::Duration;

use serde_json::{Value, json};

use crate::github::event::Repository;
use crate::github::hub::{Call, Hub, HubError, Method, make_again, promised};
use crate::github::live::Live;

/// A token that holds for an hour, and the account that it writes as.
///
/// # Errors
/// Where the key is none, or the App is not installed where the repository is.
pub fn sign_in(
    api_url: &str,
    id: u64,
    key: &str,
    repository: &Repository,
    patience: Duration,
) -> Result<(String, String), HubError> {
    let mut hub = Live::of_app(api_url, id, key, patience)?;
    let app = hub.send(&Call::get("/app"))?.body;
    let slug = promised("GET /app", &app, "slug", Value::as_str)?;
    let call = Call::get(format!("{}/installation", repository.path()));
    let found = hub.send(&call)?.body;
    let installation = promised(&call.to_string(), &found, "id", Value::as_u64)?;
    // No more than this repository, whatever else the App is installed in.
    let call = Call::with(
        Method::Post,
        format!("/app/installations/{installation}/access_tokens"),
        json!({ "repositories": [repository.name] }),
    );
    let made = make_again(&mut hub, &call)?;
    let token = promised(&call.to_string(), &made, "token", Value::as_str)?;
    Ok((token.to_owned(), format!("{slug}[bot]")))
}
