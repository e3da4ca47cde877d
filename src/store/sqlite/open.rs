//! From a path to a connection: creating, telling ours from others', settings, and what went wrong in words.
//!
//! Must not know runs or launches.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::store::StoreError;
use crate::store::sqlite::migrate;

/// `RGRD`, in the header of every database of ours.
pub const APPLICATION_ID: i32 = 0x5247_5244;
/// What every SQLite file begins with.
const MAGIC: &[u8] = b"SQLite format 3\0";
/// Size of the header that <https://sqlite.org/fileformat.html> describes.
const HEADER: usize = 100;
/// How long to wait for another process's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const MOVE_AWAY: &str = "move it away, or name another file with --db";

/// Whether the file looks like a SQLite database, by its first bytes.
///
/// # Errors
/// When it cannot be read.
pub fn recognises(path: &Path) -> io::Result<bool> {
    Ok(first_bytes(path)?.starts_with(MAGIC))
}

/// Opens for reading and writing; creates the file and its folder where they are not.
pub fn writable(path: &Path) -> Result<Connection, StoreError> {
    let shown = path.display().to_string();
    if !exists(path, &shown)? {
        create(path, &shown)?;
    }
    probe(path, &shown, migrate::newest(migrate::MIGRATIONS))?;
    let mut conn = connect(path, &shown)?;
    if conn.is_readonly("main").map_err(fault(&shown, "opening"))? {
        return Err(read_only(&shown));
    }
    migrate::run(&mut conn, path, migrate::MIGRATIONS)?;
    Ok(conn)
}

/// Opens for reading only.
pub fn readable(path: &Path) -> Result<Connection, StoreError> {
    let shown = path.display().to_string();
    if !exists(path, &shown)? {
        return Err(StoreError::NotFound(format!(
            "{shown}: no such database; `regrade run` makes one, or name another file with --db"
        )));
    }
    let known = migrate::newest(migrate::MIGRATIONS);
    let version = probe(path, &shown, known)?;
    if version < known {
        return Err(StoreError::Refused(format!(
            "{shown}: written by an older regrade (schema version {version}, this one reads {known}); \
             `regrade baseline list --db {shown}` brings it up to date, keeping a copy"
        )));
    }
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(fault(&shown, "opening"))?;
    conn.busy_timeout(BUSY_TIMEOUT).map_err(fault(&shown, "opening"))?;
    match conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0)) {
        Ok(_) => Ok(conn),
        // In a folder that cannot be written SQLite cannot make its `-shm` file. Where there is no log of pending
        // changes either, nobody is writing and the file by itself is the whole database.
        Err(e) if cannot_write(&e) && !beside(path, "-wal").exists() => immutable(path, &shown),
        Err(e) => Err(fault(&shown, "opening")(e)),
    }
}

fn immutable(path: &Path, shown: &str) -> Result<Connection, StoreError> {
    let absolute = fs::canonicalize(path).map_err(io_fault(shown, "opening"))?;
    // Only three characters mean something else in an SQLite URI's path.
    let encoded = absolute.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let uri = format!("file:{encoded}?immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(uri, flags).map_err(fault(shown, "opening"))
}

/// Makes a database under another name and puts it in place whole: a file that is there is never half made, and of
/// two processes that create it at once one wins and the other uses the winner's.
fn create(path: &Path, shown: &str) -> Result<(), StoreError> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder).map_err(io_fault(shown, "creating the folder"))?;
    let draft = beside(path, &format!(".new-{}", uuid::Uuid::now_v7()));
    let made = draft_database(&draft, shown).and_then(|()| match fs::hard_link(&draft, path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(io_fault(shown, "creating the database")(e)),
        _ => Ok(()),
    });
    for name in [draft.clone(), beside(&draft, "-wal"), beside(&draft, "-shm")] {
        // Gone already, or left behind by a failure that is reported below.
        let _ = fs::remove_file(name);
    }
    // The new name must survive a power cut too; a file system that cannot do this says so and is left alone.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    made
}

fn draft_database(draft: &Path, shown: &str) -> Result<(), StoreError> {
    let doing = "creating the database";
    let mut conn = Connection::open(draft).map_err(fault(shown, doing))?;
    // Nobody else sees the draft: one flush at the end is enough. Free pages can be given back after pruning, which
    // must be said before the first table.
    conn.pragma_update(None, "synchronous", "OFF")
        .and_then(|()| conn.pragma_update(None, "journal_mode", "MEMORY"))
        .and_then(|()| conn.pragma_update(None, "auto_vacuum", "INCREMENTAL"))
        .and_then(|()| conn.pragma_update(None, "application_id", APPLICATION_ID))
        .map_err(fault(shown, doing))?;
    migrate::run(&mut conn, draft, migrate::MIGRATIONS)?;
    conn.pragma_update(None, "journal_mode", "WAL").map_err(fault(shown, doing))?;
    conn.close().map_err(|(_, e)| fault(shown, doing)(e))?;
    File::open(draft).and_then(|file| file.sync_all()).map_err(io_fault(shown, doing))
}

