//! What people accepted, and what the base branch has come to: read for `compare`, `history` and `accept`, and applied
//! to a judgement. Wiring only: `verdict` decides.

use std::path::Path;

use anyhow::Result;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::command::git::{self, WorkTree};
use crate::command::session::load_suite;
use crate::command::{NotComparable, UsageError};
use crate::domain::{CaseRecord, Run, Severity, Waiver};
use crate::render::format;
use crate::store::{Arms, RunQuery, Store};
use crate::suite::waivers;
use crate::verdict::chronicle::{self, Record, Series, Waiting};
use crate::verdict::{Judgement, Session, base, cycles, waiver};

/// Commits that are named of those charged.
pub const NAMED: usize = 5;
/// Enough of a commit hash.
const SHORT: usize = 10;

/// The day it is in UTC: a waiver ends on the same day everywhere.
pub fn today() -> Date {
    TimeZone::UTC.to_datetime(Timestamp::now()).date()
}

/// The waivers of a file that was named, or of the usual one where there is one.
pub fn read_waivers(named: Option<&Path>) -> Result<Vec<Waiver>> {
    let found = waivers::load(named.unwrap_or(Path::new(waivers::FILE)))?;
    match (found, named) {
        (None, Some(path)) => Err(UsageError(format!("--waivers {}: there is no such file", path.display())).into()),
        (found, _) => Ok(found.unwrap_or_default()),
    }
}

/// What is pending around one comparison.
#[derive(Debug)]
pub struct Accepted {
    series: Vec<Series>,
    /// Base runs, the newest first.
    base: Vec<Run>,
    suite: String,
    /// Whether head is the base branch itself.
    on_base: bool,
}

impl Accepted {
    /// Reads what was accepted, and takes out of the history what nobody has accepted.
    pub fn read(head: &Run, runs: &[Run], history: &mut [Session], store: &dyn Store) -> Result<Self> {
        let started: Vec<Timestamp> = runs.iter().map(|run| run.started).collect();
        let acceptances = store.acceptances(&head.suite.name)?;
        let record = Record {
            cases: &head.cases,
            sessions: history,
            started: &started,
            acceptances: &acceptances,
            now: head.started,
        };
        let series = chronicle::tell(record);
        chronicle::keep_accepted(&series, history);
        let on_base = head.branch.is_some() && runs.first().is_some_and(|run| run.branch == head.branch);
        let suite = head.suite.name.clone();
        Ok(Self { series, base: runs.to_vec(), suite, on_base })
    }

    /// Excuses what is waived or inherited; what a reader should know of the rest.
    pub fn apply(&self, judged: &mut Judgement<'_>, waivers: Option<&Path>, gate: Severity) -> Result<Vec<String>> {
        let came = |waiting: &Waiting| came(waiting, &self.base);
        let mut notes = chronicle::settle(&mut judged.rows, &self.series, self.on_base, gate, &came);
        cycles::hold_against(&mut judged.rows);
        notes.extend(waiver::apply(&mut judged.rows, &read_waivers(waivers)?, &self.suite, today(), gate));
        Ok(notes)
    }
}

/// `with 3f2a91c0aa (Ada <ada@example.invalid>) on 2026-08-14`
fn came(waiting: &Waiting, runs: &[Run]) -> String {
    let (before, first) = (&runs[waiting.before], &runs[waiting.first]);
    let moment = format::moment(first.started);
    let day = moment.get(..10).unwrap_or(&moment);
    let suspects = first.commit.as_deref().map(|to| git::commits(before.commit.as_deref(), to, 2)).unwrap_or_default();
    match suspects.as_slice() {
        [only] => format!("with {} ({}) on {day}", short(&only.commit), only.author),
        _ => format!("on {day}, {}", range(before.commit.as_deref(), first.commit.as_deref())),
    }
}

/// `after 1a2b up to 3c4d`: the commits that may have brought what a session shows and the one before did not.
pub fn range(before: Option<&str>, first: Option<&str>) -> String {
    match (before, first) {
        (Some(before), Some(first)) if before == first => {
            format!("at the same commit {}: not the code, or not the committed code", short(first))
        }
        (Some(before), Some(first)) => format!("after {} up to {}", short(before), short(first)),
        (None, Some(first)) => format!("up to {}", short(first)),
        _ => "at an unknown commit".to_owned(),
    }
}

