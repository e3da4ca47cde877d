//! Keeps the architecture true: who may import whom, where third-party crates may be named, how files begin, and
//! that paths named in the documents exist. Reads source text only; a scanner of twenty lines is enough because grouped
//! `crate` imports and `super::super` are banned.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Top-level module → the top-level modules it may name beside itself. The order is DESIGN's layers, from the top.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("main", &["*"]),
    ("lib", &["*"]),
    ("command", &["*"]),
    (
        "cli",
        &[
            "runner", "backend", "store", "github", "render", "import", "measure", "suite", "verdict", "report",
            "protocol", "stats", "hardware", "domain", "exit",
        ],
    ),
    (
        "runner",
        &["backend", "store", "measure", "suite", "verdict", "report", "protocol", "stats", "hardware", "domain"],
    ),
    ("backend", PORTS),
    ("store", PORTS),
    ("render", PORTS),
    ("import", PORTS),
    ("github", PORTS),
    ("measure", BASE),
    ("suite", BASE),
    ("verdict", &["stats", "hardware", "domain", "exit"]),
    ("report", &["stats", "hardware", "domain", "verdict"]),
    ("protocol", BASE),
    ("stats", &[]),
    ("hardware", &["domain"]),
    ("domain", &[]),
    ("exit", &[]),
];
const PORTS: &[&str] = &["measure", "suite", "verdict", "report", "protocol", "stats", "hardware", "domain"];
const BASE: &[&str] = &["stats", "hardware", "domain"];

/// Modules below a port that belong to the port itself: every adapter may name them.
const SHARED: &[(&str, &str)] = &[("backend", "plain"), ("backend", "program")];

/// Adapters of a port, which must not name each other; `*` is every module below the port.
const ADAPTERS: &[(&str, &[&str])] = &[
    ("backend", &["*"]),
    ("store", &["sqlite"]),
    ("render", &["terminal", "markdown", "json", "junit", "html", "svg", "png"]),
    ("import", &["*"]),
];

/// Third-party crate → the places (prefixes of paths below `src/`) that may name it.
const CRATES: &[(&str, &[&str])] = &[
    ("rusqlite", &["store/"]),
    ("plotters", &["render/"]),
    ("octocrab", &["github/"]),
    ("cudarc", &["backend/nvidia", "hardware/"]),
    ("nvml_wrapper", &["hardware/"]),
    ("candle_core", &["backend/cpu"]),
    ("candle_nn", &["backend/cpu"]),
    ("clap", &["cli.rs"]),
    ("clap_complete", &["cli.rs"]),
    ("anyhow", &["command/", "main.rs"]),
    ("annotate_snippets", &["suite/"]),
    ("toml", &["suite/"]),
    ("csv", &["command/judge/"]),
    ("xla_rs", &["backend/xla_crate"]),
];

/// Documents whose paths are checked, and the folders that make a word in backticks a path of the repository.
const DOCUMENTS: &[&str] = &[
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "docs/github.md",
    "docs/nvidia.md",
    "docs/xla.md",
    "reports/README.md",
    "reports/performance.md",
    "reports/verdict-quality.md",
    "reports/end-to-end.md",
    "reports/change-points.md",
    "reports/example/report.md",
    "reports/hardware/h100/doctor.md",
];
const FOLDERS: &[&str] = &[
    "src/",
    "suites/",
    "clients/",
    "tests/",
    "benches/",
    "examples/",
    "docs/",
    ".github/",
    ".ci/",
    "reports/",
    "baselines/",
];

#[test]
fn sources_keep_the_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut problems = Vec::new();
    let files = rust_files(&root.join("src"));
    assert!(files.len() > 20, "the scan found only {} files", files.len());
    for path in files {
        let name = path.strip_prefix(root.join("src")).expect("it was found there");
        let name = name.to_str().expect("source names are ASCII").replace('\\', "/");
        let text = std::fs::read_to_string(&path).expect("a source file can be read");
        problems.extend(violations(&name, &text));
    }
    assert!(problems.is_empty(), "{}", list(&problems));
}

