//! What is told of every entity: its vector as halves, for inner products with the items', what is said of its
//! labels, and its list of items.

use crate::counts::vectors;
use crate::device;
use crate::error::Result;
use crate::lists::Lists;
use crate::models::{Model, without_vectors};
use crate::objectives::readable;
use crate::parameters::floats;
use crate::report::{INTERVAL, Reporter};
use crate::states::States;
use crate::version::{Trained, Version};
use arrow_array::{ArrayRef, FixedSizeBinaryArray, Float32Array, Float64Array, Int64Array, RecordBatch};
use half::f16;
use persona_core::batch::{Window, buckets, history_window};
use persona_core::features::{Encoded, Vocabulary};
use persona_core::labels::FittedLabel;
use persona_core::protocol::{ColumnWriter, Kind, Phase, Progress};
use persona_core::rankers::History;
use persona_core::reduction::Reduction;
use persona_core::source::{Clock, SourceSchema};
use persona_core::spec::ModelSpec;
use persona_core::{Error, ErrorKind};
use std::ops::Range;
use std::sync::Arc;

/// Numbers of vectors that are held until they are sent: 32 MB of halves.
const NUMBERS: usize = 16 << 20;

/// The fewest events of a batch: nothing is kept of them, and every batch has its fixed costs.
const EVENTS: usize = 1 << 15;

/// Rows in one batch of columns; with lists fewer, which are written while the next are made.
const ROWS: usize = 65_536;
const LISTED_ROWS: usize = 4096;

/// Takes rows of profiles.
pub type Tell<'a> = dyn FnMut(RecordBatch, &mut Reporter) -> Result<()> + 'a;

/// Rows as frames.
#[derive(Default)]
pub struct Rows(Option<ColumnWriter>);

impl Rows {
    pub fn send(&mut self, batch: &RecordBatch, reporter: &mut Reporter) -> Result<()> {
        let writer = match &mut self.0 {
            Some(writer) => writer,
            none => none.insert(ColumnWriter::new(Kind::Profiles, &batch.schema())?),
        };
        writer.write(batch)?.into_iter().try_for_each(|frame| Ok(reporter.frame(frame)?))
    }
}

/// A trained version that is asked about all entities.
pub struct Scoring<'a> {
    trained: &'a Trained,
    /// Width of the vectors; none where the family makes none.
    dim: Option<usize>,
    encoded: &'a Encoded,
    labels: &'a [FittedLabel],
    batch_events: usize,
    /// The target, and how its lists are made.
    lists: Option<(usize, Lists<'a>)>,
    /// Absent where vectors keep their width.
    reduction: Option<Reduction>,
    /// Numbers that are carried from one event to the next, and told; 0 where they are not.
    carries: usize,
    /// What has been carried from events before these.
    states: Option<&'a States>,
}

impl<'a> Scoring<'a> {
    /// An error where there is nothing to tell: neither vectors nor lists.
    pub fn new(
        version: &'a Version,
        trained: &'a Trained,
        encoded: &'a Encoded,
        lists: Option<Lists<'a>>,
    ) -> Result<Self> {
        let dim = version.spec.dim();
        let lists = version.fitted.target.zip(lists);
        if dim.is_none() && lists.is_none() {
            return Err(without_vectors(&version.spec.encoder).into());
        }
        let (labels, batch_events) = (&version.labels, version.spec.training.batch_events);
        Ok(Scoring { trained, dim, encoded, labels, batch_events, lists, reduction: None, carries: 0, states: None })
    }

    /// Leaves out all else from now on, and need not compute it.
    pub fn tell_lists_alone(&mut self) {
        self.dim = None;
        self.labels = &[];
    }

    /// Stores vectors with fewer dimensions from now on.
    pub fn reduce(&mut self, reduction: Reduction) -> Result<()> {
        if Some(reduction.from()) != self.dim {
            let message =
                format!("the mapping of the profile is of {} dimensions, not {}", reduction.from(), self.dim());
            return Err(Error::new(ErrorKind::InvalidData, message)
                .hint("Drop the profile and create it anew.")
                .into());
        }
        self.reduction = Some(reduction);
        Ok(())
    }

    /// Tells from now on what is carried, and begins with what has been.
    pub fn carry(&mut self, spec: &ModelSpec, states: Option<&'a States>) -> Result<()> {
        let carries = spec.encoder.carries();
        self.carries = carries.ok_or_else(|| Error::protocol("states were asked of a family that has none"))?;
        self.states = states;
        Ok(())
    }

