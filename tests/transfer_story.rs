//! Moving runs between stores, over every engine: nothing is lost, nothing comes twice, nothing comes half.

#![allow(clippy::unwrap_used, reason = "helpers of tests panic like tests do")]

mod store_fixture;

use std::io::Cursor;
use std::path::{Path, PathBuf};

use regrade::domain::{LaunchStatistic, NoiseModel, Run, RunStatus};
use regrade::store::transfer::{self, TransferError};
use regrade::store::{Engine, RunQuery, Store};
use store_fixture::{
    acceptance, all_bits, at, for_each_engine, ids, launch, odd_launch, open, put_complete, run, run_id,
};

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
            assert_eq!(into.run(&run_id(n).to_string()).unwrap(), from.run(&run_id(n).to_string()).unwrap());
            let (here, there) = (into.launches(run_id(n), None).unwrap(), from.launches(run_id(n), None).unwrap());
            assert_eq!(all_bits(&here), all_bits(&there));
        }
        let second = import(&text, &mut *into).unwrap();
        assert_eq!((second.runs, second.launches, second.known, second.names.len()), (0, 0, 5, 0));
        assert_eq!(exported(&*into), text);

        let mut one = Vec::new();
        let written = transfer::export(&*from, &[run_id(2)], &mut one).unwrap();
        assert_eq!((written.runs, written.launches), (1, 1));
        assert!(!String::from_utf8(one).unwrap().contains("v1"), "the name is another run's");
        assert_eq!(into.mark_interrupted().unwrap(), [run_id(3)], "nobody here measures an imported run");
    });
}

#[test]
fn acceptances_travel_with_the_runs_of_their_suite_and_come_once() {
    for_each_engine(|engine, path| {
        let mut from = varied(engine, path);
        let mine = [acceptance("quickstart", 1), acceptance("quickstart", 2)];
        for one in mine.iter().chain([&acceptance("another suite", 1)]) {
            from.put_acceptance(one).unwrap();
        }
        let text = exported(&*from);
        assert_eq!(text.matches(r#"{"type":"acceptance""#).count(), 2);
        let mut into = open(engine, &sibling(path));
        into.put_acceptance(&mine[1]).unwrap();
        assert_eq!(import(&text, &mut *into).unwrap().acceptances, 1);
        assert_eq!(into.acceptances("quickstart").unwrap(), mine);
        assert_eq!(exported(&*into), text);
        assert_eq!(import(&text, &mut *into).unwrap().acceptances, 0);

        let mut third = open(engine, &path.with_file_name("third.db"));
        // An export is of runs; a database brings all it holds.
        assert_eq!(transfer::merge_all(&*from, &mut *third).unwrap().acceptances, 3);
        assert_eq!(third.acceptances("quickstart").unwrap(), mine);
        assert_eq!(third.knowledge().unwrap(), from.knowledge().unwrap());
    });
}

#[test]
fn of_two_noise_models_the_newer_counts_and_only_the_runs_asked_for_move() {
    for_each_engine(|engine, path| {
        let mut from = varied(engine, path);
        put_complete(&mut *from, &run(5), 5, 1);
        from.promote("other", run_id(5), at(9)).unwrap();
        from.put_noise(&[noise("a", 2), noise("b", 2), noise("c", 2)]).unwrap();
        let mut into = open(engine, &sibling(path));
        into.put_noise(&[noise("a", 1), noise("b", 3)]).unwrap();
        let only_one = |run: &Run| run.id == run_id(1);
        let moved = transfer::merge_some(&*from, &mut *into, &only_one).unwrap();
        assert_eq!((moved.runs, moved.noise, moved.names), (1, 2, vec!["v1".to_owned()]));
        assert_eq!(ids(&into.runs(&RunQuery::default()).unwrap()), [run_id(1)]);
        assert_eq!(into.knowledge().unwrap().noise, [noise("a", 2), noise("b", 3), noise("c", 2)]);
        let again = transfer::merge_some(&*from, &mut *into, &only_one).unwrap();
        assert!(!again.changes() && again.known == 4, "{again:?}");
    });
}

fn noise(case: &str, seconds: i64) -> NoiseModel {
    NoiseModel {
        testbed: "a testbed without a run".to_owned(),
        suite: "quickstart".to_owned(),
        case: case.into(),
        metric: "latency".to_owned(),
        measured: at(seconds),
        statistic: LaunchStatistic::Median,
        pair_spread: 0.01,
        pair_deviation: 0.01,
        pairs: 24,
        false_alarms: 0,
        trials: 200,
        smallest_detectable: Some(0.02),
        unchanged_pairs: 9.5,
    }
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
            assert!(matches!(error, TransferError::Line { line: at, .. } if at == line), "{error}");
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
        assert_eq!(fails(&[&lines[..4], &lines[6..]].concat().join("\n"), 5, "expected launch 3"), []);
        assert_eq!(fails(&text.replacen("\"inf\"", "\"large\"", 1), 6, "large"), []);
        assert_eq!(fails(&text.replace("gemm/m=1024@cpu\",\"index", "gone@cpu\",\"index"), 4, "no case"), []);
        let torn = format!("{}\n{}", lines[..7].join("\n"), &lines[7][..40]);
        assert_eq!(fails(&torn, 8, "EOF"), [run_id(1)], "whole runs before the damage are in");
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
        assert_eq!(second.names, ["v1"], "the name that was given later counts");
        assert_eq!(ab.baselines().unwrap()[0].run, run_id(4));
        let mut ba = open(engine, &path.with_file_name("ba.db"));
        transfer::merge_all(&*b, &mut *ba).unwrap();
        assert_eq!(transfer::merge_all(&*a, &mut *ba).unwrap().names_kept, ["v1"]);

        assert_eq!(exported(&*ab), exported(&*ba));
        assert!(!transfer::merge_all(&*ba, &mut *ab).unwrap().changes());
        let resumed = ab.run(&run_id(2).to_string()).unwrap();
        assert_eq!(resumed.status, RunStatus::Complete);
        assert_eq!(ab.launch_count(run_id(2)).unwrap(), 3);
    });
}
