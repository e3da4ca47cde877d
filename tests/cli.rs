//! The whole program through its binary: the main job, the exit codes, what is refused.

mod support;

use std::collections::BTreeMap;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use regrade::exit::Exit;
use support::{Place, Ran};

/// A place with three runs of two scripted benchmarks.
fn with_history() -> Place {
    let place = Place::new();
    place.script(&["alpha", "beta"]);
    for _ in 0..3 {
        place.run(&["run", "suite.toml"]).expect(0);
    }
    place
}

/// `metric of case` → call and severity, for the gated metric.
fn verdicts(report: &serde_json::Value) -> BTreeMap<String, (String, String, bool)> {
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    report["rows"]
        .as_array()
        .expect("rows")
        .iter()
        .filter(|row| row["metric"]["name"] == "latency")
        .map(|row| {
            let verdict = &row["verdict"];
            let call = if verdict["call"] == "not_comparable" { &verdict["reason"] } else { &verdict["call"] };
            (text(&row["case"]), (text(call), text(&verdict["severity"]), row["fails"].as_bool().expect("a flag")))
        })
        .collect()
}

fn expected(rows: &[(&str, &str, &str, bool)]) -> BTreeMap<String, (String, String, bool)> {
    rows.iter()
        .map(|(case, call, severity, fails)| ((*case).to_owned(), ((*call).to_owned(), (*severity).to_owned(), *fails)))
        .collect()
}

#[test]
fn the_launches_of_a_session_share_a_folder_that_goes_with_it() {
    let place = Place::new();
    // The first launch finds it empty and leaves its name; the others find that.
    let script = "if [ -e \"$REGRADE_SESSION_DIR/found\" ]; then echo again >>seen; \
                  else echo \"$REGRADE_SESSION_DIR\" >>seen; : >\"$REGRADE_SESSION_DIR/found\"; fi";
    let suite = "schema_version = 1\nname = \"shared\"\nlaunches = 3\nreference_workloads = false\n\
                 [[benchmark]]\nname = \"a\"\ncommand = [\"sh\", \"script\"]\n";
    place.write("script", script);
    place.write("suite.toml", suite);
    let mut folders = Vec::new();
    for _ in 0..2 {
        place.write("seen", "");
        let _ = place.run(&["run", "suite.toml", "--quiet"]).expect(0);
        let seen = std::fs::read_to_string(place.file("seen")).expect("what was seen");
        let lines: Vec<&str> = seen.lines().collect();
        let [folder, rest @ ..] = &lines[..] else { panic!("{seen}") };
        assert_eq!(*rest, ["again", "again"]);
        assert!(!std::path::Path::new(folder).exists(), "{folder} is still there");
        folders.push((*folder).to_owned());
    }
    assert_ne!(folders[0], folders[1]);
}

#[test]
fn without_a_suite_the_one_measured_last_is_compared() {
    let place = Place::new();
    place.script(&["alpha"]);
    let text = std::fs::read_to_string(place.file("suite.toml")).expect("a suite");
    place.write("suites/quickstart.toml", &text.replace("\"scripted\"", "\"quickstart\""));
    place.write("suites/other.toml", &text.replace("\"scripted\"", "\"other\""));
    let compare = || {
        let ran = place.run(&["compare", "--history-only"]);
        (ran.code, place.report()["suite"].clone(), place.report()["suite_file"].clone(), ran.stderr)
    };
    // Nothing was measured here yet.
    let (code, suite, file, _) = compare();
    assert_eq!((code, suite, file), (5, "quickstart".into(), "suites/quickstart.toml".into()));
    let _ = place.run(&["run", "suites/other.toml"]).expect(0);
    let (code, suite, file, said) = compare();
    assert_eq!((code, suite, file), (0, "other".into(), "suites/other.toml".into()));
    assert!(said.contains("suites/other.toml: the suite that was measured here last"), "{said}");
    // Of a stored run nobody says which file it came from.
    let _ = place.run(&["compare", "--head", "latest"]).expect(0);
    assert_eq!(place.report().get("suite_file"), None);
    // Elsewhere than in suites/ too, and `run --resume` looks for the same.
    place.write("bench/own.toml", &text.replace("\"scripted\"", "\"own\""));
    let _ = place.run(&["run", "bench/own.toml"]).expect(0);
    assert_eq!(compare().2, "bench/own.toml");
    let resumed = place.run(&["run", "--resume"]).expect(2).stderr;
    assert!(resumed.contains("no interrupted run of `own`"), "{resumed}");
    // One that was broken since is told, and no other taken in its place.
    place.write("bench/own.toml", &text.replace("\"scripted\"", "\"own\"").replace("launches", "lanches"));
    let broken = place.run(&["compare"]).expect(2).stderr;
    assert!(broken.contains("lanches"), "{broken}");
    std::fs::remove_file(place.file("bench/own.toml")).expect("the suite");
    let gone = place.run(&["compare"]).expect(2).stderr;
    assert!(gone.contains("`own`, the suite that was measured here last, is in no file"), "{gone}");
}

#[test]
fn an_unchanged_program_passes_and_reports_are_written() {
    let place = with_history();
    let ran = place.run(&["compare", "suite.toml"]).expect(0);
    assert!(ran.stdout.contains("no regression"), "{}", ran.stdout);
    let same = [("alpha@cpu", "unchanged", "none", false), ("beta@cpu", "unchanged", "none", false)];
    assert_eq!(verdicts(&place.report()), expected(&same));
    for name in ["report.json", "report.md", "report.txt", "plots/forest.svg", "plots/forest.png"] {
        assert!(place.file("reports/latest").join(name).is_file(), "{name} is missing");
    }
}

#[test]
fn an_absent_checkpoint_is_found_before_anything_is_measured() {
    let place = Place::new();
    let benchmark = "[[benchmark]]\nname = \"a\"\nmodel = \"gpt2-tiny\"\ncheckpoint = \"absent.safetensors\"\n";
    place.write("suite.toml", &format!("schema_version = 1\nname = \"demo\"\n{benchmark}"));
    let ran = place.run(&["run", "suite.toml"]).expect(2);
    assert!(ran.stderr.contains("`a@cpu`") && ran.stderr.contains("absent.safetensors"), "{}", ran.stderr);
    let listed = place.run(&["baseline", "list"]).expect(0);
    assert!(!listed.stdout.contains("demo"), "no run was begun: {}", listed.stdout);
}

