//! Seeded numbers: the same seed gives the same bits, whatever the machine, the order of calls or the thread count.
//!
//! Eight rounds of `ChaCha`, one stream a name, and the transform of Box and Muller on polynomials that round alike
//! everywhere. Must not know what the numbers are for.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::backend::cpu::math;

/// Values drawn at a time: large enough to vectorise, small enough for the first-level cache.
const BLOCK: usize = 1024;

/// A generator of its own for each (seed, name), so that values do not depend on what was drawn before.
pub fn stream(seed: u64, name: &str) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // FNV-1a, 64 bits.
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    rng.set_stream(hash);
    rng
}

/// `count` normal values.
pub fn normal(seed: u64, name: &str, count: usize, mean: f32, std: f32) -> Vec<f32> {
    let mut rng = stream(seed, name);
    let mut out = Vec::with_capacity(count + BLOCK);
    let mut words = [0_u32; BLOCK];
    let mut values = [0.0_f32; BLOCK];
    while out.len() < count {
        for word in &mut words {
            *word = rng.next_u32();
        }
        let (low, high) = words.split_at(BLOCK / 2);
        let (cosines, sines) = values.split_at_mut(BLOCK / 2);
        for (((u, v), c), s) in low.iter().zip(high).zip(cosines).zip(sines) {
            // In (0, 1) and [0, 1), on a grid that f32 represents exactly.
            let radius = ((u >> 8) as f32 + 0.5) * (1.0 / 16_777_216.0);
            let (sin, cos) = math::sin_cos_turn((v >> 8) as f32 * (1.0 / 16_777_216.0));
            let r = (-2.0 * math::ln(radius)).sqrt() * std;
            *c = r * cos + mean;
            *s = r * sin + mean;
        }
        out.extend_from_slice(&values);
    }
    out.truncate(count);
    out
}

/// `count` whole numbers below `bound`, e.g. token ids.
pub fn below(seed: u64, name: &str, count: usize, bound: usize) -> Vec<u32> {
    let mut rng = stream(seed, name);
    (0..count).map(|_| index(&mut rng, bound)).collect()
}

/// A whole number below `bound` by multiply and shift: its bias is under 2⁻³² × bound, nothing for a vocabulary.
fn index(rng: &mut ChaCha8Rng, bound: usize) -> u32 {
    ((u64::from(rng.next_u32()) * bound as u64) >> 32) as u32
}

/// `n` random bytes.
pub fn bytes(seed: u64, name: &str, n: usize) -> Vec<u8> {
    let mut bytes = vec![0; n];
    stream(seed, name).fill_bytes(&mut bytes);
    bytes
}

/// At most `most` of the indices below `of`, in order: all of them if they are few enough, else the first, the last
/// and random ones between.
pub fn picks(seed: u64, name: &str, most: usize, of: usize) -> Vec<usize> {
    if of <= most {
        return (0..of).collect();
    }
    let mut rng = stream(seed, name);
    let mut picks = vec![0, of - 1];
    while picks.len() < most {
        picks.push(index(&mut rng, of) as usize);
    }
    picks.sort_unstable();
    picks.dedup();
    picks
}

/// Signs without end, each ±1 with equal chance.
pub fn signs(seed: u64, name: &str) -> impl Iterator<Item = f64> {
    let mut rng = stream(seed, name);
    std::iter::repeat_with(move || rng.next_u64())
        .flat_map(|word| (0..64).map(move |bit| 1.0 - 2.0 * (word >> bit & 1) as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_values_have_the_moments_asked_for() {
        let values = normal(7, "w", 200_000, 0.5, 2.0);
        let n = values.len() as f64;
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
        let moment = |k: i32| values.iter().map(|v| ((f64::from(*v) - mean) / 2.0).powi(k)).sum::<f64>() / n;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
        assert!((moment(2) - 1.0).abs() < 0.02);
        assert!(moment(3).abs() < 0.05);
        assert!((moment(4) - 3.0).abs() < 0.1);
    }

    #[test]
    fn streams_replay_and_differ_by_seed_and_name() {
        let bits =
            |seed, name| -> Vec<u32> { normal(seed, name, 5000, 0.0, 1.0).iter().map(|v| v.to_bits()).collect() };
        assert_eq!(bits(1, "a"), bits(1, "a"));
        assert_ne!(bits(1, "a"), bits(2, "a"));
        assert_ne!(bits(1, "a"), bits(1, "b"));
        // Pinned: a change of generator would silently change every stored baseline.
        assert_eq!(below(1, "a", 4, 1000), below(1, "a", 8, 1000)[..4]);
        assert!(below(3, "ids", 1000, 10).iter().all(|id| *id < 10));
        assert!(signs(3, "s").take(1000).sum::<f64>().abs() < 150.0);
    }

    #[test]
    fn picks_cover_the_ends_and_all_of_a_few() {
        assert_eq!(picks(1, "rows", 5, 5), [0, 1, 2, 3, 4]);
        let some = picks(1, "rows", 8, 1000);
        assert!(some.len() <= 8 && some.len() > 2);
        assert_eq!((some.first(), some.last()), (Some(&0), Some(&999)));
        assert!(some.is_sorted_by(|a, b| a < b));
    }
}
