//! The history of a suite on one branch and testbed, metric by metric: the value of every session, its levels, the
//! shifts that wait for somebody, and what they mean for a head that is judged now (STATISTICS.md section 7).
//!
//! Must not know where sessions are stored, nor who wrote which commit.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::domain::{
    Acceptance, Call, CaseId, CaseRecord, Estimate, Metric, OutcomeKind, Reason, Severity, Thresholds,
};
use crate::stats::predictive::Spread;
use crate::stats::quantile::{median, standard_deviation};
use crate::stats::student;
use crate::verdict::covariate::Machine;
use crate::verdict::policy::{self, ALPHA_REPORT, K_GATE, K_SCREEN, MIN_LAUNCHES, PRIOR_SPREAD, Q, SPREAD_FLOOR};
use crate::verdict::shifts::{self, Consent, Limits, Noise, Shift, State, Trace};
use crate::verdict::{Judged, Session, Used, history, kind, recorded};

/// Fewer series than this have no typical spread of their kind.
const ENOUGH_SERIES: usize = 5;

/// The stored sessions of a suite on one branch and testbed.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Cases whose series are wanted, as the newest session that has them defines them.
    pub cases: &'a [CaseRecord],
    /// Sessions, the newest first.
    pub sessions: &'a [Session],
    /// When each began.
    pub started: &'a [Timestamp],
    /// What people accepted of this suite, the oldest first.
    pub acceptances: &'a [Acceptance],
    /// Acceptances that ended before this moment count for nothing.
    pub now: Timestamp,
}

/// One session of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Its place in [`Record::sessions`].
    pub session: usize,
    /// The session's value in the metric's unit: the lower quartile of its launches.
    pub value: f64,
    /// The same on the badness scale, with what the machine did taken out.
    pub badness: f64,
}

/// A stretch of sessions without a step, as seen from today.
#[derive(Debug, Clone, PartialEq)]
pub struct Level {
    /// The first of its points.
    pub first: usize,
    /// How many.
    pub sessions: usize,
    /// Their median in the metric's unit.
    pub value: f64,
    /// Against the level before; absent for the first.
    pub change: Option<Estimate>,
}

/// One metric of one case through the sessions.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// The case.
    pub case: CaseId,
    /// The metric.
    pub metric: Metric,
    /// Whether a regression of it may fail CI.
    pub gating: bool,
    /// Its limits.
    pub thresholds: Thresholds,
    /// Sessions that measured it, the oldest first.
    pub points: Vec<Point>,
    /// Segmentation of all points, with hindsight.
    pub levels: Vec<Level>,
    /// What was seen while the sessions came in; places are those of `points`.
    pub trace: Trace,
    /// Acceptances of it that count, in the order in which [`State::Accepted`] names them.
    pub accepted: Vec<Acceptance>,
    /// Earlier names of the case.
    aliases: Vec<CaseId>,
    noise: Noise,
}

