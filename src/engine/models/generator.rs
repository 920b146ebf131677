//! The generator: a gated recurrent unit that has the noise at every step, is told the event before, and says the next
//! one input after the other, each given those before it; then whether that was the last.

use super::Linear;
use super::recurrent::{Cell, Recurrent};
use crate::device::Compute;
use crate::error::{Failure, Result};
use crate::inputs::{Batch, Layout, Shape, integers, rows};
use crate::parameters::{Parameters, Start, floats};
use persona_core::spec;
use persona_core::synthesis::Drawn;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Reduction, Tensor};

/// Before the names of the generator's weights.
pub const PREFIX: &str = "generator.";

/// How widely embeddings are spread when learning begins: they are added to states whose numbers are below one.
const SPREAD: f64 = 0.3;

pub struct Generator {
    /// Of each input, in the order of the model's: what its codes add to what is said next. [codes, width]
    tables: Vec<Tensor>,
    heads: Vec<Head>,
    /// In which order an event's inputs are said.
    order: Vec<usize>,
    end: Head,
    /// What comes before the first event. [1, width]
    start: Tensor,
    noise: Linear,
    gru: Recurrent,
    numbers: i64,
    length: usize,
    dropout: f64,
}

struct Head {
    hidden: Linear,
    output: Linear,
}

impl Head {
    fn new(parameters: &mut Parameters, name: &str, width: i64, outputs: i64) -> Result<Self> {
        Ok(Head {
            hidden: Linear::wide(parameters, &format!("{PREFIX}{name}.hidden"), width, width)?,
            output: Linear::wide(parameters, &format!("{PREFIX}{name}.output"), width, outputs)?,
        })
    }

    /// [n, width] -> [n, outputs]
    fn forward(&self, x: &Tensor, compute: &Compute) -> Result<Tensor> {
        self.output.forward(&self.hidden.forward(x, compute)?.f_relu()?, compute)
    }
}

/// What is said of events: of each input the logits of its codes [tokens, codes], then of the end [tokens].
pub struct Said {
    pub logits: Vec<Tensor>,
    end: Tensor,
}

/// Where the last of an entity's events is among those of windows, as far as that is known.
pub struct Ends {
    /// One for a last event. [tokens], f32
    last: Tensor,
    /// Zero where it is not known whether it is. [tokens], f32
    known: Tensor,
}

impl Ends {
    /// `whole`: for each window, whether its last event is the entity's.
    pub fn new(layout: &Layout, whole: impl Iterator<Item = bool>, device: Device) -> Result<Self> {
        let (mut last, mut known) = (Vec::new(), Vec::new());
        for (&n, whole) in layout.lengths.iter().zip(whole) {
            last.extend((1..=n).map(|place| f32::from(place == n)));
            known.extend((1..=n).map(|place| f32::from(place < n || whole)));
        }
        let up = |values: &[f32]| Ok::<_, Failure>(Tensor::f_from_slice(values)?.f_to_device(device)?);
        Ok(Ends { last: up(&last)?, known: up(&known)? })
    }
}

impl Said {
    /// The cross-entropy of each event's codes, in nats: [tokens]
    pub fn surprise(&self, codes: &[Tensor]) -> Result<Tensor> {
        let device = self.end.device();
        let zero = Tensor::f_zeros([self.end.size()[0]], (Kind::Float, device))?;
        self.logits.iter().zip(codes).try_fold(zero, |sum, (logits, codes)| {
            let loss = logits.f_cross_entropy_loss(codes, None::<&Tensor>, Reduction::None, -100, 0.0)?;
            Ok(sum.f_add(&loss)?)
        })
    }

    /// The same of whether each event is the last: [tokens]
    pub fn surprise_of_end(&self, ends: &Ends) -> Result<Tensor> {
        let none = None::<&Tensor>;
        Ok(self.end.f_binary_cross_entropy_with_logits(&ends.last, none, none, Reduction::None)?.f_mul(&ends.known)?)
    }
}

impl Generator {
    pub fn new(parameters: &mut Parameters, shape: &Shape, spec: &spec::Gan) -> Result<Self> {
        let spec::Gan { width: dim, layers, noise, length, dropout, .. } = *spec;
        let width = dim as i64;
        let (mut tables, mut heads) = (Vec::new(), Vec::new());
        for (name, codes) in &shape.categories {
            let size = [*codes as i64, width];
            tables.push(parameters.make(format!("{PREFIX}{name}.weight"), &size, Start::Normal(SPREAD))?);
            heads.push(Head::new(parameters, name, width, *codes as i64)?);
        }
        let recurrent = spec::Recurrent { dim, layers, length, dropout: 0.0, ..Default::default() };
        Ok(Generator {
            tables,
            heads,
            order: order(shape),
            end: Head::new(parameters, "time.end", width, 1)?,
            start: parameters.make(format!("{PREFIX}start.weight"), &[1, width], Start::Normal(SPREAD))?,
            noise: Linear::wide(parameters, &format!("{PREFIX}noise"), noise as i64, width)?,
            gru: Recurrent::new(parameters, PREFIX, Cell::Gru, &recurrent)?,
            numbers: noise as i64,
            length,
            dropout,
        })
    }

