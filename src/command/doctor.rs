//! `regrade doctor`: what this machine is and whether it is fit to measure.
//!
//! Wiring only: the findings about the machine come from `hardware`; added here are the backends, git and the disk.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anstyle::{AnsiColor, Style};
use anyhow::Context;
use serde::Serialize;

use crate::backend::Availability;
use crate::backend::xla::plugins::{self, Platform};
use crate::cli::Format;
use crate::command::backend::describe;
use crate::command::session;
use crate::exit::Exit;
use crate::hardware::{self, Finding, Level};

mod health;
#[cfg(test)]
mod tests;

/// Where baselines live by default (DESIGN section 3).
const BASELINES: &str = "baselines";
/// Free bytes below which baselines will soon fail, and below which they fail now.
const SPACE: (u64, u64) = (1 << 30, 64 << 20);

/// Whether a machine is fit to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Fitness {
    Fit,
    UsableWithCare,
    Unfit,
}

/// The judgement over all findings.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Judgement {
    fitness: Fitness,
    reason: String,
}

/// Writes the findings and the judgement. Takes about a second, because the machine is watched and probed, and some
/// five more for each GPU, which is measured.
///
/// Ends with [`Exit::Environment`] on an unfit machine, so that a CI job can refuse to measure there.
///
/// # Errors
/// When `out` cannot be written.
pub fn run(format: Format, colour: bool, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let mut findings = hardware::findings();
    findings.extend(hardware::tpu::findings(plugins::find(Platform::Tpu).is_ok()));
    let machine = session::machine();
    findings.extend(machine.iter().map(|(name, availability)| backend_finding(name, availability)));
    findings.extend(broken_plugins());
    findings.extend(health::findings(&machine)?);
    findings.push(git());
    findings.extend(disk(Path::new(BASELINES)));
    let judgement = judge(&findings);
    match format {
        Format::Text => text(&findings, &judgement, colour, out),
        Format::Json => json(&findings, &judgement, out),
    }
    .context("cannot write the findings")?;
    Ok(match judgement.fitness {
        Fitness::Fit | Fitness::UsableWithCare => Exit::Pass,
        Fitness::Unfit => Exit::Environment,
    })
}

/// The worst finding decides.
fn judge(findings: &[Finding]) -> Judgement {
    let of = |level: Level| {
        let ids: Vec<String> = findings.iter().filter(|f| f.level == level).map(|f| label(f.id)).collect();
        ids.join(", ")
    };
    match findings.iter().map(|finding| finding.level).max() {
        Some(Level::Bad) => Judgement { fitness: Fitness::Unfit, reason: of(Level::Bad) },
        Some(Level::Warn) => Judgement { fitness: Fitness::UsableWithCare, reason: of(Level::Warn) },
        _ => Judgement { fitness: Fitness::Fit, reason: "nothing found that would disturb a measurement".to_owned() },
    }
}

fn label(id: &str) -> String {
    id.replace('_', " ")
}

fn backend_finding(name: &str, availability: &Availability) -> Finding {
    let (text, remedy) = match availability {
        Availability::Ready { devices, .. } => {
            let names: Vec<&str> = devices.iter().map(|device| device.name.as_str()).collect();
            (format!("{name} ready: {}", names.join(", ")), None)
        }
        Availability::Unavailable(skip) => {
            let text = format!("{name} unavailable: {}", skip.reason);
            (text, Some(skip.remedy.clone()))
        }
    };
    Finding {
        id: "backend",
        // A backend that is not there disturbs no other.
        level: if remedy.is_none() { Level::Good } else { Level::Info },
        text,
        remedy,
    }
}

/// Plugins that would be used and cannot be: that they are there is all that a backend looks for.
fn broken_plugins() -> Vec<Finding> {
    let finding = |(plugin, reason): (plugins::Plugin, String)| Finding {
        id: "plugin",
        level: Level::Warn,
        text: format!("the plugin of {}, {}: {reason}", plugin.platform.backend(), plugin.path.display()),
        remedy: Some(describe::REMEDY.to_owned()),
    };
    describe::broken().into_iter().map(finding).collect()
}

fn git() -> Finding {
    let succeeds = |arguments: &[&str]| {
        Command::new("git")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    let (level, text, remedy) = if !succeeds(&["--version"]) {
        (Level::Info, "git is not on PATH", Some("install git: runs record the commit they measured"))
    } else if succeeds(&["rev-parse", "--verify", "--quiet", "HEAD"]) {
        (Level::Good, "this folder has commits to record", None)
    } else {
        (Level::Info, "this folder has no commit", Some("run from a checkout, so that runs record their commit"))
    };
    Finding { id: "git", level, text: text.to_owned(), remedy: remedy.map(str::to_owned) }
}

/// Free space where baselines are or will be; absent where the system does not tell.
fn disk(baselines: &Path) -> Option<Finding> {
    let folder = if baselines.exists() { baselines } else { Path::new(".") };
    let stat = rustix::fs::statvfs(folder).ok()?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let level = if free < SPACE.1 {
        Level::Bad
    } else if free < SPACE.0 {
        Level::Warn
    } else {
        Level::Good
    };
    Some(Finding {
        id: "disk",
        level,
        text: format!("{:.1} GiB free for baselines", free as f64 / f64::from(1 << 30)),
        remedy: (level >= Level::Warn).then(|| {
            "free some space, prune old runs (`regrade baseline prune`), or give `--db` another place".to_owned()
        }),
    })
}

fn json(findings: &[Finding], judgement: &Judgement, out: &mut dyn Write) -> std::io::Result<()> {
    #[derive(Serialize)]
    struct Doctor<'a> {
        version: u32,
        facts: std::collections::BTreeMap<String, String>,
        findings: &'a [Finding],
        judgement: &'a Judgement,
    }
    let doctor = Doctor { version: 1, facts: hardware::stable_facts(), findings, judgement };
    serde_json::to_writer_pretty(&mut *out, &doctor)?;
    writeln!(out)
}

fn text(findings: &[Finding], judgement: &Judgement, colour: bool, out: &mut dyn Write) -> std::io::Result<()> {
    let width = findings.iter().map(|finding| finding.id.len()).max().unwrap_or(0);
    for finding in findings {
        let (word, style) = match finding.level {
            Level::Good => ("good", AnsiColor::Green.on_default()),
            Level::Info => ("info", Style::new()),
            Level::Warn => ("warn", AnsiColor::Yellow.on_default()),
            Level::Bad => ("bad", AnsiColor::Red.on_default().bold()),
        };
        write!(out, "{}", painted(&format!("{word:<4}"), style, colour))?;
        writeln!(out, "  {:<width$}  {}", label(finding.id), finding.text)?;
        if let Some(remedy) = &finding.remedy {
            let remedy = painted(&format!("→ {remedy}"), Style::new().dimmed(), colour);
            writeln!(out, "{:indent$}{remedy}", "", indent = 4 + 2 + width + 2)?;
        }
    }
    let (words, style) = match judgement.fitness {
        Fitness::Fit => ("fit to measure", AnsiColor::Green.on_default()),
        Fitness::UsableWithCare => ("usable with care", AnsiColor::Yellow.on_default()),
        Fitness::Unfit => ("unfit to measure", AnsiColor::Red.on_default()),
    };
    writeln!(out, "\n{}: {}", painted(words, style.bold(), colour), judgement.reason)
}

fn painted(text: &str, style: Style, colour: bool) -> String {
    if colour { format!("{style}{text}{style:#}") } else { text.to_owned() }
}