/// The feature `xla-crate` is type-checked and never linked here, so this cannot be a test of its own module.
#[test]
fn the_optional_engine_is_named_with_its_locked_version() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = |name: &str| std::fs::read_to_string(root.join(name)).expect("a file of the repository");
    let locked = text("Cargo.lock").split("name = \"xla\"\nversion = \"").nth(1).map(|rest| {
        let (version, _) = rest.split_once('"').expect("a quoted version");
        format!("\"xla {version}\"")
    });
    let locked = locked.expect("the crate `xla` is in Cargo.lock");
    assert!(text("src/backend/xla_crate.rs").contains(&locked), "ENGINE is not {locked}");
}

#[test]
fn paths_in_documents_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut problems = Vec::new();
    for document in DOCUMENTS {
        // Absent while the project is young.
        let Ok(text) = std::fs::read_to_string(root.join(document)) else {
            continue;
        };
        for path in paths_in(&text) {
            if !root.join(&path).exists() {
                problems.push(format!("{document} names `{path}`, which does not exist"));
            }
        }
        let folder = Path::new(document).parent().expect("a document lies in a folder");
        for link in links_in(&text) {
            if !root.join(folder).join(&link).exists() {
                problems.push(format!("{document} links `{link}`, which does not exist"));
            }
        }
    }
    assert!(problems.is_empty(), "{}", list(&problems));
}

#[test]
fn planted_violations_are_found() {
    let planted = [
        ("stats/mod.rs", "//! x\nuse crate::domain::Metric;", "`stats` must not import `domain`"),
        ("domain/run.rs", "//! x\nfn f() { crate::stats::median() }", "`domain` must not import `stats`"),
        ("suite/mod.rs", "//! x\nuse crate::verdict;", "`suite` must not import `verdict`"),
        ("report.rs", "//! x\nuse super::runner::run;", "`report` must not import `runner`"),
        ("runner/mod.rs", "//! x\nuse crate::render::find;", "`runner` must not import `render`"),
        ("runner/mod.rs", "//! x\nuse crate::novelty::X;", "`novelty` is in no layer"),
        ("novelty/mod.rs", "//! x\n", "`novelty` is in no layer"),
        ("store/a.rs", "//! x\nuse crate::{domain, stats};", "grouped"),
        ("store/a.rs", "//! x\nuse crate::*;", "grouped"),
        ("store/a/b.rs", "//! x\nuse super::super::find;", "`super::super`"),
        (
            "backend/cpu/model/a.rs",
            "//! x\nuse crate::backend::nvidia::Nvidia;",
            "adapter `cpu` must not name adapter `nvidia`",
        ),
        (
            "backend/program.rs",
            "//! x\nuse crate::backend::xla::Xla;",
            "adapter `the port` must not name adapter `xla`",
        ),
        (
            "backend/xla_crate.rs",
            "//! x\nuse crate::backend::xla::Xla;",
            "adapter `xla_crate` must not name adapter `xla`",
        ),
        ("backend/xla/mod.rs", "//! x\nuse xla_rs::PjRtClient;", "`xla_rs` may be named in"),
        ("backend/cpu/mod.rs", "//! x\nuse super::nvidia::Nvidia;", "adapter `cpu` must not name adapter `nvidia`"),
        ("render/svg.rs", "//! x\nuse crate::render::markdown::page;", "adapter `svg`"),
        ("verdict/mod.rs", "//! x\nuse rusqlite::Connection;", "`rusqlite` may be named in"),
        ("runner/mod.rs", "//! x\nfn f() -> anyhow::Result<()> {}", "`anyhow` may be named in"),
        ("exit.rs", "// x\n", "does not open with `//!`"),
    ];
    for (name, text, expected) in planted {
        let found = violations(name, text);
        assert!(found.iter().any(|problem| problem.contains(expected)), "{name}: {text}\n{}", list(&found));
    }
}

