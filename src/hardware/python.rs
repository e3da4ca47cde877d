//! The active Python's packages: where they lie, found without starting it, unless nothing else tells.
//!
//! Must not know which package is wanted.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::hardware::{numbers, sorted};

/// How long an interpreter may take to say where its packages are.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often it is looked for whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Folders of the active Python's packages: of an activated environment, of the interpreter that the search path names, and the
/// user's own, in this order; only those that are there. Looked for once.
#[must_use]
pub fn packages() -> Vec<PathBuf> {
    static FOUND: OnceLock<Vec<PathBuf>> = OnceLock::new();
    FOUND.get_or_init(find).clone()
}

fn find() -> Vec<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let mut prefixes: Vec<PathBuf> = ["VIRTUAL_ENV", "CONDA_PREFIX"].iter().filter_map(|name| variable(name)).collect();
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let python = std::env::split_paths(&on_path).find(|folder| folder.join("python3").is_file());
    let mut told = None;
    if let Some(folder) = &python {
        let chosen = std::env::var("PYENV_VERSION").ok();
        let here = std::env::current_dir().unwrap_or_default();
        match behind_shims(folder, chosen.as_deref(), &here) {
            Some(prefix) => prefixes.push(prefix),
            // Another manager's, or a script of somebody's own.
            None if is_script(&folder.join("python3")) => told = ask(&folder.join("python3"), PATIENCE),
            None => prefixes.extend(prefixes_of(folder)),
        }
    }
    let mut found = below(&prefixes);
    let own = variable("HOME").map(|home| home.join(".local"));
    for folder in told.into_iter().chain(below(own.as_slice())) {
        if !found.contains(&folder) {
            found.push(folder);
        }
    }
    found
}

/// The prefixes that an interpreter in this folder has packages below. Debian's own interpreter keeps what its package manager did
/// not install below `/usr/local`, and looks there first.
fn prefixes_of(folder: &Path) -> Vec<PathBuf> {
    let Some(prefix) = folder.parent() else { return Vec::new() };
    if matches!(prefix.to_str(), Some("/usr" | "/")) {
        return vec![PathBuf::from("/usr/local"), PathBuf::from("/usr")];
    }
    let mut prefixes = vec![prefix.to_owned()];
    // A link into another folder leads to an interpreter there, which is the active one but for an environment's.
    if !prefix.join("pyvenv.cfg").is_file()
        && let Ok(real) = folder.join("python3").canonicalize()
    {
        prefixes.extend(real.ancestors().nth(2).filter(|real| *real != prefix).map(Path::to_owned));
    }
    prefixes
}

fn is_script(file: &Path) -> bool {
    let mut begins = [0; 2];
    std::fs::File::open(file).and_then(|mut file| file.read_exact(&mut begins)).is_ok() && &begins == b"#!"
}

/// What the interpreter itself says, if it does so in time.
fn ask(python: &Path, patience: Duration) -> Option<PathBuf> {
    let mut child = Command::new(python)
        .args(["-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let start = Instant::now();
    let ended = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status.success(),
            Ok(None) if start.elapsed() < patience => std::thread::sleep(LOOK_EVERY),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                break false;
            }
        }
    };
    // A path fits into a pipe, so that it could end before anybody reads.
    let mut said = [0; 4096];
    let length = if ended { child.stdout.take()?.read(&mut said).ok()? } else { 0 };
    let folder = PathBuf::from(std::str::from_utf8(&said[..length]).ok()?.trim());
    (folder.is_absolute() && folder.is_dir()).then_some(folder)
}

/// Where `python3` is a script of pyenv's that starts the chosen version: the prefix of that version. The variable chooses, or a
/// file of the current folder or one above it, or the file for everything else.
fn behind_shims(folder: &Path, chosen: Option<&str>, here: &Path) -> Option<PathBuf> {
    let root = folder.parent().filter(|_| folder.file_name().is_some_and(|name| name == "shims"))?;
    let local = || here.ancestors().find_map(|folder| std::fs::read_to_string(folder.join(".python-version")).ok());
    let global = || std::fs::read_to_string(root.join("version")).ok();
    let version = chosen.map(str::to_owned).or_else(local).or_else(global)?;
    // Several may be chosen, the first of which is `python3`.
    let version = version.split([':', '\n', ' ']).find(|word| !word.is_empty())?;
    Some(root.join("versions").join(version)).filter(|prefix| prefix.is_dir())
}

