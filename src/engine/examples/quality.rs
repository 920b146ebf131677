//! Trains a specification on a table of events in a file and prints the figures, for tuning:
//!
//! `cargo run --release --example quality -- ENGINE EVENTS.tsv '{"encoder": ...}' [THREADS]`
//!
//! The file has a heading and the columns entity, time (a number) and item.

#[path = "../tests/driver/mod.rs"]
mod driver;

use arrow_array::{Float64Array, Int64Array, RecordBatch};
use persona_core::protocol::Task;
use persona_core::source::{Clock, Field, FieldKind, KeyType, SourceSchema, ValueType};
use persona_core::spec::ModelSpec;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [engine, file, spec, rest @ ..] = arguments.as_slice() else {
        return Err("usage: quality ENGINE EVENTS.tsv SPEC [THREADS]".into());
    };
    let threads = rest.first().map_or(Ok(0), |threads| threads.parse())?;
    let source = source();
    let events = read(file, &source)?;
    let mut spec: serde_json::Value = serde_json::from_str(spec)?;
    spec["objective"]["kind"] = "next_event".into();
    spec["objective"]["field"] = "item_id".into();
    let spec = ModelSpec::parse(&spec, &source).map_err(|e| format!("{e}: {:?} {:?}", e.detail, e.hint))?;
    let job = driver::job(Task::Train, &source, Some(&spec), threads);
    let answer = driver::run(Path::new(engine), &job, &[], &[events], |progress| {
        progress.message.iter().for_each(|message| println!("{message}"));
    });
    for metric in answer.metrics.iter().filter(|metric| metric.epoch.is_none()) {
        let (low, high) = (metric.low.unwrap_or(metric.value), metric.high.unwrap_or(metric.value));
        println!("{:5} {:12} {:.4}  {low:.4} to {high:.4}", metric.split, metric.metric, metric.value);
    }
    match answer.result {
        Some(Ok(outcome)) => println!("{outcome:#?}"),
        Some(Err(error)) => println!("{error}: {:?} {:?}", error.detail, error.hint),
        None => println!("the engine ended without a word, code {:?}", answer.code),
    }
    Ok(())
}

fn source() -> SourceSchema {
    let item = Field::new("item_id", FieldKind::Category, ValueType::Integer);
    SourceSchema::new(KeyType::Integer, Clock::Number, vec![item])
}

fn read(file: &str, source: &SourceSchema) -> Result<RecordBatch, Box<dyn Error>> {
    let (mut entities, mut times, mut items) = (Vec::new(), Vec::new(), Vec::new());
    for line in std::fs::read_to_string(file)?.lines().skip(1) {
        let mut columns = line.split('\t');
        let mut next = || columns.next().ok_or_else(|| format!("a column is missing in: {line}"));
        entities.push(next()?.parse::<i64>()?);
        times.push(next()?.parse::<f64>()?);
        items.push(next()?.parse::<i64>()?);
    }
    let (entities, times) = (Int64Array::from(entities), Float64Array::from(times));
    Ok(RecordBatch::try_new(
        source.arrow(),
        vec![Arc::new(entities), Arc::new(times), Arc::new(Int64Array::from(items))],
    )?)
}
