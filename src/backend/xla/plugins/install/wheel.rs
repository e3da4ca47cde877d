//! Verifies and unpacks a wheel. One that was not pinned is a stranger's archive: nothing in it may leave its folder.
//!
//! Must not know where a wheel came from.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use zip::ZipArchive;

use crate::backend::xla::plugins::install::{InstallError, io};
use crate::domain::hex;

/// Bytes that a wheel may unpack to: eight times the largest plugin that is known.
const MOST_BYTES: u64 = 4 << 30;
/// Entries of a wheel.
const MOST_ENTRIES: usize = 20_000;
/// The part of a mode that says what kind of file it is, a plain file, and a folder (POSIX, `sys/stat.h`).
const KINDS: u32 = 0o170_000;
const PLAIN: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;

/// The SHA-256 of a wheel, as hexadecimal digits; where hashes are given it is one of them.
///
/// # Errors
/// Where it is none of them, or the file cannot be read.
pub fn verified(wheel: &Path, expected: &[&str]) -> Result<String, InstallError> {
    let mut file = File::open(wheel).map_err(io("read", wheel))?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(io("read", wheel))? {
            0 => break,
            n => digest.update(&buffer[..n]),
        }
    }
    let found = hex(&digest.finalize());
    if expected.is_empty() || expected.contains(&found.as_str()) {
        return Ok(found);
    }
    Err(InstallError::Hash { wheel: name(wheel), expected: expected.join(" or "), found })
}

/// Unpacks a wheel into a folder that is empty. What was unpacked before an error stays there.
///
/// # Errors
/// Where it is no archive, holds anything but plain files that stay in the folder, or the disk refuses.
pub fn unpack(wheel: &Path, folder: &Path) -> Result<(), InstallError> {
    unpack_within(wheel, folder, MOST_BYTES)
}

fn unpack_within(wheel: &Path, folder: &Path, most: u64) -> Result<(), InstallError> {
    let wrong = |what: String| InstallError::Wheel { wheel: name(wheel), what };
    let broken = |error: zip::result::ZipError| wrong(format!("is no usable archive: {error}"));
    let file = File::open(wheel).map_err(io("read", wheel))?;
    let mut archive = ZipArchive::new(file).map_err(broken)?;
    if archive.len() > MOST_ENTRIES {
        return Err(wrong(format!("holds {} files, more than {MOST_ENTRIES}", archive.len())));
    }
    let mut left = most;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(broken)?;
        let said = entry.name().map_err(broken)?.into_owned();
        let Some(inside) = inside(&said) else {
            return Err(wrong(format!("holds `{}`, which leads out of its folder", said.escape_debug())));
        };
        let kind = entry.unix_mode().unwrap_or(0) & KINDS;
        if entry.is_symlink() || ![0, PLAIN, FOLDER].contains(&kind) {
            return Err(wrong(format!("holds `{}`, which is no plain file", said.escape_debug())));
        }
        let path = folder.join(inside);
        if entry.is_dir() {
            std::fs::create_dir_all(&path).map_err(io("make the folder", &path))?;
            continue;
        }
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).map_err(io("make the folder", parent))?;
        let mut file = File::create_new(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => wrong(format!("holds `{}` twice", said.escape_debug())),
            _ => io("write", &path)(error),
        })?;
        // What an archive says of its sizes need not be true: what comes out counts.
        let mut buffer = vec![0; 1 << 20];
        loop {
            // An error of the archive, not of the disk.
            let n = entry.read(&mut buffer).map_err(|error| wrong(format!("is damaged at `{said}`: {error}")))?;
            if n == 0 {
                break;
            }
            left = left.checked_sub(n as u64).ok_or_else(|| wrong(format!("unpacks to more than {most} bytes")))?;
            file.write_all(&buffer[..n]).map_err(io("write", &path))?;
        }
        file.sync_all().map_err(io("write", &path))?;
    }
    Ok(())
}

