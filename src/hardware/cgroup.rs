//! The control groups (versions 1 and 2) that this process lives in: quota, memory limit, throttling, kills.
//!
//! A limit of an outer group holds for the inner ones too, so limits are the smallest and counters the sum along the
//! way from the innermost group that can be seen to the mount point (cgroups(7)).

use std::path::{Component, Path, PathBuf};

use crate::hardware::host::Host;
use crate::hardware::parse;

/// Version 1 writes "no limit" as the largest multiple of a page; anything near it is no limit.
const V1_UNLIMITED: u64 = 1 << 60;

/// Folders of this process's groups, innermost first, relative to the host's root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cgroup {
    unified: Vec<PathBuf>,
    cpu: Vec<PathBuf>,
    memory: Vec<PathBuf>,
}

/// How often and how long the CPU quota stopped this group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Throttled {
    /// Periods in which it ran out of quota.
    pub periods: u64,
    /// Time it was stopped, seconds.
    pub seconds: f64,
}

impl Cgroup {
    /// Finds the groups from `/proc/self/cgroup` and `/proc/self/mountinfo`.
    pub fn locate(host: &Host) -> Self {
        let (Some(groups), Some(mounts)) = (host.read("proc/self/cgroup"), host.read("proc/self/mountinfo")) else {
            return Self::default();
        };
        let folders = |controller: &str| folders(&groups, &mounts, controller).unwrap_or_default();
        Self { unified: folders(""), cpu: folders("cpu"), memory: folders("memory") }
    }

    /// CPUs' worth of time this group may use; `None` without a quota.
    pub fn cpu_quota(&self, host: &Host) -> Option<f64> {
        let v2 = self.unified.iter().filter_map(|folder| {
            let text = host.read(folder.join("cpu.max"))?;
            let (quota, period) = text.split_once(' ')?;
            Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
        });
        let v1 = self.cpu.iter().filter_map(|folder| {
            // The quota is -1 where there is none, which is no u64.
            let quota = host.number(folder.join("cpu.cfs_quota_us"))?;
            Some(quota as f64 / host.number(folder.join("cpu.cfs_period_us"))? as f64)
        });
        v2.chain(v1).filter(|quota| quota.is_finite() && *quota > 0.0).min_by(f64::total_cmp)
    }

    /// Bytes this group may use; `None` without a limit.
    pub fn memory_limit(&self, host: &Host) -> Option<u64> {
        let v2 = self.unified.iter().filter_map(|folder| host.number(folder.join("memory.max")));
        let v1 = self.memory.iter().filter_map(|folder| host.number(folder.join("memory.limit_in_bytes")));
        v2.chain(v1).filter(|limit| *limit < V1_UNLIMITED).min()
    }

    /// How much the quota has stopped this group since it was made.
    pub fn throttled(&self, host: &Host) -> Option<Throttled> {
        self.unified
            .iter()
            .chain(&self.cpu)
            .filter_map(|folder| {
                let text = host.read(folder.join("cpu.stat"))?;
                let seconds = parse::counter(&text, "throttled_usec")
                    .map(|micros| micros as f64 * 1e-6)
                    .or_else(|| parse::counter(&text, "throttled_time").map(|nanos| nanos as f64 * 1e-9))?;
                Some(Throttled { periods: parse::counter(&text, "nr_throttled")?, seconds })
            })
            .reduce(|a, b| Throttled { periods: a.periods + b.periods, seconds: a.seconds + b.seconds })
    }

    /// Processes of this group that the kernel has killed for want of memory.
    pub fn oom_kills(&self, host: &Host) -> Option<u64> {
        let v2 = self.unified.iter().map(|folder| folder.join("memory.events"));
        let v1 = self.memory.iter().map(|folder| folder.join("memory.oom_control"));
        v2.chain(v1).find_map(|file| parse::counter(&host.read(file)?, "oom_kill"))
    }
}

/// The folders of one controller (empty for version 2), innermost first.
fn folders(groups: &str, mounts: &str, controller: &str) -> Option<Vec<PathBuf>> {
    // hierarchy:controllers:path
    let path = groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        controllers.split(',').any(|name| name == controller).then_some(path)
    })?;
    // id parent device root mount-point options … - type source super-options
    let (root, mount) = mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, mount) = (left.next()?, left.next()?);
        let mut right = right.split(' ');
        let (kind, _, options) = (right.next()?, right.next()?, right.next()?);
        let wanted = if controller.is_empty() {
            kind == "cgroup2"
        } else {
            kind == "cgroup" && options.split(',').any(|name| name == controller)
        };
        wanted.then_some((root, mount))
    })?;
    let mount = Path::new(mount.trim_start_matches('/'));
    // In a container the group's path may lie outside what is mounted; then the mount point is the innermost seen.
    let inside = Path::new(path)
        .strip_prefix(root)
        .ok()
        .filter(|inside| !inside.components().any(|part| part == Component::ParentDir))
        .unwrap_or(Path::new(""));
    Some(inside.ancestors().map(|part| mount.join(part)).collect())
}
