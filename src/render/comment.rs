//! The comment on a pull request: the verdict in the first line, the worst next, everything else folded, and all of it
//! inside the size that a comment may have.
//!
//! What does not fit is shed in a stated order: metrics that are not judged, machine and method, rows that need no
//! attention, pictures, notes, rows that cannot fail, sentences. A row or a target that fails is never shed: where those
//! alone are too many, they go on in further comments. Must not know how a comment is posted.

use std::path::Path;

use crate::domain::{Call, TargetCall};
use crate::render::format::{self, typographic};
use crate::render::group::{self, Group};
use crate::render::markdown::{
    TARGETS, aimed, cautions, circumstances, code, context, is_folded, line, method, number, owner, prose, sign,
    targets,
};
use crate::render::text;
use crate::report::{Report, Row, Side};

/// Rows of a section that cannot fail CI.
const ROWS: usize = 30;
/// The same where space is short.
const FEW: usize = 5;
/// Bars of a chart.
const BARS: usize = 12;
/// Characters of a bar's name.
const NAME: usize = 32;
/// Characters left of a sentence where space is short.
const SENTENCE: usize = 120;

/// What the reports themselves do not know.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Title and address of each picture, of each report in turn; where there is none, a chart is drawn with text.
    pub pictures: Vec<(String, String)>,
    /// Where the whole report is.
    pub details_url: Option<String>,
    /// Measured from code that nobody here has reviewed.
    pub untrusted: bool,
}

/// How much is shown, from everything down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Detail {
    Everything,
    WithoutContext,
    WithoutMethod,
    WithoutQuietRows,
    WithoutPictures,
    WithoutNotes,
    FewRows,
    OnlyWhatFails,
}

impl Detail {
    const ALL: [Self; 8] = [
        Self::Everything,
        Self::WithoutContext,
        Self::WithoutMethod,
        Self::WithoutQuietRows,
        Self::WithoutPictures,
        Self::WithoutNotes,
        Self::FewRows,
        Self::OnlyWhatFails,
    ];
}

/// The comment in as few parts of at most `budget` characters as it takes: one, unless the failing rows alone are too many.
#[must_use]
pub fn parts(reports: &[Report], around: &Surroundings, budget: usize) -> Vec<String> {
    for detail in Detail::ALL {
        let page = page(reports, around, detail, None);
        if page.chars().count() <= budget {
            return vec![page];
        }
    }
    split(reports, around, budget)
}

/// The comment where there is no report.
#[must_use]
pub fn nothing(why: &str, around: &Surroundings) -> String {
    let log = around.details_url.as_ref().map_or_else(String::new, |url| format!(" [Its log]({url}) says why."));
    format!("## ⚠️ nothing was measured\n\nThere is no report to judge: {}.{log}", prose(why))
}

/// Parts that hold nothing but what fails.
fn split(reports: &[Report], around: &Surroundings, budget: usize) -> Vec<String> {
    let all: Vec<(usize, &Row)> = reports
        .iter()
        .enumerate()
        .flat_map(|(place, report)| report.rows.iter().filter(|row| row.fails).map(move |row| (place, row)))
        .collect();
    let missed = reports.iter().enumerate().flat_map(|(place, report)| {
        report.targets.iter().filter(|row| row.fails).map(move |row| (place, TARGETS.to_owned(), aimed(row)))
    });
    let rows = all.iter().map(|(place, row)| (*place, heading(false), compared(row, false)));
    let all: Vec<(usize, String, String)> = missed.chain(rows).collect();
    let mut parts = vec![page(reports, around, Detail::OnlyWhatFails, Some(all.len()))];
    let mut part = String::new();
    let mut table = String::new();
    for (place, heading, row) in all {
        // Another table has other columns, and a table's rows end where its part does.
        if part.chars().count() + row.chars().count() + 1 > budget || heading != table {
            parts.extend((!part.is_empty()).then(|| std::mem::take(&mut part)));
        }
        if part.is_empty() {
            part = format!("### What fails, part {} · {}\n\n{heading}", parts.len(), code(&reports[place].suite));
            table = heading;
        }
        line(&mut part, &row);
    }
    parts.extend((!part.is_empty()).then_some(part));
    parts
}

