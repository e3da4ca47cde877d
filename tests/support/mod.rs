//! The real binary in a folder of its own, and a scripted benchmark whose numbers a test chooses.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A folder with a git repository of one commit on `main`.
pub struct Place {
    dir: TempDir,
    /// Where trees are checked out.
    cache: TempDir,
}

/// What the binary did.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Asserts the exit code, showing everything where it differs.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }
}

impl Place {
    pub fn new() -> Self {
        let folder = || TempDir::new().expect("a temporary folder");
        let place = Self { dir: folder(), cache: folder() };
        place.git(&["init", "-q", "-b", "main"]);
        // Whoever works here, for what the program itself asks git.
        place.git(&["config", "user.name", "Tess"]);
        place.git(&["config", "user.email", "tess@example.invalid"]);
        place.git(&["commit", "-q", "--allow-empty", "-m", "first"]);
        place
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.file(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }

    pub fn git(&self, arguments: &[&str]) {
        let identity = ["-c", "user.name=t", "-c", "user.email=t@t.invalid", "-c", "commit.gpgsign=false"];
        let status = Command::new("git")
            .args(identity)
            .args(arguments)
            .current_dir(self.path())
            .status()
            .expect("git is installed");
        assert!(status.success(), "git {arguments:?}");
    }

    /// The binary, in this folder, with nothing of the caller's CI environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        // Elsewhere than where it was built, a test binary is told where the program is.
        let binary = std::env::var_os("REGRADE_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_regrade").into());
        let mut command = Command::new(binary);
        command.args(arguments).current_dir(self.path()).env("REGRADE_TRUST_DEBUG_BUILD", "1");
        for (name, _) in std::env::vars() {
            if name.starts_with("GITHUB_") || name.starts_with("CARGO") || name.starts_with("CLICOLOR") {
                command.env_remove(name);
            }
        }
        command.env("REGRADE_CACHE", self.cache.path());
        command.env_remove("REGRADE_DB").env_remove("NO_COLOR").env_remove("COLUMNS");
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.command(arguments).output().expect("the binary starts").into()
    }

    /// Commits everything, with outputs ignored.
    pub fn commit(&self, subject: &str) {
        self.write(".gitignore", "baselines/\nreports/\nbench\n");
        self.git(&["add", "--all"]);
        self.git(&["commit", "-q", "-m", subject]);
    }

    /// What git says.
    pub fn git_says(&self, arguments: &[&str]) -> String {
        let output = Command::new("git").args(arguments).current_dir(self.path()).output().expect("git is installed");
        String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
    }

    /// A repository whose program takes this much work, built from C in each tree.
    pub fn demo(work: u32) -> Self {
        let place = Self::new();
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/demo");
        for name in ["bench.c", "suite.toml"] {
            let text = std::fs::read_to_string(fixture.join(name)).expect("a fixture");
            place.write(name, &text);
        }
        place.set_work(work);
        place.commit("base");
        place
    }

    /// Sets the work of an iteration; 100 is the base.
    pub fn set_work(&self, work: u32) {
        self.write("work.h", &format!("#define WORK {work}\n"));
    }

    /// Writes `suite.toml` with scripted benchmarks `names` and the script they run.
    pub fn script(&self, names: &[&str]) {
        self.write("bench.sh", SCRIPT);
        let mut text = HEAD.to_owned();
        for name in names {
            let command = format!("command = [\"sh\", \"bench.sh\", \"{name}\"]");
            text = [&text, "[[benchmark]]", &format!("name = \"{name}\""), &command, ""].join("\n");
        }
        self.write("suite.toml", &text);
    }

    /// Makes a scripted benchmark report this many times its usual latency.
    pub fn set_factor(&self, name: &str, factor: &str) {
        self.write(&format!("factor-{name}"), factor);
    }

    /// The JSON report of the last comparison.
    pub fn report(&self) -> serde_json::Value {
        let text = std::fs::read_to_string(self.file("reports/latest/report.json")).expect("a report was written");
        serde_json::from_str(&text).expect("JSON")
    }
}

const HEAD: &str = r#"
schema_version = 1
name = "scripted"
description = "numbers chosen by a test"
launches = 3
gate_metrics = ["latency"]
# What is reported here does not follow this host.
reference_workloads = false
"#;

/// Ten samples around 10 ms times the content of `factor-<name>`, launches 0.1 % apart by process id.
pub const SCRIPT: &str = r#"
factor=$(cat "factor-$1" 2>/dev/null || echo 1)
if [ "$factor" = crash ]; then kill -SEGV $$; fi
awk -v f="$factor" -v p=$$ 'BEGIN {
    printf "{\"type\":\"samples\",\"metric\":{\"name\":\"latency\",\"unit\":\"s\"},\"iterations\":1,\"values\":["
    for (i = 0; i < 10; i++) printf "%s%.9f", (i ? "," : ""), f * 0.01 * (1 + (p % 10) / 10000) * (1 + i / 10000)
    print "]}"
}' >> "$REGRADE_OUTPUT"
echo '{"type":"outcome","kind":"measured"}' >> "$REGRADE_OUTPUT"
"#;

/// Compiles the PJRT plugin of tests/fixtures that goes wrong in the way that `case` names.
pub fn fake_plugin(case: &str, library: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pjrt/fake.c");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-w", "-o"])
        .arg(library)
        .arg(format!("-DCASE={case}"))
        .arg(source)
        .status()
        .expect("a C compiler is installed");
    assert!(compiled.success(), "{case}");
}
