//! PJRT plugins: shared libraries that compile and run programs on one kind of device, and where they are.
//!
//! A plugin may be named by a variable, installed by regrade, or lie among the active Python's packages; the first that is found is
//! used. A variable that names what is not there is a mistake of its own: another plugin in its place would be a surprise. Must not
//! load a plugin.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::domain::Skip;
use crate::hardware::python;

mod hash;
pub mod install;
pub mod package;
#[cfg(test)]
mod tests;

/// Names files and folders of plugins, separated like those of `PATH`.
pub const PLUGIN_PATH: &str = "REGRADE_PLUGIN_PATH";
/// Names libtpu, as its maker's other programs read it.
pub const TPU_LIBRARY: &str = "TPU_LIBRARY_PATH";
/// Names the folder that regrade installs plugins in.
pub const CACHE: &str = "REGRADE_PLUGIN_CACHE";

/// What a plugin runs programs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    /// The host's processors.
    Cpu,
    /// NVIDIA GPUs.
    Cuda,
    /// AMD GPUs.
    Rocm,
    /// Intel GPUs.
    Oneapi,
    /// TPUs.
    Tpu,
}

impl Platform {
    /// All, in the order in which they are shown.
    pub const ALL: [Self; 5] = [Self::Cpu, Self::Cuda, Self::Rocm, Self::Oneapi, Self::Tpu];

    /// Lower-case name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Rocm => "rocm",
            Self::Oneapi => "oneapi",
            Self::Tpu => "tpu",
        }
    }

    /// The backend's name in suites: `xla:cpu`.
    #[must_use]
    pub const fn backend(self) -> &'static str {
        match self {
            Self::Cpu => "xla:cpu",
            Self::Cuda => "xla:cuda",
            Self::Rocm => "xla:rocm",
            Self::Oneapi => "xla:oneapi",
            Self::Tpu => "xla:tpu",
        }
    }

    /// By its name or its backend's.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|platform| platform.name() == text || platform.backend() == text)
    }

    /// By the name of a plugin's file.
    #[must_use]
    pub fn of_file(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        if name == "libtpu.so" {
            return Some(Self::Tpu);
        }
        // `cpu` last: other names may say which host they are for.
        [Self::Cuda, Self::Rocm, Self::Oneapi, Self::Cpu].into_iter().find(|platform| name.contains(platform.name()))
    }
}

/// How a plugin was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "kind", content = "name")]
pub enum Source {
    /// A variable names it.
    Variable(&'static str),
    /// `regrade backend install` put it there.
    Installed(&'static str),
    /// It is a package of the active Python.
    Python,
}

/// A plugin that is here. Whether it can be loaded is another question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plugin {
    /// What it runs programs on.
    pub platform: Platform,
    /// Its file.
    pub path: PathBuf,
    /// How it was found.
    pub source: Source,
    /// The package that brought it, with its version: `lammps-jax-pjrt-cpu 0.11.2`; `None` where nothing says so.
    pub package: Option<String>,
}

/// Something that was named and is not there, or is there and broken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// Which platform it was for; any, where that cannot be told.
    pub platform: Option<Platform>,
    /// What is the matter, naming the variable or the folder.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

/// What there is to find, in order of precedence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Search {
    /// Plugins; the first of a platform is the one that is used.
    pub plugins: Vec<Plugin>,
    /// What stands in the way: a platform that is concerned has no plugin until it is put right.
    pub broken: Vec<Broken>,
}

/// What decides where plugins are looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// [`PLUGIN_PATH`].
    pub plugin_path: Option<OsString>,
    /// [`TPU_LIBRARY`].
    pub tpu_library: Option<PathBuf>,
    /// The folder that regrade installs plugins in; `None` where there is no home.
    pub cache: Option<PathBuf>,
    /// Folders of the active Python's packages.
    pub site_packages: Vec<PathBuf>,
}

