//! A step of AdamW in one pass over weight, gradient and moments, which libtorch makes in ten.

use persona_core::threads::each;

/// What is the same for every number of a step; see [`crate::optimizer`].
#[derive(Clone, Copy)]
pub struct Step {
    pub beta1: f32,
    pub beta2: f32,
    pub epsilon: f32,
    /// `rate / c1`, with c1 the first moment's bias correction.
    pub rate: f32,
    /// `1 / sqrt(c2)`, with c2 the second moment's.
    pub second: f32,
    /// `1 - rate * decay`
    pub keep: f32,
}

/// Numbers that are worth a thread.
const SHARE: usize = 1 << 16;

/// Moves the weights and zeroes the gradient. All four are of equal length.
pub fn step(
    step: Step,
    threads: usize,
    weight: &mut [f32],
    gradient: &mut [f32],
    first: &mut [f32],
    second: &mut [f32],
) {
    let part = weight.len().div_ceil(threads.max(1)).max(SHARE);
    let moments = first.chunks_mut(part).zip(second.chunks_mut(part));
    let parts = weight.chunks_mut(part).zip(gradient.chunks_mut(part)).zip(moments).collect();
    each(parts, threads, |((weight, gradient), (first, second))| update(step, weight, gradient, first, second));
}

fn update(step: Step, weight: &mut [f32], gradient: &mut [f32], first: &mut [f32], second: &mut [f32]) {
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has the instructions.
        return unsafe { wide(step, weight, gradient, first, second) };
    }
    plain(step, weight, gradient, first, second);
}

/// The same with vectors of 16.
#[target_feature(enable = "avx512f")]
fn wide(step: Step, weight: &mut [f32], gradient: &mut [f32], first: &mut [f32], second: &mut [f32]) {
    plain(step, weight, gradient, first, second);
}

#[inline(always)]
fn plain(step: Step, weight: &mut [f32], gradient: &mut [f32], first: &mut [f32], second: &mut [f32]) {
    for (((w, g), m), v) in weight.iter_mut().zip(gradient).zip(first).zip(second) {
        *m += (1.0 - step.beta1) * (*g - *m);
        *v += (1.0 - step.beta2) * (*g * *g - *v);
        *w = step.keep * *w - step.rate * *m / (v.sqrt() * step.second + step.epsilon);
        *g = 0.0;
    }
}
