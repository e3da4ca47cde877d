//! XLA's compiler for GPUs tries kernels and keeps the fastest, by a clock that is not sure of a percent or two: each compilation ends in
//! another program, and takes up to a minute. Launches of a session share what the first of them found, so that their difference is what
//! is measured and not which kernels won; the next session tries anew.
//!
//! Seen on an H100 with launches that tuned for themselves: gpt2-bf16 0.641 to 0.653 ms, a Llama block 0.207 to 0.210 ms.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use sha2::{Digest, Sha256};

use crate::backend::BackendError;
use crate::backend::program::Program;
use crate::backend::xla::pjrt::{Flag, Options};
use crate::backend::xla::plugins::{Platform, Plugin};
use crate::domain::{Workload, hex};
use crate::protocol::SESSION_VARIABLE;

/// The hidden subcommand that tunes what the worker's request asks for.
pub const SUBCOMMAND: &str = "tune";
/// XLA's flag for a folder of results, a file each fusion.
pub const FLAG: &str = "xla_gpu_per_fusion_autotune_cache_dir";

/// Where a program's results are kept.
#[derive(Debug)]
pub struct Tuning {
    folder: PathBuf,
}

impl Tuning {
    /// For a workload whose launches share; none where nothing is tuned, each launch is to tune, or the suite's flags say how.
    pub fn of(workload: &Workload, plugin: &Plugin, program: &Program) -> Option<Self> {
        Self::within(Path::new(&std::env::var_os(SESSION_VARIABLE)?), workload, plugin, program)
    }

    fn within(session: &Path, workload: &Workload, plugin: &Plugin, program: &Program) -> Option<Self> {
        let flags = workload.optional_text("xla_flags").unwrap_or_default();
        let tunes = matches!(plugin.platform, Platform::Cuda | Platform::Rocm) && !flags.contains("autotune");
        if !tunes || workload.text("autotune") == Ok("each-launch") {
            return None;
        }
        // All of them change what there is to find: two commits may bring a plugin each, and the GPUs of a host may differ.
        let build = plugin.sha256().unwrap_or_default();
        let device = workload.optional_size("device").ok().flatten().unwrap_or(0);
        let key = hex(&Sha256::digest(format!("{}\n{flags}\n{build}\n{device}", program.manifest.sha256)));
        Some(Self { folder: session.join("xla-tuning").join(key) })
    }

    /// Tells the compiler where results are.
    ///
    /// # Errors
    /// When the session's folder cannot be written to.
    pub fn share(&self, options: &mut Options) -> Result<(), BackendError> {
        // XLA wants the folder to exist.
        std::fs::create_dir_all(&self.folder).map_err(|source| BackendError::Engine {
            context: format!("making the folder {}", self.folder.display()),
            source: Box::new(source),
        })?;
        options.flags.push((FLAG.to_owned(), Flag::Text(self.folder.display().to_string())));
        Ok(())
    }

    /// Makes the results with `tune`, where no launch before this one has. Where that fails, compiling for the measurement tunes, and
    /// fails in its own words; the next launch tries again.
    pub fn prepare(&self, tune: impl FnOnce() -> Result<(), String>) -> Tuned {
        let done = self.folder.with_extension("done");
        if done.exists() {
            return Tuned::default();
        }
        let start = Instant::now();
        let failed = tune().and_then(|()| std::fs::write(done, []).map_err(|error| error.to_string())).err();
        Tuned { spent_s: start.elapsed().as_secs_f64(), failed }
    }
}

/// How a launch came by its results.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Tuned {
    /// Seconds that tuning took, for this launch and those after it.
    pub spent_s: f64,
    /// Why there are none.
    pub failed: Option<String>,
}

