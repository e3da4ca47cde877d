//! Residual network of bottleneck blocks (He et al. 2015), in torchvision's names, the stride in the 3 × 3
//! convolution as there.
//!
//! For inference each batch norm is folded into its convolution at load; the reference keeps it apart, with the
//! stored statistics. Training normalises by the batch's own statistics and leaves the stored ones alone.
//! Activations keep their channels innermost.

use candle_core::{DType, Result, Tensor};

use crate::backend::BackendError;
use crate::backend::cpu::model::config::ResNet as Shape;
use crate::backend::cpu::model::kernel::vision::Window;
use crate::backend::cpu::model::layers::Linear;
use crate::backend::cpu::model::weights::{Init, Loader, Purpose};
use crate::backend::cpu::model::{Network, engine, ops};

const EPS: f64 = 1e-5;

/// What follows a convolution.
#[derive(Debug)]
enum Norm {
    /// Folded into the weight but for this shift.
    Folded(Tensor),
    /// By stored statistics: scale, shift, mean, variance.
    Stored([Tensor; 4]),
    /// By the batch's own statistics: scale and shift.
    Batch([Tensor; 2]),
}

/// A convolution and its batch norm.
#[derive(Debug)]
struct Conv {
    /// `[kernel · kernel · in, out]`.
    weight: Tensor,
    norm: Norm,
    window: Window,
}

/// What [`Conv::load`] needs beside names.
#[derive(Debug, Clone, Copy)]
struct ConvShape {
    out: usize,
    input: usize,
    kernel: usize,
    stride: usize,
    /// Mean of the norm's scale.
    gain: f32,
}

