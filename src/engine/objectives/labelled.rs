//! A class or a number of an entity, from its profile vector.

use super::{Loss, Objective, shuffled};
use crate::augment::Augment;
use crate::distill::{Teacher, soft_classes};
use crate::error::Result;
use crate::inputs::integers;
use crate::models::Model;
use crate::parameters::floats;
use crate::report::Reporter;
use persona_core::batch::{Window, buckets, history_window};
use persona_core::events::Keys;
use persona_core::features::Encoded;
use persona_core::labels::{Example, Examples, FittedLabel, Truth};
use persona_core::metrics::classes::Classified;
use persona_core::metrics::judgement::Cases;
use persona_core::metrics::numbers::Predicted;
use persona_core::metrics::{Judgement, case_id};
use persona_core::protocol::{Metric, Standing};
use persona_core::spec::{self, ClassWeights, Deviation};
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Reduction, Tensor};

pub struct Labelled<'a> {
    spec: &'a spec::Objective,
    encoded: &'a Encoded,
    examples: &'a Examples,
    label: &'a FittedLabel,
    /// Indices of examples.
    train: Vec<usize>,
    valid: Vec<usize>,
    /// The train examples' windows.
    windows: Vec<Window>,
    batches: Vec<Vec<usize>>,
    augment: Augment,
    batch_events: usize,
    seed: u64,
    /// Of each class. [classes]
    class_weights: Option<Tensor>,
    teacher: Option<Said<'a>>,
}

/// What a teacher says of the train examples.
struct Said<'a> {
    spec: &'a spec::Teacher,
    /// [train, outputs]
    soft: Tensor,
}

impl<'a> Labelled<'a> {
    pub fn new(
        spec: &'a spec::Objective,
        training: &spec::Training,
        encoded: &'a Encoded,
        (examples, label): (&'a Examples, &'a FittedLabel),
        train: Vec<usize>,
        valid: Vec<usize>,
        model: &Model,
    ) -> Result<Self> {
        let windows = train.iter().map(|&i| window(encoded, &examples.rows[i], model.length)).collect();
        let class_weights = match spec {
            spec::Objective::Classify(classify) if classify.class_weights == ClassWeights::Balanced => {
                let weights = balanced(examples, label, &train);
                Some(Tensor::f_from_slice(&weights)?.f_to_device(model.compute.device)?)
            }
            _ => None,
        };
        Ok(Labelled {
            spec,
            encoded,
            examples,
            label,
            train,
            valid,
            windows,
            batches: Vec::new(),
            augment: Augment(training.augment),
            batch_events: training.batch_events,
            seed: training.seed,
            class_weights,
            teacher: None,
        })
    }

    /// The same, learning from a teacher too, if it has learned the label.
    pub fn taught(mut self, teacher: Option<&'a Teacher>) -> Result<Self> {
        let Some(teacher) = teacher else { return Ok(self) };
        let rows: Vec<Example> = self.train.iter().map(|&i| self.examples.rows[i]).collect();
        let soft = teacher.of_label(self.label, &rows, self.batch_events)?;
        self.teacher = soft.map(|soft| Said { spec: &teacher.spec, soft });
        Ok(self)
    }

    /// The mean loss of outputs [examples, members, outputs], by what is true and by what the teacher says. `places`: of the
    /// examples among those that train.
    fn loss(&self, outputs: &Tensor, examples: &[usize], places: &[usize]) -> Result<Tensor> {
        let hard = self.true_loss(outputs, examples)?;
        let Some(Said { spec, soft }) = &self.teacher else { return Ok(hard) };
        let places: Vec<i64> = places.iter().map(|&place| place as i64).collect();
        let soft = soft.f_index_select(0, &integers(&places, outputs.device())?)?;
        let taught = match self.spec {
            spec::Objective::Regress(regress) => {
                deviation(regress, outputs, &soft.f_unsqueeze(1)?.f_expand_as(outputs)?)?
            }
            _ => soft_classes(outputs, &soft, spec.temperature)?,
        };
        Ok(hard.f_mul_scalar(1.0 - spec.weight)?.f_add(&taught.f_mul_scalar(spec.weight)?)?)
    }

