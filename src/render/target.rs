//! Targets in words, the same in every text format. Must not decide anything: `verdict` has decided.

use crate::domain::{Reading, Target, TargetCall};
use crate::render::format;
use crate::report::TargetRow;

/// Calls in the order in which they are shown.
pub const ORDER: [TargetCall; 3] = [TargetCall::Missed, TargetCall::Inconclusive, TargetCall::Met];

/// The heading of the targets of one call.
#[must_use]
pub const fn title(call: TargetCall) -> &'static str {
    match call {
        TargetCall::Missed => "Targets missed",
        TargetCall::Inconclusive => "Targets inconclusive",
        TargetCall::Met => "Targets met",
    }
}

/// The targets of one call, worst first as the report has them.
#[must_use]
pub fn of_call(targets: &[TargetRow], call: TargetCall) -> Vec<&TargetRow> {
    targets.iter().filter(|row| row.verdict.call == call).collect()
}

/// A number of a target: in its metric's unit, or a ratio.
fn number(row: &TargetRow, value: f64) -> String {
    format::quantity(value, if row.target.of.is_some() { "1" } else { &row.metric.unit })
}

/// What was measured.
#[must_use]
pub fn measured(row: &TargetRow) -> String {
    row.verdict.reading.map_or_else(|| format::NOTHING.to_owned(), |reading| number(row, reading.value))
}

/// The ends of its interval. What was counted in full has none.
#[must_use]
pub fn ends(row: &TargetRow) -> Option<[String; 2]> {
    let counted = |reading: &Reading| row.target.over.is_some() && reading.lower == reading.upper;
    let reading = row.verdict.reading.filter(|reading| !counted(reading))?;
    Some([reading.lower, reading.upper].map(|end| number(row, end)))
}

/// What a target is, without the case that it is relative to: how many cases it is about, where these are several.
#[must_use]
pub fn wanted(row: &TargetRow) -> String {
    let Target { that, over, .. } = &row.target;
    let over = over.as_ref().map(|over| format!(" over {}", format::plural(over.cases as usize, "case", "cases")));
    that.clone() + &over.unwrap_or_default()
}

/// What the verdict is worth: `missed, fails`, `missed, not required`.
#[must_use]
pub fn verdict(row: &TargetRow) -> String {
    let worth = match (row.fails, row.target.required) {
        (true, _) => ", fails",
        (false, false) => ", not required",
        (false, true) => "",
    };
    format!("{}{worth}", row.verdict.call)
}

/// Why, out of what, and where the goal comes from.
#[must_use]
pub fn why(row: &TargetRow) -> String {
    let mut parts = vec![row.verdict.note.clone()];
    if let (Some(head), Some(other)) = (&row.head, &row.other) {
        let value = |value| format::value(value, &row.metric);
        parts.push(format!("{} against {}", value(head.value), value(other.value)));
    }
    parts.extend(row.target.source.as_ref().map(|source| format!("source: {source}")));
    parts.retain(|part| !part.is_empty());
    parts.join("; ")
}

/// How many targets ended how: `1 target missed, 2 met`; nothing where there are none.
#[must_use]
pub fn counted(targets: &[TargetRow]) -> Option<String> {
    let counts = ORDER.map(|call| (call, of_call(targets, call).len()));
    let mut parts = counts.into_iter().filter(|(_, count)| *count > 0);
    let (first, count) = parts.next()?;
    let first = format!("{} {first}", format::plural(count, "target", "targets"));
    Some(parts.fold(first, |said, (call, count)| format!("{said}, {count} {call}")))
}
