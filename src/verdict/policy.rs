//! The constants of the decision, and what all verdicts of a suite amount to.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::domain::{Call, OutcomeKind, Reason, Severity, TargetCall, Verdict};
use crate::exit::Exit;
use crate::verdict::Judged;
use crate::verdict::target::Aimed;

/// Share of a threshold that the near bound must reach: severity is earned twice (STATISTICS.md 0.3).
pub const KAPPA: f64 = 0.5;
/// False-alarm budget of a suite, per direction, split over its gated comparisons.
pub const Q: f64 = 0.05;
/// One-sided level of suspicion, and of each side of "unchanged".
pub const ALPHA_SCREEN: f64 = 0.05;
/// One-sided level of the interval that is shown: 95 % two-sided.
pub const ALPHA_REPORT: f64 = 0.025;
/// Equivalence margin as a multiple of the minor threshold.
pub const NONE_MARGIN: f64 = 1.5;
/// Prior spread between sessions, on the log scale, while a history is short.
pub const PRIOR_SPREAD: f64 = 0.02;
/// The smallest spread believed.
pub const SPREAD_FLOOR: f64 = 0.002;
/// Fewest launches of a side.
pub const MIN_LAUNCHES: usize = 3;
/// Sessions from which a history screens, and says what is typical of its kind of metric.
pub const K_SCREEN: usize = 5;
/// Sessions from which a history speaks for itself: its prior is what is typical of other benchmarks, no longer a fixed
/// spread.
pub const K_GATE: usize = 10;
/// Sessions kept in the window.
pub const HISTORY_SESSIONS: u32 = 30;
/// Age limit of the window, days.
pub const HISTORY_DAYS: i64 = 60;

/// Whether a verdict fails CI: a gated regression at or above the gate. History alone raises suspects; the gate honours
/// such a provisional verdict only when it is severe. What a waiver covers, or the base branch brought in, is excused.
#[must_use]
pub fn fails(verdict: &Verdict, gating: bool, gate: Severity) -> bool {
    gating
        && gate != Severity::None
        && verdict.call == Call::Regressed
        && verdict.severity >= gate
        && !excused(verdict)
        && (!verdict.provisional || verdict.severity == Severity::Severe)
}

/// Regressed, and nobody's to answer for here.
fn excused(verdict: &Verdict) -> bool {
    matches!(verdict.reason, Reason::Waived | Reason::Inherited)
}

/// What the caller asks of the suite as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// Inconclusive gated rows and required targets end with [`Exit::Inconclusive`].
    pub require_decision: bool,
}

/// What the rows amount to.
#[derive(Debug, Clone, PartialEq)]
pub struct SuiteDecision {
    /// The ending by the contract.
    pub exit: Exit,
    /// The first line a person reads.
    pub headline: String,
    /// Rows by call and severity, targets by call.
    pub counts: BTreeMap<String, u64>,
}

