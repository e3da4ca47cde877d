//! The forest plot: one line a judged metric, worst first, its change with the interval against the limits.
//!
//! Must not know of samples, and decides nothing.

use crate::domain::{Call, Direction, Severity, Thresholds};
use crate::render::format::{self, typographic};
use crate::render::group::{self, Group};
use crate::render::plot::axis::Axis;
use crate::render::plot::font;
use crate::render::plot::palette::{self, BLACK, GREY, LIGHT, STRIPE, VERMILLION, WHITE};
use crate::render::plot::scene::{Anchor, Scene, Type};
use crate::render::plot::verdict_words;
use crate::render::text;
use crate::report::{Report, Row};

/// Rows shown at most.
const ROWS: usize = 40;
const WIDTH: f64 = 900.0;
const MARGIN: f64 = 16.0;
/// The plot proper lies between labels and numbers.
const PLOT: (f64, f64) = (346.0, 690.0);
const ROW: f64 = 24.0;
const EM: f64 = 12.5;
/// Changes up to here share a linear axis without squashing 3 %.
const LINEAR: f64 = 0.4;
/// On the bent axis changes up to about this size are spread linearly.
const BEND: f64 = 0.05;

/// What the names on the left say: only what tells the rows apart, when whole names have no room.
struct Labels {
    /// The metric of all rows, if it is one.
    metric: Option<String>,
    /// Axis values and backend that all cases share; empty when whole names fit.
    common: Vec<String>,
}

impl Labels {
    fn of(rows: &[&Row]) -> Self {
        let first = rows[0];
        let one = rows.iter().all(|row| row.metric.name == first.metric.name);
        let mut labels = Self { metric: one.then(|| text::clean(&first.metric.name)), common: Vec::new() };
        let longest = |labels: &Self| {
            let widths = rows.iter().map(|row| font::width(&labels.case_of(row), EM, false));
            widths.fold(0.0, f64::max)
        };
        let metrics = rows.iter().map(|row| font::width(&labels.metric_of(row), 12.0, false)).fold(0.0, f64::max);
        let alike = rows.iter().all(|row| row.case == first.case);
        if longest(&labels) > PLOT.0 - MARGIN - 24.0 - metrics && !alike {
            let (_, parts) = parts(first.case.as_str());
            let shared = |part: &&str| rows.iter().all(|row| self::parts(row.case.as_str()).1.contains(part));
            labels.common = parts.into_iter().filter(shared).map(text::clean).collect();
        }
        labels
    }

    fn metric_of(&self, row: &Row) -> String {
        match self.metric {
            Some(_) => String::new(),
            None => text::shorten(&text::clean(&row.metric.name), 14),
        }
    }

    fn case_of(&self, row: &Row) -> String {
        let (benchmark, parts) = parts(row.case.as_str());
        let mut name = text::clean(benchmark);
        for part in parts.into_iter().map(text::clean).filter(|part| !self.common.contains(part)) {
            name.push_str(if part.starts_with('@') { "" } else { "/" });
            name.push_str(&part);
        }
        name
    }
}

/// A case id as its benchmark and its axis values, the backend last: `batch=8`, `@cpu`.
fn parts(id: &str) -> (&str, Vec<&str>) {
    let (path, backend) = id.rfind('@').map_or((id, ""), |at| id.split_at(at));
    let mut parts = path.split('/');
    let benchmark = parts.next().unwrap_or(path);
    (benchmark, parts.chain(Some(backend)).filter(|part| !part.is_empty()).collect())
}

fn set(em: f64, anchor: Anchor) -> Type {
    Type { em, bold: false, ink: BLACK, anchor }
}

