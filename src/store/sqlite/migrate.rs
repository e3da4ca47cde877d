//! Bringing a database to the schema of this regrade.
//!
//! Migrations are ordered and append-only: the n-th takes `user_version` from n - 1 to n, in one transaction. Must not
//! know what the tables mean.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rusqlite::backup::Backup;
use rusqlite::{Connection, TransactionBehavior};

use crate::store::StoreError;
use crate::store::sqlite::open;

/// All of them, in order.
pub const MIGRATIONS: &[&str] = &[include_str!("0001_initial.sql"), include_str!("0002_pairs.sql")];

/// Runs what is missing. A database that holds an older schema is copied to `<path>.v<N>.bak` first.
///
/// Safe when two processes do it at once: each step looks at the version again under the write lock.
pub fn run(conn: &mut Connection, path: &Path, migrations: &[&str]) -> Result<(), StoreError> {
    let shown = path.display().to_string();
    let fault = || open::fault(&shown, "migrating");
    let before = version(conn).map_err(fault())?;
    if before == newest(migrations) {
        return Ok(());
    }
    // One that is being created holds nothing to keep.
    let mut copied = before == 0;
    loop {
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fault())?;
        let found = version(&tx).map_err(fault())?;
        open::newer_than(&shown, found, newest(migrations))?;
        let Some(step) = migrations.get(usize::try_from(found).unwrap_or(usize::MAX)) else {
            return Ok(());
        };
        if !copied {
            back_up(path, &shown, found)?;
            copied = true;
        }
        tx.execute_batch(step)
            .and_then(|()| tx.pragma_update(None, "user_version", found + 1))
            .and_then(|()| tx.commit())
            .map_err(fault())?;
    }
}

/// The version that a list of migrations leads to.
pub fn newest(migrations: &[&str]) -> i64 {
    i64::try_from(migrations.len()).expect("a list in memory is shorter than 2^63")
}

fn version(conn: &Connection) -> rusqlite::Result<i64> {
    conn.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Copies through a second connection: the first holds the write lock, so nothing changes meanwhile.
fn back_up(path: &Path, shown: &str, version: i64) -> Result<(), StoreError> {
    let doing = "keeping a copy before migrating";
    let target = open::beside(path, &format!(".v{version}.bak"));
    let draft = open::beside(&target, &format!(".new-{}", uuid::Uuid::now_v7()));
    let from = open::connect(path, shown)?;
    let mut to = Connection::open(&draft).map_err(open::fault(shown, doing))?;
    Backup::new(&from, &mut to)
        .and_then(|backup| backup.run_to_completion(1000, Duration::from_millis(1), None))
        .map_err(open::fault(shown, doing))?;
    to.close().map_err(|(_, e)| open::fault(shown, doing)(e))?;
    fs::rename(&draft, &target).map_err(open::io_fault(shown, doing))
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::{MIGRATIONS, newest, run, version};
    use crate::store::StoreError;
    use crate::store::sqlite::open;

    const NEXT: &str = "ALTER TABLE runs ADD COLUMN mood TEXT; CREATE TABLE extra (x INTEGER) STRICT;";

    #[test]
    fn an_older_database_is_copied_then_migrated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sqlite");
        let mut conn = open::writable(&path).unwrap();
        conn.execute("INSERT INTO texts (sha256, text) VALUES (x'00', 'kept')", []).unwrap();

        let today = newest(MIGRATIONS);
        let next: Vec<&str> = MIGRATIONS.iter().copied().chain([NEXT]).collect();
        run(&mut conn, &path, &next).unwrap();
        assert_eq!(version(&conn).unwrap(), today + 1);
        conn.query_row("SELECT count(*) FROM extra", [], |_| Ok(())).unwrap();

        let copy = Connection::open(dir.path().join(format!("a.sqlite.v{today}.bak"))).unwrap();
        assert_eq!(version(&copy).unwrap(), today);
        let text: String = copy.query_row("SELECT text FROM texts", [], |row| row.get(0)).unwrap();
        assert_eq!(text, "kept");
        assert!(copy.query_row("SELECT count(*) FROM extra", [], |_| Ok(())).is_err());

        // Now it is from the future for today's list, and refused as it is.
        drop(conn);
        let before = std::fs::read(&path).unwrap();
        let refused = open::writable(&path).unwrap_err();
        assert!(
            matches!(refused, StoreError::Newer { found, known, .. } if found == today + 1 && known == today),
            "{refused}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_step_that_fails_leaves_the_version_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sqlite");
        let mut conn = open::writable(&path).unwrap();
        let broken = "CREATE TABLE half (x INTEGER) STRICT; CREATE TABLE runs (x INTEGER) STRICT;";
        let next: Vec<&str> = MIGRATIONS.iter().copied().chain([broken]).collect();
        assert!(run(&mut conn, &path, &next).is_err());
        assert_eq!(version(&conn).unwrap(), newest(MIGRATIONS));
        assert!(conn.query_row("SELECT count(*) FROM half", [], |_| Ok(())).is_err());
    }
}
