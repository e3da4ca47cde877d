//! GPT-2: a decoder, normalised before each part (Radford et al. 2019), in the names of `gpt2`.

use candle_core::{DType, Result, Tensor};

use crate::backend::BackendError;
use crate::backend::cpu::model::config::Transformer;
use crate::backend::cpu::model::layers::{Embedding, Heads, KvCache, LayerNorm, Linear};
use crate::backend::cpu::model::weights::Loader;
use crate::backend::cpu::model::{Decoder, Network, last_rows, ops};

const EPS: f64 = 1e-5;

#[derive(Debug)]
struct Block {
    norm_1: LayerNorm,
    qkv: Linear,
    heads: Heads,
    output: Linear,
    norm_2: LayerNorm,
    up: Linear,
    down: Linear,
}

impl Block {
    fn load(loader: &Loader<'_>, shape: &Transformer, name: &str) -> std::result::Result<Self, BackendError> {
        let width = shape.width;
        Ok(Self {
            norm_1: LayerNorm::load(loader, &format!("{name}.ln_1"), width, EPS)?,
            qkv: Linear::load_conv1d(loader, &format!("{name}.attn.c_attn"), 3 * width, width)?,
            heads: Heads { queries: shape.heads, keys: shape.kv_heads, width: shape.head_width(), causal: true },
            output: Linear::load_conv1d(loader, &format!("{name}.attn.c_proj"), width, width)?,
            norm_2: LayerNorm::load(loader, &format!("{name}.ln_2"), width, EPS)?,
            up: Linear::load_conv1d(loader, &format!("{name}.mlp.c_fc"), shape.hidden, width)?,
            down: Linear::load_conv1d(loader, &format!("{name}.mlp.c_proj"), width, shape.hidden)?,
        })
    }

    fn forward(&self, x: &Tensor, batch: usize, cache: Option<&mut KvCache>) -> Result<Tensor> {
        let qkv = self.qkv.forward(&self.norm_1.forward(x)?)?;
        let mixed = self.heads.attend(&qkv, batch, cache)?;
        let x = (x + self.output.forward(&mixed)?)?;
        let hidden = ops::gelu_tanh(&self.up.forward(&self.norm_2.forward(&x)?)?)?;
        &x + self.down.forward(&hidden)?
    }
}

/// The decoder with its tied output layer.
#[derive(Debug)]
pub struct Gpt2 {
    words: Embedding,
    positions: Embedding,
    blocks: Vec<Block>,
    norm: LayerNorm,
    shape: Transformer,
}

impl Gpt2 {
    /// Loads the weights.
    pub fn load(loader: &Loader<'_>, shape: &Transformer) -> std::result::Result<Self, BackendError> {
        Ok(Self {
            words: Embedding::load(loader, "wte.weight", shape.vocabulary, shape.width)?,
            positions: Embedding::load(loader, "wpe.weight", shape.context, shape.width)?,
            blocks: (0..shape.layers)
                .map(|i| Block::load(loader, shape, &format!("h.{i}")))
                .collect::<std::result::Result<_, _>>()?,
            norm: LayerNorm::load(loader, "ln_f", shape.width, EPS)?,
            shape: *shape,
        })
    }

    fn hidden(&self, ids: &Tensor, mut caches: Option<&mut [KvCache]>) -> Result<Tensor> {
        let (batch, seq) = ids.dims2()?;
        let first = caches.as_ref().map_or(0, |caches| caches[0].len());
        let mut x = (self.words.forward(ids)? + self.positions.run(first, seq, batch)?)?;
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x, batch, caches.as_mut().map(|caches| &mut caches[i]))?;
        }
        Ok(x)
    }
}

impl Network for Gpt2 {
    fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        let (batch, seq) = ids.dims2()?;
        self.scores(ids)?.reshape((batch, seq, ()))
    }

    fn scores(&self, ids: &Tensor) -> Result<Tensor> {
        self.words.scores(&self.norm.forward(&self.hidden(ids, None)?)?)
    }

    fn decoder(&self) -> Option<&dyn Decoder> {
        Some(self)
    }
}

impl Decoder for Gpt2 {
    fn caches(&self, batch: usize, capacity: usize, dtype: DType) -> Result<Vec<KvCache>> {
        let cache = || KvCache::new(batch, self.shape.kv_heads, capacity, self.shape.head_width(), dtype);
        self.blocks.iter().map(|_| cache()).collect()
    }

    fn next(&self, ids: &Tensor, caches: &mut [KvCache]) -> Result<Tensor> {
        let hidden = self.hidden(ids, Some(caches))?;
        self.words.scores(&self.norm.forward(&last_rows(&hidden, ids)?)?)
    }
}
