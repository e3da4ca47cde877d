//! A report that somebody else's code may have written: taken out of its archive and read in memory, within limits, or
//! refused with the reason.
//!
//! What comes out is well formed and harmless to handle. It is not true for that: its verdicts have to be made again, from
//! its numbers. Must not know where it comes from.

use std::collections::BTreeSet;
use std::io::{Cursor, Read as _};

use serde_json::Value;
use thiserror::Error;
use zip::ZipArchive;
use zip::result::ZipError;

use crate::domain::CaseId;
use crate::report::{LaunchValue, Report, Row, SCHEMA_VERSION, TargetRow};

/// The one file that an artifact holds.
pub const ENTRY: &str = "report.json";
/// The largest report read, bytes.
pub const MOST_BYTES: u64 = 48 << 20;
/// How much smaller an archive may be than what it holds. Reports shrink by a factor of 4 to 12.
const MOST_RATIO: u64 = 100;
/// Archives up to this size, bytes, may shrink by any factor: little comes out of them.
const SMALL: u64 = 1 << 10;
/// Rows of a report.
const MOST_ROWS: usize = 5000;
/// Runs that play base.
const MOST_RUNS: usize = 100;
/// Launches of one side of a row.
const MOST_LAUNCHES: usize = 1000;
/// Characters of a text.
const MOST_TEXT: usize = 4000;
/// Characters of a name.
const MOST_NAME: usize = 400;

/// Why a report is not read.
#[derive(Debug, Error)]
pub enum Suspect {
    /// The archive is not one as it should be.
    #[error("the artifact {0}")]
    Archive(String),
    /// The report is not one as regrade writes them.
    #[error("the report {0}")]
    Report(String),
}

/// Takes the report out of an archive.
///
/// # Errors
/// When the archive holds anything else, or more than it may.
pub fn unpack(archive: &[u8]) -> Result<Vec<u8>, Suspect> {
    let wrong = |what: String| Suspect::Archive(what);
    let broken = |error: &ZipError| wrong(format!("is no usable zip file: {}", printable(&error.to_string())));
    let mut zip = ZipArchive::new(Cursor::new(archive)).map_err(|error| broken(&error))?;
    // Two entries of one name are one to the library: what the archive itself says counts, too.
    for entries in [zip.len(), entries_said(archive).map_or(0, usize::from)] {
        if entries != 1 {
            return Err(wrong(format!("holds {entries} entries; `{ENTRY}` alone is expected")));
        }
    }
    if zip.offset() != 0 {
        return Err(wrong("begins with something else".to_owned()));
    }
    let entry = zip.by_index(0).map_err(|error| broken(&error))?;
    if entry.name_raw() != ENTRY.as_bytes() {
        return Err(wrong(format!(
            "holds `{}`; `{ENTRY}` alone is expected",
            printable(&String::from_utf8_lossy(entry.name_raw()))
        )));
    }
    if !entry.is_file() {
        return Err(wrong(format!("holds a `{ENTRY}` that is no regular file")));
    }
    let too_large = || wrong(format!("holds more than {MOST_BYTES} bytes"));
    let (packed, size) = (entry.compressed_size(), entry.size());
    if size > MOST_BYTES {
        return Err(too_large());
    }
    // What the archive says of itself may be a lie: what really comes out is counted, too.
    let plausible = (packed.min(archive.len() as u64)).saturating_mul(MOST_RATIO).max(MOST_RATIO * SMALL);
    let bomb = || wrong(format!("unpacks to more than {MOST_RATIO} times its size"));
    if size > plausible {
        return Err(bomb());
    }
    let limit = plausible.min(MOST_BYTES);
    let mut bytes = Vec::new();
    entry
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| wrong(format!("cannot be unpacked: {}", printable(&error.to_string()))))?;
    match bytes.len() as u64 {
        length if length > limit => Err(if limit == MOST_BYTES { too_large() } else { bomb() }),
        length if length != size => Err(wrong(format!("holds {length} bytes and says {size}"))),
        _ => Ok(bytes),
    }
}

/// How many entries the end of an archive says that there are (APPNOTE.TXT 4.3.16, total number of entries).
fn entries_said(archive: &[u8]) -> Option<u16> {
    /// The record without a comment.
    const END: usize = 22;
    let last = archive.len().checked_sub(END)?;
    let at = (0..=last).rev().take(usize::from(u16::MAX) + 1).find(|at| archive[*at..].starts_with(b"PK\x05\x06"))?;
    Some(u16::from_le_bytes([archive[at + 10], archive[at + 11]]))
}

/// Reads a report strictly: nothing that is unknown, nothing twice, no text that could do anything.
///
/// # Errors
/// With what is wrong and where.
pub fn read(bytes: &[u8]) -> Result<Report, Suspect> {
    let wrong = |what: String| Suspect::Report(what);
    if bytes.len() as u64 > MOST_BYTES {
        return Err(wrong(format!("is larger than {MOST_BYTES} bytes")));
    }
    // Nesting is bounded by serde_json, numbers that no f64 holds are refused by it.
    let broken = |error: serde_json::Error| wrong(format!("cannot be read: {}", printable(&error.to_string())));
    let mut unknown = None;
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let report: Report = serde_ignored::deserialize(&mut reader, |path| {
        unknown.get_or_insert_with(|| path.to_string());
    })
    .map_err(broken)?;
    reader.end().map_err(broken)?;
    if report.schema_version != SCHEMA_VERSION {
        let version = report.schema_version;
        return Err(wrong(format!(
            "has version {version}, and this regrade reads {SCHEMA_VERSION}: measure and post with the same version"
        )));
    }
    if let Some(path) = unknown {
        return Err(wrong(format!("has the unknown key `{}`", printable(&path))));
    }
    texts(&serde_json::to_value(&report).map_err(broken)?)?;
    check(&report)?;
    Ok(report)
}

