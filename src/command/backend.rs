//! `regrade backend …`: which PJRT plugins are here, and bringing or removing one.
//!
//! Wiring and words only: where plugins are looked for and how one is installed is the backend's. Must not load a plugin: `describe`
//! does, in a process of its own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Serialize;

use crate::backend::xla::plugins::install::{self, InstallError, Request};
use crate::backend::xla::plugins::package::{self, Package};
use crate::backend::xla::plugins::{self, Broken, Environment, Platform, Plugin, Search, Source};
use crate::cli::{BackendAction, Format};
use crate::command::backend::describe::Told;
use crate::command::context::{Context, note, print};
use crate::command::usage;
use crate::domain::Skip;
use crate::exit::Exit;
use crate::hardware;

pub mod describe;

/// What is listed.
#[derive(Debug, Serialize)]
struct Listing {
    version: u32,
    /// Where regrade installs plugins.
    cache: Option<PathBuf>,
    platforms: Vec<PlatformLines>,
    /// What was named and is not there.
    broken: Vec<Broken>,
}

#[derive(Debug, Serialize)]
struct PlatformLines {
    platform: Platform,
    backend: &'static str,
    plugins: Vec<PluginLine>,
    absent: Option<Absent>,
    device: Option<Device>,
}

#[derive(Debug, Serialize)]
struct PluginLine {
    #[serde(flatten)]
    plugin: Plugin,
    used: bool,
    /// What it says of itself, by the names that evidence has: `api`, `stablehlo_current_version`, `xla_version`.
    facts: BTreeMap<String, String>,
    /// Why it says no more, where it was to say more.
    silent: Option<String>,
}

/// Why there is no plugin to use, and what would change that.
#[derive(Debug, Serialize)]
struct Absent {
    reason: String,
    remedy: String,
}

/// Whether there is a device for a plugin, where that can be told without loading it.
#[derive(Debug, Serialize)]
struct Device {
    present: bool,
    text: String,
    remedy: Option<String>,
}

/// Lists, installs or removes.
pub fn run(action: &BackendAction, context: &Context) -> Result<Exit> {
    match action {
        BackendAction::List { format } => list(*format),
        BackendAction::Install { name, version, python } => {
            install(package_of(name), version.as_deref(), python, context)
        }
        BackendAction::Remove { name } => {
            let folder = install::remove(package_of(name), &cache()?).map_err(refused)?;
            print(format!("removed {name} from {}\n", folder.display()).as_bytes())?;
            Ok(Exit::Pass)
        }
        BackendAction::Describe { path } => describe::tell(path),
    }
}

fn package_of(name: &str) -> &'static Package {
    package::named(name).expect("the command line takes names of the table only")
}

fn cache() -> Result<PathBuf> {
    Environment::of_process().cache.ok_or_else(|| InstallError::NoFolder.into())
}

/// What the user asked for is the user's mistake; all else is the environment's.
fn refused(error: InstallError) -> anyhow::Error {
    match error {
        InstallError::Version(_) | InstallError::NotInstalled { .. } => usage(error.to_string()),
        other => other.into(),
    }
}

/// Ends with [`Exit::Usage`] where a variable names what is not there, after everything is shown.
fn list(format: Format) -> Result<Exit> {
    let environment = Environment::of_process();
    let search = plugins::all(&environment);
    let told = describe::ask(&search.plugins);
    let platforms = Platform::ALL.into_iter().map(|platform| lines(platform, &search, &told)).collect();
    let listing = Listing { version: 1, cache: environment.cache, platforms, broken: search.broken };
    let text = match format {
        Format::Json => format!("{}\n", serde_json::to_string_pretty(&listing)?),
        Format::Text => text(&listing),
    };
    print(text.as_bytes())?;
    Ok(if listing.broken.is_empty() { Exit::Pass } else { Exit::Usage })
}

fn lines(platform: Platform, search: &Search, told: &[Told]) -> PlatformLines {
    let used = search.find(platform);
    let is_used = |plugin: &Plugin| used.as_ref().is_ok_and(|used| used == plugin);
    let found = search.plugins.iter().zip(told).filter(|(plugin, _)| plugin.platform == platform);
    let line = |(plugin, Told { facts, silent }): (&Plugin, &Told)| PluginLine {
        used: is_used(plugin),
        plugin: plugin.clone(),
        facts: facts.clone(),
        silent: silent.clone(),
    };
    let plugins = found.map(line).collect();
    let absent =
        used.as_ref().err().map(|Skip { reason, remedy }| Absent { reason: reason.clone(), remedy: remedy.clone() });
    PlatformLines { platform, backend: platform.backend(), plugins, absent, device: device(platform) }
}