/// Sums up. Order of precedence: regression or missed target, failed case, nothing comparable, undecided on demand, nothing
/// measured, pass.
#[must_use]
pub fn decide_suite(rows: &[Judged<'_>], targets: &[Aimed<'_>], gate: Severity, demand: Demand) -> SuiteDecision {
    let mut counts = BTreeMap::new();
    for row in rows {
        *counts.entry(count_key(&row.verdict)).or_insert(0) += 1;
    }
    for aimed in targets {
        *counts.entry(format!("target {}", aimed.verdict.call)).or_insert(0) += 1;
    }
    let aims = Aims::of(targets);
    let failing = rows.iter().filter(|row| row.fails).count();
    let failed = rows.iter().filter(|row| row.verdict.reason == Reason::HeadFailed).count();
    let comparable = rows.iter().filter(|row| row.verdict.call != Call::NotComparable).count();
    // Rows that were to be decided and have no numbers, such as cases for whose pairs no time was left.
    let empty = |row: &&Judged<'_>| row.verdict.call == Call::Inconclusive && row.base.is_none() && row.head.is_none();
    let judged = comparable - rows.iter().filter(empty).count();
    // Undecided: the data cannot say, or history says so and only a confirmation could fail it.
    let passed = |row: &&Judged<'_>| row.verdict.call == Call::Regressed && !row.fails && !excused(&row.verdict);
    let unconfirmed = |row: &&Judged<'_>| row.gating && passed(row) && row.verdict.provisional;
    let waiting =
        rows.iter().filter(unconfirmed).filter(|row| row.verdict.severity >= gate && gate > Severity::None).count();
    let open = waiting + rows.iter().filter(|row| row.gating && row.verdict.call == Call::Inconclusive).count();
    let advisory = rows.iter().filter(passed).count() - waiting;
    let because = |reason| rows.iter().filter(|row| row.verdict.reason == reason).count();
    let (waived, inherited) = (because(Reason::Waived), because(Reason::Inherited));
    let (mut exit, mut headline) = if failing > 0 {
        let worst = rows.iter().filter(|row| row.fails).map(|row| row.verdict.severity).max().unwrap_or(Severity::None);
        (Exit::Regression, format!("{} regressed at or above the gate, the worst {worst}", cases(failing)))
    } else if failed > 0 {
        (Exit::CaseFailed, format!("{} failed in head", cases(failed)))
    } else if comparable == 0 {
        (Exit::Nothing, "nothing was comparable".to_owned())
    } else if open + aims.open > 0 && demand.require_decision {
        let metrics = (open > 0).then(|| cases(open));
        let undecided: Vec<String> = metrics.into_iter().chain((aims.open > 0).then(|| goals(aims.open))).collect();
        (Exit::Inconclusive, format!("{} undecided, and a decision is required", undecided.join(" and ")))
    } else if judged == 0 {
        (Exit::Nothing, "nothing was measured that could be compared".to_owned())
    } else if waiting > 0 {
        (Exit::Pass, format!("no confirmed regression; {} regressed by history alone, not confirmed", cases(waiting)))
    } else if advisory > 0 {
        (Exit::Pass, format!("no gated regression; {} regressed below the gate or not gated", cases(advisory)))
    } else if open > 0 {
        (Exit::Pass, format!("no gated regression; {} inconclusive", cases(open)))
    } else if waived + inherited > 0 {
        (Exit::Pass, "no gated regression".to_owned())
    } else {
        (Exit::Pass, "no regression".to_owned())
    };
    if waived > 0 {
        let _ = write!(headline, "; {} waived", cases(waived));
    }
    if inherited > 0 {
        let _ = write!(headline, "; {} inherited from the base branch", cases(inherited));
    }
    // What fails is said first, the rest of the targets last.
    if aims.failing > 0 && failing == 0 {
        exit = Exit::Regression;
        headline = format!("{} missed; {headline}", goals(aims.failing));
    } else if aims.failing > 0 {
        let _ = write!(headline, "; {} missed", goals(aims.failing));
    }
    if aims.advisory > 0 {
        let _ = write!(headline, "; {} missed and not required", goals(aims.advisory));
    }
    if aims.open > 0 && exit != Exit::Inconclusive {
        let _ = write!(headline, "; {} inconclusive", goals(aims.open));
    }
    if aims.met > 0 && aims.met == targets.len() {
        let _ = write!(headline, "; {} met", goals(aims.met));
    }
    SuiteDecision { exit, headline, counts }
}

/// How a run by itself ends, of whose cases so many `failed` and so many were `measured`: the precedence is that of
/// [`decide_suite`].
#[must_use]
pub fn decide_run(failed: usize, measured: usize, targets: &[Aimed<'_>], demand: Demand) -> Exit {
    let aims = Aims::of(targets);
    match (failed, measured) {
        _ if aims.failing > 0 => Exit::Regression,
        (0, 0) => Exit::Nothing,
        (0, _) if aims.open > 0 && demand.require_decision => Exit::Inconclusive,
        (0, _) => Exit::Pass,
        _ => Exit::CaseFailed,
    }
}

/// Targets by what they mean for the suite.
struct Aims {
    /// Missed, and required.
    failing: usize,
    /// Missed, and only shown.
    advisory: usize,
    /// Undecided, and required.
    open: usize,
    met: usize,
}

impl Aims {
    fn of(targets: &[Aimed<'_>]) -> Self {
        let count = |wanted: &dyn Fn(&Aimed<'_>) -> bool| targets.iter().filter(|aimed| wanted(aimed)).count();
        Self {
            failing: count(&|aimed| aimed.fails),
            advisory: count(&|aimed| aimed.verdict.call == TargetCall::Missed && !aimed.fails),
            open: count(&|aimed| aimed.verdict.call == TargetCall::Inconclusive && aimed.target.required),
            met: count(&|aimed| aimed.verdict.call == TargetCall::Met),
        }
    }
}

fn goals(n: usize) -> String {
    if n == 1 { "1 target".to_owned() } else { format!("{n} targets") }
}

fn cases(n: usize) -> String {
    if n == 1 { "1 metric".to_owned() } else { format!("{n} metrics") }
}

/// `regressed severe`, `unchanged`, `new`.
fn count_key(verdict: &Verdict) -> String {
    match verdict.call {
        Call::Regressed if excused(verdict) => format!("{} {}", verdict.reason.code(), verdict.severity),
        Call::Improved | Call::Regressed => format!("{} {}", verdict.call, verdict.severity),
        Call::NotComparable => verdict.reason.code().to_owned(),
        Call::Unchanged | Call::Inconclusive => verdict.call.to_string(),
    }
}

/// Whether a case that ended so has failed, in the sense of the exit code.
#[must_use]
pub const fn is_failure(kind: OutcomeKind) -> bool {
    matches!(kind, OutcomeKind::Failed | OutcomeKind::TimedOut | OutcomeKind::OutOfMemory)
}
