//! The xla backend through the binary: plugins that go wrong, programs that are damaged, and programs that run.
//!
//! What needs a real plugin uses the CPU plugin that `regrade backend list` finds here (`.ci/run` installs it); without one those
//! tests say so and pass.

mod support;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use regrade::domain::RunStatus;
use regrade::store::sqlite::SqliteStore;
use regrade::store::{RunQuery, Store};
use serde_json::Value;
use sha2::{Digest, Sha256};
use support::Place;

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("suites/models")
}

/// Puts a program and its manifest into a place.
fn bring(place: &Place, name: &str) {
    std::fs::create_dir_all(place.file("models")).expect("a folder");
    for extension in ["vhlo", "json"] {
        let file = format!("{name}.{extension}");
        std::fs::copy(models().join(&file), place.file("models").join(&file)).expect("a copy");
    }
}

const HEAD: &str = "schema_version = 1\nname = \"xla\"\nbackends = [\"xla:cpu\"]\nlaunches = 1\nreference_workloads = false\n\
    [sampling]\nmin_time = \"20ms\"\nmax_time = \"100ms\"\nmax_warmup = \"100ms\"\n";

/// The binary with this in `REGRADE_PLUGIN_PATH`.
fn with_plugin(place: &Place, arguments: &[&str], plugin: impl AsRef<OsStr>) -> support::Ran {
    place.command(arguments).env("REGRADE_PLUGIN_PATH", plugin).output().expect("the binary starts").into()
}

/// Outcome and reason of every case of the newest run.
fn outcomes(place: &Place) -> Vec<(String, String, String)> {
    let report = place.run(&["report", "--format", "json"]).expect(0).stdout;
    let report: Value = serde_json::from_str(&report).expect("JSON");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let cases = report["cases"].as_array().expect("cases").iter();
    cases.map(|case| (text(&case["case"]), text(&case["outcome"]["kind"]), text(&case["outcome"]["reason"]))).collect()
}

/// The CPU plugin of this machine, where there is one.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn plugin() -> Option<PathBuf> {
    let place = Place::new();
    let listed = place.run(&["backend", "list", "--format", "json"]).expect(0).stdout;
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    let platforms = listed["platforms"].as_array().expect("platforms");
    let cpu = platforms.iter().find(|platform| platform["platform"] == "cpu").expect("the CPU's line");
    let used = cpu["plugins"].as_array().expect("plugins").iter().find(|plugin| plugin["used"] == true);
    let Some(path) = used.and_then(|plugin| plugin["path"].as_str()) else {
        eprintln!("skipped: no CPU plugin here; `regrade backend install xla-cpu` brings one");
        return None;
    };
    Some(PathBuf::from(path))
}

