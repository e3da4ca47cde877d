//! The shapes of the models, each with the paper or checkpoint that fixes it. Plain data; knows no tensors.

/// A transformer over tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Transformer {
    /// Blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; fewer than `heads` is grouped-query attention.
    pub kv_heads: usize,
    /// Width between the two products of a block's feed-forward part.
    pub hidden: usize,
    /// Whether the feed-forward part has a gate, and so three products.
    pub gated: bool,
    /// Number of token ids.
    pub vocabulary: usize,
    /// Longest sequence.
    pub context: usize,
}

impl Transformer {
    /// Width of a head.
    pub const fn head_width(&self) -> usize {
        self.width / self.heads
    }

    /// Width of the joined query, key and value product.
    pub const fn qkv_width(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_width()
    }
}

/// A vision transformer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Vit {
    /// Blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Heads.
    pub heads: usize,
    /// Width between the two products of the feed-forward part.
    pub hidden: usize,
    /// Edge of the image, pixels.
    pub image: usize,
    /// Edge of a patch, pixels.
    pub patch: usize,
    /// Classes.
    pub classes: usize,
}

impl Vit {
    /// Tokens of an image: its patches and the class token.
    pub const fn tokens(&self) -> usize {
        (self.image / self.patch) * (self.image / self.patch) + 1
    }
}

/// A residual network of bottleneck blocks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ResNet {
    /// Blocks of each stage.
    pub blocks: [usize; 4],
    /// Channels after the stem; stage s works on `stem · 2^s` channels and puts out four times as many.
    pub stem: usize,
    /// Edge of the image, pixels.
    pub image: usize,
    /// Classes.
    pub classes: usize,
}

/// A model and its shapes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Architecture {
    /// Encoder, normalised after each part (Devlin et al. 2018).
    Bert(Transformer),
    /// Decoder, normalised before each part (Radford et al. 2019).
    Gpt2(Transformer),
    /// Decoder with rotary positions, RMS norm and a gated feed-forward part (Touvron et al. 2023).
    Llama(Transformer),
    /// Residual network (He et al. 2015), the stride in the 3 × 3 convolution as torchvision has it.
    ResNet(ResNet),
    /// Vision transformer (Dosovitskiy et al. 2020).
    Vit(Vit),
}

impl Architecture {
    /// The model of this name in the catalogue.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            // `bert-base-uncased`.
            "bert-base" => Self::Bert(Transformer {
                layers: 12,
                width: 768,
                heads: 12,
                kv_heads: 12,
                hidden: 3072,
                gated: false,
                vocabulary: 30_522,
                context: 512,
            }),
            "bert-tiny" => Self::Bert(Transformer {
                layers: 2,
                width: 128,
                heads: 2,
                kv_heads: 2,
                hidden: 512,
                gated: false,
                vocabulary: 1024,
                context: 512,
            }),
            // `gpt2`.
            "gpt2" => Self::Gpt2(Transformer {
                layers: 12,
                width: 768,
                heads: 12,
                kv_heads: 12,
                hidden: 3072,
                gated: false,
                vocabulary: 50_257,
                context: 1024,
            }),
            "gpt2-tiny" => Self::Gpt2(Transformer {
                layers: 2,
                width: 128,
                heads: 2,
                kv_heads: 2,
                hidden: 512,
                gated: false,
                vocabulary: 1024,
                context: 1024,
            }),
            // No published size is this small: Llama 2's proportions at GPT-2-medium's cost per token or less.
            "llama" => Self::Llama(Transformer {
                layers: 8,
                width: 512,
                heads: 8,
                kv_heads: 4,
                hidden: 1376,
                gated: true,
                vocabulary: 32_000,
                context: 2048,
            }),
            "llama-tiny" => Self::Llama(Transformer {
                layers: 2,
                width: 128,
                heads: 4,
                kv_heads: 2,
                hidden: 352,
                gated: true,
                vocabulary: 1024,
                context: 2048,
            }),
            "resnet50" => Self::ResNet(ResNet { blocks: [3, 4, 6, 3], stem: 64, image: 224, classes: 1000 }),
            "resnet-tiny" => Self::ResNet(ResNet { blocks: [1, 1, 1, 1], stem: 16, image: 64, classes: 10 }),
            // `google/vit-base-patch16-224`.
            "vit-b16" => {
                Self::Vit(Vit { layers: 12, width: 768, heads: 12, hidden: 3072, image: 224, patch: 16, classes: 1000 })
            }
            "vit-tiny" => {
                Self::Vit(Vit { layers: 2, width: 128, heads: 2, hidden: 512, image: 32, patch: 8, classes: 10 })
            }
            _ => return None,
        })
    }

    /// The longest sequence, for models over tokens.
    pub const fn context(&self) -> Option<usize> {
        match self {
            Self::Bert(t) | Self::Gpt2(t) | Self::Llama(t) => Some(t.context),
            Self::ResNet(_) | Self::Vit(_) => None,
        }
    }

    /// Number of classes that a row of scores has.
    pub const fn classes(&self) -> usize {
        match self {
            Self::Bert(t) | Self::Gpt2(t) | Self::Llama(t) => t.vocabulary,
            Self::ResNet(r) => r.classes,
            Self::Vit(v) => v.classes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Architecture;
    use crate::domain::WorkloadKind;
    use crate::domain::workload::CATALOGUE;

    #[test]
    fn every_model_of_the_catalogue_has_shapes() {
        for entry in CATALOGUE.iter().filter(|entry| entry.kind == WorkloadKind::Model) {
            assert!(Architecture::named(entry.name).is_some(), "{}", entry.name);
        }
        assert_eq!(Architecture::named("alexnet"), None);
    }
}
