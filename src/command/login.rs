//! Who speaks to the code host: the token of the environment, or a GitHub App. Secrets come from the environment alone and
//! go nowhere else.

use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use crate::command::usage;
use crate::github::event::Repository;
use crate::github::live::{Live, Login};
use crate::github::{Call, Hub, promised};

/// Login of a workflow's own token.
pub const WORKFLOW_BOT: &str = "github-actions[bot]";
/// Variables that hold a token, the first that is set counts.
const TOKENS: [&str; 2] = ["GITHUB_TOKEN", "GH_TOKEN"];
/// Variables of a GitHub App: its id, and its private key as PEM.
const APP: [&str; 2] = ["REGRADE_APP_ID", "REGRADE_APP_KEY"];

/// A connection, and under which name it is known there.
#[derive(Debug)]
pub struct Session {
    /// The connection.
    pub hub: Live,
    /// The account; absent for a person's token until it is asked for.
    login: Option<String>,
}

impl Session {
    /// Connects with what the environment holds.
    ///
    /// # Errors
    /// Where it holds nothing, or an App does not know this repository.
    pub fn open(api_url: &str, repository: &Repository, patience: Duration) -> Result<Self> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        if let [Some(id), key] = APP.map(set) {
            let key = key.ok_or_else(|| {
                usage("REGRADE_APP_ID is set and REGRADE_APP_KEY is not: give the App's private key, too")
            })?;
            let (token, login) = app(api_url, &id, &key, repository, patience)?;
            let hub = Live::new(&Login { api_url: api_url.to_owned(), token, patience })?;
            return Ok(Self { hub, login: Some(login) });
        }
        let token = TOKENS.into_iter().find_map(set).ok_or_else(|| {
            usage("GITHUB_TOKEN is not set: give the step `env:` with `GITHUB_TOKEN: ${{ github.token }}`, or try --dry-run")
        })?;
        // The server tells people who they are, and no App.
        let login = token.starts_with("ghs_").then(|| WORKFLOW_BOT.to_owned());
        let hub = Live::new(&Login { api_url: api_url.to_owned(), token, patience })?;
        Ok(Self { hub, login })
    }

    /// The account that we write as: what was said, what is known, or what the server says of a person's token.
    ///
    /// # Errors
    /// Where the server does not say.
    pub fn author(&mut self, said: Option<&str>) -> Result<String> {
        if let Some(said) = said {
            return Ok(said.to_owned());
        }
        if let Some(known) = &self.login {
            return Ok(known.clone());
        }
        let user = self.hub.send(&Call::get("/user"))?.body;
        let login = promised("GET /user", &user, "login", Value::as_str)?;
        Ok(self.login.insert(login.to_owned()).clone())
    }
}

#[cfg(feature = "github-app")]
fn app(api_url: &str, id: &str, key: &str, repository: &Repository, patience: Duration) -> Result<(String, String)> {
    let id = id.trim().parse().map_err(|_| usage("REGRADE_APP_ID is no number; the App's settings page says it"))?;
    Ok(crate::github::app::sign_in(api_url, id, key, repository, patience)?)
}

#[cfg(not(feature = "github-app"))]
fn app(_: &str, _: &str, _: &str, _: &Repository, _: Duration) -> Result<(String, String)> {
    Err(usage(
        "REGRADE_APP_ID is set, and this regrade was built without GitHub Apps: build it with `--features github-app`, or \
         make a token with another action and hand it over as GITHUB_TOKEN",
    ))
}
