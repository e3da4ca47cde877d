//! Compiled code as bytes: whether all of it is there.
//!
//! The driver takes an image by its address alone and believes the sizes inside, so a file that was cut short would be read
//! beyond its end. Must not know what the code does.

/// Beginning of a cubin, which is an ELF file.
const ELF: &[u8] = b"\x7fELF";
/// Beginning of a fat binary (`fatbinary_section.h` of CUDA's toolkit).
const FATBIN: &[u8] = &[0x50, 0xed, 0x55, 0xba];
/// Sections of this type take no bytes of the file (`SHT_NOBITS`).
const NO_BITS: u64 = 8;
/// Class of ELF files with 64-bit sizes, and byte order from the least significant: the only ones that CUDA writes.
const CLASS_AND_ORDER: [u8; 2] = [2, 1];

/// The image as the driver may read it: a cubin or a fat binary that is whole, or PTX with a zero at its end.
///
/// # Errors
/// What is wrong with it, in a sentence.
pub fn whole(image: &[u8]) -> Result<Vec<u8>, String> {
    if image.starts_with(ELF) {
        whole_elf(image)?;
        return Ok(image.to_vec());
    }
    if image.starts_with(FATBIN) {
        whole_fatbin(image)?;
        return Ok(image.to_vec());
    }
    let end = image.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let text = &image[..end];
    if text.is_empty() || text.contains(&0) {
        return Err("it is neither a cubin, nor a fat binary, nor PTX: its file may be empty or broken".to_owned());
    }
    Ok(text.iter().copied().chain([0]).collect())
}

fn cut() -> String {
    "it is cut short: sizes in it reach beyond its end; build or copy it anew".to_owned()
}

/// A whole number of so many bytes, least significant first.
fn number(image: &[u8], at: u64, bytes: u64) -> Result<u64, String> {
    let part = range(image, at, bytes)?;
    Ok(part.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

fn range(image: &[u8], at: u64, bytes: u64) -> Result<&[u8], String> {
    let end = at.checked_add(bytes).ok_or_else(cut)?;
    let [at, end] = [at, end].map(usize::try_from);
    at.ok().zip(end.ok()).and_then(|(at, end)| image.get(at..end)).ok_or_else(cut)
}

/// Where the header says its tables are, and where their entries say their parts are (System V ABI, 64-bit object files).
fn whole_elf(image: &[u8]) -> Result<(), String> {
    if range(image, 4, 2)? != CLASS_AND_ORDER {
        return Err("it is an ELF file of another kind than CUDA's".to_owned());
    }
    // Table of segments, then of sections: where in the header its place, its entries' size and their number are, and in an
    // entry the type, the place and the size of a part.
    for (place, entry, [at, size]) in [(0x20, 0x36, [0x08, 0x20]), (0x28, 0x3a, [0x18, 0x20])] {
        let (table, each, count) = (number(image, place, 8)?, number(image, entry, 2)?, number(image, entry + 2, 2)?);
        if count > 0 && each < size + 8 {
            return Err("its tables are broken; build or copy it anew".to_owned());
        }
        range(image, table, each * count)?;
        for index in 0..count {
            let one = table + index * each;
            let is_section = place == 0x28;
            if !is_section || number(image, one + 4, 4)? != NO_BITS {
                range(image, number(image, one + at, 8)?, number(image, one + size, 8)?)?;
            }
        }
    }
    Ok(())
}

/// Magic number, version, size of the header in two bytes, size of what follows in eight.
fn whole_fatbin(image: &[u8]) -> Result<(), String> {
    range(image, number(image, 6, 2)?, number(image, 8, 8)?).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF file of a header, a segment, 16 bytes and two sections, the second of which takes no bytes.
    fn elf() -> Vec<u8> {
        let (segment, data, sections) = (0x40_u64, 0x78_u64, 0x88_u64);
        let mut image = vec![0_u8; (sections + 2 * 0x40) as usize];
        let mut put = |at: u64, bytes: &[u8]| {
            image[at as usize..][..bytes.len()].copy_from_slice(bytes);
        };
        put(0, b"\x7fELF\x02\x01");
        put(0x20, &segment.to_le_bytes());
        put(0x28, &sections.to_le_bytes());
        put(0x36, &[0x38, 0, 1, 0, 0x40, 0, 2, 0]);
        put(segment + 0x08, &data.to_le_bytes());
        put(segment + 0x20, &16_u64.to_le_bytes());
        put(sections + 0x18, &data.to_le_bytes());
        put(sections + 0x20, &16_u64.to_le_bytes());
        put(sections + 0x44, &[8]);
        put(sections + 0x58, &data.to_le_bytes());
        put(sections + 0x60, &(1_u64 << 40).to_le_bytes());
        image
    }

    #[test]
    fn a_cubin_is_whole_or_cut_short() {
        let image = elf();
        assert_eq!(whole(&image).as_ref(), Ok(&image));
        for length in 5..image.len() {
            let error = whole(&image[..length]).expect_err("cut");
            assert!(error.contains("cut short"), "{length}: {error}");
        }
        let mut beyond = image.clone();
        beyond[0x88 + 0x20] = 0xff;
        assert!(whole(&beyond).is_err(), "a section beyond the end");
        let mut wraps = image.clone();
        wraps[0x28..0x30].fill(0xff);
        assert!(whole(&wraps).is_err(), "a table beyond all memory");
        let mut other = image;
        other[4] = 1;
        assert!(whole(&other).expect_err("32 bits").contains("another kind"));
    }

    #[test]
    fn a_fat_binary_is_as_long_as_it_says() {
        let mut image = FATBIN.to_vec();
        image.extend([1, 0, 16, 0, 8, 0, 0, 0, 0, 0, 0, 0]);
        image.extend([7; 8]);
        assert!(whole(&image).is_ok());
        assert!(whole(&image[..image.len() - 1]).is_err() && whole(&image[..10]).is_err());
        image[8..16].fill(0xff);
        assert!(whole(&image).is_err());
    }

    #[test]
    fn ptx_ends_with_one_zero_and_nothing_else_passes_for_it() {
        assert_eq!(whole(b".version 8.0\n"), Ok(b".version 8.0\n\0".to_vec()));
        assert_eq!(whole(b".version 8.0\n\0\0"), Ok(b".version 8.0\n\0".to_vec()));
        for other in [&b""[..], b"\0", b"\xb1\x43\x62\x46\x01\0\0\0garbage"] {
            assert!(whole(other).expect_err("no code").contains("neither a cubin"));
        }
    }
}
