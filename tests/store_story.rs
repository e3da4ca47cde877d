//! One story for every engine of the store: what the port promises, told through the port alone.

#![allow(clippy::unwrap_used, reason = "helpers of tests panic like tests do")]

mod store_fixture;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command};

use regrade::domain::{CaseId, Evidence, Price, Run, RunStatus};
use regrade::store::{ENGINES, Engine, RunQuery, StoreError};
use store_fixture::{
    acceptance, all_bits, at, bits, for_each_engine, ids, launch, launch_id, odd_launch, open, put_complete, run,
    run_id,
};

/// Tells [`child`] what to do: `engine|path|verb|number`.
const CHILD: &str = "REGRADE_TEST_STORE_CHILD";

#[test]
fn what_is_put_comes_back() {
    for_each_engine(|engine, path| {
        let mut store = open(engine, path);
        let header = run(1);
        store.begin_run(&header).unwrap();
        assert_eq!(store.run(&header.id.to_string()).unwrap(), header);
        for launch in [odd_launch(1, 3), launch(1, 1), launch(1, 0)] {
            store.put_launch(header.id, &launch).unwrap();
        }
        store.finish_run(header.id, RunStatus::Complete, at(99)).unwrap();
        drop(store);

        let store = (engine.open_read_only)(path).unwrap();
        let read = store.run(&header.id.to_string()[..20]).unwrap();
        assert_eq!((read.status, read.finished), (RunStatus::Complete, Some(at(99))));
        let in_order = [launch(1, 0), launch(1, 1), odd_launch(1, 3)];
        assert_eq!(all_bits(&store.launches(header.id, None).unwrap()), all_bits(&in_order));
        let second: CaseId = "gemm/m=1024@cpu".into();
        assert_eq!(all_bits(&store.launches(header.id, Some(&second)).unwrap()), all_bits(&in_order[1..]));
        assert_eq!(store.launch_count(header.id).unwrap(), 3);

        let summaries = store.summaries(header.id).unwrap();
        assert_eq!(summaries.len(), 3);
        let (id, case) = (summaries[0].id, summaries[0].case.as_str());
        assert_eq!((id, case), (launch_id(1, 0), "gemm/m=512@cpu"));
        let names: Vec<_> = summaries[0].metrics.iter().map(|m| m.metric.name.as_str()).collect();
        assert_eq!(names, ["latency", "throughput", "peak_memory"]);
        let latency = &summaries[0].metrics[0];
        assert_eq!((latency.n, latency.iterations, latency.min), (20, 8, 0.001));
        assert!(
            (latency.median - 0.001_095).abs() < 1e-7 && latency.q25 < latency.median && latency.median < latency.q75
        );
        let throughput = &summaries[0].metrics[1];
        assert!(throughput.min == 1000.0 && throughput.q25 > throughput.q75, "the good side of a rate is up");
        assert_eq!(summaries[2].outcome, odd_launch(1, 3).outcome);
        assert!(summaries[2].metrics[1].median.is_nan(), "no samples have no median");
    });
}

#[test]
fn prices_are_those_of_the_runs_own_launches() {
    for_each_engine(|engine, path| {
        let mut store = open(engine, path);
        let price = |per_hour: f64| Price {
            device: "v5e".to_owned(),
            per_hour,
            currency: "USD".to_owned(),
            terms: "on \"demand\"".to_owned(),
            source: "price".to_owned(),
            date: jiff::civil::date(2026, 9, 27),
        };
        // The price changes while the first run is measured; one launch has none, and one says what is none.
        let paid = [Some(1.2), Some(1.2), Some(1.5), None];
        for (number, paid) in [(1, &paid[..]), (2, &[None][..]), (3, &[Some(9.0)][..])] {
            store.begin_run(&run(number)).unwrap();
            for (at, per_hour) in (0..).zip(paid) {
                let mut launch = launch(number, at);
                let evidence = per_hour
                    .map_or(Evidence { source: Price::EVIDENCE.to_owned(), facts: BTreeMap::new() }, |per_hour| {
                        price(per_hour).evidence()
                    });
                launch.evidence.push(evidence);
                store.put_launch(run_id(number), &launch).unwrap();
            }
        }
        assert_eq!(store.prices(run_id(1)).unwrap(), [price(1.2), price(1.5)]);
        assert_eq!(store.prices(run_id(2)).unwrap(), []);
        assert_eq!(store.prices(run_id(3)).unwrap(), [price(9.0)]);
        assert!(matches!(store.prices(run_id(4)), Err(StoreError::NotFound(_))));
    });
}

