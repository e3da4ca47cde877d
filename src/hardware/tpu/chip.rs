//! TPU chips by version: what their maker documents of each, and the names they go by.
//!
//! Rates are dense and of one *chip*; a device of PJRT may be half of one. A figure that the maker does not print is absent. Must not
//! know which chip is where.

/// A generation of TPU chips.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    /// 2017.
    V2,
    /// 2018.
    V3,
    /// 2021.
    V4,
    /// 2023, the small one; `v5litepod` in the maker's commands.
    V5e,
    /// 2023, the large one.
    V5p,
    /// Trillium.
    V6e,
    /// Ironwood; `TPU7x` in the maker's documents.
    V7x,
}

/// What is documented of one chip.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Chip {
    /// Which.
    pub version: Version,
    /// `v5e`.
    pub name: &'static str,
    /// Tensor cores.
    pub cores: u32,
    /// High-bandwidth memory, GiB.
    pub hbm_gib: u64,
    /// Memory bandwidth, GB/s (10^9).
    pub bandwidth: f64,
    /// BF16, TFLOP/s.
    pub bf16: Option<f64>,
    /// INT8, TOP/s.
    pub int8: Option<f64>,
    /// FP8, TFLOP/s.
    pub fp8: Option<f64>,
    /// Kinds by which PJRT names its devices, the maker's own name of the product among them.
    pub(super) kinds: &'static [&'static str],
    /// How types of accelerators begin (`TPU_ACCELERATOR_TYPE`), without the count.
    types: &'static [&'static str],
    /// PCI device, and the subsystem's where two versions share one.
    pub(super) pci: (u16, Option<u16>),
}

/// Every chip that is known, oldest first.
///
/// PCI devices: github.com/AI-Hypercomputer/cloud-accelerator-diagnostics, `tpu_info/device.py`, and JAX's `hardware_utils.py`. Kinds:
/// JAX's `pallas/mosaic/tpu_info.py` and what libtpu 0.0.52 answers. Types: docs.cloud.google.com/tpu/docs, the page of each version.
pub const CHIPS: &[Chip] = &[
    // Cores and memory: tpu-info (two devices of 8 GiB). Bandwidth: Norrie et al., "The Design Process for Google's Training Chips:
    // TPUv2 and TPUv3", IEEE Micro 2021. The peak is left out: it was not found in a document of the maker's that is still there.
    Chip {
        version: Version::V2,
        name: "v2",
        cores: 2,
        hbm_gib: 16,
        bandwidth: 700.0,
        bf16: None,
        int8: None,
        fp8: None,
        kinds: &["TPU v2"],
        types: &["v2"],
        pci: (0x0027, Some(0x004e)),
    },
    // cloud.google.com/tpu/docs/v3, "Key specifications".
    Chip {
        version: Version::V3,
        name: "v3",
        cores: 2,
        hbm_gib: 32,
        bandwidth: 900.0,
        bf16: Some(123.0),
        int8: None,
        fp8: None,
        kinds: &["TPU v3"],
        types: &["v3"],
        pci: (0x0027, Some(0x004f)),
    },
    // cloud.google.com/tpu/docs/v4: "275 teraflops (bf16 or int8)", "32 GiB, 1200 GBps", two tensor cores.
    Chip {
        version: Version::V4,
        name: "v4",
        cores: 2,
        hbm_gib: 32,
        bandwidth: 1200.0,
        bf16: Some(275.0),
        int8: Some(275.0),
        fp8: None,
        kinds: &["TPU v4"],
        types: &["v4"],
        pci: (0x005e, None),
    },
    // cloud.google.com/tpu/docs/v5e: 197 TFLOPs, 393 TOPs, "16 GB, 819 GBps", one tensor core. (A later edition of the page prints
    // 800 GiBps.)
    Chip {
        version: Version::V5e,
        name: "v5e",
        cores: 1,
        hbm_gib: 16,
        bandwidth: 819.0,
        bf16: Some(197.0),
        int8: Some(393.0),
        fp8: None,
        kinds: &["TPU v5 lite", "TPU v5e"],
        types: &["v5litepod", "v5lite", "v5e"],
        pci: (0x0063, None),
    },
    // cloud.google.com/tpu/docs/v5p: 459 TFLOPs, "95GB, 2765 GBps"; int8: JAX's tpu_info.py (9.18e14 operations a second and chip);
    // fp8 and cores: docs.cloud.google.com/tpu/docs/tpu7x, which compares three versions.
    Chip {
        version: Version::V5p,
        name: "v5p",
        cores: 2,
        hbm_gib: 95,
        bandwidth: 2765.0,
        bf16: Some(459.0),
        int8: Some(918.0),
        fp8: Some(459.0),
        kinds: &["TPU v5", "TPU v5p"],
        types: &["v5p"],
        pci: (0x0062, None),
    },
    // docs.cloud.google.com/tpu/docs/v6e: 918 TFLOPs, 1836 TOPs, 32 GB, 1638 GBps, one tensor core; fp8: the page of TPU7x.
    Chip {
        version: Version::V6e,
        name: "v6e",
        cores: 1,
        hbm_gib: 32,
        bandwidth: 1638.0,
        bf16: Some(918.0),
        int8: Some(1836.0),
        fp8: Some(918.0),
        kinds: &["TPU v6 lite", "TPU v6e"],
        types: &["v6e"],
        pci: (0x006f, None),
    },
    // docs.cloud.google.com/tpu/docs/tpu7x: 2307 TFLOPs bf16, 4614 fp8, 192 GiB, 7380 GB/s, two tensor cores. No int8 is printed.
    Chip {
        version: Version::V7x,
        name: "v7x",
        cores: 2,
        hbm_gib: 192,
        bandwidth: 7380.0,
        bf16: Some(2307.0),
        int8: None,
        fp8: Some(4614.0),
        kinds: &["TPU7x", "TPU v7x"],
        types: &["tpu7x", "v7x"],
        pci: (0x0076, None),
    },
];