/// The whole comment; `elsewhere`: so many failing rows follow in other comments.
fn page(reports: &[Report], around: &Surroundings, detail: Detail, elsewhere: Option<usize>) -> String {
    let mut page = String::new();
    title(&mut page, reports, around.untrusted);
    if around.untrusted {
        line(
            &mut page,
            "\n> ⚠️ **Untrusted measurement**: the code that was measured comes from a fork, and what it reported may be made \
             up. It blesses nothing by itself.",
        );
    }
    let mut pictures = around.pictures.iter();
    let alone = reports.len() == 1;
    for report in reports {
        if !alone {
            line(&mut page, "");
            let open = if report.outcome.exit_code == 0 { "" } else { " open" };
            line(
                &mut page,
                &format!(
                    "<details{open}><summary>{} {} on {}: {}</summary>",
                    sign(report),
                    prose(&report.suite),
                    prose(&report.testbed.label()),
                    prose(&report.outcome.headline)
                ),
            );
        }
        line(&mut page, "");
        cautions(&mut page, report);
        line(&mut page, &session(report));
        if let Some(count) = elsewhere {
            line(&mut page, &format!("\n**{}; they follow.**", format::plural(count, "row fails", "rows fail")));
        } else {
            let room = match detail {
                Detail::OnlyWhatFails => 0,
                Detail::FewRows => FEW,
                _ => ROWS,
            };
            targets(&mut page, &report.targets, &[TargetCall::Missed], room);
            sections(&mut page, report, detail);
            let met = if detail >= Detail::WithoutQuietRows { 0 } else { room };
            targets(&mut page, &report.targets, &[TargetCall::Inconclusive], room);
            targets(&mut page, &report.targets, &[TargetCall::Met], met);
        }
        if detail < Detail::WithoutNotes {
            for note in &report.notes {
                line(&mut page, &format!("\n> {}", prose(note)));
            }
        }
        if detail < Detail::WithoutPictures {
            match pictures.next() {
                Some((title, url)) => line(&mut page, &format!("\n![{}]({url})", prose(title))),
                None => chart(&mut page, report),
            }
        }
        if detail < Detail::WithoutContext {
            context(&mut page, report);
        }
        if detail < Detail::WithoutMethod {
            method(&mut page, report);
        }
        reproduce(&mut page, report);
        if !alone {
            line(&mut page, "\n</details>");
        }
    }
    if let Some(url) = &around.details_url {
        line(&mut page, &format!("\n[The workflow run, with the whole report]({url})"));
    }
    page
}

/// The first line: what a person reads who reads one.
fn title(page: &mut String, reports: &[Report], untrusted: bool) {
    // Of several, one that fails speaks for all, then one that could not decide.
    let worst = |report: &&Report| match report.outcome.exit_code {
        1 => 5,
        4 => 4,
        3 => 3,
        0 => 0,
        _ => 2,
    };
    let Some(report) = reports.iter().rev().max_by_key(worst) else { return };
    let of = if reports.len() == 1 {
        String::new()
    } else {
        format!(" ({}, worst of {} suites)", prose(&report.suite), reports.len())
    };
    // Nothing that a stranger reports is as good as it looks.
    let sign = if untrusted && report.outcome.exit_code == 0 { "⚠️" } else { sign(report) };
    line(page, &format!("## {sign} {}{of}", prose(&report.outcome.headline)));
}

/// Machine, commits, what it took: two lines.
fn session(report: &Report) -> String {
    let against = match (&report.paired, report.base.as_slice()) {
        (Some(paired), _) => format!("{} against {}", prose(&paired.head), prose(&paired.base)),
        (None, []) => format!("{} against nothing", circumstances(&report.head)),
        (None, [newest]) => format!("{} against {}", circumstances(&report.head), circumstances(newest)),
        (None, [newest, ..]) => format!(
            "{} against {} runs, the newest {}",
            circumstances(&report.head),
            report.base.len(),
            circumstances(newest)
        ),
    };
    let took = report
        .head
        .finished
        .map_or_else(String::new, |end| format!(" in {}", format::elapsed(report.head.started, end)));
    let work = match &report.paired {
        Some(paired) => format!("{}{took}", group::paired(paired)),
        None => format!("{}{took}", format::plural(report.head.launches as usize, "launch", "launches")),
    };
    format!(
        "{against} · suite {}, fails from {} on · {}\n\n{work}.",
        code(&report.suite),
        report.gate,
        prose(&report.testbed.label())
    )
}