    pub fn encoded(&self) -> &'a Encoded {
        self.encoded
    }

    /// Dimensions of the model's vectors; 0 where it makes none.
    pub fn dim(&self) -> usize {
        self.dim.unwrap_or(0)
    }

    /// Dimensions of what is stored.
    fn width(&self) -> Option<usize> {
        self.reduction.as_ref().map(Reduction::dim).or(self.dim)
    }

    fn reduced(&self, vectors: Vec<f32>) -> Vec<f32> {
        match &self.reduction {
            Some(reduction) => reduction.apply(&vectors),
            None => vectors,
        }
    }

    /// The model's vectors after some histories: [histories, dim], row-major
    pub fn vectors(&self, histories: &[Range<usize>]) -> Result<Vec<f32>> {
        let _guard = tch::no_grad_guard();
        let dim = self.dim();
        let mut all = vec![0.0; histories.len() * dim];
        match self.trained {
            Trained::Network(model) => {
                let window = |history: &Range<usize>| history_window(history.start, history.end, model.length);
                let windows: Vec<Window> = histories.iter().map(window).collect();
                let lengths: Vec<usize> = windows.iter().map(Window::len).collect();
                for batch in buckets(&lengths, self.batch_events.max(EVENTS), None) {
                    let part: Vec<Window> = batch.iter().map(|&i| windows[i]).collect();
                    let profiles = model.profiles(&model.batch(self.encoded, &part)?)?;
                    let vectors = floats(&model.vectors(&profiles)?)?;
                    for (&i, vector) in batch.iter().zip(vectors.chunks_exact(dim)) {
                        all[i * dim..][..dim].copy_from_slice(vector);
                    }
                }
            }
            Trained::Counts(counts) => {
                let codes = self.encoded.target_codes();
                if let Some(mf) = counts.factors() {
                    let rows = histories.iter().zip(all.chunks_exact_mut(dim));
                    rows.for_each(|(history, row)| mf.profile(History::from(&codes[history.clone()]), row));
                }
            }
            Trained::Blend(_) => {}
        }
        Ok(all)
    }

    /// All profiles in the entities' order, as rows that `tell` is given some at a time.
    pub fn profiles(&self, schema: &SourceSchema, reporter: &mut Reporter, tell: &mut Tell) -> Result<()> {
        let Scoring { encoded, labels, .. } = *self;
        let dim = self.width();
        let carries = (self.carries > 0).then_some(self.carries);
        let arrow = schema.profile_arrow(dim, labels, self.lists.as_ref().map(|(target, _)| *target), carries);
        let most = if self.lists.is_some() { LISTED_ROWS } else { ROWS };
        for entities in slabs(encoded.entities(), dim.unwrap_or(1), most) {
            let events = entities.clone().map(|entity| Ok((encoded.offsets[entity + 1] - self.begin(entity)?) as i64));
            let events = events.collect::<Result<Vec<i64>>>()?;
            let mut columns: Vec<ArrayRef> = vec![
                encoded.keys.arrow(entities.clone()),
                Arc::new(Int64Array::from(events)),
                times(schema.clock, entities.clone().map(|entity| encoded.first(entity))),
                times(schema.clock, entities.clone().map(|entity| encoded.last(entity))),
            ];
            let mut states = Vec::new();
            if let Some(dim) = dim {
                let slab = self.slab(dim, entities.clone(), reporter)?;
                columns.push(halves(slab.vectors, dim)?);
                labels.iter().zip(slab.said).for_each(|(label, outputs)| columns.extend(said_columns(label, &outputs)));
                states = slab.carried;
            }
            if let Some((target, lists)) = &self.lists {
                columns.extend(lists.columns(&lists.of(encoded, entities, reporter)?, schema, *target)?);
            }
            if let Some(carries) = carries {
                let bytes: Vec<u8> = states.iter().flat_map(|number| number.to_le_bytes()).collect();
                let column = FixedSizeBinaryArray::try_new(4 * carries as i32, bytes.into(), None);
                columns.push(Arc::new(column.map_err(Error::from)?));
            }
            tell(RecordBatch::try_new(arrow.clone(), columns).map_err(Error::from)?, reporter)?;
        }
        Ok(())
    }

    /// Sends the vectors of all items, the most frequent first.
    pub fn items(
        &self,
        vocabulary: &Vocabulary,
        field: usize,
        schema: &SourceSchema,
        reporter: &mut Reporter,
    ) -> Result<()> {
        let keeps_products = |reduction: &Reduction| reduction.reduce.keeps_products();
        let Some(dim) = self.width().filter(|_| self.reduction.as_ref().is_none_or(keeps_products)) else {
            return Ok(());
        };
        let vectors = match self.trained {
            Trained::Network(model) => floats(&model.items()?)?,
            Trained::Counts(counts) => counts.factors().map_or(Vec::new(), |mf| mf.vectors().to_vec()),
            Trained::Blend(_) => Vec::new(),
        };
        let vectors = self.reduced(vectors);
        let arrow = schema.item_arrow(field, dim);
        let mut writer = ColumnWriter::new(Kind::Items, &arrow)?;
        for range in slabs(vocabulary.len(), dim, ROWS) {
            let mut bytes = Vec::with_capacity(2 * range.len() * dim);
            append(&mut bytes, &vectors[range.start * dim..range.end * dim])?;
            let columns: Vec<ArrayRef> = vec![
                vocabulary.values.arrow(range.clone()),
                Arc::new(Int64Array::from_iter_values(vocabulary.counts[range].iter().map(|&count| count as i64))),
                halves(bytes, dim)?,
            ];
            for frame in writer.write(&RecordBatch::try_new(arrow.clone(), columns).map_err(Error::from)?)? {
                reporter.frame(frame)?;
            }
        }
        Ok(())
    }

    /// The first event of an entity that is not in what has been carried.
    fn begin(&self, entity: usize) -> Result<usize> {
        let range = self.encoded.offsets[entity]..self.encoded.offsets[entity + 1];
        match self.states.and_then(|states| states.of(&self.encoded.keys, entity)) {
            Some((last, _)) => Ok(range.start + States::first_new(last, &self.encoded.time[range])?),
            None => Ok(range.start),
        }
    }

    fn slab(&self, dim: usize, entities: Range<usize>, reporter: &mut Reporter) -> Result<Slab> {
        match self.trained {
            Trained::Network(model) => self.slab_of_network(model, dim, entities, reporter),
            Trained::Counts(counts) => {
                let mut slab = Slab { vectors: Vec::with_capacity(2 * dim * entities.len()), ..Slab::default() };
                if let Some(mf) = counts.factors() {
                    let rows = vectors(mf, self.encoded, entities, device::threads());
                    append(&mut slab.vectors, &self.reduced(rows))?;
                }
                Ok(slab)
            }
            Trained::Blend(_) => Ok(Slab::default()),
        }
    }

    fn slab_of_network(
        &self,
        model: &Model,
        dim: usize,
        entities: Range<usize>,
        reporter: &mut Reporter,
    ) -> Result<Slab> {
        let Scoring { encoded, labels, batch_events, carries, .. } = *self;
        let _guard = tch::no_grad_guard();
        let window = |entity| Ok(history_window(self.begin(entity)?, encoded.offsets[entity + 1], model.length));
        let windows = entities.clone().map(window).collect::<Result<Vec<Window>>>()?;
        let lengths: Vec<usize> = windows.iter().map(Window::len).collect();
        let size = 2 * dim;
        let mut slab = Slab {
            vectors: vec![0; size * windows.len()],
            said: labels.iter().map(|label| vec![0.0; label.outputs() * windows.len()]).collect(),
            carried: self.carried(entities.clone())?,
        };
        let mut done = entities.start;
        for batch in buckets(&lengths, batch_events.max(EVENTS), None) {
            let part: Vec<Window> = batch.iter().map(|&i| windows[i]).collect();
            let events = model.batch(encoded, &part)?;
            let profiles = match carries {
                0 => model.profiles(&events)?,
                _ => {
                    let mut carried = gathered(&slab.carried, carries, &batch);
                    let profiles = model.profiles_from(&events, &mut carried)?;
                    scatter(&carried, carries, &batch, &mut slab.carried);
                    profiles
                }
            };
            for (label, said) in labels.iter().zip(&mut slab.said) {
                let outputs = readable(label, &model.head(&label.name, &profiles, false)?)?;
                scatter(&outputs, label.outputs(), &batch, said);
            }
            let vectors = self.reduced(floats(&model.vectors(&profiles)?)?);
            let mut packed = Vec::with_capacity(size * part.len());
            append(&mut packed, &vectors)?;
            scatter(&packed, size, &batch, &mut slab.vectors);
            done += batch.len();
            if reporter.due(INTERVAL) {
                reporter.tell(Progress::of(Phase::Score, done as u64, encoded.entities() as u64))?;
            }
        }
        Ok(slab)
    }

    /// What each of some entities begins with: zeros, or what has been carried.
    fn carried(&self, entities: Range<usize>) -> Result<Vec<f32>> {
        let mut carried = vec![0.0; self.carries * entities.len()];
        let Some(states) = self.states.filter(|_| self.carries > 0) else { return Ok(carried) };
        for (row, entity) in carried.chunks_exact_mut(self.carries).zip(entities) {
            match states.of(&self.encoded.keys, entity) {
                Some((_, numbers)) if numbers.len() == row.len() => row.copy_from_slice(numbers),
                Some(_) => return Err(Error::protocol("a state is of another width than the version's").into()),
                None => {}
            }
        }
        Ok(carried)
    }
}

