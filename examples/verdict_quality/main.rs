//! Measures how far verdicts can be believed: whole pull requests on made-up machines, and single comparisons on recorded
//! noise of known truth, side by side with the rules of other tools. Writes `reports/verdict-quality.md`.
//!
//! `cargo run --release --example verdict_quality` takes some minutes. `-- --half choosing` prints the tables of the half
//! of the recordings on which rules may be chosen, and writes nothing. Every decision is made by the production code or,
//! for other tools, by `peers`; none is made here.

mod end_to_end;
mod figures;
mod on_recordings;
mod peers;
mod recordings;
mod worlds;

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use anstream::{eprintln, println};
use regrade::domain::Thresholds;
use regrade::verdict::paired::{PAIRS_MAX, Question};
use regrade::verdict::policy::PRIOR_SPREAD;

use crate::end_to_end::Outcomes;
use crate::figures::{Share, percent, table};
use crate::on_recordings::Tables;
use crate::recordings::Half;
use crate::worlds::Draw;

const COMMAND: &str = "cargo run --release --example verdict_quality";
/// Pull requests without a change.
const NULLS: usize = 1200;
/// Pull requests with changes, for each size of change.
const CHANGES: usize = 150;
/// Pull requests in which everything is paired, for comparison.
const UNSCREENED: usize = 10;
/// Sizes of true changes.
const SIZES: [f64; 6] = [0.02, 0.03, 0.05, 0.07, 0.10, 0.25];

fn main() {
    let choosing = std::env::args().any(|word| word == "choosing");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let half = if choosing { Half::Choosing } else { Half::Reporting };
    let (machine, cells) = recordings::read(&folder.join("tests/fixtures/recordings"));
    let start = Instant::now();
    let tables = Tables::measure(&cells, half, &|what| {
        eprintln!("{what}, {:.0} s", start.elapsed().as_secs_f64());
    });
    if choosing {
        println!("{}", tables.markdown());
        return;
    }
    let mut text = HEAD.replace("{command}", COMMAND).replace("{machine}", &machine);
    let whole = WholeRequests::measure(&start);
    let speed = Speed::measure();
    text += &bars(&whole, &tables, &speed);
    text += &whole.markdown();
    text += &tables.markdown();
    text += &speed.markdown(&machine);
    let _ = write!(text, "\nAll of this took {:.0} s.\n", start.elapsed().as_secs_f64());
    let path = folder.join("reports/verdict-quality.md");
    std::fs::write(&path, text).expect("the report can be written");
    eprintln!("wrote {}", path.display());
}

const HEAD: &str = "# How far verdicts can be believed

Made by `{command}` on {machine}; seeds are fixed, so every figure but those of time comes out the same again. Intervals are
Wilson's at 95 %. A false alarm is a change that is called where there is none; recall and power count real slowdowns that are
called regressed, of whatever severity.

";

/// A line for each bar.
fn bars(whole: &WholeRequests, tables: &Tables, speed: &Speed) -> String {
    let at = |size: f64| &whole.changed.iter().find(|(of, _)| *of == size).expect("it was measured").1;
    let mut rows = vec![
        (
            "unchanged pull requests of 200 cases with a false regression",
            "at most 1.5 %",
            whole.null.false_alarms,
            0.015,
            true,
        ),
        ("recall at 5 %", "at least 93 %", at(0.05).recall, 0.93, false),
        ("recall at 10 %", "at least 99 %", at(0.10).recall, 0.99, false),
    ];
    rows.extend(tables.apart_alarms().map(|(what, share)| (what, "at most 1 %", share, 0.01, true)));
    let mut lines: Vec<Vec<String>> = rows
        .into_iter()
        .map(|(what, bar, share, limit, most)| {
            let kept = if most { share.value() <= limit } else { share.value() >= limit };
            vec![what.to_owned(), bar.to_owned(), share.to_string(), if kept { "kept" } else { "missed" }.to_owned()]
        })
        .collect();
    lines.extend(tables.rivals());
    lines.push(vec![
        "1,000 comparisons decided after every one of 40 pairs".to_owned(),
        "under 1 s".to_owned(),
        format!("{:.2} s", speed.all_s),
        if speed.all_s < 1.0 { "kept" } else { "missed" }.to_owned(),
    ]);
    format!("## Bars\n\n{}\n", table(&["what", "bar", "measured", ""], &lines))
}

/// Pull requests from screen to verdict.
struct WholeRequests {
    null: Outcomes,
    changed: Vec<(f64, Outcomes)>,
    unscreened: Outcomes,
}

