//! Templates hold no mark that nothing fills in, and projects are taken for what they are.

use std::path::Path;

use tempfile::TempDir;

use super::*;

fn folder(files: &[(&str, &str)]) -> TempDir {
    let dir = TempDir::new().expect("a temporary folder");
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }
    dir
}

#[test]
fn every_mark_is_filled_in() {
    for gpu in [false, true] {
        for template in [WORKFLOW, POST, GPU] {
            let text = workflow(template, "suites/x.toml", "main", gpu);
            let marks: Vec<&str> = text.split('@').skip(1).step_by(2).filter(|part| is_mark(part)).collect();
            assert_eq!(marks, [] as [&str; 0], "{text}");
        }
    }
    let text = suite_text("x", "suites/x.toml", &Project::Other);
    assert!(!text.split('@').skip(1).any(is_mark), "{text}");
}

fn is_mark(part: &str) -> bool {
    !part.is_empty() && part.chars().all(|c| c.is_ascii_uppercase())
}

#[test]
fn projects_are_taken_for_what_they_are() {
    let manifest = "[package]\nname = \"tool\"\nversion = \"1.0.0\"\n";
    let cases: [(&[(&str, &str)], &str); 10] = [
        (&[("Cargo.toml", manifest), ("src/main.rs", "")], "a Cargo project with the program `tool`"),
        (
            &[("Cargo.toml", &format!("{manifest}\n[[bin]]\nname = \"other\"\n")), ("src/main.rs", "")],
            "a Cargo project with the program `other`",
        ),
        (&[("Cargo.toml", manifest), ("src/lib.rs", "")], "a Cargo project without a program"),
        (&[("Cargo.toml", manifest), ("examples/show.rs", "")], "a Cargo project with the program `show`"),
        (
            &[("Cargo.toml", "[workspace]\n"), ("crates/a/Cargo.toml", manifest), ("crates/a/src/main.rs", "")],
            "a Cargo project with the program `tool`",
        ),
        (
            &[("pyproject.toml", ""), ("benchmarks/bench_x.py", "")],
            "a Python project with the script `benchmarks/bench_x.py`",
        ),
        (&[("pyproject.toml", ""), ("src/pkg/__init__.py", "")], "a Python project with the package `pkg`"),
        (&[("requirements.txt", ""), ("app.py", "")], "a Python project with the package `app`"),
        (&[("pyproject.toml", "")], "a Python project without a package or a benchmark script"),
        (&[("README", "")], "neither a Cargo nor a Python project"),
    ];
    for (files, words) in cases {
        assert_eq!(Project::detect(folder(files).path()).words(), words);
    }
}

#[test]
fn a_folder_s_name_becomes_a_suite_s() {
    for (folder, name) in [("/a/my repo", "my-repo"), ("/a/x.y", "x-y"), ("/a/…", "bench"), ("/", "bench")] {
        assert_eq!(folder_name(Path::new(folder)), name);
    }
}

#[test]
fn a_branch_becomes_a_filter_of_its_own_name_alone() {
    for (branch, text) in [
        ("main", "main"),
        ("release/1.x", "release/1.x"),
        ("c++", r"c\\+\\+"),
        ("!a!", r"\\!a!"),
        ("say\"so'", "say\\\"so'"),
    ] {
        assert_eq!(filter(branch), text);
    }
}
