//! One pre-norm transformer block over a chunk of windows, and its way back.

use super::attention::{Head, Kept as KeptAttention, Scratch as AttentionScratch};
use super::elementwise::{Dropout, Moments, add, add_rows_to, gelu, multiply, norm, norm_backward};
use crate::cpu::matrix::{Left, Onto, PANEL, Product, Right, pairs, panels, rows, transposed};

/// A layer's weight [out, in] and bias [out], and the weight in the two forms that products read.
pub struct Layer<'a> {
    bias: &'a [f32],
    inputs: usize,
    outputs: usize,
    /// Of the transpose [in / 2, out], in panels.
    forward: Vec<u32>,
    /// [out / 2, in], in panels.
    backward: Vec<u32>,
}

/// The gradient of a layer or of a normalisation.
#[derive(Clone)]
pub struct Gradient {
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
}

impl Gradient {
    pub fn zeros(weight: usize, bias: usize) -> Self {
        Gradient { weight: vec![0.0; weight], bias: vec![0.0; bias] }
    }
}

impl<'a> Layer<'a> {
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub fn new(weight: &[f32], bias: &'a [f32]) -> Self {
        let (inputs, outputs) = (weight.len() / bias.len(), bias.len());
        let (mut by_row, mut forward, mut backward) = (Vec::new(), Vec::new(), Vec::new());
        rows(weight, &mut by_row);
        transposed(&by_row, inputs / 2, outputs, &mut forward);
        pairs(weight, inputs, 0, inputs, &mut backward);
        Layer { bias, inputs, outputs, forward: panels(&forward, outputs), backward: panels(&backward, inputs) }
    }

    /// `x W^T + b`; `x` in pairs of columns.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16")]
    fn forward(&self, x: &[u32], out: &mut Vec<f32>) {
        self.forward_part(x, 0, self.outputs, out);
    }

    /// The results `first..first + columns` alone, `first` being the begin of a panel.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16")]
    fn forward_part(&self, x: &[u32], first: usize, columns: usize, out: &mut Vec<f32>) {
        assert!(first.is_multiple_of(PANEL));
        let half = self.inputs / 2;
        let rows = x.len() / half;
        out.resize(rows * columns, 0.0);
        let onto = Onto::Bias(&self.bias[first..]);
        let product = Product { rows, columns, inner: half, stride: columns, onto };
        product.run(Left::rows(x, half), Right::Panels(&self.forward[first * half..], self.outputs - first), out);
    }

    /// The gradient of `x` from that of the result, and the weight's, added. `x` in pairs of rows.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16")]
    fn backward(&self, x: &[u32], out: &[f32], gradient: &mut Gradient, scratch: &mut Scratch, to: &mut Vec<f32>) {
        let Layer { inputs, outputs, .. } = *self;
        let n = out.len() / outputs;
        add_rows_to(out, &mut gradient.bias);
        pairs(out, outputs, 0, outputs, &mut scratch.pairs);
        let product =
            Product { rows: outputs, columns: inputs, inner: n.div_ceil(2), stride: inputs, onto: Onto::Itself };
        let transposed = Left::transposed_pairs(&scratch.pairs, outputs);
        product.run(transposed, Right::Rows(x, inputs), &mut gradient.weight);
        rows(out, &mut scratch.rows);
        to.resize(n * inputs, 0.0);
        let product = Product { rows: n, columns: inputs, inner: outputs / 2, stride: inputs, onto: Onto::Nothing };
        product.run(Left::rows(&scratch.rows, outputs / 2), Right::Panels(&self.backward, inputs), to);
    }
}

/// Weight and bias of a normalisation.
#[derive(Clone, Copy)]
pub struct Norm<'a> {
    pub weight: &'a [f32],
    pub bias: &'a [f32],
}

pub struct Block<'a> {
    pub attention_norm: Norm<'a>,
    pub qkv: Layer<'a>,
    pub output: Layer<'a>,
    pub feed_forward_norm: Norm<'a>,
    pub expand: Layer<'a>,
    pub contract: Layer<'a>,
    pub heads: usize,
}

/// Parts of a block in the order of their gradients.
const ATTENTION_NORM: usize = 0;
const QKV: usize = 1;
const OUTPUT: usize = 2;
const FEED_FORWARD_NORM: usize = 3;
const EXPAND: usize = 4;
const CONTRACT: usize = 5;

/// What is needed for the way back.
pub struct Kept {
    x: Vec<f32>,
    moments: Moments,
    /// The normalised input in pairs of rows; so are the other inputs of layers.
    normal: Vec<u32>,
    qkv: Vec<f32>,
    attention: Vec<KeptAttention>,
    mixed: Vec<f32>,
    middle: Vec<f32>,
    middle_moments: Moments,
    middle_normal: Vec<u32>,
    /// GELU's result and its slope.
    wide: Vec<u32>,
    slope: Vec<f32>,
}

/// Room that is used again and again.
#[derive(Default)]
pub struct Scratch {
    attention: AttentionScratch,
    numbers: Vec<f32>,
    more: Vec<f32>,
    scores: Vec<f32>,
    rows: Vec<u32>,
    pairs: Vec<u32>,
}

