//! Hosts made of files, one of every version; names and peaks.

use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

/// A host with these devices on its bus, these files, and this environment.
struct Machine {
    root: TempDir,
    variables: Vec<(&'static str, &'static str)>,
}

impl Machine {
    fn new(pci: &[(u16, u16, u16)], files: &[&str], variables: &[(&'static str, &'static str)]) -> Self {
        let root = TempDir::new().expect("a temporary folder");
        let machine = Self { root, variables: variables.to_vec() };
        machine.write("sys/bus/pci/devices/0000:00:00.0/vendor", "0x8086\n");
        machine.write("sys/bus/pci/devices/0000:00:00.0/device", "0x1237\n");
        for (slot, (vendor, device, subsystem)) in pci.iter().enumerate() {
            let folder = format!("sys/bus/pci/devices/0000:00:{:02x}.0", slot + 4);
            for (name, id) in [("vendor", vendor), ("device", device), ("subsystem_device", subsystem)] {
                machine.write(&format!("{folder}/{name}"), &format!("0x{id:04x}\n"));
            }
        }
        for file in files {
            machine.write(file, "");
        }
        machine
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.root.path().join(name);
        std::fs::create_dir_all(path.parent().expect("files have folders")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }

    fn host(&self) -> Host {
        Host::at(self.root.path())
    }

    fn tell(&self, name: &str) -> Option<String> {
        self.variables.iter().find(|(known, _)| *known == name).map(|(_, text)| (*text).to_owned())
    }

    fn tpu(&self) -> Result<Tpu, Absent> {
        on(&self.host(), &|name| self.tell(name))
    }

    fn describes(&self) -> String {
        self.tpu().expect("a TPU").describe()
    }

    fn findings(&self, library: bool) -> Vec<Finding> {
        findings_on(&self.host(), &|name| self.tell(name), library)
    }
}

const VFIO: [&str; 5] = ["dev/vfio/vfio", "dev/vfio/0", "dev/vfio/1", "dev/vfio/2", "dev/vfio/3"];
const ACCEL: [&str; 4] = ["dev/accel0", "dev/accel1", "dev/accel2", "dev/accel3"];
const GVNIC: (u16, u16, u16) = (VENDOR, 0x0042, 0x0058);

#[test]
fn a_host_of_every_version() {
    let single = [("TPU_WORKER_HOSTNAMES", "localhost"), ("TPU_WORKER_ID", "0"), ("TPU_TOPOLOGY", "2x2")];
    let of = |device, files: &[&str]| Machine::new(&[(VENDOR, device, 0); 4], files, &single).describes();
    let end = "each, a single host, topology 2x2";
    assert_eq!(of(0x005e, &ACCEL), format!("TPU v4, 4 chips of 32 GiB with 2 cores {end}"));
    assert_eq!(of(0x0063, &VFIO), format!("TPU v5e, 4 chips of 16 GiB with 1 core {end}"));
    assert_eq!(of(0x0062, &VFIO), format!("TPU v5p, 4 chips of 95 GiB with 2 cores {end}"));
    assert_eq!(of(0x006f, &VFIO), format!("TPU v6e, 4 chips of 32 GiB with 1 core {end}"));
    assert_eq!(of(0x0076, &VFIO), format!("TPU v7x, 4 chips of 192 GiB with 2 cores {end}"));
}

#[test]
fn versions_that_share_a_device_differ_by_subsystem() {
    let of = |subsystem| Machine::new(&[(VENDOR, 0x0027, subsystem)], &ACCEL[..1], &[]).tpu().expect("a TPU").version;
    assert_eq!(of(0x004e), Some(Version::V2));
    assert_eq!(of(0x004f), Some(Version::V3));
    assert_eq!(of(0x0001), None);
    let unknown = Machine::new(&[(VENDOR, 0x0027, 1)], &ACCEL[..1], &[]);
    assert_eq!(unknown.describes(), "TPU of no known version, 1 chip");
}

#[test]
fn a_slice_is_put_together_from_what_the_environment_tells() {
    let bounds = [
        ("TPU_ACCELERATOR_TYPE", "v4-32"),
        ("TPU_HOST_BOUNDS", "1,1,4"),
        ("TPU_CHIPS_PER_HOST_BOUNDS", "2,2,1"),
        ("TPU_WORKER_ID", "3"),
        ("TPU_SKIP_MDS_QUERY", "1"),
    ];
    // Containers without a view of the bus have only the environment.
    let machine = Machine::new(&[], &ACCEL, &bounds);
    std::fs::remove_dir_all(machine.root.path().join("sys")).expect("it was there");
    let tpu = machine.tpu().expect("a TPU");
    assert_eq!((tpu.version, tpu.asks_metadata), (Some(Version::V4), false));
    assert_eq!(tpu.describe(), "TPU v4, 4 chips of 32 GiB with 2 cores each, host 3 of 4, topology 2x2x4");

    let named = [("TPU_WORKER_HOSTNAMES", "a,b,c,d"), ("TPU_PROCESS_BOUNDS", "nonsense"), ("TPU_TOPOLOGY", "4x4")];
    let machine = Machine::new(&[(VENDOR, 0x0063, 0); 4], &VFIO, &named);
    assert!(machine.describes().ends_with(", one of 4 hosts, topology 4x4"));
    assert!(machine.tpu().expect("a TPU").asks_metadata);

    let silent = Machine::new(&[(VENDOR, 0x0063, 0)], &VFIO[..2], &[]).tpu().expect("a TPU");
    assert_eq!(silent.slice, Slice::default());
}

#[test]
fn what_only_looks_like_one_is_none() {
    let reason = |machine: &Machine| machine.tpu().expect_err("no TPU").reason;
    let none = "no TPU: no /dev/accel* or /dev/vfio device";
    assert_eq!(reason(&Machine::new(&[], &[], &[])), none);
    // A virtual machine with the maker's network card, a host that passes a GPU through, a laptop with an accelerator of its own.
    assert_eq!(reason(&Machine::new(&[GVNIC], &[], &[])), none);
    assert_eq!(reason(&Machine::new(&[(0x10de, 0x2330, 0)], &VFIO, &[])), none);
    assert_eq!(reason(&Machine::new(&[(0x8086, 0x7d1d, 0)], &["dev/accel/accel0"], &[])), none);
    // Another maker's device of the same number.
    assert_eq!(reason(&Machine::new(&[(0x8086, 0x0063, 0)], &VFIO, &[])), none);

    let shut = Machine::new(&[(VENDOR, 0x006f, 0); 8], &[], &[]);
    assert_eq!(reason(&shut), "8 of TPU v6e on the PCI bus, and no /dev/accel* or /dev/vfio device");
}

#[test]
fn absence_is_a_fact_and_a_remedy_only_for_who_has_the_library() {
    let machine = Machine::new(&[], &[], &[]);
    for library in [false, true] {
        let findings = machine.findings(library);
        assert_eq!(findings.len(), 1);
        assert_eq!((findings[0].level, findings[0].remedy.is_some()), (Level::Info, library));
    }
    let ids: Vec<&str> =
        Machine::new(&[(VENDOR, 0x0063, 0)], &VFIO[..2], &[]).findings(true).iter().map(|finding| finding.id).collect();
    assert_eq!(ids, ["tpu", "tpu_peaks"]);
}

#[test]
fn who_locks_the_library_is_told_and_a_lock_left_behind_is_not() {
    let machine = Machine::new(&[(VENDOR, 0x0063, 0)], &["dev/vfio/0", "tmp/libtpu_lockfile"], &[]);
    let owner = || owner_on(&machine.host(), &["/dev/vfio/0".to_owned()]);
    assert_eq!(owner(), None);
    let file = std::fs::metadata(machine.root.path().join("tmp/libtpu_lockfile")).expect("the file");
    let (major, minor) = (rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()));
    let line = |pid: u32| format!("FLOCK  ADVISORY  WRITE {pid} {major:02x}:{minor:02x}:{} 0 EOF", file.ino());
    machine.write("proc/locks", &format!("1: -> {}\n2: POSIX  ADVISORY  READ -1 00:01:7 0 EOF\n", line(99)));
    assert_eq!(owner(), None, "who waits has nothing");
    machine.write("proc/locks", &format!("1: {}\n2: {}\n", line(std::process::id()), line(4321)));
    machine.write("proc/4321/comm", "python3\n");
    let held = owner().expect("an owner");
    assert_eq!((held.pid, held.name.as_deref(), held.holds.as_str()), (4321, Some("python3"), LOCK));
    let finding = machine.findings(true).pop().expect("findings");
    assert_eq!(finding.level, Level::Warn);
    assert!(finding.text.starts_with("process 4321 (python3) holds /tmp/libtpu_lockfile"), "{}", finding.text);
}

