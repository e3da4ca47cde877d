//! Decides again what a stranger's report says it decided: from its samples, by the limits of the base branch.
//!
//! The numbers themselves can be made up, and nothing here can tell. What a report says beyond its numbers is therefore
//! believed only where it makes the verdict weaker: a decision may be withdrawn by it, never made. Wiring only: `verdict`
//! decides.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use wildmatch::WildMatch;

use crate::domain::{
    Call, Case, CaseId, CaseRecord, LaunchId, LaunchSummary, Metric, MetricSummary, NoiseModel, Outcome, OutcomeKind,
    Price, Reason, Run, RunId, Samples, Severity, SuiteInfo, Target, TargetCall, Verdict, Waiver,
};
use crate::exit::Exit;
use crate::github::accepted::AcceptedHere;
use crate::github::artifact::Origin;
use crate::github::check::Trust;
use crate::github::event::full_hash;
use crate::render::format;
use crate::report::build::{self, Parts};
use crate::report::foreign::Suspect;
use crate::report::{LaunchValue, PriceRow, Report, Row, RunInfo, Side};
use crate::store::summary;
use crate::suite::Suite;
use crate::verdict::builds::Builds;
use crate::verdict::confirm::{Confirmation, Rules};
use crate::verdict::paired::PAIRS_MAX;
use crate::verdict::policy::{self, Demand};
use crate::verdict::target::Aimed;
use crate::verdict::{self, Head, Judged, Judgement, Session, claims, cycles, escalate, target, waiver};

/// Characters of a sentence that a report may add.
const SENTENCE: usize = 300;
/// Sentences about the session as a whole.
const SENTENCES: usize = 10;
/// How much work deciding again may be: the sum of the cubes of the numbers of pairs. Forty pairs of 6,000 metrics.
const MOST_WORK: u64 = 400_000_000;
/// Enough of a commit hash.
const SHORT: usize = 10;

/// What is decided by.
#[derive(Debug)]
pub struct Law<'l> {
    /// The suite as it stands on the base branch.
    pub suite: &'l Suite,
    /// Its file, from the top of the repository.
    pub file: &'l str,
    /// The severity from which CI fails.
    pub gate: Severity,
    /// Cases that were asked for, as globs; empty for all.
    pub filter: &'l [String],
    /// What people have accepted, in a file.
    pub waivers: &'l [Waiver],
    /// And in the pull request's own thread.
    pub accepted: &'l [AcceptedHere],
    /// What is known of the noise there.
    pub noise: Vec<NoiseModel>,
    /// What builds differ by there.
    pub builds: Builds,
    /// The day it is.
    pub today: Date,
}

impl Law<'_> {
    fn cases(&self) -> impl Iterator<Item = &Case> {
        let globs: Vec<WildMatch> = self.filter.iter().map(|glob| WildMatch::new(glob)).collect();
        let wanted = move |case: &&Case| globs.is_empty() || globs.iter().any(|glob| glob.matches(case.id.as_str()));
        self.suite.cases.iter().filter(wanted)
    }
}

