//! Prints how many rows a second become sequences, on one core.
//!
//! `cargo run --release -p persona_core --example sequence [rows] [entities]`

use arrow_array::{Float64Array, Int64Array, RecordBatch};
use persona_core::Result;
use persona_core::events::Collector;
use persona_core::source::{Clock, Field, FieldKind, KeyType, SourceSchema, ValueType};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;
use std::time::Instant;

const BATCH: usize = 65_536;

fn main() -> Result<()> {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let rows: usize = numbers.next().unwrap_or(5_000_000);
    let entities = numbers.next().unwrap_or(100_000).max(1) as i64;
    let schema = schema();
    let batches = batches(&schema, rows, entities)?;

    let start = Instant::now();
    let mut collector = Collector::new(&schema, None)?;
    batches.iter().try_for_each(|batch| collector.push(batch))?;
    let pushed = start.elapsed().as_secs_f64();
    let bytes = collector.bytes();
    let events = collector.finish()?;
    let finished = start.elapsed().as_secs_f64() - pushed;
    let fingerprint = events.fingerprint();
    let hashed = start.elapsed().as_secs_f64() - pushed - finished;

    let million = |seconds: f64| rows as f64 / seconds / 1e6;
    println!("{rows} rows, {} entities, {} MB packed", events.entities(), bytes >> 20);
    println!("push         {pushed:.3} s  {:6.1} M rows/s", million(pushed));
    println!("finish       {finished:.3} s  {:6.1} M rows/s", million(finished));
    println!("together     {:.3} s  {:6.1} M rows/s", pushed + finished, million(pushed + finished));
    println!("fingerprint  {hashed:.3} s  {:6.1} M rows/s  {fingerprint}", million(hashed));
    Ok(())
}

/// (bigint, timestamptz, integer, two doubles)
fn schema() -> SourceSchema {
    SourceSchema::new(
        KeyType::Integer,
        Clock::Timestamp,
        vec![
            Field::new("item", FieldKind::Category, ValueType::Integer),
            Field::new("price", FieldKind::Number, ValueType::Number),
            Field::new("quantity", FieldKind::Number, ValueType::Number),
        ],
    )
}

fn batches(schema: &SourceSchema, rows: usize, entities: i64) -> Result<Vec<RecordBatch>> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut batches = Vec::new();
    for first in (0..rows).step_by(BATCH) {
        let range = first..rows.min(first + BATCH);
        let batch = RecordBatch::try_new(
            schema.arrow(),
            vec![
                Arc::new(Int64Array::from_iter_values(range.clone().map(|_| rng.random_range(0..entities)))),
                Arc::new(Int64Array::from_iter_values(
                    range.clone().map(|row| 1_700_000_000_000_000 + row as i64 * 1_000_000),
                )),
                Arc::new(Int64Array::from_iter_values(range.clone().map(|_| rng.random_range(0..50_000)))),
                Arc::new(Float64Array::from_iter_values(range.clone().map(|_| rng.random::<f64>()))),
                Arc::new(Float64Array::from_iter_values(range.map(|_| rng.random_range(1..9) as f64))),
            ],
        )?;
        batches.push(batch);
    }
    Ok(batches)
}
