//! Training a network on a source's events: its objectives, its parts, and what it is worth.

use crate::device::Compute;
use crate::distill::{Ranking, Teacher};
use crate::error::Result;
use crate::inputs::Shape;
use crate::measure::{judge, measure_label, measure_parts};
use crate::models::Model;
use crate::objectives::{self, Labelled, Setting, label_metrics, label_standing};
use crate::parts::label_parts;
use crate::prune::Pruning;
use crate::report::Reporter;
use crate::select::{Choice, Chosen};
use crate::train::Trainer;
use crate::transfer::{Start, Taken};
use persona_core::features::{Encoded, Fitted};
use persona_core::labels::{Examples, FittedLabel, Parts};
use persona_core::metrics::Judgement;
use persona_core::protocol::{Metric, Outcome, Phase, Progress, Standing};
use persona_core::spec::{self, ClassWeights, Compression, ModelSpec, Objective, Scope, Split};
use persona_core::split::Partition;
use persona_core::{Error, ErrorKind};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// What a network is trained on.
pub struct Network<'a> {
    spec: &'a ModelSpec,
    encoded: &'a Encoded,
    partition: &'a Partition,
    fitted: &'a Fitted,
    tasks: Vec<LabelTask<'a>>,
    /// A day on the source's clock.
    day: f64,
    compute: Compute,
    /// From what a fold chooses its features; absent where all are kept.
    choice: Option<Choice<'a>>,
    /// What training begins with, where that is not drawn.
    start: Option<&'a Start>,
    /// What of that is made zero first, and stays so.
    prune: Option<(f64, Scope)>,
    teacher: Option<&'a Teacher>,
}

/// A trained model.
struct Run {
    model: Model,
    epoch: u32,
    standing: Option<Standing>,
    /// What it took from the version that it began with.
    taken: Option<Taken>,
}

/// One label to be learned.
#[derive(Clone)]
struct LabelTask<'a> {
    objective: &'a Objective,
    examples: Examples,
    label: FittedLabel,
    parts: Parts,
}

impl<'a> Network<'a> {
    /// `examples`: those of each objective that has a label, in order.
    pub fn new(
        spec: &'a ModelSpec,
        encoded: &'a Encoded,
        partition: &'a Partition,
        fitted: &'a Fitted,
        examples: Vec<Examples>,
        day: f64,
        compute: Compute,
    ) -> Result<Self> {
        let objectives = spec.objective.iter().filter(|objective| objective.label().is_some());
        let task = |(objective, examples): (&'a Objective, Examples)| {
            let parts = label_parts(&examples, encoded, spec, partition.cutoffs, partition.since);
            if parts.train.is_empty() {
                return Err(nothing_to_train_on(&examples));
            }
            let log = matches!(objective, Objective::Regress(regress) if regress.log);
            let label = examples.fit(&parts.train, log)?;
            Ok(LabelTask { objective, examples, label, parts })
        };
        let tasks = objectives.zip(examples).map(task).collect::<persona_core::Result<_>>()?;
        Ok(Network {
            spec,
            encoded,
            partition,
            fitted,
            tasks,
            day,
            compute,
            choice: None,
            start: None,
            prune: None,
            teacher: None,
        })
    }

    /// The same, beginning with the weights of a version.
    pub fn starting_from(self, start: Option<&'a Start>) -> Self {
        Network { start, ..self }
    }

    /// The same, learning from a teacher too.
    pub fn taught_by(self, teacher: Option<&'a Teacher>) -> Self {
        Network { teacher, ..self }
    }

    /// The same, without the numbers that a compression prunes.
    pub fn pruning(self, asked: &Compression) -> Self {
        Network { prune: Some((asked.prune, asked.scope)), ..self }
    }

    /// The same with labels as they were fitted before.
    pub fn keeping_labels(mut self, fitted: &[FittedLabel]) -> Self {
        for task in &mut self.tasks {
            let before = fitted.iter().find(|label| label.name == task.label.name);
            task.label = before.unwrap_or(&task.label).clone();
        }
        self
    }

