//! Generative adversarial network over sequences of events (Goodfellow et al. 2014): a recurrent generator that draws
//! them from noise, and a recurrent discriminator that says after every event whether all so far are real.
//!
//! All inputs are categories, numbers and gaps too (see `persona_core::features::Bins`). What is drawn has no gradient,
//! so the generator learns through a softmax beside each code that it drew (see [`softened`]).

use super::Linear;
use super::generator::Generator;
use super::recurrent::{Cell, Recurrent};
use crate::device::Compute;
use crate::error::Result;
use crate::inputs::{Layout, Shape};
use crate::parameters::Parameters;
use persona_core::spec;
use tch::{Kind, Tensor};

/// Log probabilities are kept above minus this where they are inverted.
const RARE: f64 = 60.0;

pub struct Gan {
    discriminator: Recurrent,
    verdict: Linear,
    pub generator: Generator,
    temperature: f64,
}

impl Gan {
    pub fn new(parameters: &mut Parameters, shape: &Shape, spec: &spec::Gan) -> Result<Self> {
        let spec::Gan { dim, layers, length, dropout, temperature, .. } = *spec;
        let recurrent = spec::Recurrent { dim, layers, length, dropout, ..Default::default() };
        Ok(Gan {
            discriminator: Recurrent::new(parameters, "", Cell::Gru, &recurrent)?,
            verdict: Linear::new(parameters, "verdict", dim as i64, 1)?,
            generator: Generator::new(parameters, shape, spec)?,
            temperature,
        })
    }

    /// The discriminator's states: [tokens, dim] -> [tokens, dim]
    pub fn forward(&self, x: &Tensor, layout: &Layout, train: bool) -> Result<Tensor> {
        self.discriminator.forward(x, layout, train)
    }

    /// Log odds that the events of each window up to each token are real: normalised states [tokens, dim] -> [tokens, 1]
    pub fn verdicts(&self, states: &Tensor, compute: &Compute) -> Result<Tensor> {
        self.verdict.forward(states, compute)
    }

    /// What the discriminator reads of drawn events, with a way back to the logits that they were drawn by: the rows of
    /// its `tables` [codes, dim] that `codes` [tokens] name, with the gradient of softened rows. [tokens, dim]
    pub fn read(&self, tables: &[&Tensor], codes: &[Tensor], logits: &[Tensor]) -> Result<Tensor> {
        let mut sum: Option<Tensor> = None;
        for ((table, codes), logits) in tables.iter().zip(codes).zip(logits) {
            let soft = softened(logits, codes, self.temperature)?.f_mm(table)?;
            let hard = crate::inputs::rows(table, codes)?;
            let rows = soft.f_add(&hard.f_sub(&soft)?.f_detach()?)?;
            sum = Some(match sum {
                Some(sum) => sum.f_add(&rows)?,
                None => rows,
            });
        }
        Ok(sum.unwrap_or_default())
    }
}

/// The probabilities that a softmax of Gumbel noise on the logits would give, where the noise is one with which the
/// `codes` would be drawn (Paulus, Maddison & Krause 2021, "Rao-Blackwellizing the Straight-Through Gumbel-Softmax
/// Gradient Estimator"): `logits` [tokens, codes], `codes` [tokens] -> [tokens, codes]
///
/// With `E` standard exponential and `p` the softmax of the logits, the drawn code `i` has `-ln E_i`, another `j` has
/// `-ln(E_j / p_j + E_i)`.
fn softened(logits: &Tensor, codes: &Tensor, temperature: f64) -> Result<Tensor> {
    let logs = logits.f_log_softmax(-1, Kind::Float)?;
    let noisy = {
        let _guard = tch::no_grad_guard();
        let index = codes.f_unsqueeze(1)?;
        let all = logs.f_empty_like()?.f_exponential_(1.0)?;
        let drawn = all.f_gather(1, &index, false)?;
        let others = all.f_mul(&logs.f_neg()?.f_clamp_max(RARE)?.f_exp()?)?.f_add(&drawn)?;
        let noisy = others.f_scatter(1, &index, &drawn)?.f_clamp_min(f64::from(f32::MIN_POSITIVE))?.f_log()?.f_neg()?;
        noisy.f_sub(&logs)?
    };
    Ok(logs.f_add(&noisy)?.f_div_scalar(temperature)?.f_softmax(-1, Kind::Float)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::floats;
    use tch::Device;

    /// The drawn code always has the most, and at a low temperature nearly all.
    #[test]
    fn what_was_drawn_is_the_likeliest_under_its_noise() {
        tch::manual_seed(3);
        let logits = Tensor::randn([500, 7], (Kind::Float, Device::Cpu));
        let codes = Tensor::arange(500, (Kind::Int64, Device::Cpu)).remainder(7);
        let soft = softened(&logits, &codes, 1.0).unwrap();
        assert_eq!(Vec::<i64>::try_from(soft.argmax(1, false)).unwrap(), Vec::<i64>::try_from(&codes).unwrap());
        let sharp = softened(&logits, &codes, 0.01).unwrap().gather(1, &codes.unsqueeze(1), false);
        assert!(sharp.mean(Kind::Float).double_value(&[]) > 0.97);
    }

    /// Drawn by the logits and then softened, codes have on average the probabilities of a plain Gumbel softmax.
    #[test]
    fn the_noise_is_that_of_a_gumbel_softmax() {
        tch::manual_seed(4);
        let logits = Tensor::from_slice(&[1.0f32, 0.0, -1.0]).view([1, 3]).expand([100_000, 3], false);
        let codes = logits.softmax(-1, Kind::Float).multinomial(1, true).view([-1]);
        let mean = |soft: Tensor| floats(&soft.mean_dim(0i64, false, Kind::Float)).unwrap();
        let ours = mean(softened(&logits, &codes, 0.7).unwrap());
        let noise = -logits.empty_like().exponential_(1.0).log();
        let plain = mean(((&logits + noise) / 0.7).softmax(-1, Kind::Float));
        assert!(ours.iter().zip(&plain).all(|(a, b)| (a - b).abs() < 0.005), "{ours:?} {plain:?}");
    }
}
