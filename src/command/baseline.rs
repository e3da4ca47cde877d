//! `regrade baseline …`: looking at stored runs, naming them, forgetting them, moving them.
//!
//! Wiring and words only: what may be promoted or pruned is the store's rule. Must not know any engine.

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use jiff::Timestamp;

use crate::cli::Format;
use crate::command::context::write_whole;
use crate::domain::{Run, RunId};
use crate::exit::Exit;
use crate::render::format;
use crate::store::transfer::{self, Exported, Imported};
use crate::store::{Baseline, ENGINES, Pruned, RunQuery, Store};

mod view;

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Shows the named baselines and the newest runs by suite, testbed and branch.
    List {
        /// Which runs; `limit` counts runs of all groups together.
        query: RunQuery,
        /// How to print.
        format: Format,
    },
    /// Shows a run: header, cases, medians.
    Show {
        /// Id, the beginning of one, or the name of a baseline.
        run: String,
        /// How to print.
        format: Format,
    },
    /// Gives a run a name, taking it from the run that had it.
    Promote {
        /// The name.
        name: String,
        /// Id or the beginning of one.
        run: String,
    },
    /// Forgets a name.
    Drop {
        /// The name.
        name: String,
    },
    /// Removes old runs.
    Prune {
        /// Runs fit to be a base that stay, for each suite, testbed and branch.
        keep: u32,
        /// Only say what would be removed.
        dry_run: bool,
    },
    /// Writes runs as JSON Lines.
    Export {
        /// Ids, beginnings of ids or names; none for all runs.
        runs: Vec<String>,
        /// A file; standard output without one.
        to: Option<PathBuf>,
    },
    /// Adds the runs of an export, or of another database; told apart by content.
    Import {
        /// The file.
        from: PathBuf,
    },
    /// Adds all that other databases hold.
    Merge {
        /// The files.
        from: Vec<PathBuf>,
    },
}

impl Action {
    /// Whether it needs a store that can be written.
    #[must_use]
    pub const fn writes(&self) -> bool {
        !matches!(self, Self::List { .. } | Self::Show { .. } | Self::Export { .. })
    }
}

/// Does it. `out` gets what a person or a program asked to see.
///
/// # Errors
/// A [`crate::store::StoreError`] or [`transfer::TransferError`] is in the chain of what the store refuses.
pub fn run(action: &Action, store: &mut dyn Store, out: &mut dyn Write) -> anyhow::Result<Exit> {
    match action {
        Action::List { query, format } => list(store, query, *format, out)?,
        Action::Show { run, format } => show(store, run, *format, out)?,
        Action::Promote { name, run } => promote(store, name, run, out)?,
        Action::Drop { name } => {
            let was = store.drop_baseline(name)?;
            writeln!(out, "dropped `{}`; run {} stays", was.name, was.run)?;
        }
        Action::Prune { keep, dry_run } => prune(store, *keep, *dry_run, out)?,
        Action::Export { runs, to } => export(store, runs, to.as_deref(), out)?,
        Action::Import { from } => import(store, from, out)?,
        Action::Merge { from } => {
            for from in from {
                if !is_database(from)? {
                    let shown = from.display();
                    bail!(
                        "{shown} is not a database; what `baseline export` wrote goes in with `baseline import {shown}`"
                    );
                }
                import(store, from, out)?;
            }
        }
    }
    Ok(Exit::Pass)
}

fn list(store: &dyn Store, query: &RunQuery, format: Format, out: &mut dyn Write) -> anyhow::Result<()> {
    let baselines = store.baselines()?;
    let runs = store
        .runs(query)?
        .iter()
        .map(|run| Ok(view::RunRow::new(run, store.launch_count(run.id)?, &baselines)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let listing = view::Listing::new(baselines, runs);
    match format {
        Format::Text => listing.write_text(out)?,
        Format::Json => write_json(&listing, out)?,
    }
    Ok(())
}

fn show(store: &dyn Store, wanted: &str, format: Format, out: &mut dyn Write) -> anyhow::Result<()> {
    let run = find(store, wanted)?;
    let detail = view::Detail::new(&store.baselines()?, &store.summaries(run.id)?, run);
    match format {
        Format::Text => detail.write_text(out)?,
        Format::Json => write_json(&detail, out)?,
    }
    Ok(())
}

fn write_json(value: &impl serde::Serialize, out: &mut dyn Write) -> anyhow::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)?;
    Ok(())
}

