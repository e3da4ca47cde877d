//! `regrade bot`: answers a command in a comment on a pull request, and says what the workflow is to start.
//!
//! A comment is a stranger's text until GitHub has said that its author may write here, and that it still stands as it was
//! delivered. The answer is posted before anything is started: whatever breaks, a command is carried out once or not at all.

mod reply;

use std::io::Write as _;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::cli::Bot;
use crate::command::bot::reply::Reply;
use crate::command::context::{Context, print};
use crate::command::login::{Session, WORKFLOW_BOT};
use crate::command::usage;
use crate::exit::Exit;
use crate::github::accepted::{AcceptedHere, answers, marker};
use crate::github::command::{self, Asked, is_glob, is_login};
use crate::github::dry::Dry;
use crate::github::event::{Comment, Event, Repository, full_hash};
use crate::github::hub::{all, make_once, promised};
use crate::github::{Call, Hub, HubError, Method};

/// A command, before anybody was asked about it.
#[derive(Debug)]
struct Asking<'a> {
    repository: Repository,
    server_url: &'a str,
    pull_request: u64,
    comment: &'a Comment,
    /// Who we are.
    author: &'a str,
    asked: Asked,
}

/// The pull request as the API knows it now.
#[derive(Debug)]
struct Pull {
    open: bool,
    /// Whether its code comes from another repository, whose authors may not write here.
    fork: bool,
    /// Full hash.
    head: String,
}

/// What the workflow is to start.
#[derive(Debug, PartialEq, Eq)]
struct Outputs {
    command: &'static str,
    pull_request: u64,
    sha: String,
    case: Option<String>,
}

/// Answers.
pub fn run(arguments: &Bot, context: &Context) -> Result<Exit> {
    let event = Event::read(
        |name| std::env::var(name).ok(),
        |path| std::fs::read_to_string(path).map_err(|error| format!("names {path}: {error}")),
    )
    .map_err(|error| usage(error.to_string()))?;
    let Some(comment) = &event.comment else {
        return Err(usage(
            "no comment started this job: the workflow needs `on: issue_comment` with `types: [created]`",
        ));
    };
    let repository = match &arguments.repo {
        Some(text) => Repository::parse(text).ok_or_else(|| usage(format!("--repo {text} is no OWNER/NAME")))?,
        None => event.repository.clone(),
    };
    let asking = match heard(&event, comment) {
        Ok((pull_request, asked)) => Asking {
            repository,
            server_url: &event.server_url,
            pull_request,
            comment,
            author: arguments.author.as_deref().unwrap_or(WORKFLOW_BOT),
            asked,
        },
        Err(why) => {
            context.tell(&format!("nothing to do: {why}"));
            return finish(None, arguments.dry_run);
        }
    };
    if arguments.dry_run {
        let mut hub = Dry::default();
        let outputs = answer(&asking, &mut hub, context)?;
        print(hub.transcript().as_bytes())?;
        return finish(outputs.as_ref(), true);
    }
    let mut session = Session::open(&event.api_url, &asking.repository, arguments.patience)?;
    let author = session.author(arguments.author.as_deref())?;
    let outputs = answer(&Asking { author: &author, ..asking }, &mut session.hub, context)?;
    finish(outputs.as_ref(), false)
}

/// The command in an event, or why there is none for us.
fn heard(event: &Event, comment: &Comment) -> Result<(u64, Asked), &'static str> {
    if comment.action != "created" {
        return Err("only new comments are commands");
    }
    if comment.by_bot {
        return Err("a machine account wrote the comment");
    }
    let pull_request = event.pull_request.ok_or("the comment is on an issue, not on a pull request")?;
    let asked = command::parse(&comment.body).ok_or("no line begins with /regrade")?;
    if !is_login(&comment.author) {
        return Err("the author's login is none");
    }
    Ok((pull_request, asked))
}