#[test]
fn a_severe_regression_fails_and_only_where_it_is() {
    let place = with_history();
    place.set_factor("beta", "1.3");
    let ran = place.run(&["compare", "suite.toml"]).expect(1);
    assert!(ran.stdout.contains("severe"), "{}", ran.stdout);
    let rows = [("alpha@cpu", "unchanged", "none", false), ("beta@cpu", "regressed", "severe", true)];
    assert_eq!(verdicts(&place.report()), expected(&rows));
    // The gate is the caller's to move.
    place.run(&["compare", "suite.toml", "--gate", "none"]).expect(0);
}

#[test]
fn a_moderate_regression_from_history_alone_is_said_and_does_not_fail() {
    let place = with_history();
    place.set_factor("beta", "1.09");
    place.run(&["compare", "suite.toml"]).expect(0);
    let rows = [("alpha@cpu", "unchanged", "none", false), ("beta@cpu", "regressed", "moderate", false)];
    assert_eq!(verdicts(&place.report()), expected(&rows));
}

#[test]
fn an_improvement_passes() {
    let place = with_history();
    place.set_factor("alpha", "0.7");
    place.run(&["compare", "suite.toml"]).expect(0);
    assert_eq!(verdicts(&place.report())["alpha@cpu"], ("improved".to_owned(), "severe".to_owned(), false));
}

#[test]
fn without_a_base_the_run_becomes_the_first_and_the_code_is_five() {
    let place = Place::new();
    place.script(&["alpha"]);
    let ran = place.run(&["compare", "suite.toml"]).expect(5);
    assert!(ran.stdout.contains("stored as the first") && ran.stdout.contains("regrade compare"), "{}", ran.stdout);
    place.run(&["compare", "suite.toml"]).expect(0);
    assert_eq!(place.report()["base"].as_array().expect("base").len(), 1);
}

#[test]
fn require_decision_turns_inconclusive_into_three() {
    let place = Place::new();
    place.script(&["alpha"]);
    place.run(&["run", "suite.toml"]).expect(0);
    place.set_factor("alpha", "1.04");
    place.run(&["compare", "suite.toml"]).expect(0);
    place.run(&["compare", "suite.toml", "--require-decision"]).expect(3);
}

#[test]
fn new_missing_renamed_and_failed_cases_are_told_apart() {
    let place = with_history();
    place.script(&["beta", "gamma", "delta"]);
    let text = std::fs::read_to_string(place.file("suite.toml")).expect("the suite");
    let renamed = text.replace("name = \"delta\"", "name = \"delta\"\naliases = [\"alpha\"]");
    place.write("suite.toml", &renamed);
    place.set_factor("beta", "crash");
    let ran = place.run(&["compare", "suite.toml"]).expect(4);
    assert!(ran.stdout.contains("segmentation fault"), "{}", ran.stdout);
    let rows = [
        ("beta@cpu", "head-failed", "none", false),
        ("delta@cpu", "unchanged", "none", false),
        ("gamma@cpu", "new", "none", false),
    ];
    assert_eq!(verdicts(&place.report()), expected(&rows));
    assert!(ran.stdout.contains("`delta@cpu` was `alpha@cpu`"), "{}", ran.stdout);
    place.script(&["beta"]);
    place.set_factor("beta", "1");
    place.run(&["compare", "suite.toml"]).expect(0);
    assert_eq!(verdicts(&place.report())["gamma@cpu"].0, "missing");
}

#[test]
fn stored_runs_compare_without_measuring() {
    let place = with_history();
    place.set_factor("alpha", "2");
    place.run(&["run", "suite.toml"]).expect(0);
    let count = |place: &Place| {
        let listed = place.run(&["baseline", "list", "--format", "json"]).expect(0).stdout;
        listed.matches("\"launches\"").count()
    };
    let before = count(&place);
    place.run(&["compare", "--head", "latest"]).expect(1);
    assert_eq!(count(&place), before, "nothing was measured");
    place.run(&["compare", "--head", "latest", "--base", "main"]).expect(1);
    let ran = place.run(&["compare", "--head", "latest", "--base", "no-such-thing"]).expect(2);
    assert!(ran.stderr.contains("no-such-thing"), "{}", ran.stderr);
}

#[test]
fn a_baseline_can_be_named_and_compared_with() {
    let place = with_history();
    place.run(&["baseline", "promote", "latest", "v1"]).expect(0);
    place.set_factor("alpha", "2");
    place.run(&["compare", "suite.toml", "--base", "v1"]).expect(1);
    assert_eq!(place.report()["base"].as_array().expect("base").len(), 1);
    let refused = place.run(&["baseline", "promote", "latest", "main"]).expect(2);
    assert!(refused.stderr.contains("is a branch"), "{}", refused.stderr);
    place.run(&["baseline", "drop", "v1"]).expect(0);
    place.run(&["compare", "suite.toml", "--base", "v1"]).expect(2);
}

#[test]
fn runs_of_another_testbed_are_never_compared() {
    let place = with_history();
    let export = place.run(&["baseline", "export"]).expect(0).stdout;
    // The same runs, as a machine with another CPU would have made them.
    let other = Place::new();
    other.script(&["alpha", "beta"]);
    let key = regrade::hardware::testbed(BTreeMap::default());
    let model = key.facts.get("cpu.model").expect("a CPU has a name");
    other.write(
        "elsewhere.jsonl",
        &export.replace(model.as_str(), "Some Other CPU").replace("\"key\":\"", "\"key\":\"f"),
    );
    other.run(&["baseline", "import", "elsewhere.jsonl"]).expect(0);
    other.run(&["compare", "suite.toml"]).expect(5);
    let id = export
        .lines()
        .find_map(|line| line.split("\"id\":\"").nth(1))
        .expect("a run")
        .split('"')
        .next()
        .expect("an id");
    let ran = other.run(&["compare", "--head", "latest", "--base", id]).expect(5);
    assert!(ran.stderr.contains("different testbeds"), "{}", ran.stderr);
}

#[test]
fn a_suite_with_a_mistake_is_refused_before_anything_is_measured() {
    let place = Place::new();
    place.script(&["alpha"]);
    let text = std::fs::read_to_string(place.file("suite.toml")).expect("the suite");
    place.write("suite.toml", &text.replace("launches = 3", "lunches = 3"));
    let ran = place.run(&["run", "suite.toml"]).expect(2);
    assert!(ran.stderr.contains("suite.toml:5") && ran.stderr.contains("did you mean `launches`"), "{}", ran.stderr);
    assert!(!place.file("baselines").exists(), "nothing was stored");
}

