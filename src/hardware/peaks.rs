//! Peak rates by datasheet, *dense* (datasheets often print twice as much, for sparse matrices), keyed by the driver's exact
//! name and the memory's size. A device that is not here has achieved rates and no percentage: names like "H100" stand for
//! cards that differ by a third.
//!
//! Sources: NVIDIA's datasheets of each product (H100, H200, A100, L4, T4, HGX B200), as collected with links in
//! stas00/ml-engineering, compute/accelerator. Where they print sparse figures the half is taken. Caches: NVIDIA's papers on the
//! architectures (Turing, Ampere, Ada, Hopper, Blackwell).

use crate::hardware::gpu::Gpu;
use crate::hardware::{Finding, Level};

/// Peak rates of a product.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peaks {
    /// The driver's name for it.
    pub name: &'static str,
    /// Memory, GiB as the driver reports it, rounded.
    pub memory_gib: u64,
    /// FP32 outside the tensor cores, TFLOP/s.
    pub fp32: f64,
    /// TF32, TFLOP/s.
    pub tf32: Option<f64>,
    /// BF16 with FP32 accumulation, TFLOP/s; of the T4 FP16.
    pub bf16: f64,
    /// FP8, TFLOP/s.
    pub fp8: Option<f64>,
    /// INT8, TOP/s.
    pub int8: Option<f64>,
    /// Memory bandwidth, GB/s (10^9).
    pub bandwidth: f64,
    /// Board power, W.
    pub power: f64,
    /// Second-level cache, MB.
    pub l2: f64,
}

/// Whether work that moves so many bytes is bounded by the memory and not by a `cache` of so many: even where its output stays in there.
#[must_use]
pub fn beyond_cache(bytes: f64, cache: f64) -> bool {
    /// Several times the cache.
    const BEYOND: f64 = 8.0;
    bytes > BEYOND * cache
}

impl Peaks {
    /// The same for this one's cache.
    #[must_use]
    pub fn beyond_cache(&self, bytes: f64) -> bool {
        beyond_cache(bytes, self.l2 * 1e6)
    }
}

const fn peaks(
    name: &'static str,
    memory_gib: u64,
    [fp32, bf16, bandwidth, power, l2]: [f64; 5],
    [tf32, fp8, int8]: [Option<f64>; 3],
) -> Peaks {
    Peaks { name, memory_gib, fp32, tf32, bf16, fp8, int8, bandwidth, power, l2 }
}

/// Every product that is known.
pub const PEAKS: &[Peaks] = &[
    peaks("NVIDIA H100 80GB HBM3", 80, [67.0, 989.4, 3350.0, 700.0, 50.0], [Some(494.7), Some(1978.9), Some(1978.9)]),
    peaks("NVIDIA H100 PCIe", 80, [51.0, 756.0, 2000.0, 350.0, 50.0], [Some(378.0), Some(1513.0), Some(1513.0)]),
    peaks("NVIDIA H200", 140, [67.0, 989.4, 4800.0, 700.0, 50.0], [Some(494.7), Some(1978.9), Some(1978.9)]),
    peaks("NVIDIA B200", 179, [75.0, 2250.0, 8000.0, 1000.0, 126.0], [Some(1100.0), Some(4500.0), Some(4500.0)]),
    peaks("NVIDIA A100-SXM4-80GB", 80, [19.5, 312.0, 2039.0, 400.0, 40.0], [Some(156.0), None, Some(624.0)]),
    peaks("NVIDIA A100-SXM4-40GB", 40, [19.5, 312.0, 1555.0, 400.0, 40.0], [Some(156.0), None, Some(624.0)]),
    peaks("NVIDIA A100 80GB PCIe", 80, [19.5, 312.0, 1935.0, 300.0, 40.0], [Some(156.0), None, Some(624.0)]),
    peaks("NVIDIA L4", 22, [30.3, 121.0, 300.0, 72.0, 48.0], [Some(60.0), Some(242.5), Some(242.5)]),
    peaks("Tesla T4", 15, [8.1, 65.0, 320.0, 70.0, 4.0], [None, None, Some(130.0)]),
];

