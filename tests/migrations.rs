//! Databases of the past open and read the same; those of the future and of others are refused untouched; damage is
//! named.

#![allow(clippy::unwrap_used, reason = "helpers of tests panic like tests do")]

mod store_fixture;

use std::fs;
use std::path::{Path, PathBuf};

use regrade::domain::RunStatus;
use regrade::store::sqlite::SqliteStore;
use regrade::store::{RunQuery, Store, StoreError};
use store_fixture::{all_bits, at, launch, odd_launch, run, run_id};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/databases");

/// A copy of a committed database in a folder of its own: opening may migrate it.
fn copy_of(name: &str, dir: &Path) -> PathBuf {
    let path = dir.join(name);
    fs::copy(Path::new(FIXTURES).join(name), &path).unwrap();
    path
}

/// What every committed database holds, whatever its schema version.
fn write_fixture(path: &Path) {
    let mut store = SqliteStore::open(path).unwrap();
    for n in [1, 2] {
        store.begin_run(&run(n)).unwrap();
        store.put_launch(run_id(n), &launch(n, 0)).unwrap();
    }
    store.put_launch(run_id(1), &odd_launch(1, 1)).unwrap();
    store.finish_run(run_id(1), RunStatus::Complete, at(99)).unwrap();
    store.finish_run(run_id(2), RunStatus::Interrupted, at(100)).unwrap();
    store.promote("release", run_id(1), at(101)).unwrap();
}

/// Makes the database of the present schema; run it once when a migration is added, and commit the file:
/// `REGRADE_TEST_WRITE_DATABASE=tests/fixtures/databases/v1.sqlite cargo test --test migrations write_the_database`.
#[test]
fn write_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let path =
        std::env::var_os("REGRADE_TEST_WRITE_DATABASE").map_or_else(|| dir.path().join("new.sqlite"), PathBuf::from);
    write_fixture(&path);
    check_fixture(&path);
}

fn check_fixture(path: &Path) {
    let store = SqliteStore::open(path).unwrap();
    let runs = store.runs(&RunQuery::default()).unwrap();
    assert_eq!(runs.len(), 2);
    let mut complete = run(1);
    complete.status = RunStatus::Complete;
    complete.finished = Some(at(99));
    assert_eq!(runs[1], complete);
    assert_eq!((runs[0].id, runs[0].status), (run_id(2), RunStatus::Interrupted));
    let launches = store.launches(run_id(1), None).unwrap();
    assert_eq!(all_bits(&launches), all_bits(&[launch(1, 0), odd_launch(1, 1)]));
    let latency = &store.summaries(run_id(1)).unwrap()[0].metrics[0];
    assert_eq!((latency.n, latency.min), (20, 0.001));
    // Between the tenth and eleventh sample, on the log scale.
    assert!((latency.median - (0.001_09_f64 * 0.001_1).sqrt()).abs() < 1e-12);
    let baselines = store.baselines().unwrap();
    assert_eq!((baselines[0].name.as_str(), baselines[0].run), ("release", run_id(1)));
}

#[test]
fn every_committed_database_reads_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let mut seen = 0;
    for entry in fs::read_dir(FIXTURES).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".sqlite") {
            check_fixture(&copy_of(&name, dir.path()));
            seen += 1;
        }
    }
    assert!(seen > 0, "no database in {FIXTURES}");
}

/// Changes four bytes of the header: 60 is `user_version`, 68 `application_id`.
fn set_header(path: &Path, offset: usize, value: i32) {
    let mut bytes = fs::read(path).unwrap();
    bytes[offset..offset + 4].copy_from_slice(&value.to_be_bytes());
    fs::write(path, bytes).unwrap();
}

/// Opens in both ways, expects the same refusal, and finds the folder as it was.
fn refusal(path: &Path) -> StoreError {
    let before = fs::read(path).ok();
    let list = || fs::read_dir(path.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect::<Vec<_>>();
    let files = list();
    let error = SqliteStore::open(path).unwrap_err();
    let reading = SqliteStore::open_read_only(path).unwrap_err();
    assert_eq!(error.to_string(), reading.to_string());
    assert_eq!(fs::read(path).ok(), before);
    assert_eq!(list(), files);
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    error
}

#[test]
fn a_newer_database_is_refused_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let path = copy_of("v1.sqlite", dir.path());
    set_header(&path, 60, 99);
    let error = refusal(&path);
    assert!(matches!(error, StoreError::Newer { found: 99, .. }), "{error}");
}

