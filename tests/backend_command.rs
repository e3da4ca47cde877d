//! `regrade backend …` through the binary: what is listed, what is installed from wheels made here, what is refused. No network.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value as Json;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

mod support;

use support::{Place, Ran};

const LIBRARY: &str = "lammps_jax_pjrt_cpu/pjrt_c_api_cpu_plugin.so";

/// A folder of its own for plugins, packages and configuration, and nothing of the caller's.
struct Desk {
    place: Place,
}

impl Desk {
    fn new() -> Self {
        Self { place: Place::new() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.place.command(&[&["backend"], arguments].concat());
        for name in ["VIRTUAL_ENV", "CONDA_PREFIX", "XDG_DATA_HOME", "REGRADE_PLUGIN_PATH", "TPU_LIBRARY_PATH"] {
            command.env_remove(name);
        }
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PIP_") || name.starts_with("TPU_")) {
            command.env_remove(name);
        }
        // No Python of the caller's is looked into.
        command.env("PATH", self.place.path()).env("HOME", self.place.path());
        command.env("REGRADE_PLUGIN_CACHE", self.cache());
        command.env("PIP_NO_INDEX", "1").env("PIP_FIND_LINKS", self.place.file("wheels")).env("PIP_NO_CACHE_DIR", "1");
        command.env("PIP_CONFIG_FILE", "/dev/null");
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        self.command(arguments).output().expect("the binary starts").into()
    }

    fn cache(&self) -> PathBuf {
        self.place.file("plugins")
    }

    fn library(&self) -> PathBuf {
        self.cache().join("xla-cpu").join(LIBRARY)
    }

    /// A wheel of the CPU plugin's package with these files beside its metadata.
    fn wheel(&self, version: &str, files: &[(&str, &str)]) {
        self.wheel_of("lammps-jax-pjrt-cpu", version, files);
    }

    fn wheel_of(&self, package: &str, version: &str, files: &[(&str, &str)]) {
        let name = package.replace('-', "_");
        let folder = self.place.file("wheels");
        std::fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join(format!("{name}-{version}-py3-none-any.whl"));
        let info = format!("{name}-{version}.dist-info");
        let metadata = format!("Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n");
        let tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n";
        let mut zip = ZipWriter::new(std::fs::File::create(path).expect("a file"));
        let mut add = |name: &str, text: &str| {
            zip.start_file(name, SimpleFileOptions::default()).expect("an entry");
            zip.write_all(text.as_bytes()).expect("its text");
        };
        for (name, text) in files {
            add(name, text);
        }
        add(&format!("{info}/METADATA"), &metadata);
        add(&format!("{info}/WHEEL"), tags);
        add(&format!("{info}/RECORD"), "");
        zip.finish().expect("an archive");
    }

    /// Installs a version by the pip of this Python.
    fn install(&self, python: &Path, version: Option<&str>) -> Ran {
        let python = python.to_str().expect("UTF-8");
        let version: Vec<&str> = version.into_iter().flat_map(|version| ["--version", version]).collect();
        self.run(&[&["install", "xla-cpu", "--python", python], &version[..]].concat())
    }

    fn listed(&self) -> Json {
        serde_json::from_str(&self.run(&["list", "--format", "json"]).expect(0).stdout).expect("JSON")
    }

    /// Names in regrade's folder of plugins.
    fn left(&self) -> Vec<String> {
        let listed = std::fs::read_dir(self.cache()).into_iter().flatten().flatten();
        let mut names: Vec<String> = listed.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

/// A Python with pip; without one, a word about it and nothing.
fn python() -> Option<PathBuf> {
    let program = "import pip, sys; print(sys.executable)";
    let output = Command::new("python3").args(["-c", program]).output().ok().filter(|output| output.status.success());
    let path = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    if path.is_none() {
        let _ = writeln!(std::io::stderr(), "not tested: there is no python3 with pip here");
    }
    path.map(PathBuf::from)
}

fn platform<'a>(listing: &'a Json, name: &str) -> &'a Json {
    let platforms = listing["platforms"].as_array().expect("a list");
    platforms.iter().find(|line| line["platform"] == name).expect("every platform is listed")
}

