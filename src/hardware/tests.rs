//! Parsers on captured texts; facts, telemetry and findings on folders that stand for whole machines.

use std::path::Path;

use tempfile::TempDir;

use super::cgroup::Cgroup;
use super::host::Host;
use super::parse::*;
use super::processes;
use super::telemetry;
use super::*;

const INTEL: &str = include_str!("../../tests/fixtures/hardware/intel-desktop.cpuinfo");
const EPYC: &str = include_str!("../../tests/fixtures/hardware/epyc-vm.cpuinfo");
const GRAVITON: &str = include_str!("../../tests/fixtures/hardware/graviton2.cpuinfo");

/// A machine made of files.
struct Machine(TempDir);

impl Machine {
    fn new(files: &[(&str, &str)]) -> Self {
        let machine = Self(TempDir::new().expect("a temporary folder"));
        machine.write(files);
        machine
    }

    fn write(&self, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = self.0.path().join(name);
            std::fs::create_dir_all(path.parent().expect("files have folders")).expect("folder");
            std::fs::write(path, text).expect("file");
        }
    }

    fn host(&self) -> Host {
        Host::at(self.0.path())
    }
}

/// A virtual machine like a cloud runner's, with control groups of version 2.
fn epyc() -> Machine {
    Machine::new(&[
        ("proc/cpuinfo", EPYC),
        (
            "proc/meminfo",
            "MemTotal:       24684100 kB\nMemFree:  23874676 kB\nMemAvailable:   24272136 kB\nSwapTotal:             0 kB\nSwapFree:              0 kB\n",
        ),
        ("proc/self/status", "Name:\tregrade\nCpus_allowed:\t3\nCpus_allowed_list:\t0-1\n"),
        ("proc/sys/kernel/osrelease", "6.18.44-fc-v509\n"),
        ("proc/1/cgroup", "0::/init.scope\n"),
        ("proc/self/cgroup", "0::/user.slice/job\n"),
        ("proc/self/mountinfo", "41 31 0:38 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"),
    ])
}

#[test]
fn processors_of_three_makers() {
    let intel = cpu_info(INTEL);
    assert_eq!(intel.model.as_deref(), Some("Intel(R) Core(TM) Ultra 9 285"));
    assert_eq!(intel.signature.as_deref(), Some("GenuineIntel 6/198/2"));
    assert_eq!(intel.isa, "avx2 fma avx_vnni");
    assert!(!intel.hypervisor);
    assert_eq!(intel.mhz, [800.0, 5400.125]);

    let epyc = cpu_info(EPYC);
    assert_eq!(epyc.model.as_deref(), Some("AMD EPYC"));
    assert_eq!(epyc.signature.as_deref(), Some("AuthenticAMD 26/2/1"));
    assert_eq!(epyc.isa, "avx2 fma avx_vnni avx512f avx512_vnni avx512_bf16");
    assert!(epyc.hypervisor);

    let graviton = cpu_info(GRAVITON);
    assert_eq!(graviton.model.as_deref(), Some("Arm Neoverse-N1"));
    assert_eq!(graviton.signature.as_deref(), Some("0x41/0xd0c/r3p1"));
    assert_eq!(graviton.isa, "neon fp16 dotprod");
    assert_eq!(graviton.mhz, [] as [f64; 0]);

    let unknown = cpu_info(&GRAVITON.replace("0xd0c", "0xfff"));
    assert_eq!(unknown.model.as_deref(), Some("Arm implementer 0x41 part 0xfff"));
    assert_eq!(cpu_info(""), CpuInfo::default());
}

#[test]
fn times_pressure_and_lists() {
    let times = cpu_times("cpu  142988 3 11029 138692 441 7 64 50 9 0\ncpu0 1 1 1 1\n").expect("a cpu line");
    assert_eq!(
        times,
        CpuTimes { busy: 142_988 + 3 + 11_029, steal: 50, total: 142_988 + 3 + 11_029 + 138_692 + 441 + 7 + 64 + 50 }
    );
    assert_eq!(cpu_times("intr 1"), None);
    let some = pressure("some avg10=0.27 avg60=0.81 avg300=1.83 total=39326310\nfull avg10=9.00 total=1\n");
    assert_eq!(some, Some(Pressure { avg10: 0.27, total_us: 39_326_310 }));
    assert_eq!(load_1m("0.27 0.92 0.91 1/95 21110"), Some(0.27));
    assert_eq!(allowed_cpus("Cpus_allowed_list:\t0-3,8,10-11"), Some(7));
    assert_eq!(allowed_cpus("Cpus_allowed_list:\t5-3"), None);
    assert_eq!(kernel_major_minor("5.10.0-23-cloud-amd64").as_deref(), Some("5.10"));
    assert_eq!(kernel_major_minor("6.18-rc1").as_deref(), Some("6.18"));
    assert_eq!(kernel_major_minor("odd"), None);
}

