//! A real program in a real repository on a machine with a busy neighbour: head does more real work, or does not, and the
//! binary says which. The ignored test is the measurement of reports/verdict-quality.md; the other is its short form.

#![allow(clippy::unwrap_used, reason = "helpers of tests panic like tests do")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use support::Place;

/// Threads that burn processor time and memory bandwidth in bursts, until dropped.
struct Neighbour {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Neighbour {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..2_u64)
            .map(|seed| {
                let stop = Arc::clone(&stop);
                std::thread::spawn(move || burn(&stop, seed + 1))
            })
            .collect();
        Self { stop, threads }
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

/// Bursts of 20 to 400 ms with pauses as long, of lengths that no period fits.
fn burn(stop: &AtomicBool, seed: u64) {
    let mut state = seed;
    let mut length = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Duration::from_millis(20 + (state >> 33) % 380)
    };
    let mut memory = vec![1_u64; 1 << 20];
    while !stop.load(Ordering::Relaxed) {
        let end = Instant::now() + length();
        while Instant::now() < end {
            for word in &mut memory {
                *word = word.wrapping_mul(3);
            }
        }
        std::thread::sleep(length());
    }
    assert_ne!(memory[0], 0);
}

/// What one comparison said.
#[derive(Debug)]
struct Said {
    call: String,
    severity: String,
    code: i32,
    launches: u64,
    took: Duration,
}

/// Base does 100, head `work`, with a neighbour or without.
fn compare(work: u32) -> Said {
    let place = Place::demo(100);
    place.set_work(work);
    place.write("note", "head differs, if only by this line");
    place.commit("head");
    let start = Instant::now();
    let ran = place.run(&["compare", "suite.toml", "HEAD~1..HEAD", "--quiet"]);
    let took = start.elapsed();
    let report = place.report();
    let rows = report["rows"].as_array().unwrap();
    let row = rows.iter().find(|row| row["metric"]["name"] == "latency").unwrap();
    let of = |key: &str| row["verdict"][key].as_str().unwrap().to_owned();
    Said {
        call: of("call"),
        severity: of("severity"),
        code: ran.code,
        launches: report["paired"]["launches"].as_u64().unwrap(),
        took,
    }
}

#[test]
fn more_work_is_red_and_as_much_work_is_not() {
    let _neighbour = Neighbour::start();
    let same = compare(100);
    assert_eq!(same.code, 0, "{same:?}");
    let more = compare(130);
    assert_eq!((more.code, more.severity.as_str()), (1, "severe"), "{more:?}");
}

/// `cargo test --release --test end_to_end -- --ignored --nocapture`
#[test]
#[ignore = "minutes: 35 comparisons beside a busy neighbour; prints the table of reports/verdict-quality.md"]
#[expect(clippy::print_stdout, reason = "its output is the table")]
fn bars_of_the_end_to_end_measurement() {
    let _neighbour = Neighbour::start();
    println!(
        "| more work | comparisons | red | regressed | improved | unchanged | inconclusive | severe | launches, median | time, median |"
    );
    println!("|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    let mut all = Vec::new();
    for (work, times) in [(100, 20), (103, 5), (110, 5), (125, 5)] {
        let said: Vec<Said> = (0..times).map(|_| compare(work)).collect();
        let count = |is: &dyn Fn(&Said) -> bool| said.iter().filter(|said| is(said)).count();
        let calls = |call: &str| count(&|said| said.call == call);
        let mut launches: Vec<u64> = said.iter().map(|said| said.launches).collect();
        let mut took: Vec<Duration> = said.iter().map(|said| said.took).collect();
        launches.sort_unstable();
        took.sort_unstable();
        println!(
            "| {} % | {times} | {} | {} | {} | {} | {} | {} | {} | {:.1} s |",
            work - 100,
            count(&|said| said.code == 1),
            calls("regressed"),
            calls("improved"),
            calls("unchanged"),
            calls("inconclusive"),
            count(&|said| said.severity == "severe"),
            launches[launches.len() / 2],
            took[took.len() / 2].as_secs_f64()
        );
        all.push((work, said));
    }
    for (work, said) in &all {
        for said in said {
            match work {
                100 => assert_ne!(said.code, 1, "a false red: {said:?}"),
                110 => assert_eq!(said.call, "regressed", "{said:?}"),
                125 => assert_eq!(said.severity, "severe", "{said:?}"),
                _ => {}
            }
        }
    }
}