#[test]
fn plugins_that_go_wrong_end_one_launch_with_a_reason() {
    const CASES: [(&str, &str); 19] = [
        ("NO_TABLE", "no table of functions"),
        ("SHORT_TABLE", "8 bytes long"),
        ("LONG_LIE", "bytes long"),
        ("OTHER_MAJOR", "version 7."),
        ("OLD", "has no PJRT_Client_Create"),
        ("NEWER", "this plugin refuses"),
        ("ABORTS", "signal 6"),
        ("CRASHES", "signal 11"),
        ("HANGS", "killed at its time-out"),
        ("LEAVES", "ended without an outcome"),
        ("REFUSES", "FAILED_PRECONDITION (9): this plugin refuses"),
        ("WORDLESS", "PJRT_Plugin_Initialize"),
        ("BAD_WORDS", "breaks the interface"),
        ("NO_CLIENT", "no client"),
        ("MANY_DEVICES", "breaks the interface"),
        ("NULL_DEVICES", "0 are here"),
        ("NO_DEVICES", "0 are here"),
        ("NULL_DEVICE", "a device that is none"),
        ("NO_DESCRIPTION", "does not describe"),
    ];
    let place = Place::new();
    bring(&place, "mlp-train");
    let suite = format!("{HEAD}[[benchmark]]\nname = \"p\"\nprogram = \"models/mlp-train.vhlo\"\ntimeout = \"4s\"\n");
    place.write("suite.toml", &suite);
    for (case, words) in CASES {
        let library = place.file(&format!("{case}_cpu.so"));
        support::fake_plugin(case, &library);
        let ran = with_plugin(&place, &["run", "suite.toml", "--quiet"], &library);
        assert!((2..=5).contains(&ran.code), "{case}: {ran:?}");
        let (_, outcome, reason) = outcomes(&place).remove(0);
        assert!(outcome == "failed" || outcome == "timed_out", "{case}: {outcome}");
        assert!(reason.contains(words), "{case}: {reason}");
    }
    for (what, words) in [("text", "cannot load the plugin"), ("empty", "cannot load the plugin")] {
        let library = place.file(&format!("{what}_cpu.so"));
        std::fs::write(&library, if what == "text" { "no library" } else { "" }).expect("a file");
        let _ = with_plugin(&place, &["run", "suite.toml", "--quiet"], &library);
        let (_, outcome, reason) = outcomes(&place).remove(0);
        assert!(outcome == "failed" && reason.contains(words), "{what}: {outcome}: {reason}");
    }
}

#[test]
fn side_by_side_what_failed_is_shown_and_the_doctor_knows_why() {
    let place = Place::new();
    let gemm = "operator = \"gemm\"\nm = 32\nn = 32\nk = 32\n";
    let suite = format!(
        "{HEAD}[[benchmark]]\nname = \"two\"\n{gemm}backends = [\"cpu\", \"xla:cpu\"]\n\
         [[benchmark]]\nname = \"one\"\n{gemm}backends = [\"cpu\"]\n"
    );
    place.write("suite.toml", &suite);
    let library = place.file("pjrt_cpu.so");
    std::fs::write(&library, "no library").expect("a file");
    let across = ["compare", "suite.toml", "--across", "backend", "--quiet"];
    let ran = with_plugin(&place, &across, &library).expect(4);
    assert!(ran.stdout.contains("cannot load the plugin"), "{}", ran.stdout);
    assert!(ran.stdout.contains("with nothing beside it: one"), "{}", ran.stdout);
    let json =
        with_plugin(&place, &["compare", "--across", "backend", "--head", "latest", "--format", "json"], &library);
    let json: Value = serde_json::from_str(&json.expect(4).stdout).expect("JSON");
    let sides = json["works"][0]["backends"].as_array().expect("backends");
    assert_eq!((&sides[0]["outcome"], sides[0].get("reason")), (&"measured".into(), None));
    assert!(sides[1]["reason"].as_str().is_some_and(|reason| reason.contains("cannot load the plugin")), "{json}");
    // What fails with nothing beside it is shown all the same, and so is what is skipped.
    let more = format!(
        "[[benchmark]]\nname = \"alone\"\n{gemm}backends = [\"xla:cpu\"]\n\
         [[benchmark]]\nname = \"wide\"\n{gemm}precision = \"int8\"\nbackends = [\"cpu\", \"xla:cpu\"]\n"
    );
    place.write("suite.toml", &format!("{suite}{more}"));
    let ran = with_plugin(&place, &across, &library).expect(4);
    assert!(ran.stdout.contains("alone") && ran.stdout.contains("skipped here"), "{}", ran.stdout);
    // Where nothing has anything beside it nothing is measured.
    place.write("suite.toml", &format!("{HEAD}{more}"));
    let ran = with_plugin(&place, &across, &library).expect(5);
    assert!(ran.stderr.contains("no benchmark runs on two backends here"), "{}", ran.stderr);
    assert!(ran.stderr.contains("cpu is skipped: "), "{}", ran.stderr);
    let doctor = with_plugin(&place, &["doctor"], &library);
    let finding = doctor.stdout.lines().find(|line| line.contains("the plugin of xla:cpu")).expect("a finding");
    assert!(finding.contains("cannot load"), "{finding}");
    let listed = with_plugin(&place, &["list", "suite.toml", "--format", "json"], &library).expect(0);
    let listed: Value = serde_json::from_str(&listed.stdout).expect("JSON");
    let backends = listed["backends"].as_array().expect("backends");
    let line = backends.iter().find(|line| line["name"] == "xla:cpu").expect("a line");
    assert_eq!(line["ready"], false);
    assert!(line["detail"].as_str().is_some_and(|detail| detail.contains("pjrt_cpu.so cannot be used")), "{line}");
}

