//! One metric of one escalated case: its pairs, what is known after each, and the verdict in the end.

use crate::domain::{
    Call, Direction, Estimate, LaunchStatistic, Metric, MetricSummary, NoiseModel, PairedEvidence, Reason, Severity,
    Thresholds, Verdict,
};
use crate::stats::evidence::{Pairs, Side, hodges_lehmann, interquartile_spread, next_scale};
use crate::stats::quantile::{mad, median};
use crate::stats::student;
use crate::verdict::calibration;
use crate::verdict::decide;
use crate::verdict::kind;
use crate::verdict::paired::{Answer, PAIRS_MIN, Question};
use crate::verdict::policy::{ALPHA_REPORT, ALPHA_SCREEN, KAPPA, PRIOR_SPREAD, Q};

/// The smallest spread of pairs believed, log units.
const FLOOR: f64 = 1e-4;
/// A/A pairs that a noise model needs before it may stand in for pairs (STATISTICS.md section 3.6).
const MODEL_PAIRS: u32 = 21;
/// Pairs that such a model is worth.
const MODEL_WEIGHT: f64 = 20.0;
/// Fewest pairs that it is combined with.
const MODEL_LEAST: usize = 3;
/// Pairs from which the scale is compared with what was expected (G3).
const SCALE_PAIRS: usize = 8;
/// How much larger it must be to be said.
const SCALE_RATIO: f64 = 3.0;
/// Pairs from which the shapes of both arms are compared.
const SHAPE_PAIRS: usize = 10;
/// Pairs that another statistic than the one in use must have shown itself steadier in.
const CHOICE_PAIRS: usize = 4;
/// It is taken where it scatters less by this factor.
const WORTH: f64 = 0.8;
/// Ratio of interquartile ranges that is worth a sentence.
const SHAPE_RATIO: f64 = 2.0;

/// What is asked of the pairs of a case, beyond the metric itself.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Most pairs.
    pub most: usize,
    /// Whether every case gets all of its pairs, decided or not: to learn, not to judge.
    pub exhaustive: bool,
}

/// One metric.
#[derive(Debug)]
pub struct Stream {
    /// What is measured.
    pub metric: Metric,
    /// Whether a regression of it may fail CI.
    pub gating: bool,
    /// The limits.
    pub thresholds: Thresholds,
    statistic: LaunchStatistic,
    model: Option<NoiseModel>,
    prior: f64,
    /// The smallest spread believed, log units.
    floor: f64,
    /// Base's value in the launch before the first pair, in the metric's unit: by it an absolute floor widens the limits,
    /// because it is known before any pair. Whether a change reaches the floor goes by all launches.
    level: f64,
    rules: Rules,
    /// Standard deviation between builds, log units.
    build_spread: f64,
    comparisons: usize,
    question: Question,
    /// The noise floor, a fraction, where the smallest threshold lies below it: nothing smaller is judged.
    unseen: Option<f64>,
    /// What was bet on: each difference of the statistic that was in use.
    pairs: Pairs,
    /// Differences of every pair, by statistic.
    tracks: [Vec<f64>; LaunchStatistic::ALL.len()],
    answer: Answer,
    /// Summaries of both arms, one a pair.
    launches: Vec<[MetricSummary; 2]>,
    /// Decided without any test.
    settled: Option<Verdict>,
}

impl Stream {
    /// A stream without pairs yet.
    pub fn new(
        summary: &MetricSummary,
        gating: bool,
        thresholds: Thresholds,
        model: Option<&NoiseModel>,
        build_spread: f64,
        rules: Rules,
    ) -> Self {
        let metric = summary.metric.clone();
        let statistic = model.map_or_else(LaunchStatistic::default, |model| model.statistic);
        let level = statistic.of(summary);
        let floor = kind::spread_floor(&metric, level, FLOOR);
        let prior = model.map_or(PRIOR_SPREAD, |model| model.pair_spread).max(floor);
        Self {
            gating,
            thresholds,
            statistic,
            prior,
            floor,
            level,
            rules,
            build_spread,
            comparisons: 1,
            question: Question::new(&thresholds, 1),
            unseen: None,
            pairs: Pairs::new(prior, floor),
            answer: Answer::Open,
            tracks: Default::default(),
            launches: Vec::new(),
            settled: None,
            model: model.cloned(),
            metric,
        }
    }

