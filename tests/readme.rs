//! The README is true: every command in it runs, its tables are those of the code, its suite is accepted.

mod support;

use regrade::backend::BACKENDS;
use regrade::exit::Exit;
use regrade::suite::Suite;
use support::Place;

const README: &str = include_str!("../README.md");
const NVIDIA: &str = include_str!("../docs/nvidia.md");

/// The lines of all fenced blocks of a language in the README.
fn blocks(language: &str) -> Vec<String> {
    blocks_of(README, language)
}

fn blocks_of(document: &str, language: &str) -> Vec<String> {
    let open = format!("```{language}\n");
    document.split(&open).skip(1).map(|rest| rest.split("```").next().expect("a closing fence").to_owned()).collect()
}

/// The words of a command line with single quotes, without its comment.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            '#' if !quoted => break,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().expect("one word at least").push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn every_command_runs() {
    let place = Place::new();
    let suites = concat!(env!("CARGO_MANIFEST_DIR"), "/suites");
    for entry in std::fs::read_dir(suites).expect("the suites") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            continue;
        }
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        // In each tree this very binary runs the built-in workloads, instead of one that takes minutes to build.
        let text = std::fs::read_to_string(&path).expect("a text");
        let text = text.replace("\"cargo\", \"build\", \"--release\", \"--locked\"", "\"chmod\", \"+x\", \"worker\"");
        place.write(&format!("suites/{name}"), &text.replace("target/release/regrade", "worker"));
    }
    let prices = std::fs::read_to_string(format!("{suites}/prices/on-demand.toml")).expect("prices");
    place.write("suites/prices/on-demand.toml", &prices);
    place.write("worker", &format!("#!/bin/sh\nexec '{}' \"$@\"\n", env!("CARGO_BIN_EXE_regrade")));
    place.commit("suites");
    place.write("note", "another commit");
    place.commit("another");
    place.write("samples.json", &blocks("json")[0]);
    // What is pushed meets here, as it would on a server.
    let remote = tempfile::TempDir::new().expect("a temporary folder");
    let shown = remote.path().to_str().expect("UTF-8");
    place.git(&["init", "-q", "--bare", shown]);
    place.git(&["remote", "add", "origin", shown]);
    let mut ran = 0;
    for line in blocks("sh").iter().flat_map(|block| block.lines()) {
        let words = words(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut arguments = match words.as_slice() {
            ["regrade", rest @ ..] | ["cargo", "run", "--release", "--", rest @ ..] => rest.to_vec(),
            ["cargo", "test"] | ["cargo", "install", ..] | [] => continue,
            other => panic!("README.md: what is `{other:?}`?"),
        };
        let measures = matches!(arguments[0], "run" | "compare") && !arguments.contains(&"latest");
        if measures {
            // One small case in one process: what counts here is that the command is what the README says.
            arguments.extend(["--filter", "gemm/m=256*", "--launches", "1"]);
            if words.iter().any(|word| word.contains("..") || *word == "--all-pairs") {
                arguments.extend(["--max-pairs", "6"]);
            }
        }
        if arguments[0] == "calibrate" {
            arguments.extend(["--filter", "gemm/m=256*", "--pairs", "6", "--no-proof"]);
        }
        let allowed: &[i32] = match arguments[0] {
            "doctor" => &[0, 6],
            "compare" => &[0, 1, 5],
            // This machine may be too noisy for the thresholds.
            "calibrate" => &[0, 2],
            // Nothing changed between the two commits.
            "bisect" => &[3],
            _ => &[0],
        };
        if arguments[..2.min(arguments.len())] == ["baseline", "merge"] {
            std::fs::copy(place.file("baselines/regrade.sqlite"), place.file(arguments[2])).expect("another database");
        }
        let result = place.run(&arguments);
        assert!(allowed.contains(&result.code), "{line}: {}\n{}\n{}", result.code, result.stdout, result.stderr);
        ran += 1;
    }
    assert!(ran > 12, "only {ran} commands were found");
    // The runs really went there.
    let told = place.git_says(&["ls-remote", "--heads", "origin"]);
    assert!(told.ends_with("refs/heads/regrade-baselines"), "{told}");
    assert!(place.file("shared/regrade-baselines.sqlite").is_file());
}

#[test]
fn the_exit_codes_are_those_of_the_code() {
    for exit in Exit::ALL {
        let row = format!("| {} | {} |", exit.code(), exit.meaning());
        assert!(README.contains(&row), "README.md lacks `{row}`");
    }
}

#[test]
fn the_suites_shown_are_accepted() {
    let names: Vec<&str> = BACKENDS.iter().map(|backend| backend.name()).collect();
    let other = |text: &String| text.contains("[[waiver]]") || text.contains("[[price]]");
    let blocks: Vec<String> = blocks("toml").into_iter().filter(|text| !other(text)).collect();
    let cases: Vec<usize> =
        blocks.iter().map(|text| Suite::parse("README.md", text, &names).expect("a valid suite").cases.len()).collect();
    let wanted = [2, 1, 2 * 3 + 2 * 2 + 2, 2 + 2, 3 + 1];
    assert_eq!(cases, wanted, "two that are built, one of every kind of benchmark, targets, and some over cases");
}

#[test]
fn the_suites_for_gpus_are_accepted_and_their_files_are_there() {
    let names: Vec<&str> = BACKENDS.iter().map(|backend| backend.name()).collect();
    let shown = blocks_of(NVIDIA, "toml");
    assert_eq!(
        shown.iter().map(|text| Suite::parse("nvidia.md", text, &names).expect("valid").cases.len()).sum::<usize>(),
        3
    );
    for path in [
        "suites/nvidia-kernels.toml",
        "suites/nvidia-collectives.toml",
        "suites/nvidia-roadmap.toml",
        "examples/cuda-kernel/regrade.toml",
    ] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let suite = Suite::load(&path, &names).unwrap_or_else(|error| panic!("{error}"));
        for case in &suite.cases {
            let source = case.workload.kernel.as_ref().map(|kernel| &kernel.code.source);
            if let Some(source) = source {
                assert!(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(source).is_file(), "{source}");
            }
        }
    }
}

#[test]
fn the_prices_shown_are_accepted() {
    let prices = blocks("toml").into_iter().find(|text| text.contains("[[price]]")).expect("prices are shown");
    let place = Place::new();
    place.write("prices.toml", &prices);
    place.write(
        "suite.toml",
        "schema_version = 1\nname = \"x\"\nprices = \"prices.toml\"\n[[benchmark]]\nname = \"x\"\noperator = \"gemm\"\n\
         targets = [\"cost_per_pflop <= 0.005 USD\"]\n",
    );
    let suite = Suite::load(&place.file("suite.toml"), &["cpu"]).expect("a valid table");
    assert_eq!(suite.prices[0].device, "NVIDIA H100 80GB HBM3");
}

#[test]
fn the_waiver_shown_is_accepted() {
    let text = blocks("toml").into_iter().find(|text| text.contains("[[waiver]]")).expect("a waiver is shown");
    let waivers = regrade::suite::waivers::parse("README.md", &text).expect("a valid waiver");
    assert_eq!((waivers.len(), waivers[0].change), (1, 0.08));
}
