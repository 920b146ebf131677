//! A transformer without a way back, in single precision, on a processor with AVX2.
//!
//! The order of steps is that of [`super::Encoder`]; causal or not, as a window's other end needs no more than a larger
//! product. Each token's numbers are computed in one order whatever stands beside it: a window's states are the same to the
//! last bit whatever the batch.

use super::{Place, Weights, places};
use crate::cpu::functions::{add_times, dot, gelu, norm, softmax};
use crate::cpu::product::{self, LANES, Linear, Onto, PANEL, Product, ROWS, Right, Rows, place_in_panels};
use persona_core::threads::each_with;
use std::ops::Range;

/// Tokens that go through layers together: what is as wide as a feed-forward layer stays in the first-level cache.
const TILE: usize = 2 * ROWS;

/// Whether a model of this shape can be computed here.
pub fn fits(dim: usize, heads: usize) -> bool {
    product::is_available() && heads > 0 && dim.is_multiple_of(heads) && (dim / heads).is_multiple_of(LANES)
}

/// What is known of events before the first block.
pub enum Events<'a> {
    /// A vector of each: [tokens, dim]
    Vectors(&'a [f32]),
    /// Tables [codes, dim] whose rows are summed, each with a row's number for every event: [tokens]
    Codes(Vec<(&'a [f32], &'a [i64])>),
}

/// The blocks and the normalisation after them, ready for products.
pub struct Inference<'a> {
    /// [length, dim], by distance from a window's end
    positions: &'a [f32],
    blocks: Vec<Block<'a>>,
    norm: Weights<'a>,
    causal: bool,
    threads: usize,
}

struct Block<'a> {
    attention_norm: Weights<'a>,
    qkv: Linear<'a>,
    /// The layer of keys as it is: [dim, dim]
    keys: &'a [f32],
    output: Linear<'a>,
    feed_forward_norm: Weights<'a>,
    expand: Linear<'a>,
    contract: Linear<'a>,
    heads: usize,
}

/// Room that is used again and again.
#[derive(Default)]
struct Scratch {
    x: Vec<f32>,
    normal: Vec<f32>,
    qkv: Vec<f32>,
    mixed: Vec<f32>,
    wide: Vec<f32>,
    /// A head's keys [width, events], in panels.
    keys: Vec<f32>,
    scores: Vec<f32>,
    last: Last,
}

/// Of the newest events of a chunk's windows. Each [windows, dim]
#[derive(Default)]
struct Last {
    x: Vec<f32>,
    normal: Vec<f32>,
    queries: Vec<f32>,
    /// What a head looks for in normalised events, and then the mix of these that it finds.
    looks: Vec<f32>,
    mixed: Vec<f32>,
}

