//! Rows of `runs`, `cases` and `texts`.
//!
//! Must not know launches. Every function runs inside the caller's transaction.

use std::collections::{BTreeMap, HashMap};

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};
use sha2::{Digest, Sha256};

use crate::domain::{Arm, Case, CaseRecord, Outcome, Run, RunId, RunStatus, SuiteInfo, Testbed};
use crate::store::sqlite::columns::{Id, Json, Nanos, Unsigned, Word};
use crate::store::sqlite::owner::Owner;
use crate::store::{Arms, RunQuery, StoreError};

/// What makes a run fit to be a base; [`Run::unfit_as_base`] in SQL, and complete.
pub const FIT: &str = "status = 'complete' AND synthetic IS NULL AND debug_build = 0 AND arm IS NULL";

/// How many candidates an error lists.
const SHOWN_CANDIDATES: usize = 5;

/// Stores a header and its cases. A run with an owner is running, whatever its header says.
pub fn insert(conn: &Connection, run: &Run, owner: Option<&Owner>) -> rusqlite::Result<i64> {
    let (status, finished) = match owner {
        Some(_) => (RunStatus::Running, None),
        None => (run.status, run.finished),
    };
    let suite_text = intern(conn, &run.suite.text)?;
    let facts = intern_json(conn, &run.testbed.facts)?;
    conn.prepare_cached(
        "INSERT INTO runs (id, suite_name, suite_description, suite_gate, suite_budget_s, suite_launches, suite_hash,
             suite_text, commit_hash, branch, dirty, testbed_key, testbed_facts, toolchain, regrade_version,
             command_line, seed, started_ns, finished_ns, status, synthetic, debug_build, session, arm,
             owner_boot, owner_pid, owner_start)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        Id(run.id),
        run.suite.name,
        run.suite.description,
        Word(run.suite.gate),
        run.suite.budget_s,
        run.suite.launches,
        run.suite.hash,
        suite_text,
        run.commit,
        run.branch,
        run.dirty,
        run.testbed.key,
        facts,
        run.toolchain,
        run.regrade_version,
        run.command_line,
        Unsigned(run.seed),
        Nanos(run.started),
        finished.map(Nanos),
        Word(status),
        run.synthetic,
        run.debug_build,
        run.arm.map(|arm| Id(arm.session)),
        run.arm.map(|arm| Word(arm.side)),
        owner.map(|o| &o.boot),
        owner.map(|o| o.pid),
        owner.map(|o| Unsigned(o.start)),
    ])?;
    let key = conn.last_insert_rowid();
    let mut insert = conn.prepare_cached(
        "INSERT INTO cases (run, ordinal, definition, skipped_kind, skipped_reason) VALUES (?, ?, ?, ?, ?)",
    )?;
    for (ordinal, record) in run.cases.iter().enumerate() {
        let definition = intern_json(conn, &record.case)?;
        let skipped = record.skipped.as_ref();
        insert.execute(params![
            key,
            Unsigned(ordinal as u64),
            definition,
            skipped.map(|o| Word(o.kind)),
            skipped.and_then(|o| o.reason.as_deref()),
        ])?;
    }
    Ok(key)
}

/// JSON has no NaN and no infinities: a definition with one could be written but never read back.
pub fn refuse_unreadable(run: &Run) -> Result<(), StoreError> {
    for record in &run.cases {
        let readable = serde_json::to_string(&record.case).and_then(|text| serde_json::from_str::<Case>(&text));
        if let Err(e) = readable {
            return Err(StoreError::Refused(format!(
                "case `{}` cannot be stored: its definition does not survive JSON ({e}); \
                 is one of its numbers infinite or not a number?",
                record.case.id
            )));
        }
    }
    Ok(())
}

fn intern_json<T: serde::Serialize>(conn: &Connection, value: &T) -> rusqlite::Result<i64> {
    let text = serde_json::to_string(value).map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))?;
    intern(conn, &text)
}

/// The key of a text, which is stored if it is new.
fn intern(conn: &Connection, text: &str) -> rusqlite::Result<i64> {
    let digest = Sha256::digest(text.as_bytes());
    let known = conn
        .prepare_cached("SELECT key FROM texts WHERE sha256 = ?")?
        .query_row([&digest[..]], |row| row.get(0))
        .optional()?;
    if let Some(key) = known {
        return Ok(key);
    }
    conn.prepare_cached("INSERT INTO texts (sha256, text) VALUES (?, ?)")?.execute(params![&digest[..], text])?;
    Ok(conn.last_insert_rowid())
}

