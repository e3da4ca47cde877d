//! `regrade baseline …` below the command line: what it prints, what it refuses, what it leaves behind.

#![allow(clippy::unwrap_used, reason = "helpers of tests panic like tests do")]

mod store_fixture;

use std::fs;
use std::path::Path;

use regrade::cli::Format;
use regrade::command::baseline::{self, Action};
use regrade::domain::RunStatus;
use regrade::exit::Exit;
use regrade::store::sqlite::SqliteStore;
use regrade::store::{RunQuery, Store, StoreError};
use serde_json::Value as Json;
use store_fixture::{at, launch, odd_launch, run, run_id};

/// Run 1 complete and named `v1`, run 2 interrupted, run 3 synthetic and on another branch.
fn stocked(path: &Path) -> SqliteStore {
    let mut store = SqliteStore::open(path).unwrap();
    for n in 1..=3 {
        let mut header = run(n);
        if n == 3 {
            header.branch = Some("feature".to_owned());
            header.synthetic = Some("--inject '*=30%'".to_owned());
        }
        store.begin_run(&header).unwrap();
        for k in 0..4 {
            store.put_launch(run_id(n), &launch(n, k)).unwrap();
        }
        let status = if n == 2 { RunStatus::Interrupted } else { RunStatus::Complete };
        store.finish_run(run_id(n), status, at(99)).unwrap();
    }
    store.put_launch(run_id(1), &odd_launch(1, 5)).unwrap();
    store.promote("v1", run_id(1), at(100)).unwrap();
    store
}

fn with_store(test: impl FnOnce(&mut SqliteStore, &Path)) {
    let dir = tempfile::tempdir().unwrap();
    test(&mut stocked(&dir.path().join("regrade.sqlite")), dir.path());
}

fn said(store: &mut dyn Store, action: &Action) -> String {
    let mut out = Vec::new();
    assert_eq!(baseline::run(action, store, &mut out).unwrap(), Exit::Pass);
    String::from_utf8(out).unwrap()
}

fn refused(store: &mut dyn Store, action: &Action) -> String {
    let error = baseline::run(action, store, &mut Vec::new()).unwrap_err();
    format!("{error:#}")
}

fn list(format: Format) -> Action {
    Action::List { query: RunQuery::default(), format }
}

fn promote(name: &str, run: u64) -> Action {
    Action::Promote { name: name.to_owned(), run: run_id(run).to_string() }
}

#[test]
fn list_groups_the_runs_and_says_what_is_unfit() {
    with_store(|store, _| {
        insta::assert_snapshot!(said(store, &list(Format::Text)));
        let json: Json = serde_json::from_str(&said(store, &list(Format::Json))).unwrap();
        assert_eq!(json["version"], 1);
        assert_eq!(json["baselines"][0]["name"], "v1");
        let runs = json["runs"].as_array().unwrap();
        assert_eq!(runs.len(), 3);
        assert_eq!(runs[0]["id"], run_id(3).to_string());
        assert!(runs[0]["unfit"].as_str().unwrap().contains("--inject"));
        assert_eq!((&runs[2]["names"][0], &runs[2]["launches"]), (&"v1".into(), &5.into()));
        assert_eq!(runs[2]["unfit"], Json::Null);
    });
    let dir = tempfile::tempdir().unwrap();
    let mut empty = SqliteStore::open(&dir.path().join("x.sqlite")).unwrap();
    assert!(said(&mut empty, &list(Format::Text)).contains("regrade run"));
}

