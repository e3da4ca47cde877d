//! `regrade bisect`: drives git's own bisection with paired launches, and names the commit with its own change.

use anyhow::{Context as _, Result};
use serde::Serialize;
use wildmatch::WildMatch;

use crate::cli::{Bisect, Clocks, Format};
use crate::command::arms::{self, BuildFailed, Checkouts, Ref, Refs, Repository};
use crate::command::compare::pairs;
use crate::command::context::{Context, print};
use crate::command::git::WorkTree;
use crate::command::paired::{self, Request, Sides};
use crate::command::session::{self, CANCELLED, Header, load_suite, suite_path_again};
use crate::command::usage;
use crate::domain::{ArmSide, Call, Case, Estimate, Metric, NoiseModel, Plan, Reason, RunId, Severity};
use crate::exit::Exit;
use crate::render::format;
use crate::runner::Ending;
use crate::store::Store;
use crate::suite::Suite;
use crate::verdict::builds::Builds;
use crate::verdict::confirm::Rules;
use crate::verdict::halving::Halving;
use crate::verdict::paired::PAIRS_MAX;

/// Pairs of a step after which it is skipped.
const MOST_PAIRS: usize = 60;

/// What was found.
#[derive(Debug, Serialize)]
struct Found {
    case: String,
    metric: String,
    /// Change of the bad end against the good one.
    change: Estimate,
    /// The first commit that has it; absent where only commits that could not be judged are left.
    culprit: Option<Culprit>,
    /// What is left where no single commit can be named.
    candidates: Vec<String>,
    steps: Vec<Step>,
}

/// The commit that brought the change.
#[derive(Debug, Serialize)]
struct Culprit {
    commit: String,
    author: String,
    date: String,
    subject: String,
    /// Its change against its parent; absent where it could not be measured.
    change: Option<Estimate>,
}

/// One commit that was tried.
#[derive(Debug, Serialize)]
struct Step {
    commit: String,
    said: &'static str,
    why: String,
}

/// Everything a step needs.
struct Search<'a> {
    repository: &'a Repository,
    suite: &'a Suite,
    plan: &'a Plan,
    place: usize,
    metric: Metric,
    header: &'a Header,
    clocks: &'a Clocks,
    noise: Vec<NoiseModel>,
    context: &'a Context,
}

/// Looks for the commit.
pub fn run(arguments: &Bisect, context: &Context) -> Result<Exit> {
    session::listen_for_signals()?;
    let suite = load_suite(&suite_path_again(arguments.suite.as_ref(), context)?)?;
    let repository = Repository::discover().ok_or_else(|| usage("there is no git repository here to bisect"))?;
    let (good, bad) = (repository.resolve(&arguments.good)?, repository.resolve(&arguments.bad)?);
    if good.commit == bad.commit || !repository.is_ancestor(&good.commit, &bad.commit) {
        return Err(usage(format!("{} is no ancestor of {}; the good commit comes first", good.label(), bad.label())));
    }
    let machine = session::machine();
    let mut plan = session::plan(&suite, &arguments.select(), &machine, session::fresh_seed(), None)?;
    let place = only_case(&plan, &arguments.case)?;
    let header = Header { tree: WorkTree::detect(), testbed: session::testbed(&plan, &machine, &arguments.clocks) };
    let noise = context.store()?.noise(&suite.info.name, &header.testbed.key)?;
    let name = match &arguments.metric {
        Some(name) => name.clone(),
        None => plan.cases[place].gate_metrics.first().cloned().unwrap_or_else(|| Metric::LATENCY.to_owned()),
    };
    let metric = metric_of(&plan.cases[place], &name);
    // What is looked for decides when there are pairs enough, not what gates.
    plan.cases[place].gate_metrics = vec![name];
    let mut search = Search {
        repository: &repository,
        suite: &suite,
        plan: &plan,
        place,
        metric,
        header: &header,
        clocks: &arguments.clocks,
        noise,
        context,
    };
    context.tell(&format!("first the ends: is there a change between {} and {}?", good.label(), bad.label()));
    let ends = search.confirm(&good, &bad)?;
    let change = match ends {
        Ends::Changed(estimate) => estimate,
        Ends::Refused(why) => {
            context.tell(&why);
            return Ok(Exit::Inconclusive);
        }
        Ends::Cancelled => return Ok(Exit::Environment),
    };
    let Some(found) = search.bisect(&good, &bad, change)? else {
        return Ok(Exit::Environment);
    };
    match arguments.format {
        Format::Json => print(format!("{}\n", serde_json::to_string_pretty(&found)?).as_bytes())?,
        Format::Text => print(text(&found).as_bytes())?,
    }
    Ok(if found.culprit.is_some() { Exit::Pass } else { Exit::Inconclusive })
}

