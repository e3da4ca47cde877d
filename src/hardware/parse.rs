//! Pure readers of the text files that Linux keeps about itself (proc(5) and the kernel's admin guide).
//!
//! Must not open files: each function takes a text and returns what it says, or `None`.

/// What `/proc/cpuinfo` says of the first processor.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CpuInfo {
    /// The name a person knows it by.
    pub model: Option<String>,
    /// Vendor, family, model and stepping, which tell generations apart that share one name in virtual machines.
    pub signature: Option<String>,
    /// Instruction sets that matter to numeric code, in a fixed order, separated by blanks.
    pub isa: String,
    /// Whether the processor says that a hypervisor runs beneath (x86 only).
    pub hypervisor: bool,
    /// Current clock of every processor, MHz (x86 only).
    pub mhz: Vec<f64>,
}

/// Flag in `/proc/cpuinfo` → the name used in facts. The order is the order in the fact.
const ISA: &[(&str, &str)] = &[
    ("avx2", "avx2"),
    ("fma", "fma"),
    ("avx_vnni", "avx_vnni"),
    ("avx512f", "avx512f"),
    ("avx512_vnni", "avx512_vnni"),
    ("avx512_bf16", "avx512_bf16"),
    ("avx512_fp16", "avx512_fp16"),
    ("amx_tile", "amx"),
    ("asimd", "neon"),
    ("asimdhp", "fp16"),
    ("asimddp", "dotprod"),
    ("bf16", "bf16"),
    ("i8mm", "i8mm"),
    ("sve", "sve"),
    ("sve2", "sve2"),
];

/// Names of Arm's server and desktop cores by implementer and part number (`MIDR_EL1`).
const ARM_CORES: &[(&str, &str, &str)] = &[
    ("0x41", "0xd08", "Arm Cortex-A72"),
    ("0x41", "0xd0b", "Arm Cortex-A76"),
    ("0x41", "0xd0c", "Arm Neoverse-N1"),
    ("0x41", "0xd40", "Arm Neoverse-V1"),
    ("0x41", "0xd49", "Arm Neoverse-N2"),
    ("0x41", "0xd4f", "Arm Neoverse-V2"),
    ("0x41", "0xd84", "Arm Neoverse-V3"),
    ("0x41", "0xd8e", "Arm Neoverse-N3"),
    ("0xc0", "0xac3", "Ampere-1"),
    ("0xc0", "0xac4", "Ampere-1a"),
];

/// Reads `/proc/cpuinfo`.
pub fn cpu_info(text: &str) -> CpuInfo {
    let first = |key: &str| fields(text).find(|(name, _)| *name == key).map(|(_, value)| value.to_owned());
    let flags = first("flags").or_else(|| first("Features")).unwrap_or_default();
    let has = |flag: &str| flags.split_ascii_whitespace().any(|word| word == flag);
    let arm = first("CPU implementer").zip(first("CPU part"));
    let model = first("model name").or_else(|| arm.as_ref().map(arm_name)).or_else(|| first("cpu"));
    let signature = match (first("vendor_id"), first("cpu family"), first("model"), first("stepping")) {
        (Some(vendor), Some(family), Some(model), Some(stepping)) => {
            Some(format!("{vendor} {family}/{model}/{stepping}"))
        }
        _ => arm.map(|(implementer, part)| {
            let revision = format!("r{}p{}", digit(first("CPU variant")), digit(first("CPU revision")));
            format!("{implementer}/{part}/{revision}")
        }),
    };
    CpuInfo {
        model,
        signature,
        isa: ISA.iter().filter(|(flag, _)| has(flag)).map(|(_, name)| *name).collect::<Vec<_>>().join(" "),
        hypervisor: has("hypervisor"),
        mhz: fields(text).filter(|(name, _)| *name == "cpu MHz").filter_map(|(_, value)| value.parse().ok()).collect(),
    }
}

fn arm_name((implementer, part): &(String, String)) -> String {
    ARM_CORES
        .iter()
        .find(|(i, p, _)| i == implementer && p == part)
        .map_or_else(|| format!("Arm implementer {implementer} part {part}"), |(_, _, name)| (*name).to_owned())
}

/// The digit of `0x3` or `1`; `?` when absent.
fn digit(value: Option<String>) -> String {
    value.map_or_else(|| "?".to_owned(), |text| text.trim_start_matches("0x").to_owned())
}

/// Lines of the form `name : value`.
fn fields(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| line.split_once(':')).map(|(name, value)| (name.trim(), value.trim()))
}