impl WholeRequests {
    fn measure(start: &Instant) -> Self {
        let say = |what: &str| eprintln!("{what}, {:.0} s", start.elapsed().as_secs_f64());
        let null = end_to_end::pull_requests(NULLS, 0.0, true);
        say("unchanged pull requests");
        let unscreened = end_to_end::pull_requests(UNSCREENED, 0.0, false);
        let changed = SIZES
            .map(|size| {
                let outcomes = end_to_end::pull_requests(CHANGES, size, true);
                say(&format!("pull requests with changes of {} %", percent(size)));
                (size, outcomes)
            })
            .into();
        Self { null, changed, unscreened }
    }

    fn markdown(&self) -> String {
        let per = |count: usize, of: usize| format!("{:.1}", count as f64 / of as f64);
        let rows: Vec<Vec<String>> = self
            .changed
            .iter()
            .map(|(size, outcomes)| {
                let worlds = ["quiet", "shared", "gpu", "nasty"].map(|world| {
                    format!("{:.0}", 100.0 * outcomes.by_world.get(world).copied().unwrap_or_default().value())
                });
                vec![
                    format!("{} %", percent(*size)),
                    outcomes.recall.to_string(),
                    worlds.join(" / "),
                    outcomes.class_right.to_string(),
                    outcomes.suspected.to_string(),
                    outcomes.false_alarms.to_string(),
                    per(outcomes.launches, CHANGES),
                ]
            })
            .collect();
        format!(
            "## Whole pull requests, made-up machines\n\n\
             `{COMMAND}`. Four worlds of noise (quiet, shared, gpu, nasty: 80, 70, 40 and 10 of 200 benchmarks) with outliers, drift, \
             bursts, slow clocks, session and build offsets. Head is judged against {sessions} sessions by \
             `verdict::judge`, {launches} launches a case; its suspects are confirmed by `paired::Question` in coin-ordered pairs \
             with the budget split over them. {changed} benchmarks change in a pull request with changes.\n\n\
             Without a change: {null} of {NULLS} pull requests had a false regression; {per_null} launches a pull request, \
             {suspects} suspects, {open} of them left open. Pairing everything takes {all} launches (without a screen, {UNSCREENED} \
             pull requests). Discarded warm-up launches are not \
             counted, and the cap of 30 suspects a session is not applied.\n\n{table}\n",
            sessions = end_to_end::SESSIONS,
            launches = end_to_end::LAUNCHES,
            changed = end_to_end::CHANGED,
            null = self.null.false_alarms,
            per_null = per(self.null.launches, NULLS),
            suspects = per(self.null.suspects, NULLS),
            open = per(self.null.open, NULLS),
            all = per(self.unscreened.launches, UNSCREENED),
            table = table(
                &[
                    "true change",
                    "recall",
                    "quiet / shared / gpu / nasty, %",
                    "class exactly right",
                    "passed on by the screen",
                    "false alarm in the pull request",
                    "launches a pull request"
                ],
                &rows
            ),
        )
    }
}

/// What deciding costs.
struct Speed {
    /// Seconds for all comparisons.
    all_s: f64,
}

impl Speed {
    /// Comparisons: 200 cases of five metrics.
    const COMPARISONS: usize = 1000;

    /// Never stops early: every comparison is decided anew after each of 40 pairs, on one core.
    fn measure() -> Self {
        let mut draw = Draw::new(1, 0);
        let world = worlds::of_benchmark(0);
        let pairs: Vec<Vec<f64>> = (0..Self::COMPARISONS).map(|_| world.pairs(PAIRS_MAX, 0.01, &mut draw)).collect();
        let question = Question::new(&Thresholds::default(), 10);
        let start = Instant::now();
        let mut open = Share::default();
        for differences in &pairs {
            let mut seen = regrade::stats::evidence::Pairs::new(PRIOR_SPREAD, 1e-4);
            for difference in differences {
                seen.push(*difference);
                open.count(question.answer(&seen).is_final());
            }
        }
        std::hint::black_box(open);
        Self { all_s: start.elapsed().as_secs_f64() }
    }

    fn markdown(&self, machine: &str) -> String {
        format!(
            "## What deciding costs\n\n`{COMMAND}`, {machine}, one core, other programs running: {} comparisons (200 cases of five \
             metrics), each decided after every one of {PAIRS_MAX} pairs, take {:.2} s, {:.1} us a decision.\n",
            Self::COMPARISONS,
            self.all_s,
            1e6 * self.all_s / (Self::COMPARISONS * PAIRS_MAX) as f64
        )
    }
}
