//! Locked clocks through the binary, against a stand-in for the driver's library: what is set is put back however the session ends,
//! nothing is measured where locking is refused, and a clock that does not follow is found out.
//!
//! No setting of a real card is touched: the stand-in is found before any driver's library.

mod support;

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;
use support::{Place, Ran};
use tempfile::TempDir;

/// What nothing here takes unless it is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// The folder with the stand-in, built once.
fn library() -> &'static Path {
    static BUILT: OnceLock<TempDir> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let folder = TempDir::new().expect("a temporary folder");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/nvml/fake.c");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-Wall", "-o"])
            .arg(folder.path().join("libnvidia-ml.so.1"))
            .arg(source)
            .status()
            .expect("a C compiler is installed");
        assert!(built.success());
        folder
    });
    folder.path()
}

/// A place with a stand-in of its own, and a suite whose one benchmark says when it runs and takes a while.
struct Bench {
    place: Place,
    driver: TempDir,
}

const SUITE: &str = "schema_version = 1\nname = \"locks\"\nbackends = [\"nvidia\"]\nlaunches = 2\nreference_workloads = false\n\
    [[benchmark]]\nname = \"work\"\ntimeout = \"40s\"\ncommand = [\"sh\", \"work.sh\"]\n";
const QUICK: &str = "touch started; sleep 0.4";
/// Ends when the test does, whoever is left of the session.
const ENDLESS: &str = "touch started; while [ -e started ]; do sleep 0.1; done";

impl Bench {
    fn new(script: &str) -> Self {
        let bench = Self { place: Place::new(), driver: TempDir::new().expect("a temporary folder") };
        bench.place.write("suite.toml", SUITE);
        bench.place.write("work.sh", script);
        bench
    }

    /// Tells the stand-in what to be like.
    fn say(&self, what: &str, text: &str) {
        std::fs::write(self.driver.path().join(what), text).expect("a file");
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.place.command(words);
        command.env("LD_LIBRARY_PATH", library()).env("FAKE_NVML", self.driver.path());
        command
            .env_remove("CUDA_VISIBLE_DEVICES")
            .env_remove("CUDA_MPS_PIPE_DIRECTORY")
            .env_remove("REGRADE_LOCK_CLOCKS");
        command
    }

    fn run(&self, words: &[&str]) -> Ran {
        self.command(words).output().expect("the binary starts").into()
    }

    fn measure(&self, flag: &str) -> Ran {
        self.run(&["run", "suite.toml", flag])
    }

    /// What was set and reset so far, without who did it.
    fn log(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.driver.path().join("log")).unwrap_or_default();
        text.lines().map(|line| line.split(" by ").next().unwrap_or_default().to_owned()).collect()
    }

    fn guardian(&self) -> Pid {
        let text = std::fs::read_to_string(self.driver.path().join("log")).expect("something was set");
        let pid = text.lines().next().and_then(|line| line.split(" by ").nth(1)).expect("by somebody");
        Pid::from_raw(pid.parse().expect("a number")).expect("a process")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.place.file(name)
    }

    /// A session in the middle of a launch.
    fn measuring(&self) -> Child {
        let mut command = self.command(&["run", "suite.toml", "--lock-clocks=1410"]);
        // As a shell starts it, so that what a terminal sends reaches all of it.
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).spawn().expect("starts");
        until("a launch", || self.file("started").exists());
        assert_eq!(self.log(), ["set 0 1410"]);
        child
    }

    fn outcomes(&self) -> Vec<(String, String)> {
        let report = self.run(&["report", "--format", "json"]).stdout;
        let report: Value = serde_json::from_str(&report).expect("JSON");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let cases = report["cases"].as_array().expect("cases").iter();
        cases.map(|case| (text(&case["outcome"]["kind"]), text(&case["outcome"]["reason"]))).collect()
    }
}

#[track_caller]
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "{what} never came");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn ended(child: Child) -> Ran {
    child.wait_with_output().expect("ends").into()
}

