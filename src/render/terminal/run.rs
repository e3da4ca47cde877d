//! The terminal's table of a single run. Must not know of comparisons.

use anstyle::{AnsiColor, Style as Paint};

use crate::domain::OutcomeKind;
use crate::render::format;
use crate::render::run::{self, Shown};
use crate::render::table::{Cell, Column, Row, Section, Table};
use crate::render::target;
use crate::render::terminal::{colour, data};
use crate::render::text;
use crate::report::{CaseView, RunView};

/// One row a case, the reference workloads apart.
pub fn table(view: &RunView) -> Table {
    let shown = run::columns(&view.cases);
    let row = |case| row_of(case, &shown);
    let (reference, proper): (Vec<&CaseView>, Vec<&CaseView>) = view.cases.iter().partition(|case| case.reference);
    let mut sections = vec![Section { rows: proper.into_iter().map(row).collect(), ..Section::default() }];
    if !reference.is_empty() {
        sections.push(Section {
            heading: Some(Cell::styled("Reference workloads, which watch the machine", Paint::new().dimmed())),
            rows: reference.into_iter().map(row).collect(),
            closing: None,
        });
    }
    let numbers = shown.iter().map(|column| Column::new(column.title, true, column.optional));
    let ends = [Column::new("launches", true, false), Column::new("outcome", false, false)];
    Table { columns: numbers.chain(ends).collect(), label: "case", sections }
}

fn row_of(case: &CaseView, shown: &[Shown]) -> Row {
    let paint = match case.outcome.kind {
        OutcomeKind::Measured => Paint::new(),
        OutcomeKind::Skipped => Paint::new().dimmed(),
        OutcomeKind::Invalid => colour(AnsiColor::Yellow),
        OutcomeKind::Failed | OutcomeKind::TimedOut | OutcomeKind::OutOfMemory => colour(AnsiColor::Red),
    };
    let label = text::clean(case.case.as_str());
    let further = run::further(case, shown);
    let reason = case.outcome.reason.as_deref().map(|reason| format!("{}: {reason}", case.outcome.kind));
    if case.metrics.is_empty() {
        let words = reason.unwrap_or_else(|| case.outcome.kind.to_string());
        return Row { label, cells: Vec::new(), below: Some(Cell::styled(text::clean(&words), paint)) };
    }
    let numbers = shown.iter().map(|column| Cell::plain(data(&column.of(case))));
    let ends = [Cell::plain(case.launches.to_string()), Cell::styled(case.outcome.kind.to_string(), paint)];
    Row {
        label,
        cells: numbers.chain(ends).collect(),
        below: match reason {
            Some(reason) => Some(Cell::styled(text::clean(&reason), paint)),
            None => further.map(|further| Cell::styled(text::clean(&further), Paint::new().dimmed())),
        },
    }
}

/// How many cases ended how, and how many targets.
pub fn headline(view: &RunView) -> String {
    let count = |wanted: fn(OutcomeKind) -> bool| view.cases.iter().filter(|case| wanted(case.outcome.kind)).count();
    let measured = count(|kind| kind == OutcomeKind::Measured);
    let skipped = count(|kind| kind == OutcomeKind::Skipped);
    let mut parts = vec![format!("{measured} of {} measured", format::plural(view.cases.len(), "case", "cases"))];
    if skipped > 0 {
        parts.push(format!("{skipped} skipped"));
    }
    let failed = view.cases.len() - measured - skipped;
    if failed > 0 {
        parts.push(format!("{failed} not measured because of a failure"));
    }
    let cases = parts.join(", ");
    target::counted(&view.targets).map_or_else(|| cases.clone(), |targets| format!("{cases}; {targets}"))
}
