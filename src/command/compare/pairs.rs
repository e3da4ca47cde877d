//! The paired stage of a comparison: which cases go into it, the session, and what it adds to the report.

use std::time::Duration;

use anyhow::Result;

use crate::cli::Compare;
use crate::command::arms::{self, Checkouts, Refs, Repository};
use crate::command::compare::base::choose_base;
use crate::command::context::Context;
use crate::command::git::WorkTree;
use crate::command::inject;
use crate::command::paired::{self, Request, Session, Sides};
use crate::command::session::{self, CANCELLED, Header, Subject};
use crate::domain::{CaseId, Run, RunId, Severity};
use crate::report::PairedInfo;
use crate::runner::Ending;
use crate::store::Store;
use crate::store::sqlite::SqliteStore;
use crate::suite::{self, Suite};
use crate::verdict::confirm::Rules;
use crate::verdict::escalate::{self, Escalation};
use crate::verdict::paired::{BUILD_SPREAD, PAIRS_MAX};
use crate::verdict::{self, Judgement};

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
    escalation: Escalation,
    /// Cases that could have been paired.
    all: usize,
    seed: u64,
}

/// How many sessions of the history can screen head.
pub fn sessions(arguments: &Compare, suite: &Suite, store: &SqliteStore, fits: &dyn Fn(&Run) -> bool) -> Result<usize> {
    let machine = session::machine();
    let plan = session::plan(suite, &arguments.select, &machine, 0, None)?;
    let mut head = Header { tree: WorkTree::detect(), testbed: session::testbed(&plan, &machine) }.run(&plan);
    head.id = RunId::fresh();
    Ok(choose_base(arguments, &head, None, store, fits)?.runs.len())
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
    let header = Header { tree: WorkTree::detect(), testbed: session::testbed(&plan, &machine) };
    let noise = store.noise(&suite.info.name, &header.testbed.key)?;
    let refs = subjects.refs().clone();
    let checkouts = subjects.ready(context)?;
    context.tell(&format!(
        "{}: pairs of {} of {} cases, seed {seed}",
        suite.info.name,
        escalation.places.len(),
        everything.len()
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
        rules: Rules {
            most: arguments.max_pairs.map_or(PAIRS_MAX, |most| most as usize),
            // Without a build both arms run the same files but for what the change touches.
            exhaustive: false,
            build_spread: if suite.build.command.is_empty() { 0.0 } else { BUILD_SPREAD },
        },
        header: &header,
    };
    let session = paired::measure(&request, store, context)?;
    if session.sat.ending == Ending::Cancelled {
        context.tell("interrupted; the launches that were made are kept, and nothing was decided");
    }
    Ok(Some(Paired { session, refs, escalation, all: everything.len(), seed }))
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
        notes.extend(self.escalation.notes.iter().cloned());
        if self.session.sat.ending == Ending::OutOfBudget {
            notes.push("the time that a session may take was used up before every case was decided".to_owned());
        }
        let postponed: Vec<&CaseId> = self.session.confirmation.postponed();
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
