//! Searches in folders that stand for a whole machine.

use tempfile::TempDir;

use super::*;

/// A machine made of files, with nothing in its environment.
struct Machine(TempDir);

impl Machine {
    fn new(files: &[&str]) -> Self {
        let machine = Self(TempDir::new().expect("a temporary folder"));
        for file in files {
            machine.write(file, "");
        }
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("files have folders")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }

    /// Its own cache in `cache`, its Python's packages in `python`.
    fn environment(&self, plugin_path: &str) -> Environment {
        Environment {
            plugin_path: (!plugin_path.is_empty())
                .then(|| plugin_path.replace('@', self.path("").to_str().expect("UTF-8")).into()),
            tpu_library: None,
            cache: Some(self.path("cache")),
            site_packages: vec![self.path("python"), self.path("absent")],
        }
    }

    fn install(&self, name: &'static str, version: &str) {
        let package = package::named(name).expect("a name");
        self.write(&format!("cache/{name}/{}", package.library), "");
        let record = install::Record {
            name: name.to_owned(),
            package: package.package.to_owned(),
            version: version.to_owned(),
            wheel: String::new(),
            sha256: String::new(),
            pinned: false,
            library: package.library.into(),
            libraries: None,
            installed: jiff::Timestamp::UNIX_EPOCH,
        };
        self.write(&format!("cache/{name}/installed.json"), &serde_json::to_string(&record).expect("JSON"));
    }

    fn search(&self, plugin_path: &str) -> Search {
        all(&self.environment(plugin_path))
    }

    /// Paths below the machine, in order.
    fn found(&self, plugin_path: &str) -> Vec<String> {
        let strip = |plugin: &Plugin| {
            let path = plugin.path.strip_prefix(self.0.path()).expect("below the machine");
            format!("{} {}", plugin.platform.name(), path.display())
        };
        self.search(plugin_path).plugins.iter().map(strip).collect()
    }
}

#[test]
fn absence_is_a_reason_with_a_remedy() {
    let search = Machine::new(&[]).search("");
    assert_eq!(search, Search::default());
    for platform in Platform::ALL {
        let skip = search.find(platform).expect_err("nothing is here");
        assert_eq!(skip.reason, format!("there is no PJRT plugin for {} here", platform.name()));
        assert!(skip.remedy.contains("`regrade backend install xla-"), "{}", skip.remedy);
    }
    let skip = search.find(Platform::Cuda).expect_err("nothing is here");
    assert!(
        skip.remedy.starts_with("run `regrade backend install xla-cuda13` or `regrade backend install xla-cuda12`")
    );
}

#[test]
fn a_variable_goes_before_the_own_folder_and_that_before_python() {
    let machine = Machine::new(&[
        "mine/my_cpu_pjrt.so",
        "python/lammps_jax_pjrt_cpu/pjrt_c_api_cpu_plugin.so",
        "python/lammps_jax_pjrt_cpu-0.11.1.dist-info/METADATA",
    ]);
    machine.install("xla-cpu", "0.11.2");
    let plugins = machine.search("@mine/my_cpu_pjrt.so").plugins;
    let told: Vec<_> = plugins.iter().map(|plugin| (plugin.source, plugin.package.as_deref())).collect();
    assert_eq!(
        told,
        [
            (Source::Variable(PLUGIN_PATH), None),
            (Source::Installed("xla-cpu"), Some("lammps-jax-pjrt-cpu 0.11.2")),
            (Source::Python, Some("lammps-jax-pjrt-cpu 0.11.1")),
        ]
    );
    assert_eq!(machine.search("").find(Platform::Cpu).expect("a plugin"), plugins[1]);
}

#[test]
fn packages_of_python_are_found_the_preferred_first() {
    let machine = Machine::new(&[
        "python/fastatomstruct_xla_cpu/libpjrt_cpu.so",
        "python/xla_plugins/xla_cpu_pjrt/xla_cpu_pjrt.so",
        "python/jax_plugins/xla_cuda12/xla_cuda_plugin.so",
        "python/jax_plugins/xla_cuda13/xla_cuda_plugin.so",
        "python/jax_cuda13_pjrt-0.12.0.1.dist-info/METADATA",
        "python/jax_plugins/xla_rocm7/xla_rocm_plugin.so",
        "python/jax_plugins/xla_rocm10/xla_rocm_plugin.so",
        "python/jax_plugins/xla_oneapi/xla_oneapi_plugin.so",
        "python/libtpu/libtpu.so",
        "python/libtpu/sdk.so",
        "python/libtpu-0.0.52.dist-info/METADATA",
    ]);
    assert_eq!(
        machine.found(""),
        [
            "cpu python/fastatomstruct_xla_cpu/libpjrt_cpu.so",
            "cpu python/xla_plugins/xla_cpu_pjrt/xla_cpu_pjrt.so",
            "cuda python/jax_plugins/xla_cuda13/xla_cuda_plugin.so",
            "cuda python/jax_plugins/xla_cuda12/xla_cuda_plugin.so",
            "rocm python/jax_plugins/xla_rocm10/xla_rocm_plugin.so",
            "rocm python/jax_plugins/xla_rocm7/xla_rocm_plugin.so",
            "oneapi python/jax_plugins/xla_oneapi/xla_oneapi_plugin.so",
            "tpu python/libtpu/libtpu.so",
        ]
    );
    let package = |platform| machine.search("").find(platform).expect("a plugin").package;
    assert_eq!(package(Platform::Cuda).as_deref(), Some("jax-cuda13-pjrt 0.12.0.1"));
    assert_eq!(package(Platform::Tpu).as_deref(), Some("libtpu 0.0.52"));
    assert_eq!(package(Platform::Oneapi).as_deref(), Some("jax-oneapi-pjrt"), "of no known version");
}

