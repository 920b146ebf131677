//! A causal pre-norm transformer and its gradient on a processor with AVX512-BF16.
//!
//! libtorch goes through a whole batch operator by operator, so that every activation travels to
//! memory and back several times. Here a chunk of whole windows, about [`CHUNK`] tokens, goes
//! through all blocks while it is in the second-level cache. Products have factors in bf16 and sums
//! in f32; everything else is f32. The way back is written by hand, after what autograd does.
//!
//! A batch is cut into parts of a size that depends on the number of threads alone, and what the parts
//! add to the weights' gradients is summed in order; so the result depends on that number and on nothing
//! else, whoever computes which.
//!
//! - [`block`]       norm, attention, norm, feed-forward
//! - [`attention`]   one head over one window
//! - [`elementwise`] normalisation, GELU, dropout
//! - [`inference`]   states alone, in f32, where a processor has AVX2 and no more

mod attention;
mod block;
mod elementwise;
pub mod inference;

use block::{Block, Chunk, Dropouts, Gradient, Kept, Layer, Norm, Scratch, scores};
use elementwise::{Dropout, Moments, norm, norm_backward};
use persona_core::threads::each_with;
use std::ops::Range;

/// Parts of a batch for each thread.
const PARTS: usize = 4;

/// Tokens of a chunk, unless one window alone is longer.
const CHUNK: usize = 240;

/// Weights of a linear layer or a normalisation, where they are.
#[derive(Clone, Copy)]
pub struct Weights<'a> {
    pub weight: &'a [f32],
    pub bias: &'a [f32],
}

/// Whether a model of this shape can be computed here.
pub fn fits(dim: usize, heads: usize) -> bool {
    heads > 0 && dim.is_multiple_of(heads) && (dim / heads).is_multiple_of(16)
}

/// The blocks and the normalisation after them, ready for products.
pub struct Encoder<'a> {
    blocks: Vec<Block<'a>>,
    norm: Norm<'a>,
    dropout: f32,
    threads: usize,
}

/// What a pass in training keeps for the way back.
pub struct Tape {
    seed: u64,
    chunks: Vec<KeptChunk>,
}

struct KeptChunk {
    place: Place,
    blocks: Vec<Kept>,
    /// What the last normalisation was given.
    last: Vec<f32>,
    moments: Moments,
}

/// Where a chunk is in the batch.
#[derive(Clone)]
struct Place {
    windows: Range<usize>,
    tokens: Range<usize>,
    first_score: usize,
}

/// Gradients of the input and of all weights, in the order in which [`Encoder::new`] was given them.
pub struct Gradients {
    pub input: Vec<f32>,
    pub weights: Vec<Vec<f32>>,
}