#[test]
fn innocent_text_is_let_through() {
    let innocent = [
        ("stats/mod.rs", "//! Used by [`crate::verdict`].\n/// See crate::store.\nuse std::f64; // crate::render"),
        ("backend/mod.rs", "//! x\npub mod cpu;\nuse crate::measure::Subject;\nfn f() { crate::backend::cpu::x() }"),
        (
            "backend/cpu/model/mod.rs",
            "//! x\nuse crate::backend::cpu::y;\nuse crate::backend::Backend;\nuse super::cpu;",
        ),
        ("backend/xla/running.rs", "//! x\nuse crate::backend::program::Program;"),
        ("suite/a.rs", "//! x\nuse toml::Value;\nlet my_toml::x = tomlish::y;\nuse crate::domain::{Case, Plan};"),
        ("command/run.rs", "//! x\nuse crate::runner::run;\nuse anyhow::Context;"),
        ("store/mod.rs", "//! x\nmod tests { use super::*; }"),
    ];
    for (name, text) in innocent {
        assert_eq!(violations(name, text), [] as [String; 0], "{name}");
    }
}

#[test]
fn paths_are_picked_out_of_documents() {
    let text = "`src/cli.rs` and `tests/structure.rs`, `cargo test`, `and/or`, `suites/*.toml`, `src/{a,b}.rs`,\n\
                `reports/latest/`, `src/x.rs:12`, `benches/peers/run <model>`\n```\nsrc/not/in/backticks\n```\n`src/lib.rs`";
    assert_eq!(links_in("[a](b/c.md), ![d](e.svg), [f](https://x.y), [g](#h)"), ["b/c.md", "e.svg"]);
    assert_eq!(paths_in(text), ["src/cli.rs", "tests/structure.rs", "src/x.rs", "src/lib.rs"]);
}

/// Targets of Markdown links that are files of the repository.
fn links_in(text: &str) -> Vec<String> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://") && !target.starts_with('#')).map(str::to_owned).collect()
}

/// Everything that is wrong with one file; `name` is its path below `src/`.
fn violations(name: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut complain = |line: usize, what: String| problems.push(format!("src/{name}:{line}: {what}"));
    if !text.starts_with("//!") {
        complain(1, "does not open with `//!`, saying what the file is for and what it must not know".to_owned());
    }
    let parts: Vec<&str> = name.trim_end_matches(".rs").split('/').collect();
    let own = parts[0];
    let Some(allowed) = layer(own) else {
        complain(1, format!("`{own}` is in no layer: add it to MAY_IMPORT in tests/structure.rs and to DESIGN"));
        return problems;
    };
    // `src/x.rs` and `src/x/mod.rs` are the module `x` itself: there, `super` is the crate.
    let is_top = parts.len() == 1 || parts[1..] == ["mod"];
    let adapter = adapter_of(&parts);
    for (index, line) in text.lines().enumerate() {
        let line = line.split("//").next().unwrap_or_default();
        let number = index + 1;
        if line.contains("super::super") {
            complain(number, "`super::super` hides where a name comes from: write the path from `crate`".to_owned());
        }
        for path in paths_after(line, "crate::") {
            match path.first() {
                None => complain(number, "grouped or glob import of `crate`: one `use` a module".to_owned()),
                Some(module) => {
                    if layer(module).is_none() {
                        complain(number, format!("`{module}` is in no layer (MAY_IMPORT in tests/structure.rs)"));
                    } else if module != own && !allowed.contains(&"*") && !allowed.contains(&module.as_str()) {
                        complain(number, format!("`{own}` must not import `{module}`"));
                    }
                    if module == own {
                        complain_of_adapter(own, adapter, path.get(1), number, &mut complain);
                    }
                }
            }
        }
        for path in paths_after(line, "super::") {
            let Some(module) = path.first() else { continue };
            if is_top && layer(module).is_some() && module != own && !allowed.contains(&module.as_str()) {
                complain(number, format!("`{own}` must not import `{module}`"));
            }
            let adapter_top = parts.len() == 2 || parts.get(2) == Some(&"mod");
            if adapter_top && !is_top && is_module(own, module) {
                complain_of_adapter(own, adapter, Some(module), number, &mut complain);
            }
        }
        for (crate_name, places) in CRATES {
            let named = words_before(line, "::").any(|word| word == *crate_name)
                || line
                    .trim_start()
                    .strip_prefix("use ")
                    .is_some_and(|rest| rest.trim_end() == format!("{crate_name};"));
            if named && !places.iter().any(|place| name.starts_with(place)) {
                complain(number, format!("`{crate_name}` may be named in {} only", places.join(", ")));
            }
        }
    }
    problems
}

