//! The layers that several models share. Activations are rows `[batch · seq, width]` throughout.
//!
//! A layer computes in the type of its input: weights stored in `f32` are cast for one product at a time, so that a
//! reference in `f64` needs no second copy of the model.

use candle_core::{DType, Device, Result, Tensor};

use crate::backend::BackendError;
use crate::backend::cpu::model::ops;
use crate::backend::cpu::model::weights::{Init, Loader};

fn cast(weight: &Tensor, like: &Tensor) -> Result<Tensor> {
    weight.to_dtype(like.dtype())
}

/// x W + b, with W as `[in, out]`.
#[derive(Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// `{name}.weight` as `[out, in]` and `{name}.bias`.
    pub fn load(loader: &Loader<'_>, name: &str, out: usize, input: usize) -> std::result::Result<Self, BackendError> {
        Self::load_joined(loader, &[name.to_owned()], &[out], input)
    }

    /// Several layers on the same input as one, with biases.
    pub fn load_joined(
        loader: &Loader<'_>,
        names: &[String],
        out: &[usize],
        input: usize,
    ) -> std::result::Result<Self, BackendError> {
        let biases: Vec<String> = names.iter().map(|name| format!("{name}.bias")).collect();
        let biases: Vec<&str> = biases.iter().map(String::as_str).collect();
        Ok(Self {
            bias: Some(loader.joined_biases(&biases, out)?),
            ..Self::load_joined_bare(loader, names, out, input)?
        })
    }

    /// Several layers on the same input as one, without biases.
    pub fn load_joined_bare(
        loader: &Loader<'_>,
        names: &[String],
        out: &[usize],
        input: usize,
    ) -> std::result::Result<Self, BackendError> {
        let weights: Vec<String> = names.iter().map(|name| format!("{name}.weight")).collect();
        let weights: Vec<&str> = weights.iter().map(String::as_str).collect();
        Ok(Self { weight: loader.joined(&weights, out, input, Init::NORMAL)?, bias: None })
    }

    /// GPT-2's `Conv1D`: `{name}.weight` as `[in, out]`.
    pub fn load_conv1d(
        loader: &Loader<'_>,
        name: &str,
        out: usize,
        input: usize,
    ) -> std::result::Result<Self, BackendError> {
        Ok(Self {
            weight: loader.tensor(&format!("{name}.weight"), &[input, out], Init::NORMAL)?,
            bias: Some(loader.tensor(&format!("{name}.bias"), &[out], Init::BIAS)?),
        })
    }

    /// Applies it to rows.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = x.matmul(&cast(&self.weight, x)?)?;
        match &self.bias {
            Some(bias) => ops::add_bias(&y, &cast(bias, x)?),
            None => Ok(y),
        }
    }
}

/// Layer normalisation with scale and shift.
#[derive(Debug)]
pub struct LayerNorm {
    gamma: Tensor,
    beta: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// `{name}.weight` and `{name}.bias`.
    pub fn load(loader: &Loader<'_>, name: &str, width: usize, eps: f64) -> std::result::Result<Self, BackendError> {
        Ok(Self {
            gamma: loader.tensor(&format!("{name}.weight"), &[width], Init::SCALE)?,
            beta: loader.tensor(&format!("{name}.bias"), &[width], Init::BIAS)?,
            eps,
        })
    }

    /// Applies it to rows.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::layer_norm(x, &cast(&self.gamma, x)?, &cast(&self.beta, x)?, self.eps)
    }
}

/// Root-mean-square normalisation with scale.
#[derive(Debug)]
pub struct RmsNorm {
    gamma: Tensor,
    eps: f64,
}

impl RmsNorm {
    /// `{name}.weight`.
    pub fn load(loader: &Loader<'_>, name: &str, width: usize, eps: f64) -> std::result::Result<Self, BackendError> {
        Ok(Self { gamma: loader.tensor(&format!("{name}.weight"), &[width], Init::SCALE)?, eps })
    }

    /// Applies it to rows.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::rms_norm(x, &cast(&self.gamma, x)?, self.eps)
    }
}

