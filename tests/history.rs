//! Series with a step through the binary: who is charged, what stays red, what is inherited, and what a waiver covers.

mod support;

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;
use support::Place;

const PLAIN: usize = 12;
const SLOW: usize = 13;

/// A place whose `main` was measured twelve times, became 30 % slower in `alpha` by a commit of Ada's, and was measured
/// thirteen times more. Made once, because fifty measurements take their time; each test gets a copy.
fn stepped() -> Place {
    static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();
    let template = TEMPLATE.get_or_init(|| {
        let place = Place::new();
        place.script(&["alpha", "beta"]);
        for _ in 0..PLAIN {
            place.run(&["run", "suite.toml", "-q"]).expect(0);
        }
        let ada = "Ada <ada@example.invalid>";
        place.git(&["commit", "-q", "--allow-empty", "-m", "make it slow", "--author", ada]);
        place.set_factor("alpha", "1.3");
        for _ in 0..SLOW {
            place.run(&["run", "suite.toml", "-q"]).expect(0);
        }
        let path = place.path().to_owned();
        // Needed until the process ends.
        std::mem::forget(place);
        path
    });
    let place = Place::new();
    std::fs::remove_dir_all(place.file(".git")).expect("a repository");
    let from = template.join(".");
    let copied = Command::new("cp").arg("-R").arg(from).arg(place.path()).status().expect("cp is there");
    assert!(copied.success());
    place
}

/// Three runs of two benchmarks, and `beta` 30 % slower from now on.
fn regressed() -> Place {
    let place = Place::new();
    place.script(&["alpha", "beta"]);
    for _ in 0..3 {
        place.run(&["run", "suite.toml"]).expect(0);
    }
    place.set_factor("beta", "1.3");
    place
}

fn commit(place: &Place, name: &str) -> String {
    let output = Command::new("git").args(["rev-parse", name]).current_dir(place.path()).output().expect("git");
    String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
}

fn latency_of(place: &Place, case: &str) -> Value {
    let report = place.report();
    let rows = report["rows"].as_array().expect("rows");
    let found = rows.iter().find(|row| row["case"] == case && row["metric"]["name"] == "latency");
    found.expect("a row").clone()
}

fn waivers(place: &Place, change: &str, more: &str) {
    let text = format!(
        "# kept\n[[waiver]]\ncase = \"beta@cpu\"\nchange = \"{change}\"\nreason = \"known\"\nwho = \"Ada\"\n{more}\n"
    );
    place.write("regrade-waivers.toml", &text);
}

#[test]
fn a_step_is_shown_with_its_level_its_size_and_the_commit_that_is_charged() {
    let place = stepped();
    let ran = place.run(&["history"]).expect(0);
    let (before, after) = (commit(&place, "HEAD~1"), commit(&place, "HEAD"));
    let charged = format!("after {} up to {}", &before[..10], &after[..10]);
    for words in [
        "25 sessions",
        "pending shift: +30",
        charged.as_str(),
        "Ada <ada@example.invalid>: make it slow",
        "regrade accept 'alpha@cpu'",
        "1 metric is pending",
    ] {
        assert!(ran.stdout.contains(words), "no `{words}` in\n{}", ran.stdout);
    }
    let json: Value =
        serde_json::from_str(&place.run(&["history", "--format", "json"]).expect(0).stdout).expect("JSON");
    let of = |case: &str| {
        json["series"].as_array().expect("series").iter().find(|one| one["case"] == case).expect("a series").clone()
    };
    let alpha = of("alpha@cpu");
    let shift = &alpha["shifts"][0];
    assert_eq!((shift["state"].as_str(), shift["first"].as_u64()), (Some("pending"), Some(PLAIN as u64)), "{alpha}");
    assert_eq!(shift["charged"]["commits"][0]["commit"], after.as_str());
    assert_eq!(alpha["levels"][1]["first"], PLAIN as u64);
    let change = alpha["levels"][1]["change"]["change"].as_f64().expect("a change");
    assert!((change - 0.3).abs() < 0.01, "{change}");
    let beta = of("beta@cpu");
    assert_eq!((beta["levels"].as_array().map(Vec::len), beta["shifts"].as_array().map(Vec::len)), (Some(1), Some(0)));
}

