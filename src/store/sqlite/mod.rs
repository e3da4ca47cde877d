//! The SQLite engine: one file, no server.
//!
//! `open` turns a path into a connection, `migrate` brings the schema up to date, `runs`, `launches`, `baselines`
//! and `knowledge` hold the statements, `columns` and `blob` the encodings. This file makes each method of the port one transaction
//! and puts errors into the port's words. Must not know how launches are made or judged.

use std::fs::File;
use std::path::Path;

use jiff::Timestamp;
use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use crate::domain::{Acceptance, CaseId, Evidence, Launch, LaunchSummary, NoiseModel, Run, RunId, RunStatus};
use crate::store::sqlite::columns::{Id, Nanos, Unsigned, Word};
use crate::store::sqlite::owner::Owner;
use crate::store::{Baseline, Knowledge, Merged, Pruned, RunQuery, Store, StoreError, unfit_as_baseline};

mod baselines;
mod blob;
mod columns;
mod knowledge;
mod launches;
mod migrate;
mod open;
mod owner;
mod runs;

pub use open::recognises;

/// A database file.
#[derive(Debug)]
pub struct SqliteStore {
    conn: Connection,
    path: String,
}

impl SqliteStore {
    /// Opens a database; creates it, and its folder, where there is none; migrates an older one after keeping a copy
    /// beside it as `<file>.v<N>.bak`.
    ///
    /// # Errors
    /// [`StoreError::Newer`] and [`StoreError::NotOurs`] leave the file untouched; [`StoreError::Denied`] when it
    /// cannot be written.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        open::writable(path).map(|conn| Self::over(conn, path))
    }

    /// Opens a database that is there, for reading only.
    ///
    /// # Errors
    /// As [`Self::open`]; [`StoreError::NotFound`] when there is none, [`StoreError::Refused`] when it is older and
    /// would have to be migrated.
    pub fn open_read_only(path: &Path) -> Result<Self, StoreError> {
        open::readable(path).map(|conn| Self::over(conn, path))
    }

    /// Writes all of it into a new file: one moment of the database, without free pages and without companions.
    ///
    /// # Errors
    /// When the file exists or cannot be written.
    pub fn copy_to(&self, target: &Path) -> Result<(), StoreError> {
        let doing = "writing a copy";
        let shown = target.display().to_string();
        let name = target
            .to_str()
            .ok_or_else(|| StoreError::Refused(format!("{shown}: SQLite takes only names that are UTF-8")))?;
        self.conn.execute("VACUUM INTO ?", [name]).map_err(open::fault(&shown, doing))?;
        // VACUUM INTO leaves flushing to the caller.
        File::open(target).and_then(|file| file.sync_all()).map_err(open::io_fault(&shown, doing))
    }

    fn over(conn: Connection, path: &Path) -> Self {
        // Every statement of `put_launch` and of reading stays prepared.
        conn.set_prepared_statement_cache_capacity(32);
        Self { conn, path: path.display().to_string() }
    }

    /// Runs `work` in one write transaction. Immediate: a transaction that began by reading could not wait for
    /// another writer.
    fn write<T>(
        &mut self,
        doing: &str,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let fault = open::fault(&self.path, doing);
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&fault)?;
        let done = work(&tx)?;
        tx.commit().map_err(fault)?;
        Ok(done)
    }

    /// Runs `work` on one snapshot.
    fn read<T>(&self, doing: &str, work: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let tx = self.conn.unchecked_transaction().map_err(open::fault(&self.path, doing))?;
        work(&tx)
    }
}

/// As [`open::fault`], for reading or writing a run: a value that does not convert is the run's fault.
fn run_fault<'a>(path: &'a str, run: RunId, doing: &'a str) -> impl Fn(rusqlite::Error) -> StoreError + 'a {
    let corrupt = move |what: &dyn std::fmt::Display| StoreError::Corrupt {
        run: run.to_string(),
        what: format!("{path}: {what}; the run is damaged: prune it, or put back a copy of the database"),
    };
    move |e| match e {
        rusqlite::Error::FromSqlConversionFailure(_, _, what) => corrupt(&what),
        rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::Utf8Error(..) => corrupt(&e),
        rusqlite::Error::ToSqlConversionFailure(what) => {
            StoreError::Refused(format!("{path}: run {run} cannot be stored: {what}"))
        }
        other => open::fault(path, doing)(other),
    }
}