/// Lays the plot out.
pub fn scene(report: &Report) -> Scene {
    let drawn = |row: &&Row| {
        row.verdict.estimate.is_some_and(|estimate| estimate.change.is_finite())
            || matches!(Group::of(row), Group::Failed | Group::Missing)
    };
    let all: Vec<&Row> = report.rows.iter().filter(drawn).collect();
    let rows = &all[..all.len().min(ROWS)];
    if rows.is_empty() {
        return empty(report);
    }
    let axis = axis(rows);
    let top = if report.head.synthetic.is_some() { 92.0 } else { 72.0 };
    let bottom = top + ROW * rows.len() as f64;
    let labels = Labels::of(rows);
    let notes = notes(report, &all, rows, &axis, &labels);
    let mut scene = Scene::new(WIDTH, bottom + 88.0 + 18.0 * notes.len() as f64, WHITE);
    heading(&mut scene, report, labels.metric.as_deref());
    bands(&mut scene, rows, &axis, top);
    grid(&mut scene, &axis, top, bottom, rows);
    for (index, row) in rows.iter().enumerate() {
        draw_row(&mut scene, row, &labels, &axis, top + ROW * (index as f64 + 0.5));
    }
    legend(&mut scene, bottom + 62.0);
    for (index, note) in notes.iter().enumerate() {
        let font = Type { ink: GREY, ..set(12.0, Anchor::Left) };
        scene.text(MARGIN, bottom + 88.0 + 18.0 * index as f64, note.as_str(), font);
    }
    scene
}

fn heading(scene: &mut Scene, report: &Report, metric: Option<&str>) {
    let title = Type { bold: true, ..set(16.0, Anchor::Left) };
    let room = WIDTH - 2.0 * MARGIN;
    let of = metric.map_or_else(String::new, |metric| format!(" of {metric}"));
    let line = format!("{}: change{of}, head against base", report.suite);
    scene.text(MARGIN, 28.0, font::fit(&line, 16.0, true, room), title);
    let commit =
        |hash: &Option<String>| hash.as_deref().map_or("no commit", |hash| hash.get(..10).unwrap_or(hash)).to_owned();
    let base = match report.base.as_slice() {
        [] => "no base".to_owned(),
        [newest, ..] => {
            let runs = format::plural(report.base.len(), "run", "runs");
            format!("base {} ({runs})", commit(&newest.commit))
        }
    };
    let dirty = if report.head.dirty { " with uncommitted changes" } else { "" };
    let line = format!("head {}{dirty} · {base} · {}", commit(&report.head.commit), report.testbed.label());
    let grey = Type { ink: GREY, ..set(12.5, Anchor::Left) };
    scene.text(MARGIN, 48.0, font::fit(&line, 12.5, false, room), grey);
    if let Some(what) = &report.head.synthetic {
        let loud = Type { bold: true, ink: VERMILLION, ..grey };
        let line = format!("SYNTHETIC, not the workloads as written: {what}");
        scene.text(MARGIN, 68.0, font::fit(&line, 12.5, true, room), loud);
    }
}

/// An axis that shows every point, and the intervals but for the widest tenth.
fn axis(rows: &[&Row]) -> Axis {
    let estimates: Vec<_> = rows.iter().filter_map(|row| row.verdict.estimate).collect();
    let end = |sign: f64, bound: &dyn Fn(&crate::domain::Estimate) -> Option<f64>| {
        let mut ends: Vec<f64> =
            estimates.iter().filter_map(bound).filter(|end| end.is_finite()).map(|end| end * sign).collect();
        ends.sort_by(f64::total_cmp);
        let point = estimates
            .iter()
            .map(|estimate| estimate.change * sign)
            .filter(|change| change.is_finite())
            .fold(0.0, f64::max);
        let usual = ends.get(ends.len().saturating_sub(1) * 9 / 10).copied().unwrap_or(0.0);
        let widest = ends.last().copied().unwrap_or(0.0);
        // The widest intervals are cut where they would take more than a third from the others.
        let usual = if widest <= 1.5 * usual.max(point) { widest } else { usual };
        // At least a little more than the moderate limit, so that the bands give the scale.
        (point * 1.12).max(usual * 1.05).max(0.065)
    };
    let high = end(1.0, &|estimate| estimate.upper);
    let low = end(-1.0, &|estimate| estimate.lower).min(0.995);
    Axis { range: (-low, high), pixels: PLOT, linear_up_to: (low.max(high) > LINEAR).then_some(BEND) }
}