    /// Fixes how many comparisons share the suite's false-alarm budget; before the first pair.
    pub fn begin(&mut self, comparisons: usize) {
        self.comparisons = comparisons.max(1);
        let floor =
            self.thresholds.absolute_floor.filter(|_| self.level > 0.0).map(|floor| (floor / self.level).ln_1p());
        let question = Question::new(&self.thresholds, self.comparisons)
            .with_most(self.rules.most)
            .with_build_spread(self.build_spread)
            .with_floor(floor.unwrap_or(0.0));
        let noise = self.model.as_ref().map(|model| calibration::noise_floor(model.pair_spread, self.rules.most));
        let minor = question.minor().exp_m1();
        // What cannot be seen here is not judged; what can be is, or calibrating would open the gate.
        self.unseen = noise.filter(|noise| minor < *noise && !self.rules.exhaustive);
        self.question = question.with_floor(self.unseen.map_or(0.0, f64::ln_1p));
    }

    /// Whether no further pair can change the verdict.
    pub const fn is_final(&self) -> bool {
        self.settled.is_some() || self.answer.is_final()
    }

    /// Takes the metric's values of the next pair; absent where a launch did not report it.
    pub fn take(&mut self, base: Option<&MetricSummary>, head: Option<&MetricSummary>) {
        if self.is_final() {
            return;
        }
        let (Some(base), Some(head)) = (base, head) else {
            let note = "a launch did not report it".to_owned();
            self.settled = Some(open(Reason::BadValue, note));
            return;
        };
        let values = [self.statistic.of(base), self.statistic.of(head)];
        if let Some(what) = values.iter().find_map(|value| kind::impossible(&self.metric, *value)) {
            self.settled = Some(open(Reason::BadValue, what));
            return;
        }
        self.launches.push([base.clone(), head.clone()]);
        if self.metric.exact || values.contains(&0.0) {
            self.settled = self.without_noise();
            if self.settled.is_some() || values.contains(&0.0) {
                return;
            }
        }
        self.bet();
        self.answer = self.question.answer_with(&self.pairs, self.shift());
    }

    /// Bets on the newest pair. Which statistic the bet is on, and on what scale, is settled by the earlier pairs alone,
    /// so that it stays fair; and by their scatter alone, so that exchanging the arms exchanges the verdict.
    fn bet(&mut self) {
        let scatter = |statistic: LaunchStatistic| {
            let track = self.track(statistic);
            // A best sample of zero has no logarithm.
            let usable = track.iter().all(|difference| difference.is_finite());
            if usable { mad(track, median(track)) } else { f64::INFINITY }
        };
        if self.track(self.statistic).len() >= CHOICE_PAIRS {
            let steadiest = LaunchStatistic::ALL.into_iter().min_by(|a, b| scatter(*a).total_cmp(&scatter(*b)));
            // Nothing can be bet on a value without a logarithm, and whether there is one does not favour a side.
            let other = steadiest.filter(|other| self.newest(*other).is_finite());
            if let Some(other) = other.filter(|other| scatter(*other) < WORTH * scatter(self.statistic)) {
                self.statistic = other;
            }
        }
        let scale = next_scale(self.track(self.statistic), self.prior, self.floor);
        let difference = self.newest(self.statistic);
        for statistic in LaunchStatistic::ALL {
            let newest = self.newest(statistic);
            self.tracks[place_of(statistic)].push(newest);
        }
        self.pairs.push_scaled(difference, scale);
    }

    /// The newest pair's difference by a statistic, log units; not finite where a value has no logarithm.
    fn newest(&self, statistic: LaunchStatistic) -> f64 {
        let [base, head] = self.launches.last().expect("the newest pair");
        kind::sign(&self.metric) * (statistic.of(head).ln() - statistic.of(base).ln())
    }

