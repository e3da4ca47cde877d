//! A folder where databases meet: a shared file system, or what a CI service caches.
//!
//! Who pushes holds a lock from taking to putting, and puts by renaming, so that who pulls sees a whole database at any
//! moment. The lock is the kernel's: it ends with its process. Must not know what the databases hold.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::command::context::note;
use crate::command::travel::{FILE, Meeting, Put};

/// Who holds the lock may push.
const LOCK: &str = "regrade-baselines.lock";
/// How often to look whether the lock is free.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The folder.
pub struct Folder {
    path: PathBuf,
    /// How long to wait for the lock; absent where nothing is to be put.
    patience: Option<Duration>,
    quiet: bool,
    lock: Option<File>,
}

impl Folder {
    /// To push to; a dry run changes nothing and needs no lock.
    pub fn to_push(path: &Path, patience: Duration, dry_run: bool, quiet: bool) -> Self {
        Self { path: path.to_owned(), patience: (!dry_run).then_some(patience), quiet, lock: None }
    }

    /// To pull from.
    pub fn to_pull(path: &Path) -> Self {
        Self { path: path.to_owned(), patience: None, quiet: true, lock: None }
    }

    fn file(&self) -> PathBuf {
        self.path.join(FILE)
    }

    fn lock(&self, patience: Duration) -> Result<File> {
        fs::create_dir_all(&self.path).with_context(|| format!("cannot create {}", self.path.display()))?;
        let path = self.path.join(LOCK);
        let shown = path.display();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("cannot open {shown}"))?;
        let began = Instant::now();
        let mut told = self.quiet;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if began.elapsed() < patience => {
                    if !told {
                        note(&format!("another push to {} is under way; waiting for it to end", self.path.display()));
                        told = true;
                    }
                    std::thread::sleep(LOOK_EVERY);
                }
                Err(TryLockError::WouldBlock) => bail!(
                    "{shown}: another push held the lock all the time; nothing was pushed: push again, or give it longer \
                     with --patience"
                ),
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| {
                        format!("{shown}: this file system has no locks, without which pushes would lose runs")
                    });
                }
            }
        }
    }
}

impl Meeting for Folder {
    fn label(&self) -> String {
        self.path.display().to_string()
    }

    fn take(&mut self, target: &Path) -> Result<bool> {
        if let Some(patience) = self.patience {
            self.lock = Some(self.lock(patience)?);
        }
        let file = self.file();
        let shown = || format!("cannot read {}", file.display());
        // Opened once and never written in place: what is read is one database, whatever is renamed meanwhile.
        let mut from = match File::open(&file) {
            Ok(from) => from,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error).with_context(shown),
        };
        let mut journal = file.clone().into_os_string();
        journal.push("-wal");
        if Path::new(&journal).exists() {
            bail!("{} is in use as a database; let --db name another file, and push to this folder", file.display());
        }
        std::io::copy(&mut from, &mut File::create(target)?).with_context(shown)?;
        Ok(true)
    }

    fn commit(&self) -> Option<String> {
        None
    }

    fn bases(&self) -> BTreeMap<String, Option<String>> {
        BTreeMap::new()
    }

    fn put(&mut self, file: &Path) -> Result<Put> {
        let target = self.file();
        // One name for all: the lock is ours, and what a killed push left is overwritten.
        let draft = self.path.join(format!("{FILE}.new"));
        let shown = || format!("cannot write {}", target.display());
        fs::copy(file, &draft).with_context(shown)?;
        File::open(&draft).and_then(|file| file.sync_all()).with_context(shown)?;
        fs::rename(&draft, &target).with_context(shown)?;
        // The new name must survive a power cut too; a file system that cannot do this says so and is left alone.
        let _ = File::open(&self.path).and_then(|folder| folder.sync_all());
        self.lock = None;
        Ok(Put::Done(None))
    }
}
