//! Rows of `launches` and of what hangs on them.
//!
//! Must not know run headers. Every function runs inside the caller's transaction.

use std::collections::HashMap;

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::domain::{
    CaseId, Check, Evidence, Launch, LaunchId, LaunchSummary, Metric, MetricSummary, Outcome, Samples, Value, Warmup,
};
use crate::store::sqlite::blob;
use crate::store::sqlite::columns::{Id, Json, Nanos, Number, Unsigned, Word};
use crate::store::summary;

/// Stores a launch of a run.
pub fn insert(conn: &Connection, run: i64, launch: &Launch) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO launches (id, run, case_id, launch_index, position, started_ns, finished_ns, outcome, outcome_reason)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        Id(launch.id),
        run,
        launch.case.as_str(),
        launch.index,
        launch.position,
        Nanos(launch.started),
        Nanos(launch.finished),
        Word(launch.outcome.kind),
        launch.outcome.reason,
    ])?;
    let key = conn.last_insert_rowid();
    insert_details(conn, key, launch)?;
    for (ordinal, samples) in launch.samples.iter().enumerate() {
        let row = MetricRow {
            ordinal,
            sampled: true,
            clock: samples.clock.as_deref(),
            summary: summary::of_samples(samples),
        };
        insert_metric(conn, key, &row, &samples.values)?;
    }
    for (at, value) in launch.values.iter().enumerate() {
        let row = MetricRow {
            ordinal: launch.samples.len() + at,
            sampled: false,
            clock: None,
            summary: summary::of_value(value),
        };
        insert_metric(conn, key, &row, &[value.value])?;
    }
    Ok(())
}

fn insert_details(conn: &Connection, key: i64, launch: &Launch) -> rusqlite::Result<()> {
    let warmup = launch.warmup.as_ref();
    conn.prepare_cached(
        "INSERT INTO launch_details (launch, warmup_iterations, warmup_seconds, warmup_settled, stop, device, evidence,
             unknown, log)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        key,
        warmup.map(|w| Unsigned(w.iterations)),
        warmup.map(|w| Number(w.seconds)),
        warmup.map(|w| w.settled),
        launch.stop.map(Word),
        launch.device.as_ref().map(Json),
        Json(&launch.evidence),
        Json(&launch.unknown),
        launch.log,
    ])?;
    let mut insert = conn.prepare_cached(
        "INSERT INTO checks (launch, ordinal, name, reference, error, tolerance, pass) VALUES (?, ?, ?, ?, ?, ?, ?)",
    )?;
    for (ordinal, check) in launch.checks.iter().enumerate() {
        insert.execute(params![
            key,
            Unsigned(ordinal as u64),
            check.name,
            check.reference,
            Number(check.error),
            Number(check.tolerance),
            check.pass,
        ])?;
    }
    Ok(())
}

struct MetricRow<'a> {
    ordinal: usize,
    sampled: bool,
    clock: Option<&'a str>,
    summary: MetricSummary,
}

fn insert_metric(conn: &Connection, launch: i64, row: &MetricRow<'_>, values: &[f64]) -> rusqlite::Result<()> {
    let data = blob::encode(values).map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))?;
    let MetricSummary { metric, .. } = &row.summary;
    conn.prepare_cached(
        "INSERT INTO metrics (launch, ordinal, name, unit, direction, kind, exact, derived, sampled, iterations, clock,
             n, median, q25, best, q75)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        launch,
        Unsigned(row.ordinal as u64),
        metric.name,
        metric.unit,
        Word(metric.direction),
        Word(metric.kind),
        metric.exact,
        metric.derived,
        row.sampled,
        Unsigned(row.summary.iterations),
        row.clock,
        Unsigned(row.summary.n),
        Number(row.summary.median),
        Number(row.summary.q25),
        Number(row.summary.min),
        Number(row.summary.q75),
    ])?;
    conn.prepare_cached("INSERT INTO vectors (launch, ordinal, data) VALUES (?, ?, ?)")?.execute(params![
        launch,
        Unsigned(row.ordinal as u64),
        data
    ])?;
    Ok(())
}

/// What tells one launch from another without reading all of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Imprint {
    run: i64,
    case: String,
    index: u32,
    position: u32,
    started: i128,
    finished: i128,
}