    fn track(&self, statistic: LaunchStatistic) -> &[f64] {
        &self.tracks[place_of(statistic)]
    }

    /// The estimate of Hodges and Lehmann by the statistic in use, log units; NaN for no pairs.
    fn shift(&self) -> f64 {
        hodges_lehmann(self.track(self.statistic))
    }

    /// Values of an arm by the statistic in use, in the metric's unit.
    fn values(&self, arm: usize) -> Vec<f64> {
        self.launches.iter().map(|pair| self.statistic.of(&pair[arm])).collect()
    }

    /// What exact metrics and zeros allow to say: both arms constant over two launches or more (STATISTICS.md
    /// section 6).
    fn without_noise(&self) -> Option<Verdict> {
        let (base, head) = (self.values(0), self.values(1));
        if self.launches.len() < 2 {
            return None;
        }
        let constant = |values: &[f64]| values.iter().all(|value| *value == values[0]);
        if constant(&base) && constant(&head) && (self.metric.exact || (base[0] == 0.0 && head[0] == 0.0)) {
            return Some(decide::exact(base[0], head[0], &self.metric, &self.thresholds));
        }
        base.iter()
            .chain(&head)
            .any(|value| *value == 0.0)
            .then(|| open(Reason::ZeroBase, "a value of zero has no relative change".to_owned()))
    }

    /// Evidence for a change beyond the smallest that matters, on the estimate's side, as a natural logarithm.
    pub fn log_evidence(&self) -> f64 {
        if self.pairs.is_empty() {
            return 0.0;
        }
        let limit = self.question.smallest();
        if self.shift() < 0.0 {
            self.pairs.log_evidence(-limit, Side::Below)
        } else {
            self.pairs.log_evidence(limit, Side::Above)
        }
    }

    /// Whether the estimate is a change that matters, and no class is established.
    pub fn is_open_beyond_minor(&self) -> bool {
        self.settled.is_none()
            && self.answer == Answer::Open
            && !self.pairs.is_empty()
            && self.shift().abs() >= self.thresholds.log()[0]
    }

    /// Pairs that count.
    pub fn len(&self) -> usize {
        self.launches.len()
    }

    /// How the verdict came about.
    pub fn evidence(&self) -> PairedEvidence {
        PairedEvidence { pairs: self.len() as u32, log_evidence: self.log_evidence(), statistic: self.statistic }
    }

    /// Pairs that calibration saw "unchanged" take.
    pub fn usual_pairs(&self) -> Option<f64> {
        self.model.as_ref().map(|model| model.unchanged_pairs)
    }

    /// Smallest slowdown that calibration found detectable here, a fraction.
    pub fn smallest_detectable(&self) -> Option<f64> {
        self.model.as_ref().and_then(|model| model.smallest_detectable)
    }

    /// The verdict on what was measured. `discovered`: the session's false discovery rate admits it although no class
    /// was established for it alone (STATISTICS.md section 5, step 5).
    pub fn verdict(&self, discovered: bool) -> Verdict {
        if let Some(verdict) = &self.settled {
            return verdict.clone();
        }
        if self.pairs.is_empty() {
            return open(Reason::TooFewLaunches, "no pair was measured before the session ended".to_owned());
        }
        let mut verdict = match self.answer {
            Answer::Changed { side, severity, .. } => self.changed(side, severity),
            Answer::Unchanged { margin } if self.unseen.is_some() => Verdict {
                estimate: Some(self.estimate()),
                ..open(Reason::BelowNoiseFloor, format!("a change beyond {} is excluded", percent(margin)))
            },
            Answer::Unchanged { margin } => Verdict {
                call: Call::Unchanged,
                severity: Severity::None,
                reason: Reason::WithinMargin,
                provisional: false,
                estimate: Some(self.estimate()),
                note: format!("a change beyond {} is excluded by {} pairs", percent(margin), self.len()),
            },
            Answer::Open if discovered => self.changed(self.side(), Severity::Minor),
            Answer::Open => self.by_model().unwrap_or_else(|| self.undecided()),
        };
        if let Some(floor) = self.thresholds.absolute_floor
            && verdict.severity > Severity::None
            && median(&self.values(0)) * kind::share(&self.metric, self.shift()) < floor
        {
            verdict.call = Call::Unchanged;
            verdict.severity = Severity::None;
            verdict.reason = Reason::BelowFloor;
            verdict.note = format!("the difference is below the absolute floor of {floor} {}", self.metric.unit);
        }
        for remark in self.remarks() {
            verdict.note = format!("{}; {remark}", verdict.note);
        }
        verdict
    }

