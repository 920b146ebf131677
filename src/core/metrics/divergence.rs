//! How unlike two samples are.

/// The Jensen-Shannon divergence of the distributions of two samples (Lin 1991), in bits: from 0 where both have every
/// value as often, to 1 where they have none in common. NaN where one is empty.
///
/// `JS = 1/2 KL(p | m) + 1/2 KL(q | m)` with `m = (p + q) / 2`.
pub fn jensen_shannon(mut a: Vec<u64>, mut b: Vec<u64>) -> f64 {
    a.sort_unstable();
    b.sort_unstable();
    let (mut i, mut j, mut counts) = (0, 0, Vec::new());
    while i < a.len() || j < b.len() {
        let value = match (a.get(i), b.get(j)) {
            (Some(a), Some(b)) => *a.min(b),
            (one, other) => *one.or(other).unwrap_or(&0),
        };
        counts.push([run(&a, &mut i, value), run(&b, &mut j, value)]);
    }
    jensen_shannon_of_counts(&counts)
}

/// How often a value stands from `place` on; moves beyond it.
fn run(sorted: &[u64], place: &mut usize, value: u64) -> f64 {
    let count = sorted[*place..].iter().take_while(|&&other| other == value).count();
    *place += count;
    count as f64
}

/// The same of how often each value is in the two.
pub fn jensen_shannon_of_counts(counts: &[[f64; 2]]) -> f64 {
    let [a, b] = totals(counts);
    let of_value = |count: &[f64; 2]| {
        let (p, q) = (count[0] / a, count[1] / b);
        let part = |x: f64| if x > 0.0 { x * (2.0 * x / (p + q)).log2() } else { 0.0 };
        0.5 * (part(p) + part(q))
    };
    if a == 0.0 || b == 0.0 { f64::NAN } else { counts.iter().map(of_value).sum::<f64>().clamp(0.0, 1.0) }
}

/// The population stability index (Lewis 1994; Jeffreys' divergence of 1946), of how often each value is in the two: 0
/// where both have every value as often, without a limit. NaN where one is empty.
///
/// `PSI = Σ (p - q) ln(p / q)`. Shares are of counts that are half an occurrence larger, so that it is finite where a
/// value is in one of them alone.
pub fn population_stability(counts: &[[f64; 2]]) -> f64 {
    let [a, b] = totals(counts);
    let more = 0.5 * counts.len() as f64;
    let of_value = |count: &[f64; 2]| {
        let (p, q) = ((count[0] + 0.5) / (a + more), (count[1] + 0.5) / (b + more));
        (p - q) * (p / q).ln()
    };
    if a == 0.0 || b == 0.0 { f64::NAN } else { counts.iter().map(of_value).sum() }
}

fn totals(counts: &[[f64; 2]]) -> [f64; 2] {
    [0, 1].map(|i| counts.iter().map(|count| count[i]).sum())
}

/// The probability that a score of the first is above one of the second, where the same is worth a half: the area
/// under the curve of who tells them apart. NaN where one is empty.
pub fn area(first: &[f32], second: &[f32]) -> f64 {
    let both = first.iter().map(|&score| (score, true)).chain(second.iter().map(|&score| (score, false)));
    let mut scores: Vec<(f32, bool)> = both.collect();
    scores.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut wins) = (0.0, 0.0);
    for same in scores.chunk_by(|a, b| a.0 == b.0) {
        let of_first = same.iter().filter(|(_, first)| *first).count() as f64;
        let of_second = same.len() as f64 - of_first;
        wins += of_first * (below + of_second / 2.0);
        below += of_second;
    }
    wins / (first.len() * second.len()) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: p = (1/2, 1/2, 0), q = (1/2, 0, 1/2); m = (1/2, 1/4, 1/4): half of 1/2 log2 2 twice, 1/2 in all.
    #[test]
    fn divergence_by_hand() {
        assert!((jensen_shannon(vec![7, 1, 1, 7], vec![1, 9]) - 0.5).abs() < 1e-12);
        assert_eq!(jensen_shannon(vec![3, 2], vec![2, 3, 3, 2]), 0.0);
        assert_eq!(jensen_shannon(vec![1, 1], vec![2]), 1.0);
        assert!(jensen_shannon(Vec::new(), vec![2]).is_nan());
    }

    /// By hand: 4 and 1 of 5 against 2 and 3, each a half more: 3/4 and 1/4 against 5/12 and 7/12, a third apart:
    /// 1/3 ln 9/5 + 1/3 ln 7/3.
    #[test]
    fn stability_by_hand() {
        let by_hand = ((9.0f64 / 5.0).ln() + (7.0f64 / 3.0).ln()) / 3.0;
        assert!((population_stability(&[[4.0, 2.0], [1.0, 3.0]]) - by_hand).abs() < 1e-12);
        assert_eq!(population_stability(&[[4.0, 4.0], [1.0, 1.0]]), 0.0);
        assert!(population_stability(&[[9.0, 0.0], [0.0, 9.0]]) > 5.0);
        assert!(population_stability(&[[1.0, 0.0]]).is_nan());
    }

    /// By hand: 3 beats 1 and 2, 2 beats 1 and is level with 2.
    #[test]
    fn area_by_hand() {
        assert_eq!(area(&[3.0, 2.0], &[2.0, 1.0]), 3.5 / 4.0);
        assert_eq!(area(&[1.0], &[1.0]), 0.5);
        assert_eq!(area(&[1.0], &[2.0]), 0.0);
    }
}