fn device(platform: Platform) -> Option<Device> {
    let (found, absent) = match platform {
        Platform::Cuda => match hardware::gpus() {
            Ok(gpus) => (gpus.into_iter().map(|gpu| gpu.name).collect::<Vec<_>>().join(", "), None),
            Err(absent) => (String::new(), Some(absent)),
        },
        Platform::Tpu => match hardware::tpu::detect() {
            Ok(tpu) => (tpu.describe(), None),
            Err(absent) => (String::new(), Some(absent)),
        },
        Platform::Cpu | Platform::Rocm | Platform::Oneapi => return None,
    };
    Some(match absent {
        None => Device { present: true, text: found, remedy: None },
        Some(absent) => Device { present: false, text: absent.reason, remedy: Some(absent.remedy) },
    })
}

fn source(plugin: &Plugin) -> String {
    match plugin.source {
        Source::Variable(name) => format!("named by {name}"),
        Source::Installed(name) => format!("installed as {name}"),
        Source::Python => "in the active Python".to_owned(),
    }
}

/// What a plugin says of itself, in a line.
fn versions(facts: &BTreeMap<String, String>, silent: Option<&str>) -> String {
    let names = [("api", "PJRT C API"), ("stablehlo_current_version", "StableHLO"), ("xla_version", "xla_version")];
    let told = names.iter().filter_map(|(name, word)| Some(format!("{word} {}", facts.get(*name)?)));
    let begin = if facts.is_empty() { "says nothing" } else { "says no more" };
    told.chain(silent.map(|reason| format!("{begin}: {reason}"))).collect::<Vec<_>>().join(", ")
}

fn text(listing: &Listing) -> String {
    let mut out = String::new();
    let indent = " ".repeat(12);
    for line in &listing.platforms {
        let mut begin = format!("{:<12}", line.backend);
        for PluginLine { plugin, used, facts, silent } in &line.plugins {
            let package = plugin.package.as_ref().map_or_else(String::new, |package| format!(", {package}"));
            let word = if *used { "used" } else { "also" };
            let _ = writeln!(out, "{begin}{word}  {} ({}{package})", plugin.path.display(), source(plugin));
            begin.clone_from(&indent);
            let words = versions(facts, silent.as_deref());
            let _ = writeln!(out, "{indent}      {words}");
        }
        if let Some(Absent { reason, remedy }) = &line.absent {
            let _ = writeln!(out, "{begin}unavailable: {reason}\n{indent}→ {remedy}");
        }
        if let Some(device) = &line.device {
            let word = if device.present { "device" } else { "no device" };
            let _ = writeln!(out, "{indent}{word}: {}", device.text);
        }
    }
    for broken in &listing.broken {
        let _ = writeln!(out, "\n{}\n→ {}", broken.reason, broken.remedy);
    }
    if let Some(cache) = &listing.cache {
        let _ = writeln!(out, "\n`regrade backend install` puts plugins into {}", cache.display());
    }
    out
}

fn install(package: &'static Package, version: Option<&str>, python: &Path, context: &Context) -> Result<Exit> {
    let environment = Environment::of_process();
    let request = Request { package, version, python, cache: &cache()?, site_packages: &environment.site_packages };
    if !request.is_pinned() {
        note(&format!(
            "warning: {} {} is not the version that regrade pins, and its hash is not known: what pip brings is believed",
            package.package,
            request.version()
        ));
    }
    let record = install::install(&request, &mut |step| context.tell(step)).map_err(refused)?;
    let library = request.cache.join(package.name).join(&record.library);
    let known = if record.pinned { "as pinned" } else { "recorded, not known beforehand" };
    let mut text = format!(
        "installed {}: {} {}\n  {}\n  SHA-256 of its wheel {} ({known})\n",
        record.name,
        record.package,
        record.version,
        library.display(),
        record.sha256
    );
    if let Some(libraries) = &record.libraries {
        let _ = writeln!(text, "  it is linked with the libraries in {}", libraries.display());
    }
    if !package.needs.is_empty() {
        let _ = writeln!(text, "  it needs {}", package.needs);
    }
    print(text.as_bytes())?;
    match plugins::find(package.platform) {
        Ok(used) if used.path == library => {}
        Ok(used) => note(&format!("note: {} goes before it and is used ({})", used.path.display(), source(&used))),
        Err(skip) => note(&format!("note: it is not used: {}; {}", skip.reason, skip.remedy)),
    }
    Ok(Exit::Pass)
}
