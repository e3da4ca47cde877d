//! The terminal format: aligned tables, worst first, that fit the width; colour only where the style allows it.
//!
//! The text ends with the headline and the next command, because that is where the eye is when a program ends.

mod run;
mod target;

use anstyle::{AnsiColor, Color, Style as Paint};

use crate::domain::Severity;
use crate::render::format;
use crate::render::group::{self, Group};
use crate::render::table::{Cell, Column, Row, Section, Table};
use crate::render::text;
use crate::render::{Artifact, RenderError, Renderer, Style};
use crate::report::{self, Report, RunInfo, RunView};

/// Narrower terminals get lines of this width: below it no table is readable.
const NARROWEST: usize = 60;
/// Rows that are unchanged, or open and not gated, are listed up to this many, and counted beyond.
const FEW: usize = 5;
/// New and skipped rows are listed up to this many.
const SOME: usize = 12;
/// Columns for names of metrics, and for values in units of others' choosing.
const CELL: usize = 18;
/// Rows listed of any other group.
const MANY: usize = 100;

/// The renderer.
#[derive(Debug)]
pub struct Terminal;

impl Renderer for Terminal {
    fn name(&self) -> &'static str {
        "terminal"
    }

    fn describe(&self) -> &'static str {
        "aligned tables for reading now"
    }

    fn report(&self, report: &Report, style: Style) -> Result<Vec<Artifact>, RenderError> {
        let mut page = Page::new(style);
        report_header(&mut page, report);
        report_table(&mut page, report);
        targets(&mut page, &report.targets);
        report_ending(&mut page, report);
        Ok(vec![page.artifact("report.txt")])
    }

    fn run(&self, view: &RunView, style: Style) -> Result<Option<Vec<Artifact>>, RenderError> {
        let mut page = Page::new(style);
        page.field("suite", &view.suite);
        page.field("testbed", &testbed(&view.testbed));
        page.field("run", &circumstances(&view.run));
        prices(&mut page, &view.prices);
        warnings(&mut page, &view.run, "This run");
        page.blank();
        let table = run::table(view);
        page.lines.extend(table.lines(page.width, page.colour));
        page.blank();
        targets(&mut page, &view.targets);
        page.blank();
        page.say(&run::headline(view), Paint::new().bold());
        Ok(Some(vec![page.artifact("run.txt")]))
    }
}

/// Lines written so far, and the style they are written in.
struct Page {
    lines: Vec<String>,
    width: usize,
    colour: bool,
}

impl Page {
    fn new(style: Style) -> Self {
        Self { lines: Vec::new(), width: style.width.max(NARROWEST), colour: style.colour }
    }

    fn blank(&mut self) {
        if self.lines.last().is_some_and(|line| !line.is_empty()) {
            self.lines.push(String::new());
        }
    }

    fn paint(&self, line: &str, paint: Paint) -> String {
        if self.colour && paint != Paint::new() {
            format!("{}{line}{}", paint.render(), paint.render_reset())
        } else {
            line.to_owned()
        }
    }

    /// `name` in a narrow column and the value wrapped beside it.
    fn field(&mut self, name: &str, value: &str) {
        const NAME: usize = 11;
        let value = text::wrap(&text::clean(value), self.width - NAME);
        for (index, line) in value.iter().enumerate() {
            let name = text::pad(if index == 0 { name } else { "" }, NAME, false);
            self.lines.push(self.paint(&name, Paint::new().dimmed()) + line);
        }
    }

    fn say(&mut self, sentence: &str, paint: Paint) {
        for line in text::wrap(&text::clean(sentence), self.width) {
            self.lines.push(self.paint(&line, paint));
        }
    }

    /// A command over as many lines as it takes, so that it can still be copied.
    fn command(&mut self, command: &str) {
        let lines = text::wrap(&text::clean(command), self.width - 4);
        let last = lines.len() - 1;
        for (index, line) in lines.iter().enumerate() {
            let more = if index == last { "" } else { " \\" };
            self.lines.push(format!("  {}{more}", self.paint(line, Paint::new().bold())));
        }
    }

    fn artifact(mut self, name: &str) -> Artifact {
        self.lines.push(String::new());
        Artifact { name: name.to_owned(), bytes: self.lines.join("\n").into_bytes() }
    }
}

/// A cell that holds words of others' choosing.
fn data(words: &str) -> String {
    text::shorten(&text::clean(words), CELL)
}

fn colour(colour: AnsiColor) -> Paint {
    Paint::new().fg_color(Some(Color::Ansi(colour)))
}

fn testbed(testbed: &crate::domain::Testbed) -> String {
    format!("{} · {}", testbed.label(), testbed.key)
}

