//! Models of the catalogue that were exported (suites/models): which case of a model is which program.

use crate::domain::{Skip, Workload};

/// The files of a program.
#[derive(Debug, Clone, Copy)]
pub struct Files {
    /// The artifact.
    pub program: &'static [u8],
    /// Its manifest.
    pub manifest: &'static str,
}

/// A case of a model: name, mode, batch, tokens (0: none), precision.
struct Exported {
    model: &'static str,
    mode: &'static str,
    batch: usize,
    seq: usize,
    precision: &'static str,
    files: Files,
}

macro_rules! exported {
    ($(($model:literal, $mode:literal, $batch:literal, $seq:literal, $precision:literal, $file:literal)),* $(,)?) => {
        &[$(Exported {
            model: $model,
            mode: $mode,
            batch: $batch,
            seq: $seq,
            precision: $precision,
            files: Files {
                program: include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/suites/models/", $file, ".vhlo")),
                manifest: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/suites/models/", $file, ".json")),
            },
        }),*]
    };
}

const EXPORTED: &[Exported] = exported![
    ("bert-base", "inference", 1, 128, "f32", "bert-base"),
    ("bert-base", "inference", 1, 512, "f32", "bert-base-s512"),
    ("gpt2", "inference", 1, 128, "f32", "gpt2"),
    ("gpt2", "inference", 1, 128, "bf16", "gpt2-bf16"),
    ("gpt2", "inference", 1, 512, "f32", "gpt2-s512"),
    ("gpt2", "training-step", 4, 128, "f32", "gpt2-train"),
    ("resnet50", "inference", 1, 0, "f32", "resnet50"),
    ("resnet50", "inference", 8, 0, "f32", "resnet50-b8"),
    ("vit-b16", "inference", 1, 0, "f32", "vit-b16"),
];

/// The program of a model's case.
///
/// # Errors
/// When that case was not exported: which ones were.
pub fn embedded(workload: &Workload) -> Result<Files, Skip> {
    let mode = workload.text("mode").unwrap_or_default();
    let batch = workload.optional_size("batch").ok().flatten().unwrap_or(1);
    let seq = workload.optional_size("seq").ok().flatten().unwrap_or(0);
    let precision = workload.text("precision").unwrap_or_default();
    let of_model = || EXPORTED.iter().filter(|one| one.model == workload.name);
    if workload.optional_text("checkpoint").is_none()
        && let Some(found) =
            of_model().find(|one| (one.mode, one.batch, one.seq, one.precision) == (mode, batch, seq, precision))
    {
        return Ok(found.files);
    }
    let cases: Vec<String> = of_model()
        .map(|one| {
            let seq = if one.seq == 0 { String::new() } else { format!(", seq {}", one.seq) };
            format!("{} of batch {}{seq}, {}", one.mode, one.batch, one.precision)
        })
        .collect();
    Err(Skip {
        reason: format!("this case of model `{}` was not exported as a program", workload.name),
        remedy: if cases.is_empty() {
            "export it (suites/models/README.md) and write a `program`".to_owned()
        } else {
            format!("exported are: {}; others: suites/models/README.md", cases.join("; "))
        },
    })
}