/// A chunk: whole windows, and where its tokens and scores stand among the batch's, for dropout.
pub struct Chunk<'a> {
    pub lengths: &'a [usize],
    pub first_token: usize,
    pub first_score: usize,
}

impl Chunk<'_> {
    /// First token and first score of each window with its length, from the chunk's begin.
    fn windows(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        let mut at = (0, self.first_score);
        self.lengths.iter().map(move |&n| {
            let start = at;
            at = (at.0 + n, at.1 + scores(n));
            (start.0, start.1, n)
        })
    }
}

/// Scores of a window, with their padding.
pub fn scores(n: usize) -> usize {
    n * n.next_multiple_of(16)
}

/// Decides each of a block's three kinds of dropout.
#[derive(Clone, Copy)]
pub struct Dropouts {
    pub share: f32,
    pub seed: u64,
    pub block: usize,
}

impl Dropouts {
    fn of(&self, kind: usize) -> Dropout {
        match self.share > 0.0 {
            true => Dropout::new(self.share, self.seed, (1 + 1000 * self.block + kind) as u32),
            false => Dropout::none(),
        }
    }

    fn output(&self) -> Dropout {
        self.of(0)
    }

    fn feed_forward(&self) -> Dropout {
        self.of(1)
    }

    fn attention(&self, head: usize) -> Dropout {
        self.of(2 + head)
    }
}

