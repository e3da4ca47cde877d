//! Suite + machine → Plan: selection, skips, reference workloads, shuffled launches.
//!
//! Must not know how cases were written.

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use wildmatch::WildMatch;

use crate::domain::workload::{CATALOGUE, Entry, find};
use crate::domain::{Case, CaseId, Plan, PlanItem, Sampling, Skip, SuiteInfo, Workload, WorkloadKind};
use crate::suite::condition::Condition;
use crate::suite::error::SuiteError;
use crate::suite::work::default_of;
use crate::suite::{BackendView, Selection, Suite};

/// The backend that has the reference workloads.
const REFERENCE_BACKEND: &str = "cpu";

/// Reference workloads are sampled modestly, at most about 0.4 s a launch: they run in every session.
const REFERENCE_SAMPLING: Sampling = Sampling {
    min_samples: 10,
    max_samples: 1000,
    precision: 0.01,
    min_time_s: 0.2,
    max_time_s: 0.25,
    min_sample_time_s: 0.001,
    max_warmup_s: 0.15,
};

/// Seconds until a reference launch is killed.
const REFERENCE_TIMEOUT_S: f64 = 60.0;

/// How many case ids an empty selection is answered with.
const SUGGESTED: usize = 5;

/// Makes the plan of a session; `launches` overrides the suite's number.
///
/// # Errors
/// When nothing is selected.
pub(super) fn plan(
    suite: &Suite,
    selection: &Selection,
    machine: &[BackendView<'_>],
    seed: u64,
    launches: Option<u32>,
) -> Result<Plan, SuiteError> {
    let mut cases = select(suite, selection)?;
    for case in &mut cases {
        case.skip = skip_of(case, machine);
    }
    if suite.reference_workloads
        && cases.iter().any(|case| case.skip.is_none())
        && let Some(view) = machine.iter().find(|view| view.name == REFERENCE_BACKEND && view.ready.is_ok())
    {
        cases.extend(references(view));
    }
    let launches = launches.unwrap_or(suite.info.launches);
    let mut order: Vec<PlanItem> = (0..launches)
        .flat_map(|launch| (0..cases.len()).map(move |case| PlanItem { case, launch }))
        .filter(|item| cases[item.case].skip.is_none())
        .collect();
    shuffle(&mut order, seed);
    Ok(Plan { suite: SuiteInfo { launches, ..suite.info.clone() }, cases, order, seed, prices: suite.prices.clone() })
}

fn select(suite: &Suite, selection: &Selection) -> Result<Vec<Case>, SuiteError> {
    let globs: Vec<WildMatch> = selection.filters.iter().map(|filter| WildMatch::new(filter)).collect();
    let any = |list: &[String], hit: &dyn Fn(&String) -> bool| list.is_empty() || list.iter().any(hit);
    let selected: Vec<Case> = suite
        .cases
        .iter()
        .filter(|case| globs.is_empty() || globs.iter().any(|glob| glob.matches(case.id.as_str())))
        .filter(|case| any(&selection.tags, &|tag| case.tags.contains(tag)))
        .filter(|case| any(&selection.backends, &|backend| case.backend == *backend))
        .cloned()
        .collect();
    if selected.is_empty() { Err(nothing_selected(suite, selection)) } else { Ok(selected) }
}

fn nothing_selected(suite: &Suite, selection: &Selection) -> SuiteError {
    let quoted = |list: &[String]| list.iter().map(|text| format!("`{text}`")).collect::<Vec<_>>().join(" or ");
    let asked: Vec<String> =
        [("filter", &selection.filters), ("tag", &selection.tags), ("backend", &selection.backends)]
            .into_iter()
            .filter(|(_, list)| !list.is_empty())
            .map(|(what, list)| format!("{what} {}", quoted(list)))
            .collect();
    let message = format!("no case of suite `{}` matches {}", suite.info.name, asked.join(" and "));

    let mut help = Vec::new();
    if let Some(filter) = selection.filters.first() {
        let word: String = filter.chars().filter(|c| !matches!(c, '*' | '?')).collect();
        let mut near: Vec<(f64, &str)> =
            suite.cases.iter().map(|case| (strsim::jaro_winkler(&word, case.id.as_str()), case.id.as_str())).collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0));
        let ids: Vec<String> = near.iter().take(SUGGESTED).map(|(_, id)| format!("`{id}`")).collect();
        help.push(format!("the closest ids are {}", ids.join(", ")));
        if !filter.contains(['*', '?']) {
            help.push(format!("a filter must match the whole id: try `*{filter}*`"));
        }
    }
    for (asked, what, of) in [
        (&selection.tags, "tags", (|case| case.tags.clone()) as fn(&Case) -> Vec<String>),
        (&selection.backends, "backends", |case| vec![case.backend.clone()]),
    ] {
        if !asked.is_empty() {
            let mut known: Vec<String> = suite.cases.iter().flat_map(of).collect();
            known.sort_unstable();
            known.dedup();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            help.push(format!("its {what} are: {known}"));
        }
    }
    SuiteError::NothingSelected { message, help: help.join("; ") }
}

