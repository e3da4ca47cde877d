//! Pull requests from screen to verdict on made-up machines: a suite of 200 benchmarks, 20 sessions of history, head
//! judged by [`verdict::judge`], the suspects confirmed pair by pair by [`Question`].
//!
//! Only calls the production decisions; must not make any of its own.

use std::collections::{BTreeMap, BTreeSet};

use rayon::iter::{IntoParallelIterator, ParallelIterator};
use regrade::domain::{
    Call, Case, CaseRecord, LaunchId, LaunchSummary, Metric, MetricSummary, Outcome, Reason, RunId, Sampling, Severity,
    Thresholds, Workload, WorkloadKind,
};
use regrade::stats::evidence::Side;
use regrade::verdict::paired::{Answer, PAIRS_MAX, Question};
use regrade::verdict::policy::PRIOR_SPREAD;
use regrade::verdict::{self, Head, Session};

use crate::figures::Share;
use crate::worlds::{self, Draw, SUITE};

/// Sessions of history.
pub const SESSIONS: usize = 20;
/// Launches of a case in a session.
pub const LAUNCHES: usize = 3;
/// Benchmarks that a change touches.
pub const CHANGED: usize = 10;
/// Standard deviation of a movement that all benchmarks of a session share.
const COMMON: f64 = 0.01;
/// Noise of a reference workload's launch.
const REFERENCE_NOISE: f64 = 0.003;
/// Smallest spread of pairs believed, log units.
const FLOOR: f64 = 1e-4;

/// What became of some pull requests.
#[derive(Debug, Clone, Default)]
pub struct Outcomes {
    /// Pull requests in which an unchanged benchmark was called regressed.
    pub false_alarms: Share,
    /// Changed benchmarks called regressed.
    pub recall: Share,
    /// Changed benchmarks whose class was exactly that of the true change.
    pub class_right: Share,
    /// Changed benchmarks that the screen let through to the pairs.
    pub suspected: Share,
    /// Changed benchmarks called regressed, by machine.
    pub by_world: BTreeMap<&'static str, Share>,
    /// Launches of head and of pairs in all pull requests.
    pub launches: usize,
    /// Suspects in all pull requests.
    pub suspects: usize,
    /// Suspects that 40 pairs left open.
    pub open: usize,
}

impl Outcomes {
    fn and(mut self, other: Self) -> Self {
        self.false_alarms = self.false_alarms.and(other.false_alarms);
        self.recall = self.recall.and(other.recall);
        self.class_right = self.class_right.and(other.class_right);
        self.suspected = self.suspected.and(other.suspected);
        for (world, share) in other.by_world {
            let sum = self.by_world.entry(world).or_default();
            *sum = sum.and(share);
        }
        self.launches += other.launches;
        self.suspects += other.suspects;
        self.open += other.open;
        self
    }
}

/// `count` pull requests that make [`CHANGED`] benchmarks slower by the fraction `effect` (none, where it is zero).
/// Without a screen, everything is paired.
pub fn pull_requests(count: usize, effect: f64, screen: bool) -> Outcomes {
    let purpose = 1000 + (effect * 1000.0).round() as u64;
    (0..count)
        .into_par_iter()
        .map(|number| pull_request(Draw::new(purpose, number as u64), effect, screen))
        .reduce(Outcomes::default, Outcomes::and)
}

/// The class of a true change.
fn true_class(effect: f64) -> Severity {
    let limits = Thresholds::default();
    let classes = [Severity::Severe, Severity::Moderate, Severity::Minor];
    classes.into_iter().find(|class| effect >= limits.of(*class)).unwrap_or(Severity::None)
}

fn pull_request(mut draw: Draw, effect: f64, screen: bool) -> Outcomes {
    let mut effects = vec![0.0; SUITE];
    let mut left = if effect > 0.0 { CHANGED } else { 0 };
    while left > 0 {
        let at = draw.below(SUITE);
        if effects[at] == 0.0 {
            effects[at] = effect;
            left -= 1;
        }
    }
    let drawn = Drawn::new(&effects, &mut draw);
    let suspects: Vec<usize> = if screen { drawn.suspects() } else { (0..SUITE).collect() };
    let mut outcomes = Outcomes { launches: if screen { SUITE * LAUNCHES } else { 0 }, ..Outcomes::default() };
    let question = Question::new(&Thresholds::default(), suspects.len());
    let mut called = [Severity::None; SUITE];
    for at in &suspects {
        let shift = effects[*at].ln_1p() + drawn.build_shift[*at];
        let pairs = worlds::of_benchmark(*at).pairs(PAIRS_MAX, shift, &mut draw);
        let (answer, taken) = question.replay(&pairs, PRIOR_SPREAD, FLOOR);
        outcomes.launches += 2 * taken;
        match answer {
            Answer::Changed { side: Side::Above, severity, .. } => called[*at] = severity,
            Answer::Open => outcomes.open += 1,
            Answer::Changed { .. } | Answer::Unchanged { .. } => {}
        }
    }
    outcomes.suspects = suspects.len();
    let wrong = (0..SUITE).any(|at| effects[at] == 0.0 && called[at] > Severity::None);
    outcomes.false_alarms.count(wrong);
    for at in (0..SUITE).filter(|at| effects[*at] > 0.0) {
        let hit = called[at] > Severity::None;
        outcomes.recall.count(hit);
        outcomes.class_right.count(called[at] == true_class(effect));
        outcomes.suspected.count(suspects.contains(&at));
        outcomes.by_world.entry(worlds::of_benchmark(at).name).or_default().count(hit);
    }
    outcomes
}