impl<'a> Encoder<'a> {
    /// `blocks`: of each the attention's norm, the layers of queries, keys and values, and of the
    /// output, the feed-forward's norm, and the layers that expand and contract. The processor must
    /// have the instructions ([`super::simd::is_available`]) and the shape must fit ([`fits`]).
    pub fn new(blocks: &[[Weights<'a>; 6]], norm: Weights<'a>, heads: usize, dropout: f32, threads: usize) -> Self {
        assert!(super::simd::is_available(), "this processor lacks AVX512-BF16");
        // SAFETY: the processor has the instructions.
        let layer = |w: Weights<'a>| unsafe { Layer::new(w.weight, w.bias) };
        let normal = |w: Weights<'a>| Norm { weight: w.weight, bias: w.bias };
        let block = |&[attention_norm, qkv, output, feed_forward_norm, expand, contract]: &[Weights<'a>; 6]| Block {
            attention_norm: normal(attention_norm),
            qkv: layer(qkv),
            output: layer(output),
            feed_forward_norm: normal(feed_forward_norm),
            expand: layer(expand),
            contract: layer(contract),
            heads,
        };
        Encoder { blocks: blocks.iter().map(block).collect(), norm: normal(norm), dropout, threads: threads.max(1) }
    }

    fn dim(&self) -> usize {
        self.norm.weight.len()
    }

    /// The states after each window's last event alone: [tokens, dim] -> [windows, dim]
    pub fn infer_last(&self, x: &mut [f32], lengths: &[usize]) -> Vec<f32> {
        let work = self.shares(places(lengths), x);
        let run = |scratch: &mut Scratch, (places, x): (Vec<Place>, &mut [f32])| -> Vec<f32> {
            let mut states = Vec::new();
            let first = places.first().map_or(0, |place| place.tokens.start);
            for place in places {
                let x = &x[(place.tokens.start - first) * self.dim()..(place.tokens.end - first) * self.dim()];
                // SAFETY: `new` has asserted that the processor has the instructions.
                states.extend(unsafe { self.chunk_last(x, &place.chunk(lengths), scratch) });
            }
            states
        };
        each_with(work, self.threads, Scratch::default, run).concat()
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16")]
    fn chunk_last(&self, x: &[f32], chunk: &Chunk, scratch: &mut Scratch) -> Vec<f32> {
        let mut x = x.to_vec();
        let Some((last, before)) = self.blocks.split_last() else { return Vec::new() };
        for (i, block) in before.iter().enumerate() {
            block.forward(&mut x, chunk, self.dropouts(None, i), scratch, false);
        }
        let mut states = Vec::new();
        norm(&last.last(&x, chunk, scratch), self.norm.weight, self.norm.bias, &mut states);
        states
    }

    /// The states of windows of `lengths` with dropout, in place of their embeddings [tokens, dim], and
    /// what the way back needs.
    pub fn forward(&self, x: &mut [f32], lengths: &[usize], seed: u64) -> Tape {
        let work = self.shares(places(lengths), x);
        let run = |scratch: &mut Scratch, (places, x): (Vec<Place>, &mut [f32])| -> Vec<KeptChunk> {
            let first = places.first().map_or(0, |place| place.tokens.start);
            let chunk = |place: Place| {
                let x = &mut x[(place.tokens.start - first) * self.dim()..(place.tokens.end - first) * self.dim()];
                // SAFETY: `new` has asserted that the processor has the instructions.
                unsafe { self.chunk(x, lengths, place, seed, scratch) }
            };
            places.into_iter().map(chunk).collect()
        };
        let chunks = each_with(work, self.threads, Scratch::default, run);
        Tape { seed, chunks: chunks.into_iter().flatten().collect() }
    }

    /// Chunks in runs, several for each thread, each with its part of a matrix [tokens, dim].
    fn shares<'m>(&self, places: Vec<Place>, mut matrix: &'m mut [f32]) -> Vec<(Vec<Place>, &'m mut [f32])> {
        let share = matrix.len().div_ceil(self.dim() * PARTS * self.threads).max(1);
        let mut shares: Vec<(Vec<Place>, &mut [f32])> = Vec::new();
        let mut places = places.into_iter().peekable();
        while let Some(first) = places.next() {
            let begin = first.tokens.start;
            let mut run = vec![first];
            while let Some(next) = places.next_if(|next| next.tokens.end - begin <= share) {
                run.push(next);
            }
            let end = run.last().map_or(begin, |place| place.tokens.end);
            let (part, rest) = matrix.split_at_mut((end - begin) * self.dim());
            matrix = rest;
            shares.push((run, part));
        }
        shares
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16")]
    fn chunk(&self, out: &mut [f32], lengths: &[usize], place: Place, seed: u64, scratch: &mut Scratch) -> KeptChunk {
        let chunk = place.chunk(lengths);
        let mut x = out.to_vec();
        self.input_dropout(seed).apply(self.dim() * chunk.first_token, &mut x);
        let mut blocks = Vec::new();
        for (i, block) in self.blocks.iter().enumerate() {
            blocks.extend(block.forward(&mut x, &chunk, self.dropouts(Some(seed), i), scratch, true));
        }
        let mut states = Vec::new();
        let moments = norm(&x, self.norm.weight, self.norm.bias, &mut states);
        out.copy_from_slice(&states);
        KeptChunk { place, blocks, last: x, moments }
    }

    fn input_dropout(&self, seed: u64) -> Dropout {
        if self.dropout > 0.0 { Dropout::new(self.dropout, seed, 0) } else { Dropout::none() }
    }

    fn dropouts(&self, seed: Option<u64>, block: usize) -> Dropouts {
        Dropouts { share: if seed.is_some() { self.dropout } else { 0.0 }, seed: seed.unwrap_or(0), block }
    }

    /// From the gradient of the states to that of everything.
    pub fn backward(&self, tape: Tape, lengths: &[usize], states: &[f32]) -> Gradients {
        let mut input = states.to_vec();
        let places = tape.chunks.iter().map(|chunk| chunk.place.clone()).collect();
        let mut chunks = tape.chunks.into_iter();
        let shares = self.shares(places, &mut input);
        let work: Vec<_> =
            shares.into_iter().map(|(run, part)| (chunks.by_ref().take(run.len()).collect(), part)).collect();
        let run = |scratch: &mut Scratch, (chunks, gradient): (Vec<KeptChunk>, &mut [f32])| {
            let mut gradients = self.zeros();
            let first = chunks.first().map_or(0, |chunk| chunk.place.tokens.start);
            for chunk in chunks {
                let tokens = chunk.place.tokens.start - first..chunk.place.tokens.end - first;
                let gradient = &mut gradient[tokens.start * self.dim()..tokens.end * self.dim()];
                // SAFETY: `new` has asserted that the processor has the instructions.
                unsafe { self.chunk_backward(&chunk, lengths, tape.seed, gradient, &mut gradients, scratch) };
            }
            gradients
        };
        let mut total = self.zeros();
        for gradients in each_with(work, self.threads, Scratch::default, run) {
            for (total, gradient) in total.iter_mut().flatten().zip(gradients.iter().flatten()) {
                total.weight.iter_mut().zip(&gradient.weight).for_each(|(sum, &x)| *sum += x);
                total.bias.iter_mut().zip(&gradient.bias).for_each(|(sum, &x)| *sum += x);
            }
        }
        let weights = total.into_iter().flatten().flat_map(|gradient| [gradient.weight, gradient.bias]).collect();
        Gradients { input, weights }
    }

    /// Of each block, and last of the normalisation.
    fn zeros(&self) -> Vec<Vec<Gradient>> {
        let norm = vec![Gradient::zeros(self.dim(), self.dim())];
        self.blocks.iter().map(Block::gradients).chain([norm]).collect()
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16")]
    fn chunk_backward(
        &self,
        kept: &KeptChunk,
        lengths: &[usize],
        seed: u64,
        gradient: &mut [f32],
        gradients: &mut [Vec<Gradient>],
        scratch: &mut Scratch,
    ) {
        let chunk = kept.place.chunk(lengths);
        let states = gradient.to_vec();
        gradient.fill(0.0);
        let [of_norm] = &mut gradients[self.blocks.len()][..] else { return };
        let into = (&mut of_norm.weight[..], &mut of_norm.bias[..]);
        norm_backward(&kept.last, &kept.moments, self.norm.weight, &states, gradient, into);
        for (i, block) in self.blocks.iter().enumerate().rev() {
            let dropouts = self.dropouts(Some(seed), i);
            block.backward(&kept.blocks[i], gradient, &chunk, dropouts, &mut gradients[i], scratch);
        }
        self.input_dropout(seed).apply(self.dim() * chunk.first_token, gradient);
    }
}

impl Place {
    fn chunk<'a>(&self, lengths: &'a [usize]) -> Chunk<'a> {
        Chunk { lengths: &lengths[self.windows.clone()], first_token: self.tokens.start, first_score: self.first_score }
    }
}

/// Cuts a batch into chunks of whole windows.
fn places(lengths: &[usize]) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    let mut next = Place { windows: 0..0, tokens: 0..0, first_score: 0 };
    let mut score = 0;
    for &n in lengths {
        if !next.windows.is_empty() && next.tokens.len() + n > CHUNK {
            let (window, token) = (next.windows.end, next.tokens.end);
            places.push(std::mem::replace(
                &mut next,
                Place { windows: window..window, tokens: token..token, first_score: score },
            ));
        }
        next.windows.end += 1;
        next.tokens.end += n;
        score += scores(n);
    }
    if !next.windows.is_empty() {
        places.push(next);
    }
    places
}
