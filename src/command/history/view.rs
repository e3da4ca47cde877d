//! What `history` says, as data for JSON and as text for people. Must not know the store's inside, and decides nothing.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Color, Style as Paint};
use jiff::Timestamp;
use serde::Serialize;

use crate::command::accepted::{NAMED, Stored, range, short};
use crate::command::git::{self, Suspect};
use crate::domain::{Acceptance, CaseId, Estimate, Metric, Run, RunId};
use crate::render::{Style, format, trend};
use crate::verdict::chronicle::Series;
use crate::verdict::shifts::State;

/// Version of the JSON object.
const VERSION: u32 = 1;
/// Sessions in a sparkline.
const SPARKS: usize = 60;

/// All of `history`.
#[derive(Debug, Serialize)]
pub struct Chronicle {
    version: u32,
    suite: String,
    testbed: String,
    machine: String,
    /// Absent: sessions of every branch, for lack of any on the base branch.
    branch: Option<String>,
    sessions: usize,
    series: Vec<SeriesView>,
}

#[derive(Debug, Serialize)]
struct SeriesView {
    case: CaseId,
    metric: Metric,
    gating: bool,
    /// The oldest first.
    values: Vec<ValueView>,
    levels: Vec<LevelView>,
    shifts: Vec<ShiftView>,
    /// The newest sessions against the first ones of the accepted level.
    since_anchor: Option<Estimate>,
    /// The drift since the anchor is a pending shift of its own.
    creeping: bool,
    accepted: Vec<Acceptance>,
}

#[derive(Debug, Serialize)]
struct ValueView {
    run: RunId,
    commit: Option<String>,
    started: Timestamp,
    value: f64,
}

#[derive(Debug, Serialize)]
struct LevelView {
    /// Its first value, from 0.
    first: usize,
    sessions: usize,
    value: f64,
    since: Timestamp,
    change: Option<Estimate>,
    charged: Option<Charged>,
}

#[derive(Debug, Serialize)]
struct ShiftView {
    first: usize,
    since: Timestamp,
    /// `pending`, `went-away`, `ended` or `accepted`.
    state: &'static str,
    change: Estimate,
    charged: Charged,
    /// What accepted it, where a person did.
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted_by: Option<String>,
}

/// The commits that may have brought a change.
#[derive(Debug, Serialize)]
struct Charged {
    /// Measured without it; the commits after this one are meant.
    after: Option<String>,
    /// The first that was measured with it.
    up_to: Option<String>,
    /// Of the range, as far as git knows them here, the newest first.
    commits: Vec<Suspect>,
}

impl Charged {
    fn new(before: &Run, first: &Run) -> Self {
        let commits =
            first.commit.as_deref().map(|to| git::commits(before.commit.as_deref(), to, NAMED)).unwrap_or_default();
        Self { after: before.commit.clone(), up_to: first.commit.clone(), commits }
    }

    fn words(&self) -> String {
        range(self.after.as_deref(), self.up_to.as_deref())
    }
}

impl SeriesView {
    fn new(one: &Series, runs: &[Run]) -> Self {
        let run = |at: usize| &runs[one.points[at].session];
        let charged = |before: usize, first: usize| Charged::new(run(before), run(first));
        Self {
            case: one.case.clone(),
            metric: one.metric.clone(),
            gating: one.gating,
            values: one
                .points
                .iter()
                .map(|point| {
                    let run = &runs[point.session];
                    ValueView { run: run.id, commit: run.commit.clone(), started: run.started, value: point.value }
                })
                .collect(),
            levels: one
                .levels
                .iter()
                .map(|level| LevelView {
                    first: level.first,
                    sessions: level.sessions,
                    value: level.value,
                    since: run(level.first).started,
                    change: level.change,
                    charged: level.first.checked_sub(1).map(|before| charged(before, level.first)),
                })
                .collect(),
            shifts: one
                .trace
                .shifts
                .iter()
                .map(|shift| ShiftView {
                    first: shift.first,
                    since: run(shift.first).started,
                    state: match shift.state {
                        State::Pending => "pending",
                        State::WentAway => "went-away",
                        State::Ended(_) => "ended",
                        State::Accepted(_) => "accepted",
                    },
                    change: one.change(shift),
                    charged: charged(shift.before, shift.first),
                    accepted_by: match shift.state {
                        State::Accepted(Some(at)) => {
                            let by = &one.accepted[at];
                            Some(format!("{}: {}", by.who, by.reason))
                        }
                        _ => None,
                    },
                })
                .collect(),
            since_anchor: one.drift(),
            creeping: one.trace.drift.as_ref().is_some_and(|drift| drift.creeping),
            accepted: one.accepted.clone(),
        }
    }