#[test]
fn programs_that_do_not_compile_count_against_the_success_of_all() {
    let place = Place::new();
    bring(&place, "mlp-train");
    let library = place.file("refuses_cpu.so");
    support::fake_plugin("REFUSES", &library);
    // One program that the plugin refuses, one thing that runs, and one that lacks its device here.
    let suite = |rate: &str| {
        let more = "[[benchmark]]\nname = \"c\"\ncommand = [\"true\"]\nbackends = [\"cpu\"]\n\
            [[benchmark]]\nname = \"g\"\ncommand = [\"true\"]\nbackends = [\"cpu\"]\nwhen = [\"cores >= 100000\"]\n";
        let head = HEAD.replace("[sampling]", &format!("targets = [\"success_rate >= {rate}\"]\n[sampling]"));
        place.write(
            "suite.toml",
            &format!("{head}[[benchmark]]\nname = \"p\"\nprogram = \"models/mlp-train.vhlo\"\n{more}"),
        );
        let ran = with_plugin(&place, &["run", "suite.toml", "--quiet", "--format", "json"], &library);
        let json: Value = serde_json::from_str(&ran.stdout).expect("JSON");
        let verdict = &json["targets"][0]["verdict"];
        (
            ran.code,
            verdict["call"].as_str().expect("a call").to_owned(),
            verdict["note"].as_str().expect("a note").to_owned(),
        )
    };
    let note = "1 of 2 cases measured: p@xla:cpu failed; 1 skipped here, which do not count".to_owned();
    assert_eq!(suite("95 %"), (1, "missed".to_owned(), note.clone()));
    assert_eq!(suite("50 %"), (4, "met".to_owned(), note));
}

/// A small generator of places and bytes, the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

