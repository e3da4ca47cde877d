//! One story for every engine of the store: what the port promises, told through the port alone.

#![allow(clippy::unwrap_used, reason = "helpers of tests panic like tests do")]

mod store_fixture;

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use regrade::domain::{CaseId, Run, RunStatus};
use regrade::store::transfer::{self, TransferError};
use regrade::store::{ENGINES, Engine, RunQuery, Store, StoreError};
use store_fixture::{all_bits, at, bits, launch, launch_id, odd_launch, run, run_id};

/// Tells [`child`] what to do: `engine|path|verb|number`.
const CHILD: &str = "REGRADE_TEST_STORE_CHILD";

fn for_each_engine(story: impl Fn(&Engine, &Path)) {
    assert!(!ENGINES.is_empty());
    for engine in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        story(engine, &dir.path().join("deep/er/regrade.db"));
    }
}

fn open(engine: &Engine, path: &Path) -> Box<dyn Store> {
    (engine.open)(path).unwrap()
}

/// Stores run `n` whole, with `launches` launches.
fn put_complete(store: &mut dyn Store, run: &Run, n: u64, launches: u64) {
    store.begin_run(run).unwrap();
    for k in 0..launches {
        store.put_launch(run.id, &launch(n, k)).unwrap();
    }
    store.finish_run(run.id, RunStatus::Complete, at(9_000_000)).unwrap();
}

fn ids(runs: &[Run]) -> Vec<regrade::domain::RunId> {
    runs.iter().map(|run| run.id).collect()
}

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
        assert_eq!(
            all_bits(&store.launches(header.id, Some(&second)).unwrap()),
            all_bits(&in_order[1..])
        );
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
        assert!(
            throughput.min == 1000.0 && throughput.q25 > throughput.q75,
            "the good side of a rate is up"
        );
        assert_eq!(summaries[2].outcome, odd_launch(1, 3).outcome);
        assert!(summaries[2].metrics[1].median.is_nan(), "no samples have no median");
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
            (
                3,
                (|run: &mut Run| run.synthetic = Some("--inject".to_owned())) as fn(&mut Run),
            ),
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
        assert_eq!(
            found(RunQuery {
                limit: Some(2),
                ..all()
            }),
            of(&[5, 4])
        );
        assert_eq!(
            found(RunQuery {
                suite: text("nightly"),
                ..all()
            }),
            of(&[2])
        );
        assert_eq!(
            found(RunQuery {
                testbed: text("other"),
                ..all()
            }),
            of(&[5])
        );
        assert_eq!(
            found(RunQuery {
                branch: text("main"),
                limit: Some(3),
                ..all()
            }),
            of(&[5, 4, 3])
        );
        assert_eq!(
            found(RunQuery {
                commit: text(&"0".repeat(39)),
                ..all()
            }),
            of(&[5, 4, 3, 2, 1, 0])
        );
        assert_eq!(
            found(RunQuery {
                commit: text(&format!("{:040x}", 4)),
                ..all()
            }),
            of(&[4])
        );
        assert_eq!(
            found(RunQuery {
                fit_as_base: true,
                ..all()
            }),
            of(&[4, 2, 1, 0])
        );
        assert_eq!(
            found(RunQuery {
                before: Some(run(2).started),
                ..all()
            }),
            of(&[1, 0])
        );
        assert_eq!(store.runs(&all()).unwrap()[4].branch, None);

        assert_eq!(store.run(&run_id(3).to_string().to_uppercase()).unwrap().id, run_id(3));
        let several = store.run("0193").unwrap_err().to_string();
        assert!(
            several.contains("more than one") && several.contains(&run_id(0).to_string()),
            "{several}"
        );
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
        assert_eq!(
            store.mark_interrupted().unwrap(),
            [run_id(1)],
            "the run of this living process is none of them"
        );
        assert_eq!(store.mark_interrupted().unwrap(), []);
        let found = store.run(&run_id(1).to_string()).unwrap();
        assert_eq!(
            (found.status, found.finished),
            (RunStatus::Interrupted, Some(launch(1, 1).finished))
        );
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
        let names: Vec<_> = store
            .baselines()
            .unwrap()
            .into_iter()
            .map(|b| (b.name, b.run, b.since))
            .collect();
        assert_eq!(
            names,
            [
                ("release".to_owned(), run_id(2), at(3)),
                ("v1".to_owned(), run_id(1), at(1))
            ]
        );
        assert_eq!(store.drop_baseline("release").unwrap().run, run_id(2));
        assert_eq!(store.baselines().unwrap().len(), 1);
        assert!(store.run(&run_id(2).to_string()).is_ok());
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
        assert_eq!(
            store.runs(&RunQuery::default()).unwrap().len(),
            10,
            "a dry run removes nothing"
        );
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

/// A store with a complete, an interrupted and a running run, odd numbers and a name.
fn varied(engine: &Engine, path: &Path) -> Box<dyn Store> {
    let mut store = open(engine, path);
    put_complete(&mut *store, &run(1), 1, 3);
    store.put_launch(run_id(1), &odd_launch(1, 9)).unwrap();
    store.begin_run(&run(2)).unwrap();
    store.put_launch(run_id(2), &launch(2, 0)).unwrap();
    store.finish_run(run_id(2), RunStatus::Interrupted, at(7)).unwrap();
    store.begin_run(&run(3)).unwrap();
    store.promote("v1", run_id(1), at(8)).unwrap();
    store
}

