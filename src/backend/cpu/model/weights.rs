//! Where weights come from: seeded normal values, or a safetensors file whose shapes are checked before it is read.
//!
//! Names are those of the Hugging Face checkpoints (for ResNet, torchvision's), so that real ones load. Must not
//! know what a model does with a tensor.

use std::cell::RefCell;
use std::fmt::Debug;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use candle_core::{DType, Device, Tensor, Var};
use safetensors::Dtype;
use safetensors::tensor::Metadata;

use crate::backend::BackendError;
use crate::backend::cpu::model::engine;
use crate::backend::cpu::random;

/// Distribution of a random weight.
#[derive(Debug, Clone, Copy)]
pub struct Init {
    /// Mean.
    pub mean: f32,
    /// Standard deviation.
    pub std: f32,
}

impl Init {
    /// Matrices and embeddings of transformers: N(0, 0.02²), as their papers have it.
    pub const NORMAL: Self = Self { mean: 0.0, std: 0.02 };
    /// Biases: small, but never zero, so that a lost one shows.
    pub const BIAS: Self = Self { mean: 0.0, std: 0.02 };
    /// Scales of normalisations: about one, none exactly, for the same reason.
    pub const SCALE: Self = Self { mean: 1.0, std: 0.05 };
}

/// Something that yields weights by name.
pub trait Source: Debug {
    /// The values of a tensor, row by row.
    fn values(&self, name: &str, shape: &[usize], init: Init) -> Result<Vec<f32>, BackendError>;
}

/// Random weights; a tensor's values depend on the seed and its name only.
#[derive(Debug)]
pub struct Seeded(pub u64);

impl Source for Seeded {
    fn values(&self, name: &str, shape: &[usize], init: Init) -> Result<Vec<f32>, BackendError> {
        Ok(random::normal(self.0, name, shape.iter().product(), init.mean, init.std))
    }
}

/// A safetensors file. Only the header is kept; tensors are read one at a time.
#[derive(Debug)]
pub struct Checkpoint {
    path: String,
    file: RefCell<File>,
    metadata: Metadata,
    /// Offset of the first tensor's bytes.
    start: u64,
}

/// The format's own bound on its header, bytes.
const MAX_HEADER: u64 = 100_000_000;

impl Checkpoint {
    /// Opens a file and reads its header.
    pub fn open(path: &str) -> Result<Self, BackendError> {
        let wrong = |what: String| BackendError::Checkpoint { path: path.to_owned(), what };
        let mut file = File::open(Path::new(path)).map_err(|e| wrong(format!("cannot be opened: {e}")))?;
        let mut length = [0_u8; 8];
        file.read_exact(&mut length).map_err(|e| wrong(format!("is no safetensors file: {e}")))?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER {
            return Err(wrong(format!("is no safetensors file: its header would be {length} bytes long")));
        }
        let mut header = vec![0_u8; length as usize];
        file.read_exact(&mut header).map_err(|e| wrong(format!("is cut off within its header: {e}")))?;
        let metadata =
            serde_json::from_slice(&header).map_err(|e| wrong(format!("is no safetensors file: its header: {e}")))?;
        Ok(Self { path: path.to_owned(), file: RefCell::new(file), metadata, start: 8 + length })
    }

    fn wrong(&self, what: String) -> BackendError {
        BackendError::Checkpoint { path: self.path.clone(), what }
    }

    /// The name under which the file has a tensor. Exports differ in the model's own prefix (`bert.`, none) and, for
    /// old BERT files, in the names of a layer norm's parameters.
    fn find(&self, name: &str) -> Option<String> {
        const PREFIXES: &[&str] = &["bert.", "transformer.", "model.", "vit."];
        let bare = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
        let old = |name: &str| {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        };
        let prefixed = PREFIXES.iter().map(|prefix| format!("{prefix}{bare}"));
        [name.to_owned(), bare.to_owned()]
            .into_iter()
            .chain(prefixed)
            .flat_map(|name| [old(&name), name])
            .find(|name| self.metadata.info(name).is_some())
    }
}

