//! The Markdown format, for a pull request comment or a job summary: the headline first, what matters next, the rest
//! folded. Everything that comes from data is escaped: a case name can neither break a table nor call a person.

use std::fmt::Write as _;

use crate::domain::{Metric, RunStatus, TargetCall};
use crate::render::format::{self, typographic};
use crate::render::group::{self, Group};
use crate::render::plot;
use crate::render::run;
use crate::render::target;
use crate::render::text;
use crate::render::{Artifact, RenderError, Renderer, Style};
use crate::report::{Report, Row, RunInfo, RunView, Side, TargetRow};

/// Rows of a table of what matters; a comment holds 65,536 characters in all.
const MATTERS: usize = 60;
/// Rows of a folded table.
const FOLDED: usize = 60;
/// Pictures shown in place; the others are beside them in the folder.
const SHOWN: usize = 4;

/// The renderer.
#[derive(Debug)]
pub struct Markdown;

impl Renderer for Markdown {
    fn name(&self) -> &'static str {
        "markdown"
    }

    fn describe(&self) -> &'static str {
        "for a pull request or a job summary; links the plots beside it"
    }

    fn report(&self, report: &Report, _style: Style) -> Result<Vec<Artifact>, RenderError> {
        let mut page = String::new();
        headline(&mut page, report);
        targets(&mut page, &report.targets, &[TargetCall::Missed], MATTERS);
        for group in Group::ALL {
            section(&mut page, report, group);
        }
        targets(&mut page, &report.targets, &[TargetCall::Inconclusive, TargetCall::Met], MATTERS);
        pictures(&mut page, report);
        context(&mut page, report);
        method(&mut page, report);
        Ok(vec![artifact("report.md", page)])
    }

    fn run(&self, view: &RunView, _style: Style) -> Result<Option<Vec<Artifact>>, RenderError> {
        let mut page = String::new();
        line(&mut page, &format!("## Run of {}", code(&view.suite)));
        line(&mut page, "");
        warnings(&mut page, &view.run, "This run");
        run_table(&mut page, view);
        targets(&mut page, &view.targets, &target::ORDER, MATTERS);
        line(&mut page, "");
        line(&mut page, &format!("{} · {}", circumstances(&view.run), prose(&view.testbed.label())));
        if !view.prices.is_empty() {
            line(&mut page, "");
        }
        for row in &view.prices {
            line(&mut page, &format!("- Price of {}", prose(&format::price(row))));
        }
        Ok(Some(vec![artifact("run.md", page)]))
    }
}

fn artifact(name: &str, page: String) -> Artifact {
    Artifact { name: name.to_owned(), bytes: page.into_bytes() }
}

pub(super) fn line(page: &mut String, line: &str) {
    page.push_str(line);
    page.push('\n');
}

/// Data as prose. What Markdown or HTML could read as syntax becomes an entity, mentions and references get a
/// zero-width joiner, for they are looked for after entities are resolved.
#[must_use]
pub fn prose(data: &str) -> String {
    let mut safe = String::with_capacity(data.len());
    for c in text::clean(data).chars() {
        match c {
            '@' => safe.push_str("@\u{200d}"),
            '#' => safe.push_str("&#35;\u{200d}"),
            '&' | '<' | '>' | '|' | '\\' | '`' | '*' | '_' | '[' | ']' | '~' | '$' | '!' => {
                write!(safe, "&#{};", u32::from(c)).expect("writing to a string cannot fail");
            }
            _ => safe.push(c),
        }
    }
    // Bare addresses and `GH-12` would become links.
    let safe = safe.replace("://", ":\u{200d}//").replace("www.", "www\u{200d}.");
    ["GH-", "gh-", "Gh-", "gH-"].iter().fold(safe, |safe, word| safe.replace(word, &word.replace('-', "\u{200d}-")))
}

/// Data as code, in which mentions, references and markup mean nothing. Names with a backtick, a pipe or a backslash
/// (which a table's row reads first) become an HTML element with every special character as an entity.
#[must_use]
pub fn code(data: &str) -> String {
    let data = text::clean(data);
    if !data.is_empty() && data.trim() == data && !data.contains(['`', '|', '\\']) {
        return format!("`{data}`");
    }
    let mut safe = String::from("<code>");
    for c in data.chars() {
        if c.is_ascii_punctuation() && !matches!(c, '/' | '=' | ',' | '-') {
            write!(safe, "&#{};", u32::from(c)).expect("writing to a string cannot fail");
        } else {
            safe.push(c);
        }
    }
    safe + "</code>"
}

