//! AdamW (Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization") on a schedule, and with L1.

use crate::cpu::{self, adamw};
use crate::device;
use crate::error::Result;
use crate::parameters::{Parameters, gradient as gradient_of};
use crate::schedule::Schedule;
use persona_core::spec::Training;
use tch::{Device, Kind, Tensor};

const BETA1: f64 = 0.9;
/// Lower than the usual .999: the second moments of rare items' rows follow sooner.
const BETA2: f64 = 0.98;
const EPSILON: f64 = 1e-8;

/// First and second moments of one weight, each in the weight's shape.
struct Moments {
    weight: Tensor,
    first: Tensor,
    second: Tensor,
    /// Of the learning rate.
    share: f64,
}

pub struct AdamW {
    moments: Vec<Moments>,
    learning_rate: f64,
    weight_decay: f64,
    l1: f64,
    schedule: Schedule,
    steps: usize,
}

impl AdamW {
    /// `steps`: as many as training will take at most.
    pub fn new(parameters: &Parameters, training: &Training, steps: usize) -> Result<Self> {
        let zeros = |weight: &Tensor| weight.f_detach()?.f_zeros_like();
        let moments = |weight: &Tensor| {
            Ok(Moments { weight: weight.shallow_clone(), first: zeros(weight)?, second: zeros(weight)?, share: 1.0 })
        };
        Ok(AdamW {
            moments: parameters.trained().map(|(_, weight)| moments(weight)).collect::<Result<_>>()?,
            learning_rate: training.learning_rate,
            weight_decay: training.weight_decay,
            l1: training.l1,
            schedule: Schedule::new(training.schedule, training.warmup, steps),
            steps: 0,
        })
    }

    /// Lets each weight learn at a share of the rate. `shares`: one for each that is trained, in order.
    pub fn with_shares(mut self, shares: impl Iterator<Item = f64>) -> Self {
        self.moments.iter_mut().zip(shares).for_each(|(moments, share)| moments.share = share);
        self
    }

    /// Moves every weight that has a gradient, and clears the gradients.
    pub fn step(&mut self) -> Result<()> {
        let _guard = tch::no_grad_guard();
        self.steps += 1;
        let rate = self.learning_rate * self.schedule.next();
        let (correct1, correct2) = (1.0 - BETA1.powf(self.steps as f64), 1.0 - BETA2.powf(self.steps as f64));
        for moments in &mut self.moments {
            let rate = rate * moments.share;
            let gradient = moments.weight.f_grad()?;
            if !gradient.defined() {
                continue;
            }
            match moments.weight.device() {
                Device::Cpu if gradient.is_contiguous() => {
                    moments.update_in_one_pass(gradient, rate, self.weight_decay, correct1, correct2)?;
                }
                _ => moments.update(gradient, rate, self.weight_decay, correct1, correct2)?,
            }
            if self.l1 > 0.0 {
                moments.shrink(rate * self.l1)?;
            }
        }
        Ok(())
    }

    /// Takes note of whether an epoch's validation metric is the best so far.
    pub fn observe(&mut self, better: bool) {
        self.schedule.observe(better);
    }
}

impl Moments {
    /// The same as `update` by the processor's own code.
    fn update_in_one_pass(
        &mut self,
        mut gradient: Tensor,
        rate: f64,
        decay: f64,
        correct1: f64,
        correct2: f64,
    ) -> Result<()> {
        let step = adamw::Step {
            beta1: BETA1 as f32,
            beta2: BETA2 as f32,
            epsilon: EPSILON as f32,
            rate: (rate / correct1) as f32,
            second: correct2.sqrt().recip() as f32,
            keep: (1.0 - rate * decay) as f32,
        };
        adamw::step(
            step,
            device::threads(),
            cpu::floats_mut(&mut self.weight)?,
            cpu::floats_mut(&mut gradient)?,
            cpu::floats_mut(&mut self.first)?,
            cpu::floats_mut(&mut self.second)?,
        );
        Ok(())
    }

    /// `w -= rate * (m / c1) / (sqrt(v / c2) + epsilon)`, after `w *= 1 - rate * decay`.
    fn update(&mut self, mut gradient: Tensor, rate: f64, decay: f64, correct1: f64, correct2: f64) -> Result<()> {
        let _ = self.first.f_lerp_(&gradient, 1.0 - BETA1)?;
        let _ = self.second.f_lerp_(&gradient.f_square()?, 1.0 - BETA2)?;
        let mut divisor = self.second.f_sqrt()?.f_mul_scalar_(correct2.sqrt().recip())?.f_add_scalar_(EPSILON)?;
        let _ = divisor.f_reciprocal_()?.f_mul_(&self.first)?.f_mul_scalar_(-rate / correct1)?;
        if decay > 0.0 {
            let _ = self.weight.f_mul_scalar_(1.0 - rate * decay)?;
        }
        let _ = self.weight.f_add_(&divisor)?;
        let _ = gradient.f_zero_()?;
        Ok(())
    }