/// The report with every verdict made anew.
///
/// # Errors
/// Where it is about something else than `origin`, or its numbers do not belong together.
pub fn again(said: &Report, law: &Law<'_>, origin: &Origin) -> Result<Report, Suspect> {
    let suite = &law.suite.info.name;
    if said.suite != *suite {
        return Err(wrong(format!(
            "is about the suite `{}`, and {} on `{}` is `{suite}`",
            format::line(&said.suite),
            law.file,
            origin.base
        )));
    }
    is_about(said, origin)?;
    let cases: BTreeMap<&CaseId, &Case> = law.cases().map(|case| (&case.id, case)).collect();
    let Sorted { paired, screened, claimed } = Sorted::of(said, &cases);

    affordable(&paired)?;
    let pairs =
        paired.iter().map(|(case, rows)| Ok((*case, pairs(case, rows)?))).collect::<Result<Vec<_>, Suspect>>()?;
    let history = History::of(said, &screened)?;
    let record = |case: Case| CaseRecord { case, skipped: None };
    let judged = screened.iter().map(|(case, _)| (*case).clone());
    let records: Vec<CaseRecord> = judged.chain(references(said)).map(record).collect();
    let mut judgement = if screened.is_empty() {
        Judgement { rows: Vec::new(), reference: Vec::new(), notes: Vec::new() }
    } else {
        let head = Head { run: said.head.id, cases: &records, launches: &history.head };
        verdict::judge(head, &history.sessions, &BTreeSet::new(), law.gate)
    };
    let confirmation = replay(&pairs, law);
    if said.paired.is_some() {
        let run = |side: fn(&Row) -> &Option<Side>| {
            let rows = paired.iter().flat_map(|(_, rows)| rows);
            let first = rows.filter_map(|row| side(row).as_ref()).find_map(|side| side.launches.first());
            first.map_or(said.head.id, |launch| launch.run)
        };
        let (rows, notes) = confirmation.rows(run(|row| &row.base), run(|row| &row.head), law.gate);
        judgement.rows = escalate::merge(std::mem::take(&mut judgement.rows), rows);
        judgement.notes.extend(notes);
    }
    let by_key: BTreeMap<(&CaseId, &str), &Row> =
        said.rows.iter().map(|row| ((&row.case, row.metric.name.as_str()), row)).collect();
    // Metrics that gate, and for which the report has words instead of numbers.
    let mut unproven = 0;
    for row in &mut judgement.rows {
        if let Some(said) = by_key.get(&(&row.case, row.metric.name.as_str())) {
            let regressed = row.verdict.call == Call::Regressed;
            claims::withdraw(row, &said.verdict);
            unproven += usize::from(regressed && row.gating && row.verdict.call != Call::Regressed);
        }
    }
    let mut told: Vec<Judged<'_>> = claimed.iter().map(|(case, row)| claim(*case, row)).collect();
    told.extend(absent(said, law));
    let here: BTreeSet<&str> =
        judgement.rows.iter().filter_map(|row| cases.get(&row.case)).map(|case| case.backend.as_str()).collect();
    let elsewhere = |row: &Judged<'_>| cases.get(&row.case).is_some_and(|case| is_elsewhere(row, case, &here));
    let counts = |row: &&Judged<'_>| row.gating && !elsewhere(row);
    unproven += told.iter().filter(counts).count();
    judgement.rows.extend(told);
    let mut notes = vec![format!(
        "Decided again from the samples of the artifact, by the limits of {} on {}.",
        law.file, origin.base
    )];
    let mut waivers = law.waivers.to_vec();
    waivers.extend(law.accepted.iter().filter_map(|one| {
        let row = judgement.rows.iter().find(|row| row.case.as_str() == one.case && row.metric.name == one.metric);
        one.waiver(&origin.sha, row.and_then(|row| row.verdict.estimate).map(|estimate| estimate.change))
    }));
    cycles::hold_against(&mut judgement.rows);
    notes.extend(waiver::apply(&mut judgement.rows, &waivers, suite, law.today, law.gate));
    let known = |case: &str| law.suite.cases.iter().any(|known| known.id.as_str() == case);
    notes.extend(
        law.accepted
            .iter()
            .filter(|one| !known(&one.case))
            .map(|one| format!("`{}`, which was accepted in the thread, is no case of {}", one.case, law.file)),
    );
    if origin.trust == Trust::Own {
        notes.extend(said.notes.iter().take(SENTENCES).map(|note| sentence(note)));
    }
    let aims = Aims::of(said, law, &cases)?;
    let over = OverCases::of(said, &cases, &here);
    let mut targets = target::judge(Head { run: said.head.id, cases: &aims.records, launches: &aims.launches });
    targets.extend(target::judge(Head { run: said.head.id, cases: &over.records, launches: &over.launches }));
    target::worst_first(&mut targets);
    notes.extend(aims.note(law, &origin.base));
    let demand = Demand { require_decision: said.outcome.exit_code == Exit::Inconclusive.code() };
    let mut decision = policy::decide_suite(&judgement.rows, &targets, law.gate, demand);
    let is_silent = |aimed: &&Aimed<'_>| aims.is_silent(aimed, said, &here) || over.is_silent(aimed, &here);
    let silent = targets.iter().filter(is_silent).count();
    if unproven + silent > 0 && decision.exit == Exit::Pass {
        decision.exit = Exit::Nothing;
        let parts = [
            (unproven, format::plural(unproven, "metric that gates", "metrics that gate")),
            (silent, format::plural(silent, "target that is required", "targets that are required")),
        ];
        let parts: Vec<String> = parts.into_iter().filter(|(count, _)| *count > 0).map(|(_, words)| words).collect();
        decision.headline = format!("{}; the report decides nothing about {}", decision.headline, parts.join(" and "));
    }
    let run = run(said, law, origin);
    let mut report = build::report(
        Parts {
            head: &run,
            head_launches: &history.head,
            base: &[],
            history: &history.sessions,
            judgement: &judgement,
            targets: &targets,
            decision: &decision,
            suite_file: Some(law.file.to_owned()),
            gate: law.gate,
            notes,
            next: None,
            paired: said.paired.clone(),
            prices: Vec::new(),
            at: said.generated,
        },
        &|_, _, _, _| None,
    );
    report.base = said.base.iter().map(|run| circumstances(run, None)).collect();
    report.head = circumstances(&said.head, Some(&run));
    report.context = said.context.iter().filter(|value| cases.contains_key(&value.case)).cloned().collect();
    // As much as what is shown beside them, and never judged.
    report.prices = said.prices.iter().map(price).collect();
    if let Some(info) = &mut report.paired {
        info.base = info.base_commit[..SHORT].to_owned();
        let of = origin.pull_request.map_or_else(String::new, |number| format!(" of pull request {number}"));
        info.head = format!("{}{of}", &origin.sha[..SHORT]);
        info.cases = pairs.len() as u64;
        info.pairs = confirmation.pairs_made() as u64;
    }
    Ok(report)
}

fn wrong(what: String) -> Suspect {
    Suspect::Report(what)
}

/// A report about another commit is of another run, or a forgery.
fn is_about(said: &Report, origin: &Origin) -> Result<(), Suspect> {
    let measured = match &said.paired {
        Some(paired) => {
            full_hash(&paired.base_commit).ok_or_else(|| wrong("names a base that is no commit".to_owned()))?;
            full_hash(&paired.head_commit)
        }
        None => said.head.commit.as_deref().and_then(full_hash),
    };
    match measured {
        Some(measured) if measured == origin.sha => Ok(()),
        Some(measured) => Err(wrong(format!(
            "is about {}, and {} was proposed; measure `github.event.pull_request.head.sha`, without changes",
            &measured[..SHORT],
            &origin.sha[..SHORT]
        ))),
        None => Err(wrong("names no commit that was measured".to_owned())),
    }
}

/// Rows of cases, in the order of the report.
type ByCase<'r> = Vec<(&'r Case, Vec<&'r Row>)>;

/// Rows by what can be made of them.
struct Sorted<'r> {
    /// With both sides, measured in pairs.
    paired: ByCase<'r>,
    /// With both sides, head against history.
    screened: ByCase<'r>,
    /// Everything else: what the report says without numbers, and cases that the base branch does not know.
    claimed: Vec<(Option<&'r Case>, &'r Row)>,
}

impl<'r> Sorted<'r> {
    fn of(said: &'r Report, cases: &BTreeMap<&CaseId, &'r Case>) -> Self {
        let mut sorted = Self { paired: Vec::new(), screened: Vec::new(), claimed: Vec::new() };
        for row in &said.rows {
            let known = cases.get(&row.case).copied();
            let Some(case) = known.filter(|_| row.base.is_some() && row.head.is_some()) else {
                sorted.claimed.push((known, row));
                continue;
            };
            let in_pairs = row.paired.is_some() && said.paired.is_some();
            let rows = if in_pairs { &mut sorted.paired } else { &mut sorted.screened };
            match rows.iter_mut().find(|(other, _)| other.id == case.id) {
                Some((_, rows)) => rows.push(row),
                None => rows.push((case, vec![row])),
            }
        }
        sorted
    }
}

