//! Settings built once from the command line and the environment, and the store opened from them.

use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use crate::cli::{ColorChoice, Global};
use crate::command::usage;
use crate::domain::Run;
use crate::render::Style;
use crate::store::sqlite::SqliteStore;
use crate::store::{Arms, RunQuery, Store, StoreError};
use anyhow::{Context as _, Result};

/// Settings of every command.
#[derive(Debug)]
pub struct Context {
    /// Database file.
    pub db: PathBuf,
    /// Whether to show progress.
    pub quiet: bool,
    /// Whether standard output takes colour.
    pub colour: bool,
}

/// Columns of a table where no terminal says otherwise.
const DEFAULT_WIDTH: usize = 100;
/// The narrowest table that still says something.
const LEAST_WIDTH: usize = 60;

impl Context {
    /// Reads the environment's colour settings (`NO_COLOR`, `CLICOLOR`, `CLICOLOR_FORCE`, `TERM`) once.
    pub fn new(global: &Global) -> Self {
        match global.color {
            ColorChoice::Always => anstream::ColorChoice::Always.write_global(),
            ColorChoice::Never => anstream::ColorChoice::Never.write_global(),
            ColorChoice::Auto => {}
        }
        let colour = anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never;
        Self { db: global.db.clone(), quiet: global.quiet, colour }
    }

    /// How to draw on standard output.
    pub fn style(&self) -> Style {
        let columns = || std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
        let terminal = || rustix::termios::tcgetwinsize(std::io::stdout()).ok().map(|size| usize::from(size.ws_col));
        let width = if std::io::stdout().is_terminal() { terminal() } else { columns() };
        Style { colour: self.colour, width: width.unwrap_or(DEFAULT_WIDTH).max(LEAST_WIDTH) }
    }

    /// Opens the database, creating it where it is absent, and finds runs whose process died.
    pub fn store(&self) -> Result<SqliteStore> {
        let mut store = SqliteStore::open(&self.db)?;
        for id in store.mark_interrupted()? {
            self.tell(&format!("run {id} was interrupted; the command that began it goes on with --resume"));
        }
        Ok(store)
    }

    /// Opens a database that must be there, for reading only; an older one is migrated first, with a copy kept.
    pub fn stored(&self) -> Result<SqliteStore> {
        self.must_exist()?;
        match SqliteStore::open_read_only(&self.db) {
            // Where it cannot be written the first error says more.
            Err(StoreError::Refused(_)) if SqliteStore::open(&self.db).is_ok() => {
                Ok(SqliteStore::open_read_only(&self.db)?)
            }
            opened => Ok(opened?),
        }
    }

    /// An absent database is the user's mistake.
    pub fn must_exist(&self) -> Result<()> {
        if self.db.exists() {
            return Ok(());
        }
        Err(usage(format!(
            "{}: there is no database yet; `regrade run` makes one, --db or REGRADE_DB names another",
            self.db.display()
        )))
    }

    /// One line on standard error, unless quiet.
    pub fn tell(&self, text: &str) {
        if !self.quiet {
            note(text);
        }
    }
}

/// One line on standard error.
pub fn note(text: &str) {
    // Nothing sensible can be done when standard error is closed.
    let _ = writeln!(anstream::stderr(), "{}", no_command(text));
}

/// A text with nothing in it that the log of a workflow takes for a command: `::…` at the beginning of a line, `##[…` anywhere
/// (actions/runner, ActionCommand.cs).
pub fn no_command(text: &str) -> String {
    let text = text.replace("##[", "# #[");
    let mut lines = text
        .split('\n')
        .map(|line| if line.trim_start().starts_with("::") { format!(".{line}") } else { line.to_owned() });
    let first = lines.next().unwrap_or_default();
    lines.fold(first, |text, line| text + "\n" + &line)
}

/// A run by id, unique prefix, baseline name, or `latest`.
pub fn find_run(store: &dyn Store, name: &str) -> Result<Run> {
    if name == "latest" {
        let newest =
            store.runs(&RunQuery { arms: Arms::Without, limit: Some(1), ..RunQuery::default() })?.into_iter().next();
        return newest.ok_or_else(|| usage("no run is stored yet; `regrade run` makes one"));
    }
    if let Some(baseline) = store.baselines()?.into_iter().find(|baseline| baseline.name == name) {
        return Ok(store.run(&baseline.run.to_string())?);
    }
    Ok(store.run(name)?)
}

/// Writes to standard output; a closed pipe is a reader who has seen enough.
pub fn print(bytes: &[u8]) -> Result<()> {
    let mut out = anstream::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Writes a file under another name and puts it in place whole, so that a failure leaves what was there.
pub fn write_whole<T, E: Into<anyhow::Error>>(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<T, E>,
) -> Result<T> {
    let shown = || format!("cannot write {}", path.display());
    // A link stays one: it is what it leads to that is written.
    let followed = std::fs::canonicalize(path);
    let path = followed.as_deref().unwrap_or(path);
    // Devices and pipes are written to; a file in their place would be the end of them.
    if std::fs::metadata(path).is_ok_and(|what| !what.is_file()) {
        let mut file = BufWriter::new(File::options().write(true).open(path).with_context(shown)?);
        return write(&mut file)
            .map_err(Into::into)
            .and_then(|done| {
                file.flush()?;
                Ok(done)
            })
            .with_context(shown);
    }
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".new-{}", std::process::id()));
    let mut file = BufWriter::new(File::create(&draft).with_context(shown)?);
    let done = write(&mut file).map_err(Into::into).and_then(|done| -> Result<T> {
        file.into_inner()?.sync_all()?;
        std::fs::rename(&draft, path)?;
        Ok(done)
    });
    if done.is_err() {
        // Whatever is left of it; the first error is the one to tell.
        let _ = std::fs::remove_file(&draft);
    }
    done.with_context(shown)
}
