//! The active Python's packages: where they lie, found without starting it.
//!
//! Must not know which package is wanted.

use std::path::{Path, PathBuf};

use crate::hardware::sorted;

/// Folders of the active Python's packages: of an activated environment, of the interpreter that the search path names, and the
/// user's own, in this order; only those that are there.
#[must_use]
pub fn packages() -> Vec<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let mut prefixes: Vec<PathBuf> = ["VIRTUAL_ENV", "CONDA_PREFIX"].iter().filter_map(|name| variable(name)).collect();
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let python = std::env::split_paths(&on_path).find(|folder| folder.join("python3").is_file());
    if let Some(folder) = python {
        let chosen = std::env::var("PYENV_VERSION").ok();
        prefixes.extend(behind_shims(&folder, chosen.as_deref()).or_else(|| folder.parent().map(Path::to_owned)));
    }
    prefixes.extend(variable("HOME").map(|home| home.join(".local")));
    below(&prefixes)
}

/// Where `python3` is a script of pyenv's that starts the chosen version: the prefix of that version.
fn behind_shims(folder: &Path, chosen: Option<&str>) -> Option<PathBuf> {
    let root = folder.parent().filter(|_| folder.file_name().is_some_and(|name| name == "shims"))?;
    let global = || std::fs::read_to_string(root.join("version")).ok();
    let version = chosen.map(str::to_owned).or_else(global)?;
    // Several may be chosen, the first of which is `python3`.
    let version = version.split([':', '\n', ' ']).find(|word| !word.is_empty())?;
    Some(root.join("versions").join(version)).filter(|prefix| prefix.is_dir())
}

/// The folders of packages below these prefixes.
fn below(prefixes: &[PathBuf]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for version in prefixes.iter().flat_map(|prefix| sorted(&prefix.join("lib"), "python3")) {
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
        for folder in ["lib/python3.12/site-packages", "lib/python3/dist-packages", "lib/tcl8.6/site-packages"] {
            std::fs::create_dir_all(home.path().join(folder)).expect("a folder");
        }
        let prefixes = [home.path().to_owned(), home.path().to_owned(), home.path().join("absent")];
        let lib = home.path().join("lib");
        assert_eq!(below(&prefixes), [lib.join("python3/dist-packages"), lib.join("python3.12/site-packages")]);
    }

    #[test]
    fn a_shim_leads_to_the_version_that_is_chosen() {
        let root = tempfile::tempdir().expect("a folder");
        let (shims, versions) = (root.path().join("shims"), root.path().join("versions"));
        for version in ["3.11.7", "3.13.1"] {
            std::fs::create_dir_all(versions.join(version)).expect("a folder");
        }
        assert_eq!(behind_shims(&shims, None), None, "none is chosen");
        std::fs::write(root.path().join("version"), "3.11.7\n3.13.1\n").expect("a file");
        assert_eq!(behind_shims(&shims, None), Some(versions.join("3.11.7")));
        assert_eq!(behind_shims(&shims, Some("3.13.1:3.11.7")), Some(versions.join("3.13.1")));
        assert_eq!(behind_shims(&shims, Some("system")), None);
        assert_eq!(behind_shims(&root.path().join("bin"), Some("3.13.1")), None, "no shim");
    }
}