/// The change at which a severity begins, up and down: limits are equal on the log scale (STATISTICS.md section 2).
fn limits(thresholds: &Thresholds, severity: Severity) -> (f64, f64) {
    let up = thresholds.of(severity);
    (1.0 / (1.0 + up) - 1.0, up)
}

fn bands(scene: &mut Scene, rows: &[&Row], axis: &Axis, top: f64) {
    for (index, row) in rows.iter().enumerate() {
        let (y0, y1) = (top + ROW * index as f64, top + ROW * (index as f64 + 1.0));
        if row.metric.direction != Direction::Unknown {
            let more_is_worse = row.metric.direction == Direction::LowerIsBetter;
            let steps = [Severity::Minor, Severity::Moderate, Severity::Severe];
            for (step, severity) in steps.iter().enumerate() {
                let (down, up) = limits(&row.thresholds, *severity);
                let next = steps.get(step + 1).map(|next| limits(&row.thresholds, *next));
                let (next_down, next_up) = next.unwrap_or(axis.range);
                let right = (axis.at(up), axis.at(next_up));
                let left = (axis.at(next_down), axis.at(down));
                for ((x0, x1), worse) in [(right, more_is_worse), (left, !more_is_worse)] {
                    if x1 > x0 {
                        scene.rect(x0, y0, x1, y1, palette::band(*severity, worse));
                    }
                }
            }
        }
        if index % 2 == 1 {
            scene.rect(MARGIN / 2.0, y0, WIDTH - MARGIN / 2.0, y1, STRIPE);
        }
    }
}

fn grid(scene: &mut Scene, axis: &Axis, top: f64, bottom: f64, rows: &[&Row]) {
    let label = Type { ink: GREY, ..set(12.0, Anchor::Middle) };
    for tick in axis.ticks(0.01, 54.0) {
        let x = axis.at(tick);
        let (ink, width) = if tick == 0.0 { (BLACK, 1.2) } else { (LIGHT, 0.75) };
        scene.line((x, top), (x, bottom + 5.0), ink, width);
        let percent = (tick * 1e4).round() / 100.0;
        let sign = if percent > 0.0 { "+" } else { "" };
        scene.text(x, bottom + 19.0, typographic(&format!("{sign}{percent} %")), label);
    }
    scene.line((PLOT.0, bottom), (PLOT.1, bottom), GREY, 1.0);
    let all = |direction| rows.iter().all(|row| row.metric.direction == direction);
    let (left, right) = if all(Direction::LowerIsBetter) {
        ("better", "worse")
    } else if all(Direction::HigherIsBetter) {
        ("worse", "better")
    } else {
        return;
    };
    scene.text(PLOT.0, bottom + 36.0, format!("← {left}"), Type { anchor: Anchor::Left, ..label });
    scene.text(PLOT.1, bottom + 36.0, format!("{right} →"), Type { anchor: Anchor::Right, ..label });
}

fn draw_row(scene: &mut Scene, row: &Row, labels: &Labels, axis: &Axis, y: f64) {
    let base = y + 4.5;
    let metric = labels.metric_of(row);
    let room = PLOT.0 - MARGIN - 14.0 - font::width(&metric, 12.0, false) - 10.0;
    let right = Type { ink: GREY, ..set(12.0, Anchor::Right) };
    scene.text(MARGIN, base, font::fit(&labels.case_of(row), EM, false, room), set(EM, Anchor::Left));
    scene.text(PLOT.0 - 14.0, base, metric, right);
    let numbers = PLOT.1 + 14.0;
    let heavy = Type { bold: true, ink: palette::text_of(row), ..set(EM, Anchor::Left) };
    let Some(estimate) = row.verdict.estimate else {
        scene.text(numbers, base, verdict_words(row), heavy);
        return;
    };
    let (lower, upper) = (estimate.lower.unwrap_or(f64::NEG_INFINITY), estimate.upper.unwrap_or(f64::INFINITY));
    let ink = match row.verdict.call {
        Call::Unchanged => GREY,
        _ => BLACK,
    };
    scene.line((axis.at(lower), y), (axis.at(upper), y), ink, 1.75);
    for (bound, sign) in [(lower, -1.0), (upper, 1.0)] {
        let x = axis.at(bound);
        if axis.holds(bound) {
            scene.line((x, y - 4.0), (x, y + 4.0), ink, 1.5);
        } else {
            scene.fill(vec![(x + sign * 7.0, y), (x, y - 5.0), (x, y + 5.0)], ink);
        }
    }
    let verdict = &row.verdict;
    palette::marker(scene, (axis.at(estimate.change), y), verdict.call, verdict.severity, verdict.provisional);
    scene.text(numbers, base, typographic(&format::change(estimate.change)), heavy);
    let interval = typographic(&format::interval(&estimate)).replace("\u{a0}%", "");
    scene.text(WIDTH - MARGIN, base, interval, right);
}

