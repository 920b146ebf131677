//! Trains a specification on a table of events in a file and prints the figures, for tuning:
//!
//! `cargo run --release --example quality -- ENGINE EVENTS.tsv '{"encoder": ...}' [THREADS]`
//!
//! The file has a heading and the columns entity, time (a number), item and, where there are such, rating. The
//! objective is next_event, or what the specification names.

#[path = "../tests/driver/mod.rs"]
mod driver;

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch};
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
    let (source, events) = read(file)?;
    let mut spec: serde_json::Value = serde_json::from_str(spec)?;
    let objective = &mut spec["objective"];
    objective["field"] = "item_id".into();
    match objective["kind"].as_str() {
        Some("ratings") => objective["value"] = "rating".into(),
        Some(_) => {}
        None => objective["kind"] = "next_event".into(),
    }
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

fn source(rated: bool) -> SourceSchema {
    let item = Field::new("item_id", FieldKind::Category, ValueType::Integer);
    let rating = rated.then(|| Field::new("rating", FieldKind::Number, ValueType::Number));
    SourceSchema::new(KeyType::Integer, Clock::Number, std::iter::once(item).chain(rating).collect())
}

fn read(file: &str) -> Result<(SourceSchema, RecordBatch), Box<dyn Error>> {
    let (mut entities, mut times, mut items, mut ratings) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for line in std::fs::read_to_string(file)?.lines().skip(1) {
        let mut columns = line.split('\t');
        let mut next = || columns.next().ok_or_else(|| format!("a column is missing in: {line}"));
        entities.push(next()?.parse::<i64>()?);
        times.push(next()?.parse::<f64>()?);
        items.push(next()?.parse::<i64>()?);
        ratings.extend(next().ok().map(str::parse::<f64>).transpose()?);
    }
    let source = source(!ratings.is_empty());
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(entities)),
        Arc::new(Float64Array::from(times)),
        Arc::new(Int64Array::from(items)),
    ];
    if !ratings.is_empty() {
        columns.push(Arc::new(Float64Array::from(ratings)));
    }
    let events = RecordBatch::try_new(source.arrow(), columns)?;
    Ok((source, events))
}