fn exported(store: &dyn Store) -> String {
    let mut bytes = Vec::new();
    transfer::export(store, &[], &mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

fn import(text: &str, store: &mut dyn Store) -> Result<transfer::Imported, TransferError> {
    transfer::import(&mut Cursor::new(text), store)
}

#[test]
fn an_export_is_lossless_and_importing_it_twice_changes_nothing() {
    for_each_engine(|engine, path| {
        let from = varied(engine, path);
        let text = exported(&*from);
        assert_eq!(text, exported(&*from), "the order is fixed");
        assert_eq!(text.lines().next(), Some(r#"{"type":"regrade-export","version":1}"#));
        assert_eq!(text.lines().count(), 1 + 3 + 5 + 1);
        assert!(text.contains(r#"["NaN","NaN:fff80000deadbeef","inf","-inf",-0.0,5e-324,0.30000000000000004]"#));

        let mut into = open(engine, &sibling(path));
        let first = import(&text, &mut *into).unwrap();
        assert_eq!((first.runs, first.launches, first.known), (3, 5, 0));
        assert_eq!(first.names, ["v1"]);
        assert_eq!(exported(&*into), text);
        for n in 1..=3 {
            assert_eq!(
                into.run(&run_id(n).to_string()).unwrap(),
                from.run(&run_id(n).to_string()).unwrap()
            );
            let (here, there) = (
                into.launches(run_id(n), None).unwrap(),
                from.launches(run_id(n), None).unwrap(),
            );
            assert_eq!(all_bits(&here), all_bits(&there));
        }
        let second = import(&text, &mut *into).unwrap();
        assert_eq!(
            (second.runs, second.launches, second.known, second.names.len()),
            (0, 0, 5, 0)
        );
        assert_eq!(exported(&*into), text);

        let mut one = Vec::new();
        let written = transfer::export(&*from, &[run_id(2)], &mut one).unwrap();
        assert_eq!((written.runs, written.launches), (1, 1));
        assert!(
            !String::from_utf8(one).unwrap().contains("v1"),
            "the name is another run's"
        );
        assert_eq!(
            into.mark_interrupted().unwrap(),
            [run_id(3)],
            "nobody here measures an imported run"
        );
    });
}

fn sibling(path: &Path) -> PathBuf {
    path.with_file_name("sibling.db")
}

#[test]
fn a_broken_import_names_its_line_and_leaves_no_half_run() {
    for_each_engine(|engine, path| {
        let text = exported(&*varied(engine, path));
        let lines: Vec<&str> = text.lines().collect();
        let mut number = 0;
        let mut fails = |text: &str, line: u64, words: &str| {
            number += 1;
            let mut into = open(engine, &path.with_file_name(format!("{number}.db")));
            let error = import(text, &mut *into).unwrap_err();
            assert!(
                matches!(error, TransferError::Line { line: at, .. } if at == line),
                "{error}"
            );
            assert!(error.to_string().contains(words), "{error}");
            ids(&into.runs(&RunQuery::default()).unwrap())
        };
        assert_eq!(fails("", 0, "not an export"), []);
        assert_eq!(fails("{\"a\":1}\n", 1, "type"), []);
        assert_eq!(fails(lines[1], 1, "not an export"), []);
        assert_eq!(fails(r#"{"type":"regrade-export","version":9}"#, 1, "version 9"), []);
        // Run 1 is line 2, its launches lines 3 to 6; run 2 is line 7.
        assert_eq!(fails(&lines[..5].join("\n"), 5, "cut short"), []);
        assert_eq!(fails(&[lines[0], lines[2]].join("\n"), 2, "before its run"), []);
        assert_eq!(
            fails(&[&lines[..4], &lines[6..]].concat().join("\n"), 5, "expected launch 3"),
            []
        );
        assert_eq!(fails(&text.replacen("\"inf\"", "\"large\"", 1), 6, "large"), []);
        assert_eq!(
            fails(
                &text.replace("gemm/m=1024@cpu\",\"index", "gone@cpu\",\"index"),
                4,
                "no case"
            ),
            []
        );
        let torn = format!("{}\n{}", lines[..7].join("\n"), &lines[7][..40]);
        assert_eq!(
            fails(&torn, 8, "EOF"),
            [run_id(1)],
            "whole runs before the damage are in"
        );
    });
}

#[test]
fn merging_is_a_union_in_either_order() {
    for_each_engine(|engine, path| {
        let a = varied(engine, path);
        // b has the same run 2, resumed and complete elsewhere, another run 4, and the name for another run.
        let mut b = open(engine, &sibling(path));
        put_complete(&mut *b, &run(2), 2, 3);
        put_complete(&mut *b, &run(4), 4, 1);
        b.promote("v1", run_id(4), at(9)).unwrap();

        let mut ab = open(engine, &path.with_file_name("ab.db"));
        transfer::merge_all(&*a, &mut *ab).unwrap();
        let second = transfer::merge_all(&*b, &mut *ab).unwrap();
        assert_eq!((second.runs, second.launches, second.known), (1, 3, 1));
        assert_eq!(second.names_kept, ["v1"]);
        assert_eq!(ab.baselines().unwrap()[0].run, run_id(1));
        let mut ba = open(engine, &path.with_file_name("ba.db"));
        transfer::merge_all(&*b, &mut *ba).unwrap();
        transfer::merge_all(&*a, &mut *ba).unwrap();

        let without_names = |store: &dyn Store| {
            exported(store)
                .lines()
                .filter(|l| !l.contains("baseline\""))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(without_names(&*ab), without_names(&*ba));
        let resumed = ab.run(&run_id(2).to_string()).unwrap();
        assert_eq!(resumed.status, RunStatus::Complete);
        assert_eq!(ab.launch_count(run_id(2)).unwrap(), 3);
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
        assert_eq!(
            store.launch_count(run_id(1)).unwrap(),
            1,
            "nothing of a refused merge stays"
        );
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
    let [name, path, verb, n] = order.split('|').collect::<Vec<_>>()[..] else {
        panic!("{order}")
    };
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
