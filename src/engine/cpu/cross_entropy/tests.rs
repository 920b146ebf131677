use super::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Everything in f64, one position after the other.
fn plain(p: &Problem) -> Solution {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    let (positions, count) = (p.targets.len(), p.ids.len());
    let mut solution = Solution { loss: 0.0, states: vec![], candidates: vec![0.0; count * p.dim], pulls: vec![] };
    let mut candidates = vec![0f64; count * p.dim];
    for i in 0..positions {
        let (state, own) = (&p.states[i * p.dim..][..p.dim], &p.own[i * p.dim..][..p.dim]);
        let own_logit = dot(state, own) + f64::from(p.own_bias[i]);
        let logit = |j: usize| dot(state, &p.candidates[j * p.dim..][..p.dim]) + f64::from(p.bias[j]);
        let others: Vec<usize> = (0..count).filter(|&j| p.ids[j] != p.targets[i]).collect();
        let largest = others.iter().map(|&j| logit(j)).fold(own_logit, f64::max);
        let sum: f64 = others.iter().map(|&j| (logit(j) - largest).exp()).sum::<f64>() + (own_logit - largest).exp();
        solution.loss += sum.ln() + largest - own_logit;
        let pull = (own_logit - largest).exp() / sum - 1.0;
        let mut gradient: Vec<f64> = own.iter().map(|&x| f64::from(x) * pull).collect();
        for &j in &others {
            let probability = (logit(j) - largest).exp() / sum;
            for d in 0..p.dim {
                gradient[d] += probability * f64::from(p.candidates[j * p.dim + d]);
                candidates[j * p.dim + d] += probability * f64::from(state[d]);
            }
        }
        solution.states.extend(gradient.iter().map(|&x| x as f32));
        solution.pulls.push(pull as f32);
    }
    solution.candidates = candidates.iter().map(|&x| x as f32).collect();
    solution
}

/// The largest difference relative to the largest number.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let largest = b.iter().fold(0f32, |most, x| most.max(x.abs()));
    a.iter().zip(b).fold(0f32, |most, (a, b)| most.max((a - b).abs())) / largest
}

fn check(positions: usize, count: usize, dim: usize, scale: f32, threads: usize) {
    if !is_available() {
        println!("not run: this processor lacks AVX512-BF16");
        return;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    // Numbers that bf16 holds exactly, so that what differs is the rounding of exponentials alone.
    let mut numbers = |n: usize, scale: f32| -> Vec<f32> {
        (0..n).map(|_| bf16::from_f32(scale * (2.0 * rng.random::<f32>() - 1.0)).to_f32()).collect()
    };
    let (states, candidates) = (numbers(positions * dim, scale), numbers(count * dim, 1.0));
    let (bias, own_bias) = (numbers(count, 1.0), numbers(positions, 1.0));
    let ids: Vec<i64> = (0..count as i64).collect();
    let targets: Vec<i64> = (0..positions).map(|i| (i * 7 % (count + 3)) as i64).collect();
    let own = numbers(positions * dim, 1.0);
    let problem = Problem {
        dim,
        states: &states,
        candidates: &candidates,
        ids: &ids,
        bias: &bias,
        own: &own,
        own_bias: &own_bias,
        targets: &targets,
    };
    let (fast, slow) = (solve(&problem, 1.0, threads), plain(&problem));
    let case = format!("{positions} positions, {count} candidates, {dim} dimensions, {threads} threads");
    assert!((fast.loss - slow.loss).abs() <= 1e-5 * slow.loss + 1e-6, "{case}: {} for {}", fast.loss, slow.loss);
    for (name, fast, slow) in [
        ("states", &fast.states, &slow.states),
        ("candidates", &fast.candidates, &slow.candidates),
        ("pulls", &fast.pulls, &slow.pulls),
    ] {
        let difference = difference(fast, slow);
        assert!(difference < 0.01, "{case}: {name} differ by {difference}");
    }
}

#[test]
fn one_pass_gives_the_plain_loss_and_gradients() {
    for (positions, count, dim) in [(1, 2, 64), (7, 63, 64), (300, 1000, 64), (13, 200, 8), (20, 130, 100)] {
        for threads in [1, 2, 3] {
            check(positions, count, dim, 1.0, threads);
        }
    }
}

#[test]
fn logits_far_above_the_target_do_not_overflow() {
    check(9, 70, 64, 40.0, 1);
}