    /// The same, where each fold is to choose its features itself: from what it trains on.
    pub fn choosing(self, choice: Option<Choice<'a>>) -> Self {
        Network { choice, ..self }
    }

    /// What the version must remember of the labels.
    pub fn labels(&self) -> Vec<FittedLabel> {
        self.tasks.iter().map(|task| task.label.clone()).collect()
    }

    /// What it learns of labels, and from which examples.
    pub fn labelled(&self) -> (Vec<FittedLabel>, Vec<Examples>) {
        self.tasks.iter().map(|task| (task.label.clone(), task.examples.clone())).unzip()
    }

    /// Trains a model from its seed.
    pub fn train(&mut self, outcome: &mut Outcome, reporter: &mut Reporter) -> Result<Model> {
        let mut spec = self.spec.clone();
        if spec.training.split == Split::KFold {
            // As many epochs as the folds needed, on everything, with nothing left to stop by.
            spec.training.epochs = self.folds(outcome, reporter)?;
        }
        let parts: Vec<Parts> = self.tasks.iter().map(|task| task.parts.clone()).collect();
        let Run { model, epoch, standing, taken } = self.run(&spec, parts, false, reporter)?;
        outcome.notes.extend(self.start.zip(taken).map(|(start, taken)| taken.note(&start.name)));
        if let spec::Encoder::Gan(gan) = &spec.encoder {
            let first = objectives::First::new(self.encoded, self.partition, gan.length);
            outcome.notes.extend(first.note(gan.length));
        }
        outcome.best_epoch = Some(epoch);
        outcome.standing = outcome.standing.take().or(standing);
        Ok(model)
    }

    /// Trains a model for each fold and judges it by that fold; returns the mean of the best epochs.
    fn folds(&self, outcome: &mut Outcome, reporter: &mut Reporter) -> Result<usize> {
        let training = &self.spec.training;
        let folds = |task: &LabelTask| task.examples.folds(&self.encoded.keys, training.folds, training.seed);
        let fold_of: Vec<Vec<usize>> = self.tasks.iter().map(folds).collect();
        let mut judged: Vec<Option<Judgement>> = self.tasks.iter().map(|_| None).collect();
        let mut epochs = 0;
        for fold in 0..training.folds {
            let parts = fold_of.iter().map(|fold_of| parts_of_fold(fold_of, fold, training)).collect::<Vec<Parts>>();
            let tests: Vec<Vec<usize>> = parts.iter().map(|parts| parts.test.clone()).collect();
            let chosen = self.chosen(&parts)?;
            let own = chosen.as_ref().map(|chosen| self.over(chosen));
            let network = own.as_ref().unwrap_or(self);
            let Run { model, epoch, .. } = network.run(self.spec, parts, true, reporter)?;
            epochs += epoch as usize;
            reporter.count_as(Phase::Evaluate);
            for ((task, test), judged) in self.tasks.iter().zip(tests).zip(&mut judged) {
                let more = judge(
                    "test",
                    &model,
                    network.encoded,
                    (&task.examples, &task.label),
                    &test,
                    training.batch_events,
                )?;
                match judged {
                    Some(judged) => judged.extend(more),
                    none => *none = Some(more),
                }
            }
            reporter.count_as(Phase::Train);
            reporter.tell(Progress {
                message: Some(format!("fold {}/{}: epoch {epoch} was the best", fold + 1, training.folds)),
                ..Progress::of(Phase::Train, fold as u64 + 1, training.folds as u64 + 1)
            })?;
        }
        for (task, judged) in self.tasks.iter().zip(judged) {
            if let Some(judged) = judged {
                let metrics = label_metrics(&judged, &task.label, training.seed);
                outcome.standing = outcome.standing.take().or(label_standing(&metrics, &task.label));
                reporter.metrics(&metrics)?;
                reporter.judgement(&judged)?;
            }
        }
        outcome.notes.push(format!(
            "The test figures are of {} models, each of which saw nothing of its fold; the version itself has seen all.",
            training.folds
        ));
        Ok(epochs.div_ceil(training.folds).max(1))
    }