fn only_case(plan: &Plan, glob: &str) -> Result<usize> {
    let pattern = WildMatch::new(glob);
    let hits: Vec<usize> = plan
        .cases
        .iter()
        .enumerate()
        .filter(|(_, case)| !case.reference && pattern.matches(case.id.as_str()))
        .map(|(place, _)| place)
        .collect();
    match hits.as_slice() {
        [only] => match &plan.cases[*only].skip {
            None => Ok(*only),
            Some(skip) => {
                Err(usage(format!("`{}` cannot run here: {}; {}", plan.cases[*only].id, skip.reason, skip.remedy)))
            }
        },
        [] => Err(usage(format!("--case {glob}: no case of that name; `regrade list --cases` shows them"))),
        several => {
            let names: Vec<String> = several.iter().map(|place| format!("`{}`", plan.cases[*place].id)).collect();
            Err(usage(format!("--case {glob} stands for several: {}; name one", names.join(", "))))
        }
    }
}

fn metric_of(case: &Case, name: &str) -> Metric {
    case.metric(name).unwrap_or_else(|| Metric {
        name: name.to_owned(),
        unit: String::new(),
        direction: crate::domain::Direction::LowerIsBetter,
        kind: crate::domain::MetricKind::Timing,
        exact: false,
        derived: false,
    })
}

/// What pairs of the two ends say.
enum Ends {
    Changed(Estimate),
    Refused(String),
    Cancelled,
}