/// Bets on many pairs take time that grows with their cube; nobody measures so many.
fn affordable(paired: &ByCase<'_>) -> Result<(), Suspect> {
    let pairs = |row: &&Row| row.base.as_ref().map_or(0, |side| side.launches.len() as u64);
    let work: u64 = paired.iter().flat_map(|(_, rows)| rows).map(|row| pairs(row).pow(3)).sum();
    if work > MOST_WORK { Err(wrong("has more pairs than can be decided again".to_owned())) } else { Ok(()) }
}

/// A metric as the base branch defines it, or as regrade itself does; what neither knows as the report has it.
fn metric(case: &Case, said: &Metric) -> Result<Metric, Suspect> {
    match case.metric(&said.name) {
        Some(known) if !known.takes(&said.unit) => {
            Err(wrong(format!("measures {} of `{}` in {} instead of {}", said.name, case.id, said.unit, known.unit)))
        }
        Some(known) => Ok(Metric { unit: said.unit.clone(), ..known }),
        None => Ok(said.clone()),
    }
}

/// The columns of a launch, made from its samples; where the report leaves these to the database, from its value.
fn summarised(metric: &Metric, launch: &LaunchValue) -> MetricSummary {
    let values = launch.samples.clone().unwrap_or_else(|| vec![launch.value]);
    let mut made = summary::of_samples(&Samples { metric: metric.clone(), iterations: 1, clock: None, values });
    made.n = launch.n;
    made
}

/// Launches as they are put together again from rows that each know one metric.
#[derive(Default)]
struct Launches {
    places: BTreeMap<LaunchId, usize>,
    made: Vec<LaunchSummary>,
}

impl Launches {
    fn add(&mut self, case: &CaseId, metric: &Metric, launch: &LaunchValue) -> Result<usize, Suspect> {
        let next = self.made.len();
        let place = *self.places.entry(launch.launch).or_insert(next);
        if place == next {
            let (id, index) = (launch.launch, next as u32);
            let (outcome, metrics) = (Outcome::measured(), Vec::new());
            self.made.push(LaunchSummary { id, case: case.clone(), index, outcome, metrics });
        }
        let summary = &mut self.made[place];
        if summary.case != *case {
            return Err(wrong(format!("counts a launch of `{}` for `{case}`, too", summary.case)));
        }
        summary.metrics.push(summarised(metric, launch));
        Ok(place)
    }
}

/// The pairs of a case: launch `i` of a row's base and launch `i` of its head ran next to each other.
fn pairs(case: &Case, rows: &[&Row]) -> Result<Vec<[LaunchSummary; 2]>, Suspect> {
    let (mut base, mut head) = (Launches::default(), Launches::default());
    let length = |row: &&&Row| row.base.as_ref().map_or(0, |side| side.launches.len());
    let mut longest_first = rows.to_vec();
    longest_first.sort_by_key(|row| std::cmp::Reverse(length(&row)));
    for row in longest_first {
        let metric = metric(case, &row.metric)?;
        let (Some(of_base), Some(of_head)) = (&row.base, &row.head) else { continue };
        if of_base.launches.len() != of_head.launches.len() {
            return Err(wrong(format!("has pairs of `{}` without a base or a head", case.id)));
        }
        for (before, after) in of_base.launches.iter().zip(&of_head.launches) {
            if base.add(&case.id, &metric, before)? != head.add(&case.id, &metric, after)? {
                return Err(wrong(format!("has launches of `{}` in different pairs", case.id)));
            }
        }
    }
    Ok(base.made.into_iter().zip(head.made).map(|(base, head)| [base, head]).collect())
}

/// Gives the pairs to the referee that a measurement asks after each.
fn replay(pairs: &[(&Case, Vec<[LaunchSummary; 2]>)], law: &Law<'_>) -> Confirmation {
    let most = pairs.iter().map(|(_, pairs)| pairs.len()).fold(PAIRS_MAX, usize::max);
    let cases = pairs.iter().enumerate().map(|(place, (case, _))| (place, *case));
    let mut confirmation =
        Confirmation::new(cases, law.noise.clone(), Rules { most, exhaustive: false }).with_builds(law.builds.clone());
    for (place, (_, pairs)) in pairs.iter().enumerate() {
        // The launches before the first pair are not in a report; which metrics there are the first pair tells as well.
        if let Some([base, head]) = pairs.first() {
            confirmation.warmed(place, base, head, 0.0);
        }
    }
    confirmation.begin(None);
    for (place, (_, pairs)) in pairs.iter().enumerate() {
        for [base, head] in pairs {
            confirmation.take(place, base.clone(), head.clone());
        }
    }
    confirmation
}

/// Head and the sessions of the history, as far as rows tell.
struct History {
    head: Vec<LaunchSummary>,
    sessions: Vec<Session>,
}

impl History {
    fn of(said: &Report, screened: &ByCase<'_>) -> Result<Self, Suspect> {
        let mut head = Launches::default();
        let mut sessions: Vec<(RunId, Launches)> = said.base.iter().map(|run| (run.id, Launches::default())).collect();
        let session = |run: RunId| {
            let place = sessions.iter().position(|(known, _)| *known == run);
            place.ok_or_else(|| wrong(format!("counts launches of the run {run}, which it does not name")))
        };
        let mut of_sessions: Vec<(usize, CaseId, Metric, &LaunchValue)> = Vec::new();
        for (case, rows) in screened {
            for row in rows {
                let metric = metric(case, &row.metric)?;
                for launch in row.head.iter().flat_map(|side| &side.launches) {
                    head.add(&case.id, &metric, launch)?;
                }
                for launch in row.base.iter().flat_map(|side| &side.launches) {
                    of_sessions.push((session(launch.run)?, case.id.clone(), metric.clone(), launch));
                }
            }
        }
        let latency = Metric::standard(Metric::LATENCY).expect("in the table");
        for row in &said.reference {
            for launch in &row.head_launches {
                head.add(&row.case, &latency, launch)?;
            }
            for launch in &row.base_launches {
                of_sessions.push((session(launch.run)?, row.case.clone(), latency.clone(), launch));
            }
        }
        for (place, case, metric, launch) in of_sessions {
            sessions[place].1.add(&case, &metric, launch)?;
        }
        let sessions = sessions.into_iter().map(|(run, launches)| Session { run, launches: launches.made });
        Ok(Self { head: head.made, sessions: sessions.collect() })
    }
}