    /// The mean loss of outputs [examples, members, outputs] by what is true.
    fn true_loss(&self, outputs: &Tensor, examples: &[usize]) -> Result<Tensor> {
        let (members, width) = (outputs.size()[1], outputs.size()[2]);
        let outputs = &outputs.f_reshape([-1, width])?;
        let each = |&i: &usize| std::iter::repeat_n(self.examples.rows[i].truth, members as usize);
        let truth = || examples.iter().flat_map(each);
        match self.spec {
            spec::Objective::Regress(regress) => {
                let numbers: Vec<f32> = truth().map(|truth| self.label.scaled(truth)).collect();
                let numbers = Tensor::f_from_slice(&numbers)?.f_to_device(outputs.device())?;
                deviation(regress, &outputs.f_squeeze_dim(1)?, &numbers)
            }
            other => {
                let smoothing = if let spec::Objective::Classify(c) = other { c.label_smoothing } else { 0.0 };
                let classes: Vec<i64> = truth().map(class).collect();
                let classes = integers(&classes, outputs.device())?;
                Ok(outputs.f_cross_entropy_loss(
                    &classes,
                    self.class_weights.as_ref(),
                    Reduction::Mean,
                    -100,
                    smoothing,
                )?)
            }
        }
    }
}

impl Objective for Labelled<'_> {
    fn histories(&self) -> &[Window] {
        &self.windows
    }

    fn shuffle(&mut self, rng: &mut ChaCha8Rng) -> usize {
        self.batches = shuffled(&self.windows, self.batch_events, rng);
        self.batches.len()
    }

    fn step(&self, model: &Model, batch: usize, rng: &mut ChaCha8Rng) -> Result<Option<Loss>> {
        let places = &self.batches[batch];
        let mut windows: Vec<Window> = places.iter().map(|&i| self.windows[i]).collect();
        let examples: Vec<usize> = places.iter().map(|&i| self.train[i]).collect();
        self.augment.crop(&mut windows, rng);
        let (encoded, windows) = self.augment.reorder(self.encoded, windows, 0, rng);
        let mut batch = model.batch(&encoded, &windows)?;
        self.augment.mask(&mut batch, rng)?;
        let pass = model.forward(batch)?;
        let states = pass.states.f_detach()?.f_set_requires_grad(true)?;
        let profiles = model.pool(&states, &pass.batch.layout)?;
        let loss = self.loss(&model.head(&self.label.name, &profiles, true)?, &examples, places)?;
        // Batches have equally many events, and so few of the long histories: each example is to count the same.
        let share = (examples.len() * self.batches.len()) as f64 / self.train.len() as f64;
        loss.f_mul_scalar(self.spec.weight() * share)?.f_backward()?;
        model.backward(pass, &states.f_grad()?)?;
        let count = examples.len();
        Ok(Some(Loss { sum: loss.f_detach()?.f_mul_scalar(count as f64)?, count }))
    }

    fn validate(&self, model: &Model, _: &mut Reporter) -> Result<Vec<Metric>> {
        if self.valid.is_empty() {
            return Ok(Vec::new());
        }
        let rows: Vec<Example> = self.valid.iter().map(|&i| self.examples.rows[i]).collect();
        let outputs = predictions(model, self.encoded, self.label, &rows, self.batch_events)?;
        Ok(label_metrics(&judged("valid", self.label, &self.encoded.keys, &rows, &outputs), self.label, self.seed))
    }

    fn standing(&self, metrics: &[Metric]) -> Option<Standing> {
        label_standing(metrics, self.label)
    }
}

/// The mean deviation of predicted numbers.
fn deviation(regress: &spec::Regress, predicted: &Tensor, numbers: &Tensor) -> Result<Tensor> {
    Ok(match regress.loss {
        Deviation::Mse => predicted.f_mse_loss(numbers, Reduction::Mean)?,
        Deviation::Mae => predicted.f_l1_loss(numbers, Reduction::Mean)?,
    })
}

/// The figure that a label is learned by.
pub fn label_standing(metrics: &[Metric], label: &FittedLabel) -> Option<Standing> {
    let figure = if label.classes.is_some() { "log_loss" } else { "rmse" };
    let name = format!("{}.{figure}", label.name);
    let value = metrics.iter().find(|metric| metric.metric == name)?.value;
    Some(Standing { name, value, less: true })
}