#[test]
fn a_folder_is_looked_into_and_what_plugins_need_is_no_plugin() {
    let machine = Machine::new(&[
        "mine/libpjrt_cpu.so",
        "mine/libcudart.so",
        "mine/libcuda.so.1",
        "mine/pjrt_c_api_cpu_plugin.txt",
        "mine/xla_cuda_plugin.so",
        "mine/libtpu.so",
        "target/jax_plugins/xla_cuda12/xla_cuda_plugin.so",
    ]);
    assert_eq!(
        machine.found("@mine:@target"),
        [
            "cpu mine/libpjrt_cpu.so",
            "tpu mine/libtpu.so",
            "cuda mine/xla_cuda_plugin.so",
            "cuda target/jax_plugins/xla_cuda12/xla_cuda_plugin.so",
        ]
    );
    assert_eq!(machine.found("cpu=@mine:cpu=@target"), ["cpu mine/libpjrt_cpu.so"]);
}

#[test]
fn what_a_file_is_for_may_be_said() {
    let machine = Machine::new(&["odd/plugin=1.so", "odd/cpu.so"]);
    assert_eq!(machine.found("cuda=@odd/plugin=1.so"), ["cuda odd/plugin=1.so"]);
    assert_eq!(machine.found("rocm=@odd/cpu.so"), ["rocm odd/cpu.so"]);

    let search = machine.search("@odd/plugin=1.so");
    assert!(search.broken[0].reason.ends_with("which does not say what it is for"), "{:?}", search.broken);
    let search = machine.search("gpu=@odd/cpu.so");
    assert_eq!(search.broken[0].reason, "REGRADE_PLUGIN_PATH names `gpu`, which is no platform");
}

#[test]
fn a_variable_that_names_what_is_not_there_is_a_mistake_that_nothing_covers_up() {
    let machine = Machine::new(&["python/libtpu/libtpu.so"]);
    machine.install("xla-cpu", "0.11.2");
    let skip = machine.search("@gone_cpu.so").find(Platform::Cpu).expect_err("it is gone");
    assert!(skip.reason.starts_with("REGRADE_PLUGIN_PATH names /") && skip.reason.ends_with("which does not exist"));
    assert_eq!(skip.remedy, "correct REGRADE_PLUGIN_PATH, or unset it");
    // Only who is concerned.
    assert!(machine.search("@gone_cpu.so").find(Platform::Tpu).is_ok());
    assert!(machine.search("@gone").find(Platform::Tpu).is_err(), "it may have been meant for any");

    let mut environment = machine.environment("");
    environment.tpu_library = Some(machine.path("gone/libtpu.so"));
    let skip = all(&environment).find(Platform::Tpu).expect_err("it is gone");
    assert!(skip.reason.starts_with("TPU_LIBRARY_PATH names "), "{}", skip.reason);
    environment.tpu_library = Some(machine.path("python/libtpu/libtpu.so"));
    let search = all(&environment);
    assert_eq!(search.find(Platform::Tpu).expect("a plugin").source, Source::Variable(TPU_LIBRARY));
    // Named and in Python: one plugin.
    assert_eq!(search.plugins.iter().filter(|plugin| plugin.platform == Platform::Tpu).count(), 1);
}

#[test]
fn a_damaged_install_is_told_unless_something_goes_before_it() {
    let machine = Machine::new(&["cpu_pjrt.so"]);
    for damage in ["not JSON", r#"{"name": "xla-cpu"}"#] {
        machine.install("xla-cpu", "0.11.2");
        machine.write("cache/xla-cpu/installed.json", damage);
        let skip = machine.search("").find(Platform::Cpu).expect_err("damaged");
        assert!(skip.reason.ends_with("is damaged") && skip.remedy.contains("install xla-cpu` again"), "{skip:?}");
    }
    machine.install("xla-cpu", "0.11.2");
    let record = std::fs::read_to_string(machine.path("cache/xla-cpu/installed.json")).expect("written");
    machine.write("evil.so", "");
    let elsewhere = record.replace("lammps_jax_pjrt_cpu/pjrt_c_api_cpu_plugin.so", "../../evil.so");
    assert_ne!(elsewhere, record);
    machine.write("cache/xla-cpu/installed.json", &elsewhere);
    assert!(machine.search("").find(Platform::Cpu).is_err(), "a library elsewhere is none of regrade's");
    assert!(machine.search("@cpu_pjrt.so").find(Platform::Cpu).is_ok());
}

#[test]
fn names_lead_back_to_platforms() {
    for platform in Platform::ALL {
        assert_eq!(Platform::parse(platform.name()), Some(platform));
        assert_eq!(Platform::parse(platform.backend()), Some(platform));
        let packages: Vec<_> = package::of(platform).collect();
        assert!(!packages.is_empty());
        for package in packages {
            assert_eq!(Platform::of_file(Path::new(package.library)), Some(platform), "{}", package.name);
            assert!(package::IN_PYTHON.iter().any(|(known, _)| *known == platform));
            let long = |hash: &&str| hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
            assert!(package.sha256.iter().all(long), "{}", package.name);
        }
    }
    assert_eq!(Platform::parse("metal"), None);
}
