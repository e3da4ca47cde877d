//! Runs the user's own pip, with the user's own configuration: indexes, proxies and certificates are settled there.
//!
//! Must not know what is in a wheel.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::backend::xla::plugins::install::{InstallError, io};
use crate::backend::xla::plugins::package::Package;

/// Lines of pip's output that are shown where it failed.
const SHOWN: usize = 30;

/// Fetches the wheel of a package into a folder, by hash where there are hashes.
///
/// # Errors
/// Where Python or pip is absent, or pip does not bring exactly one wheel.
pub fn download(
    python: &Path,
    package: &Package,
    version: &str,
    hashes: &[&str],
    folder: &Path,
) -> Result<PathBuf, InstallError> {
    let requirements = folder.join("requirements.txt");
    let wanted =
        hashes.iter().fold(format!("{}=={version}", package.package), |text, hash| text + " --hash=sha256:" + hash);
    std::fs::write(&requirements, wanted + "\n").map_err(io("write", &requirements))?;
    let mut command = Command::new(python);
    command.args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]);
    command.args(["--disable-pip-version-check", "--progress-bar=off"]);
    if !hashes.is_empty() {
        command.arg("--require-hashes");
    }
    command.arg("-r").arg(&requirements).arg("-d").arg(folder).stdin(Stdio::null());
    let output = command.output().map_err(|source| InstallError::Python { python: shown(python), source })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        return Err(failed(package, version, python, &said));
    }
    let listed = std::fs::read_dir(folder).map_err(io("read", folder))?;
    let wheels = listed.flatten().map(|entry| entry.path());
    let mut wheels: Vec<PathBuf> = wheels.filter(|path| path.extension().is_some_and(|end| end == "whl")).collect();
    match (wheels.pop(), wheels.is_empty()) {
        (Some(wheel), true) => Ok(wheel),
        _ => Err(failed(package, version, python, "pip ended well, and left no wheel or several")),
    }
}

fn shown(python: &Path) -> String {
    python.display().to_string()
}

/// What pip's output says is the matter. It has no codes; the words are those of pip 20 to 26.
fn failed(package: &Package, version: &str, python: &Path, said: &str) -> InstallError {
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    let (what, remedy) = if has(&["No module named pip"]) {
        (
            format!("`{}` has no pip", shown(python)),
            "install it (`python3 -m ensurepip`, or your system's python3-pip), or name another Python with --python"
                .to_owned(),
        )
    } else if has(&["DO NOT MATCH THE HASHES", "hash mismatch"]) {
        (
            format!("what pip found of {} {version} is not the wheel that this regrade knows", package.package),
            "nothing was installed; look where pip gets it from (`pip config list`)".to_owned(),
        )
    } else if has(&["No space left on device", "Disk quota exceeded"]) {
        (
            "the disk is full".to_owned(),
            "free some space, or set TMPDIR, and REGRADE_PLUGIN_CACHE, to another disk".to_owned(),
        )
    } else if has(&[
        "NewConnectionError",
        "Failed to establish a new connection",
        "name resolution",
        "ConnectTimeoutError",
        "ReadTimeoutError",
        "ProxyError",
        "SSLError",
        "Max retries exceeded",
    ]) {
        (
            "pip cannot reach its package index".to_owned(),
            "look after the network, or at pip's proxy, index and certificates (`pip config list`)".to_owned(),
        )
    } else if has(&["from versions: none"]) {
        (
            format!("pip finds no wheel of {} at all", package.package),
            format!(
                "its index does not know the package, has none for this machine and this Python, or was not reached: look at \
                 `pip index versions {}` and `pip config list`",
                package.package
            ),
        )
    } else if has(&["No matching distribution", "Could not find a version"]) {
        let python = if package.sha256.len() > 1 { ", and of CPython 3.11 to 3.14" } else { "" };
        (
            format!("pip finds no wheel of {} {version} for this machine and this Python", package.package),
            format!(
                "there are wheels for Linux on x86-64 with glibc 2.27 or newer{python}; see which versions there are with `pip index versions {}`",
                package.package
            ),
        )
    } else {
        (format!("pip could not fetch {} {version}", package.package), "it said:".to_owned())
    };
    let lines: Vec<&str> = said.trim().lines().collect();
    let end = &lines[lines.len().saturating_sub(SHOWN)..];
    InstallError::Pip { what, remedy, output: format!("  pip: {}", end.join("\n  pip: ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::xla::plugins::package;

    fn of(said: &str) -> String {
        failed(package::named("xla-tpu").expect("a name"), "1.0", Path::new("python3"), said).to_string()
    }

    #[test]
    fn what_pip_says_becomes_a_reason_and_a_remedy() {
        for (said, reason, remedy) in [
            ("/usr/bin/python3: No module named pip", "`python3` has no pip", "ensurepip"),
            (
                "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.",
                "libtpu 1.0 is not",
                "pip config",
            ),
            ("OSError: [Errno 28] No space left on device", "the disk is full", "TMPDIR"),
            (
                "WARNING: Retrying after NewConnectionError\nERROR: No matching distribution found for libtpu",
                "cannot reach",
                "proxy",
            ),
            ("ERROR: No matching distribution found for libtpu==1.0", "no wheel of libtpu 1.0", "CPython 3.11"),
            ("ERROR: Could not find a version (from versions: none)", "no wheel of libtpu at all", "was not reached"),
            ("Traceback", "could not fetch libtpu 1.0", "it said"),
        ] {
            let error = of(said);
            assert!(error.contains(reason) && error.contains(remedy), "{error}");
            assert!(error.ends_with(&format!("pip: {}", said.lines().last().expect("a line"))), "{error}");
        }
    }

    #[test]
    fn only_the_end_of_a_long_output_is_shown() {
        let long: Vec<String> = (0..100).map(|n| format!("line {n}")).collect();
        let error = of(&long.join("\n"));
        assert!(error.contains("line 99") && error.contains("line 70\n") && !error.contains("line 69\n"));
    }
}
