//! What kind of project a folder holds, and what of it is worth a first measurement.
//!
//! Reads names and a few lines of manifests only. Guesses must be harmless: whatever is suggested runs as it stands.

use std::path::{Path, PathBuf};

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub enum Project {
    /// A Cargo package or workspace with a program.
    Program {
        /// Its name.
        name: String,
        /// What builds it, beyond `cargo build --release`.
        flags: Vec<String>,
        /// Where it lies in the tree, once built.
        path: String,
    },
    /// A Cargo package or workspace without one.
    Library {
        /// Whether a lock file pins the dependencies.
        locked: bool,
    },
    /// A Python script that looks like a benchmark.
    Script {
        /// Its path.
        path: String,
    },
    /// A Python package.
    Package {
        /// What it is imported as.
        name: String,
        /// The folder to import it from, where that is not the top.
        root: Option<String>,
    },
    /// Python, with nothing to import or to run.
    Python,
    /// Something else.
    Other,
}

impl Project {
    /// Looks at a folder.
    pub fn detect(top: &Path) -> Self {
        if top.join("Cargo.toml").is_file() {
            return cargo(top);
        }
        let python = ["pyproject.toml", "setup.py", "setup.cfg", "requirements.txt"];
        if python.iter().any(|name| top.join(name).is_file()) || !scripts(top).is_empty() {
            return self::python(top);
        }
        Self::Other
    }

    /// In words.
    pub fn words(&self) -> String {
        match self {
            Self::Program { name, .. } => format!("a Cargo project with the program `{name}`"),
            Self::Library { .. } => "a Cargo project without a program".to_owned(),
            Self::Script { path } => format!("a Python project with the script `{path}`"),
            Self::Package { name, .. } => format!("a Python project with the package `{name}`"),
            Self::Python => "a Python project without a package or a benchmark script".to_owned(),
            Self::Other => "neither a Cargo nor a Python project".to_owned(),
        }
    }

    /// The suite's description.
    pub const fn description(&self) -> &'static str {
        match self {
            Self::Program { .. } => "what the program of this repository does",
            Self::Library { .. } => "how long the tests of this repository take",
            Self::Script { .. } => "what the benchmark script of this repository does",
            Self::Package { .. } => "how long the package of this repository takes to import",
            Self::Python | Self::Other => "a first case to replace",
        }
    }

    /// The `[build]` table; each tree is built with it.
    pub fn build(&self) -> String {
        let command = match self {
            Self::Program { flags, .. } => {
                let mut words = vec!["cargo".to_owned(), "build".to_owned(), "--release".to_owned()];
                words.extend(flags.iter().cloned());
                words
            }
            Self::Library { locked } => {
                let words = ["cargo", "test", "--release", "--no-run"].into_iter().chain(locked.then_some("--locked"));
                words.map(str::to_owned).collect()
            }
            _ => return String::new(),
        };
        format!(
            "# Both commits are checked out and built with this; a commit that does not build is said so.\n\
             [build]\ncommand = {}\ntimeout = \"30m\"\n\n",
            list(&command)
        )
    }

    /// The first `[[benchmark]]`.
    pub fn benchmark(&self) -> String {
        let words = |words: &[&str]| list(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        match self {
            Self::Program { name, path, .. } => format!(
                "# The cheapest thing it does. Give it the work that people wait for.\n[[benchmark]]\nname = {}\ncommand = {}\n",
                quoted(&plain(name)),
                words(&[path, "--help"])
            ),
            Self::Library { locked } => {
                let mut command = vec!["cargo", "test", "--release", "--quiet"];
                command.extend(locked.then_some("--locked"));
                format!(
                    "# Real work, but not what matters: put a program here that calls the library as its users do.\n\
                     [[benchmark]]\nname = \"tests\"\ncommand = {}\n",
                    words(&command)
                )
            }
            Self::Script { path } => {
                let name = Path::new(path).file_stem().unwrap_or_default().to_string_lossy().into_owned();
                format!("[[benchmark]]\nname = {}\ncommand = {}\n", quoted(&plain(&name)), words(&["python3", path]))
            }
            Self::Package { name, root } => {
                let environment = root
                    .as_ref()
                    .map(|root| format!("env = {{ PYTHONPATH = {} }}\n", quoted(root)))
                    .unwrap_or_default();
                format!(
                    "# What everybody who uses it waits for first. Put a script here that does what your users do.\n\
                     [[benchmark]]\nname = \"import\"\ncommand = {}\n{environment}",
                    words(&["python3", "-c", &format!("import {name}")])
                )
            }
            Self::Python | Self::Other => "# Not yours yet: put the command here that does what your users do.\n\
                            [[benchmark]]\nname = \"replace-me\"\ncommand = [\"git\", \"log\", \"--oneline\"]\n"
                .to_owned(),
        }
    }

    /// What a person should change, if anything.
    pub const fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Script { .. } => None,
            Self::Program { .. } => Some("replace `--help` by work that your users wait for"),
            Self::Library { .. } | Self::Package { .. } | Self::Python | Self::Other => {
                Some("put a command there that does what your users do")
            }
        }
    }
}