/// Everything between the comment and what is to be started; `None` where nothing is.
fn answer(asking: &Asking<'_>, hub: &mut dyn Hub, context: &Context) -> Result<Option<Outputs>, HubError> {
    let Asking { repository, comment, .. } = asking;
    if !may_write(hub, repository, &comment.author)? {
        // No answer in words: everybody may write comments, and each would make one of ours.
        react(asking, "-1", hub, context);
        context.tell(&format!("nothing is done: {} may not write to {repository}", comment.author));
        return Ok(None);
    }
    match standing(hub, repository, comment) {
        Ok(Standing::AsDelivered) => {}
        Ok(Standing::ByApp) => {
            context.tell("nothing is done: an app wrote the comment in its author's name");
            return Ok(None);
        }
        Ok(Standing::Edited) => {
            react(asking, "confused", hub, context);
            context.tell("nothing is done: the comment was edited after it was delivered; write a new one");
            return Ok(None);
        }
        Err(error) if error.is_absent() => {
            context.tell("nothing is done: the comment is gone");
            return Ok(None);
        }
        Err(error) => return Err(error),
    }
    if own_answer(asking, hub)?.is_some() {
        context.tell("nothing is done: this comment has its answer already; write a new one");
        return Ok(None);
    }
    let (reply, outputs) = decide(asking, hub)?;
    let url = post(asking, &reply, hub)?;
    if !hub.is_dry() {
        context.tell(&format!("answered: {url}"));
    }
    react(asking, reply.reaction, hub, context);
    Ok(outputs)
}

/// What GitHub says of this person; what the comment says of its author is not looked at.
fn may_write(hub: &mut dyn Hub, repository: &Repository, login: &str) -> Result<bool, HubError> {
    let answer = match hub.send(&Call::get(format!("{}/collaborators/{login}/permission", repository.path()))) {
        Ok(answer) => answer.body,
        Err(error) if error.is_absent() => return Ok(false),
        Err(error) => return Err(error),
    };
    let same = answer["user"]["login"].as_str().is_some_and(|found| found.eq_ignore_ascii_case(login));
    // It says `write` for `maintain`, and for a role of an organisation's own what that was made from. The role's name says
    // nothing: an organisation may call one `write` that reads.
    let writes = matches!(answer["permission"].as_str(), Some("admin" | "write"));
    Ok(hub.is_dry() || (same && writes))
}

/// What became of a comment since it was delivered.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    AsDelivered,
    Edited,
    /// An app of somebody's wrote it with their leave, and not with their hand.
    ByApp,
}

fn standing(hub: &mut dyn Hub, repository: &Repository, comment: &Comment) -> Result<Standing, HubError> {
    let now = hub.send(&Call::get(format!("{}/issues/comments/{}", repository.path(), comment.id)))?.body;
    let by = now["user"]["login"].as_str().is_some_and(|login| login.eq_ignore_ascii_case(&comment.author));
    Ok(if hub.is_dry() {
        Standing::AsDelivered
    } else if !now["performed_via_github_app"].is_null() {
        Standing::ByApp
    } else if by && now["body"].as_str() == Some(&comment.body) {
        Standing::AsDelivered
    } else {
        Standing::Edited
    })
}

fn thread(asking: &Asking<'_>) -> String {
    format!("{}/issues/{}/comments", asking.repository.path(), asking.pull_request)
}

/// Our answer to this comment, from an earlier delivery of it.
fn own_answer(asking: &Asking<'_>, hub: &mut dyn Hub) -> Result<Option<Value>, HubError> {
    let comments = all(hub, &format!("{}?per_page=100", thread(asking)), |body| body)?;
    Ok(comments.into_iter().find(|comment| answers(comment, asking.author, asking.comment.id)))
}

fn pull(asking: &Asking<'_>, at: Option<&str>, hub: &mut dyn Hub) -> Result<Pull, HubError> {
    let call = Call::get(format!("{}/pulls/{}", asking.repository.path(), asking.pull_request));
    let found = hub.send(&call)?.body;
    if hub.is_dry() {
        let head = at.and_then(full_hash).unwrap_or_else(|| "0".repeat(40));
        return Ok(Pull { open: true, fork: false, head });
    }
    let full_name = found.pointer("/head/repo/full_name").and_then(Value::as_str);
    let head = found.pointer("/head/sha").and_then(Value::as_str).and_then(full_hash);
    Ok(Pull {
        open: found["state"].as_str() == Some("open"),
        // A fork that is gone has no repository any more, and is one all the same.
        fork: !full_name.is_some_and(|name| name.eq_ignore_ascii_case(&asking.repository.to_string())),
        head: head.ok_or_else(|| HubError::Unexpected {
            call: call.to_string(),
            what: "the answer has no `head.sha`".to_owned(),
        })?,
    })
}

