//! Who uses the processors: one look at every process, and the difference between two looks.
//!
//! One look opens one small file a process (about 10 µs each), so it is taken before and after a launch, never
//! during one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read;

use crate::hardware::host::Host;
use crate::hardware::parse::{self, ProcessStat};

/// Every process that can be seen.
pub fn scan(host: &Host) -> Vec<ProcessStat> {
    let Ok(entries) = std::fs::read_dir(host.path("proc")) else {
        return Vec::new();
    };
    let mut text = String::new();
    let mut found = Vec::new();
    for entry in entries.flatten() {
        if !entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        text.clear();
        // A process may end between the listing and the reading.
        let read = std::fs::File::open(entry.path().join("stat")).and_then(|mut file| file.read_to_string(&mut text));
        if read.is_ok() {
            found.extend(parse::process_stat(&text));
        }
    }
    found
}

/// What happened between two looks.
#[derive(Debug, Clone, PartialEq)]
pub struct Usage {
    /// CPU time of `own` and their descendants, those that ended and were waited for included, clock ticks.
    pub own_ticks: u64,
    /// CPU time of every other process that is still there, by name, clock ticks, the busiest first; idle ones absent.
    pub foreign: Vec<(String, u64)>,
}

/// Compares two looks. `own` are process ids; their descendants are found from the parents.
pub fn usage(before: &[ProcessStat], after: &[ProcessStat], own: &[u32]) -> Usage {
    let own = with_descendants(own, before, after);
    let sum = |look: &[ProcessStat]| -> u64 {
        look.iter().filter(|process| own.contains(&process.pid)).map(ProcessStat::ticks_with_children).sum()
    };
    let earlier: HashMap<(u32, u64), u64> =
        before.iter().map(|process| ((process.pid, process.started), process.ticks())).collect();
    let mut foreign: BTreeMap<&str, u64> = BTreeMap::new();
    for process in after.iter().filter(|process| !own.contains(&process.pid)) {
        let was = earlier.get(&(process.pid, process.started)).copied().unwrap_or(0);
        let ticks = process.ticks().saturating_sub(was);
        if ticks > 0 {
            *foreign.entry(&process.name).or_default() += ticks;
        }
    }
    let mut foreign: Vec<_> = foreign.into_iter().map(|(name, ticks)| (name.to_owned(), ticks)).collect();
    foreign.sort_by_key(|(_, ticks)| std::cmp::Reverse(*ticks));
    Usage { own_ticks: sum(after).saturating_sub(sum(before)), foreign }
}

/// These processes and all below them in either look.
fn with_descendants(own: &[u32], before: &[ProcessStat], after: &[ProcessStat]) -> HashSet<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for process in before.iter().chain(after) {
        children.entry(process.parent).or_default().push(process.pid);
    }
    let mut family = HashSet::new();
    let mut open = own.to_vec();
    while let Some(pid) = open.pop() {
        if family.insert(pid) {
            open.extend(children.get(&pid).into_iter().flatten());
        }
    }
    family
}