#[test]
fn damaged_programs_are_refused_and_end_nothing_else() {
    let Some(plugin) = plugin() else { return };
    let place = Place::new();
    bring(&place, "mlp-train");
    let code = std::fs::read(models().join("mlp-train.vhlo")).expect("a program");
    let manifest = std::fs::read_to_string(models().join("mlp-train.json")).expect("a manifest");
    let manifest: Value = serde_json::from_str(&manifest).expect("JSON");
    let mut dice = Dice(7);
    let mut names = Vec::new();
    let mut put = |name: String, code: &[u8], mut manifest: Value| {
        let hash: String = Sha256::digest(code).iter().fold(String::new(), |hash, byte| hash + &format!("{byte:02x}"));
        if manifest["sha256"] != "kept" {
            manifest["sha256"] = hash.into();
        }
        std::fs::write(place.file("models").join(format!("{name}.vhlo")), code).expect("a file");
        place.write(&format!("models/{name}.json"), &manifest.to_string());
        names.push(name);
    };
    for i in 0..60 {
        put(format!("cut{i}"), &code[..dice.below(code.len())], manifest.clone());
    }
    for i in 0..80 {
        let mut damaged = code.clone();
        for _ in 0..=dice.below(8) {
            let place = dice.below(damaged.len());
            damaged[place] ^= 1 << dice.below(8);
        }
        put(format!("flip{i}"), &damaged, manifest.clone());
    }
    for i in 0..30 {
        // The version of the dialect stands in the first bytes, as text.
        let mut damaged = code.clone();
        damaged[dice.below(64)] = dice.below(256) as u8;
        put(format!("head{i}"), &damaged, manifest.clone());
    }
    for i in 0..30 {
        let mut other = manifest.clone();
        let inputs = other["inputs"].as_array().expect("inputs").len();
        let one = &mut other["inputs"][dice.below(inputs)];
        match i % 5 {
            0 => one["shape"] = serde_json::json!([3, 5]),
            1 => one["dtype"] = "bf16".into(),
            2 => drop(other["inputs"].as_array_mut().expect("inputs").pop()),
            3 => other["outputs"] = serde_json::json!([]),
            _ => other["carry"] = 0.into(),
        }
        put(format!("shape{i}"), &code, other);
    }
    assert!(names.len() >= 200);
    let list: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    // Programs by their bare names are those of suites/models, from where regrade is started.
    std::fs::create_dir(place.file("suites")).expect("a folder");
    std::fs::rename(place.file("models"), place.file("suites/models")).expect("a move");
    let suite = format!(
        "{HEAD}min_samples = 10\n[[benchmark]]\nname = \"p\"\ntimeout = \"30s\"\n[benchmark.axes]\nprogram = [\"mlp-train\", {}]\n",
        list.join(", ")
    );
    place.write("suite.toml", &suite);
    let ran = with_plugin(&place, &["run", "suite.toml", "--quiet"], format!("cpu={}", plugin.display()));
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    let outcomes = outcomes(&place);
    assert_eq!(outcomes.len(), names.len() + 1);
    let mut refused = 0;
    for (case, outcome, reason) in &outcomes {
        match outcome.as_str() {
            // A bit may change nothing that counts, such as a name; wrong numbers are caught by the check.
            "measured" => {}
            "failed" => {
                assert!(!reason.is_empty(), "{case}");
                refused += 1;
            }
            other => panic!("{case}: {other}: {reason}"),
        }
    }
    assert!(
        outcomes.iter().any(|(case, outcome, _)| case.contains("mlp-train") && outcome == "measured"),
        "{outcomes:?}"
    );
    assert!(refused > 130, "{refused} of {}", outcomes.len());
}

#[test]
fn a_program_runs_and_its_numbers_are_checked() {
    let Some(plugin) = plugin() else { return };
    let place = Place::new();
    bring(&place, "mlp-train");
    bring(&place, "attention");
    let suite = format!(
        "{HEAD}[[benchmark]]\nname = \"train\"\nprogram = \"models/mlp-train.vhlo\"\n\
         [[benchmark]]\nname = \"twice\"\nprogram = \"models/attention.vhlo\"\nreplicas = 2\n"
    );
    place.write("suite.toml", &suite);
    let variable = format!("cpu={}", plugin.display());
    let ran = with_plugin(&place, &["run", "suite.toml", "--quiet"], &variable);
    let ran = ran.expect(0);
    assert!(ran.stdout.contains("to compile"), "{}", ran.stdout);
    let report = place.run(&["report", "--format", "json"]).expect(0).stdout;
    for metric in ["compile_time", "reload_time", "first_step_time", "program_memory", "cpu_time", "upload_rate"] {
        assert!(report.contains(&format!("\"{metric}\"")), "{metric}");
    }

    // Wrong reference values: the program is right, and the check must say that they differ.
    let text = std::fs::read_to_string(place.file("models/mlp-train.json")).expect("a manifest");
    let mut manifest: Value = serde_json::from_str(&text).expect("JSON");
    for output in manifest["outputs"].as_array_mut().expect("outputs") {
        for value in output["values"].as_array_mut().expect("values") {
            *value = (value.as_f64().expect("a number") + 1.0).into();
        }
    }
    place.write("models/mlp-train.json", &manifest.to_string());
    let _ = with_plugin(&place, &["run", "suite.toml", "--quiet"], &variable);
    let wrong = outcomes(&place).into_iter().find(|(case, ..)| case.starts_with("train")).expect("the case");
    assert!(wrong.1 == "failed" && wrong.2.contains("wrong numbers"), "{wrong:?}");
}