fn sections(page: &mut String, report: &Report, detail: Detail) {
    let mut hidden: Vec<String> = Vec::new();
    for group in Group::ALL {
        let rows = group::by_case(group.rows(report));
        let quiet = is_folded(group);
        let (must, may): (Vec<&Row>, Vec<&Row>) = rows.into_iter().partition(|row| row.fails);
        let room = match detail {
            Detail::OnlyWhatFails => 0,
            Detail::FewRows => FEW,
            _ => ROWS,
        };
        let room = if quiet && detail >= Detail::WithoutQuietRows { 0 } else { room };
        let left_out = may.len().saturating_sub(room);
        let shown: Vec<&Row> = must.into_iter().chain(may.into_iter().take(room)).collect();
        if left_out > 0 {
            hidden.push(format!("{} {left_out}", group.title().to_lowercase()));
        }
        if shown.is_empty() {
            continue;
        }
        let heading_text = format!("{} ({})", group.title(), shown.len() + left_out);
        line(page, "");
        if quiet {
            line(page, &format!("<details><summary>{heading_text}</summary>"));
        } else {
            line(page, &format!("### {heading_text}"));
        }
        line(page, "");
        let sentences = match detail {
            Detail::OnlyWhatFails => Some(0),
            Detail::FewRows => Some(SENTENCE),
            _ => None,
        };
        let detectable = detail < Detail::FewRows && shown.iter().any(|row| row.smallest_detectable.is_some());
        page.push_str(&heading(detectable));
        for row in &shown {
            line(page, &compared(row, detectable));
        }
        reasons(page, &shown, sentences);
        if quiet {
            line(page, "\n</details>");
        }
    }
    if !hidden.is_empty() {
        line(page, &format!("\nNot shown here, and in the whole report: {}.", hidden.join(", ")));
    }
}

/// Sentences beneath a table, in which they would make tall columns of a few letters.
fn reasons(page: &mut String, rows: &[&Row], most: Option<usize>) {
    let tells = |row: &&&Row| {
        let group = Group::of(row);
        most != Some(0) && group::tells_why(row, group) && (row.fails || group.wants_reason())
    };
    let mut first = true;
    for row in rows.iter().filter(tells) {
        if std::mem::take(&mut first) {
            line(page, "");
        }
        let mut reason = group::reason(row);
        if let Some(most) = most.filter(|most| reason.chars().count() > *most) {
            reason = reason.chars().take(most).chain(['…']).collect();
        }
        let who = if row.fails { owner(row) } else { String::new() };
        line(page, &format!("- {} {}{who}: {}", code(row.case.as_str()), code(&row.metric.name), prose(&reason)));
    }
}

fn heading(detectable: bool) -> String {
    let (name, rule) = if detectable { (" Detectable |", "--:|") } else { ("", "") };
    format!(
        "| Case | Metric | Base | Head | Change | Interval |{name} Verdict |\n|:--|:--|--:|--:|--:|:-:|{rule}:--|\n"
    )
}

fn compared(row: &Row, detectable: bool) -> String {
    let side = |side: &Option<Side>| number(side.as_ref().map(|side| side.value), &row.metric);
    let estimate = row.verdict.estimate.as_ref();
    let change = estimate.map_or_else(|| "–".to_owned(), |estimate| typographic(&format::change(estimate.change)));
    let change = if row.fails { format!("**{change}**") } else { change };
    let interval = estimate.map_or_else(|| "–".to_owned(), |estimate| typographic(&format::interval(estimate)));
    let smallest = if detectable {
        let share = row.smallest_detectable.map_or_else(|| "–".to_owned(), |share| typographic(&format::share(share)));
        format!(" {share} |")
    } else {
        String::new()
    };
    let word = if row.verdict.call == Call::NotComparable {
        Group::of(row).title().to_lowercase()
    } else {
        format!("{} {}", row.verdict.call, group::severity(row)).trim_end().to_owned()
    };
    let mut verdict = if row.fails { format!("**{word}, fails**") } else { word };
    if !row.fails && row.gating {
        verdict += ", gating";
    }
    if row.verdict.provisional {
        verdict += ", provisional";
    }
    format!(
        "| {} | {} | {} | {} | {change} | {interval} |{smallest} {verdict} |",
        code(row.case.as_str()),
        code(&row.metric.name),
        side(&row.base),
        side(&row.head)
    )
}

