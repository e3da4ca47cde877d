//! `regrade init` in repositories of several kinds: what it writes loads and lints, what is there stays, twice is once.

mod support;

use support::{Place, Ran};

const SUITE: &str = "suites/mine.toml";
const WORKFLOWS: [&str; 2] = [".github/workflows/regrade.yml", ".github/workflows/regrade-post.yml"];

fn read(place: &Place, name: &str) -> String {
    std::fs::read_to_string(place.file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn init(place: &Place, more: &[&str]) -> Ran {
    let arguments: Vec<&str> = ["init", "--name", "mine"].iter().chain(more).copied().collect();
    place.run(&arguments)
}

/// What became of each file, by `--format json`.
fn outcomes(ran: &Ran) -> Vec<(String, String)> {
    let done: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let text = |value: &serde_json::Value| value.as_str().expect("a string").to_owned();
    done["files"].as_array().expect("files").iter().map(|file| (text(&file["file"]), text(&file["outcome"]))).collect()
}

fn rust_project(place: &Place) {
    place.write("Cargo.toml", "[package]\nname = \"tool\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[workspace]\n");
    place.write("src/main.rs", "fn main() { println!(\"hello\"); }\n");
}

#[test]
fn a_cargo_project_gets_a_suite_that_builds_and_measures_it() {
    let place = Place::new();
    rust_project(&place);
    init(&place, &[]).expect(0);
    let suite = read(&place, SUITE);
    assert!(suite.contains(r#"command = ["cargo", "build", "--release"]"#), "{suite}");
    assert!(suite.contains(r#"command = ["target/release/tool", "--help"]"#), "{suite}");
    let listed = place.run(&["list", SUITE]).expect(0);
    assert!(listed.stdout.contains("tool"), "{}", listed.stdout);
    for name in WORKFLOWS {
        let text = read(&place, name);
        assert!(text.contains("permissions: {}"), "{text}");
        let version = env!("CARGO_PKG_VERSION");
        assert!(text.contains(&format!("VERSION: \"{version}\"")), "{text}");
    }
    assert!(read(&place, WORKFLOWS[0]).contains(r#"branches: ["main"]"#));
    let ignored = read(&place, ".gitignore");
    assert!(ignored.contains("/baselines/\n") && ignored.contains("/reports/\n"), "{ignored}");
}

#[test]
fn every_kind_of_project_gets_a_suite_that_loads() {
    let kinds: [(&[(&str, &str)], &str); 6] = [
        (&[("Cargo.toml", "[package]\nname = \"lib\"\n"), ("src/lib.rs", ""), ("Cargo.lock", "")], "\"--locked\""),
        (&[("pyproject.toml", ""), ("benchmarks/bench_it.py", "print(1)\n")], "benchmarks/bench_it.py"),
        (&[("pyproject.toml", ""), ("src/pkg/__init__.py", "")], "PYTHONPATH = \"src\""),
        (&[("setup.py", ""), ("pkg/__init__.py", "")], "import pkg"),
        (&[("requirements.txt", "")], "replace-me"),
        (&[("Makefile", "all:\n")], "replace-me"),
    ];
    for (files, expected) in kinds {
        let place = Place::new();
        for (name, text) in files {
            place.write(name, text);
        }
        let ran = init(&place, &[]).expect(0);
        let suite = read(&place, SUITE);
        assert!(suite.contains(expected), "{}{suite}", ran.stdout);
        place.run(&["list", SUITE]).expect(0);
    }
}

#[test]
fn what_it_suggests_for_python_runs_as_it_stands() {
    let place = Place::new();
    place.write("pyproject.toml", "");
    place.write("src/pkg/__init__.py", "");
    init(&place, &[]).expect(0);
    place.run(&["run", SUITE, "--launches", "2"]).expect(0);
}

#[test]
fn twice_is_once_and_what_is_there_stays() {
    let place = Place::new();
    rust_project(&place);
    let first = outcomes(&init(&place, &["--format", "json"]).expect(0));
    assert!(first.iter().all(|(_, outcome)| outcome == "written"), "{first:?}");
    let second = outcomes(&init(&place, &["--format", "json"]).expect(0));
    assert!(second.iter().all(|(_, outcome)| outcome == "unchanged"), "{second:?}");

    place.write(SUITE, "mine");
    let kept = outcomes(&init(&place, &["--format", "json"]).expect(0));
    assert_eq!(kept[0], (SUITE.to_owned(), "kept".to_owned()));
    assert_eq!(read(&place, SUITE), "mine");
    let forced = outcomes(&init(&place, &["--force", "--format", "json"]).expect(0));
    assert_eq!(forced[0], (SUITE.to_owned(), "overwritten".to_owned()));
    assert_ne!(read(&place, SUITE), "mine");
}

#[test]
fn lines_are_added_to_what_git_ignores_already() {
    let place = Place::new();
    place.write(".gitignore", "target\nreports/");
    init(&place, &[]).expect(0);
    assert_eq!(read(&place, ".gitignore"), "target\nreports/\n# Databases and reports of regrade\n/baselines/\n");
}

#[test]
fn a_dry_run_writes_nothing() {
    let place = Place::new();
    rust_project(&place);
    let before = place.git_says(&["status", "--porcelain", "--untracked-files=all"]);
    let ran = init(&place, &["--dry-run"]).expect(0);
    assert!(ran.stdout.contains("Nothing was written"), "{}", ran.stdout);
    assert_eq!(place.git_says(&["status", "--porcelain", "--untracked-files=all"]), before);
}

#[test]
fn a_gpu_brings_a_lane_that_forks_do_not_enter() {
    let place = Place::new();
    init(&place, &["--gpu"]).expect(0);
    let lane = read(&place, ".github/workflows/regrade-gpu.yml");
    assert!(lane.contains("github.event.pull_request.head.repo.full_name == github.repository"), "{lane}");
    assert!(read(&place, WORKFLOWS[1]).contains("workflows: [regrade, regrade GPU]"));
}

#[test]
fn a_branch_with_characters_of_patterns_is_meant_by_its_name() {
    let place = Place::new();
    place.git(&["checkout", "-q", "-b", "c++"]);
    place.git(&["branch", "-q", "-D", "main"]);
    let ran = init(&place, &[]).expect(0);
    assert!(ran.stdout.contains("default branch `c++`"), "{}", ran.stdout);
    assert!(read(&place, WORKFLOWS[0]).contains(r#"branches: ["c\\+\\+"]"#));
    assert!(!ran.stdout.contains("was assumed"), "{}", ran.stdout);
    // No branch at all.
    place.git(&["checkout", "-q", "--detach"]);
    place.git(&["branch", "-q", "-D", "c++"]);
    let ran = init(&place, &["--force"]).expect(0);
    assert!(ran.stdout.contains("no default branch was found, `main` was assumed"), "{}", ran.stdout);
    assert!(read(&place, WORKFLOWS[0]).contains(r#"branches: ["main"]"#));
}

#[test]
fn somebody_s_own_workflow_stays_and_it_is_said_that_the_poster_does_not_hear_of_it() {
    for (name, heard) in [
        ("name: benchmarks # ours\n", false),
        ("", false),
        ("name: regrade\n", true),
        ("name: 'regrade' # x\n", true),
        ("name: \"regrade\"\n", true),
        ("name: regrade # x\n", true),
    ] {
        let place = Place::new();
        place.write(WORKFLOWS[0], &format!("# mine\n{name}on: push\n"));
        let ran = init(&place, &[]).expect(0);
        assert_eq!(!ran.stdout.contains("regrade-post.yml will not hear of it"), heard, "{name}{}", ran.stdout);
        assert!(read(&place, WORKFLOWS[0]).starts_with("# mine\n"));
    }
}

#[test]
fn links_that_lead_out_of_the_repository_are_refused_before_anything_is_written() {
    let outside = tempfile::TempDir::new().expect("a temporary folder");
    let link = |place: &Place, name: &str, target: &std::path::Path| {
        let path = place.file(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::os::unix::fs::symlink(target, path).expect("a link");
    };
    for name in [".github", ".github/workflows", "suites", ".gitignore"] {
        let place = Place::new();
        link(&place, name, if name == ".gitignore" { std::path::Path::new("/nowhere/at/all") } else { outside.path() });
        let ran = init(&place, &["--force"]).expect(2);
        assert!(ran.stderr.contains("leads out of the repository"), "{}", ran.stderr);
        assert!(!place.file(SUITE).exists() && !place.file(WORKFLOWS[0]).exists());
        assert_eq!(std::fs::read_dir(outside.path()).expect("a folder").count(), 0);
    }
    // One that stays within is nobody's business.
    let place = Place::new();
    std::fs::create_dir(place.file("ci")).expect("a folder");
    link(&place, ".github", std::path::Path::new("ci"));
    init(&place, &[]).expect(0);
    assert!(place.file("ci/workflows/regrade.yml").is_file());
}

#[test]
fn it_works_from_a_folder_below_and_only_in_a_repository() {
    let place = Place::new();
    rust_project(&place);
    let below = place.command(&["init", "--name", "mine"]).current_dir(place.file("src")).output().expect("it starts");
    assert!(below.status.success(), "{below:?}");
    assert!(place.file(SUITE).exists());

    let outside = tempfile::TempDir::new().expect("a temporary folder");
    let ran: Ran = place.command(&["init"]).current_dir(outside.path()).output().expect("it starts").into();
    let ran = ran.expect(2);
    assert!(ran.stderr.contains("git init"), "{}", ran.stderr);
}

#[test]
fn odd_names_are_refused_before_anything_is_written() {
    let place = Place::new();
    let ran = place.run(&["init", "--name", "../x"]).expect(2);
    assert!(ran.stderr.contains("letters, digits"), "{}", ran.stderr);
    assert_eq!(place.git_says(&["status", "--porcelain"]), "");
}
