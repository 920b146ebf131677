//! Neural collaborative filtering (He et al. 2017): a score is a function of an entity's and an item's embeddings,
//!
//! `w (p * q) + v relu(... relu(W [p'; q'] + b) ...) + the item's bias`
//!
//! with embeddings of their own for the product (`p`, `q`) and for the layers (`p'`, `q'`). An entity is known by
//! its history alone (Kabbur et al. 2013, "FISM"): `p` and `p'` are the decayed mean of the embeddings of its events.
//!
//! Where ratings are predicted (Koren 2008, "Factorization Meets the Neighborhood": asymmetric SVD), the score is
//! added to the mean, and events count by how far their rating is from what the item's and the entity's bias say:
//! `p = sum of (r - level - item's bias) x over the root of their number`. The entity's level is folded in too.

use crate::error::Result;
use crate::inputs::{Batch, Embedding, Layout, rows};
use crate::models::Linear;
use crate::parameters::{DEVIATION, Parameters, Start};
use persona_core::features::FIRST;
use persona_core::rankers::{Baseline, ENTITY_SHRINKAGE};
use persona_core::spec;
use tch::{Kind, Tensor};

/// How widely embeddings are spread when training begins. Ranks are learned from products alone, and those of narrow ones
/// hardly have a gradient; ratings begin with their biases, and wide ones learn them by heart.
pub fn spread(rates: bool) -> f64 {
    if rates { DEVIATION } else { 5.0 * DEVIATION }
}

/// Numbers of a layer's units that are held at a time: 16 MB.
const UNITS: i64 = 4 << 20;

pub struct Ncf {
    /// Both embeddings of each item. [FIRST + items, 2 dim]
    items: Tensor,
    /// [FIRST + items, 1]
    biases: Tensor,
    /// What each place of the product counts. [dim]
    product: Tensor,
    /// The first layer's part that reads the entity's embedding. [dim, dim]
    entity: Tensor,
    /// The first layer's part that reads the item's, with the layer's bias.
    item: Linear,
    /// The layers after the first.
    layers: Vec<Linear>,
    /// From the last layer to the score. [1, units]
    last: Tensor,
    /// Where ratings are predicted. [1]
    mean: Option<Tensor>,
    dim: i64,
    decay: f64,
}

/// What one side gives to the scores of pairs.
struct Side {
    /// [n, dim]
    product: Tensor,
    /// Of the first layer, before its activation. [n, dim]
    units: Tensor,
    /// What is added. [n, 1]
    bias: Option<Tensor>,
}

impl Ncf {
    pub fn new(parameters: &mut Parameters, items: usize, rates: bool, spec: &spec::Ncf) -> Result<Self> {
        let (dim, items) = (spec.dim as i64, items as i64);
        let start = |inputs: usize| Start::Uniform((inputs as f64).sqrt().recip());
        let mut layers = Vec::new();
        for layer in 1..spec.layers {
            let (inputs, outputs) = (spec.units(layer - 1), spec.units(layer));
            layers.push(Linear {
                weight: parameters.make(
                    format!("layer.{layer}.weight"),
                    &[outputs as i64, inputs as i64],
                    start(inputs),
                )?,
                bias: parameters.make(format!("layer.{layer}.bias"), &[outputs as i64], Start::Constant(0.0))?,
            });
        }
        let units = spec.units(spec.layers - 1);
        Ok(Ncf {
            items: parameters.make("items.output.weight", &[items, 2 * dim], Start::Normal(spread(rates)))?,
            biases: parameters.make("items.bias", &[items, 1], Start::Constant(0.0))?,
            product: parameters.make("product.weight", &[dim], Start::Constant(1.0))?,
            entity: parameters.make("layer.0.entity.weight", &[dim, dim], start(2 * spec.dim))?,
            item: Linear {
                weight: parameters.make("layer.0.item.weight", &[dim, dim], start(2 * spec.dim))?,
                bias: parameters.make("layer.0.bias", &[dim], Start::Constant(0.0))?,
            },
            layers,
            last: parameters.make("last.weight", &[1, units as i64], start(units))?,
            mean: if rates { Some(parameters.make("mean", &[1], Start::Constant(0.0))?) } else { None },
            dim,
            decay: if rates { 1.0 } else { spec.decay },
        })
    }

