//! Figures of sums, with intervals by the delete-a-group jackknife (Kott 2001).
//!
//! Every figure is one of sums over examples. An entity's examples are all of one group, so that what they have in common
//! does not make the interval narrower.

/// Groups of entities that are left out in turn.
pub const GROUPS: usize = 20;

/// Student's 97.5 % quantile for 19 degrees of freedom.
const QUANTILE: f64 = 2.093;

/// A value with its 95 % interval, where it has one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    pub value: f64,
    pub bounds: Option<(f64, f64)>,
}

/// Sums of each group: [GROUPS, width], row-major
#[derive(Clone, Debug)]
pub struct Grouped {
    width: usize,
    sums: Vec<f64>,
}

impl Grouped {
    pub fn new(width: usize) -> Self {
        Grouped { width, sums: vec![0.0; GROUPS * width] }
    }

    pub fn add(&mut self, group: u8, place: usize, value: f64) {
        self.sums[usize::from(group) * self.width + place] += value;
    }

    /// A figure of all sums; its interval from what it is without each group.
    pub fn figure(&self, of: impl Fn(&[f64]) -> f64) -> Figure {
        let mut total = vec![0.0; self.width];
        for group in self.sums.chunks_exact(self.width) {
            total.iter_mut().zip(group).for_each(|(total, sum)| *total += sum);
        }
        let without = |group: &[f64]| total.iter().zip(group).map(|(total, sum)| total - sum).collect::<Vec<f64>>();
        let groups = self.sums.chunks_exact(self.width).filter(|group| group.iter().any(|&sum| sum != 0.0));
        jackknife(of(&total), &groups.map(|group| of(&without(group))).collect::<Vec<f64>>())
    }
}

/// `variance = (g - 1) / g * sum (figure_i - mean)^2` over the figures without each of `g` groups.
pub fn jackknife(value: f64, without: &[f64]) -> Figure {
    let groups = without.len() as f64;
    let mean = without.iter().sum::<f64>() / groups;
    let spread: f64 = without.iter().map(|figure| (figure - mean).powi(2)).sum();
    let width = QUANTILE * ((groups - 1.0) / groups * spread).sqrt();
    let bounds = (without.len() > 1 && width.is_finite()).then_some((value - width, value + width));
    Figure { value, bounds }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_a_mean_is_the_usual_one() {
        // One number a group: the jackknife's variance of a mean is the sample variance over n.
        let numbers: Vec<f64> = (0..GROUPS).map(|i| (i * i % 7) as f64).collect();
        let mut grouped = Grouped::new(2);
        for (group, &number) in numbers.iter().enumerate() {
            grouped.add(group as u8, 0, 1.0);
            grouped.add(group as u8, 1, number);
        }
        let figure = grouped.figure(|sums| sums[1] / sums[0]);
        let n = GROUPS as f64;
        let mean = numbers.iter().sum::<f64>() / n;
        let variance = numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let width = QUANTILE * (variance / n).sqrt();
        let (low, high) = figure.bounds.unwrap();
        assert!((figure.value - mean).abs() < 1e-12);
        assert!((low - (mean - width)).abs() < 1e-9 && (high - (mean + width)).abs() < 1e-9);
    }

    #[test]
    fn one_group_has_no_interval() {
        let mut grouped = Grouped::new(1);
        grouped.add(3, 0, 2.0);
        assert_eq!(grouped.figure(|sums| sums[0]), Figure { value: 2.0, bounds: None });
    }
}
