//! XLA's compiler for GPUs tries kernels and keeps the fastest, by a clock that is not sure of a percent or two: each compilation ends in
//! another program, and takes up to a minute. Launches of a session share what the first of them found, so that their difference is what
//! is measured and not which kernels won; the next session tries anew.
//!
//! Seen on an H100 with launches that tuned for themselves: gpt2-bf16 0.641 to 0.653 ms, a Llama block 0.207 to 0.210 ms.

use std::path::{Path, PathBuf};
use std::time::Instant;

use sha2::{Digest, Sha256};

use crate::backend::BackendError;
use crate::backend::program::Program;
use crate::backend::xla::pjrt::{Flag, Options};
use crate::backend::xla::plugins::Platform;
use crate::domain::{Workload, hex};
use crate::protocol::SESSION_VARIABLE;

/// XLA's flag for a folder of results, a file each fusion.
pub const FLAG: &str = "xla_gpu_per_fusion_autotune_cache_dir";

/// Where a program's results are kept.
#[derive(Debug)]
pub struct Tuning {
    folder: PathBuf,
}

impl Tuning {
    /// For a workload whose launches share; none where nothing is tuned, each launch is to tune, or the suite's flags say how.
    pub fn of(workload: &Workload, platform: Platform, program: &Program) -> Option<Self> {
        Self::within(Path::new(&std::env::var_os(SESSION_VARIABLE)?), workload, platform, program)
    }

    fn within(session: &Path, workload: &Workload, platform: Platform, program: &Program) -> Option<Self> {
        let flags = workload.optional_text("xla_flags").unwrap_or_default();
        let tunes = matches!(platform, Platform::Cuda | Platform::Rocm) && !flags.contains("autotune");
        if !tunes || workload.text("autotune") == Ok("each-launch") {
            return None;
        }
        // Flags change what there is to tune.
        let key = hex(&Sha256::digest([program.manifest.sha256.as_bytes(), flags.as_bytes()].concat()));
        Some(Self { folder: session.join("xla-tuning").join(key) })
    }

    /// Tells the compiler where results are, and makes them with `tune` where no launch before this one has; seconds that took.
    ///
    /// # Errors
    /// When `tune` fails, or the session's folder cannot be written to.
    pub fn prepare(
        &self,
        options: &mut Options,
        tune: impl FnOnce(&Options) -> Result<(), BackendError>,
    ) -> Result<f64, BackendError> {
        let written = |source: std::io::Error| BackendError::Engine {
            context: format!("writing to {}", self.folder.display()),
            source: Box::new(source),
        };
        // XLA wants the folder to exist.
        std::fs::create_dir_all(&self.folder).map_err(written)?;
        options.flags.push((FLAG.to_owned(), Flag::Text(self.folder.display().to_string())));
        let done = self.folder.with_extension("done");
        if done.exists() {
            return Ok(0.0);
        }
        let start = Instant::now();
        tune(options)?;
        std::fs::write(done, []).map_err(written)?;
        Ok(start.elapsed().as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        Tuning::within(session, &workload(params), platform, &program)
    }

    #[test]
    fn the_first_launch_tunes_for_all_of_the_same_program_and_flags() {
        let session = tempfile::tempdir().expect("a folder");
        let mut tuned = 0;
        let mut launch = |params: &[(&str, &str)]| {
            let mut options = Options::default();
            let tuning = tuning(session.path(), Platform::Cuda, params).expect("shared");
            let spent_s = tuning.prepare(&mut options, |options| {
                let Some((FLAG, Flag::Text(folder))) = options.flags.last().map(|(name, flag)| (name.as_str(), flag))
                else {
                    panic!("{options:?}");
                };
                assert!(Path::new(folder).is_dir(), "the compiler wants it to exist");
                tuned += 1;
                Ok(())
            });
            assert_eq!(options.flags.len(), 1);
            (spent_s.expect("tuned") > 0.0, tuned)
        };
        assert_eq!(launch(&[]), (true, 1));
        assert_eq!(launch(&[]), (false, 1));
        assert_eq!(launch(&[("autotune", "once")]), (false, 1));
        assert_eq!(launch(&[("xla_flags", "xla_gpu_enable_triton_gemm=false")]), (true, 2));
    }

    #[test]
    fn what_fails_is_tried_again_by_the_next_launch() {
        let session = tempfile::tempdir().expect("a folder");
        let tuning = tuning(session.path(), Platform::Rocm, &[]).expect("shared");
        let fails = |_: &Options| Err(BackendError::Unsupported("no".to_owned()));
        assert!(tuning.prepare(&mut Options::default(), fails).is_err());
        assert!(tuning.prepare(&mut Options::default(), |_| Ok(())).expect("tuned") > 0.0);
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