#[test]
fn files_of_others_are_refused_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.sqlite");
    let not_ours = |words: &str| match refusal(&path) {
        StoreError::NotOurs { what, .. } => assert!(what.contains(words) && what.contains("--db"), "{what}"),
        other => panic!("{other}"),
    };
    fs::write(&path, "").unwrap();
    not_ours("empty");
    fs::write(&path, "name = \"a suite\"\n".repeat(20)).unwrap();
    not_ours("not a SQLite database");
    fs::write(&path, &fs::read(Path::new(FIXTURES).join("v1.sqlite")).unwrap()[..50]).unwrap();
    not_ours("cut short");
    fs::remove_file(&path).unwrap();
    copy_of("v1.sqlite", dir.path());
    fs::rename(dir.path().join("v1.sqlite"), &path).unwrap();
    set_header(&path, 68, 0x1234);
    not_ours("another application");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    not_ours("folder");
}

#[test]
fn a_damaged_database_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = copy_of("v1.sqlite", dir.path());
    let mut bytes = fs::read(&path).unwrap();
    let length = bytes.len();
    bytes[100..length].fill(0x5a);
    fs::write(&path, bytes).unwrap();
    let error = SqliteStore::open(&path).and_then(|store| store.runs(&RunQuery::default())).unwrap_err();
    assert!(matches!(&error, StoreError::NotOurs { what, .. } if what.contains("damaged")), "{error}");
}

#[test]
fn a_place_that_cannot_be_written_says_so() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let error = SqliteStore::open(&dir.path().join("file/regrade.sqlite")).unwrap_err().to_string();
    assert!(error.contains("file/regrade.sqlite"), "{error}");

    if rustix::process::geteuid().is_root() {
        return; // Permissions do not bind root.
    }
    let path = copy_of("v1.sqlite", dir.path());
    let lock = |path: &Path, locked: bool| {
        let mut permissions = fs::metadata(path).unwrap().permissions();
        permissions.set_readonly(locked);
        fs::set_permissions(path, permissions).unwrap();
    };
    lock(&path, true);
    let file = SqliteStore::open(&path).unwrap_err();
    lock(dir.path(), true);
    let folder = SqliteStore::open(&dir.path().join("new.sqlite")).unwrap_err();
    let reading = SqliteStore::open_read_only(&path).and_then(|store| store.run(&run_id(1).to_string()));
    lock(dir.path(), false);
    lock(&path, false);
    for error in [file, folder] {
        assert!(matches!(error, StoreError::Denied(_)), "{error}");
        assert!(error.to_string().contains("read-only"), "{error}");
    }
    assert_eq!(reading.unwrap().id, run_id(1));
}

/// Does something to a database that regrade never would.
fn tamper(path: &Path, sql: &str) {
    let conn = rusqlite::Connection::open(path).unwrap();
    assert!(conn.execute(sql, []).unwrap() > 0, "{sql}");
}

#[test]
fn damaged_values_are_named_and_summaries_read_no_vector() {
    let dir = tempfile::tempdir().unwrap();
    for (sql, words) in [
        ("UPDATE vectors SET data = substr(data, 1, length(data) - 1)", "metric `latency`"),
        ("UPDATE vectors SET data = x'02'", "encoding 2"),
        ("UPDATE metrics SET n = n + 1", "announced"),
        ("UPDATE launches SET outcome = 'splendid'", "splendid"),
        ("UPDATE launch_details SET evidence = '{'", "expected a sequence"),
    ] {
        let path = copy_of("v1.sqlite", dir.path());
        tamper(&path, sql);
        let store = SqliteStore::open(&path).unwrap();
        let error = store.launches(run_id(1), None).unwrap_err();
        assert!(matches!(&error, StoreError::Corrupt { run, .. } if *run == run_id(1).to_string()), "{sql}: {error}");
        assert!(error.to_string().contains(words), "{sql}: {error}");
        if sql.contains("vectors") {
            assert_eq!(store.summaries(run_id(1)).unwrap().len(), 2, "no vector is read");
        }
    }
    let path = copy_of("v1.sqlite", dir.path());
    tamper(&path, "UPDATE texts SET text = 'x' WHERE text LIKE '{\"id\":%'");
    let error = SqliteStore::open(&path).unwrap().runs(&RunQuery::default()).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
}

#[test]
fn a_used_database_is_sound() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.sqlite");
    write_fixture(&path);
    let mut store = SqliteStore::open(&path).unwrap();
    store.drop_baseline("release").unwrap();
    for k in 10..60 {
        store.put_launch(run_id(2), &launch(2, k)).unwrap();
    }
    assert_eq!(store.prune(0, false).unwrap().launches, 53);
    drop(store);
    let fresh = dir.path().join("fresh.sqlite");
    drop(SqliteStore::open(&fresh).unwrap());
    let size = |path: &Path| fs::metadata(path).unwrap().len();
    assert_eq!(size(&path), size(&fresh), "pruning gives its pages back");
    let conn = rusqlite::Connection::open(&path).unwrap();
    let verdict: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
    for table in ["texts", "runs", "cases", "launches", "launch_details", "checks", "metrics", "vectors", "baselines"] {
        let rows: i64 = conn.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 0, "{table} keeps nothing of a removed run");
    }
}