#[test]
fn refusals_name_their_reason() {
    for_each_engine(|engine, path| {
        let missing = (engine.open_read_only)(path).err().unwrap();
        assert!(matches!(missing, StoreError::NotFound(_)), "{missing}");
        let mut store = open(engine, path);
        let header = run(1);
        let refused =
            |result: Result<(), StoreError>| assert!(matches!(result, Err(StoreError::Refused(_))), "{result:?}");
        let unknown =
            |result: Result<(), StoreError>| assert!(matches!(result, Err(StoreError::NotFound(_))), "{result:?}");

        unknown(store.put_launch(header.id, &launch(1, 0)));
        unknown(store.finish_run(header.id, RunStatus::Complete, at(1)));
        unknown(store.reopen_run(header.id));
        unknown(store.promote("x", header.id, at(1)));
        unknown(store.launches(header.id, None).map(drop));
        unknown(store.summaries(header.id).map(drop));
        unknown(store.drop_baseline("x").map(drop));

        store.begin_run(&header).unwrap();
        refused(store.begin_run(&header));
        store.put_launch(header.id, &launch(1, 0)).unwrap();
        refused(store.put_launch(header.id, &launch(1, 0)));
        refused(store.finish_run(header.id, RunStatus::Running, at(1)));
        refused(store.promote("x", header.id, at(1)));
        store.finish_run(header.id, RunStatus::Interrupted, at(1)).unwrap();
        refused(store.promote("x", header.id, at(1)));
        store.finish_run(header.id, RunStatus::Complete, at(2)).unwrap();
        refused(store.reopen_run(header.id));
        refused(store.promote("  ", header.id, at(1)));

        let mut infinite = run(2);
        infinite.cases[0].case.timeout_s = f64::INFINITY;
        refused(store.begin_run(&infinite));
        for (n, spoil) in [
            (3, (|run: &mut Run| run.synthetic = Some("--inject".to_owned())) as fn(&mut Run)),
            (4, |run| run.debug_build = true),
        ] {
            let mut header = run(n);
            spoil(&mut header);
            put_complete(&mut *store, &header, n, 0);
            refused(store.promote("x", header.id, at(1)));
        }
        assert!(store.baselines().unwrap().is_empty());
    });
}

#[test]
fn runs_are_found_by_prefix_and_query() {
    for_each_engine(|engine, path| {
        let mut store = open(engine, path);
        for n in [2, 0, 3, 1, 4] {
            let mut header = run(n);
            match n {
                1 => header.branch = None,
                2 => header.suite.name = "nightly".to_owned(),
                3 => header.synthetic = Some("--inject".to_owned()),
                _ => {}
            }
            put_complete(&mut *store, &header, n, 0);
        }
        let mut running = run(5);
        running.testbed.key = "other".to_owned();
        store.begin_run(&running).unwrap();

        let found = |query: RunQuery| ids(&store.runs(&query).unwrap());
        let of = |numbers: &[u64]| numbers.iter().map(|n| run_id(*n)).collect::<Vec<_>>();
        let all = RunQuery::default;
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(found(all()), of(&[5, 4, 3, 2, 1, 0]));
        assert_eq!(found(RunQuery { limit: Some(2), ..all() }), of(&[5, 4]));
        assert_eq!(found(RunQuery { suite: text("nightly"), ..all() }), of(&[2]));
        assert_eq!(found(RunQuery { testbed: text("other"), ..all() }), of(&[5]));
        assert_eq!(found(RunQuery { branch: text("main"), limit: Some(3), ..all() }), of(&[5, 4, 3]));
        assert_eq!(found(RunQuery { commit: text(&"0".repeat(39)), ..all() }), of(&[5, 4, 3, 2, 1, 0]));
        assert_eq!(found(RunQuery { commit: text(&format!("{:040x}", 4)), ..all() }), of(&[4]));
        assert_eq!(found(RunQuery { fit_as_base: true, ..all() }), of(&[4, 2, 1, 0]));
        assert_eq!(found(RunQuery { before: Some(run(2).started), ..all() }), of(&[1, 0]));
        assert_eq!(store.runs(&all()).unwrap()[4].branch, None);

        assert_eq!(store.run(&run_id(3).to_string().to_uppercase()).unwrap().id, run_id(3));
        let several = store.run("0193").unwrap_err().to_string();
        assert!(several.contains("more than one") && several.contains(&run_id(0).to_string()), "{several}");
        for none in ["", "0199", "%", "gemm", "0193' OR 1"] {
            assert!(matches!(store.run(none), Err(StoreError::NotFound(_))), "{none}");
        }
    });
}

