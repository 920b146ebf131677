//! The sample that a sampled softmax ranks the target against.

use crate::error::Result;
use crate::inputs::integers;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Tensor};

/// Negatives shared by a batch, half of them drawn evenly over items, half by `count^0.75`
/// (Mikolov et al. 2013; the mixture after Yang et al. 2020, "Mixed Negative Sampling").
pub struct Negatives {
    /// Running sum of `count^0.75`.
    cumulative: Vec<f64>,
    number: usize,
    /// ln of how often each item is expected among the negatives, for the logQ correction. [items], f32
    pub log_expected: Tensor,
}

impl Negatives {
    pub fn new(counts: &[u64], number: usize, device: Device) -> Result<Self> {
        let weight = |&count: &u64| (count as f64).powf(0.75);
        let total: f64 = counts.iter().map(weight).sum::<f64>().max(f64::MIN_POSITIVE);
        let cumulative = counts
            .iter()
            .scan(0.0, |sum, count| {
                Some({
                    *sum += weight(count);
                    *sum
                })
            })
            .collect();
        let expected = |count| number as f64 * 0.5 * (1.0 / counts.len() as f64 + weight(count) / total);
        let log_expected: Vec<f32> = counts.iter().map(|count| expected(count).ln() as f32).collect();
        Ok(Negatives { cumulative, number, log_expected: Tensor::f_from_slice(&log_expected)?.f_to_device(device)? })
    }

    /// [number], i64
    pub fn draw(&self, rng: &mut ChaCha8Rng) -> Result<Tensor> {
        let items = self.cumulative.len();
        let total = self.cumulative.last().copied().unwrap_or(0.0);
        let mut drawn = Vec::with_capacity(self.number);
        for i in 0..self.number {
            let item = if i % 2 == 0 {
                rng.random_range(0..items)
            } else {
                let point = rng.random::<f64>() * total;
                self.cumulative.partition_point(|&sum| sum <= point).min(items - 1)
            };
            drawn.push(item as i64);
        }
        integers(&drawn, self.log_expected.device())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::floats;
    use rand::SeedableRng;

    #[test]
    fn negatives_come_as_often_as_expected() {
        let counts = [1, 16, 0, 81];
        let sample = Negatives::new(&counts, 40_000, Device::Cpu).unwrap();
        let drawn = Vec::<i64>::try_from(sample.draw(&mut ChaCha8Rng::seed_from_u64(1)).unwrap()).unwrap();
        for (item, log_expected) in floats(&sample.log_expected).unwrap().into_iter().enumerate() {
            let times = drawn.iter().filter(|&&x| x == item as i64).count() as f64;
            let expected = f64::from(log_expected).exp();
            assert!((times - expected).abs() < 5.0 * expected.sqrt(), "item {item}: {times} for {expected}");
        }
    }
}
