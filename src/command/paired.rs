//! A paired session: both arms' launches are stored as they end, and the referee between the runner and the verdicts is
//! kept here. Shared by every command that measures pairs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use jiff::Timestamp;

use crate::cli::Clocks;
use crate::command::context::Context;
use crate::command::lock::Lock;
use crate::command::progress::PairProgress;
use crate::command::session::{CANCELLED, DATA_SEED, Header, keep_patiently, own_program};
use crate::command::{arms::Ref, secret};
use crate::domain::{
    Arm, ArmSide, CaseId, Evidence, Launch, LaunchSummary, NoiseModel, Plan, Run, RunStatus, SessionId,
};
use crate::runner::pairs::{self, Arms, Failure, Pair, Referee, Sitting};
use crate::runner::{self, Ending, Tree};
use crate::store::sqlite::SqliteStore;
use crate::store::{Store, summary};
use crate::verdict::builds::Builds;
use crate::verdict::confirm::{Confirmation, Rules};
use crate::verdict::guard;
use crate::verdict::halving::Halving;

/// What is measured against what.
#[derive(Debug)]
pub struct Sides<'a> {
    /// Programs of the base.
    pub base: &'a Tree,
    /// Where they come from; absent where both sides are this very program.
    pub base_ref: Option<&'a Ref>,
    /// Programs of the head.
    pub head: &'a Tree,
    /// Where they come from.
    pub head_ref: Option<&'a Ref>,
}

/// What a session measures.
#[derive(Debug)]
pub struct Request<'a> {
    /// All cases.
    pub plan: &'a Plan,
    /// Places of those to measure, most important first.
    pub escalated: &'a [usize],
    /// The programs.
    pub sides: Sides<'a>,
    /// Extra real work of the head arm, by case, as fractions.
    pub inject: BTreeMap<CaseId, f64>,
    /// What marks the arms as synthetic.
    pub synthetic: Option<String>,
    /// Wall time it may take.
    pub budget: Option<Duration>,
    /// What is known of the noise here.
    pub noise: Vec<NoiseModel>,
    /// What their builds may differ by.
    pub builds: Builds,
    /// Limits.
    pub rules: Rules,
    /// Circumstances that both arms share.
    pub header: &'a Header,
    /// At which clocks.
    pub clocks: &'a Clocks,
}

/// A session as it was stored.
#[derive(Debug)]
pub struct Sat {
    /// Its id.
    pub id: SessionId,
    /// The base arm.
    pub base: Run,
    /// The head arm.
    pub head: Run,
    /// Why it ended.
    pub ending: Ending,
    /// Launches made, first ones and control included.
    pub launches: usize,
}

/// A session that was judged as far as it got.
#[derive(Debug)]
pub struct Session {
    /// As stored.
    pub sat: Sat,
    /// What is known now.
    pub confirmation: Confirmation,
}

/// Measures pairs until every escalated case is decided or the time is up.
pub fn measure(request: &Request<'_>, store: &mut SqliteStore, context: &Context) -> Result<Session> {
    let cases = request.escalated.iter().map(|place| (*place, &request.plan.cases[*place]));
    let mut judge = Judge {
        confirmation: Confirmation::new(cases, request.noise.clone(), request.rules)
            .with_builds(request.builds.clone()),
        start: Instant::now(),
        budget: request.budget,
    };
    let sat = sit(request, &mut judge, store, context)?;
    Ok(Session { sat, confirmation: judge.confirmation })
}

/// Measures pairs until the referee has enough or the time is up, and stores the arms.
pub fn sit(
    request: &Request<'_>,
    referee: &mut dyn Referee,
    store: &mut SqliteStore,
    context: &Context,
) -> Result<Sat> {
    let plan = request.plan;
    let id = SessionId::fresh();
    let run = |side: ArmSide, state: Option<&Ref>| {
        let mut run = request.header.run(plan);
        run.arm = Some(Arm { session: id, side });
        run.synthetic.clone_from(&request.synthetic);
        if let Some(state) = state {
            // What is checked out here says nothing of a commit that is not.
            if run.commit.as_ref() != Some(&state.commit) && !state.dirty {
                run.branch = None;
            }
            run.commit = Some(state.commit.clone());
            run.dirty = state.dirty;
        }
        run.cases = request.escalated.iter().map(|place| Header::record(&plan.cases[*place])).collect();
        run
    };
    let runs = [
        run(ArmSide::Base, request.sides.base_ref),
        run(ArmSide::Head, request.sides.head_ref),
        run(ArmSide::Control, request.sides.base_ref),
    ];
    let escalated = || request.escalated.iter().map(|place| &plan.cases[*place]);
    let lock = Lock::take(request.clocks.lock_clocks, escalated(), context)?;
    for run in &runs {
        store.begin_run(run)?;
    }
    let shared = runner::Shared::new()?;
    let settings = |tree: &Tree, inject: BTreeMap<CaseId, f64>| -> Result<runner::Settings<'static>> {
        Ok(runner::Settings {
            harness: own_program()?,
            tree: tree.clone(),
            seed: DATA_SEED,
            inject,
            budget: None,
            shared: shared.clone(),
            locked: lock.as_ref().map(Lock::locked),
            secrets: secret::from_environment(),
            prices: plan.prices.clone(),
            cancel: &CANCELLED,
        })
    };
    let arms = Arms {
        base: settings(request.sides.base, BTreeMap::new())?,
        head: settings(request.sides.head, request.inject.clone())?,
    };
    let progress = PairProgress::new(context.quiet);
    let mut launches = 0;
    let ending = pairs::run(
        &arms,
        Sitting {
            cases: &plan.cases,
            escalated: request.escalated,
            seed: plan.seed,
            budget: request.budget,
            keep: &mut |side, launch| keep_patiently(store, runs[place_of(side)].id, launch).map_err(Into::into),
            listen: &mut |event| {
                launches += usize::from(matches!(event, pairs::Event::Finished { .. }));
                progress.listen(&event);
            },
        },
        referee,
    );
    progress.finish();
    let restored = lock.map_or(Ok(()), Lock::put_back);
    let status = if matches!(ending, Ok(Ending::Complete)) { RunStatus::Complete } else { RunStatus::Interrupted };
    for run in &runs {
        store.finish_run(run.id, status, Timestamp::now())?;
    }
    let stored = |side: ArmSide| store.run(&runs[place_of(side)].id.to_string());
    let (base, head) = (stored(ArmSide::Base)?, stored(ArmSide::Head)?);
    let ending = ending?;
    restored?;
    Ok(Sat { id, base, head, ending, launches })
}