/// A formatted number; its unit is data.
pub(super) fn number(value: Option<f64>, metric: &Metric) -> String {
    typographic(&prose(&format::optional(value, metric)))
}

/// How it ended, at a glance.
pub(super) fn sign(report: &Report) -> &'static str {
    match report.outcome.exit_code {
        0 => "✅",
        1 | 4 => "❌",
        _ => "⚠️",
    }
}

/// What makes the runs of a report unlike others: of the base, the newest that is.
pub(super) fn cautions(page: &mut String, report: &Report) {
    warnings(page, &report.head, "The head run");
    for base in report.base.iter().filter(|base| base.synthetic.is_some() || base.debug_build).take(1) {
        warnings(page, base, "A base run");
    }
}

fn headline(page: &mut String, report: &Report) {
    line(page, &format!("## {} {}", sign(report), prose(&report.outcome.headline)));
    line(page, "");
    cautions(page, report);
    let base = match report.base.as_slice() {
        [] => "nothing".to_owned(),
        [newest] => circumstances(newest),
        [newest, ..] => format!("{} runs, the newest {}", report.base.len(), circumstances(newest)),
    };
    line(
        page,
        &format!(
            "Suite {} on {}, gate {}. Head {} against {base}.",
            code(&report.suite),
            prose(&report.testbed.label()),
            report.gate,
            circumstances(&report.head)
        ),
    );
    if let Some(paired) = &report.paired {
        line(page, "");
        line(
            page,
            &format!("Pairs: {} against {}. {}.", prose(&paired.head), prose(&paired.base), group::paired(paired)),
        );
    }
    if let Some(next) = &report.outcome.next {
        line(page, "");
        line(page, &format!("Next: {}", code(next)));
    }
    for note in &report.notes {
        line(page, "");
        line(page, &format!("> {}", prose(note)));
    }
}

pub(super) fn circumstances(run: &RunInfo) -> String {
    let commit = run.commit.as_deref().map_or("no commit", |hash| hash.get(..10).unwrap_or(hash));
    let branch = run.branch.as_deref().map_or_else(String::new, |branch| format!(" on {}", code(branch)));
    let dirty = if run.dirty { " with uncommitted changes" } else { "" };
    let status = match run.status {
        RunStatus::Complete => String::new(),
        other => format!(", {other}"),
    };
    format!("{}{branch}{dirty} ({}{status})", code(commit), format::moment(run.started))
}

fn warnings(page: &mut String, run: &RunInfo, who: &str) {
    if let Some(what) = &run.synthetic {
        line(
            page,
            &format!(
                "> ⚠️ **{who} is synthetic**, not the workloads as written: {}. It cannot become a baseline.",
                code(what)
            ),
        );
        line(page, "");
    }
    if run.debug_build {
        line(page, &format!("> ⚠️ **{who} was measured by a debug build** and cannot become a baseline."));
        line(page, "");
    }
}

/// Folded: what needs no attention.
pub(super) fn is_folded(group: Group) -> bool {
    matches!(group, Group::Unchanged | Group::Open | Group::New | Group::Skipped)
}

fn section(page: &mut String, report: &Report, group: Group) {
    let rows = group.rows(report);
    if rows.is_empty() {
        return;
    }
    let heading = format!("{} ({})", group.title(), rows.len());
    let limit = if is_folded(group) { FOLDED } else { MATTERS };
    line(page, "");
    if is_folded(group) {
        line(page, &format!("<details><summary>{heading}</summary>"));
    } else {
        line(page, &format!("### {heading}"));
    }
    line(page, "");
    if matches!(group, Group::Failed | Group::Missing | Group::NotComparable | Group::Skipped) {
        line(page, "| Case | Metric | Reason |");
        line(page, "|:--|:--|:--|");
        for row in rows.iter().take(limit) {
            let cells = format!("{}{}", code(row.case.as_str()), owner(row));
            line(page, &format!("| {cells} | {} | {} |", code(&row.metric.name), prose(&group::reason(row))));
        }
    } else {
        line(page, "| Case | Metric | Base | Head | Change | Interval | Verdict |");
        line(page, "|:--|:--|--:|--:|--:|:-:|:--|");
        for row in rows.iter().take(limit) {
            line(page, &compared(row));
        }
    }
    if rows.len() > limit {
        line(page, "");
        line(page, &format!("… and {} more; the JSON report has them all.", rows.len() - limit));
    }
    if is_folded(group) {
        line(page, "");
        line(page, "</details>");
    }
}