/// The answer, and what is to be started.
fn decide(asking: &Asking<'_>, hub: &mut dyn Hub) -> Result<(Reply, Option<Outputs>), HubError> {
    let at = match &asking.asked {
        Asked::Help => return Ok((reply::help(), None)),
        Asked::Mistake(mistake) => return Ok((reply::mistake(mistake), None)),
        Asked::Compare { at } | Asked::Rerun { at, .. } => at,
        Asked::Accept(accept) => &accept.at,
    };
    let pull = pull(asking, at.as_deref(), hub)?;
    if !pull.open {
        return Ok((reply::closed(), None));
    }
    // A bound says by itself how much is accepted, whatever the head is; everything else is about one commit.
    let bounded = matches!(&asking.asked, Asked::Accept(accept) if accept.change.is_some());
    if let (Asked::Accept(accept), true) = (&asking.asked, pull.fork && !bounded) {
        // Whoever measures chooses what is measured: one number to be accepted, and another for the next run of that commit.
        return Ok((reply::unbounded(accept), None));
    }
    if let Err(why) = agreed(&pull, at.as_deref(), bounded) {
        let page = format!("{}/{}/pull/{}", asking.server_url, asking.repository, asking.pull_request);
        return Ok((reply::refused(&asking.asked, &why, &pull.head, &page), None));
    }
    let who = &asking.comment.author;
    let outputs = |command: &'static str, case: Option<&String>| {
        Some(Outputs { command, pull_request: asking.pull_request, sha: pull.head.clone(), case: case.cloned() })
    };
    Ok(match &asking.asked {
        Asked::Rerun { case, .. } => (reply::rerun(who, &pull.head, case), outputs("rerun", Some(case))),
        Asked::Accept(accept) => {
            let accepted = AcceptedHere::new(accept, who, asking.comment.id, &pull.head);
            (reply::accepted(&accepted, pull.fork.then_some(&pull.head)), outputs("accept", None))
        }
        _ => (reply::compare(who, &pull.head), outputs("compare", None)),
    })
}

/// Whether the commit that was named is the head, and whether one had to be named.
fn agreed(pull: &Pull, at: Option<&str>, bounded: bool) -> Result<(), String> {
    match at {
        // Between reading and commenting somebody may push, and a commit with a chosen short hash is made in minutes.
        None if pull.fork && !bounded => {
            Err("This pull request comes from a fork. Say which commit you have read, so that no other is meant"
                .to_owned())
        }
        Some(at) if pull.fork && at.len() != pull.head.len() => {
            Err("This pull request comes from a fork, and short hashes can be forged: give all 40 digits".to_owned())
        }
        Some(at) if !pull.head.starts_with(at) => {
            Err(format!("The commit `{at}` is not the head of this pull request"))
        }
        _ => Ok(()),
    }
}

/// Posts the answer, once.
fn post(asking: &Asking<'_>, reply: &Reply, hub: &mut dyn Hub) -> Result<String, HubError> {
    let text = format!("{}\n{}", marker(asking.comment.id), reply.text);
    let call = Call::with(Method::Post, thread(asking), json!({ "body": text }));
    let mut find = |hub: &mut dyn Hub| own_answer(asking, hub);
    let made = make_once(hub, &call, &mut find)?;
    promised(&call.to_string(), &made, "html_url", Value::as_str).map(str::to_owned)
}

/// A reaction to the comment: pleasant, and nothing depends on it.
fn react(asking: &Asking<'_>, face: &str, hub: &mut dyn Hub, context: &Context) {
    let path = format!("{}/issues/comments/{}/reactions", asking.repository.path(), asking.comment.id);
    if let Err(error) = hub.send(&Call::with(Method::Post, path, json!({ "content": face }))) {
        context.tell(&format!("no reaction: {error}"));
    }
}

/// Writes the outputs of the step, last of all.
fn finish(outputs: Option<&Outputs>, dry_run: bool) -> Result<Exit> {
    let text = outputs.map_or_else(|| "command=\n".to_owned(), lines);
    let path = std::env::var_os("GITHUB_OUTPUT").filter(|path| !path.is_empty());
    match path.filter(|_| !dry_run) {
        Some(path) => {
            let shown = || format!("cannot write GITHUB_OUTPUT, {}", path.to_string_lossy());
            let mut file = std::fs::OpenOptions::new().append(true).create(true).open(&path).with_context(shown)?;
            file.write_all(text.as_bytes()).with_context(shown)?;
        }
        None => print(text.as_bytes())?,
    }
    Ok(Exit::Pass)
}

/// One line an output: a number, a hash and a word of an alphabet without line ends, so that none can add another.
fn lines(outputs: &Outputs) -> String {
    let Outputs { command, pull_request, sha, case } = outputs;
    let case = case.as_ref().filter(|case| is_glob(case)).map_or_else(String::new, |case| format!("case={case}\n"));
    format!("command={command}\npr={pull_request}\nsha={sha}\n{case}")
}