/// Removes the texts that no run needs any more.
pub fn sweep_texts(conn: &Connection) -> rusqlite::Result<usize> {
    conn.execute(
        "DELETE FROM texts WHERE key NOT IN (
             SELECT suite_text FROM runs UNION SELECT testbed_facts FROM runs UNION SELECT definition FROM cases)",
        [],
    )
}

/// The key of a run, if it is here.
pub fn find_key(conn: &Connection, run: RunId) -> rusqlite::Result<Option<i64>> {
    conn.prepare_cached("SELECT key FROM runs WHERE id = ?")?.query_row([Id(run)], |row| row.get(0)).optional()
}

/// Keys and ids of the runs that a query asks for, the newest first. Reads no text and no case.
pub fn select(conn: &Connection, query: &RunQuery) -> rusqlite::Result<Vec<(i64, RunId)>> {
    let mut clauses = vec!["1"];
    let mut values = Vec::new();
    for (column, wanted) in
        [("suite_name = ?", &query.suite), ("testbed_key = ?", &query.testbed), ("branch = ?", &query.branch)]
    {
        if let Some(wanted) = wanted {
            clauses.push(column);
            values.push(Value::Text(wanted.clone()));
        }
    }
    if let Some(prefix) = &query.commit {
        // A range, so that the index serves.
        clauses.push("commit_hash >= ? AND commit_hash < ?");
        values.push(Value::Text(prefix.clone()));
        values.push(Value::Text(format!("{prefix}{}", char::MAX)));
    }
    if query.fit_as_base {
        clauses.push(FIT);
    }
    match query.arms {
        Arms::All => {}
        Arms::Without => clauses.push("arm IS NULL"),
        Arms::Only => clauses.push("arm IS NOT NULL"),
    }
    if let Some(before) = query.before {
        clauses.push("started_ns < ?");
        let nanos = before.as_nanosecond().clamp(i64::MIN.into(), i64::MAX.into());
        values.push(Value::Integer(nanos as i64));
    }
    values.push(Value::Integer(query.limit.map_or(-1, i64::from)));
    let sql =
        format!("SELECT key, id FROM runs WHERE {} ORDER BY started_ns DESC, id DESC LIMIT ?", clauses.join(" AND "));
    let mut statement = conn.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(values), |row| Ok((row.get(0)?, row.get::<_, Id<RunId>>(1)?.0)))?;
    rows.collect()
}

/// Key and id of the run whose id begins so.
pub fn by_prefix(
    conn: &Connection,
    prefix: &str,
    fault: impl Fn(rusqlite::Error) -> StoreError,
) -> Result<(i64, RunId), StoreError> {
    let typed = prefix.trim().to_ascii_lowercase();
    let none =
        || StoreError::NotFound(format!("no run `{prefix}`; `regrade baseline list` shows the runs that are here"));
    if typed.is_empty() || !typed.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') {
        return Err(none());
    }
    let found: Vec<(i64, RunId)> = conn
        .prepare_cached("SELECT key, id FROM runs WHERE id >= ?1 AND id < ?1 || 'g' ORDER BY id LIMIT ?2")
        .and_then(|mut statement| {
            statement
                .query_map(params![typed, Unsigned(SHOWN_CANDIDATES as u64 + 1)], |row| {
                    Ok((row.get(0)?, row.get::<_, Id<RunId>>(1)?.0))
                })?
                .collect()
        })
        .map_err(fault)?;
    match found.as_slice() {
        [] => Err(none()),
        [one] => Ok(*one),
        many => {
            let mut candidates: Vec<String> =
                many.iter().take(SHOWN_CANDIDATES).map(|(_, id)| id.to_string()).collect();
            if many.len() > SHOWN_CANDIDATES {
                candidates.push("…".to_owned());
            }
            Err(StoreError::NotFound(format!(
                "`{prefix}` stands for more than one run ({}); type more digits",
                candidates.join(", ")
            )))
        }
    }
}

/// Reads headers, each shared text parsed once.
pub struct Reader<'a> {
    conn: &'a Connection,
    suites: HashMap<i64, String>,
    facts: HashMap<i64, BTreeMap<String, String>>,
    definitions: HashMap<i64, Case>,
}