/// The launches that the report has of targets, for the targets of the base branch's suite: what the report itself wants,
/// and what it says of it, counts for nothing.
struct Aims {
    records: Vec<CaseRecord>,
    launches: Vec<LaunchSummary>,
    /// Targets of the report that are not in the base branch's suite.
    foreign: usize,
}

impl Aims {
    fn of(said: &Report, law: &Law<'_>, cases: &BTreeMap<&CaseId, &Case>) -> Result<Self, Suspect> {
        let all: BTreeMap<&CaseId, &Case> = law.suite.cases.iter().map(|case| (&case.id, case)).collect();
        let mut launches = Launches::default();
        let mut values: BTreeMap<(LaunchId, &str), f64> = BTreeMap::new();
        let mut foreign = 0;
        for row in &said.targets {
            let same = |target: &Target| {
                target.that == row.target.that && target.of == row.target.of && target.over == row.target.over
            };
            let about = cases.values().filter(|case| case.id == row.case || row.target.over.is_some());
            let known = about.flat_map(|case| &case.targets).any(same);
            foreign += usize::from(!known);
            for (id, side) in [(Some(&row.case), &row.head), (row.target.of.as_ref(), &row.other)] {
                let (Some(case), Some(side)) = (id.and_then(|id| all.get(id)), side) else { continue };
                let metric = metric(case, &row.metric)?;
                for launch in &side.launches {
                    if launch.run != said.head.id {
                        return Err(wrong(format!(
                            "counts a launch of another run for the target {}",
                            row.target.that
                        )));
                    }
                    // Several targets may be about one metric: each tells its launches.
                    match values.insert((launch.launch, &row.metric.name), launch.value) {
                        Some(other) if other != launch.value => {
                            let name = &row.metric.name;
                            return Err(wrong(format!("has two values of {name} of a launch of `{}`", case.id)));
                        }
                        Some(_) => {}
                        None => {
                            launches.add(&case.id, &metric, launch)?;
                        }
                    }
                }
            }
        }
        let launches = launches.made;
        let of_others: BTreeSet<&CaseId> =
            cases.values().flat_map(|case| &case.targets).filter_map(|target| target.of.as_ref()).collect();
        let silent = |case: &Case| launches.iter().all(|launch| launch.case != case.id);
        let of_one = |target: &&Target| target.over.is_none();
        let record = |case: &Case, judged: bool| CaseRecord {
            case: Case {
                targets: case.targets.iter().filter(of_one).filter(|_| judged).cloned().collect(),
                ..case.clone()
            },
            skipped: silent(case).then(|| Outcome::because(OutcomeKind::Skipped, "the report has no numbers of it")),
        };
        let records = all
            .values()
            .map(|case| (case, cases.contains_key(&case.id)))
            .filter(|(case, judged)| {
                *judged && case.targets.iter().any(|target| of_one(&target)) || of_others.contains(&case.id)
            })
            .map(|(case, judged)| record(case, judged))
            .collect();
        Ok(Self { records, launches, foreign })
    }

    /// What a change wants of itself counts once it is reviewed.
    fn note(&self, law: &Law<'_>, base: &str) -> Option<String> {
        let count = format::plural(self.foreign, "target of the report is", "targets of the report are");
        (self.foreign > 0).then(|| format!("{count} not in {} on {base}, and not judged.", law.file))
    }

    /// Whether the report says nothing of a required target that could have been measured where it comes from, as far as
    /// the rest of it shows.
    fn is_silent(&self, aimed: &Aimed<'_>, said: &Report, here: &BTreeSet<&str>) -> bool {
        let decidable = matches!(aimed.verdict.reason, Reason::Established | Reason::WideInterval);
        let Some(record) = self.records.iter().find(|record| record.case.id == aimed.case) else { return false };
        let measured = || said.rows.iter().any(|row| row.case == aimed.case && row.head.is_some());
        aimed.target.required
            && !decidable
            && here.contains(record.case.backend.as_str())
            && (record.case.needs.is_empty() || measured())
    }
}

/// How the cases ended that a target of the base branch's suite is about together, as far as the report's rows have numbers or
/// a failure of each. What they are silent about did not run, as far as anybody knows here.
struct OverCases {
    records: Vec<CaseRecord>,
    launches: Vec<LaunchSummary>,
}

impl OverCases {
    fn of(said: &Report, cases: &BTreeMap<&CaseId, &Case>, here: &BTreeSet<&str>) -> Self {
        let mut over = Self { records: Vec::new(), launches: Vec::new() };
        for case in cases.values() {
            let targets: Vec<Target> = case.targets.iter().filter(|target| target.over.is_some()).cloned().collect();
            if targets.is_empty() {
                continue;
            }
            let rows: Vec<&Row> = said.rows.iter().filter(|row| row.case == case.id).collect();
            let ended = |row: &&Row| row.outcome.as_ref().map(|outcome| outcome.kind);
            let worst = rows.iter().filter_map(ended).find(|kind| *kind != OutcomeKind::Measured);
            let elsewhere = !case.needs.is_empty() || !here.contains(case.backend.as_str());
            let lacking = worst == Some(OutcomeKind::Skipped) && elsewhere;
            let kind = match worst {
                Some(OutcomeKind::Skipped) => None,
                Some(kind) => Some(kind),
                None => rows.iter().any(|row| row.head.is_some()).then_some(OutcomeKind::Measured),
            };
            over.launches.extend(kind.map(|kind| LaunchSummary {
                id: LaunchId(uuid::Uuid::nil()),
                case: case.id.clone(),
                index: 0,
                outcome: Outcome { kind, reason: None },
                metrics: Vec::new(),
            }));
            let skipped = || Outcome::because(OutcomeKind::Skipped, "skipped where it was measured");
            over.records.push(CaseRecord { case: Case { targets, ..(*case).clone() }, skipped: lacking.then(skipped) });
        }
        over
    }