/// A row of `/proc/meminfo` or `/proc/<pid>/status` that is given in kB, in bytes.
pub fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let (_, value) = fields(text).find(|(name, _)| *name == key)?;
    Some(value.strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// How many processors a list such as `0-3,8` names: `Cpus_allowed_list` in `/proc/self/status`.
pub fn allowed_cpus(status: &str) -> Option<usize> {
    let (_, list) = fields(status).find(|(name, _)| *name == "Cpus_allowed_list")?;
    list.split(',').try_fold(0, |sum, part| {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let (low, high): (usize, usize) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
        Some(sum + (high + 1).checked_sub(low)?)
    })
}

/// What the kernel lets a process do, one bit a capability: `CapEff` in `/proc/self/status`.
pub fn capabilities(status: &str) -> Option<u64> {
    let (_, bits) = fields(status).find(|(name, _)| *name == "CapEff")?;
    u64::from_str_radix(bits, 16).ok()
}

/// `6.18` of `6.18.44-generic`.
pub fn kernel_major_minor(release: &str) -> Option<String> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    let (major, minor) = (parts.next()?, parts.next()?);
    (!major.is_empty() && !minor.is_empty()).then(|| format!("{major}.{minor}"))
}

/// The first line of `/proc/stat`, in clock ticks summed over all processors since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuTimes {
    /// Time in programs and in the kernel on their behalf (user, nice, system).
    pub busy: u64,
    /// Time the hypervisor gave to others while a processor here wanted to run.
    pub steal: u64,
    /// All of it, idle included.
    pub total: u64,
}

/// Reads `/proc/stat`.
pub fn cpu_times(text: &str) -> Option<CpuTimes> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal guest guest_nice; guest time is already part of user time.
    let at = |index: usize| ticks.get(index).copied().unwrap_or(0);
    (ticks.len() >= 4).then(|| CpuTimes {
        busy: at(0) + at(1) + at(2),
        steal: at(7),
        total: ticks.iter().take(8).sum(),
    })
}

/// The `some` line of a file in `/proc/pressure`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pressure {
    /// Share of the last ten seconds in which some task waited, percent.
    pub avg10: f64,
    /// Time since boot in which some task waited, microseconds.
    pub total_us: u64,
}

/// Reads a file of `/proc/pressure`.
pub fn pressure(text: &str) -> Option<Pressure> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let value = |key: &str| line.split_ascii_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    Some(Pressure { avg10: value("avg10")?.parse().ok()?, total_us: value("total")?.parse().ok()? })
}

/// The one-minute load of `/proc/loadavg`.
pub fn load_1m(text: &str) -> Option<f64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// A counter in a file of `name value` lines: `cpu.stat`, `memory.events`, `/proc/vmstat`.
pub fn counter(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(name, _)| *name == key)
        .and_then(|(_, value)| value.trim().parse().ok())
}

/// One line of `/proc/<pid>/stat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessStat {
    /// Process id.
    pub pid: u32,
    /// The kernel's name of it, at most 15 bytes.
    pub name: String,
    /// `R`, `S`, `Z`, …
    pub state: char,
    /// Its parent's process id.
    pub parent: u32,
    /// Its process group.
    pub group: u32,
    /// User time of all its threads, clock ticks.
    pub user: u64,
    /// System time of all its threads, clock ticks.
    pub system: u64,
    /// User time of the descendants it has waited for, clock ticks.
    pub child_user: u64,
    /// System time of the descendants it has waited for, clock ticks.
    pub child_system: u64,
    /// When it started, clock ticks since boot: tells a process from a later one with the same id.
    pub started: u64,
    /// Resident set, pages.
    pub resident: u64,
}

impl ProcessStat {
    /// CPU time of its own threads, clock ticks.
    pub fn ticks(&self) -> u64 {
        self.user + self.system
    }

    /// CPU time of its own threads and of the descendants it has waited for, clock ticks.
    pub fn ticks_with_children(&self) -> u64 {
        self.ticks() + self.child_user + self.child_system
    }
}

/// Reads `/proc/<pid>/stat`. The name may hold blanks and parentheses, so the fields are counted from the last `)`.
pub fn process_stat(text: &str) -> Option<ProcessStat> {
    let (head, tail) = text.rsplit_once(')')?;
    let (pid, name) = head.split_once('(')?;
    let words: Vec<&str> = tail.split_ascii_whitespace().collect();
    // proc(5) numbers fields from 1; `state` is field 3 and the first word here.
    let field = |number: usize| words.get(number - 3)?.parse::<u64>().ok();
    Some(ProcessStat {
        pid: pid.trim().parse().ok()?,
        name: name.to_owned(),
        state: words.first()?.chars().next()?,
        parent: field(4)? as u32,
        group: field(5)? as u32,
        user: field(14)?,
        system: field(15)?,
        child_user: field(16)?,
        child_system: field(17)?,
        started: field(22)?,
        resident: field(24)?,
    })
}
