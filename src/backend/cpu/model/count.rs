//! What an iteration amounts to, from shapes alone: operations, bytes and items.
//!
//! Only matrix products and convolutions are counted, a multiply-add as two operations; norms, softmax and
//! activations are under 1 % of either. A causal score matrix is counted whole, because it is computed whole. A
//! training step counts three forward passes: the backward pass makes two products for each forward one (Kaplan et
//! al. 2020). Bytes are the weights that a pass must read once, whatever the caches do; a training step declares
//! none, since activations dominate it.

use crate::backend::WorkCounts;
use crate::backend::cpu::model::Setup;
use crate::backend::cpu::model::config::{Architecture, ResNet, Transformer, Vit};

/// Elements of one block's matrices.
const fn block_matrices(shape: &Transformer) -> usize {
    let feed_forward = if shape.gated { 3 } else { 2 };
    shape.width * (shape.qkv_width() + shape.width + feed_forward * shape.hidden)
}

/// Operations of one block's products for `tokens` tokens that each see `keys` keys.
fn block_flops(shape: &Transformer, tokens: f64, keys: f64) -> f64 {
    2.0 * tokens * block_matrices(shape) as f64 + 4.0 * tokens * keys * shape.width as f64
}

/// Operations of the output layer.
fn head_flops(shape: &Transformer, tokens: f64) -> f64 {
    2.0 * tokens * (shape.width * shape.vocabulary) as f64
}

/// A vision transformer's blocks as those of a plain one.
const fn as_transformer(shape: &Vit) -> Transformer {
    Transformer {
        layers: shape.layers,
        width: shape.width,
        heads: shape.heads,
        kv_heads: shape.heads,
        hidden: shape.hidden,
        gated: false,
        vocabulary: shape.classes,
        context: shape.tokens(),
    }
}

/// A convolution of a residual network: output edge, kernel edge, input and output channels.
struct Conv {
    edge: usize,
    kernel: usize,
    input: usize,
    out: usize,
}

impl Conv {
    const fn weights(&self) -> usize {
        self.kernel * self.kernel * self.input * self.out
    }
}

/// Every convolution, in order.
fn convolutions(shape: &ResNet) -> Vec<Conv> {
    let mut all = Vec::new();
    let mut edge = shape.image.div_ceil(2);
    let conv = |edge, kernel, input, out| Conv { edge, kernel, input, out };
    all.push(conv(edge, 7, 3, shape.stem));
    edge = edge.div_ceil(2);
    let mut channels = shape.stem;
    for (stage, blocks) in shape.blocks.into_iter().enumerate() {
        let width = shape.stem << stage;
        for block in 0..blocks {
            all.push(conv(edge, 1, channels, width));
            if stage > 0 && block == 0 {
                edge = edge.div_ceil(2);
            }
            all.push(conv(edge, 3, width, width));
            all.push(conv(edge, 1, width, 4 * width));
            if block == 0 {
                all.push(conv(edge, 1, channels, 4 * width));
            }
            channels = 4 * width;
        }
    }
    all
}

/// Operations of one forward pass of one sequence of `seq` tokens, or of one image.
fn forward_flops(architecture: &Architecture, seq: usize, trained: bool) -> f64 {
    let tokens = seq as f64;
    match architecture {
        Architecture::Bert(shape) => {
            let head = if trained {
                head_flops(shape, tokens) + 2.0 * tokens * (shape.width * shape.width) as f64
            } else {
                0.0
            };
            shape.layers as f64 * block_flops(shape, tokens, tokens) + head
        }
        Architecture::Gpt2(shape) | Architecture::Llama(shape) => {
            shape.layers as f64 * block_flops(shape, tokens, tokens) + head_flops(shape, tokens)
        }
        Architecture::Vit(shape) => {
            let tokens = shape.tokens() as f64;
            let blocks = shape.layers as f64 * block_flops(&as_transformer(shape), tokens, tokens);
            let patches = 2.0 * (tokens - 1.0) * (3 * shape.patch * shape.patch * shape.width) as f64;
            blocks + patches + head_flops(&as_transformer(shape), 1.0)
        }
        Architecture::ResNet(shape) => {
            let convolutions = convolutions(shape);
            let flops = convolutions.iter().map(|c| 2.0 * (c.edge * c.edge * c.weights()) as f64);
            flops.sum::<f64>() + 2.0 * (32 * shape.stem * shape.classes) as f64
        }
    }
}