/// Why a case cannot run here, if it cannot.
fn skip_of(case: &Case, machine: &[BackendView<'_>]) -> Option<Skip> {
    let Some(view) = machine.iter().find(|view| view.name == case.backend) else {
        return Some(Skip {
            reason: format!("backend `{}` is unknown to this machine", case.backend),
            remedy: "run it with a version of regrade that has this backend".to_owned(),
        });
    };
    let facts = match &view.ready {
        Ok(facts) => facts,
        Err(skip) => return Some(skip.clone()),
    };
    let unmet = case.needs.iter().find_map(|need| match Condition::parse(need) {
        Ok(condition) => condition.unmet(&case.backend, facts),
        Err(bad) => {
            Some(Skip { reason: format!("its condition `{need}` cannot be read: {}", bad.message), remedy: bad.help })
        }
    });
    let unmet = unmet.or_else(|| other_work(case));
    // A command brings its own engine: the backend only says which device it needs.
    unmet.or_else(|| match case.workload.kind {
        WorkloadKind::Command => None,
        _ => (view.supports)(&case.workload).err(),
    })
}

/// Refuses a backend that would do other work than the suite says, because it lacks a parameter.
fn other_work(case: &Case) -> Option<Skip> {
    let entry = find(case.workload.kind, &case.workload.name)?;
    let foreign =
        |name: &String| entry.all_params().find(|param| param.name == name && !param.applies_to(&case.backend));
    let (name, value, only) =
        case.workload.params.iter().find_map(|(name, value)| Some((name, value, foreign(name)?.only?)))?;
    Some(Skip {
        reason: format!("`{}` with {name} = {value} is not for {}", case.workload.name, case.backend),
        remedy: format!("only {only} has it: give such benchmarks backends = [\"{only}\"]"),
    })
}

fn references(view: &BackendView<'_>) -> Vec<Case> {
    let mut cases = reference_cases();
    for case in &mut cases {
        case.skip = (view.supports)(&case.workload).err();
    }
    cases
}

/// The workloads that watch the machine, whatever it is.
pub(super) fn reference_cases() -> Vec<Case> {
    CATALOGUE.iter().filter(|entry| entry.kind == WorkloadKind::Reference).map(reference).collect()
}

fn reference(entry: &Entry) -> Case {
    let params = entry
        .all_params()
        .filter(|param| param.applies_to(REFERENCE_BACKEND))
        .filter_map(|param| Some((param.name.to_owned(), default_of(param)?)))
        .collect();
    Case {
        id: CaseId(format!("{}@{REFERENCE_BACKEND}", entry.name)),
        benchmark: entry.name.to_owned(),
        workload: Workload { kind: entry.kind, name: entry.name.to_owned(), params, command: Vec::new(), kernel: None },
        backend: REFERENCE_BACKEND.to_owned(),
        tags: Vec::new(),
        owner: None,
        thresholds: BTreeMap::new(),
        gate_metrics: Vec::new(),
        targets: Vec::new(),
        sampling: REFERENCE_SAMPLING,
        timeout_s: REFERENCE_TIMEOUT_S,
        memory_limit: None,
        metrics: BTreeMap::new(),
        env: BTreeMap::new(),
        working_dir: None,
        aliases: Vec::new(),
        needs: Vec::new(),
        skip: None,
        reference: true,
    }
}

/// Fisher–Yates with a generator whose stream is fixed for ever, so that a logged seed replays the order in every
/// version (`rand`'s own shuffle may change between versions).
pub fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    let mut random = ChaCha8Rng::from_seed(key);
    for last in (1..items.len()).rev() {
        items.swap(last, below(&mut random, last as u64 + 1) as usize);
    }
}

/// A uniform number below `bound`: draws beyond the last whole multiple of it are drawn again.
fn below(random: &mut ChaCha8Rng, bound: u64) -> u64 {
    let limit = u64::MAX - u64::MAX % bound;
    loop {
        let draw = random.next_u64();
        if draw < limit {
            return draw % bound;
        }
    }
}