/// A run by the name of a baseline, by id, or by the beginning of one.
fn find(store: &dyn Store, wanted: &str) -> anyhow::Result<Run> {
    let named = store.baselines()?.into_iter().find(|baseline| baseline.name == wanted);
    let id = named.map_or_else(|| wanted.to_owned(), |baseline| baseline.run.to_string());
    Ok(store.run(&id)?)
}

fn promote(store: &mut dyn Store, name: &str, wanted: &str, out: &mut dyn Write) -> anyhow::Result<()> {
    let run = find(store, wanted)?;
    let before = store.baselines()?.into_iter().find(|baseline| baseline.name == name);
    store.promote(name, run.id, Timestamp::now())?;
    match before {
        Some(Baseline { run: old, .. }) if old != run.id => {
            writeln!(out, "`{name}` is now run {}; it was run {old}", run.id)?;
        }
        _ => writeln!(out, "`{name}` is run {}", run.id)?,
    }
    if run.dirty {
        writeln!(out, "note: the run was measured with uncommitted changes; its commit does not say all")?;
    }
    Ok(())
}

fn prune(store: &mut dyn Store, keep: u32, dry_run: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let Pruned { runs, launches } = store.prune(keep, dry_run)?;
    let verb = if dry_run { "would remove" } else { "removed" };
    for run in &runs {
        writeln!(out, "{verb} run {run}")?;
    }
    writeln!(
        out,
        "{verb} {} with {}; the newest {keep} of each suite, testbed and branch stay, and so do named runs",
        format::plural(runs.len(), "run", "runs"),
        format::plural(launches as usize, "launch", "launches"),
    )?;
    Ok(())
}

fn export(store: &dyn Store, wanted: &[String], to: Option<&Path>, out: &mut dyn Write) -> anyhow::Result<()> {
    let runs = wanted.iter().map(|wanted| Ok(find(store, wanted)?.id)).collect::<anyhow::Result<Vec<RunId>>>()?;
    let Some(path) = to else {
        transfer::export(store, &runs, out)?;
        return Ok(());
    };
    if path.exists() && is_database(path)? {
        bail!("{} is a database, which an export would destroy; name another file", path.display());
    }
    let Exported { runs, launches, .. } = write_whole(path, |file| transfer::export(store, &runs, file))?;
    writeln!(
        out,
        "wrote {} with {} to {}",
        format::plural(runs as usize, "run", "runs"),
        format::plural(launches as usize, "launch", "launches"),
        path.display()
    )?;
    Ok(())
}

fn import(store: &mut dyn Store, from: &Path, out: &mut dyn Write) -> anyhow::Result<()> {
    let shown = || format!("cannot import {}", from.display());
    let engine = engine_of(from).with_context(shown)?;
    let imported = if let Some(open_read_only) = engine {
        transfer::merge_all(&*open_read_only(from)?, store)
    } else {
        let file = File::open(from).with_context(shown)?;
        transfer::import(&mut BufReader::new(file), store)
    };
    let imported = imported.with_context(shown)?;
    writeln!(
        out,
        "imported {} and {}; {} known already",
        format::plural(imported.runs as usize, "run", "runs"),
        format::plural(imported.launches as usize, "launch", "launches"),
        format::plural(imported.known as usize, "launch", "launches"),
    )?;
    tell_of_the_rest(&imported, out)
}

/// What came along with the runs.
pub(super) fn tell_of_the_rest(imported: &Imported, out: &mut dyn Write) -> anyhow::Result<()> {
    for name in &imported.names {
        writeln!(out, "`{name}` came along")?;
    }
    for name in &imported.names_kept {
        writeln!(
            out,
            "`{name}` was given to another run later and stays with that one; `regrade baseline promote` moves it"
        )?;
    }
    for (count, one, many) in
        [(imported.acceptances, "acceptance", "acceptances"), (imported.noise, "noise model", "noise models")]
    {
        if count > 0 {
            writeln!(out, "{} came along", format::plural(count as usize, one, many))?;
        }
    }
    Ok(())
}

type OpenReadOnly = fn(&Path) -> Result<Box<dyn Store>, crate::store::StoreError>;

/// How to open the file if it is a database.
fn engine_of(path: &Path) -> std::io::Result<Option<OpenReadOnly>> {
    for engine in ENGINES {
        if (engine.recognises)(path)? {
            return Ok(Some(engine.open_read_only));
        }
    }
    Ok(None)
}

fn is_database(path: &Path) -> anyhow::Result<bool> {
    let engine = engine_of(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(engine.is_some())
}