impl<'a> Inference<'a> {
    /// `blocks` and `norm` as in [`super::Encoder::new`]; the shape must fit ([`fits`]).
    pub fn new(
        positions: &'a [f32],
        blocks: &[[Weights<'a>; 6]],
        norm: Weights<'a>,
        heads: usize,
        causal: bool,
        threads: usize,
    ) -> Self {
        let dim = norm.weight.len();
        assert!(fits(dim, heads), "no transformer for this processor");
        let layer = |w: Weights<'a>| Linear::new(w.weight, w.bias);
        let block = |&[attention_norm, qkv, output, feed_forward_norm, expand, contract]: &[Weights<'a>; 6]| Block {
            attention_norm,
            qkv: layer(qkv),
            keys: &qkv.weight[dim * dim..2 * dim * dim],
            output: layer(output),
            feed_forward_norm,
            expand: layer(expand),
            contract: layer(contract),
            heads,
        };
        Inference { positions, blocks: blocks.iter().map(block).collect(), norm, causal, threads: threads.max(1) }
    }

    /// The states after all events of windows of `lengths`: [tokens, dim]
    pub fn states(&self, events: &Events, lengths: &[usize]) -> Vec<f32> {
        self.each_chunk(lengths, |place, scratch| {
            // SAFETY: `new` has asserted that the processor has the instructions.
            unsafe { self.chunk(events, &place, &lengths[place.windows.clone()], scratch) }
        })
    }

    /// The states after each window's last event alone: [windows, dim]
    pub fn last(&self, events: &Events, lengths: &[usize]) -> Vec<f32> {
        self.each_chunk(lengths, |place, scratch| {
            // SAFETY: `new` has asserted that the processor has the instructions.
            unsafe { self.chunk_last(events, &place, &lengths[place.windows.clone()], scratch) }
        })
    }

    fn each_chunk(&self, lengths: &[usize], run: impl Fn(Place, &mut Scratch) -> Vec<f32> + Sync) -> Vec<f32> {
        each_with(places(lengths), self.threads, Scratch::default, |scratch, place| run(place, scratch)).concat()
    }

    fn dim(&self) -> usize {
        self.norm.weight.len()
    }

    #[target_feature(enable = "avx2,fma")]
    fn chunk(&self, events: &Events, place: &Place, lengths: &[usize], scratch: &mut Scratch) -> Vec<f32> {
        let mut x = vec![0.0; place.tokens.len() * self.dim()];
        self.embed(events, place, lengths, &mut x);
        self.blocks.iter().for_each(|block| block.forward(&mut x, lengths, self.causal, scratch));
        let mut states = vec![0.0; x.len()];
        norms(&x, self.norm, &mut states);
        states
    }

    #[target_feature(enable = "avx2,fma")]
    fn chunk_last(&self, events: &Events, place: &Place, lengths: &[usize], scratch: &mut Scratch) -> Vec<f32> {
        let Some((last, before)) = self.blocks.split_last() else { return Vec::new() };
        let mut room_for_x = std::mem::take(&mut scratch.x);
        let x = room(&mut room_for_x, place.tokens.len() * self.dim());
        self.embed(events, place, lengths, x);
        before.iter().for_each(|block| block.forward(x, lengths, self.causal, scratch));
        let mut states = vec![0.0; lengths.len() * self.dim()];
        norms(last.last(x, lengths, scratch), self.norm, &mut states);
        scratch.x = room_for_x;
        states
    }

    /// What the first block reads of a chunk: [tokens, dim]
    #[target_feature(enable = "avx2,fma")]
    fn embed(&self, events: &Events, place: &Place, lengths: &[usize], x: &mut [f32]) {
        let dim = self.dim();
        match events {
            Events::Vectors(vectors) => x.copy_from_slice(&vectors[place.tokens.start * dim..place.tokens.end * dim]),
            Events::Codes(tables) => {
                x.fill(0.0);
                for (table, codes) in tables {
                    for (x, &code) in x.chunks_exact_mut(dim).zip(&codes[place.tokens.clone()]) {
                        add(&table[code as usize * dim..][..dim], x);
                    }
                }
            }
        }
        let from_end = lengths.iter().flat_map(|&n| (0..n).rev());
        for (x, place) in x.chunks_exact_mut(dim).zip(from_end) {
            add(&self.positions[place * dim..][..dim], x);
        }
    }
}

impl Block<'_> {
    fn dim(&self) -> usize {
        self.attention_norm.weight.len()
    }

    /// The columns of each head among the queries.
    fn heads(&self) -> impl Iterator<Item = Range<usize>> {
        let width = self.dim() / self.heads;
        (0..self.heads).map(move |head| head * width..(head + 1) * width)
    }

    /// [tokens, dim] in place.
    #[target_feature(enable = "avx2,fma")]
    fn forward(&self, x: &mut [f32], lengths: &[usize], causal: bool, scratch: &mut Scratch) {
        let dim = self.dim();
        let (qkv, mixed) = (room(&mut scratch.qkv, 3 * x.len()), room(&mut scratch.mixed, x.len()));
        let normal = room(&mut scratch.normal, TILE * dim);
        for (x, qkv) in x.chunks(TILE * dim).zip(qkv.chunks_mut(TILE * 3 * dim)) {
            let normal = &mut normal[..x.len()];
            norms(x, self.attention_norm, normal);
            self.qkv.forward(normal, qkv);
        }
        let mut from = 0;
        for &n in lengths {
            let (qkv, mixed) = (&qkv[3 * dim * from..3 * dim * (from + n)], &mut mixed[dim * from..dim * (from + n)]);
            for head in self.heads() {
                self.attend(head, qkv, causal, mixed, &mut scratch.keys, &mut scratch.scores);
            }
            from += n;
        }
        self.finish(x, mixed, normal, &mut scratch.wide);
    }

    /// A head's columns of the mixes of a window's values. The queries go some at a time, so that a causal one's scores are
    /// hardly more than those that it may see.
    #[target_feature(enable = "avx2,fma")]
    fn attend(
        &self,
        head: Range<usize>,
        qkv: &[f32],
        causal: bool,
        mixed: &mut [f32],
        keys: &mut Vec<f32>,
        scores: &mut Vec<f32>,
    ) {
        let (dim, width, stride) = (self.dim(), head.len(), 3 * self.dim());
        let n = qkv.len() / stride;
        let padded = n.next_multiple_of(PANEL);
        let (keys, scores) = (room(keys, width * padded), room(scores, ROWS * padded));
        for (event, row) in qkv.chunks_exact(stride).enumerate() {
            let places = keys[place_in_panels(width, 0, event)..].iter_mut().step_by(PANEL);
            places.zip(&row[dim + head.start..dim + head.end]).for_each(|(place, &x)| *place = x);
        }
        for from in (0..n).step_by(ROWS) {
            let to = (from + ROWS).min(n);
            let seen = if causal { to } else { n };
            let columns = seen.next_multiple_of(LANES);
            let of_queries = Product {
                left: Rows { numbers: &qkv[from * stride + head.start..], stride },
                right: Right::panels(keys, width),
                rows: to - from,
                inner: width,
                columns,
                onto: Onto::Nothing,
            };
            of_queries.run(scores, padded);
            let mut shares = [0f32; ROWS];
            for ((scores, share), query) in scores.chunks_exact_mut(padded).zip(&mut shares).zip(from..to) {
                let valid = if causal { query + 1 } else { n };
                *share = softmax(&mut scores[..columns], valid, (width as f32).sqrt().recip());
            }
            let of_values = Product {
                left: Rows { numbers: scores, stride: padded },
                right: Right::rows(&qkv[2 * dim + head.start..], stride),
                rows: to - from,
                inner: seen,
                columns: width,
                onto: Onto::Nothing,
            };
            let mixed = &mut mixed[from * dim + head.start..];
            of_values.run(mixed, dim);
            for (mixed, &share) in mixed.chunks_mut(dim).zip(&shares).take(to - from) {
                mixed[..width].iter_mut().for_each(|x| *x *= share);
            }
        }
    }

    /// Adds the branches of attention, whose mixes of values these are, and of the feed-forward layer.
    #[target_feature(enable = "avx2,fma")]
    fn finish(&self, x: &mut [f32], mixed: &[f32], normal: &mut [f32], wide: &mut Vec<f32>) {
        let (dim, outputs) = (self.dim(), self.expand.outputs());
        let wide = room(wide, TILE * outputs);
        for (x, mixed) in x.chunks_mut(TILE * dim).zip(mixed.chunks(TILE * dim)) {
            self.output.add(mixed, x);
            let normal = &mut normal[..x.len()];
            norms(x, self.feed_forward_norm, normal);
            let wide = &mut wide[..x.len() / dim * outputs];
            self.expand.forward(normal, wide);
            wide.iter_mut().for_each(|x| *x = gelu(*x));
            self.contract.add(wide, x);
        }
    }

    /// The result for each window's last token alone: [tokens, dim] -> [windows, dim].
    ///
    /// No token's key or value is formed: a query's product with a key is that of what the layer of keys, turned round, makes of
    /// the query with the normalised token, but for what is the same for all of them; and a mix of values is the value of
    /// the mixed tokens.
    #[target_feature(enable = "avx2,fma")]
    fn last<'s>(&self, x: &[f32], lengths: &[usize], scratch: &'s mut Scratch) -> &'s [f32] {
        let (dim, windows) = (self.dim(), lengths.len());
        let normal = room(&mut scratch.normal, x.len().max(TILE * dim));
        norms(x, self.attention_norm, &mut normal[..x.len()]);
        let Last { x: newest, normal: normal_newest, queries, looks, mixed } = &mut scratch.last;
        let [newest, normal_newest, queries, looks, mixed] =
            [newest, normal_newest, queries, looks, mixed].map(|numbers| room(numbers, windows * dim));
        gather_last(x, dim, lengths, newest);
        gather_last(normal, dim, lengths, normal_newest);
        self.qkv.part(0..dim, normal_newest, queries, dim);
        for head in self.heads() {
            let width = head.len();
            let looking = Product {
                left: Rows { numbers: &queries[head.start..], stride: dim },
                right: Right::rows(&self.keys[head.start * dim..], dim),
                rows: windows,
                inner: width,
                columns: dim,
                onto: Onto::Nothing,
            };
            looking.run(looks, dim);
            let mut from = 0;
            for (look, &n) in looks.chunks_exact_mut(dim).zip(lengths) {
                let events = &normal[from * dim..(from + n) * dim];
                let scores = room(&mut scratch.scores, n.next_multiple_of(LANES));
                scores.iter_mut().zip(events.chunks_exact(dim)).for_each(|(score, event)| *score = dot(look, event));
                let share = softmax(scores, n, (width as f32).sqrt().recip());
                look.fill(0.0);
                events.chunks_exact(dim).zip(&*scores).for_each(|(event, &score)| add_times(score, event, look));
                look.iter_mut().for_each(|x| *x *= share);
                from += n;
            }
            self.qkv.part(2 * dim + head.start..2 * dim + head.end, looks, &mut mixed[head.start..], dim);
        }
        self.finish(newest, mixed, normal, &mut scratch.wide);
        newest
    }
}

/// `to += x`
#[inline]
#[target_feature(enable = "avx2,fma")]
fn add(x: &[f32], to: &mut [f32]) {
    to.iter_mut().zip(x).for_each(|(to, &x)| *to += x);
}

/// Normalises rows.
#[target_feature(enable = "avx2,fma")]
fn norms(x: &[f32], Weights { weight, bias }: Weights, out: &mut [f32]) {
    let dim = weight.len();
    x.chunks_exact(dim).zip(out.chunks_exact_mut(dim)).for_each(|(x, out)| norm(x, weight, bias, out));
}

/// Each window's last row.
fn gather_last(rows: &[f32], dim: usize, lengths: &[usize], out: &mut [f32]) {
    let mut end = 0;
    for (&n, out) in lengths.iter().zip(out.chunks_exact_mut(dim)) {
        end += n * dim;
        out.copy_from_slice(&rows[end - dim..end]);
    }
}

/// So many numbers, whatever they are.
fn room(numbers: &mut Vec<f32>, count: usize) -> &mut [f32] {
    if numbers.len() < count {
        numbers.resize(count, 0.0);
    }
    &mut numbers[..count]
}