#[test]
fn clocks_are_locked_while_a_session_measures_and_put_back() {
    let bench = Bench::new("sleep 0.4; [ ! -e \"$FAKE_NVML/locked0\" ] || cat \"$FAKE_NVML/locked0\" >> held");
    let ran = bench.measure("--lock-clocks=1410").expect(0);
    assert!(ran.stderr.contains("GPU clocks are locked at 1410 MHz"), "{}", ran.stderr);
    assert_eq!(bench.log(), ["set 0 1410", "reset 0"]);
    assert_eq!(std::fs::read_to_string(bench.file("held")).expect("launches"), "14101410");
    assert!(ran.stdout.contains("clocks locked (1410 MHz)"), "{}", ran.stdout);
    // The base clock has no number until it is set.
    let ran = bench.measure("--lock-clocks").expect(0);
    assert!(ran.stderr.contains("locked at 1590 MHz") && ran.stdout.contains("clocks locked (base)"), "{ran:?}");
    assert_eq!(bench.log()[2..], ["set 0 -1", "reset 0"]);
    let exported = bench.run(&["baseline", "export"]).expect(0).stdout;
    for fact in ["\"asked\":\"1410 MHz\"", "\"asked\":\"base\"", "\"locked_mhz\":1590", "\"seen_by\":\"driver\""] {
        assert!(exported.contains(fact), "{fact}: {exported}");
    }
    bench.run(&["run", "suite.toml"]).expect(0);
    assert_eq!(bench.log().len(), 4, "a session that asks for nothing sets nothing");
}

#[test]
fn the_variable_asks_as_the_flag_does_and_pairs_are_locked_too() {
    let bench = Bench::new("sleep 0.2");
    let words = ["calibrate", "suite.toml", "--pairs", "6", "--no-proof", "--quiet"];
    let ran: Ran = bench.command(&words).env("REGRADE_LOCK_CLOCKS", "1410").output().expect("starts").into();
    assert!([0, 2].contains(&ran.code), "{ran:?}");
    assert_eq!(bench.log(), ["set 0 1410", "reset 0"]);
    assert!(ran.stdout.contains("clocks locked (1410 MHz)"), "{ran:?}");
}

#[test]
fn every_gpu_that_cuda_shows_is_locked_and_no_other() {
    let bench = Bench::new(QUICK);
    bench.say("count", "3");
    let ran: Ran = bench
        .command(&["run", "suite.toml", "--lock-clocks=1410"])
        .env("CUDA_VISIBLE_DEVICES", "2,GPU-0")
        .output()
        .expect("starts")
        .into();
    ran.expect(0);
    let mut log = bench.log();
    log.sort();
    assert_eq!(log, ["reset 0", "reset 2", "set 0 1410", "set 2 1410"]);
    // What the numbers of different GPUs stand for is CUDA's guess.
    bench.say("mixed", "");
    let with = |order: &str| {
        let mut command = bench.command(&["run", "suite.toml", "--lock-clocks=1410"]);
        let ran: Ran =
            command.env("CUDA_VISIBLE_DEVICES", "1").env("CUDA_DEVICE_ORDER", order).output().expect("starts").into();
        ran
    };
    assert!(with("FASTEST_FIRST").expect(6).stderr.contains("set CUDA_DEVICE_ORDER=PCI_BUS_ID"));
    with("PCI_BUS_ID").expect(0);
    assert_eq!(bench.log()[4..], ["set 1 1410", "reset 1"]);
}

#[test]
fn clocks_are_put_back_when_regrade_is_killed() {
    let bench = Bench::new(ENDLESS);
    let mut child = bench.measuring();
    child.kill().expect("SIGKILL");
    child.wait().expect("ends");
    until("the reset", || bench.log() == ["set 0 1410", "reset 0"]);
    assert!(!bench.driver.path().join("locked0").exists());
}

#[test]
fn clocks_are_put_back_after_ctrl_c() {
    let bench = Bench::new(ENDLESS);
    let child = bench.measuring();
    kill_process_group(Pid::from_child(&child), Signal::INT).expect("SIGINT");
    let ran = ended(child).expect(6);
    assert!(ran.stderr.contains("interrupted"), "{}", ran.stderr);
    assert_eq!(bench.log(), ["set 0 1410", "reset 0"]);
}

#[test]
fn clocks_are_put_back_after_failures() {
    let bench = Bench::new("exit 3");
    bench.measure("--lock-clocks=1410").expect(4);
    assert_eq!(bench.log(), ["set 0 1410", "reset 0"]);
}

