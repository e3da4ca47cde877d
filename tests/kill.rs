//! SIGKILL at random moments: no finished launch is lost, the database stays whole, and the run can go on.
//!
//! `REGRADE_KILL_MOMENTS` sets how many moments; the default is small for CI, `just kill-100` runs a hundred.

mod support;

use std::io::Read;
use std::process::Stdio;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use regrade::store::sqlite::SqliteStore;
use regrade::store::{RunQuery, Store};
use support::Place;

#[test]
fn killing_at_any_moment_loses_no_finished_launch() {
    let moments: u64 = std::env::var("REGRADE_KILL_MOMENTS").ok().map_or(10, |text| text.parse().expect("a number"));
    let mut rng = ChaCha8Rng::seed_from_u64(42);
    let place = Place::new();
    place.script(&["alpha", "beta"]);
    let mut killed_while_measuring = 0;
    for moment in 0..moments {
        let mut child = place
            .command(&["run", "suite.toml", "--launches", "200"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        std::thread::sleep(Duration::from_millis(rng.next_u64() % 600));
        child.kill().expect("SIGKILL");
        child.wait().expect("ends");
        let mut said = String::new();
        child.stderr.take().expect("piped").read_to_string(&mut said).expect("UTF-8");
        // `[12/400] …` is said once the launch has been kept.
        let finished = said.lines().filter(|line| line.starts_with('[')).count();
        if !place.file("baselines/regrade.sqlite").exists() {
            assert_eq!(finished, 0, "moment {moment}: launches were finished, and there is no database");
            continue;
        }
        let connection = rusqlite::Connection::open(place.file("baselines/regrade.sqlite")).expect("opens");
        let verdict: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("a database");
        assert_eq!(verdict, "ok", "moment {moment}");
        drop(connection);
        let mut store = SqliteStore::open(&place.file("baselines/regrade.sqlite")).expect("opens");
        let interrupted = store.mark_interrupted().expect("readable");
        assert!(interrupted.len() <= 1, "moment {moment}: {interrupted:?}");
        let stored = match interrupted.first() {
            Some(run) => store.launches(*run, None).expect("readable").len(),
            None => 0,
        };
        assert!(stored >= finished, "moment {moment}: {finished} launches were finished, {stored} are stored");
        assert!(stored <= finished + 1, "moment {moment}: {finished} finished, {stored} stored");
        killed_while_measuring += u64::from(finished > 0);
    }
    assert!(killed_while_measuring > 0, "no moment fell into a run: the test says nothing");
    let newest = SqliteStore::open(&place.file("baselines/regrade.sqlite"))
        .and_then(|store| store.runs(&RunQuery { limit: Some(1), ..RunQuery::default() }))
        .expect("readable");
    assert_eq!(newest.len(), 1);
    place.run(&["run", "suite.toml", "--launches", "200", "--resume"]).expect(0);
}