    /// Whether a required target stays open although some of its cases could have been measured where the report comes from.
    fn is_silent(&self, aimed: &Aimed<'_>, here: &BTreeSet<&str>) -> bool {
        let about = |record: &&CaseRecord| record.case.targets.contains(aimed.target);
        aimed.target.required
            && aimed.target.over.is_some()
            && aimed.verdict.call == TargetCall::Inconclusive
            && self.records.iter().filter(about).any(|record| here.contains(record.case.backend.as_str()))
    }
}

/// The reference workloads whose launches the report has.
fn references(said: &Report) -> Vec<Case> {
    let known = Suite::reference_cases();
    let measured = |case: &Case| said.reference.iter().any(|row| row.case == case.id && !row.head_launches.is_empty());
    known.into_iter().filter(measured).collect()
}

/// What the report says without numbers.
fn claim(case: Option<&Case>, row: &Row) -> Judged<'static> {
    let metric = case.and_then(|case| metric(case, &row.metric).ok()).unwrap_or_else(|| row.metric.clone());
    let said = Verdict { note: sentence(&row.verdict.note), ..row.verdict.clone() };
    let outcome = row
        .outcome
        .as_ref()
        .map(|outcome| Outcome { kind: outcome.kind, reason: outcome.reason.as_deref().map(sentence) });
    claims::claim(case, &row.case, metric, &said, outcome)
}

/// Skipped here because the machine lacks what it needs, as far as the rest of the report shows: no claim that matters.
/// `here` are the backends that measured something.
fn is_elsewhere(row: &Judged<'_>, case: &Case, here: &BTreeSet<&str>) -> bool {
    row.verdict.reason == Reason::HeadSkipped && (!case.needs.is_empty() || !here.contains(case.backend.as_str()))
}