/// Probabilities of classes, or unscaled numbers: [examples, outputs], row-major, in the order of the examples.
pub fn predictions(
    model: &Model,
    encoded: &Encoded,
    label: &FittedLabel,
    examples: &[Example],
    batch_events: usize,
) -> Result<Vec<f32>> {
    let _guard = tch::no_grad_guard();
    let width = label.outputs();
    let windows: Vec<Window> = examples.iter().map(|example| window(encoded, example, model.length)).collect();
    let lengths: Vec<usize> = windows.iter().map(Window::len).collect();
    let mut all = vec![0.0; examples.len() * width];
    for batch in buckets(&lengths, batch_events, None) {
        let part: Vec<Window> = batch.iter().map(|&i| windows[i]).collect();
        let profiles = model.profiles(&model.batch(encoded, &part)?)?;
        let outputs = readable(label, &model.head(&label.name, &profiles, false)?)?;
        for (&i, row) in batch.iter().zip(outputs.chunks_exact(width)) {
            all[i * width..(i + 1) * width].copy_from_slice(row);
        }
    }
    Ok(all)
}

/// What a head's outputs [n, members, outputs] mean on average: probabilities of classes, or numbers in their own unit.
pub fn readable(label: &FittedLabel, outputs: &Tensor) -> Result<Vec<f32>> {
    let mean = |x: &Tensor| x.f_mean_dim(1i64, false, Kind::Float);
    match label.classes {
        Some(_) => floats(&mean(&outputs.f_softmax(-1, Kind::Float)?)?),
        None => Ok(floats(&mean(outputs)?)?.into_iter().map(|output| label.unscaled(output) as f32).collect()),
    }
}

/// The judgement of examples, of whom `outputs` are the predictions.
pub fn judged(split: &str, label: &FittedLabel, keys: &Keys, examples: &[Example], outputs: &[f32]) -> Judgement {
    let rows = examples.iter().zip(outputs.chunks_exact(label.outputs()));
    let cases = match label.classes {
        Some(_) => {
            let mut classified = Classified::new(label.outputs());
            rows.for_each(|(example, row)| classified.add(row, class(example.truth) as u32));
            Cases::Classes(classified)
        }
        None => {
            let mut predicted = Predicted::default();
            rows.for_each(|(example, row)| predicted.add(f64::from(row[0]), number(example.truth)));
            Cases::Numbers(predicted)
        }
    };
    let ids = examples.iter().map(|example| case_id(keys, example.entity, example.at)).collect();
    Judgement { split: split.to_string(), subject: label.name.clone(), ids, cases }
}

/// The figures of a label's judgement.
pub fn label_metrics(judgement: &Judgement, label: &FittedLabel, seed: u64) -> Vec<Metric> {
    let prefix = format!("{}.", label.name);
    match (&judgement.cases, &label.classes) {
        (Cases::Classes(classified), Some(classes)) => {
            let names: Vec<String> = (0..classes.len()).map(|class| classes.text(class)).collect();
            classified.metrics(&judgement.split, &prefix, &names, seed)
        }
        (Cases::Numbers(predicted), _) => predicted.metrics(&judgement.split, &prefix, seed),
        _ => Vec::new(),
    }
}

fn window(encoded: &Encoded, example: &Example, length: usize) -> Window {
    history_window(encoded.offsets[example.entity], example.end, length)
}

fn class(truth: Truth) -> i64 {
    if let Truth::Class(class) = truth { i64::from(class) } else { 0 }
}

fn number(truth: Truth) -> f64 {
    if let Truth::Number(number) = truth { f64::from(number) } else { f64::NAN }
}

/// Weights with which every class counts the same, and an average example one.
fn balanced(examples: &Examples, label: &FittedLabel, train: &[usize]) -> Vec<f32> {
    let mut counts = vec![0f32; label.outputs()];
    train.iter().for_each(|&i| counts[class(examples.rows[i].truth) as usize] += 1.0);
    let each = train.len() as f32 / counts.len() as f32;
    counts.into_iter().map(|count| each / count.max(1.0)).collect()
}