/// A path as an archive writes it, if it stays below the folder it is unpacked into: relative, without `..` and the like.
pub fn inside(said: &str) -> Option<PathBuf> {
    let path = said.strip_suffix('/').unwrap_or(said);
    let fits = |part: &str| !["", ".", ".."].contains(&part) && !part.contains(['\\', '\0']);
    path.split('/').all(fits).then(|| PathBuf::from(path))
}

fn name(wheel: &Path) -> String {
    wheel.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    /// A folder with `a.whl` of these files.
    fn wheel(files: &[(&str, &[u8])]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.whl");
        let mut zip = ZipWriter::new(File::create(&path).expect("a file"));
        for (name, bytes) in files {
            zip.start_file(*name, SimpleFileOptions::default()).expect("an entry");
            zip.write_all(bytes).expect("its bytes");
        }
        zip.finish().expect("an archive");
        (folder, path)
    }

    fn refusal(files: &[(&str, &[u8])]) -> String {
        let (folder, path) = wheel(files);
        let into = folder.path().join("into");
        std::fs::create_dir(&into).expect("a folder");
        let error = unpack_within(&path, &into, 1 << 20).expect_err("a hostile wheel").to_string();
        let left: Vec<_> = std::fs::read_dir(folder.path()).expect("listed").flatten().collect();
        assert_eq!(left.len(), 2, "nothing beside the wheel and the folder: {left:?}");
        error
    }

    #[test]
    fn plain_files_are_unpacked() {
        let (folder, path) = wheel(&[("p/libtpu.so", b"\x7fELF"), ("p-1.dist-info/METADATA", b"Name: p")]);
        unpack(&path, folder.path()).expect("a good wheel");
        assert_eq!(std::fs::read(folder.path().join("p/libtpu.so")).expect("unpacked"), b"\x7fELF");
    }

    #[test]
    fn nothing_leaves_the_folder() {
        for evil in ["../evil", "/evil", "a/../../evil", "a//evil", "./evil", "a\\..\\evil"] {
            let error = refusal(&[("good", b"1"), (evil, b"2")]);
            assert!(error.contains("leads out of its folder") && error.contains("nothing was installed"), "{error}");
        }
        assert_eq!(inside("a/b.so"), Some(PathBuf::from("a/b.so")));
        assert_eq!(inside("a/b/"), Some(PathBuf::from("a/b")));
        assert_eq!(inside(""), None);
    }

    #[test]
    fn links_and_bombs_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.whl");
        let mut zip = ZipWriter::new(File::create(&path).expect("a file"));
        zip.add_symlink("link", "/etc", SimpleFileOptions::default()).expect("an entry");
        zip.finish().expect("an archive");
        let error = unpack(&path, folder.path()).expect_err("a link").to_string();
        assert!(error.contains("no plain file"), "{error}");
        assert!(std::fs::symlink_metadata(folder.path().join("link")).is_err());

        let zeros = vec![0; (1 << 20) + 1];
        assert!(refusal(&[("zeros", &zeros)]).contains("unpacks to more"));
    }

    #[test]
    fn what_is_no_archive_or_a_piece_of_one_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.whl");
        std::fs::write(&path, "<html>").expect("a file");
        assert!(unpack(&path, folder.path()).expect_err("a page").to_string().contains("no usable archive"));

        let (folder, path) = wheel(&[("p/libtpu.so", &[7; 5000])]);
        let bytes = std::fs::read(&path).expect("the wheel");
        // A byte of the data, not of the directory at the end.
        let mut damaged = bytes.clone();
        damaged[45] ^= 0xff;
        std::fs::write(&path, damaged).expect("a file");
        let into = folder.path().join("into");
        assert!(unpack(&path, &into).expect_err("damaged").to_string().contains("damaged"));
    }

    #[test]
    fn the_hash_is_one_of_those_that_are_known() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.whl");
        std::fs::write(&path, "abc").expect("a file");
        // FIPS 180-2, appendix B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(verified(&path, &[]).expect("any"), abc);
        assert_eq!(verified(&path, &["00", abc]).expect("a known one"), abc);
        let error = verified(&path, &["00", "11"]).expect_err("another").to_string();
        assert!(error.contains("00 or 11 was expected") && error.contains(abc), "{error}");
    }
}