#[test]
fn a_refused_allocation_is_out_of_memory_and_last_words_are_no_notes() {
    let place = Place::new();
    let benchmark = |name: &str, script: &str| {
        format!("[[benchmark]]\nname = \"{name}\"\ncommand = [\"sh\", \"-c\", \"{script}\"]\n")
    };
    let suite = format!(
        "schema_version = 1\nname = \"ends\"\nlaunches = 1\nreference_workloads = false\n{}{}",
        benchmark("large", "echo memory allocation of 4096 bytes failed >&2; kill -ABRT $$"),
        benchmark("panics", "echo no such device >&2; echo note: Some details are omitted >&2; exit 101")
    );
    place.write("suite.toml", &suite);
    place.run(&["run", "suite.toml", "--quiet"]).expect(4);
    let report = place.run(&["report", "--format", "json"]).expect(0).stdout;
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    let ended = |name: &str| {
        let cases = report["cases"].as_array().expect("cases");
        let case = cases.iter().find(|case| case["case"] == format!("{name}@cpu")).expect("the case");
        let text = |key: &str| case["outcome"][key].as_str().unwrap_or_default().to_owned();
        (text("kind"), text("reason"))
    };
    let (kind, reason) = ended("large");
    assert!(
        kind == "out_of_memory" && reason.starts_with("memory allocation of 4096 bytes failed"),
        "{kind}, {reason}"
    );
    let (kind, reason) = ended("panics");
    assert!(kind == "failed" && reason.ends_with("its last words: no such device"), "{kind}, {reason}");
}

#[test]
fn absent_code_of_a_kernel_is_said_even_where_the_case_is_skipped() {
    let place = Place::new();
    place.write(
        "suite.toml",
        "schema_version = 1\nname = \"k\"\nbackends = [\"nvidia\"]\n[[benchmark]]\nname = \"k\"\nwhen = ['memory >= \"999 GiB\"']\n\
         [benchmark.kernel]\nsource = \"k.cu\"\nfunction = \"k\"\ngrid = [1]\nblock = [1]\n",
    );
    let listed = place.run(&["list", "suite.toml"]).expect(0).stdout;
    assert!(listed.contains("skipped: ") && listed.contains("note: it takes its code from `k.cu`"), "{listed}");
    let ran = place.run(&["run", "suite.toml"]).expect(5);
    assert!(ran.stdout.contains("besides, it takes its code from `k.cu`"), "{}", ran.stdout);
    place.write("k.cu", "extern \"C\" __global__ void k() {}\n");
    let listed = place.run(&["list", "suite.toml"]).expect(0).stdout;
    assert!(listed.contains("skipped: ") && !listed.contains("k.cu"), "{listed}");
}

#[test]
fn a_formula_that_nobody_can_read_is_refused_and_ends_no_process() {
    let place = Place::new();
    let suite = |grid: &str| {
        format!(
            "schema_version = 1\nname = \"deep\"\nbackends = [\"nvidia\"]\n[[benchmark]]\nname = \"deep\"\n[benchmark.kernel]\n\
             source = \"deep.cu\"\nfunction = \"deep\"\ngrid = [\"{grid}\"]\nblock = [1]\n"
        )
    };
    for deep in ["(".repeat(200_000), "-".repeat(200_000) + "1", "min(".repeat(200_000)] {
        place.write("suite.toml", &suite(&deep));
        let ran = place.run(&["list", "suite.toml"]).expect(2);
        assert!(ran.stderr.contains("goes deeper than 64 parentheses"), "{:.1000}", ran.stderr);
    }
}

#[test]
fn usage_mistakes_are_two_and_the_environment_is_six() {
    let place = Place::new();
    place.run(&["run", "absent.toml"]).expect(2);
    place.run(&["report"]).expect(2);
    place.run(&["frobnicate"]).expect(2);
    place.script(&["alpha"]);
    place.run(&["run", "suite.toml", "--filter", "nothing*"]).expect(2);
    place.run(&["run", "suite.toml", "--inject", "alpha*=30%"]).expect(2);
    place.write("not.sqlite", "this is no database, it is a text that is long enough to be looked at twice ........");
    let ran = place.run(&["run", "suite.toml", "--db", "not.sqlite"]).expect(6);
    assert!(ran.stderr.contains("not.sqlite"), "{}", ran.stderr);
}

#[test]
fn a_suite_that_can_run_nothing_here_ends_with_five() {
    let place = Place::new();
    place.script(&["alpha"]);
    let text = std::fs::read_to_string(place.file("suite.toml")).expect("the suite");
    place.write("suite.toml", &format!("{text}when = ['memory >= \"900 TiB\"']\n"));
    let ran = place.run(&["run", "suite.toml"]).expect(5);
    assert!(ran.stdout.contains("skipped"), "{}", ran.stdout);
    let listed = place.run(&["list", "suite.toml"]).expect(0).stdout;
    assert!(listed.contains("900 TiB") && listed.contains("skipped:"), "{listed}");
}

/// Every fault ends as its own outcome while the others go on.
#[test]
fn each_fault_becomes_its_own_outcome() {
    let place = Place::new();
    let suite = include_str!("../suites/selftest.toml")
        .replace("timeout = \"5s\"", "timeout = \"3s\"")
        .replace("1 GiB", "300 MiB")
        .replace("launches = 1", "launches = 1\nreference_workloads = false");
    place.write("suite.toml", &suite);
    let ran = place.run(&["run", "suite.toml", "--format", "json"]).expect(4);
    let view: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let outcomes: BTreeMap<&str, (&str, &str)> = view["cases"]
        .as_array()
        .expect("cases")
        .iter()
        .map(|case| {
            let outcome = &case["outcome"];
            let reason = outcome["reason"].as_str().unwrap_or_default();
            (case["case"].as_str().expect("an id"), (outcome["kind"].as_str().expect("a kind"), reason))
        })
        .collect();
    for (kind, outcome, word) in [
        ("none", "measured", ""),
        ("error", "failed", ""),
        ("panic", "failed", "status 101"),
        ("abort", "failed", "abort"),
        ("exit", "failed", "status 3"),
        ("hang", "timed_out", "time-out"),
        ("out-of-memory", "out_of_memory", "memory_limit"),
        ("wrong-numbers", "failed", "wrong numbers"),
    ] {
        let (got, reason) = outcomes[format!("fault/kind={kind}@cpu").as_str()];
        assert_eq!(got, outcome, "{kind}: {reason}");
        assert!(reason.contains(word), "{kind}: {reason}");
    }
}

