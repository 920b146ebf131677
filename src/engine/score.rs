//! Every entity's profile vector and every item's vector, as halves, for inner products.

use crate::error::Result;
use crate::models::Model;
use crate::objectives::readable;
use crate::parameters::floats;
use crate::report::{INTERVAL, Reporter};
use arrow_array::{ArrayRef, FixedSizeBinaryArray, Float32Array, Float64Array, Int64Array, RecordBatch};
use half::f16;
use persona_core::batch::{Window, buckets, history_window};
use persona_core::features::{Encoded, Vocabulary};
use persona_core::labels::FittedLabel;
use persona_core::protocol::{ColumnWriter, Kind, Phase, Progress};
use persona_core::source::{Clock, SourceSchema};
use persona_core::{Error, ErrorKind};
use std::ops::Range;
use std::sync::Arc;

/// Numbers of vectors that are held until they are sent: 32 MB of halves.
const NUMBERS: usize = 16 << 20;

/// The fewest events of a batch: nothing is kept of them, and every batch has its fixed costs.
const EVENTS: usize = 1 << 15;

/// Rows in one batch of columns.
const ROWS: usize = 65_536;

/// Sends all profiles in key order.
pub fn profiles(
    model: &Model,
    encoded: &Encoded,
    schema: &SourceSchema,
    labels: &[FittedLabel],
    batch_events: usize,
    reporter: &mut Reporter,
) -> Result<()> {
    let arrow = schema.profile_arrow(model.dim, labels);
    let mut writer = ColumnWriter::new(Kind::Profiles, &arrow)?;
    for entities in slabs(encoded.entities(), model.dim) {
        let (vectors, said) = slab(model, encoded, labels, entities.clone(), batch_events, reporter)?;
        let events = encoded.offsets[entities.start..=entities.end].windows(2).map(|pair| (pair[1] - pair[0]) as i64);
        let mut columns: Vec<ArrayRef> = vec![
            encoded.keys.arrow(entities.clone()),
            Arc::new(Int64Array::from_iter_values(events)),
            times(schema.clock, entities.clone().map(|entity| encoded.first(entity))),
            times(schema.clock, entities.clone().map(|entity| encoded.last(entity))),
            halves(vectors, model.dim)?,
        ];
        labels.iter().zip(said).for_each(|(label, outputs)| columns.extend(said_columns(label, &outputs)));
        for frame in writer.write(&RecordBatch::try_new(arrow.clone(), columns).map_err(Error::from)?)? {
            reporter.frame(frame)?;
        }
    }
    Ok(())
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

/// Sends all items, the most frequent first.
pub fn items(
    model: &Model,
    vocabulary: &Vocabulary,
    field: usize,
    schema: &SourceSchema,
    reporter: &mut Reporter,
) -> Result<()> {
    let vectors = floats(&model.items()?)?;
    let arrow = schema.item_arrow(field, model.dim);
    let mut writer = ColumnWriter::new(Kind::Items, &arrow)?;
    for range in slabs(vocabulary.len(), model.dim) {
        let mut bytes = Vec::with_capacity(2 * range.len() * model.dim);
        append(&mut bytes, &vectors[range.start * model.dim..range.end * model.dim])?;
        let columns: Vec<ArrayRef> = vec![
            vocabulary.values.arrow(range.clone()),
            Arc::new(Int64Array::from_iter_values(vocabulary.counts[range].iter().map(|&count| count as i64))),
            halves(bytes, model.dim)?,
        ];
        for frame in writer.write(&RecordBatch::try_new(arrow.clone(), columns).map_err(Error::from)?)? {
            reporter.frame(frame)?;
        }
    }
    Ok(())
}

/// Runs of rows whose vectors are held together.
fn slabs(rows: usize, dim: usize) -> impl Iterator<Item = Range<usize>> {
    let size = (NUMBERS / dim).clamp(1, ROWS);
    (0..rows).step_by(size).map(move |start| start..rows.min(start + size))
}

/// The vectors of some entities as little-endian halves, and what is said of each label, in their order.
fn slab(
    model: &Model,
    encoded: &Encoded,
    labels: &[FittedLabel],
    entities: Range<usize>,
    batch_events: usize,
    reporter: &mut Reporter,
) -> Result<(Vec<u8>, Vec<Vec<f32>>)> {
    let _guard = tch::no_grad_guard();
    let window = |entity| history_window(encoded.offsets[entity], encoded.offsets[entity + 1], model.length);
    let windows: Vec<Window> = entities.clone().map(window).collect();
    let lengths: Vec<usize> = windows.iter().map(Window::len).collect();
    let size = 2 * model.dim;
    let mut bytes = vec![0; size * windows.len()];
    let mut said: Vec<Vec<f32>> = labels.iter().map(|label| vec![0.0; label.outputs() * windows.len()]).collect();
    let mut done = entities.start;
    for batch in buckets(&lengths, batch_events.max(EVENTS), None) {
        let part: Vec<Window> = batch.iter().map(|&i| windows[i]).collect();
        let profiles = model.profiles(&model.batch(encoded, &part)?)?;
        for (label, said) in labels.iter().zip(&mut said) {
            let outputs = readable(label, &model.head(&label.name, &profiles, false)?)?;
            let width = label.outputs();
            for (&i, row) in batch.iter().zip(outputs.chunks_exact(width)) {
                said[i * width..(i + 1) * width].copy_from_slice(row);
            }
        }
        let vectors = floats(&profiles)?;
        let mut packed = Vec::with_capacity(size * part.len());
        append(&mut packed, &vectors)?;
        for (&i, vector) in batch.iter().zip(packed.chunks_exact(size)) {
            bytes[i * size..(i + 1) * size].copy_from_slice(vector);
        }
        done += batch.len();
        if reporter.due(INTERVAL) {
            reporter.tell(Progress::of(Phase::Score, done as u64, encoded.entities() as u64))?;
        }
    }
    Ok((bytes, said))
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