    /// Numbers without a pattern, of mean zero and deviation one. [entities, noise]
    pub fn noise(&self, entities: usize, rng: &mut ChaCha8Rng, device: Device) -> Result<Tensor> {
        let bound = 3f32.sqrt();
        let numbers = (0..entities * self.numbers as usize).map(|_| rng.random_range(-bound..bound));
        let numbers: Vec<f32> = numbers.collect();
        Ok(Tensor::f_from_slice(&numbers)?.f_view([-1, self.numbers])?.f_to_device(device)?)
    }

    /// What is said of a batch's events, each of which is told before the next. `noise`: [windows, noise]
    pub fn say(&self, batch: &Batch, noise: &Tensor, compute: &Compute, train: bool) -> Result<Said> {
        let layout = &batch.layout;
        let told = self.tables.iter().zip(&batch.categories).map(|(table, codes)| rows(table, codes));
        let told = told.collect::<Result<Vec<Tensor>>>()?;
        let events = told.iter().skip(1).try_fold(told[0].shallow_clone(), |sum, rows| sum.f_add(rows))?;
        let before = rows(&Tensor::f_cat(&[&self.start, &events], 0)?, &before(layout, events.device())?)?;
        let noise = rows(&self.noise.forward(noise, compute)?, &layout.window_of()?)?;
        let x = before.f_add(&noise)?.f_dropout(self.dropout, train)?;
        let mut state = self.gru.forward(&x, layout, train)?.f_dropout(self.dropout, train)?;
        let mut logits: Vec<Tensor> = told.iter().map(|_| Tensor::new()).collect();
        for &input in &self.order {
            logits[input] = self.heads[input].forward(&state, compute)?;
            state = state.f_add(&told[input])?;
        }
        Ok(Said { logits, end: self.end.forward(&state, compute)?.f_squeeze_dim(1)? })
    }

    /// Draws so many sequences; returns also the noise of each, [entities, noise]
    pub fn draw(&self, entities: usize, rng: &mut ChaCha8Rng, compute: &Compute) -> Result<(Drawn, Tensor)> {
        let _guard = tch::no_grad_guard();
        let from = self.noise(entities, rng, compute.device)?;
        let mut noise = self.noise.forward(&from, compute)?;
        let mut x = noise.f_add(&self.start)?;
        let mut states = self.gru.start(entities as i64, compute.device)?;
        let mut alive: Vec<usize> = (0..entities).collect();
        // Of each entity: the codes of one event after the other.
        let mut drawn: Vec<Vec<u32>> = vec![Vec::new(); entities];
        for _ in 0..self.length {
            let mut state = self.gru.step(&x, &mut states)?;
            let mut event = noise.shallow_clone();
            let mut codes = vec![Vec::new(); self.tables.len()];
            for &input in &self.order {
                codes[input] = pick(&self.heads[input].forward(&state, compute)?, rng)?;
                let told = rows(&self.tables[input], &integers(&codes[input], compute.device)?)?;
                state = state.f_add(&told)?;
                event = event.f_add(&told)?;
            }
            for (row, &entity) in alive.iter().enumerate() {
                drawn[entity].extend(codes.iter().map(|codes| codes[row] as u32));
            }
            let ends = floats(&self.end.forward(&state, compute)?.f_sigmoid()?)?;
            let stay: Vec<usize> = (0..alive.len()).filter(|&row| rng.random::<f32>() >= ends[row]).collect();
            if stay.is_empty() {
                break;
            }
            let index = integers(&stay.iter().map(|&row| row as i64).collect::<Vec<_>>(), compute.device)?;
            alive = stay.iter().map(|&row| alive[row]).collect();
            (x, noise) = (event.f_index_select(0, &index)?, noise.f_index_select(0, &index)?);
            states = states.iter().map(|state| state.f_index_select(0, &index)).collect::<Result<_, _>>()?;
        }
        Ok((gathered(&drawn, self.tables.len()), from))
    }
}

/// When before what: gap, month, weekday and hour, then the target, then the others.
fn order(shape: &Shape) -> Vec<usize> {
    let clock = |input: &usize| shape.categories[*input].0.starts_with("time.");
    let all = || 0..shape.categories.len();
    let others = all().filter(|input| !clock(input) && Some(*input) != shape.target);
    all().filter(clock).rev().chain(shape.target).chain(others).collect()
}