/// Everything drawn for the screen of one pull request.
struct Drawn {
    cases: Vec<CaseRecord>,
    history: Vec<Session>,
    head: Vec<LaunchSummary>,
    /// Layout of head's build less that of the newest base, log units.
    build_shift: Vec<f64>,
}

impl Drawn {
    fn new(effects: &[f64], draw: &mut Draw) -> Self {
        let references = ["reference-a", "reference-b"];
        let cases: Vec<CaseRecord> = (0..SUITE)
            .map(|at| record(&id(at), false))
            .chain(references.iter().map(|name| record(name, true)))
            .collect();
        let mut builds = vec![[0.0; 2]; SUITE];
        let mut sessions: Vec<Vec<LaunchSummary>> = Vec::new();
        // The last one is head.
        for number in 0..=SESSIONS {
            let common = COMMON * draw.normal();
            let mut launches = Vec::with_capacity((SUITE + references.len()) * LAUNCHES);
            for at in 0..SUITE {
                let world = worlds::of_benchmark(at);
                let build = world.build_step(draw);
                builds[at] = [builds[at][1], build];
                let change = if number == SESSIONS { effects[at].ln_1p() } else { 0.0 };
                let step = common + build + world.session_step(draw) + change;
                for index in 0..LAUNCHES {
                    // Launches of a session are spread over it, so that none inherits from another.
                    let value = world.launches(1, draw)[0] + step;
                    launches.push(summary(&id(at), index, value));
                }
            }
            for name in references {
                for index in 0..LAUNCHES {
                    launches.push(summary(name, index, common + REFERENCE_NOISE * draw.normal()));
                }
            }
            sessions.push(launches);
        }
        let head = sessions.pop().expect("head was drawn last");
        let newest_first = sessions.into_iter().rev();
        let history = newest_first.map(|launches| Session { run: RunId::fresh(), launches }).collect();
        let build_shift = builds.iter().map(|[base, head]| head - base).collect();
        Self { cases, history, head, build_shift }
    }

    /// Places of the benchmarks that the screen cannot clear.
    fn suspects(&self) -> Vec<usize> {
        let head = Head { run: RunId::fresh(), cases: &self.cases, launches: &self.head };
        let judgement = verdict::judge(head, &self.history, &BTreeSet::new(), Severity::Moderate);
        let suspected: BTreeSet<String> = judgement
            .rows
            .iter()
            .filter(|row| row.verdict.call == Call::Regressed || row.verdict.reason == Reason::Suspect)
            .map(|row| row.case.as_str().to_owned())
            .collect();
        (0..SUITE).filter(|at| suspected.contains(&id(*at))).collect()
    }
}

fn id(at: usize) -> String {
    format!("b{at:03}@cpu")
}

/// A case of this name.
pub fn record(id: &str, reference: bool) -> CaseRecord {
    let case = Case {
        id: id.into(),
        benchmark: id.to_owned(),
        workload: Workload {
            kind: WorkloadKind::Operator,
            name: "gemm".to_owned(),
            params: BTreeMap::new(),
            command: Vec::new(),
            kernel: None,
        },
        backend: "cpu".to_owned(),
        tags: Vec::new(),
        owner: None,
        thresholds: BTreeMap::new(),
        gate_metrics: vec![Metric::LATENCY.to_owned()],
        targets: Vec::new(),
        sampling: Sampling::default(),
        timeout_s: 1.0,
        memory_limit: None,
        metrics: BTreeMap::new(),
        env: BTreeMap::new(),
        working_dir: None,
        aliases: Vec::new(),
        needs: Vec::new(),
        skip: None,
        reference,
    };
    CaseRecord { case, skipped: None }
}

/// A launch of about a millisecond.
fn summary(case: &str, index: usize, log: f64) -> LaunchSummary {
    let value = 1e-3 * log.exp();
    let metric = Metric::standard(Metric::LATENCY).expect("in the table");
    LaunchSummary {
        id: LaunchId::fresh(),
        case: case.into(),
        index: index as u32,
        outcome: Outcome::measured(),
        metrics: vec![MetricSummary {
            metric,
            n: 10,
            iterations: 1,
            median: value,
            q25: value,
            min: value,
            q75: value,
        }],
    }
}