impl Conv {
    fn load(loader: &Loader<'_>, conv: &str, norm: &str, shape: ConvShape) -> std::result::Result<Self, BackendError> {
        let ConvShape { out, input, kernel, .. } = shape;
        let name = format!("{conv}.weight");
        // He et al. 2015 (rectifiers): keeps the size of activations over the depth of the network.
        let std = (2.0 / (input * kernel * kernel) as f32).sqrt();
        let raw = loader.raw(&name, &[out, input, kernel, kernel], Init { mean: 0.0, std })?;
        let about = |mean, std| Init { mean, std };
        let part = |suffix: &str, init| {
            let name = format!("{norm}.{suffix}");
            loader.raw(&name, &[out], init).map(|raw| (name, raw))
        };
        let scale = part("weight", about(shape.gain, 0.05))?;
        let shift = part("bias", about(0.0, 0.05))?;
        let mean = part("running_mean", about(0.0, 0.1))?;
        let var = part("running_var", about(1.0, 0.05))?;
        let arranged = raw
            .permute((2, 3, 1, 0))
            .and_then(|t| t.reshape((kernel * kernel * input, out)))
            .map_err(engine(format!("arranging `{name}`")))?;
        let keep = |(name, raw): &(String, Tensor)| loader.parameter(name, raw);
        let (weight, norm) = match loader.purpose {
            Purpose::Training => (arranged, Norm::Batch([keep(&scale)?, keep(&shift)?])),
            Purpose::Reference => (arranged, Norm::Stored([keep(&scale)?, keep(&shift)?, keep(&mean)?, keep(&var)?])),
            Purpose::Inference => {
                let (weight, shift) = fold(&arranged, &scale.1, &shift.1, &mean.1, &var.1)
                    .map_err(engine(format!("folding `{norm}` into `{name}`")))?;
                (weight, Norm::Folded(loader.parameter(norm, &shift)?))
            }
        };
        Ok(Self {
            weight: loader.parameter(&name, &weight)?,
            norm,
            window: Window { kernel, stride: shape.stride, padding: kernel / 2 },
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let cast = |t: &Tensor| t.to_dtype(x.dtype());
        let (batch, height, width, _) = x.dims4()?;
        let rows = ops::convolve(x, &cast(&self.weight)?, self.window)?;
        let rows = match &self.norm {
            Norm::Folded(shift) => ops::add_bias(&rows, &cast(shift)?)?,
            Norm::Batch([scale, shift]) => ops::batch_norm(&rows, &cast(scale)?, &cast(shift)?, EPS)?,
            Norm::Stored([scale, shift, mean, var]) => rows
                .broadcast_sub(&cast(mean)?)?
                .broadcast_div(&(cast(var)? + EPS)?.sqrt()?)?
                .broadcast_mul(&cast(scale)?)?
                .broadcast_add(&cast(shift)?)?,
        };
        rows.reshape((batch, self.window.out(height), self.window.out(width), ()))
    }
}

/// Weight and shift of a convolution that does what convolution and batch norm do; in `f64`, to round once.
fn fold(weight: &Tensor, scale: &Tensor, shift: &Tensor, mean: &Tensor, var: &Tensor) -> Result<(Tensor, Tensor)> {
    let wide = |t: &Tensor| t.to_dtype(DType::F64);
    let factor = (wide(scale)? / (wide(var)? + EPS)?.sqrt()?)?;
    Ok((wide(weight)?.broadcast_mul(&factor)?, (wide(shift)? - (wide(mean)? * &factor)?)?))
}

#[derive(Debug)]
struct Block {
    reduce: Conv,
    middle: Conv,
    expand: Conv,
    shortcut: Option<Conv>,
}

impl Block {
    /// `width` is the bottleneck's; the output has four times as many channels.
    fn load(
        loader: &Loader<'_>,
        name: &str,
        input: usize,
        width: usize,
        stride: usize,
    ) -> std::result::Result<Self, BackendError> {
        let conv = |conv: &str, norm: &str, out, input, kernel, stride, gain| {
            let shape = ConvShape { out, input, kernel, stride, gain };
            Conv::load(loader, &format!("{name}.{conv}"), &format!("{name}.{norm}"), shape)
        };
        let project = stride != 1 || input != 4 * width;
        Ok(Self {
            reduce: conv("conv1", "bn1", width, input, 1, 1, 1.0)?,
            middle: conv("conv2", "bn2", width, width, 3, stride, 1.0)?,
            // A small gain, or stored statistics that know nothing of these weights let the residual sum explode.
            expand: conv("conv3", "bn3", 4 * width, width, 1, 1, 0.2)?,
            shortcut: project
                .then(|| conv("downsample.0", "downsample.1", 4 * width, input, 1, stride, 1.0))
                .transpose()?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = ops::relu(&self.reduce.forward(x)?)?;
        let y = ops::relu(&self.middle.forward(&y)?)?;
        let y = self.expand.forward(&y)?;
        let shortcut = match &self.shortcut {
            Some(conv) => conv.forward(x)?,
            None => x.clone(),
        };
        ops::relu(&(y + shortcut)?)
    }
}

/// The classifier.
#[derive(Debug)]
pub struct ResNet {
    stem: Conv,
    blocks: Vec<Block>,
    classifier: Linear,
}

impl ResNet {
    /// Loads the weights.
    pub fn load(loader: &Loader<'_>, shape: &Shape) -> std::result::Result<Self, BackendError> {
        let stem = ConvShape { out: shape.stem, input: 3, kernel: 7, stride: 2, gain: 1.0 };
        let stem = Conv::load(loader, "conv1", "bn1", stem)?;
        let mut blocks = Vec::new();
        let mut channels = shape.stem;
        for (stage, count) in shape.blocks.into_iter().enumerate() {
            let width = shape.stem << stage;
            for block in 0..count {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let name = format!("layer{}.{block}", stage + 1);
                blocks.push(Block::load(loader, &name, channels, width, stride)?);
                channels = 4 * width;
            }
        }
        Ok(Self { stem, blocks, classifier: Linear::load(loader, "fc", shape.classes, channels)? })
    }
}

impl Network for ResNet {
    fn forward(&self, images: &Tensor) -> Result<Tensor> {
        self.scores(images)
    }

    fn scores(&self, images: &Tensor) -> Result<Tensor> {
        let pixels = images.permute((0, 2, 3, 1))?.contiguous()?;
        let pool = Window { kernel: 3, stride: 2, padding: 1 };
        let mut x = ops::max_pool(&ops::relu(&self.stem.forward(&pixels)?)?, pool)?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        self.classifier.forward(&x.mean((1, 2))?)
    }
}