#[test]
fn a_process_name_may_hold_anything() {
    let text = "77 (a) R 1 (x) R 5 77 17968 0 -1 4194304 101 0 0 0 11 12 13 14 20 0 1 0 175661 3133440 382 18446744073709551615";
    let stat = process_stat(text).expect("a stat line");
    assert_eq!((stat.pid, stat.name.as_str(), stat.state), (77, "a) R 1 (x", 'R'));
    assert_eq!((stat.parent, stat.group, stat.started, stat.resident), (5, 77, 175_661, 382));
    assert_eq!((stat.ticks(), stat.ticks_with_children()), (23, 50));
    assert_eq!(process_stat("77 (cut) R 1 1"), None);
}

#[test]
fn stable_facts_of_a_virtual_machine() {
    let machine = epyc();
    let facts = facts::stable(&machine.host());
    let expected = [
        ("cpu.arch", std::env::consts::ARCH),
        ("cpu.cores", "2"),
        ("cpu.isa", "avx2 fma avx_vnni avx512f avx512_vnni avx512_bf16"),
        ("cpu.model", "AMD EPYC"),
        ("cpu.signature", "AuthenticAMD 26/2/1"),
        ("machine.container", "none"),
        ("machine.virtual", "yes"),
        ("memory", "24 GiB"),
        ("os", &format!("{} 6.18", std::env::consts::OS)),
        ("timing.method", "process-launch/1"),
    ];
    let expected: BTreeMap<_, _> = expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    assert_eq!(facts, expected);
}

#[test]
fn what_changes_at_boot_changes_no_key() {
    let machine = epyc();
    let before = facts::testbed(facts::stable(&machine.host()));
    machine.write(&[
        ("proc/cpuinfo", &EPYC.replace("2596.120", "3100.000").replace("0x1000065", "0x1000099")),
        ("proc/meminfo", "MemTotal: 24651000 kB\nMemAvailable: 100 kB\n"),
        ("proc/sys/kernel/osrelease", "6.18.59-fc-v600"),
        ("proc/sys/kernel/hostname", "other"),
    ]);
    assert_eq!(facts::testbed(facts::stable(&machine.host())), before);
    machine.write(&[("proc/sys/kernel/osrelease", "6.19.0")]);
    assert_ne!(facts::testbed(facts::stable(&machine.host())).key, before.key);
}

#[test]
fn the_key_is_the_hash_of_the_sorted_lines() {
    let facts = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    // printf 'a=1\nb=2\n' | sha256sum
    assert_eq!(facts::testbed(facts(&[("b", "2"), ("a", "1")])).key, "4a73850fde34aad4");
    let broken = facts::testbed(facts(&[("a", "1\nb=2")]));
    assert_ne!(broken.key, "4a73850fde34aad4");
}

#[test]
fn memory_is_rounded_to_the_label() {
    let gib = |x: f64| facts::round_gib((x * f64::from(1 << 30)) as u64);
    let labels = [
        (0.4, 1),
        (1.9, 2),
        (3.5, 4),
        (4.0, 4),
        (7.6, 8),
        (15.4, 16),
        (23.54, 24),
        (62.5, 64),
        (251.6, 256),
        (503.0, 512),
    ];
    for (seen, label) in labels {
        assert_eq!(gib(seen), label, "{seen}");
    }
}

#[test]
fn a_machine_without_files_still_has_facts() {
    let machine = Machine::new(&[]);
    let facts = facts::stable(&machine.host());
    assert_eq!(facts["cpu.model"], std::env::consts::ARCH);
    assert_eq!(facts["os"], std::env::consts::OS);
    assert!(facts.contains_key("cpu.cores"));
    assert!(!facts.contains_key("memory"));
    let evidence = Watch::start_on(machine.host()).finish(&[]);
    assert_eq!(evidence.facts.keys().collect::<Vec<_>>(), ["watched_s"]);
    assert!(findings::activity(&machine.host(), &evidence).is_empty());
}