impl Imprint {
    /// Of a launch that is to be stored with this run.
    pub fn of(run: i64, launch: &Launch) -> Self {
        Self {
            run,
            case: launch.case.0.clone(),
            index: launch.index,
            position: launch.position,
            started: launch.started.as_nanosecond(),
            finished: launch.finished.as_nanosecond(),
        }
    }
}

/// The imprint of the stored launch with this id, if there is one.
pub fn find(conn: &Connection, id: LaunchId) -> rusqlite::Result<Option<Imprint>> {
    conn.prepare_cached(
        "SELECT run, case_id, launch_index, position, started_ns, finished_ns FROM launches WHERE id = ?",
    )?
    .query_row([Id(id)], |row| {
        Ok(Imprint {
            run: row.get(0)?,
            case: row.get(1)?,
            index: row.get(2)?,
            position: row.get(3)?,
            started: row.get::<_, Nanos>(4)?.0.as_nanosecond(),
            finished: row.get::<_, Nanos>(5)?.0.as_nanosecond(),
        })
    })
    .optional()
}

/// How many launches a run has.
pub fn count(conn: &Connection, run: i64) -> rusqlite::Result<u64> {
    conn.prepare_cached("SELECT count(*) FROM launches WHERE run = ?")?
        .query_row([run], |row| row.get::<_, Unsigned>(0))
        .map(|n| n.0)
}

/// Launches with everything, in the order they were made.
pub fn read(conn: &Connection, run: i64, case: Option<&CaseId>) -> rusqlite::Result<Vec<Launch>> {
    let mut statement = conn.prepare_cached(
        "SELECT key, id, case_id, launch_index, position, started_ns, finished_ns, outcome, outcome_reason,
             warmup_iterations, warmup_seconds, warmup_settled, stop, device, evidence, unknown, log
         FROM launches JOIN launch_details ON launch = key
         WHERE run = ?1 AND (?2 IS NULL OR case_id = ?2)
         ORDER BY started_ns, position, id",
    )?;
    let mut rows = statement.query(params![run, case.map(CaseId::as_str)])?;
    let mut launches = Vec::new();
    while let Some(row) = rows.next()? {
        let key = row.get("key")?;
        let mut launch = shell(row)?;
        launch.checks = checks(conn, key)?;
        read_vectors(conn, key, &mut launch)?;
        launches.push(launch);
    }
    Ok(launches)
}

/// What launches of a run saw by one source.
pub fn evidence(conn: &Connection, run: i64, source: &str) -> rusqlite::Result<Vec<(CaseId, Evidence)>> {
    // Most launches have no price, say, and what they saw is long: the word is looked for before anything is parsed.
    let mut statement = conn.prepare_cached(
        "SELECT case_id, one.value
         FROM launches JOIN launch_details ON launch = launches.key, json_each(evidence) AS one
         WHERE run = ?1 AND instr(evidence, ?2) AND json_extract(one.value, '$.source') = ?2
         ORDER BY position, launches.key",
    )?;
    statement
        .query_map(params![run, source], |row| Ok((CaseId(row.get(0)?), row.get::<_, Json<Evidence>>(1)?.0)))?
        .collect()
}

/// A launch without metrics and checks.
fn shell(row: &Row<'_>) -> rusqlite::Result<Launch> {
    let iterations: Option<Unsigned> = row.get("warmup_iterations")?;
    let warmup = match iterations {
        Some(iterations) => Some(Warmup {
            iterations: iterations.0,
            seconds: row.get::<_, Number>("warmup_seconds")?.0,
            settled: row.get("warmup_settled")?,
        }),
        None => None,
    };
    Ok(Launch {
        id: row.get::<_, Id<_>>("id")?.0,
        case: CaseId(row.get("case_id")?),
        index: row.get("launch_index")?,
        position: row.get("position")?,
        started: row.get::<_, Nanos>("started_ns")?.0,
        finished: row.get::<_, Nanos>("finished_ns")?.0,
        outcome: Outcome { kind: row.get::<_, Word<_>>("outcome")?.0, reason: row.get("outcome_reason")? },
        samples: Vec::new(),
        values: Vec::new(),
        checks: Vec::new(),
        device: row.get::<_, Option<Json<_>>>("device")?.map(|json| json.0),
        warmup,
        stop: row.get::<_, Option<Word<_>>>("stop")?.map(|word| word.0),
        evidence: row.get::<_, Json<_>>("evidence")?.0,
        unknown: row.get::<_, Json<_>>("unknown")?.0,
        log: row.get("log")?,
    })
}

