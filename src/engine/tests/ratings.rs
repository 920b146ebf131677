//! Ratings, and the network of pairs: each learns its toy task, is stored, and judged again the same.

use crate::driver::{Answer, job};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, Float64Array, Int64Array, RecordBatch};
use persona_core::ErrorKind;
use persona_core::protocol::{Metric, Task};
use persona_core::source::{Clock, Field, FieldKind, KeyType, SourceSchema, ValueType};
use persona_core::spec::ModelSpec;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

fn source() -> SourceSchema {
    let item = Field::new("item", FieldKind::Category, ValueType::Integer);
    let stars = Field::new("stars", FieldKind::Number, ValueType::Number);
    SourceSchema::new(KeyType::Integer, Clock::Number, vec![item, stars])
}

/// Items are drawn. Entities like those that are even or odd as they are, and give them 5 stars where others get 1:
/// means say nothing. `unrated`: events that have no rating.
fn tastes(unrated: impl Fn(i64, i64) -> bool) -> RecordBatch {
    let rows = || (0..200).flat_map(|entity: i64| (0..16).map(move |event: i64| (entity, event)));
    let item = |(entity, event): (i64, i64)| (((entity * 16 + event) * 2_654_435_761) >> 16) % 24;
    let stars =
        |row: (i64, i64)| (!unrated(row.0, row.1)).then_some(if item(row) % 2 == row.0 % 2 { 5.0 } else { 1.0 });
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows().map(|(entity, _)| entity))),
        Arc::new(Float64Array::from_iter_values(rows().map(|(_, event)| event as f64))),
        Arc::new(Int64Array::from_iter_values(rows().map(item))),
        Arc::new(Float64Array::from_iter(rows().map(stars))),
    ];
    RecordBatch::try_new(source().arrow(), columns).unwrap()
}

fn ratings(encoder: Value, split: &str) -> ModelSpec {
    spec(encoder, json!({"kind": "ratings", "field": "item", "value": "stars"}), split)
}

fn spec(encoder: Value, objective: Value, split: &str) -> ModelSpec {
    let spec = json!({
        "encoder": encoder,
        "objective": objective,
        "training": {"split": split, "epochs": 30, "patience": 30, "batch_events": 256, "learning_rate": 0.01, "warmup": 5,
                     "valid": 0.2, "test": 0.2, "device": "cpu"},
        "evaluation": {"k": [1, 5], "seen": "keep"},
    });
    ModelSpec::parse(&spec, &source()).unwrap()
}

fn run(task: Task, spec: &ModelSpec, events: &RecordBatch, artifact: &[u8]) -> Answer {
    let engine = Path::new(env!("CARGO_BIN_EXE_persona-engine"));
    crate::driver::run(engine, &job(task, &source(), Some(spec), 1), artifact, std::slice::from_ref(events), |_| {})
}

fn of_version(answer: &Answer) -> Vec<Metric> {
    answer.metrics.iter().filter(|metric| metric.epoch.is_none()).cloned().collect()
}

fn value(answer: &Answer, split: &str, name: &str) -> f64 {
    let all = of_version(answer);
    all.iter().find(|m| m.split == split && m.metric == name).unwrap_or_else(|| panic!("no {name} in {all:?}")).value
}

/// Trains; the same again is the same version, and judged again it has the same figures.
fn version(spec: &ModelSpec, events: &RecordBatch) -> Answer {
    let answer = run(Task::Train, spec, events, &[]);
    assert!(matches!(answer.result, Some(Ok(_))), "{:?}", answer.result);
    assert!(run(Task::Train, spec, events, &[]).artifact == answer.artifact, "{spec:?}");
    assert_eq!(run(Task::Evaluate, spec, events, &answer.artifact).metrics, of_version(&answer), "{spec:?}");
    answer
}

#[test]
fn every_family_learns_who_likes_what() {
    let events = tastes(|_, _| false);
    for (encoder, split, most) in [
        (json!({"kind": "ncf", "dim": 8, "dropout": 0.0}), "leave_one_out", 0.5),
        (json!({"kind": "ncf", "dim": 8, "layers": 1, "dropout": 0.1}), "random", 0.8),
        (json!({"kind": "mf", "loss": "squared", "dim": 4, "epochs": 100}), "temporal", 0.8),
        (json!({"kind": "knn"}), "random", 1.5),
        (json!({"kind": "knn", "by": "user"}), "leave_one_out", 1.5),
    ] {
        let answer = version(&ratings(encoder.clone(), split), &events);
        // Who knows the means alone errs by two stars.
        let error = value(&answer, "test", "rmse");
        assert!(error < most, "{encoder}: {error}");
        assert!(value(&answer, "test", "mae") <= error && value(&answer, "test", "r2") > 0.4);
        let standing = answer.result.as_ref().unwrap().as_ref().unwrap().standing.clone().unwrap();
        assert_eq!((standing.name.as_str(), standing.less), ("rmse", true));
        assert_eq!(answer.judgements.iter().map(|j| j.split.as_str()).collect::<Vec<_>>(), ["valid", "test"]);
        assert_eq!(answer.judgements[1].ids.len() as f64, value(&answer, "test", "cases"));
    }
}