fn cargo(top: &Path) -> Project {
    let locked = top.join("Cargo.lock").is_file();
    let flags = |more: &[&str]| {
        more.iter().copied().chain(locked.then_some("--locked")).map(str::to_owned).collect::<Vec<String>>()
    };
    // The top package first, then members in the order of their names.
    for package in std::iter::once(top.to_owned()).chain(members(top)) {
        let Some(name) = package_name(&package) else { continue };
        let first_of = |folder: &str| scripts_in(&package.join(folder), "rs").into_iter().next();
        if package.join("src/main.rs").is_file() {
            let program = declared_program(&package).unwrap_or_else(|| name.clone());
            return Project::Program { path: format!("target/release/{program}"), name: program, flags: flags(&[]) };
        }
        if let Some(program) = first_of("src/bin") {
            return Project::Program { path: format!("target/release/{program}"), name: program, flags: flags(&[]) };
        }
        if let Some(example) = first_of("examples") {
            let flags = flags(&["--package", &name, "--example", &example]);
            return Project::Program { path: format!("target/release/examples/{example}"), name: example, flags };
        }
    }
    Project::Library { locked }
}

/// Folders of a workspace that hold a manifest, two levels deep.
fn members(top: &Path) -> Vec<PathBuf> {
    let below = |folder: &Path| {
        let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.is_dir() && !path.ends_with("target") && !hidden(path))
            .collect();
        found.sort();
        found
    };
    let first = below(top);
    let all = first.iter().cloned().chain(first.iter().flat_map(|folder| below(folder)));
    all.filter(|folder| folder.join("Cargo.toml").is_file()).collect()
}

fn hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

/// The value of `key` in a table of a manifest, where it is a plain string on a line of its own.
fn value_of(manifest: &Path, table: &str, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(manifest).ok()?;
    let mut lines = text.lines().map(str::trim).skip_while(|line| *line != table).skip(1);
    lines.by_ref().take_while(|line| !line.starts_with('[')).find_map(|line| {
        let (found, value) = line.split_once('=')?;
        let value = value.trim().strip_prefix('"')?.split('"').next()?;
        (found.trim() == key && !value.is_empty()).then(|| value.to_owned())
    })
}

fn package_name(package: &Path) -> Option<String> {
    value_of(&package.join("Cargo.toml"), "[package]", "name")
}

/// The name that a `[[bin]]` table gives the program.
fn declared_program(package: &Path) -> Option<String> {
    value_of(&package.join("Cargo.toml"), "[[bin]]", "name")
}

fn python(top: &Path) -> Project {
    let is_benchmark = |path: &String| {
        let name = path.rsplit('/').next().unwrap_or(path);
        name.starts_with("bench") || name.starts_with("perf")
    };
    if let Some(path) = scripts(top).into_iter().find(is_benchmark) {
        return Project::Script { path };
    }
    for root in ["", "src"] {
        let mut packages: Vec<String> = std::fs::read_dir(top.join(root))
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.path().join("__init__.py").is_file())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| !matches!(name.as_str(), "tests" | "test" | "docs") && is_identifier(name))
            .collect();
        packages.sort();
        if let Some(name) = packages.into_iter().next() {
            return Project::Package { name, root: (!root.is_empty()).then(|| root.to_owned()) };
        }
    }
    // A module of one file.
    let modules = scripts_in(top, "py").into_iter().filter(|name| is_identifier(name) && name != "setup");
    modules.min().map_or(Project::Python, |name| Project::Package { name, root: None })
}

fn is_identifier(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Python files where benchmarks usually lie, as paths from the top.
fn scripts(top: &Path) -> Vec<String> {
    ["", "benchmarks/", "benchmark/", "bench/", "scripts/"]
        .into_iter()
        .flat_map(|folder| {
            scripts_in(&top.join(folder), "py").into_iter().map(move |name| format!("{folder}{name}.py"))
        })
        .collect()
}

/// Files with an extension, without it, in the order of their names.
fn scripts_in(folder: &Path, extension: &str) -> Vec<String> {
    let mut found: Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .filter_map(|path| path.file_stem()?.to_str().map(str::to_owned))
        .filter(|name| plain(name) == *name)
        .collect();
    found.sort();
    found
}

/// What a case's name may be made of.
fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' }).collect()
}

/// A TOML string.
fn quoted(text: &str) -> String {
    format!("{text:?}")
}

fn list(words: &[String]) -> String {
    format!("[{}]", words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(", "))
}