#[test]
fn injected_work_is_found_exactly_where_it_was_put_and_stamped() {
    let place = Place::new();
    place.write("suite.toml", GEMM);
    for _ in 0..2 {
        place.run(&["run", "suite.toml"]).expect(0);
    }
    // Ten times the work, so that no noise of a busy machine can hide it.
    let ran = place.run(&["compare", "suite.toml", "--inject", "gemm/m=48*=900%"]).expect(1);
    assert!(ran.stdout.contains("synthetic"), "{}", ran.stdout);
    let report = place.report();
    let rows = verdicts(&report);
    assert_eq!(rows["gemm/m=48@cpu"], ("regressed".to_owned(), "severe".to_owned(), true));
    assert!(!rows["gemm/m=32@cpu"].2, "{rows:?}");
    let refused = place.run(&["baseline", "promote", "latest", "bad"]).expect(2);
    assert!(refused.stderr.contains("synthetic"), "{}", refused.stderr);
    // Nor does it play base later.
    place.run(&["compare", "suite.toml"]);
    assert_eq!(place.report()["base"].as_array().expect("base").len(), 2);
}

const GEMM: &str = r#"
schema_version = 1
name = "small"
description = "two small products"
launches = 3
reference_workloads = false
gate_metrics = ["latency"]
[sampling]
min_time = "20ms"
max_time = "60ms"
max_warmup = "20ms"
[[benchmark]]
name = "gemm"
operator = "gemm"
n = 64
k = 64
axes = { m = [32, 48] }
"#;

#[test]
fn a_debug_build_is_refused_as_baseline() {
    let place = Place::new();
    place.script(&["alpha"]);
    let run = |arguments: &[&str]| -> Ran {
        place.command(arguments).env_remove("REGRADE_TRUST_DEBUG_BUILD").output().expect("starts").into()
    };
    let ran = run(&["run", "suite.toml"]).expect(0);
    if cfg!(debug_assertions) {
        assert!(ran.stderr.contains("debug build"), "{}", ran.stderr);
        let refused = run(&["baseline", "promote", "latest", "v1"]).expect(2);
        assert!(refused.stderr.contains("--release"), "{}", refused.stderr);
    } else {
        run(&["baseline", "promote", "latest", "v1"]).expect(0);
    }
}

#[test]
fn interrupting_keeps_what_was_measured_and_resume_goes_on() {
    let place = Place::new();
    place.script(&["alpha", "beta", "gamma"]);
    place.write(
        "bench.sh",
        &format!("sleep 0.1\n{}", std::fs::read_to_string(place.file("bench.sh")).expect("the script")),
    );
    let mut child = place
        .command(&["run", "suite.toml", "--launches", "20"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut progress = child.stderr.take().expect("piped");
    wait_for(&mut progress, "[3/60]");
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).expect("a pid")).expect("not zero");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("the child is there");
    let mut rest = String::new();
    progress.read_to_string(&mut rest).expect("UTF-8");
    assert_eq!(child.wait().expect("ends").code(), Some(i32::from(Exit::Environment.code())), "{rest}");
    assert!(rest.contains("--resume"), "{rest}");
    place.run(&["compare", "--history-only", "--resume", "suite.toml", "--launches", "20"]).expect(5);
    let report = place.report();
    assert_eq!(report["head"]["launches"], 60);
    // It compares next time, and there is nothing to go on with then.
    let next = report["outcome"]["next"].as_str().expect("a command");
    assert!(next.ends_with(" compare --history-only suite.toml --launches 20"), "{next}");
    let again = place.run(&["run", "suite.toml", "--launches", "20", "--resume"]).expect(2);
    assert!(again.stderr.contains("no interrupted run"), "{}", again.stderr);
}

#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn a_full_temporary_folder_ends_the_session_and_blames_no_case() {
    let place = Place::new();
    place.script(&["alpha"]);
    // A small file system of its own, in a mount namespace of its own.
    let script = "mount -t tmpfs -o size=64k none tmp && exec \"$@\"";
    std::fs::create_dir(place.file("tmp")).expect("a folder");
    let namespace = |words: &[&str]| {
        let own = place.command(words);
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]);
        command.arg(own.get_program()).args(own.get_args()).current_dir(place.file(""));
        for (name, value) in own.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.env("TMPDIR", place.file("tmp"));
        command.output().map(Ran::from)
    };
    match namespace(&["--version"]) {
        Ok(ran) if ran.code == 0 => {}
        other => {
            eprintln!("skipped: no mount namespaces here: {other:?}");
            return;
        }
    }
    let script = std::fs::read_to_string(place.file("bench.sh")).expect("the script");
    place.write("bench.sh", &format!("head -c 100000 /dev/zero > \"$TMPDIR/full\"\n{script}"));
    let ran = namespace(&["run", "suite.toml"]).expect("it started before").expect(6);
    assert!(ran.stderr.contains("set TMPDIR to a folder with more"), "{}", ran.stderr);
}

/// Reads until `mark` has been seen.
fn wait_for(stream: &mut impl Read, mark: &str) {
    let (mut seen, mut byte) = (String::new(), [0_u8]);
    while !seen.contains(mark) {
        assert_eq!(stream.read(&mut byte).expect("readable"), 1, "ended early:\n{seen}");
        seen.push(char::from(byte[0]));
    }
}

