//! SHA-256 of a plugin's library: which build it is, where a version does not tell.
//!
//! A library has 200 to 800 MB, too much to hash for every launch. What was found is kept in regrade's cache, one small file a path,
//! and holds as long as the file's device, inode, size and time of change do. That time is the kernel's own: whatever replaces
//! or writes a file moves it, and no unpacker can set it back, as they do with the time of modification. Must not load a plugin.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::domain::hex;

/// Bytes read at once.
const PIECE: usize = 1 << 20;

/// What tells that a file is the one that was hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    changed_s: i64,
    changed_ns: i64,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            changed_s: metadata.ctime(),
            changed_ns: metadata.ctime_nsec(),
        }
    }
}

/// A hash that was found.
#[derive(Debug, Serialize, Deserialize)]
struct Known {
    path: PathBuf,
    stamp: Stamp,
    sha256: String,
}

/// The hash of a file, from `cache` where it is known there.
///
/// # Errors
/// When the file cannot be read. A cache that cannot be read or written costs time only.
pub fn sha256(path: &Path, cache: Option<&Path>) -> io::Result<String> {
    let mut file = File::open(path)?;
    let stamp = Stamp::of(&file.metadata()?);
    let name = hex(&Sha256::digest(path.as_os_str().as_encoded_bytes()));
    let place = cache.map(|cache| cache.join(&name[..32]));
    let known: Option<Known> =
        place.as_deref().and_then(|place| serde_json::from_slice(&std::fs::read(place).ok()?).ok());
    if let Some(known) = known.filter(|known| known.path == path && known.stamp == stamp) {
        return Ok(known.sha256);
    }
    // Not mapped: what is mapped counts as this process's memory, which is a metric.
    let mut hash = Sha256::new();
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            bytes => hash.update(&piece[..bytes]),
        }
    }
    let sha256 = hex(&hash.finalize());
    // One that was written to meanwhile has a hash of no build.
    if let Some(place) = place.filter(|_| file.metadata().is_ok_and(|now| Stamp::of(&now) == stamp)) {
        let _ = keep(&place, &Known { path: path.to_owned(), stamp, sha256: sha256.clone() });
    }
    Ok(sha256)
}

/// Whole or not at all: other processes read it meanwhile.
fn keep(place: &Path, known: &Known) -> io::Result<()> {
    let beside = place.with_extension(std::process::id().to_string());
    let folder = place.parent().unwrap_or(place);
    std::fs::create_dir_all(folder)?;
    // A cache inside a repository is none of its files.
    std::fs::write(folder.join(".gitignore"), "*\n")?;
    std::fs::write(&beside, serde_json::to_vec(known)?)?;
    std::fs::rename(&beside, place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(cache: &Path) -> PathBuf {
        let entries = std::fs::read_dir(cache).expect("a folder").map(|entry| entry.expect("an entry").path());
        let mut files = entries.filter(|path| !path.ends_with(".gitignore"));
        let file = files.next().expect("a file");
        assert!(files.next().is_none(), "one file a path");
        file
    }

    #[test]
    fn a_hash_is_found_once_and_anew_for_another_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, cache) = (folder.path().join("a.so"), folder.path().join("cache"));
        std::fs::write(&file, "abc").expect("a file");
        // FIPS 180-2, appendix B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(&file, Some(&cache)).expect("readable"), abc);
        assert_eq!(sha256(&file, None).expect("readable"), abc);
        // That it is taken from there shows when what is there is another.
        let place = kept(&cache);
        let text = std::fs::read_to_string(&place).expect("kept");
        std::fs::write(&place, text.replace(abc, "kept")).expect("written");
        assert_eq!(sha256(&file, Some(&cache)).expect("readable"), "kept");
        // Of the same size and time of modification, as an unpacker leaves it.
        let modified = std::fs::metadata(&file).and_then(|metadata| metadata.modified()).expect("a time");
        std::fs::write(folder.path().join("b"), "abd").expect("a file");
        std::fs::rename(folder.path().join("b"), &file).expect("replaced");
        File::options().write(true).open(&file).and_then(|file| file.set_modified(modified)).expect("set");
        let other = sha256(&file, Some(&cache)).expect("readable");
        assert!(other != abc && other != "kept", "{other}");
        assert_eq!(sha256(&file, Some(&cache)).expect("readable"), other);
        kept(&cache);
    }

    #[test]
    fn a_cache_that_is_broken_costs_nothing_but_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, cache) = (folder.path().join("a.so"), folder.path().join("cache"));
        std::fs::write(&file, "abc").expect("a file");
        let hash = sha256(&file, Some(&cache)).expect("readable");
        std::fs::write(kept(&cache), "no JSON").expect("written");
        assert_eq!(sha256(&file, Some(&cache)).expect("readable"), hash);
        // A file where the folder should be.
        assert_eq!(sha256(&file, Some(&file)).expect("readable"), hash);
        assert!(sha256(&folder.path().join("gone"), Some(&cache)).is_err());
    }
}