/// Tunes in another process like this one, which finds the same environment: whoever tuned has taken more memory, has kernels loaded and
/// an allocator in another state, and would measure something else than the launches after it. (On an H100: 60 % more memory, a first
/// step of 10 ms instead of 120, steps of a vision transformer 4 % slower.)
///
/// # Errors
/// When it cannot be started, or ends badly; its own words are in the launch's log.
pub fn elsewhere() -> Result<(), String> {
    // On Linux by a name that stays this program, even when a build replaced its file.
    let program = if cfg!(target_os = "linux") { Ok("/proc/self/exe".into()) } else { std::env::current_exe() };
    let program = program.map_err(|error| format!("this program is not found again: {error}"))?;
    let ended = Command::new(program).arg(SUBCOMMAND).stdin(Stdio::null()).status();
    match ended.map_err(|error| format!("the process that tunes cannot be started: {error}"))? {
        status if status.success() => Ok(()),
        status => Err(format!("the process that tunes ended with {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::xla::plugins::Source;
    use crate::domain::{ParamValue, WorkloadKind};

    fn workload(params: &[(&str, &str)]) -> Workload {
        let params = params.iter().map(|(name, value)| ((*name).to_owned(), ParamValue::Text((*value).to_owned())));
        Workload {
            kind: WorkloadKind::Program,
            name: "program".to_owned(),
            params: params.collect(),
            command: Vec::new(),
            kernel: None,
        }
    }

    fn tuning(session: &Path, platform: Platform, params: &[(&str, &str)]) -> Option<Tuning> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("suites/models/mlp-train.vhlo");
        let program = Program::read(&path).expect("a program");
        let plugin = Plugin { platform, path: path.clone(), source: Source::Variable("X"), package: None };
        let mut workload = workload(params);
        if let Some(ParamValue::Text(number)) = workload.params.get("device") {
            let number = number.parse().expect("a number");
            workload.params.insert("device".to_owned(), ParamValue::Int(number));
        }
        Tuning::within(session, &workload, &plugin, &program)
    }

    #[test]
    fn the_first_launch_tunes_for_all_of_the_same_program_and_flags() {
        let session = tempfile::tempdir().expect("a folder");
        let mut tuned = 0;
        let mut launch = |params: &[(&str, &str)]| {
            let mut options = Options::default();
            let tuning = tuning(session.path(), Platform::Cuda, params).expect("shared");
            tuning.share(&mut options).expect("a folder");
            let [(name, Flag::Text(folder))] = &options.flags[..] else { panic!("{options:?}") };
            assert!(name == FLAG && Path::new(folder).is_dir(), "the compiler wants it to exist");
            let told = tuning.prepare(|| {
                tuned += 1;
                Ok(())
            });
            assert_eq!(told.failed, None);
            (told.spent_s > 0.0, tuned)
        };
        assert_eq!(launch(&[]), (true, 1));
        assert_eq!(launch(&[]), (false, 1));
        assert_eq!(launch(&[("autotune", "once")]), (false, 1));
        assert_eq!(launch(&[("xla_flags", "xla_gpu_enable_triton_gemm=false")]), (true, 2));
        assert_eq!(launch(&[("device", "1")]), (true, 3));
        assert_eq!(launch(&[("device", "0")]), (false, 3));
    }

    #[test]
    fn what_fails_is_tried_again_by_the_next_launch() {
        let session = tempfile::tempdir().expect("a folder");
        let tuning = tuning(session.path(), Platform::Rocm, &[]).expect("shared");
        tuning.share(&mut Options::default()).expect("a folder");
        assert_eq!(tuning.prepare(|| Err("no".to_owned())).failed.as_deref(), Some("no"));
        let again = tuning.prepare(|| Ok(()));
        assert!(again.failed.is_none() && again.spent_s > 0.0);
        assert_eq!(tuning.prepare(|| panic!("it is done")), Tuned::default());
    }

    #[test]
    fn nothing_is_shared_where_nothing_is_tuned_or_the_suite_says_otherwise() {
        let folder = Path::new("/nowhere");
        for platform in [Platform::Cpu, Platform::Tpu] {
            assert!(tuning(folder, platform, &[]).is_none());
        }
        for (name, value) in [("autotune", "each-launch"), ("xla_flags", "--xla_gpu_autotune_level=0")] {
            assert!(tuning(folder, Platform::Cuda, &[(name, value)]).is_none(), "{name}");
        }
    }
}
