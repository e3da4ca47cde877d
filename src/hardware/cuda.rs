//! CUDA's libraries: which are here, where they were found, in which version.
//!
//! They are loaded when they are first needed, so that one program serves machines with and without them; a call into one
//! that is absent would end the process, so whoever calls asks [`need`] first. Where the system's loader does not find a
//! library, the places are searched where Python's wheels and CUDA's own installer put it. Must not know what is called.

// Loading a library runs its initialisers, and asking for its version is a foreign call: nothing safe stands for either.
#![allow(unsafe_code)]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use cudarc::{cublaslt, cudnn, driver, nvrtc};
use libloading::os::unix::{Library as Handle, RTLD_GLOBAL, RTLD_NOW};

use crate::hardware::{Absent, Finding, Level, numbers, python, sorted};

/// A library of CUDA's that regrade calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    /// The driver's own: contexts, memory, launches.
    Driver,
    /// The run-time compiler.
    Nvrtc,
    /// Matrix products.
    CublasLt,
    /// Fused attention.
    Cudnn,
    /// Collectives of several GPUs.
    Nccl,
}

/// What is known of a library.
struct Row {
    library: Library,
    /// As its makers write it.
    name: &'static str,
    /// Beginnings of its file names, in the order in which they are loaded: those it needs itself come first.
    files: &'static [&'static str],
    /// The package of Python's that brings it.
    wheel: &'static str,
}

const LIBRARIES: &[Row] = &[
    Row { library: Library::Driver, name: "CUDA driver", files: &["libcuda.so.1"], wheel: "" },
    Row {
        library: Library::Nvrtc,
        name: "NVRTC",
        files: &["libnvrtc-builtins.so", "libnvrtc.so"],
        wheel: "nvidia-cuda-nvrtc",
    },
    Row { library: Library::CublasLt, name: "cuBLASLt", files: &["libcublasLt.so"], wheel: "nvidia-cublas" },
    Row {
        library: Library::Cudnn,
        name: "cuDNN",
        files: &["libnvrtc-builtins.so", "libnvrtc.so", "libcublasLt.so", "libcublas.so", "libcudnn.so"],
        wheel: "nvidia-cudnn-cu13",
    },
    Row { library: Library::Nccl, name: "NCCL", files: &["libnccl.so"], wheel: "nvidia-nccl-cu13" },
];

impl Library {
    fn row(self) -> &'static Row {
        LIBRARIES.iter().find(|row| row.library == self).expect("every library has a row")
    }

    /// Whether the bindings find it, by a name the system's loader knows or one that is loaded already.
    fn is_bound(self) -> bool {
        // SAFETY: these only try to open the library; NVIDIA's initialisers have no preconditions.
        unsafe {
            match self {
                Self::Driver => driver::sys::is_culib_present(),
                Self::Nvrtc => nvrtc::sys::is_culib_present(),
                Self::CublasLt => cublaslt::sys::is_culib_present(),
                Self::Cudnn => cudnn::sys::is_culib_present(),
                Self::Nccl => nccl_handle().is_some(),
            }
        }
    }

    /// Its version; `None` where it is absent or does not tell.
    #[must_use]
    pub fn version(self) -> Option<String> {
        need(self).ok()?;
        // SAFETY: the library is there, and these calls have no preconditions.
        unsafe {
            match self {
                Self::Driver => None,
                Self::Nvrtc => {
                    let (mut major, mut minor) = (0, 0);
                    nvrtc::sys::nvrtcVersion(&raw mut major, &raw mut minor);
                    Some(format!("{major}.{minor}"))
                }
                Self::CublasLt => Some(dotted(cublaslt::sys::cublasLtGetVersion())),
                Self::Cudnn => Some(dotted(cudnn::sys::cudnnGetVersion())),
                Self::Nccl => {
                    let handle = nccl_handle()?;
                    let get = handle.get::<unsafe extern "C" fn(*mut i32) -> i32>(b"ncclGetVersion\0").ok()?;
                    let mut version = 0;
                    (get(&raw mut version) == 0).then(|| dotted(usize::try_from(version).unwrap_or(0)))
                }
            }
        }
    }
}

/// `130100` → `13.1.0`, `91900` → `9.19.0`, `22907` → `2.29.7`: cuBLAS, cuDNN and NCCL count alike since their present majors.
fn dotted(version: usize) -> String {
    format!("{}.{}.{}", version / 10_000, version / 100 % 100, version % 100)
}

/// Loads a library, if it is anywhere.
///
/// # Errors
/// Where it is not to be found, with what brings it.
pub fn need(library: Library) -> Result<(), Absent> {
    static FOUND: [OnceLock<bool>; 5] = [const { OnceLock::new() }; 5];
    if library == Library::Cudnn {
        // Without it cuDNN ends the process instead of refusing.
        need(Library::CublasLt)?;
    }
    let found = FOUND[library as usize].get_or_init(|| {
        library.is_bound() || {
            load_from(library.row(), &places());
            library.is_bound()
        }
    });
    if *found {
        return Ok(());
    }
    let row = library.row();
    let remedy = match library {
        Library::Driver => "install NVIDIA's driver; in a container, pass the GPU in".to_owned(),
        _ => format!("install CUDA's toolkit, or `pip install {}` into the active Python", row.wheel),
    };
    Err(Absent { reason: format!("{} is not here", row.name), remedy })
}

/// NCCL, whose usual file name the bindings do not try.
///
/// # Errors
/// Where it is not to be found.
pub fn nccl() -> Result<&'static Handle, Absent> {
    need(Library::Nccl)?;
    Ok(nccl_handle().expect("just found"))
}

