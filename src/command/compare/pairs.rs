//! The paired stage of a comparison: which cases go into it, the session, and what it adds to the report.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;

use crate::cli::Compare;
use crate::command::arms::{self, Checkouts, Ref, Refs, Repository};
use crate::command::compare::base::choose_base;
use crate::command::context::Context;
use crate::command::git::WorkTree;
use crate::command::inject;
use crate::command::paired::{self, Request, Session, Sides};
use crate::command::session::{self, CANCELLED, Header, Subject};
use crate::domain::{ArmSide, Case, LaunchSummary, Run, RunId, SessionId, Severity};
use crate::render::format;
use crate::report::PairedInfo;
use crate::runner::Ending;
use crate::store::sqlite::SqliteStore;
use crate::store::{Arms, RunQuery, Store};
use crate::suite::{self, Suite};
use crate::verdict::builds::{Builds, Past};
use crate::verdict::confirm::Rules;
use crate::verdict::escalate::{self, Escalation};
use crate::verdict::paired::PAIRS_MAX;
use crate::verdict::policy::HISTORY_SESSIONS;
use crate::verdict::{self, Judgement};

/// Whether runs of other branches may screen: those of the change itself would find it as fast as it is.
pub const SCREEN_STAND_INS: bool = false;

/// Both states of the sources; checked out and built when first asked for.
#[derive(Debug)]
pub struct Subjects<'a> {
    repository: &'a Repository,
    refs: Refs,
    suite: &'a Suite,
    explicit: bool,
    ready: Option<Checkouts>,
}

impl<'a> Subjects<'a> {
    /// Nothing is checked out yet.
    pub const fn new(repository: &'a Repository, refs: Refs, suite: &'a Suite, explicit: bool) -> Self {
        Self { repository, refs, suite, explicit, ready: None }
    }

    /// What they are.
    pub const fn refs(&self) -> &Refs {
        &self.refs
    }

    fn ready(&mut self, context: &Context) -> Result<&Checkouts> {
        if self.ready.is_none() {
            let refs = self.refs.clone();
            context.tell(&format!("base: {}, head: {}", refs.base.label(), refs.head.label()));
            session::listen_for_signals()?;
            self.ready = Some(arms::prepare(self.repository, &refs, self.suite, &CANCELLED, context)?);
        }
        Ok(self.ready.as_ref().expect("just made"))
    }

    /// Head as the screen measures it: the work tree where it lies if nothing has to be built, else where it was checked out.
    pub fn head_subject(&mut self, context: &Context) -> Result<Subject> {
        // What lies in the work tree may be a build of another commit.
        if !self.explicit && self.suite.build.command.is_empty() {
            return Subject::here();
        }
        let tree =
            WorkTree { commit: Some(self.refs.head.commit.clone()), dirty: self.refs.head.dirty, ..WorkTree::detect() };
        Ok(Subject { programs: self.ready(context)?.head.clone(), tree })
    }
}

/// A paired session with what led to it.
#[derive(Debug)]
pub struct Paired {
    session: Session,
    refs: Refs,
    /// What could not be done about the order of code.
    note: Option<String>,
    escalation: Escalation,
    /// Cases that could have been paired.
    all: usize,
    seed: u64,
}

/// How many sessions of the history can screen head.
pub fn sessions(arguments: &Compare, suite: &Suite, store: &SqliteStore, fits: &dyn Fn(&Run) -> bool) -> Result<usize> {
    let machine = session::machine();
    let plan = session::plan(suite, &arguments.select, &machine, 0, None)?;
    let mut head =
        Header { tree: WorkTree::detect(), testbed: session::testbed(&plan, &machine, &arguments.measure.clocks) }
            .run(&plan);
    head.id = RunId::fresh();
    Ok(choose_base(arguments, &head, None, SCREEN_STAND_INS, store, fits)?.runs.len())
}

/// Measures pairs of what the screen found suspicious, or of everything where nothing was screened. `None` where nothing
/// is to be paired.
#[expect(clippy::too_many_arguments, reason = "a session is made of all of it")]
pub fn session(
    arguments: &Compare,
    suite: &Suite,
    subjects: &mut Subjects<'_>,
    screened: Option<&Judgement<'_>>,
    sessions: usize,
    budget: Option<Duration>,
    store: &mut SqliteStore,
    context: &Context,
) -> Result<Option<Paired>> {
    let machine = session::machine();
    let seed = arguments.measure.seed.unwrap_or_else(session::fresh_seed);
    let plan = session::plan(suite, &arguments.select, &machine, seed, None)?;
    let extra = inject::parse(&arguments.measure.inject, &plan)?;
    let everything = escalate::everything(&plan.cases);
    let escalation = match screened {
        None => Escalation { places: everything.clone(), notes: Vec::new() },
        Some(judged) => {
            let mut draw = everything.clone();
            suite::shuffle(&mut draw, seed);
            escalate::escalate(&plan.cases, judged, sessions, &draw)
        }
    };
    if escalation.places.is_empty() {
        return Ok(None);
    }
    let header =
        Header { tree: WorkTree::detect(), testbed: session::testbed(&plan, &machine, &arguments.measure.clocks) };
    let noise = store.noise(&suite.info.name, &header.testbed.key)?;
    let refs = subjects.refs().clone();
    let checkouts = subjects.ready(context)?;
    let note = checkouts.note.clone();
    let builds = builds(suite, &header.testbed.key, [&refs.base, &refs.head], checkouts.layouts(), store)?;
    context.tell(&format!(
        "{}: pairs of {} of {}, seed {seed}",
        suite.info.name,
        escalation.places.len(),
        format::plural(everything.len(), "case", "cases")
    ));
    let request = Request {
        plan: &plan,
        escalated: &escalation.places,
        sides: Sides {
            base: &checkouts.base,
            base_ref: Some(&refs.base),
            head: &checkouts.head,
            head_ref: Some(&refs.head),
        },
        inject: extra,
        synthetic: inject::stamp(&arguments.measure.inject),
        budget,
        noise,
        rules: Rules { most: arguments.max_pairs.map_or(PAIRS_MAX, |most| most as usize), exhaustive: false },
        builds,
        header: &header,
        clocks: &arguments.measure.clocks,
    };
    let session = paired::measure(&request, store, context)?;
    if session.sat.ending == Ending::Cancelled {
        context.tell("interrupted; the launches that were made are kept, and nothing was decided");
    }
    Ok(Some(Paired { session, refs, note, escalation, all: everything.len(), seed }))
}