    /// Begins with a mean and the items' biases as they are counted.
    pub fn begin(&self, baseline: &Baseline) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let first = i64::from(FIRST);
        let deviations = Tensor::f_from_slice(&baseline.deviations)?.f_unsqueeze(1)?;
        self.biases.f_narrow(0, first, self.biases.size()[0] - first)?.f_copy_(&deviations)?;
        if let Some(mean) = &self.mean {
            mean.shallow_clone().f_copy_(&Tensor::f_from_slice(&[baseline.mean])?)?;
        }
        Ok(())
    }

    /// The entity after each event: [tokens, 2 dim] -> [tokens, 2 dim], and after it the entity's level where ratings
    /// are predicted
    pub fn forward(&self, x: &Tensor, batch: &Batch, embedding: &Embedding) -> Result<Tensor> {
        let layout = &batch.layout;
        match (&self.mean, &batch.ratings, embedding.codes(batch)) {
            (Some(mean), Some(ratings), Some(codes)) => self.tastes(x, layout, mean, ratings, codes),
            _ => {
                let count = Tensor::f_ones([x.size()[0], 1], (Kind::Float, x.device()))?;
                let width = x.size()[1];
                let sums = self.sums(&Tensor::f_cat(&[x, &count], 1)?, layout)?;
                Ok(sums.f_narrow(1, 0, width)?.f_div(&sums.f_narrow(1, width, 1)?)?)
            }
        }
    }

    fn tastes(&self, x: &Tensor, layout: &Layout, mean: &Tensor, ratings: &Tensor, codes: &Tensor) -> Result<Tensor> {
        let biases = rows(&self.biases.f_detach()?, codes)?.f_add(&mean.f_detach()?)?;
        let rated = ratings.f_isnan()?.f_logical_not()?.f_to_dtype(Kind::Float, false, false)?;
        let deviations = ratings.f_sub(&biases)?.f_nan_to_num(0.0, 0.0, 0.0)?;
        let width = x.size()[1];
        let sums = Tensor::f_cat(&[&x.f_mul(&deviations)?, &x.f_mul(&rated)?, &deviations, &rated], 1)?;
        let sums = self.sums(&sums, layout)?;
        let part = |from, width| sums.f_narrow(1, from, width);
        let count = part(2 * width + 1, 1)?;
        let level = part(2 * width, 1)?.f_div(&count.f_add_scalar(ENTITY_SHRINKAGE)?)?;
        let taste = part(0, width)?.f_sub(&part(width, width)?.f_mul(&level)?)?;
        Ok(Tensor::f_cat(&[taste.f_div(&count.f_clamp_min(1.0)?.f_sqrt()?)?, level], 1)?)
    }

    /// Decayed sums over each window's tokens up to each: [tokens, d] -> [tokens, d]
    fn sums(&self, packed: &Tensor, layout: &Layout) -> Result<Tensor> {
        let places = Tensor::f_arange(layout.width as i64, (Kind::Float, packed.device()))?;
        let ages = places.f_unsqueeze(1)?.f_sub(&places)?; // [width, width]
        let weights = ages.f_clamp_min(0.0)?.f_mul_scalar(self.decay.ln())?.f_exp()?.f_tril(0)?;
        layout.pack(&weights.f_matmul(&layout.pad(packed)?)?)
    }

    /// The scores of entities with one item each, by index from 0: [n, 2 dim or more], [n] -> [n]
    pub fn each(&self, entities: &Tensor, items: &Tensor) -> Result<Tensor> {
        let (entities, items) = (self.entities(entities)?, self.items_at(items)?);
        let product = entities.product.f_mul(&items.product)?.f_sum_dim_intlist(1i64, true, Kind::Float)?;
        let units = self.units(&entities.units.f_add(&items.units)?)?;
        Ok(self.together(product.f_add(&units)?, &entities.bias, &items.bias)?.f_squeeze_dim(1)?)
    }

    /// The scores of entities with the same items, by index from 0: [n, 2 dim or more], [m] -> [n, m]
    pub fn all(&self, entities: &Tensor, items: &Tensor) -> Result<Tensor> {
        let (entities, items) = (self.entities(entities)?, self.items_at(items)?);
        let product = entities.product.f_mm(&items.product.f_tr()?)?;
        let pairs = entities.units.f_unsqueeze(1)?.f_add(&items.units.f_unsqueeze(0)?)?; // [n, m, dim]
        let units = self.units(&pairs)?.f_squeeze_dim(2)?;
        let bias = items.bias.as_ref().map(Tensor::f_tr).transpose()?;
        self.together(product.f_add(&units)?, &entities.bias, &bias)
    }

    /// The scores of all items: [n, 2 dim or more] -> [n, items]
    pub fn scores(&self, entities: &Tensor) -> Result<Tensor> {
        let count = self.items.size()[0] - i64::from(FIRST);
        let most = self.most_pairs() / entities.size()[0].max(1);
        let chunk = |from: i64| {
            let items = Tensor::f_arange_start(from, count.min(from + most.max(1)), (Kind::Int64, entities.device()))?;
            self.all(entities, &items)
        };
        let scores = (0..count).step_by(most.max(1) as usize).map(chunk).collect::<Result<Vec<Tensor>>>()?;
        Ok(Tensor::f_cat(&scores, 1)?)
    }

    /// Pairs whose layers are held at a time.
    pub fn most_pairs(&self) -> i64 {
        (UNITS / self.dim).max(1)
    }

    fn entities(&self, states: &Tensor) -> Result<Side> {
        let dim = self.dim;
        let level = if self.mean.is_some() { Some(states.f_narrow(1, 2 * dim, 1)?) } else { None };
        Ok(Side {
            product: states.f_narrow(1, 0, dim)?.f_mul(&self.product)?,
            units: states.f_narrow(1, dim, dim)?.f_linear(&self.entity, None::<&Tensor>)?,
            bias: level,
        })
    }

    fn items_at(&self, items: &Tensor) -> Result<Side> {
        let codes = items.f_add_scalar(i64::from(FIRST))?;
        let embeddings = rows(&self.items, &codes)?;
        let bias = rows(&self.biases, &codes)?;
        let bias = match &self.mean {
            Some(mean) => bias.f_add(mean)?,
            None => bias,
        };
        Ok(Side {
            product: embeddings.f_narrow(1, 0, self.dim)?,
            units: embeddings.f_narrow(1, self.dim, self.dim)?.f_linear(&self.item.weight, Some(&self.item.bias))?,
            bias: Some(bias),
        })
    }

    /// [.., dim] -> [.., 1], always in f32: rounding would make ties
    fn units(&self, first: &Tensor) -> Result<Tensor> {
        let mut x = first.f_relu()?;
        for layer in &self.layers {
            x = x.f_linear(&layer.weight, Some(&layer.bias))?.f_relu()?;
        }
        Ok(x.f_linear(&self.last, None::<&Tensor>)?)
    }

    fn together(&self, score: Tensor, entities: &Option<Tensor>, items: &Option<Tensor>) -> Result<Tensor> {
        entities.iter().chain(items).try_fold(score, |score, bias| Ok(score.f_add(bias)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Compute;
    use crate::inputs::Shape;
    use crate::models::Model;
    use crate::parameters::floats;
    use persona_core::artifact::Artifact;
    use persona_core::batch::Window;
    use persona_core::events::Keys;
    use persona_core::features::{Encoded, Input};

    /// Two entities of three events and one.
    fn encoded(ratings: &[f32]) -> Encoded {
        Encoded {
            keys: Keys::Integer(vec![1, 2]),
            offsets: vec![0, 3, 4],
            time: vec![0.0, 1.0, 2.0, 0.0],
            inputs: vec![Input::Category { name: "item".into(), codes: vec![2, 3, 4, 3], size: 5 }],
            ratings: ratings.to_vec(),
            target: Some(0),
        }
    }

    fn model(encoded: &Encoded, seed: i64) -> Model {
        tch::manual_seed(seed);
        let spec = spec::Ncf { dim: 4, decay: 0.5, dropout: 0.0, ..Default::default() };
        let shape = Shape { rates: !encoded.ratings.is_empty(), ..Shape::of(encoded, &[]) };
        Model::new(&spec::Encoder::Ncf(spec), &shape, Compute::plain()).unwrap()
    }

    fn states(model: &Model, encoded: &Encoded) -> Tensor {
        let windows = [Window { start: 0, end: 3 }, Window { start: 3, end: 4 }];
        model.states(&model.batch(encoded, &windows).unwrap()).unwrap()
    }

    fn near(a: &[f32], b: &[f32]) -> bool {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5)
    }

    #[test]
    fn an_entity_is_the_decayed_mean_of_its_events() {
        let encoded = self::encoded(&[]);
        let model = self::model(&encoded, 1);
        let table = floats(model.table().unwrap()).unwrap();
        let row = |code: usize| &table[8 * code..8 * (code + 1)];
        let mean: Vec<f32> = (0..8).map(|i| (row(4)[i] + 0.5 * row(3)[i] + 0.25 * row(2)[i]) / 1.75).collect();
        let states = floats(&self::states(&model, &encoded)).unwrap();
        assert!(near(&states[..8], row(2)) && near(&states[16..24], &mean) && near(&states[24..], row(3)));
    }

    /// The mean is 3 and items have no biases: deviations of 2, of -1, and of nothing.
    #[test]
    fn ratings_weigh_events_by_what_they_are_beyond_the_level() {
        let encoded = self::encoded(&[5.0, 2.0, f32::NAN, 4.0]);
        let model = self::model(&encoded, 1);
        let baseline = Baseline { mean: 3.0, deviations: vec![0.0; 3] };
        model.pairs().unwrap().begin(&baseline).unwrap();
        let table = floats(model.table().unwrap()).unwrap();
        let level = (2.0 - 1.0) / (2.0 + ENTITY_SHRINKAGE as f32);
        let (first, second) = (2.0 - level, -1.0 - level);
        let state: Vec<f32> = (0..8).map(|i| (first * table[16 + i] + second * table[24 + i]) / 2f32.sqrt()).collect();
        let states = floats(&self::states(&model, &encoded)).unwrap();
        assert!(near(&states[18..26], &state) && near(&states[26..27], &[level]));
        // Without what was learned a rating is the mean and the level.
        let _guard = tch::no_grad_guard();
        for weight in [&model.pairs().unwrap().product, &model.pairs().unwrap().last] {
            let _ = weight.shallow_clone().zero_();
        }
        let scores = floats(&model.scores(&self::states(&model, &encoded)).unwrap()).unwrap();
        assert!(near(&scores[6..9], &[3.0 + level; 3]));
    }

    #[test]
    fn pairs_are_scored_alike_alone_and_together_and_after_being_stored() {
        for ratings in [&[][..], &[5.0, 2.0, 1.0, 4.0]] {
            let encoded = self::encoded(ratings);
            let (model, mut other) = (self::model(&encoded, 1), self::model(&encoded, 2));
            let states = self::states(&model, &encoded);
            let all = floats(&model.scores(&states).unwrap()).unwrap();
            let alone = |item: i64| model.pairs().unwrap().each(&states, &Tensor::from_slice(&[item; 4])).unwrap();
            for item in 0..3 {
                let expected: Vec<f32> = (0..4).map(|i| all[3 * i + item as usize]).collect();
                assert!(near(&floats(&alone(item)).unwrap(), &expected));
            }
            let mut artifact = Artifact::new();
            model.parameters.write(&mut artifact).unwrap();
            other.parameters.read(&artifact).unwrap();
            assert_eq!(floats(&other.scores(&self::states(&other, &encoded)).unwrap()).unwrap(), all);
        }
    }
}