#[test]
fn who_has_a_device_open_is_told() {
    let machine = Machine::new(&[(VENDOR, 0x005e, 0)], &["dev/accel0"], &[]);
    machine.write("proc/77/comm", "train\n");
    machine.write("proc/self/comm", "not a number");
    std::fs::create_dir_all(machine.root.path().join("proc/77/fd")).expect("a folder");
    symlink("/dev/null", machine.root.path().join("proc/77/fd/0")).expect("a link");
    let owner = || owner_on(&machine.host(), &["/dev/accel0".to_owned()]);
    assert_eq!(owner(), None);
    symlink("/dev/accel0", machine.root.path().join("proc/77/fd/5")).expect("a link");
    let held = Owner { pid: 77, name: Some("train".to_owned()), holds: "/dev/accel0".to_owned() };
    assert_eq!(owner(), Some(held));
}

#[test]
fn versions_are_known_by_every_name() {
    for (kind, version) in [
        ("TPU v2", Some("v2")),
        ("TPU v3", Some("v3")),
        ("TPU v4", Some("v4")),
        ("TPU v4 lite", None),
        ("TPU v5 lite", Some("v5e")),
        ("TPU v5", Some("v5p")),
        ("TPU v5p", Some("v5p")),
        ("TPU v6 lite", Some("v6e")),
        ("TPU v6e", Some("v6e")),
        ("TPU7x", Some("v7x")),
        ("cpu", None),
    ] {
        assert_eq!(Version::of_kind(kind).map(Version::name), version, "{kind}");
    }
    for (accelerator, version) in [
        ("v4-32", Some("v4")),
        ("v5litepod-16", Some("v5e")),
        ("v5p-8", Some("v5p")),
        ("v6e-8", Some("v6e")),
        ("tpu7x-8", Some("v7x")),
        ("v9-1", None),
        ("", None),
    ] {
        assert_eq!(Version::of_type(accelerator).map(Version::name), version, "{accelerator}");
    }
}

#[test]
fn names_are_of_one_chip_each_and_rates_grow_with_narrower_numbers() {
    for (place, chip) in CHIPS.iter().enumerate() {
        assert_eq!(chip.version.name(), chip.name);
        assert_eq!(Version::of_type(chip.name), Some(chip.version));
        for other in &CHIPS[place + 1..] {
            assert_ne!(chip.pci, other.pci);
            assert!(chip.kinds.iter().all(|kind| !other.kinds.contains(kind)), "{}", chip.name);
        }
        for narrow in [chip.int8, chip.fp8].into_iter().flatten() {
            let ratio = narrow / chip.bf16.expect("wider numbers are documented where narrow ones are");
            assert!((ratio - 1.0).abs() < 0.01 || (ratio - 2.0).abs() < 0.01, "{}: {ratio}", chip.name);
        }
    }
    assert_eq!(Version::V7x.chip().peaks(), "bf16 2307 TFLOP/s, fp8 4614 TFLOP/s, 7.38 TB/s");
}

#[test]
fn this_machine_has_an_answer() {
    // Whatever it is: with or without a TPU, something is said of it.
    assert_eq!(findings(true)[0].id, "tpu");
}