    fn text(&self, page: &mut Page, suite: &str) {
        let newest = self.values.last().map(|value| value.value);
        page.line(
            Paint::new().bold(),
            &format!("{} {}", format::line(self.case.as_str()), format::line(&self.metric.name)),
        );
        page.plain(&format!(
            "  {}  {}, the newest {}",
            sparkline(&self.values),
            format::plural(self.values.len(), "session", "sessions"),
            format::optional(newest, &self.metric)
        ));
        for level in &self.levels {
            let change = level.change.as_ref().zip(level.charged.as_ref()).map_or_else(String::new, |(change, by)| {
                format!(": {} {}, {}", format::change(change.change), format::interval(change), by.words())
            });
            page.plain(&format!(
                "  level {} over {} from {}{change}",
                format::value(level.value, &self.metric),
                format::plural(level.sessions, "session", "sessions"),
                format::moment(level.since)
            ));
            page.suspects(level.charged.as_ref());
        }
        for shift in &self.shifts {
            let what = format!(
                "{} {} since {}, {}",
                format::change(shift.change.change),
                format::interval(&shift.change),
                format::moment(shift.since),
                shift.charged.words()
            );
            match (shift.state, &shift.accepted_by) {
                ("pending", _) => {
                    page.line(paint(AnsiColor::Yellow).bold(), &format!("  pending shift: {what}"));
                    page.suspects(Some(&shift.charged));
                    page.plain(&format!(
                        "    to accept it: regrade accept '{}' --metric {} --suite '{suite}' --reason '…'",
                        self.case, self.metric.name
                    ));
                }
                ("accepted", Some(by)) => page.plain(&format!("  accepted shift: {what}, by {}", format::line(by))),
                ("accepted", None) => page.line(paint(AnsiColor::Green), &format!("  lasting improvement: {what}")),
                (state, _) => page.line(Paint::new().dimmed(), &format!("  {state}: {what}")),
            }
        }
        if let Some(drift) = &self.since_anchor {
            let line = format!(
                "  against the first sessions of this level: {} {}",
                format::change(drift.change),
                format::interval(drift)
            );
            if self.creeping {
                page.line(paint(AnsiColor::Yellow).bold(), &format!("{line}: pending shift (creep)"));
            } else {
                page.plain(&line);
            }
        }
        for accepted in &self.accepted {
            let until = accepted.until.map_or_else(String::new, |until| format!(" until {}", format::moment(until)));
            page.plain(&format!(
                "  accepted on {}{until}: {} by {}: {}",
                format::moment(accepted.since),
                format::change(accepted.change),
                format::line(&accepted.who),
                format::line(&accepted.reason)
            ));
        }
        page.plain("");
    }
}

impl Chronicle {
    /// Of what is stored.
    pub fn new(stored: &Stored, series: &[Series]) -> Self {
        Self {
            version: VERSION,
            suite: stored.suite.clone(),
            testbed: stored.runs[0].testbed.key.clone(),
            machine: stored.runs[0].testbed.label(),
            branch: stored.branch.clone(),
            sessions: stored.runs.len(),
            series: series.iter().map(|one| SeriesView::new(one, &stored.runs)).collect(),
        }
    }

    /// For people.
    pub fn text(&self, style: Style) -> String {
        let mut page = Page { text: String::new(), colour: style.colour };
        page.plain(&format!(
            "{} on {} [{}], {}: {}",
            format::line(&self.suite),
            format::line(&self.machine),
            self.testbed,
            self.branch.as_deref().map_or_else(|| "every branch".to_owned(), format::line),
            format::plural(self.sessions, "session", "sessions")
        ));
        page.plain("");
        for one in &self.series {
            one.text(&mut page, &self.suite);
        }
        let pending = |one: &&SeriesView| one.creeping || one.shifts.iter().any(|shift| shift.state == "pending");
        let count = self.series.iter().filter(pending).count();
        let (paint, words) = match count {
            0 => (paint(AnsiColor::Green).bold(), "nothing is pending".to_owned()),
            n => {
                (paint(AnsiColor::Yellow).bold(), format!("{} pending", format::plural(n, "metric is", "metrics are")))
            }
        };
        page.line(paint, &words);
        page.text
    }

    /// What to draw.
    pub fn trends(&self) -> Vec<trend::Trend> {
        self.series
            .iter()
            .map(|one| trend::Trend {
                case: one.case.as_str().to_owned(),
                metric: one.metric.clone(),
                points: one.values.iter().map(|value| (value.started, value.value)).collect(),
                levels: one.levels.iter().map(|level| (level.first, level.sessions, level.value)).collect(),
                marks: one
                    .shifts
                    .iter()
                    .filter(|shift| shift.state == "pending")
                    .map(|shift| {
                        let commit = shift.charged.up_to.as_deref().map_or("no commit", short);
                        (shift.first, format!("pending {} at {commit}", format::change(shift.change.change)))
                    })
                    .collect(),
            })
            .collect()
    }
}

fn paint(colour: AnsiColor) -> Paint {
    Paint::new().fg_color(Some(Color::Ansi(colour)))
}

struct Page {
    text: String,
    colour: bool,
}

impl Page {
    fn plain(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn line(&mut self, paint: Paint, line: &str) {
        if self.colour {
            let _ = writeln!(self.text, "{}{line}{}", paint.render(), paint.render_reset());
        } else {
            self.plain(line);
        }
    }

    fn suspects(&mut self, charged: Option<&Charged>) {
        for suspect in charged.into_iter().flat_map(|charged| &charged.commits) {
            self.plain(&format!(
                "    {} {}: {}",
                short(&suspect.commit),
                format::line(&suspect.author),
                format::line(&suspect.subject)
            ));
        }
    }
}

/// The newest values as bars between the smallest and the largest of them.
fn sparkline(values: &[ValueView]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let shown = &values[values.len().saturating_sub(SPARKS)..];
    let low = shown.iter().map(|value| value.value).fold(f64::INFINITY, f64::min);
    let high = shown.iter().map(|value| value.value).fold(f64::NEG_INFINITY, f64::max);
    let bar = |value: f64| {
        let share = if high > low { (value - low) / (high - low) } else { 0.0 };
        BARS[((share * 7.0).round() as usize).min(7)]
    };
    shown.iter().map(|value| bar(value.value)).collect()
}
