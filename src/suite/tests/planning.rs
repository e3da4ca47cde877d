//! Plans: selection, skips with reason and remedy, reference workloads, the pinned order.

use std::collections::BTreeSet;

use super::parse;
use crate::domain::{Skip, Workload, WorkloadKind};
use crate::suite::{BackendView, HardwareFacts, Selection, Suite};

const BODY: &str = r#"
[[benchmark]]
name = "gemm"
operator = "gemm"
tags = ["presubmit"]
axes = { precision = ["f32", "int8"] }

[[benchmark]]
name = "large"
model = "gpt2"
tags = ["nightly"]
when = ['memory >= "40 GiB"']

[[benchmark]]
name = "kernel"
operator = "gemm"
backends = ["nvidia"]

[[benchmark]]
name = "script"
command = ["true"]
"#;

fn no_int8(workload: &Workload) -> Result<(), Skip> {
    assert_ne!(workload.kind, WorkloadKind::Command, "a backend is not asked about commands");
    match workload.text("precision") {
        Ok("int8") => Err(Skip { reason: "no int8 here".to_owned(), remedy: "use f32".to_owned() }),
        _ => Ok(()),
    }
}

fn cpu() -> BackendView<'static> {
    BackendView {
        name: "cpu",
        ready: Ok(HardwareFacts { memory: Some(25_125_558_681), cores: Some(2), ..HardwareFacts::default() }),
        supports: &no_int8,
    }
}

fn nvidia() -> BackendView<'static> {
    BackendView {
        name: "nvidia",
        ready: Err(Skip { reason: "no driver".to_owned(), remedy: "install one".to_owned() }),
        supports: &no_int8,
    }
}

fn filters(globs: &[&str]) -> Selection {
    Selection { filters: globs.iter().map(|&glob| glob.to_owned()).collect(), ..Selection::default() }
}

fn selected(suite: &Suite, selection: &Selection) -> Vec<String> {
    let plan = suite.plan(selection, &[nvidia()], 1, None).unwrap();
    plan.cases.iter().map(|case| case.id.to_string()).collect()
}

#[test]
fn what_cannot_run_here_is_skipped_with_a_reason_and_a_remedy() {
    let plan = parse(BODY).plan(&Selection::default(), &[cpu(), nvidia()], 7, None).unwrap();
    let skip = |id: &str| plan.cases.iter().find(|case| case.id.as_str() == id).expect(id).skip.clone();
    assert_eq!(skip("gemm/precision=f32@cpu"), None);
    assert_eq!(skip("script@cpu"), None);
    assert_eq!(skip("gemm/precision=int8@cpu").unwrap().reason, "no int8 here");
    assert_eq!(skip("kernel@nvidia").unwrap().reason, "no driver");
    let large = skip("large@cpu").unwrap();
    assert_eq!(large.reason, "needs memory >= 40 GiB, this machine has 23.4 GiB");
    assert!(large.remedy.contains("relax the benchmark's `when`"));
    assert!(plan.order.iter().all(|item| plan.cases[item.case].skip.is_none()));
}

#[test]
fn reference_workloads_run_beside_any_case_that_runs() {
    let suite = parse(BODY);
    let references = |selection: &Selection, machine: &[BackendView<'_>]| -> Vec<String> {
        let plan = suite.plan(selection, machine, 7, None).unwrap();
        plan.cases.iter().filter(|case| case.reference).map(|case| case.id.to_string()).collect()
    };
    let all = ["reference-compute@cpu", "reference-memory@cpu", "reference-launch@cpu"];
    assert_eq!(references(&Selection::default(), &[cpu(), nvidia()]), all);
    assert!(references(&filters(&["large@cpu"]), &[cpu()]).is_empty(), "nothing runs beside them");
    assert!(references(&Selection::default(), &[nvidia()]).is_empty(), "no backend has them");

    let plan = suite.plan(&Selection::default(), &[cpu()], 7, None).unwrap();
    let reference = plan.cases.iter().find(|case| case.reference).unwrap();
    assert_eq!(reference.workload.kind, WorkloadKind::Reference);
    assert!(reference.sampling.max_time_s + reference.sampling.max_warmup_s <= 0.4);
    assert!(!reference.gates("latency"));
}

#[test]
fn globs_tags_and_backends_select() {
    let suite = parse(BODY);
    assert_eq!(selected(&suite, &filters(&["gemm*f32*", "large@cpu"])), ["gemm/precision=f32@cpu", "large@cpu"]);
    let tags = Selection { tags: vec!["nightly".to_owned(), "weekly".to_owned()], ..Selection::default() };
    assert_eq!(selected(&suite, &tags), ["large@cpu"]);
    let backends = Selection { backends: vec!["nvidia".to_owned()], ..Selection::default() };
    assert_eq!(selected(&suite, &backends), ["kernel@nvidia"]);
    let both = Selection { filters: vec!["*@cpu".to_owned()], ..tags };
    assert_eq!(selected(&suite, &both), ["large@cpu"]);
}

#[test]
fn an_empty_selection_is_answered_with_the_closest_ids() {
    let suite = parse(BODY);
    let refused = |selection: &Selection| suite.plan(selection, &[cpu()], 7, None).unwrap_err().to_string();
    insta::assert_snapshot!(refused(&filters(&["gem"])), @"
    no case of suite `test` matches filter `gem`
    help: the closest ids are `gemm/precision=f32@cpu`, `gemm/precision=int8@cpu`, `large@cpu`, `kernel@nvidia`, `script@cpu`; a filter must match the whole id: try `*gem*`
    ");
    let selection = Selection { tags: vec!["presubmi".to_owned()], ..Selection::default() };
    insta::assert_snapshot!(refused(&selection), @"
    no case of suite `test` matches tag `presubmi`
    help: its tags are: nightly, presubmit
    ");
}

#[test]
fn the_order_is_a_permutation_that_the_seed_fixes_for_ever() {
    let suite = parse(BODY);
    let order = |seed: u64, launches: Option<u32>| -> Vec<(usize, u32)> {
        let plan = suite.plan(&filters(&["gemm*f32*", "script@cpu"]), &[cpu()], seed, launches).unwrap();
        plan.order.iter().map(|item| (item.case, item.launch)).collect()
    };
    let three = order(42, Some(3));
    assert_eq!(three.iter().collect::<BTreeSet<_>>().len(), 5 * 3, "two cases and three references, thrice");
    assert_eq!(three, order(42, Some(3)));
    assert_ne!(three, order(43, Some(3)));
    assert_eq!(order(42, Some(1)).len(), 5);
    // Pinned: a logged seed has to replay the order in every later version.
    insta::assert_compact_debug_snapshot!(order(42, Some(2)), @"[(2, 0), (1, 0), (4, 0), (3, 0), (2, 1), (0, 0), (0, 1), (3, 1), (1, 1), (4, 1)]");
}
