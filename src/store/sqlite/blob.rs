//! Sample vectors as bytes, every bit kept.
//!
//! Layout: one version byte, then lz4 (with its size in front, 4 bytes little-endian) of the values as little-endian
//! f64, transposed: all lowest bytes, then all second bytes, and so on. Samples of one metric share sign, exponent and
//! leading digits, which transposing puts side by side for lz4. Must not know what the values mean.

/// What this file writes.
const VERSION: u8 = 1;
/// Bytes of a value.
const WIDTH: usize = size_of::<f64>();
/// No lz4 block expands more than this: a length byte adds at most 255 bytes.
const MAX_RATIO: usize = 255;
/// The size in front has 32 bits.
const MAX_VALUES: usize = u32::MAX as usize / WIDTH;

/// Encodes.
///
/// # Errors
/// When there are more than 2^29 - 1 values.
pub fn encode(values: &[f64]) -> Result<Vec<u8>, String> {
    if values.len() > MAX_VALUES {
        return Err(format!("{} samples in one vector; at most {MAX_VALUES} can be stored", values.len()));
    }
    let mut planes = vec![0; values.len() * WIDTH];
    for (at, value) in values.iter().enumerate() {
        for (plane, byte) in value.to_le_bytes().into_iter().enumerate() {
            planes[plane * values.len() + at] = byte;
        }
    }
    let mut blob = vec![VERSION];
    blob.extend(lz4_flex::block::compress_prepend_size(&planes));
    Ok(blob)
}

/// Decodes a vector that must hold `n` values.
///
/// # Errors
/// What is wrong with the bytes. Never panics, and never allocates more than the bytes can stand for.
pub fn decode(blob: &[u8], n: u64) -> Result<Vec<f64>, String> {
    let packed = match blob.split_first() {
        Some((&VERSION, rest)) => rest,
        Some((version, _)) => return Err(format!("sample vector has encoding {version}, known is {VERSION}")),
        None => return Err("sample vector is empty".to_owned()),
    };
    let (size, block) = lz4_flex::block::uncompressed_size(packed).map_err(|e| format!("sample vector: {e}"))?;
    let n = usize::try_from(n).unwrap_or(usize::MAX);
    if n.checked_mul(WIDTH) != Some(size) {
        return Err(format!("sample vector holds {size} bytes where {n} samples were announced"));
    }
    if size > block.len().saturating_mul(MAX_RATIO) {
        return Err(format!("sample vector is cut short: {} bytes for {n} samples", block.len()));
    }
    let mut planes = vec![0; size];
    let got = lz4_flex::block::decompress_into(block, &mut planes).map_err(|e| format!("sample vector: {e}"))?;
    if got != size {
        return Err(format!("sample vector unpacks to {got} bytes where {size} were announced"));
    }
    Ok((0..n).map(|at| f64::from_le_bytes(std::array::from_fn(|plane| planes[plane * n + at]))).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{decode, encode};

    fn bits(values: &[f64]) -> Vec<u64> {
        values.iter().map(|v| v.to_bits()).collect()
    }

    #[test]
    fn special_values_keep_their_bits() {
        let values = [
            0.0,
            -0.0,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
            f64::from_bits(0xfff0_dead_beef_0001),
            f64::MIN_POSITIVE / 4.0,
            f64::MAX,
        ];
        let blob = encode(&values).unwrap();
        assert_eq!(bits(&decode(&blob, 8).unwrap()), bits(&values));
        assert_eq!(decode(&encode(&[]).unwrap(), 0).unwrap(), Vec::<f64>::new());
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        // Version 1, 16 bytes unpacked; 1.0 is 00…00 f0 3f and -2.0 is 00…00 00 c0, so the planes end f0 00 3f c0.
        let blob = encode(&[1.0, -2.0]).unwrap();
        assert_eq!(blob[..5], [1, 16, 0, 0, 0]);
        let planes = lz4_flex::block::decompress(&blob[5..], 16).unwrap();
        assert_eq!(planes[..12], [0; 12]);
        assert_eq!(planes[12..], [0xf0, 0x00, 0x3f, 0xc0]);
    }

    #[test]
    fn like_samples_are_packed() {
        let values: Vec<f64> = (0..10_000).map(|i| 0.001 + f64::from(i % 50) * 1e-6).collect();
        let blob = encode(&values).unwrap();
        assert!(blob.len() < values.len() * 4, "{} bytes", blob.len());
    }

    #[test]
    fn damage_is_named() {
        let blob = encode(&[1.0, 2.0, 3.0]).unwrap();
        assert!(decode(&[], 3).unwrap_err().contains("empty"));
        assert!(decode(&blob[..2], 3).is_err());
        assert!(decode(&blob, 4).unwrap_err().contains("announced"));
        assert!(decode(&blob, u64::MAX).is_err());
        let mut other = blob.clone();
        other[0] = 9;
        assert!(decode(&other, 3).unwrap_err().contains("encoding 9"));
        // A size of almost 4 GiB in front of a few bytes must not be believed.
        assert!(decode(&[1, 0xf8, 0xff, 0xff, 0xff, 0x10, 0], u64::from(u32::MAX / 8)).is_err());
    }

    proptest! {
        #[test]
        fn any_bits_come_back(raw in prop::collection::vec(any::<u64>(), 0..300)) {
            let values: Vec<f64> = raw.iter().copied().map(f64::from_bits).collect();
            let blob = encode(&values).unwrap();
            prop_assert_eq!(bits(&decode(&blob, raw.len() as u64).unwrap()), raw);
        }

        #[test]
        fn damaged_bytes_never_panic(
            values in prop::collection::vec(any::<f64>(), 0..50),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut blob = encode(&values).unwrap();
            let at = at.index(blob.len());
            blob[at] = byte;
            let _ = decode(&blob, values.len() as u64);
            blob.truncate(cut.index(blob.len()));
            prop_assert!(decode(&blob, values.len() as u64 + 1).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(blob in prop::collection::vec(any::<u8>(), 0..200), n in 0_u64..2000) {
            if let Ok(values) = decode(&blob, n) {
                prop_assert_eq!(values.len() as u64, n);
            }
        }
    }
}