    fn side(&self) -> Side {
        if self.shift() < 0.0 { Side::Below } else { Side::Above }
    }

    fn changed(&self, side: Side, severity: Severity) -> Verdict {
        let alpha = Q / self.comparisons as f64;
        // The bound of the level that the class was confirmed at.
        let near = self.pairs.bound(alpha, side);
        let (call, word, tells) = match side {
            Side::Above => (Call::Regressed, "worse", near > 0.0),
            Side::Below => (Call::Improved, "better", near < 0.0),
        };
        let share = |shift: f64| format!("{:.1} %", 100.0 * kind::share(&self.metric, shift));
        // What few pairs and a model, or all comparisons together, establish has no bound of its own on its side of zero.
        let amount = if near.is_finite() && tells {
            format!("by at least {}", share(near))
        } else {
            format!("by {} at the estimate", share(self.shift()))
        };
        let note = format!("{word} {amount}, in {} fresh pairs of base and head", self.len());
        let verdict = Verdict {
            call,
            severity,
            reason: Reason::Established,
            provisional: false,
            estimate: Some(self.estimate()),
            note,
        };
        if self.metric.direction == Direction::Unknown {
            let note = "changed; which way is better is unknown, so it cannot fail".to_owned();
            return Verdict {
                call: Call::Inconclusive,
                severity: Severity::None,
                reason: Reason::UnknownDirection,
                note,
                ..verdict
            };
        }
        verdict
    }

    /// So few pairs that no evidence could suffice, and a noise model that knows what to expect of them
    /// (STATISTICS.md section 3.6): advisory, but for what is severe.
    fn by_model(&self) -> Option<Verdict> {
        let model = self.model.as_ref().filter(|model| model.pairs >= MODEL_PAIRS)?;
        let n = self.len();
        if n < MODEL_LEAST || (n >= PAIRS_MIN && self.question.can_confirm(n)) {
            return None;
        }
        let count = n as f64;
        let differences = self.track(self.statistic);
        let mean = differences.iter().sum::<f64>() / count;
        let squares = differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>();
        let spread = ((MODEL_WEIGHT * model.pair_deviation.powi(2) + squares) / (MODEL_WEIGHT + count - 1.0)).sqrt();
        let alpha = Q / self.comparisons as f64;
        let width = student::upper_quantile(count - 1.0 + MODEL_WEIGHT, alpha) * spread * (1.05 / count).sqrt();
        let estimate = self.shift().abs();
        let [minor, moderate, severe] = self.thresholds.log();
        let severity = [(severe, Severity::Severe), (moderate, Severity::Moderate), (minor, Severity::Minor)]
            .into_iter()
            .find(|(limit, _)| estimate >= *limit && estimate - width >= KAPPA * limit)
            .map(|(_, severity)| severity)?;
        let mut verdict = self.changed(self.side(), severity);
        verdict.provisional = true;
        verdict.note = format!(
            "{n} pairs and the noise model of this testbed say so; from {} pairs on they would speak for themselves",
            self.question.fewest()
        );
        Some(verdict)
    }

    fn undecided(&self) -> Verdict {
        let (low, high) = self.pairs.interval(2.0 * ALPHA_REPORT);
        let reach = kind::share(&self.metric, low).max(kind::share(&self.metric, high));
        let beyond = if low.is_finite() && high.is_finite() {
            format!("changes up to {:.1} % are not excluded", 100.0 * reach)
        } else {
            "no change is excluded".to_owned()
        };
        let more = match self.question.more_pairs(&self.pairs, self.shift()) {
            Some(more) => format!("about {more} more pairs would decide"),
            None => "the pairs are too noisy for the limits: calmer machine, longer launches, or wider thresholds"
                .to_owned(),
        };
        Verdict {
            estimate: Some(self.estimate()),
            ..open(Reason::WideInterval, format!("{beyond} after {} pairs; {more}", self.len()))
        }
    }

