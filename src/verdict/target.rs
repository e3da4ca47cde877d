//! Whether the launches of head reach what the suite wants of them.
//!
//! A target is about head alone: no base takes part, no waiver excuses it. The launch is the unit, its median the value;
//! what is estimated is the median over launches, or the ratio of two such medians. `met` and `missed` both need the whole
//! interval on one side: want of data is neither. Targets over several cases are counted (`over`).

mod over;

use std::collections::BTreeMap;

use crate::domain::{
    CaseId, CaseRecord, Comparison, Direction, LaunchSummary, Metric, MetricKind, Outcome, OutcomeKind, Reading,
    Reason, Target, TargetCall, TargetVerdict,
};
use crate::stats::quantile::median;
use crate::stats::typical::{difference_bounds, median_bounds};
use crate::verdict::history::{ByCase, by_case, measured, values};
use crate::verdict::policy::{ALPHA_REPORT, MIN_LAUNCHES, Q};
use crate::verdict::{Head, SideValues, Used, kind};

/// No more launches than this are advised: who needs more should look for the noise.
const MOST_ADVISED: f64 = 1000.0;

/// The decision on one target, with what it rests on.
#[derive(Debug, Clone, PartialEq)]
pub struct Aimed<'a> {
    /// The case; of a target over cases what the suite calls them.
    pub case: CaseId,
    /// What is wanted of it.
    pub target: &'a Target,
    /// The metric that the target is about.
    pub metric: Metric,
    /// The launches of the case.
    pub head: Option<SideValues<'a>>,
    /// Those of the case that it is compared with.
    pub other: Option<SideValues<'a>>,
    /// The decision.
    pub verdict: TargetVerdict,
    /// Whether it fails CI.
    pub fails: bool,
}

/// Judges every target of every case of a run, worst first.
#[must_use]
pub fn judge(head: Head<'_>) -> Vec<Aimed<'_>> {
    let launches = by_case(head.launches);
    let records: BTreeMap<&CaseId, &CaseRecord> = head.cases.iter().map(|record| (&record.case.id, record)).collect();
    let side = |case: &CaseId, target| Side::of(&head, records.get(case).copied(), &launches, case, target);
    let mut found: Vec<(Aimed<'_>, Option<Numbers>)> = Vec::new();
    for record in head.cases {
        for target in record.case.targets.iter().filter(|target| target.over.is_none()) {
            let own = side(&record.case.id, target);
            let other = target.of.as_ref().map(|of| side(of, target));
            found.push(aim(record, target, own, other));
        }
    }
    // Two families, each with the whole false-alarm budget: what fails CI, and what is only shown.
    let count = |required| found.iter().filter(|(aimed, n)| n.is_some() && aimed.target.required == required).count();
    let families = [count(false), count(true)];
    let mut aimed: Vec<Aimed<'_>> = found
        .into_iter()
        .map(|(mut aimed, numbers)| {
            if let Some(numbers) = numbers {
                aimed.verdict = numbers.decide(aimed.target, families[usize::from(aimed.target.required)]);
                aimed.fails = aimed.target.required && aimed.verdict.call == TargetCall::Missed;
            }
            aimed
        })
        .collect();
    aimed.extend(over::judge(&head, &launches));
    worst_first(&mut aimed);
    aimed
}

/// What has to be looked at first comes first.
pub fn worst_first(aimed: &mut [Aimed<'_>]) {
    aimed.sort_by_key(rank);
}

/// What has to be looked at first.
const fn rank(aimed: &Aimed<'_>) -> u8 {
    match (aimed.verdict.call, aimed.target.required) {
        (TargetCall::Missed, true) => 0,
        (TargetCall::Missed, false) => 1,
        (TargetCall::Inconclusive, true) => 2,
        (TargetCall::Inconclusive, false) => 3,
        (TargetCall::Met, _) => 4,
    }
}

/// The values of a metric in the launches of one case, or why there are none to judge by.
struct Side<'a> {
    metric: Option<Metric>,
    values: Vec<Used<'a>>,
    wanting: Option<(Reason, String)>,
}

impl<'a> Side<'a> {
    fn of(head: &Head<'a>, record: Option<&CaseRecord>, launches: &ByCase<'a>, case: &CaseId, target: &Target) -> Self {
        let nothing = |reason, why: String| Self { metric: None, values: Vec::new(), wanting: Some((reason, why)) };
        let Some(record) = record else {
            return nothing(Reason::NotMeasured, "not part of this run".to_owned());
        };
        let launches = launches.get(case).map_or(&[][..], Vec::as_slice);
        let outcome =
            record.skipped.clone().unwrap_or_else(|| Outcome::worst(launches.iter().map(|launch| &launch.outcome)));
        let why = outcome.reason.clone().unwrap_or_default();
        match outcome.kind {
            OutcomeKind::Measured => {}
            OutcomeKind::Skipped if record.skipped.is_none() => return nothing(Reason::TooFewLaunches, why),
            OutcomeKind::Skipped => return nothing(Reason::HeadSkipped, format!("skipped here: {why}")),
            OutcomeKind::Invalid => return nothing(Reason::BadValue, format!("invalid: {why}")),
            kind => return nothing(Reason::HeadFailed, format!("{kind}: {why}")),
        }
        let known = record.case.metric(&target.metric);
        let Some(metric) = reported(launches, &target.metric) else {
            let why = format!("no launch reported `{}`", target.metric);
            return Self { metric: known, ..nothing(Reason::NotMeasured, why) };
        };
        if let Some(known) = known.filter(|known| !known.takes(&metric.unit)) {
            let why = format!("`{}` was reported in {}, and the target is in {}", known.name, metric.unit, known.unit);
            return Self { metric: Some(known), ..nothing(Reason::NotMeasured, why) };
        }
        let values = values(head.run, launches, metric);
        let wanting = wanting(metric, &values);
        Self { metric: Some(metric.clone()), values, wanting }
    }

    fn numbers(&self) -> Vec<f64> {
        self.values.iter().map(|used| used.value).collect()
    }

    fn shown(self) -> Option<SideValues<'a>> {
        let value = kind::typical(&self.numbers())?;
        Some(SideValues { value, launches: self.values })
    }
}

/// A metric as the first measured launch that has it reports it.
fn reported<'a>(launches: &[&'a LaunchSummary], name: &str) -> Option<&'a Metric> {
    let measured = launches.iter().filter(|launch| measured(launch));
    measured.flat_map(|launch| &launch.metrics).map(|summary| &summary.metric).find(|metric| metric.name == name)
}

