//! Dot products, and small symmetric systems as ridge regression makes them.

use std::iter::Sum;
use std::ops::{AddAssign, Mul};

/// Places of a dot product that are summed side by side.
const LANES: usize = 8;

/// Solves `a x = b` for a symmetric, positive definite `a`, by Cholesky's decomposition.
///
/// `a` has `b.len()` rows, row-major, of which the lower triangle is read and overwritten; `b`
/// becomes `x`. Pivots that rounding has taken to zero or below count as a tiny number, so that
/// with a penalty on the diagonal the result is always finite.
pub fn solve(a: &mut [f64], b: &mut [f64]) {
    let n = b.len();
    for i in 0..n {
        let (above, row) = a.split_at_mut(i * n);
        for j in 0..i {
            let other = &above[j * n..j * n + j + 1];
            row[j] = (row[j] - dot(&row[..j], &other[..j])) / other[j];
        }
        let pivot = row[i] - dot(&row[..i], &row[..i]);
        row[i] = pivot.max(f64::EPSILON).sqrt();
    }
    for i in 0..n {
        b[i] = (b[i] - dot(&a[i * n..i * n + i], &b[..i])) / a[i * n + i];
    }
    for i in (0..n).rev() {
        b[i] /= a[i * n + i];
        let (before, here) = b.split_at_mut(i);
        before.iter_mut().zip(&a[i * n..i * n + i]).for_each(|(b, a)| *b -= a * here[0]);
    }
}

/// The sum of products, in an order that does not depend on the machine.
pub fn dot<T: Copy + Default + Sum + AddAssign + Mul<Output = T>>(a: &[T], b: &[T]) -> T {
    let (left, right) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = left.remainder().iter().zip(right.remainder()).map(|(&a, &b)| a * b);
    let mut sums = [T::default(); LANES];
    for (sum, product) in sums.iter_mut().zip(rest) {
        *sum = product;
    }
    for (a, b) in left.zip(right) {
        (0..LANES).for_each(|lane| sums[lane] += a[lane] * b[lane]);
    }
    sums.into_iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solves_by_hand() {
        // [4 2; 2 3] [1 2] = [8 8]
        let (mut a, mut b) = ([4.0, 0.0, 2.0, 3.0], [8.0, 8.0]);
        solve(&mut a, &mut b);
        assert!((b[0] - 1.0).abs() < 1e-12 && (b[1] - 2.0).abs() < 1e-12);
    }

    #[test]
    fn solves_larger_systems() {
        const N: usize = 37;
        let entry = |i: usize, j: usize| (if i == j { N as f64 } else { 0.0 }) + ((i * j) % 5) as f64 / 5.0;
        let mut a: Vec<f64> = (0..N * N).map(|place| entry(place / N, place % N)).collect();
        let x: Vec<f64> = (0..N).map(|i| i as f64 - 9.0).collect();
        let mut b: Vec<f64> = (0..N).map(|i| (0..N).map(|j| entry(i, j) * x[j]).sum()).collect();
        solve(&mut a, &mut b);
        assert!(b.iter().zip(&x).all(|(b, x)| (b - x).abs() < 1e-9));
    }

    #[test]
    fn what_has_no_solution_stays_finite() {
        let (mut a, mut b) = ([1.0, 1.0, 1.0, 1.0], [1.0, 2.0]);
        solve(&mut a, &mut b);
        assert!(b.iter().all(|b| b.is_finite()));
    }
}