#[test]
fn whoever_ends_the_guardian_gets_the_clocks_back_and_the_session_says_so() {
    let bench = Bench::new("touch started; while [ ! -e go ]; do sleep 0.05; done");
    let child = bench.measuring();
    kill_process(bench.guardian(), Signal::TERM).expect("SIGTERM");
    until("the reset", || bench.log() == ["set 0 1410", "reset 0"]);
    bench.place.write("go", "");
    let ran = ended(child).expect(6);
    assert!(ran.stderr.contains("before the session ended"), "{}", ran.stderr);
}

#[test]
fn clocks_that_cannot_be_put_back_are_told_with_the_remedy() {
    let bench = Bench::new(QUICK);
    bench.say("stuck", "");
    let ran = bench.measure("--lock-clocks=1410").expect(6);
    assert!(ran.stderr.contains("nvidia-smi --reset-gpu-clocks"), "{}", ran.stderr);
    assert!(bench.log().iter().filter(|line| *line == "reset 0").count() > 1, "it is tried again");
    assert_eq!(bench.outcomes(), [("measured".to_owned(), String::new())], "what was measured is kept");
    // Where the lock is refused after it was set, too; and by the guardian itself, where nobody is left to say it.
    let bench = Bench::new(QUICK);
    bench.say("stuck", "");
    bench.say("deaf", "");
    let ran = bench.measure("--lock-clocks=1410").expect(6);
    assert!(ran.stderr.contains("goes on at 1980 MHz; besides, GPU clocks may still be locked"), "{}", ran.stderr);
    let bench = Bench::new(ENDLESS);
    bench.say("stuck", "");
    let mut child = bench.measuring();
    child.kill().expect("SIGKILL");
    let said = ended(child).stderr;
    assert!(said.contains("error: GPU clocks may still be locked"), "{said}");
}

#[test]
fn a_refusal_ends_the_session_before_anything_is_measured() {
    for (file, text, flag, code, words) in [
        ("denied", "", "--lock-clocks=1410", 6, "run as root (CAP_SYS_ADMIN)"),
        ("unsupported", "", "--lock-clocks", 6, "cannot lock clocks"),
        ("process0", "1", "--lock-clocks=1410", 6, "others are on it: process 1"),
        ("graphics0", "1", "--lock-clocks=1410", 6, "others are on it: process 1"),
        ("used0", "400", "--lock-clocks=1410", 6, "400 MiB of its memory are in use"),
        ("mig0", "", "--lock-clocks=1410", 6, "MIG is on"),
        ("vgpu0", "", "--lock-clocks=1410", 6, "shared by virtual machines"),
        ("setting0", "1200", "--lock-clocks=1410", 6, "held by a setting already"),
        ("idle", "", "--lock-clocks", 6, "give a number of MHz"),
        ("deaf", "", "--lock-clocks=1410", 6, "accepted the lock at 1410 MHz, and the GPU goes on at 1980 MHz"),
        ("capped", "", "--lock-clocks=1410", 6, "its power limit holds it lower"),
        ("count", "1", "--lock-clocks=1415", 2, "has no clock of 1415 MHz; the nearest: 1410 MHz and 1425 MHz"),
        ("count", "1", "--lock-clocks=fast", 2, "write base, or a number of MHz"),
    ] {
        let bench = Bench::new(QUICK);
        bench.say(file, text);
        let ran = bench.measure(flag).expect(code);
        assert!(ran.stderr.contains(words) && !ran.stderr.contains("still be locked"), "{file}: {}", ran.stderr);
        assert!(!bench.file("started").exists(), "{file}: a launch was made");
        let log = bench.log();
        let sets = log.iter().filter(|line| line.starts_with("set")).count();
        assert_eq!(sets, log.len() - sets, "{file}: what was set is put back: {log:?}");
        bench.run(&["report"]).expect(2);
    }
}