/// The beginning of a hash.
pub fn short(commit: &str) -> &str {
    commit.get(..SHORT).unwrap_or(commit)
}

/// The stored sessions of a suite on the base branch and one testbed, with its cases.
#[derive(Debug)]
pub struct Stored {
    /// Suite name.
    pub suite: String,
    /// The branch; absent where the base branch has no run, and all branches stand in.
    pub branch: Option<String>,
    /// The newest first.
    pub runs: Vec<Run>,
    /// Their launches.
    pub sessions: Vec<Session>,
    /// Each case as the newest run that has it defines it.
    pub cases: Vec<CaseRecord>,
}

impl Stored {
    /// Reads the newest `last` sessions.
    ///
    /// # Errors
    /// [`NotComparable`] where nothing is stored.
    pub fn read(store: &dyn Store, suite: Option<&str>, last: u32) -> Result<Self> {
        let suite = suite_name(store, suite)?;
        let fit = RunQuery {
            suite: suite.clone(),
            fit_as_base: true,
            arms: Arms::Without,
            limit: Some(1),
            ..RunQuery::default()
        };
        let Some(newest) = store.runs(&fit)?.into_iter().next() else {
            let of = suite.map_or_else(String::new, |name| format!(" of `{name}`"));
            let text =
                format!("no complete run{of} is stored yet; `regrade run` makes one, --db names another database");
            return Err(NotComparable(text).into());
        };
        let here = RunQuery {
            suite: Some(newest.suite.name.clone()),
            testbed: Some(newest.testbed.key.clone()),
            limit: Some(last),
            ..fit
        };
        let tree = WorkTree::detect();
        let mut branch = None;
        let mut runs = Vec::new();
        for candidate in [tree.base_branch, tree.branch].into_iter().flatten() {
            runs = store.runs(&RunQuery { branch: Some(candidate.clone()), ..here.clone() })?;
            if !runs.is_empty() {
                branch = Some(candidate);
                break;
            }
        }
        if runs.is_empty() {
            runs = store.runs(&here)?;
        }
        let mut cases: Vec<CaseRecord> = Vec::new();
        let mut sessions = Vec::new();
        for run in &runs {
            let other = base::redefined(&cases, &run.cases);
            let mut launches = store.summaries(run.id)?;
            launches.retain(|launch| !other.contains(&launch.case));
            sessions.push(Session { run: run.id, launches });
            for record in &run.cases {
                let known =
                    |case: &CaseRecord| case.case.id == record.case.id || case.case.aliases.contains(&record.case.id);
                if !cases.iter().any(known) {
                    cases.push(record.clone());
                }
            }
        }
        Ok(Self { suite: newest.suite.name, branch, runs, sessions, cases })
    }

    /// Every series, with what was accepted.
    pub fn series(&self, store: &dyn Store) -> Result<Vec<Series>> {
        let started: Vec<Timestamp> = self.runs.iter().map(|run| run.started).collect();
        let acceptances = store.acceptances(&self.suite)?;
        Ok(chronicle::tell(Record {
            cases: &self.cases,
            sessions: &self.sessions,
            started: &started,
            acceptances: &acceptances,
            now: Timestamp::now(),
        }))
    }
}

/// The name that a word of the command line means: that of a suite file, or the word itself where runs of such a suite
/// are stored.
fn suite_name(store: &dyn Store, given: Option<&str>) -> Result<Option<String>> {
    let Some(word) = given else {
        return Ok(None);
    };
    if Path::new(word).is_file() {
        return Ok(Some(load_suite(Path::new(word))?.info.name));
    }
    let query = RunQuery { suite: Some(word.to_owned()), limit: Some(1), ..RunQuery::default() };
    if store.runs(&query)?.is_empty() {
        return Err(UsageError(format!(
            "`{word}` is no suite file, and no run of a suite of that name is stored; `regrade baseline list` shows them"
        ))
        .into());
    }
    Ok(Some(word.to_owned()))
}
