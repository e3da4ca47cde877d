//! The terminal's table of targets.

use anstyle::{AnsiColor, Style as Paint};

use crate::domain::TargetCall;
use crate::render::table::{Cell, Column, Row, Section, Table};
use crate::render::target::{self, ORDER};
use crate::render::terminal::colour;
use crate::render::text;
use crate::report::TargetRow;

/// Targets that are met are listed up to this many.
const FEW: usize = 12;
/// And others up to this many.
const MANY: usize = 100;

/// One row a target, those that are missed first; nothing where there are none.
pub fn table(targets: &[TargetRow]) -> Option<Table> {
    let sections: Vec<Section> = ORDER.iter().filter_map(|call| section(targets, *call)).collect();
    let columns = vec![
        Column::new("measured", true, false),
        Column::new("interval", true, true),
        Column::new("verdict", false, false),
    ];
    (!sections.is_empty()).then_some(Table { columns, label: "target", sections })
}

fn section(targets: &[TargetRow], call: TargetCall) -> Option<Section> {
    let rows = target::of_call(targets, call);
    let limit = if call == TargetCall::Met { FEW } else { MANY };
    let left_out = rows.len().saturating_sub(limit);
    let heading = format!("{}: {}", target::title(call), rows.len());
    (!rows.is_empty()).then(|| Section {
        heading: Some(Cell::styled(heading, paint(call).bold())),
        rows: rows.iter().take(limit).map(|row| row_of(row)).collect(),
        closing: (left_out > 0).then(|| format!("and {left_out} more; --format json has them all")),
    })
}

fn row_of(row: &TargetRow) -> Row {
    let interval = target::ends(row).map_or_else(String::new, |[lower, upper]| format!("[{lower}, {upper}]"));
    let cells = row.verdict.reading.map_or_else(Vec::new, |_| {
        vec![
            Cell::plain(text::clean(&target::measured(row))),
            Cell::plain(text::clean(&interval)),
            Cell::styled(target::verdict(row), paint(row.verdict.call)),
        ]
    });
    Row {
        label: text::clean(&format!("{}  {}", row.case, row.target)),
        cells,
        below: Some(Cell::styled(text::clean(&target::why(row)), Paint::new().dimmed())),
    }
}

fn paint(call: TargetCall) -> Paint {
    match call {
        TargetCall::Missed => colour(AnsiColor::Red),
        TargetCall::Inconclusive => colour(AnsiColor::Yellow),
        TargetCall::Met => colour(AnsiColor::Green),
    }
}