/// A table of vectors by id.
#[derive(Debug)]
pub struct Embedding {
    table: Tensor,
    /// The type that activations start in.
    compute: DType,
}

impl Embedding {
    /// The tensor `name`, `[count, width]`.
    pub fn load(
        loader: &Loader<'_>,
        name: &str,
        count: usize,
        width: usize,
    ) -> std::result::Result<Self, BackendError> {
        Ok(Self { table: loader.tensor(name, &[count, width], Init::NORMAL)?, compute: loader.compute })
    }

    /// One row an id.
    pub fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        self.table.index_select(&ids.flatten_all()?, 0)?.to_dtype(self.compute)
    }

    /// Rows `first .. first + count`, repeated for every sequence of a batch.
    pub fn run(&self, first: usize, count: usize, batch: usize) -> Result<Tensor> {
        let ids: Vec<u32> = (0..batch).flat_map(|_| first..first + count).map(|id| id as u32).collect();
        self.forward(&Tensor::new(ids, &Device::Cpu)?)
    }

    /// The product of rows with every vector of the table: scores of a tied output layer.
    pub fn scores(&self, x: &Tensor) -> Result<Tensor> {
        x.matmul(&cast(&self.table, x)?.t()?)
    }
}

/// Keys and values of the tokens so far, in a buffer of fixed capacity.
#[derive(Debug)]
pub struct KvCache {
    /// `[batch · heads, capacity, width]`.
    keys: Tensor,
    values: Tensor,
    length: usize,
}

impl KvCache {
    /// An empty cache.
    pub fn new(batch: usize, heads: usize, capacity: usize, width: usize, dtype: DType) -> Result<Self> {
        let buffer = || Tensor::zeros((batch * heads, capacity, width), dtype, &Device::Cpu);
        Ok(Self { keys: buffer()?, values: buffer()?, length: 0 })
    }

    /// Tokens held.
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Forgets all but the first `length` tokens; costs nothing, since the buffer stays.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// Adds tokens and returns views of all.
    fn append(&mut self, keys: &Tensor, values: &Tensor) -> Result<(Tensor, Tensor)> {
        self.keys.slice_set(keys, 1, self.length)?;
        self.values.slice_set(values, 1, self.length)?;
        self.length += keys.dim(1)?;
        Ok((self.keys.narrow(1, 0, self.length)?, self.values.narrow(1, 0, self.length)?))
    }
}

/// Shape of an attention layer.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    /// Query heads.
    pub queries: usize,
    /// Key and value heads.
    pub keys: usize,
    /// Width of a head.
    pub width: usize,
    /// Whether a token sees only itself and those before it.
    pub causal: bool,
}

impl Heads {
    /// softmax(Q Kᵀ / √width) V for rows of joined queries, keys and values (Vaswani et al. 2017). With a cache, its
    /// tokens come before those of `qkv`.
    pub fn attend(&self, qkv: &Tensor, batch: usize, cache: Option<&mut KvCache>) -> Result<Tensor> {
        let seq = qkv.dim(0)? / batch;
        let group = self.queries / self.keys;
        let part = |first, count| ops::split_heads(qkv, batch, first, count, self.width);
        // The queries of a group follow each other, so their shared keys need no repeating.
        let queries = part(0, self.queries)?.reshape((batch * self.keys, group * seq, self.width))?;
        let keys = part(self.queries, self.keys)?.reshape((batch * self.keys, seq, self.width))?;
        let values = part(self.queries + self.keys, self.keys)?.reshape((batch * self.keys, seq, self.width))?;
        let (keys, values) = match cache {
            Some(cache) => cache.append(&keys, &values)?,
            None => (keys, values),
        };
        let scores = queries.matmul(&keys.t()?)?;
        let scale = 1.0 / (self.width as f64).sqrt();
        let weights = ops::softmax(&scores, scale, self.causal.then_some(seq))?;
        let mixed = weights.matmul(&values)?;
        ops::merge_heads(&mixed.reshape((batch, self.queries, seq, self.width))?)
    }
}
