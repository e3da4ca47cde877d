//! Vision transformer: patches as tokens, normalised before each part (Dosovitskiy et al. 2020), in the names of
//! `google/vit-base-patch16-224`.

use candle_core::{Result, Tensor};

use crate::backend::BackendError;
use crate::backend::cpu::model::config::Vit as Shape;
use crate::backend::cpu::model::kernel::vision::Window;
use crate::backend::cpu::model::layers::{Heads, LayerNorm, Linear};
use crate::backend::cpu::model::weights::{Init, Loader};
use crate::backend::cpu::model::{Network, engine, ops};

const EPS: f64 = 1e-12;

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
    fn load(loader: &Loader<'_>, shape: &Shape, name: &str) -> std::result::Result<Self, BackendError> {
        let width = shape.width;
        let qkv = ["query", "key", "value"].map(|part| format!("{name}.attention.attention.{part}"));
        Ok(Self {
            norm_1: LayerNorm::load(loader, &format!("{name}.layernorm_before"), width, EPS)?,
            qkv: Linear::load_joined(loader, &qkv, &[width; 3], width)?,
            heads: Heads { queries: shape.heads, keys: shape.heads, width: width / shape.heads, causal: false },
            output: Linear::load(loader, &format!("{name}.attention.output.dense"), width, width)?,
            norm_2: LayerNorm::load(loader, &format!("{name}.layernorm_after"), width, EPS)?,
            up: Linear::load(loader, &format!("{name}.intermediate.dense"), shape.hidden, width)?,
            down: Linear::load(loader, &format!("{name}.output.dense"), width, shape.hidden)?,
        })
    }

    fn forward(&self, x: &Tensor, batch: usize) -> Result<Tensor> {
        let qkv = self.qkv.forward(&self.norm_1.forward(x)?)?;
        let x = (x + self.output.forward(&self.heads.attend(&qkv, batch, None)?)?)?;
        let hidden = ops::gelu(&self.up.forward(&self.norm_2.forward(&x)?)?)?;
        &x + self.down.forward(&hidden)?
    }
}

/// The classifier.
#[derive(Debug)]
pub struct Vit {
    /// `[patch · patch · 3, width]`.
    patches: Tensor,
    patch_bias: Tensor,
    class_token: Tensor,
    positions: Tensor,
    blocks: Vec<Block>,
    norm: LayerNorm,
    classifier: Linear,
    shape: Shape,
}

impl Vit {
    /// Loads the weights.
    pub fn load(loader: &Loader<'_>, shape: &Shape) -> std::result::Result<Self, BackendError> {
        let (width, patch) = (shape.width, shape.patch);
        let name = "vit.embeddings";
        let projection = format!("{name}.patch_embeddings.projection.weight");
        let arranged = loader
            .raw(&projection, &[width, 3, patch, patch], Init::NORMAL)?
            .permute((2, 3, 1, 0))
            .and_then(|t| t.reshape((patch * patch * 3, width)))
            .map_err(engine(format!("arranging `{projection}`")))?;
        Ok(Self {
            patches: loader.parameter(&projection, &arranged)?,
            patch_bias: loader.tensor(&format!("{name}.patch_embeddings.projection.bias"), &[width], Init::BIAS)?,
            class_token: loader.tensor(&format!("{name}.cls_token"), &[1, 1, width], Init::NORMAL)?,
            positions: loader.tensor(
                &format!("{name}.position_embeddings"),
                &[1, shape.tokens(), width],
                Init::NORMAL,
            )?,
            blocks: (0..shape.layers)
                .map(|i| Block::load(loader, shape, &format!("vit.encoder.layer.{i}")))
                .collect::<std::result::Result<_, _>>()?,
            norm: LayerNorm::load(loader, "vit.layernorm", width, EPS)?,
            classifier: Linear::load(loader, "classifier", shape.classes, width)?,
            shape: *shape,
        })
    }
}

impl Network for Vit {
    fn forward(&self, images: &Tensor) -> Result<Tensor> {
        self.scores(images)
    }

    fn scores(&self, images: &Tensor) -> Result<Tensor> {
        let batch = images.dim(0)?;
        let (tokens, width, dtype) = (self.shape.tokens(), self.shape.width, images.dtype());
        let window = Window { kernel: self.shape.patch, stride: self.shape.patch, padding: 0 };
        let pixels = images.permute((0, 2, 3, 1))?.contiguous()?;
        let patches = ops::convolve(&pixels, &self.patches.to_dtype(dtype)?, window)?;
        let patches =
            ops::add_bias(&patches, &self.patch_bias.to_dtype(dtype)?)?.reshape((batch, tokens - 1, width))?;
        let class = self.class_token.to_dtype(dtype)?.broadcast_as((batch, 1, width))?;
        let x = Tensor::cat(&[&class, &patches], 1)?.broadcast_add(&self.positions.to_dtype(dtype)?)?;
        let mut x = x.reshape((batch * tokens, width))?;
        for block in &self.blocks {
            x = block.forward(&x, batch)?;
        }
        // The classifier sees the class token only.
        let class = x.reshape((batch, tokens, width))?.narrow(1, 0, 1)?.contiguous()?;
        self.classifier.forward(&self.norm.forward(&class.reshape((batch, width))?)?)
    }
}