fn complain_of_adapter(
    port: &str,
    adapter: Option<(&str, &[&str])>,
    named: Option<&String>,
    line: usize,
    complain: &mut impl FnMut(usize, String),
) {
    let (Some((own, all)), Some(named)) = (adapter, named) else {
        return;
    };
    let is_adapter =
        all.contains(&named.as_str()) || (all == ["*"] && is_module(port, named) && !is_shared(port, named));
    if named != own && is_adapter {
        complain(line, format!("adapter `{own}` must not name adapter `{named}`"));
    }
}

/// The adapter that a file belongs to, with all adapters of its port.
fn adapter_of<'a>(parts: &[&'a str]) -> Option<(&'a str, &'static [&'static str])> {
    let (_, all) = ADAPTERS.iter().find(|(port, _)| *port == parts[0])?;
    let file = parts.get(1).copied().filter(|name| *name != "mod")?;
    // What belongs to the port names no adapter: to it all of them are others.
    let own = if is_shared(parts[0], file) { "the port" } else { file };
    (all.contains(&"*") || all.contains(&own)).then_some((own, *all))
}

fn is_shared(port: &str, module: &str) -> bool {
    SHARED.contains(&(port, module))
}

/// Whether the port has a module of this name.
fn is_module(port: &str, name: &str) -> bool {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(port);
    folder.join(name).is_dir() || folder.join(format!("{name}.rs")).is_file()
}

fn layer(module: &str) -> Option<&'static [&'static str]> {
    MAY_IMPORT.iter().find(|(name, _)| *name == module).map(|(_, allowed)| *allowed)
}

/// The names that follow each whole-word `root` in a line; no name at all before `{` or `*`.
fn paths_after(line: &str, root: &str) -> Vec<Vec<String>> {
    let starts = line.match_indices(root).map(|(at, _)| at);
    let whole = starts.filter(|at| !line[..*at].ends_with(|c: char| is_word(c) || c == '$' || c == ':'));
    whole
        .map(|at| {
            line[at + root.len()..]
                .split("::")
                .map(|part| (part, part.chars().take_while(|c| is_word(*c)).collect::<String>()))
                .scan(true, |go_on, (part, word)| {
                    let kept = *go_on && !word.is_empty();
                    *go_on = word.len() == part.len();
                    kept.then_some(word)
                })
                .collect()
        })
        .collect()
}

/// The words that stand directly before each `end`, unless they are part of a longer path.
fn words_before<'a>(line: &'a str, end: &'a str) -> impl Iterator<Item = &'a str> {
    line.match_indices(end).filter_map(|(at, _)| {
        let before = &line[..at];
        let start = before.rfind(|c: char| !is_word(c)).map_or(0, |last| last + 1);
        (!before[..start].ends_with("::")).then_some(&before[start..])
    })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Paths of the repository in backticks; patterns, commands and what is made at run time are left out.
fn paths_in(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with("```")) {
        for word in line.split('`').skip(1).step_by(2) {
            let made_at_run_time = word.starts_with("reports/latest") || word.starts_with("baselines/");
            let pattern = word.contains(|c: char| "*?{}<>…$ ".contains(c));
            if FOLDERS.iter().any(|folder| word.starts_with(folder)) && !pattern && !made_at_run_time {
                found.push(word.split(':').next().unwrap_or(word).to_owned());
            }
        }
    }
    found
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a source folder can be listed") {
        let path = entry.expect("and its entries read").path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn list(problems: &[String]) -> String {
    problems.iter().fold(String::new(), |mut text, problem| {
        let _ = writeln!(text, "{problem}");
        text
    })
}
