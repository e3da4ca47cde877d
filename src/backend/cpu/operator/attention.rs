//! softmax(Q Kᵀ / √d) V for every head: with the whole score matrix, or in tiles with a running softmax.
//!
//! Must not know how samples are taken.

use candle_core::{D, DType, Device, Tensor};

use crate::backend::cpu::operator::precision;
use crate::backend::cpu::operator::rowwise::{softmax, softmax_reference};
use crate::backend::cpu::operator::tensor::{self, Compared, Loaded, Operator};
use crate::backend::cpu::random;
use crate::backend::plain;
use crate::backend::{BackendError, Prepared, WorkCounts};
use crate::domain::Workload;

/// Queries and keys of a tile: a score tile of f32 (16 KiB) stays in the first-level cache.
const TILE: usize = 64;

/// Heads, and queries of each, that are compared with the reference.
const COMPARED_HEADS: usize = 4;
const COMPARED_QUERIES: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Implementation {
    Naive,
    Tiled,
}

#[derive(Debug)]
struct Attention {
    implementation: Implementation,
    causal: bool,
    /// Sequences, for counting tokens.
    batch: usize,
    /// Each of shape (batch · heads, tokens, width).
    q: Tensor,
    k: Tensor,
    v: Tensor,
    /// −∞ above the diagonal, f32, of the largest square that one step masks; only when causal.
    mask: Option<Tensor>,
    seed: u64,
}

/// Loads `attention`.
pub fn load(workload: &Workload, seed: u64) -> Result<Box<dyn Prepared>, BackendError> {
    let size = |name| workload.size(name).map_err(BackendError::Unsupported);
    let (batch, seq) = (size("batch")?, size("seq")?);
    let shape = [batch * size("heads")?, seq, size("head_dim")?];
    let causal = workload.flag("causal").map_err(BackendError::Unsupported)?;
    let implementation = match workload.text("implementation").map_err(BackendError::Unsupported)? {
        "naive" => Implementation::Naive,
        "tiled" => Implementation::Tiled,
        other => {
            return Err(BackendError::Unsupported(format!(
                "attention has no implementation `{other}` on the cpu backend; use `naive` or `tiled`"
            )));
        }
    };
    let masked = match implementation {
        Implementation::Naive => seq,
        Implementation::Tiled => seq.min(TILE),
    };
    let mask = causal.then(|| causal_mask(masked)).transpose();
    let dtype = precision::of(workload)?;
    Ok(Box::new(Loaded(Attention {
        implementation,
        causal,
        batch,
        q: tensor::normal(seed, 0, &shape, dtype)?,
        k: tensor::normal(seed, 1, &shape, dtype)?,
        v: tensor::normal(seed, 2, &shape, dtype)?,
        mask: mask.map_err(|source| tensor::engine("making the causal mask".to_owned(), source))?,
        seed,
    })))
}

/// Zero where a key is not after its query, −∞ where it is.
fn causal_mask(n: usize) -> candle_core::Result<Tensor> {
    let after = |i: usize| if i % n > i / n { f32::NEG_INFINITY } else { 0.0 };
    Tensor::from_vec((0..n * n).map(after).collect(), (n, n), &Device::Cpu)
}

impl Attention {
    /// Heads of all sequences, tokens of a sequence, width of a head.
    fn shape(&self) -> (usize, usize, usize) {
        let dims = self.q.dims();
        (dims[0], dims[1], dims[2])
    }

    fn scale(&self) -> f64 {
        1.0 / (self.shape().2 as f64).sqrt()
    }

    /// The type that scores and running sums are kept in.
    fn wide(&self) -> DType {
        if self.dtype() == DType::F64 { DType::F64 } else { DType::F32 }
    }

    /// Scores of some queries and keys in the wide type: q kᵀ / √d.
    fn scores(&self, q: &Tensor, k: &Tensor) -> candle_core::Result<Tensor> {
        q.matmul(&k.t()?)?.to_dtype(self.wide())? * self.scale()
    }

    /// Masks a square of scores on the diagonal.
    fn masked(&self, scores: Tensor) -> candle_core::Result<Tensor> {
        let Some(mask) = &self.mask else {
            return Ok(scores);
        };
        let n = scores.dim(D::Minus1)?;
        let mask = mask.narrow(0, 0, n)?.narrow(1, 0, n)?;
        scores.broadcast_add(&mask.to_dtype(self.wide())?)
    }

    fn naive(&self) -> candle_core::Result<Tensor> {
        let scores = self.masked(self.scores(&self.q, &self.k)?)?;
        softmax(&scores)?.to_dtype(self.dtype())?.matmul(&self.v)
    }

    /// Tiles of queries against tiles of keys, with the maximum and the sum of each query's row carried along (Milakov
    /// and Gimelshein 2018; Dao et al. 2022, algorithm 1): no more scores exist at a time than one tile a head.
    fn tiled(&self) -> candle_core::Result<Tensor> {
        let seq = self.shape().1;
        let rows: candle_core::Result<Vec<Tensor>> =
            (0..seq).step_by(TILE).map(|start| self.row_of_tiles(start, TILE.min(seq - start))).collect();
        Tensor::cat(&rows?, 1)
    }