pub(super) fn owner(row: &Row) -> String {
    row.owner.as_deref().map_or_else(String::new, |owner| format!(" (ask {})", code(owner)))
}

fn compared(row: &Row) -> String {
    let side = |side: &Option<Side>| number(side.as_ref().map(|side| side.value), &row.metric);
    let estimate = row.verdict.estimate.as_ref();
    let change = estimate.map_or_else(|| "–".to_owned(), |estimate| typographic(&format::change(estimate.change)));
    let change = if row.fails { format!("**{change}**") } else { change };
    let interval = estimate.map_or_else(|| "–".to_owned(), |estimate| typographic(&format::interval(estimate)));
    let mut verdict = format!("{} {}", row.verdict.call, group::severity(row)).trim_end().to_owned();
    if row.fails {
        verdict = format!("**{verdict}**, fails");
    } else if matches!(Group::of(row), Group::Waived | Group::Inherited) {
        verdict += ", excused";
    } else if row.gating {
        verdict += ", gating";
    }
    if row.verdict.provisional {
        verdict += ", provisional";
    }
    let reason =
        if group::tells_why(row, Group::of(row)) { format!(": {}", prose(&group::reason(row))) } else { String::new() };
    format!(
        "| {}{} | {} | {} | {} | {change} | {interval} | {verdict}{reason} |",
        code(row.case.as_str()),
        owner(row),
        code(&row.metric.name),
        side(&row.base),
        side(&row.head)
    )
}

/// Tables of the targets that ended as `calls` say: of each all that fail and up to `room` others, of which the rest is
/// counted. What is met is folded.
pub(super) fn targets(page: &mut String, targets: &[TargetRow], calls: &[TargetCall], room: usize) {
    for call in calls {
        let all = target::of_call(targets, *call);
        let (must, may): (Vec<&TargetRow>, Vec<&TargetRow>) = all.iter().partition(|row| row.fails);
        let shown: Vec<&TargetRow> = must.into_iter().chain(may.into_iter().take(room)).collect();
        if shown.is_empty() {
            continue;
        }
        let heading = format!("{} ({})", target::title(*call), all.len());
        let folded = *call == TargetCall::Met;
        line(page, "");
        if folded {
            line(page, &format!("<details><summary>{heading}</summary>"));
        } else {
            line(page, &format!("### {heading}"));
        }
        line(page, "");
        page.push_str(TARGETS);
        for row in &shown {
            line(page, &aimed(row));
        }
        if all.len() > shown.len() {
            line(page, "");
            line(page, &format!("… and {} more; the JSON report has them all.", all.len() - shown.len()));
        }
        if folded {
            line(page, "");
            line(page, "</details>");
        }
    }
}

/// The head of a table of targets.
pub(super) const TARGETS: &str = "| Case | Target | Measured | Interval | Verdict |\n|:--|:--|--:|:-:|:--|\n";

/// One row of it.
pub(super) fn aimed(row: &TargetRow) -> String {
    let owner = row.owner.as_deref().map_or_else(String::new, |owner| format!(" (ask {})", code(owner)));
    let of = row.target.of.as_ref().map_or_else(String::new, |of| format!(" of {}", code(of.as_str())));
    let verdict = target::verdict(row);
    let verdict = if row.fails { format!("**{verdict}**") } else { verdict };
    format!(
        "| {}{owner} | {}{of} | {} | {} | {verdict}: {} |",
        code(row.case.as_str()),
        code(&target::wanted(row)),
        typographic(&prose(&target::measured(row))),
        target::ends(row).map_or_else(
            || "–".to_owned(),
            |ends| {
                let [lower, upper] = ends.map(|end| typographic(&prose(&end)));
                format!("[{lower}, {upper}]")
            }
        ),
        prose(&target::why(row))
    )
}