impl Block<'_> {
    fn dim(&self) -> usize {
        self.attention_norm.weight.len()
    }

    /// Room for the block's gradients.
    pub fn gradients(&self) -> Vec<Gradient> {
        let layer = |layer: &Layer| Gradient::zeros(layer.inputs * layer.outputs, layer.outputs);
        let norm = || Gradient::zeros(self.dim(), self.dim());
        vec![norm(), layer(&self.qkv), layer(&self.output), norm(), layer(&self.expand), layer(&self.contract)]
    }

    fn head(&self, head: usize) -> Head {
        let width = self.dim() / self.heads;
        Head { dim: self.dim(), width, first: head * width }
    }

    /// [tokens, dim] in place.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16")]
    pub fn forward(
        &self,
        x: &mut [f32],
        chunk: &Chunk,
        dropouts: Dropouts,
        scratch: &mut Scratch,
        keep: bool,
    ) -> Option<Kept> {
        let dim = self.dim();
        let input = if keep { x.to_vec() } else { Vec::new() };
        let moments = norm(x, self.attention_norm.weight, self.attention_norm.bias, &mut scratch.numbers);
        let mut normal = Vec::new();
        if keep {
            pairs(&scratch.numbers, dim, 0, dim, &mut normal);
        }
        rows(&scratch.numbers, &mut scratch.rows);
        let mut qkv = Vec::new();
        self.qkv.forward(&scratch.rows, &mut qkv);
        let mut mixed = vec![0.0; x.len()];
        let mut attention = Vec::new();
        for (at, score, n) in chunk.windows() {
            let (qkv, mixed) = (&qkv[3 * dim * at..3 * dim * (at + n)], &mut mixed[dim * at..dim * (at + n)]);
            for head in 0..self.heads {
                let dropout = dropouts.attention(head);
                let kept = self.head(head).forward(qkv, mixed, dropout, score, &mut scratch.attention, keep);
                attention.push(kept);
            }
        }
        self.add_attended(x, &mixed, dropouts.output(), dim * chunk.first_token, scratch);
        let middle = if keep { x.to_vec() } else { Vec::new() };
        let (middle_moments, middle_normal, wide, slope) =
            self.feed_forward(x, dropouts.feed_forward(), dim * chunk.first_token, scratch, keep);
        keep.then_some(Kept {
            x: input,
            moments,
            normal,
            qkv,
            attention,
            mixed,
            middle,
            middle_moments,
            middle_normal,
            wide,
            slope,
        })
    }

    /// Adds the attention's branch. `first`: the index of the first number, for dropout.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16")]
    fn add_attended(&self, x: &mut [f32], mixed: &[f32], dropout: Dropout, first: usize, scratch: &mut Scratch) {
        rows(mixed, &mut scratch.rows);
        self.output.forward(&scratch.rows, &mut scratch.numbers);
        dropout.apply(first, &mut scratch.numbers);
        add(x, &scratch.numbers);
    }

    /// Adds the feed-forward's branch; what [`Kept`] holds of it.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16")]
    fn feed_forward(
        &self,
        x: &mut [f32],
        dropout: Dropout,
        first: usize,
        scratch: &mut Scratch,
        keep: bool,
    ) -> (Moments, Vec<u32>, Vec<u32>, Vec<f32>) {
        let dim = self.dim();
        let moments = norm(x, self.feed_forward_norm.weight, self.feed_forward_norm.bias, &mut scratch.numbers);
        let (mut normal, mut wide, mut slope) = (Vec::new(), Vec::new(), Vec::new());
        if keep {
            pairs(&scratch.numbers, dim, 0, dim, &mut normal);
        }
        rows(&scratch.numbers, &mut scratch.rows);
        self.expand.forward(&scratch.rows, &mut scratch.more);
        gelu(&mut scratch.more, keep.then_some(&mut slope));
        if keep {
            pairs(&scratch.more, self.expand.outputs, 0, self.expand.outputs, &mut wide);
        }
        rows(&scratch.more, &mut scratch.rows);
        self.contract.forward(&scratch.rows, &mut scratch.numbers);
        dropout.apply(first, &mut scratch.numbers);
        add(x, &scratch.numbers);
        (moments, normal, wide, slope)
    }

    /// The result for each window's last token alone: [tokens, dim] -> [windows, dim]. Of the other
    /// tokens only keys and values matter.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16")]
    pub fn last(&self, x: &[f32], chunk: &Chunk, scratch: &mut Scratch) -> Vec<f32> {
        let dim = self.dim();
        let ends = || chunk.windows().map(|(at, _, n)| dim * (at + n - 1)..dim * (at + n));
        norm(x, self.attention_norm.weight, self.attention_norm.bias, &mut scratch.numbers);
        let newest: Vec<f32> = ends().flat_map(|end| &scratch.numbers[end]).copied().collect();
        rows(&scratch.numbers, &mut scratch.rows);
        // Panels may be cut only where they end.
        let (first, width) = if dim.is_multiple_of(PANEL) { (dim, 2 * dim) } else { (0, 3 * dim) };
        self.qkv.forward_part(&scratch.rows, first, width, &mut scratch.more);
        rows(&newest, &mut scratch.rows);
        self.qkv.forward_part(&scratch.rows, 0, dim, &mut scratch.numbers);
        let mut mixed = vec![0.0; newest.len()];
        let queries = scratch.numbers.chunks_exact(dim).zip(mixed.chunks_exact_mut(dim));
        for ((at, _, n), (query, mixed)) in chunk.windows().zip(queries) {
            let keys_values = &scratch.more[width * at..width * (at + n)];
            for head in 0..self.heads {
                self.head(head).last(query, keys_values, width, mixed, &mut scratch.scores);
            }
        }
        let mut x: Vec<f32> = ends().flat_map(|end| &x[end]).copied().collect();
        self.add_attended(&mut x, &mixed, Dropout::none(), 0, scratch);
        self.feed_forward(&mut x, Dropout::none(), 0, scratch, false);
        x
    }

    /// From the gradient of the result to that of the input, in place.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16")]
    pub fn backward(
        &self,
        kept: &Kept,
        gradient: &mut [f32],
        chunk: &Chunk,
        dropouts: Dropouts,
        gradients: &mut [Gradient],
        scratch: &mut Scratch,
    ) {
        let dim = self.dim();
        let (mut branch, mut narrow) = (gradient.to_vec(), std::mem::take(&mut scratch.numbers));
        let mut wide = std::mem::take(&mut scratch.more);
        dropouts.feed_forward().apply(dim * chunk.first_token, &mut branch);
        self.contract.backward(&kept.wide, &branch, &mut gradients[CONTRACT], scratch, &mut wide);
        multiply(&mut wide, &kept.slope);
        self.expand.backward(&kept.middle_normal, &wide, &mut gradients[EXPAND], scratch, &mut narrow);
        let of_norm = &mut gradients[FEED_FORWARD_NORM];
        let into = (&mut of_norm.weight[..], &mut of_norm.bias[..]);
        norm_backward(&kept.middle, &kept.middle_moments, self.feed_forward_norm.weight, &narrow, gradient, into);

        branch.copy_from_slice(gradient);
        dropouts.output().apply(dim * chunk.first_token, &mut branch);
        pairs(&kept.mixed, dim, 0, dim, &mut scratch.rows);
        let mixed = std::mem::take(&mut scratch.rows);
        self.output.backward(&mixed, &branch, &mut gradients[OUTPUT], scratch, &mut narrow);
        wide.resize(3 * gradient.len(), 0.0);
        let mut attention = kept.attention.iter();
        for (at, score, n) in chunk.windows() {
            let (three, one) = (3 * dim * at..3 * dim * (at + n), dim * at..dim * (at + n));
            for head in 0..self.heads {
                let Some(kept_attention) = attention.next() else { break };
                self.head(head).backward(
                    kept_attention,
                    &kept.qkv[three.clone()],
                    &kept.mixed[one.clone()],
                    &narrow[one.clone()],
                    &mut wide[three.clone()],
                    dropouts.attention(head),
                    score,
                    &mut scratch.attention,
                );
            }
        }
        let mut into_norm = branch;
        self.qkv.backward(&kept.normal, &wide, &mut gradients[QKV], scratch, &mut into_norm);
        let of_norm = &mut gradients[ATTENTION_NORM];
        let into = (&mut of_norm.weight[..], &mut of_norm.bias[..]);
        norm_backward(&kept.x, &kept.moments, self.attention_norm.weight, &into_norm, gradient, into);
        (scratch.numbers, scratch.more, scratch.rows) = (narrow, wide, mixed);
    }
}
