//! Runs the build step of a tree: bounded in time, stopped by Ctrl-C, its output kept as a log.
//!
//! Must not know what is built, nor where trees come from.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::domain::Build;
use crate::runner::process::{self, Ended, Limits};

/// How a build ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Built {
    /// Why there is nothing to run, if there is not.
    pub failure: Option<String>,
    /// Wall time.
    pub took: Duration,
    /// Standard output and error, without the middle where they are long.
    pub log: String,
    /// Stopped from outside.
    pub cancelled: bool,
}

/// The command that links the worker in an order of code.
#[must_use]
pub fn relinking(step: &Build, layout: u32) -> Vec<String> {
    step.relink.iter().map(|word| word.replace("{layout}", &layout.to_string())).collect()
}

/// Runs a command of the build, in the tree whose programs start in `folder`. `env` is added to its environment before the
/// build's own variables.
#[must_use]
pub fn run<'e>(
    command: &[String],
    step: &Build,
    folder: &Path,
    env: impl IntoIterator<Item = (&'e String, &'e String)>,
    cancel: &AtomicBool,
) -> Built {
    let Some((program, arguments)) = command.split_first() else {
        return Built { failure: None, took: Duration::ZERO, log: String::new(), cancelled: false };
    };
    let program = if program.contains('/') { folder.join(program) } else { program.into() };
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).envs(env).envs(&step.env);
    let limits = Limits { timeout: Duration::from_secs_f64(step.timeout_s), memory: None, output: None };
    match process::run(command, limits, cancel) {
        Ok(finished) => Built {
            failure: failure(finished.ended, step.timeout_s),
            took: finished.wall,
            log: finished.log,
            cancelled: finished.ended == Ended::Cancelled,
        },
        Err(error) => {
            Built { failure: Some(error.to_string()), took: Duration::ZERO, log: String::new(), cancelled: false }
        }
    }
}

fn failure(ended: Ended, timeout_s: f64) -> Option<String> {
    match ended {
        Ended::Exited(0) => None,
        Ended::Exited(code) => Some(format!("exited with status {code}")),
        Ended::Signalled(signal) => Some(format!("died of signal {signal}")),
        Ended::TimedOut => {
            Some(format!("killed at its time-out of {timeout_s} s; raise `timeout` of the `build` table"))
        }
        Ended::OverMemory { .. } => Some("killed by the kernel for want of memory".to_owned()),
        Ended::OverOutput => Some("killed for writing too much".to_owned()),
        Ended::Cancelled => Some("stopped".to_owned()),
    }
}