#[test]
fn manifests_that_tell_another_shape_are_found_out() {
    let Some(plugin) = plugin() else { return };
    let place = Place::new();
    let variable = format!("cpu={}", plugin.display());
    for (place_of, value, words) in [
        ("shape", serde_json::json!([1, 12, 512, 32]), "and its manifest says f32 [1, 12, 512, 32]"),
        ("dtype", serde_json::json!("bf16"), "and its manifest says bf16"),
    ] {
        bring(&place, "attention");
        let text = std::fs::read_to_string(place.file("models/attention.json")).expect("a manifest");
        let mut manifest: Value = serde_json::from_str(&text).expect("JSON");
        let output = &mut manifest["outputs"][0];
        output[place_of] = value;
        // Only the shape is wrong.
        output["at"] = serde_json::json!([]);
        output["values"] = serde_json::json!([]);
        place.write("models/attention.json", &manifest.to_string());
        place.write("suite.toml", &format!("{HEAD}[[benchmark]]\nname = \"p\"\nprogram = \"models/attention.vhlo\"\n"));
        let _ = with_plugin(&place, &["run", "suite.toml", "--quiet"], &variable);
        let (_, outcome, reason) = outcomes(&place).remove(0);
        assert!(outcome == "failed" && reason.contains(words), "{place_of}: {outcome}: {reason}");
    }
}

#[test]
fn what_cannot_run_here_is_told_before_anything_is_measured() {
    let place = Place::new();
    bring(&place, "attention-fused");
    let library = place.file("fake_cpu.so");
    support::fake_plugin("REFUSES", &library);
    let with = |suite: &str| {
        place.write("suite.toml", &format!("{HEAD}{suite}"));
        with_plugin(&place, &["run", "suite.toml", "--quiet"], &library)
    };
    let ran = with("[[benchmark]]\nname = \"f\"\nprogram = \"models/attention-fused.vhlo\"\n").expect(5);
    assert!(ran.stdout.contains("program `attention-fused` is for cuda only"), "{}", ran.stdout);
    let ran = with("[[benchmark]]\nname = \"n\"\nprogram = \"models/none.vhlo\"\n").expect(2);
    assert!(ran.stderr.contains("runs `models/none.vhlo`, and there is no such program"), "{}", ran.stderr);
    // A folder without a plugin is no reason to take another one.
    std::fs::create_dir(place.file("empty")).expect("a folder");
    let ran = with_plugin(&place, &["backend", "list"], place.file("empty"));
    assert!(ran.expect(2).stdout.contains("which has no plugin in it"));
}

#[test]
fn operators_of_the_catalogue_have_the_right_numbers_as_programs() {
    let Some(plugin) = plugin() else { return };
    let place = Place::new();
    let sizes = [
        ("gemm", "m = 96\nn = 33\nk = 257"),
        ("attention", "batch = 2\nheads = 3\nseq = 65\nhead_dim = 16"),
        ("layernorm", "rows = 37\ncols = 513"),
        ("rmsnorm", "rows = 37\ncols = 513"),
        ("softmax", "rows = 1\ncols = 1000"),
    ];
    let benchmark = |(name, sizes): (&str, &str)| {
        let causal = if name == "attention" { "causal = [false, true]\n" } else { "" };
        format!(
            "[[benchmark]]\nname = \"{name}\"\noperator = \"{name}\"\n{sizes}\n[benchmark.axes]\n\
             precision = [\"f32\", \"bf16\", \"f16\", \"f64\"]\n{causal}"
        )
    };
    let mut suite = HEAD.to_owned() + &sizes.map(benchmark).concat();
    suite += "[[benchmark]]\nname = \"fused\"\noperator = \"attention\"\nimplementation = \"fused\"\n\
              [[benchmark]]\nname = \"copy\"\noperator = \"copy\"\n";
    place.write("suite.toml", &suite);
    let variable = format!("cpu={}", plugin.display());
    let _ = with_plugin(&place, &["run", "suite.toml", "--quiet"], &variable);
    let (skipped, ran): (Vec<_>, Vec<_>) =
        outcomes(&place).into_iter().partition(|(case, ..)| case.starts_with("fused") || case.starts_with("copy"));
    assert_eq!(ran.len(), 24, "{ran:?}");
    let wrong: Vec<_> = ran.iter().filter(|(_, outcome, _)| outcome != "measured").collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(skipped.len(), 2);
    assert!(skipped.iter().all(|(_, outcome, _)| outcome == "skipped"), "{skipped:?}");
}