#[test]
fn events_without_a_rating_are_passed_over_and_counted() {
    let events = tastes(|entity, event| entity % 2 == 0 && event % 3 == 0);
    for encoder in [json!({"kind": "ncf", "dim": 8}), json!({"kind": "mf", "loss": "squared", "dim": 4})] {
        let answer = version(&ratings(encoder, "leave_one_out"), &events);
        let outcome = answer.result.as_ref().unwrap().as_ref().unwrap();
        assert!(
            outcome.notes.contains(&"600 events have no rating and are passed over.".to_string()),
            "{:?}",
            outcome.notes
        );
        // The last rated event of everybody is judged, whatever comes after it.
        assert_eq!(value(&answer, "test", "cases"), 200.0);
    }
}

#[test]
fn ratings_that_do_not_differ_teach_nothing() {
    let answer = run(Task::Train, &ratings(json!({"kind": "knn"}), "random"), &tastes(|_, _| true), &[]);
    let error = answer.result.unwrap().unwrap_err();
    assert_eq!(
        (error.kind, error.message.as_str()),
        (ErrorKind::InsufficientData, "rating field \"stars\" is all NULL")
    );
}

/// What a profile says of an item is the rating: vectors are half floats.
#[test]
fn products_of_factors_are_the_predicted_ratings() {
    let events = tastes(|_, _| false);
    let spec = ratings(json!({"kind": "mf", "loss": "squared", "dim": 4, "epochs": 100}), "random");
    let answer = version(&spec, &events);
    let scored = run(Task::Score, &spec, &events, &answer.artifact);
    let (profiles, items) = (vectors(&scored.profiles, 4), vectors(&scored.items, 2));
    let names = scored.items[0].column(0).as_primitive::<Int64Type>();
    let error = |entity: usize, item: usize| {
        let product: f32 = profiles[entity].iter().zip(&items[item]).map(|(a, b)| a * b).sum();
        let truth = if names.value(item) % 2 == entity as i64 % 2 { 5.0 } else { 1.0 };
        (product - truth).powi(2)
    };
    let all: Vec<f32> =
        (0..200).flat_map(|entity| (0..24).map(move |item| (entity, item))).map(|(e, i)| error(e, i)).collect();
    let error = (all.iter().sum::<f32>() / all.len() as f32).sqrt();
    assert!(error < 0.8, "{error}");
}

fn vectors(batches: &[RecordBatch], column: usize) -> Vec<Vec<f32>> {
    let halves = |bytes: &[u8]| bytes.chunks(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect();
    let column = batches[0].column(column).as_fixed_size_binary();
    (0..column.len()).map(|row| halves(column.value(row))).collect()
}

/// Entities of each of three kinds have eight items of their own, and go through them in order.
#[test]
fn a_network_of_pairs_learns_what_comes_next() {
    let rows = || (0..150).flat_map(|entity: i64| (0..12).map(move |event: i64| (entity, event)));
    let item = |(entity, event): (i64, i64)| entity % 3 * 8 + (entity / 3 + event) % 8;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows().map(|(entity, _)| entity))),
        Arc::new(Float64Array::from_iter_values(rows().map(|(_, event)| event as f64))),
        Arc::new(Int64Array::from_iter_values(rows().map(item))),
        Arc::new(Float64Array::from_iter_values(rows().map(|_| 1.0))),
    ];
    let events = RecordBatch::try_new(source().arrow(), columns).unwrap();
    let encoder = json!({"kind": "ncf", "dim": 16, "negatives": 20, "decay": 0.3, "dropout": 0.0});
    let answer = version(&spec(encoder, json!({"kind": "next_event", "field": "item"}), "random"), &events);
    let rate = value(&answer, "test", "hr@1");
    assert!(rate > 0.9, "{rate}");
    let job = run(
        Task::Score,
        &spec(json!({"kind": "ncf"}), json!({"kind": "next_event", "field": "item"}), "random"),
        &events,
        &answer.artifact,
    );
    assert_eq!(job.result.unwrap().unwrap_err().message, "encoder \"ncf\" has no vectors");
}
