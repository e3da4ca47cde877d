//! Rows of `noise_models` and `acceptances`: what is known beside the runs.
//!
//! Must not know runs. Every function runs inside the caller's transaction.

use rusqlite::{Connection, Row, params};

use crate::domain::{Acceptance, CaseId, NoiseModel};
use crate::store::sqlite::columns::{Nanos, Word};

/// Stores models; of two for the same metric the newer stays.
pub fn put_noise(conn: &Connection, models: &[NoiseModel]) -> rusqlite::Result<()> {
    let mut insert = conn.prepare_cached(
        "INSERT INTO noise_models (testbed, suite, case_id, metric, measured_ns, statistic, pair_spread, pair_deviation,
             pairs,
             false_alarms, trials, smallest_detectable, unchanged_pairs)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (testbed, suite, case_id, metric) DO UPDATE SET
             measured_ns = excluded.measured_ns, statistic = excluded.statistic, pair_spread = excluded.pair_spread,
             pair_deviation = excluded.pair_deviation,
             pairs = excluded.pairs, false_alarms = excluded.false_alarms, trials = excluded.trials,
             smallest_detectable = excluded.smallest_detectable, unchanged_pairs = excluded.unchanged_pairs
         WHERE excluded.measured_ns >= noise_models.measured_ns",
    )?;
    for model in models {
        insert.execute(params![
            model.testbed,
            model.suite,
            model.case.as_str(),
            model.metric,
            Nanos(model.measured),
            Word(model.statistic),
            model.pair_spread,
            model.pair_deviation,
            model.pairs,
            model.false_alarms,
            model.trials,
            model.smallest_detectable,
            model.unchanged_pairs,
        ])?;
    }
    Ok(())
}

/// The models of a suite on a testbed.
pub fn noise(conn: &Connection, suite: &str, testbed: &str) -> rusqlite::Result<Vec<NoiseModel>> {
    conn.prepare_cached("SELECT * FROM noise_models WHERE testbed = ? AND suite = ? ORDER BY case_id, metric")?
        .query_map([testbed, suite], model)?
        .collect()
}

/// Every model.
pub fn all_noise(conn: &Connection) -> rusqlite::Result<Vec<NoiseModel>> {
    conn.prepare_cached("SELECT * FROM noise_models ORDER BY testbed, suite, case_id, metric")?
        .query_map([], model)?
        .collect()
}

fn model(row: &Row<'_>) -> rusqlite::Result<NoiseModel> {
    Ok(NoiseModel {
        testbed: row.get("testbed")?,
        suite: row.get("suite")?,
        case: CaseId(row.get("case_id")?),
        metric: row.get("metric")?,
        measured: row.get::<_, Nanos>("measured_ns")?.0,
        statistic: row.get::<_, Word<_>>("statistic")?.0,
        pair_spread: row.get("pair_spread")?,
        pair_deviation: row.get("pair_deviation")?,
        pairs: row.get("pairs")?,
        false_alarms: row.get("false_alarms")?,
        trials: row.get("trials")?,
        smallest_detectable: row.get("smallest_detectable")?,
        unchanged_pairs: row.get("unchanged_pairs")?,
    })
}

/// Stores an acceptance, unless it is here.
pub fn put_acceptance(conn: &Connection, acceptance: &Acceptance) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO acceptances (suite, case_id, metric, change, reason, who, since_ns, until_ns, commit_hash)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
    )?
    .execute(params![
        acceptance.suite,
        acceptance.case.as_str(),
        acceptance.metric,
        acceptance.change,
        acceptance.reason,
        acceptance.who,
        Nanos(acceptance.since),
        acceptance.until.map(Nanos),
        acceptance.commit,
    ])?;
    Ok(())
}

/// The acceptances of a suite, the oldest first.
pub fn acceptances(conn: &Connection, suite: &str) -> rusqlite::Result<Vec<Acceptance>> {
    conn.prepare_cached("SELECT * FROM acceptances WHERE suite = ? ORDER BY since_ns, case_id, metric")?
        .query_map([suite], acceptance)?
        .collect()
}

/// Every acceptance, the oldest first.
pub fn all_acceptances(conn: &Connection) -> rusqlite::Result<Vec<Acceptance>> {
    conn.prepare_cached("SELECT * FROM acceptances ORDER BY since_ns, suite, case_id, metric")?
        .query_map([], acceptance)?
        .collect()
}

fn acceptance(row: &Row<'_>) -> rusqlite::Result<Acceptance> {
    Ok(Acceptance {
        suite: row.get("suite")?,
        case: CaseId(row.get("case_id")?),
        metric: row.get("metric")?,
        change: row.get("change")?,
        reason: row.get("reason")?,
        who: row.get("who")?,
        since: row.get::<_, Nanos>("since_ns")?.0,
        until: row.get::<_, Option<Nanos>>("until_ns")?.map(|at| at.0),
        commit: row.get("commit_hash")?,
    })
}