#[test]
fn a_killed_run_is_found_again_and_resumed() {
    for_each_engine(|engine, path| {
        // Another process begins a run, stores two launches and dies without a word.
        let mut child = spawn(engine, path, "begin-and-abort", 1);
        assert!(!child.wait().unwrap().success());

        let mut store = open(engine, path);
        let mine = run(2);
        store.begin_run(&mine).unwrap();
        assert_eq!(store.run(&run_id(1).to_string()).unwrap().status, RunStatus::Running);
        assert_eq!(store.mark_interrupted().unwrap(), [run_id(1)], "the run of this living process is none of them");
        assert_eq!(store.mark_interrupted().unwrap(), []);
        let found = store.run(&run_id(1).to_string()).unwrap();
        assert_eq!((found.status, found.finished), (RunStatus::Interrupted, Some(launch(1, 1).finished)));
        assert_eq!(store.launch_count(run_id(1)).unwrap(), 2);

        store.reopen_run(run_id(1)).unwrap();
        let found = store.run(&run_id(1).to_string()).unwrap();
        assert_eq!((found.status, found.finished), (RunStatus::Running, None));
        assert_eq!(store.mark_interrupted().unwrap(), [], "it has a living owner again");
        store.put_launch(run_id(1), &launch(1, 2)).unwrap();
        store.finish_run(run_id(1), RunStatus::Complete, at(5)).unwrap();
        assert_eq!(store.launch_count(run_id(1)).unwrap(), 3);
    });
}

#[test]
fn a_run_that_another_living_process_measures_is_left_alone() {
    for_each_engine(|engine, path| {
        let mut child = spawn(engine, path, "begin-and-wait", 1);
        let mut store = open(engine, path);
        while store.runs(&RunQuery::default()).unwrap().is_empty() {
            assert!(child.try_wait().unwrap().is_none(), "the child ended early");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let marked = store.mark_interrupted();
        let reopened = store.reopen_run(run_id(1));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(marked.unwrap(), []);
        let refused = reopened.unwrap_err().to_string();
        assert!(refused.contains(&child.id().to_string()), "{refused}");
        assert_eq!(store.mark_interrupted().unwrap(), [run_id(1)]);
    });
}

#[test]
fn processes_that_write_at_once_lose_nothing() {
    const EACH: u64 = 25;
    for_each_engine(|engine, path| {
        // Nobody has made the database yet: they also race for creating it.
        let mut children: Vec<Child> = (1..=3).map(|n| spawn(engine, path, "write", n)).collect();
        for child in &mut children {
            assert!(child.wait().unwrap().success());
        }
        let store = open(engine, path);
        for n in 1..=3 {
            let wanted: Vec<String> = (0..EACH).map(|k| bits(&launch(n, k))).collect();
            assert_eq!(all_bits(&store.launches(run_id(n), None).unwrap()), wanted);
            assert_eq!(store.run(&run_id(n).to_string()).unwrap().status, RunStatus::Complete);
        }
        let folder = path.parent().unwrap();
        let drafts = std::fs::read_dir(folder)
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains(".new-"));
        assert_eq!(drafts.count(), 0);
    });
}

#[test]
fn names_move_and_go() {
    for_each_engine(|engine, path| {
        let mut store = open(engine, path);
        for n in [1, 2] {
            put_complete(&mut *store, &run(n), n, 1);
        }
        store.promote("v1", run_id(1), at(1)).unwrap();
        store.promote("release", run_id(1), at(2)).unwrap();
        store.promote("release", run_id(2), at(3)).unwrap();
        let names: Vec<_> = store.baselines().unwrap().into_iter().map(|b| (b.name, b.run, b.since)).collect();
        assert_eq!(names, [("release".to_owned(), run_id(2), at(3)), ("v1".to_owned(), run_id(1), at(1))]);
        assert_eq!(store.drop_baseline("release").unwrap().run, run_id(2));
        assert_eq!(store.baselines().unwrap().len(), 1);
        assert!(store.run(&run_id(2).to_string()).is_ok());
    });
}

#[test]
fn acceptances_are_kept_once_and_by_suite() {
    for_each_engine(|engine, path| {
        let mut store = open(engine, path);
        assert_eq!(store.acceptances("quickstart").unwrap(), []);
        let [second, first, other] = [acceptance("quickstart", 2), acceptance("quickstart", 1), acceptance("other", 1)];
        for one in [&second, &first, &other, &first] {
            store.put_acceptance(one).unwrap();
        }
        drop(store);
        let store = (engine.open_read_only)(path).unwrap();
        assert_eq!(store.acceptances("quickstart").unwrap(), [first, second], "the oldest first");
        assert_eq!(store.acceptances("other").unwrap(), [other]);
        assert_eq!(store.acceptances("quick").unwrap(), []);
    });
}