#[test]
fn two_builds_of_a_plugin_are_told_apart() {
    let Some(plugin) = plugin() else { return };
    let place = Place::new();
    bring(&place, "mlp-train");
    place.write("suite.toml", &format!("{HEAD}[[benchmark]]\nname = \"p\"\nprogram = \"models/mlp-train.vhlo\"\n"));
    place.commit("first");
    let mut runs = Vec::new();
    for build in ["one", "two"] {
        std::fs::create_dir(place.file(build)).expect("a folder");
        let library = place.file(build).join("pjrt_cpu.so");
        let mut bytes = std::fs::read(&plugin).expect("a plugin");
        // What follows the last section of a library is no part of it.
        bytes.extend_from_slice(build.as_bytes());
        std::fs::write(&library, &bytes).expect("a copy");
        let hash: String =
            Sha256::digest(&bytes).iter().fold(String::new(), |hash, byte| hash + &format!("{byte:02x}"));
        let ran = with_plugin(&place, &["run", "suite.toml", "--quiet"], &library);
        ran.expect(0);
        let store = SqliteStore::open(&place.file("baselines/regrade.sqlite")).expect("a database");
        let run = store.runs(&RunQuery::default()).expect("runs").remove(0);
        assert!(
            run.toolchain.contains(&format!("xla:cpu: pjrt_cpu.so (SHA-256 {})", &hash[..12])),
            "{}",
            run.toolchain
        );
        let launches = store.launches(run.id, None).expect("launches");
        let evidence = launches[0].evidence.iter().find(|evidence| evidence.source == "xla").expect("the plugin's");
        assert_eq!(evidence.facts["plugin_sha256"], hash);
        runs.push(run);
    }
    // Half a run of each is no run.
    let mut store = SqliteStore::open(&place.file("baselines/regrade.sqlite")).expect("a database");
    store.finish_run(runs[0].id, RunStatus::Interrupted, Timestamp::now()).expect("stored");
    let library = place.file("two").join("pjrt_cpu.so");
    let ran = with_plugin(&place, &["run", "suite.toml", "--quiet", "--resume"], library);
    assert!(ran.stderr.contains("the compiler or an engine changed since"), "{ran:?}");
    store.finish_run(runs[0].id, RunStatus::Complete, Timestamp::now()).expect("stored");
    // They compare, and the report says so.
    assert_eq!(runs[0].testbed, runs[1].testbed);
    let _ = place.run(&["compare", "--base", &runs[0].id.to_string(), "--head", &runs[1].id.to_string()]);
    let report = place.report();
    let notes = report["notes"].as_array().expect("notes").iter().filter_map(Value::as_str);
    let told: Vec<&str> = notes.filter(|note| note.starts_with("the base was measured with")).collect();
    assert_eq!(told.len(), 1, "{report}");
    assert!(runs.iter().all(|run| told[0].contains(&run.toolchain)), "{told:?}");
}