/// Why launches say nothing, if they do not.
fn wanting(metric: &Metric, values: &[Used<'_>]) -> Option<(Reason, String)> {
    if let Some(what) = values.iter().find_map(|used| kind::impossible(metric, used.value)) {
        return Some((Reason::BadValue, what));
    }
    // What carries no noise is known from one launch.
    let exact = metric.exact && values.windows(2).all(|pair| pair[0].value == pair[1].value);
    let least = if exact { 1 } else { MIN_LAUNCHES };
    let few = values.len();
    (few < least).then(|| {
        let launches = if few == 1 { "launch" } else { "launches" };
        let why =
            format!("{few} measured {launches} are too few to know the noise; use --launches {MIN_LAUNCHES} or more");
        (Reason::TooFewLaunches, why)
    })
}

/// One target before the number of all is known.
fn aim<'a>(
    record: &'a CaseRecord,
    target: &'a Target,
    own: Side<'a>,
    other: Option<Side<'a>>,
) -> (Aimed<'a>, Option<Numbers>) {
    let of_other = || {
        let (reason, why) = other.as_ref()?.wanting.clone()?;
        let of = target.of.as_ref()?;
        Some((reason, format!("`{of}`: {why}")))
    };
    let wanting = own.wanting.clone().or_else(of_other);
    let numbers = wanting.is_none().then(|| Numbers::new(own.numbers(), other.as_ref().map(Side::numbers)));
    let (reason, note) = wanting.unwrap_or((Reason::WideInterval, String::new()));
    let verdict = TargetVerdict { call: TargetCall::Inconclusive, reason, reading: None, note };
    let metric = own.metric.clone().or_else(|| record.case.metric(&target.metric));
    let metric = metric.unwrap_or_else(|| Metric {
        name: target.metric.clone(),
        unit: String::new(),
        direction: Direction::Unknown,
        kind: MetricKind::Ratio,
        exact: false,
        derived: false,
    });
    let (head, other) = (own.shown(), other.and_then(Side::shown));
    (Aimed { case: record.case.id.clone(), target, metric, head, other, verdict, fails: false }, numbers)
}

/// The values of both sides, as they are estimated from.
struct Numbers {
    own: Vec<f64>,
    other: Option<Vec<f64>>,
    /// On the log scale; values of zero have no logarithm, and no ratio either.
    logs: bool,
}

impl Numbers {
    fn new(own: Vec<f64>, other: Option<Vec<f64>>) -> Self {
        let logs = own.iter().chain(other.iter().flatten()).all(|value| *value > 0.0);
        Self { own, other, logs }
    }

    /// The estimate.
    fn value(&self) -> f64 {
        let own = median(&self.own);
        self.other.as_ref().map_or(own, |other| own / median(other))
    }