impl<'a> Reader<'a> {
    /// A reader with nothing in mind.
    pub fn new(conn: &'a Connection) -> Self {
        Self { conn, suites: HashMap::new(), facts: HashMap::new(), definitions: HashMap::new() }
    }

    /// The header of a run with its cases.
    pub fn read(&mut self, key: i64) -> rusqlite::Result<Run> {
        let conn = self.conn;
        let mut statement = conn.prepare_cached(
            "SELECT id, suite_name, suite_description, suite_gate, suite_budget_s, suite_launches, suite_hash,
                 suite_text, commit_hash, branch, dirty, testbed_key, testbed_facts, toolchain, regrade_version,
                 command_line, seed, started_ns, finished_ns, status, synthetic, debug_build, session, arm
             FROM runs WHERE key = ?",
        )?;
        let mut run = statement.query_row([key], |row| self.header(row))?;
        run.cases = self.cases(key)?;
        Ok(run)
    }

    fn header(&mut self, row: &Row<'_>) -> rusqlite::Result<Run> {
        let conn = self.conn;
        let text = row.get("suite_text")?;
        let facts = row.get("testbed_facts")?;
        Ok(Run {
            id: row.get::<_, Id<_>>("id")?.0,
            suite: SuiteInfo {
                name: row.get("suite_name")?,
                description: row.get("suite_description")?,
                gate: row.get::<_, Word<_>>("suite_gate")?.0,
                budget_s: row.get("suite_budget_s")?,
                launches: row.get("suite_launches")?,
                text: recall(&mut self.suites, text, || text_of(conn, text))?,
                hash: row.get("suite_hash")?,
            },
            commit: row.get("commit_hash")?,
            branch: row.get("branch")?,
            dirty: row.get("dirty")?,
            testbed: Testbed {
                key: row.get("testbed_key")?,
                facts: recall(&mut self.facts, facts, || json_of(conn, facts))?,
            },
            toolchain: row.get("toolchain")?,
            regrade_version: row.get("regrade_version")?,
            command_line: row.get("command_line")?,
            seed: row.get::<_, Unsigned>("seed")?.0,
            started: row.get::<_, Nanos>("started_ns")?.0,
            finished: row.get::<_, Option<Nanos>>("finished_ns")?.map(|at| at.0),
            status: row.get::<_, Word<_>>("status")?.0,
            synthetic: row.get("synthetic")?,
            debug_build: row.get("debug_build")?,
            arm: match (row.get("session")?, row.get("arm")?) {
                (Some(Id(session)), Some(Word(side))) => Some(Arm { session, side }),
                _ => None,
            },
            cases: Vec::new(),
        })
    }

    fn cases(&mut self, run: i64) -> rusqlite::Result<Vec<CaseRecord>> {
        let conn = self.conn;
        let mut statement = conn.prepare_cached(
            "SELECT definition, skipped_kind, skipped_reason FROM cases WHERE run = ? ORDER BY ordinal",
        )?;
        let mut rows = statement.query([run])?;
        let mut cases = Vec::new();
        while let Some(row) = rows.next()? {
            let definition = row.get(0)?;
            let kind: Option<Word<_>> = row.get(1)?;
            let reason = row.get(2)?;
            cases.push(CaseRecord {
                case: recall(&mut self.definitions, definition, || json_of(conn, definition))?,
                skipped: kind.map(|kind| Outcome { kind: kind.0, reason }),
            });
        }
        Ok(cases)
    }
}

fn recall<T: Clone>(
    known: &mut HashMap<i64, T>,
    key: i64,
    read: impl FnOnce() -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    if let Some(value) = known.get(&key) {
        return Ok(value.clone());
    }
    let value = read()?;
    known.insert(key, value.clone());
    Ok(value)
}

fn text_of(conn: &Connection, key: i64) -> rusqlite::Result<String> {
    conn.prepare_cached("SELECT text FROM texts WHERE key = ?")?.query_row([key], |row| row.get(0))
}

fn json_of<T: for<'de> serde::Deserialize<'de>>(conn: &Connection, key: i64) -> rusqlite::Result<T> {
    conn.prepare_cached("SELECT text FROM texts WHERE key = ?")?
        .query_row([key], |row| row.get::<_, Json<T>>(0))
        .map(|json| json.0)
}