#[test]
fn containers_and_firmware_are_recognised() {
    let machine = Machine::new(&[("proc/cpuinfo", GRAVITON)]);
    assert_eq!(facts::virtual_machine(&machine.host()), None);
    machine.write(&[("sys/class/dmi/id/sys_vendor", "Amazon EC2\n"), ("sys/class/dmi/id/product_name", "c6g.metal\n")]);
    assert_eq!(facts::virtual_machine(&machine.host()), Some(false));
    machine.write(&[("sys/class/dmi/id/product_name", "c6g.xlarge\n")]);
    assert_eq!(facts::virtual_machine(&machine.host()), Some(true));
    assert_eq!(facts::virtual_machine(&Machine::new(&[("proc/cpuinfo", INTEL)]).host()), Some(false));

    assert_eq!(facts::container(&machine.host()), None);
    machine.write(&[("proc/1/cgroup", "0::/kubepods.slice/x\n")]);
    assert_eq!(facts::container(&machine.host()), Some("kubepods"));
    machine.write(&[(".dockerenv", "")]);
    assert_eq!(facts::container(&machine.host()), Some("docker"));
}

#[test]
fn limits_of_control_groups_2_hold_from_outside_in() {
    let machine = epyc();
    machine.write(&[
        ("sys/fs/cgroup/user.slice/job/cpu.max", "max 100000\n"),
        ("sys/fs/cgroup/user.slice/cpu.max", "150000 100000\n"),
        ("sys/fs/cgroup/user.slice/job/memory.max", "8589934592\n"),
        ("sys/fs/cgroup/user.slice/memory.max", "max\n"),
        ("sys/fs/cgroup/user.slice/cpu.stat", "usage_usec 5\nnr_throttled 3\nthrottled_usec 2500000\n"),
        ("sys/fs/cgroup/user.slice/job/memory.events", "low 0\noom 3\noom_kill 2\n"),
    ]);
    let host = machine.host();
    let cgroup = Cgroup::locate(&host);
    assert_eq!(cgroup.cpu_quota(&host), Some(1.5));
    assert_eq!(cgroup.memory_limit(&host), Some(8 << 30));
    let throttled = cgroup.throttled(&host).expect("cpu.stat");
    assert_eq!((throttled.periods, throttled.seconds), (3, 2.5));
    assert_eq!(cgroup.oom_kills(&host), Some(2));
    let facts = facts::stable(&host);
    assert_eq!(
        (facts["cpu.cores"].as_str(), facts["cpu.quota"].as_str(), facts["memory"].as_str()),
        ("2", "1.50", "8 GiB")
    );
}

#[test]
fn limits_of_control_groups_1_in_a_container() {
    // Without a namespace the path is the host's, and only the group itself is mounted.
    let machine = Machine::new(&[
        ("proc/self/cgroup", "4:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n1:name=systemd:/\n0::/\n"),
        (
            "proc/self/mountinfo",
            "32 31 0:29 /docker/abc /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu,cpuacct\n\
             35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro master:2 - cgroup cgroup rw,memory\n",
        ),
        ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000\n"),
        ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
        ("sys/fs/cgroup/cpu/cpu.stat", "nr_periods 9\nnr_throttled 4\nthrottled_time 1500000000\n"),
        ("sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n"),
        ("sys/fs/cgroup/memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"),
    ]);
    let host = machine.host();
    let cgroup = Cgroup::locate(&host);
    assert_eq!(cgroup.cpu_quota(&host), Some(0.5));
    assert_eq!(cgroup.memory_limit(&host), Some(1 << 30));
    assert_eq!(cgroup.throttled(&host).map(|t| (t.periods, t.seconds)), Some((4, 1.5)));
    assert_eq!(cgroup.oom_kills(&host), Some(7));
    // "No limit" is written as -1 and as the largest multiple of a page.
    machine.write(&[
        ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
        ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
    ]);
    assert_eq!((cgroup.cpu_quota(&host), cgroup.memory_limit(&host)), (None, None));
}

fn stat_line(pid: u32, name: &str, parent: u32, user: u64, child_user: u64, started: u64) -> String {
    format!("{pid} ({name}) S {parent} {pid} 1 0 -1 0 0 0 0 0 {user} 0 {child_user} 0 20 0 1 0 {started} 1000 5 0")
}

