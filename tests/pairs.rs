//! Fresh pairs of two commits through the binary: what is compared, what fails, and what is left alone.

#![allow(clippy::unwrap_used, reason = "helpers of tests panic like tests do")]

mod support;

use support::{Place, Ran};

/// A committed scripted suite of two cases on `main`, `slow` being this many times slower in a second commit.
fn two_commits(factor: &str) -> Place {
    let place = Place::new();
    place.script(&["slow", "same"]);
    place.commit("base");
    place.set_factor("slow", factor);
    place.commit("head");
    place
}

fn compare(place: &Place, more: &[&str]) -> Ran {
    let mut words = vec!["compare", "suite.toml"];
    words.extend(more);
    place.run(&words)
}

/// Call and severity of a case's latency in the last report.
fn said(place: &Place, case: &str) -> (String, String) {
    let report = place.report();
    let rows = report["rows"].as_array().unwrap();
    let row = rows
        .iter()
        .find(|row| row["case"] == format!("{case}@cpu") && row["metric"]["name"] == "latency")
        .unwrap_or_else(|| panic!("no row of {case} in {report:#}"));
    let word = |key: &str| row["verdict"][key].as_str().unwrap().to_owned();
    (word("call"), word("severity"))
}

fn pair(a: &str, b: &str) -> (String, String) {
    (a.to_owned(), b.to_owned())
}

#[test]
fn two_commits_are_told_apart_and_the_work_tree_is_left_alone() {
    let place = two_commits("1.3");
    let before = (place.git_says(&["rev-parse", "HEAD"]), place.git_says(&["branch", "--list"]));
    let ran = compare(&place, &["HEAD~1..HEAD"]).expect(1);
    assert!(ran.stdout.contains("HEAD~1") && ran.stdout.contains("fresh pairs"), "{}", ran.stdout);
    assert_eq!(said(&place, "slow"), pair("regressed", "severe"));
    assert_eq!(said(&place, "same"), pair("unchanged", "none"));
    let report = place.report();
    assert_eq!(report["paired"]["cases"], 2);
    assert!(report["paired"]["pairs"].as_u64().unwrap() >= 12, "{}", report["paired"]);
    let row = &report["rows"][0];
    assert_eq!(row["verdict"]["provisional"], false);
    assert_eq!(row["base"]["launches"].as_array().unwrap().len(), row["paired"]["pairs"].as_u64().unwrap() as usize);
    assert_eq!((place.git_says(&["rev-parse", "HEAD"]), place.git_says(&["branch", "--list"])), before);
    assert_eq!(place.git_says(&["status", "--porcelain"]), "");
}

#[test]
fn swapping_the_commits_mirrors_the_verdict() {
    let place = two_commits("1.3");
    compare(&place, &["HEAD..HEAD~1"]).expect(0);
    assert_eq!(said(&place, "slow"), pair("improved", "severe"));
}

#[test]
fn options_name_commits_too_and_a_range_is_not_said_twice() {
    let place = two_commits("1.1");
    compare(&place, &["--base", "HEAD~1", "--head", "HEAD"]).expect(1);
    assert_eq!(said(&place, "slow"), pair("regressed", "moderate"));
    compare(&place, &["HEAD~1..HEAD", "--base", "main"]).expect(2);
    let ran = compare(&place, &["nowhere..HEAD"]).expect(2);
    assert!(ran.stderr.contains("`nowhere` is no commit"), "{}", ran.stderr);
}

#[test]
fn uncommitted_changes_are_compared_with_where_main_was_left() {
    let place = Place::new();
    place.script(&["slow"]);
    place.set_factor("slow", "1");
    place.commit("base");
    place.git(&["checkout", "-q", "-b", "feature"]);
    place.set_factor("slow", "1.3");
    let ran = compare(&place, &[]).expect(1);
    assert!(ran.stdout.contains("the work tree against where main was left"), "{}", ran.stdout);
    assert_eq!(said(&place, "slow"), pair("regressed", "severe"));
    assert_eq!(place.git_says(&["status", "--porcelain"]), "M factor-slow", "nothing was committed or stashed");
    assert_eq!(place.git_says(&["log", "--oneline", "--branches"]).lines().count(), 2);
}