/// The folders of packages below these prefixes, of the newest version first.
fn below(prefixes: &[PathBuf]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let versions = |prefix: &PathBuf| {
        let mut versions = sorted(&prefix.join("lib"), "python3");
        versions.sort_by_key(|path| std::cmp::Reverse(numbers(path)));
        versions
    };
    for version in prefixes.iter().flat_map(versions) {
        for name in ["site-packages", "dist-packages"] {
            let folder = version.join(name);
            if folder.is_dir() && !found.contains(&folder) {
                found.push(folder);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_lie_below_a_prefix_in_a_folder_of_the_version() {
        let home = tempfile::tempdir().expect("a folder");
        for folder in [
            "lib/python3.9/site-packages",
            "lib/python3.12/site-packages",
            "lib/python3/dist-packages",
            "lib/tcl8.6/site-packages",
        ] {
            std::fs::create_dir_all(home.path().join(folder)).expect("a folder");
        }
        let prefixes = [home.path().to_owned(), home.path().to_owned(), home.path().join("absent")];
        let lib = home.path().join("lib");
        assert_eq!(
            below(&prefixes),
            [
                lib.join("python3.12/site-packages"),
                lib.join("python3.9/site-packages"),
                lib.join("python3/dist-packages")
            ]
        );
    }

    #[test]
    fn debian_s_interpreter_looks_below_usr_local_too() {
        let usr = [PathBuf::from("/usr/local"), PathBuf::from("/usr")];
        assert_eq!(prefixes_of(Path::new("/usr/bin")), usr);
        assert_eq!(prefixes_of(Path::new("/bin")), usr);
        let [home, other] = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
        let [home, other] = [&home, &other].map(|folder| folder.path().canonicalize().expect("a path"));
        for folder in [&home, &other] {
            std::fs::create_dir(folder.join("bin")).expect("a folder");
        }
        std::fs::write(other.join("bin/python3"), "").expect("a file");
        std::os::unix::fs::symlink(other.join("bin/python3"), home.join("bin/python3")).expect("a link");
        assert_eq!(prefixes_of(&home.join("bin")), [home.clone(), other]);
        std::fs::write(home.join("pyvenv.cfg"), "").expect("a file");
        assert_eq!(prefixes_of(&home.join("bin")), [home], "an environment of its own");
    }

    #[test]
    fn a_script_is_asked_and_not_for_ever() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().expect("a folder");
        let script = |name: &str, text: &str| {
            let file = home.path().join(name);
            std::fs::write(&file, text).expect("a script");
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("allowed");
            file
        };
        let patient = Duration::from_secs(60);
        let good = script("good", &format!("#!/bin/sh\necho '{}'\n", home.path().display()));
        assert!(is_script(&good) && !is_script(&home.path().join("absent")));
        assert_eq!(ask(&good, patient), Some(home.path().to_owned()));
        assert_eq!(ask(&script("bad", "#!/bin/sh\necho /nowhere\nexit 1\n"), patient), None);
        assert_eq!(ask(&script("silent", "#!/bin/sh\n"), patient), None);
        let start = Instant::now();
        assert_eq!(ask(&script("slow", "#!/bin/sh\nexec sleep 60\n"), Duration::from_millis(20)), None);
        assert!(start.elapsed() < patient);
    }

    #[test]
    fn a_shim_leads_to_the_version_that_is_chosen() {
        let root = tempfile::tempdir().expect("a folder");
        let (shims, versions) = (root.path().join("shims"), root.path().join("versions"));
        for version in ["3.11.7", "3.13.1"] {
            std::fs::create_dir_all(versions.join(version)).expect("a folder");
        }
        let here = root.path().join("project/part");
        std::fs::create_dir_all(&here).expect("a folder");
        let behind = |folder: &Path, chosen: Option<&str>| behind_shims(folder, chosen, &here);
        assert_eq!(behind(&shims, None), None, "none is chosen");
        std::fs::write(root.path().join("version"), "3.11.7\n3.13.1\n").expect("a file");
        assert_eq!(behind(&shims, None), Some(versions.join("3.11.7")));
        assert_eq!(behind(&shims, Some("3.13.1:3.11.7")), Some(versions.join("3.13.1")));
        assert_eq!(behind(&shims, Some("system")), None);
        std::fs::write(root.path().join("project/.python-version"), "3.13.1\n").expect("a file");
        assert_eq!(behind(&shims, None), Some(versions.join("3.13.1")), "the project's own");
        assert_eq!(behind(&root.path().join("bin"), Some("3.13.1")), None, "no shim");
    }
}