/// Connects to a file that is there, with the settings that hold for every connection.
///
/// `synchronous = FULL`: in WAL mode NORMAL would survive a killed process as well, but a power cut could take back
/// launches that were reported as stored. FULL costs one flush a launch, milliseconds after seconds of measuring.
pub fn connect(path: &Path, shown: &str) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).map_err(fault(shown, "opening"))?;
    conn.busy_timeout(BUSY_TIMEOUT)
        .and_then(|()| conn.pragma_update(None, "foreign_keys", true))
        .and_then(|()| conn.pragma_update(None, "synchronous", "FULL"))
        .and_then(|()| conn.pragma_update(None, "journal_mode", "WAL"))
        .map_err(fault(shown, "opening"))?;
    Ok(conn)
}

/// Reads the header without SQLite, so that a file we refuse is not even locked. Returns the schema version.
fn probe(path: &Path, shown: &str, known: i64) -> Result<i64, StoreError> {
    let refuse = |what: String| Err(StoreError::NotOurs { path: shown.to_owned(), what });
    if path.is_dir() {
        return refuse("is a folder; name a file in it with --db".to_owned());
    }
    let header = first_bytes(path).map_err(|e| match e.kind() {
        io::ErrorKind::PermissionDenied => {
            StoreError::Denied(format!("{shown}: cannot be read; give yourself read permission on it"))
        }
        _ => io_fault(shown, "reading")(e),
    })?;
    if header.is_empty() {
        return refuse(format!("is empty, as an interrupted copy leaves it; {MOVE_AWAY}"));
    }
    if !header.starts_with(MAGIC) {
        return refuse(format!("is not a SQLite database; {MOVE_AWAY}"));
    }
    if header.len() < HEADER {
        return refuse(format!("is a SQLite database cut short; {MOVE_AWAY}"));
    }
    let number = |at: usize| i32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    if number(68) != APPLICATION_ID {
        return refuse(format!("is a SQLite database of another application; {MOVE_AWAY}"));
    }
    let version = i64::from(number(60));
    newer_than(shown, version, known)?;
    Ok(version)
}

/// Refuses a schema from the future.
pub fn newer_than(shown: &str, found: i64, known: i64) -> Result<(), StoreError> {
    if found > known {
        return Err(StoreError::Newer { path: shown.to_owned(), found, known });
    }
    Ok(())
}

fn first_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut header = Vec::with_capacity(HEADER);
    File::open(path)?.take(HEADER as u64).read_to_end(&mut header)?;
    Ok(header)
}

fn exists(path: &Path, shown: &str) -> Result<bool, StoreError> {
    path.try_exists().map_err(io_fault(shown, "looking for the database"))
}

/// The path with something appended to its last component.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn read_only(shown: &str) -> StoreError {
    StoreError::Denied(format!(
        "{shown}: cannot be written: the file or its folder is read-only; give yourself write permission on both, \
         or name another file with --db"
    ))
}

fn cannot_write(e: &rusqlite::Error) -> bool {
    matches!(e.sqlite_error_code(), Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied))
}

/// An I/O error in the port's words.
pub fn io_fault<'a>(shown: &'a str, doing: &'a str) -> impl Fn(io::Error) -> StoreError + 'a {
    move |e| match e.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => read_only(shown),
        _ => StoreError::Engine { context: format!("{shown}: {doing}"), source: e.into() },
    }
}

/// An SQLite error in the port's words; `shown` is the path, `doing` what was tried.
pub fn fault<'a>(shown: &'a str, doing: &'a str) -> impl Fn(rusqlite::Error) -> StoreError + 'a {
    move |e| {
        if cannot_write(&e) {
            return read_only(shown);
        }
        let context = format!("{shown}: {doing}");
        match e.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => StoreError::NotOurs {
                path: shown.to_owned(),
                what: format!(
                    "the database is damaged ({e}, while {doing}); put back a copy or an export of it, or {MOVE_AWAY}"
                ),
            },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy { context },
            _ => StoreError::Engine { context, source: e.into() },
        }
    }
}