#[test]
fn pruning_keeps_the_newest_fit_runs_and_the_named() {
    for_each_engine(|engine, path| {
        let mut store = open(engine, path);
        for n in 0..6 {
            let mut header = run(n);
            header.suite.text = format!("# {n}");
            if n == 4 {
                header.synthetic = Some("--inject".to_owned());
            }
            put_complete(&mut *store, &header, n, 2);
        }
        let mut other = run(6);
        other.branch = Some("feature".to_owned());
        other.started = at(-5000);
        put_complete(&mut *store, &other, 6, 1);
        let mut old_interrupted = run(7);
        old_interrupted.started = at(-9000);
        store.begin_run(&old_interrupted).unwrap();
        store.finish_run(run_id(7), RunStatus::Interrupted, at(1)).unwrap();
        store.begin_run(&run(8)).unwrap();
        store.finish_run(run_id(8), RunStatus::Interrupted, at(1)).unwrap();
        let mut old_running = run(9);
        old_running.started = at(-9999);
        store.begin_run(&old_running).unwrap();
        store.promote("first", run_id(0), at(1)).unwrap();

        // Of the group 0..6 the fit ones are 5, 3, 2, 1, 0: 2 and 1 go, 0 has a name. The synthetic 4 counts for nobody
        // and is young enough to stay, as is the interrupted 8.
        let would = store.prune(2, true).unwrap();
        assert_eq!(would.runs, [run_id(7), run_id(1), run_id(2)]);
        assert_eq!(would.launches, 4);
        assert_eq!(store.runs(&RunQuery::default()).unwrap().len(), 10, "a dry run removes nothing");
        assert_eq!(store.prune(2, false).unwrap(), would);
        let stay = [8, 5, 4, 3, 0, 6, 9].map(run_id);
        assert_eq!(ids(&store.runs(&RunQuery::default()).unwrap()), stay);
        assert_eq!(store.launches(run_id(3), None).unwrap().len(), 2);
        assert_eq!(store.prune(2, false).unwrap().runs, []);

        let all = store.prune(0, false).unwrap();
        assert_eq!(all.runs.len(), 5);
        assert_eq!(ids(&store.runs(&RunQuery::default()).unwrap()), [0, 9].map(run_id));
        assert_eq!(store.runs(&RunQuery::default()).unwrap()[0].suite.text, "# 0");
    });
}

#[test]
fn an_id_that_stands_for_something_else_is_refused_whole() {
    for_each_engine(|engine, path| {
        let mut store = open(engine, path);
        put_complete(&mut *store, &run(1), 1, 1);
        let mut other = run(1);
        other.commit = None;
        assert!(matches!(store.merge(&other, &[]), Err(StoreError::Refused(_))));

        let mut forged = launch(1, 0);
        forged.index = 7;
        let refused = store.merge(&run(1), &[launch(1, 5), forged]);
        assert!(matches!(refused, Err(StoreError::Refused(_))));
        let elsewhere = store.merge(&run(2), &[launch(1, 0)]);
        assert!(matches!(elsewhere, Err(StoreError::Refused(_))));
        assert_eq!(store.launch_count(run_id(1)).unwrap(), 1, "nothing of a refused merge stays");
        assert_eq!(store.runs(&RunQuery::default()).unwrap().len(), 1);
    });
}

fn spawn(engine: &Engine, path: &Path, verb: &str, n: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD, format!("{}|{}|{verb}|{n}", engine.name, path.display()))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap()
}

/// Not a test by itself: what [`spawn`] runs in another process.
#[test]
fn child() {
    let Ok(order) = std::env::var(CHILD) else { return };
    let [name, path, verb, n] = order.split('|').collect::<Vec<_>>()[..] else { panic!("{order}") };
    let engine = ENGINES.iter().find(|engine| engine.name == name).unwrap();
    let n: u64 = n.parse().unwrap();
    let mut store = open(engine, Path::new(path));
    match verb {
        "write" => put_complete(&mut *store, &run(n), n, 25),
        "begin-and-abort" => {
            store.begin_run(&run(n)).unwrap();
            for k in 0..2 {
                store.put_launch(run_id(n), &launch(n, k)).unwrap();
            }
            std::process::abort();
        }
        "begin-and-wait" => {
            store.begin_run(&run(n)).unwrap();
            std::thread::sleep(std::time::Duration::from_secs(60));
        }
        other => panic!("{other}"),
    }
}
