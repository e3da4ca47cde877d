//! Seeded inputs: the same values for the same seed on every launch, never zeros.
//!
//! Must not know what the values are for.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// A generator of its own for each stream of a seed, so that adding an input moves no other.
fn generator(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    generator.set_stream(stream);
    generator
}

/// A uniform number in [0, 1) of 53 random bits.
fn uniform(generator: &mut ChaCha8Rng) -> f64 {
    (generator.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// `n` standard normal values (Box and Muller 1958).
pub fn normals(seed: u64, stream: u64, n: usize) -> Vec<f32> {
    let mut generator = generator(seed, stream);
    let mut values = Vec::with_capacity(n + 1);
    while values.len() < n {
        // 1 − u lies in (0, 1]: its logarithm is finite.
        let radius = (-2.0 * (1.0 - uniform(&mut generator)).ln()).sqrt();
        let (sine, cosine) = (std::f64::consts::TAU * uniform(&mut generator)).sin_cos();
        values.extend([(radius * cosine) as f32, (radius * sine) as f32]);
    }
    values.truncate(n);
    values
}

/// `n` random bytes.
pub fn bytes(seed: u64, stream: u64, n: usize) -> Vec<u8> {
    let mut bytes = vec![0; n];
    generator(seed, stream).fill_bytes(&mut bytes);
    bytes
}

/// At most `most` of the indices below `of`, in order: all of them if they are few enough, else the first, the last
/// and random ones between.
pub fn picks(seed: u64, stream: u64, most: usize, of: usize) -> Vec<usize> {
    if of <= most {
        return (0..of).collect();
    }
    let mut generator = generator(seed, stream);
    let mut picks = vec![0, of - 1];
    while picks.len() < most {
        picks.push((uniform(&mut generator) * of as f64) as usize);
    }
    picks.sort_unstable();
    picks.dedup();
    picks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normals_have_mean_zero_and_variance_one() {
        let values = normals(1, 0, 100_001);
        assert_eq!(values.len(), 100_001);
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let variance = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / n;
        // Five standard errors: 5/√n and 5·√(2/n).
        assert!(mean.abs() < 0.016, "{mean}");
        assert!((variance - 1.0).abs() < 0.023, "{variance}");
    }

    #[test]
    fn the_same_seed_and_stream_replay_and_others_differ() {
        assert_eq!(normals(7, 1, 9), normals(7, 1, 9));
        assert_ne!(normals(7, 1, 9), normals(7, 2, 9));
        assert_ne!(normals(7, 1, 9), normals(8, 1, 9));
        assert_ne!(bytes(7, 1, 9), bytes(7, 2, 9));
    }

    #[test]
    fn picks_cover_the_ends_and_all_of_a_few() {
        assert_eq!(picks(1, 0, 5, 5), [0, 1, 2, 3, 4]);
        let some = picks(1, 0, 8, 1000);
        assert!(some.len() <= 8 && some.len() > 2);
        assert_eq!((some.first(), some.last()), (Some(&0), Some(&999)));
        assert!(some.is_sorted_by(|a, b| a < b));
    }
}
