//! Who measures a run: a process, told apart from later ones that get the same number.
//!
//! Must not know runs or tables.

use std::fs;

/// A process of some boot of some machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The kernel's id of this boot; two machines, or two boots of one, never share it. Empty where there is no /proc.
    pub boot: String,
    /// Process id.
    pub pid: u32,
    /// When the process started, clock ticks since boot; 0 where there is no /proc.
    pub start: u64,
}

impl Owner {
    /// This process.
    pub fn this_process() -> Self {
        let pid = std::process::id();
        Self { boot: boot_id(), pid, start: start_of(pid).unwrap_or(0) }
    }

    /// Whether the process still runs. A process of another boot, or one that /proc does not show, is gone; a process
    /// of another container looks gone too, which is harmless: its own `finish_run` puts the status right.
    pub fn is_alive(&self) -> bool {
        *self == Self::this_process() || (self.boot == boot_id() && start_of(self.pid) == Some(self.start))
    }
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// Start time of a process that runs; `None` for one that is gone or a zombie. Field 22 of proc(5)'s `stat`.
fn start_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, the name, is in parentheses and may hold spaces and parentheses itself.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    // `rest` begins with field 3; `next` took it.
    fields.nth(22 - 4)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::Owner;

    #[test]
    fn this_process_is_alive_and_others_are_told_apart() {
        let me = Owner::this_process();
        assert!(me.is_alive());
        let another_start = Owner { start: me.start + 1, ..me.clone() };
        assert!(!another_start.is_alive());
        let another_boot = Owner { boot: "another".to_owned(), ..me };
        assert!(!another_boot.is_alive());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_is_alive_until_it_ends() {
        let mut child = Command::new("sleep").arg("600").stdout(Stdio::null()).spawn().unwrap();
        let owner = Owner { start: super::start_of(child.id()).unwrap(), pid: child.id(), boot: super::boot_id() };
        assert!(owner.is_alive());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!owner.is_alive());
    }
}