fn look(lines: &[String]) -> Vec<ProcessStat> {
    lines.iter().map(|line| process_stat(line).expect("a stat line")).collect()
}

#[test]
fn own_work_is_told_from_foreign_work() {
    let before = look(&[
        stat_line(1, "init", 0, 10, 0, 1),
        stat_line(100, "regrade", 1, 50, 20, 500),
        stat_line(101, "worker", 100, 30, 0, 600),
        stat_line(200, "chrome", 1, 1000, 0, 300),
        stat_line(300, "old", 1, 5000, 0, 300),
        stat_line(400, "idle", 1, 9, 0, 300),
    ]);
    let after = look(&[
        stat_line(1, "init", 0, 10, 0, 1),
        // The worker has ended and was waited for: 90 ticks of it came over, 30 of which were known before.
        stat_line(100, "regrade", 1, 52, 110, 500),
        stat_line(102, "worker", 100, 7, 0, 700),
        stat_line(103, "grandchild", 102, 5, 0, 701),
        stat_line(200, "chrome", 1, 1040, 0, 300),
        stat_line(201, "chrome", 1, 25, 0, 650),
        // Another process under an old id: all its time is new.
        stat_line(300, "new", 1, 4, 0, 702),
        stat_line(400, "idle", 1, 9, 0, 300),
    ]);
    let usage = processes::usage(&before, &after, &[100]);
    assert_eq!(usage.own_ticks, (52 + 110 + 7 + 5) - (50 + 20 + 30));
    assert_eq!(usage.foreign, [("chrome".to_owned(), 65), ("new".to_owned(), 4)]);
}