#[test]
fn the_selection_the_window_and_the_colours_are_the_caller_s() {
    let place = stepped();
    let one = place.run(&["history", "scripted", "--case", "b*", "--metric", "latency", "--last", "5"]).expect(0);
    assert!(one.stdout.contains("5 sessions") && !one.stdout.contains("alpha@cpu"), "{}", one.stdout);
    let wrong = place.run(&["history", "--case", "alfa@cpu"]).expect(2);
    assert!(wrong.stderr.contains("did you mean `alpha@cpu`?"), "{}", wrong.stderr);
    let wrong = place.run(&["history", "--metric", "latancy"]).expect(2);
    assert!(wrong.stderr.contains("did you mean `latency`?"), "{}", wrong.stderr);
    place.run(&["history", "no-such-suite"]).expect(2);
    assert!(place.run(&["history", "--color", "always"]).expect(0).stdout.contains("\u{1b}["));
    let mut plain = place.command(&["history"]);
    let plain = plain.env("NO_COLOR", "1").env("CLICOLOR_FORCE", "").output().expect("the binary starts");
    assert!(!String::from_utf8_lossy(&plain.stdout).contains("\u{1b}["));
    place.run(&["history", "suite.toml", "--plots", "pictures"]).expect(0);
    for name in ["trend-alpha-cpu-latency.svg", "trend-alpha-cpu-latency.png"] {
        assert!(place.file("pictures").join(name).is_file(), "{name} is missing");
    }
}

#[test]
fn an_empty_store_has_no_history() {
    let place = Place::new();
    let ran = place.run(&["history"]).expect(5);
    assert!(ran.stderr.contains("regrade run"), "{}", ran.stderr);
    // A debug build's timings mean nothing, so its run is no session.
    place.script(&["alpha"]);
    let mut run = place.command(&["run", "suite.toml"]);
    assert!(run.env_remove("REGRADE_TRUST_DEBUG_BUILD").output().expect("the binary starts").status.success());
    let ran = place.run(&["history"]);
    assert_eq!(ran.code, if cfg!(debug_assertions) { 5 } else { 0 }, "{}", ran.stderr);
}

#[test]
fn the_base_branch_stays_red_until_somebody_accepts() {
    let place = stepped();
    // Most of the window is slow by now, and still the level before counts.
    let ran = place.run(&["compare", "--head", "latest"]).expect(1);
    assert!(ran.stdout.contains("nobody has accepted it"), "{}", ran.stdout);
    let said = place.run(&["accept", "alpha@cpu", "--reason", "new tokenizer", "--until", "2199-12-31"]).expect(0);
    assert!(said.stdout.contains("far end of the pending shift"), "{}", said.stdout);
    let text = std::fs::read_to_string(place.file("regrade-waivers.toml")).expect("written");
    for words in ["case = \"alpha@cpu\"", "reason = \"new tokenizer\"", "until = 2199-12-31", "suite = \"scripted\""] {
        assert!(text.contains(words), "no `{words}` in\n{text}");
    }
    place.run(&["compare", "--head", "latest"]).expect(0);
    let row = latency_of(&place, "alpha@cpu");
    assert_eq!(row["verdict"]["call"], "unchanged", "the accepted level is the base now: {row}");
    let history = place.run(&["history"]).expect(0).stdout;
    assert!(history.contains("accepted shift: +30") && history.contains("new tokenizer"), "{history}");
    assert!(history.contains("nothing is pending"), "{history}");
    let listed = place.run(&["accept", "--list"]).expect(0).stdout;
    assert_eq!(listed.matches("new tokenizer").count(), 2, "{listed}");
}

#[test]
fn a_change_inherits_what_the_base_branch_brought_in_and_answers_for_the_rest() {
    let place = stepped();
    place.git(&["checkout", "-q", "-b", "feature"]);
    place.run(&["compare", "suite.toml"]).expect(0);
    let row = latency_of(&place, "alpha@cpu");
    assert_eq!((row["verdict"]["reason"].as_str(), row["fails"].as_bool()), (Some("inherited"), Some(false)));
    let note = row["verdict"]["note"].as_str().expect("a note");
    assert!(note.contains("Ada <ada@example.invalid>"), "{note}");
    place.set_factor("alpha", "1.6");
    let ran = place.run(&["compare", "suite.toml"]).expect(1);
    assert!(ran.stdout.contains("severe"), "{}", ran.stdout);
    place.set_factor("alpha", "1");
    let ran = place.run(&["compare", "suite.toml"]).expect(0);
    assert!(ran.stdout.contains("recovers"), "{}", ran.stdout);
}