#[test]
fn arms_are_no_baselines() {
    let place = two_commits("1.3");
    compare(&place, &["HEAD~1..HEAD"]).expect(1);
    let list = place.run(&["baseline", "list"]).expect(0);
    assert!(!list.stdout.contains("scripted"), "{}", list.stdout);
    // The next ordinary comparison finds no history.
    compare(&place, &["--history-only"]).expect(5);
}

#[test]
fn a_head_that_does_not_build_is_a_failed_head_and_a_base_leaves_nothing_to_compare_with() {
    let place = Place::demo(100);
    place.write("work.h", "#error out of order\n");
    place.commit("broken");
    place.set_work(100);
    place.commit("mended");
    let ran = compare(&place, &["HEAD~2..HEAD~1"]).expect(4);
    assert!(ran.stderr.contains("out of order") && ran.stderr.contains("head arm"), "{}", ran.stderr);
    let ran = compare(&place, &["HEAD~1..HEAD"]).expect(5);
    assert!(ran.stderr.contains("out of order") && ran.stderr.contains("base arm"), "{}", ran.stderr);
}

#[test]
fn a_head_that_crashes_fails_and_a_base_that_crashes_is_no_base() {
    let place = two_commits("crash");
    compare(&place, &["HEAD~1..HEAD"]).expect(4);
    let ran = compare(&place, &["HEAD..HEAD~1", "--filter", "slow*"]).expect(5);
    assert!(ran.stdout.contains("base arm"), "{}", ran.stdout);
}

/// Two commits, 30 % apart, whose launches do `what` where the shell's `condition` on `$n`, the number of launches before in
/// the session, holds.
fn disturbed(condition: &str, what: &str) -> Place {
    let place = Place::new();
    place.script(&["slow"]);
    let count = "n=$(ls \"$REGRADE_SESSION_DIR\" | wc -l); mkdir \"$REGRADE_SESSION_DIR/$n\"";
    place.write("bench.sh", &format!("{count}\nif [ {condition} ]; then {what}; exit; fi\n{}", support::SCRIPT));
    place.commit("base");
    place.set_factor("slow", "1.3");
    place.commit("head");
    place
}

const INVALID: &str =
    r#"echo '{"type":"outcome","kind":"invalid","reason":"others used the device"}' >> "$REGRADE_OUTPUT""#;

#[test]
fn a_disturbed_launch_is_a_dropped_pair_and_no_failure_of_head() {
    let place = disturbed("$((n % 4)) = 1", INVALID);
    let ran = compare(&place, &["HEAD~1..HEAD"]).expect(1);
    assert!(ran.stdout.contains("pairs were disturbed from outside"), "{}", ran.stdout);
    assert_eq!(said(&place, "slow"), pair("regressed", "severe"));

    // Disturbed for ever, from the first launch or from the first pair on.
    for from in [0, 2] {
        let place = disturbed(&format!("$n -ge {from}"), INVALID);
        compare(&place, &["HEAD~1..HEAD", "--max-pairs", "6"]).expect(5);
        assert_eq!(said(&place, "slow").0, "inconclusive");
        compare(&place, &["HEAD~1..HEAD", "--max-pairs", "6", "--require-decision"]).expect(3);
    }
}

#[test]
fn a_pair_that_fails_is_repeated_once_however_many_do() {
    let place = disturbed("$((n % 7)) = 3", "kill -SEGV $$");
    compare(&place, &["HEAD~1..HEAD"]).expect(1);
    assert_eq!(said(&place, "slow"), pair("regressed", "severe"));
}

#[test]
fn built_in_workloads_need_a_program_of_the_tree() {
    let place = Place::new();
    let text = "schema_version = 1\nname = \"x\"\n[[benchmark]]\nname = \"gemm\"\noperator = \"gemm\"\nm = 8\n";
    place.write("suite.toml", text);
    place.commit("base");
    let ran = compare(&place, &["HEAD..HEAD"]).expect(2);
    assert!(ran.stderr.contains("[build]") && ran.stderr.contains("worker"), "{}", ran.stderr);
}