    /// L1 by its proximal step, apart from the gradient as decay is: `w = sign(w) * max(|w| - by, 0)`.
    /// Biases and scales of normalisations keep their size.
    fn shrink(&mut self, by: f64) -> Result<()> {
        if self.weight.dim() > 1 {
            let shrunk = self.weight.f_sign()?.f_mul(&self.weight.f_abs()?.f_sub_scalar(by)?.f_clamp_min(0.0)?)?;
            self.weight.f_copy_(&shrunk)?;
        }
        Ok(())
    }
}

/// Adds `gradient` to what a weight's gradient already is.
pub fn accumulate(weight: &Tensor, first_row: i64, gradient: &Tensor) -> Result<()> {
    let _guard = tch::no_grad_guard();
    let Some(whole) = gradient_of(weight)? else { return Ok(()) };
    let _ =
        whole.f_narrow(0, first_row, gradient.size()[0])?.f_add_(&gradient.f_to_dtype(Kind::Float, false, false)?)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Compute;
    use crate::parameters::{Start, floats};

    /// One step by hand: with bias correction m/c1 = g and v/c2 = g^2, so w moves by the rate against g's sign.
    #[test]
    fn first_step_moves_by_the_learning_rate() {
        let mut parameters = Parameters::new(&Compute::plain());
        let w = parameters.make("w", &[2], Start::Constant(1.0)).unwrap();
        let training = Training { learning_rate: 0.1, warmup: 0, ..Training::default() };
        let mut adam = AdamW::new(&parameters, &training, 10).unwrap();
        let pull = Tensor::from_slice(&[2f32, -3.0]);
        w.f_mul(&pull).unwrap().f_sum(Kind::Float).unwrap().f_backward().unwrap();
        adam.step().unwrap();
        let moved = floats(&w).unwrap();
        assert!((moved[0] - 0.9).abs() < 1e-6 && (moved[1] - 1.1).abs() < 1e-6, "{moved:?}");
        assert_eq!(floats(&w.grad()).unwrap(), [0.0, 0.0]);
    }

    /// A rate of .1 and an L1 of 2 take .2 from the size of each number of a matrix, and none changes its sign.
    #[test]
    fn l1_shrinks_matrices_to_zero_and_no_further() {
        let mut parameters = Parameters::new(&Compute::plain());
        let bias = parameters.make("bias", &[2], Start::Constant(0.1)).unwrap();
        let matrix = parameters.make("matrix", &[1, 3], Start::Constant(0.0)).unwrap();
        matrix.detach().copy_(&Tensor::from_slice(&[0.5f32, -0.25, 0.1]).view([1, 3]));
        parameters.make_gradients().unwrap();
        let training = Training { learning_rate: 0.1, warmup: 0, l1: 2.0, ..Training::default() };
        AdamW::new(&parameters, &training, 10).unwrap().step().unwrap();
        let near = |a: &Tensor, b: &[f32]| floats(a).unwrap().iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(near(&matrix, &[0.3, -0.05, 0.0]) && near(&bias, &[0.1, 0.1]));
    }

    /// Several steps with decay on weights that several threads share.
    #[test]
    fn one_pass_makes_the_step_of_the_plain_way() {
        tch::manual_seed(9);
        let make = || {
            let weight = Tensor::f_randn([70_000, 3], (Kind::Float, Device::Cpu)).unwrap();
            Moments { first: weight.zeros_like(), second: weight.zeros_like(), weight, share: 1.0 }
        };
        let mut plain = make();
        let mut fused = Moments { weight: plain.weight.copy(), ..make() };
        for step in 1..5 {
            let gradient = Tensor::f_randn([70_000, 3], (Kind::Float, Device::Cpu)).unwrap();
            let (correct1, correct2) = (1.0 - BETA1.powi(step), 1.0 - BETA2.powi(step));
            fused.update_in_one_pass(gradient.copy(), 0.01, 0.1, correct1, correct2).unwrap();
            plain.update(gradient, 0.01, 0.1, correct1, correct2).unwrap();
        }
        for (a, b) in [(&plain.weight, &fused.weight), (&plain.first, &fused.first), (&plain.second, &fused.second)] {
            assert!((a - b).abs().max().double_value(&[]) < 1e-5);
        }
    }
}