/// Number of weights that one forward pass reads: all but the rows of embeddings that no token asks for.
fn weights(architecture: &Architecture) -> f64 {
    let blocks = |shape: &Transformer, biases: bool| {
        let vectors = if biases { shape.qkv_width() + 6 * shape.width + shape.hidden } else { 2 * shape.width };
        shape.layers * (block_matrices(shape) + vectors)
    };
    let count = match architecture {
        Architecture::Bert(shape) => blocks(shape, true) + 2 * shape.width,
        Architecture::Gpt2(shape) => blocks(shape, true) + 2 * shape.width + shape.vocabulary * shape.width,
        Architecture::Llama(shape) => blocks(shape, false) + shape.width + shape.vocabulary * shape.width,
        Architecture::Vit(shape) => {
            let embeddings = (3 * shape.patch * shape.patch + 1 + 1 + shape.tokens()) * shape.width;
            let head = 2 * shape.width + (shape.width + 1) * shape.classes;
            blocks(&as_transformer(shape), true) + embeddings + head
        }
        Architecture::ResNet(shape) => {
            // A shift an output channel: the folded batch norm.
            let convolutions: usize = convolutions(shape).iter().map(|c| c.weights() + c.out).sum();
            convolutions + (32 * shape.stem + 1) * shape.classes
        }
    };
    count as f64
}

fn items(setup: &Setup, passes: f64) -> (f64, &'static str) {
    let batch = setup.batch as f64;
    if setup.seq > 0 { (batch * passes, "tokens") } else { (batch, "images") }
}

/// One forward pass.
pub fn inference(setup: &Setup) -> WorkCounts {
    WorkCounts {
        flops: Some(setup.batch as f64 * forward_flops(&setup.architecture, setup.seq, false)),
        bytes: Some(weights(&setup.architecture) * setup.dtype.size_in_bytes() as f64),
        items: Some(items(setup, setup.seq as f64)),
    }
}

/// `tokens` passes of one token a sequence. Bytes add the keys and values that each pass reads.
pub fn decode(setup: &Setup) -> WorkCounts {
    let (Architecture::Bert(shape) | Architecture::Gpt2(shape) | Architecture::Llama(shape)) = &setup.architecture
    else {
        return WorkCounts::default();
    };
    let (batch, layers) = (setup.batch as f64, shape.layers as f64);
    let kv_row = (2 * shape.kv_heads * shape.head_width()) as f64;
    let (mut flops, mut values) = (0.0, 0.0);
    for step in 0..setup.tokens {
        let keys = (setup.seq + step + 1) as f64;
        flops += batch * (layers * block_flops(shape, 1.0, keys) + head_flops(shape, 1.0));
        values += weights(&setup.architecture) + batch * layers * keys * kv_row;
    }
    WorkCounts {
        flops: Some(flops),
        bytes: Some(values * setup.dtype.size_in_bytes() as f64),
        items: Some(items(setup, setup.tokens as f64)),
    }
}

/// Forward, backward and optimiser.
pub fn training(setup: &Setup) -> WorkCounts {
    WorkCounts {
        flops: Some(3.0 * setup.batch as f64 * forward_flops(&setup.architecture, setup.seq, true)),
        bytes: None,
        items: Some(items(setup, setup.seq as f64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Architecture {
        Architecture::named(name).expect("in the catalogue")
    }

    /// Published parameter counts, less what a pass does not read.
    #[test]
    fn weights_match_the_published_models() {
        // 124,439,808 with 1,024 positions.
        assert_eq!(weights(&named("gpt2")), 124_439_808.0 - 1024.0 * 768.0);
        // 85,054,464 in the encoder's blocks, and the embedding's norm.
        assert_eq!(weights(&named("bert-base")), 85_054_464.0 + 1536.0);
        // 86,567,656.
        assert_eq!(weights(&named("vit-b16")), 86_567_656.0);
        // 25,557,032, of which each of 26,560 channels' scale is folded away.
        assert_eq!(weights(&named("resnet50")), 25_557_032.0 - 26_560.0);
    }

    /// He et al. give 3.8e9 multiply-adds for the stride in the 1 x 1; in the 3 x 3 it is 4.09e9 (torchvision).
    #[test]
    fn operations_match_the_published_models() {
        let gflops = |name, seq| forward_flops(&named(name), seq, false) / 1e9;
        assert!((gflops("resnet50", 0) - 2.0 * 4.09).abs() < 0.02, "{}", gflops("resnet50", 0));
        // 17.58e9 multiply-adds by torchvision's count.
        assert!((gflops("vit-b16", 0) - 2.0 * 17.56).abs() < 0.1, "{}", gflops("vit-b16", 0));
        // 2 operations a weight and token, and the scores.
        let bert = 2.0 * 128.0 * 84_934_656.0 + 12.0 * 4.0 * 128.0 * 128.0 * 768.0;
        assert_eq!(gflops("bert-base", 128), bert / 1e9);
    }
}
