//! A field of vectors as an input: every dimension standardised.

use crate::artifact::{Artifact, damaged};
use crate::error::Result;
use crate::events::{NULL, Vectors};

/// What is known of a field of vectors: of each dimension.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorScale {
    pub mean: Vec<f32>,
    /// 1 where numbers do not vary.
    pub std: Vec<f32>,
}

impl VectorScale {
    /// Fits the rows that `codes` name, each as often as it is named; `None` where there are none.
    pub fn fit(codes: impl Iterator<Item = u32>, rows: &Vectors) -> Option<Self> {
        let mut counts = vec![0u64; rows.len()];
        codes.filter(|&code| code != NULL).for_each(|code| counts[code as usize] += 1);
        let total = counts.iter().sum::<u64>() as f64;
        if total == 0.0 {
            return None;
        }
        let mean_of = |of: &dyn Fn(usize, f64) -> f64| -> Vec<f64> {
            let mut sums = vec![0.0; rows.dim()];
            for (row, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                let numbers = rows.get(row).iter().enumerate();
                numbers.for_each(|(i, &x)| sums[i] += count as f64 * of(i, f64::from(x)));
            }
            sums.iter().map(|sum| sum / total).collect()
        };
        let mean = mean_of(&|_, x| x);
        let variance = mean_of(&|i, x| (x - mean[i]).powi(2));
        let std = variance.iter().zip(&mean).map(|(variance, mean)| match variance.sqrt() {
            // What rounding leaves of numbers that are all the same.
            std if std <= 1e-6 * mean.abs().max(f64::MIN_POSITIVE) => 1.0,
            std => std as f32,
        });
        Some(VectorScale { std: std.collect(), mean: mean.iter().map(|&x| x as f32).collect() })
    }

    /// Standardises the rows where they are.
    pub fn apply(&self, rows: &mut Vectors) {
        for row in rows.rows_mut() {
            row.iter_mut().zip(&self.mean).zip(&self.std).for_each(|((x, mean), std)| *x = (*x - mean) / std);
        }
    }

    pub fn write(&self, artifact: &mut Artifact, name: &str) {
        artifact.put_f32(&format!("{name}.mean"), &[self.mean.len()], &self.mean);
        artifact.put_f32(&format!("{name}.std"), &[self.std.len()], &self.std);
    }

    pub fn read(artifact: &Artifact, name: &str) -> Result<Self> {
        let (mean, std) = (artifact.get_f32(&format!("{name}.mean"))?, artifact.get_f32(&format!("{name}.std"))?);
        match mean.len() == std.len() {
            true => Ok(VectorScale { mean, std }),
            false => Err(damaged(format!("\"{name}\" has {} means and {} deviations.", mean.len(), std.len()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dimensions_are_standardised_by_how_often_rows_are_met() {
        let mut rows = Vectors::new(2);
        rows.push(&[1.0, 5.0]);
        rows.push(&[5.0, 5.0]);
        rows.push(&[99.0, 99.0]);
        // 1, 1, 1 and 5: mean 2, deviation the root of 3.
        let scale = VectorScale::fit([0, NULL, 0, 1, 0].into_iter(), &rows).unwrap();
        assert_eq!(scale, VectorScale { mean: vec![2.0, 5.0], std: vec![3f32.sqrt(), 1.0] });
        scale.apply(&mut rows);
        assert_eq!(rows.get(0), [-1.0 / 3f32.sqrt(), 0.0]);
        assert!(VectorScale::fit([NULL].into_iter(), &rows).is_none());
        let mut artifact = Artifact::new();
        scale.write(&mut artifact, "field.0");
        assert_eq!(VectorScale::read(&artifact, "field.0").unwrap(), scale);
    }
}