fn key_of(conn: &Connection, path: &str, run: RunId) -> Result<i64, StoreError> {
    runs::find_key(conn, run)
        .map_err(open::fault(path, "looking for a run"))?
        .ok_or_else(|| StoreError::NotFound(format!("{path}: no run {run}; `regrade baseline list` shows the runs")))
}

fn exists_already(path: &str, run: RunId) -> StoreError {
    StoreError::Refused(format!("{path}: run {run} is stored already"))
}

impl Store for SqliteStore {
    fn begin_run(&mut self, run: &Run) -> Result<(), StoreError> {
        runs::refuse_unreadable(run)?;
        let path = self.path.clone();
        self.write("beginning a run", |tx| {
            let fault = run_fault(&path, run.id, "beginning a run");
            if runs::find_key(tx, run.id).map_err(&fault)?.is_some() {
                return Err(exists_already(&path, run.id));
            }
            let owner = Owner::this_process();
            runs::insert(tx, run, Some(&owner)).map_err(fault)?;
            Ok(())
        })
    }

    fn put_launch(&mut self, run: RunId, launch: &Launch) -> Result<(), StoreError> {
        let path = self.path.clone();
        self.write("storing a launch", |tx| {
            let fault = run_fault(&path, run, "storing a launch");
            let key = key_of(tx, &path, run)?;
            if launches::find(tx, launch.id).map_err(&fault)?.is_some() {
                return Err(StoreError::Refused(format!("{path}: launch {} is stored already", launch.id)));
            }
            launches::insert(tx, key, launch).map_err(fault)
        })
    }

    fn finish_run(&mut self, run: RunId, status: RunStatus, at: Timestamp) -> Result<(), StoreError> {
        if status == RunStatus::Running {
            return Err(StoreError::Refused(format!(
                "run {run} cannot finish as `running`; say `complete` or `interrupted`"
            )));
        }
        let path = self.path.clone();
        self.write("finishing a run", |tx| {
            let key = key_of(tx, &path, run)?;
            set_ended(tx, key, status, Some(at)).map_err(run_fault(&path, run, "finishing a run"))
        })
    }

    fn reopen_run(&mut self, run: RunId) -> Result<(), StoreError> {
        let path = self.path.clone();
        self.write("reopening a run", |tx| {
            let fault = run_fault(&path, run, "reopening a run");
            let key = key_of(tx, &path, run)?;
            let header = runs::Reader::new(tx).read(key).map_err(&fault)?;
            let me = Owner::this_process();
            match header.status {
                RunStatus::Complete => {
                    return Err(StoreError::Refused(format!(
                        "run {run} is complete: there is nothing to resume; start a new run"
                    )));
                }
                RunStatus::Running => {
                    if let Some(other) = owner_of(tx, key).map_err(&fault)?
                        && other != me
                        && other.is_alive()
                    {
                        return Err(StoreError::Refused(format!(
                            "run {run} is being measured by process {}; wait for it, or stop it first",
                            other.pid
                        )));
                    }
                }
                RunStatus::Interrupted => {}
            }
            tx.execute(
                "UPDATE runs SET status = 'running', finished_ns = NULL, owner_boot = ?, owner_pid = ?, owner_start = ?
                 WHERE key = ?",
                params![me.boot, me.pid, Unsigned(me.start), key],
            )
            .map_err(fault)?;
            Ok(())
        })
    }

