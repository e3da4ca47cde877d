//! A folder that the launches of one session share, for what only the first of them need make: results of a compiler's tuning, say.
//!
//! It is empty when the session begins and goes with it, so that no session knows what another found out. Must not know what lies in it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::domain::RunId;
use crate::runner::RunnerError;

/// The folder; removed when the last owner goes.
#[derive(Debug)]
pub struct Shared(PathBuf);

impl Shared {
    /// Makes it.
    ///
    /// # Errors
    /// When the temporary folder cannot be written to.
    pub fn new() -> Result<Arc<Self>, RunnerError> {
        let folder = std::env::temp_dir().join(format!("regrade-session-{}", RunId::fresh()));
        std::fs::create_dir(&folder).map_err(|source| RunnerError::Environment {
            context: format!("cannot create {}; set TMPDIR to a folder that can be written to", folder.display()),
            source,
        })?;
        Ok(Arc::new(Self(folder)))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // A leftover in the temporary folder harms nothing.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
