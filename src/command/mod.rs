//! One file a verb, wiring only: ports are opened here, nothing is decided here.

mod accept;
mod accepted;
mod across;
mod arms;
mod backend;
pub mod baseline;
mod bisect;
mod bot;
mod calibrate;
mod compare;
mod context;
mod doctor;
mod git;
mod history;
mod hold_clocks;
mod init;
mod inject;
mod judge;
mod list;
mod lock;
mod login;
mod paired;
mod post;
mod progress;
mod report;
mod run;
mod schema;
mod secret;
mod session;
mod travel;
mod tune;
mod worker;

use anyhow::Result;

use crate::cli::{BaselineAction, Cli, Command};
use crate::command::baseline::Action;
use crate::command::context::{Context, find_run, print};
use crate::exit::Exit;
use crate::store::{Arms, RunQuery, Store};

/// Runs that `baseline list` shows.
const LISTED_RUNS: u32 = 50;

/// Says what went wrong, with its causes.
pub fn complain(error: &anyhow::Error) {
    let mut causes: Vec<String> = Vec::new();
    for cause in error.chain().map(ToString::to_string) {
        // Libraries repeat their cause in their own text; once is enough.
        if !causes.iter().any(|said| said.contains(&cause)) {
            causes.push(cause);
        }
    }
    let text = causes.join(": ");
    let prefix = if text.starts_with("error:") { "" } else { "error: " };
    context::note(&format!("{prefix}{text}"));
}

/// Does what the command line says.
///
/// # Errors
/// With the chain of causes; [`exit_of`] says which exit code an error stands for.
pub fn dispatch(cli: &Cli) -> Result<Exit> {
    let context = Context::new(&cli.global);
    match &cli.command {
        Command::Init(arguments) => init::run(arguments, &context),
        Command::Run(arguments) => run::run(arguments, &context),
        Command::Compare(arguments) => compare::run(arguments, &context),
        Command::Bisect(arguments) => bisect::run(arguments, &context),
        Command::Calibrate(arguments) => calibrate::run(arguments, &context),
        Command::Judge(arguments) => judge::run(arguments, &context),
        Command::Report(arguments) => report::run(arguments, &context),
        Command::Post(arguments) => post::run(arguments, &context),
        Command::Bot(arguments) => bot::run(arguments, &context),
        Command::History(arguments) => history::run(arguments, &context),
        Command::Accept(arguments) => accept::run(arguments, &context),
        Command::List(arguments) => list::run(arguments, &context),
        Command::Baseline(arguments) => stored(&arguments.action, &context),
        Command::Backend(arguments) => backend::run(&arguments.action, &context),
        Command::Doctor(arguments) => {
            let mut out = Vec::new();
            let exit = doctor::run(arguments.format, context.colour, &mut out)?;
            print(&out)?;
            Ok(exit)
        }
        Command::Schema(arguments) => schema::run(arguments.what),
        Command::Completions(arguments) => {
            print(&arguments.script())?;
            Ok(Exit::Pass)
        }
        Command::Worker => worker::run(),
        Command::Tune => tune::run(),
        Command::HoldClocks { asked } => hold_clocks::run(*asked),
    }
}

/// `regrade baseline …`
fn stored(action: &BaselineAction, context: &Context) -> Result<Exit> {
    match action {
        BaselineAction::Push(arguments) => return travel::push(arguments, context),
        BaselineAction::Pull(arguments) => return travel::pull(arguments, context),
        BaselineAction::Import { .. } | BaselineAction::Merge { .. } => {}
        _ => context.must_exist()?,
    }
    // Names are resolved on a connection of their own: `latest` is a word of the command line, not of the store.
    let run_id = |name: &str| find_run(&context.stored()?, name).map(|run| run.id.to_string());
    let action = match action {
        BaselineAction::List { format } => Action::List {
            query: RunQuery { arms: Arms::Without, limit: Some(LISTED_RUNS), ..RunQuery::default() },
            format: *format,
        },
        BaselineAction::Show { run, format } => Action::Show { run: run_id(run)?, format: *format },
        BaselineAction::Promote { name, .. } if name == "latest" => {
            return Err(usage("`latest` always stands for the newest run; give the baseline another name"));
        }
        BaselineAction::Promote { name, .. } if is_branch(context, name)? => {
            return Err(usage(format!(
                "`{name}` is a branch with stored runs, and `--base {name}` means it; give the baseline another name"
            )));
        }
        BaselineAction::Promote { run, name } => Action::Promote { name: name.clone(), run: run_id(run)? },
        BaselineAction::Drop { name } => Action::Drop { name: name.clone() },
        BaselineAction::Prune { keep, dry_run } => Action::Prune { keep: *keep, dry_run: *dry_run },
        BaselineAction::Export { runs, output } => {
            Action::Export { runs: runs.iter().map(|run| run_id(run)).collect::<Result<_>>()?, to: output.clone() }
        }
        BaselineAction::Import { file } => Action::Import { from: file.clone() },
        BaselineAction::Merge { files } => Action::Merge { from: files.clone() },
        BaselineAction::Push(_) | BaselineAction::Pull(_) => unreachable!("they were dispatched above"),
    };
    let mut store = if action.writes() { context.store()? } else { context.stored()? };
    let mut out = Vec::new();
    let exit = baseline::run(&action, &mut store, &mut out)?;
    print(&out)?;
    Ok(exit)
}

/// Whether runs of a branch of this name are stored.
fn is_branch(context: &Context, name: &str) -> Result<bool> {
    let query = RunQuery { branch: Some(name.to_owned()), limit: Some(1), ..RunQuery::default() };
    Ok(!context.stored()?.runs(&query)?.is_empty())
}

/// The exit code an error stands for: the user's words and files (2), or the environment (6).
#[must_use]
pub fn exit_of(error: &anyhow::Error) -> Exit {
    let usage = error.chain().any(|cause| {
        cause.is::<UsageError>()
            || cause.is::<crate::suite::SuiteError>()
            || matches!(cause.downcast_ref(), Some(crate::store::transfer::TransferError::Line { .. }))
            || cause.downcast_ref::<crate::store::StoreError>().is_some_and(|error| {
                matches!(error, crate::store::StoreError::NotFound(_) | crate::store::StoreError::Refused(_))
            })
    });
    if let Some(failed) = error.downcast_ref::<arms::BuildFailed>() {
        // A head that does not build is a failed head; without a base there is nothing to compare with.
        if failed.side == crate::domain::ArmSide::Head { Exit::CaseFailed } else { Exit::Nothing }
    } else if error.is::<NotComparable>() {
        Exit::Nothing
    } else if usage {
        Exit::Usage
    } else {
        Exit::Environment
    }
}

/// What the user asked for makes no sense, and what would.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// A usage error as an [`anyhow::Error`].
fn usage(text: impl Into<String>) -> anyhow::Error {
    UsageError(text.into()).into()
}

/// Two runs that must not be compared, and why.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotComparable(pub String);