#[test]
fn a_thousand_steps_hold_memory_flat() {
    let Some(plugin) = plugin() else { return };
    let place = Place::new();
    bring(&place, "mlp-train");
    let peak = |time: &str| {
        // A training step: its results are its next arguments, a thousand times over.
        let sampling = format!("min_time = \"{time}\"\nmax_time = \"{time}\"\nmax_warmup = \"20ms\"\n");
        let head = HEAD.split("min_time").next().expect("the head");
        let suite = format!("{head}{sampling}[[benchmark]]\nname = \"p\"\nprogram = \"models/mlp-train.vhlo\"\n");
        place.write("suite.toml", &suite);
        let ran = with_plugin(
            &place,
            &["run", "suite.toml", "--quiet", "--format", "json"],
            format!("cpu={}", plugin.display()),
        );
        let report: Value = serde_json::from_str(&ran.expect(0).stdout).expect("JSON");
        let metrics = report["cases"][0]["metrics"].as_array().expect("metrics").clone();
        let of = |name: &str| metrics.iter().find(|one| one["metric"]["name"] == name).expect("the metric").clone();
        (of("latency")["n"].as_u64().expect("a count"), of("peak_memory")["median"].as_f64().expect("bytes"))
    };
    let (few, few_bytes) = peak("20ms");
    let (many, many_bytes) = peak("60s");
    assert!(few < 100 && many == 1000, "{few}, {many}");
    // A leak of one step's results alone would be 16 MiB a step.
    assert!(many_bytes < 1.15 * few_bytes, "{few_bytes} bytes after {few} samples, {many_bytes} after {many}");
}

#[test]
fn mistakes_in_suites_are_told_where_they_stand() {
    let place = Place::new();
    for (line, words) in [
        ("program = 3", "expected a string"),
        ("program = \"a.vhlo\"\nmodel = \"gpt2\"", "several things"),
        ("program = \"a.vhlo\"\nbatch = 3", "unknown key `batch`"),
        ("program = \"a.vhlo\"\nreplicas = 0", "at least 1"),
    ] {
        place.write("suite.toml", &format!("{HEAD}[[benchmark]]\nname = \"p\"\n{line}\n"));
        let ran = place.run(&["list", "suite.toml"]).expect(2);
        assert!(ran.stderr.contains(words) && ran.stderr.contains("suite.toml:"), "{line}: {}", ran.stderr);
    }
}

#[test]
fn a_program_in_hlo_is_skipped_with_what_runs_it() {
    let place = Place::new();
    let library = place.file("any_cpu.so");
    std::fs::write(&library, "never loaded").expect("a file");
    place.write(
        "suite.toml",
        &format!("{HEAD}[[benchmark]]\nname = \"p\"\n[benchmark.axes]\nprogram = [\"a.hlo.txt\", \"b.hlo.pb\"]\n"),
    );
    let list = |arguments: &[&str]| with_plugin(&place, &[&["list", "suite.toml"], arguments].concat(), &library);
    let listed: Value = serde_json::from_str(&list(&["--format", "json"]).expect(0).stdout).expect("JSON");
    let cases = listed["suites"][0]["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 2);
    for (case, file) in cases.iter().zip(["a.hlo.txt", "b.hlo.pb"]) {
        let skipped = case["skipped"].as_str().expect("skipped");
        assert!(skipped.contains(&format!("`{file}` is HLO")) && skipped.contains("feature `xla-crate`"), "{skipped}");
    }
    // The other engine, which this build does not have.
    let suite = std::fs::read_to_string(place.file("suite.toml")).expect("a suite").replace("xla:cpu", "xla-crate:cpu");
    place.write("suite.toml", &suite);
    let refused = list(&[]).expect(2).stderr;
    assert!(
        refused.contains("unknown backend `xla-crate:cpu`") && refused.contains("feature `xla-crate`"),
        "{refused}"
    );
}