impl Source for Checkpoint {
    fn values(&self, name: &str, shape: &[usize], _init: Init) -> Result<Vec<f32>, BackendError> {
        let stored = self
            .find(name)
            .ok_or_else(|| self.wrong(format!("has no tensor `{name}` (of shape {shape:?}), which the model needs")))?;
        let info = self.metadata.info(&stored).expect("just found");
        if info.shape != shape {
            return Err(self.wrong(format!("tensor `{stored}` has shape {:?}, the model needs {shape:?}", info.shape)));
        }
        let (begin, end) = info.data_offsets;
        let mut bytes = vec![0_u8; end - begin];
        let mut file = self.file.borrow_mut();
        file.seek(SeekFrom::Start(self.start + begin as u64))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|e| self.wrong(format!("tensor `{stored}` cannot be read: {e}")))?;
        let dtype = match info.dtype {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            Dtype::F64 => DType::F64,
            other => {
                return Err(
                    self.wrong(format!("tensor `{stored}` holds {other:?}; weights must be F32, F16, BF16 or F64"))
                );
            }
        };
        Tensor::from_raw_buffer(&bytes, dtype, shape, &Device::Cpu)
            .and_then(|t| t.to_dtype(DType::F32)?.flatten_all()?.to_vec1())
            .map_err(engine(format!("reading tensor `{stored}` of {}", self.path)))
    }
}

/// What a model is loaded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Forward passes: what can be folded into weights is.
    Inference,
    /// The same forward passes with nothing folded.
    Reference,
    /// Parameters are variables.
    Training,
}

/// A trainable parameter.
#[derive(Debug)]
pub struct Parameter {
    /// The checkpoint's name; for several tensors joined into one, the first of them.
    pub name: String,
    /// Its value.
    pub var: Var,
}

/// Hands weights to a model under construction.
#[derive(Debug)]
pub struct Loader<'a> {
    source: &'a dyn Source,
    /// Type that weights are kept in.
    dtype: DType,
    /// Type that activations start in.
    pub compute: DType,
    /// What for.
    pub purpose: Purpose,
    parameters: RefCell<Vec<Parameter>>,
}

impl<'a> Loader<'a> {
    /// Starts.
    pub fn new(source: &'a dyn Source, dtype: DType, compute: DType, purpose: Purpose) -> Self {
        Self { source, dtype, compute, purpose, parameters: RefCell::default() }
    }

    /// A tensor as the source has it, in `f32`, for the model to arrange.
    pub fn raw(&self, name: &str, shape: &[usize], init: Init) -> Result<Tensor, BackendError> {
        let values = self.source.values(name, shape, init)?;
        Tensor::from_vec(values, shape, &Device::Cpu).map_err(engine(format!("loading `{name}`")))
    }

    /// Makes an arranged tensor a parameter of the model.
    pub fn parameter(&self, name: &str, arranged: &Tensor) -> Result<Tensor, BackendError> {
        let failed = || engine(format!("loading `{name}`"));
        let value = arranged.to_dtype(self.dtype).and_then(|t| t.contiguous()).map_err(failed())?;
        if self.purpose != Purpose::Training {
            return Ok(value);
        }
        let var = Var::from_tensor(&value).map_err(failed())?;
        let tensor = var.as_tensor().clone();
        self.parameters.borrow_mut().push(Parameter { name: name.to_owned(), var });
        Ok(tensor)
    }

    /// A tensor that is used as it is stored.
    pub fn tensor(&self, name: &str, shape: &[usize], init: Init) -> Result<Tensor, BackendError> {
        self.parameter(name, &self.raw(name, shape, init)?)
    }

    /// Matrices stored as `[out, in]`, side by side as one `[in, sum of out]`: one product does for all, and no
    /// product of forward or backward pass copies a transposed weight.
    pub fn joined(&self, names: &[&str], out: &[usize], input: usize, init: Init) -> Result<Tensor, BackendError> {
        let parts = names
            .iter()
            .zip(out)
            .map(|(name, out)| self.raw(name, &[*out, input], init))
            .collect::<Result<Vec<_>, _>>()?;
        let joined =
            Tensor::cat(&parts, 0).and_then(|t| t.t()?.contiguous()).map_err(engine(format!("joining {names:?}")))?;
        self.parameter(names[0], &joined)
    }

    /// Several vectors one after the other.
    pub fn joined_biases(&self, names: &[&str], out: &[usize]) -> Result<Tensor, BackendError> {
        let parts = names
            .iter()
            .zip(out)
            .map(|(name, out)| self.raw(name, &[*out], Init::BIAS))
            .collect::<Result<Vec<_>, _>>()?;
        let joined = Tensor::cat(&parts, 0).map_err(engine(format!("joining {names:?}")))?;
        self.parameter(names[0], &joined)
    }

    /// The parameters handed out, in that order; empty unless the purpose is training.
    pub fn into_parameters(self) -> Vec<Parameter> {
        self.parameters.into_inner()
    }
}
