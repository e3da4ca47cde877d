//! A folder that the launches of one session share, for what only the first of them need make (results of a compiler's tuning, say) and
//! for what each of them writes.
//!
//! It is empty when the session begins and goes with it, so that no session knows what another found out; those of sessions that were
//! killed go when the next one begins. Must not know what lies in it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::FlockOperation;

use crate::domain::RunId;
use crate::runner::RunnerError;

/// How folders of sessions are called, before their ids.
const PREFIX: &str = "regrade-session-";
/// What a session holds locked in its folder while it lives.
const LOCK: &str = ".lock";
/// A folder that is younger may not have its lock yet.
const YOUNG: Duration = Duration::from_secs(3600);

/// The folder; removed when the last owner goes.
#[derive(Debug)]
pub struct Shared {
    folder: PathBuf,
    _lock: File,
}

impl Shared {
    /// Makes it, and removes what killed sessions left.
    ///
    /// # Errors
    /// When the temporary folder cannot be written to.
    pub fn new() -> Result<Arc<Self>, RunnerError> {
        let temporary = std::env::temp_dir();
        sweep(&temporary, YOUNG);
        let folder = temporary.join(format!("{PREFIX}{}", RunId::fresh()));
        let made = std::fs::create_dir(&folder).and_then(|()| {
            let lock = File::create_new(folder.join(LOCK))?;
            // Where there are no locks nothing is ever swept.
            let _ = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive);
            Ok(lock)
        });
        let lock = made.map_err(|source| RunnerError::Environment {
            context: format!("cannot create {}; set TMPDIR to a folder that can be written to", folder.display()),
            source,
        })?;
        Ok(Arc::new(Self { folder, _lock: lock }))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // A leftover in the temporary folder harms nothing.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Removes folders of sessions that are no more; what refuses belongs to somebody else.
fn sweep(temporary: &Path, young: Duration) {
    for entry in std::fs::read_dir(temporary).into_iter().flatten().flatten() {
        let named = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let old = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
        if !named || old().is_none_or(|age| age < young) {
            continue;
        }
        let nobodys = File::open(entry.path().join(LOCK))
            .is_ok_and(|lock| rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok());
        if nobodys {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_killed_sessions_left_goes_and_what_lives_stays() {
        let temporary = tempfile::tempdir().expect("a folder");
        let folder = |name: &str| {
            let folder = temporary.path().join(name);
            std::fs::create_dir(&folder).expect("a folder");
            std::fs::write(folder.join(LOCK), "").expect("a lock");
            std::fs::write(folder.join("results"), "tuned").expect("a file");
            folder
        };
        let [left, alive, other] = ["regrade-session-a", "regrade-session-b", "regrade-c"].map(folder);
        let lock = File::open(alive.join(LOCK)).expect("the lock");
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).expect("nobody has it");
        sweep(temporary.path(), YOUNG);
        assert!(left.exists(), "it may be a session that just begins");
        sweep(temporary.path(), Duration::ZERO);
        assert_eq!([left.exists(), alive.exists(), other.exists()], [false, true, true]);
        drop(lock);
        sweep(temporary.path(), Duration::ZERO);
        assert!(!alive.exists());
    }
}