impl Environment {
    /// This process's.
    #[must_use]
    pub fn of_process() -> Self {
        let home = || variable("HOME").map(|home| PathBuf::from(home).join(".local/share"));
        let data = || variable("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute()).or_else(home);
        Self {
            plugin_path: variable(PLUGIN_PATH),
            tpu_library: variable(TPU_LIBRARY).map(PathBuf::from),
            cache: variable(CACHE).map(PathBuf::from).or_else(|| Some(data()?.join("regrade/plugins"))),
            site_packages: python::packages(),
        }
    }
}

fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Where hashes of libraries are kept: in the folder that commits are checked out in too.
fn hashes() -> Option<PathBuf> {
    let home = || Some(PathBuf::from(variable("HOME")?).join(".cache"));
    let user = || Some(variable("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)?.join("regrade"));
    Some(variable("REGRADE_CACHE").map(PathBuf::from).or_else(user)?.join("plugin-hashes"))
}

impl Plugin {
    /// A name for people: its package, or its file where that is all there is.
    #[must_use]
    pub fn name(&self) -> String {
        let file = || self.path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        self.package.clone().unwrap_or_else(file)
    }

    /// SHA-256 of its library; nothing where that cannot be read. The first time that regrade sees a library this takes a second.
    #[must_use]
    pub fn sha256(&self) -> Option<String> {
        hash::sha256(&self.path, hashes().as_deref()).ok()
    }
}

/// The plugin that is used for a platform.
///
/// # Errors
/// The reason and the remedy, where there is none, or where a variable or regrade's own folder names one that is not there.
pub fn find(platform: Platform) -> Result<Plugin, Skip> {
    all(&Environment::of_process()).find(platform)
}

impl Search {
    /// The plugin that is used for a platform.
    ///
    /// # Errors
    /// As [`find`].
    pub fn find(&self, platform: Platform) -> Result<Plugin, Skip> {
        let concerns = |broken: &&Broken| broken.platform.is_none_or(|concerned| concerned == platform);
        if let Some(broken) = self.broken.iter().find(concerns) {
            return Err(Skip { reason: broken.reason.clone(), remedy: broken.remedy.clone() });
        }
        self.plugins.iter().find(|plugin| plugin.platform == platform).cloned().ok_or_else(|| absent(platform))
    }
}

fn absent(platform: Platform) -> Skip {
    let names: Vec<String> =
        package::of(platform).map(|one| format!("`regrade backend install {}`", one.name)).collect();
    Skip {
        reason: format!("there is no PJRT plugin for {} here", platform.name()),
        remedy: format!("run {}, or name one in {PLUGIN_PATH}", names.join(" or ")),
    }
}

/// Everything that this environment leads to. Reads folders and small files only.
#[must_use]
pub fn all(environment: &Environment) -> Search {
    let mut search = Search::default();
    for entry in std::env::split_paths(environment.plugin_path.as_deref().unwrap_or_default()) {
        if !entry.as_os_str().is_empty() {
            search.named(&entry);
        }
    }
    if let Some(path) = &environment.tpu_library {
        search.file(Platform::Tpu, &whole(path), TPU_LIBRARY);
    }
    if let Some(cache) = &environment.cache {
        for package in package::PACKAGES {
            search.installed(package, cache);
        }
    }
    for folder in &environment.site_packages {
        search.packages(folder, Source::Python);
    }
    // The same file may be reached in two ways; the first counts.
    let mut seen = BTreeSet::new();
    search.plugins.retain(|plugin| {
        let path = plugin.path.canonicalize().unwrap_or_else(|_| plugin.path.clone());
        seen.insert((plugin.platform, path))
    });
    search
}

/// A path from the root: a bare name would be looked up where libraries lie, not here.
fn whole(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

impl Search {
    /// An entry of [`PLUGIN_PATH`]: a file, a folder, or `cuda=/a/file`.
    fn named(&mut self, entry: &Path) {
        // A path may hold a `=` too.
        let tagged = entry.to_str().and_then(|text| text.split_once('=')).filter(|(name, _)| !name.contains('/'));
        let said = tagged.and_then(|(name, _)| Platform::parse(name));
        if let (Some((name, _)), None) = (tagged, said) {
            let names = Platform::ALL.map(Platform::name).join(", ");
            return self.broken.push(Broken {
                platform: None,
                reason: format!("{PLUGIN_PATH} names `{name}`, which is no platform"),
                remedy: format!("write one of {names} before the `=`"),
            });
        }
        let path = whole(tagged.map_or(entry, |(_, path)| Path::new(path)));
        if path.is_dir() {
            let found = self.plugins.len();
            self.folder(said, &path);
            if self.plugins.len() == found {
                self.broken.push(Broken {
                    platform: said,
                    reason: format!("{PLUGIN_PATH} names the folder {}, which has no plugin in it", path.display()),
                    remedy: "correct it, name the plugin's file, or unset the variable".to_owned(),
                });
            }
            return;
        }
        match said.or_else(|| Platform::of_file(&path)) {
            Some(platform) => self.file(platform, &path, PLUGIN_PATH),
            None if path.exists() => self.broken.push(Broken {
                platform: None,
                reason: format!("{PLUGIN_PATH} names {}, which does not say what it is for", path.display()),
                remedy: format!("write it as `cuda={0}` or `cpu={0}`", path.display()),
            }),
            None => self.broken.push(missing(None, &path, PLUGIN_PATH)),
        }
    }

    /// A file that a variable names.
    fn file(&mut self, platform: Platform, path: &Path, variable: &'static str) {
        if path.is_file() {
            let source = Source::Variable(variable);
            self.plugins.push(Plugin { platform, path: path.to_owned(), source, package: None });
        } else {
            self.broken.push(missing(Some(platform), path, variable));
        }
    }

    /// A folder that [`PLUGIN_PATH`] names: plugins in it, and packages as `pip install --target` puts them there.
    fn folder(&mut self, said: Option<Platform>, folder: &Path) {
        let source = Source::Variable(PLUGIN_PATH);
        for path in entries(folder) {
            let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
            // Libraries that plugins need may lie beside them.
            let is_plugin = name == "libtpu.so" || name.contains("pjrt") || name.contains("plugin");
            let platform = Platform::of_file(&path).filter(|_| is_plugin && is_library(&path) && path.is_file());
            if let Some(platform) = platform.filter(|platform| said.is_none_or(|said| said == *platform)) {
                self.plugins.push(Plugin { platform, path, source, package: None });
            }
        }
        let before = self.plugins.len();
        self.packages(folder, source);
        if let Some(said) = said {
            let found = self.plugins.split_off(before);
            self.plugins.extend(found.into_iter().filter(|plugin| plugin.platform == said));
        }
    }

    /// What regrade installed under this name.
    fn installed(&mut self, package: &'static package::Package, cache: &Path) {
        let folder = cache.join(package.name);
        let told = match install::record(&folder) {
            None => return,
            Some(told) => told.map(|record| (folder.join(&record.library), record)),
        };
        match told {
            Ok((path, record)) if path.is_file() => self.plugins.push(Plugin {
                platform: package.platform,
                path,
                source: Source::Installed(package.name),
                package: Some(format!("{} {}", record.package, record.version)),
            }),
            // What has precedence does not suffer from it.
            _ if self.plugins.iter().any(|plugin| plugin.platform == package.platform) => {}
            _ => self.broken.push(Broken {
                platform: Some(package.platform),
                reason: format!("what regrade installed in {} is damaged", folder.display()),
                remedy: format!(
                    "run `regrade backend install {0}` again, or `regrade backend remove {0}`",
                    package.name
                ),
            }),
        }
    }

    /// Packages in a folder of Python's.
    fn packages(&mut self, folder: &Path, source: Source) {
        for (platform, library) in package::IN_PYTHON {
            for path in matching(folder, library) {
                let package = path.strip_prefix(folder).ok().and_then(|path| owner(folder, path));
                self.plugins.push(Plugin { platform: *platform, path, source, package });
            }
        }
    }
}

fn missing(platform: Option<Platform>, path: &Path, variable: &str) -> Broken {
    let what = if path.exists() { "is no file" } else { "does not exist" };
    Broken {
        platform,
        reason: format!("{variable} names {}, which {what}", path.display()),
        remedy: format!("correct {variable}, or unset it"),
    }
}

/// Files that a pattern of [`package::IN_PYTHON`] stands for, those of the highest number first.
fn matching(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    let mut found = match pattern.split_once('*') {
        None => vec![folder.join(pattern)],
        Some((before, after)) => {
            let (parent, begin) = before.rsplit_once('/').unwrap_or(("", before));
            let number = |path: &Path| {
                let rest = path.file_name()?.to_str()?.strip_prefix(begin)?;
                Some(rest.parse::<u32>().unwrap_or(0))
            };
            let folders = entries(&folder.join(parent)).into_iter();
            let mut numbered: Vec<(u32, PathBuf)> = folders.filter_map(|path| Some((number(&path)?, path))).collect();
            numbered.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
            numbered.into_iter().map(|(_, path)| path.join(after.trim_start_matches('/'))).collect()
        }
    };
    found.retain(|path| path.is_file());
    found
}

/// The package that put a file among Python's, with its version, by the folder that `pip` leaves beside it.
fn owner(folder: &Path, path: &Path) -> Option<String> {
    let path = path.to_str()?;
    let (_, package) = package::OWNERS.iter().find(|(begin, _)| path.starts_with(begin))?;
    let begin = format!("{}-", package.replace('-', "_"));
    let version = entries(folder).into_iter().find_map(|entry| {
        let version = entry.file_name()?.to_str()?.strip_prefix(&begin)?.strip_suffix(".dist-info")?.to_owned();
        Some(version)
    });
    Some(version.map_or_else(|| (*package).to_owned(), |version| format!("{package} {version}")))
}

fn is_library(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "so")
}

/// What lies in a folder, by name.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(folder).into_iter().flatten();
    let mut found: Vec<PathBuf> = listed.filter_map(|entry| Some(entry.ok()?.path())).collect();
    found.sort();
    found
}