/// `3f2a91c0 on main, with uncommitted changes · 2026-08-14 09:30 UTC · 45 launches · complete`
fn circumstances(run: &RunInfo) -> String {
    let commit = run.commit.as_deref().map_or("no commit", |hash| hash.get(..10).unwrap_or(hash));
    let branch = run.branch.as_deref().map_or_else(String::new, |branch| format!(" on {branch}"));
    let dirty = if run.dirty { ", with uncommitted changes" } else { "" };
    let launches = format::plural(run.launches as usize, "launch", "launches");
    let took =
        run.finished.map_or_else(String::new, |finished| format!(" in {}", format::elapsed(run.started, finished)));
    let status = match run.status {
        crate::domain::RunStatus::Complete => String::new(),
        other => format!(" · {other}"),
    };
    format!("{commit}{branch}{dirty} · {} · {launches}{took}{status}", format::moment(run.started))
}

fn warnings(page: &mut Page, run: &RunInfo, who: &str) {
    let paint = colour(AnsiColor::Yellow).bold();
    if let Some(what) = &run.synthetic {
        page.say(
            &format!("{who} is SYNTHETIC, not the workloads as written: {what}. It cannot become a baseline."),
            paint,
        );
    }
    if run.debug_build {
        page.say(&format!("{who} was measured by a debug build and cannot become a baseline."), paint);
    }
}

/// What the costs were made of.
fn prices(page: &mut Page, prices: &[report::PriceRow]) {
    for (index, row) in prices.iter().enumerate() {
        page.field(if index == 0 { "prices" } else { "" }, &format::price(row));
    }
}

fn report_header(page: &mut Page, report: &Report) {
    page.field("suite", &format!("{} · fails from {} on", report.suite, report.gate));
    page.field("testbed", &testbed(&report.testbed));
    page.field("head", &circumstances(&report.head));
    match report.base.as_slice() {
        [] => page.field("base", "none"),
        [only] => page.field(
            "base",
            &format!("{} · {}", circumstances(only), format::earlier(only.started, report.head.started)),
        ),
        [newest, .., oldest] => {
            page.field("base", &format!("{}, the newest:", format::plural(report.base.len(), "run", "runs")));
            page.field("", &circumstances(newest));
            page.field("", &format!("the oldest from {}", format::earlier(oldest.started, report.head.started)));
        }
    }
    if let Some(paired) = &report.paired {
        page.field("pairs", &format!("{} against {}", paired.head, paired.base));
        page.field("", &group::paired(paired));
    }
    prices(page, &report.prices);
    warnings(page, &report.head, "The head run");
    if let Some(base) = report.base.iter().find(|base| base.synthetic.is_some() || base.debug_build) {
        warnings(page, base, "A base run");
    }
    page.blank();
}

const REPORT_COLUMNS: [Column; 8] = [
    Column::new("", false, false),
    Column::new("metric", false, false),
    Column::new("base", true, true),
    Column::new("head", true, false),
    Column::new("change", true, false),
    Column::new("interval", true, true),
    Column::new("pairs", true, true),
    Column::new("severity", false, false),
];

fn report_table(page: &mut Page, report: &Report) {
    let sections: Vec<Section> = Group::ALL.iter().filter_map(|group| report_section(report, *group)).collect();
    let table = Table { columns: REPORT_COLUMNS.to_vec(), label: "case", sections };
    page.lines.extend(table.lines(page.width, page.colour));
    page.blank();
    let marks = legend(report);
    if !marks.is_empty() {
        page.say(&marks, Paint::new().dimmed());
    }
}

fn targets(page: &mut Page, targets: &[report::TargetRow]) {
    if let Some(table) = target::table(targets) {
        page.blank();
        page.lines.extend(table.lines(page.width, page.colour));
    }
}

fn report_section(report: &Report, group: Group) -> Option<Section> {
    let rows = group.rows(report);
    if rows.is_empty() {
        return None;
    }
    let limit = match group {
        Group::Unchanged | Group::Open if rows.len() > FEW => 0,
        Group::New | Group::Skipped => SOME,
        _ => MANY,
    };
    let mut cases: Vec<&str> = rows.iter().map(|row| row.case.as_str()).collect();
    cases.sort_unstable();
    cases.dedup();
    let counts = format!(
        "{} of {}",
        format::plural(rows.len(), "metric", "metrics"),
        format::plural(cases.len(), "case", "cases")
    );
    let counts = if matches!(group, Group::Failed | Group::Missing | Group::Skipped) {
        format::plural(cases.len(), "case", "cases")
    } else {
        counts
    };
    let left_out = rows.len().saturating_sub(limit);
    let rows = group::by_case(rows);
    Some(Section {
        heading: Some(Cell::styled(format!("{}: {counts}", group.title()), group_paint(group).bold())),
        rows: rows.iter().take(limit).map(|row| report_row(row, group)).collect(),
        closing: (left_out > 0 && limit > 0).then(|| format!("and {left_out} more; --format json has them all")),
    })
}