/// Where each token's event before lies, in a list that begins with what comes before a window's first. [tokens]
fn before(layout: &Layout, device: Device) -> Result<Tensor> {
    let places = layout.lengths.iter().scan(0, |end, &n| {
        let start = *end;
        *end += n;
        Some((start..*end).map(move |token| if token == start { 0 } else { token as i64 }))
    });
    integers(&places.flatten().collect::<Vec<_>>(), device)
}

/// A code for each row of logits [rows, codes], by its probability.
fn pick(logits: &Tensor, rng: &mut ChaCha8Rng) -> Result<Vec<i64>> {
    let codes = logits.size()[1] as usize;
    let probabilities = floats(&logits.f_softmax(-1, Kind::Float)?)?;
    let one = |row: &[f32]| {
        let mut left = rng.random::<f32>() * row.iter().sum::<f32>();
        let passed = row.iter().take_while(|&&share| {
            left -= share;
            left >= 0.0
        });
        passed.count().min(codes - 1) as i64
    };
    Ok(probabilities.chunks_exact(codes).map(one).collect())
}

fn gathered(drawn: &[Vec<u32>], inputs: usize) -> Drawn {
    let of_input = |input: usize| drawn.iter().flat_map(move |codes| codes.iter().skip(input).step_by(inputs).copied());
    Drawn {
        lengths: drawn.iter().map(|codes| codes.len() / inputs).collect(),
        codes: (0..inputs).map(|input| of_input(input).collect()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use persona_core::features::FIRST;

    fn shape() -> Shape {
        let category = |name: &str, codes| (name.to_string(), codes);
        Shape {
            categories: vec![
                category("price", 5),
                category("item", 6),
                category("time.hour", 26),
                category("time.gap", 9),
            ],
            target: Some(1),
            ..Shape::default()
        }
    }

    fn generator() -> Generator {
        tch::manual_seed(1);
        let spec = spec::Gan { width: 8, layers: 2, noise: 3, length: 7, ..Default::default() };
        Generator::new(&mut Parameters::new(&Compute::plain()), &shape(), &spec).unwrap()
    }

    #[test]
    fn time_is_said_first_and_the_target_before_the_others() {
        assert_eq!(order(&shape()), [3, 2, 1, 0]);
    }

    #[test]
    fn codes_are_picked_by_their_probability() {
        let logits = Tensor::from_slice(&[0f32, 3f32.ln(), f32::NEG_INFINITY]).view([1, 3]).repeat([8000, 1]);
        let picked = pick(&logits, &mut rand::SeedableRng::seed_from_u64(1)).unwrap();
        let count = |code| picked.iter().filter(|&&other| other == code).count();
        assert!((1900..2100).contains(&count(0)) && count(2) == 0, "{}", count(0));
    }

    /// What is drawn step by step is what is said of it at once: the gradient is of what was drawn.
    #[test]
    fn drawn_events_are_of_their_codes_and_repeat_by_seed() {
        let (generator, compute) = (generator(), Compute::plain());
        let draw = |seed| generator.draw(20, &mut rand::SeedableRng::seed_from_u64(seed), &compute).unwrap().0;
        let drawn = draw(1);
        assert!(drawn == draw(1) && drawn != draw(2));
        assert!(drawn.lengths.iter().all(|n| (1..=7).contains(n)));
        for (codes, (_, size)) in drawn.codes.iter().zip(&shape().categories) {
            assert_eq!(codes.len(), drawn.events());
            assert!(codes.iter().all(|&code| (code as usize) < *size));
        }
    }

    /// One step after the other, as in drawing, against all at once, as in learning.
    #[test]
    fn steps_say_what_sequences_say() {
        let (generator, compute) = (generator(), Compute::plain());
        let mut rng = rand::SeedableRng::seed_from_u64(1);
        let drawn =
            Drawn { lengths: vec![3], codes: vec![vec![FIRST, 3, 4], vec![5, 4, 3], vec![9, 9, 8], vec![0, 3, 4]] };
        let batch = Batch::of(&drawn, Device::Cpu).unwrap();
        let noise = generator.noise(1, &mut rng, Device::Cpu).unwrap();
        let said = generator.say(&batch, &noise, &compute, false).unwrap();
        let bias = generator.noise.forward(&noise, &compute).unwrap();
        let mut states = generator.gru.start(1, Device::Cpu).unwrap();
        let mut x = &bias + &generator.start;
        for event in 0..3 {
            let mut state = generator.gru.step(&x, &mut states).unwrap();
            x = bias.shallow_clone();
            for &input in &generator.order {
                let logits = generator.heads[input].forward(&state, &compute).unwrap();
                assert!((logits - said.logits[input].narrow(0, event, 1)).abs().max().double_value(&[]) < 1e-5);
                let code = i64::from(drawn.codes[input][event as usize]);
                let told = generator.tables[input].narrow(0, code, 1);
                state = state.f_add(&told).unwrap();
                x = x.f_add(&told).unwrap();
            }
        }
    }
}