    /// Its bounds at `alpha` each; the estimate where nothing varied.
    fn bounds(&self, alpha: f64) -> (f64, f64) {
        let steady = |values: &[f64]| values.iter().all(|value| *value == values[0]);
        if steady(&self.own) && self.other.as_deref().is_none_or(steady) {
            return (self.value(), self.value());
        }
        let scale = |values: &[f64]| -> Vec<f64> {
            if self.logs { values.iter().map(|value| value.ln()).collect() } else { values.to_vec() }
        };
        let (lower, upper) = match &self.other {
            None => median_bounds(&scale(&self.own), alpha),
            Some(other) => difference_bounds(&scale(&self.own), &scale(other), alpha),
        };
        let (lower, upper) = if self.logs { (lower.exp(), upper.exp()) } else { (lower, upper) };
        // The way through logarithms and back may move a bound by a rounding error past the estimate.
        let value = self.value();
        (lower.max(f64::MIN).min(value), upper.min(f64::MAX).max(value))
    }

    /// Decides; `family` targets share the false-alarm budget.
    fn decide(&self, target: &Target, family: usize) -> TargetVerdict {
        let verdict = |call, reason, reading, note| TargetVerdict { call, reason, reading, note };
        if self.other.is_some() && !self.logs {
            let note = "a value of zero has no ratio".to_owned();
            return verdict(TargetCall::Inconclusive, Reason::BadValue, None, note);
        }
        let value = self.value();
        if !value.is_finite() {
            let note = "the ratio is beyond all numbers".to_owned();
            return verdict(TargetCall::Inconclusive, Reason::BadValue, None, note);
        }
        let (lower, upper) = self.bounds(ALPHA_REPORT);
        let reading = Some(Reading { value, lower, upper, confidence: 1.0 - 2.0 * ALPHA_REPORT });
        let (comparison, goal) = (target.comparison, target.value);
        let [near, far] = if comparison.wants_more() { [lower, upper] } else { [upper, lower] };
        let beyond = |value: f64| beyond(comparison, value, goal);
        if comparison.holds(near, goal) {
            let note = percent(beyond(value)).map_or_else(|| "reached".to_owned(), |share| format!("{share} to spare"));
            return verdict(TargetCall::Met, Reason::Established, reading, note);
        }
        if comparison.holds(far, goal) {
            let note = format!("the interval holds the goal; {}", self.more(target, [lower, upper]));
            return verdict(TargetCall::Inconclusive, Reason::WideInterval, reading, note);
        }
        // A miss fails CI, so that it has to stand among all that are asked for.
        let strict = self.bounds(ALPHA_REPORT.min(Q / family.max(1) as f64));
        let strict = if comparison.wants_more() { strict.1.max(upper) } else { strict.0.min(lower) };
        if comparison.holds(strict, goal) {
            let note = format!(
                "{} at the estimate, and not surely enough for one of {family} targets that share a false-alarm budget; {}",
                off(beyond(value)),
                self.more(target, [lower, upper])
            );
            return verdict(TargetCall::Inconclusive, Reason::WideInterval, reading, note);
        }
        let least = percent(beyond(strict)).map_or_else(String::new, |share| format!(", at least {share}"));
        let note = format!("{}{least}", off(beyond(value)));
        verdict(TargetCall::Missed, Reason::Established, reading, note)
    }

    /// How many launches would decide, if the estimate stayed where it is.
    fn more(&self, target: &Target, [lower, upper]: [f64; 2]) -> String {
        let (value, goal) = (self.value(), target.value);
        let width = if value > goal { value - lower } else { upper - value };
        let launches = self.own.len().max(self.other.as_ref().map_or(0, Vec::len));
        // Twice as near takes four times as many.
        let needed = (launches as f64 * (width / (value - goal)).powi(2)).ceil();
        if needed.is_finite() && needed <= MOST_ADVISED {
            format!("about {} launches would decide if the estimate stays", (needed as usize).max(launches + 1))
        } else {
            "it is too near to be decided by more launches".to_owned()
        }
    }
}

/// How far a value lies on the wanted side of a goal, as a share of it; negative on the other side.
fn beyond(comparison: Comparison, value: f64, goal: f64) -> f64 {
    let share = value / goal - 1.0;
    if comparison.wants_more() { share } else { -share }
}

/// `3.4 % off the goal`
fn off(share: f64) -> String {
    percent(share).map_or_else(|| "off the goal".to_owned(), |share| format!("{share} off the goal"))
}

/// `3.4 %`, of either side; nothing where there is no percentage to tell.
fn percent(share: f64) -> Option<String> {
    share.is_finite().then(|| format!("{:.1} %", 100.0 * share.abs()))
}

#[cfg(test)]
mod tests;