/// No text is long, moves a cursor, or turns the direction of reading.
fn texts(value: &Value) -> Result<(), Suspect> {
    match value {
        Value::String(text) => check_text(text),
        Value::Array(items) => items.iter().try_for_each(texts),
        Value::Object(fields) => fields.iter().try_for_each(|(key, value)| check_text(key).and_then(|()| texts(value))),
        _ => Ok(()),
    }
}

fn check_text(text: &str) -> Result<(), Suspect> {
    let wrong = |what: &str| Err(Suspect::Report(format!("holds a text {what}: `{}`", printable(text))));
    if text.chars().take(MOST_TEXT + 1).count() > MOST_TEXT {
        return wrong("that is too long");
    }
    if text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        return wrong("with control characters");
    }
    if text.chars().any(is_invisible) {
        return wrong("with characters that hide or turn text");
    }
    Ok(())
}

/// Direction overrides and isolates, joiners, byte order marks, tags: what makes a text look like another.
const fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}' | '\u{e0000}'..='\u{e007f}')
}

/// What the types do not say.
fn check(report: &Report) -> Result<(), Suspect> {
    let wrong = |what: String| Err(Suspect::Report(what));
    if let Some(what) = &report.head.synthetic {
        return wrong(format!("is of a run that was made slower on purpose ({})", printable(what)));
    }
    let sizes = [report.rows.len(), report.targets.len(), report.context.len(), report.reference.len()];
    if sizes.into_iter().any(|size| size > MOST_ROWS) {
        return wrong(format!("has more than {MOST_ROWS} rows"));
    }
    if report.prices.len() > MOST_RUNS {
        return wrong(format!("has more than {MOST_RUNS} prices"));
    }
    if report.base.len() > MOST_RUNS {
        return wrong(format!("has more than {MOST_RUNS} runs as its base"));
    }
    let mut seen = BTreeSet::new();
    for row in &report.rows {
        for name in [row.case.as_str(), &row.metric.name, &row.metric.unit, &row.benchmark, &row.backend] {
            check_name(name)?;
        }
        if !seen.insert((&row.case, &row.metric.name)) {
            return wrong(format!("judges {} of `{}` twice", row.metric.name, row.case));
        }
        sides(row)?;
    }
    for row in &report.targets {
        aim(row)?;
    }
    for name in report.context.iter().map(|value| &value.case).chain(report.reference.iter().map(|row| &row.case)) {
        check_name(name.as_str())?;
    }
    let mut launches = report.reference.iter().flat_map(|row| [&row.base_launches, &row.head_launches]);
    launches.try_for_each(|launches| check_launches("a reference workload", launches))
}

fn aim(row: &TargetRow) -> Result<(), Suspect> {
    let of = row.target.of.as_ref().map_or("", CaseId::as_str);
    let over = row.target.over.as_ref().map_or("", |over| &over.name);
    for name in [row.case.as_str(), of, over, &row.benchmark, &row.target.that, &row.target.metric, &row.metric.unit] {
        check_name(name)?;
    }
    let what = format!("the target {} of `{}`", row.target.that, row.case);
    let sides = [&row.head, &row.other].into_iter().flatten();
    sides.into_iter().try_for_each(|side| check_launches(&what, &side.launches))
}

/// Names go into tables, links and commands.
fn check_name(name: &str) -> Result<(), Suspect> {
    let fine = name.chars().count() <= MOST_NAME && !name.contains(['\n', '\t']);
    if fine { Ok(()) } else { Err(Suspect::Report(format!("has the impossible name `{}`", printable(name)))) }
}

fn sides(row: &Row) -> Result<(), Suspect> {
    let all = [&row.base, &row.head].map(|side| side.as_ref().map_or(&[][..], |side| &side.launches));
    let what = format!("{} of `{}`", row.metric.name, row.case);
    for launches in all {
        check_launches(&what, launches)?;
    }
    let [base, head] = all.map(|launches| launches.iter().map(|one| one.launch).collect::<BTreeSet<_>>());
    if base.is_disjoint(&head) {
        Ok(())
    } else {
        Err(Suspect::Report(format!("counts a launch of {what} as base and as head")))
    }
}

fn check_launches(what: &str, launches: &[LaunchValue]) -> Result<(), Suspect> {
    let wrong = |why: String| Err(Suspect::Report(format!("{why} of {what}")));
    if launches.len() > MOST_LAUNCHES {
        return wrong(format!("has more than {MOST_LAUNCHES} launches"));
    }
    let ids: BTreeSet<_> = launches.iter().map(|launch| launch.launch).collect();
    if ids.len() != launches.len() {
        return wrong("counts a launch twice".to_owned());
    }
    let wrong_count = |launch: &&LaunchValue| {
        launch.samples.as_ref().is_some_and(|samples| samples.is_empty() || samples.len() as u64 != launch.n)
    };
    match launches.iter().find(wrong_count) {
        Some(launch) => wrong(format!("says {} samples where there are others", launch.n)),
        None => Ok(()),
    }
}

/// The beginning of a text, with nothing in it that a log could take for more than text.
fn printable(text: &str) -> String {
    const SHOWN: usize = 80;
    let shown: String = text
        .chars()
        .take(SHOWN)
        .map(|c| if c.is_control() || is_invisible(c) { '\u{fffd}' } else { c })
        .collect::<String>()
        // A line of a workflow's log that begins with `::` is a command; none begins with this, but it costs nothing.
        .replace("::", ":\u{fffd}");
    if text.chars().nth(SHOWN).is_some() { format!("{shown}…") } else { shown }
}