/// What gates in the base branch's suite, could be measured, and is not in the report.
fn absent(said: &Report, law: &Law<'_>) -> Vec<Judged<'static>> {
    let told: BTreeSet<&CaseId> = said.rows.iter().map(|row| &row.case).collect();
    let backends: BTreeSet<&str> =
        law.cases().filter(|case| told.contains(&case.id)).map(|case| case.backend.as_str()).collect();
    let numbers = |row: &&Row| row.base.is_some() && row.head.is_some();
    law.cases()
        .flat_map(|case| {
            let rows: Vec<&Row> = said.rows.iter().filter(|row| row.case == case.id).collect();
            let silent = rows.is_empty() && case.needs.is_empty() && backends.contains(case.backend.as_str());
            let partly = rows.iter().any(numbers);
            // Of what gates by default not every program can tell everything; what each can tell, and what the suite itself
            // describes, must be there.
            let expected = |metric: &&String| *metric == Metric::LATENCY || case.metrics.contains_key(*metric);
            let missing = |metric: &&String| (silent || partly) && rows.iter().all(|row| row.metric.name != **metric);
            let metrics = case.gate_metrics.iter().filter(expected).filter(missing).map(String::as_str);
            // A case of which nothing gates is missed all the same.
            let metrics = metrics.chain((silent && case.gate_metrics.is_empty()).then_some(Metric::LATENCY));
            metrics.map(|metric| claims::absent(case, metric)).collect::<Vec<_>>()
        })
        .collect()
}

/// The judged run as the report's view of it needs one.
fn run(said: &Report, law: &Law<'_>, origin: &Origin) -> Run {
    Run {
        id: said.head.id,
        suite: SuiteInfo { gate: law.gate, ..law.suite.info.clone() },
        commit: Some(origin.sha.clone()),
        branch: None,
        dirty: said.head.dirty,
        testbed: said.testbed.clone(),
        toolchain: sentence(&said.head.toolchain),
        regrade_version: String::new(),
        // What a reader may type; what was typed is the stranger's.
        command_line: format!("regrade compare {}", law.file),
        seed: said.head.seed,
        started: said.head.started,
        finished: said.head.finished,
        status: said.head.status,
        synthetic: None,
        debug_build: said.head.debug_build,
        arm: None,
        cases: law.suite.cases.iter().map(|case| CaseRecord { case: case.clone(), skipped: None }).collect(),
    }
}

/// A run's circumstances without what only a text would be.
fn circumstances(said: &RunInfo, head: Option<&Run>) -> RunInfo {
    RunInfo {
        commit: head.map_or_else(|| said.commit.as_deref().and_then(full_hash), |run| run.commit.clone()),
        branch: None,
        toolchain: sentence(&said.toolchain),
        command_line: head.map(|run| run.command_line.clone()).unwrap_or_default(),
        synthetic: None,
        ..said.clone()
    }
}

/// What a stranger says that a device costs, in harmless words.
fn price(said: &PriceRow) -> PriceRow {
    let Price { device, per_hour, currency, terms, source, date } = &said.price;
    let [device, currency, terms, source] = [device, currency, terms, source].map(|text| sentence(text));
    PriceRow { price: Price { device, per_hour: *per_hour, currency, terms, source, date: *date }, ..said.clone() }
}

/// A stranger's sentence: one harmless line.
fn sentence(said: &str) -> String {
    format::line(said).chars().take(SENTENCE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::BACKENDS;
    use crate::domain::{Build, TargetVerdict};
    use crate::report::TargetRow;

    /// A paired session, and a comparison with a history of six runs: both as `compare` wrote them.
    const DEMO: [&str; 2] = [
        include_str!("../../../tests/fixtures/strangers/demo.toml"),
        include_str!("../../../tests/fixtures/strangers/demo.json"),
    ];
    const OPS: [&str; 2] = [
        include_str!("../../../tests/fixtures/strangers/ops.toml"),
        include_str!("../../../tests/fixtures/strangers/ops.json"),
    ];

    fn suite(text: &str) -> Suite {
        let names: Vec<&str> = BACKENDS.iter().map(|backend| backend.name()).collect();
        Suite::parse("suite.toml", text, &names).expect("a suite")
    }

    fn said(text: &str) -> Report {
        crate::report::foreign::read(text.as_bytes()).expect("a report")
    }

    fn origin(said: &Report) -> Origin {
        let sha =
            said.paired.as_ref().map_or_else(|| said.head.commit.clone(), |paired| Some(paired.head_commit.clone()));
        Origin {
            sha: sha.expect("a commit"),
            pull_request: Some(8),
            base: "main".to_owned(),
            trust: Trust::Fork,
            url: None,
        }
    }

    fn decided(said: &Report, suite: &Suite, waivers: &[Waiver]) -> Result<Report, Suspect> {
        let builds = match &said.paired {
            Some(paired) if suite.build != Build::default() => {
                Builds::learn(&[], [&paired.base_commit, &paired.head_commit], suite.build.layouts as usize)
            }
            _ => Builds::same(),
        };
        let law = Law {
            suite,
            file: "suites/demo.toml",
            gate: suite.info.gate,
            filter: &[],
            waivers,
            accepted: &[],
            noise: Vec::new(),
            builds,
            today: jiff::civil::date(2026, 11, 26),
        };
        again(said, &law, &origin(said))
    }

    /// What was decided, row by row.
    fn verdicts(report: &Report) -> BTreeMap<String, (Call, Severity, Reason, bool)> {
        let of = |row: &Row| (row.verdict.call, row.verdict.severity, row.verdict.reason, row.fails);
        report.rows.iter().map(|row| (format!("{} {}", row.case, row.metric.name), of(row))).collect()
    }

    #[test]
    fn an_honest_report_is_decided_as_it_says() {
        for [text, json] in [DEMO, OPS] {
            let said = said(json);
            let report = decided(&said, &suite(text), &[]).expect("nothing is wrong with it");
            assert_eq!(verdicts(&report), verdicts(&said));
            assert_eq!(report.outcome.exit_code, said.outcome.exit_code);
            for (row, said) in report.rows.iter().filter_map(|row| {
                Some((row, said.rows.iter().find(|said| said.case == row.case && said.metric == row.metric)?))
            }) {
                let change = |row: &Row| row.verdict.estimate.map(|estimate| estimate.change);
                let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
                let (now, then) = (change(row), change(said));
                assert!(now.zip(then).is_none_or(|(now, then)| near(now, then)), "{} {now:?} {then:?}", row.case);
                assert_eq!(row.line, said.line, "{}", row.case);
            }
        }
    }

    #[test]
    fn a_verdict_that_the_numbers_do_not_bear_is_made_anew() {
        let mut forged = said(DEMO[1]);
        for row in &mut forged.rows {
            row.verdict.call = Call::Unchanged;
            row.verdict.severity = Severity::None;
            row.verdict.reason = Reason::WithinMargin;
            row.fails = false;
        }
        forged.outcome.exit_code = 0;
        forged.outcome.headline = "all is well".to_owned();
        let report = decided(&forged, &suite(DEMO[0]), &[]).expect("its numbers are sound");
        let found = verdicts(&report);
        assert_eq!(found["loop@cpu latency"], (Call::Regressed, Severity::Severe, Reason::Established, true));
        assert_eq!(found["broken@cpu latency"].0, Call::Inconclusive, "decided, without numbers");
        assert_eq!(report.outcome.exit_code, Exit::Regression.code());
        assert!(!report.outcome.headline.contains("well"));
    }

    #[test]
    fn the_limits_are_those_of_the_base_branch() {
        let mut said = said(DEMO[1]);
        for row in &mut said.rows {
            row.thresholds = crate::domain::Thresholds { minor: 5.0, moderate: 6.0, severe: 7.0, absolute_floor: None };
            row.gating = false;
        }
        said.gate = Severity::None;
        let lax = format!("{}\n[thresholds]\nminor = \"50%\"\nmoderate = \"60%\"\nsevere = \"70%\"\n", DEMO[0]);
        let of = |text: &str| verdicts(&decided(&said, &suite(text), &[]).expect("sound"))["loop@cpu latency"];
        assert_eq!(of(DEMO[0]), (Call::Regressed, Severity::Severe, Reason::Established, true));
        assert_eq!(of(&lax).0, Call::Unchanged);
    }

    #[test]
    fn a_row_that_is_left_out_is_missed() {
        let mut said = said(DEMO[1]);
        said.rows.retain(|row| row.benchmark != "loop");
        let report = decided(&said, &suite(DEMO[0]), &[]).expect("sound");
        assert_eq!(verdicts(&report)["loop@cpu latency"], (Call::Inconclusive, Severity::None, Reason::Missing, false));
    }

    #[test]
    fn a_case_that_the_base_branch_does_not_know_is_new_whatever_it_says() {
        let mut said = said(DEMO[1]);
        let mut row = said.rows[0].clone();
        row.case = "mine@cpu".into();
        said.rows.push(row);
        let report = decided(&said, &suite(DEMO[0]), &[]).expect("sound");
        assert_eq!(verdicts(&report)["mine@cpu latency"], (Call::NotComparable, Severity::None, Reason::New, false));
    }

    #[test]
    fn a_decision_may_be_taken_back_but_not_made() {
        let mut said = said(DEMO[1]);
        for row in &mut said.rows {
            row.verdict.reason = Reason::ControlMoved;
        }
        let report = decided(&said, &suite(DEMO[0]), &[]).expect("sound");
        let found = verdicts(&report)["loop@cpu latency"];
        assert_eq!(found, (Call::Inconclusive, Severity::None, Reason::ControlMoved, false));
    }

    #[test]
    fn what_people_here_accepted_counts() {
        let waiver = Waiver {
            suite: None,
            case: "loop@cpu".into(),
            metric: "latency".to_owned(),
            change: 0.5,
            reason: "checked arithmetic".to_owned(),
            who: "Ada".to_owned(),
            until: None,
        };
        let report = decided(&said(DEMO[1]), &suite(DEMO[0]), &[waiver]).expect("sound");
        assert_eq!(verdicts(&report)["loop@cpu latency"].2, Reason::Waived);
        assert_eq!(report.outcome.exit_code, Exit::CaseFailed.code(), "the case that crashed is still there");
    }

    #[test]
    fn what_was_accepted_in_the_thread_counts_for_its_commit() {
        let said = said(DEMO[1]);
        let law = suite(DEMO[0]);
        let here = |sha: &str| AcceptedHere {
            case: "loop@cpu".to_owned(),
            metric: "latency".to_owned(),
            change: None,
            sha: Some(sha.to_owned()),
            reason: "checked arithmetic".to_owned(),
            who: "ada".to_owned(),
            comment: 1,
        };
        let reason = |sha: &str| {
            let accepted = [here(sha)];
            let law = Law {
                suite: &law,
                file: "suites/demo.toml",
                gate: Severity::Moderate,
                filter: &[],
                waivers: &[],
                accepted: &accepted,
                noise: Vec::new(),
                builds: Builds::same(),
                today: jiff::civil::date(2026, 11, 26),
            };
            verdicts(&again(&said, &law, &origin(&said)).expect("sound"))["loop@cpu latency"].2
        };
        assert_eq!(reason(&origin(&said).sha), Reason::Waived);
        assert_eq!(reason("89abcdef0123456789abcdef0123456789abcdef"), Reason::Established);
    }

    /// The suite with targets of its benchmark `loop`, and the report with the head's launches of the latency as those that
    /// the targets are about.
    fn aiming(targets: &str) -> (Suite, Report) {
        let named = "name = \"loop\"";
        assert!(DEMO[0].contains(named));
        let law = suite(&DEMO[0].replace(named, &format!("{named}\ntargets = [{targets}]")));
        let mut said = said(DEMO[1]);
        let row = said.rows.iter().find(|row| row.case.as_str() == "loop@cpu" && row.metric.name == "latency");
        let row = row.expect("it was measured").clone();
        let mut head = row.head.expect("numbers");
        for launch in &mut head.launches {
            (launch.run, launch.samples) = (said.head.id, None);
        }
        let case = law.cases.iter().find(|case| case.id == row.case).expect("it is there");
        said.targets = case
            .targets
            .iter()
            .map(|target| TargetRow {
                case: row.case.clone(),
                benchmark: row.benchmark.clone(),
                line: None,
                owner: None,
                target: target.clone(),
                metric: row.metric.clone(),
                head: Some(head.clone()),
                other: None,
                fails: false,
                // Whatever it says.
                verdict: TargetVerdict {
                    call: TargetCall::Met,
                    reason: Reason::Established,
                    reading: None,
                    note: "all is well".to_owned(),
                },
            })
            .collect();
        (law, said)
    }

    fn aims(report: &Report) -> Vec<(String, TargetCall, Reason, bool)> {
        let of = |row: &TargetRow| (row.target.that.clone(), row.verdict.call, row.verdict.reason, row.fails);
        report.targets.iter().map(of).collect()
    }

    #[test]
    fn targets_are_decided_again_from_their_launches() {
        let (law, honest) = aiming("\"latency <= 1 ns\", { that = \"latency <= 1 h\", source = \"patience\" }");
        let report = decided(&honest, &law, &[]).expect("sound");
        assert_eq!(
            aims(&report),
            [
                ("latency <= 1 ns".to_owned(), TargetCall::Missed, Reason::Established, true),
                ("latency <= 1 h".to_owned(), TargetCall::Met, Reason::Established, false),
            ]
        );
        assert_eq!(report.outcome.exit_code, Exit::Regression.code());
        assert!(report.outcome.headline.contains("1 target missed"), "{}", report.outcome.headline);
        assert_eq!(report.targets[1].target.source.as_deref(), Some("patience"));
        assert!(report.targets.iter().all(|row| row.verdict.note != "all is well" && row.line.is_some()));
        // No waiver excuses a miss.
        let waiver = Waiver {
            suite: None,
            case: "loop@cpu".into(),
            metric: "latency".to_owned(),
            change: 9.0,
            reason: "known".to_owned(),
            who: "Ada".to_owned(),
            until: None,
        };
        assert_eq!(aims(&decided(&honest, &law, &[waiver]).expect("sound")), aims(&report));
    }

    #[test]
    fn what_the_report_wants_of_itself_counts_for_nothing() {
        let (law, honest) = aiming("\"latency <= 1 ns\"");
        let mut said = honest.clone();
        said.targets[0].target.value = 1e9;
        said.targets[0].target.required = false;
        assert_eq!(
            aims(&decided(&said, &law, &[]).expect("sound")),
            aims(&decided(&honest, &law, &[]).expect("sound"))
        );
        // A target that the base branch does not have is not judged, and said to be there.
        let report = decided(&honest, &suite(DEMO[0]), &[]).expect("sound");
        assert!(report.targets.is_empty());
        assert!(
            report.notes.iter().any(|note| note.contains("1 target of the report is not in")),
            "{:?}",
            report.notes
        );
    }

    #[test]
    fn a_target_that_the_report_is_silent_about_turns_nothing_green() {
        let (law, honest) = aiming("\"latency <= 1 h\"");
        // Only the case that crashed is in the way of a pass.
        let undisturbed = |said: &mut Report| {
            said.rows.retain(|row| row.benchmark == "loop");
            let row = said.rows.iter_mut().find(|row| row.metric.name == "latency").expect("it is there");
            let base = row.base.clone().expect("numbers");
            for (head, base) in row.head.as_mut().expect("numbers").launches.iter_mut().zip(&base.launches) {
                (head.value, head.samples) = (base.value, base.samples.clone());
            }
        };
        let law = {
            let mut law = law;
            law.cases.retain(|case| case.benchmark == "loop");
            law
        };
        let outcome = |change: &dyn Fn(&mut Report)| {
            let mut said = honest.clone();
            undisturbed(&mut said);
            change(&mut said);
            let report = decided(&said, &law, &[]).expect("sound");
            (report.outcome.exit_code, report.outcome.headline.clone(), aims(&report)[0].1)
        };
        assert_eq!(outcome(&|_| {}).0, Exit::Pass.code(), "{:?}", outcome(&|_| {}));
        for change in [
            &(|said: &mut Report| said.targets.clear()) as &dyn Fn(&mut Report),
            &|said: &mut Report| said.targets[0].head = None,
            &|said: &mut Report| said.targets[0].head.as_mut().expect("numbers").launches.truncate(2),
        ] {
            let (exit, headline, call) = outcome(change);
            assert_eq!((exit, call), (Exit::Nothing.code(), TargetCall::Inconclusive), "{headline}");
            assert!(headline.contains("decides nothing about 1 target that is required"), "{headline}");
        }
    }

    #[test]
    fn a_success_rate_is_counted_again_and_silence_is_no_success() {
        let named = "name = \"demo\"";
        let targets = "targets = [\"success_rate >= 90 %\"]";
        let law = suite(&DEMO[0].replacen(named, &format!("{named}\n{targets}"), 1));
        let all = law.cases.len() as u32;
        let honest = said(DEMO[1]);
        let counted = |change: &dyn Fn(&mut Report)| {
            let mut said = honest.clone();
            change(&mut said);
            let report = decided(&said, &law, &[]).expect("sound");
            let row = report.targets.into_iter().next().expect("one target");
            let over = row.target.over.clone().expect("over cases");
            assert_eq!((row.case.as_str(), over.cases), ("all cases", all));
            (row.verdict.call, row.verdict.note, report.outcome.headline, report.outcome.exit_code)
        };
        let (call, note, _, exit) = counted(&|_| {});
        assert_eq!((call, exit), (TargetCall::Missed, Exit::Regression.code()), "{note}");
        assert!(note.contains("broken@cpu failed"), "{note}");
        // To leave the failed case out, or to call it skipped, makes it no success.
        let left_out = |said: &mut Report| said.rows.retain(|row| row.benchmark != "broken");
        let skipped = |said: &mut Report| {
            for row in said.rows.iter_mut().filter(|row| row.benchmark == "broken") {
                row.outcome = Some(Outcome::because(OutcomeKind::Skipped, "no such device"));
                row.verdict.reason = Reason::HeadSkipped;
            }
        };
        for change in [&left_out as &dyn Fn(&mut Report), &skipped] {
            let (call, note, ..) = counted(change);
            assert_eq!(call, TargetCall::Inconclusive, "{note}");
            assert!(note.ends_with("1 did not run"), "{note}");
        }
        // Nor does it turn anything green where nothing else is in the way.
        let quiet = |said: &mut Report| {
            left_out(said);
            for row in &mut said.rows {
                let (Some(head), Some(base)) = (&mut row.head, &row.base) else { continue };
                for (head, base) in head.launches.iter_mut().zip(&base.launches) {
                    (head.value, head.samples) = (base.value, base.samples.clone());
                }
            }
        };
        let (_, _, headline, exit) = counted(&quiet);
        assert_eq!(exit, Exit::Nothing.code(), "{headline}");
        assert!(headline.contains("1 target that is required"), "{headline}");
    }

    #[test]
    fn a_throughput_keeps_what_it_counts() {
        let case = suite(DEMO[0]).cases.remove(0);
        let said =
            |unit: &str| Metric { unit: unit.to_owned(), ..Metric::standard("throughput").expect("in the table") };
        assert_eq!(metric(&case, &said("tokens/s")).expect("a throughput"), said("tokens/s"));
        assert!(metric(&case, &said("s")).is_err());
    }

    #[test]
    fn launches_of_targets_belong_to_the_head_and_have_one_value() {
        let (law, honest) = aiming("\"latency <= 1 h\", \"latency <= 1 ns\"");
        let wrong = |change: &dyn Fn(&mut Report)| {
            let mut said = honest.clone();
            change(&mut said);
            decided(&said, &law, &[]).expect_err("wrong").to_string()
        };
        let head = |said: &mut Report, place: usize| -> LaunchValue {
            said.targets[place].head.as_ref().expect("numbers").launches[0].clone()
        };
        let set = |said: &mut Report, place: usize, launch: LaunchValue| {
            said.targets[place].head.as_mut().expect("numbers").launches[0] = launch;
        };
        let other_run = wrong(&|said| {
            let launch = head(said, 0);
            set(said, 0, LaunchValue { run: RunId::fresh(), ..launch });
        });
        assert!(other_run.contains("a launch of another run"), "{other_run}");
        let two_values = wrong(&|said| {
            let launch = head(said, 1);
            set(said, 1, LaunchValue { value: launch.value / 2.0, ..launch });
        });
        assert!(two_values.contains("two values of latency"), "{two_values}");
        let unit = wrong(&|said| said.targets[0].metric.unit = "h".to_owned());
        assert!(unit.contains("in h instead of s"), "{unit}");
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        type Change = fn(&mut Report);
        let changes: [(&str, Change); 7] = [
            ("is about the suite", |said| said.suite = "other".to_owned()),
            ("is about 89abcdef01", |said| {
                said.paired.as_mut().expect("pairs").head_commit =
                    "89abcdef0123456789abcdef0123456789abcdef".to_owned();
            }),
            ("names no commit", |said| said.paired.as_mut().expect("pairs").head_commit = "HEAD".to_owned()),
            ("names a base that is no commit", |said| {
                said.paired.as_mut().expect("pairs").base_commit = "$(id)".to_owned();
            }),
            ("without a base or a head", |said| {
                said.rows[0].base.as_mut().expect("numbers").launches.pop();
            }),
            ("in different pairs", |said| {
                let row = said.rows.iter_mut().find(|row| row.metric.name == "user_time").expect("it is there");
                row.base.as_mut().expect("numbers").launches.swap(0, 1);
            }),
            ("in ms instead of s", |said| said.rows[0].metric.unit = "ms".to_owned()),
        ];
        let honest = said(DEMO[1]);
        for (wanted, change) in changes {
            let mut forged = honest.clone();
            change(&mut forged);
            let law = suite(DEMO[0]);
            let laws = Law {
                suite: &law,
                file: "suites/demo.toml",
                gate: Severity::Moderate,
                filter: &[],
                waivers: &[],
                accepted: &[],
                noise: Vec::new(),
                builds: Builds::same(),
                today: jiff::civil::date(2026, 11, 26),
            };
            let error = again(&forged, &laws, &origin(&honest)).expect_err(wanted).to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