impl Version {
    /// What is documented of it.
    #[must_use]
    pub fn chip(self) -> &'static Chip {
        CHIPS.iter().find(|chip| chip.version == self).expect("every version has a row")
    }

    /// `v5e`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.chip().name
    }

    /// By the kind of a PJRT device: `TPU v5 lite` is a v5e. `None` of kinds that nobody wrote down, such as `TPU v4 lite`, which is
    /// another chip than the v4.
    #[must_use]
    pub fn of_kind(kind: &str) -> Option<Self> {
        found(|chip| chip.kinds.contains(&kind.trim()))
    }

    /// By the type of an accelerator: `v5litepod-16`, `v6e-8`, `tpu7x-4`.
    #[must_use]
    pub fn of_type(accelerator: &str) -> Option<Self> {
        let begin = accelerator.split('-').next().unwrap_or_default().to_ascii_lowercase();
        found(|chip| chip.types.contains(&begin.as_str()))
    }

    /// By what it says of itself on the PCI bus; `None` where two versions share the device and the subsystem is not known.
    #[must_use]
    pub fn of_pci(device: u16, subsystem: Option<u16>) -> Option<Self> {
        found(|chip| chip.pci.0 == device && (chip.pci.1.is_none() || chip.pci.1 == subsystem))
    }

    /// Whether a PCI device of its maker's is a TPU at all; the maker's network cards share the vendor.
    #[must_use]
    pub fn is_pci(device: u16) -> bool {
        CHIPS.iter().any(|chip| chip.pci.0 == device)
    }
}

fn found(is_it: impl Fn(&Chip) -> bool) -> Option<Version> {
    CHIPS.iter().find(|chip| is_it(chip)).map(|chip| chip.version)
}

impl Chip {
    /// Its peaks in words, for `doctor`.
    #[must_use]
    pub fn peaks(&self) -> String {
        let rates = [("bf16", self.bf16, "TFLOP/s"), ("fp8", self.fp8, "TFLOP/s"), ("int8", self.int8, "TOP/s")];
        let mut words: Vec<String> =
            rates.into_iter().filter_map(|(name, rate, unit)| Some(format!("{name} {:.0} {unit}", rate?))).collect();
        words.push(format!("{:.2} TB/s", self.bandwidth / 1000.0));
        words.join(", ")
    }
}