#[test]
fn nothing_is_here_and_each_platform_says_what_to_do() {
    let desk = Desk::new();
    let listing = desk.listed();
    assert_eq!(listing["version"], 1);
    for (name, remedy) in [("cpu", "xla-cpu"), ("cuda", "xla-cuda13"), ("rocm", "xla-rocm7"), ("tpu", "xla-tpu")] {
        let line = platform(&listing, name);
        assert_eq!(line["plugins"], serde_json::json!([]));
        let said = line["absent"]["remedy"].as_str().expect("a remedy");
        assert!(said.contains(&format!("`regrade backend install {remedy}`")), "{said}");
    }
    assert_eq!(platform(&listing, "cpu")["device"], Json::Null);
    assert!(platform(&listing, "tpu")["device"]["text"].is_string());
    let text = desk.run(&["list"]).expect(0).stdout;
    assert!(text.contains("xla:oneapi  unavailable: there is no PJRT plugin for oneapi here"), "{text}");
}

#[test]
fn what_a_variable_names_is_listed_and_what_is_not_there_is_a_mistake() {
    let desk = Desk::new();
    desk.place.write("mine/libpjrt_cpu.so", "");
    desk.place.write("mine/odd.so", "");
    let with = |value: &str, format: &str| -> Ran {
        let value = value.replace('@', desk.place.path().to_str().expect("UTF-8"));
        let mut command = desk.command(&["list", "--format", format]);
        command.env("REGRADE_PLUGIN_PATH", value).output().expect("starts").into()
    };
    let listing: Json =
        serde_json::from_str(&with("@/mine:cuda=@/mine/odd.so", "json").expect(0).stdout).expect("JSON");
    let cpu = &platform(&listing, "cpu")["plugins"][0];
    assert_eq!(cpu["used"], true);
    assert_eq!(cpu["source"], serde_json::json!({"kind": "variable", "name": "REGRADE_PLUGIN_PATH"}));
    assert!(platform(&listing, "cuda")["plugins"][0]["path"].as_str().expect("a path").ends_with("mine/odd.so"));

    let text = with("@/mine/gone_cpu.so", "text").expect(2).stdout;
    assert!(text.contains("REGRADE_PLUGIN_PATH names /") && text.contains("which does not exist"), "{text}");
    assert!(text.contains("correct REGRADE_PLUGIN_PATH, or unset it"), "{text}");
}

#[test]
fn a_plugin_says_what_it_is_and_one_that_goes_wrong_costs_its_own_line() {
    let desk = Desk::new();
    let cases = ["TELLS", "NO_TABLE", "OTHER_MAJOR", "MANY_ATTRIBUTES", "ASKED_CRASHES", "ASKED_HANGS", "HANGS"];
    for case in cases {
        support::fake_plugin(case, &desk.place.file(&format!("{case}_cpu.so")));
    }
    desk.place.write("text_cpu.so", "no library");
    // All in one list: they are asked at once, and the one that hangs is waited for once.
    let names: Vec<String> = cases.iter().chain(&["text"]).map(|case| format!("{case}_cpu.so")).collect();
    let files: Vec<PathBuf> = names.iter().map(|name| desk.place.file(name)).collect();
    let variable = std::env::join_paths(&files).expect("no colons in paths");
    let list = |format: &str| -> Ran {
        let mut command = desk.command(&["list", "--format", format]);
        command.env("REGRADE_PLUGIN_PATH", &variable).output().expect("starts").into()
    };
    let listing: Json = serde_json::from_str(&list("json").expect(0).stdout).expect("JSON");
    let lines = platform(&listing, "cpu")["plugins"].as_array().expect("a list");
    let of = |case: &str| {
        let file = format!("/{case}_cpu.so");
        let found = lines.iter().find(|line| line["path"].as_str().is_some_and(|path| path.ends_with(&file)));
        let line = found.expect("every file is listed");
        (line["facts"].clone(), line["silent"].as_str().unwrap_or("nothing is missing").to_owned())
    };
    let api = serde_json::json!({"api": "0.90"});
    let none = serde_json::json!({});
    let whole = serde_json::json!({"api": "0.90", "stablehlo_current_version": "1.2.3", "xla_version": "7"});
    for (case, facts, words) in [
        ("TELLS", &whole, "nothing is missing"),
        ("NO_TABLE", &none, "no table of functions"),
        ("OTHER_MAJOR", &none, "version 7."),
        ("MANY_ATTRIBUTES", &api, "breaks the interface"),
        ("ASKED_CRASHES", &api, "it crashed (signal 11)"),
        ("ASKED_HANGS", &api, "it had not answered after"),
        // Only when it is initialised, which a list does not do.
        ("HANGS", &api, "nothing is missing"),
        ("text", &none, "cannot load the plugin"),
    ] {
        let (got, silent) = of(case);
        assert_eq!(&got, facts, "{case}: {silent}");
        assert!(silent.contains(words), "{case}: {silent}");
    }

    let text: Ran = desk
        .command(&["list"])
        .env("REGRADE_PLUGIN_PATH", desk.place.file("TELLS_cpu.so"))
        .output()
        .expect("starts")
        .into();
    assert!(text.expect(0).stdout.contains("PJRT C API 0.90, StableHLO 1.2.3, xla_version 7\n"));
}

