//! `regrade judge`: verdicts on samples from anywhere; nothing is measured and nothing is stored.

mod read;

use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use crate::cli::{Format, Judge};
use crate::command::context::{Context, print, write_whole};
use crate::command::usage;
use crate::domain::{Call, Estimate, Reason, Severity, Thresholds};
use crate::exit::Exit;
use crate::render::format;
use crate::verdict::recorded::{self, Decided, Recording};

/// Everything decided.
#[derive(Debug, Serialize)]
struct Judged {
    pairs: Vec<PairRow>,
    series: Vec<SeriesRow>,
}

/// One comparison.
#[derive(Debug, Serialize)]
struct PairRow {
    id: String,
    verdict: Call,
    severity: Severity,
    /// Relative change of head against base, in the metric's own direction.
    change: Option<f64>,
    /// Its 95 % interval; an open end is null.
    interval: Option<[Option<f64>; 2]>,
    /// Both of these, for the table.
    #[serde(skip)]
    estimate: Option<Estimate>,
    reason: Reason,
    note: String,
    /// What stood for a launch.
    statistic: &'static str,
    unit: String,
    base: Option<f64>,
    head: Option<f64>,
}

/// One series.
#[derive(Debug, Serialize)]
struct SeriesRow {
    id: String,
    /// First index of each new level.
    change_points: Vec<usize>,
}

/// Judges a file.
pub fn run(arguments: &Judge, context: &Context) -> Result<Exit> {
    if arguments.output.as_ref().is_some_and(|output| is_same(output, &arguments.input)) {
        return Err(usage(format!("{}: the verdicts would replace the samples", arguments.input.display())));
    }
    let input = read::read(&arguments.input)?;
    let judged = Judged {
        pairs: input.pairs.iter().map(|pair| judge(pair, &arguments.thresholds, arguments.alpha)).collect(),
        series: input
            .series
            .iter()
            .map(|series| SeriesRow { id: series.id.clone(), change_points: recorded::change_points(&series.values) })
            .collect(),
    };
    let json = format!("{}\n", serde_json::to_string_pretty(&judged)?);
    if let Some(path) = &arguments.output {
        write_whole(path, |file| file.write_all(json.as_bytes()))?;
        context.tell(&format!("wrote {}", path.display()));
    }
    match arguments.format {
        Format::Json if arguments.output.is_none() => print(json.as_bytes())?,
        Format::Json => {}
        Format::Text => print(table(&judged).as_bytes())?,
    }
    let failing = |row: &PairRow| {
        row.verdict == Call::Regressed
            && arguments.gate.is_some_and(|gate| gate > Severity::None && row.severity >= gate)
    };
    // Numbers that cannot be numbers pass no gate.
    let wrong = |row: &PairRow| arguments.gate.is_some() && row.verdict == Call::NotComparable;
    Ok(match () {
        () if judged.pairs.iter().any(failing) => Exit::Regression,
        () if judged.series.is_empty() && judged.pairs.iter().all(|row| row.verdict == Call::NotComparable) => {
            context.tell("nothing was comparable");
            Exit::Nothing
        }
        () if judged.pairs.iter().any(wrong) => Exit::CaseFailed,
        () => Exit::Pass,
    })
}

fn is_same(a: &Path, b: &Path) -> bool {
    a == b || std::fs::canonicalize(a).is_ok_and(|a| std::fs::canonicalize(b).is_ok_and(|b| a == b))
}

fn judge(pair: &read::Pair, thresholds: &Thresholds, alpha: f64) -> PairRow {
    let metric = recorded::metric(&pair.id, &pair.unit, pair.lower_is_better);
    let recording = Recording { base: &pair.base, head: &pair.head, interleaved: pair.interleaved };
    let Decided { verdict, statistic, base, head } = recorded::decide(recording, &metric, thresholds, alpha);
    let finite = |value: f64| value.is_finite().then_some(value);
    PairRow {
        id: pair.id.clone(),
        verdict: verdict.call,
        severity: verdict.severity,
        change: verdict.estimate.map(|estimate| estimate.change).and_then(finite),
        interval: verdict.estimate.map(|estimate| [estimate.lower.and_then(finite), estimate.upper.and_then(finite)]),
        estimate: verdict.estimate,
        reason: verdict.reason,
        note: verdict.note,
        statistic: statistic.as_str(),
        unit: pair.unit.clone(),
        base: finite(base),
        head: finite(head),
    }
}

/// For people: one line a comparison, what was found beneath where something was.
fn table(judged: &Judged) -> String {
    use std::fmt::Write as _;
    let rows: Vec<[String; 6]> = judged
        .pairs
        .iter()
        .map(|row| {
            let quantity = |value: Option<f64>| {
                value.map_or_else(|| format::NOTHING.to_owned(), |value| format::quantity(value, &row.unit))
            };
            let word = match row.severity {
                Severity::None => row.verdict.to_string(),
                severity => format!("{} {severity}", row.verdict),
            };
            let interval = row.estimate.as_ref().map_or_else(|| format::NOTHING.to_owned(), format::interval);
            let change = row.change.map_or_else(|| format::NOTHING.to_owned(), format::change);
            [format::line(&row.id), quantity(row.base), quantity(row.head), change, interval, word]
        })
        .collect();
    let mut out = String::new();
    if !rows.is_empty() {
        let heading = ["id", "base", "head", "change", "95 % interval", "verdict"].map(str::to_owned);
        let rows: Vec<&[String; 6]> = std::iter::once(&heading).chain(&rows).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..6).map(width).collect();
        for (at, row) in rows.iter().enumerate() {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
                // Names and words to the left, numbers to the right.
                if matches!(column, 0 | 5) { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            out += cells.collect::<Vec<_>>().join("  ").trim_end();
            out.push('\n');
            if let Some(pair) =
                at.checked_sub(1).map(|at| &judged.pairs[at]).filter(|pair| pair.verdict != Call::Unchanged)
            {
                let _ = writeln!(out, "    {}", pair.note);
            }
        }
    }
    for series in &judged.series {
        let id = format::line(&series.id);
        let points: Vec<String> = series.change_points.iter().map(usize::to_string).collect();
        let _ = match points.as_slice() {
            [] => writeln!(out, "{id}: one level"),
            points => writeln!(out, "{id}: new level from index {}", points.join(", ")),
        };
    }
    out
}