/// What the eye cannot see in the picture.
fn notes(report: &Report, all: &[&Row], rows: &[&Row], axis: &Axis, labels: &Labels) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(coverage) = group::coverage(report) {
        let bars = format!("Bars: intervals that cover {coverage}.");
        let scale =
            if axis.linear_up_to.is_some() { " The axis is linear near zero and logarithmic further out." } else { "" };
        let cut = rows.iter().filter_map(|row| row.verdict.estimate).any(|estimate| {
            !estimate.lower.is_some_and(|bound| axis.holds(bound))
                || !estimate.upper.is_some_and(|bound| axis.holds(bound))
        });
        let cut = if cut { " An arrow head: the interval goes on." } else { "" };
        notes.push(bars + scale + cut);
    }
    if all.len() > rows.len() {
        let left = format::plural(all.len() - rows.len(), "metric is", "metrics are");
        notes.push(format!("{left} not shown: the {} worst are.", rows.len()));
    }
    if !labels.common.is_empty() {
        let parts = labels.common.join(" ");
        let line = format!("Every case has {parts}, left out of the names.");
        notes.push(font::fit(&line, 12.0, false, WIDTH - 2.0 * MARGIN));
    }
    let without = report.rows.len() - all.len();
    if without > 0 {
        let left = format::plural(without, "metric has", "metrics have");
        notes.push(format!("{left} no change to show: new, skipped, or not comparable."));
    }
    notes
}

fn legend(scene: &mut Scene, y: f64) {
    let entries = [
        (Call::Regressed, Severity::Severe, false, "severe"),
        (Call::Regressed, Severity::Moderate, false, "moderate"),
        (Call::Regressed, Severity::Minor, false, "minor"),
        (Call::Improved, Severity::Moderate, false, "improved"),
        (Call::Inconclusive, Severity::None, false, "inconclusive"),
        (Call::Unchanged, Severity::None, false, "unchanged"),
        (Call::Regressed, Severity::Severe, true, "hollow: provisional"),
    ];
    let mut x = MARGIN + 7.0;
    for (call, severity, hollow, word) in entries {
        palette::marker(scene, (x, y), call, severity, hollow);
        scene.text(x + 13.0, y + 4.5, word, set(12.0, Anchor::Left));
        x += 13.0 + font::width(word, 12.0, false) + 20.0;
    }
    for (severity, worse) in [(Severity::Minor, true), (Severity::Moderate, true), (Severity::Severe, true)] {
        scene.rect(x - 7.0, y - 7.0, x + 7.0, y + 7.0, palette::band(severity, worse));
        x += 14.0;
    }
    scene.text(x, y + 4.5, "limits", set(12.0, Anchor::Left));
}

/// A picture that says why there is none.
fn empty(report: &Report) -> Scene {
    let mut scene = Scene::new(WIDTH, 96.0, WHITE);
    heading(&mut scene, report, None);
    let line = font::fit("Nothing to compare: no case has numbers on both sides.", 13.0, false, WIDTH - 2.0 * MARGIN);
    scene.text(MARGIN, 86.0, line, set(13.0, Anchor::Left));
    scene
}