/// The flagged changes as a chart in text, for where no picture can be linked. The tables above say the same.
fn chart(page: &mut String, report: &Report) {
    let flagged: Vec<(String, f64)> = report
        .rows
        .iter()
        .filter(|row| matches!(Group::of(row), Group::Regressed | Group::Improved | Group::Waived | Group::Inherited))
        .filter_map(|row| {
            let percent = 100.0 * row.verdict.estimate?.change;
            percent.is_finite().then(|| (bar_name(row), percent))
        })
        .take(BARS)
        .collect();
    if flagged.is_empty() {
        return;
    }
    let names: Vec<String> = flagged.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    let bars: Vec<String> = flagged.iter().map(|(_, percent)| format!("{percent:.1}")).collect();
    let (low, high) = flagged.iter().fold((0.0_f64, 0.0_f64), |(low, high), (_, p)| (low.min(*p), high.max(*p)));
    line(
        page,
        &format!(
            "\n```mermaid\nxychart-beta horizontal\n    title \"Change of head against base, percent\"\n    x-axis [{}]\n    \
             y-axis \"percent\" {:.0} --> {:.0}\n    bar [{}]\n```",
            names.join(", "),
            (1.1 * low).floor(),
            (1.1 * high).ceil(),
            bars.join(", ")
        ),
    );
}

/// A name that no chart's grammar can read as anything else.
fn bar_name(row: &Row) -> String {
    let plain: String = text::clean(&format!("{} {}", row.case, row.metric.name))
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, ' ' | '.' | '-' | '/' | '=') { c } else { '_' })
        .collect();
    if plain.len() > NAME { format!("{}..", &plain[..NAME - 2]) } else { plain }
}