#[test]
fn history_screens_and_only_suspects_are_paired() {
    let place = two_commits("1");
    for _ in 0..6 {
        place.run(&["run", "suite.toml"]).expect(0);
    }
    place.git(&["checkout", "-q", "-b", "feature"]);
    place.set_factor("slow", "1.3");
    place.commit("slower");
    let ran = compare(&place, &[]).expect(1);
    let report = place.report();
    assert_eq!(report["paired"]["cases"], 1, "{}", ran.stdout);
    assert!(report["paired"]["launches_saved"].as_u64().unwrap() > 0);
    assert_eq!(said(&place, "slow"), pair("regressed", "severe"));
    assert_eq!(said(&place, "same").0, "unchanged");
    assert_eq!(report["rows"][0]["verdict"]["provisional"], false, "it was confirmed");

    // Nothing suspicious: nothing is paired.
    place.set_factor("slow", "1");
    place.write("note", "a change that changes nothing");
    place.commit("harmless");
    compare(&place, &[]).expect(0);
    assert!(place.report().get("paired").is_none());
    // But on demand everything is.
    compare(&place, &["--all-pairs"]).expect(0);
    assert_eq!(place.report()["paired"]["cases"], 2);
}

#[test]
fn only_runs_of_the_base_branch_screen() {
    let place = two_commits("1");
    place.git(&["checkout", "-q", "-b", "feature"]);
    place.set_factor("slow", "1.3");
    place.commit("slower");
    // As slow as the change itself, so that it would look harmless beside them.
    for _ in 0..6 {
        place.run(&["run", "suite.toml"]).expect(0);
    }
    compare(&place, &[]).expect(1);
    assert_eq!(place.report()["paired"]["cases"], 2);
    assert_eq!(said(&place, "slow"), pair("regressed", "severe"));
}

#[test]
fn a_used_up_budget_leaves_the_rest_undecided() {
    let place = two_commits("1.3");
    let ran = compare(&place, &["HEAD~1..HEAD", "--budget", "10ms"]);
    assert!(ran.stderr.contains("no time such as"), "{}", ran.stderr);
    // Not one pair was measured, so nothing was compared, and whoever demands a decision got none.
    let ran = compare(&place, &["HEAD~1..HEAD", "--budget", "0.001s"]).expect(5);
    assert!(ran.stdout.contains("inconclusive") || ran.stdout.contains("Inconclusive"), "{}", ran.stdout);
    compare(&place, &["HEAD~1..HEAD", "--budget", "0.001s", "--require-decision"]).expect(3);
}

#[test]
fn an_arm_is_not_resumed() {
    let place = two_commits("1.3");
    compare(&place, &["HEAD~1..HEAD", "--budget", "0.001s"]).expect(5);
    let ran = place.run(&["run", "suite.toml", "--resume"]).expect(2);
    assert!(ran.stderr.contains("no interrupted run of `scripted` to resume"), "{}", ran.stderr);
}

#[test]
fn calibrating_teaches_later_verdicts() {
    let place = two_commits("1.3");
    let ran = place.run(&["calibrate", "suite.toml", "--pairs", "21"]).expect(0);
    assert!(ran.stdout.contains("noise floor") && ran.stdout.contains("slow@cpu"), "{}", ran.stdout);
    assert!(ran.stdout.contains("The gate was not proven"), "commands cannot be made to do more: {}", ran.stdout);
    let ran = compare(&place, &["HEAD~1..HEAD"]).expect(1);
    assert!(ran.stdout.contains("smallest detectable"), "{}", ran.stdout);
}