/// What is told of some entities, in their order.
#[derive(Default)]
struct Slab {
    /// Little-endian halves.
    vectors: Vec<u8>,
    /// Of each label its outputs.
    said: Vec<Vec<f32>>,
    /// What is carried to the next events.
    carried: Vec<f32>,
}

/// Some rows of `width` numbers.
fn gathered(all: &[f32], width: usize, rows: &[usize]) -> Vec<f32> {
    rows.iter().flat_map(|&row| &all[row * width..][..width]).copied().collect()
}

/// Puts rows of `width` where they belong.
fn scatter<T: Copy>(part: &[T], width: usize, rows: &[usize], all: &mut [T]) {
    for (&row, numbers) in rows.iter().zip(part.chunks_exact(width)) {
        all[row * width..][..width].copy_from_slice(numbers);
    }
}

/// The columns of a label: the likeliest class and its probability, or the number.
fn said_columns(label: &FittedLabel, outputs: &[f32]) -> Vec<ArrayRef> {
    let Some(classes) = &label.classes else {
        return vec![Arc::new(Float64Array::from_iter_values(outputs.iter().map(|&number| f64::from(number))))];
    };
    let best = |row: &[f32]| (1..row.len()).fold(0, |best, class| if row[class] > row[best] { class } else { best });
    let guesses: Vec<u32> = outputs.chunks_exact(classes.len()).map(|row| best(row) as u32).collect();
    let sure = outputs.chunks_exact(classes.len()).zip(&guesses).map(|(row, &class)| row[class as usize]);
    let sure = Float32Array::from_iter_values(sure);
    vec![classes.select(&guesses).arrow(0..guesses.len()), Arc::new(sure)]
}