#[test]
fn evidence_is_the_difference_of_two_looks() {
    let machine = epyc();
    let cpu0 = "sys/devices/system/cpu/cpu0";
    machine.write(&[
        ("proc/stat", "cpu  1000 0 0 1000 0 0 0 0 0 0\n"),
        ("proc/loadavg", "0.50 0 0 1/9 9\n"),
        ("proc/pressure/cpu", "some avg10=1.00 avg60=0 avg300=0 total=1000000\n"),
        ("sys/fs/cgroup/user.slice/job/cpu.stat", "nr_throttled 3\nthrottled_usec 2500000\n"),
        (&format!("{cpu0}/thermal_throttle/core_throttle_count"), "5\n"),
        (&format!("{cpu0}/thermal_throttle/package_throttle_count"), "1\n"),
        (&format!("{cpu0}/cpufreq/scaling_cur_freq"), "1200000\n"),
        (&format!("{cpu0}/cpufreq/scaling_governor"), "powersave\n"),
        ("sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq", "3400000\n"),
        ("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "performance\n"),
        ("sys/devices/system/cpu/cpufreq/boost", "1\n"),
        ("proc/200/stat", &stat_line(200, "chrome", 1, 1000, 0, 300)),
    ]);
    let watch = Watch::start_on(machine.host());
    std::thread::sleep(std::time::Duration::from_millis(5));
    machine.write(&[
        ("proc/stat", "cpu  1090 0 0 1100 0 0 0 10 0 0\n"),
        ("proc/loadavg", "0.75 0 0 1/9 9\n"),
        ("proc/pressure/cpu", "some avg10=2.50 avg60=0 avg300=0 total=1001000\n"),
        ("sys/fs/cgroup/user.slice/job/cpu.stat", "nr_throttled 5\nthrottled_usec 2750000\n"),
        (&format!("{cpu0}/thermal_throttle/core_throttle_count"), "8\n"),
        ("proc/200/stat", &stat_line(200, "chrome", 1, 1030, 0, 300)),
    ]);
    let evidence = watch.finish(&[]);
    let number = |name: &str| evidence.facts[name].as_f64().unwrap_or_else(|| panic!("{name}"));
    assert_eq!((number("load_1m_before"), number("load_1m")), (0.5, 0.75));
    assert_eq!((number("busy_percent"), number("steal_percent")), (45.0, 5.0));
    assert_eq!(number("pressure_cpu_some_avg10_percent_before"), 1.0);
    assert_eq!(number("pressure_cpu_some_avg10_percent"), 2.5);
    let elapsed = number("watched_s");
    assert!((number("pressure_cpu_some_percent") - 100.0 * 0.001 / elapsed).abs() < 1e-9);
    assert!(!evidence.facts.contains_key("pressure_io_some_percent"), "absent file, absent fact");
    assert_eq!(number("cgroup_throttled_periods"), 2.0);
    assert_eq!(number("cgroup_throttled_s"), 0.25);
    assert_eq!(number("thermal_throttle_events"), 3.0);
    assert_eq!((number("cpu_mhz_min"), number("cpu_mhz_mean"), number("cpu_mhz_max")), (1200.0, 2300.0, 3400.0));
    assert_eq!(evidence.facts["cpu_governor"], "performance, powersave");
    assert_eq!(evidence.facts["cpu_turbo"], true);
    assert_eq!(number("memory_available_bytes"), 24_272_136.0 * 1024.0);
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    assert!((number("foreign_cpu_percent") - 100.0 * 90.0 / ticks / elapsed).abs() < 1e-6);
    assert_eq!(evidence.facts["foreign_top"][0]["name"], "chrome");

    let findings = findings::activity(&machine.host(), &evidence);
    let level = |id: &str| findings.iter().find(|finding| finding.id == id).map(|finding| finding.level);
    assert_eq!(level("steal"), Some(Level::Bad));
    assert_eq!(level("heat"), Some(Level::Bad));
    assert_eq!(level("throttling"), Some(Level::Bad));
    assert_eq!(level("cpu_pressure"), Some(Level::Good));
    assert_eq!(level("load"), Some(Level::Warn));
    assert_eq!(level("other_work"), Some(Level::Bad));
    assert_eq!(level("io_pressure"), None);
}

#[test]
fn standing_findings_name_a_remedy_where_something_is_wrong() {
    let machine = epyc();
    machine.write(&[
        ("sys/fs/cgroup/user.slice/cpu.max", "150000 100000\n"),
        ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n"),
        ("sys/devices/system/cpu/intel_pstate/no_turbo", "0\n"),
        ("sys/devices/system/cpu/smt/active", "1\n"),
        ("sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n"),
        ("proc/sys/kernel/randomize_va_space", "2\n"),
    ]);
    let findings = findings::standing(&machine.host());
    let of = |id: &str| findings.iter().find(|finding| finding.id == id).unwrap_or_else(|| panic!("no {id}"));
    for id in ["cpu_quota", "governor", "turbo", "clock_source"] {
        assert_eq!(of(id).level, Level::Warn, "{id}");
        assert!(of(id).remedy.is_some(), "{id}");
    }
    for id in ["memory", "swap"] {
        assert_eq!((of(id).level, &of(id).remedy), (Level::Good, &None), "{id}");
    }
    assert_eq!(of("cpu").text, "AMD EPYC, 2 cores, avx2 fma avx_vnni avx512f avx512_vnni avx512_bf16");
    machine.write(&[
        ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n"),
        ("sys/devices/system/cpu/intel_pstate/no_turbo", "1\n"),
        ("sys/fs/cgroup/user.slice/cpu.max", "max 100000\n"),
        ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"),
    ]);
    assert!(findings::standing(&machine.host()).iter().all(|finding| finding.level < Level::Warn));
}

#[test]
fn jitter_is_ordered_and_counts_slices() {
    let jitter = probe::jitter();
    assert!(jitter.slices > 10, "{jitter:?}");
    assert!(0.0 < jitter.p50_s && jitter.p50_s <= jitter.p99_s && jitter.p99_s <= jitter.max_s, "{jitter:?}");
    assert!(probe::timer_resolution() > std::time::Duration::ZERO);
}

#[test]
#[cfg(target_os = "linux")]
fn this_machine_sees_itself() {
    let own = process(std::process::id()).expect("this process");
    assert_eq!(own.pid, std::process::id());
    assert!(super::processes().iter().any(|process| process.pid == own.pid));
    assert!(resident_bytes(own.pid).is_some_and(|(now, high)| 0 < now && now <= high));
    assert!(memory().expect("meminfo") > 1 << 20);
    assert!(cores().expect("status") >= 1);
    assert!(telemetry::throttle_events(&Host::at(Path::new("/nowhere"))).is_none());
    assert_eq!(testbed(BTreeMap::new()), testbed(BTreeMap::new()));
    let other = testbed(BTreeMap::from([("backend.cpu.engine".to_owned(), "x".to_owned())]));
    assert_ne!(other.key, testbed(BTreeMap::new()).key);
    assert_eq!(other.key.len(), 16);
}
