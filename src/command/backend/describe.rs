//! Asks plugins what they are. Each is loaded in a process of its own with a deadline, so that one that crashes or hangs costs its
//! own line of the list.
//!
//! Both ends: `ask` in the process that lists, `tell` in the one that loads. Must not know what is said of the answers.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::backend::xla::plugins::{self, Platform, Plugin};
use crate::backend::xla::{self, ENVIRONMENT};
use crate::command::context::print;
use crate::command::session::own_program;
use crate::command::worker;
use crate::exit::Exit;
use crate::runner::process::{self, Ended, Limits};

/// How long a plugin may take. Those that were tried (CPU, CUDA, TPU; 0.2 to 0.5 GB) take 0.05 to 0.1 s, which is why the list always
/// asks; 0.3 to 0.7 s when their files are not in memory, and one took 7 s on a disk that was busy.
const DEADLINE: Duration = Duration::from_secs(20);
/// Begins what is said here, among a library's own messages.
const MARK: &str = "regrade-plugin ";

/// What to do about a plugin that cannot be used.
pub const REMEDY: &str = "install another (`regrade backend install`), or name another in REGRADE_PLUGIN_PATH";

/// What a plugin said of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// By the names that evidence has.
    pub facts: BTreeMap<String, String>,
    /// Why there is no more, where there was to be more.
    pub silent: Option<String>,
}

/// A line of the process that loads.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Fact(String, String),
    Refused(String),
    Whole,
}

/// Loads a plugin here and says what it is.
pub fn tell(path: &Path) -> Result<Exit> {
    worker::end_with_parent();
    let say = |line: &Line| -> Result<()> {
        // A library may have left a line of its own open.
        print(format!("\n{MARK}{}\n", serde_json::to_string(line)?).as_bytes())
    };
    let mut failed = None;
    let ended = xla::describe(path, &mut |name, value| {
        if let Err(error) = say(&Line::Fact(name.to_owned(), value.to_owned())) {
            failed.get_or_insert(error);
        }
    });
    failed.map_or(Ok(()), Err)?;
    say(&ended.map_or_else(|error| Line::Refused(error.to_string()), |()| Line::Whole))?;
    Ok(Exit::Pass)
}

/// The plugins that would be used here and cannot be, each with the reason: that they are there is all that a backend looks for.
pub fn broken() -> Vec<(Plugin, String)> {
    let used: Vec<Plugin> = Platform::ALL.into_iter().filter_map(|platform| plugins::find(platform).ok()).collect();
    let told = ask(&used);
    used.into_iter().zip(told).filter_map(|(plugin, told)| Some((plugin, told.silent?))).collect()
}

/// What each plugin says of itself. All are asked at once: the list takes as long as the slowest.
pub fn ask(plugins: &[Plugin]) -> Vec<Told> {
    std::thread::scope(|scope| {
        let asked: Vec<_> = plugins.iter().map(|plugin| scope.spawn(|| one(&plugin.path))).collect();
        asked.into_iter().map(|thread| thread.join().expect("asking does not panic")).collect()
    })
}

fn one(path: &Path) -> Told {
    let silent = |reason: String| Told { silent: Some(reason), ..Told::default() };
    let program = match own_program() {
        Ok(program) => program,
        Err(error) => return silent(format!("{error:#}")),
    };
    let mut command = Command::new(program);
    command.args(["backend", "describe"]).arg(path);
    command.envs(ENVIRONMENT.iter().filter(|(name, _)| std::env::var_os(name).is_none()).copied());
    let limits = Limits { timeout: DEADLINE, memory: None, output: None };
    match process::run(command, limits, &AtomicBool::new(false)) {
        Ok(finished) => read(&finished.log, finished.ended),
        Err(error) => silent(error.to_string()),
    }
}

/// What a process said until it ended so.
fn read(log: &str, ended: Ended) -> Told {
    let mut told = Told::default();
    let mut whole = false;
    for line in log.lines().filter_map(|line| serde_json::from_str(line.strip_prefix(MARK)?).ok()) {
        match line {
            Line::Fact(name, value) => drop(told.facts.insert(name, value)),
            Line::Refused(reason) => told.silent = Some(reason),
            Line::Whole => whole = true,
        }
    }
    if !whole && told.silent.is_none() {
        told.silent = Some(match ended {
            Ended::TimedOut => format!("it had not answered after {} s", DEADLINE.as_secs()),
            Ended::Signalled(signal) => format!("it crashed (signal {signal})"),
            Ended::Exited(code) => format!("it ended the process that asked it (exit code {code})"),
            Ended::OverMemory { .. } | Ended::OverOutput | Ended::Cancelled => "it was killed".to_owned(),
        });
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_picked_out_of_a_library_s_own_messages() {
        let line = |line: &Line| format!("\n{MARK}{}\n", serde_json::to_string(line).expect("JSON"));
        let api = line(&Line::Fact("api".to_owned(), "0.90".to_owned()));
        let log = format!("W0000 no newline{api}regrade-plugin nonsense\n{}E0000 at exit\n", line(&Line::Whole));
        let facts = BTreeMap::from([("api".to_owned(), "0.90".to_owned())]);
        assert_eq!(read(&log, Ended::Exited(0)), Told { facts: facts.clone(), silent: None });
        // What was said stands, and that it was not all.
        let crashed = read(&api, Ended::Signalled(11));
        assert_eq!((crashed.facts, crashed.silent.as_deref()), (facts, Some("it crashed (signal 11)")));
        let refused = line(&Line::Refused("no such file".to_owned()));
        assert_eq!(read(&refused, Ended::Exited(0)).silent.as_deref(), Some("no such file"));
        assert!(read("", Ended::Exited(0)).silent.is_some());
    }
}