/// Tells the story of every judged metric that has values.
#[must_use]
pub fn tell(record: Record<'_>) -> Vec<Series> {
    let Some((newest, older)) = record.sessions.split_first() else {
        return Vec::new();
    };
    let references: Vec<CaseId> =
        record.cases.iter().filter(|known| known.case.reference).map(|known| known.case.id.clone()).collect();
    let machine = Machine::read(&references, &newest.launches, older);
    let by_case: Vec<_> = record.sessions.iter().map(|session| history::by_case(&session.launches)).collect();
    let mut gathered = Vec::new();
    for known in record.cases.iter().filter(|known| !known.case.reference) {
        let case = &known.case;
        let launches: Vec<_> = by_case.iter().map(|session| history::find(session, case)).collect();
        let mut seen: Vec<&Metric> = Vec::new();
        for summary in launches.iter().flat_map(|launches| history::metrics(launches)) {
            if seen.iter().all(|metric| metric.name != summary.metric.name) {
                seen.push(&summary.metric);
            }
        }
        for metric in seen {
            let mut sessions: Vec<(usize, Vec<Used<'_>>)> = launches
                .iter()
                .enumerate()
                .map(|(place, launches)| (place, history::values(record.sessions[place].run, launches, metric)))
                .filter(|(_, used)| !used.is_empty() && used.iter().all(|used| is_usable(metric, used.value)))
                .collect();
            // A quick look of one launch would take the other sessions down to its own precision.
            if sessions.iter().any(|(_, used)| used.len() >= MIN_LAUNCHES) {
                sessions.retain(|(_, used)| used.len() >= MIN_LAUNCHES);
            }
            if !sessions.is_empty() {
                gathered.push((known, metric.clone(), points(metric, &sessions, &machine)));
            }
        }
    }
    let priors = priors(&gathered);
    let family = gathered.iter().filter(|(known, metric, _)| known.case.gates(&metric.name)).count().max(1);
    gathered
        .into_iter()
        .map(|(known, metric, points)| {
            let noise = noise(&metric, &points, &priors);
            series(record, known, metric, points, noise, Q / family as f64)
        })
        .collect()
}

fn is_usable(metric: &Metric, value: f64) -> bool {
    kind::impossible(metric, value).is_none() && value > 0.0
}

/// The sessions' values, the oldest first. Low quantiles depend on the number of launches, so all use the same.
fn points(metric: &Metric, sessions: &[(usize, Vec<Used<'_>>)], machine: &Machine) -> Vec<Point> {
    let d = kind::sign(metric);
    let launches = sessions.iter().map(|(_, used)| used.len()).min().unwrap_or(0);
    let raw: Vec<f64> = sessions.iter().map(|(_, used)| history::session_value(&used[..launches], d, 0.25)).collect();
    let mut corrected = raw.clone();
    // The newest session is what the machine's movement is told against.
    if kind::follows_the_machine(metric) && sessions[0].0 == 0 && sessions.len() > 1 {
        let (head, values) = corrected.split_at_mut(1);
        let used: Vec<usize> = sessions[1..].iter().map(|(place, _)| place - 1).collect();
        machine.correct(&used, values, &mut head[0]);
    }
    let points = sessions.iter().zip(raw.iter().zip(&corrected));
    points
        .map(|((session, _), (raw, badness))| Point { session: *session, value: (d * raw).exp(), badness: *badness })
        .rev()
        .collect()
}

type Gathered<'a> = (&'a CaseRecord, Metric, Vec<Point>);

/// Typical spread of each kind of metric, where there are enough: what one more of the kind is expected to show.
fn priors(gathered: &[Gathered<'_>]) -> BTreeMap<&'static str, f64> {
    let mut logs: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
    for (_, metric, points) in gathered.iter().filter(|(_, _, points)| points.len() >= K_SCREEN) {
        let values: Vec<f64> = points.iter().map(|point| point.badness).collect();
        logs.entry(history::kind_name(metric.kind))
            .or_default()
            .push(Spread::of(&values).gate().max(SPREAD_FLOOR).ln());
    }
    logs.retain(|_, logs| logs.len() >= ENOUGH_SERIES);
    logs.into_iter().map(|(kind, logs)| (kind, median(&logs).exp())).collect()
}

fn noise(metric: &Metric, points: &[Point], priors: &BTreeMap<&'static str, f64>) -> Noise {
    if metric.exact {
        return Noise { prior: 0.0, floor: f64::EPSILON };
    }
    let prior = priors.get(history::kind_name(metric.kind)).copied().filter(|_| points.len() >= K_GATE);
    let newest = points.last().map_or(1.0, |point| point.value);
    Noise { prior: prior.unwrap_or(PRIOR_SPREAD), floor: kind::spread_floor(metric, newest, SPREAD_FLOOR) }
}

fn series(
    record: Record<'_>,
    known: &CaseRecord,
    metric: Metric,
    points: Vec<Point>,
    noise: Noise,
    alpha: f64,
) -> Series {
    let d = kind::sign(&metric);
    let thresholds = known.case.thresholds_for(&metric.name);
    let named = |id: &CaseId| *id == known.case.id || known.case.aliases.contains(id);
    let accepted: Vec<Acceptance> = record
        .acceptances
        .iter()
        .filter(|acceptance| named(&acceptance.case) && acceptance.metric == metric.name)
        .filter(|acceptance| acceptance.until.is_none_or(|until| until >= record.now))
        .cloned()
        .collect();
    let consents: Vec<Consent> = accepted
        .iter()
        .map(|acceptance| Consent {
            from: points.partition_point(|point| record.started[point.session] < acceptance.since),
            shift: d * acceptance.change.ln_1p(),
        })
        .collect();
    let values: Vec<f64> = points.iter().map(|point| point.badness).collect();
    let limits = Limits { moderate: thresholds.log()[1], alpha };
    Series {
        case: known.case.id.clone(),
        aliases: known.case.aliases.clone(),
        gating: known.case.gates(&metric.name),
        thresholds,
        levels: levels(&points, d),
        trace: shifts::trace(&values, noise, &consents, limits),
        accepted,
        metric,
        points,
        noise,
    }
}

/// Segments with their changes: the difference of the medians, and Student's interval of it.
fn levels(points: &[Point], d: f64) -> Vec<Level> {
    let values: Vec<f64> = points.iter().map(|point| (d * point.badness).exp()).collect();
    let steps = recorded::change_points(&values);
    let starts: Vec<usize> = std::iter::once(0).chain(steps.iter().copied()).collect();
    let ends = steps.iter().copied().chain([points.len()]);
    let stretches: Vec<&[Point]> = starts.iter().zip(ends).map(|(start, end)| &points[*start..end]).collect();
    let logs = |stretch: &[Point]| stretch.iter().map(|point| point.badness).collect::<Vec<_>>();
    starts
        .iter()
        .enumerate()
        .map(|(at, first)| Level {
            first: *first,
            sessions: stretches[at].len(),
            value: median(&stretches[at].iter().map(|point| point.value).collect::<Vec<_>>()),
            change: at.checked_sub(1).map(|before| between(&logs(stretches[before]), &logs(stretches[at]), d)),
        })
        .collect()
}

/// The change from one level to the next. A median errs by `√(π/2)` of a mean's error where noise is normal.
fn between(before: &[f64], after: &[f64], d: f64) -> Estimate {
    let error = |level: &[f64]| standard_deviation(level).max(SPREAD_FLOOR).powi(2) / level.len() as f64;
    let degrees = (before.len() + after.len()).saturating_sub(2).max(1) as f64;
    let half = student::upper_quantile(degrees, ALPHA_REPORT)
        * (std::f64::consts::FRAC_PI_2 * (error(before) + error(after))).sqrt();
    estimate(median(after) - median(before), half, d)
}

/// A shift on the badness scale as a change in the metric's own direction.
fn estimate(size: f64, half: f64, d: f64) -> Estimate {
    let ends = [d * (size - half), d * (size + half)];
    Estimate {
        change: (d * size).exp_m1(),
        lower: Some(ends[0].min(ends[1]).exp_m1()),
        upper: Some(ends[0].max(ends[1]).exp_m1()),
        confidence: 1.0 - 2.0 * ALPHA_REPORT,
    }
}

/// What may be worse, taken from what was seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Waiting {
    /// The session after which it came, by its place in [`Record::sessions`].
    pub before: usize,
    /// The first session that has it.
    pub first: usize,
    /// Its size.
    pub change: Estimate,
}

impl Series {
    /// The size of a shift in the metric's own direction.
    #[must_use]
    pub fn change(&self, shift: &Shift) -> Estimate {
        estimate(shift.size, shift.half_width, kind::sign(&self.metric))
    }

    /// How far the newest sessions lie from the anchor, in the metric's own direction.
    #[must_use]
    pub fn drift(&self) -> Option<Estimate> {
        let drift = self.trace.drift.as_ref()?;
        Some(estimate(drift.size, drift.half_width, kind::sign(&self.metric)))
    }

    /// The pending shifts for the worse as one: from the accepted level to the level of now. A creep is one too.
    #[must_use]
    pub fn waiting(&self) -> Option<Waiting> {
        let d = kind::sign(&self.metric);
        if let Some(drift) = self.trace.drift.as_ref().filter(|drift| drift.creeping) {
            return Some(Waiting {
                before: self.points[self.trace.accepted[drift.anchor.end - 1]].session,
                first: self.points.last()?.session,
                change: estimate(drift.size, drift.half_width, d),
            });
        }
        let first = self.trace.open().next()?;
        let half = self.trace.open().map(|shift| shift.half_width).fold(0.0, f64::max);
        let level = |places: &[usize]| median(&places.iter().map(|at| self.points[*at].badness).collect::<Vec<_>>());
        let size = level(&self.trace.pending) - level(&self.trace.accepted);
        (size > 0.0).then(|| Waiting {
            before: self.points[first.before].session,
            first: self.points[first.first].session,
            change: estimate(size, half, d),
        })
    }

    /// How much what is pending matters.
    fn class(&self, waiting: &Waiting) -> Severity {
        let size = kind::sign(&self.metric) * waiting.change.change.ln_1p();
        let reached = Severity::ALL.into_iter().skip(1).zip(self.thresholds.log()).rfind(|(_, limit)| size >= *limit);
        reached.map_or(Severity::None, |(severity, _)| severity)
    }

    /// Sessions, by their places in [`Record::sessions`], that are not at the accepted level; none where nothing was
    /// ever accepted or is pending, or where too little would be left.
    #[must_use]
    pub fn off_level(&self) -> BTreeSet<usize> {
        let settled = self.trace.shifts.iter().all(|shift| matches!(shift.state, State::WentAway | State::Ended(_)));
        if settled || self.trace.accepted.len() < MIN_LAUNCHES {
            return BTreeSet::new();
        }
        let at: BTreeSet<usize> = self.trace.accepted.iter().map(|at| self.points[*at].session).collect();
        self.points.iter().map(|point| point.session).filter(|session| !at.contains(session)).collect()
    }

    /// Whether head, as a row's estimate places it, is at the pending level or better.
    fn is_no_worse(&self, row: &Judged<'_>) -> bool {
        let of = |places: &[usize]| places.iter().map(|at| self.points[*at].badness).collect::<Vec<_>>();
        let (accepted, pending) = (of(&self.trace.accepted), of(&self.trace.pending));
        let Some(estimate) = row.verdict.estimate.filter(|_| !pending.is_empty() && !accepted.is_empty()) else {
            return false;
        };
        let head = median(&accepted) + kind::sign(&self.metric) * estimate.change.ln_1p();
        shifts::is_at(&pending, head, self.noise, self.thresholds.log()[0])
    }
}

/// Takes out of the sessions what is not at the accepted level of its metric: an unaccepted change does not
/// become the base while the sessions still show the level before it.
pub fn keep_accepted(series: &[Series], sessions: &mut [Session]) {
    for one in series {
        for place in one.off_level() {
            let named = |case: &CaseId| *case == one.case || one.aliases.contains(case);
            let launches = sessions[place].launches.iter_mut().filter(|launch| named(&launch.case));
            for launch in launches.filter(|launch| launch.outcome.kind == OutcomeKind::Measured) {
                launch.metrics.retain(|summary| summary.metric.name != one.metric.name);
            }
        }
    }
}

/// What the base branch has come to, applied to a judgement of a change to it: what is no worse than a pending level is
/// inherited, not charged. Only what rests on history alone: fresh pairs know better. Rows come out worst first again.
///
/// `charged` says of a pending shift when it came and who brought it. With `on_base`, head is the base branch itself
/// and answers for it.
#[must_use]
pub fn settle(
    rows: &mut [Judged<'_>],
    series: &[Series],
    on_base: bool,
    gate: Severity,
    charged: &dyn Fn(&Waiting) -> String,
) -> Vec<String> {
    let mut notes = Vec::new();
    for one in series {
        let Some(waiting) = one.waiting() else { continue };
        let named = |row: &&mut Judged<'_>| row.case == one.case && row.metric.name == one.metric.name;
        let Some(row) = rows.iter_mut().find(named) else { continue };
        let what = format!("{} of `{}`", one.metric.name, one.case);
        let size = format!("{:+.1} %", 100.0 * waiting.change.change);
        let came = charged(&waiting);
        if on_base {
            if one.gating {
                let agreed = !one.trace.pending.is_empty() && one.class(&waiting) >= gate;
                if agreed && row.verdict.call == Call::Regressed && row.paired.is_none() {
                    // Three sessions or more say the same, so that it rests on more than the newest (STATISTICS.md section 7).
                    row.verdict.provisional = false;
                    row.fails = policy::fails(&row.verdict, row.gating, gate);
                }
                notes.push(format!("{what} shifted by {size} {came}, and nobody has accepted it (`regrade accept`)"));
            }
            continue;
        }
        if one.trace.pending.is_empty() {
            // What crept in is in the base already: head is compared with the recent sessions.
            continue;
        }
        if row.paired.is_some() {
            // Its pairs say nothing of the levels: where the change left the base branch may lie on either.
            continue;
        }
        match row.verdict.call {
            Call::Regressed if row.verdict.provisional && one.is_no_worse(row) => {
                row.verdict.reason = Reason::Inherited;
                row.verdict.note =
                    format!("the base branch itself shifted by {size} {came}; this change adds nothing to it");
                row.fails = policy::fails(&row.verdict, row.gating, gate);
            }
            Call::Regressed => {
                let known = format!("worse than the {size} that the base branch shifted by {came}");
                row.verdict.note = format!("{}; {known}", row.verdict.note);
            }
            Call::Unchanged => {
                notes.push(format!("{what} is back at the accepted level: it recovers the {size} that came {came}"));
            }
            _ => {}
        }
    }
    history::worst_first(rows);
    notes
}

#[cfg(test)]
mod tests;
