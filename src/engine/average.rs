//! A running mean of the weights (Polyak & Juditsky 1992; Izmailov et al. 2018): it stands where
//! training would settle if the steps were smaller, and generalises better than any one step.

use crate::error::Result;
use crate::parameters::Parameters;
use tch::{Kind, Tensor};

/// `mean += (1 - decay) * (weight - mean)` after every step, on the weights' device. With a decay of 0 it is the
/// weights themselves, and nothing is done.
pub struct Average {
    decay: f64,
    steps: usize,
    means: Vec<Tensor>,
}

impl Average {
    pub fn new(parameters: &Parameters, decay: f64) -> Result<Self> {
        let copy = |weight: &Tensor| Ok(weight.f_detach()?.f_to_dtype(Kind::Float, false, true)?);
        let means = parameters.tensors().filter(|_| decay > 0.0).map(copy).collect::<Result<_>>()?;
        Ok(Average { decay, steps: 0, means })
    }

    /// The first weights are noise: the decay begins at 2/11 and is `(1 + steps) / (10 + steps)` until it is the given.
    pub fn update(&mut self, parameters: &Parameters) -> Result<()> {
        let _guard = tch::no_grad_guard();
        self.steps += 1;
        let decay = self.decay.min((1.0 + self.steps as f64) / (10.0 + self.steps as f64));
        for (mean, weight) in self.means.iter_mut().zip(parameters.tensors()) {
            let _ = mean.f_lerp_(&weight.f_detach()?, 1.0 - decay)?;
        }
        Ok(())
    }

    /// Weights and means change places: before an epoch is judged, and after.
    pub fn swap(&mut self, parameters: &Parameters) -> Result<()> {
        let _guard = tch::no_grad_guard();
        for (mean, weight) in self.means.iter_mut().zip(parameters.tensors()) {
            let mut weight = weight.f_detach()?;
            let kept = weight.f_to_dtype(Kind::Float, false, true)?;
            weight.f_copy_(mean)?;
            *mean = kept;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Compute;
    use crate::parameters::{Start, floats};

    /// By hand, from 1: the decays are 2/11 and 1/4, so 1 + 9/11 * 11 = 10, then 10 + 3/4 * 20 = 25.
    #[test]
    fn a_mean_follows_the_weights_and_changes_places_with_them() {
        let mut parameters = Parameters::new(&Compute::plain());
        let mut weight = parameters.make("w", &[1], Start::Constant(1.0)).unwrap().detach();
        let mut average = Average::new(&parameters, 0.25).unwrap();
        for value in [12.0, 30.0] {
            let _ = weight.fill_(value);
            average.update(&parameters).unwrap();
        }
        average.swap(&parameters).unwrap();
        assert!((floats(&weight).unwrap()[0] - 25.0).abs() < 1e-4);
        average.swap(&parameters).unwrap();
        assert_eq!(floats(&weight).unwrap(), [30.0]);
        let mut none = Average::new(&parameters, 0.0).unwrap();
        none.update(&parameters).unwrap();
        none.swap(&parameters).unwrap();
        assert_eq!(floats(&weight).unwrap(), [30.0]);
    }
}