/// The command that measures the same on one's own machine.
fn reproduce(page: &mut String, report: &Report) {
    let commits = match &report.paired {
        Some(paired) => Some((paired.base_commit.clone(), paired.head_commit.clone())),
        None => report.base.first().and_then(|base| base.commit.clone()).zip(report.head.commit.clone()),
    };
    let Some((base, head)) = commits else { return };
    let safe = |hash: &str| hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    let words = report.head.command_line.split_whitespace();
    let suite = words.filter(|word| Path::new(word).extension().is_some_and(|end| end == "toml")).find(|word| {
        word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'-' | b'_'))
    });
    if safe(&base) && safe(&head) {
        let suite = suite.map_or_else(String::new, |suite| format!("{suite} "));
        let short = |hash: &str| hash.get(..10).unwrap_or(hash).to_owned();
        line(page, &format!("\nThe same on your machine: `regrade compare {suite}{}..{}`", short(&base), short(&head)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{CaseId, Reason, Severity};
    use crate::report::TargetRow;

    fn example() -> Report {
        serde_json::from_str(include_str!("../../tests/fixtures/report.json")).expect("the committed report")
    }

    /// A report of this many cases, of which the first `failing` fail.
    fn large(cases: usize, failing: usize) -> Report {
        let mut report = example();
        let mut row = report.rows[0].clone();
        row.verdict.call = Call::Unchanged;
        row.verdict.severity = Severity::None;
        row.fails = false;
        report.rows = (0..cases)
            .map(|number| {
                let mut row = row.clone();
                row.case =
                    CaseId::from(format!("a-benchmark-with-a-long-name/batch={number}/precision=bf16@nvidia").as_str());
                if number < failing {
                    row.fails = true;
                    row.verdict.call = Call::Regressed;
                    row.verdict.severity = Severity::Severe;
                    row.verdict.reason = Reason::Established;
                    row.verdict.note = "worse by at least 12.3 %, in 12 fresh pairs of base and head".repeat(5);
                }
                row
            })
            .collect();
        report
    }

    #[test]
    fn the_verdict_is_the_first_line() {
        let report = example();
        let parts = parts(std::slice::from_ref(&report), &Surroundings::default(), 60_000);
        assert_eq!(parts.len(), 1);
        let first = parts[0].lines().next().expect("a line");
        assert!(first.starts_with("## ") && first.contains(sign(&report)), "{first}");
    }

    #[test]
    fn two_thousand_cases_fit_and_no_failing_row_is_shed() {
        for failing in [0, 1, 40, 300, 2000] {
            let report = large(2000, failing);
            let parts = parts(std::slice::from_ref(&report), &Surroundings::default(), 60_000);
            assert!(parts.iter().all(|part| part.chars().count() <= 60_000));
            let text = parts.join("\n");
            for number in 0..failing {
                assert!(text.contains(&format!("/batch={number}/")), "{number} of {failing}");
            }
            assert!(failing > 300 || parts.len() == 1, "{} parts for {failing}", parts.len());
        }
    }

    /// A target that is missed, with a long word about it.
    fn missed(number: usize) -> TargetRow {
        serde_json::from_value(serde_json::json!({
            "case": format!("aims/number={number}@nvidia"), "benchmark": "aims",
            "target": {
                "that": "latency <= 2 ms", "metric": "latency", "comparison": "at_most", "value": 0.002,
                "required": true, "source": "@ada <img> ".repeat(20),
            },
            "metric": { "name": "latency", "unit": "s" },
            "head": null, "fails": true,
            "verdict": {
                "call": "missed", "reason": "established", "note": "3.4 % off the goal",
                "reading": { "value": 0.0021, "lower": 0.00205, "upper": 0.00212, "confidence": 0.95 },
            },
        }))
        .expect("a target")
    }

    #[test]
    fn no_missed_target_is_shed_however_little_room_there_is() {
        for (rows, targets) in [(0, 1), (300, 40), (2000, 300)] {
            let mut report = large(2000, rows);
            report.targets = (0..targets).map(missed).collect();
            let mut met = missed(9999);
            (met.verdict.call, met.fails) = (TargetCall::Met, false);
            report.targets.push(met);
            let parts = parts(std::slice::from_ref(&report), &Surroundings::default(), 60_000);
            assert!(parts.iter().all(|part| part.chars().count() <= 60_000));
            let text = parts.join("\n");
            for number in 0..targets {
                assert!(text.contains(&format!("aims/number={number}@")), "{number} of {targets}");
            }
            assert!(!text.contains("<img") && !text.contains("@ada"));
            // Rows of the two tables never get under the other's head.
            for part in parts.iter().skip(1) {
                assert!(!(part.contains("aims/") && part.contains("/batch=")), "{part}");
            }
        }
    }

    #[test]
    fn of_several_suites_the_one_that_fails_speaks_first() {
        let mut quiet = example();
        quiet.outcome.exit_code = 0;
        quiet.outcome.headline = "no regression".to_owned();
        let mut loud = large(3, 1);
        loud.outcome.exit_code = 1;
        loud.outcome.headline = "1 regression fails".to_owned();
        let text = parts(&[quiet, loud], &Surroundings::default(), 60_000).remove(0);
        assert!(text.starts_with("## ❌ 1 regression fails"), "{text}");
        assert_eq!(text.matches("<details open>").count(), 1, "only the one that fails is open");
        assert_eq!(text.matches("<details").count(), text.matches("</details>").count());
    }

    #[test]
    fn what_comes_from_data_can_neither_call_nor_draw() {
        let mut report = large(2, 2);
        report.rows[0].case = "x`|</details>@ada #1 <img src=x> ```mermaid \"]\n::error::".into();
        report.rows[0].verdict.note =
            "@ada fixes #12 <!-- regrade:regrade:0 --> [a](javascript:x) ![](http://x)".to_owned();
        let text = parts(std::slice::from_ref(&report), &Surroundings::default(), 60_000).remove(0);
        for bad in ["@ada", "<img", "<!--", "](javascript", "![](", "\n::error"] {
            assert!(!text.contains(bad), "{bad} in {text}");
        }
        let chart = text.split("```mermaid\n").nth(1).and_then(|rest| rest.split("\n```").next()).expect("a chart");
        assert_eq!(chart.lines().count(), 5, "{chart}");
        assert_eq!(chart.matches('"').count(), 2 + 2 * 2 + 2, "{chart}");
    }

    #[test]
    fn pictures_take_the_place_of_the_chart() {
        let report = large(2, 1);
        let pictures = vec![("plots".to_owned(), "https://host/raw/c0ffee/plots/a.png".to_owned())];
        let around = Surroundings { pictures, untrusted: true, ..Surroundings::default() };
        let text = parts(std::slice::from_ref(&report), &around, 60_000).remove(0);
        assert!(text.contains("(https://host/raw/c0ffee/plots/a.png)") && !text.contains("mermaid"));
        assert!(text.contains("Untrusted measurement"));
    }
}