    /// The estimate of Hodges and Lehmann with the confidence sequence, in the metric's own direction.
    fn estimate(&self) -> Estimate {
        let d = kind::sign(&self.metric);
        // As few pairs as can decide may not reach 95 %; what decided them holds at 90 %, and an interval that includes
        // zero beside an established change would be read as a contradiction.
        let tells = |(low, high): (f64, f64)| match self.answer {
            Answer::Changed { side: Side::Above, severity, .. } => low >= self.question.near(severity),
            Answer::Changed { side: Side::Below, severity, .. } => high <= -self.question.near(severity),
            _ => low.is_finite() && high.is_finite(),
        };
        let at = |alpha: f64| (self.pairs.interval(2.0 * alpha), 1.0 - 2.0 * alpha);
        let (usual, wide) = (at(ALPHA_REPORT), at(ALPHA_SCREEN));
        let ((low, high), confidence) = if !tells(usual.0) && tells(wide.0) { wide } else { usual };
        let ends = [d * low, d * high];
        let finite = |end: f64| end.is_finite().then(|| end.exp_m1());
        Estimate {
            change: (d * self.shift()).exp_m1(),
            lower: finite(ends[0].min(ends[1])),
            upper: finite(ends[0].max(ends[1])),
            confidence,
        }
    }

    /// What a reader should know beside the verdict.
    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if let Some(noise) = self.unseen {
            let minor = self.thresholds.minor;
            remarks.push(format!(
                "minor = {:.1} % of {} is below the noise floor of {:.1} % that calibration found here, so nothing below that \
                 was judged: raise the threshold, lengthen the launches, or calm the machine and calibrate again",
                100.0 * minor,
                self.metric.name,
                100.0 * noise
            ));
        }
        if let Some(floor) = self.question.build_floor().filter(|_| self.answer == Answer::Open) {
            remarks.push(format!("builds of it that changed nothing differ by up to {} here", percent(floor)));
        }
        if let Answer::Changed { severity: Severity::Minor, settled: true, side } = self.answer
            && self.shift().abs() >= self.thresholds.log()[1]
        {
            let word = if side == Side::Above { "regression" } else { "improvement" };
            remarks.push(format!("a moderate {word} is not excluded"));
        }
        if let Some(smallest) = self.smallest_detectable() {
            remarks.push(format!("smallest detectable: {:.1} %", 100.0 * smallest));
        }
        let track = self.track(self.statistic);
        let spread = mad(track, median(track));
        if self.model.is_some() && self.len() >= SCALE_PAIRS && spread > SCALE_RATIO * self.prior {
            remarks.push(format!(
                "pairs scatter {:.0} times as much as calibration saw: the machine is noisier than it was",
                spread / self.prior
            ));
        }
        if self.len() >= SHAPE_PAIRS {
            let range =
                |arm: usize| interquartile_spread(&self.values(arm).iter().map(|value| value.ln()).collect::<Vec<_>>());
            let (base, head) = (range(0), range(1));
            if base > 0.0 && head / base > SHAPE_RATIO {
                remarks.push(format!("head's launches scatter {:.1} times as much as base's", head / base));
            }
        }
        remarks
    }
}

fn place_of(statistic: LaunchStatistic) -> usize {
    LaunchStatistic::ALL.iter().position(|one| *one == statistic).expect("one of all")
}

fn open(reason: Reason, note: String) -> Verdict {
    Verdict { call: Call::Inconclusive, severity: Severity::None, reason, provisional: false, estimate: None, note }
}

/// `4.2 %` for a shift in log units.
fn percent(log: f64) -> String {
    format!("{:.1} %", 100.0 * log.exp_m1())
}