fn pictures(page: &mut String, report: &Report) {
    if report.base.is_empty() {
        return;
    }
    let pictures = plot::pictures(report);
    let image = |picture: &plot::Picture<'_>| format!("![{}]({}.svg)", prose(&picture.title), picture.stem);
    line(page, "");
    let mut rest = pictures.iter();
    if let Some(forest) = rest.next() {
        line(page, &image(forest));
    }
    let rest = rest.as_slice();
    if rest.is_empty() {
        return;
    }
    line(page, "");
    line(page, &format!("<details><summary>Launches of the flagged rows ({})</summary>", rest.len()));
    line(page, "");
    for (index, picture) in rest.iter().enumerate() {
        if index < SHOWN {
            line(page, &image(picture));
            line(page, "");
        } else {
            line(page, &format!("- [{}]({}.svg)", prose(&picture.title), picture.stem));
        }
    }
    line(page, "");
    line(page, "</details>");
}

pub(super) fn context(page: &mut String, report: &Report) {
    if report.context.is_empty() {
        return;
    }
    line(page, "");
    line(
        page,
        &format!("<details><summary>Metrics that are shown and not judged ({})</summary>", report.context.len()),
    );
    line(page, "");
    line(page, "| Case | Metric | Base | Head |");
    line(page, "|:--|:--|--:|--:|");
    for value in report.context.iter().take(FOLDED) {
        line(
            page,
            &format!(
                "| {} | {} | {} | {} |",
                code(value.case.as_str()),
                code(&value.metric.name),
                number(value.base, &value.metric),
                number(value.head, &value.metric)
            ),
        );
    }
    if report.context.len() > FOLDED {
        line(page, "");
        line(page, &format!("… and {} more; the JSON report has them all.", report.context.len() - FOLDED));
    }
    line(page, "");
    line(page, "</details>");
}

pub(super) fn method(page: &mut String, report: &Report) {
    line(page, "");
    line(page, "<details><summary>Machine and method</summary>");
    line(page, "");
    line(page, "| Fact | Value |");
    line(page, "|:--|:--|");
    let mut fact = |name: &str, value: &str| line(page, &format!("| {name} | {value} |"));
    fact("testbed", &code(&report.testbed.key));
    for (name, value) in &report.testbed.facts {
        fact(&code(name), &prose(value));
    }
    fact("toolchain", &prose(&report.head.toolchain));
    fact("command", &code(&report.head.command_line));
    fact("launches in head", &report.head.launches.to_string());
    fact("seed of the launch order", &report.head.seed.to_string());
    fact("head run", &code(&report.head.id.to_string()));
    for base in &report.base {
        fact("base run", &format!("{} {}", code(&base.id.to_string()), circumstances(base)));
    }
    for row in &report.reference {
        let change = row.change.map_or_else(|| "–".to_owned(), |change| typographic(&format::change(change)));
        fact(&format!("reference {}", code(row.case.as_str())), &change);
    }
    for row in &report.prices {
        fact("price", &prose(&format::price(row)));
    }
    if let Some(coverage) = group::coverage(report) {
        fact("intervals cover", &typographic(&coverage));
    }
    fact("regrade", &prose(&report.regrade_version));
    line(page, "");
    line(page, "</details>");
}

/// A heading with its first letter large.
fn capital(title: &str) -> String {
    let mut letters = title.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn run_table(page: &mut String, view: &RunView) {
    let shown = run::columns(&view.cases);
    let titles: Vec<String> = shown.iter().map(|column| capital(column.title)).collect();
    line(page, &format!("| Case | {} | Launches | Outcome |", titles.join(" | ")));
    line(page, &format!("|:--|{}--:|:--|", "--:|".repeat(shown.len())));
    for case in &view.cases {
        let values: Vec<String> = shown.iter().map(|column| typographic(&prose(&column.of(case)))).collect();
        let reason = case.outcome.reason.as_deref().map_or_else(String::new, |why| format!(": {}", prose(why)));
        let further =
            run::further(case, &shown).map_or_else(String::new, |further| format!("<br>{}", typographic(&further)));
        let (id, values) = (code(case.case.as_str()), values.join(" | "));
        line(page, &format!("| {id} | {values} | {} | {}{reason}{further} |", case.launches, case.outcome.kind));
    }
}