#[test]
fn show_tells_all_of_a_run_by_name_or_prefix() {
    with_store(|store, _| {
        let show = |run: &str, format| Action::Show { run: run.to_owned(), format };
        let text = said(store, &show("v1", Format::Text));
        insta::assert_snapshot!(text);
        assert_eq!(said(store, &show(&run_id(1).to_string(), Format::Text)), text);
        let json: Json = serde_json::from_str(&said(store, &show("v1", Format::Json))).unwrap();
        assert_eq!(json["run"]["suite"]["text"], run(1).suite.text);
        assert_eq!(json["cases"][1]["outcomes"], serde_json::json!({"measured": 2, "failed": 1}));
        // The failed launch counts in no median.
        assert_eq!(json["cases"][1]["metrics"][0]["samples"], 40);
        let missing = refused(store, &show("abcd", Format::Text));
        assert!(missing.contains("no run `abcd`") && missing.contains("baseline list"), "{missing}");
    });
}

#[test]
fn promote_moves_a_name_and_refuses_what_is_unfit() {
    with_store(|store, _| {
        for (run, why) in [(2, "--resume"), (3, "synthetic")] {
            let error = baseline::run(&promote("v1", run), store, &mut Vec::new()).unwrap_err();
            assert!(matches!(error.downcast_ref(), Some(StoreError::Refused(what)) if what.contains(why)), "{error}");
        }
        store.finish_run(run_id(2), RunStatus::Complete, at(101)).unwrap();
        let moved = said(store, &promote("v1", 2));
        assert!(moved.contains(&run_id(2).to_string()) && moved.contains(&run_id(1).to_string()), "{moved}");
        assert!(said(store, &promote("dirty", 1)).contains("uncommitted"));
        let drop = Action::Drop { name: "v1".to_owned() };
        assert!(said(store, &drop).contains("stays"));
        assert!(refused(store, &drop).contains("no baseline `v1`"));
    });
}

#[test]
fn prune_says_what_it_does() {
    with_store(|store, _| {
        let prune = |dry_run| Action::Prune { keep: 0, dry_run };
        let dry = said(store, &prune(true));
        assert!(dry.contains("would remove 2 runs with 8 launches"), "{dry}");
        assert_eq!(store.runs(&RunQuery::default()).unwrap().len(), 3);
        assert_eq!(said(store, &prune(false)), dry.replace("would remove", "removed"));
        assert_eq!(store.runs(&RunQuery::default()).unwrap().len(), 1);
    });
}

#[test]
fn runs_travel_by_export_and_by_database() {
    with_store(|store, dir| {
        let export = |to: Option<&str>| Action::Export {
            runs: vec!["v1".to_owned(), run_id(3).to_string()],
            to: to.map(|name| dir.join(name)),
        };
        let text = said(store, &export(None));
        assert!(said(store, &export(Some("runs.jsonl"))).contains("wrote 2 runs with 9 launches"));
        assert_eq!(fs::read_to_string(dir.join("runs.jsonl")).unwrap(), text);

        let import = |name: &str| Action::Import { from: dir.join(name) };
        let mut other = SqliteStore::open(&dir.join("other.sqlite")).unwrap();
        let first = said(&mut other, &import("runs.jsonl"));
        assert!(first.contains("imported 2 runs and 9 launches; 0 launches known"), "{first}");
        let second = said(&mut other, &import("regrade.sqlite"));
        assert!(second.contains("imported 1 run and 4 launches; 9 launches known"), "{second}");
        assert_eq!(other.runs(&RunQuery::default()).unwrap(), store.runs(&RunQuery::default()).unwrap());

        fs::write(dir.join("bad.jsonl"), format!("{}\n{{\"type\":\n", text.lines().next().unwrap())).unwrap();
        let bad = refused(&mut other, &import("bad.jsonl"));
        assert!(bad.contains("bad.jsonl") && bad.contains("line 2"), "{bad}");
        assert!(refused(&mut other, &import("nowhere.jsonl")).contains("nowhere.jsonl"));
        let database = refused(store, &export(Some("other.sqlite")));
        assert!(database.contains("destroy"), "{database}");
        let left =
            fs::read_dir(dir).unwrap().filter(|e| e.as_ref().unwrap().path().to_string_lossy().contains(".new-"));
        assert_eq!(left.count(), 0);
    });
}
