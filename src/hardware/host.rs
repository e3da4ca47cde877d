//! The files of a Linux host, below a root that tests replace by a folder of captured samples.
//!
//! A file that is absent or unreadable is `None`, so that other systems and locked-down containers yield fewer facts
//! instead of errors. Must not know what any file means.

use std::path::{Path, PathBuf};

/// Where `/proc` and `/sys` are found.
#[derive(Debug, Clone)]
pub struct Host {
    root: PathBuf,
}

impl Host {
    /// The machine this process runs on.
    pub fn this() -> Self {
        Self::at("/")
    }

    /// A copy of a machine's files below `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The place of a file or folder, given without a leading slash.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(path)
    }

    /// The text of a file, without trailing white space.
    pub fn read(&self, path: impl AsRef<Path>) -> Option<String> {
        let bytes = std::fs::read(self.path(path)).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim_end().to_owned())
    }

    /// A file that holds one whole number.
    pub fn number(&self, path: impl AsRef<Path>) -> Option<u64> {
        self.read(path)?.parse().ok()
    }

    /// Whether a file or folder is there.
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.path(path).exists()
    }

    /// The folders `sys/devices/system/cpu/cpuN`, in no particular order.
    pub fn cpu_folders(&self) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(self.path("sys/devices/system/cpu")) else {
            return Vec::new();
        };
        let is_cpu = |name: &str| {
            name.strip_prefix("cpu")
                .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
        };
        entries
            .flatten()
            .filter(|entry| is_cpu(&entry.file_name().to_string_lossy()))
            .map(|entry| entry.path())
            .collect()
    }
}