const fn place_of(side: ArmSide) -> usize {
    match side {
        ArmSide::Base => 0,
        ArmSide::Head => 1,
        ArmSide::Control => 2,
    }
}

/// Hands launches to the verdicts as summaries, and the verdicts' wishes to the runner.
struct Judge {
    confirmation: Confirmation,
    start: Instant,
    budget: Option<Duration>,
}

impl Referee for Judge {
    fn warmed(&mut self, case: usize, pair: Pair<'_>) {
        // Without what is spent once for all launches of a session.
        let once = |launch: &Launch| -> f64 {
            launch.evidence.iter().filter_map(|evidence| evidence.facts.get(Evidence::ONCE_S)?.as_f64()).sum()
        };
        let took =
            |launch: &Launch| (launch.started.duration_until(launch.finished).as_secs_f64() - once(launch)).max(0.0);
        let cost_s = took(pair.base) + took(pair.head);
        self.confirmation.warmed(case, &summary::of_launch(pair.base), &summary::of_launch(pair.head), cost_s);
    }

    fn begin(&mut self, failed: &BTreeMap<usize, Failure>) {
        for (case, failure) in failed {
            self.failed(*case, failure);
        }
        let left = self.budget.map(|budget| budget.saturating_sub(self.start.elapsed()).as_secs_f64());
        self.confirmation.begin(left);
    }

    fn open(&self) -> Vec<usize> {
        self.confirmation.open()
    }

    fn control(&mut self) -> Option<usize> {
        self.confirmation.control()
    }

    fn take(&mut self, case: usize, pair: Pair<'_>) {
        self.confirmation.take(case, summary::of_launch(pair.base), summary::of_launch(pair.head));
    }

    fn take_control(&mut self, case: usize, pair: Pair<'_>) {
        let [first, second]: [LaunchSummary; 2] = [pair.base, pair.head].map(summary::of_launch);
        self.confirmation.take_control(case, &first, &second);
    }

    fn failed(&mut self, case: usize, failure: &Failure) {
        self.confirmation.failed(case, failure.side, failure.outcome.clone());
    }

    fn disturbance(&self, evidence: &[Evidence]) -> Option<String> {
        guard::disturbance(evidence)
    }

    fn dropped(&mut self, case: usize) {
        self.confirmation.dropped(case);
    }
}

/// Hands the launches of one case to a step of a bisection.
#[derive(Debug)]
pub struct Halver {
    place: usize,
    halving: Halving,
    failure: Option<String>,
}

impl Halver {
    /// Nothing was measured yet.
    pub const fn new(place: usize, halving: Halving) -> Self {
        Self { place, halving, failure: None }
    }

    /// What is known.
    pub const fn halving(&self) -> &Halving {
        &self.halving
    }

    /// Why nothing can be known.
    pub fn failure(&self) -> Option<String> {
        self.failure.clone()
    }
}

impl Referee for Halver {
    fn warmed(&mut self, _: usize, _: Pair<'_>) {}

    fn begin(&mut self, failed: &BTreeMap<usize, Failure>) {
        for (case, failure) in failed {
            self.failed(*case, failure);
        }
    }

    fn open(&self) -> Vec<usize> {
        let open = self.failure.is_none() && self.halving.is_open();
        open.then_some(self.place).into_iter().collect()
    }

    fn control(&mut self) -> Option<usize> {
        None
    }

    fn take(&mut self, _: usize, pair: Pair<'_>) {
        self.halving.take(&summary::of_launch(pair.base), &summary::of_launch(pair.head));
    }

    fn take_control(&mut self, _: usize, _: Pair<'_>) {}

    fn failed(&mut self, _: usize, failure: &Failure) {
        let why = failure.outcome.reason.clone().unwrap_or_default();
        self.failure = Some(format!("{} in the {} arm: {why}", failure.outcome.kind, failure.side));
    }

    fn disturbance(&self, evidence: &[Evidence]) -> Option<String> {
        guard::disturbance(evidence)
    }

    fn dropped(&mut self, _: usize) {
        self.halving.dropped();
    }
}