/// What the builds of two commits may differ by, with so many orders of code.
pub fn builds(suite: &Suite, testbed: &str, commits: [&Ref; 2], layouts: usize, store: &SqliteStore) -> Result<Builds> {
    // Without a build both arms run the same files but for what the change touches.
    if suite.build.command.is_empty() {
        return Ok(Builds::same());
    }
    let past = past(&suite.info.name, testbed, store)?;
    Ok(Builds::learn(&past, commits.map(|commit| commit.commit.as_str()), layouts))
}

/// Comparisons of two commits that were measured here before: what builds differ by is learnt from them.
pub fn past(suite: &str, testbed: &str, store: &SqliteStore) -> Result<Vec<Past>> {
    /// Arms of a session: base, head and control.
    const ARMS: u32 = 3;
    let query = RunQuery {
        suite: Some(suite.to_owned()),
        testbed: Some(testbed.to_owned()),
        arms: Arms::Only,
        limit: Some(ARMS * HISTORY_SESSIONS),
        ..RunQuery::default()
    };
    let mut sessions: BTreeMap<SessionId, [Option<Run>; 2]> = BTreeMap::new();
    // What was made slower on purpose is no null comparison, and changes nobody committed may be anything.
    for run in store.runs(&query)?.into_iter().filter(|run| run.synthetic.is_none() && !run.dirty) {
        let Some(arm) = &run.arm else { continue };
        let place = match arm.side {
            ArmSide::Base => 0,
            ArmSide::Head => 1,
            ArmSide::Control => continue,
        };
        let session = arm.session;
        sessions.entry(session).or_default()[place] = Some(run);
    }
    let mut found = Vec::new();
    for [base, head] in sessions.into_values() {
        let Some((base, head)) = base.zip(head) else { continue };
        let Some((a, b)) = base.commit.zip(head.commit) else { continue };
        let key = |launch: &LaunchSummary| (launch.case.clone(), launch.index);
        let mut of_head: BTreeMap<_, LaunchSummary> =
            store.summaries(head.id)?.into_iter().map(|launch| (key(&launch), launch)).collect();
        let of_base = store.summaries(base.id)?;
        let pairs = of_base.into_iter().filter_map(|launch| of_head.remove(&key(&launch)).map(|other| [launch, other]));
        found.push(Past { commits: [a, b], pairs: pairs.collect() });
    }
    Ok(found)
}

impl Paired {
    /// Why the session ended.
    pub const fn ending(&self) -> Ending {
        self.session.sat.ending
    }

    /// Base and head, as stored.
    pub const fn arms(&self) -> (&Run, &Run) {
        (&self.session.sat.base, &self.session.sat.head)
    }

    /// What pairs and, where there was one, the screen say together.
    pub fn judgement<'s>(&'s self, screened: Option<Judgement<'s>>, gate: Severity) -> Judgement<'s> {
        let (base, head) = self.arms();
        let (rows, mut notes) = self.session.confirmation.rows(base.id, head.id, gate);
        notes.extend(self.note.iter().chain(&self.escalation.notes).cloned());
        if self.session.sat.ending == Ending::OutOfBudget {
            notes.push("the time that a session may take was used up before every case was decided".to_owned());
        }
        let postponed: Vec<&Case> = self.session.confirmation.postponed();
        if !postponed.is_empty() {
            notes.push(format!(
                "no time was left for pairs of {} of the cases; a longer `budget` decides them",
                postponed.len()
            ));
        }
        let Some(mut judgement) = screened else {
            let mut judgement = Judgement { rows: escalate::merge(Vec::new(), rows), reference: Vec::new(), notes };
            judgement.rows.extend(postponed.into_iter().map(verdict::unpaired));
            return judgement;
        };
        judgement.rows = escalate::merge(judgement.rows, rows);
        notes.append(&mut judgement.notes);
        judgement.notes = notes;
        judgement
    }

    /// The circumstances of the session, for the report.
    pub fn info(&self) -> PairedInfo {
        let confirmation = &self.session.confirmation;
        let (pairs, paired) =
            (confirmation.pairs_made(), self.escalation.places.len() - confirmation.postponed().len());
        let screened = self.all - self.escalation.places.len();
        PairedInfo {
            session: self.session.sat.id,
            seed: self.seed,
            base: self.refs.base.label(),
            base_commit: self.refs.base.commit.clone(),
            head: self.refs.head.label(),
            head_commit: self.refs.head.commit.clone(),
            cases: paired as u64,
            pairs: pairs as u64,
            control_pairs: confirmation.control_pairs() as u64,
            launches: self.session.sat.launches as u64,
            launches_saved: escalate::launches_saved(screened, pairs, paired),
        }
    }
}