fn nccl_handle() -> Option<&'static Handle> {
    static HANDLE: OnceLock<Handle> = OnceLock::new();
    if let Some(handle) = HANDLE.get() {
        return Some(handle);
    }
    let by_name = ["libnccl.so.2", "libnccl.so"];
    // SAFETY: NCCL's initialisers have no preconditions.
    let found =
        by_name.into_iter().find_map(|name| unsafe { Handle::open(Some(name), RTLD_NOW | RTLD_GLOBAL).ok() })?;
    Some(HANDLE.get_or_init(|| found))
}

/// Opens a library's files for good, so that a later search by name finds them: a loaded library answers to the name that
/// it carries inside.
fn load_from(row: &Row, places: &[PathBuf]) {
    for file in row.files {
        let Some(path) = places.iter().find_map(|place| newest(place, file)) else { continue };
        // SAFETY: a library of NVIDIA's, whose initialisers have no preconditions.
        if let Ok(handle) = unsafe { Handle::open(Some(&path), RTLD_NOW | RTLD_GLOBAL) } {
            std::mem::forget(handle);
        }
    }
}

/// The newest version of a library in a folder.
fn newest(place: &Path, file: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(place).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let versions = entries.filter(|path| path.file_name().is_some_and(|name| is_version_of(name, file)));
    // One without a number is a link to one that has some.
    versions.max_by_key(|path| numbers(path))
}

/// `libnvrtc.so.13` is a version of `libnvrtc.so`; `libnvrtc.alt.so.13` is not.
fn is_version_of(name: &OsStr, file: &str) -> bool {
    name.to_str().and_then(|name| name.strip_prefix(file)).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Folders with CUDA's own headers, for kernels that include them.
#[must_use]
pub fn include_folders() -> Vec<PathBuf> {
    let near = |place: &PathBuf| place.parent().map(|home| home.join("include"));
    let mut folders: Vec<PathBuf> = places().iter().filter_map(near).filter(|folder| folder.is_dir()).collect();
    folders.dedup();
    folders
}

/// Folders where CUDA's libraries lie when the loader does not know them: its own installer's, and the wheels of the active
/// Python.
fn places() -> Vec<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let mut places: Vec<PathBuf> = ["CUDA_HOME", "CUDA_PATH"]
        .iter()
        .filter_map(|name| variable(name))
        .chain([PathBuf::from("/usr/local/cuda")])
        .flat_map(|home| [home.join("lib64"), home.join("lib")])
        .collect();
    for packages in python::packages() {
        places.extend(sorted(&packages.join("nvidia"), "").into_iter().map(|wheel| wheel.join("lib")));
    }
    places.retain(|place| place.is_dir());
    places
}

/// What `doctor` says of them, where there is a driver. Loading them all takes up to a second.
#[must_use]
pub fn findings() -> Vec<Finding> {
    LIBRARIES[1..]
        .iter()
        .map(|row| match need(row.library) {
            Ok(()) => Finding {
                id: "cuda_library",
                level: Level::Good,
                text: format!(
                    "{} {}",
                    row.name,
                    row.library.version().unwrap_or_else(|| "of no known version".to_owned())
                ),
                remedy: None,
            },
            Err(absent) => Finding {
                id: "cuda_library",
                level: Level::Info,
                text: format!("{}: what needs it is skipped", absent.reason),
                remedy: Some(absent.remedy),
            },
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_their_makers_write_them() {
        assert_eq!(dotted(130_100), "13.1.0");
        assert_eq!(dotted(91_900), "9.19.0");
        assert_eq!(dotted(22_907), "2.29.7");
    }

    #[test]
    fn a_file_belongs_to_a_library_by_its_whole_stem() {
        assert!(is_version_of(OsStr::new("libnvrtc.so.13"), "libnvrtc.so"));
        assert!(!is_version_of(OsStr::new("libnvrtc.alt.so.13"), "libnvrtc.so"));
        assert!(!is_version_of(OsStr::new("libnvrtc-builtins.so.13.0"), "libnvrtc.so"));
    }

    #[test]
    fn of_several_versions_the_newest_is_taken() {
        let place = tempfile::tempdir().expect("a folder");
        let path = place.path();
        assert_eq!(newest(path, "libnvrtc.so"), None);
        for name in
            ["libnvrtc.so", "libnvrtc.so.12", "libnvrtc.so.9.1", "libnvrtc.alt.so.14", "libnvrtc-builtins.so.15"]
        {
            std::fs::write(path.join(name), "").expect("a file");
        }
        assert_eq!(newest(path, "libnvrtc.so"), Some(path.join("libnvrtc.so.12")));
        std::fs::write(path.join("libnvrtc.so.12.10"), "").expect("a file");
        std::fs::write(path.join("libnvrtc.so.12.9"), "").expect("a file");
        assert_eq!(newest(path, "libnvrtc.so"), Some(path.join("libnvrtc.so.12.10")));
        assert_eq!(newest(&path.join("absent"), "libnvrtc.so"), None);
    }

    #[test]
    fn the_rows_stand_in_the_order_of_the_libraries() {
        for (place, row) in LIBRARIES.iter().enumerate() {
            assert_eq!(row.library as usize, place, "{}", row.name);
        }
    }

    #[test]
    fn an_absent_library_is_an_answer_with_a_remedy() {
        // Whatever is installed where this runs: no answer may end the process.
        for row in LIBRARIES {
            if let Err(absent) = need(row.library) {
                assert!(absent.reason.ends_with("is not here") && !absent.remedy.is_empty());
                assert_eq!(row.library.version(), None);
            }
        }
    }
}