#[test]
fn calibrating_built_in_workloads_proves_the_gate() {
    let place = Place::new();
    let text = concat!(
        "schema_version = 1\nname = \"x\"\nreference_workloads = false\nsampling = { max_warmup = \"20ms\", ",
        "min_time = \"20ms\", max_time = \"40ms\" }\n[[benchmark]]\nname = \"gemm\"\noperator = \"gemm\"\nm = 64\nn = 64\nk = 64\n",
        "thresholds = { minor = \"20%\", moderate = \"50%\", severe = \"100%\" }\n"
    );
    place.write("suite.toml", text);
    let ran = place.run(&["calibrate", "suite.toml", "--pairs", "8", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"));
    assert_eq!(json["proof"]["injected"]["gemm@cpu"], 2.0);
    assert_eq!(json["proof"]["found"][0], "gemm@cpu", "{json:#}");
}

#[test]
fn a_threshold_below_the_noise_floor_is_refused_with_advice() {
    let place = Place::new();
    place.script(&["loud"]);
    // Launches that differ by a third of themselves, and a limit of one per mille.
    let script = std::fs::read_to_string(place.file("bench.sh")).unwrap().replace("(p % 10) / 10000", "(p % 10) / 30");
    place.write("bench.sh", &script);
    let suite = std::fs::read_to_string(place.file("suite.toml")).unwrap();
    place.write("suite.toml", &(suite + "thresholds = { minor = \"0.1%\" }\n"));
    place.commit("base");
    let ran = place.run(&["calibrate", "suite.toml"]).expect(2);
    assert!(ran.stderr.contains("noise floor") && ran.stderr.contains("raise it to"), "{}", ran.stderr);
    // A comparison says the same of that metric, and never that it passed.
    place.write("note", "x");
    place.commit("head");
    compare(&place, &["HEAD~1..HEAD"]).expect(0);
    assert_eq!(said(&place, "loud").0, "inconclusive");
    let note = place.report()["rows"][0]["verdict"]["note"].to_string();
    assert!(note.contains("minor = 0.1 % of latency is below the noise floor"), "{note}");
}

#[test]
fn the_commit_that_brought_a_change_is_found() {
    let place = Place::new();
    place.script(&["slow"]);
    place.commit("first");
    for (at, factor) in ["1", "crash", "1", "1.2", "1.2", "1.2"].into_iter().enumerate() {
        place.set_factor("slow", factor);
        place.write("note", &at.to_string());
        place.commit(&format!("commit {at}"));
    }
    let ran = place.run(&["bisect", "--suite", "suite.toml", "--case", "slow*", "HEAD~6", "HEAD"]).expect(0);
    let culprit = place.git_says(&["rev-parse", "HEAD~2"]);
    assert!(ran.stdout.contains(&format!("{culprit} is the first with it: +20")), "{}", ran.stdout);
    assert!(ran.stdout.contains("commit 3") && ran.stdout.contains("against its parent"), "{}", ran.stdout);
    assert_eq!(place.git_says(&["bisect", "log"]), "", "the user's own tree is not being bisected");

    let ran = place.run(&["bisect", "--suite", "suite.toml", "--case", "slow*", "HEAD~2", "HEAD"]).expect(3);
    assert!(ran.stderr.contains("refused: no change"), "{}", ran.stderr);
    place.run(&["bisect", "--suite", "suite.toml", "--case", "none*", "HEAD~2", "HEAD"]).expect(2);
    place.run(&["bisect", "--suite", "suite.toml", "--case", "slow*", "HEAD", "HEAD~2"]).expect(2);
}

#[test]
fn a_metric_that_does_not_gate_is_bisected_until_it_is_decided() {
    let place = Place::new();
    place.script(&["steady"]);
    let load = r#"awk -v f="$(cat load)" -v p=$$ 'BEGIN {
        printf "{\"type\":\"samples\",\"metric\":{\"name\":\"load_time\",\"unit\":\"s\"},\"iterations\":1,\"values\":["
        for (i = 0; i < 10; i++) printf "%s%.9f", (i ? "," : ""), f * 0.01 * (1 + (p % 10) / 10000)
        print "]}" }' >> "$REGRADE_OUTPUT"
"#;
    place.write("bench.sh", &format!("{load}{}", support::SCRIPT));
    for (at, factor) in ["1", "1", "1.2", "1.2"].into_iter().enumerate() {
        place.write("load", factor);
        place.write("note", &at.to_string());
        place.commit(&format!("commit {at}"));
    }
    // Latency is decided long before as many pairs as all metrics that do not gate would need between them.
    let words = ["bisect", "--suite", "suite.toml", "--case", "steady*", "--metric", "load_time", "HEAD~3", "HEAD"];
    let ran = place.run(&words).expect(0);
    let culprit = place.git_says(&["rev-parse", "HEAD~1"]);
    assert!(ran.stdout.contains(&format!("{culprit} is the first with it: +20")), "{}", ran.stdout);
}

#[test]
fn commits_that_cannot_be_judged_are_skipped_and_listed() {
    let place = Place::new();
    place.script(&["slow"]);
    place.commit("first");
    for (at, factor) in ["crash", "1.2"].into_iter().enumerate() {
        place.set_factor("slow", factor);
        place.write("note", &at.to_string());
        place.commit(&format!("commit {at}"));
    }
    let ran = place.run(&["bisect", "--suite", "suite.toml", "--case", "slow*", "HEAD~2", "HEAD"]).expect(3);
    assert!(ran.stdout.contains("Only commits that could not be judged are left"), "{}", ran.stdout);
    assert!(ran.stdout.contains(&place.git_says(&["rev-parse", "HEAD~1"])), "{}", ran.stdout);
}

#[test]
fn a_head_that_has_to_be_built_is_built_before_it_is_screened() {
    let place = Place::demo(100);
    for _ in 0..6 {
        // Builds in place, too.
        place.run(&["run", "suite.toml"]).expect(0);
    }
    place.git(&["checkout", "-q", "-b", "feature"]);
    // What lies in the work tree now is the program of `main`.
    place.set_work(140);
    place.commit("slower");
    compare(&place, &[]).expect(1);
    assert_eq!(said(&place, "loop"), pair("regressed", "severe"));
}

#[test]
fn reports_beside_the_sources_hide_no_change() {
    let place = Place::new();
    place.script(&["slow"]);
    place.set_factor("slow", "1");
    place.commit("base");
    place.set_factor("slow", "1.3");
    compare(&place, &["--reports", "."]).expect(1);
    compare(&place, &["--reports", "fact"]).expect(1);
}

#[test]
fn three_dots_are_refused() {
    let place = two_commits("1");
    let ran = compare(&place, &["HEAD~1...HEAD"]).expect(2);
    assert!(ran.stderr.contains("write two dots"), "{}", ran.stderr);
}

#[test]
fn a_submodule_with_changes_of_its_own_cannot_be_checked_out_elsewhere() {
    let place = two_commits("1");
    let other = Place::new();
    other.write("data", "1");
    other.commit("data");
    let from = other.path().display().to_string();
    place.git(&["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", &from, "sub"]);
    place.commit("with a submodule");
    place.write("sub/data", "2");
    let ran = compare(&place, &["--base", "HEAD"]).expect(2);
    assert!(ran.stderr.contains("submodule sub has uncommitted changes"), "{}", ran.stderr);
}

/// A worker whose speed depends on where its code lies: 30 % slower in the one order that is unlucky for this commit, and
/// as it is built, if that is unlucky too. `relink` as given.
fn lucky(relink: &str) -> Place {
    let place = Place::new();
    place.write(
        "suite.toml",
        &format!(
            "schema_version = 1\nname = \"lucky\"\nlaunches = 3\ngate_metrics = [\"latency\"]\nreference_workloads = false\n\
             [build]\ncommand = [\"sh\", \"build.sh\", \"built\"]\nworker = \"bin/worker\"\nrelink = {relink}\nlayouts = 4\n\
             [[benchmark]]\nname = \"gemm\"\noperator = \"gemm\"\nm = 8\nn = 8\nk = 8\n"
        ),
    );
    place.write("bench.sh", support::SCRIPT);
    place.write(
        "build.sh",
        "mkdir -p bin; factor=1; grep -qx \"$1\" unlucky && factor=1.3\n\
         { echo '#!/bin/sh'; echo \"factor=$factor\"; grep -v '^factor=' bench.sh; } > bin/worker; chmod +x bin/worker\n",
    );
    place.write("unlucky", "1\n");
    place.commit("base");
    place.write("unlucky", "3\nbuilt\n");
    place.commit("head, whose code lies elsewhere");
    place
}

#[test]
fn where_code_happens_to_lie_turns_no_check_red() {
    let place = lucky("[\"sh\", \"build.sh\", \"{layout}\"]");
    compare(&place, &["HEAD~1..HEAD"]).expect(0);
    assert_ne!(said(&place, "gemm").0, "regressed", "{:#}", place.report());

    // Calibration sees what the order does, too.
    place.git(&["checkout", "-q", "HEAD~1"]);
    let ran = place.run(&["calibrate", "suite.toml", "--pairs", "8", "--no-proof", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"));
    let deviation = json["metrics"][0]["pair_deviation"].as_f64().unwrap();
    assert!(deviation > 0.05, "{json:#}");
}

#[test]
fn a_linker_that_cannot_reorder_is_said_so_and_the_builds_are_measured() {
    let place = lucky("[\"sh\", \"-c\", \"echo unrecognised option; exit {layout}\"]");
    let ran = compare(&place, &["HEAD~1..HEAD"]).expect(1);
    assert!(ran.stdout.contains("could not be linked in other orders"), "{}", ran.stdout);
    assert_eq!(said(&place, "gemm"), pair("regressed", "severe"));
}

#[test]
fn a_linker_that_fails_half_way_leaves_the_builds_as_they_were() {
    let place = lucky("[\"sh\", \"-c\", \"sh build.sh {layout}; test {layout} != 2 -o ! -e broken\"]");
    // Both are lucky as they are built, and unlucky in the first order, which is linked before the second fails.
    place.write("unlucky", "1\n");
    place.write("broken", "");
    place.commit("a linker that breaks");
    let ran = compare(&place, &["HEAD~2..HEAD"]).expect(0);
    assert!(ran.stdout.contains("could not be linked in other orders"), "{}", ran.stdout);
    assert_eq!(said(&place, "gemm").0, "unchanged");
}

#[test]
fn a_linker_that_does_nothing_is_said_so() {
    let place = lucky("[\"sh\", \"-c\", \"true {layout}\"]");
    place.write("unlucky", "1\n");
    place.commit("lucky again");
    let ran = compare(&place, &["HEAD~2..HEAD"]).expect(0);
    assert!(ran.stdout.contains("makes the same program"), "{}", ran.stdout);
}

#[test]
fn calibrating_does_not_open_the_gate() {
    let place = two_commits("1.3");
    let text = std::fs::read_to_string(place.file("suite.toml")).unwrap();
    let limits = "[thresholds]\nminor = \"0.001%\"\nmoderate = \"5%\"\nsevere = \"15%\"\n[[benchmark]]";
    place.write("suite.toml", &text.replacen("[[benchmark]]", limits, 1));
    place.run(&["calibrate", "suite.toml", "--pairs", "21"]).expect(2);
    let ran = compare(&place, &["HEAD~1..HEAD"]).expect(1);
    assert_eq!(said(&place, "slow"), pair("regressed", "severe"));
    assert!(ran.stdout.contains("below the noise floor"), "{}", ran.stdout);
    assert_eq!(said(&place, "same").0, "inconclusive", "what was asked for cannot be seen here");
}

#[test]
fn pruning_takes_old_sessions_of_pairs_too() {
    let place = two_commits("1");
    for _ in 0..2 {
        compare(&place, &["HEAD~1..HEAD", "--max-pairs", "6"]).expect(0);
    }
    let ran = place.run(&["baseline", "prune", "--keep", "1"]).expect(0);
    assert!(ran.stdout.contains("3 runs"), "{}", ran.stdout);
}

#[test]
fn a_suite_of_which_nothing_can_run_here_pairs_nothing_and_says_so() {
    let place = Place::new();
    place.write(
        "suite.toml",
        "schema_version = 1\nname = \"elsewhere\"\n[[benchmark]]\nname = \"big\"\nwhen = ['memory >= \"102400 GiB\"']\n\
         command = [\"true\"]\n",
    );
    place.commit("suite");
    place.git(&["commit", "-q", "--allow-empty", "-m", "another"]);
    let ran = place.run(&["compare", "suite.toml", "HEAD~1..HEAD", "--all-pairs"]).expect(5);
    assert!(ran.stderr.contains("no case of this selection can run here"), "{}", ran.stderr);
}
