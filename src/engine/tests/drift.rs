//! How far events have moved since a version was trained, and what it makes of them.

use crate::done;
use crate::driver::{Answer, job};
use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch};
use persona_core::ErrorKind;
use persona_core::drift::{Border, Bounds, Comparison, Shift};
use persona_core::protocol::{Ask, Task};
use persona_core::source::{Clock, Field, FieldKind, KeyType, SourceSchema, ValueType};
use persona_core::spec::ModelSpec;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;

const ENTITIES: i64 = 240;

/// The last day that the version knows, and the last of all.
const KNOWN: i64 = 19;
const DAYS: i64 = 30;

fn source() -> SourceSchema {
    SourceSchema::new(
        KeyType::Integer,
        Clock::Number,
        vec![Field::new("item", FieldKind::Category, ValueType::Integer)],
    )
}

fn noise(i: i64) -> i64 {
    (i * 7919 + i * i * 31) % 1009
}

/// An event a day: each of four groups has five items of its own, and goes through them in order, now and then another. If
/// `moves`, all become the last group after what is known, and go the other way.
fn events(days: i64, moves: bool) -> RecordBatch {
    let rows = || (0..ENTITIES).flat_map(move |entity| (0..days).map(move |day| (entity, day)));
    let item = |(entity, day): (i64, i64)| {
        let step = entity / 4 + day + i64::from(noise(entity * DAYS + day) % 4 == 0);
        match moves && day > KNOWN {
            true => 15 + (1000 - step) % 5,
            false => entity % 4 * 5 + step % 5,
        }
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows().map(|(entity, _)| entity))),
        Arc::new(Float64Array::from_iter_values(rows().map(|(_, day)| day as f64))),
        Arc::new(Int64Array::from_iter_values(rows().map(item))),
    ];
    RecordBatch::try_new(source().arrow(), columns).unwrap()
}

fn spec() -> ModelSpec {
    let spec = json!({
        "encoder": {"kind": "gru", "dim": 16, "length": 10},
        "objective": {"kind": "next_event", "field": "item"},
        "training": {"epochs": 8, "patience": 8, "batch_events": 512, "learning_rate": 0.01, "warmup": 5, "device": "cpu",
                     "precision": "f32"},
    });
    ModelSpec::parse(&spec, &source()).unwrap()
}

fn run(program: &str, task: Task, bounds: Bounds, version: Option<&[u8]>, rows: &RecordBatch) -> Answer {
    let spec = spec();
    let needs_spec = task == Task::Train || version.is_some();
    let mut job = job(task, &source(), needs_spec.then_some(&spec), 1);
    job.ask = Ask { comparison: Some(Comparison { border: Border::After(KNOWN as f64), bounds }), ..Ask::default() };
    crate::driver::run(Path::new(program), &job, version.unwrap_or(&[]), std::slice::from_ref(rows), |_| {})
}

const ENGINE: &str = env!("CARGO_BIN_EXE_persona-engine");
const CHECK: &str = env!("CARGO_BIN_EXE_persona-check");

fn ndcg(answer: &Answer) -> f64 {
    answer.metrics.iter().rfind(|m| m.epoch.is_none() && m.split == "test" && m.metric == "ndcg@5").unwrap().value
}

#[test]
fn vectors_and_figures_move_where_behaviour_does_and_stay_where_it_stays() {
    let trained = done(run(ENGINE, Task::Train, Bounds::default(), None, &events(KNOWN + 1, false)));
    let compared = |moves| {
        let answer = run(ENGINE, Task::Drift, Bounds::default(), Some(&trained.artifact), &events(DAYS, moves));
        let answer = done(answer);
        let vectors = answer.shifts.iter().find(|shift| shift.what == "vectors").cloned().unwrap();
        (vectors, answer)
    };
    let (same, steady) = compared(false);
    assert!(same.measure == "energy" && same.reference + same.current == ENTITIES as u64, "{same:?}");
    assert!(!steady.shifts.iter().any(Shift::has_drifted), "{:?}", steady.shifts);
    assert!((ndcg(&steady) - ndcg(&trained)).abs() < 0.1, "{} {}", ndcg(&steady), ndcg(&trained));
    let (moved, changed) = compared(true);
    assert!(moved.has_drifted() && moved.value > 0.2, "{moved:?}");
    assert!(ndcg(&changed) < ndcg(&trained) - 0.2, "{} {}", ndcg(&changed), ndcg(&trained));
    assert_eq!(compared(true).1.shifts, changed.shifts, "the same question has another answer");
}

#[test]
fn events_alone_are_compared_without_libtorch_and_say_the_same() {
    let fields = Bounds { energy: None, decay: None, ..Bounds::default() };
    let rows = events(DAYS, true);
    let shifts = done(run(CHECK, Task::Drift, fields, None, &rows)).shifts;
    assert_eq!(shifts, done(run(ENGINE, Task::Drift, fields, None, &rows)).shifts);
    let drifted: Vec<&str> = shifts.iter().filter(|s| s.has_drifted()).map(|shift| shift.name.as_str()).collect();
    assert_eq!(drifted, ["item", "item"]);
}

#[test]
fn without_events_on_either_side_there_is_nothing_to_compare() {
    let answer = done(run(CHECK, Task::Drift, Bounds::default(), None, &events(KNOWN + 1, false)));
    assert!(answer.shifts.is_empty());
    let Some(Ok(outcome)) = answer.result else { panic!("no outcome") };
    assert_eq!(outcome.notes, [format!("There are no events after {KNOWN}.")]);
    let mut job = job(Task::Drift, &source(), None, 1);
    let comparison = Comparison { border: Border::From(0.0), bounds: Bounds::default() };
    job.ask = Ask { comparison: Some(comparison), ..Ask::default() };
    let answer = crate::driver::run(Path::new(CHECK), &job, &[], &[events(3, false)], |_| {});
    assert!(
        matches!(answer.result, Some(Err(error)) if error.kind == ErrorKind::InsufficientData && error.hint.is_some())
    );
}