impl Search<'_> {
    fn model(&self) -> Option<NoiseModel> {
        let case = &self.plan.cases[self.place].id;
        self.noise.iter().find(|model| model.case == *case && model.metric == self.metric.name).cloned()
    }

    fn prepare(&self, base: &Ref, head: &Ref) -> Result<Checkouts> {
        let refs = Refs { base: base.clone(), head: head.clone() };
        arms::prepare(self.repository, &refs, self.suite, &CANCELLED, self.context)
    }

    fn request<'r>(
        &'r self,
        checkouts: &'r Checkouts,
        base: &'r Ref,
        head: &'r Ref,
        escalated: &'r [usize],
        builds: Builds,
    ) -> Request<'r> {
        Request {
            plan: self.plan,
            escalated,
            sides: Sides { base: &checkouts.base, base_ref: Some(base), head: &checkouts.head, head_ref: Some(head) },
            inject: std::collections::BTreeMap::new(),
            synthetic: None,
            budget: None,
            noise: self.noise.clone(),
            builds,
            rules: Rules { most: PAIRS_MAX, exhaustive: false },
            header: self.header,
            clocks: self.clocks,
        }
    }

    /// Whether head differs from base by something that can be seen, and by how much.
    fn confirm(&mut self, base: &Ref, head: &Ref) -> Result<Ends> {
        let checkouts = self.prepare(base, head)?;
        let escalated = [self.place];
        let session = {
            let mut store = self.context.store()?;
            let builds =
                pairs::builds(self.suite, &self.header.testbed.key, [base, head], checkouts.layouts(), &store)?;
            let request = self.request(&checkouts, base, head, &escalated, builds);
            paired::measure(&request, &mut store, self.context)?
        };
        if session.sat.ending == Ending::Cancelled {
            return Ok(Ends::Cancelled);
        }
        let run = RunId::fresh();
        let (rows, _) = session.confirmation.rows(run, run, Severity::None);
        let failed = rows.iter().find(|row| matches!(row.verdict.reason, Reason::HeadFailed | Reason::BaseFailed));
        if let Some(row) = failed {
            return Ok(Ends::Refused(format!("nothing to bisect: {}", row.verdict.note)));
        }
        let Some(row) = rows.iter().find(|row| row.metric.name == self.metric.name) else {
            let names: Vec<&str> = rows.iter().map(|row| row.metric.name.as_str()).collect();
            return Err(usage(format!(
                "`{}` is not measured by this case; there are {}",
                self.metric.name,
                names.join(", ")
            )));
        };
        self.metric = row.metric.clone();
        let verdict = &row.verdict;
        let changed = matches!(verdict.call, Call::Regressed | Call::Improved);
        match verdict.estimate {
            Some(estimate) if changed => {
                let size = estimate.change.abs();
                let smallest = self.model().and_then(|model| model.smallest_detectable);
                Ok(match smallest {
                    Some(smallest) if size < smallest => Ends::Refused(format!(
                        "refused: a change of {} cannot be told from half of itself here, calibration says {} is the \
                         smallest; calm the machine, or lengthen the launches",
                        format::change(estimate.change),
                        format::share(smallest)
                    )),
                    _ => Ends::Changed(estimate),
                })
            }
            _ => Ok(Ends::Refused(format!(
                "refused: no change of {} that matters between the two: {} ({})",
                self.metric.name, verdict.call, verdict.note
            ))),
        }
    }

    /// Drives `git bisect`; `None` when interrupted.
    fn bisect(&mut self, good: &Ref, bad: &Ref, change: Estimate) -> Result<Option<Found>> {
        let folder = self.repository.place(ArmSide::Head)?;
        let commits = self.repository.count(&good.commit, &bad.commit)?;
        let steps = usize::BITS - commits.leading_zeros() + 1;
        self.context.tell(&format!(
            "{} between {} and {}, about {}",
            format::change(change.change),
            good.label(),
            bad.label(),
            format::plural(steps as usize, "step", "steps")
        ));
        let bisection = arms::Bisection::start(&folder, &good.commit, &bad.commit)?;
        let shift = crate::verdict::badness(&self.metric, change.change);
        let mut tried = Vec::new();
        let mut state = bisection.state()?;
        while let arms::Next::Try(commit) = &state {
            let candidate = Ref { name: self.repository.subject(commit)?, commit: commit.clone(), dirty: false };
            let (said, why) = match self.step(good, &candidate, shift, steps as usize)? {
                Some((Some(true), why)) => ("bad", why),
                Some((Some(false), why)) => ("good", why),
                Some((None, why)) => ("skip", why),
                None => {
                    bisection.end();
                    return Ok(None);
                }
            };
            self.context.tell(&format!("{said}: {} ({why})", candidate.label()));
            tried.push(Step { commit: commit.clone(), said, why });
            state = bisection.say(said)?;
        }
        bisection.end();
        let (culprit, candidates) = match state {
            arms::Next::Found(commit) => (Some(self.culprit(&commit)?), Vec::new()),
            arms::Next::OnlySkipped(left) => (None, left),
            arms::Next::Try(_) => unreachable!("the loop ends otherwise"),
        };
        let case = self.plan.cases[self.place].id.to_string();
        Ok(Some(Found { case, metric: self.metric.name.clone(), change, culprit, candidates, steps: tried }))
    }

    /// Pairs of the good end and a commit until it is told on which side of the change it lies, `None` inside where it
    /// cannot be told; `None` outside when interrupted.
    fn step(&self, good: &Ref, candidate: &Ref, shift: f64, steps: usize) -> Result<Option<(Option<bool>, String)>> {
        let checkouts = match self.prepare(good, candidate) {
            Ok(checkouts) => checkouts,
            Err(error) => {
                return match error.downcast_ref::<BuildFailed>() {
                    Some(failed) if failed.side == ArmSide::Head => Ok(Some((None, "it does not build".to_owned()))),
                    _ => Err(error),
                };
            }
        };
        let halving = Halving::new(&self.metric, self.model().as_ref(), shift, steps, MOST_PAIRS);
        let mut referee = paired::Halver::new(self.place, halving);
        let escalated = [self.place];
        // A step asks on which side of half the change a commit lies, and builds do not differ by that.
        let request = self.request(&checkouts, good, candidate, &escalated, Builds::same());
        let mut store = self.context.store()?;
        let ending = paired::sit(&request, &mut referee, &mut store, self.context)?.ending;
        if ending == Ending::Cancelled {
            return Ok(None);
        }
        if let Some(why) = referee.failure() {
            return Ok(Some((None, why)));
        }
        let Some((pairs, seen)) = referee.halving().seen() else {
            return Ok(Some((None, format!("no pair of it says anything about {}", self.metric.name))));
        };
        let pairs = format::plural(pairs, "pair", "pairs");
        Ok(Some(match referee.halving().has_change() {
            None => (None, format!("not decided by {pairs}, {}", format::change(seen))),
            answer => (answer, format!("{} in {pairs}", format::change(seen))),
        }))
    }

    /// Tells of a commit, and measures it against its parent.
    fn culprit(&mut self, commit: &str) -> Result<Culprit> {
        let [author, date, subject] = self.repository.describe(commit)?;
        let head = Ref { name: subject.clone(), commit: commit.to_owned(), dirty: false };
        let parent = self.repository.resolve(&format!("{commit}^")).context("the commit has no parent")?;
        self.context.tell("measuring the commit against its parent");
        let change = match self.confirm(&parent, &head) {
            Ok(Ends::Changed(estimate)) => Some(estimate),
            Ok(Ends::Refused(why)) => {
                self.context.tell(&why);
                None
            }
            Ok(Ends::Cancelled) => None,
            Err(error) if error.is::<BuildFailed>() => None,
            Err(error) => return Err(error),
        };
        Ok(Culprit { commit: commit.to_owned(), author, date, subject, change })
    }
}

fn text(found: &Found) -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{} of {}: {} {} between the ends\n",
        found.metric,
        found.case,
        format::change(found.change.change),
        format::interval(&found.change)
    );
    for step in &found.steps {
        let _ = writeln!(out, "  {:<4}  {}  {}", step.said, &step.commit[..10.min(step.commit.len())], step.why);
    }
    if let Some(culprit) = &found.culprit {
        let change = culprit.change.map_or_else(
            || "its change against its parent could not be measured".to_owned(),
            |change| format!("{} {} against its parent", format::change(change.change), format::interval(&change)),
        );
        let (subject, author) = (format::line(&culprit.subject), format::line(&culprit.author));
        let _ = writeln!(out, "\n{} is the first with it: {change}", culprit.commit);
        let _ = writeln!(out, "  {subject}\n  {author}, {}", culprit.date);
    } else {
        let _ = writeln!(out, "\nOnly commits that could not be judged are left; it is one of:");
        for commit in &found.candidates {
            let _ = writeln!(out, "  {commit}");
        }
    }
    out
}