fn checks(conn: &Connection, launch: i64) -> rusqlite::Result<Vec<Check>> {
    conn.prepare_cached("SELECT name, reference, error, tolerance, pass FROM checks WHERE launch = ? ORDER BY ordinal")?
        .query_map([launch], |row| {
            Ok(Check {
                name: row.get(0)?,
                reference: row.get(1)?,
                error: row.get::<_, Number>(2)?.0,
                tolerance: row.get::<_, Number>(3)?.0,
                pass: row.get(4)?,
            })
        })?
        .collect()
}

fn read_vectors(conn: &Connection, key: i64, launch: &mut Launch) -> rusqlite::Result<()> {
    let mut statement = conn.prepare_cached(
        "SELECT name, unit, direction, kind, exact, derived, sampled, iterations, clock, n, data
         FROM metrics JOIN vectors USING (launch, ordinal) WHERE launch = ? ORDER BY ordinal",
    )?;
    let mut rows = statement.query([key])?;
    while let Some(row) = rows.next()? {
        let metric = metric(row)?;
        let broken = |what: String| {
            let what = format!("launch {}, metric `{}`: {what}", launch.id, metric.name);
            rusqlite::Error::FromSqlConversionFailure(10, Type::Blob, what.into())
        };
        let n = row.get::<_, Unsigned>("n")?.0;
        let values = blob::decode(row.get_ref("data")?.as_blob()?, n).map_err(broken)?;
        if row.get("sampled")? {
            launch.samples.push(Samples {
                iterations: row.get::<_, Unsigned>("iterations")?.0,
                clock: row.get("clock")?,
                metric,
                values,
            });
        } else if let [value] = values[..] {
            launch.values.push(Value { metric, value });
        } else {
            return Err(broken(format!("a single value with {n} samples")));
        }
    }
    Ok(())
}

fn metric(row: &Row<'_>) -> rusqlite::Result<Metric> {
    Ok(Metric {
        name: row.get("name")?,
        unit: row.get("unit")?,
        direction: row.get::<_, Word<_>>("direction")?.0,
        kind: row.get::<_, Word<_>>("kind")?.0,
        exact: row.get("exact")?,
        derived: row.get("derived")?,
    })
}

/// Launches without vectors, in the order they were made: two passes over narrow tables.
pub fn summaries(conn: &Connection, run: i64) -> rusqlite::Result<Vec<LaunchSummary>> {
    let mut summaries = Vec::new();
    let mut place = HashMap::new();
    let mut statement = conn.prepare_cached(
        "SELECT key, id, case_id, launch_index, outcome, outcome_reason FROM launches WHERE run = ?
         ORDER BY started_ns, position, id",
    )?;
    let mut rows = statement.query([run])?;
    while let Some(row) = rows.next()? {
        place.insert(row.get::<_, i64>(0)?, summaries.len());
        summaries.push(LaunchSummary {
            id: row.get::<_, Id<_>>(1)?.0,
            case: CaseId(row.get(2)?),
            index: row.get(3)?,
            outcome: Outcome { kind: row.get::<_, Word<_>>(4)?.0, reason: row.get(5)? },
            metrics: Vec::new(),
        });
    }
    let mut statement = conn.prepare_cached(
        "SELECT launch, name, unit, direction, kind, exact, derived, iterations, n, median, q25, best, q75
         FROM metrics WHERE launch IN (SELECT key FROM launches WHERE run = ?) ORDER BY launch, ordinal",
    )?;
    let mut rows = statement.query([run])?;
    while let Some(row) = rows.next()? {
        let launch: i64 = row.get(0)?;
        // Both passes see one snapshot, so the launch is known.
        let Some(&at) = place.get(&launch) else { continue };
        summaries[at].metrics.push(MetricSummary {
            metric: Metric {
                name: row.get(1)?,
                unit: row.get(2)?,
                direction: row.get::<_, Word<_>>(3)?.0,
                kind: row.get::<_, Word<_>>(4)?.0,
                exact: row.get(5)?,
                derived: row.get(6)?,
            },
            iterations: row.get::<_, Unsigned>(7)?.0,
            n: row.get::<_, Unsigned>(8)?.0,
            median: row.get::<_, Number>(9)?.0,
            q25: row.get::<_, Number>(10)?.0,
            min: row.get::<_, Number>(11)?.0,
            q75: row.get::<_, Number>(12)?.0,
        });
    }
    Ok(summaries)
}