#[test]
fn colour_and_pipes() {
    let place = with_history();
    let plain = place.run(&["report"]).expect(0).stdout;
    assert!(!plain.contains('\x1b'), "no colour into a pipe");
    let coloured = place.run(&["report", "--color", "always"]).expect(0).stdout;
    assert!(coloured.contains('\x1b'));
    let never: Ran =
        place.command(&["report"]).env("NO_COLOR", "1").env("CLICOLOR_FORCE", "1").output().expect("starts").into();
    assert!(!never.stdout.contains('\x1b') || never.code == 0);
    // A reader who has seen enough is no error.
    let mut child = place.command(&["schema"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    drop(child.stdout.take());
    std::thread::sleep(Duration::from_millis(10));
    let output = child.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn secrets_reach_neither_database_nor_reports() {
    let place = Place::new();
    place.script(&["alpha"]);
    // As a writer of JSON may spell it.
    let spelt = r#"echo '{"type":"evidence","source":"x","facts":{"said":"tok\u002d8c1f2e77"}}' >> "$REGRADE_OUTPUT""#;
    place.write(
        "bench.sh",
        &format!(
            "echo the token is $MY_API_TOKEN\n{spelt}\n{}",
            std::fs::read_to_string(place.file("bench.sh")).expect("the script")
        ),
    );
    for command in ["run", "compare"] {
        let status =
            place.command(&[command, "suite.toml"]).env("MY_API_TOKEN", "tok-8c1f2e77").status().expect("starts");
        assert!(status.success());
    }
    let export = place.run(&["baseline", "export"]).expect(0).stdout;
    assert!(export.contains("the token is [redacted]"), "the log is kept");
    assert!(!export.contains("tok-8c1f2e77"));
    assert!(!place.report().to_string().contains("tok-8c1f2e77"));
}

#[test]
fn what_a_command_s_own_table_says_of_threads_counts_more_than_its_axis() {
    let place = Place::new();
    place.write(
        "suite.toml",
        "schema_version = 1\nname = \"own\"\nreference_workloads = false\nlaunches = 1\n[[benchmark]]\nname = \"a\"\n\
         command = [\"sh\", \"-c\", \"echo $OMP_NUM_THREADS $MKL_NUM_THREADS > seen\"]\n\
         env = { OMP_NUM_THREADS = \"1\" }\naxes = { threads = [128] }\n",
    );
    place.run(&["run", "suite.toml"]).expect(0);
    assert_eq!(std::fs::read_to_string(place.file("seen")).expect("it ran"), "1 128\n");
}

#[test]
fn a_command_that_speaks_nothing_is_measured_from_outside() {
    let place = Place::new();
    place.write(
        "suite.toml",
        "schema_version = 1\nname = \"outside\"\ndescription = \"x\"\nreference_workloads = false\n\
         [[benchmark]]\nname = \"sleep\"\ncommand = [\"sleep\", \"0.05\"]\n\
         [[benchmark]]\nname = \"burn\"\ncommand = [\"awk\", \"BEGIN { for (i = 0; i < 3000000; i++) x += i }\"]\n\
         [[benchmark]]\nname = \"fails\"\ncommand = [\"sh\", \"-c\", \"echo to the log; exit 7\"]\n",
    );
    let ran = place.run(&["run", "suite.toml", "--format", "json"]).expect(4);
    let view: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let case =
        |name: &str| view["cases"].as_array().expect("cases").iter().find(|case| case["case"] == name).expect("there");
    let metrics: Vec<&str> = case("burn@cpu")["metrics"]
        .as_array()
        .expect("metrics")
        .iter()
        .map(|m| m["metric"]["name"].as_str().expect("a name"))
        .collect();
    assert!(metrics.contains(&"latency") && metrics.contains(&"user_time"), "{metrics:?}");
    let latency = case("sleep@cpu")["metrics"][0]["median"].as_f64().expect("a number");
    assert!(latency >= 0.05, "a sleep of 50 ms took {latency} s");
    assert_eq!(case("fails@cpu")["outcome"]["kind"], "failed");
    assert!(case("fails@cpu")["outcome"]["reason"].as_str().expect("a reason").contains("status 7"));
}

#[test]
fn completions_and_schemas_are_printed() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(place.run(&["completions", shell]).expect(0).stdout.contains("regrade"));
    }
    for what in ["suite", "report", "prices"] {
        let schema: serde_json::Value =
            serde_json::from_str(&place.run(&["schema", what]).expect(0).stdout).expect("JSON");
        assert!(schema["$schema"].as_str().expect("a dialect").contains("2020-12"));
    }
}

#[test]
fn help_states_the_exit_codes() {
    let place = Place::new();
    let help = place.run(&["--help"]).expect(0).stdout;
    for exit in Exit::ALL {
        assert!(help.contains(&format!("  {}  {}", exit.code(), exit.meaning())), "{help}");
    }
    insta::assert_snapshot!("help", help);
    // What stands in a comment is a language of its own.
    insta::assert_snapshot!("help_bot", place.run(&["bot", "--help"]).expect(0).stdout);
}

#[test]
fn a_base_that_is_not_there_is_refused_before_measuring() {
    let place = with_history();
    let count = |place: &Place| place.run(&["baseline", "export"]).expect(0).stdout.lines().count();
    let before = count(&place);
    place.run(&["compare", "suite.toml", "--base", "no-such-branch"]).expect(2);
    assert_eq!(count(&place), before, "nothing was measured");
    // `latest` is the newest run there is, not the one about to be made.
    place.run(&["compare", "suite.toml", "--base", "latest"]).expect(0);
}

#[test]
fn comparing_leaves_other_files_in_the_report_folder_alone() {
    let place = with_history();
    place.write("docs/plots/mine.svg", "mine");
    place.write("docs/plots/distribution-old.svg", "an earlier plot");
    place.run(&["compare", "suite.toml", "--reports", "docs"]).expect(0);
    assert!(place.file("docs/plots/mine.svg").exists());
    assert!(!place.file("docs/plots/distribution-old.svg").exists());
}

#[test]
fn impossible_values_fail_the_case_and_spoil_no_history() {
    let place = with_history();
    place.set_factor("alpha", "0");
    let ran = place.run(&["compare", "suite.toml"]).expect(4);
    assert!(ran.stdout.contains("impossible value"), "{}", ran.stdout);
    place.set_factor("alpha", "1");
    place.run(&["compare", "suite.toml"]).expect(0);
    assert_eq!(verdicts(&place.report())["alpha@cpu"].0, "unchanged");
}

#[test]
fn a_gated_metric_that_head_no_longer_reports_is_said() {
    let place = with_history();
    let script = std::fs::read_to_string(place.file("bench.sh")).expect("the script");
    place.write("bench.sh", &script.replace("\\\"name\\\":\\\"latency\\\"", "\\\"name\\\":\\\"other\\\""));
    place.run(&["compare", "suite.toml", "--require-decision"]).expect(3);
    assert_eq!(verdicts(&place.report())["alpha@cpu"].0, "inconclusive");
}

#[test]
fn a_used_up_budget_is_no_pass_and_no_base() {
    let place = Place::new();
    place.script(&["alpha", "beta"]);
    let text = std::fs::read_to_string(place.file("suite.toml")).expect("the suite");
    place.write(
        "bench.sh",
        &format!("sleep 0.3\n{}", std::fs::read_to_string(place.file("bench.sh")).expect("the script")),
    );
    place.run(&["run", "suite.toml"]).expect(0);
    place.write("suite.toml", &text.replace("launches = 3", "launches = 3\nbudget = \"400ms\""));
    let ran = place.run(&["compare", "suite.toml", "--require-decision"]).expect(3);
    assert!(ran.stdout.contains("not complete"), "{}", ran.stdout);
    place.run(&["run", "suite.toml", "--resume"]);
}

#[test]
fn a_selection_other_than_that_of_the_interrupted_run_is_not_resumed() {
    let place = Place::new();
    place.script(&["alpha", "beta"]);
    let text = std::fs::read_to_string(place.file("suite.toml")).expect("the suite");
    place.write(
        "bench.sh",
        &format!("sleep 0.3\n{}", std::fs::read_to_string(place.file("bench.sh")).expect("the script")),
    );
    place.write("suite.toml", &text.replace("launches = 3", "launches = 3\nbudget = \"400ms\""));
    place.run(&["run", "suite.toml", "--filter", "alpha*"]);
    let ran = place.run(&["run", "suite.toml", "--filter", "beta*", "--resume"]).expect(2);
    assert!(ran.stderr.contains("the selection of cases"), "{}", ran.stderr);
    let ran = place.run(&["run", "suite.toml", "--filter", "alpha*", "--launches", "9", "--resume"]).expect(2);
    assert!(ran.stderr.contains("the number of launches"), "{}", ran.stderr);
}

#[test]
fn a_case_that_does_other_work_now_is_new() {
    let place = Place::new();
    place.write("suite.toml", GEMM);
    place.run(&["run", "suite.toml"]).expect(0);
    place.write("suite.toml", &GEMM.replace("k = 64", "k = 256"));
    let ran = place.run(&["compare", "suite.toml"]).expect(5);
    assert!(ran.stdout.contains("did other work"), "{}", ran.stdout);
    assert_eq!(verdicts(&place.report())["gemm/m=32@cpu"].0, "new");
}

/// A place whose benchmarks `alpha` and `beta` take 10 ms times their factors, with targets of alpha.
fn with_targets(targets: &str) -> Place {
    let place = Place::new();
    place.script(&["beta", "alpha"]);
    let text = std::fs::read_to_string(place.file("suite.toml")).expect("the suite");
    place.write("suite.toml", &format!("{text}targets = [{targets}]\n"));
    place
}

/// Target → call, whether it fails, and its note, of a report or of a run.
fn aims(json: &serde_json::Value) -> Vec<(String, String, bool, String)> {
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    let row = |row: &serde_json::Value| {
        let (target, verdict) = (&row["target"], &row["verdict"]);
        let of = target["of"].as_str().map_or_else(String::new, |of| format!(" of {of}"));
        let fails = row["fails"].as_bool().expect("a flag");
        (format!("{}{of}", text(&target["that"])), text(&verdict["call"]), fails, text(&verdict["note"]))
    };
    json["targets"].as_array().map(|rows| rows.iter().map(row).collect()).unwrap_or_default()
}

#[test]
fn a_missed_target_fails_a_run_and_a_comparison() {
    let place = with_targets("\"latency <= 9 ms\"");
    let ran = place.run(&["run", "suite.toml"]).expect(1);
    assert!(
        ran.stdout.contains("Targets missed: 1") && ran.stdout.contains(" % off the goal, at least 11."),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.contains("1 target missed"), "{}", ran.stdout);
    // The run is stored all the same, and the same is said of it from there.
    let json = place.run(&["report", "--format", "json"]).expect(0).stdout;
    let stored = aims(&serde_json::from_str(&json).expect("JSON"));
    assert_eq!((stored[0].0.as_str(), stored[0].1.as_str(), stored[0].2), ("latency <= 9 ms", "missed", true));
    for _ in 0..2 {
        place.run(&["run", "suite.toml"]).expect(1);
    }
    // Neither does an unchanged program excuse it, nor a gate that asks for nothing.
    for more in [&[][..], &["--gate", "none"]] {
        let ran = place.run(&[&["compare", "suite.toml"], more].concat()).expect(1);
        assert!(ran.stdout.contains("1 target missed; no regression"), "{}", ran.stdout);
    }
    let report = place.report();
    assert_eq!(aims(&report)[0].1, "missed");
    assert_eq!(report["outcome"]["counts"]["target missed"], 1);
    assert_eq!(report["targets"][0]["head"]["launches"].as_array().expect("launches").len(), 3);
    let page = std::fs::read_to_string(place.file("reports/latest/report.md")).expect("written");
    assert!(page.contains("### Targets missed (1)") && page.contains("latency <= 9 ms"), "{page}");
}

#[test]
fn a_target_that_is_met_passes_and_one_that_nobody_requires_is_only_shown() {
    let place = with_targets(
        "\"latency <= 11 ms\", { that = \"latency <= 0.6\", of = \"beta\" }, \
         { that = \"latency <= 8 ms\", required = false, source = \"a wish\" }",
    );
    place.set_factor("beta", "2");
    let ran = place.run(&["run", "suite.toml", "--require-decision"]).expect(0);
    assert!(ran.stdout.contains("1 target missed, 2 met") && ran.stdout.contains("source: a wish"), "{}", ran.stdout);
    assert!(ran.stdout.contains("latency <= 0.6 of beta@cpu") && ran.stdout.contains("0.5"), "{}", ran.stdout);
    place.run(&["compare", "suite.toml"]).expect(0);
    let found = aims(&place.report());
    let calls: Vec<(&str, bool)> = found.iter().map(|(_, call, fails, _)| (call.as_str(), *fails)).collect();
    assert_eq!(calls, [("missed", false), ("met", false), ("met", false)], "{found:?}");
}

#[test]
fn a_target_without_data_is_no_pass_where_a_decision_is_required() {
    let place = with_targets("\"peak_memory <= 1 TiB\", { that = \"latency <= 2\", of = \"beta\" }");
    // The script reports its latency alone.
    let ran = place.run(&["run", "suite.toml"]).expect(0);
    assert!(ran.stdout.contains("no launch reported `peak_memory`"), "{}", ran.stdout);
    place.run(&["run", "suite.toml", "--require-decision"]).expect(3);
    place.run(&["run", "suite.toml"]).expect(0);
    let ran = place.run(&["compare", "suite.toml", "--require-decision"]).expect(3);
    assert!(ran.stdout.contains("1 target undecided, and a decision is required"), "{}", ran.stdout);
    // Nor are too few launches one, or a case that was not selected.
    let ran = place.run(&["run", "suite.toml", "--launches", "2", "--require-decision"]).expect(3);
    assert!(ran.stdout.contains("2 measured launches are too few"), "{}", ran.stdout);
    let ran = place.run(&["run", "suite.toml", "--filter", "alpha*", "--require-decision"]).expect(3);
    assert!(ran.stdout.contains("`beta@cpu`: not part of this run"), "{}", ran.stdout);
    // A case that fails is said before.
    place.set_factor("beta", "crash");
    let ran = place.run(&["run", "suite.toml", "--require-decision"]).expect(4);
    assert!(ran.stdout.contains("`beta@cpu`: failed"), "{}", ran.stdout);
}

#[test]
fn targets_are_listed_and_their_mistakes_refused_before_anything_is_measured() {
    let place = with_targets("\"latency <= 9 ms\", { that = \"latency <= 0.6\", of = \"beta\", required = false }");
    let listed = place.run(&["list", "suite.toml"]).expect(0).stdout;
    assert!(listed.contains("targets latency <= 9 ms, latency <= 0.6 of beta@cpu (not required)"), "{listed}");
    let json: serde_json::Value =
        serde_json::from_str(&place.run(&["list", "suite.toml", "--format", "json"]).expect(0).stdout).expect("JSON");
    assert_eq!(json["suites"][0]["cases"][1]["targets"][0]["that"], "latency <= 9 ms");

    let place = with_targets("{ that = \"latency <= 0.9\", of = \"bet\" }");
    let ran = place.run(&["run", "suite.toml"]).expect(2);
    assert!(ran.stderr.contains("suite.toml:17") && ran.stderr.contains("did you mean `beta`?"), "{}", ran.stderr);
    assert!(!place.file("baselines").exists(), "nothing was stored");
}

#[test]
fn a_success_rate_is_about_all_cases_and_hides_no_failure() {
    let place = Place::new();
    place.script(&["alpha", "beta", "gamma"]);
    let text = std::fs::read_to_string(place.file("suite.toml")).expect("the suite");
    let wanting = |targets: &str| {
        place.write("suite.toml", &text.replacen("[[benchmark]]", &format!("targets = [{targets}]\n[[benchmark]]"), 1));
    };
    wanting("\"success_rate >= 90 %\", { that = \"success_rate >= 50 %\", over = [\"alpha\", \"beta\"] }");
    let listed = place.run(&["list", "suite.toml"]).expect(0).stdout;
    assert!(listed.contains("target success_rate >= 90 % over 3 cases: all cases"), "{listed}");
    assert!(listed.contains("target success_rate >= 50 % over 2 cases: alpha, beta"), "{listed}");
    let ran = place.run(&["run", "suite.toml", "--require-decision"]).expect(0);
    assert!(ran.stdout.contains("2 targets met") && ran.stdout.contains("3 of 3 cases measured"), "{}", ran.stdout);

    place.set_factor("beta", "crash");
    let ran = place.run(&["run", "suite.toml"]).expect(1);
    assert!(ran.stdout.contains("all cases  success_rate >= 90 % over 3 cases"), "{}", ran.stdout);
    assert!(ran.stdout.contains("2 of 3 cases measured: beta@cpu failed"), "{}", ran.stdout);
    let json = place.run(&["report", "--format", "json"]).expect(0).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let found: Vec<(String, bool)> = aims(&json).into_iter().map(|(_, call, fails, _)| (call, fails)).collect();
    assert_eq!(found, [("missed".to_owned(), true), ("met".to_owned(), false)]);
    assert_eq!(json["targets"][0]["target"]["over"], serde_json::json!({ "name": "all cases", "cases": 3 }));
    place.run(&["compare", "suite.toml"]).expect(1);
    let page = std::fs::read_to_string(place.file("reports/latest/report.md")).expect("written");
    assert!(page.contains("| <code>all cases</code>") || page.contains("| `all cases`"), "{page}");

    // The failed case fails the run all the same where the target is met.
    wanting("\"success_rate >= 50 %\"");
    let ran = place.run(&["run", "suite.toml"]).expect(4);
    assert!(ran.stdout.contains("1 target met"), "{}", ran.stdout);
    // What a filter leaves out is no success.
    let ran = place.run(&["run", "suite.toml", "--filter", "alpha*", "--require-decision"]).expect(3);
    assert!(ran.stdout.contains("1 of 1 case measured; 2 did not run"), "{}", ran.stdout);
}

#[test]
fn work_costs_what_the_price_of_its_device_says_and_a_later_price_changes_no_run() {
    let place = Place::new();
    let listed: serde_json::Value =
        serde_json::from_str(&place.run(&["list", ".", "--format", "json"]).expect(0).stdout).expect("JSON");
    let backends = listed["backends"].as_array().expect("backends");
    let cpu = backends.iter().find(|backend| backend["name"] == "cpu").expect("the CPU");
    let cpu = cpu["detail"].as_str().expect("its name");
    let price = |per_hour: f64| {
        let table = format!(
            "currency = \"EUR\"\n[[price]]\ndevice = {cpu:?}\nper_hour = {per_hour:?}\nterms = \"two cores\"\nsource = \"our bill\"\n\
             date = 2020-01-01\n"
        );
        place.write("prices/own.toml", &table);
    };
    price(3.6);
    place.write(
        "suite.toml",
        &format!("{GEMM}[[benchmark]]\nname = \"copy\"\noperator = \"copy\"\nbytes = 65536\n")
            .replace("name = \"small\"", "name = \"small\"\nprices = \"prices/own.toml\"")
            .replacen("operator = \"gemm\"", "operator = \"gemm\"\ntargets = [\"cost_per_pflop <= 1e9 EUR\"]", 1),
    );
    let ran = place.run(&["run", "suite.toml"]).expect(0);
    assert!(ran.stdout.contains("EUR/PFLOP") && ran.stdout.contains("two cores"), "{}", ran.stdout);
    assert!(ran.stdout.contains("look whether it still holds"), "{}", ran.stdout);
    let stored = || -> serde_json::Value {
        let oldest = place.run(&["baseline", "list", "--format", "json"]).expect(0).stdout;
        let oldest: serde_json::Value = serde_json::from_str(&oldest).expect("JSON");
        let id =
            oldest["runs"].as_array().expect("runs").last().expect("a run")["id"].as_str().expect("an id").to_owned();
        serde_json::from_str(&place.run(&["report", &id, "--format", "json"]).expect(0).stdout).expect("JSON")
    };
    let of = |json: &serde_json::Value, case: &str, name: &str| -> Option<f64> {
        let cases = json["cases"].as_array().expect("cases");
        let case = cases.iter().find(|one| one["case"].as_str().expect("an id").starts_with(case)).expect("the case");
        let metrics = case["metrics"].as_array().expect("metrics");
        metrics.iter().find(|metric| metric["metric"]["name"] == name)?["median"].as_f64()
    };
    let first = stored();
    // A thousandth of a euro a second.
    let (cost, rate) = (of(&first, "gemm", "cost_per_pflop").expect("a cost"), of(&first, "gemm", "flop_rate"));
    let exact = 1e-3 * 1e15 / rate.expect("a rate");
    // Both are medians over launches, of a value and of its inverse.
    assert!((cost / exact - 1.0).abs() < 0.5, "{cost} {exact}");
    assert_eq!(of(&first, "copy", "cost_per_pflop"), None, "what counts no operations costs nothing by them");
    assert_eq!(first["prices"][0]["price"]["per_hour"], 3.6);

    // A thousand times the price: what was measured before keeps its own, and a comparison says that it is another.
    price(3600.0);
    place.run(&["compare", "suite.toml", "--history-only"]);
    let report = place.report();
    assert_eq!(report["prices"][0]["price"]["per_hour"], 3600.0);
    assert_eq!(
        (report["prices"][0]["old"].as_bool(), &report["prices"][0]["price"]["source"]),
        (Some(true), &"our bill".into())
    );
    let notes = report["notes"].as_array().expect("notes");
    assert!(notes.iter().any(|note| note.as_str().expect("text").contains("is another than in the base")), "{notes:?}");
    let context = report["context"].as_array().expect("context");
    let costs = context.iter().find(|value| value["metric"]["name"] == "cost_per_pflop").expect("a cost");
    assert!(costs["head"].as_f64() > costs["base"].as_f64(), "{costs}");
    assert_eq!(report["targets"][0]["verdict"]["call"], "met");
    assert!(report["rows"].as_array().expect("rows").iter().all(|row| row["metric"]["name"] != "cost_per_pflop"));
    assert_eq!(stored()["prices"], first["prices"]);
    assert_eq!(of(&stored(), "gemm", "cost_per_pflop"), Some(cost));
    let page = std::fs::read_to_string(place.file("reports/latest/report.md")).expect("written");
    assert!(page.contains("3600 EUR an hour") && page.contains("cost_per_pflop"), "{page}");
}

#[test]
fn a_command_that_says_its_device_and_rate_has_a_cost_and_one_run_has_one_price() {
    let place = Place::new();
    place.script(&["alpha"]);
    let script = std::fs::read_to_string(place.file("bench.sh")).expect("the script");
    let says = r#"echo '{"type":"device","backend":"cpu","name":"TPU v5 lite","facts":{"device.num_cores":"1"}}' >> "$REGRADE_OUTPUT"
echo '{"type":"value","metric":{"name":"flop_rate","unit":"FLOP/s"},"value":2e14}' >> "$REGRADE_OUTPUT"
"#;
    place.write("bench.sh", &format!("{says}{script}"));
    let suite = std::fs::read_to_string(place.file("suite.toml")).expect("the suite");
    let suite = suite.replacen("launches = 3", "launches = 3\nprices = \"prices.toml\"", 1);
    place.write("suite.toml", &format!("{suite}targets = [\"cost_per_pflop <= 0.0017 USD\"]\n"));
    let today = jiff::Zoned::now().date();
    let price = |per_hour: &str| {
        let more = format!("terms = \"on demand\"\nsource = \"a page\"\ndate = {today}\n");
        place.write(
            "prices.toml",
            &format!("currency = \"USD\"\n[[price]]\ndevice = \"v5e\"\nper_hour = {per_hour}\n{more}"),
        );
    };
    price("1.2");
    // 1.20 / 3600 / 2e14 * 10^15.
    let ran = place.run(&["run", "suite.toml"]).expect(0);
    assert!(ran.stdout.contains("0.001667 USD/PFLOP") && ran.stdout.contains("1 target met"), "{}", ran.stdout);
    let told = format!("v5e: 1.2 USD an hour (on demand), read {today}");
    assert!(ran.stdout.contains(&told), "{}", ran.stdout);
    assert!(!ran.stdout.contains("still holds"), "{}", ran.stdout);
    price("1.3");
    let ran = place.run(&["run", "suite.toml"]).expect(1);
    assert!(ran.stdout.contains("0.001806 USD/PFLOP") && ran.stdout.contains("1 target missed"), "{}", ran.stdout);
    // Nothing of that is a comparison of the work.
    let ran = place.run(&["compare", "suite.toml", "--history-only"]).expect(1);
    assert!(ran.stdout.contains("the price of `v5e` is another"), "{}", ran.stdout);
    assert!(place.report()["rows"].as_array().expect("rows").iter().all(|row| row["verdict"]["call"] != "regressed"));

    // A run that is resumed goes on at the price it began with.
    place.write("bench.sh", &format!("sleep 0.3\n{says}{script}"));
    let brief = suite.replacen("launches = 3", "launches = 3\nbudget = \"400ms\"", 1);
    place.write("suite.toml", &brief);
    place.run(&["run", "suite.toml"]);
    price("1.4");
    let ran = place.run(&["run", "suite.toml", "--resume"]).expect(2);
    assert!(ran.stderr.contains("the prices changed since"), "{}", ran.stderr);
    price("1.3");
    place.run(&["run", "suite.toml", "--resume"]).expect(0);
}
