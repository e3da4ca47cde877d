//! BERT: an encoder, normalised after each part (Devlin et al. 2018), in the names of `bert-base-uncased`.
//!
//! Inference ends at the last hidden state, without the pooler. Training adds the masked-language-model head and
//! scores every position.

use candle_core::{Result, Tensor};

use crate::backend::BackendError;
use crate::backend::cpu::model::Network;
use crate::backend::cpu::model::config::Transformer;
use crate::backend::cpu::model::layers::{Embedding, Heads, LayerNorm, Linear};
use crate::backend::cpu::model::ops;
use crate::backend::cpu::model::weights::{Init, Loader};

const EPS: f64 = 1e-12;

#[derive(Debug)]
struct Block {
    qkv: Linear,
    heads: Heads,
    output: Linear,
    output_norm: LayerNorm,
    up: Linear,
    down: Linear,
    down_norm: LayerNorm,
}

impl Block {
    fn load(loader: &Loader<'_>, shape: &Transformer, name: &str) -> std::result::Result<Self, BackendError> {
        let width = shape.width;
        let qkv = ["query", "key", "value"].map(|part| format!("{name}.attention.self.{part}"));
        Ok(Self {
            qkv: Linear::load_joined(loader, &qkv, &[width; 3], width)?,
            heads: Heads { queries: shape.heads, keys: shape.kv_heads, width: shape.head_width(), causal: false },
            output: Linear::load(loader, &format!("{name}.attention.output.dense"), width, width)?,
            output_norm: LayerNorm::load(loader, &format!("{name}.attention.output.LayerNorm"), width, EPS)?,
            up: Linear::load(loader, &format!("{name}.intermediate.dense"), shape.hidden, width)?,
            down: Linear::load(loader, &format!("{name}.output.dense"), width, shape.hidden)?,
            down_norm: LayerNorm::load(loader, &format!("{name}.output.LayerNorm"), width, EPS)?,
        })
    }

    fn forward(&self, x: &Tensor, batch: usize) -> Result<Tensor> {
        let mixed = self.heads.attend(&self.qkv.forward(x)?, batch, None)?;
        let x = self.output_norm.forward(&(x + self.output.forward(&mixed)?)?)?;
        let hidden = ops::gelu(&self.up.forward(&x)?)?;
        self.down_norm.forward(&(&x + self.down.forward(&hidden)?)?)
    }
}

/// The masked-language-model head; its matrix is the word embedding's.
#[derive(Debug)]
struct Head {
    transform: Linear,
    norm: LayerNorm,
    bias: Tensor,
}

/// The encoder, and its head when trained.
#[derive(Debug)]
pub struct Bert {
    words: Embedding,
    positions: Embedding,
    types: Embedding,
    norm: LayerNorm,
    blocks: Vec<Block>,
    head: Option<Head>,
}

impl Bert {
    /// Loads the weights. `trained` adds the head.
    pub fn load(loader: &Loader<'_>, shape: &Transformer, trained: bool) -> std::result::Result<Self, BackendError> {
        let width = shape.width;
        let embeddings = "bert.embeddings";
        let head = || {
            let name = "cls.predictions";
            Ok(Head {
                transform: Linear::load(loader, &format!("{name}.transform.dense"), width, width)?,
                norm: LayerNorm::load(loader, &format!("{name}.transform.LayerNorm"), width, EPS)?,
                bias: loader.tensor(&format!("{name}.bias"), &[shape.vocabulary], Init::BIAS)?,
            })
        };
        Ok(Self {
            words: Embedding::load(loader, &format!("{embeddings}.word_embeddings.weight"), shape.vocabulary, width)?,
            positions: Embedding::load(
                loader,
                &format!("{embeddings}.position_embeddings.weight"),
                shape.context,
                width,
            )?,
            types: Embedding::load(loader, &format!("{embeddings}.token_type_embeddings.weight"), 2, width)?,
            norm: LayerNorm::load(loader, &format!("{embeddings}.LayerNorm"), width, EPS)?,
            blocks: (0..shape.layers)
                .map(|i| Block::load(loader, shape, &format!("bert.encoder.layer.{i}")))
                .collect::<std::result::Result<_, _>>()?,
            head: trained.then(head).transpose()?,
        })
    }

    /// Last hidden state as rows. Every token is of type 0.
    fn hidden(&self, ids: &Tensor) -> Result<Tensor> {
        let (batch, seq) = ids.dims2()?;
        let types = self.types.forward(&ids.zeros_like()?)?;
        let x = ((self.words.forward(ids)? + self.positions.run(0, seq, batch)?)? + types)?;
        let mut x = self.norm.forward(&x)?;
        for block in &self.blocks {
            x = block.forward(&x, batch)?;
        }
        Ok(x)
    }
}

impl Network for Bert {
    fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        let (batch, seq) = ids.dims2()?;
        self.hidden(ids)?.reshape((batch, seq, ()))
    }

    fn scores(&self, ids: &Tensor) -> Result<Tensor> {
        let x = self.hidden(ids)?;
        let Some(head) = &self.head else { return Ok(x) };
        let x = head.norm.forward(&ops::gelu(&head.transform.forward(&x)?)?)?;
        ops::add_bias(&self.words.scores(&x)?, &head.bias.to_dtype(x.dtype())?)
    }
}