/// How far the driver's figure may lie from the table's, GiB: drivers and ECC keep a part.
const SLACK_GIB: u64 = 2;

/// The peaks of a device; `None` where nobody wrote them down, and for a part of one, which has a share of them that no
/// datasheet gives.
#[must_use]
pub fn of(gpu: &Gpu) -> Option<&'static Peaks> {
    if gpu.mig == Some(true) {
        return None;
    }
    PEAKS.iter().find(|peaks| peaks.name == gpu.name && peaks.memory_gib.abs_diff(gpu.memory_gib()) <= SLACK_GIB)
}

/// What `doctor` says of them.
pub fn finding(gpu: &Gpu) -> Finding {
    let text = match of(gpu) {
        Some(peaks) => {
            let more =
                |name: &str, rate: Option<f64>| rate.map_or_else(String::new, |rate| format!(", {name} {rate:.0}"));
            format!(
                "{}: by datasheet, dense: fp32 {:.0}{}, bf16 {:.0}{} TFLOP/s{}, {:.2} TB/s, {:.0} W",
                gpu.index,
                peaks.fp32,
                more("tf32", peaks.tf32),
                peaks.bf16,
                more("fp8", peaks.fp8),
                peaks.int8.map_or_else(String::new, |rate| format!(", int8 {rate:.0} TOP/s")),
                peaks.bandwidth / 1000.0,
                peaks.power
            )
        }
        None if gpu.mig == Some(true) => format!(
            "{}: a part of `{}` with {} GiB: no datasheet has its peak rates, so rates are given without a percentage",
            gpu.index,
            gpu.name,
            gpu.memory_gib()
        ),
        None => format!(
            "{}: no peak rates are known of `{}` with {} GiB: rates are given without a percentage",
            gpu.index,
            gpu.name,
            gpu.memory_gib()
        ),
    };
    Finding { id: "gpu_peaks", level: Level::Info, text, remedy: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::gpu::tests::h100;

    #[test]
    fn a_card_is_found_by_its_exact_name_and_memory() {
        assert_eq!(of(&h100()).map(|peaks| peaks.bandwidth), Some(3350.0));
        let other = |name: &str, memory: u64| Gpu { name: name.to_owned(), memory: memory << 30, ..h100() };
        assert_eq!(of(&other("NVIDIA H100", 80)), None, "which one?");
        assert_eq!(of(&other("NVIDIA H100 80GB HBM3", 64)), None, "a part of one");
        assert!(finding(&other("NVIDIA H100", 80)).text.contains("without a percentage"));
        let cut = Gpu { mig: Some(true), ..h100() };
        assert_eq!(of(&cut), None, "the whole's peaks are not those of its parts");
        assert!(finding(&cut).text.contains("a part of"));
    }

    #[test]
    fn what_a_cache_may_hold_is_not_bounded_by_memory() {
        let h100 = of(&h100()).expect("known");
        assert!(h100.beyond_cache(401e6) && !h100.beyond_cache(400e6));
        assert!(PEAKS.iter().all(|peaks| (4.0..=126.0).contains(&peaks.l2)));
    }

    #[test]
    fn dense_rates_double_with_each_halving_of_the_width() {
        for peaks in PEAKS {
            let near = |a: f64, b: f64| (a / b - 2.0).abs() < 0.1;
            if let Some(tf32) = peaks.tf32 {
                assert!(near(peaks.bf16, tf32), "{}", peaks.name);
            }
            for twice in [peaks.fp8, peaks.int8].into_iter().flatten() {
                assert!(near(twice, peaks.bf16), "{}: a sparse figure has slipped in", peaks.name);
            }
        }
    }
}