    fn mark_interrupted(&mut self) -> Result<Vec<RunId>, StoreError> {
        let path = self.path.clone();
        let doing = "marking interrupted runs";
        self.write(doing, |tx| {
            let fault = open::fault(&path, doing);
            let running: Vec<(i64, RunId)> = tx
                .prepare("SELECT key, id FROM runs WHERE status = 'running' ORDER BY started_ns, id")
                .and_then(|mut statement| {
                    statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, Id<_>>(1)?.0)))?.collect()
                })
                .map_err(&fault)?;
            let mut marked = Vec::new();
            for (key, run) in running {
                let owner = owner_of(tx, key).map_err(&fault)?;
                if owner.is_none_or(|owner| !owner.is_alive()) {
                    set_ended(tx, key, RunStatus::Interrupted, None).map_err(&fault)?;
                    marked.push(run);
                }
            }
            Ok(marked)
        })
    }

    fn runs(&self, query: &RunQuery) -> Result<Vec<Run>, StoreError> {
        let doing = "listing runs";
        self.read(doing, |conn| {
            let mut reader = runs::Reader::new(conn);
            runs::select(conn, query)
                .map_err(open::fault(&self.path, doing))?
                .into_iter()
                .map(|(key, id)| reader.read(key).map_err(run_fault(&self.path, id, doing)))
                .collect()
        })
    }

    fn run(&self, id_prefix: &str) -> Result<Run, StoreError> {
        let doing = "reading a run";
        self.read(doing, |conn| {
            let (key, id) = runs::by_prefix(conn, id_prefix, open::fault(&self.path, doing))?;
            runs::Reader::new(conn).read(key).map_err(run_fault(&self.path, id, doing))
        })
    }

    fn launches(&self, run: RunId, case: Option<&CaseId>) -> Result<Vec<Launch>, StoreError> {
        let doing = "reading launches";
        self.read(doing, |conn| {
            let key = key_of(conn, &self.path, run)?;
            launches::read(conn, key, case).map_err(run_fault(&self.path, run, doing))
        })
    }

    fn summaries(&self, run: RunId) -> Result<Vec<LaunchSummary>, StoreError> {
        let doing = "reading summaries";
        self.read(doing, |conn| {
            let key = key_of(conn, &self.path, run)?;
            launches::summaries(conn, key).map_err(run_fault(&self.path, run, doing))
        })
    }

    fn evidence(&self, run: RunId, source: &str) -> Result<Vec<(CaseId, Evidence)>, StoreError> {
        let doing = "reading evidence";
        self.read(doing, |conn| {
            let key = key_of(conn, &self.path, run)?;
            launches::evidence(conn, key, source).map_err(run_fault(&self.path, run, doing))
        })
    }

    fn launch_count(&self, run: RunId) -> Result<u64, StoreError> {
        let doing = "counting launches";
        self.read(doing, |conn| {
            let key = key_of(conn, &self.path, run)?;
            launches::count(conn, key).map_err(open::fault(&self.path, doing))
        })
    }

    fn promote(&mut self, name: &str, run: RunId, at: Timestamp) -> Result<(), StoreError> {
        if name.trim().is_empty() || name.chars().any(char::is_control) {
            return Err(StoreError::Refused(format!(
                "`{}` is no name for a baseline; give it at least one visible character",
                name.escape_debug()
            )));
        }
        let path = self.path.clone();
        self.write("promoting a run", |tx| {
            let fault = run_fault(&path, run, "promoting a run");
            let key = key_of(tx, &path, run)?;
            let header = runs::Reader::new(tx).read(key).map_err(&fault)?;
            if let Some(why) = unfit_as_baseline(&header) {
                return Err(StoreError::Refused(format!("run {run} cannot be a baseline: {why}")));
            }
            baselines::put(tx, name, key, at).map_err(fault)
        })
    }

    fn drop_baseline(&mut self, name: &str) -> Result<Baseline, StoreError> {
        let path = self.path.clone();
        self.write("dropping a baseline", |tx| {
            baselines::remove(tx, name).map_err(open::fault(&path, "dropping a baseline"))?.ok_or_else(|| {
                StoreError::NotFound(format!("no baseline `{name}`; `regrade baseline list` shows the names"))
            })
        })
    }

    fn baselines(&self) -> Result<Vec<Baseline>, StoreError> {
        baselines::all(&self.conn).map_err(open::fault(&self.path, "listing baselines"))
    }

    fn prune(&mut self, keep: u32, dry_run: bool) -> Result<Pruned, StoreError> {
        let path = self.path.clone();
        let doing = "pruning";
        let pruned = self.write(doing, |tx| {
            let fault = open::fault(&path, doing);
            let mut pruned = Pruned::default();
            for (key, run, launches) in baselines::superfluous(tx, keep).map_err(&fault)? {
                pruned.runs.push(run);
                pruned.launches += launches;
                if !dry_run {
                    baselines::remove_run(tx, key).map_err(&fault)?;
                }
            }
            if !dry_run {
                runs::sweep_texts(tx).map_err(&fault)?;
            }
            Ok(pruned)
        })?;
        if !dry_run {
            give_back_pages(&self.conn).map_err(open::fault(&self.path, doing))?;
        }
        Ok(pruned)
    }

    fn put_noise(&mut self, models: &[NoiseModel]) -> Result<(), StoreError> {
        let path = self.path.clone();
        let doing = "storing noise models";
        self.write(doing, |tx| knowledge::put_noise(tx, models).map_err(open::fault(&path, doing)))
    }

    fn noise(&self, suite: &str, testbed: &str) -> Result<Vec<NoiseModel>, StoreError> {
        knowledge::noise(&self.conn, suite, testbed).map_err(open::fault(&self.path, "reading noise models"))
    }

    fn put_acceptance(&mut self, acceptance: &Acceptance) -> Result<(), StoreError> {
        let path = self.path.clone();
        let doing = "storing an acceptance";
        self.write(doing, |tx| knowledge::put_acceptance(tx, acceptance).map_err(open::fault(&path, doing)))
    }

    fn acceptances(&self, suite: &str) -> Result<Vec<Acceptance>, StoreError> {
        knowledge::acceptances(&self.conn, suite).map_err(open::fault(&self.path, "reading acceptances"))
    }

    fn knowledge(&self) -> Result<Knowledge, StoreError> {
        self.read("reading what is known", |conn| {
            let fault = open::fault(&self.path, "reading what is known");
            let noise = knowledge::all_noise(conn).map_err(&fault)?;
            Ok(Knowledge { noise, acceptances: knowledge::all_acceptances(conn).map_err(fault)? })
        })
    }

    fn merge(&mut self, run: &Run, launches: &[Launch]) -> Result<Merged, StoreError> {
        runs::refuse_unreadable(run)?;
        let path = self.path.clone();
        self.write("merging a run", |tx| merge(tx, &path, run, launches))
    }
}