#[test]
fn a_second_session_does_not_undo_the_locks_of_a_first() {
    let bench = Bench::new(ENDLESS);
    let mut first = bench.measuring();
    let second = bench.run(&["run", "suite.toml", "--lock-clocks=1200", "--db", "other.sqlite"]).expect(6);
    assert!(second.stderr.contains("another session of regrade holds its clocks"), "{}", second.stderr);
    assert_eq!(bench.log(), ["set 0 1410"]);
    first.kill().expect("SIGKILL");
    first.wait().expect("ends");
    until("the reset", || bench.log().len() == 2);
}

#[test]
fn a_clock_that_leaves_the_lock_makes_the_launch_invalid() {
    let bench = Bench::new("touch \"$FAKE_NVML/capped\"; sleep 1; rm \"$FAKE_NVML/capped\"");
    bench.measure("--lock-clocks=1410");
    let (kind, reason) = bench.outcomes().remove(0);
    assert_eq!(kind, "invalid", "{reason}");
    let words = "the SM clock was 1305 MHz and not the 1410 MHz that it is locked at, held down by: software power cap";
    assert!(reason.contains(words), "{reason}");
    // The device's own counters come before the driver's word.
    let bench = Bench::new(
        "sleep 0.4; echo '{\"type\":\"samples\",\"metric\":{\"name\":\"sm_clock\",\"unit\":\"Hz\"},\"iterations\":1,\"values\":[1.2e9,1.2e9]}' \
         >> \"$REGRADE_OUTPUT\"; echo '{\"type\":\"outcome\",\"kind\":\"measured\"}' >> \"$REGRADE_OUTPUT\"",
    );
    bench.measure("--lock-clocks=1410");
    let (kind, reason) = bench.outcomes().remove(0);
    assert!(kind == "invalid" && reason.contains("was 1200 MHz"), "{kind}: {reason}");
    assert_eq!(bench.log(), ["set 0 1410", "reset 0"]);
}

#[test]
fn what_was_locked_is_not_compared_with_what_was_not() {
    let bench = Bench::new(QUICK);
    bench.run(&["run", "suite.toml"]).expect(0);
    bench.measure("--lock-clocks=1410").expect(0);
    let stored = bench.run(&["baseline", "list", "--format", "json"]).expect(0).stdout;
    let stored: Value = serde_json::from_str(&stored).expect("JSON");
    let runs = stored["runs"].as_array().expect("runs");
    let id = |place: usize| runs[place]["id"].as_str().expect("an id");
    // The newest comes first.
    for (head, base, said) in [(0, 1, "`absent` against `1410 MHz`"), (1, 0, "`1410 MHz` against `absent`")] {
        let ran = bench.run(&["compare", "--head", id(head), "--base", id(base)]).expect(5);
        assert!(ran.stderr.contains(&format!("clocks.locked: {said}")), "{}", ran.stderr);
    }
}

#[test]
fn a_lock_for_work_without_gpus_is_a_mistake() {
    let bench = Bench::new(QUICK);
    bench.place.write(
        "suite.toml",
        "schema_version = 1\nname = \"cpu\"\nbackends = [\"cpu\"]\n[[benchmark]]\nname = \"g\"\noperator = \"gemm\"\nm = 8\nn = 8\nk = 8\n",
    );
    let ran = bench.measure("--lock-clocks").expect(2);
    assert!(ran.stderr.contains("nothing of this selection can run on an NVIDIA GPU"), "{}", ran.stderr);
    assert_eq!(bench.log(), [] as [String; 0]);
}

#[test]
fn without_a_driver_there_is_nothing_to_lock() {
    let place = Place::new();
    place.script(&["work"]);
    let mut command = place.command(&["run", "suite.toml", "--lock-clocks"]);
    let ran: Ran = command.env("CUDA_VISIBLE_DEVICES", "").output().expect("starts").into();
    let ran = ran.expect(6);
    assert!(ran.stderr.contains("GPU clocks cannot be locked"), "{}", ran.stderr);
}

#[test]
fn doctor_says_whether_clocks_could_be_locked() {
    let bench = Bench::new(QUICK);
    bench.say("mig0", "");
    let said = bench.run(&["doctor"]).stdout;
    assert!(said.contains("gpu clocks"), "{said}");
    assert!(said.contains("cannot be locked by `--lock-clocks`"), "{said}");
    assert_eq!(bench.log(), [] as [String; 0], "it sets nothing");
}
