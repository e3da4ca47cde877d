//! Llama: a decoder with rotary positions, RMS norm, grouped-query attention and a gated feed-forward part (Touvron
//! et al. 2023), in the names of the Hugging Face checkpoints. The output layer is its own matrix.

use candle_core::{DType, Result, Tensor};

use crate::backend::BackendError;
use crate::backend::cpu::model::config::Transformer;
use crate::backend::cpu::model::layers::{Embedding, Heads, KvCache, Linear, RmsNorm};
use crate::backend::cpu::model::ops::Positions;
use crate::backend::cpu::model::weights::Loader;
use crate::backend::cpu::model::{Decoder, Network, last_rows, ops};

const EPS: f64 = 1e-5;
/// Base of the rotary frequencies (Su et al. 2021).
const BASE: f64 = 10_000.0;

#[derive(Debug)]
struct Block {
    norm_1: RmsNorm,
    qkv: Linear,
    heads: Heads,
    output: Linear,
    norm_2: RmsNorm,
    gate_up: Linear,
    down: Linear,
}

impl Block {
    fn load(loader: &Loader<'_>, shape: &Transformer, name: &str) -> std::result::Result<Self, BackendError> {
        let (width, kv_width) = (shape.width, shape.kv_heads * shape.head_width());
        let bare = |names: &[&str], out: &[usize], input| {
            let names: Vec<String> = names.iter().map(|part| format!("{name}.{part}")).collect();
            Linear::load_joined_bare(loader, &names, out, input)
        };
        Ok(Self {
            norm_1: RmsNorm::load(loader, &format!("{name}.input_layernorm"), width, EPS)?,
            qkv: bare(
                &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
                &[width, kv_width, kv_width],
                width,
            )?,
            heads: Heads { queries: shape.heads, keys: shape.kv_heads, width: shape.head_width(), causal: true },
            output: bare(&["self_attn.o_proj"], &[width], width)?,
            norm_2: RmsNorm::load(loader, &format!("{name}.post_attention_layernorm"), width, EPS)?,
            gate_up: bare(&["mlp.gate_proj", "mlp.up_proj"], &[shape.hidden; 2], width)?,
            down: bare(&["mlp.down_proj"], &[width], shape.hidden)?,
        })
    }

    fn forward(&self, x: &Tensor, batch: usize, positions: Positions, cache: Option<&mut KvCache>) -> Result<Tensor> {
        let qkv = self.qkv.forward(&self.norm_1.forward(x)?)?;
        let qkv = ops::rope(&qkv, positions, self.heads.queries + self.heads.keys, self.heads.width)?;
        let mixed = self.heads.attend(&qkv, batch, cache)?;
        let x = (x + self.output.forward(&mixed)?)?;
        let hidden = ops::swiglu(&self.gate_up.forward(&self.norm_2.forward(&x)?)?)?;
        &x + self.down.forward(&hidden)?
    }
}

/// The decoder with its output layer.
#[derive(Debug)]
pub struct Llama {
    words: Embedding,
    blocks: Vec<Block>,
    norm: RmsNorm,
    head: Linear,
    shape: Transformer,
}

impl Llama {
    /// Loads the weights.
    pub fn load(loader: &Loader<'_>, shape: &Transformer) -> std::result::Result<Self, BackendError> {
        Ok(Self {
            words: Embedding::load(loader, "model.embed_tokens.weight", shape.vocabulary, shape.width)?,
            blocks: (0..shape.layers)
                .map(|i| Block::load(loader, shape, &format!("model.layers.{i}")))
                .collect::<std::result::Result<_, _>>()?,
            norm: RmsNorm::load(loader, "model.norm", shape.width, EPS)?,
            head: Linear::load_joined_bare(loader, &["lm_head".to_owned()], &[shape.vocabulary], shape.width)?,
            shape: *shape,
        })
    }

    fn hidden(&self, ids: &Tensor, mut caches: Option<&mut [KvCache]>) -> Result<Tensor> {
        let (batch, seq) = ids.dims2()?;
        let positions = Positions { first: caches.as_ref().map_or(0, |caches| caches[0].len()), seq, base: BASE };
        let mut x = self.words.forward(ids)?;
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x, batch, positions, caches.as_mut().map(|caches| &mut caches[i]))?;
        }
        Ok(x)
    }
}

impl Network for Llama {
    fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        let (batch, seq) = ids.dims2()?;
        self.scores(ids)?.reshape((batch, seq, ()))
    }

    fn scores(&self, ids: &Tensor) -> Result<Tensor> {
        self.head.forward(&self.norm.forward(&self.hidden(ids, None)?)?)
    }

    fn decoder(&self) -> Option<&dyn Decoder> {
        Some(self)
    }
}

impl Decoder for Llama {
    fn caches(&self, batch: usize, capacity: usize, dtype: DType) -> Result<Vec<KvCache>> {
        let cache = || KvCache::new(batch, self.shape.kv_heads, capacity, self.shape.head_width(), dtype);
        self.blocks.iter().map(|_| cache()).collect()
    }

    fn next(&self, ids: &Tensor, caches: &mut [KvCache]) -> Result<Tensor> {
        let hidden = self.hidden(ids, Some(caches))?;
        self.head.forward(&self.norm.forward(&last_rows(&hidden, ids)?)?)
    }
}