    /// The output for the queries from `start`.
    fn row_of_tiles(&self, start: usize, queries: usize) -> candle_core::Result<Tensor> {
        let seq = self.shape().1;
        let q = self.q.narrow(1, start, queries)?;
        // A causal row ends with the tile on the diagonal, which comes last and alone needs the mask.
        let end = if self.causal { start + queries } else { seq };
        let mut running: Option<Running> = None;
        for at in (0..end).step_by(TILE) {
            let keys = TILE.min(end - at);
            let mut scores = self.scores(&q, &self.k.narrow(1, at, keys)?)?;
            if at == start {
                scores = self.masked(scores)?;
            }
            let v = self.v.narrow(1, at, keys)?;
            running = Some(match running {
                None => Running::first(&scores, &v)?,
                Some(before) => before.join(&scores, &v)?,
            });
        }
        running.map_or_else(|| self.q.narrow(1, 0, 0), |running| running.output(self.dtype()))
    }
}

/// What is known of a tile of queries after some tiles of keys; all in the wide type.
struct Running {
    /// Largest score of each query, (heads, queries, 1).
    largest: Tensor,
    /// Σ exp(score − largest), the same shape.
    sum: Tensor,
    /// Σ exp(score − largest) · v, (heads, queries, width).
    weighted: Tensor,
}

impl Running {
    fn first(scores: &Tensor, v: &Tensor) -> candle_core::Result<Self> {
        let largest = scores.max_keepdim(D::Minus1)?;
        let weights = scores.broadcast_sub(&largest)?.exp()?;
        Ok(Self { sum: weights.sum_keepdim(D::Minus1)?, weighted: weigh(&weights, v)?, largest })
    }

    fn join(&self, scores: &Tensor, v: &Tensor) -> candle_core::Result<Self> {
        let largest = self.largest.maximum(&scores.max_keepdim(D::Minus1)?)?;
        let weights = scores.broadcast_sub(&largest)?.exp()?;
        // What was summed under the former maximum, brought to the new one.
        let correction = (&self.largest - &largest)?.exp()?;
        Ok(Self {
            sum: ((&self.sum * &correction)? + weights.sum_keepdim(D::Minus1)?)?,
            weighted: (self.weighted.broadcast_mul(&correction)? + weigh(&weights, v)?)?,
            largest,
        })
    }

    fn output(&self, dtype: DType) -> candle_core::Result<Tensor> {
        self.weighted.broadcast_div(&self.sum)?.to_dtype(dtype)
    }
}

/// The product of weights and values, multiplied in the values' type and returned in the weights'.
fn weigh(weights: &Tensor, v: &Tensor) -> candle_core::Result<Tensor> {
    weights.to_dtype(v.dtype())?.matmul(v)?.to_dtype(weights.dtype())
}

impl Operator for Attention {
    const NAME: &'static str = "attention";

    fn forward(&self) -> candle_core::Result<Tensor> {
        match self.implementation {
            Implementation::Naive => self.naive(),
            Implementation::Tiled => self.tiled(),
        }
    }

    /// The two matrix products only, as is usual: 4·d operations for each pair of a query and a key it may see,
    /// whether or not an implementation saves the masked ones. Q, K, V and the output moved once.
    fn counts(&self) -> WorkCounts {
        let (heads, seq, width) = self.shape();
        let pairs = plain::seen(seq, self.causal);
        let (heads, seq, width) = (heads as f64, seq as f64, width as f64);
        WorkCounts {
            flops: Some(4.0 * heads * pairs * width),
            bytes: Some(4.0 * heads * seq * width * tensor::element_bytes(self.dtype())),
            items: Some((self.batch as f64 * seq, "tokens")),
        }
    }

    fn dtype(&self) -> DType {
        self.q.dtype()
    }

    fn compare(&self, output: &Tensor) -> candle_core::Result<Compared> {
        let (heads, seq, width) = self.shape();
        let mut compared = Compared::default();
        for head in random::picks(self.seed, "heads", COMPARED_HEADS, heads) {
            let of_head = |tensor: &Tensor| tensor::values(&tensor.get(head)?);
            let (q, k, v) = (of_head(&self.q)?, of_head(&self.k)?, of_head(&self.v)?);
            let got = of_head(output)?;
            for query in random::picks(self.seed, "queries", COMPARED_QUERIES, seq) {
                let seen = if self.causal { query + 1 } else { seq };
                let row = &q[query * width..][..width];
                let dot = |key: &[f64]| row.iter().zip(key).map(|(a, b)| a * b).sum::<f64>() * self.scale();
                let scores: Vec<f64> = k.chunks_exact(width).take(seen).map(dot).collect();
                let weights = softmax_reference(&scores);
                let mut want = vec![0.0; width];
                for (weight, value) in weights.iter().zip(v.chunks_exact(width)) {
                    for (sum, component) in want.iter_mut().zip(value) {
                        *sum += weight * component;
                    }
                }
                compared.want.extend(want);
                compared.got.extend(&got[query * width..][..width]);
            }
        }
        Ok(compared)
    }
}