/// Runs of rows, `most` at a time, whose vectors are held together.
fn slabs(rows: usize, dim: usize, most: usize) -> impl Iterator<Item = Range<usize>> {
    let size = (NUMBERS / dim).clamp(1, most);
    (0..rows).step_by(size).map(move |start| start..rows.min(start + size))
}

/// Appends numbers as halves; each must be one.
fn append(bytes: &mut Vec<u8>, numbers: &[f32]) -> Result<()> {
    for &number in numbers {
        let half = f16::from_f32(number);
        if !half.is_finite() {
            return Err(Error::new(ErrorKind::InvalidData, "the model gave a vector that a halfvec cannot hold")
                .detail(format!("One of its numbers is {number}."))
                .hint("Train the model again with a smaller training.learning_rate.")
                .into());
        }
        bytes.extend_from_slice(&half.to_le_bytes());
    }
    Ok(())
}

fn halves(bytes: Vec<u8>, dim: usize) -> Result<ArrayRef> {
    let array = FixedSizeBinaryArray::try_new(2 * dim as i32, bytes.into(), None).map_err(Error::from)?;
    Ok(Arc::new(array))
}

fn times(clock: Clock, times: impl Iterator<Item = f64>) -> ArrayRef {
    match clock {
        Clock::Timestamp | Clock::Date => Arc::new(Int64Array::from_iter_values(times.map(|time| time as i64))),
        Clock::Number => Arc::new(Float64Array::from_iter_values(times)),
    }
}