fn report_row(row: &report::Row, group: Group) -> Row {
    let paint = match row.verdict.severity {
        Severity::None => group_paint(group),
        severity => severity_paint(severity, group),
    };
    let side = |side: &Option<report::Side>| {
        Cell::plain(data(&format::optional(side.as_ref().map(|side| side.value), &row.metric)))
    };
    let estimate = row.verdict.estimate.as_ref();
    let below =
        group::tells_why(row, group).then(|| Cell::styled(text::clean(&group::reason(row)), Paint::new().dimmed()));
    let cells = if row.base.is_none() && row.head.is_none() {
        Vec::new()
    } else {
        vec![
            Cell::styled(marks(row), paint.bold()),
            Cell::plain(data(&row.metric.name)),
            side(&row.base),
            side(&row.head),
            Cell::styled(estimate.map_or_else(String::new, |estimate| format::change(estimate.change)), paint),
            Cell::plain(estimate.map_or_else(String::new, format::interval)),
            Cell::plain(row.paired.map_or_else(String::new, |paired| paired.pairs.to_string())),
            Cell::styled(group::severity(row), paint),
        ]
    };
    Row { label: text::clean(row.case.as_str()), cells, below }
}

fn is_excused(row: &report::Row) -> bool {
    matches!(Group::of(row), Group::Waived | Group::Inherited)
}

/// `!` fails CI, `*` may fail it, `-` would fail it were it not excused, `~` provisional.
fn marks(row: &report::Row) -> String {
    let gate = match (row.fails, row.gating) {
        (true, _) => "!",
        (false, true) if is_excused(row) => "-",
        (false, true) => "*",
        (false, false) => " ",
    };
    let provisional = if row.verdict.provisional { "~" } else { " " };
    format!("{gate}{provisional}").trim_end().to_owned()
}

fn legend(report: &Report) -> String {
    let mut parts = Vec::new();
    if report.rows.iter().any(|row| row.fails) {
        parts.push("! fails CI".to_owned());
    }
    if report.rows.iter().any(|row| row.gating && !row.fails && !is_excused(row)) {
        parts.push("* may fail CI".to_owned());
    }
    if report.rows.iter().any(|row| row.gating && is_excused(row)) {
        parts.push("- excused".to_owned());
    }
    if report.rows.iter().any(|row| row.verdict.provisional) {
        parts.push("~ provisional: rests on history or few pairs".to_owned());
    }
    parts.extend(group::coverage(report).map(|coverage| format!("intervals cover {coverage}")));
    parts.join(" · ")
}

fn group_paint(group: Group) -> Paint {
    match group {
        Group::Regressed | Group::Failed => colour(AnsiColor::Red),
        Group::Waived | Group::Inherited | Group::Missing | Group::Inconclusive | Group::NotComparable => {
            colour(AnsiColor::Yellow)
        }
        Group::Improved => colour(AnsiColor::Green),
        Group::Unchanged | Group::Open | Group::New | Group::Skipped => Paint::new(),
    }
}

fn severity_paint(severity: Severity, group: Group) -> Paint {
    match (group, severity) {
        (Group::Regressed, Severity::Severe) => colour(AnsiColor::Red).bold(),
        (Group::Regressed, Severity::Moderate) => colour(AnsiColor::Red),
        (Group::Regressed, _) => colour(AnsiColor::Yellow),
        _ => group_paint(group),
    }
}

fn report_ending(page: &mut Page, report: &Report) {
    page.blank();
    if !report.reference.is_empty() {
        let moved: Vec<String> = report
            .reference
            .iter()
            .map(|row| {
                format!("{} {}", row.case, row.change.map_or_else(|| format::NOTHING.to_owned(), format::change))
            })
            .collect();
        page.field("reference", &moved.join(", "));
    }
    for note in &report.notes {
        page.field("note", note);
    }
    page.blank();
    let paint = match report.outcome.exit_code {
        0 => colour(AnsiColor::Green).bold(),
        1 | 4 => colour(AnsiColor::Red).bold(),
        _ => colour(AnsiColor::Yellow).bold(),
    };
    page.say(&report.outcome.headline, paint);
    if let Some(next) = &report.outcome.next {
        page.say("Next:", Paint::new().dimmed());
        page.command(next);
    }
}