    /// What a fold keeps of the features, by what it trains on.
    fn chosen(&self, parts: &[Parts]) -> Result<Option<Chosen>> {
        let labels = || self.tasks.iter().zip(parts).map(|(task, parts)| (&task.examples, parts.train.as_slice()));
        self.choice.as_ref().map(|choice| choice.choose(&labels().collect::<Vec<_>>())).transpose()
    }

    /// The same over other inputs of the same events.
    fn over<'b>(&'b self, chosen: &'b Chosen) -> Network<'b> {
        let Network { spec, partition, day, compute, start, prune, teacher, .. } = *self;
        let (encoded, fitted) = (&chosen.encoded, &chosen.fitted);
        Network {
            spec,
            encoded,
            partition,
            fitted,
            tasks: self.tasks.clone(),
            day,
            compute,
            choice: None,
            start,
            prune,
            teacher,
        }
    }

    fn run(&self, spec: &ModelSpec, parts: Vec<Parts>, quiet: bool, reporter: &mut Reporter) -> Result<Run> {
        let training = &spec.training;
        let mut rng = ChaCha8Rng::seed_from_u64(training.seed);
        tch::manual_seed(training.seed as i64);
        let mut model = Model::new(
            &spec.encoder,
            &Shape::of(self.encoded, &self.labels()).learning(&spec.objective, self.day),
            self.compute,
        )?;
        self.begin(&model, &parts)?;
        let mut parts = parts.into_iter().zip(&self.tasks);
        let mut objectives: Vec<Box<dyn objectives::Objective>> = Vec::new();
        for objective in self.spec.objective.iter() {
            objectives.push(match objective {
                Objective::NextEvent(next) => {
                    let ranking = self.teacher.map(|teacher| Ranking::new(teacher, self.fitted)).transpose()?.flatten();
                    Box::new(self.next_event(next, &model, &mut rng)?.taught(ranking))
                }
                Objective::Contrastive(o) => {
                    Box::new(objectives::Contrastive::new(o, self.setting(), self.partition, &model)?)
                }
                Objective::MaskedEvent(o) => Box::new(objectives::MaskedEvent::new(
                    o,
                    self.setting(),
                    self.partition,
                    self.counts(),
                    &model,
                    &mut rng,
                )?),
                Objective::Reconstruct(o) => {
                    Box::new(objectives::Reconstruct::new(o, self.setting(), self.partition, self.counts(), &model)?)
                }
                Objective::NextK(o) => {
                    Box::new(objectives::NextK::new(o, self.setting(), self.partition, self.counts(), &model)?)
                }
                Objective::Ratings(_) => {
                    Box::new(objectives::Ratings::new(self.spec, self.encoded, self.partition, &model, &mut rng)?)
                }
                Objective::Adversarial(o) => {
                    let spec::Encoder::Gan(gan) = &self.spec.encoder else { continue };
                    Box::new(objectives::Adversarial::new(o, gan, self.setting(), self.partition, &model))
                }
                Objective::Classify(_) | Objective::Regress(_) => {
                    let Some((parts, task)) = parts.next() else { continue };
                    let what = (&task.examples, &task.label);
                    let (train, valid) = (parts.train, parts.valid);
                    let labelled = Labelled::new(task.objective, training, self.encoded, what, train, valid, &model)?;
                    Box::new(labelled.taught(self.teacher)?)
                }
            });
        }
        let histories = objectives[0].histories();
        let errors = model.pretrain(self.encoded, histories, training.batch_events, self.start.is_none(), &mut rng)?;
        if !quiet {
            reporter.metrics(&pretraining(&errors))?;
        }
        let taken = self.start.map(|start| start.fill(&model, self.spec, self.fitted, &self.labels())).transpose()?;
        model.parameters.freeze(&training.freeze)?;
        let before = match self.start {
            Some(_) => 0,
            None => self.learn_by_likelihood(&mut model, &mut rng, quiet, reporter)?,
        };
        let prune = |(share, scope)| Pruning::new(&model.parameters, share, scope);
        let pruning = self.prune.map(prune).transpose()?;
        let judges_start = self.start.is_some();
        let mut trainer = Trainer { training, objectives, rng, quiet, before, judges_start, pruning };
        let (epoch, standing) = trainer.run(&mut model, reporter)?;
        Ok(Run { model, epoch, standing, taken })
    }