fn owner_of(conn: &Connection, key: i64) -> rusqlite::Result<Option<Owner>> {
    conn.query_row("SELECT owner_boot, owner_pid, owner_start FROM runs WHERE key = ?", [key], |row| {
        let boot: Option<String> = row.get(0)?;
        boot.map(|boot| Ok(Owner { boot, pid: row.get(1)?, start: row.get::<_, Unsigned>(2)?.0 })).transpose()
    })
}

/// Ends a run; without a moment, at the last sign of life: its newest launch, or its start.
fn set_ended(conn: &Connection, key: i64, status: RunStatus, at: Option<Timestamp>) -> rusqlite::Result<()> {
    conn.execute(
        "UPDATE runs SET status = ?2, owner_boot = NULL, owner_pid = NULL, owner_start = NULL,
             finished_ns = coalesce(?3, (SELECT max(finished_ns) FROM launches WHERE run = ?1), started_ns)
         WHERE key = ?1",
        params![key, Word(status), at.map(Nanos)],
    )?;
    Ok(())
}

/// Shrinks the file by the pages that pruning freed. Stepped to its end: each step gives back one page.
fn give_back_pages(conn: &Connection) -> rusqlite::Result<()> {
    let mut statement = conn.prepare("PRAGMA incremental_vacuum")?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

/// The union of a run that may be here with one from elsewhere. The only thing of a stored header that moves is
/// progress: a run that was imported unfinished becomes complete when its complete self arrives.
fn merge(tx: &Transaction<'_>, path: &str, run: &Run, launches: &[Launch]) -> Result<Merged, StoreError> {
    let fault = run_fault(path, run.id, "merging a run");
    let mut merged = Merged::default();
    let key = match runs::find_key(tx, run.id).map_err(&fault)? {
        None => {
            merged.runs = 1;
            runs::insert(tx, run, None).map_err(&fault)?
        }
        Some(key) => {
            let here = runs::Reader::new(tx).read(key).map_err(&fault)?;
            if !same_apart_from_progress(&here, run) {
                return Err(StoreError::Refused(format!(
                    "run {} stands for something else in {path} (suite `{}`, started {}); one of the two was changed by \
                     hand: leave it out, or remove the other",
                    run.id, here.suite.name, here.started
                )));
            }
            if here.status != RunStatus::Complete && run.status == RunStatus::Complete {
                set_ended(tx, key, run.status, run.finished).map_err(&fault)?;
            }
            key
        }
    };
    for launch in launches {
        match launches::find(tx, launch.id).map_err(&fault)? {
            None => {
                launches::insert(tx, key, launch).map_err(&fault)?;
                merged.launches += 1;
            }
            Some(here) if here == launches::Imprint::of(key, launch) => merged.known += 1,
            Some(_) => {
                return Err(StoreError::Refused(format!(
                    "launch {} of run {} stands for something else in {path}; one of the two was changed by hand",
                    launch.id, run.id
                )));
            }
        }
    }
    Ok(merged)
}

fn same_apart_from_progress(here: &Run, other: &Run) -> bool {
    let mut there = other.clone();
    there.status = here.status;
    there.finished = here.finished;
    *here == there
}
