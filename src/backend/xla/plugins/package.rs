//! Packages that bring a plugin: which ones `regrade backend install` offers, pinned by version and hash, and where each keeps its
//! library.
//!
//! Must not know how a package is fetched or unpacked.

use crate::backend::xla::plugins::Platform;

/// A package that can be installed by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Package {
    /// What `regrade backend install` calls it.
    pub name: &'static str,
    /// What it runs on.
    pub platform: Platform,
    /// What Python's index calls it.
    pub package: &'static str,
    /// The version that is installed unless another is asked for.
    pub version: &'static str,
    /// SHA-256 of its wheels for Linux on x86-64; several where every version of Python has one of its own.
    pub sha256: &'static [&'static str],
    /// Compressed size, MB (10^6).
    pub megabytes: u32,
    /// Where the library lies below the folder of packages.
    pub library: &'static str,
    /// What else must be there, for people; empty where nothing must.
    pub needs: &'static str,
}

/// Every package, those of one platform in the order in which they are preferred.
pub const PACKAGES: &[Package] = &[
    Package {
        name: "xla-cpu",
        platform: Platform::Cpu,
        package: "lammps-jax-pjrt-cpu",
        version: "0.11.2",
        sha256: &["1319390d948b39f69f7dade496b7c385149d9ca6097a6b62114da113216d9ad1"],
        megabytes: 63,
        library: "lammps_jax_pjrt_cpu/pjrt_c_api_cpu_plugin.so",
        needs: "",
    },
    Package {
        name: "xla-cuda13",
        platform: Platform::Cuda,
        package: "jax-cuda13-pjrt",
        version: "0.12.0.1",
        sha256: &["5899bb6177eda86ea532afb9a26794f2bdd04966f6a01f9028266b16c2b6cf90"],
        megabytes: 135,
        library: "jax_plugins/xla_cuda13/xla_cuda_plugin.so",
        needs: "NVIDIA's driver, and CUDA 13's own libraries (cuBLAS, cuDNN, cuFFT, cuSOLVER, cuSPARSE, NCCL, ptxas): its toolkit \
                with cuDNN, or `pip install 'jax-cuda13-plugin[with-cuda]==0.12.0.1'` (2.5 GB) into the active Python",
    },
    Package {
        name: "xla-cuda12",
        platform: Platform::Cuda,
        package: "jax-cuda12-pjrt",
        version: "0.12.0.1",
        sha256: &["5ec28e06198d094031c37590b4ea753ae8cde4879ab4b60baf40f0dffb673286"],
        megabytes: 192,
        library: "jax_plugins/xla_cuda12/xla_cuda_plugin.so",
        needs: "NVIDIA's driver, and CUDA 12's own libraries (cuBLAS, cuDNN, cuFFT, cuSOLVER, cuSPARSE, NCCL, ptxas): its toolkit \
                with cuDNN, or `pip install 'jax-cuda12-plugin[with-cuda]==0.12.0.1'` (3.2 GB) into the active Python",
    },
    Package {
        name: "xla-rocm7",
        platform: Platform::Rocm,
        package: "jax-rocm7-pjrt",
        version: "0.12.0",
        sha256: &["4551d0714523355f2946ca1958c3f584e95661e467a641d36b726f718a1c7934"],
        megabytes: 133,
        library: "jax_plugins/xla_rocm7/xla_rocm_plugin.so",
        needs: "AMD's ROCm 7, which it is linked with",
    },
    Package {
        name: "xla-oneapi",
        platform: Platform::Oneapi,
        package: "jax-oneapi-pjrt",
        version: "0.11.2",
        sha256: &["ae7250c5d4459dcfedf4de1bf683edfef0502861e44b6e9bfaa7d8133b4292c1"],
        megabytes: 135,
        library: "jax_plugins/xla_oneapi/xla_oneapi_plugin.so",
        needs: "Intel's oneAPI 2025.1, which it is linked with",
    },
    Package {
        name: "xla-tpu",
        platform: Platform::Tpu,
        package: "libtpu",
        version: "0.0.52",
        // CPython 3.11 to 3.14, in this order. The library is the same; the wheels are not.
        sha256: &[
            "f5e2e596eaea9357fbb5a6755a7a9007c6ab75bfde4a55191b03eff402971140",
            "f76ab1f4d697c346371c50058796f6baa93317b89be8cf8a1012715a2655120d",
            "bf962d290626e93828f4ffafef96dfff8d8bfd0d64f506ca6f953e6e1e7c8e87",
            "1c250f39da2c604eeaace2a552593219d9c6f9a11aefef5fe063b1410a315cec",
        ],
        megabytes: 137,
        library: "libtpu/libtpu.so",
        needs: "a TPU to run programs; without one it compiles them",
    },
];

/// Libraries of packages that the user may have put into Python, below the folder of packages, in the order of preference. A `*`
/// stands for any ending of the folder's name.
pub const IN_PYTHON: &[(Platform, &str)] = &[
    (Platform::Cpu, "lammps_jax_pjrt_cpu/pjrt_c_api_cpu_plugin.so"),
    (Platform::Cpu, "fastatomstruct_xla_cpu/libpjrt_cpu.so"),
    (Platform::Cpu, "xla_plugins/xla_cpu_pjrt/xla_cpu_pjrt.so"),
    (Platform::Cuda, "jax_plugins/xla_cuda13/xla_cuda_plugin.so"),
    (Platform::Cuda, "jax_plugins/xla_cuda12/xla_cuda_plugin.so"),
    (Platform::Rocm, "jax_plugins/xla_rocm*/xla_rocm_plugin.so"),
    (Platform::Oneapi, "jax_plugins/xla_oneapi/xla_oneapi_plugin.so"),
    (Platform::Tpu, "libtpu/libtpu.so"),
];

/// Which package puts a folder into Python, for what is said of a plugin found there: beginnings of paths and names.
pub const OWNERS: &[(&str, &str)] = &[
    ("lammps_jax_pjrt_cpu/", "lammps-jax-pjrt-cpu"),
    ("fastatomstruct_xla_cpu/", "fastatomstruct-xla-cpu"),
    ("xla_plugins/xla_cpu_pjrt/", "xla-cpu-pjrt"),
    ("jax_plugins/xla_cuda13/", "jax-cuda13-pjrt"),
    ("jax_plugins/xla_cuda12/", "jax-cuda12-pjrt"),
    ("jax_plugins/xla_rocm10/", "jax-rocm10-pjrt"),
    ("jax_plugins/xla_rocm7/", "jax-rocm7-pjrt"),
    ("jax_plugins/xla_oneapi/", "jax-oneapi-pjrt"),
    ("libtpu/", "libtpu"),
];

/// The package of this name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Package> {
    PACKAGES.iter().find(|package| package.name == name)
}

/// Packages of a platform, the preferred first.
pub fn of(platform: Platform) -> impl Iterator<Item = &'static Package> {
    PACKAGES.iter().filter(move |package| package.platform == platform)
}
