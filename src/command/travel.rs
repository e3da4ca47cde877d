//! `regrade baseline push` and `pull`: the databases of all machines meet in one place and part with the union.
//!
//! The meeting place is an orphan branch of a git remote ([`branch`]) or a folder ([`folder`]); both hold one database
//! file. A push takes what is there, merges, and puts the union back provided that nobody else was there in between;
//! otherwise it takes again, so that nothing is lost whoever comes first. Must not know how either place works.
//!
//! One file, not one for each suite and testbed: names, acceptances and noise models belong to no single one of them, the
//! branch is replaced as a whole anyway, and `--keep` bounds its size.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::DirBuilder;
use std::hash::{BuildHasher, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use crate::cli::{Format, Pull, Push};
use crate::command::baseline::tell_of_the_rest;
use crate::command::context::{Context, print};
use crate::command::secret;
use crate::command::travel::branch::Branch;
use crate::command::travel::folder::Folder;
use crate::command::travel::selection::{LeftOut, Selection};
use crate::domain::RunId;
use crate::exit::Exit;
use crate::render::format;
use crate::store::sqlite::SqliteStore;
use crate::store::transfer::{self, Imported};
use crate::store::{RunQuery, Store, StoreError};

mod branch;
mod folder;
mod selection;

/// The database's name wherever databases meet. Not `regrade.sqlite`, which is what a database in use is called.
const FILE: &str = "regrade-baselines.sqlite";
/// GitHub refuses files of more than 100 MiB, wherever in a repository they are.
const MOST_BYTES: u64 = 95 * MIB;
/// From here on the next refusal is announced.
const MANY_BYTES: u64 = 70 * MIB;
const MIB: u64 = 1024 * 1024;
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The longest first pause; each further one may be twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Version of the JSON that is printed.
const VERSION: u32 = 1;

/// Where databases meet.
trait Meeting {
    /// As a person knows it, without secrets.
    fn label(&self) -> String;

    /// Copies the database that is there to `target`; says whether there is one.
    ///
    /// # Errors
    /// When the place cannot be reached, or holds something that is not ours.
    fn take(&mut self, target: &Path) -> Result<bool>;

    /// The commit that was taken; none where there is no commit.
    fn commit(&self) -> Option<String>;

    /// The branches that play base, as far as the place knows, each with its newest commit.
    fn bases(&self) -> BTreeMap<String, Option<String>>;

    /// Puts a database in the place of the one that was taken, unless another came in between.
    ///
    /// # Errors
    /// When trying again would not help.
    fn put(&mut self, file: &Path) -> Result<Put>;
}

/// What became of a database that was put.
enum Put {
    /// It is there; with the commit that holds it.
    Done(Option<String>),
    /// Somebody was faster, or in the way; in words.
    Lost(String),
}

/// What a push or a pull did, for programs.
#[derive(Debug, Serialize)]
struct Outcome {
    version: u32,
    /// Where databases met, without secrets: a remote and its branch, or a folder.
    remote: Option<String>,
    branch: Option<String>,
    folder: Option<PathBuf>,
    /// The commit that the branch is at now; null for a folder, and where there are no baselines.
    commit: Option<String>,
    /// Times that the place was looked at.
    attempts: u32,
    /// Whether the place (push) or the database (pull) is other than before; in a dry run, whether it would be.
    changed: bool,
    /// Whether nothing was to be changed.
    dry_run: bool,
    /// Size of the database that met.
    bytes: u64,
    /// Runs that `--keep` took out.
    pruned: usize,
    /// Runs of the own database that were not pushed, by reason.
    left_out: LeftOut,
    #[serde(flatten)]
    added: Imported,
}

impl Outcome {
    /// Of a first look at a place, before anything is merged.
    fn new(folder: Option<&Path>, remote: &str, branch: &str) -> Self {
        let of_git = |text: String| folder.is_none().then_some(text);
        Self {
            version: VERSION,
            remote: of_git(secret::without_credentials(remote)),
            branch: of_git(branch.to_owned()),
            folder: folder.map(Path::to_owned),
            commit: None,
            attempts: 1,
            changed: false,
            dry_run: false,
            bytes: 0,
            pruned: 0,
            left_out: LeftOut::default(),
            added: Imported::default(),
        }
    }
}

/// `regrade baseline push`
pub fn push(arguments: &Push, context: &Context) -> Result<Exit> {
    context.must_exist()?;
    let store = context.store()?;
    let scratch = Scratch::new()?;
    let began = Instant::now();
    let mut place: Box<dyn Meeting> = match &arguments.to {
        Some(folder) => Box::new(Folder::to_push(folder, arguments.patience, arguments.dry_run, context.quiet)),
        None => Box::new(Branch::new(&arguments.remote, &arguments.branch, true, &arguments.runs_of, &scratch.folder)?),
    };
    let mut attempts = 0;
    let outcome = loop {
        attempts += 1;
        match attempt(arguments, &store, &mut *place, &scratch)? {
            Tried::Done(outcome) => break Outcome { attempts, ..*outcome },
            Tried::Lost(why) => {
                let spent = began.elapsed();
                if spent >= arguments.patience {
                    bail!(
                        "{}: {attempts} attempts in {} were overtaken (the last: {why}); nothing was pushed and nothing \
                         is lost: push again, or give it longer with --patience",
                        place.label(),
                        format::duration(spent.as_secs_f64())
                    );
                }
                context.tell(&format!("attempt {attempts} came too late ({why}); merging and trying again"));
                std::thread::sleep(pause(attempts).min(arguments.patience.saturating_sub(spent)));
            }
        }
    };
    if outcome.bytes > MANY_BYTES && arguments.to.is_none() {
        context.tell(&format!(
            "the baselines have {}; from {} on they are not pushed any more: {}",
            mebibytes(outcome.bytes),
            mebibytes(MOST_BYTES),
            shrinking()
        ));
    }
    tell(&outcome, arguments.format, |out| {
        let (place, added) = (place.label(), &outcome.added);
        let what = counted(added);
        match (outcome.changed, outcome.dry_run, &outcome.commit) {
            (false, _, _) if outcome.bytes == 0 => writeln!(out, "nothing to push to {place}")?,
            (false, ..) => writeln!(out, "{place} has it all already")?,
            (true, true, _) => {
                writeln!(out, "would push {what} to {place}, {} then", mebibytes(outcome.bytes))?;
            }
            (true, false, commit) => {
                let commit = commit
                    .as_deref()
                    .map_or_else(String::new, |commit| format!(", commit {}", commit.get(..10).unwrap_or(commit)));
                let attempts = format::plural(attempts as usize, "attempt", "attempts");
                writeln!(out, "pushed {what} to {place} ({}{commit}, {attempts})", mebibytes(outcome.bytes))?;
            }
        }
        if outcome.pruned > 0 {
            let runs = format::plural(outcome.pruned, "older run", "older runs");
            writeln!(out, "{} {runs} out of it", if outcome.dry_run { "would leave" } else { "left" })?;
        }
        tell_of_the_rest(added, out)?;
        outcome.left_out.write_text(out)
    })
}

/// How an attempt ended.
enum Tried {
    Done(Box<Outcome>),
    Lost(String),
}

/// Takes, merges, puts.
fn attempt(arguments: &Push, store: &SqliteStore, place: &mut dyn Meeting, scratch: &Scratch) -> Result<Tried> {
    let draft = scratch.fresh("draft.sqlite")?;
    let there = place.take(&draft)?;
    let mut union = open(&draft, place)?;
    let selection = Selection::new(arguments, place.bases(), store)?;
    let before = ids(&union)?;
    let mut added = transfer::merge_some(store, &mut union, &|run| selection.takes(run))
        .with_context(|| format!("cannot merge with {}", place.label()))?;
    let mut pruned = 0;
    if let Some(keep) = arguments.keep {
        union.prune(keep, false)?;
        // What came and went again is no change.
        let after = ids(&union)?;
        pruned = before.difference(&after).count();
        added.runs = after.difference(&before).count() as u64;
        added.launches = after.difference(&before).map(|run| union.launch_count(*run)).sum::<Result<_, _>>()?;
    }
    let changed = added.changes() || pruned > 0;
    let mut outcome = Outcome {
        commit: place.commit(),
        changed,
        dry_run: arguments.dry_run,
        bytes: if there { size(&draft)? } else { 0 },
        pruned,
        left_out: selection.left_out(),
        added,
        ..Outcome::new(arguments.to.as_deref(), &arguments.remote, &arguments.branch)
    };
    if !changed {
        return Ok(Tried::Done(Box::new(outcome)));
    }
    let whole = scratch.fresh(FILE)?;
    union.copy_to(&whole)?;
    drop(union);
    outcome.bytes = size(&whole)?;
    if arguments.to.is_none() && outcome.bytes > MOST_BYTES {
        bail!(
            "{}: the baselines would have {}, and git hosts refuse files of more than 100 MiB; nothing was pushed: {}",
            place.label(),
            mebibytes(outcome.bytes),
            shrinking()
        );
    }
    if arguments.dry_run {
        return Ok(Tried::Done(Box::new(outcome)));
    }
    Ok(match place.put(&whole)? {
        Put::Done(commit) => Tried::Done(Box::new(Outcome { commit, ..outcome })),
        Put::Lost(why) => Tried::Lost(why),
    })
}

fn ids(store: &dyn Store) -> Result<BTreeSet<RunId>> {
    Ok(store.runs(&RunQuery::default())?.into_iter().map(|run| run.id).collect())
}

/// `regrade baseline pull`
pub fn pull(arguments: &Pull, context: &Context) -> Result<Exit> {
    let scratch = Scratch::new()?;
    let mut place: Box<dyn Meeting> = match &arguments.from {
        Some(folder) => Box::new(Folder::to_pull(folder)),
        None => Box::new(Branch::new(&arguments.remote, &arguments.branch, false, &[], &scratch.folder)?),
    };
    let draft = scratch.fresh("draft.sqlite")?;
    let there = place.take(&draft)?;
    let mut outcome = Outcome {
        commit: place.commit(),
        ..Outcome::new(arguments.from.as_deref(), &arguments.remote, &arguments.branch)
    };
    if there {
        outcome.bytes = size(&draft)?;
        // Opened for writing: an older schema is migrated, in this copy.
        let from = open(&draft, &*place)?;
        outcome.added = transfer::merge_all(&from, &mut context.store()?)
            .with_context(|| format!("cannot merge {} into {}", place.label(), context.db.display()))?;
        outcome.changed = outcome.added.changes();
    }
    tell(&outcome, arguments.format, |out| {
        let (place, added) = (place.label(), &outcome.added);
        if there {
            writeln!(out, "pulled {} from {place}", counted(added))?;
        } else {
            writeln!(out, "there are no baselines at {place} yet; `regrade baseline push` brings the first")?;
        }
        tell_of_the_rest(added, out)
    })
}

/// Opens what was taken, or begins what will be put; what is wrong with it is said of the place that it came from.
fn open(draft: &Path, place: &dyn Meeting) -> Result<SqliteStore> {
    SqliteStore::open(draft).map_err(|error| match error {
        StoreError::Newer { found, known, .. } => StoreError::Newer { path: place.label(), found, known }.into(),
        StoreError::NotOurs { .. } => not_ours(&place.label(), &format!("its {FILE} is no database of regrade")),
        other => anyhow::Error::from(other).context(place.label()),
    })
}

/// Something else is where the baselines should be.
fn not_ours(place: &str, what: &str) -> anyhow::Error {
    anyhow::anyhow!(
        "{place}: {what}, so it was not made by `regrade baseline push`; nothing was read or changed: name another \
         place, with --branch, --to or --from"
    )
}

fn counted(added: &Imported) -> String {
    format!(
        "{} and {}",
        format::plural(added.runs as usize, "run", "runs"),
        format::plural(added.launches as usize, "launch", "launches")
    )
}

fn tell(outcome: &Outcome, how: Format, text: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<Exit> {
    let mut out = Vec::new();
    match how {
        Format::Text => text(&mut out)?,
        Format::Json => {
            serde_json::to_writer_pretty(&mut out, outcome)?;
            writeln!(out)?;
        }
    }
    print(&out)?;
    Ok(Exit::Pass)
}

fn shrinking() -> &'static str {
    "`regrade baseline push --keep 30` leaves the newest 30 runs of each suite, testbed and branch there, as \
     `regrade baseline prune --keep 30` does here"
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / MIB as f64)
}

fn size(path: &Path) -> Result<u64> {
    let shown = || format!("cannot read {}", path.display());
    Ok(std::fs::metadata(path).with_context(shown)?.len())
}

/// A pause that two processes hardly choose alike: uniform up to a bound that doubles with each attempt (full jitter).
fn pause(attempts: u32) -> Duration {
    let bound = LONGEST_PAUSE.min(FIRST_PAUSE.saturating_mul(1 << attempts.min(16)));
    // Every hasher of the standard library's maps starts from a random state.
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    bound.mul_f64(random as f64 / u64::MAX as f64)
}

/// A folder that only this user can read, removed in the end.
struct Scratch {
    folder: PathBuf,
}

impl Scratch {
    fn new() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("regrade-travel-{}", uuid::Uuid::now_v7()));
        let mut builder = DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Self { folder })
    }

    /// A name at which nothing is, an earlier attempt's database and its companions included.
    fn fresh(&self, name: &str) -> Result<PathBuf> {
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(name) {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(self.folder.join(name))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is the system's to clean.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
