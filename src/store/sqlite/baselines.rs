//! Names given to runs, and forgetting old runs.
//!
//! Must not know launches' contents. Every function runs inside the caller's transaction.

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::domain::RunId;
use crate::store::Baseline;
use crate::store::sqlite::columns::{Id, Nanos};
use crate::store::sqlite::runs;

/// Points a name at a run, wherever it pointed before.
pub fn put(conn: &Connection, name: &str, run: i64, since: jiff::Timestamp) -> rusqlite::Result<()> {
    conn.execute(
        "INSERT INTO baselines (name, run, since_ns) VALUES (?, ?, ?)
         ON CONFLICT (name) DO UPDATE SET run = excluded.run, since_ns = excluded.since_ns",
        params![name, run, Nanos(since)],
    )?;
    Ok(())
}

/// Forgets a name and says what it stood for.
pub fn remove(conn: &Connection, name: &str) -> rusqlite::Result<Option<Baseline>> {
    let known = conn
        .query_row(
            "SELECT name, runs.id, since_ns FROM baselines JOIN runs ON runs.key = run WHERE name = ?",
            [name],
            baseline,
        )
        .optional()?;
    conn.execute("DELETE FROM baselines WHERE name = ?", [name])?;
    Ok(known)
}

/// All names, in order.
pub fn all(conn: &Connection) -> rusqlite::Result<Vec<Baseline>> {
    conn.prepare("SELECT name, runs.id, since_ns FROM baselines JOIN runs ON runs.key = run ORDER BY name")?
        .query_map([], baseline)?
        .collect()
}

fn baseline(row: &Row<'_>) -> rusqlite::Result<Baseline> {
    Ok(Baseline { name: row.get(0)?, run: row.get::<_, Id<_>>(1)?.0, since: row.get::<_, Nanos>(2)?.0 })
}

/// The runs that `keep` newer ones have made superfluous, the oldest first, with their numbers of launches.
///
/// Only runs fit to be a base count as newer: five synthetic runs must not push out the history. A running one is
/// never superfluous, an interrupted one is when `keep` fit ones have been made since. Arms of a paired session go
/// together, when `keep` sessions of the suite on the testbed have been made since (ids of sessions sort by time).
pub fn superfluous(conn: &Connection, keep: u32) -> rusqlite::Result<Vec<(i64, RunId, u64)>> {
    let sql = format!(
        "SELECT key, id, (SELECT count(*) FROM launches WHERE launches.run = ranked.key)
         FROM (SELECT key, id, status, started_ns,
                   CASE WHEN arm IS NULL
                   THEN count(*) FILTER (WHERE {fit}) OVER (
                       PARTITION BY suite_name, testbed_key, branch ORDER BY started_ns DESC, id DESC
                       ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
                   ELSE (SELECT count(DISTINCT later.session) FROM runs AS later
                         WHERE later.arm IS NOT NULL AND later.suite_name = runs.suite_name
                             AND later.testbed_key = runs.testbed_key
                             AND later.session > runs.session)
                   END AS newer
               FROM runs) AS ranked
         WHERE newer >= ? AND status <> 'running' AND key NOT IN (SELECT run FROM baselines)
         ORDER BY started_ns, id",
        fit = runs::FIT
    );
    conn.prepare(&sql)?
        .query_map([keep], |row| {
            let launches: i64 = row.get(2)?;
            Ok((row.get(0)?, row.get::<_, Id<_>>(1)?.0, launches.cast_unsigned()))
        })?
        .collect()
}

/// Removes a run with all its launches.
pub fn remove_run(conn: &Connection, key: i64) -> rusqlite::Result<()> {
    conn.prepare_cached("DELETE FROM runs WHERE key = ?")?.execute([key])?;
    Ok(())
}
