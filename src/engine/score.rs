//! Every entity's profile vector and every item's vector, as halves, for inner products.

use crate::error::Result;
use crate::models::Model;
use crate::parameters::floats;
use crate::report::{INTERVAL, Reporter};
use arrow_array::{ArrayRef, FixedSizeBinaryArray, Float64Array, Int64Array, RecordBatch};
use half::f16;
use persona_core::batch::{Window, buckets, history_window};
use persona_core::features::{Encoded, Fitted};
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
    batch_events: usize,
    reporter: &mut Reporter,
) -> Result<()> {
    let arrow = schema.profile_arrow(model.dim);
    let mut writer = ColumnWriter::new(Kind::Profiles, &arrow)?;
    for entities in slabs(encoded.entities(), model.dim) {
        let vectors = slab(model, encoded, entities.clone(), batch_events, reporter)?;
        let events = encoded.offsets[entities.start..=entities.end].windows(2).map(|pair| (pair[1] - pair[0]) as i64);
        let columns: Vec<ArrayRef> = vec![
            encoded.keys.arrow(entities.clone()),
            Arc::new(Int64Array::from_iter_values(events)),
            times(schema.clock, entities.clone().map(|entity| encoded.first(entity))),
            times(schema.clock, entities.clone().map(|entity| encoded.last(entity))),
            halves(vectors, model.dim)?,
        ];
        for frame in writer.write(&RecordBatch::try_new(arrow.clone(), columns).map_err(Error::from)?)? {
            reporter.frame(frame)?;
        }
    }
    Ok(())
}

/// Sends all items, the most frequent first.
pub fn items(model: &Model, fitted: &Fitted, schema: &SourceSchema, reporter: &mut Reporter) -> Result<()> {
    let vocabulary = fitted.target_vocabulary();
    let vectors = floats(&model.items()?)?;
    let arrow = schema.item_arrow(fitted.target, model.dim);
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

/// The vectors of some entities as little-endian halves, in their order.
fn slab(
    model: &Model,
    encoded: &Encoded,
    entities: Range<usize>,
    batch_events: usize,
    reporter: &mut Reporter,
) -> Result<Vec<u8>> {
    let _guard = tch::no_grad_guard();
    let window = |entity| history_window(encoded.offsets[entity], encoded.offsets[entity + 1], model.length);
    let windows: Vec<Window> = entities.clone().map(window).collect();
    let lengths: Vec<usize> = windows.iter().map(Window::len).collect();
    let size = 2 * model.dim;
    let mut bytes = vec![0; size * windows.len()];
    let mut done = entities.start;
    for batch in buckets(&lengths, batch_events.max(EVENTS), None) {
        let part: Vec<Window> = batch.iter().map(|&i| windows[i]).collect();
        let vectors = floats(&model.profiles(&model.batch(encoded, &part)?)?)?;
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
    Ok(bytes)
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