#[test]
fn a_wheel_is_installed_replaced_and_removed() {
    let Some(python) = python() else { return };
    let desk = Desk::new();
    for version in ["0.0.1", "0.0.2"] {
        desk.wheel(version, &[(LIBRARY, version)]);
        let ran = desk.install(&python, Some(version)).expect(0);
        assert!(ran.stderr.contains("its hash is not known"), "{}", ran.stderr);
        assert!(ran.stdout.contains(&format!("installed xla-cpu: lammps-jax-pjrt-cpu {version}")), "{}", ran.stdout);
        assert_eq!(std::fs::read_to_string(desk.library()).expect("unpacked"), version);
        assert_eq!(desk.left(), [".lock", "xla-cpu"]);
    }
    let record = std::fs::read_to_string(desk.cache().join("xla-cpu/installed.json")).expect("a record");
    let record: Json = serde_json::from_str(&record).expect("JSON");
    assert_eq!((&record["name"], &record["library"]), (&"xla-cpu".into(), &LIBRARY.into()));
    assert_eq!((&record["pinned"], &record["version"]), (&false.into(), &"0.0.2".into()));
    assert_eq!(record["sha256"].as_str().map(str::len), Some(64));

    let cpu = platform(&desk.listed(), "cpu")["plugins"][0].clone();
    assert_eq!(cpu["package"], "lammps-jax-pjrt-cpu 0.0.2");
    assert_eq!(cpu["source"], serde_json::json!({"kind": "installed", "name": "xla-cpu"}));

    desk.run(&["remove", "xla-cpu"]).expect(0);
    assert_eq!(desk.left(), [".lock"]);
    let again = desk.run(&["remove", "xla-cpu"]).expect(2);
    assert!(again.stderr.contains("`xla-cpu` is not installed"), "{}", again.stderr);
}

#[test]
fn what_is_refused_leaves_what_was_there() {
    let Some(python) = python() else { return };
    let desk = Desk::new();
    desk.wheel("0.0.1", &[(LIBRARY, "good")]);
    desk.install(&python, Some("0.0.1")).expect(0);

    // Of the pinned version, with other bytes.
    desk.wheel("0.11.2", &[(LIBRARY, "forged")]);
    let forged = desk.install(&python, None);
    if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        let forged = forged.expect(6).stderr;
        assert!(forged.contains("is not the wheel that this regrade knows") && forged.contains("pip:"), "{forged}");
    }
    desk.wheel("0.0.3", &[(LIBRARY, "evil"), ("../evil", "evil")]);
    let hostile = desk.install(&python, Some("0.0.3")).expect(6).stderr;
    assert!(hostile.contains("holds `../evil`, which leads out of its folder; nothing was installed"), "{hostile}");
    desk.wheel("0.0.4", &[("lammps_jax_pjrt_cpu/readme.txt", "no library")]);
    let empty = desk.install(&python, Some("0.0.4")).expect(6).stderr;
    assert!(empty.contains("holds no PJRT plugin for cpu"), "{empty}");
    let absent = desk.install(&python, Some("0.0.5")).expect(6).stderr;
    assert!(absent.contains("pip finds no wheel of lammps-jax-pjrt-cpu 0.0.5"), "{absent}");

    assert_eq!(std::fs::read_to_string(desk.library()).expect("still there"), "good");
    assert_eq!(desk.left(), [".lock", "xla-cpu"]);
    assert!(!desk.place.file("plugins/evil").exists() && !desk.place.file("evil").exists());
}

