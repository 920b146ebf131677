//! Pruning by magnitude: the numbers of matrices and tables that are nearest to zero become zero and stay so (Han et al.
//! 2015, "Learning both Weights and Connections for Efficient Neural Networks"). Biases, normalisations and what is
//! counted keep theirs: they are few, and each moves everything.

use crate::error::Result;
use crate::parameters::{Parameters, floats, is_matrix};
use persona_core::spec::Scope;
use tch::Tensor;

/// Which numbers of a network's matrices are kept.
pub struct Pruning {
    /// Each with a one where a number is kept, in its own shape.
    kept: Vec<(Tensor, Tensor)>,
}

fn matrices(parameters: &Parameters) -> impl Iterator<Item = &Tensor> {
    parameters.named().filter(|(name, weight)| is_matrix(name, weight)).map(|(_, weight)| weight)
}

impl Pruning {
    /// Lets a share of the numbers go, those of the least size; of equal ones the first.
    pub fn new(parameters: &Parameters, share: f64, scope: Scope) -> Result<Self> {
        let matrices: Vec<&Tensor> = matrices(parameters).collect();
        let sizes = matrices.iter().map(|weight| floats(weight)).collect::<Result<Vec<_>>>()?;
        let groups: Vec<Vec<f32>> = match scope {
            Scope::Global => vec![sizes.concat()],
            Scope::Matrix => sizes,
        };
        let kept: Vec<f32> = groups.iter().flat_map(|numbers| kept(numbers, share)).collect();
        let mut from = 0;
        let mask = |weight: &Tensor| {
            let own = &kept[from..from + weight.numel()];
            from += weight.numel();
            Ok((weight.shallow_clone(), Tensor::f_from_slice(own)?.f_view_as(weight)?.f_to_device(weight.device())?))
        };
        let kept = matrices.into_iter().map(mask).collect::<Result<_>>()?;
        let pruning = Pruning { kept };
        pruning.hold()?;
        Ok(pruning)
    }

    /// Makes zero again what has been moved.
    pub fn hold(&self) -> Result<()> {
        let _guard = tch::no_grad_guard();
        for (weight, kept) in &self.kept {
            let _ = weight.shallow_clone().f_mul_(kept)?;
        }
        Ok(())
    }
}

/// One for each number that is kept, zero for the others.
fn kept(numbers: &[f32], share: f64) -> Vec<f32> {
    let gone = (share * numbers.len() as f64).round() as usize;
    let mut order: Vec<usize> = (0..numbers.len()).collect();
    let mut kept = vec![1.0; numbers.len()];
    if gone > 0 {
        let size = |&i: &usize| numbers[i].abs();
        order.select_nth_unstable_by(gone - 1, |a, b| size(a).total_cmp(&size(b)).then(a.cmp(b)));
        order[..gone].iter().for_each(|&i| kept[i] = 0.0);
    }
    kept
}

/// The share of zeros among the numbers of matrices.
pub fn zeros(parameters: &Parameters) -> Result<f64> {
    let (mut zeros, mut all) = (0, 0);
    for weight in matrices(parameters) {
        zeros += floats(weight)?.iter().filter(|number| **number == 0.0).count();
        all += weight.numel();
    }
    Ok(zeros as f64 / all.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Compute;
    use crate::parameters::Start;

    fn parameters() -> Parameters {
        let mut parameters = Parameters::new(&Compute::plain());
        for (name, numbers) in [("a.weight", [1f32, -2.0, 3.0, -4.0]), ("b.weight", [0.1, 0.2, -0.3, 9.0])] {
            let weight = parameters.make(name, &[2, 2], Start::Constant(0.0)).unwrap();
            tch::no_grad(|| weight.shallow_clone().copy_(&Tensor::from_slice(&numbers).view([2, 2])));
        }
        drop(parameters.make("a.bias", &[1, 2], Start::Constant(0.01)).unwrap());
        parameters
    }

    fn numbers(parameters: &Parameters) -> Vec<Vec<f32>> {
        parameters.tensors().map(|weight| floats(weight).unwrap()).collect()
    }

    #[test]
    fn the_least_go_among_all_or_in_each_matrix_and_biases_stay() {
        let own = parameters();
        Pruning::new(&own, 0.5, Scope::Global).unwrap();
        assert_eq!(numbers(&own), [vec![0.0, -2.0, 3.0, -4.0], vec![0.0, 0.0, 0.0, 9.0], vec![0.01, 0.01]]);
        assert_eq!(zeros(&own).unwrap(), 0.5);
        let own = parameters();
        Pruning::new(&own, 0.5, Scope::Matrix).unwrap();
        assert_eq!(numbers(&own), [vec![0.0, 0.0, 3.0, -4.0], vec![0.0, 0.0, -0.3, 9.0], vec![0.01, 0.01]]);
    }

    #[test]
    fn what_is_zero_stays_so_and_equal_numbers_are_as_many_as_asked_for() {
        let own = parameters();
        let pruning = Pruning::new(&own, 0.25, Scope::Global).unwrap();
        tch::no_grad(|| own.tensors().for_each(|weight| drop(weight.shallow_clone().fill_(7.0))));
        pruning.hold().unwrap();
        assert_eq!(zeros(&own).unwrap(), 0.25);
        assert_eq!(kept(&[1.0; 5], 0.4), [0.0, 0.0, 1.0, 1.0, 1.0]);
    }
}