#[test]
fn a_live_waiver_covers_its_case_metric_and_size() {
    let place = regressed();
    place.run(&["compare", "suite.toml"]).expect(1);
    // The same run again and again: measuring anew would make the regression part of the history.
    waivers(&place, "+40%", "until = 2199-12-31");
    let ran = place.run(&["compare", "--head", "latest"]).expect(0);
    assert!(ran.stdout.contains("1 metric waived") && ran.stdout.contains("by Ada: known"), "{}", ran.stdout);
    let row = latency_of(&place, "beta@cpu");
    assert_eq!((row["verdict"]["reason"].as_str(), row["fails"].as_bool()), (Some("waived"), Some(false)));
    let page = std::fs::read_to_string(place.file("reports/latest/report.md")).expect("written");
    assert!(page.contains("Regressed, and waived") && page.contains("until 2199-12-31"), "{page}");
    // Larger than what is covered.
    waivers(&place, "+10%", "");
    let ran = place.run(&["compare", "--head", "latest"]).expect(1);
    let unwrapped = ran.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(unwrapped.contains("is not covered"), "{}", ran.stdout);
    // Another metric, another suite.
    waivers(&place, "+40%", "metric = \"cpu_time\"");
    place.run(&["compare", "--head", "latest"]).expect(1);
    waivers(&place, "+40%", "suite = \"another\"");
    place.run(&["compare", "--head", "latest"]).expect(1);
}

#[test]
fn an_expired_waiver_turns_red_and_says_so() {
    let place = regressed();
    waivers(&place, "+40%", "until = 2020-12-31");
    let ran = place.run(&["compare", "suite.toml"]).expect(1);
    assert!(ran.stdout.contains("expired on 2020-12-31"), "{}", ran.stdout);
    place.set_factor("beta", "1");
    let ran = place.run(&["compare", "suite.toml"]).expect(0);
    assert!(ran.stdout.contains("covers nothing"), "{}", ran.stdout);
}

#[test]
fn a_waiver_file_with_a_mistake_is_refused_before_anything_is_measured() {
    let place = regressed();
    waivers(&place, "+40%", "util = 2199-12-31");
    let before = place.run(&["baseline", "export"]).expect(0).stdout.lines().count();
    let ran = place.run(&["compare", "suite.toml"]).expect(2);
    assert!(ran.stderr.contains("regrade-waivers.toml:7") && ran.stderr.contains("`until`"), "{}", ran.stderr);
    assert_eq!(place.run(&["baseline", "export"]).expect(0).stdout.lines().count(), before);
    place.run(&["compare", "suite.toml", "--waivers", "absent.toml"]).expect(2);
    let refused = place.run(&["accept", "beta@cpu", "--reason", "r", "--change", "+40%"]).expect(2);
    assert!(refused.stderr.contains("regrade-waivers.toml:7"), "{}", refused.stderr);
}

#[test]
fn what_the_newest_run_shows_can_be_accepted_and_comments_stay() {
    let place = regressed();
    place.write("regrade-waivers.toml", "# reviewed every Monday");
    place.run(&["compare", "suite.toml"]).expect(1);
    let said = place.run(&["accept", "beta@cpu", "--reason", "more \"accurate\" now", "--who", "Bob"]).expect(0);
    assert!(said.stdout.contains("newest run"), "{}", said.stdout);
    let text = std::fs::read_to_string(place.file("regrade-waivers.toml")).expect("written");
    assert!(text.starts_with("# reviewed every Monday\n") && text.contains("who = \"Bob\""), "{text}");
    let ran = place.run(&["compare", "suite.toml"]).expect(0);
    assert!(ran.stdout.contains("waived"), "{}", ran.stdout);
}

#[test]
fn what_cannot_be_accepted_is_refused_with_the_remedy() {
    let place = regressed();
    let refused = |arguments: &[&str], words: &str| {
        let ran = place.run(&[&["accept"], arguments].concat()).expect(2);
        assert!(ran.stderr.contains(words), "{arguments:?}: {}", ran.stderr);
        assert!(!place.file("regrade-waivers.toml").exists());
    };
    refused(&["beta@gpu", "--reason", "r", "--change", "+8%"], "did you mean `beta@cpu`?");
    refused(&["beta@cpu", "--metric", "latncy", "--reason", "r", "--change", "+8%"], "did you mean `latency`?");
    refused(&["beta@cpu", "--reason", "r", "--change", "8"], "no change such as +8%");
    refused(&["beta@cpu", "--reason", " ", "--change", "+8%"], "--reason is empty");
    refused(&["beta@cpu", "--reason", "r", "--change", "+8%", "--until", "2020-01-01"], "has passed");
    refused(&["beta@cpu", "--reason", "r", "--change", "+8%", "--until", "2999-01-01"], "leave out --until");
    refused(&["beta@cpu", "--reason", "r"], "--change");
    refused(&["--reason", "r"], "<CASE>");
}