#[test]
fn a_cuda_plugin_is_linked_with_the_libraries_of_the_active_python() {
    let Some(python) = python() else { return };
    let desk = Desk::new();
    let library = "jax_plugins/xla_cuda13/xla_cuda_plugin.so";
    desk.wheel_of("jax-cuda13-pjrt", "0.0.1", &[(library, "plugin")]);
    desk.place.write("venv/lib/python3.12/site-packages/nvidia/cu13/lib/libcublas.so.13", "CUDA");
    let install = |environment: &Path| -> Ran {
        let mut command = desk.command(&["install", "xla-cuda13", "--version", "0.0.1", "--python"]);
        command.arg(&python).env("VIRTUAL_ENV", environment).output().expect("starts").into()
    };
    let ran = install(&desk.place.file("venv")).expect(0).stdout;
    assert!(ran.contains("linked with the libraries in") && ran.contains("it needs NVIDIA's driver"), "{ran}");
    // Where the plugin's RPATH leads.
    let beside = desk.cache().join("xla-cuda13/jax_plugins/xla_cuda13/../../nvidia/cu13/lib/libcublas.so.13");
    assert_eq!(std::fs::read_to_string(&beside).expect("linked"), "CUDA");

    let ran = install(&desk.place.file("elsewhere")).expect(0).stdout;
    assert!(!ran.contains("linked with") && !beside.exists(), "{ran}");
    install(&desk.place.file("venv")).expect(0);
    desk.run(&["remove", "xla-cuda13"]).expect(0);
    assert!(desk.place.file("venv/lib/python3.12/site-packages/nvidia/cu13/lib/libcublas.so.13").exists());
}

#[test]
fn what_an_interrupted_install_left_is_put_right() {
    let Some(python) = python() else { return };
    let desk = Desk::new();
    desk.wheel("0.0.1", &[(LIBRARY, "good")]);
    desk.install(&python, Some("0.0.1")).expect(0);
    // Ended between the two renames, with half a wheel beside.
    std::fs::rename(desk.cache().join("xla-cpu"), desk.cache().join("xla-cpu.old")).expect("renamed");
    desk.place.write("plugins/xla-cpu.new/half", "");
    desk.place.write("plugins/xla-cpu.fetched/half.whl", "");
    desk.install(&python, Some("9.9.9")).expect(6);
    assert_eq!(std::fs::read_to_string(desk.library()).expect("brought back"), "good");
    assert_eq!(desk.left(), [".lock", "xla-cpu"]);
}

#[test]
fn what_makes_no_sense_is_said_before_anything_is_done() {
    let desk = Desk::new();
    let error = desk.run(&["install", "xla-metal"]).expect(2).stderr;
    assert!(error.contains("xla-cpu") && error.contains("xla-tpu"), "{error}");
    for version in ["1 --index-url=x", "-r", "1\n2"] {
        let ran = desk.run(&["install", "xla-cpu", &format!("--version={version}")]).expect(2);
        assert!(ran.stderr.contains("is no version"), "{}", ran.stderr);
    }
    let ran = desk.run(&["install", "xla-cpu", "--python", "/nowhere/python3", "--version", "1"]).expect(6);
    assert!(ran.stderr.contains("cannot start `/nowhere/python3`: install Python 3 with pip"), "{}", ran.stderr);
    // A Python without pip.
    desk.place.write("bare.sh", "#!/bin/sh\necho \"$0: No module named pip\" >&2\nexit 1\n");
    let bare = desk.place.file("bare.sh");
    std::fs::set_permissions(&bare, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("made executable");
    let ran = desk.install(&bare, Some("1")).expect(6);
    assert!(ran.stderr.contains("has no pip") && ran.stderr.contains("ensurepip"), "{}", ran.stderr);
    assert_eq!(desk.left(), [".lock"]);
}