    /// Lets every class begin at its share, where that is what it should come to.
    fn begin(&self, model: &Model, parts: &[Parts]) -> Result<()> {
        for (task, parts) in self.tasks.iter().zip(parts) {
            let weighted = matches!(task.objective, Objective::Classify(c) if c.class_weights != ClassWeights::None);
            if let (false, Some(logs)) = (weighted, task.examples.log_shares(&parts.train)) {
                model.begin(&task.label.name, &logs)?;
            }
        }
        Ok(())
    }

    /// What a generator does before it competes. Returns the most epochs that it may take.
    fn learn_by_likelihood(
        &self,
        model: &mut Model,
        rng: &mut ChaCha8Rng,
        quiet: bool,
        reporter: &mut Reporter,
    ) -> Result<usize> {
        let spec::Encoder::Gan(gan) = &self.spec.encoder else { return Ok(0) };
        let training = spec::Training { epochs: gan.pretrain, ..self.spec.training.clone() };
        let likelihood = objectives::Likelihood::new(self.setting(), self.partition, model);
        let own = ChaCha8Rng::from_rng(rng);
        let objectives: Vec<Box<dyn objectives::Objective>> = vec![Box::new(likelihood)];
        let mut trainer =
            Trainer { training: &training, objectives, rng: own, quiet, before: 0, judges_start: false, pruning: None };
        trainer.run(model, reporter)?;
        Ok(gan.pretrain)
    }

    fn next_event(
        &self,
        next: &spec::NextEvent,
        model: &Model,
        rng: &mut ChaCha8Rng,
    ) -> Result<objectives::NextEvent<'_>> {
        objectives::NextEvent::new(self.spec, next, self.encoded, self.partition, self.counts(), model, rng)
    }

    fn setting(&self) -> Setting<'a> {
        Setting { spec: self.spec, encoded: self.encoded, cutoffs: self.partition.cutoffs, day: self.day }
    }

    /// Events of each item.
    fn counts(&self) -> &'a [u64] {
        self.fitted.items().map_or(&[][..], |vocabulary| &vocabulary.counts)
    }

    /// The trained model's figures on every label, and of objectives that have neither label nor cases.
    pub fn measure(&self, model: &Model, reporter: &mut Reporter) -> Result<()> {
        measure_parts(model, &self.setting(), reporter)?;
        self.tasks.iter().try_for_each(|task| {
            let what = (&task.examples, &task.label);
            measure_label(model, self.encoded, what, &task.parts, self.spec, None, reporter)
        })
    }
}

/// What each layer reconstructed before the objectives began.
fn pretraining(errors: &[Vec<f64>]) -> Vec<Metric> {
    let of_layer = |(layer, errors): (usize, &Vec<f64>)| {
        let metric = format!("layer_{}.error", layer + 1);
        let of_epoch = |(epoch, &value): (usize, &f64)| Metric {
            epoch: Some(epoch as u32 + 1),
            ..Metric::plain("train", metric.clone(), value)
        };
        errors.iter().enumerate().map(of_epoch).collect::<Vec<_>>()
    };
    errors.iter().enumerate().flat_map(of_layer).collect()
}

/// A fold tests; the one after it validates, unless nothing is to; the others train.
fn parts_of_fold(fold_of: &[usize], fold: usize, training: &spec::Training) -> Parts {
    let mut parts = Parts::default();
    let next = (fold + 1) % training.folds;
    let validates = training.valid > 0.0 && training.folds > 2;
    for (i, &of) in fold_of.iter().enumerate() {
        match of {
            _ if of == fold => parts.test.push(i),
            _ if of == next && validates => parts.valid.push(i),
            _ => parts.train.push(i),
        }
    }
    parts
}

fn nothing_to_train_on(examples: &Examples) -> Error {
    Error::new(ErrorKind::InsufficientData, format!("label \"{}\" has no examples to train on", examples.label))
        .detail("All of them are needed to validate and to test.")
        .hint("Lower training.valid and training.test, or have labels of more times.")
}
