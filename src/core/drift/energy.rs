//! Whether two samples of vectors are of one distribution, by the distances between them.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Permutations, of which one in twenty is above the threshold.
const PERMUTATIONS: usize = 199;

/// What the distances say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Energy {
    /// From 0 where the distributions are the same to 1.
    pub coefficient: f64,
    /// Its 95 % quantile where vectors change samples at random.
    pub by_chance: f64,
}

/// The energy coefficient of two samples (Székely & Rizzo 2013), with its distribution under permutations by a seed.
///
/// `H = (2 E|x - y| - E|x - x'| - E|y - y'|) / 2 E|x - y|` for x of one sample and y of the other, over all pairs. Rows of
/// `vectors` are of `dim` numbers, the first `first` rows are the one sample. None where one is empty.
pub fn energy(vectors: &[f32], dim: usize, first: usize, seed: u64) -> Option<Energy> {
    let rows = vectors.len() / dim.max(1);
    if first == 0 || first >= rows {
        return None;
    }
    let distances = distances(vectors, dim);
    let mut order: Vec<usize> = (0..rows).collect();
    let coefficient = coefficient(&distances, &order, first);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut permuted: Vec<f64> = (0..PERMUTATIONS)
        .map(|_| {
            order.shuffle(&mut rng);
            self::coefficient(&distances, &order, first)
        })
        .collect();
    permuted.sort_unstable_by(f64::total_cmp);
    Some(Energy { coefficient, by_chance: permuted[(PERMUTATIONS + 1) * 95 / 100 - 1] })
}

/// Euclidean: [rows, rows], row-major
fn distances(vectors: &[f32], dim: usize) -> Vec<f32> {
    let rows: Vec<&[f32]> = vectors.chunks_exact(dim).collect();
    let distance = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt();
    rows.iter().flat_map(|a| rows.iter().map(|b| distance(a, b))).collect()
}

fn coefficient(distances: &[f32], order: &[usize], first: usize) -> f64 {
    let rows = order.len();
    let mut is_second = vec![0f32; rows];
    order[first..].iter().for_each(|&row| is_second[row] = 1.0);
    // Sums of distances from rows of one sample to those of the other and of their own.
    let (mut between, mut within) = (0.0, [0.0; 2]);
    for (row, own) in distances.chunks_exact(rows).zip(&is_second) {
        let to_second: f32 = row.iter().zip(&is_second).map(|(distance, second)| distance * second).sum();
        let to_all: f32 = row.iter().sum();
        let to_first = f64::from(to_all) - f64::from(to_second);
        match *own == 0.0 {
            true => {
                within[0] += to_first;
                between += f64::from(to_second);
            }
            false => within[1] += f64::from(to_second),
        }
    }
    let (n, m) = (first as f64, (rows - first) as f64);
    let apart = 2.0 * between / (n * m);
    match apart > 0.0 {
        true => ((apart - within[0] / (n * n) - within[1] / (m * m)) / apart).max(0.0),
        false => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    /// By hand: 0 and 2 against 3: distances between 3 and 1, within 2 twice of four pairs: (4 - 1 - 0) / 4.
    #[test]
    fn the_coefficient_by_hand() {
        let found = energy(&[0.0, 2.0, 3.0], 1, 2, 1).unwrap();
        assert!((found.coefficient - 0.75).abs() < 1e-6, "{found:?}");
        assert_eq!(energy(&[1.0, 1.0, 1.0, 1.0], 2, 1, 1).unwrap().coefficient, 0.0);
        assert_eq!(energy(&[1.0, 1.0], 2, 1, 1), None);
        assert_eq!(energy(&[1.0], 1, 0, 1), None);
    }

    fn cloud(rows: usize, dim: usize, center: f32, rng: &mut ChaCha8Rng) -> Vec<f32> {
        (0..rows * dim).map(|_| center + rng.random::<f32>()).collect()
    }

    #[test]
    fn the_same_distribution_is_beyond_chance_once_in_twenty_times() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let beyond = |_: &u64| {
            let found = energy(&cloud(60, 3, 0.0, &mut rng), 3, 30, 7).unwrap();
            found.coefficient > found.by_chance
        };
        let times = (0..200).filter(beyond).count();
        assert!((3..=20).contains(&times), "{times} of 200");
    }

    #[test]
    fn a_small_move_is_seen_with_enough_vectors() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let mut vectors = cloud(200, 4, 0.0, &mut rng);
        vectors.extend(cloud(200, 4, 0.2, &mut rng));
        let found = energy(&vectors, 4, 200, 7).unwrap();
        assert!(found.coefficient > 2.0 * found.by_chance, "{found:?}");
        assert_eq!(energy(&vectors, 4, 200, 7), Some(found), "the same seed says something else");
    }
}
